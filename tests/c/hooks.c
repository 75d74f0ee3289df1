/* Policies that are somebody's code: what it may leave behind, when it fails, its replacement while requests run, and the
 * points beside routing. */
#include "policy_models.h"

/* ---- routing ------------------------------------------------------------------------------------------------------------- */

typedef struct spy {
    _Atomic int calls, drops, fail_at;
    int mode;
} spy;

enum { LOOK, HARM };

static int on_route(void *ud, const pg_route_view *v, pg_error *err)
{
    spy *s = ud;
    float sum = 0;
    for (int e = 0; e < v->n_expert; e++) sum += v->load[e];
    if (fabsf(sum - 1) > 1e-3f || v->rows < 1 || v->max_used < v->n_used) s->mode = -1;
    if (s->mode == HARM) {
        const float odd[] = { NAN, INFINITY, -INFINITY, 1e38f };
        for (int r = 0; r < v->rows; r++) {
            const int how = (s->calls + r) % 6;
            for (int e = 0; how < 4 && e < v->n_expert; e++) v->scores[r * v->n_expert + e] = odd[how == 3 ? 0 : how];
            for (int e = 0; how == 3 && e < v->n_expert; e++) v->choose[r * v->n_expert + e] = NAN;
            if (how == 4) v->top[r] = 1 << 30;
            if (how == 5) v->cumulative[r] = NAN;
        }
    }
    s->calls++;
    if (!s->fail_at || s->calls < s->fail_at) return 0;
    for (int i = 0; i < v->rows * v->n_expert; i++) v->scores[i] = 1;
    snprintf(err->text, sizeof err->text, "line 3:\nno such thing");
    return PG_EINVAL;
}

static void on_drop(void *ud)
{
    ((spy *)ud)->drops++;
}

static pg_policy *spy_of(pg_engine *e, const char *name, int live, spy *s)
{
    pg_policy *p = NULL;
    const pg_hooks h = { .route = on_route, .drop = on_drop, .ud = s };
    CHECK(pg_policy_new(e, name, 1, live, &p, NULL) == PG_OK && pg_policy_hooks(p, &h, NULL) == PG_OK, "hooks");
    return p;
}

/* What a policy leaves unusable goes as if there were none, and is reported; one that fails is called no more. */
static void test_harm(int model)
{
    pg_engine *e = open_model(path_of(model), 2);
    pg_report r[8];
    pg_stats stats;
    const logits want = compute(e, 0);
    spy harm = { .mode = HARM }, fails = { .fail_at = 2 };
    route(e, spy_of(e, "harm", 0, &harm));
    logits got = compute(e, 0);
    CHECK(same(got, want), "%s: unusable rows are not routed by default", models[model]);
    free(got.x);
    route(e, spy_of(e, "fails", 0, &fails));
    for (int i = 0; i < 2; i++) {
        got = compute(e, 0);
        CHECK(same(got, want), "%s: what failed has left traces", models[model]);
        free(got.x);
    }
    CHECK(fails.calls == 2, "a stage that failed was called %d times", fails.calls);
    const int n = pg_policy_reports(e, 0, r, 8, NULL);
    CHECK(n > 1 && !strcmp(r[n - 1].text, "line 3:\\x0ano such thing") && r[n - 1].unhooked == 1 &&
              r[n - 1].layer >= 0 && !strcmp(r[n - 1].policy, "fails"),
          "%d reports: %s", n, n > 0 ? r[n - 1].text : "");
    CHECK(pg_engine_stats(e, &stats, NULL) == PG_OK && stats.faulty_rows > 0 && stats.steered_rows >= 2 * N,
          "counters");
    CHECK(pg_policy_reports(e, r[n - 1].number, r, 8, NULL) == 0, "no report after the last");
    CHECK(harm.drops == 1 && fails.drops == 0, "drops: %d, %d", harm.drops, fails.drops);
    route(e, NULL);
    free(want.x);
    pg_close(e);
    CHECK(harm.drops == 1 && fails.drops == 1, "drops after closing: %d, %d", harm.drops, fails.drops);
}

