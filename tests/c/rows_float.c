/* rows_float: the references of the float rows against the same sums and functions in double precision. rows.c holds
 * the variants to the references. */
#include "rows.h"

static void test_products(void)
{
    enum { ROWS = 5, K = 150 };
    static float x[ROWS][K], y[ROWS * PG_PANEL], start[ROWS * PG_PANEL];
    _Alignas(64) static float w[K * PG_PANEL];
    const float *at[ROWS];
    for (int r = 0; r < ROWS; r++) {
        at[r] = x[r];
        for (int k = 0; k < K; k++) x[r][k] = rows_uniform();
        for (int o = 0; o < PG_PANEL; o++) y[PG_PANEL * r + o] = start[PG_PANEL * r + o] = rows_uniform();
    }
    for (int i = 0; i < K * PG_PANEL; i++) w[i] = rows_uniform();
    pg_fpanel_ref(y, at, w, ROWS, K);
    for (int i = 0; i < ROWS * PG_PANEL; i++) {
        double sum = (double)start[i], size = fabs(sum);
        for (int k = 0; k < K; k++) {
            const double term = (double)x[i / PG_PANEL][k] * (double)w[PG_PANEL * k + i % PG_PANEL];
            sum += term;
            size += fabs(term);
        }
        CHECK(fabs((double)y[i] - sum) <= 1e-6 * size, "fpanel %d: %g, want %g", i, y[i], sum);
    }
    for (int n = 0; n <= K; n++) {
        double sum = 0, size = 0;
        for (int k = 0; k < n; k++) {
            sum += (double)x[0][k] * (double)x[1][k];
            size += fabs((double)x[0][k] * (double)x[1][k]);
        }
        const double got = (double)pg_fdot_ref(x[0], x[1], n);
        CHECK(fabs(got - sum) <= 1e-6 * size, "fdot of %d: %g, want %g", n, got, sum);
    }
    /* One rounding a step: the product's low half survives. Two roundings would give 0. */
    const float a = 1.0f + 0x1p-12f, minus[2] = { -(1.0f + 0x1p-11f), a }, by[2] = { 1.0f, a };
    float chain[PG_PANEL] = { minus[0] };
    _Alignas(64) float column[PG_PANEL] = { a };
    const float *row = &a;
    pg_fpanel_ref(chain, &row, column, 1, 1);
    CHECK(chain[0] == 0x1p-24f, "fpanel keeps the product's low half: %g", chain[0]);
    float acc = minus[0];
    const pg_held held = { .at = &a, .step = 4, .dtype = PG_F32 };
    pg_pv_ref(&acc, 1, by, &a, 1, 1, &held, 1, 1);
    CHECK(acc == 0x1p-24f, "pv keeps the product's low half: %g", acc);
}

/* The order of the sums is part of the contract: big numbers that cancel only in that order. */
static void test_order(void)
{
    float a[32] = { 0 }, one[32];
    for (int i = 0; i < 32; i++) one[i] = 1.0f;
    a[0] = 0x1p40f, a[16] = -0x1p40f, a[1] = 1.0f;
    CHECK(pg_fdot_ref(a, one, 32) == 1.0f, "k = 0 and k = 16 share a sum");
    a[16] = 0, a[8] = -0x1p40f;
    CHECK(pg_fdot_ref(a, one, 32) == 1.0f, "sums 0 and 8 are folded first");
    a[8] = 0, a[2] = -0x1p40f;
    CHECK(pg_fdot_ref(a, one, 32) == 1.0f, "sums 0 and 2 are folded before 0 and 1");
    a[2] = 0, a[1] = -0x1p40f, a[2] = 1.0f;
    CHECK(pg_fdot_ref(a, one, 32) == 0.0f, "sums 0 and 1 are folded last");
}

