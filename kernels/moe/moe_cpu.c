/* moe_cpu.c: the experts of a layer as two grouped multiplications.
 *
 * (row, expert) pairs are sorted by expert, so an expert's weights are read once however many rows chose it. The first
 * pass makes the hidden values of all pairs: gate and up side by side, the activation between, and the rounding for the
 * second pass at once, while 32 of them are at hand. The second adds each pair's share to its row: an item owns columns
 * of the output and visits experts in ascending order, so a row's sum runs over its own experts in a fixed order
 * whatever else is in the batch. Rows whose experts are multiplied in floats go class by class (matmul.h).
 * A shared network that follows (shared_cpu.c) joins both passes as one more expert, which every row has chosen with
 * weight 1, behind all others: to the bit what its own ops would have given, in two rounds of the lanes instead of five.
 * Source: grouped expert GEMM, Gale et al., MegaBlocks, 2022 (the grouping only). */
#include "moe.h"
#include "../glu/glu.h"

enum {
    PAIR = 2 * PG_PANEL,   /* hidden values made at a time: what is rounded together */
    SUMS = PG_TILE * PAIR, /* room for sums of a matrix */
    WIDE = 8 * PG_PANEL,   /* columns of an item of the second pass at most: hidden rows are read once for so many */
    FEW = 4,               /* rows that make their items small */
    LONG_RUN = 1 << 20     /* bytes of a lane from which on theirs are not one run */
};

/* One expert's three matrices. */
typedef struct net {
    const pg_tensor *gate, *up, *down;
    const float *gate_bias, *up_bias, *down_bias; /* or NULL */
    int64_t F;
} net;

typedef struct job {
    pg_cpu *c;
    const pg_experts *e;
    const pg_op *shared; /* the first op of a shared network that joins in, or NULL */
    net shared_net;
    const float *x;    /* [T, D] */
    float *y;          /* [T, D] */
    int row0, n_row;   /* the rows of this call */
    int in, out;       /* PG_MUL_*: how rows meet gate and up, how hidden values meet down */
    int in_by8[2];     /* gate, up are met as 8-bit integers */
    int n_pair;        /* of routed experts */
    int n_group;       /* with the shared one, which is the last */
    int32_t *start;    /* [n_group + 1] first pair of a group */
    int32_t *expert;   /* [n_group] its expert, ascending; n_expert: the shared one */
    int32_t *row;      /* [pairs] row of a pair */
    float *weight;     /* [pairs] */
    float *hidden;     /* [n_pair, F], unless rounded */
    pg_q8 *act_x;      /* [n_row][D / 32] records of a row together */
    pg_q8 *act_h;      /* pairs of a tile of a group: [F / 32][tile] */
    pg_q8 *act_s;      /* likewise of the shared network */
    int64_t n_unit;    /* hidden values of all groups, in units */
    int n_item, width; /* items of the first pass; columns of an item of the second */
} job;

/* Pairs of rows row0 .. row0 + n_row - 1, sorted by expert and then by row. */
static void group_pairs(job *j, const int32_t *pick, int pick_width)
{
    const int most = pick_width / 2, E = j->e->n_expert;
    int32_t *count = j->start + E + 2; /* [E] scratch behind start */
    memset(count, 0, (size_t)E * sizeof *count);
    for (int r = 0; r < j->n_row; r++) {
        const int32_t *p = pick + (int64_t)(j->row0 + r) * pick_width;
        for (int i = 0; i < most && p[i] >= 0; i++) count[p[i]]++;
    }
    j->n_group = 0;
    j->n_pair = 0;
    for (int e = 0; e < E; e++) {
        const int n = count[e];
        count[e] = j->n_pair; /* from here on: where the next pair of e goes */
        if (!n) continue;
        j->expert[j->n_group] = e;
        j->start[j->n_group++] = j->n_pair;
        j->n_pair += n;
    }
    j->start[j->n_group] = j->n_pair;
    for (int r = 0; r < j->n_row; r++) {
        const int32_t *p = pick + (int64_t)(j->row0 + r) * pick_width;
        for (int i = 0; i < most && p[i] >= 0; i++) {
            const int at = count[p[i]]++;
            j->row[at] = j->row0 + r;
            memcpy(&j->weight[at], &p[most + i], sizeof(float));
        }
    }
}

