/* qmul_codes_avx2: what the bytes of a packed block mean, 8 outputs a register.
 *
 * For 32 columns (part s of a block) and the first or the second 8 outputs (h), a format gives eight registers of codes
 * (dword o of register j holds columns 4j .. 4j + 3 of output 8h + o) and the factors of these outputs. Codes are
 * unsigned. Where values are signed, codes have an offset, a power of two: value = d * (code - offset) + m; or, where
 * they need all 8 bits, a sign beside them. Layouts: unpack/panel.h over the blocks that blocks.c defines. */
#ifndef PG_QMUL_CODES_AVX2_H
#define PG_QMUL_CODES_AVX2_H

#include "../simd.h"
#include "../unpack/blocks.h"
#include "matmul.h"

#define INLINE static inline __attribute__((always_inline))

/* sign, in formats that have one: bytes below zero where the code is negative, above where not, any where it is 0. */
typedef struct code8 {
    __m256i c, sign;
} code8;

/* Factors and minima for 16 columns each, or [0] for all 32. */
typedef struct factors8 {
    __m256 d[2], m[2];
} factors8;

typedef code8 code8_fn(const uint8_t *w, int s, int h, int j);
typedef factors8 factors8_fn(const uint8_t *w, int s, int h);

/* How activations take the sign of a code: by a sign instruction, or by an exclusive or. */
enum { SIGN_TAKEN = 1, SIGN_FLIPS };

/* Constant wherever it is inlined. */
typedef struct format8 {
    code8_fn *code;
    factors8_fn *factors;
    int bytes, head;   /* of a packed block; of its factors, which are before w */
    int parts;         /* times 32 columns */
    int shift;         /* the codes' offset is 1 << shift; 0: none */
    int fit;           /* so many registers of products may be added in 16 bits */
    int sign;          /* 0: codes have none */
    int by16, has_min; /* factors and minima are for 16 columns; there is a minimum */
    int is_mixed;      /* the bits of one code come from places that are far apart */
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
/* Bits at .. of each byte, `width` wide, moved to bit `to`. */
INLINE __m256i field8(__m256i v, int at, int width, int to)
{
    const __m256i there = at > to ? _mm256_srli_epi16(v, at - to) : at < to ? _mm256_slli_epi16(v, to - at) : v;
    return _mm256_and_si256(there, _mm256_set1_epi8((char)(((1 << width) - 1) << to)));
}
INLINE __m256i look_up8(const int8_t *table, __m256i v)
{
    return _mm256_shuffle_epi8(load16_twice(table), v);
}
INLINE __m256 whole_times(__m256i v, __m256 d)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps(v), d);
}
INLINE __m256 minus(__m256 v)
{
    return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f));
}
INLINE code8 plain(__m256i v)
{
    return (code8){ .c = v };
}
INLINE code8 with_sign(__m256i v)
{
    return (code8){ _mm256_abs_epi8(v), v };
}

/* ---- blocks of 32 ------------------------------------------------------------------------------------------------ */

/* 16 bytes of nibbles from dword u on: the low ones are columns 0 .. 15, the high ones 16 .. 31. */
INLINE __m256i nibbles8(const uint8_t *w, int u, int h, int j)
{
    return field8(dword8(w, u + j % 4, h), 4 * (j / 4), 4, 0);
}

/* All ones in the bytes of those columns 4j .. 4j + 3 whose bit in the output's dword is set. */
INLINE __m256i bits8(__m256i v, int j)
{
    const __m256i byte = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    const __m256i spread = _mm256_shuffle_epi8(v, _mm256_add_epi8(byte, _mm256_set1_epi8((char)(j / 2))));
    const __m256i bit = _mm256_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201);
    return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
}

