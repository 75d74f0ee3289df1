/* softmax: what a whole row of logits weighs: the sum under its probabilities, and ln p. */
#ifndef PG_SOFTMAX_H
#define PG_SOFTMAX_H

#include <stdint.h>

/* Sum of exp((x[i] - top) / t), every term within 1e-6 of itself, in one fixed order of f64 sums; top is finite and not
 * below any x[i], t above 0. What is -inf or NaN weighs nothing. */
double pg_softmax_sum(const float *x, int32_t n, float top, float t);

/* What turns a logit into ln p. The largest logit and the rest stay apart: their sum may swallow the rest. */
typedef struct pg_softmax_total {
    float top;
    double log_sum; /* ln sum exp(logit - top); beside a +inf ln of how many of them there are */
} pg_softmax_total;

pg_softmax_total pg_softmax_of(const float *logits, int32_t n);

/* ln p of one logit of that row. A +inf is certainty, shared evenly; NaN counts as -inf. */
float pg_softmax_ln(float logit, pg_softmax_total t);

#endif
