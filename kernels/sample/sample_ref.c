/* sample, reference: also what a test of the sampler makes its candidates with. */
#include "sample.h"

#include <math.h>
#include <string.h>

/* exp(d) for d <= 0, below -87 and for NaN 0: d = k ln 2 + r, exp(r) by its Taylor polynomial, times 2^k. */
static float exp_below(float d)
{
    static const float inverse[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }; /* 1 / k! */
    if (!(d > -87.0f)) return 0;
    const float shift = 0x1.8p23f, whole = (d * 0x1.715476p+0f + shift) - shift;
    const float r = (d - whole * 0x1.62e4p-1f) - whole * 0x1.7f7d1cp-20f;
    float p = 1.0f / 5040;
    for (int i = 0; i < 7; i++) p = p * r + inverse[i];
    return p * pg_f32_from_bits((uint32_t)((int)whole + 127) << 23);
}

void pg_best_ref(const float *x, int32_t n, int32_t k, float *value, int32_t *id, pg_best *out)
{
    int32_t held = 0, above = 0;
    *out = (pg_best){ .value = value, .id = id };
    for (int32_t i = 0; i < n; i++) {
        if (!(x[i] > -INFINITY)) continue;
        above++;
        int32_t at = held < k ? held++ : k;
        for (; at > 0 && x[i] > value[at - 1]; at--) {
            if (at == k) continue;
            value[at] = value[at - 1];
            id[at] = id[at - 1];
        }
        if (at == k) continue;
        value[at] = x[i];
        id[at] = i;
    }
    out->n = held;
    out->all = above == held;
    for (int32_t i = 0; i < n && held; i++) out->sum += (double)exp_below(x[i] - value[0]);
}
