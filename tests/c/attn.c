/* attn: the attention op over a cache of many pages, against softmax in double precision; and its bits, which must not
 * show how rows were cut into steps, what else was in them, how many lanes there were, or the instruction set. Long
 * enough for several runs of positions a row, which whole models in the other tests are not. */
#include "../../kernels/cpu/cpu.h"
#include "../../kernels/unpack/unpack.h"
#include "check.h"

#include <math.h>

enum { PAGE = 32, MOST = 4300, OTHER = 150 }; /* positions a page, of a case at most, of the other sequence */

typedef struct shape {
    const char *name;
    int H, G, dk, dv, one; /* one: values are the keys' first columns */
    int window, sinks;
    float softcap;
    pg_dtype dtype;
    int from, to; /* positions whose rows are computed */
} shape;

static const shape shapes[] = {
    { "grouped, f16", 8, 2, 32, 32, 0, 0, 0, 0, PG_F16, 0, 300 },
    { "grouped, bf16", 6, 2, 48, 32, 0, 0, 0, 0, PG_BF16, 200, 300 },
    { "grouped, f32, softcap", 4, 4, 20, 24, 0, 0, 0, 30, PG_F32, 200, 290 },
    { "q8_0, sinks, window", 8, 2, 32, 64, 0, 100, 1, 0, PG_Q8_0, 0, 300 },
    { "blocks across heads", 4, 2, 40, 24, 0, 0, 0, 0, PG_Q8_0, 120, 200 },
    { "latent, f16", 16, 1, 80, 64, 1, 0, 0, 0, PG_F16, 100, 300 },
    { "latent, q8_0, many heads", 80, 1, 36, 20, 1, 0, 0, 0, PG_Q8_0, 250, 290 },
    { "narrow window, sinks", 4, 1, 16, 16, 0, 5, 1, 0, PG_F16, 120, 270 },
    { "long runs", 4, 2, 16, 16, 0, 0, 0, 0, PG_F16, 4080, 4110 },
    { "long runs, window", 4, 2, 16, 16, 0, 3000, 1, 0, PG_BF16, 4080, 4110 },
};

static unsigned long long seed = 1;
static pg_kv kv;
static pg_kv_stream stream[2];
static int32_t page_of[2][MOST / PAGE + 1]; /* of the sequence in question and of the other one */
static float *query;                        /* [MOST + OTHER, H * dk] the other's rows last */
static float *sink;

static void fail(void)
{
    printf("no memory\n");
    exit(1);
}

/* Fill the cache and the queries of a case. */
static void make(const shape *s)
{
    const int block = pg_dtype_get(s->dtype)->block, n_page = (s->to + PAGE - 1) / PAGE,
              rest = (OTHER + PAGE - 1) / PAGE;
    int64_t at = 0;
    kv = (pg_kv){ .page_tokens = PAGE, .n_stream = 2 - s->one, .dtype = s->dtype, .stream = stream };
    for (int i = 0; i < kv.n_stream; i++) {
        const int width = s->G * (i ? s->dv : s->dk);
        const int64_t bytes = (int64_t)pg_dtype_bytes(s->dtype, (width + block - 1) / block * block);
        stream[i] = (pg_kv_stream){ .offset = at, .width = width, .row_bytes = (int32_t)bytes };
        at += (bytes * PAGE + 63) / 64 * 64;
    }
    kv.page_bytes = at;
    const int64_t bytes = at * (n_page + rest), n_query = (int64_t)(s->to + OTHER) * s->H * s->dk;
    kv.base = aligned_alloc(64, (size_t)bytes);
    query = malloc((size_t)n_query * sizeof *query);
    sink = malloc((size_t)s->H * sizeof *sink);
    if (!kv.base || !query || !sink) fail();
    float row[1024];
    for (int p = 0; p < n_page + rest; p++) {
        for (int i = 0; i < kv.n_stream * PAGE; i++) {
            const pg_kv_stream *t = &stream[i / PAGE];
            const int width = (t->width + block - 1) / block * block;
            for (int c = 0; c < width; c++) row[c] = check_uniform(&seed);
            pg_pack_of(s->dtype)(kv.base + p * at + t->offset + (int64_t)(i % PAGE) * t->row_bytes, row, width);
        }
    }
    for (int64_t i = 0; i < n_query; i++) query[i] = 3 * check_uniform(&seed);
    for (int h = 0; h < s->H; h++) sink[h] = 2 * check_uniform(&seed);
    for (int i = 0; i < n_page; i++) page_of[0][i] = n_page + rest - 1 - i; /* not in order of memory */
    for (int i = 0; i < rest; i++) page_of[1][i] = rest - 1 - i;
}

