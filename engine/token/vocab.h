/* vocab: the texts of a vocabulary, their ids and types, and the merges of a BPE vocabulary.
 *
 * Only engine/token includes this. A vocabulary is filled once (push, index, then merges) and read-only afterwards. */
#ifndef PG_VOCAB_H
#define PG_VOCAB_H

#include "buf.h"
#include "../status.h"

/* What a token is; the numbers are those of GGUF's tokenizer.ggml.token_type. */
enum {
    PG_TYPE_UNDEFINED = 0, /* treated as NORMAL */
    PG_TYPE_NORMAL = 1,
    PG_TYPE_UNKNOWN = 2,
    PG_TYPE_CONTROL = 3,
    PG_TYPE_USER = 4,
    PG_TYPE_UNUSED = 5,
    PG_TYPE_BYTE = 6,
    PG_TYPE_LAST = 6
};

enum {
    PG_VOCAB_MAX = 1 << 24,    /* tokens */
    PG_TOKEN_TEXT_MAX = 65536, /* bytes */
    PG_TOKEN_CLIP = 60         /* bytes of a token's text in a message */
};

/* Symbols are numbered from 0: the n tokens, then the texts that only merges mention. Of tokens with equal text the
 * lowest id is the one that is found. */
typedef struct pg_vocab {
    int32_t n, n_symbol;
    size_t *at;    /* [n_symbol + 1] where a text begins in `text`; each ends with a NUL */
    uint8_t *type; /* [n] PG_TYPE_* */
    double *score; /* [n], or NULL */
    pg_buf text;
    size_t longest; /* bytes of the longest token */
    int32_t *slot;  /* hash of the texts: symbol or -1 */
    uint32_t mask;
    uint64_t seed; /* drawn at open, so that no file can be made of colliding texts */
    size_t at_room, type_room;
} pg_vocab;

/* Pairs of symbols that join, with the rank of the merge. */
typedef struct pg_merge {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank;
    int32_t whole; /* the symbol that they become; -1: this place of the table is free */
} pg_merge;

typedef struct pg_merges {
    pg_merge *slot;
    uint32_t mask, n;
    uint64_t seed;
} pg_merges;

void pg_vocab_free(pg_vocab *v);
/* Append a token. PG_EMEMORY, PG_ELIMIT. */
int pg_vocab_push(pg_vocab *v, const char *s, size_t n, int type, pg_error *err);
/* After the last push: the checks that hold for every format, and the hash. `what` begins a message ("FILE: KEY"). */
int pg_vocab_index(pg_vocab *v, const char *what, pg_error *err);
/* The symbol of a text, -1 when there is none. */
int32_t pg_vocab_find(const pg_vocab *v, const char *s, size_t n);
/* Whether a symbol is a token that plain text may become: control tokens never come out of merging. */
static inline bool pg_vocab_is_plain(const pg_vocab *v, int32_t symbol)
{
    return symbol >= 0 && symbol < v->n && v->type[symbol] != PG_TYPE_CONTROL && v->type[symbol] != PG_TYPE_UNKNOWN &&
           v->type[symbol] != PG_TYPE_BYTE;
}
/* The token that plain text may become, -1 when there is none. */
int32_t pg_vocab_plain(const pg_vocab *v, const char *s, size_t n);
/* The token "<0xHH>" of each byte, or -1. */
void pg_vocab_bytes(const pg_vocab *v, int32_t id[256]);

static inline size_t pg_vocab_size(const pg_vocab *v, int32_t symbol)
{
    return v->at[symbol + 1] - v->at[symbol] - 1;
}
static inline const char *pg_vocab_text(const pg_vocab *v, int32_t symbol)
{
    return v->text.data + v->at[symbol];
}

/* Make room for n merges, then add at most so many in order of rank; of equal pairs the first counts. */
int pg_merges_begin(pg_merges *m, const pg_vocab *v, int64_t n, pg_error *err);
int pg_merges_add(pg_merges *m, pg_vocab *v, const char *left, size_t n_left, const char *right, size_t n_right,
                  pg_error *err);
/* NULL when the pair does not join. */
const pg_merge *pg_merges_find(const pg_merges *m, int32_t left, int32_t right);

#endif
