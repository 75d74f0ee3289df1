/* What the golden tests share: where the cases are, reading one, opening a model the way a case wants it. */
#ifndef PG_GOLDEN_H
#define PG_GOLDEN_H

#include "check.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <perigee.h>
#include <sys/stat.h>

enum { GOLDEN_MAX = 1024 };

typedef struct golden_case {
    int32_t ids[GOLDEN_MAX], greedy[GOLDEN_MAX];
    int32_t n, n_greedy, n_vocab;
    float *logits; /* [n, n_vocab] */
} golden_case;

static inline const char *golden_root(void)
{
    const char *dir = getenv("PERIGEE_GOLDEN");
    return dir && *dir ? dir : "../shared/golden";
}

static inline int golden_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* Call check with the folder of all golden models, when it is there, and with that of the small ones in the tree. */
static inline void golden_check_folders(void (*check)(const char *models))
{
    char models[300];
    snprintf(models, sizeof models, "%s/models", golden_root());
    if (golden_exists(models))
        check(models);
    else
        printf("golden folder %s is absent: its cases did not run\n", models);
    check("tests/golden/models");
}

/* cases.json of a folder (or cases-TYPE.json); exits the program if what should be there cannot be read. */
static inline json_t *golden_list(const char *folder, const char *file)
{
    char path[1200];
    json_error_t why;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *list = json_load_file(path, 0, &why);
    if (!list) fprintf(stderr, "%s: %s\n", path, why.text), exit(1);
    return list;
}

static inline int32_t golden_ids(const json_t *list, int32_t *out)
{
    int32_t n = (int32_t)json_array_size(list);
    for (int32_t i = 0; i < n && i < GOLDEN_MAX; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

static inline void golden_read(const char *folder, const json_t *entry, golden_case *c)
{
    char path[1200];
    c->n = golden_ids(json_object_get(entry, "ids"), c->ids);
    c->n_greedy = golden_ids(json_object_get(entry, "greedy"), c->greedy);
    c->n_vocab = (int32_t)json_integer_value(json_array_get(json_object_get(entry, "shape"), 1));
    const size_t count = (size_t)c->n * (size_t)c->n_vocab;
    c->logits = malloc(count * sizeof(float));
    snprintf(path, sizeof path, "%s/%s", folder, json_string_value(json_object_get(entry, "logits")));
    FILE *f = fopen(path, "rb");
    if (!f || fread(c->logits, sizeof(float), count, f) != count)
        fprintf(stderr, "%s: cannot be read\n", path), exit(1);
    fclose(f);
}

static inline pg_engine *golden_open(const char *path, const char *precision, int threads, pg_error *err)
{
    pg_options o;
    pg_engine *e = NULL;
    const char *device = getenv("GOLDEN_DEVICE"); /* tests/cuda and tests/run.sh name others */
    pg_options_init(&o);
    o.device = device && *device ? device : "cpu";
    o.precision = precision;
    o.threads = threads;
    o.kv_tokens = 4096;
    o.batch = 256;
    return pg_open(path, &o, &e, err) < 0 ? NULL : e;
}

/* The CUDA device is the one that PERIGEE_CUDA brings, else the one that is emulated, of the build that this program is
 * of. */
static inline void golden_find_device(const char *program)
{
    char path[1200];
    const char *slash = strrchr(program, '/'), *named = getenv("PERIGEE_CUDA");
    if (named && *named) return;
    snprintf(path, sizeof path, "%.*s../emu/perigee_cuda.so", slash ? (int)(slash + 1 - program) : 0, program);
    if (golden_exists(path)) setenv("PERIGEE_CUDA", path, 1);
}

/* Largest |a - b| / max(1, |b|). */
static inline double golden_distance(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - b[i]) / fmax(1.0, fabs((double)b[i]));
        if (!(d <= worst)) worst = d; /* a NaN counts as worst */
    }
    return worst;
}

/* KL(softmax(reference) || softmax(engine)) in nats. */
static inline double golden_kl(const float *ref, const float *got, int n)
{
    double rt = -INFINITY, gt = -INFINITY, rs = 0, gs = 0, kl = 0;
    for (int i = 0; i < n; i++) {
        if (ref[i] > rt) rt = ref[i];
        if (got[i] > gt) gt = got[i];
    }
    for (int i = 0; i < n; i++) rs += exp(ref[i] - rt), gs += exp(got[i] - gt);
    for (int i = 0; i < n; i++) kl += exp(ref[i] - rt) / rs * ((ref[i] - rt - log(rs)) - (got[i] - gt - log(gs)));
    return kl;
}

/* Tokens that a greedy request generates; returns how many, or -1. */
static inline int golden_generate(pg_engine *e, const int32_t *ids, int32_t n, int32_t max_new, int32_t *out,
                                  pg_error *err)
{
    pg_request req;
    int32_t id;
    int got = 0;
    pg_request_init(e, &req);
    req.prompt = ids;
    req.n_prompt = n;
    req.max_new = max_new;
    req.temperature = 0;
    req.repeat_penalty = 1;
    req.ignore_eos = 1;
    if (pg_submit(e, &req, &id, err) < 0) return -1;
    for (;;) {
        pg_event ev[8];
        const int k = pg_poll(e, -1, ev, 8, err);
        if (k <= 0) return -1;
        for (int i = 0; i < k; i++) {
            if (ev[i].id != id) continue;
            if (ev[i].kind == PG_EVENT_DONE) return got;
            if (ev[i].kind == PG_EVENT_FAIL) return -1;
            if (ev[i].token >= 0 && got < max_new) out[got++] = ev[i].token;
        }
    }
}

/* precision "f32": 1e-3 at every position, n_new greedy tokens identical, prefill class and decode class alike. *worst: the
 * largest difference so far. */
static inline void golden_check_exact(pg_engine *e, const char *path, const golden_case *c, int n_new, double *worst)
{
    pg_error err = { 0 };
    const float *got;
    int32_t V, out[GOLDEN_MAX];
    for (int decode = 0; decode < 2; decode++) {
        const int rc = pg_logits(e, c->ids, c->n, 0, decode ? 1 : c->n, &got, &V, &err);
        CHECK(rc >= 0 && V == c->n_vocab, "%s: %d x %d: %s", path, c->n, V, err.text);
        if (rc < 0 || V != c->n_vocab) return;
        const double d = golden_distance(got, c->logits, (size_t)c->n * (size_t)V);
        CHECK(d <= 1e-3, "%s: %d ids, %s class: logits differ by %.3g", path, c->n, decode ? "decode" : "prefill", d);
        if (d > *worst) *worst = d;
    }
    if (!n_new) return;
    const int n = golden_generate(e, c->ids, c->n, n_new, out, &err);
    CHECK(n == n_new && !memcmp(out, c->greedy, (size_t)n * sizeof *out),
          "%s: %d ids: greedy continuation differs (%d) %s", path, c->n, n, err.text);
}

#endif