static void drop(void)
{
    free(kv.base);
    free(query);
    free(sink);
}

/* How the rows from .. to are brought to the op. */
typedef struct way {
    int lanes, chunk, decode, crowd; /* crowd: rows of the other sequence in every step */
    const char *isa;
} way;

/* One step: rows at positions [pos, pos + n), and the other sequence's. */
static void step(pg_backend *b, const shape *s, const way *w, int pos, int n, float *y)
{
    int32_t at[MOST], seq[MOST];
    const int32_t *pages[2] = { page_of[0], page_of[1] };
    const int before = w->decode ? w->crowd : 0, all = n + w->crowd, width = s->H * s->dk;
    float *q = (float *)b->ops->read(b, 0);
    for (int r = 0; r < all; r++) {
        const int mine = r >= before && r < before + n, i = r < before ? r : r - n;
        seq[r] = !mine;
        at[r] = mine ? pos + r - before : i;
        memcpy(q + (int64_t)r * width, query + (int64_t)(mine ? at[r] : s->to + i) * width, (size_t)width * 4);
    }
    /* prefill: the other's rows are of the decode class and come last; decode: the other way round */
    const pg_rows rows = { .n = all, .n_prefill = w->decode ? before : n, .pos = at, .seq = seq, .pages = pages };
    b->ops->run(b, &rows, &kv);
    memcpy(y, (const float *)b->ops->read(b, 1) + (int64_t)before * s->H * s->dv, (size_t)(n * s->H * s->dv) * 4);
}

/* Outputs [to - from, H * dv] of a case, one way. */
static float *run(const shape *s, const way *w)
{
    const int n = s->to - s->from, most = w->chunk + w->crowd;
    pg_op op = { .code = PG_OP_ATTN, .dst = 1, .src = { 0, PG_NO_REF }, .v = s->sinks ? sink : NULL };
    op.a.attn.v_stream = !s->one;
    op.a.attn.heads = s->H;
    op.a.attn.kv_heads = s->G;
    op.a.attn.dk = s->dk;
    op.a.attn.dv = s->dv;
    op.a.attn.window = s->window;
    op.a.attn.softcap = s->softcap;
    op.a.attn.scale = 0.3f;
    const pg_value value[2] = { { .width = s->H * s->dk },
                                { .width = s->H * s->dv,
                                  .offset = pg_round_up((int64_t)most * s->H * s->dk * 4, 64) } };
    const pg_code code = { .op = &op,
                           .value = value,
                           .n_op = 1,
                           .n_value = 2,
                           .max_rows = most,
                           .max_decode = most,
                           .arena_bytes = pg_round_up(value[1].offset + (int64_t)most * s->H * s->dv * 4, 64) };
    const char *why = "";
    float *y = malloc((size_t)(n * s->H * s->dv) * sizeof *y);
    pg_backend *b = pg_cpu_open(w->lanes, w->isa, &why);
    CHECK(b, "%s", why);
    if (!b || !y || b->ops->prepare(b, &code)) fail();
    for (int i = 0; i < n; i += w->chunk)
        step(b, s, w, s->from + i, n - i < w->chunk ? n - i : w->chunk, y + (int64_t)i * s->H * s->dv);
    b->ops->close(b);
    return y;
}

