/* blocks: decoders of the quantised formats, one function a format. They are the definition: written after the
 * formulas of the format, an element at a time, and as slow as that is. */
#include "blocks.h"

const int8_t pg_iq4_value[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
const int8_t pg_fp4_twice[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

#define SIZE(code, j) 8 + 17 * ((code) >> 2 * j & 1) + 35 * ((code) >> (2 * j + 1) & 1)
#define FOUR(code) SIZE(code, 0), SIZE(code, 1), SIZE(code, 2), SIZE(code, 3)
#define PG_IQ2_ROW(code) { FOUR(code), FOUR((code) >> 8) },
_Alignas(64) const int8_t pg_iq2_grid[256][8] = {
#include "iq2_grid.def"
};
#undef SIZE

static float f16_at(const uint8_t *w)
{
    return pg_f16_to_f32((uint16_t)(w[0] | w[1] << 8));
}

/* Element i < 32 of 16 bytes: low nibbles first, then high. */
static int nibble(const uint8_t *qs, int i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static int bit(const uint8_t *w, int i)
{
    return w[i / 8] >> (i % 8) & 1;
}

static void fill(pg_block *b, int groups, float d, float m)
{
    for (int k = 0; k < groups; k++) {
        b->d[k] = d;
        b->m[k] = m;
    }
}

void pg_block_q8_0(pg_block *b, const uint8_t *w)
{
    fill(b, 2, f16_at(w), 0);
    memcpy(b->q, w + 2, 32);
}

void pg_block_q4_0(pg_block *b, const uint8_t *w)
{
    fill(b, 2, f16_at(w), 0);
    for (int i = 0; i < 32; i++) b->q[i] = (int8_t)(nibble(w + 2, i) - 8);
}

void pg_block_q4_1(pg_block *b, const uint8_t *w)
{
    fill(b, 2, f16_at(w), f16_at(w + 2));
    for (int i = 0; i < 32; i++) b->q[i] = (int8_t)nibble(w + 4, i);
}

void pg_block_q5_0(pg_block *b, const uint8_t *w)
{
    fill(b, 2, f16_at(w), 0);
    for (int i = 0; i < 32; i++) b->q[i] = (int8_t)(nibble(w + 6, i) + 16 * bit(w + 2, i) - 16);
}

void pg_block_q5_1(pg_block *b, const uint8_t *w)
{
    fill(b, 2, f16_at(w), f16_at(w + 2));
    for (int i = 0; i < 32; i++) b->q[i] = (int8_t)(nibble(w + 8, i) + 16 * bit(w + 4, i));
}

void pg_block_iq4_nl(pg_block *b, const uint8_t *w)
{
    fill(b, 2, f16_at(w), 0);
    for (int i = 0; i < 32; i++) b->q[i] = pg_iq4_value[nibble(w + 2, i)];
}

void pg_block_mxfp4(pg_block *b, const uint8_t *w)
{
    fill(b, 2, pg_e8m0_half(w[0]), 0);
    for (int i = 0; i < 32; i++) b->q[i] = pg_fp4_twice[nibble(w + 1, i)];
}

void pg_block_iq4_xs(pg_block *b, const uint8_t *w)
{
    const uint8_t *low = w + 4, *qs = w + 8;
    const int high = w[2] | w[3] << 8;
    for (int k = 0; k < 16; k++) {
        const int j = k / 2;
        const int scale = (low[j / 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4;
        b->d[k] = f16_at(w) * (float)(scale - 32);
    }
    for (int i = 0; i < 256; i++) b->q[i] = pg_iq4_value[nibble(qs + 16 * (i / 32), i % 32)];
}

/* The 8 signs that 7 stored ones stand for: the number of minus signs is even. */
static uint32_t even_signs(uint32_t seven)
{
    uint32_t odd = 0;
    for (int k = 0; k < 7; k++) odd ^= seven >> k & 1;
    return seven | odd << 7;
}

/* 32 elements are four rows of the grid, then a word of four times seven signs and four bits of scale. */
void pg_block_iq2_xxs(pg_block *b, const uint8_t *w)
{
    for (int r = 0; r < 32; r++) {
        const uint8_t *part = w + 2 + 8 * (r / 4), *s = part + 4;
        const uint32_t word = s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 | (uint32_t)s[3] << 24;
        const uint32_t minus = even_signs(word >> 7 * (r % 4) & 127);
        const int8_t *size = pg_iq2_grid[part[r % 4]];
        for (int j = 0; j < 8; j++) b->q[8 * r + j] = (int8_t)(minus >> j & 1 ? -size[j] : size[j]);
        b->d[r / 2] = f16_at(w) * ((float)(2 * (word >> 28) + 1) / 8);
    }
}

void pg_block_q2_k(pg_block *b, const uint8_t *w)
{
    const uint8_t *scales = w, *qs = w + 16;
    for (int k = 0; k < 16; k++) {
        b->d[k] = f16_at(w + 80) * (float)(scales[k] & 15);
        b->m[k] = -(f16_at(w + 82) * (float)(scales[k] >> 4));
    }
    for (int i = 0; i < 256; i++) b->q[i] = (int8_t)(qs[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32) & 3);
}

void pg_block_q3_k(pg_block *b, const uint8_t *w)
{
    const uint8_t *hmask = w, *qs = w + 32, *scales = w + 96;
    for (int k = 0; k < 16; k++) {
        const int low = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4;
        const int high = scales[8 + k % 4] >> 2 * (k / 4) & 3;
        b->d[k] = f16_at(w + 108) * (float)((low | high << 4) - 32);
    }
    for (int i = 0; i < 256; i++) {
        const int low = qs[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32) & 3;
        const int high = hmask[i % 32] >> i / 32 & 1;
        b->q[i] = (int8_t)(low + 4 * high - 4);
    }
}

/* Factors and minima of Q4_K and Q5_K: 8 of 6 bits each in 12 bytes, after d and dmin. */
static void k4_factors(pg_block *b, const uint8_t *w)
{
    const uint8_t *s = w + 4;
    for (int k = 0; k < 16; k++) {
        const int j = k / 2;
        const int sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        const int m = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        b->d[k] = f16_at(w) * (float)sc;
        b->m[k] = -(f16_at(w + 2) * (float)m);
    }
}

void pg_block_q4_k(pg_block *b, const uint8_t *w)
{
    k4_factors(b, w);
    for (int i = 0; i < 256; i++) b->q[i] = (int8_t)(w[16 + 32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15);
}

void pg_block_q5_k(pg_block *b, const uint8_t *w)
{
    k4_factors(b, w);
    for (int i = 0; i < 256; i++) {
        const int low = w[48 + 32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15;
        b->q[i] = (int8_t)(low + 16 * (w[16 + i % 32] >> i / 32 & 1));
    }
}

void pg_block_q6_k(pg_block *b, const uint8_t *w)
{
    const uint8_t *ql = w, *qh = w + 128, *scales = w + 192;
    for (int k = 0; k < 16; k++) b->d[k] = f16_at(w + 208) * (float)(int8_t)scales[k];
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, g = i % 128 / 32, l = i % 32;
        const int low = ql[64 * half + 32 * (g & 1) + l] >> 4 * (g >> 1) & 15;
        const int high = qh[32 * half + l] >> 2 * g & 3;
        b->q[i] = (int8_t)((low | high << 4) - 32);
    }
}
