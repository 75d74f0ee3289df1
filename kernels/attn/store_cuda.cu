/* store_cuda.cu: STORE: rows into the paged cache, in its format: bit for bit what pg_pack (unpack/unpack.h) makes of
 * them, but for what a NaN carries. */
#include "store.cuh"

struct view {
    const pg_cuda_step *step;
    const float *x;
    pg_kv_rows to;
    int x_step, n;
};

template <class F, int V> static __global__ void store_rows(view v)
{
    const int i = V * pg_item(), r = pg_row();
    if (i >= v.n || r >= v.step->n) return;
    pg_kv_put<F, V>(pg_kv_row(v.to, v.step, r), i, pg_floats_at<V>(v.x + (int64_t)r * v.x_step + i));
}

static __global__ void store_q8_0(view v)
{
    const int i = 4 * pg_item(), r = pg_row();
    const bool here = i / 32 * 32 < v.n && r < v.step->n;
    float x[4] = { 0, 0, 0, 0 };
    for (int k = 0; k < 4 && here; k++)
        if (i + k < v.n) x[k] = v.x[(int64_t)r * v.x_step + i + k];
    pg_kv_put_q8_0(here ? pg_kv_row(v.to, v.step, r) : nullptr, i, x, here);
}

template <class F> static void store(pg_cuda *c, const view &v)
{
    const bool four = pg_kv_by_four(v.to, v.n, v.x_step, (int)sizeof(typename F::word));
    void (*const kernel)(view) = four ? store_rows<F, 4> : store_rows<F, 1>;
    const pg_shape s = pg_shape_of(four ? v.n / 4 : v.n, c->rows);
    PG_LAUNCH(kernel, s.grid, s.block, 0, c->stream, v);
}

void pg_cuda_store(pg_cuda *c, const pg_op *op)
{
    view v = {};
    v.step = c->step;
    v.x = pg_cuda_value(c, op->src[0]);
    v.x_step = pg_cuda_width(c, op->src[0]);
    v.to = pg_kv_rows_of(&c->kv, op->a.store.stream);
    v.n = op->a.store.n;
    if (c->kv.dtype == PG_Q8_0) {
        const dim3 block(32, 4), grid((unsigned)((v.n + 127) / 128), (unsigned)((c->rows + 3) / 4)); /* a warp a row */
        PG_LAUNCH(store_q8_0, grid, block, 0, c->stream, v);
    } else if (c->kv.dtype == PG_F16) {
        store<pg_kv_f16>(c, v);
    } else if (c->kv.dtype == PG_BF16) {
        store<pg_kv_bf16>(c, v);
    } else {
        store<pg_kv_f32>(c, v);
    }
}
