/* attn: the inner rows of attention over cached keys and values. A query is one head of one row. What a kernel does for a
 * query depends on no other query, so tiles may be cut at will.
 *   pg_qk       scores: s[i * s_step + t] = dot product of q[i] and row t of k, d numbers each, summed in the order of
 *               pg_fdot (matmul/matmul.h); i < n_q, t < n_k. q: n_q pointers. No alignment is asked for.
 *   pg_softmax  one step of a running softmax. For query i, with the n scores x[t] = scale * s[i * s_step + t]:
 *                   most = the largest of top[i] and all x (a NaN is passed over), taken as 0 below if it is -inf;
 *                   keep[i] = exp(top[i] - most);  s[i * s_step + t] = exp(x[t] - most);
 *                   sum[i] = sum[i] * keep[i] + sum of these;  top[i] = the largest.
 *               So a query begins with top = -inf, sum = 0. The new terms are added as 16 running sums, t mod 16, folded
 *               16 -> 8 -> 4 -> 2 -> 1 (j with j + half); sum * keep is rounded before they join it. exp is the polynomial
 *               of exp.h, within 2e-7 of the truth, gradual underflow included.
 *   pg_pv       acc[i * acc_step + c] = acc * keep[i] + sum over t = 0, 1, .. n_t-1 of p[i * p_step + t] * v[t][c], c < d;
 *               the first product is rounded, then one fmaf a term in that order. Where keep is 0 acc is not looked at,
 *               and counts as 0.
 * All variants equal _ref bit for bit (top but for the sign of a zero, which nothing shows).
 * Sources: online softmax, Milakov, Gimelshein 2018; Dao et al., FlashAttention, 2022 (tiles of queries meet tiles of
 * keys). */
#ifndef PG_ATTN_H
#define PG_ATTN_H

#include "../dtype.h"

/* Rows of keys or values as they stand in the cache, or unpacked. Numbers of 16 bits are widened in registers, which
 * pays where few queries meet them; unpack them first for many. */
typedef struct pg_held {
    const void *at;
    int64_t step;   /* bytes from one row to the next */
    pg_dtype dtype; /* PG_F32, PG_F16 or PG_BF16 */
    /* Memory that will be wanted next, fetched row by row while these are read: a hint, NULL for none. */
    const char *soon;
    int64_t soon_step, soon_bytes; /* bytes from one row to the next, bytes of a row */
} pg_held;

typedef void pg_qk_fn(float *s, int64_t s_step, const float *const *q, int n_q, const pg_held *k, int n_k, int64_t d);
typedef void pg_softmax_fn(float *top, float *sum, float *keep, float *s, int64_t s_step, int n_q, int n, float scale);
typedef void pg_pv_fn(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
                      const pg_held *v, int n_t, int64_t d);

#endif
