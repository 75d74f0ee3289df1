/* rest: what is known of the numbers of a row that are not in a list of its best (kernels/backend.h, pg_best).
 *
 * Weights are relative to the best candidate's: exp((x - best) / temperature). A draw compares what candidates hold with a
 * share of the row's whole weight, and two ways of summing a row differ in their last bits; so the whole weight is a
 * span here. What both ends of it agree on is what the whole row would have said; else the row is asked. */
#ifndef PG_REST_H
#define PG_REST_H

#include <stdint.h>

typedef struct pg_span {
    double low, high;
} pg_span;

typedef struct pg_rest {
    double low, high; /* their weight at temperature 1 */
    double each;      /* none of them weighs more than this */
    double n;         /* how many there may be */
} pg_rest;

/* The weight of a row of which these candidates hold `held` and the rest is as said, at a temperature above 0. The sum of a
 * whole row as softmax.h takes it is inside. */
pg_span pg_rest_span(const pg_rest *r, double held, double temperature);

/* ln p to the bit where weight `sum` of the row, in one order of its terms, leaves no doubt: 1, or 0. below: logit - top. */
int pg_rest_ln(double below, double sum, float *out);

#endif
