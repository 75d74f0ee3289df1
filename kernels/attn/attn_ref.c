/* attn, reference. */
#include "../cpu/isa.h"

#include <math.h>

void pg_wsum_ref(float *acc, float keep, const float *p, const float *v, int64_t stride, int n_t, int64_t d)
{
    for (int64_t i = 0; i < d; i++) {
        float sum = acc[i] * keep;
        for (int t = 0; t < n_t; t++) sum = fmaf(p[t], v[t * stride + i], sum);
        acc[i] = sum;
    }
}
