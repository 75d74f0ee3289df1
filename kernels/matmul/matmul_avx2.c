/* matmul, AVX2: float rows and the rounding of activations. The chain over k is the contract's, so speed comes from
 * rows only: 6 rows x 16 outputs fill the registers (12 sums, 2 of weights, 1 of activations). */
#include "../cpu/isa.h"
#include "../simd.h"

#include <math.h>

/* n rows of a panel; n is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void rows(float *y, const float *const *x, const float *w, int n, int kb)
{
    __m256 a[6], b[6];
    UNROLL
    for (int r = 0; r < n; r++) {
        a[r] = _mm256_loadu_ps(y + 16 * r);
        b[r] = _mm256_loadu_ps(y + 16 * r + 8);
    }
    for (int64_t k = 0; k < kb; k++) {
        const __m256 wa = _mm256_load_ps(w + 16 * k), wb = _mm256_load_ps(w + 16 * k + 8);
        UNROLL
        for (int r = 0; r < n; r++) {
            const __m256 v = _mm256_broadcast_ss(x[r] + k);
            a[r] = _mm256_fmadd_ps(v, wa, a[r]);
            b[r] = _mm256_fmadd_ps(v, wb, b[r]);
        }
    }
    UNROLL
    for (int r = 0; r < n; r++) {
        _mm256_storeu_ps(y + 16 * r, a[r]);
        _mm256_storeu_ps(y + 16 * r + 8, b[r]);
    }
}

void pg_fpanel_avx2(float *y, const float *const *x, const float *w, int n_row, int kb)
{
    for (; n_row >= 6; n_row -= 6, x += 6, y += 6 * 16) rows(y, x, w, 6, kb);
    switch (n_row) {
    case 5: rows(y, x, w, 5, kb); break;
    case 4: rows(y, x, w, 4, kb); break;
    case 3: rows(y, x, w, 3, kb); break;
    case 2: rows(y, x, w, 2, kb); break;
    case 1: rows(y, x, w, 1, kb); break;
    default: break;
    }
}

/* Eight numbers, and one number, of a row that is stored in some way. */
typedef __m256 eight_fn(const char *w, int64_t k);
typedef float one_fn(const char *w, int64_t k);

/* One row at a time: rows side by side would overlap their chains, but arrive from memory at half the speed. */
static inline __attribute__((always_inline)) float dot(const char *w, const float *x, int64_t n, eight_fn *eight,
                                                       one_fn *one)
{
    __m256 s = _mm256_setzero_ps(), t = _mm256_setzero_ps();
    int64_t k = 0;
    for (; k + 16 <= n; k += 16) {
        s = _mm256_fmadd_ps(eight(w, k), _mm256_loadu_ps(x + k), s);
        t = _mm256_fmadd_ps(eight(w, k + 8), _mm256_loadu_ps(x + k + 8), t);
    }
    if (k < n) { /* one by one: adding 0 * 0 to the other sums could turn -0 into 0 */
        float sum[16];
        _mm256_storeu_ps(sum, s);
        _mm256_storeu_ps(sum + 8, t);
        for (; k < n; k++) sum[k % 16] = fmaf(one(w, k), x[k], sum[k % 16]);
        s = _mm256_loadu_ps(sum);
        t = _mm256_loadu_ps(sum + 8);
    }
    return fold8(_mm256_add_ps(s, t));
}

static inline __m256 eight_f32(const char *w, int64_t k)
{
    return _mm256_loadu_ps((const float *)(const void *)w + k);
}
static inline float one_f32(const char *w, int64_t k)
{
    return ((const float *)(const void *)w)[k];
}
static inline __m256 eight_f16(const char *w, int64_t k)
{
    return _mm256_cvtph_ps(load16(w + 2 * k));
}
static inline float one_f16(const char *w, int64_t k)
{
    return half_at(w + 2 * k);
}
static inline __m256 eight_bf16(const char *w, int64_t k)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(w + 2 * k)), 16));
}
static inline float one_bf16(const char *w, int64_t k)
{
    return pg_bf16_to_f32(load2(w + 2 * k));
}

float pg_fdot_avx2(const float *a, const float *b, int64_t n)
{
    return dot((const char *)a, b, n, eight_f32, one_f32);
}
float pg_fdot_f16_avx2(const void *w, const float *x, int64_t n)
{
    return dot(w, x, n, eight_f16, one_f16);
}
float pg_fdot_bf16_avx2(const void *w, const float *x, int64_t n)
{
    return dot(w, x, n, eight_bf16, one_bf16);
}