/* The shared network's group: every row once. */
static void group_shared(job *j)
{
    if (!j->shared) return;
    j->expert[j->n_group++] = j->e->n_expert;
    for (int r = 0; r < j->n_row; r++) {
        j->row[j->n_pair + r] = j->row0 + r;
        j->weight[j->n_pair + r] = 1;
    }
    j->start[j->n_group] = j->n_pair + j->n_row;
}

static const float *row_of(const float *m, int e, int64_t width)
{
    return m ? m + e * width : NULL;
}

static net net_of(const job *j, int g)
{
    const pg_experts *e = j->e;
    const int i = j->expert[g];
    if (i == e->n_expert) return j->shared_net;
    return (net){ &e->gate[i],
                  &e->up[i],
                  &e->down[i],
                  row_of(e->gate_bias, i, e->n_ff),
                  row_of(e->up_bias, i, e->n_ff),
                  row_of(e->down_bias, i, e->n_embd),
                  e->n_ff };
}

/* Rounded hidden values of the pairs from `first` on of a group. */
static pg_q8 *act_of(const job *j, int g, const net *w, int first)
{
    return j->expert[g] == j->e->n_expert ? j->act_s + (first - j->n_pair) * (w->F / 32)
                                          : j->act_h + first * (w->F / 32);
}

/* The scratch holds pairs of max_rows rows that visit as many experts as the model wants, and of one that visits all it
 * may. Steered rows may have more: then they go in several pieces. */
static int64_t most_pairs(const pg_code *code, const pg_experts *e)
{
    return ((int64_t)code->max_rows + 1) * e->n_used;
}

/* Sets n_row to as many of n rows from row0 on as fit, and n_pair to what they have. */
static void take_rows(job *j, const int32_t *pick, int pick_width, int n, int64_t fit)
{
    j->n_row = j->n_pair = 0;
    for (; j->n_row < n; j->n_row++) {
        const int32_t *p = pick + (int64_t)(j->row0 + j->n_row) * pick_width;
        int used = 0;
        while (used < pick_width / 2 && p[used] >= 0) used++;
        if (j->n_pair + used > fit) break;
        j->n_pair += used;
    }
}

static int at_most(int64_t left, int n)
{
    return left < n ? (int)left : n;
}

/* ---- first pass ----------------------------------------------------------------------------------------------------- */

/* A lane's scratch. */
typedef struct room {
    float *gate, *up; /* sums: [PG_TILE * 32], panels of the rows at hand */
    float *h;         /* [PG_TILE][32] */
    const float **f;  /* [PG_TILE] */
    pg_q8 *q;         /* [D / 32][PG_TILE] */
    char *mem;        /* pg_mul's */
} room;

static int64_t room_bytes(const pg_experts *e)
{
    const int64_t row = 3 * PAIR * (int64_t)sizeof(float) + (int64_t)sizeof(float *);
    return PG_TILE * (row + (e->n_embd + 31) / 32 * (int64_t)sizeof(pg_q8));
}

static room room_at(char *mem, const pg_experts *e)
{
    room m = { .gate = (float *)mem, .mem = mem + room_bytes(e) };
    m.up = m.gate + PG_TILE * PAIR;
    m.h = m.up + PG_TILE * PAIR;
    m.f = (const float **)(m.h + PG_TILE * PAIR);
    m.q = (pg_q8 *)(m.f + PG_TILE);
    return m;
}

