/* store: where a row of the paged cache is, and how its formats keep numbers, for the op and for kernels that end with one.
 * Private to kernels/attn. */
#ifndef PG_STORE_CUH
#define PG_STORE_CUH

#include "../cuda/rows.cuh"

/* A stream of the cache. */
typedef struct pg_kv_rows {
    char *base; /* of the stream in page 0 */
    int64_t page_bytes;
    int row_bytes, page_tokens;
} pg_kv_rows;

static inline pg_kv_rows pg_kv_rows_of(const pg_kv *kv, int stream)
{
    return { kv->base + kv->stream[stream].offset, kv->page_bytes, kv->stream[stream].row_bytes, kv->page_tokens };
}

__device__ __forceinline__ char *pg_kv_row(const pg_kv_rows &v, const pg_cuda_step *step, int r)
{
    const int pos = step->pos[r], page = pos / v.page_tokens;
    const int64_t at = step->pages[(int64_t)step->seq[r] * step->page_step + page];
    return v.base + at * v.page_bytes + (int64_t)(pos - page * v.page_tokens) * v.row_bytes;
}

/* Whether four numbers of a format with words of `word` bytes can be written at once. */
static inline bool pg_kv_by_four(const pg_kv_rows &v, int n, int x_step, int word)
{
    return pg_by_four(n, x_step, v.row_bytes / word) && v.row_bytes % word == 0 && v.page_bytes % 16 == 0 &&
           reinterpret_cast<uintptr_t>(v.base) % 16 == 0;
}

/* How a format of 16 bits, or of 32, keeps a number. */
struct pg_kv_f32 {
    typedef float word;
    static __device__ __forceinline__ word of(float x) { return x; }
};
struct pg_kv_f16 {
    typedef unsigned short word;
    static __device__ __forceinline__ word of(float x) { return __half_as_ushort(__float2half_rn(x)); }
};
struct pg_kv_bf16 {
    typedef unsigned short word;
    static __device__ __forceinline__ word of(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
};

template <class F, int V> struct alignas(V * sizeof(typename F::word)) pg_kv_words {
    typename F::word w[V];
};

/* Column i of a row and V - 1 more. */
template <class F, int V> __device__ __forceinline__ void pg_kv_put(char *row, int i, const pg_floats<V> &x)
{
    pg_kv_words<F, V> y;
#pragma unroll
    for (int k = 0; k < V; k++) y.w[k] = F::of(x.x[k]);
    *reinterpret_cast<pg_kv_words<F, V> *>(row + i * sizeof(typename F::word)) = y;
}

/* Q8_0: eight lanes make a block of 32 numbers, four each: columns i to i + 3, those behind the end of the row zeros. All
 * lanes of the warp come here; `here`: this one writes. */
__device__ __forceinline__ void pg_kv_put_q8_0(char *row, int i, const float (&x)[4], bool here)
{
    float most = 0;
    bool finite = true;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        finite = finite && fabsf(x[k]) < INFINITY;
        most = fmaxf(most, fabsf(x[k]));
    }
    if (!finite) most = INFINITY;
#pragma unroll
    for (int with = 4; with; with /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, with));
    if (!here) return;
    const float d = __fdiv_rn(most, 127.0f);
    char *to = row + i / 32 * 34;
    if (i % 32 == 0)
        *reinterpret_cast<unsigned short *>(to) =
            most < INFINITY ? __half_as_ushort(__float2half_rn(d)) : 0x7e00; /* NaN */
    signed char q[4]; /* a plain char has no sign on some hosts, and so neither on their devices */
#pragma unroll
    for (int k = 0; k < 4; k++)
        q[k] =
            (signed char)(d > 0.0f && d < INFINITY ? fmaxf(-127.0f, fminf(127.0f, roundf(__fdiv_rn(x[k], d)))) : 0.0f);
    char2 *pair = reinterpret_cast<char2 *>(to + 2 + i % 32); /* a block begins at any even address */
    pair[0] = make_char2(q[0], q[1]);
    pair[1] = make_char2(q[2], q[3]);
}

#endif
