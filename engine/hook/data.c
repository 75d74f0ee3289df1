/* data.c: what the policies of a step do to the choice of experts, as data, so that a device can do it beside its rows. A
 * policy's stages, and those of policies in it, become one list. A stage whose code is somebody else's, or more of either
 * than there is room for, and the step goes by calls instead. */
#include "hook.h"

#include <string.h>

/* A stage's number among all that a process ever has: stages of a policy in use do not change. */
static uint64_t id_of(const pg_policy *p, const pg_stage *s)
{
    return p->serial * PG_MAX_STAGE + (uint64_t)(s - p->stage);
}

static int add_knobs(struct pg_hook_state *h, pg_steer_stage *to, const pg_policy *p, const pg_stage *s)
{
    to->knobs = s->as.layer;
    for (int32_t l = 0; l < p->n_layer && !h->data.all.capacity; l++)
        h->data.all.capacity = s->as.layer[l].capacity > 0;
    return 1;
}

static int add_program(struct pg_hook_state *h, pg_steer_stage *to, int32_t n, const pg_stage_program *p)
{
    float *knob = h->data.knob[n];
    for (int32_t i = 0; i < p->n_knob; i++) knob[i] = h->knob_now[p->knob[i]];
    to->code = p->code;
    to->n = p->n;
    to->n_knob = p->n_knob;
    to->knob = knob;
    return 1;
}

/* 0: these stages are not data, or too many. */
static int add_stages(struct pg_hook_state *h, const pg_policy *p, int32_t *n)
{
    for (int i = 0; i < p->n_stage; i++) {
        const pg_stage *s = &p->stage[i];
        const int is_program = s->kind == PG_STAGE_PROGRAM && s->as.program->point == PG_PROGRAM_ROUTE;
        if (s->kind == PG_STAGE_POLICY && !add_stages(h, s->as.policy, n)) return 0;
        if (s->kind == PG_STAGE_HOOKS && s->as.hooks.route && !s->unhooked) return 0;
        if (s->kind != PG_STAGE_KNOBS && !is_program) continue;
        if (*n == PG_STEPS_STAGES) return 0;
        pg_steer_stage *to = &h->data.stage[*n];
        *to = (pg_steer_stage){ .id = id_of(p, s) };
        *n += is_program ? add_program(h, to, *n, s->as.program) : add_knobs(h, to, p, s);
    }
    return 1;
}

/* Its number among the step's policies, or -1: it is one too many. */
static int32_t number_of(struct pg_hook_state *h, pg_policy *p)
{
    pg_hook_data *d = &h->data;
    for (int32_t i = d->all.n_policy; i > 0; i--)
        if (d->policy[i - 1] == p) return i - 1;
    int32_t n = d->first[d->all.n_policy];
    if (d->all.n_policy == PG_STEPS_POLICIES || !add_stages(h, p, &n)) return -1;
    d->policy[d->all.n_policy] = p;
    d->first[d->all.n_policy + 1] = n;
    return d->all.n_policy++;
}

int pg_hook_has_code(const pg_policy *p)
{
    for (int i = 0; i < p->n_stage; i++) {
        const pg_stage *s = &p->stage[i];
        if (s->kind == PG_STAGE_HOOKS && s->as.hooks.route && !s->unhooked) return 1;
        if (s->kind == PG_STAGE_POLICY && pg_hook_has_code(s->as.policy)) return 1;
    }
    return 0;
}

const pg_steering *pg_hook_as_data(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    pg_hook_data *d = &h->data;
    d->all = (pg_steering){
        .stage = d->stage, .first = d->first, .policy = d->of_row, .load = h->uses & PG_USES_LOAD ? h->load : NULL
    };
    for (int32_t r = 0; r < e->rows.n; r++) d->of_row[r] = -1;
    for (int32_t i = 0; i < h->n_run; i++) {
        const pg_hook_run *run = &h->run[i];
        if (!(run->policy->uses & PG_USES_ROUTE)) continue;
        const int32_t number = number_of(h, run->policy);
        if (number < 0) return NULL;
        for (int32_t r = 0; r < run->n; r++) d->of_row[run->first + r] = number;
    }
    return &d->all;
}
