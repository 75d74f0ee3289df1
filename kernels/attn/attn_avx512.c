/* attn, AVX-512: 16 running sums are one register, so 16 scores are 16 registers, folded together as a transpose that
 * adds: each level halves the sums of all of them with one shuffle for two registers. */
#include "../cpu/isa.h"
#include "../simd.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 join16(__m512 a, __m512 b, int how)
{
    return how == FOLD_ADD ? _mm512_add_ps(a, b) : _mm512_max_ps(a, b);
}

/* Number i of the result: the lanes of a[i] joined 16 -> 8 -> 4 -> 2 -> 1, lane j with j + half. */
INLINE __m512 fold16x16(const __m512 a[16], int how)
{
    __m512 half[8], quarter[4], pair[2];
    UNROLL
    for (int i = 0; i < 8; i++) {
        const __m512 x = a[i / 4 * 8 + i % 4], y = a[i / 4 * 8 + i % 4 + 4];
        half[i] = join16(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee), how);
    }
    UNROLL
    for (int i = 0; i < 4; i++)
        quarter[i] = join16(_mm512_shuffle_f32x4(half[i], half[i + 4], 0x88),
                            _mm512_shuffle_f32x4(half[i], half[i + 4], 0xdd), how);
    UNROLL
    for (int i = 0; i < 2; i++)
        pair[i] = join16(_mm512_shuffle_ps(quarter[2 * i], quarter[2 * i + 1], 0x44),
                         _mm512_shuffle_ps(quarter[2 * i], quarter[2 * i + 1], 0xee), how);
    return join16(_mm512_shuffle_ps(pair[0], pair[1], 0x88), _mm512_shuffle_ps(pair[0], pair[1], 0xdd), how);
}

