/* qmul, AVX2: 32 columns of 8 outputs are eight registers of codes; they are decoded once and all rows stream past them.
 *
 * maddubs multiplies unsigned by signed bytes and adds pairs into 16 bits; as many registers of such pairs are added
 * there as cannot overflow, then they are widened. Codes with an offset go in as stored, and offset times the sum of
 * the activations is taken off; signed codes lend their sign to the activations. So every integer sum is exact. */
#include "../cpu/isa.h"
#include "qmul_codes_avx2.h"

/* Four activations, for all outputs. */
INLINE __m256i four(const pg_q8 *x, int j)
{
    return _mm256_set1_epi32((int)load4(x->q + 4 * j));
}

/* Products of register j, added in pairs. */
INLINE __m256i pairs(const __m256i c[8], const pg_q8 *x, int j, const format8 f)
{
    if (f.fit) return _mm256_maddubs_epi16(c[j], four(x, j));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(c[j]), _mm256_sign_epi8(four(x, j), c[j]));
}

/* sum of (code - offset) * q over registers first .. last - 1; sum: of those q. */
INLINE __m256i dot8(const __m256i c[8], const pg_q8 *x, int first, int last, int sum, const format8 f)
{
    const int step = f.fit ? f.fit : 1;
    __m256i total = _mm256_setzero_si256();
    UNROLL
    for (int j = first; j < last; j += step) {
        __m256i part = pairs(c, x, j, f);
        UNROLL
        for (int i = j + 1; i < j + step; i++) part = _mm256_add_epi16(part, pairs(c, x, i, f));
        part = _mm256_madd_epi16(part, _mm256_set1_epi16(1));
        total = j == first ? part : _mm256_add_epi32(total, part);
    }
    if (!f.offset) return total;
    /* a sum fits 16 bits, and what is above it meets a zero */
    return _mm256_sub_epi32(total, _mm256_madd_epi16(_mm256_set1_epi32(sum), _mm256_set1_epi32(f.offset)));
}

INLINE __m256 add_dot(__m256 y, __m256 d, const pg_q8 *x, __m256i dot)
{
    return _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(x->d)), _mm256_cvtepi32_ps(dot), y);
}

/* One row meets 32 columns. */
INLINE __m256 meet(__m256 y, const __m256i c[8], const factors8 *w, const pg_q8 *x, const format8 f)
{
    if (!f.by16) {
        y = add_dot(y, w->d[0], x, dot8(c, x, 0, 8, x->sum, f));
        return f.has_min ? _mm256_fmadd_ps(w->m[0], _mm256_set1_ps(x->ds), y) : y;
    }
    const int high = x->sum - x->low;
    y = add_dot(y, w->d[0], x, dot8(c, x, 0, 4, x->low, f));
    y = add_dot(y, w->d[1], x, dot8(c, x, 4, 8, high, f));
    if (!f.has_min) return y;
    y = _mm256_fmadd_ps(w->m[0], _mm256_set1_ps(x->d * (float)x->low), y);
    return _mm256_fmadd_ps(w->m[1], _mm256_set1_ps(x->d * (float)high), y);
}

/* All rows meet one packed block. */
INLINE void block(float *y, const uint8_t *w, const pg_q8 *x, int n_row, const format8 f)
{
    UNROLL
    for (int s = 0; s < f.parts; s++, x += n_row) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            __m256i c[8];
            factors8 by;
            f.codes(c, w + f.head, s, h);
            f.factors(&by, w + f.head, s, h);
            for (int r = 0; r < n_row; r++) {
                float *to = y + 16 * r + 8 * h;
                _mm256_storeu_ps(to, meet(_mm256_loadu_ps(to), c, &by, x + r, f));
            }
        }
    }
}

INLINE void qmul(float *y, const uint8_t *w, const pg_q8 *x, int n_row, int64_t k, const format8 f)
{
    if (n_row == 1) { /* its sums stay in registers */
        float sum[16] = { 0 };
        for (; k > 0; k -= 32 * f.parts, w += f.bytes, x += f.parts) block(sum, w, x, 1, f);
        memcpy(y, sum, sizeof sum);
        return;
    }
    memset(y, 0, (size_t)n_row * PG_PANEL * sizeof *y);
    for (; k > 0; k -= 32 * f.parts, w += f.bytes, x += (int64_t)f.parts * n_row) block(y, w, x, n_row, f);
}

#define F(row, codes, factors, bytes, head, parts, offset, fit, by16, has_min)                     \
    void pg_qmul_##row##_avx2(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k)   \
    {                                                                                              \
        qmul(y, panel, x, n_row, k,                                                                \
             (format8){ c_##codes, f_##factors, bytes, head, parts, offset, fit, by16, has_min }); \
    }
FORMATS8(F)
