/* imatrix: the object behind importance matrices: what it refuses, which rows it counts, and that its file is the same
 * whatever the threads and steps. The sums of all tensors are held to another implementation in imatrix_spec.lua; here
 * those of the first layer are, from the embedding. */
#include "../../engine/load/source.h"
#include "golden.h"

#include <unistd.h>

#define MODEL "tests/golden/models/qwen3moe_small/model.gguf"
#define FUSED "tests/golden/models/deepseek2_softmax/model.gguf"

enum { N = 40 };

static char out[] = "/tmp/perigee-imatrix-XXXXXX";

static void make_ids(int32_t *ids, int32_t n, unsigned long long seed)
{
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(check_rand(&seed) % 297);
}

static pg_engine *open_engine(const char *path, const char *precision, int threads, int rows)
{
    pg_options o;
    pg_engine *e = NULL;
    pg_error err = { 0 };
    pg_options_init(&o);
    o.precision = precision;
    o.threads = threads;
    o.kv_tokens = 256;
    o.batch = rows;
    CHECK(pg_open(path, &o, &e, &err) == PG_OK, "%s: %s", path, err.text);
    return e;
}

static void score(pg_engine *e, const int32_t *ids, int32_t n)
{
    float logprobs[N];
    pg_error err = { 0 };
    CHECK(pg_score(e, ids, n, logprobs, &err) == PG_OK, "%s", err.text);
}

/* The file's bytes; to be freed. */
static char *file_bytes(size_t *n)
{
    FILE *f = fopen(out, "rb");
    if (!f || fseek(f, 0, SEEK_END)) exit(1);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n + 1);
    if (!bytes || fread(bytes, 1, *n, f) != *n) exit(1);
    fclose(f);
    return bytes;
}

static int save(pg_imatrix *m, pg_error *err)
{
    static const char *const names[] = { "one", "two" };
    return pg_imatrix_save(m, out, names, 2, 3, N, err);
}

/* Rows that the file counts for a matrix. */
static double rows_of(const char *tensor, int at)
{
    pg_source *s;
    pg_error err = { 0 };
    double n = -1;
    if (pg_source_open(out, 1, &s, &err) < 0) {
        CHECK(0, "%s", err.text);
        return -1;
    }
    const pg_source_tensor *t = pg_source_find(s, tensor);
    CHECK(t, "%s is missing", tensor);
    if (t) n = (double)((const float *)t->view.data)[at];
    pg_source_close(s);
    return n;
}