/* Scores are pg_fdot's sums, whatever the keys are stored as. */
static void test_qk(void)
{
    enum { Q = 3, T = 5, D = 40 };
    const pg_dtype dtype[] = { PG_F32, PG_F16, PG_BF16 };
    float q[Q][D], k[T][D], s[Q * T];
    uint8_t stored[T * 4 * D];
    const float *at[Q] = { q[0], q[1], q[2] };
    for (int i = 0; i < Q * D; i++) q[i / D][i % D] = rows_wide(3);
    for (int type = 0; type < 3; type++) {
        const int64_t step = (int64_t)pg_dtype_bytes(dtype[type], D);
        for (int i = 0; i < T * D; i++) k[i / D][i % D] = rows_wide(3);
        for (int t = 0; t < T; t++) {
            pg_pack_of(dtype[type])(stored + t * step, k[t], D);
            pg_unpack_of(dtype[type])(k[t], stored + t * step, D);
        }
        const pg_held held = { .at = stored, .step = step, .dtype = dtype[type] };
        pg_qk_ref(s, T, at, Q, &held, T, D);
        for (int i = 0; i < Q * T; i++)
            CHECK(rows_same(s[i], pg_fdot_ref(q[i / T], k[i % T], D)), "qk: type %d, query %d, key %d", type, i / T,
                  i % T);
    }
}

static void test_pv(void)
{
    enum { Q = 3, T = 11, D = 37, STEP = 40 };
    static float v[T * STEP], acc[Q * STEP], start[Q * STEP], p[Q * T];
    const float keep[Q] = { 0.3f, 0.0f, 1.0f };
    for (int i = 0; i < T * STEP; i++) v[i] = rows_uniform();
    for (int t = 0; t < Q * T; t++) p[t] = fabsf(rows_uniform());
    for (int i = 0; i < Q * STEP; i++) acc[i] = start[i] = rows_uniform();
    const pg_held held = { .at = v, .step = STEP * sizeof(float), .dtype = PG_F32 };
    pg_pv_ref(acc, STEP, keep, p, T, Q, &held, T, D);
    for (int i = 0; i < Q * STEP; i++) {
        double sum = (double)start[i] * (i % STEP < D ? (double)keep[i / STEP] : 1);
        for (int t = 0; t < T && i % STEP < D; t++) sum += (double)p[i / STEP * T + t] * (double)v[t * STEP + i % STEP];
        CHECK(fabs((double)acc[i] - sum) <= 1e-5, "pv %d: %g, want %g", i, acc[i], sum);
    }
}

static void test_rmsnorm(void)
{
    float x[100], w[100], y[100];
    for (int n = 1; n <= 100; n++) {
        double squares = 0;
        const int e = rows_below(20) - 10;
        for (int i = 0; i < n; i++) {
            x[i] = ldexpf(rows_uniform(), e);
            w[i] = rows_uniform();
            squares += (double)x[i] * (double)x[i];
        }
        const double r = 1 / sqrt(squares / n + 1e-5);
        for (int weighted = 0; weighted < 2; weighted++) {
            double far = 0;
            pg_rmsnorm_ref(y, x, weighted ? w : NULL, n, 1e-5f);
            for (int i = 0; i < n; i++) {
                const double want = (double)x[i] * r * (weighted ? (double)w[i] : 1);
                const double off = fabs((double)y[i] - want) / fmax(fabs(want), 1e-30);
                if (off > far) far = off;
            }
            CHECK(far <= 1e-6, "rmsnorm of %d numbers, weighted %d: off by %g", n, weighted, far);
        }
    }
    float none = 0;
    pg_rmsnorm_ref(&none, &none, NULL, 1, 1e-6f);
    CHECK(none == 0, "a row of zeros stays zero");
}

static double gate(double g, double u, int kind, double limit)
{
    const double z = sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g);
    if (kind == PG_GLU_OSS || kind == PG_GLU_CLAMP) {
        g = fmin(g, limit);
        u = fmax(-limit, fmin(limit, u));
    }
    switch (kind) {
    case PG_GLU_GELU: return 0.5 * g * (1 + tanh(z)) * u;
    case PG_GLU_OSS: return (u + 1) * g / (1 + exp(-1.702 * g));
    default: return g / (1 + exp(-g)) * u;
    }
}

