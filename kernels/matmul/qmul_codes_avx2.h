/* qmul_codes_avx2: what the bytes of a packed block mean, 8 outputs a register.
 *
 * A format gives, for 32 columns (part s of its block) and the first or the second 8 outputs (h), eight registers of
 * codes (dword o of register j holds columns 4j .. 4j + 3 of output 8h + o), and the factors and minima of these
 * outputs. Codes have an offset where values are signed: value = d * (code - offset) + m. Layouts: unpack/panel.h over
 * the blocks that blocks.c defines. */
#ifndef PG_QMUL_CODES_AVX2_H
#define PG_QMUL_CODES_AVX2_H

#include "../simd.h"
#include "../unpack/blocks.h"
#include "matmul.h"

#define INLINE static inline __attribute__((always_inline))

/* Factors and minima of 8 outputs: [0] and [1] for 16 columns each, or [0] for all 32. */
typedef struct factors8 {
    __m256 d[2], m[2];
} factors8;

typedef void codes8_fn(__m256i c[8], const uint8_t *w, int s, int h);
typedef void factors8_fn(factors8 *f, const uint8_t *w, int s, int h);

/* Constant wherever it is inlined. */
typedef struct format8 {
    codes8_fn *codes;
    factors8_fn *factors;
    int bytes, head, parts; /* of a packed block, of its factors before w; times 32 columns */
    int offset;             /* of the codes */
    int fit;                /* so many registers of products may be added in 16 bits; 0: the codes are signed bytes */
    int by16, has_min;      /* d[0] and d[1] for 16 columns each; there is a minimum */
} format8;

INLINE __m256i dword8(const uint8_t *w, int u, int h)
{
    return load32(w + 64 * u + 32 * h);
}
INLINE __m256 halves8(const uint8_t *w, int h)
{
    return _mm256_cvtph_ps(load16(w + 16 * h));
}
INLINE __m256i and_all(__m256i v, int mask)
{
    return _mm256_and_si256(v, _mm256_set1_epi32(mask));
}
/* Byte i of each dword. */
INLINE __m256i byte_of(__m256i v, int i)
{
    return and_all(_mm256_srli_epi32(v, 8 * i), 255);
}
/* Bits at .. of each byte, `width` wide. */
INLINE __m256i field8(__m256i v, int at, int width)
{
    return _mm256_and_si256(at ? _mm256_srli_epi16(v, at) : v, _mm256_set1_epi8((char)((1 << width) - 1)));
}
/* a | b << by, where the bits of b stay inside their bytes. */
INLINE __m256i join(__m256i a, __m256i b, int by)
{
    return _mm256_or_si256(a, _mm256_slli_epi16(b, by));
}
INLINE __m256 whole_times(__m256i v, __m256 d)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps(v), d);
}
INLINE __m256 minus(__m256 v)
{
    return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f));
}

/* ---- blocks of 32 ------------------------------------------------------------------------------------------------- */

/* 16 bytes of nibbles from dword u on: the low ones are columns 0 .. 15, the high ones 16 .. 31. */
INLINE void nibbles8(__m256i c[8], const uint8_t *w, int u, int h)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        const __m256i v = dword8(w, u + j, h);
        c[j] = field8(v, 0, 4);
        c[j + 4] = field8(v, 4, 4);
    }
}

INLINE void look_up8(__m256i c[8], __m128i table)
{
    const __m256i t = _mm256_broadcastsi128_si256(table);
    UNROLL
    for (int j = 0; j < 8; j++) c[j] = _mm256_shuffle_epi8(t, c[j]);
}

INLINE void c_q8_0(__m256i c[8], const uint8_t *w, int s, int h)
{
    (void)s;
    UNROLL
    for (int j = 0; j < 8; j++) c[j] = dword8(w, j, h);
}
INLINE void c_q4_0(__m256i c[8], const uint8_t *w, int s, int h)
{
    (void)s;
    nibbles8(c, w, 0, h);
}
/* Dword 0 holds a fifth bit for each of 32 columns. */
INLINE void c_q5_0(__m256i c[8], const uint8_t *w, int s, int h)
{
    (void)s;
    const __m256i high = dword8(w, 0, h), first = _mm256_set1_epi32(0x08040201), second = _mm256_slli_epi32(first, 4);
    const __m256i byte = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    nibbles8(c, w, 1, h);
    UNROLL
    for (int j = 0; j < 8; j++) { /* byte j / 2 of each dword to all its bytes, then a bit of it to each */
        const __m256i spread = _mm256_shuffle_epi8(high, _mm256_add_epi8(byte, _mm256_set1_epi8((char)(j / 2))));
        const __m256i bit = j % 2 ? second : first;
        const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
        c[j] = _mm256_or_si256(c[j], _mm256_and_si256(set, _mm256_set1_epi8(16)));
    }
}
INLINE void c_iq4_nl(__m256i c[8], const uint8_t *w, int s, int h)
{
    (void)s;
    nibbles8(c, w, 0, h);
    look_up8(c, load16(pg_iq4_value));
}
INLINE void c_mxfp4(__m256i c[8], const uint8_t *w, int s, int h)
{
    (void)s;
    nibbles8(c, w, 0, h);
    look_up8(c, _mm_add_epi8(load16(pg_fp4_twice), _mm_set1_epi8(12)));
}

