/* What the tests of policies share: small models, logits and tokens under a policy. */
#ifndef PG_POLICY_TEST_H
#define PG_POLICY_TEST_H

#include "model_edit.h"

enum { N = 48, NEW = 12 };

static const char *const models[] = { "deepseek2_sigmoid", "deepseek2_softmax", "gpt_oss_small", "qwen3moe_small" };
enum { MODELS = sizeof models / sizeof *models };

static inline const char *path_of(int i)
{
    static char path[200];
    snprintf(path, sizeof path, "tests/golden/models/%s/model.gguf", models[i]);
    return path;
}

static inline pg_engine *open_model(const char *path, int threads)
{
    pg_error err = { 0 };
    pg_engine *e = golden_open(path, "auto", threads, &err);
    if (!e) fprintf(stderr, "%s: %s\n", path, err.text), exit(1);
    return e;
}

static inline void make_ids(pg_engine *e, int32_t *ids, int n, unsigned long long seed)
{
    pg_info info;
    pg_engine_info(e, &info, NULL);
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(check_rand(&seed) % (unsigned)info.n_vocab);
}

typedef struct logits {
    float *x;
    size_t n;
} logits;

static inline logits compute(pg_engine *e, int chunk)
{
    int32_t ids[N], V = 0;
    const float *got = NULL;
    pg_error err = { 0 };
    make_ids(e, ids, N, 5);
    CHECK(pg_logits(e, ids, N, chunk, N / 2, &got, &V, &err) == PG_OK, "logits: %s", err.text);
    logits l = { malloc((size_t)N * (size_t)V * sizeof(float)), (size_t)N * (size_t)V };
    memcpy(l.x, got, l.n * sizeof(float));
    return l;
}

static inline int same(logits a, logits b)
{
    return a.n == b.n && !memcmp(a.x, b.x, a.n * sizeof(float));
}

static inline pg_policy *knobs_of(pg_engine *e, const char *name, int live, const pg_knobs *k, int n)
{
    pg_policy *p = NULL;
    pg_error err = { 0 };
    CHECK(pg_policy_new(e, name, 1, live, &p, &err) == PG_OK && pg_policy_knobs(p, k, n, &err) >= 0, "%s: %s", name,
          err.text);
    return p;
}

static inline void route(pg_engine *e, pg_policy *p)
{
    pg_error err = { 0 };
    CHECK(pg_engine_route(e, p, &err) == PG_OK, "route: %s", err.text);
    pg_policy_drop(p);
}

static inline logits compute_with(pg_engine *e, const pg_knobs *k, int n)
{
    route(e, knobs_of(e, "knobs", 0, k, n));
    return compute(e, 0);
}

static inline int submit(pg_engine *e, pg_policy *p, int max_new, const char *tenant, int32_t *id)
{
    pg_request req;
    pg_error err = { 0 };
    int32_t ids[20];
    make_ids(e, ids, 20, 8);
    pg_request_init(e, &req);
    req.prompt = ids;
    req.n_prompt = 20;
    req.max_new = max_new;
    req.temperature = 0;
    req.repeat_penalty = 1;
    req.ignore_eos = 1;
    req.policy = p;
    req.tenant = tenant;
    CHECK(pg_submit(e, &req, id, &err) == PG_OK, "submit: %s", err.text);
    return *id;
}

typedef struct stream {
    int32_t id, n, finish, kind, token[256];
    char text[200];
} stream;

static inline void take(stream *s, int n_stream, const pg_event *ev)
{
    for (int i = 0; i < n_stream; i++) {
        if (s[i].id != ev->id) continue;
        if (ev->kind == PG_EVENT_TEXT && ev->token >= 0 && s[i].n < 256) s[i].token[s[i].n++] = ev->token;
        if (ev->kind == PG_EVENT_TEXT) continue;
        s[i].kind = ev->kind;
        s[i].finish = ev->finish;
        if (ev->kind == PG_EVENT_FAIL) snprintf(s[i].text, sizeof s[i].text, "%.*s", ev->n_text, ev->text);
    }
}

static inline void read_all(pg_engine *e, stream *s, int n_stream)
{
    pg_event ev[64];
    for (int k; (k = pg_poll(e, -1, ev, 64, NULL)) > 0;)
        for (int i = 0; i < k; i++) take(s, n_stream, &ev[i]);
}

#endif
