/* seen.c: see seen.h. */
#include "sched.h"

#include <sched.h>
#include <stdlib.h>

int pg_seen_open(pg_seen *s, const pg_model *m)
{
    const size_t L = (size_t)m->n_moe_layer, E = (size_t)m->h.n_expert;
    *s = (pg_seen){ .n_expert = m->h.n_expert };
    s->layer = calloc(L + 1, sizeof *s->layer);
    s->count = calloc(2 * L * E + 1, sizeof *s->count);
    if (!s->layer || !s->count) return -1;
    for (int l = 0; l < m->h.n_layer; l++)
        if (m->layer[l].experts.n_expert) s->layer[s->n_layer++] = l;
    return 0;
}

void pg_seen_close(pg_seen *s)
{
    free(s->layer);
    free((void *)s->count);
    s->layer = NULL;
    s->count = NULL;
}

/* One writer: no addition that a processor would have to lock memory for. */
static inline void add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Rows [n_row] of picks: W ids, then their weights; a place that is not used has an id below 0. */
static void count_rows(_Atomic uint64_t *count, int32_t E, const int32_t *pick, int W, int n_row)
{
    for (int r = 0; r < n_row; r++, pick += 2 * W)
        for (int x = 0; x < W; x++)
            if ((uint32_t)pick[x] < (uint32_t)E) add(&count[pick[x]], 1);
}

static void count_step(pg_engine *e)
{
    pg_seen *s = &e->seen;
    const int n = e->rows.n, first = e->rows.n_prefill, E = s->n_expert;
    const uint32_t version = atomic_load_explicit(&s->version, memory_order_relaxed);
    atomic_store_explicit(&s->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < e->plan.n_pick; i++) {
        const int W = pg_plan_width(&e->plan, e->plan.pick[i]) / 2;
        const int32_t *pick = e->backend->ops->read(e->backend, e->plan.pick[i]);
        _Atomic uint64_t *count = s->count + (size_t)i * (size_t)E, *later = count + (size_t)s->n_layer * (size_t)E;
        count_rows(count, E, pick, W, first);
        count_rows(later, E, pick + (size_t)first * 2 * (size_t)W, W, n - first);
    }
    add(&s->tokens[PG_EXPERTS_PROMPT], (uint64_t)first);
    add(&s->tokens[PG_EXPERTS_GENERATED], (uint64_t)(n - first));
    atomic_store_explicit(&s->version, version + 2, memory_order_release);
}

void pg_seen_step(pg_engine *e)
{
    count_step(e);
    if (e->seen.tracing) pg_trace_step(e->seen.tracing, e);
    e->seen.step++;
}

/* ---- readers -------------------------------------------------------------------------------------------------------- */

/* One attempt; 0 when the thread wrote meanwhile. */
static int copy_counts(pg_seen *s, int32_t kind, double *counts, double *tokens)
{
    const size_t n = (size_t)s->n_layer * (size_t)s->n_expert;
    const uint32_t version = atomic_load_explicit(&s->version, memory_order_acquire);
    if (version & 1) return 0;
    for (size_t i = 0; i < n; i++)
        counts[i] = (double)atomic_load_explicit(&s->count[(size_t)kind * n + i], memory_order_relaxed);
    if (tokens) *tokens = (double)atomic_load_explicit(&s->tokens[kind], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&s->version, memory_order_relaxed) == version;
}

int pg_expert_counts(pg_engine *e, int32_t kind, double *counts, int32_t *layers, double *tokens, pg_error *err)
{
    const int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (kind != PG_EXPERTS_PROMPT && kind != PG_EXPERTS_GENERATED)
        return pg_fail(err, PG_EINVAL, "kind is %d, expected 0 (prompt) or 1 (generated)", kind);
    pg_seen *s = &e->seen;
    if (!counts && s->n_layer) return pg_fail(err, PG_EINVAL, "pg_expert_counts needs a place for the counts");
    while (!copy_counts(s, kind, counts, tokens)) sched_yield();
    for (int i = 0; layers && i < s->n_layer; i++) layers[i] = s->layer[i];
    return s->n_layer;
}
