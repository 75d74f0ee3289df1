/* The engine from outside, through perigee.h alone: requests at once, ends of every kind, wrong arguments, slow readers,
 * forks, and the promise that a step allocates nothing. Runs on the bundled model. */
#include "check.h"

#include <math.h>
#include <perigee.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MODEL "examples/models/perigee-voices.q8_0.gguf"

/* ---- counting allocations ----------------------------------------------------------------------------------------- */

#if !defined(PG_SAN) && defined(__GLIBC__)
#define COUNTS 1
static atomic_int counting, n_alloc;
extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t m), *__libc_realloc(void *p, size_t n);
static void note(void)
{
    if (atomic_load(&counting)) atomic_fetch_add(&n_alloc, 1);
}
void *malloc(size_t n)
{
    note();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t m)
{
    note();
    return __libc_calloc(n, m);
}
void *realloc(void *p, size_t n)
{
    note();
    return __libc_realloc(p, n);
}
#endif

/* ---- helpers --------------------------------------------------------------------------------------------------------- */

typedef struct reply {
    char text[65536];
    int n_text, n_token, finish, kind, experts, seed;
    int32_t token[4096];
    float logprob[64];
    int n_logprob, n_top;
} reply;

static int encode(pg_engine *e, const char *text, int32_t *ids, int max)
{
    return pg_encode(pg_engine_tokenizer(e), text, strlen(text), 0, ids, max, NULL);
}

static pg_request story(pg_engine *e, int32_t *ids, int max_new)
{
    pg_request r;
    pg_request_init(e, &r);
    r.prompt = ids;
    r.n_prompt = encode(e, "Once upon a time", ids, 64);
    r.max_new = max_new;
    r.ignore_eos = r.has_seed = 1;
    r.seed_low = 11;
    return r;
}

static void add(reply *to, const pg_event *ev)
{
    if (ev->kind == PG_EVENT_TEXT) {
        memcpy(to->text + to->n_text, ev->text, (size_t)ev->n_text);
        to->n_text += ev->n_text;
        to->text[to->n_text] = 0;
        if (ev->token >= 0) to->token[to->n_token++] = ev->token;
        to->n_top = ev->n_logprobs;
        if (ev->n_logprobs && to->n_logprob < 64) to->logprob[to->n_logprob++] = ev->logprobs[0].logprob;
    } else {
        to->kind = ev->kind;
        to->finish = ev->finish;
        to->experts = ev->experts_used;
        to->seed = (int)ev->seed_low;
    }
}

/* Read until request `id` has ended; events of others are dropped. */
static void finish(pg_engine *e, int32_t id, reply *out)
{
    pg_event ev[16];
    memset(out, 0, sizeof *out);
    while (!out->kind) {
        const int n = pg_poll(e, CHECK_WAIT_MS, ev, 16, NULL);
        if (n <= 0) break;
        for (int i = 0; i < n; i++)
            if (ev[i].id == id) add(out, &ev[i]);
    }
}

static void run(pg_engine *e, const pg_request *r, reply *out)
{
    pg_error err = { 0 };
    int32_t id = 0;
    CHECK(pg_submit(e, r, &id, &err) == PG_OK, "%s", err.text);
    finish(e, id, out);
}

/* ---- the tests -------------------------------------------------------------------------------------------------------- */

static void test_ends(pg_engine *e)
{
    static reply a, b;
    int32_t ids[64];
    pg_request r = story(e, ids, 40);
    run(e, &r, &a);
    CHECK(a.kind == PG_EVENT_DONE && a.finish == PG_FINISH_LENGTH && a.n_token == 40, "%d tokens, finish %d", a.n_token,
          a.finish);
    CHECK(a.experts > 0 && a.seed == 11, "experts %d, seed %d", a.experts, a.seed);
    run(e, &r, &b);
    CHECK(b.n_token == 40 && !memcmp(a.token, b.token, 40 * sizeof *a.token), "a seed repeats");
    /* a stop string that spans tokens: four bytes out of the middle of what came before */
    char stop[9];
    memcpy(stop, a.text + a.n_text / 2, 8);
    stop[8] = 0;
    const char *stops[] = { "never to be seen", stop };
    r.stop = stops;
    r.n_stop = 2;
    run(e, &r, &b);
    const char *at = strstr(a.text, stop);
    CHECK(b.finish == PG_FINISH_STOP && b.n_text == (int)(at - a.text) && !memcmp(a.text, b.text, (size_t)b.n_text),
          "stop \"%s\": got \"%s\" of \"%s\"", stop, b.text, a.text);
    r.n_stop = 0;
    r.logprobs = 3;
    run(e, &r, &b);
    CHECK(b.n_top == 3 && b.n_logprob == 40 && b.logprob[0] < 0 && b.logprob[0] > -30, "logprobs: %d, %g", b.n_top,
          (double)b.logprob[0]);
    r.logprobs = 0;
    pg_bias ban = { a.token[0], -INFINITY };
    r.bias = &ban;
    r.n_bias = 1;
    run(e, &r, &b);
    CHECK(b.token[0] != a.token[0], "a banned token came");
}

