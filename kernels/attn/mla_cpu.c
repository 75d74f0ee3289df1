/* mla_cpu.c: multi-head latent attention of the prefill class. Each head's keys and values are made from the latents in
 * the cache, a block of positions at a time, and all rows of a sequence meet them while they are in the second cache.
 *
 * Nothing is kept but latents, so a step makes keys and values of all positions before its rows once more. That pays
 * from some fifty rows a step on, in which every row meets nope + rot + dv columns a key instead of 2 * latent + rot;
 * as a row's arithmetic must not show how many came along, a few rows far behind in a context are slower.
 *
 * A key or value is the product of one matrix and one latent, in the arithmetic of matmul.h: 8-bit where the matrix is
 * quantised. A matrix whose columns are the outputs is turned first, which for 8-bit products means rounded once more,
 * to Q8_0; what is made of weights is kept. Positions go by in steps with absolute borders, so a row's result depends
 * on its own position alone.
 * Sources: DeepSeek-V2, section 2.1 (arXiv 2405.04434); tiles of queries, Dao et al., FlashAttention, 2022. */
#include "attn.h"
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

#include <math.h>

enum {
    KEYS = 256,      /* positions of a block: a head's keys and values of 192 and 128 columns take 320 KiB */
    STEP = 64,       /* positions of a step of the running softmax */
    QUERIES = 64,    /* of a tile */
    PART_ROWS = 128, /* rows that are worth expanding a block for once more, so that a lane need not go without */
    GET = 16,        /* latents of an item */
    KB = 256         /* columns of a float panel at a time */
};

/* One of the two matrices, as blocks of 16 outputs of each head. */
typedef struct maker {
    const pg_tensor *w;
    int across; /* {outputs, latent, heads}; else {latent, outputs, heads} */
    int64_t n, latent;
    pg_dtype as;   /* PG_F32: panels [latent][16]; else packed panels of this format */
    int used;      /* w itself: it is packed for rows that are rounded */
    char *panel;   /* else [heads][n / 16 and the rest] */
    int64_t bytes; /* of a panel */
} maker;

typedef struct job {
    pg_cpu *c;
    const pg_op *op;
    maker k, v;
    float *latent;    /* [KEYS] of a block, `wide` numbers apart */
    pg_q8 *round;     /* the same rounded: tiles of up to PG_TILE positions, [latent / 32][positions] */
    float *top, *sum; /* [heads, rows] of the running softmax */
    int64_t wide;
    int r0, r1;            /* rows of a sequence */
    int at, n;             /* positions of the block */
    int part_rows, n_part; /* rows of an item */
} job;

/* A lane's scratch while rows meet a block. */
typedef struct room {
    float *k, *v, *s; /* [KEYS, nope + rot], [KEYS, dv], scores or 16 outputs of a tile of latents */
    const float **at;
} room;

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

static int64_t panels(int64_t n)
{
    return (n + PG_PANEL - 1) / PG_PANEL;
}

/* Of the values, or of the keys: those are read across by other ops, or by none. */
static maker maker_of(const pg_code *code, const pg_op *op, int values)
{
    const pg_tensor *w = values ? op->a.mla.v : op->w;
    const int across = !values && op->a.mla.across;
    maker m = { .w = w, .across = across, .n = w->shape[!across], .latent = w->shape[across], .as = PG_F32 };
    if (pg_is_rounded(code, w) && m.latent % 32 == 0) m.as = across ? PG_Q8_0 : w->dtype;
    m.used = values && m.as != PG_F32;
    m.bytes = PG_PANEL * (int64_t)pg_dtype_bytes(m.as, m.latent);
    return m;
}

/* Bytes of the panels of all heads. */
static int64_t made_bytes(const maker *m)
{
    return m->used ? 0 : pg_round_up(m->w->shape[2] * panels(m->n) * m->bytes, 64);
}

/* Bytes that making a head's panels takes of a lane: 16 rows as they are unpacked, then rows turned, then encoded. */
static int64_t making_bytes(const maker *m)
{
    const int64_t longest = m->n > m->latent ? m->n : m->latent;
    int64_t bytes = PG_PANEL * longest * (int64_t)sizeof(float);
    if (m->across && m->as != PG_F32)
        bytes += m->n * (m->latent * (int64_t)sizeof(float) + (int64_t)pg_dtype_bytes(m->as, m->latent));
    return bytes;
}

static int64_t wide_of(const pg_op *op)
{
    return pg_round_up(op->a.mla.latent + op->a.mla.rot, 32); /* whole blocks of any format of the cache */
}

