/* moe_few_cuda: EXPERTS for few rows. */
#ifndef PG_MOE_FEW_CUDA_H
#define PG_MOE_FEW_CUDA_H

#include "../cuda/cuda.cuh"

/* Up to so many rows are streamed past the experts' weights as they are; more are sorted and multiplied in tiles. */
enum { PG_MOE_FEW_ROWS = 64 };

/* rows launched for: at most PG_MOE_FEW_ROWS. */
void pg_cuda_experts_few(pg_cuda *c, const pg_op *op);
int64_t pg_cuda_experts_few_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);

#endif
