/* pg_tensor: a view of numbers. It owns nothing and knows nothing but shape, strides and format.
 *
 * Shapes are in storage order: shape[0] is the contiguous dimension, so a weight that maps K inputs to N outputs
 * is {K, N} and E stacked experts are {K, N, E}. Unused dimensions are 1. */
#ifndef PG_TENSOR_H
#define PG_TENSOR_H

#include "dtype.h"

typedef struct pg_tensor {
    pg_dtype dtype;
    int64_t shape[4];  /* elements */
    int64_t stride[4]; /* bytes from one index to the next; stride[0] is the block's bytes */
    const void *data;  /* element [0][0][0][0]; any alignment: files promise none */
    /* FP8 only: one factor a 128x128 block, value = e4m3 * scale[(row0 + row) / 128][col / 128] */
    const float *scale;
    int64_t scale_stride; /* factors a block row */
    int64_t row0;         /* row of the whole matrix at which this view begins */
    int32_t packed; /* 1: rows stand in panels of 16 (unpack/panel.h); stride[1] is still the bytes of one row, and
                           * a view of rows must begin at a multiple of 16 */
} pg_tensor;

/* A dense view over data, strides from the shape. */
static inline pg_tensor pg_tensor_dense(pg_dtype dtype, const void *data, int64_t n0, int64_t n1, int64_t n2)
{
    pg_tensor t = { .dtype = dtype, .shape = { n0, n1, n2, 1 }, .data = data };
    t.stride[0] = pg_dtype_get(dtype)->bytes;
    t.stride[1] = (int64_t)pg_dtype_bytes(dtype, n0);
    t.stride[2] = t.stride[1] * n1;
    t.stride[3] = t.stride[2] * n2;
    return t;
}

/* n rows of a matrix from row `first`, `step` rows apart (1 for FP8, whose factors count rows). The view borrows t's
 * data. */
static inline pg_tensor pg_tensor_rows(const pg_tensor *t, int64_t first, int64_t n, int64_t step)
{
    pg_tensor v = *t;
    v.data = (const char *)t->data + first * t->stride[1];
    v.shape[1] = n;
    v.stride[1] = t->stride[1] * step;
    v.row0 = t->row0 + first;
    return v;
}

/* Matrix i of a stack {K, N, n}; a stack may be cut out of one tall matrix, whose factors then go on counting rows.
 * The view borrows t's data. */
static inline pg_tensor pg_tensor_slice(const pg_tensor *t, int64_t i)
{
    pg_tensor v = *t;
    v.data = (const char *)t->data + i * t->stride[2];
    v.shape[2] = 1;
    v.row0 = t->row0 + i * (t->stride[2] / t->stride[1]);
    return v;
}

/* Not for a packed matrix, whose rows are not in one piece. */
static inline const void *pg_tensor_row(const pg_tensor *t, int64_t row)
{
    return (const char *)t->data + row * t->stride[1];
}

#endif
