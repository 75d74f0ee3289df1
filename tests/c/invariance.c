/* Arithmetic belongs to the token: for every family, chunks of any size, neighbours in the batch, the number of threads
 * and what is thought worth sharing with them leave the same bits in the logits, and so do the instruction sets that this
 * machine has; a seed gives the same tokens whatever else runs. */
#include "golden.h"
#include "../../engine/sched/sched.h"
#include "../../kernels/cpu/cpu.h"

enum { N = 70, DECODE_FROM = 41 };

static void make_ids(int32_t *ids, int n, int vocab, unsigned long long seed)
{
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(check_rand(&seed) % (unsigned)vocab);
}

static float *copy_logits(pg_engine *e, const int32_t *ids, int n, int chunk, int decode, int *vocab)
{
    const float *got;
    int32_t V;
    pg_error err = { 0 };
    if (pg_logits(e, ids, n, chunk, decode, &got, &V, &err) < 0) {
        CHECK(0, "logits: %s", err.text);
        return NULL;
    }
    float *copy = malloc((size_t)n * (size_t)V * sizeof(float));
    memcpy(copy, got, (size_t)n * (size_t)V * sizeof(float));
    *vocab = V;
    return copy;
}

static int same_bits(const float *a, const float *b, size_t n)
{
    return !memcmp(a, b, n * sizeof *a);
}

/* Put some requests into flight that the measured sequence shares its steps with. */
static void add_neighbours(pg_engine *e, int vocab, int n)
{
    int32_t ids[97];
    make_ids(ids, 97, vocab, 99);
    for (int i = 0; i < n; i++) {
        pg_request req;
        int32_t id;
        pg_request_init(e, &req);
        req.prompt = ids + i;
        req.n_prompt = 5 + 23 * i;
        req.max_new = 12 + i;
        req.ignore_eos = 1;
        CHECK(pg_submit(e, &req, &id, NULL) == PG_OK, "neighbour %d", i);
    }
}

static void drain(pg_engine *e)
{
    pg_event ev[64];
    while (pg_poll(e, -1, ev, 64, NULL) > 0) continue;
}

static int generate(pg_engine *e, const int32_t *ids, int n, int32_t *out, int max)
{
    pg_request req;
    pg_event ev[64];
    int32_t id, k;
    int got = 0;
    pg_request_init(e, &req);
    req.prompt = ids;
    req.n_prompt = n;
    req.max_new = max;
    req.ignore_eos = req.has_seed = 1;
    req.seed_low = 7;
    req.temperature = 1.3f;
    if (pg_submit(e, &req, &id, NULL) < 0) return -1;
    while ((k = pg_poll(e, -1, ev, 64, NULL)) > 0)
        for (int i = 0; i < k; i++)
            if (ev[i].id == id && ev[i].kind == PG_EVENT_TEXT && ev[i].token >= 0 && got < max)
                out[got++] = ev[i].token;
    return got;
}

/* What is too small for a round of the lanes, from now on. */
static void set_small(pg_engine *e, int64_t bytes)
{
    pg_cpu *c = (pg_cpu *)e->backend;
    c->tune.wait = INT32_MAX;
    c->small = bytes;
}

static void check_engine(const char *path, pg_engine *e, const int32_t *ids, const float *want, size_t n, int vocab,
                         const char *who)
{
    static const int chunks[] = { 0, 1, 7, 32 };
    int V = 0;
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        float *got = copy_logits(e, ids, N, chunks[i], DECODE_FROM, &V);
        CHECK(got && same_bits(got, want, n), "%s: %s, chunks of %d: other bits", path, who, chunks[i]);
        free(got);
    }
    for (int all = 0; all < 2; all++) {
        set_small(e, all ? 0 : INT64_MAX);
        float *got = copy_logits(e, ids, N - 10, 1, DECODE_FROM, &V);
        CHECK(got && same_bits(got, want, (n / N) * (N - 10)), "%s: %s, %s shared with the lanes: other bits", path,
              who, all ? "all" : "nothing");
        free(got);
    }
    add_neighbours(e, vocab, 4);
    float *got = copy_logits(e, ids, N, 9, DECODE_FROM, &V);
    CHECK(got && same_bits(got, want, n), "%s: %s, beside four requests: other bits", path, who);
    free(got);
    drain(e);
}

