/* Prompts that begin alike share what was computed of them: engines with the cache against engines without: the same
 * bits for every family, under load, and with a pool that is much too small. The tables alone: seq.c. */
#include "golden.h"

#define MODEL "examples/models/perigee-voices.q8_0.gguf"

/* ---- engines ----------------------------------------------------------------------------------------------------- */

enum { NEW = 6, TOP = 4, MOST = 200 };

typedef struct answer {
    int32_t token[NEW], n, cached;
    pg_logprob top[NEW][TOP];
    int32_t id, kind;
} answer;

static pg_engine *open_engine(const char *path, int cache, int kv_tokens, int context)
{
    pg_options o;
    pg_engine *e = NULL;
    pg_error err = { 0 };
    pg_options_init(&o);
    o.threads = 2;
    o.kv_tokens = kv_tokens;
    o.context = context;
    o.batch = 128;
    o.prefix_cache = cache;
    CHECK(pg_open(path, &o, &e, &err) == PG_OK, "%s: %s", path, err.text);
    return e;
}

static pg_request request_for(pg_engine *e, const int32_t *ids, int n)
{
    pg_request q;
    pg_request_init(e, &q);
    q.prompt = ids;
    q.n_prompt = n;
    q.max_new = NEW;
    q.logprobs = TOP;
    q.ignore_eos = q.has_seed = 1;
    q.seed_low = (uint32_t)n;
    return q;
}

static void take(answer *a, const pg_event *ev)
{
    if (ev->kind == PG_EVENT_TEXT && ev->token >= 0 && a->n < NEW) {
        memcpy(a->top[a->n], ev->logprobs, sizeof a->top[0]);
        a->token[a->n++] = ev->token;
    } else if (ev->kind != PG_EVENT_TEXT) {
        a->kind = ev->kind;
        a->cached = ev->n_cached;
    }
}

static answer ask(pg_engine *e, const pg_request *q)
{
    answer a = { 0 };
    pg_event ev[16];
    pg_error err = { 0 };
    CHECK(pg_submit(e, q, &a.id, &err) == PG_OK, "%s", err.text);
    while (!a.kind) {
        const int n = pg_poll(e, CHECK_WAIT_MS, ev, 16, NULL);
        if (n <= 0) break;
        for (int i = 0; i < n; i++)
            if (ev[i].id == a.id) take(&a, &ev[i]);
    }
    return a;
}

static int same(const answer *a, const answer *b)
{
    return a->kind == PG_EVENT_DONE && b->kind == PG_EVENT_DONE && a->n == b->n && a->n == NEW &&
           !memcmp(a->token, b->token, sizeof a->token) && !memcmp(a->top, b->top, sizeof a->top);
}

static void random_ids(int32_t *ids, int n, int vocab, unsigned long long seed)
{
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(check_rand(&seed) % (unsigned)vocab);
}

/* The same bits with and without: prompts that are known as a whole, for the most part, or not at all. */
static void check_model(const char *path)
{
    static const struct {
        int n, same, chunk, cached;
    } cases[] = { { 100, 0, 0, 0 },   { 100, 100, 0, 96 }, { 97, 97, 0, 96 },   { 96, 96, 5, 64 },
                  { 33, 33, 1, 32 },  { 32, 32, 0, 0 },    { 120, 70, 7, 64 },  { 120, 120, 0, 96 },
                  { 130, 99, 0, 96 }, { 131, 130, 0, 96 }, { 132, 132, 0, 128 } };
    pg_engine *with = open_engine(path, 1, 2048, 512), *without = open_engine(path, 0, 2048, 512);
    pg_info info;
    int32_t ids[MOST], other[MOST];
    if (with && without && pg_engine_info(with, &info, NULL) == PG_OK) {
        random_ids(ids, MOST, info.n_vocab, 3);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            random_ids(other, MOST, info.n_vocab, 1000);
            memcpy(other, ids, (size_t)cases[i].same * sizeof *ids);
            pg_request q = request_for(with, cases[i].same ? other : ids, cases[i].n);
            q.chunk = cases[i].chunk;
            const answer a = ask(with, &q), b = ask(without, &q);
            CHECK(same(&a, &b), "%s: case %zu: other bits", path, i);
            CHECK(a.cached == cases[i].cached && b.cached == 0, "%s: case %zu: %d cached, not %d", path, i, a.cached,
                  cases[i].cached);
        }
    }
    pg_close(with);
    pg_close(without);
}