static void test_glu(void)
{
    for (int kind = PG_GLU_SILU; kind <= PG_GLU_CLAMP; kind++) {
        double far = 0;
        float worst = 0;
        for (int i = 0; i < 4000; i++) {
            const float g = rows_uniform() * (i % 2 ? 4.0f : 12.0f), u = rows_uniform() * 12.0f;
            float y;
            pg_glu_ref(&y, &g, &u, 1, kind, 7.0f);
            const double want = gate((double)g, (double)u, kind, 7.0);
            /* 1 + tanh loses digits in double too where it is below 1e-10, and an argument of 40 rounds by 4e-6 */
            const double off = fabs((double)y - want) / (fabs(want) + 1e-9);
            if (off > far) far = off, worst = g;
        }
        CHECK(far <= 1e-5, "glu kind %d: off by %g at %g", kind, far, worst);
    }
    const float g[2] = { 100.0f, -1.0f }, u[2] = { -100.0f, 100.0f };
    float y[2];
    pg_glu_ref(y, g, u, 2, PG_GLU_CLAMP, 7.0f);
    CHECK(fabsf(y[0] + 48.955360f) < 1e-4f && fabsf(y[1] + 1.8825890f) < 1e-5f, "clamped: %g %g", y[0], y[1]);
    pg_glu_ref(y, g, u, 2, PG_GLU_OSS, 7.0f);
    CHECK(fabsf(y[0] + 41.999718f) < 1e-4f && fabsf(y[1] + 1.2336339f) < 1e-5f, "oss: %g %g", y[0], y[1]);
    pg_glu_ref(y, g, u, 2, PG_GLU_SILU, 7.0f);
    CHECK(y[0] == -10000.0f && fabsf(y[1] + 26.894142f) < 1e-5f, "silu ignores the limit: %g %g", y[0], y[1]);
}

/* One query over two batches of scores, against the exponentials themselves. */
static void test_softmax(void)
{
    float s[50];
    for (int n = 0; n <= 50; n++) {
        float top = n % 3 ? -INFINITY : rows_uniform() * 30.0f, most = top, sum = n % 3 ? 0.0f : 1.5f, keep, from[50];
        const double old = (double)sum, scale = 0.7f;
        for (int i = 0; i < n; i++) {
            from[i] = s[i] = i % 7 == 3 ? -INFINITY : rows_uniform() * 30.0f;
            most = fmaxf(most, from[i] * (float)scale);
        }
        const float was = top;
        pg_softmax_ref(&top, &sum, &keep, s, 50, 1, n, (float)scale);
        const double by = was == most ? 1 : exp((double)(was - most));
        double want = old * by;
        CHECK(top == most, "largest of %d: %g, want %g", n, top, most);
        CHECK(fabs((double)keep - by) <= 1e-6 * by, "what is kept: %g, want %g", keep, by);
        for (int i = 0; i < n; i++) {
            const double e = isinf(from[i]) ? 0 : exp((double)(from[i] * (float)scale - most));
            want += e;
            CHECK(fabs((double)s[i] - e) <= 1e-6 * e, "exp(%g) gives %g", e, s[i]);
        }
        CHECK(fabs((double)sum - want) <= 1e-6 * want, "sum of %d: %g, want %g", n, sum, want);
    }
    float none[3] = { -INFINITY, -INFINITY, -INFINITY }, top = -INFINITY, sum = 0, keep = 7;
    pg_softmax_ref(&top, &sum, &keep, none, 3, 1, 3, 0.5f);
    CHECK(top == -INFINITY && sum == 0 && keep == 0 && none[0] == 0, "a query that sees nothing: %g %g", sum, keep);
    float bad[2] = { NAN, 1.0f };
    pg_softmax_ref(&top, &sum, &keep, bad, 2, 1, 2, 1.0f);
    CHECK(isnan(bad[0]) && isnan(sum) && top == 1 && keep == 0 && bad[1] == 1, "a NaN shows in the sum alone");
}

