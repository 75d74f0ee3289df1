/* panel: the permutation and its inverse. */
#include "panel.h"

/* The units of a format's block in the order in which a packed block has them: n units of `size` bytes, the first at
 * byte `at`. Factors come first and codes in the order in which kernels read them, so that a matrix streams. A
 * run of no units ends the list. */
typedef struct run {
    uint8_t at, n, size;
} run;

static const run orders[PG_DTYPE_COUNT][8] = {
    [PG_Q8_0] = { { 0, 1, 2 }, { 2, 8, 4 } },
    [PG_Q4_0] = { { 0, 1, 2 }, { 2, 4, 4 } },
    [PG_Q4_1] = { { 0, 2, 2 }, { 4, 4, 4 } },
    [PG_Q5_0] = { { 0, 1, 2 }, { 2, 5, 4 } },
    [PG_Q5_1] = { { 0, 2, 2 }, { 4, 5, 4 } },
    [PG_Q2_K] = { { 80, 2, 2 }, { 0, 20, 4 } },
    [PG_Q3_K] = { { 108, 1, 2 }, { 96, 3, 4 }, { 0, 24, 4 } },
    [PG_Q4_K] = { { 0, 2, 2 }, { 4, 35, 4 } },
    [PG_Q5_K] = { { 0, 2, 2 }, { 4, 43, 4 } },
    /* of each half: low bits of 32 columns, high bits of 128, low bits of the next 32 */
    [PG_Q6_K] = { { 208, 1, 2 },
                  { 192, 4, 4 },
                  { 0, 8, 4 },
                  { 128, 8, 4 },
                  { 32, 16, 4 },
                  { 160, 8, 4 },
                  { 96, 8, 4 } },
    [PG_IQ4_NL] = { { 0, 1, 2 }, { 2, 4, 4 } },
    [PG_IQ4_XS] = { { 0, 2, 2 }, { 4, 33, 4 } },
    [PG_IQ2_XXS] = { { 0, 1, 2 }, { 2, 16, 4 } },
    [PG_MXFP4] = { { 0, 1, 1 }, { 1, 4, 4 } },
};

static void pack_block(char *to, const char *const from[PG_PANEL], const run *o)
{
    for (; o->n; o++)
        for (int u = 0; u < o->n; u++, to += o->size * PG_PANEL) {
            const int at = o->at + u * o->size;
            if (o->size == 4)
                for (int r = 0; r < PG_PANEL; r++) memcpy(to + 4 * r, from[r] + at, 4);
            else
                for (int r = 0; r < PG_PANEL; r++) memcpy(to + o->size * r, from[r] + at, o->size);
        }
}

void pg_panel_pack(void *to, const pg_tensor *w, int64_t panel)
{
    static const char zero[256]; /* a block of a row past the end */
    const int bytes = pg_dtype_get(w->dtype)->bytes;
    const int64_t n_block = w->shape[0] / pg_dtype_get(w->dtype)->block, row0 = panel * PG_PANEL;
    const char *from[PG_PANEL];
    int step[PG_PANEL];
    for (int r = 0; r < PG_PANEL; r++) {
        const int there = row0 + r < w->shape[1];
        from[r] = there ? pg_tensor_row(w, row0 + r) : zero;
        step[r] = there ? bytes : 0;
    }
    for (int64_t b = 0; b < n_block; b++) {
        pack_block((char *)to + b * PG_PANEL * bytes, from, orders[w->dtype]);
        for (int r = 0; r < PG_PANEL; r++) from[r] += step[r];
    }
}

void pg_panel_block(void *block, const pg_tensor *w, int64_t row, int64_t at)
{
    const int bytes = pg_dtype_get(w->dtype)->bytes;
    const int64_t r = row % PG_PANEL;
    const char *from = (const char *)pg_panel_at(w, row - r) + at * PG_PANEL * bytes;
    for (const run *o = orders[w->dtype]; o->n; o++)
        for (int u = 0; u < o->n; u++, from += o->size * PG_PANEL)
            memcpy((char *)block + o->at + u * o->size, from + o->size * r, o->size);
}
