/* amax: what the references round 32 numbers by. The vector files have the same steps in simd.h. */
#ifndef PG_AMAX_H
#define PG_AMAX_H

#include <math.h>

/* Largest magnitude of 32 numbers, NaN if one of them is not finite. */
static inline float pg_amax32(const float *x)
{
    float amax = 0;
    for (int i = 0; i < 32; i++) {
        if (!isfinite(x[i])) return NAN;
        amax = fmaxf(amax, fabsf(x[i]));
    }
    return amax;
}

#endif