/* One f16 factor; a factor and a minimum. */
INLINE void f_half(factors8 *f, const uint8_t *w, int s, int h)
{
    (void)s;
    f->d[0] = halves8(w - 32, h);
}
INLINE void f_halves(factors8 *f, const uint8_t *w, int s, int h)
{
    (void)s;
    f->d[0] = halves8(w - 64, h);
    f->m[0] = halves8(w - 32, h);
}

/* pg_e8m0_half of 8 bytes. */
INLINE void f_mxfp4(factors8 *f, const uint8_t *w, int s, int h)
{
    (void)s;
    const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(w - 16 + 8 * h)));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    f->d[0] = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

/* ---- blocks of 256 ------------------------------------------------------------------------------------------------ */

/* Eight dwords from u on, a field of each byte. */
INLINE void fields8(__m256i c[8], const uint8_t *w, int u, int at, int width, int h)
{
    UNROLL
    for (int j = 0; j < 8; j++) c[j] = field8(dword8(w, u + j, h), at, width);
}
/* Adds a field of the eight dwords from u on, above bit `by`. */
INLINE void more_bits8(__m256i c[8], const uint8_t *w, int u, int at, int width, int by, int h)
{
    UNROLL
    for (int j = 0; j < 8; j++) { /* shifted once, from where it is to where it belongs */
        const __m256i v = dword8(w, u + j, h), mask = _mm256_set1_epi8((char)(((1 << width) - 1) << by));
        const __m256i there = at > by ? _mm256_srli_epi16(v, at - by) : at < by ? _mm256_slli_epi16(v, by - at) : v;
        c[j] = _mm256_or_si256(c[j], _mm256_and_si256(there, mask));
    }
}

INLINE void c_q2_k(__m256i c[8], const uint8_t *w, int s, int h)
{
    fields8(c, w, 4 + 8 * (s / 4), 2 * (s % 4), 2, h);
}
INLINE void f_q2_k(factors8 *f, const uint8_t *w, int s, int h)
{
    const __m256 by = halves8(w - 64, h), least = minus(halves8(w - 32, h));
    const __m256i all = dword8(w, s / 2, h);
    UNROLL
    for (int i = 0; i < 2; i++) {
        const int at = 8 * (2 * (s % 2) + i);
        f->d[i] = whole_times(and_all(_mm256_srli_epi32(all, at), 15), by);
        f->m[i] = whole_times(and_all(_mm256_srli_epi32(all, at + 4), 15), least);
    }
}

INLINE void c_q3_k(__m256i c[8], const uint8_t *w, int s, int h)
{
    fields8(c, w, 11 + 8 * (s / 4), 2 * (s % 4), 2, h);
    more_bits8(c, w, 3, s, 1, 2, h);
}
/* Scales 4i .. 4i + 3 are the nibbles i / 2 of dword i % 2 and, above them, bits 2i and 2i + 1 of dword 2. */
INLINE void f_q3_k(factors8 *f, const uint8_t *w, int s, int h)
{
    const int i = s / 2;
    const __m256i sc = join(field8(dword8(w, i % 2, h), 4 * (i / 2), 4), field8(dword8(w, 2, h), 2 * i, 2), 4);
    const __m256 by = halves8(w - 32, h);
    UNROLL
    for (int t = 0; t < 2; t++)
        f->d[t] = whole_times(_mm256_sub_epi32(byte_of(sc, 2 * (s % 2) + t), _mm256_set1_epi32(32)), by);
}

/* Q4_K, Q5_K: scales and minima of 6 bits. The first two dwords hold four each, and the top two bits of the other four,
 * whose low bits are in the third. */
INLINE void f_k4(factors8 *f, const uint8_t *w, int s, int h)
{
    const __m256i third = dword8(w, 2, h);
    __m256i v[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        const __m256i a = dword8(w, i, h);
        v[i] = s < 4 ? field8(a, 0, 6) : join(field8(third, 4 * i, 4), field8(a, 6, 2), 4);
    }
    f->d[0] = whole_times(byte_of(v[0], s % 4), halves8(w - 64, h));
    f->m[0] = whole_times(byte_of(v[1], s % 4), minus(halves8(w - 32, h)));
}
INLINE void c_q4_k(__m256i c[8], const uint8_t *w, int s, int h)
{
    fields8(c, w, 3 + 8 * (s / 2), 4 * (s % 2), 4, h);
}
INLINE void c_q5_k(__m256i c[8], const uint8_t *w, int s, int h)
{
    fields8(c, w, 11 + 8 * (s / 2), 4 * (s % 2), 4, h);
    more_bits8(c, w, 3, s, 1, 4, h);
}

