/* elem_cuda.cu: element by element: ADD, GATE, CLAMP, COPY. All bits are the CPU's, but for GATE, whose exponential is the
 * device's. */
#include "../cuda/rows.cuh"

#include <math.h>

struct view {
    const pg_cuda_step *step;
    const float *a, *b;
    float *y;
    int all;                    /* which rows: all, or those that sample */
    int a_step, b_step, y_step; /* columns from one row to the next */
};

static view view_of(const pg_cuda *c, const pg_op *op)
{
    view v = {};
    v.step = c->step;
    v.all = pg_cuda_is_all(c, op->dst);
    v.a = pg_cuda_value(c, op->src[0]);
    v.a_step = pg_cuda_width(c, op->src[0]);
    v.y = pg_cuda_value(c, op->dst);
    v.y_step = pg_cuda_width(c, op->dst);
    if (op->src[1] != PG_NO_REF) {
        v.b = pg_cuda_value(c, op->src[1]);
        v.b_step = pg_cuda_width(c, op->src[1]);
    }
    return v;
}

/* ---- ADD ---------------------------------------------------------------------------------------------------------- */

template <int V> static __global__ void add_rows(view v, float scale)
{
    const int i = V * pg_item(), r = pg_row();
    if (i >= v.y_step || r >= pg_step_rows(v.step, v.all)) return;
    const pg_floats<V> a = pg_floats_at<V>(v.a + (int64_t)r * v.a_step + i);
    const pg_floats<V> b = pg_floats_at<V>(v.b + (int64_t)r * v.b_step + i);
    pg_floats<V> y;
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = __fadd_rn(a.x[k], __fmul_rn(scale, b.x[k])); /* not fused, as on the CPU */
    pg_floats_put<V>(v.y + (int64_t)r * v.y_step + i, y);
}

void pg_cuda_add(pg_cuda *c, const pg_op *op)
{
    const view v = view_of(c, op);
    const bool four = pg_by_four(v.a_step, v.b_step, v.y_step);
    const pg_shape s = pg_shape_of(four ? v.y_step / 4 : v.y_step, pg_cuda_rows(c, op->dst));
    if (four)
        PG_LAUNCH(add_rows<4>, s.grid, s.block, 0, c->stream, v, op->a.add.scale);
    else
        PG_LAUNCH(add_rows<1>, s.grid, s.block, 0, c->stream, v, op->a.add.scale);
}

/* ---- GATE --------------------------------------------------------------------------------------------------------- */

template <int V> static __global__ void gate_rows(view v)
{
    const int i = V * pg_item(), r = pg_row();
    if (i >= v.y_step || r >= pg_step_rows(v.step, v.all)) return;
    const float g = 1.0f / (1.0f + expf(-v.b[(int64_t)r * v.b_step]));
    pg_floats<V> y = pg_floats_at<V>(v.a + (int64_t)r * v.a_step + i);
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] *= g;
    pg_floats_put<V>(v.y + (int64_t)r * v.y_step + i, y);
}

void pg_cuda_gate(pg_cuda *c, const pg_op *op)
{
    const view v = view_of(c, op);
    const bool four = pg_by_four(v.a_step, v.y_step);
    const pg_shape s = pg_shape_of(four ? v.y_step / 4 : v.y_step, pg_cuda_rows(c, op->dst));
    if (four)
        PG_LAUNCH(gate_rows<4>, s.grid, s.block, 0, c->stream, v);
    else
        PG_LAUNCH(gate_rows<1>, s.grid, s.block, 0, c->stream, v);
}

/* ---- CLAMP -------------------------------------------------------------------------------------------------------- */

template <int V> static __global__ void clamp_rows(view v, float limit)
{
    const int i = V * pg_item(), r = pg_row();
    if (i >= v.y_step || r >= pg_step_rows(v.step, v.all)) return;
    float *const at = v.y + (int64_t)r * v.y_step + i;
    pg_floats<V> y = pg_floats_at<V>(at);
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = y.x[k] > limit ? limit : y.x[k] < -limit ? -limit : y.x[k]; /* NaN stays */
    pg_floats_put<V>(at, y);
}

void pg_cuda_clamp(pg_cuda *c, const pg_op *op)
{
    const view v = view_of(c, op);
    const bool four = pg_by_four(v.y_step);
    const pg_shape s = pg_shape_of(four ? v.y_step / 4 : v.y_step, pg_cuda_rows(c, op->dst));
    if (four)
        PG_LAUNCH(clamp_rows<4>, s.grid, s.block, 0, c->stream, v, op->a.clamp.limit);
    else
        PG_LAUNCH(clamp_rows<1>, s.grid, s.block, 0, c->stream, v, op->a.clamp.limit);
}

/* ---- COPY --------------------------------------------------------------------------------------------------------- */

struct columns {
    int heads, n, src_col, src_step, dst_col, dst_step;
};

template <int V> static __global__ void copy_rows(view v, columns c)
{
    const int at = V * pg_item(), r = pg_row();
    const int h = at / c.n, i = at - h * c.n;
    if (h >= c.heads || r >= pg_step_rows(v.step, v.all)) return;
    pg_floats_put<V>(v.y + (int64_t)r * v.y_step + c.dst_col + h * c.dst_step + i,
                     pg_floats_at<V>(v.a + (int64_t)r * v.a_step + c.src_col + h * c.src_step + i));
}

void pg_cuda_copy(pg_cuda *c, const pg_op *op)
{
    const view v = view_of(c, op);
    const columns o = { op->a.copy.heads,    op->a.copy.n,       op->a.copy.src_col,
                        op->a.copy.src_step, op->a.copy.dst_col, op->a.copy.dst_step };
    const bool four = pg_by_four(o.n, o.src_col | o.src_step, o.dst_col | o.dst_step, v.a_step, v.y_step);
    const pg_shape s = pg_shape_of(o.heads * o.n / (four ? 4 : 1), pg_cuda_rows(c, op->dst));
    if (four)
        PG_LAUNCH(copy_rows<4>, s.grid, s.block, 0, c->stream, v, o);
    else
        PG_LAUNCH(copy_rows<1>, s.grid, s.block, 0, c->stream, v, o);
}
