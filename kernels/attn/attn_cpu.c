/* attn_cpu.c: causal attention over the paged cache. What fills it is in store_cpu.c.
 *
 * A tile of neighbouring rows and the heads that share a kv head, 64 queries at most, meet one page of keys at a time.
 * MLA's absorbed form is the same op: one kv head as wide as latent + rope, whose first columns are the value.
 *
 * A row's arithmetic depends on its own position and on nothing else. Positions are cut into runs at absolute borders;
 * within a run a running maximum and sum go from page to page, and the runs of a row are merged in order. So runs may be
 * computed by different lanes when there are too few rows to go round, and nothing shows who did.
 *
 * Memory likes to be read in order, and a kv head's keys are slices of the cache's rows. So where there are few rows an
 * item takes several kv heads, page by page, and while they are worked on the next page is fetched from end to end.
 * Sources: online softmax, Milakov, Gimelshein 2018; tiles of queries, Dao et al., FlashAttention, 2022; splitting keys
 * for a lone query, Dao et al., Flash-Decoding, 2023; paged cache, Kwon et al., PagedAttention, 2023; attention sinks as
 * a logit without a value, OpenAI gpt-oss; absorbed MLA, DeepSeek-V2 (arXiv 2405.04434). */
#include "attn.h"
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

#include <math.h>
#include <stdatomic.h>

enum {
    QUERIES = 64,    /* of an item, at most: enough to hide the unpacking, few enough for the second cache */
    UNPACK = 24,     /* queries of a kv head from which on unpacking a page first pays */
    RUN_LEAST = 128, /* positions of a run; longer where a row would have more than RUNS of them */
    RUNS = 32,
    SPLIT_ROWS = 4 /* more rows than this are not cut into runs */
};

typedef struct job {
    pg_cpu *c;
    const pg_op *op;
    const float *q; /* [T, H * dk] */
    float *y;       /* [T, H * dv] */
    const pg_kv_stream *ks, *vs;
    int first_row, n_row;
    int32_t *tile; /* [n_tile + 1] first row of each tile */
    int n_tile;
    int groups, n_group;        /* kv heads of an item; items' worth of them */
    int heads_part, head_parts; /* heads of a kv head in an item, if not all; items' worth of them */
    int n_run;                  /* > 0: each run is an item of its own, this many a part */
    _Atomic int *left;          /* [parts] runs that are not done */
    float *runs;                /* their results */
} job;

/* What one item is about: the rows of a tile and some heads: either all heads of some kv heads, or some of one.
 * Query i is row r0 + i / n_head % rows, and head i % n_head of those that share kv head g0 + i / n_head / rows. */
typedef struct part {
    int r0, r1, g0, n_g, h0, n_head, n_q;
    int first, last; /* positions that its rows see */
    int run;         /* positions of a run */
} part;

/* Sums of some queries over some positions. */
typedef struct state {
    float *top, *sum; /* [n_q] largest score; sum of exp(score - top) */
    float *acc;       /* [n_q, dv] sum of exp(score - top) * value */
} state;

static state state_at(float *mem, int n_q)
{
    return (state){ mem, mem + n_q, mem + 2 * n_q };
}

/* A lane's scratch. */
typedef struct room {
    float *k, *v, *s, *run; /* a page unpacked, scores, a state */
} room;

static int64_t padded(int64_t n)
{
    return pg_round_up(n, 16);
}

static room room_at(char *mem, int dk, int dv)
{
    float *k = (float *)mem, *v = k + padded((int64_t)PG_PAGE_MOST * dk), *s = v + padded((int64_t)PG_PAGE_MOST * dv);
    return (room){ k, v, s, s + QUERIES * PG_PAGE_MOST };
}

pg_need pg_attn_need(const pg_code *code, const pg_op *op)
{
    const int64_t dk = op->a.attn.dk, dv = op->a.attn.dv, H = op->a.attn.heads;
    const int64_t page = padded(PG_PAGE_MOST * dk) + padded(PG_PAGE_MOST * dv);
    const int64_t lane = page + QUERIES * PG_PAGE_MOST + QUERIES * (dv + 2);
    const int64_t shared = padded(code->max_rows + 1) + padded(SPLIT_ROWS * H) + SPLIT_ROWS * H * RUNS * (dv + 2);
    return (pg_need){ .lane = lane * (int64_t)sizeof(float), .shared = shared * (int64_t)sizeof(float) };
}