static void test_cancel_and_deadline(pg_engine *e)
{
    static reply a;
    int32_t ids[64], id = 0;
    pg_request r = story(e, ids, 0);
    CHECK(pg_submit(e, &r, &id, NULL) == PG_OK, "submit");
    CHECK(pg_cancel(e, id, NULL) == PG_OK && pg_cancel(e, 123456, NULL) == PG_OK, "cancel, and of an unknown id");
    finish(e, id, &a);
    CHECK(a.finish == PG_FINISH_CANCELLED, "finish %d", a.finish);
    r.deadline_ms = 15;
    run(e, &r, &a);
    CHECK(a.finish == PG_FINISH_DEADLINE || a.n_token >= 500, "finish %d after %d tokens", a.finish, a.n_token);
}

/* The context is full: the request ends, and the one that would not fit is refused with advice. */
static void test_limits(pg_engine *e, pg_engine *small)
{
    static reply a;
    static int32_t ids[4096];
    pg_error err = { 0 };
    int32_t id;
    pg_info info;
    pg_engine_info(small, &info, NULL);
    pg_request r = story(small, ids, 0);
    run(small, &r, &a);
    CHECK(a.finish == PG_FINISH_LENGTH && a.n_token + r.n_prompt == info.context, "%d + %d tokens of %d", a.n_token,
          r.n_prompt, info.context);
    for (int i = 0; i < info.context; i++) ids[i] = 5;
    r.n_prompt = info.context;
    CHECK(pg_submit(small, &r, &id, &err) == PG_ELIMIT && strstr(err.text, "larger context"), "%s", err.text);
    r.n_prompt = 0;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL && strstr(err.text, "prompt is empty"), "%s", err.text);
    r.n_prompt = 3;
    ids[2] = 1 << 20;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL && strstr(err.text, "prompt token 2"), "%s", err.text);
    ids[2] = -1;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL, "%s", err.text);
    ids[2] = 5;
    r.temperature = NAN;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL, "%s", err.text);
    r.temperature = 0;
    r.max_new = -4;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL && strstr(err.text, "max_new"), "%s", err.text);
    r.max_new = 4;
    const char *stops[17] = { "" };
    r.stop = stops;
    r.n_stop = 1;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL && strstr(err.text, "stop string 1"), "%s", err.text);
    r.n_stop = 17;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL && strstr(err.text, "stop strings"), "%s", err.text);
    r.n_stop = 0;
    pg_bias wrong = { 1 << 24, 1 };
    r.bias = &wrong;
    r.n_bias = 1;
    CHECK(pg_submit(e, &r, &id, &err) == PG_EINVAL && strstr(err.text, "logit bias"), "%s", err.text);
    r.n_bias = 0;
    run(e, &r, &a);
    CHECK(a.n_token == 4, "the engine still serves: %d tokens", a.n_token);
}

