/* blocks_avx2: the codes of quantised blocks, 32 at a time, as bytes in element order; and the packed factors.
 *
 * For unpack_avx2.c. Codes of formats with an offset come as stored (unsigned); subtracting it is the caller's.
 * Contracts and layouts: blocks.h. */
#ifndef PG_BLOCKS_AVX2_H
#define PG_BLOCKS_AVX2_H

#include "../simd.h"
#include "blocks.h"

/* 16 bytes -> 32 nibbles: the low ones, then the high ones. */
static inline __m256i nibbles(const uint8_t *qs)
{
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    return _mm256_and_si256(_mm256_srlv_epi32(load16_twice(qs), shift), _mm256_set1_epi8(15));
}

/* 32 bits -> 32 bytes, `value` where the bit is set. */
static inline __m256i bits(const uint8_t *w, int8_t value)
{
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i mask = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load4(w)), byte);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, mask), mask), _mm256_set1_epi8(value));
}

/* Bits at .. at + width - 1 of each byte. */
static inline __m256i field(const uint8_t *w, int at, int width)
{
    return _mm256_and_si256(_mm256_srli_epi16(load32(w), at), _mm256_set1_epi8((char)((1 << width) - 1)));
}

static inline __m256i look_up(const int8_t *table, __m256i code)
{
    return _mm256_shuffle_epi8(load16_twice(table), code);
}

/* Blocks of 32. */
static inline __m256i codes_q8_0(const uint8_t *w)
{
    return load32(w + 2);
}
static inline __m256i codes_q4_0(const uint8_t *w)
{
    return nibbles(w + 2);
}
static inline __m256i codes_q4_1(const uint8_t *w)
{
    return nibbles(w + 4);
}
static inline __m256i codes_q5_0(const uint8_t *w)
{
    return _mm256_or_si256(nibbles(w + 6), bits(w + 2, 16));
}
static inline __m256i codes_q5_1(const uint8_t *w)
{
    return _mm256_or_si256(nibbles(w + 8), bits(w + 4, 16));
}
static inline __m256i codes_iq4_nl(const uint8_t *w)
{
    return look_up(pg_iq4_value, nibbles(w + 2));
}
static inline __m256i codes_mxfp4(const uint8_t *w)
{
    return look_up(pg_fp4_twice, nibbles(w + 1));
}

/* Blocks of 256: codes 32 * j .. 32 * j + 31. */
static inline __m256i codes_q2_k(const uint8_t *w, int j)
{
    return field(w + 16 + 32 * (j / 4), 2 * (j % 4), 2);
}
static inline __m256i codes_q3_k(const uint8_t *w, int j)
{
    const __m256i high = _mm256_slli_epi16(field(w, j, 1), 2);
    return _mm256_or_si256(field(w + 32 + 32 * (j / 4), 2 * (j % 4), 2), high);
}
static inline __m256i codes_q4_k(const uint8_t *w, int j)
{
    return field(w + 16 + 32 * (j / 2), 4 * (j % 2), 4);
}
static inline __m256i codes_q5_k(const uint8_t *w, int j)
{
    const __m256i high = _mm256_slli_epi16(field(w + 16, j, 1), 4);
    return _mm256_or_si256(field(w + 48 + 32 * (j / 2), 4 * (j % 2), 4), high);
}
static inline __m256i codes_q6_k(const uint8_t *w, int j)
{
    const __m256i high = _mm256_slli_epi16(field(w + 128 + 32 * (j / 4), 2 * (j % 4), 2), 4);
    return _mm256_or_si256(field(w + 64 * (j / 4) + 32 * (j % 2), 4 * (j % 4 / 2), 4), high);
}
static inline __m256i codes_iq4_xs(const uint8_t *w, int j)
{
    return look_up(pg_iq4_value, nibbles(w + 8 + 16 * j));
}

/* Q4_K, Q5_K: the 8 scales and the 8 minima, a byte each, out of the 12 bytes at s. */
static inline uint64_t k4_scales(const uint8_t *s)
{
    const uint32_t low = load4(s) & 0x3f3f3f3f;
    const uint32_t high = (load4(s + 8) & 0x0f0f0f0f) | (load4(s) >> 2 & 0x30303030);
    return low | (uint64_t)high << 32;
}
static inline uint64_t k4_minima(const uint8_t *s)
{
    const uint32_t low = load4(s + 4) & 0x3f3f3f3f;
    const uint32_t high = (load4(s + 8) >> 4 & 0x0f0f0f0f) | (load4(s + 4) >> 2 & 0x30303030);
    return low | (uint64_t)high << 32;
}

