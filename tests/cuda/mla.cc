/* mla: attention over expanded latents on the CUDA backend against the formula, in f64: several sequences of different
 * length in a step, rows far into their context, chunks of all lengths, caches of all formats whose pages hold NaNs wherever
 * the step has no business. Bits must not show how positions were cut into chunks, nor what other sequences there were. */
#include "harness.h"

static unsigned long long seed = 1;
static int arch, wgmma, forced; /* forced: the expanded form, whatever it costs */
static int expanded;            /* whether it was taken */

static void mla(pg_cuda *c, const pg_op *op)
{
    c->wgmma = wgmma && c->arch / 10 == 9;
    if (arch < c->arch) c->arch = arch;
    if (forced) c->keys_each *= 1 << 20;
    pg_cuda_mla(c, op);
    expanded = c->expanded;
}

typedef struct shape {
    const char *name;
    int H, nope, rot, latent, dv, across;
    pg_dtype w, kv;
    int rows, prefill, longest, page;
    float tolerance; /* of a row's largest number; products are of operands rounded to bf16 */
} shape;

static const shape shapes[] = {
    { "f16, bf16 weights", 3, 32, 16, 64, 32, 1, PG_BF16, PG_F16, 70, 65, 300, 32, 1.5e-2f },
    { "turned, f16", 2, 16, 16, 32, 16, 0, PG_F32, PG_F16, 40, 40, 150, 16, 1.5e-2f },
    { "bf16, 192 and 128", 2, 128, 64, 160, 128, 1, PG_BF16, PG_BF16, 140, 139, 200, 32, 2e-2f },
    { "q8_0, q8_0 weights", 2, 64, 32, 96, 64, 0, PG_Q8_0, PG_Q8_0, 33, 30, 260, 64, 3e-2f },
    { "q8_0 weights, across", 2, 32, 32, 64, 64, 1, PG_Q8_0, PG_F16, 33, 33, 130, 32, 3e-2f },
    { "f32 cache", 2, 24, 8, 40, 24, 1, PG_F32, PG_F32, 50, 47, 140, 32, 1.5e-2f },
    { "odd sizes", 3, 12, 10, 36, 18, 1, PG_F16, PG_F16, 30, 25, 140, 16, 1.5e-2f },
    { "wide values", 1, 40, 16, 320, 200, 0, PG_F16, PG_F16, 20, 20, 90, 32, 1.5e-2f },
    { "one short row", 4, 32, 16, 64, 32, 1, PG_BF16, PG_F16, 5, 1, 9, 32, 1.5e-2f },
};

/* ---- the formula -------------------------------------------------------------------------------------------------- */

/* Keys and values of a position. */
typedef struct seen {
    std::vector<double> key, value; /* [heads][nope + rot], [heads][dv] */
} seen;

/* A matrix as it is stored. */
static const pg_tensor *plain_of(const harness *h, const pg_tensor *w)
{
    for (const harness_weight *x : h->weight)
        if (x->cpu.data() == w) return x->plain.data();
    return NULL;
}

typedef std::vector<std::vector<float>> matrices; /* a head's each */

static matrices unpacked(const pg_tensor *w, int heads)
{
    matrices all;
    for (int h = 0; h < heads; h++) {
        const int64_t k = w[h].shape[0], n = w[h].shape[1];
        all.push_back(std::vector<float>((size_t)(k * n)));
        for (int64_t i = 0; i < n; i++) pg_unpack_row(&all.back()[(size_t)(i * k)], &w[h], i, 0, k);
    }
    return all;
}

static seen expand(const harness *h, const shape *s, const matrices &k, const matrices &v, int seq, int pos)
{
    const int block = pg_dtype_get(s->kv)->block, wide = (s->latent + s->rot + block - 1) / block * block;
    std::vector<float> row((size_t)wide);
    pg_unpack_of(s->kv)(row.data(),
                        h->cache.data() + h->pages[seq][pos / s->page] * h->kv.page_bytes +
                            (int64_t)(pos % s->page) * h->stream[0].row_bytes,
                        wide);
    seen x;
    for (int head = 0; head < s->H; head++) {
        const std::vector<float> &wk = k[head], &wv = v[head];
        for (int o = 0; o < s->nope; o++) {
            double sum = 0;
            for (int i = 0; i < s->latent; i++)
                sum += (double)row[i] * wk[(size_t)(s->across ? i * s->nope + o : o * s->latent + i)];
            x.key.push_back(sum);
        }
        for (int i = 0; i < s->rot; i++) x.key.push_back(row[s->latent + i]);
        for (int o = 0; o < s->dv; o++) {
            double sum = 0;
            for (int i = 0; i < s->latent; i++) sum += (double)row[i] * wv[(size_t)(o * s->latent + i)];
            x.value.push_back(sum);
        }
    }
    return x;
}

