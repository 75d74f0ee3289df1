/* rows_close.h: tests of the rows whose variants come within a stated tolerance of the reference. rows.c calls them. */
#ifndef PG_TEST_ROWS_CLOSE_H
#define PG_TEST_ROWS_CLOSE_H

#include "rows.h"

/* Sum of the magnitudes of all terms: products of codes and minima with activations. */
static inline double term_size(const uint8_t *w, pg_q8 x, int64_t n, pg_dtype type, pg_block_fn *decode, int has_min)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    double sum = 0;
    for (int64_t i = 0; i < n; i += info->block, w += info->bytes) {
        pg_block b;
        decode(&b, w);
        for (int j = 0; j < info->block; j++) {
            const double size = fabs((double)b.d[j / 16] * b.q[j]) + (has_min ? fabs((double)b.m[j / 16]) : 0);
            sum += size * fabs((double)x.d[(i + j) / 32] * x.q[i + j]);
        }
    }
    return sum;
}

enum { QDOT_RANDOM, QDOT_LARGEST, QDOT_SMALL, QDOT_WIDE, QDOT_BAD_ROW, QDOT_BAD_WEIGHT, QDOT_KINDS };

/* Stored blocks and a rounded row of this kind. */
static inline void qdot_fill(uint8_t *w, pg_q8 x, pg_dtype type, int64_t n, int kind)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    rows_fill_blocks(w, type, n);
    for (int64_t k = 0; k < n / 16; k++) {
        int sum = 0;
        for (int64_t i = 16 * k; i < 16 * k + 16; i++) {
            x.q[i] = (int8_t)(kind == QDOT_LARGEST ? (rows_below(8) ? 127 : -127) : rows_below(255) - 127);
            sum += x.q[i];
        }
        x.isum[k] = (int16_t)sum;
        if (k % 2 == 0) x.d[k / 2] = kind == QDOT_WIDE ? fabsf(rows_wide(30)) : 0.01f * fabsf(rows_uniform());
    }
    const int d = rows_factor_at(type);
    for (int64_t i = 0; i < n / info->block; i++) {
        uint8_t *b = w + i * info->bytes;
        /* all codes and scales at one end of their range: the integer sums at their largest */
        if (kind == QDOT_LARGEST) memset(b, i % 3 == 0 ? 0xff : i % 3 == 1 ? 0x80 : 0x00, (size_t)info->bytes);
        if (kind == QDOT_LARGEST && type == PG_MXFP4) b[0] = 127;
        if (kind == QDOT_LARGEST && d >= 0) rows_put_half(b + d, 1.0f);
        if (kind == QDOT_LARGEST && rows_min_at(type) >= 0) rows_put_half(b + rows_min_at(type), -2.0f);
        if (kind == QDOT_SMALL && d >= 0) rows_put_half(b + d, 0x1p-24f);
        if (kind == QDOT_SMALL && type == PG_MXFP4) b[0] = (uint8_t)rows_below(40);
    }
    if (kind == QDOT_BAD_ROW && n) { /* what q8row leaves of a block that held an infinity */
        x.d[n / 32 - 1] = NAN;
        memset(x.q + n - 32, 0, 32);
        x.isum[n / 16 - 1] = x.isum[n / 16 - 2] = 0;
    }
    if (kind == QDOT_BAD_WEIGHT && n && d >= 0) rows_put_half(w + d, rows_below(2) ? INFINITY : NAN);
}

static inline void qdot_case(pg_qdot_fn *fn, pg_qdot_fn *ref, pg_dtype type, pg_block_fn *decode, int has_min,
                             const char *isa)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    const int counts[] = { 0, 1, 2, 3, 7, 8, 9, 16, 23 };
    for (int c = 0; c < 9; c++) {
        const int64_t n = (int64_t)counts[c] * info->block;
        for (int round = 0; round < 16 * QDOT_KINDS; round++) {
            const int kind = round % QDOT_KINDS, off = round / QDOT_KINDS;
            void *base[4];
            uint8_t *w = rows_alloc(&base[0], (size_t)(counts[c] * info->bytes), off);
            pg_q8 x = { .q = rows_alloc(&base[1], (size_t)n, 0) };
            x.d = rows_alloc(&base[2], (size_t)n / 8, 0);
            x.isum = rows_alloc(&base[3], (size_t)n / 8, 0);
            qdot_fill(w, x, type, n, kind);
            const float got = fn(w, x, n), want = ref(w, x, n);
            if (n && (kind == QDOT_BAD_ROW || (kind == QDOT_BAD_WEIGHT && type != PG_MXFP4))) {
                CHECK(!isfinite(got) && !isfinite(want), "qdot %s %s: %g, want %g", info->name, isa, got, want);
            } else {
                const double tol = 1e-5 * term_size(w, x, n, type, decode, has_min) + 1e-37;
                CHECK(rows_near(got, want, tol), "qdot %s %s: n %lld, kind %d, offset %d: %g, want %g +- %g",
                      info->name, isa, (long long)n, kind, off, got, want, tol);
            }
            for (int i = 0; i < 4; i++) free(base[i]);
        }
    }
}

