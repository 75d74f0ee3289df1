/* mask.c: see mask.h.
 *
 * A mask is made by walking the trie of the vocabulary with the matcher: where nothing fits, all tokens below are passed
 * over; characters of a class that is being repeated are let through together (runs). While it walks, it notes how far
 * down stacks were taken off. Another state with the same places and the same upper frames has the same mask, whatever
 * lies below: so masks are filed by what they depend on, and a text nested ten deep finds those of the levels above. */
#include "mask.h"
#include "runs.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHE = 128,       /* masks kept */
    DEEP = 63,         /* frames that a mask may depend on to be found again from other states */
    MAX_WORK = 1 << 18 /* places looked at for one mask */
};

typedef struct entry {
    uint64_t key[2];
    int32_t reach; /* frames that count, from the deepest stack's top down; -1: the configuration as it is */
    int64_t used;  /* 0: never */
    int32_t serial;
} entry;

typedef struct memo {
    int32_t entry, serial, generation;
} memo;

struct pg_masker {
    pg_grammar *g;
    const pg_lexicon *l;
    pg_matcher *m;
    pg_runs runs;
    int32_t *item;  /* [n_item] the token that each token item names */
    bool *match;    /* [n_item] of the token that is being taken */
    entry *entry;   /* [CACHE] */
    uint64_t *bits; /* [CACHE, n_word] */
    memo *memo;     /* [max_config] */
    int32_t *path;  /* [longest + 1] configurations on the way down the trie */
    int64_t asked, made;
    int32_t serial;
};

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static int find_items(pg_masker *m, pg_error *err)
{
    for (int32_t i = 0; i < m->g->n_item; i++) {
        const pg_token_item *item = &m->g->item[i];
        const char *text = m->g->text + item->text;
        m->item[i] = item->id >= 0 ? item->id : pg_token_find(m->l->tokenizer, text, item->n_text);
        if (m->item[i] >= 0 && m->item[i] < m->l->n_vocab) continue;
        if (item->id >= 0)
            return pg_fail(err, PG_ENOTFOUND, "the grammar names token %d, and the vocabulary has %d", item->id,
                           m->l->n_vocab);
        return pg_fail(err, PG_ENOTFOUND, "the grammar names a token %.*s that the vocabulary does not have",
                       item->n_text < 100 ? (int)item->n_text : 100, text);
    }
    return PG_OK;
}

pg_masker *pg_masker_open(pg_grammar *g, const pg_lexicon *l, pg_error *err)
{
    pg_masker *m = calloc(1, sizeof *m);
    if (m) {
        m->g = pg_grammar_take(g);
        m->l = l;
        m->m = pg_matcher_open(g, 1, err);
        if (!m->m) {
            pg_masker_close(m);
            return NULL;
        }
        m->item = calloc((size_t)g->n_item + 1, sizeof *m->item);
        m->match = calloc((size_t)g->n_item + 1, sizeof *m->match);
        m->entry = calloc(CACHE, sizeof *m->entry);
        m->bits = malloc(CACHE * ((size_t)l->n_word + 1) * sizeof *m->bits);
        m->memo = calloc((size_t)m->m->max_config, sizeof *m->memo);
        m->path = malloc(((size_t)l->longest + 1) * sizeof *m->path);
    }
    if (!m || !m->item || !m->match || !m->entry || !m->bits || !m->memo || !m->path || !pg_runs_open(&m->runs, g, l)) {
        pg_masker_close(m);
        pg_fail(err, PG_EMEMORY, "not enough memory for the masks of a grammar");
        return NULL;
    }
    if (find_items(m, err) >= 0) return m;
    pg_masker_close(m);
    return NULL;
}

void pg_masker_close(pg_masker *m)
{
    if (!m) return;
    pg_runs_close(&m->runs);
    pg_matcher_close(m->m);
    pg_grammar_drop(m->g);
    free(m->item);
    free(m->match);
    free(m->entry);
    free(m->bits);
    free(m->memo);
    free(m->path);
    free(m);
}

const pg_grammar *pg_masker_grammar(const pg_masker *m)
{
    return m->g;
}

size_t pg_masker_words(const pg_masker *m)
{
    return (size_t)m->l->n_word;
}

void pg_masker_count(const pg_masker *m, int64_t *made, int64_t *asked)
{
    *made = m->made;
    *asked = m->asked;
}

/* ---- states --------------------------------------------------------------------------------------------------------------- */