INLINE code8 c_q8_0(const uint8_t *w, int s, int h, int j)
{
    (void)s;
    return with_sign(dword8(w, j, h));
}
INLINE code8 c_q4_0(const uint8_t *w, int s, int h, int j)
{
    (void)s;
    return plain(nibbles8(w, 0, h, j));
}
/* Dword 0 holds a fifth bit for each of 32 columns. */
INLINE code8 c_q5_0(const uint8_t *w, int s, int h, int j)
{
    (void)s;
    const __m256i high = _mm256_and_si256(bits8(dword8(w, 0, h), j), _mm256_set1_epi8(16));
    return plain(_mm256_or_si256(nibbles8(w, 1, h, j), high));
}
INLINE code8 c_iq4_nl(const uint8_t *w, int s, int h, int j)
{
    (void)s;
    return with_sign(look_up8(pg_iq4_value, nibbles8(w, 0, h, j)));
}
INLINE code8 c_mxfp4(const uint8_t *w, int s, int h, int j)
{
    (void)s;
    static const int8_t table[16] = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 }; /* offset 16 */
    return plain(look_up8(table, nibbles8(w, 0, h, j)));
}

/* One f16 factor; a factor and a minimum. */
INLINE factors8 f_half(const uint8_t *w, int s, int h)
{
    (void)s;
    return (factors8){ .d = { halves8(w - 32, h) } };
}
INLINE factors8 f_halves(const uint8_t *w, int s, int h)
{
    (void)s;
    return (factors8){ .d = { halves8(w - 64, h) }, .m = { halves8(w - 32, h) } };
}

/* pg_e8m0_half of 8 bytes. */
INLINE factors8 f_mxfp4(const uint8_t *w, int s, int h)
{
    (void)s;
    const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(w - 16 + 8 * h)));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i least = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), _mm256_min_epi32(e, _mm256_set1_epi32(1)));
    return (factors8){ .d = { _mm256_castsi256_ps(_mm256_max_epi32(normal, least)) } }; /* subnormal: e = 0 and 1 */
}

/* ---- blocks of 256 ----------------------------------------------------------------------------------------------- */

INLINE code8 c_q2_k(const uint8_t *w, int s, int h, int j)
{
    return plain(field8(dword8(w, 4 + 8 * (s / 4) + j, h), 2 * (s % 4), 2, 0));
}
INLINE factors8 f_q2_k(const uint8_t *w, int s, int h)
{
    const __m256i all = _mm256_srli_epi32(dword8(w, s / 2, h), 16 * (s % 2));
    const __m256i low = field8(all, 0, 4, 0), high = field8(all, 4, 4, 0);
    const __m256 by = halves8(w - 64, h), least = minus(halves8(w - 32, h));
    return (factors8){ .d = { whole_times(byte_of(low, 0), by), whole_times(byte_of(low, 1), by) },
                       .m = { whole_times(byte_of(high, 0), least), whole_times(byte_of(high, 1), least) } };
}

INLINE code8 c_q3_k(const uint8_t *w, int s, int h, int j)
{
    const __m256i low = field8(dword8(w, 11 + 8 * (s / 4) + j, h), 2 * (s % 4), 2, 0);
    return plain(_mm256_or_si256(low, field8(dword8(w, 3 + j, h), s, 1, 2)));
}
/* Scales 4i .. 4i + 3 are the nibbles i / 2 of dword i % 2 and, above them, bits 2i and 2i + 1 of dword 2. */
INLINE factors8 f_q3_k(const uint8_t *w, int s, int h)
{
    const int i = s / 2, at = 2 * (s % 2);
    const __m256i low = field8(dword8(w, i % 2, h), 4 * (i / 2), 4, 0);
    const __m256i scale = _mm256_or_si256(low, field8(dword8(w, 2, h), 2 * i, 2, 4)), middle = _mm256_set1_epi32(32);
    const __m256 by = halves8(w - 32, h);
    return (factors8){ .d = { whole_times(_mm256_sub_epi32(byte_of(scale, at), middle), by),
                              whole_times(_mm256_sub_epi32(byte_of(scale, at + 1), middle), by) } };
}

