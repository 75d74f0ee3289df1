/* qmul_codes_avx512: what the bytes of a packed block mean, 16 outputs a register. Shared by the AVX-512 and AMX variants.
 *
 * A format gives, for 32 columns (part s of its block), eight registers of unsigned codes (dword o of register j holds
 * columns 4j .. 4j + 3 of output o), and the factors and minima of the 16 outputs. Codes have an offset where values are
 * signed: value = d * (code - offset) + m. Layouts: unpack/panel.h over the blocks that blocks.c defines. */
#ifndef PG_QMUL_CODES_AVX512_H
#define PG_QMUL_CODES_AVX512_H

#include "../simd.h"
#include "../unpack/blocks.h"
#include "matmul.h"

#define INLINE static inline __attribute__((always_inline))

typedef void codes512_fn(__m512i c[8], const uint8_t *w, int s);
typedef void factors512_fn(__m512 d[2], __m512 m[2], const uint8_t *w, int s);

/* Constant wherever it is inlined. */
typedef struct format512 {
    codes512_fn *codes;
    factors512_fn *factors;
    int bytes, head, parts; /* of a packed block, of its factors before w; times 32 columns */
    int offset;             /* of the codes */
    int by16, has_min;      /* d[0] and d[1] for 16 columns each, else d[0] for 32; m likewise */
    int is_mixed;           /* parts of a block are read with each other, not one after the other */
} format512;

INLINE __m512i dword(const uint8_t *w, int u)
{
    return _mm512_loadu_si512(w + 64 * u);
}
INLINE __m512i and_all(__m512i v, int mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi32(mask));
}
INLINE __m512 halves16(const uint8_t *w)
{
    return _mm512_cvtph_ps(load32(w));
}
/* Byte i of each dword. */
INLINE __m512i byte_of(__m512i v, int i)
{
    return and_all(_mm512_srli_epi32(v, (unsigned)(8 * i)), 255);
}
/* Bits at .. of each byte, `width` wide. */
INLINE __m512i field16(__m512i v, int at, int width)
{
    const __m512i mask = _mm512_set1_epi8((char)((1 << width) - 1));
    return _mm512_and_si512(at ? _mm512_srli_epi16(v, (unsigned)at) : v, mask);
}
/* a | b << by, where the bits of b stay inside their bytes. */
INLINE __m512i join(__m512i a, __m512i b, int by)
{
    return _mm512_or_si512(a, _mm512_slli_epi16(b, (unsigned)by));
}

/* ---- blocks of 32 --------------------------------------------------------------------------------------------------- */

/* 16 bytes of nibbles from dword u: low ones are columns 0 .. 15, high ones 16 .. 31. */
INLINE void nibbles16(__m512i c[8], const uint8_t *w, int u)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        const __m512i v = dword(w, u + j);
        c[j] = field16(v, 0, 4);
        c[j + 4] = field16(v, 4, 4);
    }
}

INLINE void look_up16(__m512i c[8], __m128i table)
{
    const __m512i t = _mm512_broadcast_i32x4(table);
    UNROLL
    for (int j = 0; j < 8; j++) c[j] = _mm512_shuffle_epi8(t, c[j]);
}

INLINE void c_q8_0(__m512i c[8], const uint8_t *w, int s)
{
    (void)s;
    UNROLL
    for (int j = 0; j < 8; j++) c[j] = _mm512_xor_si512(dword(w, j), _mm512_set1_epi8((char)0x80));
}
INLINE void c_q4_0(__m512i c[8], const uint8_t *w, int s)
{
    (void)s;
    nibbles16(c, w, 0);
}
/* Dword 0 holds a fifth bit for each of 32 columns. */
INLINE void c_q5_0(__m512i c[8], const uint8_t *w, int s)
{
    (void)s;
    const __m512i high = dword(w, 0), first = _mm512_set1_epi32(0x08040201), second = _mm512_set1_epi32(0x80402010u);
    nibbles16(c, w, 1);
    UNROLL
    for (int j = 0; j < 8; j++) { /* byte j / 2 of each dword to all its bytes, then a bit of it to each */
        const __m512i spread = _mm512_shuffle_epi8(
            high, _mm512_add_epi8(_mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0), _mm512_set1_epi8(j / 2)));
        const __mmask64 set = _mm512_test_epi8_mask(spread, j % 2 ? second : first);
        c[j] = _mm512_mask_add_epi8(c[j], set, c[j], _mm512_set1_epi8(16));
    }
}
INLINE void c_iq4_nl(__m512i c[8], const uint8_t *w, int s)
{
    (void)s;
    nibbles16(c, w, 0);
    look_up16(c, _mm_xor_si128(load16(pg_iq4_value), _mm_set1_epi8((char)0x80)));
}
INLINE void c_mxfp4(__m512i c[8], const uint8_t *w, int s)
{
    (void)s;
    nibbles16(c, w, 0);
    look_up16(c, _mm_add_epi8(load16(pg_fp4_twice), _mm_set1_epi8(12)));
}

