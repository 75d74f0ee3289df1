/* gemm_cuda: MATMUL for many rows. */
#ifndef PG_GEMM_CUDA_H
#define PG_GEMM_CUDA_H

#include "../cuda/cuda.cuh"

void pg_cuda_gemm(pg_cuda *c, const pg_op *op);
int64_t pg_cuda_gemm_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);

#endif