/* Q4_K, Q5_K: scales and minima of 6 bits. The first two dwords hold four each, and the top two bits of the other four,
 * whose low bits are in the third. */
INLINE factors8 f_k4(const uint8_t *w, int s, int h)
{
    const __m256i third = dword8(w, 2, h);
    __m256i v[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        const __m256i a = dword8(w, i, h);
        v[i] = s < 4 ? field8(a, 0, 6, 0) : _mm256_or_si256(field8(third, 4 * i, 4, 0), field8(a, 6, 2, 4));
    }
    return (factors8){ .d = { whole_times(byte_of(v[0], s % 4), halves8(w - 64, h)) },
                       .m = { whole_times(byte_of(v[1], s % 4), minus(halves8(w - 32, h))) } };
}
INLINE code8 c_q4_k(const uint8_t *w, int s, int h, int j)
{
    return plain(field8(dword8(w, 3 + 8 * (s / 2) + j, h), 4 * (s % 2), 4, 0));
}
INLINE code8 c_q5_k(const uint8_t *w, int s, int h, int j)
{
    const __m256i low = field8(dword8(w, 11 + 8 * (s / 2) + j, h), 4 * (s % 2), 4, 0);
    return plain(_mm256_or_si256(low, field8(dword8(w, 3 + j, h), s, 1, 4)));
}

INLINE code8 c_q6_k(const uint8_t *w, int s, int h, int j)
{
    const __m256i low = field8(dword8(w, 4 + 24 * (s / 4) + 16 * (s % 2) + j, h), 4 * (s % 4 / 2), 4, 0);
    return plain(_mm256_or_si256(low, field8(dword8(w, 12 + 24 * (s / 4) + j, h), 2 * (s % 4), 2, 4)));
}
INLINE factors8 f_q6_k(const uint8_t *w, int s, int h)
{
    const __m256i all = dword8(w, s / 2, h); /* signed bytes: up to the top, and down again */
    const __m256i a = _mm256_slli_epi32(all, 24 - 16 * (s % 2)), b = _mm256_slli_epi32(all, 16 - 16 * (s % 2));
    const __m256 by = halves8(w - 32, h);
    return (factors8){ .d = { whole_times(_mm256_srai_epi32(a, 24), by), whole_times(_mm256_srai_epi32(b, 24), by) } };
}

INLINE code8 c_iq4_xs(const uint8_t *w, int s, int h, int j)
{
    return with_sign(look_up8(pg_iq4_value, nibbles8(w, 1 + 4 * s, h, j)));
}
INLINE factors8 f_iq4_xs(const uint8_t *w, int s, int h)
{
    const __m256i low = and_all(_mm256_srli_epi32(dword8(w, 0, h), 4 * s), 15);
    const __m256i high = and_all(_mm256_srli_epi32(_mm256_cvtepu16_epi32(load16(w - 32 + 16 * h)), 2 * s), 3);
    const __m256i scale = _mm256_sub_epi32(_mm256_or_si256(low, _mm256_slli_epi32(high, 4)), _mm256_set1_epi32(32));
    return (factors8){ .d = { whole_times(scale, halves8(w - 64, h)) } };
}

/* IQ2_XXS: all signs, a bit a column: seven of each eight are stored, the last makes the number of ones even. */
INLINE __m256i iq2_signs(__m256i word)
{
    static const int8_t odd[16] = { 0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0 };
    /* 28 bits in 32 become 14 in each 16, and these 7 in each 8 */
    const __m256i two = _mm256_or_si256(and_all(word, 0x3fff), and_all(_mm256_slli_epi32(word, 2), 0x3fff0000));
    const __m256i seven = _mm256_or_si256(and_all(two, 0x007f007f), and_all(_mm256_slli_epi16(two, 1), 0x7f007f00));
    const __m256i low = look_up8(odd, field8(seven, 0, 4, 0)), high = look_up8(odd, field8(seven, 4, 4, 0));
    return _mm256_or_si256(seven, _mm256_xor_si256(low, high));
}

