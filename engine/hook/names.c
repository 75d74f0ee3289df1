/* names.c: what policies call by name or by number: knobs of programs, tenants; and the reports about them. */
#include "hook.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_name(const char *what, const char *name, pg_error *err)
{
    const size_t n = name ? strnlen(name, PG_MAX_NAME + 1) : 0;
    if (n >= 1 && n <= PG_MAX_NAME) return PG_OK;
    return pg_fail(err, PG_EINVAL, "the name of a %s has %zu bytes: expected 1 to %d", what, n, PG_MAX_NAME);
}

/* ---- knobs ---------------------------------------------------------------------------------------------------------- */

static int find_knob(const struct pg_hook_state *h, const char *name)
{
    const int32_t n = atomic_load_explicit(&h->n_knob, memory_order_acquire);
    for (int32_t i = 0; i < n; i++)
        if (!strcmp(h->knob[i], name)) return i;
    return -1;
}

static void store(struct pg_hook_state *h, int i, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&h->knob_bits[i], bits, memory_order_relaxed);
}

int pg_knob_declare(pg_engine *e, const char *name, float value, pg_error *err)
{
    struct pg_hook_state *h = e->hooks;
    int rc = check_name("knob", name, err);
    if (rc < 0) return rc;
    if (!isfinite(value)) return pg_fail(err, PG_EINVAL, "knob %s: its default is not a finite number", name);
    pthread_mutex_lock(&e->lock);
    int i = find_knob(h, name);
    const int32_t n = atomic_load(&h->n_knob);
    if (i < 0 && n < PG_NAMES) {
        strcpy(h->knob[i = n], name);
        store(h, i, value);
        atomic_store_explicit(&h->n_knob, n + 1, memory_order_release);
    } else if (i >= 0 && !h->knob_set[i]) {
        store(h, i, value);
    }
    pthread_mutex_unlock(&e->lock);
    return i >= 0 ? i : pg_fail(err, PG_ELIMIT, "knob %s: the engine has %d knobs already", name, PG_NAMES);
}

static int need_knob(pg_engine *e, const char *name, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0 || (rc = check_name("knob", name, err)) < 0) return rc;
    rc = find_knob(e->hooks, name);
    return rc >= 0 ? rc : pg_fail(err, PG_ENOTFOUND, "no program of this engine has a knob %s", name);
}

int pg_knob_set(pg_engine *e, const char *name, float value, pg_error *err)
{
    const int i = need_knob(e, name, err);
    if (i < 0) return i;
    if (!isfinite(value)) return pg_fail(err, PG_EINVAL, "knob %s: %g is not a finite number", name, (double)value);
    pthread_mutex_lock(&e->lock);
    e->hooks->knob_set[i] = 1;
    store(e->hooks, i, value);
    pthread_mutex_unlock(&e->lock);
    return PG_OK;
}

int pg_knob_get(pg_engine *e, const char *name, float *value, pg_error *err)
{
    const int i = need_knob(e, name, err);
    if (i < 0) return i;
    if (!value) return pg_fail(err, PG_EINVAL, "pg_knob_get needs a place for its answer");
    const uint32_t bits = atomic_load_explicit(&e->hooks->knob_bits[i], memory_order_relaxed);
    memcpy(value, &bits, sizeof bits);
    return PG_OK;
}

const char *pg_knob_name(pg_engine *e, int32_t i)
{
    return e && i >= 0 && i < atomic_load_explicit(&e->hooks->n_knob, memory_order_acquire) ? e->hooks->knob[i] : NULL;
}

/* ---- tenants -------------------------------------------------------------------------------------------------------- */

