/* hook.c: policies around a step: who has which, the hook of the backend, the running load, swaps.
 *
 * Rows that share a policy and stand together are one run, so the stages of an engine's only policy are called once a layer
 * for the whole batch. */
#include "hook.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOAD_ROWS = 128 }; /* of so many rows ago a choice still counts 1 / e in the load */

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static void *zeroed(size_t n, size_t size)
{
    return calloc(n ? n : 1, size);
}

static const pg_steer *on_route(void *engine, const pg_op *op, float *score, int32_t n_row);
static void on_faults(void *engine, const pg_op *op, const unsigned char *fault);
static void on_waited(void *engine, double seconds, double bytes);

static int take_memory(pg_engine *e, struct pg_hook_state *h)
{
    const size_t T = (size_t)e->plan.code.max_rows, S = (size_t)e->plan.code.max_sampled, R = (size_t)e->max_running;
    const size_t E = (size_t)h->n_expert;
    return (h->moe = zeroed((size_t)e->model->h.n_layer, sizeof *h->moe)) &&
           (h->report = zeroed(PG_REPORTS, sizeof *h->report)) && (h->fresh = zeroed(PG_REPORTS, sizeof *h->fresh)) &&
           (h->knob = zeroed(PG_NAMES, sizeof *h->knob)) && (h->knob_bits = zeroed(PG_NAMES, sizeof *h->knob_bits)) &&
           (h->knob_set = zeroed(PG_NAMES, 1)) && (h->row = zeroed(T, sizeof *h->row)) &&
           (h->run = zeroed(T, sizeof *h->run)) && (h->steered = zeroed(T, 1)) && (h->fault = zeroed(T, 1)) &&
           (h->plain = zeroed(T * E, sizeof(float))) && (h->choose = zeroed(T * E, sizeof(float))) &&
           (h->top = zeroed(T, sizeof *h->top)) && (h->cumulative = zeroed(T, sizeof(float))) &&
           (h->capacity = zeroed(T, sizeof(float))) && (h->load = zeroed((size_t)h->n_moe * E, sizeof(float))) &&
           (h->data.of_row = zeroed(T, sizeof *h->data.of_row)) &&
           (h->scores = zeroed(R * (size_t)h->n_vocab, sizeof(float))) && (h->edited = zeroed(S, sizeof *h->edited)) &&
           (h->view_scores = zeroed(R, sizeof *h->view_scores)) && (h->view_row = zeroed(R, sizeof *h->view_row)) &&
           (h->view_sampled = zeroed(R, sizeof *h->view_sampled));
}

int pg_hook_open(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks = calloc(1, sizeof *h);
    if (!h) return -1;
    h->n_expert = e->model->h.n_expert;
    h->n_used = e->model->h.n_used;
    h->most = h->n_expert ? pg_router_most(h->n_expert, h->n_used) : 0;
    h->n_moe = e->model->n_moe_layer;
    h->n_vocab = e->model->h.n_vocab;
    h->layer = -1;
    if (!take_memory(e, h)) return -1;
    for (int32_t l = 0, n = 0; l < e->model->h.n_layer; l++) h->moe[l] = e->model->layer[l].experts.n_expert ? n++ : -1;
    for (int64_t i = 0; i < (int64_t)h->n_moe * h->n_expert; i++) h->load[i] = 1.0f / (float)h->n_expert;
    h->hook = (pg_hook){ .route = on_route, .ud = e, .faults = on_faults, .waited = on_waited };
    h->steer = (pg_steer){ .steered = h->steered,
                           .plain = h->plain,
                           .choose = h->choose,
                           .top = h->top,
                           .cumulative = h->cumulative,
                           .fault = h->fault };
    return 0;
}

void pg_hook_close(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    if (!h) return;
    pg_policy_drop(h->policy);
    pg_policy_drop(h->wanted);
    for (int32_t i = 0; i < h->n_tenant; i++) free(h->tenant[i]);
    void *const arrays[] = { h->moe,
                             h->report,
                             h->fresh,
                             (void *)h->tenant,
                             h->by_name,
                             (void *)h->knob_bits,
                             h->knob,
                             h->knob_set,
                             h->row,
                             h->run,
                             h->steered,
                             h->fault,
                             h->plain,
                             h->choose,
                             h->top,
                             h->cumulative,
                             h->capacity,
                             h->load,
                             h->data.of_row,
                             h->scores,
                             (void *)h->edited,
                             (void *)h->view_scores,
                             h->view_row,
                             h->view_sampled };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    free(h);
    e->hooks = NULL;
}

