/* Encoders of the quantised formats: what they lose against plain rounding, against the best that exists, and against
 * figures of another implementation; the same bytes whatever the number of threads; panels; refusals. The decoders of
 * kernels/unpack, which have tests of their own, say what the bytes mean. */
#include "../../kernels/quant/quant.h"
#include "../../kernels/unpack/blocks.h"
#include "../../kernels/unpack/panel.h"
#include "check.h"

#include <math.h>

enum { ROWS = 35, COLS = 1024 + 512, N = ROWS * COLS }; /* neither whole panels nor whole pieces */

typedef struct format {
    pg_dtype type;
    pg_block_fn *decode;
    float gaussian; /* most root-mean-square error of normal weights, of their own */
} format;

/* gaussian: what llama.cpp's quantiser (0.25, even weights for all columns) loses on normal weights. */
static const format formats[] = {
    { PG_Q8_0, pg_block_q8_0, 0.00535f }, { PG_Q4_0, pg_block_q4_0, 0.08149f },   { PG_Q5_0, pg_block_q5_0, 0.04032f },
    { PG_Q5_1, pg_block_q5_1, 0.03375f }, { PG_Q4_K, pg_block_q4_k, 0.07064f },   { PG_Q5_K, pg_block_q5_k, 0.03532f },
    { PG_Q6_K, pg_block_q6_k, 0.01734f }, { PG_MXFP4, pg_block_mxfp4, 0.11406f },
};
enum { N_FORMAT = sizeof formats / sizeof *formats };

static pg_quant *one, *three;
static float x[N], y[N];
static uint8_t bytes[4 * N], again[4 * N];

static float normal(unsigned long long *s)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += check_uniform(s);
    return sum / 2; /* of variance 1 */
}

static pg_tensor matrix(const void *data, pg_dtype type)
{
    return pg_tensor_dense(type, data, COLS, ROWS, 1);
}

static pg_quant_result make(pg_quant *q, uint8_t *to, pg_dtype type, int packed, const float *importance)
{
    const pg_tensor from = matrix(x, PG_F32);
    return pg_quant_rows(q, to, type, packed, &from, 0, ROWS, importance);
}

static void read_back(const format *f, const uint8_t *from)
{
    const pg_dtype_info *info = pg_dtype_get(f->type);
    pg_block b = { 0 };
    for (int i = 0; i < N; i += info->block, from += info->bytes) {
        f->decode(&b, from);
        for (int j = 0; j < info->block; j++) y[i + j] = b.d[j / 16] * (float)b.q[j] + b.m[j / 16];
    }
}

static double lost(const float *importance)
{
    double sum = 0, all = 0;
    for (int i = 0; i < N; i++) {
        const double w = importance ? (double)importance[i % COLS] : 1, e = (double)x[i] - (double)y[i];
        sum += w * e * e;
        all += w * (double)x[i] * (double)x[i];
    }
    return sum / all;
}

/* ---- plain rounding, after the formulas of the formats ---- */

/* Codes low..high for the factor d and the minimum m; what they stand for, into to. */
static void round_line(float *to, const float *from, int n, float d, float m, int low, int high)
{
    for (int i = 0; i < n; i++) {
        float q = d != 0 ? rintf((from[i] - m) / d) : 0;
        q = q < (float)low ? (float)low : q > (float)high ? (float)high : q;
        to[i] = d * q + m;
    }
}

static float signed_most(const float *from, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++) most = fabsf(from[i]) > fabsf(most) ? from[i] : most;
    return most;
}

static void ends_of(const float *from, int n, float zero, float *low, float *high)
{
    *low = *high = zero > 0 ? from[0] : 0;
    for (int i = 0; i < n; i++) {
        *low = from[i] < *low ? from[i] : *low;
        *high = from[i] > *high ? from[i] : *high;
    }
}

/* A block of 256 with 6-bit multiples (high >= 0), or with 8-bit ones and no minimum. */
static void round_k(float *to, const float *from, int high)
{
    float d[16], m[16], top = 0, deep = 0, low, most;
    const int size = high > 0 ? 32 : 16, n = 256 / size;
    for (int g = 0; g < n; g++) {
        ends_of(from + size * g, size, 0, &low, &most);
        d[g] = high > 0 ? (most - low) / (float)high : fabsf(signed_most(from + size * g, size)) / 31;
        m[g] = high > 0 ? -low : 0;
        top = d[g] > top ? d[g] : top;
        deep = m[g] > deep ? m[g] : deep;
    }
    const float unit = top / (high > 0 ? 63 : 127), unit_m = deep / 63;
    for (int g = 0; g < n; g++) {
        const float dg = unit > 0 ? unit * rintf(d[g] / unit) : 0;
        const float mg = unit_m > 0 ? unit_m * rintf(m[g] / unit_m) : 0;
        round_line(to + size * g, from + size * g, size, dg, -mg, high > 0 ? 0 : -32, high > 0 ? high : 31);
    }
}

