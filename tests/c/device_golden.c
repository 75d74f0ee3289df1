/* Golden models on a CUDA device: the one that PERIGEE_CUDA brings, else the one that is emulated on the CPU
 * (tests/cuda/emu). Emulation is slow: so the short cases of one file a model are taken, and of one model in some storage
 * types. GOLDEN_ALL=1 takes all of them, FAST=1 a single model. */
#include "golden.h"

#include <unistd.h>

enum { LAYERS = 16 };
#define TYPES_OF "quant_deepseek_v2" /* the model that is taken in several storage types */

/* Most mean KL, in nats. */
typedef struct kl_limit {
    double generated, prompt;
} kl_limit;

/* Of each position of a prompt and each layer that has experts: those it took, a bit each. */
typedef struct taken {
    uint64_t by[GOLDEN_MAX][LAYERS];
} taken;

static int all, n_file, n_case, n_moved;
static double worst_f32;

static pg_engine *open_device(const char *path, const char *precision, pg_error *err)
{
    pg_options o;
    pg_engine *e = NULL;
    pg_options_init(&o);
    o.device = "cuda";
    o.precision = precision;
    o.threads = 2;
    o.kv_tokens = all ? 4096 : 256;
    o.context = all ? 0 : 128;
    o.batch = all ? 256 : 32;
    return pg_open(path, &o, &e, err) < 0 ? NULL : e;
}

/* Of those that are not all to be taken: one of a middling length. */
static int is_taken(const golden_case *c)
{
    return all || (c->n > 4 && c->n <= 20);
}

/* ---- who took which experts --------------------------------------------------------------------------------------- */

