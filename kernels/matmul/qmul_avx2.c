/* qmul, AVX2: 32 columns of 8 outputs are eight registers of codes, decoded once, and all rows stream past them.
 *
 * maddubs multiplies unsigned by signed bytes and adds pairs into 16 bits; as many registers of such pairs are added
 * there as cannot overflow, then they are widened. Codes with an offset go in as stored, and offset times the sum of
 * the activations is taken off. Where a code has a sign, the activation takes it: one row by a sign instruction, many
 * rows by having its bits flipped, which is cheaper and off by a number that depends on the codes alone. So every
 * integer sum is exact. */
#include "../cpu/isa.h"
#include "qmul_codes_avx2.h"

enum { GROUP = 4 }; /* rows that take turns */

/* 32 columns of 8 outputs, decoded for many rows. */
typedef struct tile8 {
    __m256i c[8], sign[8]; /* sign with SIGN_FLIPS: all ones where negative, else 0 */
    __m256i extra;         /* with SIGN_FLIPS: what is to be added to each output's sum of products */
    factors8 by;
} tile8;

/* v, which is needed here and now: else compilers add in trees, and have not the registers for them. */
INLINE __m256i in_turn(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

/* 16 numbers of 16 bits added in pairs. */
INLINE __m256i widen(__m256i v)
{
    return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

/* Products of register j with four activations, added in pairs. */
INLINE __m256i pairs(code8 w, const pg_q8 *x, int j, const format8 f)
{
    __m256i four = _mm256_set1_epi32((int)load4(x->q + 4 * j));
    if (f.sign == SIGN_TAKEN) four = _mm256_sign_epi8(four, w.sign);
    if (f.sign == SIGN_FLIPS) four = _mm256_xor_si256(four, w.sign);
    return _mm256_maddubs_epi16(w.c, four);
}

/* One step of a sum over registers: product p of register `at`, counted from where the sum begins. */
INLINE void step(__m256i *total, __m256i *part, __m256i p, int at, const format8 f)
{
    *part = at % f.fit == 0 ? p : in_turn(_mm256_add_epi16(*part, p));
    if (at % f.fit < f.fit - 1) return;
    *total = at < f.fit ? widen(*part) : in_turn(_mm256_add_epi32(*total, widen(*part)));
}

/* y + d * total, when total is mended; sum: of the activations. */
INLINE __m256 add_dot(__m256 y, __m256 d, __m256i total, __m256i sum, __m256i extra, const format8 f)
{
    if (f.shift) total = _mm256_sub_epi32(total, _mm256_slli_epi32(sum, f.shift));
    if (f.sign == SIGN_FLIPS) total = _mm256_add_epi32(total, extra);
    return _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(total), y);
}

/* One row's sums a, or a and b for 16 columns each, applied. */
INLINE __m256 apply(__m256 y, factors8 by, const pg_q8 *x, __m256i a, __m256i b, __m256i extra, const format8 f)
{
    const __m256 d = _mm256_set1_ps(x->d);
    const __m256i sum = _mm256_set1_epi32(x->sum);
    if (!f.by16) {
        y = add_dot(y, _mm256_mul_ps(by.d[0], d), a, sum, extra, f);
        return f.has_min ? _mm256_fmadd_ps(by.m[0], _mm256_set1_ps(x->ds), y) : y;
    }
    const __m256i low = _mm256_set1_epi32(x->low), high = _mm256_sub_epi32(sum, low);
    y = add_dot(y, _mm256_mul_ps(by.d[0], d), a, low, extra, f);
    y = add_dot(y, _mm256_mul_ps(by.d[1], d), b, high, extra, f);
    if (!f.has_min) return y;
    y = _mm256_fmadd_ps(by.m[0], _mm256_mul_ps(d, _mm256_cvtepi32_ps(low)), y);
    return _mm256_fmadd_ps(by.m[1], _mm256_mul_ps(d, _mm256_cvtepi32_ps(high)), y);
}

/* One row meets 32 columns, decoded as they are needed. */
INLINE __m256 meet(__m256 y, const uint8_t *w, const pg_q8 *x, int s, int h, const format8 f)
{
    __m256i total[2], part;
    UNROLL
    for (int j = 0; j < 8; j++) {
        const int g = f.by16 ? j / 4 : 0;
        step(&total[g], &part, pairs(f.code(w, s, h, j), x, j, f), j - 4 * g, f);
    }
    return apply(y, f.factors(w, s, h), x, total[0], total[f.by16], _mm256_setzero_si256(), f);
}

/* Asks for half a block in ascending order. Where the parts of a block are read with each other, a processor's own
 * prefetch does not follow them from memory; measured: Q6_K arrives 1.9 times as fast, Q5_K 1.1 times. */
INLINE void touch(const uint8_t *w, int s, const format8 f)
{
    if (!f.is_mixed || s % 4) return;
    for (int i = f.bytes * s / f.parts / 64; i < f.bytes * (s + 4) / f.parts / 64; i++)
        _mm_prefetch((const char *)w + 64 * i, _MM_HINT_T0);
}

/* One row: its sums stay in registers. */
INLINE void qmul1(float *y, const uint8_t *w, const pg_q8 *x, int64_t k, const format8 f)
{
    __m256 a = _mm256_setzero_ps(), b = _mm256_setzero_ps();
    for (; k > 0; k -= 32 * f.parts, w += f.bytes) {
        UNROLL
        for (int s = 0; s < f.parts; s++, x++) {
            touch(w, s, f);
            a = meet(a, w + f.head, x, s, 0, f);
            b = meet(b, w + f.head, x, s, 1, f);
        }
    }
    _mm256_storeu_ps(y, a);
    _mm256_storeu_ps(y + 8, b);
}

/* n rows meet a tile; they take turns, so that a step of one need not wait for its step before. */
INLINE void group(float *y, const tile8 *t, const pg_q8 *x, int n, const format8 f)
{
    __m256i total[2][GROUP], part[GROUP];
    UNROLL
    for (int j = 0; j < 8; j++) {
        const int g = f.by16 ? j / 4 : 0;
        UNROLL
        for (int r = 0; r < n; r++)
            step(&total[g][r], &part[r], pairs((code8){ t->c[j], t->sign[j] }, x + r, j, f), j - 4 * g, f);
    }
    UNROLL
    for (int r = 0; r < n; r++, y += PG_PANEL)
        _mm256_storeu_ps(y, apply(_mm256_loadu_ps(y), t->by, x + r, total[0][r], total[f.by16][r], t->extra, f));
}

/* All rows meet a tile. */
INLINE void rows(float *y, const tile8 *memory, const pg_q8 *x, int n_row, const format8 f)
{
    const tile8 t = *memory;
    for (; n_row >= GROUP; n_row -= GROUP, x += GROUP, y += GROUP * PG_PANEL) group(y, &t, x, GROUP, f);
    for (; n_row > 0; n_row--, x++, y += PG_PANEL) group(y, &t, x, 1, f);
}

/* Flipping the bits of q gives -q - 1, whose product with a code c falls short by c. */
INLINE void decode(tile8 *t, const uint8_t *w, int s, int h, const format8 f)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i short_by = zero;
    UNROLL
    for (int j = 0; j < 8; j++) {
        const code8 v = f.code(w, s, h, j);
        t->c[j] = v.c;
        if (!f.sign) continue;
        t->sign[j] = _mm256_cmpgt_epi8(zero, v.sign);
        short_by = _mm256_sub_epi16(short_by, _mm256_maddubs_epi16(v.c, t->sign[j]));
    }
    if (f.sign) t->extra = widen(short_by);
    const factors8 by = f.factors(w, s, h);
    for (int i = 0; i <= f.by16; i++) { /* one by one: gcc copies structures in pieces that stores do not forward to */
        t->by.d[i] = by.d[i];
        if (f.has_min) t->by.m[i] = by.m[i];
    }
}