static void test_looking(pg_engine *e)
{
    static float logprobs[64];
    const float *logits;
    pg_error err = { 0 };
    int32_t ids[64], V, n = encode(e, "The wolf went to the wood.", ids, 64);
    CHECK(pg_score(e, ids, n, logprobs, &err) >= 0, "%s", err.text);
    CHECK(pg_logits(e, ids, n, 0, n, &logits, &V, &err) >= 0 && V == 8192, "%s", err.text);
    for (int i = 0; i + 1 < n; i++) {
        double top = -INFINITY, sum = 0;
        for (int v = 0; v < V; v++)
            if (logits[i * V + v] > top) top = logits[i * V + v];
        for (int v = 0; v < V; v++) sum += exp(logits[i * V + v] - top);
        const double want = logits[i * V + ids[i + 1]] - top - log(sum);
        CHECK(fabs(want - logprobs[i]) < 1e-5, "score %d: %g, from the logits %g", i, (double)logprobs[i], want);
    }
    CHECK(pg_score(e, ids, 1, logprobs, &err) == PG_EINVAL, "a score of one token");
    CHECK(pg_logits(e, ids, 0, 0, 0, &logits, &V, &err) == PG_EINVAL, "logits of nothing");
    ids[0] = -7;
    CHECK(pg_logits(e, ids, n, 0, 0, &logits, &V, &err) == PG_EINVAL && strstr(err.text, "token 0"), "%s", err.text);
}

/* Many at once, read through the file descriptor alone; everyone is served, the queue's end is told. */
static void test_many(pg_engine *small)
{
    enum { MANY = 24 };
    int32_t ids[64], id, got[MANY + 1] = { 0 };
    pg_error err = { 0 };
    pg_request r = story(small, ids, 20);
    int sent = 0, rc = PG_OK, done = 0;
    while (sent < MANY && rc == PG_OK) {
        r.seed_low = (uint32_t)sent;
        rc = pg_submit(small, &r, &id, &err);
        sent += rc == PG_OK;
    }
    CHECK(rc == PG_EFULL && sent == 16 && strstr(err.text, "poll"), "queue of 16: %d sent, %s", sent, err.text);
    while (done < sent) {
        struct pollfd fd = { .fd = pg_fd(small), .events = POLLIN };
        if (poll(&fd, 1, CHECK_WAIT_MS) <= 0) break;
        pg_event ev[7];
        const int n = pg_poll(small, 0, ev, 7, NULL);
        for (int i = 0; i < n; i++) {
            if (ev[i].kind == PG_EVENT_TEXT && ev[i].token >= 0) got[(ev[i].id - id + sent - 1 + MANY) % MANY]++;
            done += ev[i].kind == PG_EVENT_DONE;
        }
    }
    CHECK(done == sent, "%d of %d ended", done, sent);
    for (int i = 0; i < sent; i++) CHECK(got[i] == 20, "request %d got %d tokens", i, got[i]);
    pg_event ev;
    struct pollfd fd = { .fd = pg_fd(small), .events = POLLIN };
    CHECK(pg_poll(small, 0, &ev, 1, NULL) == 0 && poll(&fd, 1, 0) == 0, "readable with nothing to read");
}

/* Whoever does not read waits, alone: 256 events fill a ring, then that request stands still and others go on. */
static void test_slow_reader(pg_engine *e)
{
    static reply a;
    int32_t ids[64], slow, fast;
    pg_event ev;
    pg_stats s;
    int n = 0, more = 0;
    pg_engine_stats(e, &s, NULL);
    const int before = (int)s.steps;
    pg_request r = story(e, ids, 450);
    CHECK(pg_submit(e, &r, &slow, NULL) == PG_OK, "submit");
    do { /* nothing is read until the engine has come to rest */
        struct timespec t = { 0, 100000000 };
        nanosleep(&t, NULL);
        pg_engine_stats(e, &s, NULL);
        more = (int)s.steps != n || n == before;
        n = (int)s.steps;
    } while (more);
    CHECK(s.running == 1, "the slow request is still there");
    r.max_new = 5;
    CHECK(pg_submit(e, &r, &fast, NULL) == PG_OK, "submit");
    n = 0;
    int fast_done = 0, tokens = 0;
    while (pg_poll(e, CHECK_WAIT_MS, &ev, 1, NULL) == 1 && !(n && fast_done)) {
        tokens += ev.id == slow && ev.kind == PG_EVENT_TEXT && ev.token >= 0;
        fast_done |= ev.id == fast && ev.kind == PG_EVENT_DONE;
        n |= ev.id == slow && ev.kind == PG_EVENT_DONE;
        if (n && fast_done) break;
    }
    CHECK(tokens == 450 && fast_done, "%d of 450 tokens, other %d", tokens, fast_done);
    run(e, &r, &a);
    CHECK(a.n_token == 5, "and the next is served");
}

