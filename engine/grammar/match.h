/* match: which texts a grammar lets through, byte by byte.
 *
 * A configuration is the set of all places where the grammar may be, each with its stack of places to return to. Stacks
 * share their lower parts and, like configurations, exist once each, so that a number stands for it and a step that was
 * taken once is a look-up ever after: the matcher is an automaton that is built as it is needed. One thread at a time.
 * Sources: Tomita, Efficient parsing for natural language, 1986 (shared stacks); lazy determinisation as in Thompson's
 * grep. */
#ifndef PG_GRAMMAR_MATCH_H
#define PG_GRAMMAR_MATCH_H

#include "grammar.h"

/* What a step can come to beside a configuration. */
enum {
    PG_MATCH_DEAD = 0,  /* nothing fits */
    PG_MATCH_FULL = -1, /* the pools are full: pg_matcher_compact, then again */
    PG_MATCH_WILD = -2, /* too many places at once, or stacks too deep */
    PG_MATCH_NEW = -3   /* in the table: not looked up yet */
};
enum {
    PG_MATCH_SPOTS = 8192,  /* places of one configuration at most */
    PG_MATCH_DEPTH = 30000, /* of a stack */
    PG_MATCH_END = -1       /* where a text is complete */
};

typedef struct pg_frame {
    int32_t to, count; /* where to go on; of a repetition: there, begun as often; 0: a call */
    int32_t below;     /* the stack under it, 0: empty */
    int32_t depth;
} pg_frame;

typedef struct pg_spot {
    int32_t at, sub, stack; /* the step; the node of its class inside a character, else 0; the stack */
} pg_spot;

typedef struct pg_config {
    int32_t first, n; /* its places, sorted */
    uint32_t hash;
    bool tokens; /* a place waits for a whole token */
} pg_config;

typedef struct pg_todo {
    int32_t at, stack, fresh;
} pg_todo;

typedef struct pg_matcher {
    const pg_grammar *g;
    int32_t max_frame, max_spot, max_config;
    int32_t n_frame, n_spot, n_config;
    pg_frame *frame; /* frame 0 is the empty stack */
    pg_spot *spot;
    pg_config *config;                 /* configuration 0 is PG_MATCH_DEAD */
    int32_t *frame_slot, *config_slot; /* hashes, 0: free */
    int32_t *next;                     /* [max_config, n_kind] */
    int16_t *low;                      /* the same: how deep its stacks were taken off, -1: to the end */
    int32_t start;                     /* the configuration of the empty text */
    int32_t generation;                /* how often the pools were emptied */
    int64_t work;                      /* places looked at so far */

    pg_spot *out; /* [PG_MATCH_SPOTS] of the step that is being taken */
    int32_t n_out, out_low, stamp, n_seen;
    pg_todo *todo, *seen;
    int32_t *seen_stamp;
    pg_frame *kept_frame; /* what outlives the pools when they are emptied */
    pg_spot *kept_spot;
    int32_t *kept_now;
} pg_matcher;

/* size: 0 to check texts, 1 to make masks. NULL: no memory, or a grammar that cannot begin (*err). */
pg_matcher *pg_matcher_open(const pg_grammar *g, int size, pg_error *err);
void pg_matcher_close(pg_matcher *m);

/* The configuration after one byte of a kind; PG_MATCH_*. */
int32_t pg_matcher_take(pg_matcher *m, int32_t config, int kind);

static inline int32_t pg_matcher_step(pg_matcher *m, int32_t config, int kind)
{
    const int32_t next = m->next[(size_t)config * (size_t)m->g->n_kind + (size_t)kind];
    return next != PG_MATCH_NEW ? next : pg_matcher_take(m, config, kind);
}

/* After n bytes; after a token: its bytes, or a place that waits for it as a whole. */
int32_t pg_matcher_bytes(pg_matcher *m, int32_t config, const char *s, size_t n);
int32_t pg_matcher_token(pg_matcher *m, int32_t config, const char *s, size_t n, const bool *match);

/* Empty the pools of all but one configuration; its new number. Others are lost: the generation changes. */
int32_t pg_matcher_compact(pg_matcher *m, int32_t config);

/* The places that one place leads to once its character was taken, as m->out [m->n_out], unsorted: for looking only. */
int pg_matcher_peek(pg_matcher *m, int32_t at, int32_t stack);
/* The stack that is like this one but for the count of the topmost repetition; 0 when it has none. *of: that frame. */
int32_t pg_matcher_recount(pg_matcher *m, int32_t stack, int32_t count, int32_t *of);

static inline bool pg_matcher_is_end(const pg_matcher *m, int32_t config)
{
    const pg_config *c = &m->config[config];
    return c->n > 0 && m->spot[c->first].at == PG_MATCH_END;
}

#endif
