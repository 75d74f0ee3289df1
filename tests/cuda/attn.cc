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
    static const int devices[][2] = { { 132, 90 }, { 0, 80 }, { 1000, 86 } };
    std::vector<char> first;
    for (const int *d : devices) {
        sms = d[0];
        arch = d[1];
        if (d == devices[0])
            harness_run_cuda(&h, attn, s->name);
        else
            harness_run_once(&h, attn, s->name);
        harness_close(&h, y, tolerance(s), s->name);
        harness_untouched(&h, { y }, s->name);
        if (first.empty()) first = h.by_cuda;
        if (s->dv <= 256 || s->prefill == 0 || s->G > 1)
            CHECK(first == h.by_cuda, "%s: bits show how rows were shared out (%d, %d)", s->name, d[0], d[1]);
    }
    harness_close_all(&h);
}

int main(int argc, char **argv)
{
    for (const shape &s : shapes)
        if (argc < 2 || strstr(s.name, argv[1])) check_shape(&s);
    return check_done("attn");
}
