/* search: factors of a group of weights, chosen for the least weighted squared error. Private to kernels/quant. */
#ifndef PG_SEARCH_H
#define PG_SEARCH_H

enum { PG_GROUP_MAX = 32 }; /* weights in a group at most; groups are of 16 or 32 */

/* The whole number next to v, |v| < 2^22; halves to even. */
static inline float pg_nearest(float v)
{
    return v + 0x1.8p23f - 0x1.8p23f;
}

static inline float pg_clamp(float v, float low, float high)
{
    v = v < low ? low : v;
    return v > high ? high : v;
}

/* d that makes sum of w * (x - d * q)^2 small, with q whole, low <= q <= high, low = -high - 1; 0 when x is all 0.
 * The sign of d is part of the choice, as the codes reach one further on one side. */
float pg_scale_search(const float *x, const float *w, int n, int high);

/* x is close to d * q + m with q whole, 0 <= q <= high. */
typedef struct pg_line {
    float d, m;
} pg_line;

/* The line that makes sum of w * (x - d * q - m)^2 small; d >= 0. below: m must be <= 0. */
pg_line pg_line_search(const float *x, const float *w, int n, int high, int below);

/* Weighted squared error of x against d * q + m with the best q; the q too when it is not NULL. */
float pg_line_error(const float *x, const float *w, int n, int low, int high, pg_line line, float *q);

#endif