static room room_at(char *mem, const pg_op *op)
{
    float *k = (float *)mem, *v = k + KEYS * (int64_t)(op->a.mla.nope + op->a.mla.rot);
    float *s = v + KEYS * (int64_t)op->a.mla.dv;
    return (room){ k, v, s, (const float **)(s + QUERIES * STEP) };
}

pg_need pg_mla_need(const pg_code *code, const pg_op *op)
{
    const maker k = maker_of(code, op, 0), v = maker_of(code, op, 1);
    const int64_t meeting = (KEYS * (int64_t)(op->a.mla.nope + op->a.mla.rot + op->a.mla.dv) + QUERIES * STEP) * 4 +
                            PG_TILE * (int64_t)sizeof(float *);
    pg_need need = { .lane = meeting };
    if (making_bytes(&k) > need.lane) need.lane = making_bytes(&k);
    if (making_bytes(&v) > need.lane) need.lane = making_bytes(&v);
    need.kept = made_bytes(&k) + made_bytes(&v);
    need.shared = KEYS * wide_of(op) * (int64_t)sizeof(float) +
                  KEYS * (op->a.mla.latent / 32) * (int64_t)sizeof(pg_q8) +
                  2 * (int64_t)op->a.mla.heads * code->max_rows * (int64_t)sizeof(float);
    return need;
}

/* ---- panels ------------------------------------------------------------------------------------------------------- */

static char *panel_to(const maker *m, int head, int64_t panel)
{
    return m->panel + (head * panels(m->n) + panel) * m->bytes;
}

static int outputs_at(const maker *m, int64_t panel)
{
    const int64_t left = m->n - panel * PG_PANEL;
    return left < PG_PANEL ? (int)left : PG_PANEL;
}

/* [n][step] -> [columns][to_step] */
static void turn(float *to, int64_t to_step, const float *rows, int64_t step, int n, int64_t columns)
{
    for (int64_t k = 0; k < columns; k++)
        for (int o = 0; o < n; o++) to[k * to_step + o] = rows[o * step + k];
}

static void make_floats(const maker *m, int head, const pg_tensor *w, float *rows)
{
    if (!m->across) {
        for (int64_t p = 0; p < panels(m->n); p++) {
            for (int o = 0; o < outputs_at(m, p); o++)
                pg_unpack_row(rows + o * m->latent, w, p * PG_PANEL + o, 0, m->latent);
            turn((float *)panel_to(m, head, p), PG_PANEL, rows, m->latent, outputs_at(m, p), m->latent);
        }
        return;
    }
    for (int64_t k = 0; k < m->latent; k++) {
        pg_unpack_row(rows, w, k, 0, m->n);
        for (int64_t p = 0; p < panels(m->n); p++)
            memcpy((float *)panel_to(m, head, p) + k * PG_PANEL, rows + p * PG_PANEL,
                   (size_t)outputs_at(m, p) * sizeof(float));
    }
}

/* Columns become rows, and those are rounded to the format of m. */
static void make_turned(const maker *m, int head, const pg_tensor *w, float *rows)
{
    float *turned = rows + PG_PANEL * m->n;
    char *stored = (char *)(turned + m->n * m->latent);
    for (int64_t k = 0; k < m->latent; k += PG_PANEL) {
        for (int i = 0; i < PG_PANEL; i++) pg_unpack_row(rows + i * m->n, w, k + i, 0, m->n);
        turn(turned + k, m->latent, rows, m->n, PG_PANEL, m->n);
    }
    const pg_tensor as = pg_tensor_dense(m->as, stored, m->latent, m->n, 1);
    for (int64_t o = 0; o < m->n; o++) pg_pack_of(m->as)(stored + o * as.stride[1], turned + o * m->latent, m->latent);
    for (int64_t p = 0; p < panels(m->n); p++) pg_panel_pack(panel_to(m, head, p), &as, p);
}

static void make_head(void *arg, int item, int lane)
{
    const job *j = arg;
    const int heads = j->op->a.mla.heads, head = item % heads;
    const maker *m = item < heads ? &j->k : &j->v;
    if (m->used) return;
    const pg_tensor w = pg_tensor_slice(m->w, head);
    float *mem = (float *)pg_cpu_lane(j->c, lane);
    if (m->as == PG_F32)
        make_floats(m, head, &w, mem);
    else if (m->across)
        make_turned(m, head, &w, mem);
    else
        for (int64_t p = 0; p < panels(m->n); p++) pg_panel_pack(panel_to(m, head, p), &w, p);
}

