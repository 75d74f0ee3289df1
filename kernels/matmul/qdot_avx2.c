/* qdot, AVX2: 8-bit products of a stored row with a rounded row.
 *
 * maddubs multiplies unsigned by signed bytes and adds pairs into 16 bits. Codes with an offset go in as stored and
 * the offset's own product is taken off, still in integers; signed codes lend their sign to the activations. The
 * largest pair, 2 * 128 * 127, stays inside 16 bits, so every integer sum is exact. */
#include "../cpu/isa.h"
#include "../unpack/blocks_avx2.h"

#define INLINE static inline __attribute__((always_inline))

/* Products of 32 codes with 32 activations, added in pairs: 16 sums of 16 bits. offset < 0: the codes are signed. */
INLINE __m256i pairs(__m256i code, __m256i x, int offset)
{
    if (offset < 0) return _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(x, code));
    const __m256i sum = _mm256_maddubs_epi16(code, x);
    return offset ? _mm256_sub_epi16(sum, _mm256_maddubs_epi16(_mm256_set1_epi8((char)offset), x)) : sum;
}

/* 16 numbers of 16 bits added in pairs. */
INLINE __m256i widen(__m256i v)
{
    return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

/* acc += f * v */
INLINE __m256 add_scaled(__m256 acc, float f, __m256i v)
{
    return _mm256_fmadd_ps(_mm256_set1_ps(f), _mm256_cvtepi32_ps(v), acc);
}

/* --- blocks of 32, eight at a time: their factors are formed in one register --- */

typedef __m256i codes_fn(const uint8_t *w);
typedef __m256 factors_fn(const uint8_t *w, int bytes);

/* The f16 at w, w + bytes, .. of 8 blocks. */
INLINE __m256 halves(const uint8_t *w, int bytes)
{
    return _mm256_cvtph_ps(_mm_setr_epi16((short)load2(w), (short)load2(w + bytes), (short)load2(w + 2 * bytes),
                                          (short)load2(w + 3 * bytes), (short)load2(w + 4 * bytes),
                                          (short)load2(w + 5 * bytes), (short)load2(w + 6 * bytes),
                                          (short)load2(w + 7 * bytes)));
}

/* The E8M0 scales of 8 blocks, halved: pg_e8m0_half without branches. */
INLINE __m256 e8m0s(const uint8_t *w, int bytes)
{
    const __m256i e = _mm256_setr_epi32(w[0], w[bytes], w[2 * bytes], w[3 * bytes], w[4 * bytes], w[5 * bytes],
                                        w[6 * bytes], w[7 * bytes]);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

typedef struct sums {
    __m256 a, b, rest; /* two sums of products, since one would wait for its own latency; the minima */
} sums;

INLINE sums eight(sums s, const uint8_t *w, pg_q8 x, int bytes, codes_fn *codes, factors_fn *factors, int offset,
                  int has_min)
{
    const __m256 xd = _mm256_loadu_ps(x.d);
    float f[8];
    _mm256_storeu_ps(f, _mm256_mul_ps(factors(w, bytes), xd));
    if (has_min) {
        const __m256 isum = _mm256_cvtepi32_ps(widen(load32(x.isum)));
        s.rest = _mm256_fmadd_ps(_mm256_mul_ps(halves(w + 2, bytes), xd), isum, s.rest);
    }
    for (int i = 0; i < 8; i += 2) {
        const uint8_t *v = w + i * bytes;
        s.a = add_scaled(s.a, f[i], widen(pairs(codes(v), load32(x.q + 32 * i), offset)));
        s.b = add_scaled(s.b, f[i + 1], widen(pairs(codes(v + bytes), load32(x.q + 32 * i + 32), offset)));
    }
    return s;
}

INLINE float qdot32(const uint8_t *w, pg_q8 x, int64_t n, int bytes, codes_fn *codes, factors_fn *factors, int offset,
                    int has_min)
{
    sums s = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };
    int64_t left = n / 32;
    for (; left >= 8; left -= 8, w += 8 * bytes, x.q += 256, x.d += 8, x.isum += 16)
        s = eight(s, w, x, bytes, codes, factors, offset, has_min);
    if (left > 0) { /* zero blocks fill the eight up */
        uint8_t v[8 * 34] = { 0 };
        int8_t q[256] = { 0 };
        float d[8] = { 0 };
        int16_t isum[16] = { 0 };
        memcpy(v, w, (size_t)(left * bytes));
        memcpy(q, x.q, (size_t)(left * 32));
        memcpy(d, x.d, (size_t)left * sizeof *d);
        memcpy(isum, x.isum, (size_t)left * 2 * sizeof *isum);
        s = eight(s, v, (pg_q8){ q, d, isum }, bytes, codes, factors, offset, has_min);
    }
    return fold8(_mm256_add_ps(_mm256_add_ps(s.a, s.b), s.rest));
}

#define QDOT32(name, bytes, factors, offset, has_min)                          \
    float pg_qdot_##name##_avx2(const void *w, pg_q8 x, int64_t n)             \
    {                                                                          \
        return qdot32(w, x, n, bytes, codes_##name, factors, offset, has_min); \
    }
QDOT32(q8_0, 34, halves, -1, 0)
QDOT32(q4_0, 18, halves, 8, 0)
QDOT32(q4_1, 20, halves, 0, 1)
QDOT32(q5_0, 22, halves, 16, 0)
QDOT32(q5_1, 24, halves, 0, 1)
QDOT32(iq4_nl, 18, halves, -1, 0)
QDOT32(mxfp4, 17, e8m0s, -1, 0)

/* --- blocks of 256 --- */

typedef __m256i codes_at_fn(const uint8_t *w, int j);

/* Factors for each 32: sum over j of f[j] * products of sub-block j. */
INLINE __m256 block_by_32(const uint8_t *w, const int8_t *q, __m256 factor, codes_at_fn *codes, int offset)
{
    __m256 a = _mm256_setzero_ps(), b = a;
    float f[8];
    _mm256_storeu_ps(f, factor);
    for (int j = 0; j < 8; j += 2) {
        a = add_scaled(a, f[j], widen(pairs(codes(w, j), load32(q + 32 * j), offset)));
        b = add_scaled(b, f[j + 1], widen(pairs(codes(w, j + 1), load32(q + 32 * j + 32), offset)));
    }
    return _mm256_add_ps(a, b);
}

/* Integer scales for each 16, which the last integer step applies; a float factor for each 32. */
INLINE __m256 block_by_16(const uint8_t *w, const int8_t *q, __m256 factor, __m256i scale, codes_at_fn *codes,
                          int offset)
{
    const __m256i pick = _mm256_setr_epi64x(0x0100010001000100, 0x0100010001000100, 0x0302030203020302,
                                            0x0302030203020302); /* scale 2j to the low half, 2j + 1 to the high */
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    float f[8];
    int16_t sc[16];
    _mm256_storeu_ps(f, factor);
    _mm256_storeu_si256((__m256i *)sc, scale);
    for (int j = 0; j < 8; j++) {
        const __m256i by = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load4(sc + 2 * j)), pick);
        const __m256i dot = _mm256_madd_epi16(pairs(codes(w, j), load32(q + 32 * j), offset), by);
        sum[j % 2] = add_scaled(sum[j % 2], f[j], dot);
    }
    return _mm256_add_ps(sum[0], sum[1]);
}

