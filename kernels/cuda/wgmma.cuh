/* wgmma: Hopper's matrix product of a group of 4 warps, 64 rows by 128, straight out of shared memory and asynchronous.
 *
 * Both operands are rows of 64 bf16, 128 bytes, that begin at a multiple of 1,024 bytes and have the 128-byte swizzle: bits 4
 * to 6 of an address are XORed with bits 7 to 9. A descriptor tells where they begin; 16 columns further on is 32
 * bytes further on. Index maps are for the host too, where the emulator reads by them.
 * Code for it exists only where the target is sm_90a; elsewhere nothing happens, which whoever uses it has to notice
 * (gemm_wgmma_cuda.cu).
 * Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Operations". */
#ifndef PG_CUDA_WGMMA_H
#define PG_CUDA_WGMMA_H

#include "device.cuh"

enum { PG_WGMMA_ALIGN = 1024, PG_WGMMA_ROWS = 64, PG_WGMMA_SUMS = 64 }; /* sums of a thread */

/* address: in shared memory, of the first column of row 0. Eight rows are 1,024 bytes. */
PG_HD uint64_t pg_wgmma_describe(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Where the descriptor finds column k of row r. */
PG_HD uint32_t pg_wgmma_find(uint64_t about, int r, int k)
{
    const uint32_t start = (uint32_t)(about & 0x3fff) << 4, eight = (uint32_t)(about >> 32 & 0x3fff) << 4;
    const uint32_t at = start + (uint32_t)(r / 8) * eight + (uint32_t)(r % 8) * 128 + (uint32_t)k * 2;
    return at ^ (at >> 7 & 7) << 4;
}

/* Row and column of sum i of a thread of the group. */
PG_HD int pg_wgmma_row(int thread, int i)
{
    return thread / 32 % 4 * 16 + thread % 32 / 4 + i % 4 / 2 * 8;
}
PG_HD int pg_wgmma_column(int thread, int i)
{
    return i / 4 * 8 + thread % 4 * 2 + i % 2;
}

#ifdef PG_EMU
#include "emu_wgmma.h" /* tests/cuda/emu: the same names */
#else

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define PG_WGMMA_ASM(...) asm volatile(__VA_ARGS__)
#else
#define PG_WGMMA_ASM(...)
#endif

__device__ __forceinline__ uint32_t pg_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* What this thread has written to shared memory can be read by products that begin after the next barrier. */
__device__ __forceinline__ void pg_wgmma_sent(void)
{
    PG_WGMMA_ASM("fence.proxy.async.shared::cta;" ::: "memory");
}
/* Before the first product that adds to sums that others have touched. */
__device__ __forceinline__ void pg_wgmma_begin(void)
{
    PG_WGMMA_ASM("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void pg_wgmma_commit(void)
{
    PG_WGMMA_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> __device__ __forceinline__ void pg_wgmma_wait(void) /* until at most N groups are under way */
{
    PG_WGMMA_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Sums are the products' until these have been waited for: the compiler is not to bring what uses them forward of here. */
__device__ __forceinline__ void pg_wgmma_hold(float (&d)[PG_WGMMA_SUMS])
{
#pragma unroll
    for (int i = 0; i < PG_WGMMA_SUMS; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* d += a * b: 64 rows by 128, 16 columns of each. */
__device__ __forceinline__ void pg_wgmma(float (&d)[PG_WGMMA_SUMS], uint64_t a, uint64_t b)
{
    PG_WGMMA_ASM("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "%64, %65, 1, 1, 1, 0, 0;"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),
                   "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
                   "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),
                   "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                   "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]),
                   "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]),
                   "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
                 : "l"(a), "l"(b));
}
#endif

#endif