/* ---- pages -------------------------------------------------------------------------------------------------------- */

static char *page_at(const pg_kv *kv, const pg_kv_stream *s, int32_t page)
{
    return kv->base + (int64_t)page * kv->page_bytes + s->offset;
}

/* Columns [col, col + width) of a row whose blocks do not begin or end there. */
static void unpack_within(pg_unpack_fn *unpack, const pg_dtype_info *info, const char *row, int col, int width,
                          float *out)
{
    float block[32];
    row += (int64_t)(col / info->block) * info->bytes;
    for (int i = -(col % info->block); i < width; i += info->block, row += info->bytes) {
        unpack(block, row, info->block);
        const int from = i < 0 ? -i : 0, to = width - i < info->block ? width - i : info->block;
        memcpy(out + i + from, block + from, (size_t)(to - from) * sizeof(float));
    }
}

/* n positions of a page, `width` columns from g * width of a stream: where they lie, or unpacked into mem. */
static pg_held hold(const pg_kv *kv, const pg_kv_stream *s, int32_t page, int n, int g, int width, int n_q, float *mem)
{
    const pg_dtype_info *info = pg_dtype_get(kv->dtype);
    const int col = g * width, within = col % info->block || width % info->block;
    const char *row = page_at(kv, s, page);
    const int64_t at = (int64_t)(col / info->block) * info->bytes;
    if (kv->dtype == PG_F32 || (info->block == 1 && n_q < UNPACK))
        return (pg_held){ .at = row + at, .step = s->row_bytes, .dtype = kv->dtype };
    pg_unpack_fn *unpack = pg_unpack_of(kv->dtype);
    for (int t = 0; t < n; t++, row += s->row_bytes) {
        if (within)
            unpack_within(unpack, info, row, col, width, mem + (int64_t)t * width);
        else
            unpack(mem + (int64_t)t * width, row + at, width);
    }
    return (pg_held){ .at = mem, .step = width * (int64_t)sizeof(float), .dtype = PG_F32 };
}

/* Have the same positions of a later page fetched: all kv heads' bytes in order when they are all read here, a share of
 * them with each; else those of this one. */
static void foresee(pg_held *h, const pg_kv *kv, const pg_kv_stream *s, int32_t page, int n, int g, int n_g, int all)
{
    h->soon_bytes = s->row_bytes / all;
    h->soon = page_at(kv, s, page) + (n_g == all ? g * h->soon_bytes * n : g * h->soon_bytes);
    h->soon_step = n_g == all ? h->soon_bytes : s->row_bytes;
}

/* Ask for n positions of a page, the columns of kv heads g .. g + n_g - 1, all at once: nothing has asked for a run's first
 * page before, and by itself a kernel waits for memory row after row. */
static void call_up(const pg_kv *kv, const pg_kv_stream *s, int32_t page, int n, int g, int n_g, int all)
{
    const int64_t bytes = s->row_bytes / all;
    const char *row = page_at(kv, s, page) + g * bytes;
    for (int t = 0; t < n; t++, row += s->row_bytes)
        for (int64_t b = 0; b < n_g * bytes; b += 64) __builtin_prefetch(row + b, 0, 2);
}

/* ---- one run ------------------------------------------------------------------------------------------------------ */

/* Positions of a run for a row at pos. */
static int run_length(int pos)
{
    int n = RUN_LEAST;
    while (pos / n >= RUNS) n *= 2;
    return n;
}

/* First position that a row at pos sees. */
static int first_seen(const pg_op *op, int pos)
{
    return op->a.attn.window && pos >= op->a.attn.window ? pos - op->a.attn.window + 1 : 0;
}

typedef struct span {
    int from, to;
} span;

/* What of the positions [at, at + n) a row sees, counted from at; empty: from >= to. */
static span seen(const pg_op *op, int pos, int at, int n)
{
    const int first = first_seen(op, pos);
    return (span){ first > at ? first - at : 0, pos - at + 1 < n ? pos - at + 1 : n };
}