/* 16 numbers of a row from number c on, or those that m has; type is a constant. */
INLINE __m512 load_held(const char *row, int64_t c, __mmask16 m, pg_dtype type)
{
    if (type == PG_F32) return _mm512_maskz_loadu_ps(m, row + 4 * c);
    const __m256i half = _mm256_maskz_loadu_epi16(m, row + 2 * c);
    if (type == PG_F16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Fetches what comes after rows from .. to - 1. Always inline: a call that does nothing else is left out. */
INLINE void fetch(const pg_held *h, int from, int to)
{
    for (const char *at = h->soon + from * h->soon_step; from < to; from++, at += h->soon_step)
        for (int64_t b = 0; b < h->soon_bytes; b += 64) _mm_prefetch(at + b, _MM_HINT_T1);
}

/* a[16 / n * i + t] += x[i] * y[t] over 16 columns from c, or as many as m has. */
INLINE void columns(__m512 a[16], const float *const *q, int n, const char *const *key, int64_t c, __mmask16 m,
                    pg_dtype type)
{
    const int n_t = 16 / n;
    __m512 x[4];
    UNROLL
    for (int i = 0; i < n; i++) x[i] = _mm512_maskz_loadu_ps(m, q[i] + c);
    UNROLL
    for (int t = 0; t < n_t; t++) {
        const __m512 y = load_held(key[t], c, m, type);
        UNROLL
        for (int i = 0; i < n; i++) a[n_t * i + t] = _mm512_mask3_fmadd_ps(x[i], y, a[n_t * i + t], m);
    }
}

/* Scores of n queries (2 or 4, a constant) and 16 / n keys, query by query. */
INLINE __m512 scores(const float *const *q, int n, const char *const *key, int64_t d, pg_dtype type)
{
    __m512 a[16];
    UNROLL
    for (int i = 0; i < 16; i++) a[i] = _mm512_setzero_ps();
    int64_t c = 0;
    for (; c + 16 <= d; c += 16) columns(a, q, n, key, c, 0xffff, type);
    if (c < d) columns(a, q, n, key, c, (__mmask16)((1u << (d - c)) - 1), type);
    return fold16x16(a, FOLD_ADD);
}

INLINE void store_scores(float *s, int64_t s_step, int n, __m512 x)
{
    if (n == 2) {
        _mm256_storeu_ps(s, _mm512_castps512_ps256(x));
        _mm256_storeu_ps(s + s_step, _mm512_extractf32x8_ps(x, 1));
    } else {
        _mm_storeu_ps(s, _mm512_castps512_ps128(x));
        _mm_storeu_ps(s + s_step, _mm512_extractf32x4_ps(x, 1));
        _mm_storeu_ps(s + 2 * s_step, _mm512_extractf32x4_ps(x, 2));
        _mm_storeu_ps(s + 3 * s_step, _mm512_extractf32x4_ps(x, 3));
    }
}

/* n_q of n queries and all keys; n and type are constants. soon: fetch what comes next. */
INLINE void rows(float *s, int64_t s_step, const float *const *q, int n, int n_q, const pg_held *k, int n_k, int64_t d,
                 int soon, pg_dtype type)
{
    const int n_t = 16 / n;
    const int64_t step = k->step;
    const float *x[4];
    UNROLL
    for (int i = 0; i < n; i++) x[i] = q[i < n_q ? i : 0];
    const char *at = k->at, *key[8];
    int t = 0;
    for (; n_q == n && t + n_t <= n_k; t += n_t) {
        UNROLL
        for (int i = 0; i < n_t; i++, at += step) key[i] = at;
        if (soon) fetch(k, t, t + n_t);
        store_scores(s + t, s_step, n, scores(x, n, key, d, type));
    }
    for (; t < n_k; t += n_t, at += n_t * step) { /* those that are not there are the first once more */
        const int left = n_k - t < n_t ? n_k - t : n_t;
        float some[16];
        for (int i = 0; i < n_t; i++) key[i] = at + (i < left ? i : 0) * step;
        if (soon) fetch(k, t, t + left);
        _mm512_storeu_ps(some, scores(x, n, key, d, type));
        for (int i = 0; i < n_q; i++) memcpy(s + t + i * s_step, some + n_t * i, sizeof(float) * (size_t)left);
    }
}

INLINE void qk(float *s, int64_t s_step, const float *const *q, int n_q, const pg_held *k, int n_k, int64_t d,
               pg_dtype type)
{
    int i = 0;
    for (; n_q - i > 2; i += 4)
        rows(s + i * s_step, s_step, q + i, 4, n_q - i < 4 ? n_q - i : 4, k, n_k, d, k->soon && i == 0, type);
    if (n_q - i == 2) rows(s + i * s_step, s_step, q + i, 2, 2, k, n_k, d, k->soon && i == 0, type);
}

void pg_qk_avx512(float *s, int64_t s_step, const float *const *q, int n_q, const pg_held *k, int n_k, int64_t d)
{
    switch (k->dtype) {
    case PG_F16: qk(s, s_step, q, n_q, k, n_k, d, PG_F16); break;
    case PG_BF16: qk(s, s_step, q, n_q, k, n_k, d, PG_BF16); break;
    default: qk(s, s_step, q, n_q, k, n_k, d, PG_F32); break;
    }
    if (n_q % 4 != 1) return;
    pg_held last = *k; /* for one query 16 keys would need more pointers than there are */
    if (n_q > 1) last.soon = NULL;
    pg_qk_avx2(s + (n_q - 1) * s_step, s_step, q + n_q - 1, 1, &last, n_k, d);
}

INLINE __mmask16 first(int64_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

/* Scales 16 scores, or those that m has; their largest in each place. */
INLINE __m512 scale16(float *s, __mmask16 m, __m512 scale, __m512 most)
{
    const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, s), scale);
    _mm512_mask_storeu_ps(s, m, x);
    return _mm512_mask_max_ps(most, m, x, most); /* a NaN is the first operand and passed over */
}

/* Their exponentials, added to sum. */
INLINE __m512 soften16(float *s, __mmask16 m, __m512 most, __m512 sum)
{
    const __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, s), most));
    _mm512_mask_storeu_ps(s, m, e);
    return _mm512_mask_add_ps(sum, m, sum, e);
}

/* Up to 16 queries. */
static void soften(float *top, float *sum, float *keep, float *s, int64_t s_step, int n_q, int n, __m512 scale)
{
    const __m512 none = _mm512_set1_ps(-INFINITY);
    const __mmask16 live = first(n_q), rest = first(n % 16);
    __m512 a[16];
    for (int i = 0; i < 16; i++) a[i] = none;
    for (int i = 0; i < n_q; i++) {
        float *at = s + i * s_step;
        for (int t = 16; t <= n; t += 16, at += 16) a[i] = scale16(at, 0xffff, scale, a[i]);
        if (rest) a[i] = scale16(at, rest, scale, a[i]);
    }
    const __m512 old = _mm512_maskz_loadu_ps(live, top), most = _mm512_max_ps(fold16x16(a, FOLD_MAX), old);
    const __m512 from = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(most, none, _CMP_NEQ_UQ), most);
    const __m512 by = exp16(_mm512_sub_ps(old, from));
    float less[16];
    _mm512_storeu_ps(less, from);
    _mm512_mask_storeu_ps(keep, live, by);
    _mm512_mask_storeu_ps(top, live, most);
    for (int i = 0; i < 16; i++) a[i] = _mm512_setzero_ps();
    for (int i = 0; i < n_q; i++) {
        const __m512 m = _mm512_set1_ps(less[i]);
        float *at = s + i * s_step;
        for (int t = 16; t <= n; t += 16, at += 16) a[i] = soften16(at, 0xffff, m, a[i]);
        if (rest) a[i] = soften16(at, rest, m, a[i]);
    }
    const __m512 kept = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, sum), by);
    _mm512_mask_storeu_ps(sum, live, _mm512_add_ps(kept, fold16x16(a, FOLD_ADD)));
}