/* The configuration after one token; PG_MATCH_*. */
static int32_t take_token(pg_masker *m, int32_t config, int32_t token)
{
    const char *s = "";
    size_t n = 0;
    pg_token_kind kind = PG_TOKEN_SILENT;
    if (token >= 0 && token < pg_token_count(m->l->tokenizer)) kind = pg_token_spell(m->l->tokenizer, token, &s, &n);
    if (m->m->config[config].tokens)
        for (int32_t i = 0; i < m->g->n_item; i++) m->match[i] = (m->item[i] == token) != m->g->item[i].negated;
    const int32_t next = pg_matcher_token(m->m, config, s, kind == PG_TOKEN_TEXT ? n : 0, m->match);
    return next == PG_MATCH_DEAD && kind == PG_TOKEN_END && pg_matcher_is_end(m->m, config) ? config : next;
}

int pg_masker_follow(pg_masker *m, pg_grammar_state *s, const int32_t *token, int32_t n)
{
    if (s->generation != m->m->generation) *s = (pg_grammar_state){ m->m->start, m->m->generation, 0 };
    while (s->n_token < n) {
        int32_t next = take_token(m, s->config, token[s->n_token]);
        if (next == PG_MATCH_FULL) {
            s->config = pg_matcher_compact(m->m, s->config);
            s->generation = m->m->generation;
            next = take_token(m, s->config, token[s->n_token]);
        }
        if (next < 0) return PG_ELIMIT;
        if (next == PG_MATCH_DEAD) return PG_EINVAL;
        s->config = next;
        s->n_token++;
    }
    return PG_OK;
}

bool pg_masker_may_end(const pg_masker *m, const pg_grammar_state *s)
{
    return pg_matcher_is_end(m->m, s->config);
}

bool pg_masker_is_over(const pg_masker *m, const pg_grammar_state *s)
{
    return pg_matcher_is_end(m->m, s->config) && m->m->config[s->config].n == 1;
}

/* ---- making ---------------------------------------------------------------------------------------------------------------- */

static void set_bit(uint64_t *bits, int32_t id)
{
    bits[id / 64] |= 1ull << id % 64;
}

/* Let through those tokens of a trie that fit; *low as in pg_matcher. 0, or PG_MATCH_*. */
static int walk(pg_masker *m, const pg_trie *t, int32_t config, int64_t work, uint64_t *bits, int32_t *low)
{
    const size_t kinds = (size_t)m->g->n_kind;
    const uint8_t *kind_of = m->g->byte_kind;
    int32_t *path = m->path, least = *low;
    path[0] = config;
    for (uint32_t i = 0; i < t->n_node;) {
        const pg_trie_node *node = &t->node[i];
        const size_t cell = (size_t)path[node->depth - 1] * kinds + kind_of[node->byte];
        int32_t next = m->m->next[cell];
        if (next == PG_MATCH_NEW) {
            next =
                m->m->work > work ? PG_MATCH_WILD : pg_matcher_take(m->m, path[node->depth - 1], kind_of[node->byte]);
            if (next < 0) return next;
        }
        if (m->m->low[cell] < least) least = m->m->low[cell];
        if (next == PG_MATCH_DEAD) {
            i = node->skip;
            continue;
        }
        path[node->depth] = next;
        for (uint32_t k = node->first; k < node[1].first; k++) set_bit(bits, t->token[k]);
        i++;
    }
    *low = least;
    return 0;
}

/* What places that wait for a whole token let through. */
static void mark_items(const pg_masker *m, const pg_config *c, uint64_t *bits)
{
    for (int32_t i = 0; c->tokens && i < c->n; i++) {
        const int32_t at = m->m->spot[c->first + i].at;
        if (at < 0 || m->g->step[at].op != PG_INST_TOKEN) continue;
        const int32_t item = m->g->step[at].a, id = m->item[item];
        if (!m->g->item[item].negated) {
            set_bit(bits, id);
            continue;
        }
        for (uint32_t k = 0; k < m->l->all.n_token; k++)
            if (m->l->all.token[k] != id) set_bit(bits, m->l->all.token[k]);
    }
}

static int make(pg_masker *m, int32_t config, uint64_t *bits, int32_t *low)
{
    const pg_trie *trie = &m->l->all;
    int32_t most = 0;
    *low = INT16_MAX;
    memset(bits, 0, (size_t)m->l->n_word * sizeof *bits);
    const pg_run *run = pg_runs_find(&m->runs, m->m, config, &most, low);
    if (run) {
        pg_run_mark(run, m->l, most, bits);
        trie = &run->rest;
    }
    const int rc = walk(m, trie, config, m->m->work + MAX_WORK, bits, low);
    if (rc < 0) return rc;
    mark_items(m, &m->m->config[config], bits);
    for (int32_t w = 0; pg_matcher_is_end(m->m, config) && w < m->l->n_word; w++) bits[w] |= m->l->ends[w];
    m->made++;
    return 0;
}

