/* attn: the attention op of the CUDA backend against the CPU's, over caches whose pages stand in any order and hold NaNs
 * wherever the step has no business; and its bits, which must not show how rows were shared out. */
#include "harness.h"

#include <algorithm>

static unsigned long long seed = 1;
static int sms, arch; /* what the op is told of the device */

static void attn(pg_cuda *c, const pg_op *op)
{
    if (sms >= 0) c->n_sm = sms;
    c->arch = arch;
    pg_cuda_attn(c, op);
}

typedef struct shape {
    const char *name;
    int H, G, dk, dv, one; /* one: values are the keys' first columns */
    int window, sinks;
    float softcap;
    pg_dtype dtype;
    int rows, prefill, longest, page, exact;
    int few; /* > 0: all rows but one stand below this position */
} shape;

static const shape shapes[] = {
    { "grouped 4, f16", 8, 2, 64, 64, 0, 0, 0, 0, PG_F16, 5, 0, 300, 32, 0 },
    { "grouped 1, bf16", 3, 3, 64, 64, 0, 0, 0, 0, PG_BF16, 20, 15, 150, 16, 0 },
    { "grouped 8, f16, 128", 8, 1, 128, 128, 0, 0, 0, 0, PG_F16, 40, 37, 200, 32, 0 },
    { "grouped 7, q8_0, sinks", 14, 2, 64, 64, 0, 0, 1, 0, PG_Q8_0, 30, 27, 180, 32, 0 },
    { "window, sinks, f16", 8, 2, 64, 64, 0, 50, 1, 0, PG_F16, 30, 26, 400, 32, 0 },
    { "window, bf16, long", 4, 2, 32, 32, 0, 700, 0, 0, PG_BF16, 4, 0, 3000, 64, 0 },
    { "softcap, 256, f16", 4, 2, 256, 256, 0, 0, 0, 30, PG_F16, 12, 10, 100, 32, 0 },
    { "192 and 128, f16", 4, 4, 192, 128, 0, 0, 0, 0, PG_F16, 12, 10, 140, 32, 0 },
    { "80, bf16", 4, 2, 80, 80, 0, 0, 1, 0, PG_BF16, 14, 12, 140, 32, 0 },
    { "96, f16", 4, 1, 96, 96, 0, 33, 0, 20, PG_F16, 14, 12, 140, 32, 0 },
    { "40, q8_0, blocks across heads", 4, 2, 40, 24, 0, 0, 0, 0, PG_Q8_0, 14, 11, 140, 32, 0 },
    { "20 and 36, f16, no borders", 6, 3, 20, 36, 0, 0, 1, 0, PG_F16, 14, 11, 140, 32, 0 },
    { "9 and 7, bf16", 2, 1, 9, 7, 0, 0, 0, 0, PG_BF16, 9, 5, 140, 32, 0 },
    { "latent, f16", 16, 1, 576, 512, 1, 0, 0, 0, PG_F16, 7, 5, 200, 32, 0 },
    { "latent, bf16, decode", 16, 1, 576, 512, 1, 0, 0, 0, PG_BF16, 3, 0, 700, 32, 0 },
    { "latent, q8_0", 8, 1, 576, 512, 1, 0, 0, 0, PG_Q8_0, 6, 4, 130, 32, 0 },
    { "latent, 40 heads, f16", 40, 1, 80, 64, 1, 0, 0, 0, PG_F16, 6, 3, 130, 32, 0 },
    { "latent, 72 heads, f16", 72, 1, 288, 260, 1, 0, 0, 0, PG_F16, 4, 2, 130, 32, 0 },
    { "several waves, f16", 128, 1, 16, 512, 0, 0, 0, 0, PG_F16, 33, 0, 4096, 32, 0, 9 },
    { "f32", 8, 2, 64, 48, 0, 0, 1, 0, PG_F32, 20, 15, 150, 32, 0 },
    { "f32, latent, window", 12, 1, 96, 80, 1, 77, 0, 0, PG_F32, 12, 8, 700, 32, 0 },
    { "f32, softcap, wide", 2, 1, 40, 600, 0, 0, 0, 10, PG_F32, 6, 3, 90, 32, 0 },
    { "exact, f16", 6, 3, 64, 64, 0, 0, 0, 0, PG_F16, 14, 9, 150, 32, 1 },
    { "exact, bf16", 6, 2, 48, 64, 0, 40, 1, 0, PG_BF16, 14, 9, 150, 32, 1 },
    { "exact, q8_0", 6, 2, 40, 32, 0, 0, 0, 0, PG_Q8_0, 14, 9, 150, 32, 1 },
};