/* Rows of a part that see some of [at, at + n): neighbours, for positions grow with rows. */
static span rows_seeing(const job *j, const part *w, int at, int n)
{
    const int32_t *pos = j->c->rows->pos;
    span r = { w->r0, w->r1 };
    while (r.from < r.to && pos[r.from] < at) r.from++;
    while (r.from < r.to && first_seen(j->op, pos[r.to - 1]) >= at + n) r.to--;
    return r;
}

/* Number of a part's first query of row r and its kv head g; its other heads follow. */
static int query(const part *w, int g, int r)
{
    return (g * (w->r1 - w->r0) + r - w->r0) * w->n_head;
}

/* The first head of a part's kv head g. */
static int head(const part *w, int g)
{
    return w->h0 + g * w->n_head;
}

/* The queries of some rows and one kv head meet positions [at, at + n) of a page. */
static void meet(const job *j, const part *w, int g, span rows, int at, int n, const pg_held *k, const pg_held *v,
                 float *s, state st)
{
    const pg_op *op = j->op;
    const int dk = op->a.attn.dk, dv = op->a.attn.dv, i0 = query(w, g, rows.from), n_q = query(w, g, rows.to) - i0;
    const int32_t *pos = j->c->rows->pos;
    const float *q[QUERIES];
    float keep[QUERIES], scale = op->a.attn.scale;
    for (int r = rows.from, i = 0; r < rows.to; r++)
        for (int h = 0; h < w->n_head; h++) q[i++] = j->q + ((int64_t)r * op->a.attn.heads + head(w, g) + h) * dk;
    /* a row of scores begins beyond the register that ends the last one: reading what a masked store covers takes long */
    const int64_t step = padded(n);
    pg_qk(s, step, q, n_q, k, n, dk); /* masked ones too: each is a number of its own, and left out below */
    if (op->a.attn.softcap > 0) {
        for (int i = 0; i < n_q; i++)
            for (float *x = s + i * step; x < s + i * step + n; x++)
                *x = op->a.attn.softcap * tanhf(scale * *x / op->a.attn.softcap);
        scale = 1;
    }
    for (int r = rows.from, end; r < rows.to; r = end) { /* rows that see the same keys go together */
        const span see = seen(op, pos[r], at, n);
        for (end = r + 1; end < rows.to; end++) {
            const span other = seen(op, pos[end], at, n);
            if (other.from != see.from || other.to != see.to) break;
        }
        const int i = query(w, g, r), m = query(w, g, end) - i;
        float *p = s + (int64_t)(i - i0) * step + see.from;
        pg_held some = *v;
        some.at = (const char *)v->at + see.from * v->step;
        pg_softmax(st.top + i, st.sum + i, keep, p, step, m, see.to - see.from, scale);
        pg_pv(st.acc + (int64_t)i * dv, dv, keep, p, step, m, &some, see.to - see.from, dv);
    }
}

/* Run u of a part, from nothing. */
static void meet_run(const job *j, const part *w, int u, const room *m, state st)
{
    const pg_op *op = j->op;
    const pg_kv *kv = j->c->kv;
    const int P = kv->page_tokens, G = op->a.attn.kv_heads, n_q = (w->r1 - w->r0) * w->n_head;
    const int one = j->ks == j->vs && G == 1; /* MLA: values are the keys' first columns */
    const int32_t *pages = j->c->rows->pages[j->c->rows->seq[w->r0]];
    const int first = w->first > u * w->run ? w->first : u * w->run;
    const int last = w->last < (u + 1) * w->run - 1 ? w->last : (u + 1) * w->run - 1;
    for (int i = 0; i < w->n_q; i++) st.top[i] = -INFINITY, st.sum[i] = 0;
    if (w->r1 - w->r0 == 1) {
        const int n = last + 1 < first / P * P + P ? last + 1 - first / P * P : P;
        call_up(kv, j->ks, pages[first / P], n, w->g0, w->n_g, G);
        if (!one) call_up(kv, j->vs, pages[first / P], n, w->g0, w->n_g, G);
    }
    for (int p = first / P; p <= last / P; p++) {
        const int at = p * P, n = last - at + 1 < P ? last - at + 1 : P;
        const span rows = rows_seeing(j, w, at, n);
        for (int g = 0; g < w->n_g && rows.from < rows.to; g++) {
            pg_held k = hold(kv, j->ks, pages[p], n, w->g0 + g, op->a.attn.dk, n_q, m->k), v = k;
            if (!one) v = hold(kv, j->vs, pages[p], n, w->g0 + g, op->a.attn.dv, n_q, m->v);
            if (p < w->last / P) {
                foresee(&k, kv, j->ks, pages[p + 1], n, w->g0 + g, w->n_g, G);
                if (!one) foresee(&v, kv, j->vs, pages[p + 1], n, w->g0 + g, w->n_g, G);
            }
            meet(j, w, g, rows, at, n, &k, &v, m->s, st);
        }
    }
}