INLINE void c_q6_k(__m256i c[8], const uint8_t *w, int s, int h)
{
    fields8(c, w, 4 + 24 * (s / 4) + 16 * (s % 2), 4 * (s % 4 / 2), 4, h);
    more_bits8(c, w, 12 + 24 * (s / 4), 2 * (s % 4), 2, 4, h);
}
INLINE void f_q6_k(factors8 *f, const uint8_t *w, int s, int h)
{
    UNROLL
    for (int i = 0; i < 2; i++) { /* signed bytes */
        const __m256i up = _mm256_slli_epi32(dword8(w, s / 2, h), 24 - 8 * (2 * (s % 2) + i));
        f->d[i] = whole_times(_mm256_srai_epi32(up, 24), halves8(w - 32, h));
    }
}

INLINE void c_iq4_xs(__m256i c[8], const uint8_t *w, int s, int h)
{
    nibbles8(c, w, 1 + 4 * s, h);
    look_up8(c, load16(pg_iq4_value));
}
INLINE void f_iq4_xs(factors8 *f, const uint8_t *w, int s, int h)
{
    const __m256i low = and_all(_mm256_srli_epi32(dword8(w, 0, h), 4 * s), 15);
    const __m256i high = and_all(_mm256_srli_epi32(_mm256_cvtepu16_epi32(load16(w - 32 + 16 * h)), 2 * s), 3);
    const __m256i sc = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
    f->d[0] = whole_times(_mm256_sub_epi32(sc, _mm256_set1_epi32(32)), halves8(w - 64, h));
}

/* Four rows of the grid, one a byte of dword 2s; dword 2s + 1: four times seven signs, then a scale. */
INLINE void c_iq2_xxs(__m256i c[8], const uint8_t *w, int s, int h)
{
    const __m256i index = dword8(w, 2 * s, h), word = dword8(w, 2 * s + 1, h), one = _mm256_set1_epi32(0x01010101);
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i row = _mm256_slli_epi32(byte_of(index, i), 1);
        __m256i sign = and_all(_mm256_srli_epi32(word, 7 * i), 127), odd = sign;
        odd = _mm256_xor_si256(odd, _mm256_srli_epi32(odd, 4)); /* the eighth makes their number even */
        odd = _mm256_xor_si256(odd, _mm256_srli_epi32(odd, 2));
        odd = _mm256_xor_si256(odd, _mm256_srli_epi32(odd, 1));
        sign = _mm256_or_si256(sign, _mm256_slli_epi32(and_all(odd, 1), 7));
        UNROLL
        for (int k = 0; k < 2; k++) {
            const __m256i four = and_all(_mm256_srli_epi32(sign, 4 * k), 15);
            /* bit b to byte b: the products of the four powers never meet */
            const __m256i bit = _mm256_and_si256(_mm256_mullo_epi32(four, _mm256_set1_epi32(0x00204081)), one);
            const __m256i all = _mm256_sub_epi8(_mm256_setzero_si256(), bit);
            const __m256i size = _mm256_i32gather_epi32((const int *)(const void *)pg_iq2_grid + k, row, 4);
            c[2 * i + k] = _mm256_sub_epi8(_mm256_xor_si256(size, all), all);
        }
    }
}
INLINE void f_iq2_xxs(factors8 *f, const uint8_t *w, int s, int h)
{
    const __m256i odd = _mm256_or_si256(_mm256_srli_epi32(dword8(w, 2 * s + 1, h), 27), _mm256_set1_epi32(1));
    f->d[0] = whole_times(odd, _mm256_mul_ps(halves8(w - 32, h), _mm256_set1_ps(0.125f)));
}

/* F(row, codes, factors, packed bytes, of them factors, parts, offset, fit, by16, has_min) */
#define FORMATS8(F)                                       \
    F(q8_0, q8_0, half, 544, 32, 1, 0, 0, 0, 0)           \
    F(q4_0, q4_0, half, 288, 32, 1, 8, 8, 0, 0)           \
    F(q4_1, q4_0, halves, 320, 64, 1, 0, 8, 0, 1)         \
    F(q5_0, q5_0, half, 352, 32, 1, 16, 4, 0, 0)          \
    F(q5_1, q5_0, halves, 384, 64, 1, 0, 4, 0, 1)         \
    F(q2_k, q2_k, q2_k, 1344, 64, 8, 0, 4, 1, 1)          \
    F(q3_k, q3_k, q3_k, 1760, 32, 8, 4, 4, 1, 0)          \
    F(q4_k, q4_k, k4, 2304, 64, 8, 0, 8, 0, 1)            \
    F(q5_k, q5_k, k4, 2816, 64, 8, 0, 4, 0, 1)            \
    F(q6_k, q6_k, q6_k, 3360, 32, 8, 32, 2, 1, 0)         \
    F(iq4_nl, iq4_nl, half, 288, 32, 1, 0, 0, 0, 0)       \
    F(iq4_xs, iq4_xs, iq4_xs, 2176, 64, 8, 0, 0, 0, 0)    \
    F(iq2_xxs, iq2_xxs, iq2_xxs, 1056, 32, 8, 0, 0, 0, 0) \
    F(mxfp4, mxfp4, mxfp4, 272, 16, 1, 12, 4, 0, 0)

#endif