float pg_qdot_q2_k_avx2(const void *data, pg_q8 x, int64_t n)
{
    const __m128i low = _mm_set1_epi8(15);
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 84) {
        const __m256 xd = _mm256_loadu_ps(x.d + i / 32);
        const __m256i sc = _mm256_cvtepi8_epi16(_mm_and_si128(load16(w), low));
        const __m256i m = _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(load16(w), 4), low));
        const __m256 d = _mm256_mul_ps(_mm256_set1_ps(half_at(w + 80)), xd);
        const __m256 dmin = _mm256_mul_ps(_mm256_set1_ps(half_at(w + 82)), xd);
        const __m256 rest = _mm256_cvtepi32_ps(_mm256_madd_epi16(m, load32(x.isum + i / 16)));
        acc = _mm256_add_ps(acc, block_by_16(w, x.q + i, d, sc, codes_q2_k, 0));
        acc = _mm256_fnmadd_ps(dmin, rest, acc);
    }
    return fold8(acc);
}

float pg_qdot_q3_k_avx2(const void *data, pg_q8 x, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 110) {
        const __m256 d = _mm256_mul_ps(_mm256_set1_ps(half_at(w + 108)), _mm256_loadu_ps(x.d + i / 32));
        const __m256i sc = _mm256_cvtepi8_epi16(q3_k_scales(w + 96));
        acc = _mm256_add_ps(acc, block_by_16(w, x.q + i, d, sc, codes_q3_k, 4));
    }
    return fold8(acc);
}

float pg_qdot_q6_k_avx2(const void *data, pg_q8 x, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 210) {
        const __m256 d = _mm256_mul_ps(_mm256_set1_ps(half_at(w + 208)), _mm256_loadu_ps(x.d + i / 32));
        const __m256i sc = _mm256_cvtepi8_epi16(load16(w + 192));
        acc = _mm256_add_ps(acc, block_by_16(w, x.q + i, d, sc, codes_q6_k, 32));
    }
    return fold8(acc);
}

/* Q4_K and Q5_K differ in the codes only. */
INLINE float qdot_k4(const uint8_t *w, pg_q8 x, int64_t n, int bytes, codes_at_fn *codes)
{
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += bytes) {
        const __m256 xd = _mm256_loadu_ps(x.d + i / 32);
        const __m256 d = _mm256_mul_ps(_mm256_set1_ps(half_at(w)), bytes_to_f32(k4_scales(w + 4)));
        const __m256 m = _mm256_mul_ps(_mm256_set1_ps(half_at(w + 2)), bytes_to_f32(k4_minima(w + 4)));
        acc = _mm256_add_ps(acc, block_by_32(w, x.q + i, _mm256_mul_ps(d, xd), codes, 0));
        const __m256 isum = _mm256_cvtepi32_ps(widen(load32(x.isum + i / 16)));
        acc = _mm256_fnmadd_ps(_mm256_mul_ps(m, xd), isum, acc);
    }
    return fold8(acc);
}

float pg_qdot_q4_k_avx2(const void *w, pg_q8 x, int64_t n)
{
    return qdot_k4(w, x, n, 144, codes_q4_k);
}
float pg_qdot_q5_k_avx2(const void *w, pg_q8 x, int64_t n)
{
    return qdot_k4(w, x, n, 176, codes_q5_k);
}

float pg_qdot_iq4_xs_avx2(const void *data, pg_q8 x, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 136) {
        const __m256 d = _mm256_mul_ps(_mm256_set1_ps(half_at(w)), iq4_xs_scales(w));
        const __m256 factor = _mm256_mul_ps(d, _mm256_loadu_ps(x.d + i / 32));
        acc = _mm256_add_ps(acc, block_by_32(w, x.q + i, factor, codes_iq4_xs, -1));
    }
    return fold8(acc);
}