void pg_softmax_avx512(float *top, float *sum, float *keep, float *s, int64_t s_step, int n_q, int n, float scale)
{
    for (int i = 0; i < n_q; i += 16)
        soften(top + i, sum + i, keep + i, s + i * s_step, s_step, n_q - i < 16 ? n_q - i : 16, n,
               _mm512_set1_ps(scale));
}

/* The same 16 * wide columns of n_t rows, and what is to be fetched with each: `bytes` at soon, if not NULL. */
typedef struct columns_of {
    const char *row, *soon;
    int64_t step, soon_step, bytes;
} columns_of;

static inline columns_of columns_at(const pg_held *v, int64_t c, int wide, int64_t d)
{
    const int64_t from = v->soon_bytes * c / d;
    return (columns_of){ .row = (const char *)v->at + c * (v->dtype == PG_F32 ? 4 : 2),
                         .soon = v->soon ? v->soon + from : NULL,
                         .step = v->step,
                         .soon_step = v->soon_step,
                         .bytes = v->soon_bytes * (c + 16 * wide) / d - from };
}

/* n queries; n, wide and type are constants. m masks the last 16 columns. */
INLINE void output(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n, columns_of v,
                   int n_t, int wide, __mmask16 m, pg_dtype type)
{
    __m512 a[16];
    UNROLL
    for (int i = 0; i < n; i++) {
        const __m512 by = _mm512_set1_ps(keep[i]);
        const __mmask16 some = _mm512_cmp_ps_mask(by, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        UNROLL
        for (int j = 0; j < wide; j++)
            a[wide * i + j] = _mm512_maskz_mul_ps(
                some, by, _mm512_maskz_loadu_ps(j < wide - 1 ? 0xffff : m, acc + i * acc_step + 16 * j));
    }
    for (int t = 0; t < n_t; t++, v.row += v.step) {
        if (v.soon) {
            for (int64_t b = 0; b < v.bytes; b += 64) _mm_prefetch(v.soon + b, _MM_HINT_T1);
            v.soon += v.soon_step;
        }
        __m512 y[4];
        UNROLL
        for (int j = 0; j < wide; j++) y[j] = load_held(v.row, 16 * j, j < wide - 1 ? 0xffff : m, type);
        UNROLL
        for (int i = 0; i < n; i++) {
            const __m512 x = _mm512_set1_ps(p[i * p_step + t]);
            UNROLL
            for (int j = 0; j < wide; j++) a[wide * i + j] = _mm512_fmadd_ps(x, y[j], a[wide * i + j]);
        }
    }
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int j = 0; j < wide; j++)
            _mm512_mask_storeu_ps(acc + i * acc_step + 16 * j, j < wide - 1 ? 0xffff : m, a[wide * i + j]);
    }
}

/* All queries. */
INLINE void outputs(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
                    columns_of v, int n_t, int wide, __mmask16 m, pg_dtype type)
{
#define PART(n) output(acc, acc_step, keep, p, p_step, n, v, n_t, wide, m, type)
    for (; n_q >= 4; n_q -= 4, acc += 4 * acc_step, keep += 4, p += 4 * p_step, v.soon = NULL) PART(4);
    switch (n_q) {
    case 3: PART(3); break;
    case 2: PART(2); break;
    case 1: PART(1); break;
    default: break;
    }
#undef PART
}

INLINE void pv(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
               const pg_held *v, int n_t, int64_t d, pg_dtype type)
{
    int64_t c = 0;
    for (; c + 64 <= d; c += 64)
        outputs(acc + c, acc_step, keep, p, p_step, n_q, columns_at(v, c, 4, d), n_t, 4, 0xffff, type);
    for (; c < d; c += 16)
        outputs(acc + c, acc_step, keep, p, p_step, n_q, columns_at(v, c, 1, d), n_t, 1, first(d - c), type);
}

void pg_pv_avx512(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
                  const pg_held *v, int n_t, int64_t d)
{
    if (n_q == 1) { /* a load for each product: wider registers bring nothing */
        pg_pv_avx2(acc, acc_step, keep, p, p_step, n_q, v, n_t, d);
        return;
    }
    switch (v->dtype) {
    case PG_F16: pv(acc, acc_step, keep, p, p_step, n_q, v, n_t, d, PG_F16); break;
    case PG_BF16: pv(acc, acc_step, keep, p, p_step, n_q, v, n_t, d, PG_BF16); break;
    default: pv(acc, acc_step, keep, p, p_step, n_q, v, n_t, d, PG_F32); break;
    }
}
