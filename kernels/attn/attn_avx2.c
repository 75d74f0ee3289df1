/* attn, AVX2: the 16 running sums of a score are two registers. The two halves meet only in the first fold, so they are
 * taken one after the other, which leaves room for twice as many scores at once. */
#include "../cpu/isa.h"
#include "../simd.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))

/* 8 numbers of a row from number c on; type is a constant. */
INLINE __m256 load_held(const char *row, int64_t c, pg_dtype type)
{
    if (type == PG_F32) return _mm256_loadu_ps((const float *)row + c);
    const __m128i half = load16(row + 2 * c);
    if (type == PG_F16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* Number c of row t. */
static inline float held(const pg_held *h, int t, int64_t c)
{
    const char *row = (const char *)h->at + t * h->step;
    if (h->dtype == PG_F32) return ((const float *)row)[c];
    return h->dtype == PG_F16 ? half_at(row + 2 * c) : pg_bf16_to_f32(load2(row + 2 * c));
}

/* Fetches what comes after rows from .. to - 1. Always inline: a call that does nothing else is left out. */
INLINE void fetch(const pg_held *h, int from, int to)
{
    for (const char *at = h->soon + from * h->soon_step; from < to; from++, at += h->soon_step)
        for (int64_t b = 0; b < h->soon_bytes; b += 64) _mm_prefetch(at + b, _MM_HINT_T1);
}

/* a[8 / n * i + t] = the 8 sums of query i and key t over columns from .. from + 7 of every 16. */
INLINE void half_sums(__m256 a[8], const float *const *q, int n, const char *const *key, int from, int64_t d,
                      pg_dtype type)
{
    const int n_t = 8 / n;
    UNROLL
    for (int i = 0; i < 8; i++) a[i] = _mm256_setzero_ps();
    for (int64_t c = from; c < d; c += 16) {
        __m256 x[2];
        UNROLL
        for (int i = 0; i < n; i++) x[i] = _mm256_loadu_ps(q[i] + c);
        UNROLL
        for (int t = 0; t < n_t; t++) {
            const __m256 y = load_held(key[t], c, type);
            UNROLL
            for (int i = 0; i < n; i++) a[n_t * i + t] = _mm256_fmadd_ps(x[i], y, a[n_t * i + t]);
        }
    }
}

/* Scores of n queries (1 or 2, a constant) and 8 / n keys, query by query. d is a multiple of 16. */
INLINE __m256 scores(const float *const *q, int n, const char *const *key, int64_t d, pg_dtype type)
{
    __m256 a[8], b[8];
    half_sums(a, q, n, key, 0, d, type);
    half_sums(b, q, n, key, 8, d, type);
    UNROLL
    for (int i = 0; i < 8; i++) a[i] = _mm256_add_ps(a[i], b[i]);
    return fold8x8(a, FOLD_ADD);
}

/* n queries and keys [from, to); n and type are constants. soon: fetch what comes next. */
INLINE void rows(float *s, int64_t s_step, const float *const *q, int n, const pg_held *k, int from, int to, int64_t d,
                 int soon, pg_dtype type)
{
    const int n_t = 8 / n;
    const int64_t step = k->step;
    const float *x[2];
    UNROLL
    for (int i = 0; i < n; i++) x[i] = q[i];
    const char *at = (const char *)k->at + from * step, *key[8];
    int t = from;
    for (; t + n_t <= to; t += n_t) {
        UNROLL
        for (int i = 0; i < n_t; i++, at += step) key[i] = at;
        if (soon) fetch(k, t, t + n_t);
        const __m256 y = scores(x, n, key, d, type);
        if (n == 1) {
            _mm256_storeu_ps(s + t, y);
        } else {
            _mm_storeu_ps(s + t, _mm256_castps256_ps128(y));
            _mm_storeu_ps(s + t + s_step, _mm256_extractf128_ps(y, 1));
        }
    }
    if (t == to) return;
    float some[8]; /* keys that are not there are the first once more */
    for (int i = 0; i < n_t; i++) key[i] = at + (i < to - t ? i : 0) * step;
    if (soon) fetch(k, t, to);
    _mm256_storeu_ps(some, scores(x, n, key, d, type));
    for (int i = 0; i < n; i++) memcpy(s + t + i * s_step, some + n_t * i, sizeof(float) * (size_t)(to - t));
}

INLINE void qk(float *s, int64_t s_step, const float *const *q, int n_q, const pg_held *k, int n_k, int64_t d,
               pg_dtype type)
{
    const int part = d < 512 ? (int)(4096 / (d + !d)) / 8 * 8 : 8; /* keys that stay in the first cache */
    for (int t = 0, to; t < n_k; t = to) {
        to = n_k - t < part ? n_k : t + part;
        int i = 0;
        for (; i + 2 <= n_q; i += 2) rows(s + i * s_step, s_step, q + i, 2, k, t, to, d, k->soon && !i, type);
        if (i < n_q) rows(s + i * s_step, s_step, q + i, 1, k, t, to, d, k->soon && !i, type);
    }
}

/* As pg_fdot, for any d. */
static float score(const float *q, const pg_held *k, int t, int64_t d)
{
    float sum[16] = { 0 };
    for (int64_t c = 0; c < d; c++) sum[c % 16] = fmaf(q[c], held(k, t, c), sum[c % 16]);
    return fold8(_mm256_add_ps(_mm256_loadu_ps(sum), _mm256_loadu_ps(sum + 8)));
}

void pg_qk_avx2(float *s, int64_t s_step, const float *const *q, int n_q, const pg_held *k, int n_k, int64_t d)
{
    if (d % 16) { /* widths that no model of size has */
        for (int i = 0; i < n_q; i++)
            for (int t = 0; t < n_k; t++) s[i * s_step + t] = score(q[i], k, t, d);
        return;
    }
    switch (k->dtype) {
    case PG_F16: qk(s, s_step, q, n_q, k, n_k, d, PG_F16); break;
    case PG_BF16: qk(s, s_step, q, n_q, k, n_k, d, PG_BF16); break;
    default: qk(s, s_step, q, n_q, k, n_k, d, PG_F32); break;
    }
}

/* The first n of 8 numbers. */
static inline __m256i first(int64_t n)
{
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), at);
}

