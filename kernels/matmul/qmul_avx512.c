/* qmul, AVX-512 with VNNI: 32 columns of 16 outputs are eight registers of codes; they are decoded once and all rows
 * stream past them, one product instruction for 64 weights. A row's 16 sums are one register; rows wait for nobody, so
 * the processor overlaps their chains. Weights are read forward, which the processor's own prefetch
 * follows up to the speed of memory; asking for lines ahead only slowed that down. */
#include "../cpu/isa.h"
#include "qmul_codes_avx512.h"

/* sum of (code - offset) * q over registers first .. last - 1; sum: of those q. */
INLINE __m512i dot16(const __m512i c[8], const pg_q8 *x, int first, int last, int sum, int offset)
{
    __m512i s = offset ? _mm512_set1_epi32(-offset * sum) : _mm512_setzero_si512();
    UNROLL
    for (int j = first; j < last; j++) s = _mm512_dpbusd_epi32(s, c[j], _mm512_set1_epi32((int)load4(x->q + 4 * j)));
    return s;
}

INLINE __m512 add_dot(__m512 y, __m512 d, const pg_q8 *x, __m512i dot)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x->d)), _mm512_cvtepi32_ps(dot), y);
}

/* One row meets 32 columns. */
INLINE __m512 meet(__m512 y, const __m512i c[8], const __m512 d[2], const __m512 m[2], const pg_q8 *x,
                   const format512 f)
{
    if (!f.by16) {
        y = add_dot(y, d[0], x, dot16(c, x, 0, 8, x->sum, f.offset));
        return f.has_min ? _mm512_fmadd_ps(m[0], _mm512_set1_ps(x->ds), y) : y;
    }
    const int high = x->sum - x->low;
    y = add_dot(y, d[0], x, dot16(c, x, 0, 4, x->low, f.offset));
    y = add_dot(y, d[1], x, dot16(c, x, 4, 8, high, f.offset));
    if (!f.has_min) return y;
    y = _mm512_fmadd_ps(m[0], _mm512_set1_ps(x->d * (float)x->low), y);
    return _mm512_fmadd_ps(m[1], _mm512_set1_ps(x->d * (float)high), y);
}

/* Asks for half a block in ascending order: the processor's own prefetch follows that from memory, but not the order in
 * which mixed parts are read. Measured: Q6_K arrives 1.5 times as fast, Q4_K 1.05 times. */
INLINE void touch(const uint8_t *w, int s, const format512 f)
{
    for (int i = f.bytes * s / f.parts / 64; s % 4 == 0 && i < f.bytes * (s + 4) / f.parts / 64; i++)
        _mm_prefetch((const char *)w + 64 * i, _MM_HINT_T0);
}

INLINE void qmul(float *y, const uint8_t *w, const pg_q8 *x, int n_row, int64_t k, const format512 f)
{
    __m512i c[8];
    __m512 d[2], m[2];
    if (n_row == 1) { /* its sums stay in a register */
        __m512 sum = _mm512_setzero_ps();
        for (; k > 0; k -= 32 * f.parts, w += f.bytes) {
            UNROLL
            for (int s = 0; s < f.parts; s++, x++) {
                if (f.is_mixed) touch(w, s, f);
                f.codes(c, w + f.head, s);
                f.factors(d, m, w + f.head, s);
                sum = meet(sum, c, d, m, x, f);
            }
        }
        _mm512_storeu_ps(y, sum);
        return;
    }
    memset(y, 0, (size_t)n_row * PG_PANEL * sizeof *y);
    for (; k > 0; k -= 32 * f.parts, w += f.bytes) {
        UNROLL
        for (int s = 0; s < f.parts; s++, x += n_row) {
            f.codes(c, w + f.head, s);
            f.factors(d, m, w + f.head, s);
            for (int r = 0; r < n_row; r++)
                _mm512_storeu_ps(y + 16 * r, meet(_mm512_loadu_ps(y + 16 * r), c, d, m, x + r, f));
        }
    }
}

#define F(row, codes, factors, bytes, head, parts, offset, by16, has_min, is_mixed)                       \
    void pg_qmul_##row##_avx512(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k)        \
    {                                                                                                     \
        qmul(y, panel, x, n_row, k,                                                                       \
             (format512){ c_##codes, f_##factors, bytes, head, parts, offset, by16, has_min, is_mixed }); \
    }
FORMATS512(F)
