/* fuse: what launches several ops of a decode step at once. Each returns 0, or -1 when its kernel is not for these ops or
 * not for the rows of this step: then it has launched nothing. */
#ifndef PG_CUDA_FUSE_H
#define PG_CUDA_FUSE_H

#include "cuda.cuh"

/* matmul_cuda.cu: MATMUL ops that run as one launch with this one, itself included; 0: it runs with one before. */
int pg_cuda_group(const pg_code *code, const pg_op *op);

/* matmul_cuda.cu: a single row through `norm` (NULL: none), the group of MATMUL ops that begins with op, and `then`, which
 * is an ADD or the ROUTE of the group's only op (NULL: neither). */
int pg_cuda_multiply_one(pg_cuda *c, const pg_op *norm, const pg_op *op, const pg_op *then);

/* route_cuda.cu: whether somebody steers in this step. */
int pg_cuda_is_steered(const pg_cuda *c);

/* heads_cuda.cu: NORM, CLAMP, ROPE in place, STORE, and COPY as the last, in order. */
int pg_cuda_heads(pg_cuda *c, const pg_op *const *op, int n);

/* moe_few_cuda.cu: a single row through EXPERTS; through a shared expert: MATMUL gate, up, GLU, MATMUL down, and the ADD of
 * both (NULL: none); and an ADD of that to something (NULL: none). */
int pg_cuda_experts_one(pg_cuda *c, const pg_op *op, const pg_op *shared, const pg_op *add);

#endif