/* The rows of pairs first .. first + n - 1, in the forms that gate and up want. A single row is where it is. */
static pg_acts gather(const job *j, const room *m, int first, int n)
{
    const int64_t blocks = j->e->n_embd / 32;
    for (int i = 0; i < n; i++) m->f[i] = j->x + (int64_t)j->row[first + i] * j->e->n_embd;
    const pg_q8 *one = j->act_x ? j->act_x + (j->row[first] - j->row0) * blocks : NULL;
    if (!one || n == 1) return (pg_acts){ m->f, one, n };
    for (int i = 0; i < n; i++) {
        const pg_q8 *from = j->act_x + (j->row[first + i] - j->row0) * blocks;
        for (int64_t b = 0; b < blocks; b++) m->q[b * n + i] = from[b];
    }
    return (pg_acts){ m->f, m->q, n };
}

/* n_o hidden values of each row from its n_o sums of gate and of up: those of a row stand `step` apart, and the results
 * PAIR. */
static void activate(const job *j, const net *w, float *g, float *u, int n, int step, int64_t o0, int n_o, float *h)
{
    for (int i = 0; i < n; i++, g += step, u += step, h += PAIR) {
        for (int o = 0; w->gate_bias && o < n_o; o++) g[o] += w->gate_bias[o0 + o];
        for (int o = 0; w->up_bias && o < n_o; o++) u[o] += w->up_bias[o0 + o];
        pg_glu(h, g, u, n_o, j->e->glu, j->e->limit);
    }
}

/* The 32 hidden values from o0 on of a tile of pairs, out of their sums of gate and up. act: where the tile's rounded
 * values begin. */
static void finish_pair(const job *j, const net *w, const room *m, const pg_acts *x, int first, pg_q8 *act, int64_t o0,
                        float *gate, float *up)
{
    const int64_t F = w->F;
    for (int64_t o = o0; o < F && o < o0 + PAIR; o += PG_PANEL, gate += x->n * PG_PANEL, up += x->n * PG_PANEL)
        activate(j, w, gate, up, x->n, PG_PANEL, o, at_most(F - o, PG_PANEL), m->h + (o - o0));
    for (int i = 0; i < x->n; i++) {
        const float *h = m->h + i * PAIR;
        if (j->out == PG_MUL_8BIT)
            pg_q8row(act + o0 / 32 * x->n + i, 1, h, PAIR);
        else
            memcpy(j->hidden + (first + i) * F + o0, h, (size_t)at_most(F - o0, PAIR) * sizeof(float));
    }
}

/* Hidden values [from, to) of one rounded row: its sums stand in order, so all steps run over as many as there is room
 * for. */
static void hidden_one(const job *j, const net *w, const room *m, const pg_acts *x, pg_q8 *act, int64_t from,
                       int64_t to)
{
    pg_qmul_fn *gate = pg_qmul_of(w->gate->dtype), *up = pg_qmul_of(w->up->dtype);
    for (int64_t end; from < to; from = end) {
        const int n = at_most(to - from, SUMS);
        end = from + n;
        for (int o = 0; o < n; o += PG_PANEL) gate(m->gate + o, pg_panel_at(w->gate, from + o), x->q, 1, j->e->n_embd);
        for (int o = 0; o < n; o += PG_PANEL) up(m->up + o, pg_panel_at(w->up, from + o), x->q, 1, j->e->n_embd);
        activate(j, w, m->gate, m->up, 1, 0, from, n, m->h);
        pg_q8row(act + from / 32, 1, m->h, n);
    }
}

/* Hidden values [from, to) of a tile of pairs: as many panels of one matrix in a row as the sums have room for, since
 * neighbours in memory stream. */
