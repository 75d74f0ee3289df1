/* matmul_cuda: what the parts of MATMUL on the device, and EXPERTS, share. Private to kernels/. */
#ifndef PG_MATMUL_CUDA_H
#define PG_MATMUL_CUDA_H

#include "../cuda/cuda.cuh"
#include "gemv.cuh"

/* Up to so many rows stream the weights through gemv.cuh; more are gemm's. */
enum { PG_FEW_ROWS = 16 };

/* Bytes of shared memory that a block may be launched with: the 48 KiB that it has unasked, less the arrays that kernels
 * declare themselves, which count as well. */
enum { PG_SHARED_MOST = 46 * 1024 };

/* matmul_cuda.cu: whether the rows of a MATMUL op are rounded to 8 bits when they are few. */
int pg_cuda_rounds(const pg_code *code, const pg_op *op);

/* matmul_cuda.cu: round columns b * x_step .. + k of every row of x (all: which rows there are) for each b below batch,
 * to [batch][padded][k]. */
void pg_cuda_round(pg_cuda *c, const pg_rounded &y, const float *x, int x_width, int x_step, int padded, int k,
                   int batch, int all);

/* turned_cuda.cu: the transposed form, few rows. */
void pg_cuda_turned(pg_cuda *c, const pg_op *op);

/* Bytes of scratch of rows * k rounded columns; rows come in groups of 8. */
static inline int64_t pg_cuda_rounded_room(int64_t rows, int64_t k)
{
    return pg_cuda_up(pg_rounded_bytes((rows + 7) / 8 * 8 * k));
}

/* Matrices of one geometry as a kernel gets them. */
typedef struct pg_stack {
    const unsigned char *first, *const *base; /* of pg_cuda_weight; base NULL: all near */
    int64_t plane[PG_PLANES], bytes;
    int32_t k, n, blocks;
} pg_stack;

static inline pg_stack pg_stack_of(const pg_cuda_weight *w)
{
    pg_stack s = {};
    s.first = w->first;
    s.base = w->all_near ? NULL : w->base;
    for (int i = 0; i < PG_PLANES; i++) s.plane[i] = w->at.plane[i];
    s.bytes = w->at.bytes;
    s.k = (int32_t)w->at.k;
    s.n = (int32_t)w->at.n;
    s.blocks = (int32_t)(w->at.k / pg_dtype_get(w->at.dtype)->block);
    return s;
}

__device__ __forceinline__ pg_view pg_view_of(const pg_stack &s, int i)
{
    const unsigned char *at = s.base ? s.base[i] : s.first + i * s.bytes;
    pg_view v;
#pragma unroll
    for (int p = 0; p < 4; p++) v.plane[p] = at + s.plane[p];
    v.k = s.k;
    v.blocks = s.blocks;
    return v;
}

/* True when rows of a float matrix begin at multiples of 16 bytes and consist of whole chunks; always for the
 * others. */
static inline int pg_stack_even(pg_dtype type, int64_t k)
{
    return pg_dtype_is_quant(type) || k * pg_dtype_get(type)->bytes % 16 == 0;
}

#endif
