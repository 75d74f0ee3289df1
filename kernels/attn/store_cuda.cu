/* store_cuda.cu: STORE: rows into the paged cache, in its format: bit for bit what pg_pack (unpack/unpack.h) makes of
 * them, but for what a NaN carries. */
#include "../cuda/rows.cuh"

struct view {
    const pg_cuda_step *step;
    const float *x;
    char *base; /* of the stream in page 0 */
    int64_t page_bytes;
    int x_step, n, row_bytes, page_tokens;
};

__device__ __forceinline__ char *row_at(const view &v, int r)
{
    const int pos = v.step->pos[r], page = pos / v.page_tokens;
    const int64_t at = v.step->pages[(int64_t)v.step->seq[r] * v.step->page_step + page];
    return v.base + at * v.page_bytes + (int64_t)(pos - page * v.page_tokens) * v.row_bytes;
}

/* How a format of 16 bits, or of 32, keeps a number. */
struct as_f32 {
    typedef float word;
    static __device__ __forceinline__ word of(float x) { return x; }
};
struct as_f16 {
    typedef unsigned short word;
    static __device__ __forceinline__ word of(float x) { return __half_as_ushort(__float2half_rn(x)); }
};
struct as_bf16 {
    typedef unsigned short word;
    static __device__ __forceinline__ word of(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
};

template <class F, int V> struct alignas(V * sizeof(typename F::word)) words {
    typename F::word w[V];
};

template <class F, int V> static __global__ void store_rows(view v)
{
    const int i = V * pg_item(), r = pg_row();
    if (i >= v.n || r >= v.step->n) return;
    const pg_floats<V> x = pg_floats_at<V>(v.x + (int64_t)r * v.x_step + i);
    words<F, V> y;
#pragma unroll
    for (int k = 0; k < V; k++) y.w[k] = F::of(x.x[k]);
    *reinterpret_cast<words<F, V> *>(row_at(v, r) + i * sizeof(typename F::word)) = y;
}

/* Q8_0: eight lanes make a block of 32 numbers, four each; the last block of a row is filled up with zeros. */
static __global__ void store_q8_0(view v)
{
    const int item = pg_item(), block = item / 8, i = 4 * item, r = pg_row();
    const bool here = block * 32 < v.n && r < v.step->n;
    float x[4] = { 0, 0, 0, 0 }, most = 0;
    bool finite = true;
    if (here) {
        const float *from = v.x + (int64_t)r * v.x_step + i;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (i + k < v.n) x[k] = from[k];
            finite = finite && fabsf(x[k]) < INFINITY;
            most = fmaxf(most, fabsf(x[k]));
        }
    }
    if (!finite) most = INFINITY;
#pragma unroll
    for (int with = 4; with; with /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, with));
    if (!here) return;
    const float d = __fdiv_rn(most, 127.0f);
    char *to = row_at(v, r) + block * 34;
    if (item % 8 == 0)
        *reinterpret_cast<unsigned short *>(to) =
            most < INFINITY ? __half_as_ushort(__float2half_rn(d)) : 0x7e00; /* NaN */
    char q[4];
#pragma unroll
    for (int k = 0; k < 4; k++)
        q[k] = (char)(d > 0.0f && d < INFINITY ? fmaxf(-127.0f, fminf(127.0f, roundf(__fdiv_rn(x[k], d)))) : 0.0f);
    char2 *pair = reinterpret_cast<char2 *>(to + 2 + i % 32); /* a block begins at any even address */
    pair[0] = make_char2(q[0], q[1]);
    pair[1] = make_char2(q[2], q[3]);
}

template <class F> static void store(pg_cuda *c, const view &v)
{
    const int word = (int)sizeof(typename F::word);
    const bool four = pg_by_four(v.n, v.x_step, v.row_bytes / word) && v.row_bytes % word == 0 &&
                      v.page_bytes % 16 == 0 && (uintptr_t)v.base % 16 == 0;
    void (*const kernel)(view) = four ? store_rows<F, 4> : store_rows<F, 1>;
    const pg_shape s = pg_shape_of(four ? v.n / 4 : v.n, c->rows);
    PG_LAUNCH(kernel, s.grid, s.block, 0, c->stream, v);
}

void pg_cuda_store(pg_cuda *c, const pg_op *op)
{
    const pg_kv_stream *s = &c->kv.stream[op->a.store.stream];
    view v = {};
    v.step = c->step;
    v.x = pg_cuda_value(c, op->src[0]);
    v.x_step = pg_cuda_width(c, op->src[0]);
    v.base = c->kv.base + s->offset;
    v.page_bytes = c->kv.page_bytes;
    v.n = op->a.store.n;
    v.row_bytes = s->row_bytes;
    v.page_tokens = c->kv.page_tokens;
    if (c->kv.dtype == PG_Q8_0) {
        const dim3 block(32, 4), grid((unsigned)((v.n + 127) / 128), (unsigned)((c->rows + 3) / 4)); /* a warp a row */
        PG_LAUNCH(store_q8_0, grid, block, 0, c->stream, v);
    } else if (c->kv.dtype == PG_F16) {
        store<as_f16>(c, v);
    } else if (c->kv.dtype == PG_BF16) {
        store<as_bf16>(c, v);
    } else {
        store<as_f32>(c, v);
    }
}