static inline __m256 load_first(const float *x, int64_t n)
{
    return n >= 8 ? _mm256_loadu_ps(x) : n > 0 ? _mm256_maskload_ps(x, first(n)) : _mm256_setzero_ps();
}

static inline void store_first(float *x, int64_t n, __m256 v)
{
    if (n >= 8)
        _mm256_storeu_ps(x, v);
    else if (n > 0)
        _mm256_maskstore_ps(x, first(n), v);
}

/* Scales 8 of the n scores left from x on; their largest in each place. */
static inline __m256 scale_eight(float *x, int64_t n, __m256 scale, __m256 most)
{
    const __m256 y = _mm256_mul_ps(load_first(x, n), scale);
    store_first(x, n, y);
    return _mm256_max_ps(n >= 8 ? y : _mm256_blendv_ps(most, y, _mm256_castsi256_ps(first(n))), most);
}

/* Their exponentials; 0 past the last. */
static inline __m256 exp_eight(float *x, int64_t n, __m256 less)
{
    __m256 e = exp8(_mm256_sub_ps(load_first(x, n), less));
    store_first(x, n, e);
    return n >= 8 ? e : _mm256_and_ps(e, _mm256_castsi256_ps(first(n)));
}

/* Up to 8 queries. */
static void soften(float *top, float *sum, float *keep, float *s, int64_t s_step, int n_q, int n, __m256 scale)
{
    __m256 a[8];
    for (int i = 0; i < 8; i++) a[i] = _mm256_set1_ps(-INFINITY);
    for (int i = 0; i < n_q; i++)
        for (int t = 0; t < n; t += 8) a[i] = scale_eight(s + i * s_step + t, n - t, scale, a[i]);
    const __m256 old = load_first(top, n_q), most = _mm256_max_ps(fold8x8(a, FOLD_MAX), old);
    const __m256 none = _mm256_cmp_ps(most, _mm256_set1_ps(-INFINITY), _CMP_EQ_OQ);
    const __m256 from = _mm256_andnot_ps(none, most), by = exp8(_mm256_sub_ps(old, from));
    float less[8];
    _mm256_storeu_ps(less, from);
    store_first(keep, n_q, by);
    store_first(top, n_q, most);
    for (int i = 0; i < 8; i++) a[i] = _mm256_setzero_ps();
    for (int i = 0; i < n_q; i++) {
        const __m256 x = _mm256_broadcast_ss(less + i);
        __m256 b = _mm256_setzero_ps();
        for (int t = 0; t < n; t += 16) {
            a[i] = _mm256_add_ps(a[i], exp_eight(s + i * s_step + t, n - t, x));
            b = _mm256_add_ps(b, exp_eight(s + i * s_step + t + 8, n - t - 8, x));
        }
        a[i] = _mm256_add_ps(a[i], b);
    }
    const __m256 rest = _mm256_mul_ps(load_first(sum, n_q), by);
    store_first(sum, n_q, _mm256_add_ps(rest, fold8x8(a, FOLD_ADD)));
}

