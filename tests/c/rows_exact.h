/* rows_exact.h: tests of the rows whose variants equal the reference bit for bit. rows.c calls them. */
#ifndef PG_TEST_ROWS_EXACT_H
#define PG_TEST_ROWS_EXACT_H

#include "rows.h"

enum { GUARD = 8 }; /* numbers behind an output that must stay as they are */
static const float guard = -12345.5f;

static inline int guard_whole(const float *y)
{
    for (int i = 0; i < GUARD; i++)
        if (y[i] != guard) return 0;
    return 1;
}

/* The same stored bytes through both, at this offset from alignment. */
static inline int unpack_same(pg_unpack_fn *fn, pg_unpack_fn *ref, const uint8_t *bytes, size_t size, int64_t n,
                              int off)
{
    void *base, *out;
    uint8_t *x = rows_alloc(&base, size, off);
    float *a = rows_alloc(&out, (size_t)(2 * n + GUARD) * sizeof *a, 4 * (off % 4)), *b = a + n + GUARD;
    if (size) memcpy(x, bytes, size);
    for (int i = 0; i < GUARD; i++) a[n + i] = guard;
    ref(b, x, n);
    fn(a, x, n);
    const int same = rows_same_n(a, b, n) && guard_whole(a + n);
    free(base);
    free(out);
    return same;
}

static inline void unpack_case(pg_unpack_fn *fn, pg_unpack_fn *ref, pg_dtype type, const char *row, const char *isa)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    const int most = info->block == 1 ? 40 : 11;
    uint8_t *x = malloc((size_t)(most * info->bytes));
    if (!x) exit(1);
    for (int blocks = 0; blocks <= most; blocks++) {
        for (int off = 0; off < 16; off++) {
            /* random bytes: factors may be infinite, NaN, subnormal */
            for (int i = 0; i < blocks * info->bytes; i++) x[i] = (uint8_t)rows_rand();
            CHECK(unpack_same(fn, ref, x, (size_t)(blocks * info->bytes), (int64_t)blocks * info->block, off),
                  "%s %s: %d blocks at offset %d", row, isa, blocks, off);
        }
    }
    for (int e = 0; type == PG_MXFP4 && e < 256; e++) {
        for (int i = 0; i < 17; i++) x[i] = (uint8_t)(i ? rows_rand() : (unsigned)e);
        CHECK(unpack_same(fn, ref, x, 17, 32, 0), "%s %s: scale byte %d", row, isa, e);
    }
    free(x);
    if (info->block > 1 || info->bytes > 2) return;
    const int codes = info->bytes == 2 ? 65536 : 256;
    uint8_t *all = malloc((size_t)(codes * info->bytes));
    if (!all) exit(1);
    for (int i = 0; i < codes; i++)
        for (int k = 0; k < info->bytes; k++) all[i * info->bytes + k] = (uint8_t)(i >> 8 * k);
    CHECK(unpack_same(fn, ref, all, (size_t)(codes * info->bytes), codes, 1), "%s %s: every code", row, isa);
    free(all);
}

/* Inputs on which rounding is hard: ties, the ends of ranges, what is not finite. */
static inline float hard(int i)
{
    static const float list[] = { 0.0f,
                                  -0.0f,
                                  65504.0f,
                                  65519.996f,
                                  65520.0f,
                                  65536.0f,
                                  0x1p-14f,
                                  0x1.ffcp-15f,
                                  0x1p-24f,
                                  0x1p-25f,
                                  0x1.8p-25f,
                                  0x1.000002p-25f,
                                  1.0009765625f,
                                  1.00048828125f,
                                  1.00146484375f,
                                  1.00390625f,
                                  1.01171875f,
                                  0x1p-126f,
                                  0x1p-149f,
                                  0x1.fffffep127f,
                                  0x1.feffffp127f,
                                  127.5f,
                                  0.49999997f,
                                  0.5f,
                                  1.5f,
                                  2.5f };
    const int n = sizeof list / sizeof *list;
    if (i % 3 == 0) return rows_any();
    return i % 3 == 1 ? list[rows_below(n)] : -list[rows_below(n)];
}

