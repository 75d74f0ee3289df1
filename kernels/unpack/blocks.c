/* blocks: decoders of the quantised formats, one function a format. They are the definition: written after the
 * formulas of the format, an element at a time, and as slow as that is. */
#include "blocks.h"

const int8_t pg_iq4_value[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
const int8_t pg_fp4_twice[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* A row of the grid is written as 16 bits, two an element from the lowest on: 0, 1, 2 stand for 8, 25, 43. */
#define SIZE(code, j) 8 + 17 * ((code) >> 2 * j & 1) + 35 * ((code) >> (2 * j + 1) & 1)
#define FOUR(code) SIZE(code, 0), SIZE(code, 1), SIZE(code, 2), SIZE(code, 3)
#define ROW(code)                     \
    {                                 \
        FOUR(code), FOUR((code) >> 8) \
    }
_Alignas(64) const int8_t pg_iq2_grid[256][8] = {
    ROW(0x0000), ROW(0x0002), ROW(0x0005), ROW(0x0008), ROW(0x000a), ROW(0x0011), ROW(0x0014), ROW(0x0020), ROW(0x0022),
    ROW(0x0028), ROW(0x002a), ROW(0x0041), ROW(0x0044), ROW(0x0050), ROW(0x0058), ROW(0x0061), ROW(0x0064), ROW(0x0080),
    ROW(0x0082), ROW(0x008a), ROW(0x00a2), ROW(0x0101), ROW(0x0104), ROW(0x0110), ROW(0x0115), ROW(0x0140), ROW(0x0184),
    ROW(0x0198), ROW(0x0200), ROW(0x0202), ROW(0x0222), ROW(0x0282), ROW(0x0401), ROW(0x0404), ROW(0x0410), ROW(0x0421),
    ROW(0x0424), ROW(0x0440), ROW(0x0442), ROW(0x0448), ROW(0x0460), ROW(0x0481), ROW(0x0484), ROW(0x0490), ROW(0x04a4),
    ROW(0x0500), ROW(0x0502), ROW(0x0508), ROW(0x0520), ROW(0x0546), ROW(0x0569), ROW(0x0580), ROW(0x0591), ROW(0x0609),
    ROW(0x0610), ROW(0x0640), ROW(0x0684), ROW(0x06a4), ROW(0x0800), ROW(0x0805), ROW(0x0808), ROW(0x0814), ROW(0x0828),
    ROW(0x0841), ROW(0x0844), ROW(0x0850), ROW(0x0852), ROW(0x0888), ROW(0x0904), ROW(0x0940), ROW(0x0a02), ROW(0x0a14),
    ROW(0x1001), ROW(0x1004), ROW(0x1010), ROW(0x1021), ROW(0x1040), ROW(0x1060), ROW(0x1084), ROW(0x1090), ROW(0x1095),
    ROW(0x1100), ROW(0x1108), ROW(0x1120), ROW(0x1150), ROW(0x115a), ROW(0x1180), ROW(0x1224), ROW(0x1245), ROW(0x1400),
    ROW(0x1408), ROW(0x1420), ROW(0x1425), ROW(0x1449), ROW(0x1480), ROW(0x1518), ROW(0x1562), ROW(0x1600), ROW(0x1616),
    ROW(0x1801), ROW(0x1804), ROW(0x1810), ROW(0x1840), ROW(0x1881), ROW(0x1900), ROW(0x1905), ROW(0x19a0), ROW(0x1a51),
    ROW(0x2000), ROW(0x2002), ROW(0x200a), ROW(0x2044), ROW(0x2061), ROW(0x2080), ROW(0x2082), ROW(0x2129), ROW(0x2148),
    ROW(0x2200), ROW(0x2202), ROW(0x2401), ROW(0x2404), ROW(0x2410), ROW(0x2440), ROW(0x2456), ROW(0x2500), ROW(0x2541),
    ROW(0x2564), ROW(0x2690), ROW(0x2808), ROW(0x2820), ROW(0x2894), ROW(0x2a44), ROW(0x4001), ROW(0x4004), ROW(0x4010),
    ROW(0x4018), ROW(0x4021), ROW(0x4024), ROW(0x4040), ROW(0x4048), ROW(0x4056), ROW(0x4060), ROW(0x4081), ROW(0x4084),
    ROW(0x4090), ROW(0x4100), ROW(0x4120), ROW(0x4161), ROW(0x4180), ROW(0x4185), ROW(0x4201), ROW(0x4210), ROW(0x4248),
    ROW(0x4256), ROW(0x4268), ROW(0x4400), ROW(0x4408), ROW(0x4420), ROW(0x4480), ROW(0x4499), ROW(0x4512), ROW(0x4524),
    ROW(0x4600), ROW(0x4801), ROW(0x4804), ROW(0x4810), ROW(0x4840), ROW(0x4845), ROW(0x4900), ROW(0x4958), ROW(0x4961),
    ROW(0x4982), ROW(0x4a45), ROW(0x4a90), ROW(0x5000), ROW(0x5008), ROW(0x5011), ROW(0x5019), ROW(0x5020), ROW(0x5080),
    ROW(0x5088), ROW(0x5104), ROW(0x5142), ROW(0x51a4), ROW(0x5291), ROW(0x5490), ROW(0x5492), ROW(0x550a), ROW(0x5601),
    ROW(0x5654), ROW(0x5800), ROW(0x5811), ROW(0x5819), ROW(0x5864), ROW(0x5940), ROW(0x5a08), ROW(0x6004), ROW(0x6010),
    ROW(0x6040), ROW(0x6068), ROW(0x6100), ROW(0x6155), ROW(0x6218), ROW(0x6260), ROW(0x6400), ROW(0x6405), ROW(0x6510),
    ROW(0x6512), ROW(0x6584), ROW(0x6842), ROW(0x8000), ROW(0x8002), ROW(0x800a), ROW(0x8041), ROW(0x8082), ROW(0x8104),
    ROW(0x8118), ROW(0x8140), ROW(0x8211), ROW(0x8401), ROW(0x8404), ROW(0x8410), ROW(0x8415), ROW(0x8440), ROW(0x8460),
    ROW(0x8500), ROW(0x8546), ROW(0x8594), ROW(0x8609), ROW(0x8640), ROW(0x8660), ROW(0x8802), ROW(0x8904), ROW(0x8a11),
    ROW(0x9004), ROW(0x9010), ROW(0x9024), ROW(0x9040), ROW(0x90a1), ROW(0x9116), ROW(0x9180), ROW(0x9245), ROW(0x9400),
    ROW(0x9422), ROW(0x9444), ROW(0x9551), ROW(0x9881), ROW(0x9920), ROW(0xa002), ROW(0xa050), ROW(0xa085), ROW(0xa109),
    ROW(0xa200), ROW(0xa418), ROW(0xa850), ROW(0xa904),
};
#undef ROW
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