/* ---- swapping ------------------------------------------------------------------------------------------------------- */

static void let_go(struct pg_hook_state *h, pg_policy *p)
{
    if (!pg_policy_release(p)) return;
    p->next = h->dead;
    h->dead = p;
}

/* Move a pointer from a live policy to its newest version, and likewise the policies that it includes. */
static void renew(struct pg_hook_state *h, pg_policy **at)
{
    while (*at && (*at)->live && (*at)->successor) {
        pg_policy *old = *at;
        *at = pg_policy_take(old->successor);
        let_go(h, old);
    }
    if (!*at) return;
    for (int i = 0; i < (*at)->n_stage; i++)
        if ((*at)->stage[i].kind == PG_STAGE_POLICY) renew(h, &(*at)->stage[i].as.policy);
}

/* The uses of a policy may have changed with those that it includes. */
static int uses_of(pg_policy *p)
{
    if (!p) return 0;
    for (int i = 0; i < p->n_stage; i++)
        if (p->stage[i].kind == PG_STAGE_POLICY) p->uses |= uses_of(p->stage[i].as.policy);
    return p->uses;
}

/* Requests that run under the default that is about to go keep it; those that wait have not begun with it. */
static void keep_default(pg_engine *e)
{
    for (int i = 0; i < e->n_running; i++) {
        pg_task *t = e->running[i];
        if (!t->policy && !t->looking) t->policy = pg_policy_take(e->hooks->policy);
    }
}

static void route_anew(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    let_go(h, h->policy);
    h->policy = h->wanted;
    h->wanted = NULL;
    h->routed = 0;
    while (h->policy && h->policy->successor) {
        pg_policy *old = h->policy;
        h->policy = pg_policy_take(old->successor);
        let_go(h, old);
    }
    for (int i = 0; i < e->n_running; i++) { /* what they kept was a default: that is another one now */
        pg_task *t = e->running[i];
        if (t->how.policy) continue;
        let_go(h, t->policy);
        t->policy = NULL;
    }
}

static void renew_task(struct pg_hook_state *h, pg_task *t)
{
    renew(h, &t->policy);
    uses_of(t->policy);
}

int pg_hook_swap(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    if (!h->changed) return 0;
    h->changed = 0;
    if (h->routed) route_anew(e);
    while (h->policy && h->policy->successor) {
        pg_policy *old = h->policy;
        if (!old->live) keep_default(e);
        h->policy = pg_policy_take(old->successor);
        let_go(h, old);
    }
    renew(h, &h->policy);
    uses_of(h->policy);
    for (int i = 0; i < e->n_waiting + e->n_running; i++)
        renew_task(h, i < e->n_waiting ? e->waiting[i] : e->running[i - e->n_waiting]);
    for (pg_task *t = e->queue_head; t; t = t->next) renew_task(h, t);
    return 1;
}

void pg_hook_bury(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    while (h->dead) {
        pg_policy *p = h->dead;
        h->dead = p->next;
        pg_policy_free(p);
    }
}

/* ---- a step --------------------------------------------------------------------------------------------------------- */

pg_policy *pg_hook_policy(const pg_engine *e, const pg_task *t)
{
    return t->policy ? t->policy : e->hooks->policy;
}

static void add_row(pg_engine *e, int32_t r, const pg_task *t, pg_policy *p)
{
    struct pg_hook_state *h = e->hooks;
    h->row[r] = (pg_hook_row){ .id = t->looking ? 0 : t->id,
                               .tenant = t->tenant,
                               .position = e->row_pos[r],
                               .token = e->row_token[r],
                               .prompt = r < e->rows.n_prefill };
    h->steered[r] = 0;
    if (!p) return;
    pg_hook_run *last = h->n_run ? &h->run[h->n_run - 1] : NULL;
    if (last && last->policy == p && last->first + last->n == r) {
        last->n++;
        return;
    }
    h->run[h->n_run++] = (pg_hook_run){ .policy = p, .first = r, .n = 1 };
    h->uses |= p->uses;
}

