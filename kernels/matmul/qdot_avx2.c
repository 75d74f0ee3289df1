/* qdot, AVX2: 8-bit products of a stored row with a rounded row, eight times 32 columns at once.
 *
 * maddubs multiplies unsigned by signed bytes and adds pairs into 16 bits. Codes with an offset go in as stored, and
 * offset times the sum of the activations (isum) is taken off, still in integers; signed codes lend their sign to the
 * activations. The largest pair, 2 * 128 * 127, stays inside 16 bits, so every integer sum is exact. The sums of the
 * eight parts are brought into the eight lanes of one register, where the factors are applied. */
#include "../cpu/isa.h"
#include "../unpack/blocks_avx2.h"

#define INLINE static inline __attribute__((always_inline))

/* Products of 32 unsigned codes with 32 activations, added in pairs: 16 sums of 16 bits. */
INLINE __m256i pairs(__m256i code, const int8_t *x)
{
    return _mm256_maddubs_epi16(code, load32(x));
}

/* The same for signed codes. */
INLINE __m256i pairs_signed(__m256i code, const int8_t *x)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(load32(x), code));
}

/* 16 numbers of 16 bits added in pairs. */
INLINE __m256i widen(__m256i v)
{
    return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

/* Lane j of the result is the sum of v[j]. */
INLINE __m256i lanes(const __m256i v[8])
{
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* acc + f * v */
INLINE __m256 add_scaled(__m256 acc, __m256 f, __m256i v)
{
    return _mm256_fmadd_ps(f, _mm256_cvtepi32_ps(v), acc);
}

/* --- blocks of 32 --- */

typedef __m256i codes_fn(const uint8_t *w);
typedef __m256i pairs_fn(__m256i code, const int8_t *x);
typedef __m256 factors_fn(const uint8_t *w, int bytes);

/* A format: its codes, how they meet the activations, its factors; what is stored beyond the value of a code; whether
 * an f16 minimum follows the factor. Constant wherever this is inlined. */
typedef struct format {
    int bytes;
    codes_fn *codes;
    pairs_fn *pairs;
    factors_fn *factors;
    int offset, has_min;
} format;

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

INLINE __m256 eight(__m256 acc, const uint8_t *w, pg_q8 x, const format f)
{
    __m256i v[8];
    UNROLL
    for (int i = 0; i < 8; i++) v[i] = widen(f.pairs(f.codes(w + i * f.bytes), x.q + 32 * i));
    __m256i dot = lanes(v);
    const __m256 xd = _mm256_loadu_ps(x.d);
    if (f.offset) dot = _mm256_sub_epi32(dot, _mm256_madd_epi16(load32(x.isum), _mm256_set1_epi16((short)f.offset)));
    if (f.has_min) acc = add_scaled(acc, _mm256_mul_ps(halves(w + 2, f.bytes), xd), widen(load32(x.isum)));
    return add_scaled(acc, _mm256_mul_ps(f.factors(w, f.bytes), xd), dot);
}

INLINE float qdot32(const uint8_t *w, pg_q8 x, int64_t n, const format f)
{
    __m256 acc = _mm256_setzero_ps();
    int64_t left = n / 32;
    for (; left >= 8; left -= 8, w += 8 * f.bytes, x.q += 256, x.d += 8, x.isum += 16) acc = eight(acc, w, x, f);
    if (left > 0) { /* zero blocks fill the eight up */
        uint8_t v[8 * 34] = { 0 };
        int8_t q[256] = { 0 };
        float d[8] = { 0 };
        int16_t isum[16] = { 0 };
        memcpy(v, w, (size_t)(left * f.bytes));
        memcpy(q, x.q, (size_t)(left * 32));
        memcpy(d, x.d, (size_t)left * sizeof *d);
        memcpy(isum, x.isum, (size_t)left * 2 * sizeof *isum);
        acc = eight(acc, v, (pg_q8){ q, d, isum }, f);
    }
    return fold8(acc);
}

#define QDOT32(name, bytes, pairs, factors, offset, has_min)                                      \
    float pg_qdot_##name##_avx2(const void *w, pg_q8 x, int64_t n)                                \
    {                                                                                             \
        return qdot32(w, x, n, (format){ bytes, codes_##name, pairs, factors, offset, has_min }); \
    }
QDOT32(q8_0, 34, pairs_signed, halves, 0, 0)
QDOT32(q4_0, 18, pairs, halves, 8, 0)
QDOT32(q4_1, 20, pairs, halves, 0, 1)
QDOT32(q5_0, 22, pairs, halves, 16, 0)
QDOT32(q5_1, 24, pairs, halves, 0, 1)
QDOT32(iq4_nl, 18, pairs_signed, halves, 0, 0)
QDOT32(mxfp4, 17, pairs_signed, e8m0s, 0, 0)

/* --- blocks of 256: eight parts of 32 each --- */

typedef __m256i codes_at_fn(const uint8_t *w, int j);

/* Formats with one factor for 32: the integer products of each part. */
INLINE __m256i parts_by_32(const uint8_t *w, const int8_t *q, codes_at_fn *codes, pairs_fn *mul)
{
    __m256i v[8];
    UNROLL
    for (int j = 0; j < 8; j++) v[j] = widen(mul(codes(w, j), q + 32 * j));
    return lanes(v);
}

/* Formats with an integer scale for each 16: it takes part in the last integer step. */
INLINE __m256i parts_by_16(const uint8_t *w, pg_q8 x, __m256i scale, codes_at_fn *codes, int offset)
{
    const __m256i pick = _mm256_setr_epi64x(0x0100010001000100, 0x0100010001000100, 0x0302030203020302,
                                            0x0302030203020302); /* scale 2j to the low half, 2j + 1 to the high */
    __m256i v[8];
    int16_t sc[16];
    _mm256_storeu_si256((__m256i *)sc, scale);
    UNROLL
    for (int j = 0; j < 8; j++) {
        const __m256i by = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load4(sc + 2 * j)), pick);
        v[j] = _mm256_madd_epi16(pairs(codes(w, j), x.q + 32 * j), by);
    }
    const __m256i extra = _mm256_madd_epi16(scale, load32(x.isum));
    return _mm256_sub_epi32(lanes(v), _mm256_mullo_epi32(extra, _mm256_set1_epi32(offset)));
}

/* The rounded row from column i on. */
INLINE pg_q8 at(pg_q8 x, int64_t i)
{
    return (pg_q8){ x.q + i, x.d + i / 32, x.isum + i / 16 };
}

/* The f16 at w times the eight factors of the activations. */
INLINE __m256 times_half(__m256 v, const uint8_t *w)
{
    return _mm256_mul_ps(_mm256_set1_ps(half_at(w)), v);
}

float pg_qdot_q2_k_avx2(const void *data, pg_q8 row, int64_t n)
{
    const __m128i low = _mm_set1_epi8(15);
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 84) {
        const pg_q8 x = at(row, i);
        const __m256 xd = _mm256_loadu_ps(x.d);
        const __m256i sc = _mm256_cvtepi8_epi16(_mm_and_si128(load16(w), low));
        const __m256i m = _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(load16(w), 4), low));
        const __m256i least = _mm256_madd_epi16(m, load32(x.isum));
        acc = add_scaled(acc, times_half(xd, w + 80), parts_by_16(w, x, sc, codes_q2_k, 0));
        acc = _mm256_fnmadd_ps(times_half(xd, w + 82), _mm256_cvtepi32_ps(least), acc);
    }
    return fold8(acc);
}