/* One f16 factor; a factor and a minimum. */
INLINE void f_half(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)m, (void)s;
    d[0] = halves16(w - 32);
}
INLINE void f_halves(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)s;
    d[0] = halves16(w - 64);
    m[0] = halves16(w - 32);
}

/* pg_e8m0_half of 16 bytes. */
INLINE void f_mxfp4(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)s, (void)m;
    const __m512i e = _mm512_cvtepu8_epi32(load16(w - 16));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    d[0] = _mm512_castsi512_ps(_mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), normal, tiny));
}

/* ---- blocks of 256 --------------------------------------------------------------------------------------------------- */

/* Eight dwords from u on, a field of each byte. */
INLINE void fields16(__m512i c[8], const uint8_t *w, int u, int at, int width)
{
    UNROLL
    for (int j = 0; j < 8; j++) c[j] = field16(dword(w, u + j), at, width);
}
/* Adds a field of the eight dwords from u on, above bit `by`. */
INLINE void more_bits16(__m512i c[8], const uint8_t *w, int u, int at, int width, int by)
{
    const __m512i mask = _mm512_set1_epi8((char)(((1 << width) - 1) << by));
    UNROLL
    for (int j = 0; j < 8; j++) {
        const __m512i v = dword(w, u + j);
        const __m512i high = at > by   ? _mm512_srli_epi16(v, (unsigned)(at - by))
                             : at < by ? _mm512_slli_epi16(v, (unsigned)(by - at))
                                       : v;
        c[j] = _mm512_or_si512(c[j], _mm512_and_si512(high, mask));
    }
}

INLINE __m512 whole_times(__m512i v, __m512 d)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps(v), d);
}

INLINE void c_q2_k(__m512i c[8], const uint8_t *w, int s)
{
    fields16(c, w, 4 + 8 * (s / 4), 2 * (s % 4), 2);
}
INLINE void f_q2_k(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    const __m512 by = halves16(w - 64), least = _mm512_sub_ps(_mm512_setzero_ps(), halves16(w - 32));
    UNROLL
    for (int i = 0; i < 2; i++) {
        const __m512i sc = byte_of(dword(w, s / 2), 2 * (s % 2) + i);
        d[i] = whole_times(and_all(sc, 15), by);
        m[i] = whole_times(_mm512_srli_epi32(sc, 4), least);
    }
}

INLINE void c_q3_k(__m512i c[8], const uint8_t *w, int s)
{
    fields16(c, w, 11 + 8 * (s / 4), 2 * (s % 4), 2);
    more_bits16(c, w, 3, s, 1, 2);
}
/* Scales 4i .. 4i + 3 are the nibbles i / 2 of dword i % 2 and, above them, bits 2i and 2i + 1 of dword 2. */
INLINE void f_q3_k(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)m;
    const int i = s / 2;
    const __m512i sc = join(field16(dword(w, i % 2), 4 * (i / 2), 4), field16(dword(w, 2), 2 * i, 2), 4);
    const __m512 by = halves16(w - 32);
    UNROLL
    for (int k = 0; k < 2; k++)
        d[k] = whole_times(_mm512_sub_epi32(byte_of(sc, 2 * (s % 2) + k), _mm512_set1_epi32(32)), by);
}

/* Q4_K, Q5_K: 6-bit scales and minima; bytes 0 .. 3 of the first two dwords hold four each, with the top bits of those
 * whose low bits are in the third. */
INLINE void f_k4(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    const __m512i third = dword(w, 2);
    __m512i v[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        const __m512i a = dword(w, i);
        v[i] = s < 4 ? field16(a, 0, 6) : join(field16(third, 4 * i, 4), field16(a, 6, 2), 4);
    }
    d[0] = whole_times(byte_of(v[0], s % 4), halves16(w - 64));
    m[0] = whole_times(byte_of(v[1], s % 4), _mm512_sub_ps(_mm512_setzero_ps(), halves16(w - 32)));
}
INLINE void c_q4_k(__m512i c[8], const uint8_t *w, int s)
{
    fields16(c, w, 3 + 8 * (s / 2), 4 * (s % 2), 4);
}
INLINE void c_q5_k(__m512i c[8], const uint8_t *w, int s)
{
    fields16(c, w, 11 + 8 * (s / 2), 4 * (s % 2), 4);
    more_bits16(c, w, 3, s, 1, 4);
}

INLINE void c_q6_k(__m512i c[8], const uint8_t *w, int s)
{
    fields16(c, w, 4 + 24 * (s / 4) + 16 * (s % 2), 4 * (s % 4 / 2), 4);
    more_bits16(c, w, 12 + 24 * (s / 4), 2 * (s % 4), 2, 4);
}
INLINE void f_q6_k(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)m;
    UNROLL
    for (int i = 0; i < 2; i++) { /* signed bytes */
        const __m512i up = _mm512_slli_epi32(dword(w, s / 2), (unsigned)(24 - 8 * (2 * (s % 2) + i)));
        d[i] = whole_times(_mm512_srai_epi32(up, 24), halves16(w - 32));
    }
}

