/* runs: tokens that consist of characters of one class.
 *
 * Inside a string almost every token is allowed, and all of them for the same reason: each of their characters belongs
 * to the class that is being repeated. These tokens are found once for each large class of a grammar; in a state that
 * repeats the class they are let through together, and only the few others are tried one by one. */
#ifndef PG_GRAMMAR_RUNS_H
#define PG_GRAMMAR_RUNS_H

#include "lexicon.h"
#include "match.h"

enum { PG_RUNS = 8, PG_RUN_POINTS = 20, PG_RUN_LONG = 254, PG_RUN_WIDE = 12 };

typedef struct pg_run {
    int32_t class, n_token;
    int32_t longest; /* characters of its longest token, at most PG_RUN_LONG */
    uint64_t *bits;  /* [n_word] its tokens */
    uint8_t *length; /* [64 * n_word] characters of each; 0: no token of the run */
    int32_t *wide;   /* [n_wide] its tokens of more than PG_RUN_WIDE characters */
    int32_t n_wide;
    pg_trie rest; /* all others */
} pg_run;

typedef struct pg_runs {
    pg_run run[PG_RUNS];
    int32_t n_run;
} pg_runs;

/* For the largest classes of a grammar, those of PG_RUN_POINTS characters and more; false: no memory. */
bool pg_runs_open(pg_runs *r, const pg_grammar *g, const pg_lexicon *l);
void pg_runs_close(pg_runs *r);

/* The run that a configuration lets through, or NULL: `most` characters of it at most. What it says rests on frames
 * above *low, which is lowered. */
const pg_run *pg_runs_find(const pg_runs *r, pg_matcher *m, int32_t config, int32_t *most, int32_t *low);

/* Set the bits of its tokens of at most that many characters in a mask that is empty. */
void pg_run_mark(const pg_run *r, const pg_lexicon *l, int32_t most, uint64_t *mask);

#endif
