/* split: pre-tokenizing, the cutting of a text into the pieces within which a model merges. Only engine/token includes
 * this. */
#ifndef PG_SPLIT_H
#define PG_SPLIT_H

#include "regex.h"

typedef enum pg_step_kind {
    PG_STEP_SPLIT, /* cut at an expression */
    PG_STEP_SPACE, /* a piece that does not begin with a space gets one */
    PG_STEP_META,  /* spaces become `mark`, which may be put before a piece as well */
    PG_STEP_BYTES  /* bytes become the characters of a byte-level vocabulary */
} pg_step_kind;

/* What becomes of the matches of a SPLIT; the names are those of tokenizer.json. */
typedef enum pg_behavior { PG_ISOLATED, PG_REMOVED, PG_WITH_PREVIOUS, PG_WITH_NEXT, PG_CONTIGUOUS } pg_behavior;

/* When META puts its mark before a piece. */
typedef enum pg_scheme { PG_SCHEME_ALWAYS, PG_SCHEME_FIRST, PG_SCHEME_NEVER } pg_scheme;

typedef struct pg_step {
    pg_step_kind kind;
    pg_regex *re;         /* SPLIT */
    pg_behavior behavior; /* SPLIT */
    bool invert;          /* SPLIT: the gaps are the matches */
    char mark[8];         /* META: one character, terminated */
    pg_scheme scheme;     /* META */
} pg_step;

typedef struct pg_steps {
    pg_step *step;
    size_t n, room;
} pg_steps;

/* A new last step, zeroed, for the caller to fill at once; NULL when memory is short. */
pg_step *pg_steps_add(pg_steps *steps, pg_step_kind kind, pg_error *err);
/* Add a SPLIT, isolated, at an expression of this library's own. */
int pg_steps_split(pg_steps *steps, const char *pattern, pg_error *err);
void pg_steps_free(pg_steps *steps);

/* pre.c: the steps that tokenizer.ggml.pre names. */
typedef struct pg_pre {
    const char *const *pattern; /* terminated by NULL */
    bool ignore_merges, add_bos;
} pg_pre;
/* The entry of a name; NULL when it is not known. */
const pg_pre *pg_pre_find(const char *name, size_t n);
/* The expression that byte-level pre-tokenizers have had since GPT-2. */
extern const char pg_pre_gpt2[];

typedef struct pg_piece {
    size_t from, to;
} pg_piece;

/* A text on its way through the steps. */
typedef struct pg_pieces {
    pg_buf text, next_text;
    pg_piece *piece, *next;
    size_t n, room, n_next, next_room;
} pg_pieces;

/* Cut s into p->piece, bounds in p->text. at_start: s is the beginning of the whole text. */
int pg_split(const pg_steps *steps, pg_match *m, pg_pieces *p, const char *s, size_t n, bool at_start, pg_error *err);
void pg_pieces_free(pg_pieces *p);

#endif
