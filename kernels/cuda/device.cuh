/* device: what device code of every family shares: launches, shared memory, warp sums, and the few instructions that have
 * no name in C++. Only spelled here, so that the same sources also build for a machine without a GPU (tests/cuda). */
#ifndef PG_CUDA_DEVICE_H
#define PG_CUDA_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define PG_HD __host__ __device__ __forceinline__

#ifdef PG_EMU
#include "emu_device.h" /* tests/cuda/emu: the same names, for one thread at a time */
#else

/* kernel<<<grid, block, bytes of dynamic shared memory, stream>>>(arguments). */
#define PG_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)

/* The same on c->stream, for a kernel in which every thread comes to pg_wait_before(): where the device can (c->early), it
 * may begin while the kernel before it still runs. Until it has waited it reads nothing but weights and writes nothing, and
 * what kernels wrote it reads by no __ldg even then (L1 may be older than they): no result shows whether it began early.
 * Source: CUDA programming guide, programmatic dependent launch; sm_90 on. */
#define PG_LAUNCH_EARLY(c, kernel, grid, block, shared, ...) \
    pg_launch_early((c)->stream, (c)->early, kernel, (grid), (block), (shared), __VA_ARGS__)

template <class... P, class... A>
static inline void pg_launch_early(cudaStream_t stream, int early, void (*kernel)(P...), dim3 grid, dim3 block,
                                   size_t shared, const A &...argument)
{
    cudaLaunchAttribute how = {};
    cudaLaunchConfig_t config = {};
    how.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    how.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &how;
    config.numAttrs = early ? 1 : 0;
    cudaLaunchKernelEx(&config, kernel, argument...);
}

/* Wait until what the kernels before this one have written is there. */
__device__ __forceinline__ void pg_wait_before(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel may begin once every block has come here; it waits for the end of this one itself. */
__device__ __forceinline__ void pg_let_next(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* The block's dynamic shared memory, as type *name; 16-byte aligned. */
#define PG_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char pg_shared[]; \
    type *const name = reinterpret_cast<type *>(pg_shared)

/* d += a * b: 16 x 16 by 16 x 8, row by column, f32 sums; fragments as mma.m16n8k16 has them (sm_80 on). */
__device__ __forceinline__ void pg_mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void pg_mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 matrices of 16-bit numbers out of shared memory: lane l gives the address of row l % 8 of matrix l / 8. */
__device__ __forceinline__ void pg_ldmatrix_x4(uint32_t (&r)[4], const void *row)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void pg_ldmatrix_x4_t(uint32_t (&r)[4], const void *row) /* each matrix transposed */
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* 16 bytes from device to shared memory, zeros when not `want`; there once the group they were committed in has been
 * waited for. */
__device__ __forceinline__ void pg_copy16(void *to, const void *from, bool want)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(want ? 16 : 0) : "memory");
}
__device__ __forceinline__ void pg_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> __device__ __forceinline__ void pg_copy_wait(void) /* until at most N groups are under way */
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* acc + the four products of signed bytes. */
__device__ __forceinline__ int pg_dot4(int a, int b, int acc)
{
    return __dp4a(a, b, acc);
}
#endif

/* Sums and largest of a warp's 32 values, in every lane. */
__device__ __forceinline__ float pg_warp_sum(float x)
{
    for (int to = 16; to; to >>= 1) x += __shfl_xor_sync(0xffffffffu, x, to);
    return x;
}
__device__ __forceinline__ float pg_warp_max(float x)
{
    for (int to = 16; to; to >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, to));
    return x;
}

#endif