static void round_block(pg_dtype type, float *to, const float *from)
{
    float low, high;
    switch (type) {
    case PG_Q8_0: round_line(to, from, 32, fabsf(signed_most(from, 32)) / 127, 0, -127, 127); break;
    case PG_Q4_0: round_line(to, from, 32, signed_most(from, 32) / -8, 0, -8, 7); break;
    case PG_Q5_0: round_line(to, from, 32, signed_most(from, 32) / -16, 0, -16, 15); break;
    case PG_Q5_1:
        ends_of(from, 32, 1, &low, &high);
        round_line(to, from, 32, (high - low) / 31, low, 0, 31);
        break;
    case PG_Q4_K: round_k(to, from, 15); break;
    case PG_Q5_K: round_k(to, from, 31); break;
    case PG_Q6_K: round_k(to, from, -1); break;
    default: { /* MXFP4: the scale that its specification suggests */
        const float most = fabsf(signed_most(from, 32)), unit = most > 0 ? exp2f(floorf(log2f(most)) - 3) : 0;
        for (int i = 0; i < 32; i++) {
            float best = 0;
            for (int k = 0; k < 16; k++) {
                const float v = unit * (float)pg_fp4_twice[k];
                if (fabsf(v - from[i]) < fabsf(best - from[i])) best = v;
            }
            to[i] = best;
        }
    }
    }
}

/* ---- inputs ---- */

static const char *const kinds[] = { "normal", "heavy tails", "one sided", "outliers",
                                     "tiny",   "steps",       "constant",  "zero" };
enum { NORMAL, HEAVY, SIDED, OUTLIERS, TINY, STEPS_OF_FP4, CONSTANT, ZERO, N_KIND };

static void fill(int kind)
{
    unsigned long long s = 17 + (unsigned)kind;
    for (int i = 0; i < N; i++) {
        const float v = normal(&s), other = normal(&s);
        x[i] = kind == NORMAL         ? 0.02f * v
               : kind == HEAVY        ? 0.02f * v * expf(other)
               : kind == SIDED        ? 0.3f + 0.1f * v
               : kind == OUTLIERS     ? (i % 97 == 0 ? 20 * v : 0.02f * v)
               : kind == TINY         ? 3e-7f * v
               : kind == STEPS_OF_FP4 ? 0.25f * (float)pg_fp4_twice[(int)(8 * fabsf(v)) % 16]
               : kind == CONSTANT     ? (i / 512 % 2 ? -1.25f : 0.75f)
                                      : 0;
    }
}

/* ---- checks ---- */

static void check_against_rounding(const format *f)
{
    const int block = pg_dtype_get(f->type)->block;
    for (int kind = 0; kind < N_KIND; kind++) {
        fill(kind);
        CHECK(make(one, bytes, f->type, 0, NULL) == PG_QUANT_FINE, "%s", kinds[kind]);
        read_back(f, bytes);
        int finite = 1;
        for (int i = 0; i < N; i++) finite &= isfinite(y[i]) != 0;
        CHECK(finite, "%s of %s: not finite", pg_dtype_get(f->type)->name, kinds[kind]);
        if (kind == TINY || kind == ZERO) { /* factors below the least f16; nothing to lose */
            CHECK(kind == TINY || fabsf(signed_most(y, N)) <= 0, "%s of zeros", pg_dtype_get(f->type)->name);
            continue;
        }
        const double found = lost(NULL);
        for (int i = 0; i < N; i += block) round_block(f->type, y + i, x + i);
        const double plain = lost(NULL);
        /* the factors of plain rounding are exact here, those of a file are f16: where rounding is as good as it gets,
         * that shows */
        CHECK(found <= 1.0005 * plain + 1e-7, "%s of %s: %.3e, rounding %.3e", pg_dtype_get(f->type)->name, kinds[kind],
              found, plain);
        if (kind == NORMAL)
            CHECK(sqrt(found) <= (double)f->gaussian, "%s loses %.5f, at most %.5f expected",
                  pg_dtype_get(f->type)->name, sqrt(found), (double)f->gaussian);
        if (kind == STEPS_OF_FP4 && f->type == PG_MXFP4) CHECK(found <= 0, "exact steps lose %.3e", found);
    }
}

static int by_value(const void *a, const void *b)
{
    const double u = *(const double *)a, v = *(const double *)b;
    return (u > v) - (u < v);
}

/* The least weighted squared error that any factor gives: between two places where a code changes, the codes stay and
 * least squares gives the factor. */
