/* policy.c: making policies, counting them, replacing one by its successor. */
#include "hook.h"

#include <stdlib.h>
#include <string.h>

/* ---- making --------------------------------------------------------------------------------------------------------- */

int pg_policy_new(pg_engine *e, const char *name, int32_t version, int32_t live, pg_policy **out, pg_error *err)
{
    const int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    const size_t n = name ? strnlen(name, PG_MAX_NAME + 1) : 0;
    if (!out) return pg_fail(err, PG_EINVAL, "pg_policy_new needs a place for its answer");
    if (n < 1 || n > PG_MAX_NAME)
        return pg_fail(err, PG_EINVAL, "a policy's name has %zu bytes: expected 1 to %d", n, PG_MAX_NAME);
    pg_policy *p = calloc(1, sizeof *p);
    if (!p) return pg_fail(err, PG_EMEMORY, "no memory for policy %s", name);
    memcpy(p->name, name, n);
    p->engine = e;
    p->version = version;
    p->live = live != 0;
    p->n_layer = e->model->h.n_layer;
    atomic_init(&p->count, 1);
    *out = p;
    return PG_OK;
}

pg_stage *pg_policy_stage(pg_policy *p, int *rc, pg_error *err)
{
    *rc = p ? pg_engine_check(p->engine, err) : pg_fail(err, PG_EINVAL, "no policy");
    if (*rc < 0) return NULL;
    if (atomic_load(&p->sealed))
        *rc = pg_fail(err, PG_EINVAL, "policy %s is in use and can no longer change: make a new one and replace it",
                      p->name);
    else if (p->n_stage == PG_MAX_STAGE)
        *rc =
            pg_fail(err, PG_ELIMIT, "policy %s has %d stages already, as many as there can be", p->name, PG_MAX_STAGE);
    return *rc < 0 ? NULL : &p->stage[p->n_stage];
}

void pg_policy_added(pg_policy *p, int kind, int uses)
{
    p->stage[p->n_stage++].kind = kind;
    p->uses |= uses;
}

int pg_policy_hooks(pg_policy *p, const pg_hooks *hooks, pg_error *err)
{
    int rc = PG_OK;
    if (!hooks) return pg_fail(err, PG_EINVAL, "no hooks");
    pg_stage *s = pg_policy_stage(p, &rc, err);
    if (!s) {
        if (hooks->drop) hooks->drop(hooks->ud);
        return rc;
    }
    s->as.hooks = *hooks;
    pg_policy_added(p, PG_STAGE_HOOKS,
                    (hooks->route ? PG_USES_ROUTE | PG_USES_LOAD : 0) | (hooks->logits ? PG_USES_LOGITS : 0) |
                        (hooks->token ? PG_USES_TOKEN : 0) | (hooks->admit ? PG_USES_ADMIT : 0));
    return PG_OK;
}

int pg_policy_include(pg_policy *p, pg_policy *other, pg_error *err)
{
    int rc = PG_OK;
    pg_stage *s = pg_policy_stage(p, &rc, err);
    if (!s) return rc;
    if (!other || other == p || other->engine != p->engine)
        return pg_fail(err, PG_EINVAL, "policy %s cannot include %s", p->name,
                       !other       ? "nothing"
                       : other == p ? "itself"
                                    : "a policy of another engine");
    if (other->depth + 1 > PG_MAX_NESTED)
        return pg_fail(err, PG_ELIMIT, "policy %s: policies in policies deeper than %d", p->name, PG_MAX_NESTED);
    pg_policy_seal(other);
    pthread_mutex_lock(&p->engine->lock); /* the uses of one that is in use follow those that it includes */
    const int uses = other->uses;
    pthread_mutex_unlock(&p->engine->lock);
    s->as.policy = pg_policy_take(other);
    if (p->depth < other->depth + 1) p->depth = other->depth + 1;
    pg_policy_added(p, PG_STAGE_POLICY, uses);
    return PG_OK;
}

/* ---- counting ------------------------------------------------------------------------------------------------------- */

void pg_policy_seal(pg_policy *p)
{
    if (p) atomic_store(&p->sealed, 1);
}

pg_policy *pg_policy_take(pg_policy *p)
{
    if (p) atomic_fetch_add(&p->count, 1);
    return p;
}

int pg_policy_release(pg_policy *p)
{
    return p && atomic_fetch_sub(&p->count, 1) == 1;
}

static void free_stage(const pg_policy *p, pg_stage *s)
{
    if (s->kind == PG_STAGE_KNOBS) {
        pg_knobs_free(s->as.layer, p->n_layer);
    } else if (s->kind == PG_STAGE_PROGRAM) {
        free(s->as.program->scratch);
        free(s->as.program);
    } else if (s->kind == PG_STAGE_HOOKS) {
        if (s->as.hooks.drop) s->as.hooks.drop(s->as.hooks.ud);
    } else {
        pg_policy_drop(s->as.policy);
    }
}

/* A chain of successors may be long: one after the other, not one within the other. */
void pg_policy_free(pg_policy *p)
{
    while (p) {
        pg_policy *successor = p->successor;
        for (int i = 0; i < p->n_stage; i++) free_stage(p, &p->stage[i]);
        free(p);
        p = pg_policy_release(successor) ? successor : NULL;
    }
}

void pg_policy_drop(pg_policy *p)
{
    if (pg_policy_release(p)) pg_policy_free(p);
}

/* ---- setting it to work --------------------------------------------------------------------------------------------- */

/* Under the lock: the engine thread is to look at what has changed. */
static void change(pg_engine *e)
{
    e->hooks->changed = 1;
    e->wake = 1;
    pthread_cond_signal(&e->work);
}

int pg_engine_route(pg_engine *e, pg_policy *policy, pg_error *err)
{
    const int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (policy && policy->engine != e) return pg_fail(err, PG_EINVAL, "policy %s is another engine's", policy->name);
    pg_policy_seal(policy);
    pthread_mutex_lock(&e->lock);
    pg_policy *old = e->hooks->wanted;
    e->hooks->wanted = pg_policy_take(policy);
    e->hooks->routed = 1;
    change(e);
    pthread_mutex_unlock(&e->lock);
    pg_policy_drop(old);
    return PG_OK;
}

int pg_policy_replace(pg_engine *e, pg_policy *old, pg_policy *successor, pg_error *err)
{
    const int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!old || !successor || old == successor || old->engine != e || successor->engine != e)
        return pg_fail(err, PG_EINVAL, "pg_policy_replace takes two policies of this engine, not the same twice");
    pg_policy_seal(successor);
    pthread_mutex_lock(&e->lock);
    const pg_policy *last = successor;
    while (last->successor) last = last->successor;
    const int taken = old->successor != NULL || last == old;
    if (!taken) {
        old->successor = pg_policy_take(successor);
        change(e);
    }
    pthread_mutex_unlock(&e->lock);
    if (taken) return pg_fail(err, PG_EINVAL, "policy %s has been replaced already", old->name);
    return PG_OK;
}