static uint32_t word_at(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The trace at `path`, as pg_trace_open describes it. Returns positions. */
static int read_trace(const char *path, taken *to)
{
    static unsigned char file[1 << 20];
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(file, 1, sizeof file, f) : 0;
    if (f) fclose(f);
    if (n < 64 || word_at(file + 16) > LAYERS || word_at(file + 20) > 64) return -1;
    const uint32_t layers = word_at(file + 16);
    int rows = 0;
    for (size_t at = word_at(file + 12); at + 16 <= n; rows++) {
        const uint32_t pos = word_at(file + at + 8);
        at += 16;
        for (uint32_t l = 0; l < layers && pos < GOLDEN_MAX; l++) {
            to->by[pos][l] = 0;
            const unsigned used = file[at] | (unsigned)file[at + 1] << 8;
            at += 2;
            for (unsigned i = 0; i < used; i++, at += 4) to->by[pos][l] |= 1ull << (file[at] & 63);
        }
    }
    return rows;
}

/* Logits, rows from `decode` on in the decode class, and who took which experts on the way. */
static const float *run_logits(pg_engine *e, const char *path, const golden_case *c, int decode, taken *to)
{
    char trace[] = "/tmp/device_golden.XXXXXX";
    const int fd = mkstemp(trace);
    pg_error err = { 0 };
    pg_info info;
    pg_trace *t = NULL;
    const float *got = NULL;
    int32_t V;
    memset(to, 0, sizeof *to);
    CHECK(fd >= 0 && pg_engine_info(e, &info, &err) == PG_OK, "%s", trace);
    if (info.n_expert) CHECK(pg_trace_open(e, trace, 1, &t, &err) == PG_OK, "%s: %s", path, err.text);
    const int rc = pg_logits(e, c->ids, c->n, 0, decode, &got, &V, &err);
    CHECK(rc >= 0 && V == c->n_vocab, "%s: %s", path, err.text);
    if (t) CHECK(pg_trace_close(t, NULL, &err) == PG_OK && read_trace(trace, to) == c->n, "%s: trace", path);
    close(fd);
    unlink(trace);
    return rc < 0 ? NULL : got;
}

/* ---- the two arithmetic classes ----------------------------------------------------------------------------------- */

static double kl_at(const golden_case *c, const float *got, int t)
{
    return golden_kl(c->logits + (size_t)t * (size_t)c->n_vocab, got + (size_t)t * (size_t)c->n_vocab, c->n_vocab);
}

/* Positions whose experts are those of f32 arithmetic, in all layers, are compared; few may have others. Returns how
 * many do. */
static int check_rounded(pg_engine *e, const char *path, const golden_case *c, int decode, const taken *want,
                         double most)
{
    static taken mine;
    const char *class = decode ? "decode" : "prefill";
    const float *got = run_logits(e, path, c, decode ? 1 : c->n, &mine);
    double kl = 0;
    int n = 0;
    for (int t = 0; got && t < c->n; t++) {
        if (memcmp(mine.by[t], want->by[t], sizeof mine.by[t])) continue;
        kl += kl_at(c, got, t);
        n++;
    }
    n_moved += c->n - n;
    CHECK(c->n - n <= 1 + c->n / 8, "%s: %s class: %d of %d positions take other experts", path, class, c->n - n, c->n);
    CHECK(kl <= most * n, "%s: %s class: KL %.3g above %.3g", path, class, kl / n, most);
    return c->n - n;
}

/* ---- steps of both classes ---------------------------------------------------------------------------------------- */

enum { TOGETHER = 6 };

static int32_t submit(pg_engine *e, const golden_case *c, const char *salt)
{
    pg_request req;
    pg_error err = { 0 };
    int32_t id = 0;
    pg_request_init(e, &req);
    req.prompt = c->ids;
    req.n_prompt = c->n;
    req.max_new = TOGETHER;
    req.temperature = 0;
    req.ignore_eos = 1;
    req.cache_salt = salt;
    CHECK(pg_submit(e, &req, &id, &err) == PG_OK, "%s", err.text);
    return id;
}

/* The same prompt twice; the second one comes once the first has a token, so that a step has rows of a prompt and a
 * generated one, or once it is done. */
static void generate_two(pg_engine *e, const golden_case *c, int together, int32_t out[2][TOGETHER])
{
    int32_t id[2] = { submit(e, c, together ? "a" : "b"), 0 };
    int n[2] = { 0, 0 }, done = 0;
    while (done < 2) {
        pg_event ev[8];
        pg_error err = { 0 };
        const int k = pg_poll(e, -1, ev, 8, &err);
        CHECK(k > 0, "%s", err.text);
        if (k <= 0) return;
        for (int i = 0; i < k; i++) {
            const int which = ev[i].id != id[0];
            CHECK(ev[i].kind != PG_EVENT_FAIL, "request %d failed", which);
            if (ev[i].token >= 0 && n[which] < TOGETHER) out[which][n[which]++] = ev[i].token;
            done += ev[i].kind != PG_EVENT_TEXT;
        }
        if (!id[1] && (together ? n[0] > 0 : done > 0)) id[1] = submit(e, c, together ? "c" : "d");
    }
}

static void check_together(pg_engine *e, const char *path, const golden_case *c)
{
    int32_t apart[2][TOGETHER] = { 0 }, together[2][TOGETHER] = { 0 };
    if (c->n < 17) return; /* shorter prompts take the arithmetic of generated rows */
    generate_two(e, c, 0, apart);
    generate_two(e, c, 1, together);
    CHECK(!memcmp(apart, together, sizeof apart), "%s: other tokens when two requests share steps", path);
}

/* The case in f32, which says who takes which experts; then rounded. */
static void check_case(pg_engine *const e[2], const char *path, const golden_case *c, kl_limit limit)
{
    static taken exact;
    golden_check_exact(e[0], path, c, all || c->n_greedy < 4 ? c->n_greedy : 4, &worst_f32);
    run_logits(e[0], path, c, c->n, &exact);
    const int moved = check_rounded(e[1], path, c, 0, &exact, limit.prompt);
    check_rounded(e[1], path, c, 1, &exact, limit.generated);
    if (!moved) check_together(e[1], path, c);
}

static void check_file(const char *path, const char *folder, const char *cases, kl_limit limit)
{
    json_t *list = golden_list(folder, cases);
    pg_error err = { 0 };
    pg_engine *const e[2] = { open_device(path, "f32", &err), open_device(path, "auto", &err) };
    CHECK(e[0] && e[1], "%s: %s", path, err.text);
    for (size_t i = 0; e[0] && e[1] && i < json_array_size(list); i++) {
        golden_case c;
        golden_read(folder, json_array_get(list, i), &c);
        if (is_taken(&c)) {
            n_case++;
            check_case(e, path, &c, limit);
        }
        free(c.logits);
    }
    n_file++;
    pg_close(e[0]);
    pg_close(e[1]);
    json_decref(list);
}

/* As in golden.c: what rounding a format's activations costs. */
static double limit_of(const char *type)
{
    static const char *const wide[] = { "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS", "MIX" };
    if (!strcmp(type, "F16") || !strcmp(type, "BF16")) return 1.0e-4;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (!strcmp(type, wide[i])) return 3.0e-3;
    return 1.3e-3;
}

static int is_refused(const char *type)
{
    return (!strncmp(type, "IQ2", 3) && strcmp(type, "IQ2_XXS")) || !strncmp(type, "IQ3", 3);
}

/* One storage type of each kind; tests/cuda meets all of them. */
static int is_sample(const char *type)
{
    static const char *const sample[] = { "F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "Q4_K", "Q6_K", "IQ4_XS", "MXFP4" };
    for (size_t i = 0; i < sizeof sample / sizeof *sample; i++)
        if (!strcmp(type, sample[i])) return 1;
    return 0;
}

static void check_types(const char *folder, const char *only)
{
    char path[1200], type[64], cases[128];
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (sscanf(f->d_name, "model-%63[^.].gguf", type) != 1 || is_refused(type)) continue;
        if (!all && !only && !is_sample(type)) continue;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        snprintf(cases, sizeof cases, "cases-%s.json", type);
        const double most = limit_of(type);
        check_file(path, folder, cases, (kl_limit){ most, most });
    }
    if (d) closedir(d);
}

/* Models of one type have no limit of their own. Generated rows: MXFP4 experts come to 0.0051 in a case of 48 positions, and
 * to half of it in shorter ones; it is the rounding to 8 bits, which costs the CPU as much there (0.056 with positions
 * that take other experts, 0.044 here).
 * Prompts: every product of tensor cores is, to 1e-7, that of operands rounded to bf16, and those of the router are made
 * in f32; with all products in f64 the same positions come to 1e-6 (measured op by op on the emulated device, all models).
 * What rounding does here: positions with the experts of f32 have a mean of 0.004 at most, half of it the weights', which
 * files of 16 bits do not have, most of the rest the projections of attention, whose scores are sharp in these models.
 * Positions that a router sends elsewhere, since two experts are nearly even, have 0.1 and more: 2 of 17 at most. */
static const kl_limit one_type = { .generated = 6.0e-3, .prompt = 5.0e-3 };

static void check_all(const char *models, const char *only)
{
    char folder[600], path[1200];
    DIR *d = opendir(models);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.' || !strcmp(f->d_name, "deepseek_v32") || !strcmp(f->d_name, "deepseek_v4")) continue;
        if (only && !strstr(f->d_name, only)) continue;
        snprintf(folder, sizeof folder, "%s/%s", models, f->d_name);
        if (!strncmp(f->d_name, "quant_", 6)) {
            if (all || only || !strcmp(f->d_name, TYPES_OF)) check_types(folder, only);
            continue;
        }
        snprintf(path, sizeof path, "%s/model.gguf", folder);
        const int gguf = golden_exists(path);
        if (gguf) check_file(path, folder, "cases.json", one_type);
        snprintf(path, sizeof path, "%s/hf", folder);
        if ((all || !gguf) && golden_exists(path)) check_file(path, folder, "cases.json", one_type);
    }
    if (d) closedir(d);
}

/* device_golden [part of a model's name] */
int main(int argc, char **argv)
{
    char models[300];
    const char *wanted = getenv("GOLDEN_ALL"), *fast = getenv("FAST");
    const char *only = argc > 1 ? argv[1] : fast && *fast ? "deepseek2_softmax" : NULL;
    golden_find_device(argv[0]);
    all = wanted && *wanted && *wanted != '0';
    pg_error err = { 0 };
    pg_engine *e = open_device("examples/models/perigee-voices.q8_0.gguf", "auto", &err);
    if (!e) {
        CHECK(err.code == PG_EDEVICE, "%s", err.text);
        printf("%s: golden models on a device did not run\n", err.text);
        return check_done("device_golden");
    }
    pg_close(e);
    snprintf(models, sizeof models, "%s/models", golden_root());
    if (!golden_exists(models) && !only) printf("golden folder %s is absent: its cases did not run\n", models);
    check_all(models, only);
    check_all("tests/golden/models", only);
    printf("device_golden: %d files, %d cases, %d positions with other experts, worst f32 difference %.2g\n", n_file,
           n_case, n_moved, worst_f32);
    return check_done("device_golden");
}