void pg_hook_begin(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    int any = h->policy != NULL;
    for (int i = 0; i < e->n_running && !any; i++) any = e->running[i]->policy != NULL;
    h->n_run = h->uses = 0;
    e->backend->hook = NULL;
    if (!any) return;
    for (int32_t r = 0; r < e->rows.n; r++) {
        const pg_task *t = e->running[e->row_task[r]];
        add_row(e, r, t, pg_hook_policy(e, t));
    }
    const int32_t n = atomic_load(&h->n_knob);
    for (int32_t i = 0; i < n; i++) {
        const uint32_t bits = atomic_load_explicit(&h->knob_bits[i], memory_order_relaxed);
        memcpy(&h->knob_now[i], &bits, sizeof bits);
    }
    if (!(h->uses & PG_USES_ROUTE)) return;
    h->hook.data = pg_hook_as_data(e);
    e->backend->hook = &h->hook;
}

static const char *const fault_text[] = {
    [PG_STEER_SCORES] = "rows routed without it: scores are NaN or +inf",
    [PG_STEER_CHOOSE] = "rows routed without it: choose is NaN",
    [PG_STEER_TOP] = "rows routed without it: top is below 1 or above the number of experts",
    [PG_STEER_CUMULATIVE] = "rows routed without it: cumulative is not above 0",
    [PG_STEER_NOBODY] = "rows routed without it: no expert is left",
    [PG_STEER_WEIGHTS] = "rows routed without it: the weights are not finite",
};

/* A row that came with NaN is nobody's fault. */
static int came_broken(const struct pg_hook_state *h, int32_t r)
{
    for (int32_t x = 0; x < h->n_expert; x++)
        if (!isfinite(h->plain[(int64_t)r * h->n_expert + x])) return 1;
    return 0;
}

/* What came of a layer. by_data: whoever went by data tells of no row that is nobody's fault. */
static void report_faults(pg_engine *e, int32_t layer, const unsigned char *fault, int by_data)
{
    struct pg_hook_state *h = e->hooks;
    for (int32_t i = 0; i < h->n_run; i++) {
        const pg_hook_run *run = &h->run[i];
        int32_t count = 0, which = 0;
        for (int32_t r = run->first; r < run->first + run->n; r++) {
            if (!fault[r] || (!by_data && (!h->steered[r] || came_broken(h, r)))) continue;
            which = fault[r];
            count++;
        }
        if (!count) continue;
        h->faulty_rows += count;
        pg_hook_report(e, run->policy, layer, count, 0, fault_text[which]);
    }
}

static void on_faults(void *engine, const pg_op *op, const unsigned char *fault)
{
    report_faults(engine, op->a.hook.layer, fault, 1);
}

/* What the ROUTE op said about the layer before this one. */
static void collect_faults(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    if (h->layer >= 0) report_faults(e, h->layer, h->fault, 0);
    h->layer = -1;
}

static const pg_steer *on_route(void *engine, const pg_op *op, float *score, int32_t n_row)
{
    pg_engine *e = engine;
    struct pg_hook_state *h = e->hooks;
    (void)n_row; /* all rows of the step */
    collect_faults(e);
    h->layer = op->a.hook.layer;
    h->steer.capacity = NULL;
    for (int32_t i = 0; i < h->n_run; i++)
        if (h->run[i].policy->uses & PG_USES_ROUTE) pg_hook_route(e, &h->run[i], op->a.hook.router, h->layer, score);
    return &h->steer;
}

/* A policy that only the host can run, on a device: said once, with what it took in that step. */
static void on_waited(void *engine, double seconds, double bytes)
{
    pg_engine *e = engine;
    struct pg_hook_state *h = e->hooks;
    for (int32_t i = 0; i < h->n_run; i++) {
        pg_policy *p = h->run[i].policy;
        char text[256];
        if (p->told || !pg_hook_has_code(p)) continue;
        p->told = 1;
        snprintf(text, sizeof text,
                 "routed by the host: in each of %d layers the device waits while scores go there and back, which took "
                 "%.2f ms and %.2f MB in this step of %d rows; knobs and programs run on the device",
                 h->n_moe, seconds * 1e3, bytes * 1e-6, e->rows.n);
        pg_hook_report(e, p, -1, 1, 0, text);
    }
}