static const void *panel_at(const maker *m, int head, int64_t panel)
{
    if (!m->used) return panel_to(m, head, panel);
    const pg_tensor w = pg_tensor_slice(m->w, head);
    return pg_panel_at(&w, panel * PG_PANEL);
}

/* ---- a block of latents ------------------------------------------------------------------------------------------- */

static int tile_positions(const job *j, int t0)
{
    return j->n - t0 < PG_TILE ? j->n - t0 : PG_TILE;
}

static pg_q8 *tile_at(const job *j, int t0)
{
    return j->round + (int64_t)t0 * (j->k.latent / 32);
}

static void get_latents(void *arg, int item, int lane)
{
    (void)lane;
    const job *j = arg;
    const pg_kv *kv = j->c->kv;
    const pg_kv_stream *s = &kv->stream[j->op->a.mla.stream];
    const int32_t *pages = j->c->rows->pages[j->c->rows->seq[j->r0]];
    const int block = pg_dtype_get(kv->dtype)->block, rounded = j->k.as != PG_F32 || j->v.as != PG_F32;
    for (int t = item * GET; t < j->n && t < (item + 1) * GET; t++) {
        const int pos = j->at + t, t0 = t / PG_TILE * PG_TILE;
        const char *row = kv->base + (int64_t)pages[pos / kv->page_tokens] * kv->page_bytes + s->offset +
                          (int64_t)(pos % kv->page_tokens) * s->row_bytes;
        float *latent = j->latent + t * j->wide;
        pg_unpack_of(kv->dtype)(latent, row, pg_round_up(s->width, block));
        if (rounded) pg_q8row(tile_at(j, t0) + (t - t0), tile_positions(j, t0), latent, j->k.latent);
    }
}

/* ---- keys and values of a head ------------------------------------------------------------------------------------ */

/* 16 outputs of the latents t0 .. t0 + n - 1, into y [n][16]. */
static void product(const job *j, const maker *m, const void *panel, int t0, int n, float *y, const float **at)
{
    if (m->as != PG_F32) {
        pg_qmul_of(m->as)(y, panel, tile_at(j, t0), n, m->latent);
        return;
    }
    memset(y, 0, (size_t)n * PG_PANEL * sizeof *y);
    for (int64_t k = 0; k < m->latent; k += KB) {
        for (int t = 0; t < n; t++) at[t] = j->latent + (t0 + t) * j->wide + k;
        pg_fpanel(y, at, (const float *)panel + k * PG_PANEL, n, (int)(m->latent - k < KB ? m->latent - k : KB));
    }
}