static void test_allocations(pg_engine *e)
{
#ifdef COUNTS
    int32_t ids[64], id;
    pg_event ev[8];
    int tokens = 0, kept = 0, rewinds = 0;
    pg_request r = story(e, ids, 300);
    const char *stops[] = { "zzzz" };
    r.lead = 32;
    r.stop = stops;
    r.n_stop = 1;
    r.logprobs = 4;
    r.repeat_penalty = 1.1f;
    r.typical_p = 0.95f;
    CHECK(pg_submit(e, &r, &id, NULL) == PG_OK, "submit");
    for (int over = 0; !over;) {
        const int n = pg_poll(e, CHECK_WAIT_MS, ev, 8, NULL);
        for (int i = 0; i < n; i++) tokens += ev[i].kind == PG_EVENT_TEXT, over |= ev[i].kind != PG_EVENT_TEXT;
        for (int i = 0; i < n; i++) kept += ev[i].kind == PG_EVENT_TEXT && ev[i].attempt == rewinds;
        if (n <= 0) break;
        if (kept > 100 && rewinds < 3) rewinds += pg_rewind(e, id, kept -= 20, ev[0].token, NULL) == PG_OK;
        pg_acknowledge(e, id, kept);
        if (tokens >= 20) atomic_store(&counting, tokens < 250);
    }
    atomic_store(&counting, 0);
    CHECK(kept == 300 && rewinds == 3, "%d tokens, %d rewinds", kept, rewinds);
    CHECK(atomic_load(&n_alloc) == 0, "%d allocations in steady decode steps", atomic_load(&n_alloc));
    atomic_store(&counting, 1);
    void *volatile probe = malloc(10); /* volatile: else clang leaves out a malloc that nobody looks at */
    free(probe);
    atomic_store(&counting, 0);
    CHECK(atomic_load(&n_alloc) == 1, "the counter counts");
#else
    (void)e;
    printf("engine: allocations are not counted in this build (a sanitizer owns malloc)\n");
#endif
}

static void test_fork(pg_engine *e)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        pg_error err = { 0 };
        pg_event ev;
        int32_t ids[] = { 1, 5 }, id;
        float lp[1];
        pg_request r;
        pg_info info;
        pg_request_init(e, &r);
        r.prompt = ids;
        r.n_prompt = 2;
        const int bad = pg_submit(e, &r, &id, &err) != PG_EINVAL || !strstr(err.text, "fork") ||
                        pg_poll(e, 0, &ev, 1, NULL) != PG_EINVAL || pg_score(e, ids, 2, lp, NULL) != PG_EINVAL ||
                        pg_engine_info(e, &info, NULL) != PG_EINVAL;
        pg_close(e);
        _exit(bad);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: %d", status);
}

static void *close_it(void *e)
{
    pg_close(e);
    return NULL;
}

static void test_close_in_flight(void)
{
    pg_engine *e = NULL;
    int32_t ids[64], id;
    CHECK(pg_open(MODEL, NULL, &e, NULL) == PG_OK, "open");
    pg_request r = story(e, ids, 0);
    for (int i = 0; i < 5; i++) CHECK(pg_submit(e, &r, &id, NULL) == PG_OK, "submit");
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, close_it, e) && !pthread_join(t, NULL), "closed by another thread");
    pg_close(NULL);
}

static void refuse(const char *path, const pg_options *o, int code, const char *word)
{
    pg_error err = { 0 };
    pg_engine *e = NULL;
    const int rc = pg_open(path, o, &e, &err);
    CHECK(rc == code && err.code == code && !e && strstr(err.text, word), "%s: %d \"%s\", expected %d with \"%s\"",
          path, rc, err.text, code, word);
}

