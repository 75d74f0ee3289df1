/* seen: counters of experts and traces of them: each held to the other and to what must be (rows times experts a token),
 * whatever the threads, the chunks and the neighbours; readers at any moment; what is refused; disks that are full. */
#include "golden.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODEL "tests/golden/models/qwen3moe_small/model.gguf"
#define DENSE_FIRST "tests/golden/models/deepseek2_sigmoid/model.gguf"

enum { N = 40, MOST = 4096 };

static char path[] = "/tmp/perigee-trace-XXXXXX";

static pg_engine *open_engine(const char *model, int threads, int rows, pg_info *info)
{
    pg_options o;
    pg_engine *e = NULL;
    pg_error err = { 0 };
    pg_options_init(&o);
    o.threads = threads;
    o.kv_tokens = 4096;
    o.batch = rows;
    CHECK(pg_open(model, &o, &e, &err) == PG_OK, "%s: %s", model, err.text);
    CHECK(pg_engine_info(e, info, &err) == PG_OK, "%s", err.text);
    return e;
}

static void make_ids(int32_t *ids, int n, int vocab, unsigned long long seed)
{
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(check_rand(&seed) % (unsigned)vocab);
}

static double sum_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* ---- an independent reader of the file ------------------------------------------------------------------------------ */

typedef struct parsed {
    uint32_t layers, experts, used, most, every, closed;
    uint64_t records, lost;
    double count[2][MOST];
    double tokens[2];
    int sorted, sums; /* every layer's weights descend; and sum up to 1 */
    int32_t last_position;
} parsed;

static uint32_t le(const unsigned char *at, int n)
{
    uint32_t x = 0;
    for (int i = n - 1; i >= 0; i--) x = x << 8 | at[i];
    return x;
}

static double half(uint32_t h)
{
    const double f = h & 1023;
    const int e = (int)(h >> 10 & 31);
    return (h >> 15 ? -1 : 1) * (e ? ldexp(1024 + f, e - 25) : ldexp(f, -24));
}

static const unsigned char *parse_record(parsed *p, const unsigned char *at)
{
    const int generated = at[15] >> 7;
    p->tokens[generated]++;
    p->last_position = (int32_t)le(at + 8, 4);
    at += 16;
    for (uint32_t l = 0; l < p->layers; l++) {
        const uint32_t n = le(at, 2);
        double sum = 0, last = INFINITY;
        at += 2;
        for (uint32_t i = 0; i < n; i++, at += 4) {
            const double w = half(le(at + 2, 2));
            p->count[generated][l * p->experts + le(at, 2)]++;
            p->sorted &= w <= last;
            last = w;
            sum += w;
        }
        p->sums &= fabs(sum - 1) < 4e-3;
    }
    return at;
}

static void parse_trace(parsed *p)
{
    FILE *f = fopen(path, "rb");
    static unsigned char bytes[1 << 22];
    const size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f) fclose(f);
    *p = (parsed){ .sorted = 1, .sums = 1 };
    CHECK(n >= 64 && !memcmp(bytes, "PGEXPERT", 8) && le(bytes + 8, 4) == 1, "%zu bytes", n);
    p->layers = le(bytes + 16, 4), p->experts = le(bytes + 20, 4), p->used = le(bytes + 24, 4);
    p->most = le(bytes + 28, 4), p->every = le(bytes + 32, 4), p->closed = le(bytes + 36, 4);
    p->records = le(bytes + 40, 4), p->lost = le(bytes + 48, 4);
    CHECK(p->layers * p->experts <= MOST, "%u x %u", p->layers, p->experts);
    const unsigned char *at = bytes + le(bytes + 12, 4);
    while (at < bytes + n) at = parse_record(p, at);
    CHECK(at == bytes + n, "it ends within a record");
    CHECK((double)p->records == p->tokens[0] + p->tokens[1], "%g records", (double)p->records);
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

