/* match.c: see match.h. A step looks at every place of a configuration, follows what needs no character, sorts what it
 * comes to, and finds the configuration of just these places or makes it. Nothing here calls itself: what is still to
 * be followed waits in a list. All memory is taken when the matcher is opened. */
#include "match.h"

#include <stdlib.h>
#include <string.h>

enum { SEEN = 1 << 15, MOST_SEEN = SEEN / 2, SLOTS_PER = 2 };

static uint32_t blend(uint32_t h, int32_t x)
{
    h = (h ^ (uint32_t)x) * 0x9e3779b1u;
    return h ^ h >> 15;
}

/* ---- pools ------------------------------------------------------------------------------------------------------------ */

/* The stack with one frame more; PG_MATCH_FULL, PG_MATCH_WILD. */
static int32_t push(pg_matcher *m, int32_t to, int32_t count, int32_t below)
{
    const uint32_t mask = (uint32_t)(m->max_frame * SLOTS_PER - 1);
    uint32_t i = blend(blend(blend(7, to), count), below) & mask;
    for (; m->frame_slot[i]; i = (i + 1) & mask) {
        const pg_frame *f = &m->frame[m->frame_slot[i]];
        if (f->to == to && f->count == count && f->below == below) return m->frame_slot[i];
    }
    if (m->n_frame == m->max_frame) return PG_MATCH_FULL;
    const int32_t depth = m->frame[below].depth + 1;
    if (depth > PG_MATCH_DEPTH) return PG_MATCH_WILD;
    m->frame[m->n_frame] = (pg_frame){ to, count, below, depth };
    return m->frame_slot[i] = m->n_frame++;
}

static int order(const void *a, const void *b)
{
    const pg_spot *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    if (x->sub != y->sub) return x->sub < y->sub ? -1 : 1;
    return (x->stack > y->stack) - (x->stack < y->stack);
}

static void sort_out(pg_matcher *m)
{
    pg_spot *s = m->out;
    if (m->n_out > 24) {
        qsort(s, (size_t)m->n_out, sizeof *s, order);
    } else {
        for (int32_t i = 1; i < m->n_out; i++) {
            const pg_spot x = s[i];
            int32_t j = i;
            for (; j > 0 && order(&x, &s[j - 1]) < 0; j--) s[j] = s[j - 1];
            s[j] = x;
        }
    }
    int32_t n = 0;
    for (int32_t i = 0; i < m->n_out; i++)
        if (i == 0 || order(&s[i], &s[n - 1])) s[n++] = s[i];
    m->n_out = n;
}

/* The configuration of the places in out. */
static int32_t intern(pg_matcher *m)
{
    sort_out(m);
    if (!m->n_out) return PG_MATCH_DEAD;
    const size_t size = (size_t)m->n_out * sizeof *m->out;
    const uint32_t mask = (uint32_t)(m->max_config * SLOTS_PER - 1);
    uint32_t h = 1;
    for (int32_t i = 0; i < m->n_out; i++) h = blend(blend(blend(h, m->out[i].at), m->out[i].sub), m->out[i].stack);
    uint32_t i = h & mask;
    for (; m->config_slot[i]; i = (i + 1) & mask) {
        const pg_config *c = &m->config[m->config_slot[i]];
        if (c->hash == h && c->n == m->n_out && !memcmp(m->spot + c->first, m->out, size)) return m->config_slot[i];
    }
    if (m->n_config == m->max_config || m->n_out > m->max_spot - m->n_spot) return PG_MATCH_FULL;
    bool tokens = false;
    for (int32_t k = 0; k < m->n_out; k++) tokens |= m->out[k].at >= 0 && m->g->step[m->out[k].at].op == PG_INST_TOKEN;
    memcpy(m->spot + m->n_spot, m->out, size);
    m->config[m->n_config] = (pg_config){ m->n_spot, m->n_out, h, tokens };
    m->n_spot += m->n_out;
    int32_t *next = m->next + (size_t)m->n_config * (size_t)m->g->n_kind;
    for (int k = 0; k < m->g->n_kind; k++) next[k] = PG_MATCH_NEW;
    return m->config_slot[i] = m->n_config++;
}