static void test_open(void)
{
    pg_options o;
    pg_info info;
    pg_error err = { 0 };
    pg_opening *p;
    pg_engine *e;
    double done, total;
    refuse("no/such/file.gguf", NULL, PG_ENOTFOUND, "no/such/file.gguf");
    refuse("Makefile", NULL, PG_EFORMAT, "Makefile");
    refuse("tests", NULL, PG_ENOTFOUND, "tests");
    pg_options_init(&o);
    o.device = "cuda:0";
    refuse(MODEL, &o, PG_EDEVICE, "cuda");
    o.device = "tpu";
    refuse(MODEL, &o, PG_EINVAL, "tpu");
    pg_options_init(&o);
    o.kv_type = "q4_0";
    refuse(MODEL, &o, PG_EINVAL, "kv_type");
    pg_options_init(&o);
    o.precision = "f64";
    refuse(MODEL, &o, PG_EINVAL, "precision");
    pg_options_init(&o);
    o.threads = -1;
    refuse(MODEL, &o, PG_EINVAL, "threads");
    pg_options_init(&o);
    o.kv_tokens = 1 << 28;
    refuse(MODEL, &o, PG_EMEMORY, "kv_tokens");
    CHECK(pg_describe(MODEL, &info, &err) == PG_OK && info.n_expert == 16 && !strcmp(info.architecture, "deepseek2"),
          "%s", err.text);
    pg_options_init(&o);
    o.context = 600;
    CHECK(pg_open(MODEL, &o, &e, &err) == PG_OK && pg_engine_info(e, &info, NULL) == PG_OK && strstr(info.note, "600"),
          "a context beyond the model's own is noted: %s", info.note);
    pg_close(e);
    CHECK(pg_describe("no/such", &info, &err) == PG_ENOTFOUND, "%s", err.text);
    CHECK(pg_open_begin(MODEL, NULL, &p, &err) == PG_OK, "%s", err.text);
    while (!pg_open_poll(p, 1000, &done, &total, &err)) continue;
    CHECK(pg_open_poll(p, 0, &done, &total, &err) == 1 && done == total && total > 1e7, "%g of %g bytes", done, total);
    CHECK(pg_open_finish(p, &e, &err) == PG_OK && e, "%s", err.text);
    pg_close(e);
    CHECK(pg_open_begin(MODEL, NULL, &p, &err) == PG_OK, "%s", err.text);
    pg_open_cancel(p);
}

/* Every cache format, without mmap, locked, odd step sizes: close to the f32 cache, and the text goes on. */
static void test_settings(void)
{
    static const char *const kv[] = { "f32", "f16", "bf16", "q8_0" };
    static const double limit[] = { 0, 2e-3, 2e-2, 3e-2 };
    int32_t ids[64], n = 0, V;
    float *want = NULL;
    for (int i = 0; i < 4; i++) {
        pg_options o;
        pg_error err = { 0 };
        pg_engine *e = NULL;
        const float *got;
        pg_options_init(&o);
        o.kv_type = kv[i];
        o.use_mmap = i % 2;
        o.use_mlock = i == 1;
        o.batch = i == 2 ? 3 : 0;
        CHECK(pg_open(MODEL, &o, &e, &err) == PG_OK, "%s: %s", kv[i], err.text);
        if (!e) continue;
        n = encode(e, "The king had three sons, and the youngest was called Jack.", ids, 64);
        CHECK(pg_logits(e, ids, n, 0, n, &got, &V, &err) >= 0, "%s", err.text);
        if (!want) {
            want = malloc((size_t)n * (size_t)V * sizeof(float));
            memcpy(want, got, (size_t)n * (size_t)V * sizeof(float));
        }
        double worst = 0;
        for (int j = 0; j < n * V; j++) {
            const double d = fabs((double)want[j] - got[j]) / fmax(1, fabs((double)want[j]));
            if (d > worst) worst = d;
        }
        CHECK(i ? worst > 0 && worst < 100 * limit[i] : worst == 0, "%s: worst difference %g", kv[i], worst);
        pg_close(e);
    }
    free(want);
}

int main(void)
{
    pg_options o;
    pg_error err = { 0 };
    pg_engine *e = NULL, *small = NULL;
    CHECK(!strncmp(pg_version(), "0.1.", 4) && !strcmp(pg_code_name(PG_ELIMIT), "limit"), "%s", pg_version());
    CHECK(pg_open(MODEL, NULL, &e, &err) == PG_OK, "%s", err.text);
    pg_options_init(&o);
    o.context = 80;
    o.kv_tokens = 200; /* room for two and a half: others wait */
    o.queue = 16;
    o.threads = 2;
    CHECK(pg_open(MODEL, &o, &small, &err) == PG_OK, "%s", err.text);
    if (e && small) {
        test_ends(e);
        test_cancel_and_deadline(e);
        test_limits(e, small);
        test_looking(e);
        test_many(small);
        test_slow_reader(e);
        test_allocations(e);
        test_fork(e);
    }
    pg_close(e);
    pg_close(small);
    test_close_in_flight();
    test_open();
    test_settings();
    return check_done("engine");
}
