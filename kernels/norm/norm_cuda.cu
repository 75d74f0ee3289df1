/* norm_cuda.cu: root mean square norm of groups of columns (a row, a head, MLA's latent). A block takes a group of a long
 * row, a warp one of a short row. The group is read twice, the second time out of the first cache; each thread writes what
 * it alone has read, so the op may work in place. Differs from norm.h in the order of the sum only. */
#include "norm.cuh"

enum { WARPS = 4 }; /* of a block with short groups */

struct view {
    const pg_cuda_step *step;
    const float *x, *w; /* w NULL: ones */
    float *y;
    int all, x_step, y_step, n, count;
    float eps;
};

template <int V> static __global__ void norm_short(view v)
{
    const int lane = threadIdx.x % 32, g = blockIdx.x * WARPS + threadIdx.x / 32;
    const int r = g / v.count, at = (g - r * v.count) * v.n;
    if (r >= pg_step_rows(v.step, v.all)) return;
    const float *x = v.x + (int64_t)r * v.x_step + at;
    const float sum = pg_warp_sum(pg_norm_squares<V>(x, v.n, lane, 32));
    pg_norm_scale<V>(v.y + (int64_t)r * v.y_step + at, x, v.w, v.n, pg_norm_by(sum, v.n, v.eps), lane, 32);
}

template <int V> static __global__ void __launch_bounds__(PG_NORM_MOST) norm_long(view v)
{
    __shared__ float part[PG_NORM_MOST / 32];
    const int t = threadIdx.x, n = blockDim.x, r = blockIdx.x / v.count, at = (blockIdx.x - r * v.count) * v.n;
    if (r >= pg_step_rows(v.step, v.all)) return;
    const float *x = v.x + (int64_t)r * v.x_step + at;
    const float mine = pg_warp_sum(pg_norm_squares<V>(x, v.n, t, n));
    if (t % 32 == 0) part[t / 32] = mine;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < n / 32; i++) sum += part[i];
    pg_norm_scale<V>(v.y + (int64_t)r * v.y_step + at, x, v.w, v.n, pg_norm_by(sum, v.n, v.eps), t, n);
}

void pg_cuda_norm(pg_cuda *c, const pg_op *op)
{
    view v = {};
    v.step = c->step;
    v.x = pg_cuda_value(c, op->src[0]);
    v.w = pg_cuda_vector_of(c, op->v);
    v.y = pg_cuda_value(c, op->dst);
    v.all = pg_cuda_is_all(c, op->src[0]);
    v.x_step = pg_cuda_width(c, op->src[0]);
    v.y_step = pg_cuda_width(c, op->dst);
    v.n = op->a.norm.n;
    v.count = op->a.norm.count;
    v.eps = op->a.norm.eps;
    const int groups = v.count * pg_cuda_rows(c, op->src[0]);
    const bool four = pg_norm_by_four(v.n, v.x_step, v.y_step, v.w);
    if (v.n <= PG_NORM_SHORT) {
        void (*const kernel)(view) = four ? norm_short<4> : norm_short<1>;
        PG_LAUNCH(kernel, (groups + WARPS - 1) / WARPS, 32 * WARPS, 0, c->stream, v);
    } else {
        void (*const kernel)(view) = four ? norm_long<4> : norm_long<1>;
        PG_LAUNCH(kernel, groups, pg_norm_threads(v.n), 0, c->stream, v);
    }
}
