/* sample: the best numbers of a row of logits, found where the row is, so that a draw needs no other ones.
 *
 * Of a row x[n]: the k largest above -inf with their ids, the largest first, ties by the lower id, NaN counting as -inf; and
 * sum of exp(x[i] - largest) over the whole row. The terms have the bits of engine/sched/softmax.c's; their f64 sum may be
 * taken in any fixed order. Whatever of a draw follows from these is the sampler's affair. */
#ifndef PG_SAMPLE_H
#define PG_SAMPLE_H

#include "../backend.h"

/* Into value and id, [k] each, and what out says of them. */
void pg_best_ref(const float *x, int32_t n, int32_t k, float *value, int32_t *id, pg_best *out);

#endif
