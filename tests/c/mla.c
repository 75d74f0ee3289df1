/* mla: latent attention of the prefill class against softmax in double precision, with weights of several kinds; and its
 * bits, which must not show how rows were cut into steps, what else was in them, how many lanes there were, or the
 * instruction set. */
#include "../../kernels/cpu/cpu.h"
#include "../../kernels/unpack/unpack.h"
#include "check.h"

#include <math.h>

enum { PAGE = 32, MOST = 600, OTHER = 40, WIDEST = 160 };

typedef struct shape {
    const char *name;
    int H, nope, rot, latent, dv;
    int across; /* keys' weights: {nope, latent, H} */
    pg_dtype w, kv;
    int exact;
    int from, to; /* positions whose rows are computed */
    double near;
} shape;

static const shape shapes[] = {
    { "f32", 3, 24, 8, 40, 20, 1, PG_F32, PG_F32, 0, 0, 300, 2e-5 },
    { "f32, along rows, narrow", 2, 5, 4, 23, 7, 0, PG_F32, PG_F32, 0, 200, 300, 2e-5 },
    { "bf16", 4, 32, 16, 64, 48, 1, PG_BF16, PG_F16, 0, 240, 520, 2e-5 },
    { "bf16, along rows", 4, 32, 16, 64, 48, 0, PG_BF16, PG_BF16, 0, 500, 560, 2e-5 },
    { "q8_0, exact", 3, 32, 16, 128, 32, 1, PG_Q8_0, PG_Q8_0, 1, 250, 300, 2e-5 },
    { "q8_0", 3, 32, 16, 128, 40, 1, PG_Q8_0, PG_F16, 0, 0, 520, 5e-5 },
    { "q8_0, along rows", 5, 64, 16, 128, 33, 0, PG_Q8_0, PG_F16, 0, 250, 300, 5e-5 },
};

static unsigned long long seed = 1;
static pg_kv kv;
static pg_kv_stream stream;
static int32_t page_of[2][MOST / PAGE + 1]; /* of the sequence in question and of the other one */
static float *query;                        /* [to + OTHER, H * dk] the other's rows last */
static float *keys, *values;                /* weights as numbers: [H, nope, latent], [H, dv, latent] */
static pg_tensor key_w, value_w;

static void *room(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!p) {
        printf("no memory\n");
        exit(1);
    }
    return p;
}

/* A stack {k, n, H} of random weights in the format of a case. */
static pg_tensor weights(const shape *s, int k, int n)
{
    float row[WIDEST];
    pg_tensor w = pg_tensor_dense(s->w, NULL, k, n, s->H);
    char *data = room((size_t)w.stride[3]);
    for (int i = 0; i < n * s->H; i++) {
        for (int c = 0; c < k; c++) row[c] = check_uniform(&seed);
        if (s->w == PG_F32)
            memcpy(data + i * w.stride[1], row, (size_t)k * sizeof *row);
        else
            pg_pack_of(s->w)(data + i * w.stride[1], row, k);
    }
    w.data = data;
    return w;
}

/* The same packed, as weights are that rows meet rounded. */
static pg_tensor packed(pg_tensor w)
{
    const int64_t n = (w.shape[1] + PG_PANEL - 1) / PG_PANEL, bytes = PG_PANEL * w.stride[1];
    char *data = room((size_t)(n * bytes * w.shape[2]));
    for (int64_t h = 0; h < w.shape[2]; h++) {
        const pg_tensor one = pg_tensor_slice(&w, h);
        for (int64_t p = 0; p < n; p++) pg_panel_pack(data + (h * n + p) * bytes, &one, p);
    }
    free((void *)(uintptr_t)w.data);
    w.data = data;
    w.stride[2] = n * bytes;
    w.stride[3] = w.stride[2] * w.shape[2];
    w.packed = 1;
    return w;
}

/* 8-bit products: latents, and weights that are turned, count as what they are rounded to. */
static int is_rounded(const shape *s)
{
    return pg_dtype_is_quant(s->w) && !s->exact;
}

static void round_latent(float *x, int n)
{
    for (int b = 0; b < n; b += 32) {
        float most = 0;
        for (int i = b; i < b + 32; i++) most = fmaxf(most, fabsf(x[i]));
        for (int i = b; i < b + 32; i++) x[i] = most / 127 * rintf(x[i] * (127 / most));
    }
}

static void round_keys(const shape *s)
{
    char block[34];
    for (int i = 0; i < s->H * s->nope * s->latent; i += 32) {
        pg_pack_of(PG_Q8_0)(block, keys + i, 32);
        pg_unpack_of(PG_Q8_0)(keys + i, block, 32);
    }
}