static inline void pack_once(pg_pack_fn *fn, pg_pack_fn *ref, pg_dtype type, const float *x, int64_t n, int off,
                             const char *row, const char *isa)
{
    const size_t size = pg_dtype_bytes(type, n);
    void *base[3];
    uint8_t *a = rows_alloc(&base[0], size, off), *b = rows_alloc(&base[1], size, 0);
    float *v = rows_alloc(&base[2], (size_t)n * sizeof *v, 4 * (off % 4));
    if (n) memcpy(v, x, (size_t)n * sizeof *v);
    fn(a, v, n);
    ref(b, v, n);
    int same = 1;
    const size_t step = type == PG_Q8_0 ? 34 : type == PG_F32 ? 4 : 2;
    for (size_t i = 0; i < size; i += step) {
        if (!memcmp(a + i, b + i, step)) continue;
        float fa, fb; /* they differ: only two NaNs may */
        pg_unpack_of(type == PG_Q8_0 ? PG_F16 : type)(&fa, a + i, 1);
        pg_unpack_of(type == PG_Q8_0 ? PG_F16 : type)(&fb, b + i, 1);
        same &= isnan(fa) && isnan(fb) && (type != PG_Q8_0 || !memcmp(a + i + 2, b + i + 2, 32));
    }
    CHECK(same, "%s %s: %lld numbers at offset %d", row, isa, (long long)n, off);
    for (int i = 0; i < 3; i++) free(base[i]);
}

static inline void pack_case(pg_pack_fn *fn, pg_pack_fn *ref, pg_dtype type, const char *row, const char *isa)
{
    const int block = pg_dtype_get(type)->block, most = block == 1 ? 70 : 9;
    float x[32 * 9];
    for (int blocks = 0; blocks <= most; blocks++) {
        const int n = blocks * block;
        for (int off = 0; off < 16; off++) {
            for (int i = 0; i < n; i++) x[i] = hard(i + off);
            pack_once(fn, ref, type, x, n, off, row, isa);
        }
    }
    for (int e = -150; e < 127; e++) { /* every size of a block, halves of its step, which are ties */
        for (int i = 0; i < 64; i++) x[i] = ldexpf((float)(i % 2 ? rows_below(511) - 255 : 254) / 254, e);
        pack_once(fn, ref, type, x, 64, 0, row, isa);
    }
}

static inline void test_fpanel(pg_fpanel_fn *fn, const char *isa)
{
    enum { ROWS = 30, K = 67 };
    static float x[ROWS * K + 1];
    _Alignas(64) static float w[K * PG_PANEL];
    static float y[ROWS * PG_PANEL + GUARD], want[ROWS * PG_PANEL];
    const float *at[ROWS];
    const int length[] = { 0, 1, 2, 3, 8, K };
    for (int n_row = 0; n_row <= ROWS; n_row++) {
        for (int l = 0; l < 6; l++) {
            const int kb = length[l], wild = rows_below(3) == 0;
            for (int i = 0; i < kb * PG_PANEL; i++) w[i] = wild && rows_below(40) == 0 ? rows_any() : rows_wide(20);
            for (int i = 0; i <= ROWS * K; i++) x[i] = wild && rows_below(200) == 0 ? rows_any() : rows_wide(20);
            for (int r = 0; r < n_row; r++) at[r] = x + rows_below(ROWS * K + 2 - K);
            for (int i = 0; i < n_row * PG_PANEL; i++) y[i] = want[i] = rows_wide(20);
            for (int i = 0; i < GUARD; i++) y[n_row * PG_PANEL + i] = guard;
            fn(y, at, w, n_row, kb);
            pg_fpanel_ref(want, at, w, n_row, kb);
            CHECK(rows_same_n(y, want, n_row * PG_PANEL) && guard_whole(y + n_row * PG_PANEL),
                  "fpanel %s: %d rows, %d columns", isa, n_row, kb);
        }
    }
}

