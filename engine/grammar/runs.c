/* runs.c: see runs.h. */
#include "runs.h"

#include <stdlib.h>
#include <string.h>

/* Characters of a token that consists of the class alone; 0 when it does not. */
static int length_in(const pg_grammar *g, const pg_class *c, const char *s, size_t n)
{
    int points = 0, node = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)s[i];
        const int to = !node ? c->start[byte] : byte >> 6 == 2 ? g->node[node].child[byte & 63] : PG_CLASS_NO;
        if (to == PG_CLASS_NO) return 0;
        node = to;
        points += to == PG_CLASS_DONE;
    }
    if (node) return 0;
    return points < PG_RUN_LONG ? points : PG_RUN_LONG;
}

static bool open_run(pg_run *r, const pg_grammar *g, int32_t class, const pg_lexicon *l)
{
    *r = (pg_run){ .class = class,
                   .bits = calloc((size_t)l->n_word + 1, sizeof *r->bits),
                   .wide = malloc(((size_t)l->all.n_token + 1) * sizeof *r->wide),
                   .length = calloc((size_t)l->n_word * 64 + 1, sizeof *r->length) };
    if (!r->bits || !r->length || !r->wide) return false;
    for (uint32_t i = 0; i < l->all.n_token; i++) {
        const int32_t id = l->all.token[i];
        const char *s;
        size_t n;
        pg_token_spell(l->tokenizer, id, &s, &n);
        const int points = length_in(g, &g->class[class], s, n);
        if (!points) continue;
        r->length[id] = (uint8_t)points;
        r->bits[id / 64] |= 1ull << id % 64;
        r->n_token++;
        if (points > PG_RUN_WIDE) r->wide[r->n_wide++] = id;
        if (points > r->longest) r->longest = points;
    }
    return pg_trie_filter(l, &l->all, r->length, &r->rest);
}

bool pg_runs_open(pg_runs *r, const pg_grammar *g, const pg_lexicon *l)
{
    int32_t most = INT32_MAX, last = -1;
    *r = (pg_runs){ .n_run = 0 };
    while (r->n_run < PG_RUNS) { /* the next smaller class; of equal ones the next */
        int32_t best = -1;
        for (int32_t i = 0; i < g->n_class; i++) {
            const int32_t n = g->class[i].n_point;
            const bool later = n < most || (n == most && i > last);
            if (n >= PG_RUN_POINTS && later && (best < 0 || n > g->class[best].n_point)) best = i;
        }
        if (best < 0) break;
        if (!open_run(&r->run[r->n_run++], g, best, l)) return false;
        most = g->class[best].n_point;
        last = best;
    }
    return true;
}

void pg_runs_close(pg_runs *r)
{
    for (int32_t i = 0; i < r->n_run; i++) {
        free(r->run[i].bits);
        free(r->run[i].length);
        free(r->run[i].wide);
        pg_trie_free(&r->run[i].rest);
    }
    *r = (pg_runs){ .n_run = 0 };
}

void pg_run_mark(const pg_run *r, const pg_lexicon *l, int32_t most, uint64_t *mask)
{
    if (most >= PG_RUN_WIDE) {
        memcpy(mask, r->bits, (size_t)l->n_word * sizeof *mask);
        for (int32_t i = 0; i < r->n_wide; i++)
            if (r->length[r->wide[i]] > most) mask[r->wide[i] / 64] &= ~(1ull << r->wide[i] % 64);
        return;
    }
    for (int32_t w = 0; w < l->n_word; w++) {
        if (!r->bits[w]) continue;
        const uint8_t *length = r->length + 64 * (size_t)w;
        uint64_t bits = 0;
        for (int i = 0; i < 64; i++) bits |= (uint64_t)(length[i] <= most) << i;
        mask[w] |= bits & r->bits[w];
    }
}

/* ---- finding ------------------------------------------------------------------------------------------------------------ */

static const pg_run *run_of(const pg_runs *r, int32_t class)
{
    for (int32_t i = 0; i < r->n_run; i++)
        if (r->run[i].class == class) return &r->run[i];
    return NULL;
}

