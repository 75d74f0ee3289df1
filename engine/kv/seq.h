/* seq: the pages of one sequence in order of position, those shared with other prompts first.
 *
 * All pages that a sequence may ever need are set aside when it begins, so it never waits for one later. Pages that are
 * known from another prompt come with their tokens; they are read, never written: a sequence writes behind them only,
 * and makes its own pages known once they are full of prompt tokens. The page of the last prompt token is never shared:
 * that token is computed anew, for its logits, and again when all that was generated is taken back.
 *
 * Owned by the engine thread. */
#ifndef PG_SEQ_H
#define PG_SEQ_H

#include "prefix.h"

/* Policies whose rows nobody may share, not even another request under the same one, have this key. */
#define PG_KEY_ALONE UINT64_MAX

typedef struct pg_seq {
    int32_t *page; /* [room of its owner] */
    int32_t n_page;
    int32_t n_known;  /* of them, known to the cache */
    int32_t n_cached; /* tokens that were found, not computed */
    pg_scope scope;
} pg_seq;

/* Set `need` pages aside for a sequence that begins with a prompt [n_prompt]; what is known of it is found.
 * @return 1, or 0: there is no room now */
int pg_seq_begin(pg_seq *s, pg_prefix *x, const int32_t *prompt, int32_t n_prompt, int32_t need);

/* The same for what has become known since, where the first n_done tokens are no more than the known pages hold.
 * @return how many more tokens are done */
int32_t pg_seq_look(pg_seq *s, pg_prefix *x, const int32_t *prompt, int32_t n_prompt, int32_t n_done);

/* Whether both will make the same page known next: two prompts that begin alike, equally far. */
int pg_seq_meet(const pg_seq *a, const int32_t *prompt_a, int32_t n_a, const pg_seq *b, const int32_t *prompt_b,
                int32_t n_b);

/* The first n_done tokens of the prompt have been computed: make their full pages known. */
void pg_seq_share(pg_seq *s, pg_prefix *x, const int32_t *prompt, int32_t n_prompt, int32_t n_done);

/* Give all pages back. */
void pg_seq_end(pg_seq *s, pg_prefix *x);

#endif
