/* gemm_exact_cuda: products of many rows in f32 throughout, without tensor cores: what plans of precision "f32" and the
 * router take. 4 x 4 sums a thread; weights are decoded to f32 in shared memory. Made to be right, and fast enough for a
 * router, whose few columns are why a tile is small. */
#include "tile.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

enum {
    ROWS = 32,
    COLUMNS = 64,
    THREADS = 128,
    PITCH =
        PG_GEMM_STEP + 1, /* floats of a row: threads that read one column of neighbouring rows meet no bank twice */
    SHARED = (ROWS + COLUMNS) * PITCH * (int)sizeof(float)
};

template <class F, bool EVEN>
static __device__ __forceinline__ void decode(const pg_tile_raw<F, COLUMNS, EVEN> &r, int tile, float *to)
{
    typedef pg_units<F> U;
#pragma unroll
    for (int i = 0; i < U::EACH; i++) {
        const int id = r.id(i), chunk = U::chunk(id, tile);
#pragma unroll
        for (int p = 0; p < U::PIECES; p++) {
            float v[F::WIDTH] = {};
            if (chunk < r.chunks) F::value(r.raw[i], chunk, U::piece(p, tile), v);
            float *at = to + U::row(id) * PITCH + U::column(id, p, tile);
#pragma unroll
            for (int k = 0; k < F::WIDTH; k++) at[k] = v[k];
        }
    }
}

static __device__ __forceinline__ void copy_x(const pg_gemm &g, const pg_tile_place &p, int tile, float *to)
{
    const float *x = static_cast<const float *>(g.x) + p.group * g.x_group;
    for (int i = (int)threadIdx.x; i < ROWS * PG_GEMM_STEP; i += THREADS) {
        const int r = p.row + i / PG_GEMM_STEP, k = tile * PG_GEMM_STEP + i % PG_GEMM_STEP;
        const bool want = r < p.end && k < g.k;
        const int64_t row = !want ? 0 : g.row ? g.row[r] : r;
        to[i / PG_GEMM_STEP * PITCH + i % PG_GEMM_STEP] = want ? x[row * g.x_width + k] : 0.0f;
    }
}

/* A thread's sums: rows 4 * (t / 16) .., weight rows t % 16 + 16 * j, of which j >= 2 are the second half. */
static __device__ __forceinline__ void multiply(float (&sum)[4][4], const float *x, const float *w)
{
    const float *a = x + (int)threadIdx.x / 16 * 4 * PITCH, *b = w + (int)threadIdx.x % 16 * PITCH;
#pragma unroll 8
    for (int k = 0; k < PG_GEMM_STEP; k++) {
        float u[4], v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u[i] = a[i * PITCH + k];
            v[i] = b[16 * i * PITCH + k];
        }
#pragma unroll
        for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = fmaf(u[i / 4], v[i % 4], sum[i / 4][i % 4]);
    }
}

template <class F, bool EVEN> __global__ __launch_bounds__(THREADS) void gemm_exact(const pg_gemm g)
{
    PG_SHARED(float, mem);
    float *const mem_w = mem + ROWS * PITCH;
    pg_tile_place p;
    const int columns = g.pair ? COLUMNS / 2 : COLUMNS;
    for (int64_t id = blockIdx.x; pg_tile_find(g, id, ROWS, columns, &p); id += gridDim.x) {
        pg_tile_raw<F, COLUMNS, EVEN> raw;
        float sum[4][4] = {};
        pg_tile_weights(&raw, g, p);
        for (int i = 0; i < p.steps; i++) {
            raw.load(p.step + i);
            __syncthreads();
            copy_x(g, p, p.step + i, mem);
            decode<F, EVEN>(raw, p.step + i, mem_w);
            __syncthreads();
            multiply(sum, mem, mem_w);
        }
        const int row = p.row + (int)threadIdx.x / 16 * 4, o = p.column + (int)threadIdx.x % 16;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (row + i < p.end) pg_tile_put<float, 16>(g, p, row + i, o, sum[i], COLUMNS / 2);
    }
}

template <class F, bool EVEN> static pg_gemm_kernel kernel_of(void)
{
    return { gemm_exact<F, EVEN>, ROWS, COLUMNS, SHARED, 4, THREADS };
}

template <pg_dtype T> static pg_gemm_kernel choose(int even)
{
    if constexpr (!pg_format<T>::QUANT)
        if (!even) return kernel_of<pg_format<T>, false>();
    return kernel_of<pg_format<T>, true>();
}

pg_gemm_kernel pg_gemm_exact(pg_dtype type, int even)
{
    switch (type) {
#define F(name, type, has_min) \
    case type: return choose<type>(even);
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: return choose<PG_F32>(even);
    case PG_F16: return choose<PG_F16>(even);
    case PG_BF16: return choose<PG_BF16>(even);
    case PG_FP8: return choose<PG_FP8>(even);
    default: return {};
    }
}
