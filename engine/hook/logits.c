/* logits.c: policies over the vocabulary. They edit copies: log-probabilities are those of the model. */
#include "hook.h"

#include <math.h>
#include <string.h>

/* The sampled rows of requests under one policy: n of them, from view_row[first] on. */
typedef struct group {
    pg_engine *e;
    pg_policy *policy;
    int32_t first, n;
} group;

static void run_program(const group *g, const pg_stage_program *p)
{
    struct pg_hook_state *h = g->e->hooks;
    float knob[PG_KNOBS_MOST];
    for (int32_t i = 0; i < p->n_knob; i++) knob[i] = h->knob_now[p->knob[i]];
    pg_program_row row = { .n = h->n_vocab, .knob = knob };
    for (int32_t i = g->first; i < g->first + g->n; i++) {
        row.scores = h->view_scores[i];
        row.position = (float)h->view_row[i].position;
        row.prompt = (float)h->view_row[i].prompt;
        pg_program_run(p->code, p->n, &row, p->scratch);
    }
}

static int call_hook(const group *g, const pg_policy *p, pg_stage *s)
{
    struct pg_hook_state *h = g->e->hooks;
    pg_error why = { 0 };
    const pg_logits_view view = {
        .rows = g->n, .n_vocab = h->n_vocab, .scores = h->view_scores + g->first, .row = h->view_row + g->first
    };
    if (s->as.hooks.logits(s->as.hooks.ud, &view, &why) >= 0) return 1;
    pg_hook_unhook(g->e, p, s, -1, &why);
    return 0;
}

static int run_stages(const group *g, pg_policy *p)
{
    for (int i = 0; i < p->n_stage; i++) {
        pg_stage *s = &p->stage[i];
        if (s->kind == PG_STAGE_PROGRAM && s->as.program->point == PG_PROGRAM_LOGITS)
            run_program(g, s->as.program);
        else if (s->kind == PG_STAGE_POLICY && !run_stages(g, s->as.policy))
            return 0;
        else if (s->kind == PG_STAGE_HOOKS && s->as.hooks.logits && !s->unhooked && !call_hook(g, p, s))
            return 0;
    }
    return 1;
}

/* Something to draw from: no NaN, no +inf, and not all of it -inf. */
static int is_usable(const float *x, int32_t n)
{
    int bad = 0, left = 0;
    for (int32_t i = 0; i < n; i++) {
        bad |= !(x[i] < INFINITY);
        left |= x[i] > -INFINITY;
    }
    return left && !bad;
}

static void finish(const group *g, int fine)
{
    struct pg_hook_state *h = g->e->hooks;
    int32_t bad = 0;
    for (int32_t i = g->first; i < g->first + g->n; i++) {
        const int usable = fine && is_usable(h->view_scores[i], h->n_vocab);
        h->edited[h->view_sampled[i]] = usable ? h->view_scores[i] : NULL;
        bad += fine && !usable && is_usable(g->e->logits[h->view_sampled[i]], h->n_vocab);
    }
    h->faulty_rows += bad;
    if (bad) pg_hook_report(g->e, g->policy, -1, bad, 0, "rows sampled without it: logits are NaN, +inf or all -inf");
}

void pg_hook_logits(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    group g = { .e = e };
    memset(h->edited, 0, (size_t)e->rows.n_sampled * sizeof(float *));
    if (!h->n_run || !(h->uses & PG_USES_LOGITS)) return;
    int32_t n = 0;
    for (int32_t s = 0; s <= e->rows.n_sampled; s++) {
        const pg_task *t = s < e->rows.n_sampled ? e->running[e->sampled_task[s]] : NULL;
        pg_policy *p = t && !t->looking ? pg_hook_policy(e, t) : NULL;
        if (p && !(p->uses & PG_USES_LOGITS)) p = NULL;
        if (g.n && p != g.policy) {
            finish(&g, run_stages(&g, g.policy));
            g.n = 0;
        }
        if (!p) continue;
        if (!g.n++) {
            g.first = n;
            g.policy = p;
        }
        h->view_scores[n] = h->scores + (int64_t)n * h->n_vocab;
        h->view_row[n] = h->row[e->sampled[s]];
        h->view_sampled[n] = s;
        memcpy(h->view_scores[n++], e->logits[s], (size_t)h->n_vocab * sizeof(float));
    }
}