static void hidden_run(const job *j, const net *w, const room *m, const pg_acts *x, int first, pg_q8 *act, int64_t from,
                       int64_t to)
{
    const int64_t step = (int64_t)(PG_TILE / x->n) * PAIR;
    if (x->n == 1 && j->in_by8[0] && j->in_by8[1] && j->out == PG_MUL_8BIT) {
        hidden_one(j, w, m, x, act, from, to);
        return;
    }
    for (; from < to; from += step) {
        const int64_t end = from + step < to ? from + step : to;
        for (int up = 0; up < 2; up++)
            for (int64_t o = from; o < end; o += PG_PANEL)
                pg_mul(j->in_by8[up] ? PG_MUL_8BIT : j->in, up ? w->up : w->gate, o, x,
                       (up ? m->up : m->gate) + (o - from) * x->n, m->mem);
        for (int64_t o = from; o < end; o += PAIR)
            finish_pair(j, w, m, x, first, act, o, m->gate + (o - from) * x->n, m->up + (o - from) * x->n);
    }
}

/* Units of 32 of so many hidden values. */
static int64_t units(int64_t F)
{
    return (F + PAIR - 1) / PAIR;
}

/* An item is a share of the hidden values of all groups, one after the other: a few of some, or all of several. */
static void hidden_item(void *arg, int item, int lane)
{
    const job *j = arg;
    const int64_t begin = j->n_unit * item / j->n_item, end = j->n_unit * (item + 1) / j->n_item;
    const room m = room_at(pg_cpu_lane(j->c, lane), j->e);
    const int64_t each = units(j->e->n_ff), last = j->n_group - 1; /* only the last group may have more or fewer */
    int64_t g = begin / each < last ? begin / each : last;
    for (int64_t at = g * each, n; at < end; g++, at += n) {
        const net w = net_of(j, (int)g);
        n = units(w.F);
        const int64_t from = begin > at ? begin - at : 0, to = end - at < n ? end - at : n;
        for (int first = j->start[g]; from < to && first < j->start[g + 1]; first += PG_TILE) {
            const pg_acts x = gather(j, &m, first, at_most(j->start[g + 1] - first, PG_TILE));
            pg_q8 *act = j->out == PG_MUL_8BIT ? act_of(j, (int)g, &w, first) : NULL;
            hidden_run(j, &w, &m, &x, first, act, from * PAIR, to < n ? to * PAIR : w.F);
        }
    }
}

/* ---- second pass ----------------------------------------------------------------------------------------------------- */

static void add_share(const job *j, const net *w, int pair, const float *part, int64_t o0, int n)
{
    float *y = j->y + (int64_t)j->row[pair] * j->e->n_embd + o0;
    const float *bias = w->down_bias ? w->down_bias + o0 : NULL;
    for (int i = 0; i < n; i++) y[i] += j->weight[pair] * (part[i] + (bias ? bias[i] : 0.0f));
}

static void clear_columns(const job *j, int64_t o0, int64_t n)
{
    for (int r = 0; r < j->n_row; r++)
        memset(j->y + (int64_t)(j->row0 + r) * j->e->n_embd + o0, 0, (size_t)n * sizeof(float));
}

/* Columns [from, to) of what a tile of n pairs adds. */
static void output_run(const job *j, const net *w, const room *m, const pg_acts *h, int first, int64_t from, int64_t to)
{
    const int64_t step = (int64_t)(SUMS / PG_PANEL / h->n) * PG_PANEL;
    for (int64_t end; from < to; from = end) {
        end = from + step < to ? from + step : to;
        for (int64_t o = from; o < end; o += PG_PANEL)
            pg_mul(j->out, w->down, o, h, m->gate + (o - from) * h->n, m->mem);
        for (int64_t o = from, n; o < end; o += n) {
            n = h->n == 1 ? end - from : at_most(end - o, PG_PANEL); /* one row's sums stand in order */
            for (int i = 0; i < h->n; i++)
                add_share(j, w, first + i, m->gate + (o - from) * h->n + i * PG_PANEL, o, (int)n);
        }
    }
}