static inline void test_fdot(pg_fdot_fn *fn, const char *isa)
{
    for (int n = 0; n < 300; n++) {
        void *base[2];
        float *a = rows_alloc(&base[0], (size_t)n * sizeof *a, 4 * (n % 4));
        float *b = rows_alloc(&base[1], (size_t)n * sizeof *b, 4 * (n / 4 % 4));
        for (int kind = 0; kind < 3; kind++) {
            for (int i = 0; i < n; i++) { /* ordinary; so small that -0 turns up in the sums; anything */
                a[i] = kind == 0 ? rows_wide(10) : kind == 1 ? rows_uniform() * 0x1p-80f : rows_any();
                b[i] = kind == 0 ? rows_wide(10) : kind == 1 ? -a[i] : rows_wide(10);
            }
            CHECK(rows_same(fn(a, b, n), pg_fdot_ref(a, b, n)), "fdot %s: %d numbers, kind %d", isa, n, kind);
        }
        free(base[0]);
        free(base[1]);
    }
}

/* Stored rows against the same rows as f32, which is more than the reference; at odd addresses, too. */
static inline void fdot16_case(pg_fdot16_fn *fn, pg_fdot16_fn *ref, pg_unpack_fn *unpack, const char *row,
                               const char *isa)
{
    for (int n = 0; n < 150; n++) {
        void *base[2];
        uint8_t *w = rows_alloc(&base[0], (size_t)n * 2, n % 5);
        float *x = rows_alloc(&base[1], (size_t)n * sizeof *x, 4 * (n % 4)), v[150];
        for (int kind = 0; kind < 4; kind++) {
            for (int i = 0; i < n; i++) { /* numbers near 1; so small that -0 turns up in the sums; anything */
                const unsigned bits = rows_rand();
                w[2 * i] = (uint8_t)bits;
                w[2 * i + 1] = (uint8_t)(kind == 0 ? 0x38 + bits / 256 % 8 : kind == 1 ? 0 : bits / 256);
                x[i] = kind == 3 ? rows_any() : kind == 1 ? rows_uniform() * -0x1p-120f : rows_wide(10);
            }
            unpack(v, w, n);
            const float got = fn(w, x, n);
            CHECK(rows_same(got, ref(w, x, n)) && rows_same(got, pg_fdot_ref(v, x, n)), "%s %s: %d numbers, kind %d",
                  row, isa, n, kind);
        }
        free(base[0]);
        free(base[1]);
    }
}

static inline void test_fdot_f16(pg_fdot16_fn *fn, const char *isa)
{
    fdot16_case(fn, pg_fdot_f16_ref, pg_unpack_f16_ref, "fdot_f16", isa);
}
static inline void test_fdot_bf16(pg_fdot16_fn *fn, const char *isa)
{
    fdot16_case(fn, pg_fdot_bf16_ref, pg_unpack_bf16_ref, "fdot_bf16", isa);
}

static inline void test_rmsnorm(pg_rmsnorm_fn *fn, const char *isa)
{
    static float x[200], w[200], y[200 + GUARD], want[200];
    for (int n = 0; n < 200; n++) {
        for (int kind = 0; kind < 6; kind++) {
            const float *by = kind % 2 ? w : NULL;
            for (int i = 0; i < n; i++) {
                x[i] = kind < 2 ? rows_wide(8) : kind < 4 ? 0.0f : rows_any();
                w[i] = rows_wide(3);
                y[i] = x[i];
            }
            for (int i = 0; i < GUARD; i++) y[n + i] = guard;
            const float eps = kind == 2 ? 0.0f : 1e-6f;
            pg_rmsnorm_ref(want, x, by, n, eps);
            fn(y, y, by, n, eps);
            CHECK(rows_same_n(y, want, n) && guard_whole(y + n), "rmsnorm %s: %d numbers, kind %d", isa, n, kind);
            if (n) fn(y, x, by, n, eps);
            CHECK(rows_same_n(y, want, n), "rmsnorm %s: %d numbers, kind %d, in another place", isa, n, kind);
        }
    }
}