/* Four rows of the grid. */
INLINE __m256 grid_rows(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    int64_t v[4];
    memcpy(v + 0, pg_iq2_grid[a], 8);
    memcpy(v + 1, pg_iq2_grid[b], 8);
    memcpy(v + 2, pg_iq2_grid[c], 8);
    memcpy(v + 3, pg_iq2_grid[d], 8);
    return _mm256_castsi256_ps(_mm256_setr_epi64x(v[0], v[1], v[2], v[3]));
}

/* Dword 2s: four rows of the grid, a byte each; dword 2s + 1: four times seven signs, then a scale. */
INLINE code8 c_iq2_xxs(const uint8_t *w, int s, int h, int j)
{
    const uint8_t *row = w + 128 * s + 32 * h + j / 2;
    const __m256 a = grid_rows(row[0], row[4], row[16], row[20]), b = grid_rows(row[8], row[12], row[24], row[28]);
    const __m256i minuses = bits8(iq2_signs(dword8(w, 2 * s + 1, h)), j);
    return (code8){ _mm256_castps_si256(j % 2 ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0x88)),
                    _mm256_or_si256(minuses, _mm256_set1_epi8(1)) };
}
INLINE factors8 f_iq2_xxs(const uint8_t *w, int s, int h)
{
    const __m256i odd = _mm256_or_si256(_mm256_srli_epi32(dword8(w, 2 * s + 1, h), 27), _mm256_set1_epi32(1));
    return (factors8){ .d = { whole_times(odd, _mm256_mul_ps(halves8(w - 32, h), _mm256_set1_ps(0.125f))) } };
}

/* F(row, code, factors, packed bytes, of them factors, parts, shift, fit, sign, by16, has_min, is_mixed).
 * fit: a code of at most c meets two activations of -127 .. 127 (-128 .. 126 when flipped), so fit * 2 * 127 * c is
 * below 32768. */
#define FORMATS8(F)                                                      \
    F(q8_0, q8_0, half, 544, 32, 1, 0, 1, SIGN_TAKEN, 0, 0, 0)           \
    F(q4_0, q4_0, half, 288, 32, 1, 3, 8, 0, 0, 0, 0)                    \
    F(q4_1, q4_0, halves, 320, 64, 1, 0, 8, 0, 0, 1, 0)                  \
    F(q5_0, q5_0, half, 352, 32, 1, 4, 4, 0, 0, 0, 0)                    \
    F(q5_1, q5_0, halves, 384, 64, 1, 0, 4, 0, 0, 1, 0)                  \
    F(q2_k, q2_k, q2_k, 1344, 64, 8, 0, 4, 0, 1, 1, 0)                   \
    F(q3_k, q3_k, q3_k, 1760, 32, 8, 2, 4, 0, 1, 0, 0)                   \
    F(q4_k, q4_k, k4, 2304, 64, 8, 0, 8, 0, 0, 1, 0)                     \
    F(q5_k, q5_k, k4, 2816, 64, 8, 0, 4, 0, 0, 1, 1)                     \
    F(q6_k, q6_k, q6_k, 3360, 32, 8, 5, 2, 0, 1, 0, 1)                   \
    F(iq4_nl, iq4_nl, half, 288, 32, 1, 0, 1, SIGN_TAKEN, 0, 0, 0)       \
    F(iq4_xs, iq4_xs, iq4_xs, 2176, 64, 8, 0, 1, SIGN_TAKEN, 0, 0, 0)    \
    F(iq2_xxs, iq2_xxs, iq2_xxs, 1056, 32, 8, 0, 2, SIGN_TAKEN, 0, 0, 0) \
    F(mxfp4, mxfp4, mxfp4, 272, 16, 1, 4, 4, 0, 0, 0, 0)

#endif
