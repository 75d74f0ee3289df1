/* glu: gated activations of one row, y[i] = act(g[i]) * u[i]; y may be g or u.
 *   PG_GLU_SILU  silu(g) * u, silu(x) = x / (1 + exp(-x))
 *   PG_GLU_GELU  0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) * u
 *   PG_GLU_OSS   g = min(g, limit); u = clamp(u, -limit, limit); (u + 1) * g / (1 + exp(-1.702 g))
 *   PG_GLU_CLAMP g = min(g, limit); u = clamp(u, -limit, limit); silu(g) * u
 * exp is that of exp.h; all variants equal _ref bit for bit. NaN stays NaN; +-inf as the formula says.
 * Source: Shazeer, GLU Variants Improve Transformer, 2020; OpenAI gpt-oss model description. */
#ifndef PG_GLU_H
#define PG_GLU_H

#include "../op.h" /* PG_GLU_* */

typedef void pg_glu_fn(float *y, const float *g, const float *u, int64_t n, int kind, float limit);

#endif
