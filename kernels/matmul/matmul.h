/* matmul: rows times a weight matrix, in two arithmetic classes.
 *
 *   prefill class: f32 activations, weights unpacked exactly into panels of 16 outputs.
 *   decode class:  quantised weights meet activations rounded to 8 bits (pg_q8, one factor per 32 columns);
 *                  float weights meet f32 activations.
 * A row's class belongs to its token, and inside a class one row's result never depends on the other rows, on the
 * number of lanes or on how outputs were split: every (row, output) pair is summed in one fixed order.
 *
 * Row kernels:
 *   pg_fpanel  y[r][o] = fma chain over k = 0, 1, .. kb-1 of x[r][k] * w[k][o], started from y[r][o]; o < 16.
 *              One rounding a step (fmaf), so all variants equal _ref bit for bit.
 *              x: n_row pointers to >= kb floats; w [kb][16], 64-byte aligned; y [n_row][16], stride 16.
 *   pg_fdot    dot product of two f32 vectors with 16 running sums: sum j takes k = j mod 16 in order (fmaf), then
 *              sums are folded 16 -> 8 -> 4 -> 2 -> 1 (j with j + half). n may be odd; all variants bit for bit.
 *   pg_q8row   rounds n floats (n % 32 == 0) to pg_q8: d = amax / 127, q = round-half-even(x * (127 / amax));
 *              amax == 0, or so small that 127 / amax overflows, gives d = 0, q = 0; any NaN or infinity gives
 *              d = NaN, q = 0. isum = sum of 16 q's. All variants bit for bit.
 *   pg_qdot_<type>  y = sum over blocks of the stored row (n columns) with the rounded row; integer products exact,
 *              block factors in f32. Variants may order block sums differently: within 1e-5 of sum |terms| of _ref.
 * Source: block quantised products as in the GGML family of engines (layouts only). */
#ifndef PG_MATMUL_H
#define PG_MATMUL_H

#include "../tensor.h"

#define PG_PANEL 16 /* outputs a panel holds */

/* One activation row rounded to 8 bits. The arrays live where the caller says (pg_q8_bytes, pg_q8_view). */
typedef struct pg_q8 {
    int8_t *q;     /* [n] in -127 .. 127 */
    float *d;      /* [n / 32] */
    int16_t *isum; /* [n / 16] sums of 16 q's */
} pg_q8;

/* Bytes that a rounded row of n columns (n % 32 == 0) needs, a multiple of 64; and the view over such memory,
 * which is 64-byte aligned. */
static inline size_t pg_q8_bytes(int64_t n)
{
    return ((size_t)n + (size_t)n / 8 + (size_t)n / 8 + 63) & ~(size_t)63;
}
static inline pg_q8 pg_q8_view(void *mem, int64_t n)
{
    pg_q8 v = { .q = mem };
    v.d = (float *)((char *)mem + n);
    v.isum = (int16_t *)((char *)mem + n + n / 8);
    return v;
}

typedef void pg_fpanel_fn(float *y, const float *const *x, const float *w, int n_row, int kb);
typedef float pg_fdot_fn(const float *a, const float *b, int64_t n);
typedef void pg_q8row_fn(pg_q8 y, const float *x, int64_t n);
typedef float pg_qdot_fn(const void *w, pg_q8 x, int64_t n);

/* The 8-bit product in force for a quantised format; type must satisfy pg_dtype_is_quant. */
pg_qdot_fn *pg_qdot_of(pg_dtype type);

#endif
