/* simd: small static inline helpers of the vector files: loads, folds, the exponential. x86-64 with AVX2 and FMA.
 *
 * Not here: what the bytes of a format mean (unpack/blocks_avx2.h). The names are bare, for nothing here is linked. */
#ifndef PG_SIMD_H
#define PG_SIMD_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* Before a loop of a small constant count whose arrays are meant to be registers, at -O2 too. */
#if defined __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline uint16_t load2(const void *p)
{
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static inline uint32_t load4(const void *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static inline __m128i load16(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}
static inline __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* 16 bytes, in both halves. */
static inline __m256i load16_twice(const void *p)
{
    return _mm256_broadcastsi128_si256(load16(p));
}

static inline float half_at(const void *p)
{
    return _cvtsh_ss(load2(p));
}

/* Sum of 8 lanes: 8 -> 4 -> 2 -> 1, lane j with j + half. */
static inline float fold8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

enum { FOLD_ADD, FOLD_MAX };

static inline __attribute__((always_inline)) __m256 join8(__m256 a, __m256 b, int how)
{
    return how == FOLD_ADD ? _mm256_add_ps(a, b) : _mm256_max_ps(a, b);
}

/* Number i of the result: the lanes of a[i] joined 8 -> 4 -> 2 -> 1, lane j with j + half; a transpose that adds. */
static inline __attribute__((always_inline)) __m256 fold8x8(const __m256 a[8], int how)
{
    __m256 half[4], pair[2];
    UNROLL
    for (int i = 0; i < 4; i++)
        half[i] =
            join8(_mm256_permute2f128_ps(a[i], a[i + 4], 0x20), _mm256_permute2f128_ps(a[i], a[i + 4], 0x31), how);
    UNROLL
    for (int i = 0; i < 2; i++)
        pair[i] = join8(_mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0x44),
                        _mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0xee), how);
    return join8(_mm256_shuffle_ps(pair[0], pair[1], 0x88), _mm256_shuffle_ps(pair[0], pair[1], 0xdd), how);
}

/* exp of 8 numbers, relative error below 2e-7; overflow gives infinity, underflow is gradual, NaN stays NaN.
 * x = n ln 2 + r with |r| <= ln 2 / 2; exp r by its Taylor polynomial, whose rest is below r^8 / 8! = 6e-9; 2^n in two
 * steps, since n reaches from -150 to 128. */
static inline __m256 exp8(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-104.0f), x); /* a NaN comes out as the second operand */
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), x);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), 0x08); /* nearest, quiet */
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e43p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-0x1.05c61p-29f), r);
    static const float inverse[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }; /* 1 / k! */
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    for (int k = 0; k < 7; k++) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(inverse[k]));
    const __m256i whole = _mm256_cvtps_epi32(n), first = _mm256_srai_epi32(whole, 1);
    const __m256i second = _mm256_sub_epi32(whole, first), bias = _mm256_set1_epi32(127);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23)));
}

#if defined __AVX512F__
/* exp8 of 16 numbers that are not above 89, with the same bits. */
static inline __m512 exp16(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* a NaN comes out as the second operand */
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)), 0x08);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e43p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-0x1.05c61p-29f), r);
    static const float inverse[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }; /* 1 / k! */
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    UNROLL
    for (int k = 0; k < 7; k++) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(inverse[k]));
    return _mm512_scalef_ps(p, n);
}
#endif

/* Of 32 numbers the largest size in each of 8 places, as bits: those of a NaN are larger than any number's. */
static inline __m256i sizes32(const float *x)
{
    const __m256i rest = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) top = _mm256_max_epi32(top, _mm256_and_si256(load32(x + 8 * j), rest));
    return top;
}

/* Largest magnitude of 32 numbers, NaN if one of them is not finite: without their sign, floats order as integers. */
static inline float amax32(const float *x)
{
    const __m256i top = sizes32(x);
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    t = _mm_max_epi32(t, _mm_unpackhi_epi64(t, t));
    t = _mm_max_epi32(t, _mm_srli_epi64(t, 32));
    const int size = _mm_cvtsi128_si32(t);
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(size < 0x7f800000 ? size : 0x7fc00000)));
}

/* 4 x 8 integers of 32 bits, each within a byte, to 32 bytes in order. */
static inline __m256i narrow32(const __m256i q[4])
{
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

#endif