/* One after the other, with no other engine open: a process has one choice of kernels. */
static void check_levels(const char *path, const char *precision, const int32_t *ids, const float *want, size_t n)
{
    static const char *const levels[] = { "ref", "avx2", "avx512" };
    const char *set = getenv("PERIGEE_ISA");
    char *before = set ? strdup(set) : NULL;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        int V = 0;
        pg_error err = { 0 };
        setenv("PERIGEE_ISA", levels[i], 1);
        pg_engine *e = golden_open(path, precision, 2, &err);
        float *got = e ? copy_logits(e, ids, N, 0, DECODE_FROM, &V) : NULL;
        CHECK(got && same_bits(got, want, n), "%s: kernels of level %s: other bits %s", path, levels[i], err.text);
        free(got);
        pg_close(e);
    }
    unsetenv("PERIGEE_ISA");
    if (before) setenv("PERIGEE_ISA", before, 1);
    free(before);
}

static void check_model(const char *path, const char *precision)
{
    pg_error err = { 0 };
    pg_engine *one = golden_open(path, precision, 1, &err), *three = golden_open(path, precision, 3, &err);
    pg_info info;
    int32_t ids[N], alone[24], crowd[24];
    int V = 0;
    float *want = NULL;
    CHECK(one && three, "%s: %s", path, err.text);
    if (one && three && pg_engine_info(one, &info, NULL) == PG_OK) {
        make_ids(ids, N, info.n_vocab, 5);
        want = copy_logits(one, ids, N, 0, DECODE_FROM, &V);
        if (want) {
            check_engine(path, one, ids, want, (size_t)N * (size_t)V, V, "one lane");
            check_engine(path, three, ids, want, (size_t)N * (size_t)V, V, "three lanes");
        }
        const int n = generate(one, ids, 11, alone, 24);
        add_neighbours(three, info.n_vocab, 4);
        CHECK(generate(three, ids, 11, crowd, 24) == n && n == 24 && !memcmp(alone, crowd, sizeof alone),
              "%s: a seed gives other tokens in company", path);
    }
    pg_close(one);
    pg_close(three);
    if (want) check_levels(path, precision, ids, want, (size_t)N * (size_t)V);
    free(want);
}

static void check_folder(const char *models)
{
    char path[1200];
    static const char *const files[] = { "model.gguf",      "model-Q4_K.gguf", "model-MXFP4.gguf",
                                         "model-Q8_0.gguf", "model-BF16.gguf", "hf" };
    DIR *d = opendir(models);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.' || !strcmp(f->d_name, "deepseek_v32") || !strcmp(f->d_name, "deepseek_v4")) continue;
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            snprintf(path, sizeof path, "%s/%s/%s", models, f->d_name, files[i]);
            if (i == 5 && strcmp(f->d_name, "deepseek_v3_fp8") && strcmp(f->d_name, "gpt_oss_mxfp4")) continue;
            if (golden_exists(path)) check_model(path, "auto");
        }
    }
    if (d) closedir(d);
}

int main(void)
{
    char models[300];
    snprintf(models, sizeof models, "%s/models", golden_root());
    if (golden_exists(models))
        check_folder(models);
    else
        printf("golden folder %s is absent: its cases did not run\n", models);
    check_folder("tests/golden/models");
    check_model("tests/golden/models/deepseek2_sigmoid/model.gguf", "f32");
    check_model("examples/models/perigee-voices.q8_0.gguf", "auto");
    return check_done("invariance");
}