static float tolerance(const shape *s)
{
    return s->exact || s->dtype == PG_F32 ? 1e-5f : s->dtype == PG_BF16 ? 1e-2f : 2e-3f;
}

static char *cached(harness *h, const shape *s, int stream, int seq, int t)
{
    const pg_kv_stream *k = &h->stream[s->one ? 0 : stream];
    return h->cache.data() + h->pages[seq][t / s->page] * h->kv.page_bytes + k->offset +
           (int64_t)(t % s->page) * k->row_bytes;
}

/* NaNs in all that no row of a sequence sees, and between rows. */
static void spoil(harness *h, const shape *s)
{
    std::vector<char> keep(h->cache.size(), (char)0xff);
    keep.swap(h->cache);
    for (int r = 0; r < h->n; r++) {
        const int first = s->window && h->pos[r] >= s->window ? h->pos[r] - s->window + 1 : 0;
        for (int t = first; t <= h->pos[r]; t++)
            for (int i = 0; i < (s->one ? 1 : 2); i++) {
                char *to = cached(h, s, i, h->seq[r], t);
                memcpy(to, keep.data() + (to - h->cache.data()), (size_t)h->stream[i].row_bytes);
            }
    }
}

static void make(harness *h, const shape *s, pg_ref *q, pg_ref *y)
{
    h->seed = seed++;
    h->max_rows = s->rows + 9;
    h->exact = s->exact;
    *q = harness_value(h, s->H * s->dk, PG_ROWS_ALL, 3);
    *y = harness_value(h, s->H * s->dv);
    pg_op *op = harness_emit(h, PG_OP_ATTN, *y, *q);
    op->v = s->sinks ? harness_vector(h, s->H, 0, 2) : NULL;
    op->a.attn.v_stream = !s->one;
    op->a.attn.heads = s->H;
    op->a.attn.kv_heads = s->G;
    op->a.attn.dk = s->dk;
    op->a.attn.dv = s->dv;
    op->a.attn.window = s->window;
    op->a.attn.softcap = s->softcap;
    op->a.attn.scale = 1.2f / sqrtf((float)s->dk);
    h->kv.page_tokens = s->page;
    harness_step(h, s->rows, s->prefill, 1, s->longest, 10);
    for (int r = 1; s->few && r < h->n; r++) h->pos[r] %= s->few;
    std::vector<int> width = { s->G * s->dk };
    if (!s->one) width.push_back(s->G * s->dv);
    harness_cache(h, s->dtype, s->page, width, (int)h->pages.size() * ((s->longest + s->page - 1) / s->page));
    spoil(h, s);
    std::vector<pg_op> ops;
    const pg_code code = harness_code(h, &ops);
    h->scratch_bytes = pg_cuda_attn_scratch(NULL, &code, op);
}

/* Rows that see something, over the whole range of scores. */
static void check_shape(const shape *s)
{
    harness h;
    pg_ref q, y;
    make(&h, s, &q, &y);
    harness_run_cpu(&h);
    const int devices[][2] = { { 132, 90 }, { 0, 90 }, { 1000, s->rows % 2 ? 80 : 86 } };
    std::vector<char> first;
    for (const auto &d : devices) {
        sms = d[0];
        arch = d[1];
        if (first.empty())
            harness_run_cuda(&h, attn, s->name);
        else
            harness_run_once(&h, attn, s->name);
        harness_close(&h, y, tolerance(s), s->name);
        harness_untouched(&h, { y }, s->name);
        if (first.empty()) first = h.by_cuda;
        CHECK(arch != 90 || first == h.by_cuda, "%s: bits show how rows were shared out (%d, %d)", s->name, d[0], d[1]);
    }
    harness_close_all(&h);
}

/* ---- bits --------------------------------------------------------------------------------------------------------- */

/* How the rows of a sequence are brought to the op: so many a step, in which class, with how many of another's. */
typedef struct way {
    int chunk, decode, crowd, sms;
} way;

/* Sequence 0's rows at positions [from, to); sequence 1's, the crowd, from 0 on. Queries stand in that order. */
static std::vector<float> bring(harness *h, const shape *s, pg_ref q, pg_ref y, const std::vector<float> &queries,
                                int from, int to, const way *w)
{
    const int wide = s->H * s->dk;
    std::vector<float> out;
    sms = w->sms;
    for (int at = from; at < to; at += w->chunk) {
        const int n = to - at < w->chunk ? to - at : w->chunk, before = w->decode ? w->crowd : w->crowd / 2;
        h->n = h->bucket = n + w->crowd;
        h->n_prefill = w->decode ? before : before + n;
        h->pos.clear();
        h->seq.clear();
        for (int r = 0; r < h->n; r++) {
            const int mine = r >= before && r < before + n, i = mine ? r - before + at - from : r < before ? r : r - n;
            h->pos.push_back(mine ? from + i : i);
            h->seq.push_back(!mine);
            memcpy(harness_at(h, q, r, 0), queries.data() + (int64_t)(mine ? i : to - from + i) * wide,
                   (size_t)wide * sizeof(float));
        }
        harness_run_once(h, attn, s->name);
        const float *got = reinterpret_cast<const float *>(h->by_cuda.data() + h->value[y].offset);
        out.insert(out.end(), got + (int64_t)before * s->H * s->dv, got + (int64_t)(before + n) * s->H * s->dv);
    }
    return out;
}