/* Outputs of a head for the whole block, rows of `step` numbers. */
static void expand(const job *j, const maker *m, int head, float *to, int64_t step, const room *r)
{
    for (int t0 = 0; t0 < j->n; t0 += PG_TILE) {
        const int n = tile_positions(j, t0);
        for (int64_t p = 0; p < panels(m->n); p++) {
            product(j, m, panel_at(m, head, p), t0, n, r->s, r->at);
            for (int t = 0; t < n; t++)
                memcpy(to + (t0 + t) * step + p * PG_PANEL, r->s + t * PG_PANEL,
                       (size_t)outputs_at(m, p) * sizeof(float));
        }
    }
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

/* Positions of the step from `at` that a row sees. */
static int seen(const job *j, int row, int at, int n)
{
    const int more = j->c->rows->pos[row] - at + 1;
    return more < n ? more : n;
}

/* Rows [from, to) meet n positions of the block from j->at + t on; each sees some. */
static void meet(const job *j, int head, int from, int to, int t, int n, const room *r)
{
    const pg_op *op = j->op;
    const int H = op->a.mla.heads, dk = op->a.mla.nope + op->a.mla.rot, dv = op->a.mla.dv;
    const float *q0 = pg_cpu_rows(j->c, op->src[0]), *q[QUERIES];
    float *y = pg_cpu_rows(j->c, op->dst) + (int64_t)head * dv, keep[QUERIES];
    for (int i = from; i < to; i++) q[i - from] = q0 + ((int64_t)i * H + head) * dk;
    const pg_held k = { .at = r->k + (int64_t)t * dk, .step = dk * 4, .dtype = PG_F32 };
    const pg_held v = { .at = r->v + (int64_t)t * dv, .step = dv * 4, .dtype = PG_F32 };
    pg_qk(r->s, n, q, to - from, &k, n, dk);   /* masked ones too: each is a number of its own, and left out below */
    for (int i = from, end; i < to; i = end) { /* rows that see the same keys go together */
        const int see = seen(j, i, j->at + t, n);
        for (end = i + 1; end < to && seen(j, end, j->at + t, n) == see;) end++;
        const int64_t state = (int64_t)head * (j->r1 - j->r0) + i - j->r0;
        float *p = r->s + (int64_t)(i - from) * n;
        pg_softmax(j->top + state, j->sum + state, keep, p, n, end - i, see, op->a.mla.scale);
        pg_pv(y + (int64_t)i * H * dv, (int64_t)H * dv, keep, p, n, end - i, &v, see, dv);
    }
}

/* Rows that see nothing after this block are whole. */
static void finish(const job *j, int head, int from, int to)
{
    const int64_t H = j->op->a.mla.heads, dv = j->op->a.mla.dv;
    for (int i = from; i < to && j->c->rows->pos[i] < j->at + j->n; i++) {
        float *y = pg_cpu_rows(j->c, j->op->dst) + (i * H + head) * dv;
        const float scale = 1.0f / j->sum[head * (int64_t)(j->r1 - j->r0) + i - j->r0];
        for (int64_t c = 0; c < dv; c++) y[c] *= scale;
    }
}

/* A head and some of the rows meet a block. */
static void attend(void *arg, int item, int lane)
{
    const job *j = arg;
    const pg_op *op = j->op;
    const int32_t *pos = j->c->rows->pos;
    const int head = item / j->n_part, dk = op->a.mla.nope + op->a.mla.rot, dv = op->a.mla.dv;
    int from = j->r0 + item % j->n_part * j->part_rows;
    const int to = j->r1 - from < j->part_rows ? j->r1 : from + j->part_rows;
    while (from < to && pos[from] < j->at) from++;
    if (from == to) return;
    const room r = room_at(pg_cpu_lane(j->c, lane), op);
    expand(j, &j->k, head, r.k, dk, &r);
    expand(j, &j->v, head, r.v, dv, &r);
    for (int t = 0; t < j->n; t++)
        memcpy(r.k + (int64_t)t * dk + op->a.mla.nope, j->latent + t * j->wide + j->k.latent,
               (size_t)op->a.mla.rot * sizeof(float));
    for (int a = from, b; a < to; a = b) {
        b = to - a < QUERIES ? to : a + QUERIES;
        for (int t = 0, first = a; t < j->n; t += STEP) {
            while (first < b && pos[first] < j->at + t) first++;
            if (first < b) meet(j, head, first, b, t, j->n - t < STEP ? j->n - t : STEP, &r);
        }
        finish(j, head, a, b);
    }
}

/* ---- the op ------------------------------------------------------------------------------------------------------- */

static void attend_sequence(job *j)
{
    const int H = j->op->a.mla.heads, n_row = j->r1 - j->r0, last = j->c->rows->pos[j->r1 - 1];
    for (int64_t i = 0; i < (int64_t)H * n_row; i++) j->top[i] = -INFINITY, j->sum[i] = 0;
    j->n_part = 1;
    while (H * j->n_part < j->c->n_lane && n_row / (j->n_part + 1) >= PART_ROWS) j->n_part++;
    j->part_rows = (n_row + j->n_part - 1) / j->n_part;
    for (j->at = 0; j->at <= last; j->at += KEYS) {
        j->n = last - j->at + 1 < KEYS ? last - j->at + 1 : KEYS;
        pg_lanes_run(j->c->lanes, get_latents, j, (j->n + GET - 1) / GET);
        pg_lanes_run(j->c->lanes, attend, j, H * j->n_part);
    }
}

void pg_cpu_mla(pg_cpu *c, const pg_op *op)
{
    const pg_rows *rows = c->rows;
    pg_kept *kept = &c->kept[op - c->code->op];
    if (!rows->n_prefill || c->base.watch) return;
    job j = { .c = c, .op = op, .k = maker_of(c->code, op, 0), .v = maker_of(c->code, op, 1), .wide = wide_of(op) };
    j.k.panel = kept->at;
    j.v.panel = kept->at + made_bytes(&j.k);
    if (!kept->made) pg_lanes_run(c->lanes, make_head, &j, 2 * op->a.mla.heads);
    kept->made = 1;
    j.latent = (float *)c->shared;
    j.round = (pg_q8 *)(j.latent + KEYS * j.wide);
    j.top = (float *)(j.round + KEYS * (j.k.latent / 32));
    j.sum = j.top + (int64_t)op->a.mla.heads * rows->n_prefill;
    for (j.r0 = 0; j.r0 < rows->n_prefill; j.r0 = j.r1) {
        for (j.r1 = j.r0 + 1; j.r1 < rows->n_prefill && rows->seq[j.r1] == rows->seq[j.r0];) j.r1++;
        attend_sequence(&j);
    }
}
