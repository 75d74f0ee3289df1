/* embed_cuda.cu: where rows come from: EMBED decodes a row of the token table, GATHER takes the rows that sample. Same
 * bits as the CPU's. */
#include "../cuda/rows.cuh"
#include "../matmul/decode.cuh"

struct table {
    const pg_cuda_step *step;
    pg_view w;
    float *y;
    int y_step, whole; /* whole: every 16 bytes of a row are aligned and inside it */
    float scale;
};

template <pg_dtype T> __device__ __forceinline__ typename pg_format<T>::raw load(const table &t, int64_t row, int chunk)
{
    typedef pg_format<T> F;
    if constexpr (F::QUANT) {
        return F::template load<pg_far>(t.w, row, chunk);
    } else {
        return t.whole ? F::template load<pg_far>(t.w, row, chunk) : F::template load_part<pg_far>(t.w, row, chunk);
    }
}

/* A thread takes a chunk of a row: 16 bytes of codes, and the factors that belong to them. */
template <pg_dtype T> static __global__ void embed_rows(table t)
{
    typedef pg_format<T> F;
    const int chunk = pg_item(), r = pg_row();
    if (chunk >= pg_chunks<F>(t.w.k) || r >= t.step->n) return;
    const typename F::raw raw = load<T>(t, t.step->token[r], chunk);
#pragma unroll
    for (int piece = 0; piece < F::PIECES; piece++) {
        const int col = F::column(chunk) + F::SPREAD * piece;
        float *y = t.y + (int64_t)r * t.y_step + col;
        float v[F::WIDTH];
        F::value(raw, chunk, piece, v);
#pragma unroll
        for (int i = 0; i < F::WIDTH; i++) v[i] *= t.scale;
        if (F::QUANT || t.whole) {
#pragma unroll
            for (int i = 0; i < F::WIDTH; i += 4) pg_floats_put<4>(y + i, { v[i], v[i + 1], v[i + 2], v[i + 3] });
        } else {
#pragma unroll
            for (int i = 0; i < F::WIDTH; i++)
                if (col + i < t.w.k) y[i] = v[i];
        }
    }
}

template <pg_dtype T> static void embed(pg_cuda *c, const table &t, int n_row)
{
    const pg_shape s = pg_shape_of(pg_chunks<pg_format<T>>(t.w.k), n_row);
    PG_LAUNCH(embed_rows<T>, s.grid, s.block, 0, c->stream, t);
}

void pg_cuda_embed(pg_cuda *c, const pg_op *op)
{
    const pg_cuda_weight *w = pg_cuda_weight_of(c, op->w);
    table t = {};
    t.step = c->step;
    for (int i = 0; i < w->at.n_plane; i++) t.w.plane[i] = w->first + w->at.plane[i];
    t.w.k = (int32_t)w->at.k;
    t.w.blocks = (int32_t)(w->at.k / pg_dtype_get(w->at.dtype)->block);
    t.y = pg_cuda_value(c, op->dst);
    t.y_step = pg_cuda_width(c, op->dst);
    t.whole = w->at.k % 16 == 0; /* of 1, 2 or 4 bytes */
    t.scale = op->a.embed.scale;
    const int n_row = pg_cuda_rows(c, op->dst);
    switch (w->at.dtype) {
#define FORMAT(T) \
    case PG_##T: embed<PG_##T>(c, t, n_row); break;
        FORMAT(F32)
        FORMAT(F16)
        FORMAT(BF16)
        FORMAT(FP8)
        FORMAT(Q8_0)
        FORMAT(Q4_0)
        FORMAT(Q4_1)
        FORMAT(Q5_0)
        FORMAT(Q5_1)
        FORMAT(Q2_K)
        FORMAT(Q3_K)
        FORMAT(Q4_K)
        FORMAT(Q5_K)
        FORMAT(Q6_K)
        FORMAT(IQ4_NL)
        FORMAT(IQ4_XS)
        FORMAT(IQ2_XXS)
        FORMAT(MXFP4)
#undef FORMAT
    default: break; /* not a format that a weight may have */
    }
}

/* ---- GATHER ------------------------------------------------------------------------------------------------------- */

template <int V> static __global__ void gather_rows(const pg_cuda_step *step, float *y, const float *x, int width)
{
    const int i = V * pg_item(), s = pg_row();
    if (i >= width || s >= step->n_sampled) return;
    pg_floats_put<V>(y + (int64_t)s * width + i, pg_floats_at<V>(x + (int64_t)step->sampled[s] * width + i));
}

void pg_cuda_gather(pg_cuda *c, const pg_op *op)
{
    const int width = pg_cuda_width(c, op->dst);
    const float *x = pg_cuda_value(c, op->src[0]);
    float *y = pg_cuda_value(c, op->dst);
    const bool four = pg_by_four(width);
    const pg_shape s = pg_shape_of(four ? width / 4 : width, c->sampled);
    if (four)
        PG_LAUNCH(gather_rows<4>, s.grid, s.block, 0, c->stream, c->step, y, x, width);
    else
        PG_LAUNCH(gather_rows<1>, s.grid, s.block, 0, c->stream, c->step, y, x, width);
}
