/* moe_cpu.c: the routed experts of a layer as two grouped multiplications.
 *
 * (row, expert) pairs are sorted by expert, so an expert's weights are read once however many rows chose it. The first
 * pass makes the hidden values of all pairs (gate and up side by side, the activation between), the second adds each
 * pair's share to its row: a lane owns columns of the output and visits experts in ascending order, so a row's sum runs
 * over its own experts in a fixed order whatever else is in the batch. Both arithmetic classes of matmul.h, each row in
 * its own. Source: grouped expert GEMM, Gale et al., MegaBlocks, 2022 (the grouping only). */
#include "../cpu/cpu.h"
#include "../glu/glu.h"

enum { RUN = 32 }; /* outputs of an item in the decode class */

typedef struct job {
    pg_cpu *c;
    const pg_experts *e;
    const float *x;  /* [T, D] */
    float *y;        /* [T, D] */
    int row0, n_row; /* the rows of this class */
    int n_pair, n_group;
    int32_t *start;  /* [n_group + 1] first pair of a group */
    int32_t *expert; /* [n_group] its expert, ascending */
    int32_t *row;    /* [n_pair] row of a pair */
    float *weight;   /* [n_pair] */
    float *hidden;   /* [n_pair, F] */
    pg_act *act_x;   /* [n_row] */
    pg_act *act_h;   /* [n_pair] */
    int panels;      /* items a group (first pass) or in all (second) */
} job;

/* Pairs of rows row0 .. row0 + n_row - 1, sorted by expert and then by row. */
static void group_pairs(job *j, const int32_t *pick, int pick_width)
{
    const int X = j->e->n_used, E = j->e->n_expert;
    int32_t *count = j->start + E + 1; /* [E] scratch behind start */
    memset(count, 0, (size_t)E * sizeof *count);
    for (int r = 0; r < j->n_row; r++)
        for (int i = 0; i < X; i++) count[pick[(int64_t)(j->row0 + r) * pick_width + i]]++;
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
    for (int r = 0; r < j->n_row; r++)
        for (int i = 0; i < X; i++) {
            const int32_t *p = pick + (int64_t)(j->row0 + r) * pick_width;
            const int at = count[p[i]]++;
            j->row[at] = j->row0 + r;
            memcpy(&j->weight[at], &p[X + i], sizeof(float));
        }
}

static void activate(const job *j, int e, float *h, const float *g, const float *u, int64_t o0, int n)
{
    float gate[RUN], up[RUN];
    for (int i = 0; i < n; i++) {
        gate[i] = g[i] + (j->e->gate_bias ? j->e->gate_bias[(int64_t)e * j->e->n_ff + o0 + i] : 0.0f);
        up[i] = u[i] + (j->e->up_bias ? j->e->up_bias[(int64_t)e * j->e->n_ff + o0 + i] : 0.0f);
    }
    pg_glu(h, gate, up, n, j->e->glu, j->e->limit);
}

static void add_share(const job *j, int e, int pair, const float *part, int64_t o0, int n)
{
    float *y = j->y + (int64_t)j->row[pair] * j->e->n_embd + o0;
    const float *bias = j->e->down_bias ? j->e->down_bias + (int64_t)e * j->e->n_embd + o0 : NULL;
    for (int i = 0; i < n; i++) y[i] += j->weight[pair] * (part[i] + (bias ? bias[i] : 0.0f));
}

static void clear_columns(const job *j, int64_t o0, int n)
{
    for (int r = 0; r < j->n_row; r++)
        memset(j->y + (int64_t)(j->row0 + r) * j->e->n_embd + o0, 0, (size_t)n * sizeof(float));
}

static int at_most(int64_t left, int n)
{
    return left < n ? (int)left : n;
}

/* ---- prefill class ---------------------------------------------------------------------------------------------- */

static void hidden_panel(void *arg, int item, int lane)
{
    const job *j = arg;
    const int g = item / j->panels, e = j->expert[g], first = j->start[g], n = j->start[g + 1] - first;
    const int64_t o0 = (int64_t)(item % j->panels) * PG_PANEL, F = j->e->n_ff;
    const int n_o = at_most(F - o0, PG_PANEL);
    char *mem = pg_cpu_lane(j->c, lane);
    float *gate = (float *)mem, *up = gate + (int64_t)n * PG_PANEL;
    const float **x = (const float **)(up + (int64_t)n * PG_PANEL);
    mem = (char *)x + pg_round_up(n * (int64_t)sizeof(float *), 64);
    for (int i = 0; i < n; i++) x[i] = j->x + (int64_t)j->row[first + i] * j->e->n_embd;
    pg_panel_mul(&j->e->gate[e], o0, x, n, gate, mem);
    pg_panel_mul(&j->e->up[e], o0, x, n, up, mem);
    for (int i = 0; i < n; i++)
        activate(j, e, j->hidden + (int64_t)(first + i) * F + o0, gate + i * PG_PANEL, up + i * PG_PANEL, o0, n_o);
}

