/* panel: the permutation and its inverse. */
#include "panel.h"

/* Which bytes of a format's block are moved as dwords, as halfwords and singly: first byte and count of each. Codes and
 * the small scales of a 256-block are dwords, f16 factors are halfwords; within a kind the block's order stays. */
typedef struct order {
    int16_t dword, n_dword, half, n_half, byte, n_byte;
} order;

static const order orders[PG_DTYPE_COUNT] = {
    [PG_Q8_0] = { .dword = 2, .n_dword = 8, .n_half = 1 },
    [PG_Q4_0] = { .dword = 2, .n_dword = 4, .n_half = 1 },
    [PG_Q4_1] = { .dword = 4, .n_dword = 4, .n_half = 2 },
    [PG_Q5_0] = { .dword = 2, .n_dword = 5, .n_half = 1 },
    [PG_Q5_1] = { .dword = 4, .n_dword = 5, .n_half = 2 },
    [PG_Q2_K] = { .dword = 0, .n_dword = 20, .half = 80, .n_half = 2 },
    [PG_Q3_K] = { .dword = 0, .n_dword = 27, .half = 108, .n_half = 1 },
    [PG_Q4_K] = { .dword = 4, .n_dword = 35, .n_half = 2 },
    [PG_Q5_K] = { .dword = 4, .n_dword = 43, .n_half = 2 },
    [PG_Q6_K] = { .dword = 0, .n_dword = 52, .half = 208, .n_half = 1 },
    [PG_IQ4_NL] = { .dword = 2, .n_dword = 4, .n_half = 1 },
    [PG_IQ4_XS] = { .dword = 4, .n_dword = 33, .n_half = 2 },
    [PG_IQ2_XXS] = { .dword = 2, .n_dword = 16, .n_half = 1 },
    [PG_MXFP4] = { .dword = 1, .n_dword = 4, .byte = 0, .n_byte = 1 },
};

static void pack_block(char *to, const char *const from[PG_PANEL], const order *o)
{
    for (int u = 0; u < o->n_dword; u++, to += 4 * PG_PANEL)
        for (int r = 0; r < PG_PANEL; r++) memcpy(to + 4 * r, from[r] + o->dword + 4 * u, 4);
    for (int u = 0; u < o->n_half; u++, to += 2 * PG_PANEL)
        for (int r = 0; r < PG_PANEL; r++) memcpy(to + 2 * r, from[r] + o->half + 2 * u, 2);
    for (int u = 0; u < o->n_byte; u++, to += PG_PANEL)
        for (int r = 0; r < PG_PANEL; r++) to[r] = from[r][o->byte + u];
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
        pack_block((char *)to + b * PG_PANEL * bytes, from, &orders[w->dtype]);
        for (int r = 0; r < PG_PANEL; r++) from[r] += step[r];
    }
}

void pg_panel_block(void *block, const pg_tensor *w, int64_t row, int64_t at)
{
    const order *o = &orders[w->dtype];
    const int bytes = pg_dtype_get(w->dtype)->bytes;
    const int64_t r = row % PG_PANEL;
    const char *from = (const char *)pg_panel_at(w, row - r) + at * PG_PANEL * bytes;
    char *to = block;
    for (int u = 0; u < o->n_dword; u++, from += 4 * PG_PANEL) memcpy(to + o->dword + 4 * u, from + 4 * r, 4);
    for (int u = 0; u < o->n_half; u++, from += 2 * PG_PANEL) memcpy(to + o->half + 2 * u, from + 2 * r, 2);
    for (int u = 0; u < o->n_byte; u++, from += PG_PANEL) to[o->byte + u] = from[r];
}