static double best_scale(const float *from, const float *w, int high)
{
    static double place[2 * 32 * 64];
    double best = INFINITY;
    for (int sign = -1; sign <= 1; sign += 2) {
        int n = 0;
        for (int i = 0; i < 32; i++)
            for (int k = 0; k <= high; k++) place[n++] = (k + 0.5) / fabs((double)from[i]);
        qsort(place, (size_t)n, sizeof *place, by_value);
        for (int p = 0; p < n; p++) {
            double xq = 0, qq = 0, xx = 0;
            for (int i = 0; i < 32; i++) {
                double q = rint(sign * place[p] * (1 + 1e-12) * (double)from[i]), wi = (double)w[i];
                q = q < -high - 1 ? -high - 1 : q > high ? high : q;
                xq += wi * q * (double)from[i];
                qq += wi * q * q;
                xx += wi * (double)from[i] * (double)from[i];
            }
            if (qq > 0 && xx - xq * xq / qq < best) best = xx - xq * xq / qq;
        }
    }
    return best;
}

static void check_against_best(void)
{
    static const struct {
        int format, high;
        double even, uneven; /* how much more may be lost, with even importance and with a very uneven one */
    } cases[] = { { 1, 7, 1.01, 1.03 }, { 2, 15, 1.015, 1.03 } };
    float importance[COLS];
    unsigned long long s = 5;
    fill(NORMAL);
    for (int i = 0; i < COLS; i++) importance[i] = expf(1.5f * normal(&s));
    for (size_t k = 0; k < 2 * (sizeof cases / sizeof *cases); k++) {
        const format *f = &formats[cases[k / 2].format];
        const int uneven = k % 2 != 0;
        double found = 0, least = 0;
        CHECK(make(one, bytes, f->type, 0, uneven ? importance : NULL) == PG_QUANT_FINE, "no result");
        read_back(f, bytes);
        for (int b = 0; b < N / 32; b += 11) {
            float w[32];
            for (int i = 0; i < 32; i++) {
                const double e = (double)x[32 * b + i] - (double)y[32 * b + i];
                w[i] = uneven ? importance[(32 * b + i) % COLS] : 1;
                found += (double)w[i] * e * e;
            }
            least += best_scale(x + 32 * b, w, cases[k / 2].high);
        }
        CHECK(found <= least * (uneven ? cases[k / 2].uneven : cases[k / 2].even),
              "%s, %s importance: %.4f of the best", pg_dtype_get(f->type)->name, uneven ? "uneven" : "even",
              found / least);
        CHECK(found >= least * 0.999, "%s: less than the least, %.4f", pg_dtype_get(f->type)->name, found / least);
    }
}

/* Columns that matter lose less when the importance says so, and the weighted sum is less. */
static void check_importance(const format *f)
{
    float importance[COLS];
    unsigned long long s = 3;
    fill(NORMAL);
    for (int i = 0; i < COLS; i++) importance[i] = expf(2 * normal(&s));
    CHECK(make(one, bytes, f->type, 0, NULL) == PG_QUANT_FINE, "no result");
    read_back(f, bytes);
    const double without = lost(importance);
    CHECK(make(one, bytes, f->type, 0, importance) == PG_QUANT_FINE, "no result");
    read_back(f, bytes);
    const double with = lost(importance);
    const double most = f->type == PG_Q8_0 ? 1 : f->type == PG_MXFP4 ? 0.97 : 0.9;
    CHECK(with <= most * without, "%s: %.3e with importance, %.3e without", pg_dtype_get(f->type)->name, with, without);
}

static void check_threads_and_panels(const format *f)
{
    const pg_dtype_info *info = pg_dtype_get(f->type);
    const int64_t n_block = COLS / info->block, row = n_block * info->bytes;
    float importance[COLS];
    fill(HEAVY);
    for (int i = 0; i < COLS; i++) importance[i] = 1 + (float)(i % 7);
    CHECK(make(one, bytes, f->type, 0, importance) == PG_QUANT_FINE, "no result");
    CHECK(make(three, again, f->type, 0, importance) == PG_QUANT_FINE, "no result");
    CHECK(!memcmp(bytes, again, (size_t)(ROWS * row)), "%s: other bytes with three threads", info->name);
    CHECK(pg_quant_bytes(f->type, 0, COLS, ROWS) == ROWS * row && pg_quant_bytes(f->type, 1, COLS, ROWS) == 48 * row,
          "%s: sizes", info->name);
    memset(again, 0xee, sizeof again);
    CHECK(make(three, again, f->type, 1, importance) == PG_QUANT_FINE, "no result");
    pg_tensor w = matrix(again, f->type);
    w.packed = 1;
    int same = 1;
    uint8_t block[256];
    for (int r = 0; r < 48; r++)
        for (int64_t b = 0; b < n_block; b++) {
            static const uint8_t zeros[256];
            pg_panel_block(block, &w, r, b);
            same &= !memcmp(block, r < ROWS ? bytes + r * row + b * info->bytes : zeros, (size_t)info->bytes);
        }
    CHECK(same, "%s: panels hold other blocks", info->name);

    /* the same format again is a copy: stored, and packed from the stored one */
    const pg_tensor stored = matrix(bytes, f->type);
    static uint8_t copy[4 * N];
    CHECK(pg_quant_rows(three, copy, f->type, 1, &stored, 0, ROWS, NULL) == PG_QUANT_FINE, "no result");
    CHECK(!memcmp(copy, again, (size_t)(48 * row)), "%s: packing a stored matrix gives other bytes", info->name);
    CHECK(pg_quant_rows(one, copy, f->type, 0, &stored, 3, 20, NULL) == PG_QUANT_FINE, "no result");
    CHECK(!memcmp(copy, bytes + 3 * row, (size_t)(20 * row)), "%s: rows from the middle", info->name);
}

