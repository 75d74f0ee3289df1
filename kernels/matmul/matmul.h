/* matmul: rows times a weight matrix, in two kinds of arithmetic.
 *
 *   float weights      meet f32 activations: in the prefill class unpacked exactly into panels of 16 outputs (fpanel),
 *                      in the decode class row by row (fdot).
 *   quantised weights  stand packed in panels of 16 rows (unpack/panel.h) and meet activations rounded to 8 bits, one
 *                      factor per 32 columns (qmul), in both classes alike; with precision "f32" they are unpacked and
 *                      treated as floats.
 * A row's class belongs to its token, and one row's result never depends on the other rows, on the number of lanes or
 * on how outputs were split: every (row, output) pair is summed in one fixed order. All variants of every row here
 * equal _ref bit for bit.
 *
 * Row kernels:
 *   pg_fpanel  y[r][o] = fma chain over k = 0, 1, .. kb-1 of x[r][k] * w[k][o], started from y[r][o]; o < 16.
 *              One rounding a step (fmaf). x: n_row pointers to >= kb floats; w [kb][16], 64-byte aligned; y [n_row][16].
 *   pg_fdot    dot product of two f32 vectors with 16 running sums: sum j takes k = j mod 16 in order (fmaf), then
 *              sums are folded 16 -> 8 -> 4 -> 2 -> 1 (j with j + half). n may be odd.
 *   pg_fdot_f16, pg_fdot_bf16  pg_fdot of a stored row, taken as f32, and a vector. w: any alignment.
 *   pg_q8row   rounds n floats (n % 32 == 0) to pg_q8, block b to y[b * step]: d = amax / 127,
 *              q = round-half-even(x * (127 / amax)); amax == 0, or so small that 127 / amax overflows, gives d = 0,
 *              q = 0; any NaN or infinity gives d = NaN, q = 0.
 *   pg_qmul_<type>  16 outputs of one packed panel for n_row rounded rows of k columns: x[b * n_row + r] is block b of
 *              row r; y [n_row][16]. With values d * q + m of a stored block (blocks.h), y is a chain from 0 over blocks
 *              of 32 columns in order:  y = fma(d * x.d, sum of q * x.q, y), once a block, or once for each 16 columns
 *              in the formats that have a factor for 16; then, in formats with a minimum, as often and in the same
 *              order, y = fma(m, s, y), s being the sum of x.q of these columns times x.d. Integer sums are exact, each
 *              product shown is rounded to f32 before it goes on. panel: any alignment; the variants prefetch behind it.
 * Sources: block quantised products as in the GGML family of engines (formats only); register-blocked GEMM over packed
 * panels, Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008. */
#ifndef PG_MATMUL_H
#define PG_MATMUL_H

#include "../unpack/panel.h"

/* 32 activations rounded to 8 bits. */
typedef struct pg_q8 {
    int8_t q[32];     /* in -127 .. 127 */
    float d;          /* x is about d * q */
    float ds;         /* d * sum */
    int32_t sum, low; /* of all q, of the first 16 */
} pg_q8;

typedef void pg_fpanel_fn(float *y, const float *const *x, const float *w, int n_row, int kb);
typedef float pg_fdot_fn(const float *a, const float *b, int64_t n);
typedef float pg_fdot16_fn(const void *w, const float *x, int64_t n);
typedef void pg_q8row_fn(pg_q8 *y, int64_t step, const float *x, int64_t n);
typedef void pg_qmul_fn(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k);

/* The dot product in force for rows of f16 or bf16; NULL: rows of this type are to be unpacked. */
pg_fdot16_fn *pg_fdot16_of(pg_dtype type);

/* The 8-bit product in force for a quantised format; type must satisfy pg_dtype_is_quant. */
pg_qmul_fn *pg_qmul_of(pg_dtype type);

#endif