static void check_folder(const char *models)
{
    char path[1200];
    DIR *d = opendir(models);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.' || !strcmp(f->d_name, "deepseek_v32") || !strcmp(f->d_name, "deepseek_v4")) continue;
        snprintf(path, sizeof path, "%s/%s/model.gguf", models, f->d_name);
        if (golden_exists(path)) check_model(path);
    }
    if (d) closedir(d);
}

static void test_salts(void)
{
    pg_engine *e = open_engine(MODEL, 1, 2048, 512);
    static char longer[1100];
    int32_t ids[100], id;
    pg_error err = { 0 };
    pg_stats s;
    if (!e) return;
    random_ids(ids, 100, 8192, 8);
    static const char *const salts[] = { NULL, "", "one", "two", "one", NULL, "on", "two" };
    static const int want[] = { 0, 0, 0, 0, 96, 96, 0, 96 };
    for (int i = 0; i < 8; i++) {
        pg_request q = request_for(e, ids, 100);
        q.cache_salt = salts[i];
        const answer a = ask(e, &q);
        CHECK(a.cached == want[i], "salt %d: %d cached, not %d", i, a.cached, want[i]);
    }
    memset(longer, 'x', sizeof longer - 1);
    pg_request q = request_for(e, ids, 100);
    q.cache_salt = longer;
    CHECK(pg_submit(e, &q, &id, &err) == PG_EINVAL && strstr(err.text, "cache_salt"), "%s", err.text);
    do {
        pg_event ev;
        pg_poll(e, 10, &ev, 1, NULL);
        pg_engine_stats(e, &s, NULL);
    } while (s.running || s.kv_pages_used);
    CHECK(s.kv_pages_cached == 15 && s.cached_tokens == 288 && s.prompt_tokens == 8 * 100 - 288,
          "%d pages, %g tokens cached, %g computed", s.kv_pages_cached, s.cached_tokens, s.prompt_tokens);
    pg_close(e);
}

/* Many that begin alike at once: what they share is computed by one of them, the others wait for it. */
static void test_together(void)
{
    enum { MANY = 6 };
    pg_engine *e = open_engine(MODEL, 1, 4096, 512), *without = open_engine(MODEL, 0, 4096, 512);
    static answer all[MANY];
    int32_t ids[MANY][150];
    pg_stats s;
    if (!e || !without) return;
    for (int i = 0; i < MANY; i++) {
        random_ids(ids[i], 150, 8192, 70 + (unsigned long long)i);
        random_ids(ids[i], i == 4 ? 70 : 140, 8192, 7);
    }
    memset(all, 0, sizeof all);
    for (int i = 0; i < MANY; i++) {
        pg_request q = request_for(e, ids[i], 150);
        q.chunk = i == 3 ? 16 : 0;
        CHECK(pg_submit(e, &q, &all[i].id, NULL) == PG_OK, "submit");
    }
    for (int done = 0; done < MANY;) {
        pg_event ev[16];
        const int n = pg_poll(e, CHECK_WAIT_MS, ev, 16, NULL);
        if (n <= 0) break;
        for (int i = 0; i < n; i++) {
            take(&all[ev[i].id - all[0].id], &ev[i]);
            done += ev[i].kind != PG_EVENT_TEXT;
        }
    }
    for (int i = 0; i < MANY; i++) {
        const pg_request q = request_for(without, ids[i], 150);
        const answer want = ask(without, &q);
        CHECK(same(&all[i], &want) && all[i].cached == (i == 0   ? 0
                                                        : i == 4 ? 64
                                                                 : 128),
              "request %d: %d cached", i, all[i].cached);
    }
    CHECK(pg_engine_stats(e, &s, NULL) == PG_OK && s.prompt_tokens == 150 + 4 * 22 + 86, "%g tokens computed",
          s.prompt_tokens);
    pg_close(e);
    pg_close(without);
}

/* ---- load -------------------------------------------------------------------------------------------------------- */

enum { CROWD = 60, AT_ONCE = 10 };

typedef struct load {
    int32_t ids[MOST], n;
    int chunk, priority, lead;
    answer want, got;
    int attempt;
} load;