void pg_softmax_avx2(float *top, float *sum, float *keep, float *s, int64_t s_step, int n_q, int n, float scale)
{
    for (int i = 0; i < n_q; i += 8)
        soften(top + i, sum + i, keep + i, s + i * s_step, s_step, n_q - i < 8 ? n_q - i : 8, n, _mm256_set1_ps(scale));
}

/* The same 8 * wide columns of some rows, and what is to be fetched with each: `bytes` at soon, if not NULL. */
typedef struct columns_of {
    const char *row, *soon;
    int64_t step, soon_step, bytes;
} columns_of;

static inline columns_of columns_at(const pg_held *v, int64_t c, int wide, int64_t d, int soon)
{
    const int64_t from = v->soon_bytes * c / d;
    return (columns_of){ .row = (const char *)v->at + c * (v->dtype == PG_F32 ? 4 : 2),
                         .soon = soon ? v->soon + from : NULL,
                         .step = v->step,
                         .soon_step = v->soon_step,
                         .bytes = v->soon_bytes * (c + 8 * wide) / d - from };
}

/* n queries; n, wide and type are constants, n * wide is 12 at most. */
INLINE void output(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n, columns_of v,
                   int n_t, int wide, pg_dtype type)
{
    __m256 a[12];
    UNROLL
    for (int i = 0; i < n; i++) {
        const __m256 by = _mm256_broadcast_ss(keep + i), some = _mm256_cmp_ps(by, _mm256_setzero_ps(), _CMP_NEQ_UQ);
        UNROLL
        for (int j = 0; j < wide; j++)
            a[wide * i + j] = _mm256_and_ps(some, _mm256_mul_ps(_mm256_loadu_ps(acc + i * acc_step + 8 * j), by));
    }
    for (int t = 0; t < n_t; t++, v.row += v.step) {
        if (v.soon) {
            for (int64_t b = 0; b < v.bytes; b += 64) _mm_prefetch(v.soon + b, _MM_HINT_T1);
            v.soon += v.soon_step;
        }
        __m256 x[4];
        UNROLL
        for (int i = 0; i < n; i++) x[i] = _mm256_broadcast_ss(p + i * p_step + t);
        UNROLL
        for (int j = 0; j < wide; j++) {
            const __m256 y = load_held(v.row, 8 * j, type);
            UNROLL
            for (int i = 0; i < n; i++) a[wide * i + j] = _mm256_fmadd_ps(x[i], y, a[wide * i + j]);
        }
    }
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int j = 0; j < wide; j++) _mm256_storeu_ps(acc + i * acc_step + 8 * j, a[wide * i + j]);
    }
}

/* n queries, all columns: as many at once as there are registers for. soon: fetch what comes next. */
INLINE void outputs(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n,
                    const pg_held *v, int n_t, int64_t d, int soon, pg_dtype type)
{
    const int wide = n == 1 ? 8 : n == 4 ? 2 : 4;
    int64_t c = 0;
    for (; c + 8 * wide <= d; c += 8 * wide)
        output(acc + c, acc_step, keep, p, p_step, n, columns_at(v, c, wide, d, soon), n_t, wide, type);
    for (; c + 8 <= d; c += 8)
        output(acc + c, acc_step, keep, p, p_step, n, columns_at(v, c, 1, d, soon), n_t, 1, type);
    for (; c < d; c++) {
        for (int i = 0; i < n; i++) {
            float sum = keep[i] == 0 ? 0.0f : acc[i * acc_step + c] * keep[i];
            for (int t = 0; t < n_t; t++) sum = fmaf(p[i * p_step + t], held(v, t, c), sum);
            acc[i * acc_step + c] = sum;
        }
    }
}

INLINE void pv(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
               const pg_held *v, int n_t, int64_t d, pg_dtype type)
{
    int i = 0;
#define PART(n) \
    outputs(acc + i * acc_step, acc_step, keep + i, p + i * p_step, p_step, n, v, n_t, d, v->soon && !i, type)
    for (; i + 4 <= n_q; i += 4) PART(4);
    switch (n_q - i) {
    case 3: PART(3); break;
    case 2: PART(2); break;
    case 1: PART(1); break;
    default: break;
    }
#undef PART
}

void pg_pv_avx2(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
                const pg_held *v, int n_t, int64_t d)
{
    switch (v->dtype) {
    case PG_F16: pv(acc, acc_step, keep, p, p_step, n_q, v, n_t, d, PG_F16); break;
    case PG_BF16: pv(acc, acc_step, keep, p, p_step, n_q, v, n_t, d, PG_BF16); break;
    default: pv(acc, acc_step, keep, p, p_step, n_q, v, n_t, d, PG_F32); break;
    }
}