static void check_refusals(const format *f)
{
    static const struct {
        float value;
        pg_quant_result expected;
    } cases[] = { { NAN, PG_QUANT_NOT_FINITE },
                  { INFINITY, PG_QUANT_NOT_FINITE },
                  { -INFINITY, PG_QUANT_NOT_FINITE },
                  { 3e38f, PG_QUANT_TOO_LARGE },
                  { -2e9f, PG_QUANT_TOO_LARGE } };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        fill(NORMAL);
        x[N - 3] = cases[k].value;
        CHECK(make(three, bytes, f->type, 0, NULL) == cases[k].expected, "%s of %g", pg_dtype_get(f->type)->name,
              (double)cases[k].value);
    }
}

static void check_floats(void)
{
    uint16_t h;
    fill(OUTLIERS);
    CHECK(make(three, bytes, PG_F32, 0, NULL) == PG_QUANT_FINE && !memcmp(bytes, x, sizeof x), "f32 to f32");
    CHECK(make(three, bytes, PG_BF16, 0, NULL) == PG_QUANT_FINE, "no result");
    memcpy(&h, bytes + 2 * 98, 2);
    CHECK(h == pg_f32_to_bf16(x[98]), "bf16");
    CHECK(make(three, bytes, PG_F16, 0, NULL) == PG_QUANT_FINE, "no result");
    const pg_tensor half = matrix(bytes, PG_F16);
    CHECK(pg_quant_rows(three, again, PG_F32, 0, &half, 0, ROWS, NULL) == PG_QUANT_FINE, "no result");
    int same = 1;
    for (int i = 0; i < N; i++) {
        float back;
        memcpy(&back, again + 4 * i, 4);
        same &= back == pg_f16_to_f32(pg_f32_to_f16(x[i])); /* NOLINT: equal means equal */
    }
    CHECK(same, "f32 to f16 to f32");
    x[7] = 70000;
    CHECK(make(one, bytes, PG_F16, 0, NULL) == PG_QUANT_TOO_LARGE, "70000 as f16");
    CHECK(make(one, bytes, PG_BF16, 0, NULL) == PG_QUANT_FINE, "70000 as bf16");
    x[7] = NAN;
    CHECK(make(one, bytes, PG_F32, 0, NULL) == PG_QUANT_NOT_FINITE, "NaN as f32");
    CHECK(!pg_quant_can(PG_Q2_K) && !pg_quant_can(PG_I32) && !pg_quant_can(PG_DTYPE_NONE) && pg_quant_can(PG_BF16),
          "formats");
}

/* Q8_0 is written by everybody in the same way. */
static void check_q8_bytes(void)
{
    int same = 1;
    fill(HEAVY);
    CHECK(make(one, bytes, PG_Q8_0, 0, NULL) == PG_QUANT_FINE, "no result");
    for (int b = 0; b < N / 32; b++) {
        const float d = fabsf(signed_most(x + 32 * b, 32)) / 127;
        uint16_t h;
        memcpy(&h, bytes + 34 * b, 2);
        same &= h == pg_f32_to_f16(d);
        for (int i = 0; i < 32; i++) same &= (int8_t)bytes[34 * b + 2 + i] == (int)roundf(x[32 * b + i] * (1 / d));
    }
    CHECK(same, "other bytes than the format's formula");
}

int main(void)
{
    one = pg_quant_open(1);
    three = pg_quant_open(3);
    if (!one || !three) return 1;
    for (int i = 0; i < N_FORMAT; i++) {
        check_against_rounding(&formats[i]);
        check_importance(&formats[i]);
        check_threads_and_panels(&formats[i]);
        check_refusals(&formats[i]);
    }
    check_against_best();
    check_floats();
    check_q8_bytes();
    pg_quant_close(one);
    pg_quant_close(three);
    return check_done("encode");
}