/* Whether a place other than (at, stack) could begin with a character of the class. */
static bool competes(const pg_grammar *g, const pg_class *c, const pg_spot *s)
{
    if (s->at < 0) return false;
    const pg_inst *step = &g->step[s->at];
    if (step->op == PG_INST_BYTE) return c->start[step->a] != PG_CLASS_NO;
    if (step->op != PG_INST_CLASS) return false;
    for (int b = 0; b < 256; b++)
        if (c->start[b] != PG_CLASS_NO && g->class[step->a].start[b] != PG_CLASS_NO) return true;
    return false;
}

static bool leads_to(const pg_matcher *m, int32_t at, int32_t stack)
{
    for (int32_t i = 0; i < m->n_out; i++)
        if (m->out[i].at == at && m->out[i].stack == stack) return true;
    return false;
}

static bool peek(pg_matcher *m, int32_t at, int32_t stack, int32_t *low)
{
    const int rc = pg_matcher_peek(m, at, stack);
    if (m->out_low < *low) *low = m->out_low;
    return rc >= 0;
}

/* Tokens longer than `most` are only refused as a whole if what follows the repetition, and every other place, begins
 * with other characters. */
static bool is_alone(pg_matcher *m, const pg_config *c, const pg_spot *s, int32_t frame, int32_t *low)
{
    const pg_inst *rep = &m->g->step[m->frame[frame].to];
    const pg_class *class = &m->g->class[m->g->step[s->at].a];
    const int32_t count = m->frame[frame].count;
    int32_t of;
    for (int32_t i = 0; i < c->n; i++) {
        const pg_spot *other = &m->spot[c->first + i];
        if ((other->at != s->at || other->stack != s->stack) && competes(m->g, class, other)) return false;
    }
    const int32_t stack = pg_matcher_recount(m, s->stack, count > rep->a ? count : rep->a, &of);
    if (!stack || !peek(m, s->at, stack, low)) return false;
    for (int32_t i = 0; i < m->n_out; i++)
        if (m->out[i].at != s->at && competes(m->g, class, &m->out[i])) return false;
    return true;
}

/* How many characters of its class a place takes one after the other, 0 when it cannot be told. */
static int32_t most_of(pg_matcher *m, const pg_config *c, const pg_run *run, const pg_spot *s, int32_t *low)
{
    int32_t frame = 0;
    if (!peek(m, s->at, s->stack, low)) return 0;
    if (leads_to(m, s->at, s->stack)) return INT32_MAX;
    if (!pg_matcher_recount(m, s->stack, 1, &frame)) return 0;
    const pg_inst *rep = &m->g->step[m->frame[frame].to];
    const int32_t count = m->frame[frame].count, from = rep->b >= 0 && count == rep->b ? count - 1 : count;
    if (from < 1) return 0;
    const int32_t begun = pg_matcher_recount(m, s->stack, from, &frame);
    const int32_t next = pg_matcher_recount(m, s->stack, from + 1, &frame);
    if (!begun || !next || !peek(m, s->at, begun, low) || !leads_to(m, s->at, next)) return 0;
    if (rep->b < 0) return INT32_MAX;
    const int32_t most = rep->b - count + 1;
    return most >= run->longest || is_alone(m, c, s, frame, low) ? most : 0;
}

const pg_run *pg_runs_find(const pg_runs *r, pg_matcher *m, int32_t config, int32_t *most, int32_t *low)
{
    const pg_config c = m->config[config];
    const pg_run *best = NULL;
    for (int32_t i = 0; i < c.n && i < 16; i++) {
        const pg_spot s = m->spot[c.first + i];
        if (s.at < 0 || s.sub || m->g->step[s.at].op != PG_INST_CLASS) continue;
        const pg_run *run = run_of(r, m->g->step[s.at].a);
        if (!run || (best && run->n_token <= best->n_token)) continue;
        const int32_t n = most_of(m, &c, run, &s, low);
        if (!n) continue;
        best = run;
        *most = n;
    }
    return best;
}