/* Read until a request has so many tokens. */
static void read_some(pg_engine *e, stream *s, int n)
{
    pg_event ev[4];
    while (s->n < n && !s->kind) {
        const int k = pg_poll(e, 1000, ev, 4, NULL);
        for (int i = 0; i < k; i++) take(s, 1, &ev[i]);
    }
}

/* A new version: who is in flight keeps the old one unless that is live. As default, as the request's own, and included. */
static void test_replace(int live, int how)
{
    pg_engine *e = open_model(path_of(0), 2);
    spy old = { 0 }, fresh = { 0 };
    pg_policy *v1 = spy_of(e, "p", live, &old), *v2 = spy_of(e, "p", live, &fresh), *list = NULL;
    stream s = { 0 }, t = { 0 };
    if (how == 2) {
        CHECK(pg_policy_new(e, "list", 1, 0, &list, NULL) == PG_OK && pg_policy_include(list, v1, NULL) == PG_OK,
              "include");
        CHECK(pg_engine_route(e, list, NULL) == PG_OK, "route");
    }
    if (how == 0) CHECK(pg_engine_route(e, v1, NULL) == PG_OK, "route");
    submit(e, how == 1 ? v1 : NULL, 150, NULL, &s.id);
    read_some(e, &s, 3);
    CHECK(pg_policy_replace(e, v1, v2, NULL) == PG_OK, "replace");
    CHECK(pg_policy_replace(e, v1, v2, NULL) == PG_EINVAL && pg_policy_replace(e, v2, v1, NULL) == PG_EINVAL, "twice");
    read_all(e, &s, 1);
    CHECK(s.n == 150, "%d tokens", s.n);
    if (live)
        CHECK(old.calls > 0 && fresh.calls > 0, "live, %d: old %d, new %d calls", how, old.calls, fresh.calls);
    else
        CHECK(fresh.calls == 0, "in flight, %d: the new version was called", how);
    const int before = fresh.calls;
    submit(e, how == 1 ? v2 : NULL, 4, NULL, &t.id);
    read_all(e, &t, 1);
    CHECK((fresh.calls > before) == (live || how != 2), "a new request, live %d, %d: %d calls more", live, how,
          fresh.calls - before);
    pg_policy_drop(v1);
    pg_policy_drop(v2);
    pg_policy_drop(list);
    pg_close(e);
    CHECK(old.drops == 1 && fresh.drops == 1, "drops: %d, %d", old.drops, fresh.drops);
}

/* ---- the other points ---------------------------------------------------------------------------------------------------- */

typedef struct guard {
    int32_t forced, stop_after;
    int broken, waits;
    char seen[64];
    pg_engine *e;
} guard;

static int on_logits(void *ud, const pg_logits_view *v, pg_error *err)
{
    const guard *g = ud;
    (void)err;
    for (int r = 0; r < v->rows; r++)
        for (int t = 0; t < v->n_vocab; t++)
            if (t != g->forced) v->scores[r][t] = g->broken ? NAN : -INFINITY;
    return 0;
}

static int on_token(void *ud, pg_token_view *v, pg_error *err)
{
    guard *g = ud;
    (void)err;
    v->stop = g->stop_after > 0 && v->n_new >= g->stop_after;
    return 0;
}

static int on_admit(void *ud, pg_admit_view *v, pg_error *err)
{
    guard *g = ud;
    (void)err;
    snprintf(g->seen, sizeof g->seen, "%s", v->tenant ? pg_tenant_name(g->e, v->tenant) : "");
    if (!strcmp(g->seen, "bad")) {
        v->verdict = -1;
        snprintf(v->why, sizeof v->why, "not today");
    } else if (!strcmp(g->seen, "slow") && g->waits > 0) {
        g->waits--;
        v->verdict = 0;
    }
    return 0;
}

/* Rows that a device multiplies as it does one: more go to its tensor cores, which round otherwise. */
enum { FEW = 16 };

