/* route.c: the stages of a policy over a run of rows of one layer. Each sees what those before it left; what comes out in
 * the end is checked where experts are chosen (kernels/route). A stage that fails leaves its rows as they came. */
#include "hook.h"

#include <math.h>
#include <string.h>

typedef struct place {
    pg_engine *e;
    const pg_router *r;
    int32_t layer, moe, first, n;
    float *score, *choose; /* [n, E] */
} place;

static void begin(const place *at)
{
    struct pg_hook_state *h = at->e->hooks;
    const size_t bytes = (size_t)at->n * (size_t)h->n_expert * sizeof(float);
    memcpy(h->plain + (int64_t)at->first * h->n_expert, at->score, bytes);
    memset(at->choose, 0, bytes);
    memset(h->steered + at->first, 1, (size_t)at->n);
    memset(h->fault + at->first, 0, (size_t)at->n);
    for (int32_t r = at->first; r < at->first + at->n; r++) {
        h->top[r] = h->n_used;
        h->cumulative[r] = 1;
        h->capacity[r] = 0;
    }
}

static void give_up(const place *at)
{
    struct pg_hook_state *h = at->e->hooks;
    const size_t bytes = (size_t)at->n * (size_t)h->n_expert * sizeof(float);
    memcpy(at->score, h->plain + (int64_t)at->first * h->n_expert, bytes);
    memset(h->steered + at->first, 0, (size_t)at->n);
}

static void apply_knobs(const place *at, const pg_layer_knobs *k)
{
    struct pg_hook_state *h = at->e->hooks;
    const int32_t E = h->n_expert;
    for (int32_t r = 0; r < at->n; r++) {
        float *score = at->score + (int64_t)r * E, *choose = at->choose + (int64_t)r * E;
        if (k->top) h->top[at->first + r] = k->top;
        if (k->cumulative > 0) h->cumulative[at->first + r] = k->cumulative;
        if (k->capacity > 0) h->capacity[at->first + r] = k->capacity;
        for (int32_t x = 0; k->temperature > 0 && x < E; x++) score[x] /= k->temperature;
        for (int32_t x = 0; k->choose && x < E; x++) /* who is out stays out, or a ban and a force would be no number */
            choose[x] = choose[x] == -INFINITY || k->choose[x] == -INFINITY ? -INFINITY : choose[x] + k->choose[x];
    }
    if (k->capacity > 0) h->steer.capacity = h->capacity;
}

/* To a whole number, anything that is out of range to 0, which no row may have. */
static int32_t top_of(float x, int32_t n_expert)
{
    return x > 0.5f && x < (float)n_expert + 0.5f ? (int32_t)(x + 0.5f) : 0;
}

static void run_program(const place *at, const pg_stage_program *p)
{
    struct pg_hook_state *h = at->e->hooks;
    float knob[PG_KNOBS_MOST];
    for (int32_t i = 0; i < p->n_knob; i++) knob[i] = h->knob_now[p->knob[i]];
    pg_program_row row = { .n = h->n_expert,
                           .load = h->load + (int64_t)at->moe * h->n_expert,
                           .layer = (float)at->layer,
                           .n_used = (float)h->n_used,
                           .sigmoid = at->r->score == PG_SCORE_SIGMOID,
                           .knob = knob };
    for (int32_t i = 0; i < at->n; i++) {
        const int32_t r = at->first + i;
        row.scores = at->score + (int64_t)i * h->n_expert;
        row.choose = at->choose + (int64_t)i * h->n_expert;
        row.top = (float)h->top[r];
        row.cumulative = h->cumulative[r];
        row.position = (float)h->row[r].position;
        row.prompt = (float)h->row[r].prompt;
        pg_program_run(p->code, p->n, &row, p->scratch);
        h->top[r] = top_of(row.top, h->n_expert);
        h->cumulative[r] = row.cumulative;
    }
}

static int call_hook(const place *at, const pg_policy *p, pg_stage *s)
{
    struct pg_hook_state *h = at->e->hooks;
    pg_error why = { 0 };
    const pg_route_view view = { .layer = at->layer,
                                 .rows = at->n,
                                 .n_expert = h->n_expert,
                                 .n_used = h->n_used,
                                 .max_used = h->most,
                                 .scores = at->score,
                                 .choose = at->choose,
                                 .top = h->top + at->first,
                                 .cumulative = h->cumulative + at->first,
                                 .row = h->row + at->first,
                                 .load = h->load + (int64_t)at->moe * h->n_expert };
    if (s->as.hooks.route(s->as.hooks.ud, &view, &why) >= 0) return 1;
    pg_hook_unhook(at->e, p, s, at->layer, &why);
    return 0;
}

static int run_stages(const place *at, pg_policy *p)
{
    for (int i = 0; i < p->n_stage; i++) {
        pg_stage *s = &p->stage[i];
        if (s->kind == PG_STAGE_KNOBS) {
            apply_knobs(at, &s->as.layer[at->layer]);
        } else if (s->kind == PG_STAGE_PROGRAM) {
            if (s->as.program->point == PG_PROGRAM_ROUTE) run_program(at, s->as.program);
        } else if (s->kind == PG_STAGE_POLICY) {
            if (!run_stages(at, s->as.policy)) return 0;
        } else if (s->as.hooks.route && !s->unhooked && !call_hook(at, p, s)) {
            return 0;
        }
    }
    return 1;
}

void pg_hook_route(pg_engine *e, pg_hook_run *run, const pg_router *r, int32_t layer, float *score)
{
    struct pg_hook_state *h = e->hooks;
    const place at = { .e = e,
                       .r = r,
                       .layer = layer,
                       .moe = h->moe[layer],
                       .first = run->first,
                       .n = run->n,
                       .score = score + (int64_t)run->first * h->n_expert,
                       .choose = h->choose + (int64_t)run->first * h->n_expert };
    begin(&at);
    if (!run->failed && run_stages(&at, run->policy)) return;
    run->failed = 1;
    give_up(&at);
}
