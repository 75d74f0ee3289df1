/* guide.c: see guide.h. */
#include "guide.h"

#include <stdlib.h>
#include <string.h>

void pg_guides_open(pg_guides *g)
{
    *g = (pg_guides){ .first = NULL };
    pthread_mutex_init(&g->lock, NULL);
}

static void free_guide(pg_guide *g)
{
    if (!g) return;
    pg_masker_close(g->masker);
    free(g);
}

void pg_guides_close(pg_guides *g)
{
    while (g->first) {
        pg_guide *next = g->first->next;
        free_guide(g->first);
        g->first = next;
    }
    pg_lexicon_close(g->lexicon);
    pthread_mutex_destroy(&g->lock);
}

/* The one that lay unused for longest goes when there are too many. */
static void make_room(pg_guides *g)
{
    pg_guide **oldest = NULL;
    int n = 0;
    for (pg_guide **at = &g->first; *at; at = &(*at)->next, n++)
        if (!atomic_load(&(*at)->users) && (!oldest || (*at)->used < (*oldest)->used)) oldest = at;
    if (n < PG_GUIDES || !oldest) return;
    pg_guide *gone = *oldest;
    *oldest = gone->next;
    free_guide(gone);
}

/* Under the lock. */
static pg_guide *find_or_make(pg_guides *g, pg_grammar *grammar, const pg_tokenizer *t, int32_t n_vocab, pg_error *err)
{
    for (pg_guide *at = g->first; at; at = at->next)
        if (pg_masker_grammar(at->masker) == grammar) return at;
    if (!g->lexicon) g->lexicon = pg_lexicon_open(t, n_vocab, err);
    if (!g->lexicon) return NULL;
    make_room(g);
    pg_guide *made = calloc(1, sizeof *made);
    if (!made) {
        pg_fail(err, PG_EMEMORY, "no memory for the masks of a grammar");
        return NULL;
    }
    made->masker = pg_masker_open(grammar, g->lexicon, err);
    if (!made->masker) {
        free(made);
        return NULL;
    }
    made->next = g->first;
    return g->first = made;
}

int pg_guided_open(pg_guides *g, pg_grammar *grammar, const pg_tokenizer *t, int32_t n_vocab, pg_guided *out,
                   pg_error *err)
{
    pg_error why = { 0 };
    pthread_mutex_lock(&g->lock);
    pg_guide *guide = find_or_make(g, grammar, t, n_vocab, &why);
    if (guide) {
        atomic_fetch_add(&guide->users, 1);
        guide->used = ++g->clock;
    }
    pthread_mutex_unlock(&g->lock);
    if (!guide) {
        if (err) *err = why;
        return why.code;
    }
    *out = (pg_guided){ .guide = guide, .mask = calloc((size_t)n_vocab / 64 + 1, sizeof *out->mask) };
    if (out->mask) return PG_OK;
    pg_guided_close(out);
    return pg_fail(err, PG_EMEMORY, "no memory for the mask of a grammar");
}

void pg_guided_close(pg_guided *g)
{
    if (g->guide) atomic_fetch_sub(&g->guide->users, 1);
    free(g->mask);
    *g = (pg_guided){ 0 };
}

void pg_guided_look(pg_guided *g, const int32_t *token, int32_t n)
{
    pg_masker *m = g->guide->masker;
    const uint64_t *mask = NULL;
    g->result = pg_masker_follow(m, &g->state, token, n);
    if (g->result >= 0) g->result = pg_masker_mask(m, &g->state, &mask);
    if (g->result >= 0) memcpy(g->mask, mask, pg_masker_words(m) * sizeof *mask);
}

int pg_guided_is_over(pg_guided *g, const int32_t *token, int32_t n)
{
    return pg_masker_follow(g->guide->masker, &g->state, token, n) >= 0 &&
           pg_masker_is_over(g->guide->masker, &g->state);
}
