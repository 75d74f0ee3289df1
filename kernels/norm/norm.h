/* norm: root mean square normalisation of one row.
 *   pg_rmsnorm: y[i] = x[i] * (1 / sqrt(sum x^2 / n + eps)) * w[i]; w NULL means 1. y may be x.
 *   The sum of squares is formed like pg_fdot (16 running sums, folded), then one division and one square root in
 *   f32, then y = (x * r) * w: all variants equal _ref bit for bit.
 * Source: Zhang, Sennrich, Root Mean Square Layer Normalization, 2019. */
#ifndef PG_NORM_H
#define PG_NORM_H

#include <stdint.h>

typedef void pg_rmsnorm_fn(float *y, const float *x, const float *w, int64_t n, float eps);

#endif