/* The running load, of all rows: an exponential mean that forgets by the row. */
static void add_load(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    const float keep = expf(-(float)e->rows.n / LOAD_ROWS);
    for (int32_t i = 0; i < e->plan.n_pick; i++) {
        const int32_t *pick = e->backend->ops->read(e->backend, e->plan.pick[i]);
        float *load = h->load + (int64_t)i * h->n_expert;
        int32_t n = 0;
        for (int32_t r = 0; r < e->rows.n; r++)
            for (int32_t k = 0; k < h->most && pick[(int64_t)r * 2 * h->most + k] >= 0; k++) n++;
        const float share = (1 - keep) / (float)n;
        for (int32_t x = 0; x < h->n_expert; x++) load[x] *= keep;
        for (int32_t r = 0; r < e->rows.n; r++)
            for (int32_t k = 0; k < h->most && pick[(int64_t)r * 2 * h->most + k] >= 0; k++)
                load[pick[(int64_t)r * 2 * h->most + k]] += share;
    }
}

void pg_hook_end(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    if (!h->n_run) return;
    collect_faults(e);
    for (int32_t i = 0; i < h->n_run; i++) h->steered_rows += h->run[i].n;
    if (h->uses & PG_USES_LOAD) add_load(e);
}

/* ---- the other points ----------------------------------------------------------------------------------------------- */

static int token_stages(pg_engine *e, pg_policy *p, pg_token_view *view)
{
    for (int i = 0; i < p->n_stage; i++) {
        pg_stage *s = &p->stage[i];
        pg_error why = { 0 };
        if (s->kind == PG_STAGE_POLICY)
            token_stages(e, s->as.policy, view);
        else if (s->kind == PG_STAGE_HOOKS && s->as.hooks.token && !s->unhooked &&
                 s->as.hooks.token(s->as.hooks.ud, view, &why) < 0)
            pg_hook_unhook(e, p, s, -1, &why);
    }
    return view->stop != 0;
}

int pg_hook_token(pg_engine *e, pg_task *t, int32_t row, int32_t token)
{
    pg_policy *p = pg_hook_policy(e, t);
    char text[256];
    if (!p || !(p->uses & PG_USES_TOKEN)) return 0;
    const int n = pg_decode(e->tokenizer, &token, 1, t->how.special, text, sizeof text, NULL);
    pg_token_view view = { .row = e->hooks->row[row], .n_new = t->n_token + 1 - t->n_prompt, .text = text };
    view.row.position = t->n_token;
    view.row.token = token;
    view.row.prompt = 0;
    view.n_text = n < 0 ? 0 : n < (int)sizeof text ? n : (int)sizeof text;
    return token_stages(e, p, &view);
}

static void admit_stages(pg_engine *e, pg_policy *p, pg_admit_view *view)
{
    for (int i = 0; i < p->n_stage && view->verdict > 0; i++) {
        pg_stage *s = &p->stage[i];
        pg_error why = { 0 };
        if (s->kind == PG_STAGE_POLICY) {
            admit_stages(e, s->as.policy, view);
        } else if (s->kind == PG_STAGE_HOOKS && s->as.hooks.admit && !s->unhooked &&
                   s->as.hooks.admit(s->as.hooks.ud, view, &why) < 0) {
            pg_hook_unhook(e, p, s, -1, &why);
            view->verdict = 1;
        }
    }
}

int pg_hook_admit(pg_engine *e, pg_task *t)
{
    pg_policy *p = pg_hook_policy(e, t);
    if (t->looking || !p || !(p->uses & PG_USES_ADMIT)) return 1;
    pg_admit_view view = { .id = t->id,
                           .tenant = t->tenant,
                           .n_prompt = t->n_prompt,
                           .max_new = t->how.max_new,
                           .priority = t->how.priority,
                           .waiting = e->n_waiting,
                           .running = e->n_running,
                           .kv_pages_free = pg_prefix_room(&e->prefix),
                           .kv_pages = e->pages.n_page,
                           .verdict = 1 };
    admit_stages(e, p, &view);
    if (view.verdict > 0) return 1;
    if (view.verdict == 0) {
        e->hooks->asked_to_wait = 1;
        return 0;
    }
    view.why[sizeof view.why - 1] = 0;
    pg_output_fail(e, t, PG_ECANCELLED, view.why[0] ? view.why : "a policy refused the request");
    return -1;
}