/* Where a name is among the sorted ones, or would go. */
static int32_t place_of(const struct pg_hook_state *h, const char *name, int *found)
{
    int32_t low = 0, high = h->n_tenant;
    *found = 0;
    while (low < high) {
        const int32_t mid = (low + high) / 2;
        const int order = strcmp(h->tenant[h->by_name[mid]], name);
        if (!order) *found = 1;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int grow(struct pg_hook_state *h)
{
    if (h->n_tenant < h->cap_tenant) return 1;
    const int32_t more = h->cap_tenant ? 2 * h->cap_tenant : 64;
    char **tenant = realloc(h->tenant, (size_t)more * sizeof *tenant);
    if (tenant) h->tenant = tenant;
    int32_t *by_name = realloc(h->by_name, (size_t)more * sizeof *by_name);
    if (by_name) h->by_name = by_name;
    if (!tenant || !by_name) return 0;
    h->cap_tenant = more;
    return 1;
}

/* Under the lock. */
static int tenant_number(struct pg_hook_state *h, const char *name)
{
    int found;
    const int32_t at = place_of(h, name, &found);
    if (found) return h->by_name[at] + 1;
    if (h->n_tenant == PG_TENANTS) return PG_ELIMIT;
    char *copy = grow(h) ? strdup(name) : NULL;
    if (!copy) return PG_EMEMORY;
    memmove(h->by_name + at + 1, h->by_name + at, (size_t)(h->n_tenant - at) * sizeof *h->by_name);
    h->by_name[at] = h->n_tenant;
    h->tenant[h->n_tenant] = copy;
    return ++h->n_tenant;
}

int pg_tenant_number(pg_engine *e, const char *name, pg_error *err)
{
    if (!name) return 0;
    int rc = check_name("tenant", name, err);
    if (rc < 0) return rc;
    pthread_mutex_lock(&e->lock);
    rc = tenant_number(e->hooks, name);
    pthread_mutex_unlock(&e->lock);
    if (rc == PG_ELIMIT) return pg_fail(err, rc, "tenant %s: the engine has met %d tenants already", name, PG_TENANTS);
    return rc < 0 ? pg_fail(err, rc, "no memory for another tenant") : rc;
}

const char *pg_tenant_name(pg_engine *e, int32_t tenant)
{
    if (!e) return NULL;
    pthread_mutex_lock(&e->lock);
    const char *name = tenant > 0 && tenant <= e->hooks->n_tenant ? e->hooks->tenant[tenant - 1] : NULL;
    pthread_mutex_unlock(&e->lock);
    return name;
}

/* ---- reports -------------------------------------------------------------------------------------------------------- */

static int same(const pg_report *a, const pg_report *b)
{
    return a->version == b->version && a->unhooked == b->unhooked && !strcmp(a->policy, b->policy) &&
           !strcmp(a->text, b->text);
}

/* Engine thread, in a step. One of a kind that is there already only counts. */
void pg_hook_report(pg_engine *e, const pg_policy *p, int32_t layer, double count, int unhooked, const char *text)
{
    struct pg_hook_state *h = e->hooks;
    pg_report r = { .count = count, .version = p->version, .layer = layer, .unhooked = unhooked };
    pg_error line;
    pg_fail(&line, PG_EINVAL, "%.*s", (int)sizeof r.text - 1, text); /* makes it one clean line */
    snprintf(r.policy, sizeof r.policy, "%s", p->name);
    snprintf(r.text, sizeof r.text, "%.*s", (int)sizeof r.text - 1, line.text);
    for (int32_t i = 0; i < h->n_fresh; i++)
        if (same(&h->fresh[i], &r)) {
            h->fresh[i].count += count;
            return;
        }
    if (h->n_fresh < PG_REPORTS) h->fresh[h->n_fresh++] = r;
}

void pg_hook_unhook(pg_engine *e, const pg_policy *p, pg_stage *s, int32_t layer, const pg_error *why)
{
    s->unhooked = 1;
    pg_hook_report(e, p, layer, 1, 1, why->text[0] ? why->text : "it failed without a message");
}

static pg_report *report_at(const struct pg_hook_state *h, double number)
{
    return &h->report[(int64_t)(number - 1) % PG_REPORTS];
}

/* Under the lock. What goes on and on must not push out the rest: it counts where it stands among the last few. */
void pg_hook_publish(pg_engine *e)
{
    struct pg_hook_state *h = e->hooks;
    e->stats.steered_rows += h->steered_rows;
    e->stats.faulty_rows += h->faulty_rows;
    h->steered_rows = h->faulty_rows = 0;
    for (int32_t i = 0; i < h->n_fresh; i++) {
        pg_report *r = &h->fresh[i], *known = NULL;
        for (double n = h->n_report; n > 0 && n > h->n_report - PG_REPORTS && !known; n--)
            if (same(report_at(h, n), r)) known = report_at(h, n);
        if (known) {
            known->count += r->count;
            continue;
        }
        r->number = ++h->n_report;
        *report_at(h, r->number) = *r;
    }
    h->n_fresh = 0;
}

int pg_policy_reports(pg_engine *e, double since, pg_report *out, int32_t max, pg_error *err)
{
    const int rc = pg_engine_check(e, err);
    int32_t n = 0;
    if (rc < 0) return rc;
    if (!out || max < 0) return pg_fail(err, PG_EINVAL, "pg_policy_reports needs room for reports");
    pthread_mutex_lock(&e->lock);
    const struct pg_hook_state *h = e->hooks;
    double at = h->n_report > PG_REPORTS ? h->n_report - PG_REPORTS + 1 : 1;
    if (since + 1 > at) at = floor(since) + 1;
    for (; at <= h->n_report && n < max; at++) out[n++] = *report_at(h, at);
    pthread_mutex_unlock(&e->lock);
    return n;
}