/* Fill the cache, the queries and the weights of a case. */
static void make(const shape *s)
{
    const int block = pg_dtype_get(s->kv)->block, wide = (s->latent + s->rot + block - 1) / block * block;
    const int n_page = (s->to + PAGE - 1) / PAGE, rest = (OTHER + PAGE - 1) / PAGE, dk = s->nope + s->rot;
    stream = (pg_kv_stream){ 0, s->latent + s->rot, (int32_t)pg_dtype_bytes(s->kv, wide) };
    kv = (pg_kv){ .page_tokens = PAGE, .n_stream = 1, .dtype = s->kv, .stream = &stream };
    kv.page_bytes = (int64_t)stream.row_bytes * PAGE;
    kv.base = room((size_t)(kv.page_bytes * (n_page + rest)));
    float row[WIDEST] = { 0 };
    for (int t = 0; t < (n_page + rest) * PAGE; t++) {
        for (int c = 0; c < s->latent + s->rot; c++) row[c] = check_uniform(&seed);
        if (s->kv == PG_F32)
            memcpy(kv.base + (int64_t)t * stream.row_bytes, row, (size_t)wide * sizeof *row);
        else
            pg_pack_of(s->kv)(kv.base + (int64_t)t * stream.row_bytes, row, wide);
    }
    const int64_t n_query = (int64_t)(s->to + OTHER) * s->H * dk;
    query = room((size_t)n_query * sizeof *query);
    for (int64_t i = 0; i < n_query; i++) query[i] = check_uniform(&seed);
    for (int i = 0; i < n_page; i++) page_of[0][i] = n_page + rest - 1 - i; /* not in order of memory */
    for (int i = 0; i < rest; i++) page_of[1][i] = rest - 1 - i;
    key_w = s->across ? weights(s, s->nope, s->latent) : weights(s, s->latent, s->nope);
    value_w = weights(s, s->latent, s->dv);
    keys = room((size_t)(s->H * s->nope * s->latent) * sizeof *keys);
    values = room((size_t)(s->H * s->dv * s->latent) * sizeof *values);
    for (int h = 0; h < s->H; h++) {
        const pg_tensor k = pg_tensor_slice(&key_w, h), v = pg_tensor_slice(&value_w, h);
        for (int o = 0; o < s->dv; o++) pg_unpack_row(values + (h * s->dv + o) * s->latent, &v, o, 0, s->latent);
        float *to = keys + h * s->nope * s->latent;
        for (int i = 0; i < k.shape[1]; i++) {
            pg_unpack_row(row, &k, i, 0, k.shape[0]);
            for (int c = 0; c < k.shape[0]; c++) to[s->across ? c * s->latent + i : i * s->latent + c] = row[c];
        }
    }
    if (!is_rounded(s)) return;
    if (s->across) round_keys(s);
    if (s->across) key_w = packed(key_w);
    value_w = packed(value_w);
}

static void drop(void)
{
    free(kv.base);
    free(query);
    free(keys);
    free(values);
    free((void *)(uintptr_t)key_w.data);
    free((void *)(uintptr_t)value_w.data);
}

/* How the rows from .. to are brought to the op. */
typedef struct way {
    int lanes, chunk, crowd; /* crowd: rows of the other sequence in every step, in front */
    const char *isa;
} way;

static void step(pg_backend *b, const shape *s, const way *w, int pos, int n, float *y)
{
    int32_t at[MOST + OTHER], seq[MOST + OTHER];
    const int32_t *pages[2] = { page_of[0], page_of[1] };
    const int all = n + w->crowd, width = s->H * (s->nope + s->rot), out = s->H * s->dv;
    float *q = (float *)b->ops->read(b, 0);
    for (int r = 0; r < all; r++) {
        seq[r] = r < w->crowd;
        at[r] = r < w->crowd ? r : pos + r - w->crowd;
        const int64_t from = r < w->crowd ? s->to + r : at[r];
        memcpy(q + (int64_t)r * width, query + from * width, (size_t)width * sizeof *q);
    }
    const pg_rows rows = { .n = all, .n_prefill = all, .pos = at, .seq = seq, .pages = pages };
    b->ops->run(b, &rows, &kv);
    memcpy(y, (const float *)b->ops->read(b, 1) + (int64_t)w->crowd * out, (size_t)(n * out) * sizeof *y);
}

