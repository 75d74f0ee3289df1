/* lexicon: a vocabulary ordered by the bytes of its tokens, so that all tokens are tried at once.
 *
 * A trie lies in one array in depth-first order: a node's children follow it, and `skip` leads past all of them. Made
 * once for a tokenizer and read-only afterwards.
 * Source: Fredkin, Trie memory, CACM 1960. */
#ifndef PG_GRAMMAR_LEXICON_H
#define PG_GRAMMAR_LEXICON_H

#include "../token/token.h"

#include <stdbool.h>

typedef struct pg_trie_node {
    uint32_t skip;  /* the next node that is not below this one */
    uint32_t first; /* where tokens that end here, and those after them, begin in `token` */
    uint16_t depth; /* bytes from the root, 1 for its children */
    uint8_t byte;
} pg_trie_node;

typedef struct pg_trie {
    pg_trie_node *node; /* [n_node + 1]; the last one only closes the list */
    int32_t *token;     /* [n_token] ids in the order of their bytes */
    uint32_t n_node, n_token;
} pg_trie;

typedef struct pg_lexicon {
    const pg_tokenizer *tokenizer;
    int32_t n_vocab; /* of the model; bits of a mask, which may be more than the tokenizer has */
    int32_t n_word;  /* 64-bit words of a mask */
    int32_t longest; /* bytes of the longest token that can be part of a text */
    pg_trie all;     /* tokens that add bytes to a text */
    uint64_t *ends;  /* [n_word] tokens that end a generation */
} pg_lexicon;

enum { PG_LEXICON_LONGEST = 1024 }; /* bytes; longer tokens are never let through */

pg_lexicon *pg_lexicon_open(const pg_tokenizer *t, int32_t n_vocab, pg_error *err);
void pg_lexicon_close(pg_lexicon *l);

/* The trie of those tokens of `from` that keep[id] is 0 for; false: no memory. Free it with pg_trie_free. */
bool pg_trie_filter(const pg_lexicon *l, const pg_trie *from, const uint8_t *leave_out, pg_trie *out);
void pg_trie_free(pg_trie *t);

#endif
