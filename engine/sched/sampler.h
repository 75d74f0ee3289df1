/* sampler: one token out of one row of logits. Pure: the same inputs give the same token, whatever else runs.
 *
 * Order: logit bias, bans, grammar mask, penalties, (DRY), top-k, typical, top-p, min-p, (XTC), temperature, draw;
 * those in brackets come later and keep their places. Candidates are kept sorted by logit, ties by lower id; sums run
 * in f64 in that order. Noise is Philox4x32-10 keyed by the seed, counted by (position, attempt), so a replay draws the
 * same.
 * A device hands out the best of a row, and the row itself for what that does not decide: what is drawn from the one is what
 * would have been drawn from the other, bit for bit.
 * Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p), Meister et al. 2022 (typical), Nguyen et al. 2024
 * (min-p), Keskar et al. 2019 (repetition penalty), Salmon et al. 2011 (Philox). */
#ifndef PG_SAMPLER_H
#define PG_SAMPLER_H

#include "../../kernels/backend.h"
#include "../include/perigee.h"

/* Memory for sampling rows of n_vocab logits; one for a thread, made once so that a step allocates nothing. */
typedef struct pg_sampler pg_sampler;
pg_sampler *pg_sampler_open(int32_t n_vocab); /* NULL: no memory */
void pg_sampler_close(pg_sampler *s);

/* What is drawn from and how; all borrowed for the call. */
typedef struct pg_draw {
    const float *logits;    /* [n_vocab], not changed; NULL: */
    const pg_best *best;    /* what is known of them */
    const pg_request *how;  /* sampling fields, bias, logprobs */
    const int32_t *history; /* [n_history] prompt and generated tokens so far, for penalties */
    int32_t n_history;
    const uint64_t *mask; /* a bit for each token, 0: never drawn; NULL: all may be */
    uint64_t seed;
    int32_t position;   /* of the token to be drawn */
    int32_t attempt;    /* 0, or how often the request was rewound: each time another draw */
    const int32_t *ban; /* [n_ban] tokens that must not be drawn; outside the vocabulary: nothing */
    int32_t n_ban;
    pg_logprob *logprobs; /* [how->logprobs] out: the chosen token, then the most likely; NULL when none are asked */
    const float *plain;   /* [n_vocab] what logprobs are of; NULL: logits */
} pg_draw;

enum { PG_SAMPLE_ROW = -1000 }; /* what is known of the row does not decide: ask again with all of it */

/* The drawn token id, in [0, n_vocab), or PG_SAMPLE_ROW. NaN logits count as -inf; if nothing is finite, PG_EINVAL is
 * returned. */
int32_t pg_sample(pg_sampler *s, const pg_draw *draw);

/* ln softmax(logits)[token], sums in f64. */
float pg_logprob_of(const float *logits, int32_t n_vocab, int32_t token);

/* noise.c. Philox4x32-10: out[4] from a 64-bit key and a 128-bit counter. */
void pg_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4]);
/* In [0, 1), a multiple of 2^-53. */
double pg_uniform(uint64_t seed, int32_t position, int32_t attempt);

#endif