static inline __m256i round_by(const float *x, __m256 by)
{
    __m256i part[4];
    for (int j = 0; j < 4; j++) part[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), by));
    return narrow32(part);
}

/* Sums of four bytes each. */
static inline __m256i sums4(__m256i q)
{
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), _mm256_set1_epi16(1));
}

/* Sums of bytes 0 .. 15 and of 16 .. 31, in dwords 0 and 4. */
static inline __m256i sums16(__m256i q)
{
    __m256i s = sums4(q);
    s = _mm256_add_epi32(s, _mm256_srli_si256(s, 8));
    return _mm256_add_epi32(s, _mm256_srli_si256(s, 4));
}

static void round32(pg_q8 *y, const float *x)
{
    const float amax = amax32(x), inv = 127.0f / amax;
    __m256i q = _mm256_setzero_si256();
    if (isfinite(inv)) {
        q = round_by(x, _mm256_set1_ps(inv));
        y->d = amax / 127.0f;
    } else { /* zero, or so small that inv overflows, or not finite */
        y->d = isnan(amax) ? amax : 0.0f;
    }
    const __m256i sums = sums16(q);
    _mm256_storeu_si256((__m256i *)y->q, q);
    y->low = _mm256_extract_epi32(sums, 0);
    y->sum = y->low + _mm256_extract_epi32(sums, 4);
    y->ds = y->d * (float)y->sum;
}

/* The largest sizes of four blocks, as bits, which are ordered as the numbers are. */
static inline __m128i amax4(const float *x)
{
    __m256i top[4];
    for (int b = 0; b < 4; b++) top[b] = sizes32(x + 32 * b);
    const __m256i a = _mm256_max_epi32(_mm256_unpacklo_epi32(top[0], top[1]), _mm256_unpackhi_epi32(top[0], top[1]));
    const __m256i b = _mm256_max_epi32(_mm256_unpacklo_epi32(top[2], top[3]), _mm256_unpackhi_epi32(top[2], top[3]));
    const __m256i c = _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    return _mm_max_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
}

/* Number b of the result: the 8 numbers of v[b] added, in its lower half (low) and in all. */
static inline void add4(const __m256i v[4], __m128i *low, __m128i *all)
{
    const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    *low = _mm256_castsi256_si128(sums);
    *all = _mm_add_epi32(*low, _mm256_extracti128_si256(sums, 1));
}

/* Four blocks at once, whose divisions and sums then take the time of one; 0 if one of them is special. */
static inline int round128(pg_q8 *y, int64_t step, const float *x)
{
    const __m128 amax = _mm_castsi128_ps(amax4(x)), most = _mm_set1_ps(127), inv = _mm_div_ps(most, amax);
    if (_mm_movemask_ps(_mm_cmplt_ps(inv, _mm_set1_ps(INFINITY))) != 15) return 0;
    if (_mm_movemask_ps(_mm_cmplt_ps(amax, _mm_set1_ps(INFINITY))) != 15) return 0;
    const __m128 d = _mm_div_ps(amax, most);
    float by[4];
    __m256i sums[4];
    __m128i low, sum;
    _mm_storeu_ps(by, inv);
    for (int b = 0; b < 4; b++) {
        const __m256i q = round_by(x + 32 * b, _mm256_set1_ps(by[b]));
        _mm256_storeu_si256((__m256i *)y[b * step].q, q);
        sums[b] = sums4(q);
    }
    add4(sums, &low, &sum);
    __m128 tail[4] = { d, _mm_mul_ps(d, _mm_cvtepi32_ps(sum)), _mm_castsi128_ps(sum), _mm_castsi128_ps(low) };
    _MM_TRANSPOSE4_PS(tail[0], tail[1], tail[2], tail[3]);
    for (int b = 0; b < 4; b++) _mm_storeu_ps(&y[b * step].d, tail[b]); /* d, ds, sum, low */
    return 1;
}

void pg_q8row_avx2(pg_q8 *y, int64_t step, const float *x, int64_t n)
{
    int64_t b = n / 32;
    for (; b >= 4; b -= 4, x += 128, y += 4 * step)
        if (!round128(y, step, x))
            for (int i = 0; i < 4; i++) round32(y + i * step, x + 32 * i);
    for (; b > 0; b--, x += 32, y += step) round32(y, x);
}
