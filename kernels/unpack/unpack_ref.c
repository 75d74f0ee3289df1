/* unpack, reference: an element at a time. The quantised formats are decoded by blocks.c. */
#include "../amax.h"
#include "../cpu/isa.h"
#include "blocks.h"

#include <math.h>

void pg_unpack_f32_ref(float *y, const void *x, int64_t n)
{
    if (n > 0) memcpy(y, x, (size_t)n * sizeof *y);
}

void pg_unpack_f16_ref(float *y, const void *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)x + 2 * i, 2);
        y[i] = pg_f16_to_f32(h);
    }
}

void pg_unpack_bf16_ref(float *y, const void *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)x + 2 * i, 2);
        y[i] = pg_bf16_to_f32(h);
    }
}

void pg_unpack_fp8_ref(float *y, const void *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = pg_fp8_to_f32(((const uint8_t *)x)[i]);
}

static void unpack(float *y, const uint8_t *x, int64_t n, pg_dtype type, pg_block_fn *decode, int has_min)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    for (int64_t i = 0; i < n; i += info->block, x += info->bytes) {
        pg_block b;
        decode(&b, x);
        for (int j = 0; j < info->block; j++) {
            const float product = b.d[j / 16] * (float)b.q[j];
            y[i + j] = has_min ? product + b.m[j / 16] : product;
        }
    }
}

#define F(name, type, has_min)                                      \
    void pg_unpack_##name##_ref(float *y, const void *x, int64_t n) \
    {                                                               \
        unpack(y, x, n, type, pg_block_##name, has_min);            \
    }
PG_BLOCK_LIST(F)
#undef F

void pg_pack_f32_ref(void *y, const float *x, int64_t n)
{
    if (n > 0) memcpy(y, x, (size_t)n * sizeof *x);
}

void pg_pack_f16_ref(void *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = pg_f32_to_f16(x[i]);
        memcpy((char *)y + 2 * i, &h, 2);
    }
}

void pg_pack_bf16_ref(void *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = pg_f32_to_bf16(x[i]);
        memcpy((char *)y + 2 * i, &h, 2);
    }
}

void pg_pack_q8_0_ref(void *y, const float *x, int64_t n)
{
    uint8_t *w = y;
    for (int64_t i = 0; i < n; i += 32, w += 34) {
        const float d = pg_amax32(x + i) / 127.0f;
        const uint16_t h = pg_f32_to_f16(d);
        memcpy(w, &h, 2);
        for (int j = 0; j < 32; j++) {
            /* d may be subnormal and too coarse for the quotient to stay inside 127, or zero */
            const float q = d > 0 ? roundf(x[i + j] / d) : 0;
            w[2 + j] = (uint8_t)(int8_t)fmaxf(-127.0f, fminf(127.0f, q));
        }
    }
}
