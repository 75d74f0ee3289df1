/* unpack, AVX2: 32 codes at a time (blocks_avx2.h), widened to f32, times the factor, plus the minimum. A product of
 * code and factor is exact, so a fused or a separate addition gives the same bits as the reference. */
#include "../cpu/isa.h"
#include "blocks_avx2.h"

#define INLINE static inline __attribute__((always_inline))

/* 16 signed codes: y = d * q, or d * q + m. */
INLINE void put16(float *y, __m128i q, __m256 d, __m256 m, int has_min)
{
    const __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
    const __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(q, q)));
    _mm256_storeu_ps(y, has_min ? _mm256_fmadd_ps(d, a, m) : _mm256_mul_ps(d, a));
    _mm256_storeu_ps(y + 8, has_min ? _mm256_fmadd_ps(d, b, m) : _mm256_mul_ps(d, b));
}

typedef __m256i codes_fn(const uint8_t *w);
typedef __m256i codes_at_fn(const uint8_t *w, int j);

/* Blocks of 32: an f16 factor, an f16 minimum after it if has_min. */
INLINE void unpack32(float *y, const uint8_t *w, int64_t n, int bytes, codes_fn *codes, int offset, int has_min)
{
    for (int64_t i = 0; i < n; i += 32, w += bytes) {
        const __m256 d = _mm256_set1_ps(half_at(w)), m = has_min ? _mm256_set1_ps(half_at(w + 2)) : d;
        const __m256i q = _mm256_sub_epi8(codes(w), _mm256_set1_epi8((char)offset));
        put16(y + i, _mm256_castsi256_si128(q), d, m, has_min);
        put16(y + i + 16, _mm256_extracti128_si256(q, 1), d, m, has_min);
    }
}

/* A block of 256 with its factors and minima, one each for 16. */
INLINE void unpack256(float *y, const uint8_t *w, codes_at_fn *codes, int offset, const float *d, const float *m)
{
    for (int j = 0; j < 8; j++) {
        const __m256i q = _mm256_sub_epi8(codes(w, j), _mm256_set1_epi8((char)offset));
        for (int k = 2 * j; k < 2 * j + 2; k++) {
            const __m128i half = k % 2 ? _mm256_extracti128_si256(q, 1) : _mm256_castsi256_si128(q);
            const __m256 min = m ? _mm256_set1_ps(m[k]) : _mm256_setzero_ps();
            put16(y + 16 * k, half, _mm256_set1_ps(d[k]), min, m != NULL);
        }
    }
}

/* 16 signed bytes times d, as f32. */
INLINE void scale16(float *y, __m128i s, float d)
{
    put16(y, s, _mm256_set1_ps(d), _mm256_setzero_ps(), 0);
}

/* 8 numbers, each twice. */
INLINE void twice8(float *y, __m256 v)
{
    const __m256 a = _mm256_unpacklo_ps(v, v), b = _mm256_unpackhi_ps(v, v);
    _mm256_storeu_ps(y, _mm256_permute2f128_ps(a, b, 0x20));
    _mm256_storeu_ps(y + 8, _mm256_permute2f128_ps(a, b, 0x31));
}