/* Numbers of many sizes, now and then anything. */
static inline void fill_some(float *x, int64_t n, int wild)
{
    for (int64_t i = 0; i < n; i++) x[i] = wild && rows_below(30) == 0 ? rows_any() : rows_wide(6);
}

/* n rows of d numbers in one of the cache's formats, `step` bytes apart; free(*base). */
static inline pg_held held_rows(void **base, pg_dtype dtype, int n, int d, int64_t step, int offset, int wild)
{
    const size_t bytes = n ? (size_t)((n - 1) * step) + pg_dtype_bytes(dtype, d) : 0;
    char *at = rows_alloc(base, bytes, offset);
    for (size_t i = 0; i < bytes; i++) at[i] = 0;
    for (int t = 0; t < n; t++) {
        for (int c = 0; c < d; c++) {
            const float x = wild && rows_below(30) == 0 ? rows_any() : rows_wide(6);
            pg_pack_of(dtype)(at + t * step + (int64_t)pg_dtype_bytes(dtype, c), &x, 1);
        }
    }
    return (pg_held){ .at = at, .step = step, .dtype = dtype };
}

static const pg_dtype held_type[] = { PG_F32, PG_F16, PG_BF16 };

static inline void test_qk(pg_qk_fn *fn, const char *isa)
{
    const int widths[] = { 0, 1, 5, 15, 16, 17, 24, 31, 32, 48, 80, 100, 128, 576 };
    for (int w = 0; w < 14 * 3; w++) {
        for (int n_q = 0; n_q <= 9; n_q++) {
            for (int n_k = 0; n_k <= 19; n_k += 1 + rows_below(5)) {
                const int d = widths[w / 3], s_step = n_k + GUARD, wild = rows_below(3) == 0;
                const pg_dtype dtype = held_type[w % 3];
                const int64_t step = (int64_t)pg_dtype_bytes(dtype, d + rows_below(5));
                void *base[2];
                float *q = rows_alloc(&base[0], (size_t)(9 + d) * sizeof *q, 0);
                pg_held k = held_rows(&base[1], dtype, n_k, d, step, 4 * (w % 4), wild);
                float s[9 * (19 + GUARD)], want[9 * (19 + GUARD)];
                const float *at[9];
                fill_some(q, 9 + d, wild);
                for (int i = 0; i < 9; i++) at[i] = q + (7 * i) % 10; /* may overlap */
                for (int i = 0; i < 9 * s_step; i++) s[i] = want[i] = guard;
                pg_qk_ref(want, s_step, at, n_q, &k, n_k, d);
                if (n_q % 2) k.soon = k.at, k.soon_step = step, k.soon_bytes = step; /* any address will do */
                fn(s, s_step, at, n_q, &k, n_k, d);
                CHECK(rows_same_n(s, want, 9 * s_step), "qk %s: %d queries, %d keys of %d %s", isa, n_q, n_k, d,
                      pg_dtype_get(dtype)->name);
                free(base[0]);
                free(base[1]);
            }
        }
    }
}

/* Scores around everything that happens to an exponential; some queries have seen nothing yet, or only infinities. */
static inline float softmax_input(int kind)
{
    switch (kind == 4 ? 0 : rows_below(12)) {
    case 0: return rows_below(2) ? -INFINITY : rows_below(20) ? rows_wide(30) : rows_any();
    case 1: return -103.97208f + rows_uniform() * 0.01f;
    case 2: return rows_uniform() * 110.0f;
    default: return kind == 3 ? -INFINITY : rows_uniform() * 8.0f;
    }
}