float pg_qdot_q3_k_avx2(const void *data, pg_q8 row, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 110) {
        const pg_q8 x = at(row, i);
        const __m256i sc = _mm256_cvtepi8_epi16(q3_k_scales(w + 96));
        const __m256 d = times_half(_mm256_loadu_ps(x.d), w + 108);
        acc = add_scaled(acc, d, parts_by_16(w, x, sc, codes_q3_k, 4));
    }
    return fold8(acc);
}

float pg_qdot_q6_k_avx2(const void *data, pg_q8 row, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 210) {
        const pg_q8 x = at(row, i);
        const __m256i sc = _mm256_cvtepi8_epi16(load16(w + 192));
        const __m256 d = times_half(_mm256_loadu_ps(x.d), w + 208);
        acc = add_scaled(acc, d, parts_by_16(w, x, sc, codes_q6_k, 32));
    }
    return fold8(acc);
}

/* Q4_K and Q5_K differ in the codes only. */
INLINE float qdot_k4(const uint8_t *w, pg_q8 row, int64_t n, int bytes, codes_at_fn *codes)
{
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += bytes) {
        const pg_q8 x = at(row, i);
        const __m256 xd = _mm256_loadu_ps(x.d);
        const __m256 d = _mm256_mul_ps(times_half(xd, w), bytes_to_f32(k4_scales(w + 4)));
        const __m256 m = _mm256_mul_ps(times_half(xd, w + 2), bytes_to_f32(k4_minima(w + 4)));
        acc = add_scaled(acc, d, parts_by_32(w, x.q, codes, pairs));
        acc = _mm256_fnmadd_ps(m, _mm256_cvtepi32_ps(widen(load32(x.isum))), acc);
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

float pg_qdot_iq4_xs_avx2(const void *data, pg_q8 row, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 136) {
        const pg_q8 x = at(row, i);
        const __m256 d = _mm256_mul_ps(times_half(_mm256_loadu_ps(x.d), w), iq4_xs_scales(w));
        acc = add_scaled(acc, d, parts_by_32(w, x.q, codes_iq4_xs, pairs_signed));
    }
    return fold8(acc);
}

/* The signs are given to the activations, so that the magnitudes go in as they are. */
float pg_qdot_iq2_xxs_avx2(const void *data, pg_q8 row, int64_t n)
{
    const uint8_t *w = data;
    __m256 acc = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 256, w += 66) {
        const pg_q8 x = at(row, i);
        const __m256i word = iq2_xxs_words(w);
        const __m256 d = _mm256_mul_ps(_mm256_set1_ps(half_at(w) / 8), iq2_xxs_scales(word));
        uint8_t signs[32];
        __m256i v[8];
        _mm256_storeu_si256((__m256i *)signs, iq2_xxs_signs(word));
        UNROLL
        for (int j = 0; j < 8; j++) {
            const __m256i turned = negate(load32(x.q + 32 * j), signs + 4 * j);
            v[j] = widen(_mm256_maddubs_epi16(iq2_xxs_sizes(w, j), turned));
        }
        acc = add_scaled(acc, _mm256_mul_ps(d, _mm256_loadu_ps(x.d)), lanes(v));
    }
    return fold8(acc);
}
