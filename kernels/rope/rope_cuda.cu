/* rope_cuda.cu: rotary position embedding: ANGLES once a step, ROPE in place. Same bits as the CPU's, but for the last one
 * of a cosine or sine: products and differences are rounded one by one. */
#include "rope.cuh"

#include "../cuda/rows.cuh"

#include <math.h>

static __global__ void angles_rows(const pg_cuda_step *step, float *y, int y_step, const float *frequency, int n,
                                   float magnitude)
{
    const int i = pg_item(), r = pg_row();
    if (i >= n || r >= step->n) return;
    const float theta = __fmul_rn((float)step->pos[r], frequency[i]);
    double sine, cosine;
    sincos((double)theta, &sine, &cosine);
    y[(int64_t)r * y_step + i] = (float)cosine * magnitude;
    y[(int64_t)r * y_step + n + i] = (float)sine * magnitude;
}

void pg_cuda_angles(pg_cuda *c, const pg_op *op)
{
    const int n = op->a.angles.n;
    const pg_shape s = pg_shape_of(n, pg_cuda_rows(c, op->dst));
    PG_LAUNCH(angles_rows, s.grid, s.block, 0, c->stream, c->step, pg_cuda_value(c, op->dst), pg_cuda_width(c, op->dst),
              pg_cuda_vector_of(c, op->v), n, op->a.angles.magnitude);
}

struct view {
    const pg_cuda_step *step;
    const float *angles; /* [T, half cosines then half sines] */
    float *x;            /* from the first rotated column of the first head on */
    int angle_step, x_step, heads, head_step, half;
};

/* V pairs of a head: columns i and half + i. */
template <int V> static __global__ void rope_halves(view v)
{
    const int at = V * pg_item(), r = pg_row(), h = at / v.half, i = at - h * v.half;
    if (h >= v.heads || r >= v.step->n) return;
    float *x = v.x + (int64_t)r * v.x_step + (int64_t)h * v.head_step + i;
    const float *angle = v.angles + (int64_t)r * v.angle_step + i;
    const pg_floats<V> cosine = pg_floats_at<V>(angle), sine = pg_floats_at<V>(angle + v.half);
    pg_floats<V> a = pg_floats_at<V>(x), b = pg_floats_at<V>(x + v.half);
#pragma unroll
    for (int k = 0; k < V; k++) pg_rotate(a.x[k], b.x[k], cosine.x[k], sine.x[k]);
    pg_floats_put<V>(x, a);
    pg_floats_put<V>(x + v.half, b);
}

/* V / 2 pairs of a head: columns 2i and 2i + 1. V = 1: one pair, number by number. */
template <int V> static __global__ void rope_pairs(view v)
{
    constexpr int PAIRS = V == 1 ? 1 : V / 2;
    const int at = PAIRS * pg_item(), r = pg_row(), h = at / v.half, i = at - h * v.half;
    if (h >= v.heads || r >= v.step->n) return;
    float *x = v.x + (int64_t)r * v.x_step + (int64_t)h * v.head_step + 2 * i;
    const float *angle = v.angles + (int64_t)r * v.angle_step + i;
    if constexpr (V == 1) {
        pg_rotate(x[0], x[1], angle[0], angle[v.half]);
    } else {
        pg_floats<V> a = pg_floats_at<V>(x);
        const pg_floats<PAIRS> cosine = pg_floats_at<PAIRS>(angle), sine = pg_floats_at<PAIRS>(angle + v.half);
#pragma unroll
        for (int k = 0; k < PAIRS; k++) pg_rotate(a.x[2 * k], a.x[2 * k + 1], cosine.x[k], sine.x[k]);
        pg_floats_put<V>(x, a);
    }
}

void pg_cuda_rope(pg_cuda *c, const pg_op *op)
{
    view v = {};
    v.step = c->step;
    v.angles = pg_cuda_value(c, op->src[1]);
    v.angle_step = pg_cuda_width(c, op->src[1]);
    v.x = pg_cuda_value(c, op->dst) + op->a.rope.col;
    v.x_step = pg_cuda_width(c, op->dst);
    v.heads = op->a.rope.heads;
    v.head_step = op->a.rope.step;
    v.half = op->a.rope.n / 2;
    const bool halves = op->a.rope.layout == PG_ROPE_HALVES;
    const bool four = pg_by_four(op->a.rope.col | v.head_step, v.x_step, v.angle_step, v.half);
    const int pairs = !four ? 1 : halves ? 4 : 2;
    void (*const kernel)(view) = halves ? four ? rope_halves<4> : rope_halves<1> : four ? rope_pairs<4> : rope_pairs<1>;
    const pg_shape s = pg_shape_of(v.heads * v.half / pairs, pg_cuda_rows(c, op->dst));
    PG_LAUNCH(kernel, s.grid, s.block, 0, c->stream, v);
}