/* 8 unsigned bytes as f32. */
static inline __m256 bytes_to_f32(uint64_t b)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b)));
}

/* Q3_K: the 16 scales, -32 .. 31, out of the 12 bytes at s. */
static inline __m128i q3_k_scales(const uint8_t *s)
{
    const __m128i nib = _mm_set1_epi8(15), top = _mm_set1_epi8(0x30);
    const __m128i byte = _mm_loadl_epi64((const __m128i *)s), rest = _mm_set1_epi32((int)load4(s + 8));
    const __m128i low = _mm_unpacklo_epi64(_mm_and_si128(byte, nib), _mm_and_si128(_mm_srli_epi16(byte, 4), nib));
    /* dword g takes bits 2g and 2g + 1 of each byte to places 4 and 5; a shift by 32 leaves nothing */
    const __m128i high = _mm_or_si128(_mm_sllv_epi32(rest, _mm_setr_epi32(4, 2, 0, 32)),
                                      _mm_srlv_epi32(rest, _mm_setr_epi32(32, 32, 32, 2)));
    return _mm_sub_epi8(_mm_or_si128(low, _mm_and_si128(high, top)), _mm_set1_epi8(32));
}

/* IQ4_XS: the 8 scales, -32 .. 31, as f32. */
static inline __m256 iq4_xs_scales(const uint8_t *w)
{
    const __m256i by4 = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28), by2 = _mm256_srli_epi32(by4, 1);
    const __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)load4(w + 4)), by4);
    const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(load2(w + 2)), by2);
    const __m256i sc = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                                       _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(sc, _mm256_set1_epi32(32)));
}

/* IQ2_XXS: the eight words of signs and scales, in order. */
static inline __m256i iq2_xxs_words(const uint8_t *w)
{
    const __m256 a = _mm256_castsi256_ps(load32(w + 2)), b = _mm256_castsi256_ps(load32(w + 34));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8);
}

/* The eight scales: the odd numbers 1 .. 31, as f32; an eighth of them is meant. */
static inline __m256 iq2_xxs_scales(__m256i word)
{
    return _mm256_cvtepi32_ps(_mm256_or_si256(_mm256_srli_epi32(word, 27), _mm256_set1_epi32(1)));
}

/* All signs, a bit an element: seven of each eight are stored, the last makes the number of ones even. */
static inline __m256i iq2_xxs_signs(__m256i word)
{
    const __m256i odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0)); /* of a nibble's bits */
    const __m256i nib = _mm256_set1_epi8(15);
    /* 28 bits in 32 become 14 in each 16, and these 7 in each 8 */
    const __m256i two = _mm256_or_si256(_mm256_and_si256(word, _mm256_set1_epi32(0x3fff)),
                                        _mm256_and_si256(_mm256_slli_epi32(word, 2), _mm256_set1_epi32(0x3fff0000)));
    const __m256i four = _mm256_or_si256(_mm256_and_si256(two, _mm256_set1_epi16(0x7f)),
                                         _mm256_and_si256(_mm256_slli_epi16(two, 1), _mm256_set1_epi16(0x7f00)));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(four, 4), nib);
    const __m256i parity =
        _mm256_xor_si256(_mm256_shuffle_epi8(odd, _mm256_and_si256(four, nib)), _mm256_shuffle_epi8(odd, high));
    return _mm256_or_si256(four, parity);
}

static inline int64_t iq2_xxs_row(uint8_t code)
{
    int64_t u;
    memcpy(&u, pg_iq2_grid[code], sizeof u);
    return u;
}

/* Magnitudes 32 * j .. 32 * j + 31. */
static inline __m256i iq2_xxs_sizes(const uint8_t *w, int j)
{
    const uint8_t *a = w + 2 + 8 * j;
    return _mm256_setr_epi64x(iq2_xxs_row(a[0]), iq2_xxs_row(a[1]), iq2_xxs_row(a[2]), iq2_xxs_row(a[3]));
}

/* v, negated where the bit of `signs` is set. */
static inline __m256i negate(__m256i v, const uint8_t *signs)
{
    const __m256i minus = bits(signs, -1);
    return _mm256_sub_epi8(_mm256_xor_si256(v, minus), minus);
}

#endif