static float logprob_of_first(pg_engine *e, pg_policy *p, int32_t *token, pg_logprob top[3])
{
    pg_request req;
    pg_event ev[8];
    int32_t ids[FEW], id;
    make_ids(e, ids, FEW, 8);
    pg_request_init(e, &req);
    req.prompt = ids;
    req.n_prompt = FEW;
    req.max_new = 1;
    req.temperature = 0;
    req.repeat_penalty = 1;
    req.logprobs = 3;
    req.policy = p;
    CHECK(pg_submit(e, &req, &id, NULL) == PG_OK, "submit");
    for (int k; (k = pg_poll(e, -1, ev, 8, NULL)) > 0;)
        for (int i = 0; i < k; i++)
            if (ev[i].kind == PG_EVENT_TEXT && ev[i].token >= 0) {
                memcpy(top, ev[i].logprobs, 3 * sizeof *top);
                *token = ev[i].token;
            }
    return top[0].logprob;
}

static void test_points(void)
{
    pg_engine *e = open_model(path_of(1), 2);
    guard g = { .forced = 123, .e = e, .stop_after = 5, .waits = 3 };
    const pg_hooks h = { .logits = on_logits, .token = on_token, .admit = on_admit, .ud = &g };
    pg_policy *p = NULL;
    pg_logprob plain[3], forced[3], broken[3];
    int32_t token, other, third;
    int32_t ids[FEW], V;
    const float *all;
    logprob_of_first(e, NULL, &token, plain);
    CHECK(pg_policy_new(e, "guard", 3, 0, &p, NULL) == PG_OK && pg_policy_hooks(p, &h, NULL) == PG_OK, "hooks");
    const float lp = logprob_of_first(e, p, &other, forced);
    make_ids(e, ids, FEW, 8);
    CHECK(pg_logits(e, ids, FEW, 0, FEW, &all, &V, NULL) == PG_OK, "logits");
    double sum = 0;
    for (int t = 0; t < V; t++) sum += exp((double)all[(FEW - 1) * V + t]);
    CHECK(token != 123 && other == 123 && fabs((double)lp - ((double)all[(FEW - 1) * V + 123] - log(sum))) < 1e-3,
          "token %d, ln p %g, unmodified %g", other, (double)lp, (double)all[(FEW - 1) * V + 123] - log(sum));
    CHECK(forced[1].token == plain[0].token && forced[1].logprob == plain[0].logprob, "the best others are unmodified");
    g.broken = 1;
    logprob_of_first(e, p, &third, broken);
    CHECK(third == token, "broken logits: token %d for %d", third, token);
    g.broken = 0;
    stream s[4] = { { 0 } };
    pg_engine_route(e, p, NULL);
    submit(e, NULL, 50, NULL, &s[0].id);
    submit(e, NULL, 50, "bad", &s[1].id);
    submit(e, NULL, 50, "slow", &s[2].id);
    submit(e, NULL, 50, "good", &s[3].id);
    read_all(e, s, 4);
    CHECK(s[0].n == 5 && s[0].kind == PG_EVENT_DONE && s[0].finish == PG_FINISH_STOP, "stop: %d tokens", s[0].n);
    CHECK(s[1].kind == PG_EVENT_FAIL && s[1].finish == PG_ECANCELLED && !strcmp(s[1].text, "not today"), "%s",
          s[1].text);
    CHECK(s[2].kind == PG_EVENT_DONE && s[2].n == 5 && g.waits == 0, "waits: %d left", g.waits);
    CHECK(s[3].kind == PG_EVENT_DONE && s[3].token[4] == 123, "the last one");
    CHECK(pg_tenant_name(e, 0) == NULL && pg_tenant_name(e, 4) == NULL && pg_tenant_name(e, 3) != NULL, "tenants");
    pg_policy_drop(p);
    pg_close(e);
}

int main(void)
{
    for (int i = 0; i < MODELS; i++) test_harm(i);
    for (int how = 0; how < 3; how++) {
        test_replace(0, how);
        test_replace(1, how);
    }
    test_points();
    return check_done("hooks");
}