INLINE void c_iq4_xs(__m512i c[8], const uint8_t *w, int s)
{
    nibbles16(c, w, 1 + 4 * s);
    look_up16(c, _mm_xor_si128(load16(pg_iq4_value), _mm_set1_epi8((char)0x80)));
}
INLINE void f_iq4_xs(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)m;
    const __m512i low = and_all(_mm512_srli_epi32(dword(w, 0), (unsigned)(4 * s)), 15);
    const __m512i high = and_all(_mm512_srli_epi32(_mm512_cvtepu16_epi32(load32(w - 32)), (unsigned)(2 * s)), 3);
    const __m512i sc = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
    d[0] = whole_times(_mm512_sub_epi32(sc, _mm512_set1_epi32(32)), halves16(w - 64));
}

/* Four rows of the grid, one a byte of dword 2s; dword 2s + 1: four times seven signs, then a scale. */
INLINE void c_iq2_xxs(__m512i c[8], const uint8_t *w, int s)
{
    const __m512i index = dword(w, 2 * s), word = dword(w, 2 * s + 1), one = _mm512_set1_epi32(0x01010101);
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m512i row = _mm512_slli_epi32(byte_of(index, i), 1);
        __m512i minus = and_all(_mm512_srli_epi32(word, (unsigned)(7 * i)), 127), odd = minus;
        odd = _mm512_xor_si512(odd, _mm512_srli_epi32(odd, 4)); /* the eighth makes their number even */
        odd = _mm512_xor_si512(odd, _mm512_srli_epi32(odd, 2));
        odd = _mm512_xor_si512(odd, _mm512_srli_epi32(odd, 1));
        minus = _mm512_or_si512(minus, _mm512_slli_epi32(and_all(odd, 1), 7));
        UNROLL
        for (int k = 0; k < 2; k++) {
            const __m512i four = and_all(_mm512_srli_epi32(minus, (unsigned)(4 * k)), 15);
            /* bit b to byte b: the products of the four powers never meet */
            const __m512i bit = _mm512_and_si512(_mm512_mullo_epi32(four, _mm512_set1_epi32(0x00204081)), one);
            const __m512i all = _mm512_sub_epi8(_mm512_setzero_si512(), bit);
            const __m512i size = _mm512_i32gather_epi32(row, (const char *)pg_iq2_grid + 4 * k, 4);
            const __m512i value = _mm512_sub_epi8(_mm512_xor_si512(size, all), all);
            c[2 * i + k] = _mm512_add_epi8(value, _mm512_set1_epi8(43));
        }
    }
}
INLINE void f_iq2_xxs(__m512 d[2], __m512 m[2], const uint8_t *w, int s)
{
    (void)m;
    const __m512i odd = _mm512_or_si512(_mm512_srli_epi32(dword(w, 2 * s + 1), 27), _mm512_set1_epi32(1));
    d[0] = whole_times(odd, _mm512_mul_ps(halves16(w - 32), _mm512_set1_ps(0.125f)));
}

/* F(row, codes, factors, packed bytes, of them factors, parts, offset, by16, has_min, is_mixed) */
#define FORMATS512(F)                                      \
    F(q8_0, q8_0, half, 544, 32, 1, 128, 0, 0, 0)          \
    F(q4_0, q4_0, half, 288, 32, 1, 8, 0, 0, 0)            \
    F(q4_1, q4_0, halves, 320, 64, 1, 0, 0, 1, 0)          \
    F(q5_0, q5_0, half, 352, 32, 1, 16, 0, 0, 0)           \
    F(q5_1, q5_0, halves, 384, 64, 1, 0, 0, 1, 0)          \
    F(q2_k, q2_k, q2_k, 1344, 64, 8, 0, 1, 1, 1)           \
    F(q3_k, q3_k, q3_k, 1760, 32, 8, 4, 1, 0, 1)           \
    F(q4_k, q4_k, k4, 2304, 64, 8, 0, 0, 1, 1)             \
    F(q5_k, q5_k, k4, 2816, 64, 8, 0, 0, 1, 1)             \
    F(q6_k, q6_k, q6_k, 3360, 32, 8, 32, 1, 0, 1)          \
    F(iq4_nl, iq4_nl, half, 288, 32, 1, 128, 0, 0, 0)      \
    F(iq4_xs, iq4_xs, iq4_xs, 2176, 64, 8, 128, 0, 0, 0)   \
    F(iq2_xxs, iq2_xxs, iq2_xxs, 1056, 32, 8, 43, 0, 0, 0) \
    F(mxfp4, mxfp4, mxfp4, 272, 16, 1, 12, 0, 0, 0)

#endif