static void output_panel(void *arg, int item, int lane)
{
    const job *j = arg;
    const int64_t o0 = (int64_t)item * PG_PANEL;
    const int n_o = at_most(j->e->n_embd - o0, PG_PANEL);
    clear_columns(j, o0, n_o);
    for (int g = 0; g < j->n_group; g++) {
        const int e = j->expert[g], first = j->start[g], n = j->start[g + 1] - first;
        char *mem = pg_cpu_lane(j->c, lane);
        float *part = (float *)mem;
        const float **h = (const float **)(part + (int64_t)n * PG_PANEL);
        mem = (char *)h + pg_round_up(n * (int64_t)sizeof(float *), 64);
        for (int i = 0; i < n; i++) h[i] = j->hidden + (int64_t)(first + i) * j->e->n_ff;
        pg_panel_mul(&j->e->down[e], o0, h, n, part, mem);
        for (int i = 0; i < n; i++) add_share(j, e, first + i, part + i * PG_PANEL, o0, n_o);
    }
}

/* ---- decode class ----------------------------------------------------------------------------------------------- */

static void round_x(void *arg, int item, int lane)
{
    (void)lane;
    const job *j = arg;
    pg_q8row(j->act_x[item].q, j->act_x[item].f, j->e->n_embd);
}

static void round_hidden(void *arg, int item, int lane)
{
    (void)lane;
    const job *j = arg;
    pg_q8row(j->act_h[item].q, j->act_h[item].f, j->e->n_ff);
}

static void hidden_run(void *arg, int item, int lane)
{
    const job *j = arg;
    const int g = item / j->panels, e = j->expert[g], first = j->start[g], n = j->start[g + 1] - first;
    const int64_t o0 = (int64_t)(item % j->panels) * RUN, F = j->e->n_ff;
    const int n_o = at_most(F - o0, RUN);
    char *mem = pg_cpu_lane(j->c, lane);
    for (int i = 0; i < n; i++) {
        const pg_act *x = &j->act_x[j->row[first + i] - j->row0];
        float gate[RUN], up[RUN];
        pg_decode_mul(&j->e->gate[e], pg_is_rounded(j->c->code, &j->e->gate[e]), o0, n_o, x, 1, gate, RUN, mem);
        pg_decode_mul(&j->e->up[e], pg_is_rounded(j->c->code, &j->e->up[e]), o0, n_o, x, 1, up, RUN, mem);
        activate(j, e, j->hidden + (int64_t)(first + i) * F + o0, gate, up, o0, n_o);
    }
}

static void output_run(void *arg, int item, int lane)
{
    const job *j = arg;
    const int64_t o0 = (int64_t)item * RUN;
    const int n_o = at_most(j->e->n_embd - o0, RUN);
    char *mem = pg_cpu_lane(j->c, lane);
    clear_columns(j, o0, n_o);
    for (int g = 0; g < j->n_group; g++)
        for (int pair = j->start[g]; pair < j->start[g + 1]; pair++) {
            const pg_tensor *down = &j->e->down[j->expert[g]];
            float part[RUN];
            pg_decode_mul(down, pg_is_rounded(j->c->code, down), o0, n_o, &j->act_h[pair], 1, part, RUN, mem);
            add_share(j, j->expert[g], pair, part, o0, n_o);
        }
}

/* ---- the op ------------------------------------------------------------------------------------------------------ */

/* Experts of a layer share their formats, so the first speaks for all. */
static int rounds_x(const job *j)
{
    return pg_is_rounded(j->c->code, &j->e->gate[0]) || pg_is_rounded(j->c->code, &j->e->up[0]);
}

static void run_prefill(job *j)
{
    j->panels = (int)pg_round_up(j->e->n_ff, PG_PANEL) / PG_PANEL;
    pg_lanes_run(j->c->lanes, hidden_panel, j, j->n_group * j->panels);
    pg_lanes_run(j->c->lanes, output_panel, j, (int)pg_round_up(j->e->n_embd, PG_PANEL) / PG_PANEL);
}