typedef void rows_fn(float *y, const tile8 *t, const pg_q8 *x, int n_row);

INLINE void qmul(float *y, const uint8_t *w, const pg_q8 *x, int n_row, int64_t k, const format8 f, rows_fn *all_rows)
{
    memset(y, 0, (size_t)n_row * PG_PANEL * sizeof *y);
    for (; k > 0; k -= 32 * f.parts, w += f.bytes) {
        UNROLL
        for (int s = 0; s < f.parts; s++, x += n_row) {
            touch(w, s, f);
            for (int h = 0; h < 2; h++) {
                tile8 t;
                decode(&t, w + f.head, s, h, f);
                all_rows(y + 8 * h, &t, x, n_row);
            }
        }
    }
}

/* rows_<type> is a call, so that its registers are its own: inlined, it shares them with the decoding around it. */
#define F(row, codes, factors, bytes, head, parts, shift, fit, sign, by16, has_min, is_mixed)                          \
    static __attribute__((noinline)) void rows_##row(float *y, const tile8 *t, const pg_q8 *x, int n_row)              \
    {                                                                                                                  \
        const int flips = (sign) ? SIGN_FLIPS : 0;                                                                     \
        rows(y, t, x, n_row, (format8){ NULL, NULL, bytes, head, parts, shift, fit, flips, by16, has_min, is_mixed }); \
    }                                                                                                                  \
    void pg_qmul_##row##_avx2(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k)                       \
    {                                                                                                                  \
        const format8 f = { c_##codes, f_##factors, bytes, head, parts, shift, fit, sign, by16, has_min, is_mixed };   \
        if (n_row == 1)                                                                                                \
            qmul1(y, panel, x, k, f);                                                                                  \
        else                                                                                                           \
            qmul(y, panel, x, n_row, k, f, rows_##row);                                                                \
    }
FORMATS8(F)