static void output_item(void *arg, int item, int lane)
{
    const job *j = arg;
    const int64_t D = j->e->n_embd, from = (int64_t)item * j->width;
    const int64_t to = from + j->width < D ? from + j->width : D;
    const room m = room_at(pg_cpu_lane(j->c, lane), j->e);
    clear_columns(j, from, to - from);
    for (int g = 0; g < j->n_group; g++) {
        const net w = net_of(j, g);
        for (int first = j->start[g]; first < j->start[g + 1]; first += PG_TILE) {
            const int n = at_most(j->start[g + 1] - first, PG_TILE);
            const pg_acts h = { m.f, j->out == PG_MUL_8BIT ? act_of(j, g, &w, first) : NULL, n };
            for (int i = 0; j->hidden && i < n; i++) m.f[i] = j->hidden + (first + i) * w.F;
            output_run(j, &w, &m, &h, first, from, to);
        }
    }
}

/* ---- both passes ------------------------------------------------------------------------------------------------- */

static void round_x(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const int64_t D = j->e->n_embd;
    pg_q8row(j->act_x + r * (D / 32), 1, j->x + (j->row0 + r) * D, D);
}

/* The bytes of all matrices of the groups. */
static int64_t bytes_of(const job *j)
{
    int64_t bytes = 0;
    for (int g = 0; g < j->n_group; g++) {
        const net w = net_of(j, g);
        bytes += w.F * (w.gate->stride[1] + w.up->stride[1]) + j->e->n_embd * w.down->stride[1];
    }
    return bytes;
}

static void spread(job *j, pg_lane_fn *fn, int n_item, int alone)
{
    if (!alone) pg_lanes_run(j->c->lanes, fn, j, n_item);
    for (int i = 0; alone && i < n_item; i++) fn(j, i, 0);
}

static void run(job *j)
{
    const int64_t bytes = bytes_of(j);
    const int few = j->n_row <= FEW, alone = few && pg_cpu_is_small(j->c, bytes / 2); /* there are two rounds */
    const int lanes = alone ? 1 : j->c->n_lane;
    const int64_t panels = (j->e->n_embd + PG_PANEL - 1) / PG_PANEL;
    if (j->act_x) pg_cpu_each(j->c, round_x, j, j->n_row, 16 * (int64_t)j->e->n_embd);
    /* Items of a lane: some, so that none waits long for the others. Few rows stream weights, which come the faster the
     * longer the run: one, until there is so much that it is worth helping a late lane. */
    const int items = alone ? 1 : lanes * (!few ? 8 : bytes < LONG_RUN * lanes ? 1 : 2);
    const int64_t each = units(j->e->n_ff);
    j->n_unit = (j->n_group - !!j->shared) * each + units(j->shared_net.F);
    const int64_t experts = j->n_unit / each; /* an item is one, then, or less */
    j->n_item = at_most(j->n_unit, items > lanes && items < experts ? (int)experts : items);
    spread(j, hidden_item, j->n_item, alone);
    const int runs = few ? lanes : items; /* each begins anew in every expert's matrix */
    j->width = (int)((panels + runs - 1) / runs) * PG_PANEL;
    if (j->width > WIDE && !few) j->width = WIDE;
    spread(j, output_item, (int)((j->e->n_embd + j->width - 1) / j->width), alone);
}

static void show_pairs(const job *j, const pg_op *op)
{
    const pg_watch *watch = j->c->base.watch;
    for (int g = 0; g < j->n_group; g++)
        for (int p = j->start[g]; p < j->start[g + 1]; p++) {
            const int64_t D = j->e->n_embd, F = j->e->n_ff;
            watch->row(watch->ud, op, PG_WATCH_IN, j->expert[g], j->x + j->row[p] * D, D);
            if (j->hidden) watch->row(watch->ud, op, PG_WATCH_HIDDEN, j->expert[g], j->hidden + p * F, F);
        }
}

/* The next `bytes` of the shared scratch; only counted when there is none. */
static void *part(char *mem, int64_t *at, int64_t bytes)
{
    void *p = mem ? mem + *at : NULL;
    *at += pg_round_up(bytes, 64);
    return p;
}

