/* exp: the exponential of the references, written out, for a library's may differ from machine to machine. The vector
 * files have the same steps in simd.h and give the same bits. */
#ifndef PG_EXP_H
#define PG_EXP_H

#include "dtype.h"

#include <math.h>

/* Relative error below 2e-7; overflow gives infinity, underflow is gradual, NaN stays NaN.
 * x = n ln 2 + r with |r| <= ln 2 / 2; exp r by its Taylor polynomial, whose rest is below r^8 / 8! = 6e-9. */
static inline float pg_exp(float x)
{
    static const float inverse[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }; /* 1 / k! */
    if (isnan(x)) return x;
    x = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;                       /* which give 0 and infinity */
    const float shift = 0x1.8p23f, n = (x * 0x1.715476p+0f + shift) - shift; /* rounds to a whole number */
    const float r = fmaf(-n, -0x1.05c61p-29f, fmaf(-n, 0x1.62e43p-1f, x));   /* ln 2 in two parts */
    float p = 1.0f / 5040;
    for (int k = 0; k < 7; k++) p = fmaf(p, r, inverse[k]);
    const int whole = (int)n, first = whole / 2; /* 2^n in two steps, since n reaches from -150 to 128 */
    p *= pg_f32_from_bits((uint32_t)(first + 127) << 23);
    return p * pg_f32_from_bits((uint32_t)(whole - first + 127) << 23);
}

#endif
