/* exact: arithmetic that gives the bits of the host's references: products and sums rounded one by one, where a device's
 * compiler would make one instruction of the two; and the exponential of exp.h. Used where a choice hangs on it. */
#ifndef PG_CUDA_EXACT_H
#define PG_CUDA_EXACT_H

#include "device.cuh"

#include <math.h>
#include <string.h>

PG_HD float pg_mul(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}
PG_HD float pg_add(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

PG_HD uint32_t pg_bits_of(float x)
{
#ifdef __CUDA_ARCH__
    return __float_as_uint(x);
#else
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}
PG_HD float pg_float_of(uint32_t bits)
{
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

/* A number's place among all: larger for larger numbers, never 0; NaN counts as -inf, -0 as 0. */
PG_HD uint32_t pg_place_of(float x)
{
    const uint32_t bits = pg_bits_of(x != x ? -INFINITY : pg_add(x, 0.0f));
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
PG_HD float pg_of_place(uint32_t place)
{
    return pg_float_of(place >> 31 ? place & 0x7FFFFFFFu : ~place);
}

/* pg_exp of exp.h, bit for bit. */
PG_HD float pg_exp_exact(float x)
{
    if (x != x) return x;
    x = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;
    const float shift = 0x1.8p23f, n = pg_add(pg_add(pg_mul(x, 0x1.715476p+0f), shift), -shift);
    const float r = fmaf(-n, -0x1.05c61p-29f, fmaf(-n, 0x1.62e43p-1f, x));
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    const int whole = (int)n, first = whole / 2;
    p = pg_mul(p, pg_float_of((uint32_t)(first + 127) << 23));
    return pg_mul(p, pg_float_of((uint32_t)(whole - first + 127) << 23));
}

#endif
