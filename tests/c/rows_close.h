/* rows_close.h: tests of the rows whose variants come within a stated tolerance of the reference. rows.c calls them. */
#ifndef PG_TEST_ROWS_CLOSE_H
#define PG_TEST_ROWS_CLOSE_H

#include "rows.h"

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

#endif
