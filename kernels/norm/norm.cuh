/* norm: root mean square norm on the device, for the op and for kernels that begin with one. The order of the sum hangs
 * on the length of the group alone: it is shared out over pg_norm_threads of it, whether a block has so many threads, more
 * or fewer, so whoever norms a group gets the same bits. */
#ifndef PG_NORM_CUH
#define PG_NORM_CUH

#include "../cuda/rows.cuh"

#include <math.h>

enum { PG_NORM_SHORT = 512, PG_NORM_MOST = 512 }; /* columns that a warp takes; threads otherwise */

PG_HD int pg_norm_threads(int n)
{
    const int threads = (n / 4 + 31) / 32 * 32;
    return n <= PG_NORM_SHORT ? 32 : threads < PG_NORM_MOST ? threads : (int)PG_NORM_MOST;
}

/* Whether columns are taken four at a time; w may be NULL. */
static inline bool pg_norm_by_four(int n, int x_step, int y_step, const float *w)
{
    return pg_by_four(n, x_step, y_step) && (reinterpret_cast<uintptr_t>(w) & 15) == 0;
}

template <int V> __device__ __forceinline__ float pg_norm_squares(const float *x, int n, int first, int step)
{
    float sum = 0;
    for (int i = V * first; i < n; i += V * step) {
        const pg_floats<V> a = pg_floats_at<V>(x + i);
#pragma unroll
        for (int k = 0; k < V; k++) sum = fmaf(a.x[k], a.x[k], sum);
    }
    return sum;
}

/* What the columns are multiplied by, given the sum of their squares. */
__device__ __forceinline__ float pg_norm_by(float sum, int n, float eps)
{
    return 1.0f / sqrtf(sum / (float)n + eps);
}

/* V columns of a normed group; w NULL: ones. */
template <int V> __device__ __forceinline__ pg_floats<V> pg_norm_take(const float *x, const float *w, float by)
{
    pg_floats<V> a = pg_floats_at<V>(x);
#pragma unroll
    for (int k = 0; k < V; k++) a.x[k] *= by;
    if (w) {
        const pg_floats<V> b = pg_floats_at<V>(w);
#pragma unroll
        for (int k = 0; k < V; k++) a.x[k] *= b.x[k];
    }
    return a;
}

template <int V>
__device__ __forceinline__ void pg_norm_scale(float *y, const float *x, const float *w, int n, float by, int first,
                                              int step)
{
    for (int i = V * first; i < n; i += V * step)
        pg_floats_put<V>(y + i, pg_norm_take<V>(x + i, w ? w + i : nullptr, by));
}

/* What a block of WARPS warps multiplies a group of n columns by. Threads that there are too few of are taken in turns.
 * part[PG_NORM_MOST / 32]: shared memory. All threads come here. */
template <int V, int WARPS>
__device__ __forceinline__ float pg_norm_of_block(const float *x, int n, float eps, float *part)
{
    constexpr int TURNS = (PG_NORM_MOST / 32 + WARPS - 1) / WARPS;
    const int warp = (int)threadIdx.x / 32, threads = pg_norm_threads(n);
    float mine[TURNS], sum = 0;
#pragma unroll
    for (int i = 0; i < TURNS; i++) {
        const int t = i * 32 * WARPS + (int)threadIdx.x;
        mine[i] = t < threads ? pg_norm_squares<V>(x, n, t, threads) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < TURNS; i++) {
        mine[i] = pg_warp_sum(mine[i]);
        if (threadIdx.x % 32 == 0 && i * WARPS + warp < PG_NORM_MOST / 32) part[i * WARPS + warp] = mine[i];
    }
    __syncthreads();
    for (int i = 0; i < threads / 32; i++) sum += part[i];
    return pg_norm_by(sum, n, eps);
}

#endif
