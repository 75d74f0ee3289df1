/* softmax.c: what a whole row of logits weighs, and ln p of one of them.
 *
 * exp(d) for d <= 0: d = k ln 2 + r with |r| <= ln 2 / 2, exp(r) by its Taylor polynomial of degree 7, whose rest is
 * below r^8 / 8! = 6e-9, times 2^k; eight numbers at once, plain products and sums in one fixed order, so the bits are
 * the same on every machine. The exponentials are f32, the sums f64: errors of the terms have no common sign, and the
 * sum's is near 1e-9. The C library's exp takes five times as long.
 * Source of the reduction: Cody, Waite, Software Manual for the Elementary Functions, 1980. */
#include "softmax.h"
#include "order.h"
#include "sampler.h"

#include <math.h>

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_bits __attribute__((vector_size(16)));
typedef double pair __attribute__((vector_size(16)));

enum { FOURS = 2, STEP = 4 * FOURS }; /* vectors that are under way at once: one alone would wait for itself */

static inline four same(float x)
{
    return (four){ x, x, x, x };
}

/* exp of numbers that are not above 0; below -87, where what is left is no normal number, and for NaN it gives 0. */
static inline void exp_all(four x[FOURS])
{
    static const float inverse[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }; /* 1 / k! */
    const four least = same(-87.0f), shift = same(0x1.8p23f); /* added and taken away, it rounds to a whole number */
    four r[FOURS], p[FOURS];
    four_bits k[FOURS], live[FOURS];
    for (int j = 0; j < FOURS; j++) {
        live[j] = x[j] > least;
        const four d = (four)((live[j] & (four_bits)x[j]) | (~live[j] & (four_bits)least));
        const four z = d * same(0x1.715476p+0f) + shift, whole = z - shift;
        r[j] = (d - whole * same(0x1.62e4p-1f)) - whole * same(0x1.7f7d1cp-20f);
        k[j] = (four_bits)z;
        p[j] = same(1.0f / 5040);
    }
    for (unsigned i = 0; i < sizeof inverse / sizeof *inverse; i++)
        for (int j = 0; j < FOURS; j++) p[j] = p[j] * r[j] + same(inverse[i]);
    for (int j = 0; j < FOURS; j++) {
        const four_bits power = (k[j] + 127) << 23;
        x[j] = (four)((four_bits)(p[j] * (four)power) & live[j]);
    }
}

/* sum += exp((x - top) / t), for STEP numbers, each with a sum of its own */
static inline void add_weights(pair sum[2 * FOURS], const float *x, float top, float t)
{
    four d[FOURS];
    memcpy(d, x, sizeof d);
    for (int j = 0; j < FOURS; j++) {
        d[j] -= same(top);
        if (t != 1) d[j] /= same(t);
    }
    exp_all(d);
    for (int j = 0; j < FOURS; j++) {
        sum[2 * j] += (pair){ (double)d[j][0], (double)d[j][1] };
        sum[2 * j + 1] += (pair){ (double)d[j][2], (double)d[j][3] };
    }
}

double pg_softmax_sum(const float *x, int32_t n, float top, float t)
{
    pair sum[2 * FOURS] = { { 0 } };
    int32_t i = 0;
    for (; i + STEP <= n; i += STEP) add_weights(sum, x + i, top, t);
    if (i < n) {
        float rest[STEP];
        for (int j = 0; j < STEP; j++) rest[j] = i + j < n ? x[i + j] : -INFINITY;
        add_weights(sum, rest, top, t);
    }
    pair all = { 0 };
    for (int j = 0; j < 2 * FOURS; j++) all += sum[j];
    return all[0] + all[1];
}

pg_softmax_total pg_softmax_of(const float *logits, int32_t n)
{
    pg_softmax_total t = { .top = pg_order_top(logits, n) };
    double sum = 0;
    if (isfinite(t.top))
        sum = pg_softmax_sum(logits, n, t.top, 1);
    else
        for (int32_t i = 0; i < n; i++) sum += logits[i] == t.top; /* the difference of two infinities is none */
    t.log_sum = log(sum);
    return t;
}

float pg_softmax_ln(float logit, pg_softmax_total t)
{
    if (!(logit > -INFINITY)) return -INFINITY;
    const double below = logit == t.top ? 0 : (double)logit - (double)t.top;
    return (float)(below - t.log_sum);
}

float pg_logprob_of(const float *logits, int32_t n_vocab, int32_t token)
{
    return pg_softmax_ln(logits[token], pg_softmax_of(logits, n_vocab));
}