/* ---- runs to rows ------------------------------------------------------------------------------------------------- */

static float *output_at(const job *j, int r, int h)
{
    return j->y + ((int64_t)r * j->op->a.attn.heads + h) * j->op->a.attn.dv;
}

static void begin(const job *j, const part *w, float *top, float *sum)
{
    for (int i = 0; i < w->n_q; i++) top[i] = -INFINITY, sum[i] = 0;
    if (!j->op->v) return;
    for (int g = 0, i = 0; g < w->n_g; g++)
        for (int r = w->r0; r < w->r1; r++)
            for (int h = head(w, g); h < head(w, g + 1); h++, i++) { /* a sink has no value */
                top[i] = j->op->v[h];
                sum[i] = 1;
                memset(output_at(j, r, h), 0, (size_t)j->op->a.attn.dv * sizeof(float));
            }
}

/* Add run u to the rows that see some of it; a row's last run makes it whole. */
static void merge(const job *j, const part *w, int u, state run, float *top, float *sum)
{
    const span rows = rows_seeing(j, w, u * w->run, w->run);
    const int dv = j->op->a.attn.dv;
    for (int g = 0; g < w->n_g; g++) {
        const int i0 = query(w, g, rows.from), n = query(w, g, rows.to) - i0;
        float keep[QUERIES], by[QUERIES], rest[QUERIES] = { 0 };
        memcpy(by, run.top + i0, (size_t)n * sizeof *by);
        pg_softmax(top + i0, rest, keep, by, 1, n, 1, 1.0f);
        for (int i = 0; i < n; i++) {
            const pg_held acc = { .at = run.acc + (int64_t)(i0 + i) * dv, .dtype = PG_F32 };
            const int r = rows.from + i / w->n_head, last = j->c->rows->pos[r] < (u + 1) * w->run;
            sum[i0 + i] = sum[i0 + i] * keep[i] + run.sum[i0 + i] * by[i];
            const float scale = last ? 1.0f / sum[i0 + i] : 1.0f, old = keep[i] * scale, new = by[i] * scale;
            pg_pv(output_at(j, r, head(w, g) + i % w->n_head), 0, &old, &new, 0, 1, &acc, 1, dv);
        }
    }
}

/* What begin and merge come to, to the bit, where a part has one run and no sinks: nothing to keep, and e^0 is 1. */
static void settle(const job *j, const part *w, state run)
{
    const int dv = j->op->a.attn.dv;
    for (int g = 0; g < w->n_g; g++)
        for (int r = w->r0; r < w->r1; r++)
            for (int h = head(w, g); h < head(w, g + 1); h++, run.acc += dv, run.sum++) {
                const float by = 1.0f / *run.sum;
                float *y = output_at(j, r, h);
                for (int c = 0; c < dv; c++) y[c] = by * run.acc[c] + 0.0f; /* -0 becomes 0 */
            }
}

/* ---- items -------------------------------------------------------------------------------------------------------- */