static inline void test_softmax(pg_softmax_fn *fn, const char *isa)
{
    enum { Q = 35, N = 70, STEP = N + GUARD };
    static float s[Q * STEP], want[Q * STEP], state[3][Q + GUARD], ref[3][Q + GUARD];
    for (int n = 0; n <= N; n += n < 34 ? 1 : 9) {
        for (int n_q = 0; n_q <= Q; n_q += 1 + rows_below(6)) {
            const int kind = rows_below(5);
            const float scale = rows_below(2) ? 1.0f : 0.3f;
            for (int i = 0; i < Q * STEP; i++) s[i] = want[i] = i % STEP < n ? softmax_input(kind) : guard;
            for (int i = 0; i < Q + GUARD; i++) {
                state[0][i] = ref[0][i] = rows_below(3) ? softmax_input(0) : -INFINITY;
                state[1][i] = ref[1][i] = fabsf(rows_wide(5));
                state[2][i] = ref[2][i] = guard;
            }
            fn(state[0], state[1], state[2], s, STEP, n_q, n, scale);
            pg_softmax_ref(ref[0], ref[1], ref[2], want, STEP, n_q, n, scale);
            int same = rows_same_n(s, want, Q * STEP) && rows_same_n(state[1], ref[1], Q + GUARD);
            same &= rows_same_n(state[2], ref[2], Q + GUARD);
            for (int i = 0; i < Q + GUARD; i++)
                same &= rows_same(state[0][i], ref[0][i]) || state[0][i] == ref[0][i]; /* zeros of either sign */
            CHECK(same, "softmax %s: %d queries, %d scores, kind %d", isa, n_q, n, kind);
        }
    }
}

static inline void test_pv(pg_pv_fn *fn, const char *isa)
{
    enum { Q = 9, T = 9, D = 210 };
    for (int d = 0; d < D; d += d < 20 ? 1 : 7) {
        for (int n_q = 0; n_q <= Q; n_q++) {
            const int n_t = rows_below(T + 1), wild = rows_below(3) == 0, acc_step = d + GUARD, p_step = T + 1;
            const pg_dtype dtype = held_type[rows_below(3)];
            const int64_t step = (int64_t)pg_dtype_bytes(dtype, d + rows_below(5));
            void *base;
            pg_held v = held_rows(&base, dtype, n_t, d, step, 4 * rows_below(4), wild);
            static float y[Q * (D + GUARD)], want[Q * (D + GUARD)];
            float p[Q * (T + 1)], keep[Q];
            fill_some(p, Q * (T + 1), wild);
            for (int i = 0; i < Q; i++) keep[i] = rows_below(3) ? rows_uniform() : 0.0f;
            for (int i = 0; i < Q * acc_step; i++)
                y[i] = want[i] = i % acc_step >= d ? guard : keep[i / acc_step] == 0 ? rows_any() : rows_wide(6);
            pg_pv_ref(want, acc_step, keep, p, p_step, n_q, &v, n_t, d);
            if (n_q % 2) v.soon = v.at, v.soon_step = step, v.soon_bytes = step;
            fn(y, acc_step, keep, p, p_step, n_q, &v, n_t, d);
            CHECK(rows_same_n(y, want, Q * acc_step), "pv %s: %d queries, %d rows of %d %s", isa, n_q, n_t, d,
                  pg_dtype_get(dtype)->name);
            free(base);
        }
    }
}

static inline void test_stream(pg_stream_fn *fn, const char *isa)
{
    static _Alignas(64) uint64_t x[40 * 32];
    for (int blocks = 0; blocks <= 40; blocks++) {
        uint64_t want = 0;
        for (int i = 0; i < 32 * blocks; i++) want ^= x[i] = (uint64_t)rows_rand() << 40 ^ (uint64_t)rows_rand() << 20;
        for (int way = 0; way < 6; way++) {
            static const size_t ahead[3] = { 0, 64, 1 << 20 };
            CHECK(fn(x, (size_t)blocks * 256, way < 3 ? 1 : 4, ahead[way % 3]) == want, "stream %s: %d bytes, way %d",
                  isa, 256 * blocks, way);
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
        int same = y[n] == 77.0f, i = 0;
        for (; same && i < n; i++) same = rows_same(y[i], want[i]);
        CHECK(same, "glu %s: kind %d, %d numbers, y place %d: g %g, u %g gives %g, want %g", isa, kind, n, place,
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
