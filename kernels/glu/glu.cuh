/* glu: one gated activation, for the op and for the experts' networks: what glu.h says, with the device's exponential. */
#ifndef PG_GLU_CUH
#define PG_GLU_CUH

#include "../cuda/device.cuh"
extern "C" {
#include "glu.h"
}
#include <math.h>

/* kind is known when compiled wherever speed counts. */
PG_HD float pg_glu_one(float g, float u, int kind, float limit)
{
    if (kind == PG_GLU_OSS || kind == PG_GLU_CLAMP) {
        g = g > limit ? limit : g; /* comparisons that a NaN passes through, unlike fminf */
        u = u > limit ? limit : u < -limit ? -limit : u;
    }
    if (kind == PG_GLU_OSS) u += 1.0f;
    const float z = kind == PG_GLU_GELU  ? -1.5957691216f * g * (1.0f + 0.044715f * (g * g)) /* 2 sqrt(2 / pi) */
                    : kind == PG_GLU_OSS ? -1.702f * g
                                         : -g;
    return g / (1.0f + expf(z)) * u;
}

#endif