/* Prompts out of a small tree: half of them begin like another one. */
static void make_load(load *all, unsigned long long *rng)
{
    for (int i = 0; i < CROWD; i++) {
        random_ids(all[i].ids, MOST, 8192, 50 + (unsigned long long)i);
        if (i && check_rand(rng) % 4) {
            const load *like = &all[check_rand(rng) % (unsigned)i];
            memcpy(all[i].ids, like->ids, (size_t)(check_rand(rng) % MOST) * sizeof *like->ids);
        }
        all[i].n = 1 + (int)(check_rand(rng) % (MOST - 1));
        if (check_rand(rng) % 3 == 0) all[i].n = (all[i].n + 31) / 32 * 32 > MOST ? 192 : (all[i].n + 31) / 32 * 32;
        all[i].chunk = check_rand(rng) % 2 ? 0 : 1 + (int)(check_rand(rng) % 50);
        all[i].priority = (int)(check_rand(rng) % 2);
        all[i].lead = check_rand(rng) % 2 ? 3 : 0;
    }
}

static pg_request request_of(pg_engine *e, const load *l)
{
    pg_request q = request_for(e, l->ids, l->n);
    q.temperature = 0;
    q.chunk = l->chunk;
    q.priority = l->priority;
    q.lead = l->lead;
    return q;
}

/* One event of a request with a lead: now and then it is taken back as a whole, so that its last prompt token is
 * computed again beside others that share its pages. */
static void react(pg_engine *e, load *l, const pg_event *ev, unsigned long long *rng)
{
    if (ev->kind == PG_EVENT_TEXT && ev->attempt != l->attempt) return;
    take(&l->got, ev);
    if (!l->lead || l->got.kind) return;
    if (l->attempt < 3 && check_rand(rng) % 3 == 0 && pg_rewind(e, l->got.id, 0, -1, NULL) == PG_OK) {
        l->attempt++;
        l->got.n = 0;
    }
    pg_acknowledge(e, l->got.id, l->got.n);
}

static void run_load(pg_engine *e, load *all, unsigned long long *rng, int cancel)
{
    int sent = 0, done = 0, live = 0;
    while (done < CROWD) {
        while (sent < CROWD && live < AT_ONCE) {
            load *l = &all[sent++];
            const pg_request q = request_of(e, l);
            memset(&l->got, 0, sizeof l->got);
            l->attempt = 0;
            CHECK(pg_submit(e, &q, &l->got.id, NULL) == PG_OK, "submit");
            if (cancel && check_rand(rng) % 4 == 0) pg_cancel(e, l->got.id, NULL);
            live++;
        }
        pg_event ev[16];
        const int n = pg_poll(e, CHECK_WAIT_MS, ev, 16, NULL);
        CHECK(n > 0, "stuck: %d of %d ended", done, CROWD);
        if (n <= 0) return;
        for (int i = 0; i < n; i++)
            for (int k = 0; k < sent; k++) {
                if (all[k].got.id != ev[i].id) continue;
                react(e, &all[k], &ev[i], rng);
                if (ev[i].kind != PG_EVENT_TEXT) done++, live--;
            }
    }
}

static void test_load(int kv_tokens)
{
    static load all[CROWD];
    pg_engine *with = open_engine(MODEL, 1, kv_tokens, 256), *without = open_engine(MODEL, 0, 8192, 256);
    unsigned long long rng = 9;
    pg_stats s = { 0 };
    if (!with || !without) return;
    make_load(all, &rng);
    for (int i = 0; i < CROWD; i++) {
        pg_request q = request_of(without, &all[i]);
        q.lead = 0;
        all[i].want = ask(without, &q);
    }
    run_load(with, all, &rng, 1);
    for (int round = 0; round < 2; round++) {
        run_load(with, all, &rng, 0);
        for (int i = 0; i < CROWD; i++)
            CHECK(same(&all[i].got, &all[i].want), "pool of %d, request %d of %d tokens: other bits with %d cached",
                  kv_tokens, i, all[i].n, all[i].got.cached);
    }
    int32_t ids[250];
    random_ids(ids, 250, 8192, 12345);
    pg_request whole = request_for(with, ids, 250); /* takes a small pool as a whole */
    const answer a = ask(with, &whole), b = ask(without, &whole);
    CHECK(same(&a, &b), "the longest prompt after all that");
    do {
        pg_event ev;
        pg_poll(with, 10, &ev, 1, NULL);
        pg_engine_stats(with, &s, NULL);
    } while (s.running || s.kv_pages_used);
    CHECK(s.waiting == 0 && s.kv_pages_cached > 0 && s.kv_pages_cached <= s.kv_pages && s.cached_tokens > 0,
          "%d pages of %d cached, %g tokens", s.kv_pages_cached, s.kv_pages, s.cached_tokens);
    pg_close(with);
    pg_close(without);
}

int main(void)
{
    test_salts();
    test_together();
    test_load(256);
    test_load(8192);
    golden_check_folders(check_folder);
    return check_done("prefix");
}