/* Row t of a stream, columns from col, as numbers. */
static void cached(int i, int t, int col, int n, float *out)
{
    float row[1024];
    const pg_kv_stream *s = &stream[i];
    const int block = pg_dtype_get(kv.dtype)->block;
    pg_unpack_of(kv.dtype)(row, kv.base + page_of[0][t / PAGE] * kv.page_bytes + s->offset + t % PAGE * s->row_bytes,
                           (s->width + block - 1) / block * block);
    memcpy(out, row + col, (size_t)n * sizeof *out);
}

/* Softmax as it is written in books, one head of one row; how far y is from it. */
static double distance(const shape *s, int pos, int h, const float *y)
{
    static double score[MOST];
    const int g = h / (s->H / s->G), first = s->window && pos >= s->window ? pos - s->window + 1 : 0;
    const float *q = query + ((int64_t)pos * s->H + h) * s->dk;
    double top = s->sinks ? (double)sink[h] : -1e30, sum = 0, out[128] = { 0 }, far = 0;
    float row[128];
    for (int t = first; t <= pos; t++) {
        double dot = 0;
        cached(0, t, g * s->dk, s->dk, row);
        for (int c = 0; c < s->dk; c++) dot += (double)q[c] * (double)row[c];
        dot *= 0.3;
        if (s->softcap > 0) dot = (double)s->softcap * tanh(dot / (double)s->softcap);
        score[t] = dot;
        top = fmax(top, dot);
    }
    if (s->sinks) sum = exp((double)sink[h] - top);
    for (int t = first; t <= pos; t++) {
        const double p = exp(score[t] - top);
        sum += p;
        cached(!s->one, t, g * s->dv, s->dv, row);
        for (int c = 0; c < s->dv; c++) out[c] += p * (double)row[c];
    }
    for (int c = 0; c < s->dv; c++) far = fmax(far, fabs(out[c] / sum - (double)y[c]));
    return far;
}

static void check_shape(const shape *s, unsigned have)
{
    static const way ways[] = { { 2, 300, 0, 0, "" }, { 3, 7, 0, 0, "" },       { 1, 1, 0, 0, "" },
                                { 2, 1, 1, 0, "" },   { 5, 1, 1, 0, "" },       { 3, 1, 1, 2, "" },
                                { 2, 40, 0, 3, "" },  { 2, 3, 1, 0, "" },       { 3, 64, 0, 9, "" },
                                { 16, 2, 0, 0, "" },  { 2, 150, 0, 0, "avx2" }, { 3, 1, 1, 0, "avx2" } };
    make(s);
    const way first = { 1, 300, 0, 0, "" }, plain = { 2, 33, 0, 0, "ref" };
    const size_t n = (size_t)(s->to - s->from) * (size_t)(s->H * s->dv);
    float *want = run(s, &first);
    double far = 0;
    for (int pos = s->from; pos<s->to; pos += s->to> 1000 ? 5 : 3)
        for (int h = 0; h < s->H; h += 1 + s->H / 9)
            far = fmax(far, distance(s, pos, h, want + ((int64_t)(pos - s->from) * s->H + h) * s->dv));
    CHECK(far < 2e-5, "%s: off by %g", s->name, far);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const way *w = &ways[i];
        if (!strcmp(w->isa, "avx2") && !(have & PG_ISA_avx2)) continue;
        float *got = run(s, w);
        CHECK(!memcmp(got, want, n * sizeof *want), "%s: %d lanes, chunks of %d%s, %d others, %s: other bits", s->name,
              w->lanes, w->chunk, w->decode ? " decoded" : "", w->crowd, w->isa);
        free(got);
    }
    if (s->to - s->from <= 100) { /* the reference takes its time */
        float *got = run(s, &plain);
        CHECK(!memcmp(got, want, n * sizeof *want), "%s: other bits than the reference", s->name);
        free(got);
    }
    free(want);
    drop();
}

int main(void)
{
    const unsigned have = pg_isa_have();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(&shapes[i], have);
    return check_done("attn");
}
