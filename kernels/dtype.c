/* Storage formats: the table behind dtype.h and the scalar conversions that are too long for a header.
 *
 * Not here: conversions of whole rows (unpack/). The vector variants there must give the same bits as these, so a
 * NaN is treated as the F16C instructions treat it: made quiet, its top payload bits kept.
 * Source: IEEE 754-2019 binary16; OCP OFP8 for E4M3. */
#include "dtype.h"

static const pg_dtype_info table[PG_DTYPE_COUNT] = {
#define X(id, name, block, bytes, gguf) { name, block, bytes, gguf },
    PG_DTYPE_LIST(X)
#undef X
};

const pg_dtype_info *pg_dtype_get(pg_dtype type)
{
    return &table[type];
}

pg_dtype pg_dtype_from_gguf(uint32_t id)
{
    for (int i = 0; i < PG_DTYPE_COUNT; i++)
        if (table[i].gguf >= 0 && (uint32_t)table[i].gguf == id) return (pg_dtype)i;
    return PG_DTYPE_NONE;
}

pg_dtype pg_dtype_from_name(const char *name)
{
    for (int i = 0; i < PG_DTYPE_COUNT; i++)
        if (strcmp(table[i].name, name) == 0) return (pg_dtype)i;
    return PG_DTYPE_NONE;
}

int pg_dtype_is_weight(pg_dtype type)
{
    return type >= PG_F32 && type <= PG_MXFP4;
}

int pg_dtype_is_quant(pg_dtype type)
{
    return type >= PG_Q8_0 && type <= PG_MXFP4;
}

float pg_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest > 0x7c00) return pg_f32_from_bits(sign | 0x7fc00000u | rest << 13);
    if (rest == 0x7c00) return pg_f32_from_bits(sign | 0x7f800000u);
    if (rest >= 0x0400) return pg_f32_from_bits(sign | ((rest << 13) + (112u << 23)));
    const float tiny = (float)rest * 0x1p-24f; /* zero and subnormals are whole multiples of 2^-24 */
    return sign ? -tiny : tiny;
}

uint16_t pg_f32_to_f16(float f)
{
    const uint32_t u = pg_bits_from_f32(f), sign = u >> 16 & 0x8000, rest = u & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x3ff));
    if (rest >= 0x47800000u) return (uint16_t)(sign | 0x7c00); /* 2^16 and more; 65520 and more carry over below */
    if (rest >= 0x38800000u) return (uint16_t)(sign | ((rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13));
    /* Below 2^-14 the spacing of f16 is 2^-24, which is the spacing of f32 at 0.5: adding 0.5 rounds to it. */
    const float shifted = pg_f32_from_bits(rest) + 0.5f;
    return (uint16_t)(sign | (pg_bits_from_f32(shifted) - 0x3f000000u));
}

float pg_fp8_to_f32(uint8_t b)
{
    const uint32_t sign = (uint32_t)(b & 0x80) << 24, rest = b & 0x7f;
    if (rest == 0x7f) return pg_f32_from_bits(sign | 0x7fc00000u);
    if (rest >= 0x08) return pg_f32_from_bits(sign | ((rest << 20) + (120u << 23)));
    const float tiny = (float)rest * 0x1p-9f;
    return sign ? -tiny : tiny;
}
