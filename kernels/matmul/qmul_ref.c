/* qmul, reference: the chain that matmul.h writes down, from blocks put back into the format's own order. */
#include "../cpu/isa.h"
#include "../unpack/blocks.h"

#include <math.h>

/* One block of 32 columns from column `at` of the block: y = fma(factor, dot, y), once, or once for each 16. */
static float meet(float y, const pg_block *b, int at, const pg_q8 *x, int by16, int has_min)
{
    const int n = by16 ? 2 : 1, width = 32 / n;
    for (int i = 0; i < n; i++) {
        const int from = i * width;
        int dot = 0;
        for (int j = from; j < from + width; j++) dot += b->q[at + j] * x->q[j];
        y = fmaf(b->d[(at + from) / 16] * x->d, (float)dot, y);
    }
    for (int i = 0; has_min && i < n; i++) {
        const int sum = i ? x->sum - x->low : x->low;
        y = fmaf(b->m[(at + i * width) / 16], by16 ? x->d * (float)sum : x->ds, y);
    }
    return y;
}

static void qmul(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k, pg_dtype type, pg_block_fn *decode,
                 int has_min)
{
    const pg_tensor w = { .dtype = type, .data = panel };
    const int block = pg_dtype_get(type)->block, by16 = type == PG_Q2_K || type == PG_Q3_K || type == PG_Q6_K;
    memset(y, 0, (size_t)n_row * PG_PANEL * sizeof *y);
    for (int64_t i = 0; i < k; i += block)
        for (int o = 0; o < PG_PANEL; o++) {
            uint8_t stored[256];
            pg_block b;
            pg_panel_block(stored, &w, o, i / block);
            decode(&b, stored);
            for (int at = 0; at < block; at += 32)
                for (int r = 0; r < n_row; r++)
                    y[r * PG_PANEL + o] =
                        meet(y[r * PG_PANEL + o], &b, at, x + (i + at) / 32 * n_row + r, by16, has_min);
        }
}

#define F(name, type, has_min)                                                                   \
    void pg_qmul_##name##_ref(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k) \
    {                                                                                            \
        qmul(y, panel, x, n_row, k, type, pg_block_##name, has_min);                             \
    }
PG_BLOCK_LIST(F)
#undef F
