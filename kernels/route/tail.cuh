/* tail: ROUTE of a single row at the end of the product that makes its logits: the last block that is done has all of them
 * and chooses. For rows that nobody steers. */
#ifndef PG_ROUTE_TAIL_H
#define PG_ROUTE_TAIL_H

#include "choose.cuh"

typedef struct pg_route_tail {
    pg_router r;     /* bias: in device memory; n_expert 0: there is no ROUTE */
    int32_t *pick;   /* [2 * most] */
    int32_t words;   /* of shared memory */
    unsigned *count; /* device: 0 before and after */
} pg_route_tail;

/* All threads of all blocks of a grid come here, once their logits are written. words: shared memory of the block, of which
 * nothing is needed any more. */
__device__ __forceinline__ void pg_route_by_last(const pg_route_tail &t, const float *logits, float *words)
{
    __shared__ int is_last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(t.count, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!is_last || threadIdx.x >= 32) return;
    __threadfence();
    const int lane = (int)threadIdx.x;
    float *const x = words + t.words;
    for (int e = lane; e < t.r.n_expert; e += 32) x[e] = __ldcg(logits + e); /* of other blocks: not by way of L1 */
    __syncwarp();
    pg_choice_plain(pg_choice_at(t.r, words, false), x, t.pick, lane);
    if (lane == 0) *t.count = 0;
}

#endif
