/* glu, reference.
 *
 * GELU is written as g / (1 + exp(-2 z)): the same function as 0.5 g (1 + tanh z), without the cancellation that would
 * leave no correct digit of 1 + tanh z at z < -9. The arguments of exp are formed in f32 in one order that the vector
 * variants repeat, for exp turns the rounding of a large argument into a relative error. */
#include "../cpu/isa.h"
#include "../exp.h"

static float gate(float g, int kind)
{
    switch (kind) {
    case PG_GLU_GELU:
        return g / (1.0f + pg_exp(-1.5957691216f * g * (1.0f + 0.044715f * (g * g)))); /* 2 sqrt(2 / pi) */
    case PG_GLU_OSS: return g / (1.0f + pg_exp(-1.702f * g));
    default: return g / (1.0f + pg_exp(-g));
    }
}

void pg_glu_ref(float *y, const float *g, const float *u, int64_t n, int kind, float limit)
{
    for (int64_t i = 0; i < n; i++) {
        float a = g[i], b = u[i];
        if (kind == PG_GLU_OSS || kind == PG_GLU_CLAMP) {
            /* comparisons that a NaN passes through, unlike fminf */
            a = a > limit ? limit : a;
            b = b > limit ? limit : b < -limit ? -limit : b;
        }
        if (kind == PG_GLU_OSS) b += 1.0f;
        y[i] = gate(a, kind) * b;
    }
}
