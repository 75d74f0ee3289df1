/* rows_qmul.h: tests of the packed 8-bit product and of rounding into its records: every variant equals the reference
 * bit for bit. rows.c calls them; the references themselves are held to the formats' formulas in rows_formats.c. */
#ifndef PG_TEST_ROWS_QMUL_H
#define PG_TEST_ROWS_QMUL_H

#include "rows.h"

enum { QMUL_RANDOM, QMUL_LARGEST, QMUL_SMALL, QMUL_WIDE, QMUL_BAD_ROW, QMUL_BAD_WEIGHT, QMUL_KINDS };

/* A rounded block of this kind; `last`: of the last block of columns. */
static inline void qmul_fill_row(pg_q8 *x, int kind, int last)
{
    const int lean = rows_below(4); /* 0, 1: all of one sign, so that no sum of products cancels */
    x->d = kind == QMUL_WIDE ? fabsf(rows_wide(30)) : 0.01f * fabsf(rows_uniform());
    if (kind == QMUL_BAD_ROW && last) x->d = NAN; /* what q8row leaves of a block that held an infinity */
    x->sum = x->low = 0;
    for (int i = 0; i < 32; i++) {
        const int sign = lean == 0 ? 1 : lean == 1 ? -1 : rows_below(2) ? 1 : -1;
        x->q[i] = (int8_t)(kind == QMUL_LARGEST ? 127 * sign : rows_below(255) - 127);
        if (isnan(x->d)) x->q[i] = 0;
        x->sum += x->q[i];
        if (i == 15) x->low = x->sum;
    }
    x->ds = x->d * (float)x->sum;
}

/* n stored blocks of this kind. */
static inline void qmul_fill_blocks(uint8_t *w, pg_dtype type, int n, int kind)
{
    static const int ends[] = { 0xff, 0x80, 0x00, 0x7f, 0x77 }; /* codes and scales at the ends of their ranges */
    const pg_dtype_info *info = pg_dtype_get(type);
    const int d = rows_factor_at(type), m = rows_min_at(type);
    rows_fill_blocks(w, type, (int64_t)n * info->block);
    for (int i = 0; i < n; i++, w += info->bytes) {
        if (kind == QMUL_LARGEST) {
            memset(w, ends[rows_below(5)], (size_t)info->bytes);
            if (type == PG_MXFP4) w[0] = 127;
            if (d >= 0) rows_put_half(w + d, 1.0f);
            if (m >= 0) rows_put_half(w + m, -2.0f);
        }
        if (kind == QMUL_SMALL && d >= 0) rows_put_half(w + d, 0x1p-24f);
        if (kind == QMUL_SMALL && type == PG_MXFP4) w[0] = (uint8_t)rows_below(40);
        if (kind != QMUL_BAD_WEIGHT || rows_below(3 * n)) continue;
        if (d >= 0) rows_put_half(w + d, rows_below(2) ? INFINITY : NAN);
        if (type == PG_MXFP4) w[0] = (uint8_t)(254 + rows_below(2));
    }
}

/* One panel of n_block blocks meets n_row rows, in allocations without a byte to spare. */
static inline void qmul_once(pg_qmul_fn *fn, pg_qmul_fn *ref, pg_dtype type, int n_row, int n_block, int kind,
                             const char *isa)
{
    enum { GUARD_BYTES = 32 };
    const pg_dtype_info *info = pg_dtype_get(type);
    const int64_t k = (int64_t)n_block * info->block;
    const size_t bytes = (size_t)(PG_PANEL * n_block * info->bytes), n_y = (size_t)n_row * PG_PANEL;
    const int off = rows_below(64);
    void *base[5];
    uint8_t *stored = rows_alloc(&base[0], bytes, 0), *panel = rows_alloc(&base[1], bytes, off);
    pg_q8 *x = rows_alloc(&base[2], (size_t)(k / 32 * n_row) * sizeof *x, 4 * rows_below(4));
    float *y = rows_alloc(&base[3], n_y * sizeof *y + GUARD_BYTES, 4 * rows_below(4));
    float *want = rows_alloc(&base[4], n_y * sizeof *y, 0);
    qmul_fill_blocks(stored, type, PG_PANEL * n_block, kind);
    const pg_tensor w = pg_tensor_dense(type, stored, k, PG_PANEL, 1);
    pg_panel_pack(panel, &w, 0);
    for (int64_t b = 0; b < k / 32; b++)
        for (int r = 0; r < n_row; r++) qmul_fill_row(&x[b * n_row + r], kind, b == k / 32 - 1 && rows_below(2));
    memset(y, 0xff, n_y * sizeof *y + GUARD_BYTES); /* NaN: what is there before must not matter */
    ref(want, panel, x, n_row, k);
    fn(y, panel, x, n_row, k);
    int behind = 0;
    for (int i = 0; i < GUARD_BYTES; i++) behind |= ((uint8_t *)(y + n_y))[i] != 0xff;
    CHECK(rows_same_n(y, want, (int64_t)n_y) && !behind, "qmul %s %s: %d rows, %d blocks, kind %d, offset %d",
          info->name, isa, n_row, n_block, kind, off);
    for (int i = 0; i < 5; i++) free(base[i]);
}

static inline void qmul_case(pg_qmul_fn *fn, pg_qmul_fn *ref, pg_dtype type, const char *isa)
{
    const int most = pg_dtype_get(type)->block == 32 ? 9 : 3;
    for (int n_row = 1; n_row <= 40; n_row++)
        for (int kind = 0; kind < QMUL_KINDS; kind++) qmul_once(fn, ref, type, n_row, 1 + rows_below(most), kind, isa);
    for (int n_block = 1; n_block <= most; n_block++)
        for (int kind = 0; kind < QMUL_KINDS; kind++) qmul_once(fn, ref, type, 1, n_block, kind, isa);
    for (int kind = 0; kind < QMUL_KINDS; kind++) qmul_once(fn, ref, type, 150, 1, kind, isa);
}

static inline void test_q8row(pg_q8row_fn *fn, const char *isa)
{
    enum { MOST = 8, STEP = 3 };
    static float x[32 * MOST];
    static pg_q8 a[MOST * STEP], b[MOST * STEP];
    for (int blocks = 0; blocks <= MOST; blocks++) {
        for (int round = 0; round < 60; round++) {
            const int step = 1 + round % STEP;
            for (int i = 0; i < 32 * blocks; i += 32) {
                const int e = rows_below(278) - 150, kind = rows_below(6);
                for (int j = i; j < i + 32; j++)
                    x[j] = kind == 0   ? rows_any()
                           : kind == 1 ? 0.0f
                           : kind == 2 ? ldexpf((float)(rows_below(509) - 254) / 254, e) /* ties */
                                       : ldexpf(rows_uniform(), e);
            }
            memset(a, 0x55, sizeof a);
            memset(b, 0x55, sizeof b);
            fn(a, step, x, 32 * blocks);
            pg_q8row_ref(b, step, x, 32 * blocks);
            int same = 1; /* also what lies between and behind */
            for (int i = 0; i < MOST * STEP; i++)
                same &= !memcmp(a[i].q, b[i].q, 32) && rows_same(a[i].d, b[i].d) && rows_same(a[i].ds, b[i].ds) &&
                        a[i].sum == b[i].sum && a[i].low == b[i].low;
            CHECK(same, "q8row %s: %d blocks, step %d, round %d", isa, blocks, step, round);
        }
    }
}

#endif