static void empty_pools(pg_matcher *m)
{
    memset(m->frame_slot, 0, (size_t)m->max_frame * SLOTS_PER * sizeof *m->frame_slot);
    memset(m->config_slot, 0, (size_t)m->max_config * SLOTS_PER * sizeof *m->config_slot);
    m->frame[0] = (pg_frame){ 0 };
    m->config[0] = (pg_config){ 0 };
    for (int k = 0; k < m->g->n_kind; k++) m->next[k] = m->low[k] = PG_MATCH_DEAD;
    m->n_frame = m->n_config = 1;
    m->n_spot = 0;
    m->generation++;
}

/* ---- following ---------------------------------------------------------------------------------------------------------- */

/* Whether this is met for the first time in this step; PG_MATCH_WILD when there is too much. */
static int is_new(pg_matcher *m, int32_t at, int32_t stack, int32_t fresh)
{
    uint32_t i = blend(blend(blend(3, at), stack), fresh) & (SEEN - 1);
    for (; m->seen_stamp[i] == m->stamp; i = (i + 1) & (SEEN - 1))
        if (m->seen[i].at == at && m->seen[i].stack == stack && m->seen[i].fresh == fresh) return 0;
    if (++m->n_seen > MOST_SEEN) return PG_MATCH_WILD;
    m->seen_stamp[i] = m->stamp;
    m->seen[i] = (pg_todo){ at, stack, fresh };
    return 1;
}

static int add_spot(pg_matcher *m, int32_t at, int32_t sub, int32_t stack)
{
    if (m->n_out == PG_MATCH_SPOTS) return PG_MATCH_WILD;
    m->out[m->n_out++] = (pg_spot){ at, sub, stack };
    return 0;
}

/* At a repetition whose body was begun `count` times: perhaps once more (t), perhaps on behind it (todo). */
static int repeat(pg_matcher *m, int32_t count, pg_todo *t, int32_t *n_todo)
{
    const pg_inst *s = &m->g->step[t->at];
    if (count >= s->a) m->todo[(*n_todo)++] = (pg_todo){ t->at + s->c, t->stack, t->fresh };
    if (s->b >= 0 && count >= s->b) return 0;
    const int32_t most = s->a > 1 ? s->a : 1; /* without an upper bound, counting ends at the lower one */
    const int32_t stack = push(m, t->at, s->b < 0 && count >= most ? most : count + 1, t->stack);
    if (stack < 0) return stack;
    *t = (pg_todo){ t->at + 1, stack, t->fresh + 1 };
    return 1;
}

/* Take the frame on top off. fresh: how many frames on top were put there in this step; a body that ends in the step
 * in which it began was empty, and going on like this leads nowhere new. */
static int give_back(pg_matcher *m, pg_todo *t, int32_t *n_todo)
{
    if (!t->stack) {
        m->out_low = -1;
        return add_spot(m, PG_MATCH_END, 0, 0);
    }
    const pg_frame f = m->frame[t->stack];
    const int32_t depth = f.depth - 1;
    const bool again = f.count > 0;
    if (again && t->fresh > 0) return 0;
    if (depth < m->out_low) m->out_low = depth;
    *t = (pg_todo){ f.to, f.below, t->fresh > 0 ? t->fresh - 1 : 0 };
    return again ? repeat(m, f.count, t, n_todo) : 1;
}

/* Follow one place until it needs a character or ends; 0, or PG_MATCH_*. */
static int follow(pg_matcher *m, pg_todo t, int32_t *n_todo)
{
    for (int rc;;) {
        const pg_inst *s = &m->g->step[t.at];
        m->work++;
        if (s->op > PG_INST_TOKEN && s->op != PG_INST_JUMP && (rc = is_new(m, t.at, t.stack, t.fresh)) <= 0) return rc;
        switch (s->op) {
        case PG_INST_BYTE:
        case PG_INST_CLASS:
        case PG_INST_TOKEN: return add_spot(m, t.at, 0, t.stack);
        case PG_INST_SPLIT:
            m->todo[(*n_todo)++] = (pg_todo){ t.at + s->b, t.stack, t.fresh };
            t.at += s->a;
            break;
        case PG_INST_JUMP: t.at += s->a; break;
        case PG_INST_CALL:
            rc = push(m, t.at + 1, 0, t.stack);
            if (rc < 0) return rc;
            t = (pg_todo){ m->g->rule[s->a].start, rc, t.fresh + 1 };
            break;
        case PG_INST_TAIL: t.at = m->g->rule[s->a].start; break;
        case PG_INST_REPEAT:
            if ((rc = repeat(m, 0, &t, n_todo)) <= 0) return rc;
            break;
        case PG_INST_RETURN:
            if ((rc = give_back(m, &t, n_todo)) <= 0) return rc;
            break;
        default: return 0;
        }
    }
}

