/* norm, reference. */
#include "../cpu/isa.h"

#include <math.h>

void pg_rmsnorm_ref(float *y, const float *x, const float *w, int64_t n, float eps)
{
    const float r = 1.0f / sqrtf(pg_fdot_ref(x, x, n) / (float)n + eps);
    for (int64_t i = 0; i < n; i++) y[i] = w ? x[i] * r * w[i] : x[i] * r;
}