/* ---- filing ---------------------------------------------------------------------------------------------------------------- */

static void blend(uint64_t key[2], uint64_t x)
{
    key[0] = (key[0] ^ x) * 0x9e3779b97f4a7c15ull;
    key[0] ^= key[0] >> 31;
    key[1] = (key[1] + x) * 0xd6e8feb86659fd93ull;
    key[1] ^= key[1] >> 32;
}

static int32_t depth_of(const pg_matcher *m, const pg_config *c)
{
    int32_t depth = 0;
    for (int32_t i = 0; i < c->n; i++) {
        const int32_t d = m->frame[m->spot[c->first + i].stack].depth;
        if (d > depth) depth = d;
    }
    return depth;
}

/* Places with their frames above `low`; that there is nothing below, if that was seen. */
static void key_of(const pg_matcher *m, const pg_config *c, int32_t low, uint64_t key[2])
{
    key[0] = 0x243f6a8885a308d3ull;
    key[1] = low < 0;
    for (int32_t i = 0; i < c->n; i++) {
        const pg_spot *s = &m->spot[c->first + i];
        blend(key, (uint64_t)(uint32_t)s->at << 32 | (uint32_t)s->sub);
        int32_t f = s->stack;
        for (; f && m->frame[f].depth > low; f = m->frame[f].below)
            blend(key, (uint64_t)(uint32_t)m->frame[f].to << 32 | (uint32_t)m->frame[f].count | 1ull << 63);
        blend(key, (uint64_t)1 << 62);
    }
}

static int32_t find(pg_masker *m, int32_t config)
{
    const pg_config *c = &m->m->config[config];
    const int32_t depth = depth_of(m->m, c);
    uint64_t key[DEEP + 1][2], have = 0;
    for (int32_t i = 0; i < CACHE; i++) {
        const entry *e = &m->entry[i];
        if (!e->used || e->reach < 0 || depth - e->reach < -1) continue;
        if (!(have >> e->reach & 1)) key_of(m->m, c, depth - e->reach, key[e->reach]);
        have |= 1ull << e->reach;
        if (e->key[0] == key[e->reach][0] && e->key[1] == key[e->reach][1]) return i;
    }
    return -1;
}

static int32_t oldest(const pg_masker *m)
{
    int32_t best = 0;
    for (int32_t i = 1; i < CACHE; i++)
        if (m->entry[i].used < m->entry[best].used) best = i;
    return best;
}

/* File the mask in place i under what it depends on. */
static void file(pg_masker *m, int32_t i, int32_t config, int32_t low)
{
    const pg_config *c = &m->m->config[config];
    entry *e = &m->entry[i];
    const int32_t depth = depth_of(m->m, c), reach = low >= depth ? 0 : depth - low;
    e->serial = ++m->serial;
    e->reach = reach <= DEEP ? reach : -1;
    if (e->reach >= 0) key_of(m->m, c, depth - reach, e->key);
}

int pg_masker_mask(pg_masker *m, pg_grammar_state *s, const uint64_t **mask)
{
    memo *known = &m->memo[s->config];
    m->asked++;
    if (known->generation != m->m->generation || m->entry[known->entry].serial != known->serial) {
        int32_t i = find(m, s->config), low;
        if (i < 0) {
            i = oldest(m);
            m->entry[i].used = 0;
            m->entry[i].serial = 0;
            uint64_t *bits = m->bits + (size_t)i * (size_t)m->l->n_word;
            int rc = make(m, s->config, bits, &low);
            if (rc == PG_MATCH_FULL) {
                s->config = pg_matcher_compact(m->m, s->config);
                s->generation = m->m->generation;
                rc = make(m, s->config, bits, &low);
            }
            if (rc < 0) return PG_ELIMIT;
            file(m, i, s->config, low);
        }
        known = &m->memo[s->config];
        *known = (memo){ i, m->entry[i].serial, m->m->generation };
    }
    m->entry[known->entry].used = m->asked;
    *mask = m->bits + (size_t)known->entry * (size_t)m->l->n_word;
    return PG_OK;
}