static int expand(pg_matcher *m, int32_t at, int32_t stack)
{
    int32_t n_todo = 0;
    m->todo[n_todo++] = (pg_todo){ at, stack, 0 };
    while (n_todo > 0) {
        const pg_todo t = m->todo[--n_todo];
        const int rc = follow(m, t, &n_todo);
        if (rc < 0) return rc;
    }
    return 0;
}

static void begin(pg_matcher *m)
{
    if (++m->stamp == INT32_MAX) {
        memset(m->seen_stamp, 0, SEEN * sizeof *m->seen_stamp);
        m->stamp = 1;
    }
    m->n_out = m->n_seen = 0;
    m->out_low = INT16_MAX;
}

static int take_spot(pg_matcher *m, pg_spot s, int byte)
{
    const pg_inst *step = &m->g->step[s.at < 0 ? 0 : s.at];
    if (s.at < 0 || step->op == PG_INST_TOKEN) return 0;
    if (step->op == PG_INST_BYTE) return step->a == byte ? expand(m, s.at + 1, s.stack) : 0;
    const int to = !s.sub           ? m->g->class[step->a].start[byte]
                   : byte >> 6 == 2 ? m->g->node[s.sub].child[byte & 63]
                                    : PG_CLASS_NO;
    if (to == PG_CLASS_DONE) return expand(m, s.at + 1, s.stack);
    return to > 0 ? add_spot(m, s.at, to, s.stack) : 0;
}

int32_t pg_matcher_take(pg_matcher *m, int32_t config, int kind)
{
    const pg_config c = m->config[config];
    const int byte = m->g->kind_byte[kind];
    const size_t cell = (size_t)config * (size_t)m->g->n_kind + (size_t)kind;
    int rc = 0;
    begin(m);
    m->work += c.n;
    for (int32_t i = 0; rc >= 0 && i < c.n; i++) rc = take_spot(m, m->spot[c.first + i], byte);
    if (rc >= 0) rc = intern(m);
    if (rc < 0) return rc;
    m->low[cell] = (int16_t)m->out_low;
    return m->next[cell] = rc;
}

int32_t pg_matcher_bytes(pg_matcher *m, int32_t config, const char *s, size_t n)
{
    for (size_t i = 0; i < n && config > 0; i++)
        config = pg_matcher_step(m, config, m->g->byte_kind[(unsigned char)s[i]]);
    return config;
}

int32_t pg_matcher_token(pg_matcher *m, int32_t config, const char *s, size_t n, const bool *match)
{
    const int32_t plain = n ? pg_matcher_bytes(m, config, s, n) : PG_MATCH_DEAD;
    if (plain < 0 || !m->config[config].tokens) return plain;
    const pg_config a = m->config[config], b = m->config[plain];
    int rc = 0;
    begin(m);
    for (int32_t i = 0; rc >= 0 && i < b.n; i++)
        rc = add_spot(m, m->spot[b.first + i].at, m->spot[b.first + i].sub, m->spot[b.first + i].stack);
    for (int32_t i = 0; rc >= 0 && i < a.n; i++) {
        const pg_spot spot = m->spot[a.first + i];
        if (spot.at < 0 || m->g->step[spot.at].op != PG_INST_TOKEN || !match[m->g->step[spot.at].a]) continue;
        rc = expand(m, spot.at + 1, spot.stack);
    }
    return rc < 0 ? rc : intern(m);
}

int pg_matcher_peek(pg_matcher *m, int32_t at, int32_t stack)
{
    begin(m);
    return expand(m, at + 1, stack);
}

int32_t pg_matcher_recount(pg_matcher *m, int32_t stack, int32_t count, int32_t *of)
{
    int32_t above[4], n = 0;
    while (stack && !m->frame[stack].count) {
        if (n == 4) return 0;
        above[n++] = stack;
        stack = m->frame[stack].below;
    }
    if (!stack) return 0;
    *of = stack;
    stack = push(m, m->frame[stack].to, count, m->frame[stack].below);
    while (n > 0 && stack > 0) {
        const pg_frame f = m->frame[above[--n]];
        stack = push(m, f.to, f.count, stack);
    }
    return stack > 0 ? stack : 0;
}

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static int32_t begin_text(pg_matcher *m)
{
    begin(m);
    const int rc = expand(m, m->g->rule[m->g->root].start, 0);
    return m->start = rc < 0 ? rc : intern(m);
}