/* What the cache's 8-bit format promises: half a step, and a step that fits f16. */
static void test_pack_q8_0(void)
{
    float x[32], y[32];
    uint8_t w[34];
    for (int round = 0; round < 500; round++) {
        float amax = 0;
        const int e = rows_below(20) - 10;
        for (int i = 0; i < 32; i++) {
            x[i] = ldexpf(rows_uniform(), e);
            if (fabsf(x[i]) > amax) amax = fabsf(x[i]);
        }
        pg_pack_q8_0_ref(w, x, 32);
        pg_unpack_q8_0_ref(y, w, 32);
        const float d = amax / 127;
        int wrong = 0, top = 0;
        for (int i = 0; i < 32; i++) {
            wrong += fabsf(x[i] - y[i]) > d / 2 + fabsf(x[i]) * 0x1p-10f + 127 * 0x1p-25f;
            top |= fabsf(x[i]) == amax && abs((int8_t)w[2 + i]) == 127;
        }
        CHECK(!wrong && top, "%d of 32 are more than half a step away; largest reached: %d", wrong, top);
    }
    for (int i = 0; i < 32; i++) x[i] = (float)(i - 16) / 2; /* 127 / 2 sets d to 1/2: 2 x is whole; ties need d = 1 */
    x[0] = 127.0f;
    pg_pack_q8_0_ref(w, x, 32);
    CHECK((int8_t)w[2 + 1] == -8 && (int8_t)w[2 + 15] == -1 && (int8_t)w[2 + 17] == 1 && (int8_t)w[2 + 19] == 2,
          "ties go away from zero: -7.5 %d, -0.5 %d, 0.5 %d, 1.5 %d", (int8_t)w[3], (int8_t)w[17], (int8_t)w[19],
          (int8_t)w[21]);
    x[5] = NAN;
    pg_pack_q8_0_ref(w, x, 32);
    CHECK(isnan(pg_f16_to_f32((uint16_t)(w[0] | w[1] << 8))) && w[2] == 0, "NaN marks the block");
}

static void test_q8row(void)
{
    float x[64];
    pg_q8 q[4] = { 0 };
    for (int i = 0; i < 32; i++) x[i] = (float)(i - 16) / 2;
    for (int i = 32; i < 64; i++) x[i] = 1.0f;
    x[0] = 127.0f;
    pg_q8row_ref(q, 2, x, 64);
    CHECK(q->d == 1.0f && q->q[0] == 127 && q->q[1] == -8 && q->q[3] == -6 && q->q[15] == 0 && q->q[17] == 0 &&
              q->q[19] == 2,
          "ties go to the even: -6.5 %d, -0.5 %d, 0.5 %d, 1.5 %d", q->q[3], q->q[15], q->q[17], q->q[19]);
    int sum[2] = { 0, 0 };
    for (int i = 0; i < 32; i++) sum[i / 16] += q->q[i];
    CHECK(q->low == sum[0] && q->sum == sum[0] + sum[1] && q->ds == (float)q->sum, "sums");
    CHECK(q[1].d == 0 && q[2].d == 1.0f / 127 && q[2].q[31] == 127 && q[2].low == 16 * 127 &&
              q[2].ds == q[2].d * (32 * 127),
          "the second block is two records on");
    x[31] = INFINITY;
    pg_q8row_ref(q, 1, x, 32);
    CHECK(isnan(q->d) && q->q[0] == 0 && q->sum == 0 && q->low == 0, "an infinity marks the block");
    for (int i = 0; i < 32; i++) x[i] = 1e-42f;
    pg_q8row_ref(q, 1, x, 32);
    CHECK(q->d == 0 && q->q[0] == 0 && q->ds == 0, "too small to scale is zero");
}

int main(void)
{
    test_products();
    test_order();
    test_qk();
    test_pv();
    test_rmsnorm();
    test_glu();
    test_softmax();
    test_pack_q8_0();
    test_q8row();
    return check_done("rows_float");
}