/* Values around everything that happens to an exponential: 0, overflow, underflow, infinities, NaN. */
static inline float exp_input(int i)
{
    switch (i % 8) {
    case 0: return rows_wide(30);
    case 1: return rows_uniform() * 110.0f;
    case 2: return (rows_below(2) ? 88.722839f : -103.97208f) + rows_uniform() * 0.01f;
    case 3: return -fabsf(rows_uniform()) * 25.0f;
    default: return rows_uniform() * 8.0f;
    }
}

static inline float special(int i)
{
    static const float list[] = { 0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e30f, -1e30f, 3.4e38f, -3.4e38f, 1e-40f };
    return list[i % 10];
}

static inline void glu_compare(pg_glu_fn *fn, const float *g, const float *u, int n, int kind, const char *isa)
{
    float want[120], y[120];
    const float limit = 7.0f;
    pg_glu_ref(want, g, u, n, kind, limit);
    for (int place = 0; place < 3; place++) { /* y of its own, y is g, y is u */
        const float *a = place == 1 ? y : g, *b = place == 2 ? y : u;
        if (place && n) memcpy(y, place == 1 ? g : u, (size_t)n * sizeof *y);
        y[n] = 77.0f;
        fn(y, a, b, n, kind, limit);
        int near = y[n] == 77.0f, i = 0;
        for (; near && i < n; i++) near = rows_near(y[i], want[i], 2e-6 * fabs((double)want[i]) + 1e-30);
        CHECK(near, "glu %s: kind %d, %d numbers, y place %d: g %g, u %g gives %g, want %g", isa, kind, n, place,
              i ? g[i - 1] : 0, i ? u[i - 1] : 0, i ? y[i - 1] : 0, i ? want[i - 1] : 0);
    }
}

static inline void test_glu(pg_glu_fn *fn, const char *isa)
{
    float g[120], u[120];
    for (int kind = PG_GLU_SILU; kind <= PG_GLU_CLAMP; kind++) {
        for (int n = 0; n < 110; n++) {
            for (int i = 0; i < n; i++) {
                g[i] = exp_input((int)rows_rand());
                u[i] = rows_wide(i % 5 == 0 ? 60 : 4);
            }
            glu_compare(fn, g, u, n, kind, isa);
        }
        for (int i = 0; i < 100; i++) {
            g[i] = special(i);
            u[i] = special(i / 10);
        }
        glu_compare(fn, g, u, 100, kind, isa);
    }
}

static inline void test_expsum(pg_expsum_fn *fn, const char *isa)
{
    float s[420], want[420];
    for (int n = 0; n < 400; n += n < 70 ? 1 : 11) {
        for (int kind = 0; kind < 5; kind++) {
            float top = -INFINITY;
            for (int i = 0; i < n; i++) {
                s[i] = kind == 0 || rows_below(4) ? exp_input((int)rows_rand()) : -INFINITY;
                if (kind == 2) s[i] = -INFINITY;
                top = fmaxf(top, s[i]);
            }
            if (kind == 3 && n) s[rows_below(n)] = NAN;
            if (kind == 4) top = rows_uniform() * 20; /* not the largest: scores above it count too */
            if (n) memcpy(want, s, (size_t)n * sizeof *s);
            s[n] = 77.0f;
            const float got = fn(s, top, n), sum = pg_expsum_ref(want, top, n);
            int near = s[n] == 77.0f;
            for (int i = 0; i < n; i++) near &= rows_near(s[i], want[i], 2e-6 * fabs((double)want[i]) + 1e-30);
            CHECK(near, "expsum %s: %d scores, kind %d", isa, n, kind);
            CHECK(rows_near(got, sum, 2e-6 * fabs((double)sum)), "expsum %s: %d scores, kind %d: %g, want %g", isa, n,
                  kind, got, sum);
        }
    }
}

#endif
