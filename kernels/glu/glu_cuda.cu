/* glu_cuda.cu: the op of the dense and shared networks; routed experts apply the same function inside moe/. */
#include "glu.cuh"
#include "../cuda/rows.cuh"

struct view {
    const pg_cuda_step *step;
    const float *g, *u;
    float *y;
    int all, width;
    float limit;
};

template <int V, int KIND> static __global__ void glu_rows(view v)
{
    const int i = V * pg_item(), r = pg_row();
    if (i >= v.width || r >= pg_step_rows(v.step, v.all)) return;
    const int64_t at = (int64_t)r * v.width + i;
    const pg_floats<V> g = pg_floats_at<V>(v.g + at), u = pg_floats_at<V>(v.u + at);
    pg_floats<V> y;
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = pg_glu_one(g.x[k], u.x[k], KIND, v.limit);
    pg_floats_put<V>(v.y + at, y);
}

template <int KIND> static void glu(pg_cuda *c, pg_ref dst, const view &v)
{
    const bool four = pg_by_four(v.width);
    const pg_shape s = pg_shape_of(four ? v.width / 4 : v.width, pg_cuda_rows(c, dst));
    void (*const kernel)(view) = four ? glu_rows<4, KIND> : glu_rows<1, KIND>;
    PG_LAUNCH(kernel, s.grid, s.block, 0, c->stream, v);
}

void pg_cuda_glu(pg_cuda *c, const pg_op *op)
{
    view v = {};
    v.step = c->step;
    v.g = pg_cuda_value(c, op->src[0]);
    v.u = pg_cuda_value(c, op->src[1]);
    v.y = pg_cuda_value(c, op->dst);
    v.all = pg_cuda_is_all(c, op->src[0]);
    v.width = pg_cuda_width(c, op->dst);
    v.limit = op->a.glu.limit;
    switch (op->a.glu.kind) {
    case PG_GLU_GELU: glu<PG_GLU_GELU>(c, op->dst, v); break;
    case PG_GLU_OSS: glu<PG_GLU_OSS>(c, op->dst, v); break;
    case PG_GLU_CLAMP: glu<PG_GLU_CLAMP>(c, op->dst, v); break;
    default: glu<PG_GLU_SILU>(c, op->dst, v); break;
    }
}