static void test_sums(const char *model, int first_layer)
{
    pg_info info;
    pg_error err = { 0 };
    int32_t ids[N], more[8], layers[64];
    double prompt[MOST], generated[MOST], tokens;
    pg_engine *e = open_engine(model, 2, 16, &info);
    const int n = info.n_moe_layer * info.n_expert;
    make_ids(ids, N, info.n_vocab, 1);
    CHECK(pg_expert_counts(e, PG_EXPERTS_PROMPT, prompt, layers, &tokens, &err) == info.n_moe_layer, "%s", err.text);
    CHECK(sum_of(prompt, n) == 0 && tokens == 0, "%g", tokens);
    for (int i = 0; i < info.n_moe_layer; i++) CHECK(layers[i] == first_layer + i, "layer %d is %d", i, layers[i]);
    CHECK(golden_generate(e, ids, 23, 6, more, &err) == 6, "%s", err.text);
    pg_expert_counts(e, PG_EXPERTS_PROMPT, prompt, NULL, &tokens, &err);
    CHECK(tokens == 23, "%g prompt tokens", tokens);
    pg_expert_counts(e, PG_EXPERTS_GENERATED, generated, NULL, &tokens, &err);
    CHECK(tokens == 5, "%g generated tokens: the last one is not read again", tokens);
    for (int l = 0; l < info.n_moe_layer; l++) {
        CHECK(sum_of(prompt + l * info.n_expert, info.n_expert) == 23 * info.n_expert_used, "layer %d", l);
        CHECK(sum_of(generated + l * info.n_expert, info.n_expert) == 5 * info.n_expert_used, "layer %d", l);
        for (int x = 0; x < info.n_expert; x++) CHECK(prompt[l * info.n_expert + x] <= 23, "more often than tokens");
    }
    float logprobs[N];
    CHECK(pg_score(e, ids, N, logprobs, &err) == PG_OK, "%s", err.text);
    pg_expert_counts(e, PG_EXPERTS_PROMPT, prompt, NULL, &tokens, &err);
    CHECK(tokens == 23 + N, "counted when pg_score returns: %g", tokens);
    pg_close(e);
}

/* The same work under other steps gives the same counts, and the trace's. */
static void test_trace(const char *model, int threads, int rows, double *like)
{
    pg_info info;
    pg_error err = { 0 };
    pg_trace *t = NULL;
    pg_trace_state state;
    int32_t ids[N], more[8];
    double counts[2][MOST];
    static parsed p;
    pg_engine *e = open_engine(model, threads, rows, &info);
    const int n = info.n_moe_layer * info.n_expert;
    make_ids(ids, N, info.n_vocab, 2);
    CHECK(pg_trace_open(e, path, 1, &t, &err) == PG_OK, "%s", err.text);
    float logprobs[N];
    CHECK(pg_score(e, ids, N, logprobs, &err) == PG_OK, "%s", err.text);
    CHECK(golden_generate(e, ids, 20, 8, more, &err) == 8, "%s", err.text);
    CHECK(pg_trace_close(t, &state, &err) == PG_OK, "%s", err.text);
    CHECK(pg_score(e, ids, N, logprobs, &err) == PG_OK, "%s", err.text);
    parse_trace(&p);
    CHECK(state.tokens == N + 20 + 7 && state.lost == 0, "%g tokens, %g lost", state.tokens, state.lost);
    CHECK(p.closed == 1 && p.lost == 0 && p.every == 1, "closed %u", p.closed);
    CHECK((int)p.layers == info.n_moe_layer && (int)p.experts == info.n_expert, "%u layers", p.layers);
    CHECK((int)p.used == info.n_expert_used && p.most >= p.used, "%u used", p.used);
    CHECK(p.tokens[0] == N + 20 && p.tokens[1] == 7, "%g and %g", p.tokens[0], p.tokens[1]);
    CHECK(p.sorted, "the most wanted expert comes first");
    double scored[MOST]; /* what the second pg_score added; the first, in the trace, took the same */
    for (int k = 0; k < 2; k++) pg_expert_counts(e, k, counts[k], NULL, NULL, &err);
    CHECK(pg_score(e, ids, N, logprobs, &err) == PG_OK, "%s", err.text);
    pg_expert_counts(e, PG_EXPERTS_PROMPT, scored, NULL, NULL, &err);
    int same = 1, alike = 1;
    for (int i = 0; i < n; i++) {
        same &= p.count[0][i] == counts[0][i] - (scored[i] - counts[0][i]) && p.count[1][i] == counts[1][i];
        alike &= like[0] < 0 || like[i] == p.count[0][i];
        if (like[0] < 0 && i == n - 1) memcpy(like, p.count[0], sizeof p.count[0]);
    }
    CHECK(same, "the trace and the counters differ");
    CHECK(alike, "other steps, other counts");
    pg_close(e);
}

