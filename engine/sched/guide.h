/* guide: requests whose text a grammar bounds. The maskers of the grammars in use are the engine's and shared by all
 * requests that name the same grammar; they are made in the thread that submits, so that the engine's allocates nothing.
 * A request keeps its masker until it is freed; those that nobody uses stay for a while, for the next of their kind. */
#ifndef PG_GUIDE_H
#define PG_GUIDE_H

#include "../grammar/mask.h"

#include <pthread.h>

enum { PG_GUIDES = 8 }; /* maskers that are kept; more only while more are in use */

typedef struct pg_guide {
    pg_masker *masker;
    _Atomic int users;
    uint64_t used; /* when a request took it last; under the lock */
    struct pg_guide *next;
} pg_guide;

typedef struct pg_guides {
    pthread_mutex_t lock;
    pg_lexicon *lexicon; /* made with the first */
    pg_guide *first;
    uint64_t clock;
} pg_guides;

/* What a task has of it; zeroed: no grammar. */
typedef struct pg_guided {
    pg_guide *guide;
    pg_grammar_state state;
    uint64_t *mask; /* [n_word] of the next token */
    int result;     /* of making it: PG_OK or PG_E* */
} pg_guided;

void pg_guides_open(pg_guides *g);
void pg_guides_close(pg_guides *g);

/* Callers' threads. PG_OK, PG_EMEMORY, PG_ELIMIT, PG_ENOTFOUND. */
int pg_guided_open(pg_guides *g, pg_grammar *grammar, const pg_tokenizer *t, int32_t n_vocab, pg_guided *out,
                   pg_error *err);
void pg_guided_close(pg_guided *g);

/* The engine thread. The mask of what may follow token[n]; passing them first, or again after pg_guided_reset. */
void pg_guided_look(pg_guided *g, const int32_t *token, int32_t n);
/* Whether after token[n] the text is complete and nothing can follow. */
int pg_guided_is_over(pg_guided *g, const int32_t *token, int32_t n);
/* Tokens were taken back. */
static inline void pg_guided_reset(pg_guided *g)
{
    pg_grammar_state_reset(&g->state);
}

#endif