int32_t pg_matcher_compact(pg_matcher *m, int32_t config)
{
    const pg_config c = m->config[config];
    const int32_t n = m->n_frame;
    int32_t *now = m->kept_now;
    memcpy(m->kept_frame, m->frame, (size_t)n * sizeof *m->frame);
    memcpy(m->kept_spot, m->spot + c.first, (size_t)c.n * sizeof *m->spot);
    memset(now, 0, (size_t)n * sizeof *now);
    for (int32_t i = 0; i < c.n; i++)
        for (int32_t f = m->kept_spot[i].stack; f && !now[f]; f = m->kept_frame[f].below) now[f] = 1;
    empty_pools(m);
    for (int32_t f = 1; f < n; f++) /* what lies below was made before */
        if (now[f]) now[f] = push(m, m->kept_frame[f].to, m->kept_frame[f].count, now[m->kept_frame[f].below]);
    begin_text(m);
    begin(m);
    for (int32_t i = 0; i < c.n; i++) add_spot(m, m->kept_spot[i].at, m->kept_spot[i].sub, now[m->kept_spot[i].stack]);
    return intern(m);
}

static int32_t power_of_two(int64_t n)
{
    int32_t p = 64;
    while (p < n && p < 1 << 24) p *= 2;
    return p;
}

pg_matcher *pg_matcher_open(const pg_grammar *g, int size, pg_error *err)
{
    pg_matcher *m = calloc(1, sizeof *m);
    if (!m) {
        pg_fail(err, PG_EMEMORY, "not enough memory to follow a grammar");
        return NULL;
    }
    m->g = g;
    m->max_frame = size ? 1 << 17 : 1 << 14;
    m->max_spot = size ? 1 << 18 : 1 << 17;
    m->max_config = power_of_two((size ? 1 << 21 : 1 << 19) / g->n_kind);
    if (m->max_config > 1 << 16) m->max_config = 1 << 16;
    const size_t frames = (size_t)m->max_frame, configs = (size_t)m->max_config, kinds = (size_t)g->n_kind;
    m->frame = malloc(frames * sizeof *m->frame);
    m->frame_slot = malloc(frames * SLOTS_PER * sizeof *m->frame_slot);
    m->spot = malloc((size_t)m->max_spot * sizeof *m->spot);
    m->config = malloc(configs * sizeof *m->config);
    m->config_slot = malloc(configs * SLOTS_PER * sizeof *m->config_slot);
    m->next = malloc(configs * kinds * sizeof *m->next);
    m->low = malloc(configs * kinds * sizeof *m->low);
    m->out = malloc(PG_MATCH_SPOTS * sizeof *m->out);
    m->todo = malloc((MOST_SEEN + 2) * 2 * sizeof *m->todo);
    m->seen = malloc(SEEN * sizeof *m->seen);
    m->seen_stamp = calloc(SEEN, sizeof *m->seen_stamp);
    m->kept_frame = malloc(frames * sizeof *m->kept_frame);
    m->kept_now = malloc(frames * sizeof *m->kept_now);
    m->kept_spot = malloc(PG_MATCH_SPOTS * sizeof *m->kept_spot);
    const bool fine = m->frame && m->frame_slot && m->spot && m->config && m->config_slot && m->next && m->low &&
                      m->out && m->todo && m->seen && m->seen_stamp && m->kept_frame && m->kept_now && m->kept_spot;
    if (fine) {
        empty_pools(m);
        if (begin_text(m) >= 0) return m;
        pg_fail(err, PG_ELIMIT, "the grammar begins in more ways than can be followed");
    } else {
        pg_fail(err, PG_EMEMORY, "not enough memory to follow a grammar");
    }
    pg_matcher_close(m);
    return NULL;
}

void pg_matcher_close(pg_matcher *m)
{
    if (!m) return;
    free(m->frame);
    free(m->frame_slot);
    free(m->spot);
    free(m->config);
    free(m->config_slot);
    free(m->next);
    free(m->low);
    free(m->out);
    free(m->todo);
    free(m->seen);
    free(m->seen_stamp);
    free(m->kept_frame);
    free(m->kept_now);
    free(m->kept_spot);
    free(m);
}