static void test_refusals(void)
{
    pg_error err = { 0 };
    pg_imatrix *m = NULL, *other = NULL;
    int32_t ids[N];
    make_ids(ids, N, 1);
    pg_engine *rounded = open_engine(MODEL, "auto", 1, 0), *e = open_engine(MODEL, "f32", 1, 0);
    CHECK(pg_imatrix_open(rounded, &m, &err) == PG_EINVAL && strstr(err.text, "f32"), "%s", err.text);
    CHECK(pg_imatrix_open(NULL, &m, &err) == PG_EINVAL && pg_imatrix_open(e, NULL, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_imatrix_open(e, &m, &err) == PG_OK, "%s", err.text);
    CHECK(pg_imatrix_open(e, &other, &err) == PG_EINVAL && strstr(err.text, "close it first"), "%s", err.text);
    CHECK(save(m, &err) == PG_EINVAL && strstr(err.text, "nothing was computed"), "%s", err.text);
    CHECK(save(NULL, &err) == PG_EINVAL && err.code == PG_EINVAL, "%s", err.text);
    score(e, ids, 2);
    CHECK(pg_imatrix_save(m, NULL, NULL, 0, 0, 0, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_imatrix_save(m, out, NULL, 1, 0, 0, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_imatrix_save(m, out, NULL, 0, -1, 0, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_imatrix_save(m, "absent/folder/file", NULL, 0, 0, 0, &err) == PG_ENOTFOUND, "%s", err.text);
    CHECK(pg_imatrix_save(m, out, NULL, 0, 0, 0, &err) > 0, "2 tokens meet all of 11 experts: %s", err.text);
    pg_imatrix_close(m);
    pg_imatrix_close(NULL);
    pg_close(rounded);
    pg_close(e);
}

/* Everything counts while it is open, also what requests compute, and nothing after. */
static void test_counting(void)
{
    static const char attn[] = "blk.1.attn_q.weight.counts", head[] = "output.weight.counts";
    static const char down[] = "blk.1.ffn_down_exps.weight.counts";
    pg_error err = { 0 };
    pg_imatrix *m = NULL;
    int32_t ids[N], more[8];
    make_ids(ids, N, 2);
    pg_engine *e = open_engine(MODEL, "f32", 2, 16);
    score(e, ids, N);
    CHECK(pg_imatrix_open(e, &m, &err) == PG_OK, "%s", err.text);
    score(e, ids, N);
    CHECK(save(m, &err) >= 0 && rows_of(attn, 0) == N, "%s: %g rows", err.text, rows_of(attn, 0));
    CHECK(golden_generate(e, ids, 5, 4, more, &err) == 4, "%s", err.text);
    CHECK(save(m, &err) >= 0 && rows_of(attn, 0) == N + 5 + 3, "%s: %g rows", err.text, rows_of(attn, 0));
    CHECK(rows_of(head, 0) == N + 4, "%g rows", rows_of(head, 0)); /* only what is sampled meets the vocabulary */
    double sum = 0;
    for (int x = 0; x < 11; x++) sum += rows_of(down, x);
    CHECK(fmod(sum, N + 5 + 3) == 0 && sum > N + 5 + 3, "%g pairs", sum);
    pg_imatrix_close(m);
    score(e, ids, N);
    CHECK(pg_imatrix_open(e, &m, &err) == PG_OK, "%s", err.text);
    score(e, ids, 3);
    CHECK(save(m, &err) >= 0 && rows_of(attn, 0) == 3, "%s: %g rows", err.text, rows_of(attn, 0));
    pg_imatrix_close(m);
    pg_close(e);
}

static char *collect(const char *path, int threads, int rows, size_t *n)
{
    pg_error err = { 0 };
    pg_imatrix *m = NULL;
    int32_t ids[N];
    pg_engine *e = open_engine(path, "f32", threads, rows);
    CHECK(pg_imatrix_open(e, &m, &err) == PG_OK, "%s", err.text);
    for (unsigned i = 0; i < 3; i++) {
        make_ids(ids, N, 3 + i);
        score(e, ids, N);
    }
    CHECK(save(m, &err) >= 0, "%s", err.text);
    pg_imatrix_close(m);
    pg_close(e);
    return file_bytes(n);
}

static void test_same_bytes(const char *path)
{
    static const int how[][2] = { { 1, 3 }, { 3, 0 }, { 2, 17 } };
    size_t n, other;
    char *first = collect(path, 1, 0, &n);
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        char *bytes = collect(path, how[i][0], how[i][1], &other);
        CHECK(other == n && !memcmp(first, bytes, n), "%s: %d threads, %d rows a step: another file", path, how[i][0],
              how[i][1]);
        free(bytes);
    }
    free(first);
}

/* What attn_q of layer 0 meets: the norm of the embedding's rows. */
static void test_first_layer(void)
{
    pg_error err = { 0 };
    pg_source *s, *im;
    size_t n;
    int32_t ids[N];
    free(collect(MODEL, 2, 0, &n));
    if (pg_source_open(MODEL, 1, &s, &err) < 0 || pg_source_open(out, 1, &im, &err) < 0) exit(1);
    const pg_tensor *t = &pg_source_find(s, "token_embd.weight")->view;
    const float *embd = t->data, *w = pg_source_find(s, "blk.0.attn_norm.weight")->view.data;
    const float *got = pg_source_find(im, "blk.0.attn_q.weight.in_sum2")->view.data;
    const int64_t D = t->shape[0];
    double *want = calloc((size_t)D, sizeof *want), eps = 0;
    CHECK(t->dtype == PG_F32 && pg_source_float(s, "qwen3moe.attention.layer_norm_rms_epsilon", &eps, &err) == 1, "%s",
          err.text);
    for (unsigned i = 0; i < 3; i++) {
        make_ids(ids, N, 3 + i);
        for (int r = 0; r < N; r++) {
            const float *x = embd + ids[r] * D;
            double square = 0;
            for (int64_t c = 0; c < D; c++) square += (double)x[c] * x[c];
            for (int64_t c = 0; c < D; c++) want[c] += pow((double)x[c] * w[c], 2) / (square / (double)D + eps);
        }
    }
    for (int64_t c = 0; c < D; c++) CHECK(fabs(got[c] - want[c]) <= 1e-5 * want[c], "column %d", (int)c);
    int64_t number = 0;
    pg_text text = { "", 0 };
    CHECK(pg_source_int(im, "imatrix.chunk_size", 0, 1 << 20, &number, &err) == 1 && number == N, "%s", err.text);
    CHECK(pg_source_int(im, "imatrix.chunk_count", 0, 1 << 20, &number, &err) == 1 && number == 3, "%s", err.text);
    CHECK(pg_source_text_at(im, "imatrix.datasets", 1, &text, &err) == 1 && text.n == 3 && !memcmp(text.data, "two", 3),
          "%s", err.text);
    free(want);
    pg_source_close(im);
    pg_source_close(s);
}

int main(void)
{
    const int fd = mkstemp(out);
    if (fd < 0) return 1;
    close(fd);
    test_refusals();
    test_counting();
    test_same_bytes(MODEL);
    test_same_bytes(FUSED);
    test_first_layer();
    unlink(out);
    return check_done("imatrix");
}
