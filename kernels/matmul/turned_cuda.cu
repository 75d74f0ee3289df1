/* turned_cuda: the transposed form of MATMUL for few rows: y[n] = sum over k of x[k] * w[k][n], activations in f32.
 *
 * Stored rows are summed up, so a thread keeps the sums of one piece of columns (decode.cuh) and takes every so many-th
 * row; LANES neighbouring threads have neighbouring pieces, the other threads of the block other rows. Then sums meet
 * in the warp, and those of the warps in shared memory. The order hangs on the matrix alone. */
#include "matmul_cuda.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

typedef struct job {
    pg_stack w; /* rows of k columns, which are the outputs; n rows */
    const float *x;
    float *y;
    const pg_cuda_step *step;
    int32_t all, x_width, x_step, y_width, y_step, groups;
    float scale;
} job;

enum { AHEAD = 4 }; /* rows under way */

template <class F, int R, int LANES> struct turned {
    enum { N = R * F::WIDTH, APART = PG_GEMV_THREADS / LANES, LEFT = N * LANES / 32 };

    /* sum[r * WIDTH + i] over rows first, first + APART, ... of column i of the piece. */
    template <bool EVEN>
    static __device__ __forceinline__ void add(float (&sum)[N], const pg_view &w, int n, int chunk, int piece,
                                               const float *const (&x)[R], int first)
    {
        for (int k = first; k < n; k += AHEAD * APART) {
            typename F::raw raw[AHEAD];
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                if (k + a * APART >= n) continue;
                if constexpr (F::QUANT || EVEN)
                    raw[a] = F::template load<pg_far>(w, k + a * APART, chunk);
                else
                    raw[a] = F::template load_part<pg_far>(w, k + a * APART, chunk);
            }
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                if (k + a * APART >= n) continue;
                float v[F::WIDTH];
                F::value(raw[a], chunk, piece, v);
#pragma unroll
                for (int r = 0; r < R; r++) {
                    const float one = x[r][k + a * APART];
#pragma unroll
                    for (int i = 0; i < F::WIDTH; i++) sum[r * F::WIDTH + i] = fmaf(v[i], one, sum[r * F::WIDTH + i]);
                }
            }
        }
    }
};

template <class F, int R, int LANES, bool EVEN>
__global__ __launch_bounds__(PG_GEMV_THREADS) void turned_rows(const job j)
{
    typedef turned<F, R, LANES> T;
    __shared__ float part[PG_GEMV_WARPS][LANES][T::N];
    pg_let_next();
    pg_wait_before();
    const int n_row = pg_step_rows(j.step, j.all), matrix = (int)blockIdx.y, group = (int)blockIdx.x % j.groups;
    if (group * R >= n_row) return;
    const pg_view w = pg_view_of(j.w, matrix);
    const int thread = (int)threadIdx.x, first_unit = (int)blockIdx.x / j.groups * LANES;
    const int unit = first_unit + thread % LANES, units = pg_chunks<F>(w.k) * F::PIECES;
    const float *x[R];
#pragma unroll
    for (int r = 0; r < R; r++) x[r] = j.x + (int64_t)min(group * R + r, n_row - 1) * j.x_width + matrix * j.x_step;
    float sum[T::N] = {};
    if (unit < units) T::template add<EVEN>(sum, w, j.w.n, unit / F::PIECES, unit % F::PIECES, x, thread / LANES);
    pg_warp_fold<T::N, LANES>(sum);
#pragma unroll
    for (int i = 0; i < T::LEFT; i++) part[thread / 32][thread % LANES][thread % 32 / LANES * T::LEFT + i] = sum[i];
    __syncthreads();
    for (int v = thread; v < LANES * T::N; v += PG_GEMV_THREADS) {
        const int u = first_unit + v / T::N, r = group * R + v % T::N / F::WIDTH;
        const int o = F::column(u / F::PIECES) + F::SPREAD * (u % F::PIECES) + v % F::WIDTH;
        float total = 0;
        for (int warp = 0; warp < PG_GEMV_WARPS; warp++) total += part[warp][v / T::N][v % T::N];
        if (u < units && r < n_row && o < w.k) j.y[(int64_t)r * j.y_width + matrix * j.y_step + o] = total * j.scale;
    }
}

template <class F> static void launch(pg_cuda *c, job *j, int batch, int rows, bool even)
{
    enum { LANES = F::WIDTH < 16 ? 8 : 4 };
    const int R = rows > 1 ? 4 : 1, units = pg_chunks<F>(j->w.k) * F::PIECES;
    j->groups = (rows + R - 1) / R;
    const dim3 grid((unsigned)((units + LANES - 1) / LANES * j->groups), (unsigned)batch);
    auto *kernel = R == 1 ? turned_rows<F, 1, LANES, true> : turned_rows<F, 4, LANES, true>;
    if constexpr (!F::QUANT)
        if (!even) kernel = R == 1 ? turned_rows<F, 1, LANES, false> : turned_rows<F, 4, LANES, false>;
    PG_LAUNCH_EARLY(c, kernel, grid, PG_GEMV_THREADS, 0, *j);
}

void pg_cuda_turned(pg_cuda *c, const pg_op *op)
{
    const pg_dtype type = pg_cuda_type_of(c, op->w);
    const int rows = pg_cuda_rows(c, op->src[0]), batch = op->a.matmul.batch;
    const bool even = pg_stack_even(type, op->w->shape[0]);
    job j = {};
    j.w = pg_stack_of(pg_cuda_weight_of(c, op->w));
    j.x = pg_cuda_value(c, op->src[0]);
    j.y = pg_cuda_value(c, op->dst);
    j.step = c->step;
    j.all = pg_cuda_is_all(c, op->src[0]);
    j.x_width = pg_cuda_width(c, op->src[0]);
    j.y_width = pg_cuda_width(c, op->dst);
    j.x_step = op->a.matmul.x_step;
    j.y_step = op->a.matmul.y_step;
    j.scale = op->a.matmul.scale;
    switch (type) {
#define F(name, type, has_min) \
    case type: launch<pg_format<type>>(c, &j, batch, rows, even); break;
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: launch<pg_format<PG_F32>>(c, &j, batch, rows, even); break;
    case PG_F16: launch<pg_format<PG_F16>>(c, &j, batch, rows, even); break;
    case PG_BF16: launch<pg_format<PG_BF16>>(c, &j, batch, rows, even); break;
    case PG_FP8: launch<pg_format<PG_FP8>>(c, &j, batch, rows, even); break;
    default: break;
    }
    pg_cuda_try(c, cudaGetLastError(), "cannot multiply by a transposed matrix");
}