static void run_decode(job *j, char *mem)
{
    const pg_experts *e = j->e;
    j->act_x = (pg_act *)mem;
    j->act_h = j->act_x + j->n_row;
    mem += pg_round_up((int64_t)sizeof(pg_act) * (j->n_row + j->n_pair), 64);
    for (int r = 0; r < j->n_row; r++) {
        j->act_x[r].f = j->x + (int64_t)(j->row0 + r) * e->n_embd;
        if (rounds_x(j)) j->act_x[r].q = pg_q8_view(mem, e->n_embd);
        mem += pg_q8_bytes(e->n_embd);
    }
    for (int i = 0; i < j->n_pair; i++) {
        j->act_h[i].f = j->hidden + (int64_t)i * e->n_ff;
        if (pg_is_rounded(j->c->code, &e->down[0])) j->act_h[i].q = pg_q8_view(mem, e->n_ff);
        mem += pg_q8_bytes(e->n_ff);
    }
    if (rounds_x(j)) pg_lanes_run(j->c->lanes, round_x, j, j->n_row);
    j->panels = (int)pg_round_up(e->n_ff, RUN) / RUN;
    pg_lanes_run(j->c->lanes, hidden_run, j, j->n_group * j->panels);
    if (pg_is_rounded(j->c->code, &e->down[0])) pg_lanes_run(j->c->lanes, round_hidden, j, j->n_pair);
    pg_lanes_run(j->c->lanes, output_run, j, (int)pg_round_up(e->n_embd, RUN) / RUN);
}

/* The next `bytes` of the shared scratch; only counted when there is none. */
static void *part(char *mem, int64_t *at, int64_t bytes)
{
    void *p = mem ? mem + *at : NULL;
    *at += pg_round_up(bytes, 64);
    return p;
}

/* Shared scratch: group tables, pair tables, hidden values; returns the bytes they take, behind which the decode class
 * puts its rounded rows. */
static int64_t lay_out(job *j, char *mem, int64_t n_row)
{
    const int64_t E = j->e->n_expert, pairs = n_row * j->e->n_used, word = sizeof(int32_t);
    int64_t at = 0;
    j->start = part(mem, &at, (2 * E + 1) * word);
    j->expert = part(mem, &at, E * word);
    j->row = part(mem, &at, pairs * word);
    j->weight = part(mem, &at, pairs * word);
    j->hidden = part(mem, &at, pairs * j->e->n_ff * word);
    return at;
}

void pg_cpu_experts(pg_cpu *c, const pg_op *op)
{
    const int32_t *pick = (const int32_t *)pg_cpu_rows(c, op->src[1]);
    const int n = pg_cpu_count(c, op->src[0]), n_pre = pg_cpu_count_prefill(c, op->src[0]);
    for (int class = 0; class < 2; class ++) {
        job j = { .c = c,
                  .e = op->a.experts.experts,
                  .x = pg_cpu_rows(c, op->src[0]),
                  .y = pg_cpu_rows(c, op->dst),
                  .row0 = class ? n_pre : 0,
                  .n_row = class ? n - n_pre : n_pre };
        if (!j.n_row) continue;
        const int64_t used = lay_out(&j, c->shared, j.n_row);
        group_pairs(&j, pick, pg_cpu_width(c, op->src[1]));
        if (class)
            run_decode(&j, c->shared + used);
        else
            run_prefill(&j);
    }
}

pg_need pg_experts_need(const pg_code *code, const pg_op *op)
{
    const pg_experts *e = op->a.experts.experts;
    const int64_t n = code->max_rows, pairs = (int64_t)code->max_decode * e->n_used;
    const int64_t wide = e->n_ff > e->n_embd ? e->n_ff : e->n_embd;
    job j = { .e = e };
    pg_need need = { .lane = pg_panel_scratch(n) + 2 * n * PG_PANEL * (int64_t)sizeof(float) +
                             pg_round_up(n * (int64_t)sizeof(float *), 64) };
    if (pg_decode_scratch(wide) > need.lane) need.lane = pg_decode_scratch(wide);
    need.shared = lay_out(&j, NULL, n);
    need.shared += pg_round_up((int64_t)sizeof(pg_act) * (code->max_decode + pairs), 64) +
                   code->max_decode * (int64_t)pg_q8_bytes(e->n_embd + 32) + pairs * (int64_t)pg_q8_bytes(e->n_ff + 32);
    return need;
}