#define UNPACK32(name, bytes, offset, has_min)                       \
    void pg_unpack_##name##_avx2(float *y, const void *x, int64_t n) \
    {                                                                \
        unpack32(y, x, n, bytes, codes_##name, offset, has_min);     \
    }
UNPACK32(q8_0, 34, 0, 0)
UNPACK32(q4_0, 18, 8, 0)
UNPACK32(q4_1, 20, 0, 1)
UNPACK32(q5_0, 22, 16, 0)
UNPACK32(q5_1, 24, 0, 1)
UNPACK32(iq4_nl, 18, 0, 0)

void pg_unpack_mxfp4_avx2(float *y, const void *x, int64_t n)
{
    const uint8_t *w = x;
    for (int64_t i = 0; i < n; i += 32, w += 17) {
        const __m256 d = _mm256_set1_ps(pg_e8m0_half(w[0]));
        const __m256i q = codes_mxfp4(w);
        put16(y + i, _mm256_castsi256_si128(q), d, d, 0);
        put16(y + i + 16, _mm256_extracti128_si256(q, 1), d, d, 0);
    }
}

void pg_unpack_q2_k_avx2(float *y, const void *x, int64_t n)
{
    const __m128i low = _mm_set1_epi8(15);
    const uint8_t *w = x;
    for (int64_t i = 0; i < n; i += 256, w += 84) {
        float d[16], m[16];
        scale16(d, _mm_and_si128(load16(w), low), half_at(w + 80));
        scale16(m, _mm_and_si128(_mm_srli_epi16(load16(w), 4), low), -half_at(w + 82));
        unpack256(y + i, w, codes_q2_k, 0, d, m);
    }
}

void pg_unpack_q3_k_avx2(float *y, const void *x, int64_t n)
{
    const uint8_t *w = x;
    for (int64_t i = 0; i < n; i += 256, w += 110) {
        float d[16];
        scale16(d, q3_k_scales(w + 96), half_at(w + 108));
        unpack256(y + i, w, codes_q3_k, 4, d, NULL);
    }
}

/* Q4_K and Q5_K differ in the codes only. */
INLINE void unpack_k4(float *y, const uint8_t *w, int64_t n, int bytes, codes_at_fn *codes)
{
    for (int64_t i = 0; i < n; i += 256, w += bytes) {
        float d[16], m[16];
        twice8(d, _mm256_mul_ps(_mm256_set1_ps(half_at(w)), bytes_to_f32(k4_scales(w + 4))));
        twice8(m, _mm256_mul_ps(_mm256_set1_ps(-half_at(w + 2)), bytes_to_f32(k4_minima(w + 4))));
        unpack256(y + i, w, codes, 0, d, m);
    }
}

void pg_unpack_q4_k_avx2(float *y, const void *x, int64_t n)
{
    unpack_k4(y, x, n, 144, codes_q4_k);
}
void pg_unpack_q5_k_avx2(float *y, const void *x, int64_t n)
{
    unpack_k4(y, x, n, 176, codes_q5_k);
}

void pg_unpack_q6_k_avx2(float *y, const void *x, int64_t n)
{
    const uint8_t *w = x;
    for (int64_t i = 0; i < n; i += 256, w += 210) {
        float d[16];
        scale16(d, load16(w + 192), half_at(w + 208));
        unpack256(y + i, w, codes_q6_k, 32, d, NULL);
    }
}

void pg_unpack_iq4_xs_avx2(float *y, const void *x, int64_t n)
{
    const uint8_t *w = x;
    for (int64_t i = 0; i < n; i += 256, w += 136) {
        float d[16];
        twice8(d, _mm256_mul_ps(_mm256_set1_ps(half_at(w)), iq4_xs_scales(w)));
        unpack256(y + i, w, codes_iq4_xs, 0, d, NULL);
    }
}

void pg_unpack_iq2_xxs_avx2(float *y, const void *x, int64_t n)
{
    const uint8_t *w = x;
    for (int64_t i = 0; i < n; i += 256, w += 66) {
        const __m256i word = iq2_xxs_words(w);
        uint8_t signs[32];
        float d[8];
        _mm256_storeu_si256((__m256i *)signs, iq2_xxs_signs(word));
        _mm256_storeu_ps(d, _mm256_mul_ps(_mm256_set1_ps(half_at(w) / 8), iq2_xxs_scales(word)));
        for (int j = 0; j < 8; j++) {
            const __m256i q = negate(iq2_xxs_sizes(w, j), signs + 4 * j);
            const __m256 by = _mm256_set1_ps(d[j]);
            put16(y + i + 32 * j, _mm256_castsi256_si128(q), by, by, 0);
            put16(y + i + 32 * j + 16, _mm256_extracti128_si256(q, 1), by, by, 0);
        }
    }
}

void pg_unpack_f16_avx2(float *y, const void *x, int64_t n)
{
    const char *h = x;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_cvtph_ps(load16(h + 2 * i)));
    for (; i < n; i++) y[i] = half_at(h + 2 * i);
}