/* Part i: tiles from the last, which see most, to the first. */
static part part_at(const job *j, int i)
{
    const pg_op *op = j->op;
    const int32_t *pos = j->c->rows->pos;
    const int shared = op->a.attn.heads / op->a.attn.kv_heads; /* heads that share a kv head */
    const int h = i % j->head_parts * j->heads_part, g = i / j->head_parts % j->n_group * j->groups;
    const int tile = j->n_tile - 1 - i / j->head_parts / j->n_group;
    part w = { .r0 = j->tile[tile], .r1 = j->tile[tile + 1], .g0 = g, .h0 = g * shared + h };
    w.n_g = op->a.attn.kv_heads - g < j->groups ? op->a.attn.kv_heads - g : j->groups;
    w.n_head = shared - h < j->heads_part ? shared - h : j->heads_part;
    w.n_q = (w.r1 - w.r0) * w.n_g * w.n_head;
    w.first = first_seen(op, pos[w.r0]);
    w.last = pos[w.r1 - 1];
    w.run = run_length(w.last);
    return w;
}

static void attend_part(const job *j, const part *w, int lane)
{
    const room m = room_at(pg_cpu_lane(j->c, lane), j->op->a.attn.dk, j->op->a.attn.dv);
    const state run = state_at(m.run, w->n_q);
    float top[QUERIES], sum[QUERIES];
    if (!j->op->v && w->first / w->run == w->last / w->run) {
        meet_run(j, w, w->last / w->run, &m, run);
        settle(j, w, run);
        return;
    }
    begin(j, w, top, sum);
    for (int u = w->first / w->run; u <= w->last / w->run; u++) {
        meet_run(j, w, u, &m, run);
        merge(j, w, u, run, top, sum);
    }
}

static void attend(void *arg, int item, int lane)
{
    const job *j = arg;
    const part w = part_at(j, item);
    attend_part(j, &w, lane);
}

/* Where the results of a run go that is an item of its own. */
static state run_at(const job *j, const part *w, int u)
{
    const int64_t H = j->op->a.attn.heads;
    const int64_t before = (u * (int64_t)j->n_row + w->r0 - j->first_row) * H + (int64_t)(w->r1 - w->r0) * w->h0;
    return state_at(j->runs + before * (j->op->a.attn.dv + 2), w->n_q);
}

/* One run of a part; who finishes the last of them merges all. */
static void attend_run(void *arg, int item, int lane)
{
    const job *j = arg;
    const int n_part = j->n_tile * j->n_group * j->head_parts, u = item / n_part;
    const part w = part_at(j, item % n_part);
    const room m = room_at(pg_cpu_lane(j->c, lane), j->op->a.attn.dk, j->op->a.attn.dv);
    const int from = w.first / w.run, to = w.last / w.run;
    if (from + u <= to) meet_run(j, &w, from + u, &m, run_at(j, &w, u));
    if (atomic_fetch_sub_explicit(&j->left[item % n_part], 1, memory_order_acq_rel) > 1) return;
    float top[QUERIES], sum[QUERIES];
    begin(j, &w, top, sum);
    for (int i = from; i <= to; i++) merge(j, &w, i, run_at(j, &w, i - from), top, sum);
}

/* What cutting the rows into tiles found. */
typedef struct extent {
    int64_t work; /* products of one head */
    int rows;     /* of the longest tile */
    int n_run;    /* of the tile that has most */
} extent;

/* Tiles: neighbours in one sequence, whose runs have one length, `most` at most. */
static extent cut_tiles(job *j, int most)
{
    const pg_rows *rows = j->c->rows;
    extent e = { 0 };
    const int end = j->first_row + j->n_row;
    for (int r = j->first_row, next; r < end; r = next) {
        next = r + 1;
        while (next < end && next - r < most && rows->seq[next] == rows->seq[r] &&
               run_length(rows->pos[next]) == run_length(rows->pos[r]))
            next++;
        j->tile[j->n_tile++] = r;
        const int first = first_seen(j->op, rows->pos[r]), last = rows->pos[next - 1], run = run_length(last);
        e.work += (int64_t)(next - r) * (last - first + 1) * (j->op->a.attn.dk + j->op->a.attn.dv);
        if (next - r > e.rows) e.rows = next - r;
        if (last / run - first / run + 1 > e.n_run) e.n_run = last / run - first / run + 1;
    }
    j->tile[j->n_tile] = end;
    return e;
}

