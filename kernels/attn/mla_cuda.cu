/* mla_cuda.cu: the MLA op. Prompts take the absorbed form here, as generated tokens do: the ops that follow it compute
 * all rows (op.h, decode_only), so this one has nothing to add. */
#include "../cuda/cuda.cuh"

void pg_cuda_mla(pg_cuda *, const pg_op *)
{
}
