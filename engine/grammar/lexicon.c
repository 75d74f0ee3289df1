/* lexicon.c: see lexicon.h. */
#include "lexicon.h"

#include <stdlib.h>
#include <string.h>

typedef struct spelling {
    const char *s;
    uint32_t n;
    int32_t id;
} spelling;

static int compare(const void *a, const void *b)
{
    const spelling *x = a, *y = b;
    const int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static uint32_t common(const spelling *a, const spelling *b)
{
    const uint32_t most = a->n < b->n ? a->n : b->n;
    uint32_t n = 0;
    while (n < most && a->s[n] == b->s[n]) n++;
    return n;
}

/* Close the nodes deeper than `depth`: what comes next is not below them. */
static void close_path(pg_trie *t, uint32_t *path, uint32_t *n_path, uint32_t depth)
{
    while (*n_path > depth) t->node[path[--*n_path]].skip = t->n_node;
}

/* From sorted spellings. */
static bool build(const spelling *list, uint32_t n, pg_trie *t)
{
    size_t nodes = 1;
    for (uint32_t i = 0; i < n; i++) nodes += list[i].n - (i ? common(&list[i - 1], &list[i]) : 0);
    *t = (pg_trie){ .node = malloc(nodes * sizeof *t->node), .token = malloc(((size_t)n + 1) * sizeof *t->token) };
    uint32_t *path = malloc(PG_LEXICON_LONGEST * sizeof *path), n_path = 0;
    const bool fine = t->node && t->token && path;
    for (uint32_t i = 0; fine && i < n; i++) {
        close_path(t, path, &n_path, i ? common(&list[i - 1], &list[i]) : 0);
        while (n_path < list[i].n) {
            t->node[t->n_node] = (pg_trie_node){ .first = t->n_token,
                                                 .depth = (uint16_t)(n_path + 1),
                                                 .byte = (uint8_t)list[i].s[n_path] };
            path[n_path++] = t->n_node++;
        }
        t->token[t->n_token++] = list[i].id;
    }
    if (fine) {
        close_path(t, path, &n_path, 0);
        t->node[t->n_node] = (pg_trie_node){ .skip = t->n_node + 1, .first = t->n_token };
    } else {
        pg_trie_free(t);
    }
    free(path);
    return fine;
}

void pg_trie_free(pg_trie *t)
{
    free(t->node);
    free(t->token);
    *t = (pg_trie){ 0 };
}

bool pg_trie_filter(const pg_lexicon *l, const pg_trie *from, const uint8_t *leave_out, pg_trie *out)
{
    spelling *list = malloc(((size_t)from->n_token + 1) * sizeof *list);
    uint32_t n = 0;
    for (uint32_t i = 0; list && i < from->n_token; i++) {
        const int32_t id = from->token[i];
        size_t size;
        if (leave_out[id]) continue;
        pg_token_spell(l->tokenizer, id, &list[n].s, &size);
        list[n].n = (uint32_t)size;
        list[n++].id = id;
    }
    const bool fine = list && build(list, n, out);
    free(list);
    return fine;
}

/* Sort the tokens by what they are. */
static bool read_tokens(pg_lexicon *l)
{
    const int32_t count = pg_token_count(l->tokenizer), n_token = count < l->n_vocab ? count : l->n_vocab;
    spelling *list = malloc(((size_t)n_token + 1) * sizeof *list);
    uint32_t n = 0;
    for (int32_t id = 0; list && id < n_token; id++) {
        size_t size;
        const pg_token_kind kind = pg_token_spell(l->tokenizer, id, &list[n].s, &size);
        if (kind == PG_TOKEN_END) l->ends[id / 64] |= 1ull << id % 64;
        if (kind != PG_TOKEN_TEXT || size < 1 || size > PG_LEXICON_LONGEST) continue;
        if ((int32_t)size > l->longest) l->longest = (int32_t)size;
        list[n].n = (uint32_t)size;
        list[n++].id = id;
    }
    if (list) qsort(list, n, sizeof *list, compare);
    const bool fine = list && build(list, n, &l->all);
    free(list);
    return fine;
}

pg_lexicon *pg_lexicon_open(const pg_tokenizer *t, int32_t n_vocab, pg_error *err)
{
    pg_lexicon *l = calloc(1, sizeof *l);
    bool fine = l != NULL;
    if (fine) {
        l->tokenizer = t;
        l->n_vocab = n_vocab;
        l->n_word = (n_vocab + 63) / 64;
        l->ends = calloc((size_t)l->n_word + 1, sizeof *l->ends);
        fine = l->ends && read_tokens(l);
    }
    if (fine) return l;
    pg_lexicon_close(l);
    pg_fail(err, PG_EMEMORY, "not enough memory for a sorted vocabulary");
    return NULL;
}

void pg_lexicon_close(pg_lexicon *l)
{
    if (!l) return;
    pg_trie_free(&l->all);
    free(l->ends);
    free(l);
}