static void test_every(void)
{
    pg_info info;
    pg_error err = { 0 };
    pg_trace *t = NULL;
    pg_trace_state state;
    int32_t ids[N];
    float logprobs[N];
    static parsed p;
    pg_engine *e = open_engine(MODEL, 1, 16, &info);
    make_ids(ids, N, info.n_vocab, 3);
    CHECK(pg_trace_open(e, path, 7, &t, &err) == PG_OK, "%s", err.text);
    CHECK(pg_score(e, ids, N, logprobs, &err) == PG_OK, "%s", err.text);
    CHECK(pg_trace_close(t, &state, &err) == PG_OK && state.tokens == 6, "%g tokens", state.tokens);
    parse_trace(&p);
    CHECK(p.every == 7 && p.records == 6 && p.last_position == 35, "%g records", (double)p.records);
    CHECK(p.sums, "this family's weights sum up to 1");
    pg_close(e);
}

/* One thread asks all the time while requests run: whole steps only. */
typedef struct asker {
    pg_engine *e;
    const pg_info *info;
    _Atomic int stop;
    int asked, torn, backwards;
} asker;

static void *ask(void *arg)
{
    asker *a = arg;
    double counts[MOST], tokens, before = 0;
    const int E = a->info->n_expert;
    while (!a->stop || !a->asked) {
        if (pg_expert_counts(a->e, PG_EXPERTS_GENERATED, counts, NULL, &tokens, NULL) < 0) break;
        a->asked++;
        a->backwards += tokens < before;
        before = tokens;
        for (int l = 0; l < a->info->n_moe_layer; l++)
            a->torn += sum_of(counts + l * E, E) != tokens * a->info->n_expert_used;
    }
    return NULL;
}

static void test_load(void)
{
    pg_info info;
    pg_error err = { 0 };
    pg_trace *t = NULL;
    pg_trace_state state;
    pg_event ev[64];
    int32_t ids[N], id;
    static parsed p;
    pthread_t thread;
    pg_engine *e = open_engine(MODEL, 2, 0, &info);
    asker a = { .e = e, .info = &info };
    make_ids(ids, N, info.n_vocab, 4);
    CHECK(pg_trace_open(e, path, 1, &t, &err) == PG_OK, "%s", err.text);
    CHECK(!pthread_create(&thread, NULL, ask, &a), "no thread");
    for (int i = 0; i < 24; i++) {
        pg_request req;
        pg_request_init(e, &req);
        req.prompt = ids;
        req.n_prompt = 3 + i;
        req.max_new = 60;
        req.ignore_eos = 1;
        CHECK(pg_submit(e, &req, &id, &err) == PG_OK, "%s", err.text);
    }
    while (pg_poll(e, -1, ev, 64, NULL) > 0) continue;
    a.stop = 1;
    pthread_join(thread, NULL);
    CHECK(pg_trace_close(t, &state, &err) == PG_OK && state.lost == 0, "%g lost: %s", state.lost, err.text);
    parse_trace(&p);
    CHECK(p.tokens[0] == 24 * 3 + 23 * 12 && p.tokens[1] == 24 * 59, "%g and %g", p.tokens[0], p.tokens[1]);
    CHECK(a.asked > 0 && !a.torn && !a.backwards, "%d of %d counts torn, %d backwards", a.torn, a.asked, a.backwards);
    pg_close(e);
}

/* A writer that stands still: what does not fit into the ring is counted as lost, and the engine goes on. The writer is
 * the thread that a trace adds; a signal holds it. */
static _Atomic int go, held;

static void hold(int number)
{
    (void)number;
    held = 1;
    while (!go) usleep(1000);
}

static long newest_thread(void)
{
    long newest = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (atol(entry->d_name) > newest) newest = atol(entry->d_name);
    if (d) closedir(d);
    return newest;
}

