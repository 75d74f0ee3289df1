/* mask: which tokens a grammar lets through where a text stands.
 *
 * A masker belongs to one grammar and one vocabulary; its masks serve all requests that use them. It is made in the
 * caller's thread and then used by one thread at a time, the engine's, which allocates nothing in it. A state is where
 * one request stands.
 * Not here: what a mask does to logits (sampler).
 * Source of the idea that most tokens do not depend on the stack: Dong et al., XGrammar, MLSys 2025. */
#ifndef PG_GRAMMAR_MASK_H
#define PG_GRAMMAR_MASK_H

#include "lexicon.h"
#include "match.h"

typedef struct pg_masker pg_masker;

/* Takes the grammar; the lexicon must live longer. NULL: PG_EMEMORY, PG_ELIMIT, PG_ENOTFOUND (a token that the grammar
 * names is not in the vocabulary). */
pg_masker *pg_masker_open(pg_grammar *g, const pg_lexicon *l, pg_error *err);
void pg_masker_close(pg_masker *m);
const pg_grammar *pg_masker_grammar(const pg_masker *m);
size_t pg_masker_words(const pg_masker *m); /* of a mask */

/* Where a request stands: zeroed is the beginning of a text. */
typedef struct pg_grammar_state {
    int32_t config, generation; /* of the masker's matcher */
    int32_t n_token;            /* tokens that it has come past */
} pg_grammar_state;

/* Forget the tokens: after a rewind pg_masker_follow finds the place again. */
static inline void pg_grammar_state_reset(pg_grammar_state *s)
{
    *s = (pg_grammar_state){ 0 };
}

/* Go on to where all of token[n] are passed, those of them that are known already not again. PG_OK, PG_EINVAL when one
 * does not fit, PG_ELIMIT when there are more places than can be followed. */
int pg_masker_follow(pg_masker *m, pg_grammar_state *s, const int32_t *token, int32_t n);

/* After pg_masker_follow of the same tokens: the mask [n_word], good until the next call; PG_ELIMIT as above. */
int pg_masker_mask(pg_masker *m, pg_grammar_state *s, const uint64_t **mask);

/* Whether the text is complete and nothing can follow. */
bool pg_masker_is_over(const pg_masker *m, const pg_grammar_state *s);
bool pg_masker_may_end(const pg_masker *m, const pg_grammar_state *s);

/* How many masks were made, and how many were asked for. */
void pg_masker_count(const pg_masker *m, int64_t *made, int64_t *asked);

#endif