void pg_unpack_bf16_avx2(float *y, const void *x, int64_t n)
{
    const char *h = x;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i u = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(h + 2 * i)), 16);
        _mm256_storeu_ps(y + i, _mm256_castsi256_ps(u));
    }
    for (; i < n; i++) y[i] = pg_bf16_to_f32(load2(h + 2 * i));
}

/* E4M3 moved into the fields of f16 is 2^8 too small, subnormals included. */
void pg_unpack_fp8_avx2(float *y, const void *x, int64_t n)
{
    const uint8_t *b = x;
    const __m128i rest_mask = _mm_set1_epi16(0x7f), sign_mask = _mm_set1_epi16((short)0x8000);
    const __m256 factor = _mm256_set1_ps(256.0f);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i wide = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(b + i)));
        const __m128i rest = _mm_and_si128(wide, rest_mask);
        const __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(rest, rest_mask), _mm_set1_epi16(0x7e00));
        const __m128i sign = _mm_and_si128(_mm_slli_epi16(wide, 8), sign_mask);
        const __m128i half = _mm_or_si128(_mm_or_si128(sign, nan), _mm_slli_epi16(rest, 7));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtph_ps(half), factor));
    }
    for (; i < n; i++) y[i] = pg_fp8_to_f32(b[i]);
}

void pg_pack_f16_avx2(void *y, const float *x, int64_t n)
{
    char *h = y;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(h + 2 * i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) {
        const uint16_t u = pg_f32_to_f16(x[i]);
        memcpy(h + 2 * i, &u, 2);
    }
}

/* 8 numbers as bf16 in the low halves of 32 bits: pg_f32_to_bf16 without branches. */
INLINE __m256i bf16x8(const float *x)
{
    const __m256i u = load32(x), high = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256 v = _mm256_castsi256_ps(u);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
}

void pg_pack_bf16_avx2(void *y, const float *x, int64_t n)
{
    char *h = y;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i both = _mm256_packus_epi32(bf16x8(x + i), bf16x8(x + i + 8));
        _mm256_storeu_si256((__m256i *)(h + 2 * i), _mm256_permute4x64_epi64(both, 0xd8));
    }
    for (; i < n; i++) {
        const uint16_t u = pg_f32_to_bf16(x[i]);
        memcpy(h + 2 * i, &u, 2);
    }
}

/* The quotient rounded half away from zero, kept within +-127: the fraction is exact, so the tie is seen exactly. */
INLINE __m256i round_away(__m256 v)
{
    const __m256 sign = _mm256_and_ps(v, _mm256_set1_ps(-0.0f)), most = _mm256_set1_ps(127.0f);
    const __m256 size = _mm256_min_ps(_mm256_xor_ps(v, sign), most);
    const __m256 whole = _mm256_round_ps(size, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m256 tie = _mm256_cmp_ps(_mm256_sub_ps(size, whole), _mm256_set1_ps(0.5f), _CMP_GE_OQ);
    const __m256 up = _mm256_add_ps(whole, _mm256_and_ps(tie, _mm256_set1_ps(1.0f)));
    return _mm256_cvtps_epi32(_mm256_or_ps(up, sign));
}

void pg_pack_q8_0_avx2(void *y, const float *x, int64_t n)
{
    uint8_t *w = y;
    for (int64_t i = 0; i < n; i += 32, w += 34) {
        const float d = amax32(x + i) / 127.0f;
        const uint16_t h = pg_f32_to_f16(d);
        memcpy(w, &h, 2);
        __m256i q = _mm256_setzero_si256();
        if (d > 0) {
            const __m256 by = _mm256_set1_ps(d);
            __m256i part[4];
            for (int j = 0; j < 4; j++) part[j] = round_away(_mm256_div_ps(_mm256_loadu_ps(x + i + 8 * j), by));
            q = narrow32(part);
        }
        _mm256_storeu_si256((__m256i *)(w + 2), q);
    }
}