/* Shared scratch: group tables, pair tables, rounded rows, hidden values; returns the bytes they take. */
static int64_t lay_out(job *j, char *mem, int64_t n_row, int64_t pairs)
{
    const int64_t E = j->e->n_expert, word = sizeof(int32_t);
    int64_t at = 0;
    const int64_t all = pairs + (j->shared ? n_row : 0);
    j->start = part(mem, &at, (2 * E + 2) * word);
    j->expert = part(mem, &at, (E + 1) * word);
    j->row = part(mem, &at, all * word);
    j->weight = part(mem, &at, all * word);
    if (j->in_by8[0] || j->in_by8[1]) j->act_x = part(mem, &at, n_row * (j->e->n_embd / 32) * (int64_t)sizeof(pg_q8));
    if (j->out == PG_MUL_8BIT)
        j->act_h = part(mem, &at, pairs * (j->e->n_ff / 32) * (int64_t)sizeof(pg_q8));
    else
        j->hidden = part(mem, &at, pairs * j->e->n_ff * word);
    if (j->shared) j->act_s = part(mem, &at, n_row * (j->shared_net.F / 32) * (int64_t)sizeof(pg_q8));
    return at;
}

/* Experts of a layer share their formats, so the first speaks for all. */
static job job_of(const pg_code *code, const pg_experts *e, int class)
{
    job j = { .e = e, .in = class ? PG_MUL_DOT : PG_MUL_PANEL };
    j.in_by8[0] = pg_is_rounded(code, &e->gate[0]);
    j.in_by8[1] = pg_is_rounded(code, &e->up[0]);
    j.out = pg_is_rounded(code, &e->down[0]) ? PG_MUL_8BIT : j.in;
    return j;
}

static void join_shared(job *j, const pg_op *op)
{
    const pg_op *gate = op + PG_SHARED_GATE, *up = op + PG_SHARED_UP, *down = op + PG_SHARED_DOWN;
    j->shared = gate;
    j->shared_net = (net){ gate->w, up->w, down->w, gate->v, up->v, down->v, gate->w->shape[1] };
}

/* ---- the op ------------------------------------------------------------------------------------------------------ */

void pg_cpu_experts(pg_cpu *c, const pg_op *op)
{
    const int32_t *pick = (const int32_t *)pg_cpu_rows(c, op->src[1]);
    const int n = pg_cpu_count(c, op->src[0]), n_pre = pg_cpu_count_prefill(c, op->src[0]);
    const int shared = pg_cpu_group(c, op) > 1;
    for (int class = 0; class < 2; class ++) {
        job j = job_of(c->code, op->a.experts.experts, class);
        const int both = j.in_by8[0] && j.in_by8[1] && j.out == PG_MUL_8BIT; /* the class makes no difference */
        if (shared) join_shared(&j, op);
        j.c = c;
        j.x = pg_cpu_rows(c, op->src[0]);
        j.y = pg_cpu_rows(c, shared ? op[PG_SHARED_ADD].dst : op->dst);
        j.row0 = class && !both ? n_pre : 0;
        const int end = both || class ? n : n_pre, width = pg_cpu_width(c, op->src[1]);
        if (both && class) break;
        for (; j.row0 < end; j.row0 += j.n_row) {
            take_rows(&j, pick, width, end - j.row0, most_pairs(c->code, j.e));
            lay_out(&j, c->shared, j.n_row, j.n_pair);
            group_pairs(&j, pick, width);
            group_shared(&j);
            run(&j);
            if (c->base.watch) show_pairs(&j, op);
        }
    }
}

pg_need pg_experts_need(const pg_code *code, const pg_op *op)
{
    const pg_experts *e = op->a.experts.experts;
    job j = job_of(code, e, 0);
    if (pg_experts_shared(code, (int)(op - code->op))) join_shared(&j, op);
    pg_need need = { .lane = room_bytes(e) + pg_mul_scratch(e->n_ff > e->n_embd ? e->n_ff : e->n_embd) };
    need.shared = lay_out(&j, NULL, code->max_rows, most_pairs(code, e));
    return need;
}