/* The same rows in other company give the same bits. */
static void check_company(const shape *s)
{
    static const way ways[2][4] = { { { 64, 0, 0, 132 }, { 7, 0, 0, 132 }, { 5, 0, 6, 132 }, { 1, 0, 3, 0 } },
                                    { { 1, 1, 0, 0 }, { 1, 1, 0, 1000 }, { 4, 1, 5, 132 }, { 8, 1, 0, 0 } } };
    harness h;
    pg_ref q, y;
    make(&h, s, &q, &y);
    arch = 90;
    const int to = s->longest, from = to - s->rows, per = (to + s->page - 1) / s->page;
    h.pages.assign(2, std::vector<int32_t>());
    for (int i = 0; i < per; i++) h.pages[0].push_back((i * 5 + 2) % per);
    h.pages[1] = h.pages[0];
    harness_cache(&h, s->dtype, s->page, { s->G * s->dk, s->G * s->dv }, per);
    std::vector<float> queries((size_t)(s->rows + 8) * s->H * s->dk);
    for (float &x : queries) x = 3 * harness_uniform(&h);
    for (int decode = 0; decode < 2; decode++) {
        const std::vector<float> want = bring(&h, s, q, y, queries, from, to, &ways[decode][0]);
        for (int i = 1; i < 4; i++) {
            const way *w = &ways[decode][i];
            const std::vector<float> got = bring(&h, s, q, y, queries, from, to, w);
            CHECK(want.size() == got.size() && !memcmp(want.data(), got.data(), want.size() * sizeof(float)),
                  "%s: %d rows a step%s, %d others: other bits", s->name, w->chunk, decode ? " decoded" : "", w->crowd);
        }
    }
    harness_close_all(&h);
}

static const shape companies[] = {
    { "company, f16", 4, 2, 64, 64, 0, 0, 0, 0, PG_F16, 12, 0, 150, 32, 0, 0 },
    { "company, bf16, window", 4, 1, 64, 64, 0, 90, 1, 0, PG_BF16, 12, 0, 340, 32, 0, 0 },
    { "company, q8_0, wide", 6, 1, 96, 288, 0, 0, 0, 0, PG_Q8_0, 9, 0, 150, 32, 0, 0 },
    { "company, f32", 4, 2, 32, 32, 0, 0, 1, 0, PG_F32, 12, 0, 700, 32, 0, 0 },
    { "company, long runs", 2, 1, 16, 16, 0, 0, 0, 0, PG_F16, 2, 0, 4500, 32, 0, 0 },
    { "company, long window", 2, 1, 16, 16, 0, 4300, 0, 0, PG_F16, 2, 0, 4500, 32, 0, 0 },
};

/* Rows all of whose scores are -inf, and heads whose query is not a number. */
static void check_odd_numbers(int sinks)
{
    const shape s = { "odd numbers", 4, 2, 32, 32, 0, 0, sinks, 0, PG_F16, 9, 6, 100, 32, 0, 0 };
    harness h;
    pg_ref q, y;
    make(&h, &s, &q, &y);
    sms = 132;
    arch = 90;
    const unsigned short one = 0x3c00;
    for (int r = 0; r < h.n; r++) {
        for (int t = 0; t <= h.pos[r]; t++)
            for (int g = 0; g < s.G; g++) memcpy(cached(&h, &s, 0, h.seq[r], t) + g * s.dk * 2, &one, sizeof one);
        *harness_at(&h, q, r, r % s.H * s.dk) = r % 3 ? -INFINITY : NAN;
    }
    harness_run_cpu(&h);
    harness_run_cuda(&h, attn, s.name);
    harness_close(&h, y, 2e-3f, s.name);
    harness_close_all(&h);
}

int main(int argc, char **argv)
{
    for (const shape &s : shapes)
        if (argc < 2 || strstr(s.name, argv[1])) check_shape(&s);
    for (const shape &s : companies)
        if (argc < 2 || strstr(s.name, argv[1])) check_company(&s);
    check_odd_numbers(0);
    check_odd_numbers(1);
    return check_done("attn");
}
