/* moe_cuda: EXPERTS: who runs it, by how many rows there are. */
#include "moe_few_cuda.cuh"
#include "moe_many_cuda.cuh"

void pg_cuda_experts(pg_cuda *c, const pg_op *op)
{
    const int rows = pg_cuda_rows(c, op->src[0]);
    if (rows == 0) return;
    if (rows > PG_MOE_FEW_ROWS)
        pg_cuda_experts_many(c, op);
    else
        pg_cuda_experts_few(c, op);
}

int64_t pg_cuda_experts_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    const int64_t few = pg_cuda_experts_few_scratch(c, code, op), many = pg_cuda_experts_many_scratch(c, code, op);
    return few > many ? few : many;
}