/* Rows of the prefill class, where harness_close looks for the CPU's. Scores are spread over [-6, 6], which
 * is told the op. */
static void run_formula(harness *h, const shape *s, pg_ref q, pg_ref y)
{
    pg_op *op = &h->op.back();
    const int dk = s->nope + s->rot;
    std::map<std::pair<int, int>, seen> kept;
    std::vector<std::vector<double>> score;
    const matrices k = unpacked(plain_of(h, op->w), s->H), v = unpacked(plain_of(h, op->a.mla.v), s->H);
    double most = 0;
    h->by_cpu = h->arena;
    for (int r = 0; r < h->n_prefill; r++)
        for (int head = 0; head < s->H; head++) {
            score.push_back({});
            for (int t = 0; t <= h->pos[r]; t++) {
                seen &x = kept[{ h->seq[r], t }];
                if (x.key.empty()) x = expand(h, s, k, v, h->seq[r], t);
                double sum = 0;
                for (int i = 0; i < dk; i++) sum += (double)*harness_at(h, q, r, head * dk + i) * x.key[head * dk + i];
                score.back().push_back(sum);
                most = fmax(most, fabs(sum));
            }
        }
    op->a.mla.scale = (float)(6 / most);
    for (int r = 0; r < h->n_prefill; r++)
        for (int head = 0; head < s->H; head++) {
            std::vector<double> out((size_t)s->dv);
            double sum = 0;
            for (int t = 0; t <= h->pos[r]; t++) {
                const double p = exp(score[(size_t)(r * s->H + head)][t] * op->a.mla.scale);
                sum += p;
                for (int o = 0; o < s->dv; o++) out[o] += p * kept[{ h->seq[r], t }].value[head * s->dv + o];
            }
            float *to =
                reinterpret_cast<float *>(h->by_cpu.data() + h->value[y].offset) + ((int64_t)r * s->H + head) * s->dv;
            for (int o = 0; o < s->dv; o++) to[o] = (float)(out[o] / sum);
        }
}

/* ---- a step ------------------------------------------------------------------------------------------------------- */

static int64_t key_bytes(const shape *s)
{
    return ((s->latent + 63) / 64 * 64 + (int64_t)s->H * (s->nope + s->rot + s->dv)) * 2;
}

/* NaNs in all that no row of a sequence sees, and between rows. */
static void spoil(harness *h, const shape *s)
{
    std::vector<char> keep(h->cache.size(), (char)0xff);
    keep.swap(h->cache);
    for (int r = 0; r < h->n; r++)
        for (int t = 0; t <= h->pos[r]; t++) {
            const int64_t at =
                h->pages[h->seq[r]][t / s->page] * h->kv.page_bytes + (int64_t)(t % s->page) * h->stream[0].row_bytes;
            memcpy(h->cache.data() + at, keep.data() + at, (size_t)h->stream[0].row_bytes);
        }
}

static void make(harness *h, const shape *s, pg_ref *q, pg_ref *y)
{
    h->seed = seed++;
    h->max_rows = s->rows + 9;
    *q = harness_value(h, s->H * (s->nope + s->rot), PG_ROWS_ALL, 1);
    *y = harness_value(h, s->H * s->dv);
    pg_op *op = harness_emit(h, PG_OP_MLA, *y, *q);
    op->w = s->across ? harness_matrix(h, s->w, s->nope, s->latent, s->H)
                      : harness_matrix(h, s->w, s->latent, s->nope, s->H, true, true);
    op->a.mla.v = harness_matrix(h, s->w, s->latent, s->dv, s->H);
    op->a.mla.across = s->across;
    op->a.mla.heads = s->H;
    op->a.mla.nope = s->nope;
    op->a.mla.rot = s->rot;
    op->a.mla.latent = s->latent;
    op->a.mla.dv = s->dv;
    op->a.mla.scale = 1.0f / sqrtf((float)(s->nope + s->rot));
    h->kv.page_tokens = s->page;
    harness_step(h, s->rows, s->prefill, 1, s->longest, 10);
    harness_cache(h, s->kv, s->page, { s->latent + s->rot },
                  (int)h->pages.size() * ((s->longest + s->page - 1) / s->page));
    spoil(h, s);
}

