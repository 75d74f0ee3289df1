/* gemm_mma_cuda: tiles multiplied by mma.sync, the tensor cores of every device from sm_80 on.
 *
 * 8 warps, 2 x 4; each has a quarter of the weight rows, half of that in either half of the tile, so that a thread holds
 * the sums of gate and of up of one hidden value. */
#include "tile.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

template <int M> struct tile_mma {
    enum { ROWS = M, HIGH = M / 32, WIDE = 4, LAG = 0, X_BUFFERS = 3, W_BUFFERS = 2, BLOCKS = 2 };
    enum { SHARED = X_BUFFERS * M * PG_TILE_ROW + W_BUFFERS * PG_TILE_N * PG_TILE_ROW };
    float sum[HIGH][WIDE][4];

    static __device__ __forceinline__ int row(int i) { return (int)threadIdx.x / 128 * (M / 2) + 16 * i; }
    static __device__ __forceinline__ int column(int i)
    {
        return i / 2 * (PG_TILE_N / 2) + (int)threadIdx.x / 32 % 4 * 16 + i % 2 * 8;
    }
    __device__ __forceinline__ void clear(void)
    {
#pragma unroll
        for (int i = 0; i < HIGH * WIDE * 4; i++) sum[i / (4 * WIDE)][i / 4 % WIDE][i % 4] = 0;
    }
    __device__ __forceinline__ void sent(void) {}
    __device__ __forceinline__ void settle(void) {}
    __device__ __forceinline__ void finish(void) {}

    __device__ __forceinline__ void step(const unsigned char *x, const unsigned char *w, int rows)
    {
        const int lane = (int)threadIdx.x % 32;
#pragma unroll
        for (int k = 0; k < PG_GEMM_STEP / 16; k++) {
            uint32_t b[WIDE / 2][4];
#pragma unroll
            for (int i = 0; i < WIDE / 2;
                 i++) /* 16 weight rows: 0 .. 7 and 8 .. 15, of each both halves of 16 columns */
                pg_ldmatrix_x4(b[i], w + pg_tile_at(column(2 * i) + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < HIGH; i++) {
                if (row(i) >= rows) continue;
                uint32_t a[4];
                pg_ldmatrix_x4(a, x + pg_tile_at(row(i) + lane % 16, 2 * k + lane / 16));
#pragma unroll
                for (int n = 0; n < WIDE; n++) {
                    const uint32_t two[2] = { b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1] };
                    pg_mma_bf16(sum[i][n], a, two);
                }
            }
        }
    }

    /* put(row, weight row of the first half, its sum and the next one's, the same of the second half) for all that this thread has. */
    template <class Put> __device__ __forceinline__ void each(const Put &put)
    {
        const int lane = (int)threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < HIGH; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int n = 0; n < WIDE / 2; n++) {
                    const float(&a)[4] = sum[i][n], (&b)[4] = sum[i][n + WIDE / 2];
                    const float four[4] = { a[2 * h], a[2 * h + 1], b[2 * h], b[2 * h + 1] };
                    put(row(i) + lane / 4 + 8 * h, column(n) + lane % 4 * 2, four);
                }
    }
};

template <class F, pg_dtype T, class E, bool EVEN>
__global__ __launch_bounds__(PG_TILE_THREADS, E::BLOCKS) void gemm_mma(const pg_gemm g)
{
    PG_SHARED(unsigned char, mem);
    pg_tiles<F, T, E, EVEN>(g, mem);
}

template <class F, pg_dtype T, class E, bool EVEN> static pg_gemm_kernel kernel_of(void)
{
    return { gemm_mma<F, T, E, EVEN>, E::ROWS, PG_TILE_N, E::SHARED, E::BLOCKS, PG_TILE_THREADS };
}

template <pg_dtype T> static pg_gemm_kernel choose(int rows, int even)
{
    typedef pg_format<T> F;
    if constexpr (!F::QUANT)
        if (!even) return kernel_of<F, T, tile_mma<64>, false>();
    return rows > 64 ? kernel_of<F, T, tile_mma<128>, true>() : kernel_of<F, T, tile_mma<64>, true>();
}

pg_gemm_kernel pg_gemm_mma(pg_dtype type, int rows, int even)
{
    switch (type) {
#define F(name, type, has_min) \
    case type: return choose<type>(rows, even);
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: return choose<PG_F32>(rows, even);
    case PG_F16: return choose<PG_F16>(rows, even);
    case PG_BF16: return choose<PG_BF16>(rows, even);
    case PG_FP8: return choose<PG_FP8>(rows, even);
    default: return {};
    }
}
