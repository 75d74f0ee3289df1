/* order: the best of a row of logits, in order, no more of them than are asked for.
 *
 * A candidate is a 64-bit word, a rank of its logit above its token id, so that one comparison of integers is the order
 * "larger logit first, then lower id", and no two ways of sorting can disagree. NaN counts as -inf. */
#ifndef PG_ORDER_H
#define PG_ORDER_H

#include <stdint.h>
#include <string.h>

/* Memory for rows of n_vocab logits, and what is known of the one that was looked at last. */
typedef struct pg_order {
    int32_t n_vocab, n_block;
    const float *row; /* borrowed */
    float *top;       /* [n_block] the largest logit of each block of the row */
    float largest;    /* of all of them */
    uint64_t *best;   /* [n_vocab] the candidates taken last, best first */
    uint64_t *spare;  /* [n_vocab] */
} pg_order;

int pg_order_open(pg_order *o, int32_t n_vocab); /* 0, or -1: no memory */
void pg_order_close(pg_order *o);

/* Look at a row, which must stay as it is while candidates are taken from it; returns its largest logit. */
float pg_order_look(pg_order *o, const float *row);

/* The lowest id with the largest logit, which must be above -inf. */
int32_t pg_order_first(const pg_order *o);

/* Put the k best of the row's logits above -inf into o->best; returns how many, fewer than k when there are no more. */
int32_t pg_order_take(pg_order *o, int32_t k);

/* The largest of n logits, -inf when all are NaN. */
float pg_order_top(const float *x, int32_t n);

/* A heap with the largest word on top: make one; take that word out. */
void pg_heap_make(uint64_t *heap, int32_t n);
uint64_t pg_heap_pop(uint64_t *heap, int32_t *n);

/* Smaller is better: a larger logit, then a lower id. Adding 0 turns -0 into +0, which must tie. */
static inline uint64_t pg_rank_of(float logit, int32_t id)
{
    const float x = logit + 0.0f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = bits >> 31 ? bits : ~bits & 0x7FFFFFFFu;
    return (uint64_t)bits << 32 | (uint32_t)id;
}

static inline int32_t pg_rank_id(uint64_t rank)
{
    return (int32_t)(uint32_t)rank;
}

/* The logit again; -0 has become +0. */
static inline float pg_rank_logit(uint64_t rank)
{
    uint32_t bits = (uint32_t)(rank >> 32);
    bits = bits >> 31 ? bits : ~bits & 0x7FFFFFFFu;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
