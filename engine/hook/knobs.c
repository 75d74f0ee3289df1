/* knobs.c: a table of knobs becomes numbers and a row of biases for each layer; no code runs but this. */
#include "hook.h"

#include <math.h>
#include <stdlib.h>

void pg_knobs_free(pg_layer_knobs *layer, int32_t n_layer)
{
    for (int32_t l = 0; layer && l < n_layer; l++) free(layer[l].choose);
    free(layer);
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

static int no_experts(const pg_engine *e, int32_t l, pg_error *err)
{
    int32_t first = -1, last = -1, n = 0;
    for (int32_t i = 0; i < e->model->h.n_layer; i++)
        if (e->hooks->moe[i] >= 0) {
            if (first < 0) first = i;
            last = i;
            n++;
        }
    return pg_fail(err, PG_ENOTFOUND, "layer %d has no experts: %s %d to %d have%s", l, n > 1 ? "layers" : "layer",
                   first, last, n == last - first + 1 ? "" : ", not all of them");
}

static int check_expert(const pg_engine *e, const char *knob, int32_t expert, pg_error *err)
{
    if (expert >= 0 && expert < e->model->h.n_expert) return PG_OK;
    return pg_fail(err, PG_EINVAL, "%s: there is no expert %d, they count from 0 to %d", knob, expert,
                   e->model->h.n_expert - 1);
}

static int check_number(const char *knob, float x, float most, pg_error *err)
{
    if (x >= 0 && x <= most) return PG_OK;
    return pg_fail(err, PG_EINVAL,
                   isinf(most) ? "%s is %g: expected a number above 0" : "%s is %g: expected above 0 and at most %g",
                   knob, (double)x, (double)most);
}

static int check(const pg_engine *e, const pg_knobs *k, pg_error *err)
{
    const int32_t most = pg_router_most(e->model->h.n_expert, e->model->h.n_used);
    int rc = PG_OK;
    if (k->layer < -1 || k->layer >= e->model->h.n_layer)
        return pg_fail(err, PG_ENOTFOUND, "there is no layer %d: they count from 0 to %d", k->layer,
                       e->model->h.n_layer - 1);
    if (k->layer >= 0 && e->hooks->moe[k->layer] < 0) return no_experts(e, k->layer, err);
    if (k->top < 0 || k->top > most)
        return pg_fail(err, PG_EINVAL, "top is %d: expected 1 to %d, twice the model's own number of experts", k->top,
                       most);
    if ((rc = check_number("cumulative", k->cumulative, 1, err)) < 0 ||
        (rc = check_number("temperature", k->temperature, 3.4e38f, err)) < 0 ||
        (rc = check_number("capacity", k->capacity, 3.4e38f, err)) < 0)
        return rc;
    if (k->n_ban < 0 || k->n_force < 0 || k->n_bias < 0)
        return pg_fail(err, PG_EINVAL, "a list of experts is shorter than nothing");
    for (int32_t i = 0; i < k->n_ban && rc >= 0; i++) rc = check_expert(e, "ban", k->ban[i], err);
    for (int32_t i = 0; i < k->n_force && rc >= 0; i++) rc = check_expert(e, "force", k->force[i], err);
    for (int32_t i = 0; i < k->n_bias && rc >= 0; i++) {
        rc = check_expert(e, "bias", k->bias[i].expert, err);
        if (rc >= 0 && !isfinite(k->bias[i].bias))
            rc = pg_fail(err, PG_EINVAL, "bias of expert %d is not a finite number: ban and force say that",
                         k->bias[i].expert);
    }
    return rc;
}

/* ---- compiling ------------------------------------------------------------------------------------------------------ */

/* Later knobs go on top: numbers replace numbers, biases add up, and who is banned stays so. */
static int put(const pg_engine *e, pg_layer_knobs *y, const pg_knobs *k)
{
    if (k->top) y->top = k->top;
    if (k->cumulative > 0) y->cumulative = k->cumulative;
    if (k->temperature > 0) y->temperature = k->temperature;
    if (k->capacity > 0) y->capacity = k->capacity;
    if (!k->n_ban && !k->n_force && !k->n_bias) return 1;
    if (!y->choose) y->choose = calloc((size_t)e->model->h.n_expert, sizeof *y->choose);
    if (!y->choose) return 0;
    for (int32_t i = 0; i < k->n_bias; i++) y->choose[k->bias[i].expert] += k->bias[i].bias;
    for (int32_t i = 0; i < k->n_force; i++)
        if (y->choose[k->force[i]] > -INFINITY) y->choose[k->force[i]] = INFINITY;
    for (int32_t i = 0; i < k->n_ban; i++) y->choose[k->ban[i]] = -INFINITY;
    return 1;
}

/* A layer without anybody left is a mistake that can be told now. */
static int check_left(const pg_engine *e, const pg_layer_knobs *layer, pg_error *err)
{
    const int32_t E = e->model->h.n_expert;
    for (int32_t l = 0; l < e->model->h.n_layer; l++) {
        int32_t left = !layer[l].choose;
        for (int32_t x = 0; x < E && !left; x++) left = layer[l].choose[x] > -INFINITY;
        if (!left) return pg_fail(err, PG_EINVAL, "all %d experts of layer %d are banned: leave at least one", E, l);
    }
    return PG_OK;
}

int pg_policy_knobs(pg_policy *p, const pg_knobs *knobs, int32_t n, pg_error *err)
{
    int rc = PG_OK;
    pg_stage *s = pg_policy_stage(p, &rc, err);
    if (!s) return rc;
    const pg_engine *e = p->engine;
    if (!knobs || n < 1) return pg_fail(err, PG_EINVAL, "no knobs");
    if (!e->model->n_moe_layer) return pg_fail(err, PG_EUNSUPPORTED, "this model has no experts to choose from");
    for (int32_t i = 0; i < n; i++)
        if ((rc = check(e, &knobs[i], err)) < 0) return rc;
    pg_layer_knobs *layer = calloc((size_t)p->n_layer, sizeof *layer);
    int fine = layer != NULL;
    for (int32_t i = 0; i < n && fine; i++)
        for (int32_t l = 0; l < p->n_layer && fine; l++)
            if (e->hooks->moe[l] >= 0 && (knobs[i].layer < 0 || knobs[i].layer == l))
                fine = put(e, &layer[l], &knobs[i]);
    rc = fine ? check_left(e, layer, err) : pg_fail(err, PG_EMEMORY, "no memory for knobs");
    if (rc < 0) {
        pg_knobs_free(layer, p->n_layer);
        return rc;
    }
    s->as.layer = layer;
    pg_policy_added(p, PG_STAGE_KNOBS, PG_USES_ROUTE);
    return PG_OK;
}
