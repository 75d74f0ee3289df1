/* attn: the inner rows of attention over cached keys and values that have been unpacked to f32.
 *   pg_wsum: acc[i] = acc[i] * keep + sum over t = 0, 1, .. n_t-1 of p[t] * v[t * stride + i], i < d; one fmaf a term
 *   in that order, so all variants equal _ref bit for bit.
 * Scores use pg_fdot (matmul/), the exponentials pg_expsum (glu/). */
#ifndef PG_ATTN_H
#define PG_ATTN_H

#include <stdint.h>

typedef void pg_wsum_fn(float *acc, float keep, const float *p, const float *v, int64_t stride, int n_t, int64_t d);

#endif
