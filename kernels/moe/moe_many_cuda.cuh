/* moe_many_cuda: EXPERTS for many rows. */
#ifndef PG_MOE_MANY_CUDA_H
#define PG_MOE_MANY_CUDA_H

#include "../cuda/cuda.cuh"

void pg_cuda_experts_many(pg_cuda *c, const pg_op *op);
int64_t pg_cuda_experts_many_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);

#endif