/* How much an item takes: as much as it may, unless lanes would go without. */
static void share_out(job *j, const extent *e)
{
    const int G = j->op->a.attn.kv_heads, shared = j->op->a.attn.heads / G, n_lane = j->c->n_lane;
    j->heads_part = shared < QUERIES ? shared : QUERIES;
    j->groups = QUERIES / (j->heads_part * e->rows);
    if (j->groups > G) j->groups = G;
    if (j->heads_part < shared) j->groups = 1;
    const int split = n_lane > 1 && e->n_run > 1 && j->n_row <= SPLIT_ROWS;
    const int tiles = j->n_tile * (split ? e->n_run : 1);
    while (j->groups > 1 && tiles * ((G + j->groups - 1) / j->groups) < (e->rows == 1 ? 1 : 2) * n_lane)
        j->groups = (j->groups + 1) / 2;
    j->n_group = (G + j->groups - 1) / j->groups;
    while (j->heads_part > 1 && tiles * j->n_group * ((shared + j->heads_part - 1) / j->heads_part) < n_lane)
        j->heads_part = (j->heads_part + 1) / 2;
    j->head_parts = (shared + j->heads_part - 1) / j->heads_part;
    j->n_run = split ? e->n_run : 0;
}

static job job_of(pg_cpu *c, const pg_op *op, int from, int to)
{
    return (job){ .c = c,
                  .op = op,
                  .q = pg_cpu_rows(c, op->src[0]),
                  .y = pg_cpu_rows(c, op->dst),
                  .ks = &c->kv->stream[op->a.attn.k_stream],
                  .vs = &c->kv->stream[op->a.attn.v_stream],
                  .first_row = from,
                  .n_row = to - from };
}

/* Rows [from, to), of one class: tiles of many rows and those of one are shared out in their own ways. */
static void attend_rows(pg_cpu *c, const pg_op *op, int from, int to)
{
    if (from == to) return;
    job j = job_of(c, op, from, to);
    j.tile = (int32_t *)c->shared;
    const int shared = op->a.attn.heads / op->a.attn.kv_heads;
    const extent e = cut_tiles(&j, shared < QUERIES ? QUERIES / shared : 1);
    share_out(&j, &e);
    const int n_part = j.n_tile * j.n_group * j.head_parts;
    if (pg_cpu_is_small(c, e.work * op->a.attn.heads * PG_PRODUCT_BYTES)) {
        for (int i = 0; i < n_part; i++) attend(&j, i, 0);
    } else if (j.n_run) {
        j.left = (_Atomic int *)(j.tile + padded(c->code->max_rows + 1));
        j.runs = (float *)j.left + padded((int64_t)SPLIT_ROWS * op->a.attn.heads);
        for (int i = 0; i < n_part; i++) atomic_store_explicit(&j.left[i], j.n_run, memory_order_relaxed);
        pg_lanes_run(c->lanes, attend_run, &j, n_part * j.n_run);
    } else {
        pg_lanes_run(c->lanes, attend, &j, n_part);
    }
}

void pg_cpu_attn(pg_cpu *c, const pg_op *op)
{
    attend_rows(c, op, pg_cpu_first(c, op), c->rows->n_prefill);
    attend_rows(c, op, c->rows->n_prefill, c->rows->n);
}

void pg_attn_heads(pg_cpu *c, const pg_op *op, const pg_heads *heads)
{
    int32_t tile[2] = { 0, 1 };
    job j = job_of(c, op, 0, 1);
    j.q = pg_heads_row(c, heads, op->src[0]);
    j.y = pg_heads_row(c, heads, op->dst);
    j.tile = tile;
    j.n_tile = j.groups = j.n_group = j.head_parts = 1;
    j.heads_part = op->a.attn.heads;
    for (int h = heads->from, n; h < heads->to; h += n) {
        n = heads->to - h < QUERIES ? heads->to - h : QUERIES;
        part w = part_at(&j, 0);
        w.h0 = h;
        w.n_head = w.n_q = n;
        attend_part(&j, &w, heads->lane);
    }
}