/* Scratch that has room for `keys` positions at a time. */
static void give_scratch(harness *h, const shape *s, int keys)
{
    std::vector<pg_op> ops;
    const pg_code code = harness_code(h, &ops);
    h->scratch_bytes = pg_cuda_mla_scratch(NULL, &code, ops.data()) - (4096 - keys) * key_bytes(s);
}

static const float *rows_of(const harness *h, pg_ref y)
{
    return reinterpret_cast<const float *>(h->by_cuda.data() + h->value[y].offset);
}

static void check_shape(const shape *s)
{
    harness h;
    pg_ref q, y;
    forced = 1;
    make(&h, s, &q, &y);
    run_formula(&h, s, q, y);
    std::vector<float> first;
    for (int keys : { 64, 128, 320, 4096 }) {
        arch = 90;
        wgmma = 0;
        give_scratch(&h, s, keys);
        if (first.empty())
            harness_run_cuda(&h, mla, s->name);
        else
            harness_run_once(&h, mla, s->name);
        CHECK(expanded, "%s: was not expanded", s->name);
        harness_close(&h, y, s->tolerance, s->name);
        harness_untouched(&h, { y }, s->name);
        const int64_t n = (int64_t)s->H * s->dv, mine = s->prefill * n;
        CHECK(
            !memcmp(rows_of(&h, y) + mine, harness_at(&h, y, s->prefill, 0), (size_t)((s->rows - s->prefill) * n) * 4),
            "%s: rows of the decode class were written", s->name);
        if (first.empty()) first.assign(rows_of(&h, y), rows_of(&h, y) + mine);
        CHECK(!memcmp(first.data(), rows_of(&h, y), first.size() * 4), "%s: %d positions a chunk: other bits", s->name,
              keys);
    }
    for (int other : { 80, 86, 90 }) { /* less shared memory; other products */
        arch = other;
        wgmma = other == 90;
        harness_run_once(&h, mla, s->name);
        harness_close(&h, y, s->tolerance, s->name);
    }
    harness_close_all(&h);
}

/* The last sequence's rows give the same bits when they are alone. */
static void check_company(const shape *s)
{
    harness h;
    pg_ref q, y;
    forced = 1;
    arch = 90;
    wgmma = 0;
    make(&h, s, &q, &y);
    give_scratch(&h, s, 128);
    harness_run_once(&h, mla, s->name);
    int from = h.n_prefill - 1;
    while (from && h.seq[from - 1] == h.seq[from]) from--;
    const int n = h.n_prefill - from, wide = s->H * s->dv, in = s->H * (s->nope + s->rot);
    const std::vector<float> want(rows_of(&h, y) + (int64_t)from * wide, rows_of(&h, y) + (int64_t)h.n_prefill * wide);
    memmove(harness_at(&h, q, 0, 0), harness_at(&h, q, from, 0), (size_t)n * in * sizeof(float));
    h.pos.erase(h.pos.begin(), h.pos.begin() + from);
    h.seq.erase(h.seq.begin(), h.seq.begin() + from);
    h.n = h.n_prefill = n;
    harness_run_once(&h, mla, s->name);
    CHECK(!memcmp(want.data(), rows_of(&h, y), want.size() * sizeof(float)), "%s: bits show the company", s->name);
    harness_close_all(&h);
}

/* Which form is taken: few rows that look far back stay absorbed, a whole prompt does not. Whoever stays writes nothing. */
static void check_choice(int rows, int at, int exact, int want)
{
    const shape s = { "choice", 2, 16, 16, 128, 16, 1, PG_F32, PG_F16, rows, rows, at + rows, 32, 0 };
    harness h;
    pg_ref q, y;
    forced = 0;
    arch = 90;
    h.exact = exact;
    make(&h, &s, &q, &y);
    for (int r = 0; r < rows; r++) h.pos[r] = at + r, h.seq[r] = 0;
    if (exact)
        h.scratch_bytes = 256;
    else
        give_scratch(&h, &s, 4096);
    harness_run_once(&h, mla, s.name);
    CHECK(expanded == want, "%d rows from %d on, exact %d: %s", rows, at, exact, expanded ? "expanded" : "absorbed");
    if (!want) harness_untouched(&h, {}, s.name);
    harness_close_all(&h);
}

int main(int argc, char **argv)
{
    for (const shape &s : shapes) {
        if (argc > 1 && !strstr(s.name, argv[1])) continue;
        check_shape(&s);
        check_company(&s);
    }
    check_choice(20, 0, 0, 1);
    check_choice(20, 0, 1, 0);
    check_choice(2, 700, 0, 0);
    check_choice(60, 100, 0, 1);
    return check_done("mla");
}