/* Outputs [to - from, H * dv] of a case, one way. */
static float *run(const shape *s, const way *w)
{
    const int n = s->to - s->from, most = w->chunk + w->crowd, out = s->H * s->dv;
    pg_op op = { .code = PG_OP_MLA, .dst = 1, .src = { 0, PG_NO_REF }, .w = &key_w };
    op.a.mla.v = &value_w;
    op.a.mla.across = s->across;
    op.a.mla.heads = s->H;
    op.a.mla.nope = s->nope;
    op.a.mla.rot = s->rot;
    op.a.mla.latent = s->latent;
    op.a.mla.dv = s->dv;
    op.a.mla.scale = 0.3f;
    const int width = s->H * (s->nope + s->rot);
    const pg_value value[2] = { { .width = width },
                                { .width = out, .offset = pg_round_up((int64_t)most * width * 4, 64) } };
    const pg_code code = { .op = &op,
                           .value = value,
                           .n_op = 1,
                           .n_value = 2,
                           .max_rows = most,
                           .exact = s->exact,
                           .arena_bytes = pg_round_up(value[1].offset + (int64_t)most * out * 4, 64) };
    const char *why = "";
    float *y = room((size_t)(n * out) * sizeof *y);
    pg_backend *b = pg_cpu_open(w->lanes, w->isa, &why);
    CHECK(b, "%s", why);
    if (!b || b->ops->prepare(b, &code)) exit(1);
    for (int i = 0; i < n; i += w->chunk)
        step(b, s, w, s->from + i, n - i < w->chunk ? n - i : w->chunk, y + (int64_t)i * out);
    b->ops->close(b);
    return y;
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* As it is written in the paper, one head of one row; how far y is from it. */
static double distance(const shape *s, int pos, int h, const float *y)
{
    static double score[MOST];
    const float *q = query + ((int64_t)pos * s->H + h) * (s->nope + s->rot);
    const int block = pg_dtype_get(s->kv)->block;
    double top = -1e30, sum = 0, out[WIDEST] = { 0 }, far = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int t = 0; t <= pos; t++) {
            float row[WIDEST];
            pg_unpack_of(s->kv)(row,
                                kv.base + page_of[0][t / PAGE] * kv.page_bytes + (int64_t)(t % PAGE) * stream.row_bytes,
                                (s->latent + s->rot + block - 1) / block * block);
            if (is_rounded(s)) round_latent(row, s->latent);
            if (pass == 0) {
                score[t] = dot(q + s->nope, row + s->latent, s->rot);
                for (int o = 0; o < s->nope; o++)
                    score[t] += (double)q[o] * dot(keys + (h * s->nope + o) * s->latent, row, s->latent);
                score[t] *= 0.3;
                top = fmax(top, score[t]);
                continue;
            }
            const double p = exp(score[t] - top);
            sum += p;
            for (int o = 0; o < s->dv; o++) out[o] += p * dot(values + (h * s->dv + o) * s->latent, row, s->latent);
        }
    for (int o = 0; o < s->dv; o++) far = fmax(far, fabs(out[o] / sum - (double)y[o]));
    return far;
}

static void check_shape(const shape *s, unsigned have)
{
    static const way ways[] = { { 2, 600, 0, "" }, { 3, 7, 0, "" },  { 1, 1, 0, "" },       { 2, 40, 3, "" },
                                { 3, 64, 33, "" }, { 16, 2, 0, "" }, { 2, 150, 0, "avx2" }, { 3, 600, 9, "ref" },
                                { 9, 600, 0, "" }, { 5, 256, 1, "" } };
    const way first = { 1, 600, 0, "" };
    make(s);
    const size_t n = (size_t)(s->to - s->from) * (size_t)(s->H * s->dv);
    float *want = run(s, &first);
    double far = 0;
    for (int pos = s->from; pos < s->to; pos += 7)
        for (int h = 0; h < s->H; h++)
            far = fmax(far, distance(s, pos, h, want + ((int64_t)(pos - s->from) * s->H + h) * s->dv));
    CHECK(far < s->near, "%s: off by %g", s->name, far);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const way *w = &ways[i];
        if (!strcmp(w->isa, "avx2") && !(have & PG_ISA_avx2)) continue;
        float *got = run(s, w);
        CHECK(!memcmp(got, want, n * sizeof *want), "%s: %d lanes, chunks of %d, %d others, %s: other bits", s->name,
              w->lanes, w->chunk, w->crowd, w->isa);
        free(got);
    }
    free(want);
    drop();
}

int main(void)
{
    const unsigned have = pg_isa_have();
    pg_isa_pick(have); /* weights are made before a backend is opened */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(&shapes[i], have);
    return check_done("mla");
}