static void test_slow_disk(void)
{
    enum { LONG = 1024, TIMES = 24 };
    pg_info info;
    pg_error err = { 0 };
    pg_trace *t = NULL;
    pg_trace_state state;
    static int32_t ids[LONG];
    static float logprobs[LONG];
    static parsed p;
    pg_engine *e = open_engine(MODEL, 1, 64, &info);
    make_ids(ids, info.context < LONG ? info.context : LONG, info.n_vocab, 6);
    const int n = info.context < LONG ? info.context : LONG;
    signal(SIGUSR1, hold);
    CHECK(pg_trace_open(e, path, 1, &t, &err) == PG_OK, "%s", err.text);
    CHECK(!syscall(SYS_tgkill, getpid(), newest_thread(), SIGUSR1), "the writer was not found");
    while (!held) usleep(1000);
    for (int i = 0; i < TIMES; i++) CHECK(pg_score(e, ids, n, logprobs, &err) == PG_OK, "%s", err.text);
    go = 1;
    CHECK(pg_trace_close(t, &state, &err) == PG_OK, "%s", err.text);
    CHECK(state.lost > 0 && state.tokens + state.lost == TIMES * n, "%g and %g of %d", state.tokens, state.lost,
          TIMES * n);
    parse_trace(&p);
    CHECK((double)p.lost == state.lost && (double)p.records == state.tokens, "%g lost in the file", (double)p.lost);
    pg_close(e);
}

/* A disk that takes nothing, and one that is full after a while: the trace fails, and the engine does not. */
static void test_full_disk(void)
{
    pg_info info;
    pg_error err = { 0 };
    pg_trace *t = NULL;
    int32_t ids[N], more[8];
    pg_engine *e = open_engine(MODEL, 1, 0, &info);
    make_ids(ids, N, info.n_vocab, 5);
    CHECK(pg_trace_open(e, "/dev/full", 1, &t, &err) == PG_EIO && strstr(err.text, "/dev/full"), "%s", err.text);
    CHECK(pg_trace_open(e, "absent/folder/file", 1, &t, &err) == PG_ENOTFOUND, "%s", err.text);
    const struct rlimit small = { 200, RLIM_INFINITY }, any = { RLIM_INFINITY, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    CHECK(!setrlimit(RLIMIT_FSIZE, &small), "no limit");
    CHECK(pg_trace_open(e, path, 1, &t, &err) == PG_OK, "%s", err.text);
    CHECK(golden_generate(e, ids, 20, 8, more, &err) == 8, "%s", err.text);
    CHECK(pg_trace_close(t, NULL, &err) == PG_EIO && strstr(err.text, path), "%s", err.text);
    CHECK(!setrlimit(RLIMIT_FSIZE, &any), "no limit");
    pg_close(e);
}

static void test_refusals(void)
{
    pg_info info;
    pg_error err = { 0 };
    pg_trace *t = NULL, *other = NULL;
    pg_trace_state state;
    double counts[MOST];
    pg_engine *e = open_engine(MODEL, 1, 0, &info);
    CHECK(pg_expert_counts(e, 2, counts, NULL, NULL, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_expert_counts(e, 0, NULL, NULL, NULL, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_expert_counts(NULL, 0, counts, NULL, NULL, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_trace_open(e, path, 0, &t, &err) == PG_EINVAL && strstr(err.text, "every"), "%s", err.text);
    CHECK(pg_trace_open(e, "", 1, &t, &err) == PG_EINVAL && pg_trace_open(NULL, path, 1, &t, &err) == PG_EINVAL, "%s",
          err.text);
    CHECK(pg_trace_open(e, path, 1, &t, &err) == PG_OK, "%s", err.text);
    CHECK(pg_trace_open(e, path, 1, &other, &err) == PG_EINVAL && strstr(err.text, "close it first"), "%s", err.text);
    CHECK(pg_trace_look(t, &state, &err) == PG_OK && state.tokens == 0, "%s", err.text);
    CHECK(pg_trace_look(NULL, &state, &err) == PG_EINVAL && pg_trace_close(NULL, NULL, NULL) == PG_OK, "%s", err.text);
    pg_close(e); /* the trace outlives it */
    CHECK(pg_trace_close(t, &state, &err) == PG_OK && state.tokens == 0 && state.bytes >= 64, "%s", err.text);
}

int main(void)
{
    double like[MOST] = { -1 };
    const int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    test_sums(MODEL, 0);
    test_sums(DENSE_FIRST, 1);
    test_trace(MODEL, 1, 0, like);
    test_trace(MODEL, 2, 7, like);
    test_every();
    test_load();
    test_slow_disk();
    test_full_disk();
    test_refusals();
    unlink(path);
    return check_done("seen");
}
