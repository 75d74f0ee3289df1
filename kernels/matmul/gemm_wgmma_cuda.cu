/* gemm_wgmma_cuda: tiles multiplied by wgmma, the tensor cores of sm_90 at their full rate.
 *
 * Two groups of 4 warps take turns in blocks of 64 rows: all decode weights and copy rows of x while the products of the
 * step before are under way, so no warps are set apart for that. Blocks of rows that nobody has are multiplied like the
 * others: a product that not every warp takes part in would be waited for at once.
 * Code exists only for the target sm_90a, so it is used only where it gave what mma.sync gives (gemm_check_cuda.cu). */
#include "../cuda/wgmma.cuh"
#include "tile.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

template <int M> struct tile_wgmma {
    enum { ROWS = M, HIGH = M / 128, LAG = 1, X_BUFFERS = 4, W_BUFFERS = 3, BLOCKS = M > 128 ? 1 : 2 };
    enum { SHARED = X_BUFFERS * M * PG_TILE_ROW + W_BUFFERS * PG_TILE_N * PG_TILE_ROW + PG_WGMMA_ALIGN };
    float sum[HIGH][PG_WGMMA_SUMS];

    static __device__ __forceinline__ int row(int i) { return (2 * i + (int)threadIdx.x / 128) * PG_WGMMA_ROWS; }
    __device__ __forceinline__ void clear(void)
    {
#pragma unroll
        for (int i = 0; i < HIGH * PG_WGMMA_SUMS; i++) sum[i / PG_WGMMA_SUMS][i % PG_WGMMA_SUMS] = 0;
    }
    __device__ __forceinline__ void sent(void)
    {
        pg_wgmma_sent();
    }
    __device__ __forceinline__ void settle(void)
    {
        pg_wgmma_wait<1>();
    }
    __device__ __forceinline__ void finish(void)
    {
        pg_wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < HIGH; i++) pg_wgmma_hold(sum[i]);
    }
    __device__ __forceinline__ void step(const unsigned char *x, const unsigned char *w, int)
    {
        const uint64_t b = pg_wgmma_describe(pg_shared_address(w));
#pragma unroll
        for (int i = 0; i < HIGH; i++) pg_wgmma_hold(sum[i]);
        pg_wgmma_begin();
#pragma unroll
        for (int i = 0; i < HIGH; i++) {
            const uint64_t a = pg_wgmma_describe(pg_shared_address(x + row(i) * PG_TILE_ROW));
#pragma unroll
            for (int k = 0; k < PG_GEMM_STEP / 16; k++)
                pg_wgmma(sum[i], a + 2 * k, b + 2 * k); /* 32 bytes further on */
        }
        pg_wgmma_commit();
    }
    template <class Put> __device__ __forceinline__ void each(const Put &put)
    {
        enum { HALF = PG_WGMMA_SUMS / 2 };
#pragma unroll
        for (int i = 0; i < HIGH; i++)
#pragma unroll
            for (int k = 0; k < HALF; k += 2) {
                const float four[4] = { sum[i][k], sum[i][k + 1], sum[i][k + HALF], sum[i][k + 1 + HALF] };
                put(row(i) + pg_wgmma_row((int)threadIdx.x, k), pg_wgmma_column((int)threadIdx.x, k), four);
            }
    }
};

template <pg_dtype T, int M>
__global__ __launch_bounds__(PG_TILE_THREADS, tile_wgmma<M>::BLOCKS) void gemm_wgmma(const pg_gemm g)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(PG_EMU)
    PG_SHARED(unsigned char, mem);
    unsigned char *const even = mem + (0u - pg_shared_address(mem)) % PG_WGMMA_ALIGN;
    pg_tiles<pg_format<T>, T, tile_wgmma<M>, true>(g, even);
#endif
}

template <pg_dtype T, int M> static pg_gemm_kernel kernel_of(void)
{
    return { gemm_wgmma<T, M>, M, PG_TILE_N, tile_wgmma<M>::SHARED, tile_wgmma<M>::BLOCKS, PG_TILE_THREADS };
}

template <pg_dtype T> static pg_gemm_kernel choose(int rows)
{
    return rows > 128 ? kernel_of<T, 256>() : kernel_of<T, 128>();
}

pg_gemm_kernel pg_gemm_wgmma(pg_dtype type, int rows)
{
    switch (type) {
#define F(name, type, has_min) \
    case type: return choose<type>(rows);
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: return choose<PG_F32>(rows);
    case PG_F16: return choose<PG_F16>(rows);
    case PG_BF16: return choose<PG_BF16>(rows);
    case PG_FP8: return choose<PG_FP8>(rows);
    default: return {};
    }
}
