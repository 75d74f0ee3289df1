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

/* Sums of bytes 0 .. 15 and of 16 .. 31, in dwords 0 and 4. */
static inline __m256i sums16(__m256i q)
{
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    __m256i s = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    s = _mm256_add_epi32(s, _mm256_srli_si256(s, 8));
    return _mm256_add_epi32(s, _mm256_srli_si256(s, 4));
}

void pg_q8row_avx2(pg_q8 *y, int64_t step, const float *x, int64_t n)
{
    for (int64_t b = 0; b < n / 32; b++, x += 32, y += step) {
        const float amax = amax32(x), inv = 127.0f / amax;
        __m256i q = _mm256_setzero_si256();
        if (isfinite(inv)) {
            const __m256 by = _mm256_set1_ps(inv);
            __m256i part[4];
            for (int j = 0; j < 4; j++) part[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), by));
            q = narrow32(part);
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
}
