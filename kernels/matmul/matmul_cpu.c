/* matmul_cpu.c: the op. Outputs are split over lanes in panels of 16 (prefill class) or runs of rows (decode class).
 *
 * Prefill class: 16 weight rows are unpacked 256 columns at a time, turned into a [k][16] panel, and pg_fpanel adds that
 * panel to every row's 16 sums; since it starts from the sums so far, each (row, output) is one chain over k = 0 .. K-1
 * whatever the tiling. Decode class: whole stored rows are met by one activation row after the other.
 * Source: register-blocked GEMM over packed panels, Goto, van de Geijn, Anatomy of High-Performance Matrix
 * Multiplication, 2008. */
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

enum { KB = 256, DECODE_RUN = 32 }; /* columns unpacked at a time; outputs of an item in the decode class */

int64_t pg_panel_scratch(int64_t n_row)
{
    return PG_PANEL * KB * 2 * (int64_t)sizeof(float) + pg_round_up(n_row * (int64_t)sizeof(float *), 64);
}

int64_t pg_decode_scratch(int64_t k)
{
    return pg_round_up(k * (int64_t)sizeof(float), 64);
}

/* [16][kb] with row stride KB -> [kb][16] */
static void turn(float *panel, const float *rows, int kb)
{
    for (int k = 0; k < kb; k++)
        for (int o = 0; o < PG_PANEL; o++) panel[k * PG_PANEL + o] = rows[o * KB + k];
}

void pg_panel_mul(const pg_tensor *w, int64_t o0, const float *const *x, int n_row, float *acc, char *mem)
{
    const int64_t K = w->shape[0];
    const int n_o = w->shape[1] - o0 < PG_PANEL ? (int)(w->shape[1] - o0) : PG_PANEL;
    float *panel = (float *)mem, *rows = panel + PG_PANEL * KB;
    const float **at = (const float **)(rows + PG_PANEL * KB);
    memset(acc, 0, (size_t)n_row * PG_PANEL * sizeof(float));
    memset(rows + n_o * KB, 0, (size_t)(PG_PANEL - n_o) * KB * sizeof(float));
    for (int64_t k0 = 0; k0 < K; k0 += KB) {
        const int kb = K - k0 < KB ? (int)(K - k0) : KB;
        for (int o = 0; o < n_o; o++) pg_unpack_row(rows + o * KB, w, o0 + o, k0, kb);
        turn(panel, rows, kb);
        for (int r = 0; r < n_row; r++) at[r] = x[r] + k0;
        pg_fpanel(acc, at, panel, n_row, kb);
    }
}

void pg_decode_mul(const pg_tensor *w, int rounded, int64_t o0, int n_o, const pg_act *x, int n_row, float *y,
                   int64_t y_step, char *mem)
{
    const int64_t K = w->shape[0];
    float *row = (float *)mem;
    for (int i = 0; i < n_o; i++) {
        if (rounded) {
            pg_qdot_fn *dot = pg_qdot_of(w->dtype);
            for (int r = 0; r < n_row; r++) y[r * y_step + i] = dot(pg_tensor_row(w, o0 + i), x[r].q, K);
        } else {
            pg_unpack_row(row, w, o0 + i, 0, K);
            for (int r = 0; r < n_row; r++) y[r * y_step + i] = pg_fdot(row, x[r].f, K);
        }
    }
}

/* ---- the op ---------------------------------------------------------------------------------------------------- */

typedef struct job {
    pg_cpu *c;
    const pg_op *op;
    const float *x;
    float *y;
    int xw, yw;       /* words a row of x and y */
    int n_pre, n_row; /* rows of the prefill class, of both */
    int64_t K, N;
    int panels, runs; /* items a matrix */
    pg_act *act;      /* [batch][decode rows] */
} job;

/* Row r as matrix b reads it, and as it writes it. */
static const float *x_at(const job *j, int b, int r)
{
    return j->x + (int64_t)r * j->xw + (int64_t)b * j->op->a.matmul.x_step;
}

static float *y_at(const job *j, int b, int r)
{
    return j->y + (int64_t)r * j->yw + (int64_t)b * j->op->a.matmul.y_step;
}

/* The transposed form, both classes: w is {N, K}, whose rows are panel rows already. */
static void turned_item(const job *j, int b, int64_t o0, const float **x, float *acc, char *mem)
{
    const pg_tensor w = pg_tensor_slice(j->op->w, b);
    const pg_dtype_info *info = pg_dtype_get(w.dtype);
    const int64_t step = w.dtype == PG_FP8 ? 128 : info->block; /* where unpacking may begin */
    const int64_t c0 = o0 / step * step;
    const int n_o = j->N - o0 < PG_PANEL ? (int)(j->N - o0) : PG_PANEL;
    const int64_t c1 = pg_round_up(o0 + n_o, step) < j->N ? pg_round_up(o0 + n_o, step) : j->N;
    float *panel = (float *)mem, *row = panel + PG_PANEL * KB;
    const float **at = (const float **)(row + PG_PANEL * KB);
    memset(acc, 0, (size_t)j->n_row * PG_PANEL * sizeof(float));
    for (int64_t k0 = 0; k0 < j->K; k0 += KB) {
        const int kb = j->K - k0 < KB ? (int)(j->K - k0) : KB;
        memset(panel, 0, (size_t)kb * PG_PANEL * sizeof(float));
        for (int k = 0; k < kb; k++) {
            pg_unpack_row(row, &w, k0 + k, c0, c1 - c0);
            memcpy(panel + k * PG_PANEL, row + (o0 - c0), (size_t)n_o * sizeof(float));
        }
        for (int r = 0; r < j->n_row; r++) at[r] = x[r] + k0;
        pg_fpanel(acc, at, panel, j->n_row, kb);
    }
}

static void put(const job *j, int b, int64_t o0, int r0, int n, const float *acc)
{
    const pg_op *op = j->op;
    const int n_o = j->N - o0 < PG_PANEL ? (int)(j->N - o0) : PG_PANEL;
    for (int r = 0; r < n; r++) {
        float *y = y_at(j, b, r0 + r) + o0;
        for (int o = 0; o < n_o; o++)
            y[o] = acc[r * PG_PANEL + o] * op->a.matmul.scale + (op->v ? op->v[(int64_t)b * j->N + o0 + o] : 0.0f);
    }
}

static void prefill_item(void *arg, int item, int lane)
{
    const job *j = arg;
    const pg_op *op = j->op;
    const int b = item / j->panels;
    const int64_t o0 = (int64_t)(item % j->panels) * PG_PANEL;
    const int n = op->a.matmul.transposed ? j->n_row : j->n_pre;
    char *mem = pg_cpu_lane(j->c, lane);
    float *acc = (float *)mem;
    mem += pg_round_up((int64_t)n * PG_PANEL * (int64_t)sizeof(float), 64);
    const float **x = (const float **)mem;
    mem += pg_round_up(n * (int64_t)sizeof(float *), 64);
    for (int r = 0; r < n; r++) x[r] = x_at(j, b, r);
    if (op->a.matmul.transposed) {
        turned_item(j, b, o0, x, acc, mem);
    } else {
        const pg_tensor w = pg_tensor_slice(op->w, b);
        pg_panel_mul(&w, o0, x, n, acc, mem);
    }
    put(j, b, o0, 0, n, acc);
}

static int rounded(const job *j)
{
    return pg_is_rounded(j->c->code, j->op->w) && !j->op->a.matmul.exact;
}

static void round_item(void *arg, int item, int lane)
{
    (void)lane;
    const job *j = arg;
    pg_q8row(j->act[item].q, j->act[item].f, j->K);
}

static void decode_item(void *arg, int item, int lane)
{
    const job *j = arg;
    const pg_op *op = j->op;
    const int b = item / j->runs, n_row = j->n_row - j->n_pre;
    const int64_t o0 = (int64_t)(item % j->runs) * DECODE_RUN;
    const int n_o = j->N - o0 < DECODE_RUN ? (int)(j->N - o0) : DECODE_RUN;
    const pg_tensor w = pg_tensor_slice(op->w, b);
    float *y = y_at(j, b, j->n_pre) + o0;
    pg_decode_mul(&w, rounded(j), o0, n_o, j->act + (int64_t)b * n_row, n_row, y, j->yw, pg_cpu_lane(j->c, lane));
    for (int r = 0; r < n_row; r++)
        for (int i = 0; i < n_o; i++)
            y[(int64_t)r * j->yw + i] =
                y[(int64_t)r * j->yw + i] * op->a.matmul.scale + (op->v ? op->v[(int64_t)b * j->N + o0 + i] : 0.0f);
}

/* Lay the decode rows' activations into the shared scratch; rounds them when the weights are quantised. */
static void make_acts(job *j)
{
    pg_cpu *c = j->c;
    const pg_op *op = j->op;
    const int n = j->n_row - j->n_pre, batch = op->a.matmul.batch;
    char *mem = c->shared;
    j->act = (pg_act *)mem;
    mem += pg_round_up((int64_t)sizeof(pg_act) * n * batch, 64);
    for (int b = 0; b < batch; b++)
        for (int r = 0; r < n; r++) {
            pg_act *a = &j->act[b * n + r];
            a->f = x_at(j, b, j->n_pre + r);
            if (!rounded(j)) continue;
            a->q = pg_q8_view(mem, j->K);
            mem += pg_q8_bytes(j->K);
        }
    if (rounded(j)) pg_lanes_run(c->lanes, round_item, j, n * batch);
}

void pg_cpu_matmul(pg_cpu *c, const pg_op *op)
{
    const int turned = op->a.matmul.transposed;
    job j = { .c = c,
              .op = op,
              .x = pg_cpu_rows(c, op->src[0]),
              .y = pg_cpu_rows(c, op->dst),
              .xw = pg_cpu_width(c, op->src[0]),
              .yw = pg_cpu_width(c, op->dst),
              .n_pre = pg_cpu_count_prefill(c, op->src[0]),
              .n_row = pg_cpu_count(c, op->src[0]),
              .K = op->w->shape[turned],
              .N = op->w->shape[!turned] };
    j.panels = (int)((j.N + PG_PANEL - 1) / PG_PANEL);
    j.runs = (int)((j.N + DECODE_RUN - 1) / DECODE_RUN);
    if (turned ? j.n_row : j.n_pre) pg_lanes_run(c->lanes, prefill_item, &j, op->a.matmul.batch * j.panels);
    if (!turned && j.n_row > j.n_pre) {
        make_acts(&j);
        pg_lanes_run(c->lanes, decode_item, &j, op->a.matmul.batch * j.runs);
    }
}

pg_need pg_matmul_need(const pg_code *code, const pg_op *op)
{
    const int turned = op->a.matmul.transposed;
    const int64_t K = op->w->shape[turned];
    const int64_t n = code->value[op->src[0]].rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled;
    const int64_t acts = (int64_t)code->max_decode * op->a.matmul.batch;
    pg_need need = { .lane = pg_panel_scratch(n) + pg_round_up(n * PG_PANEL * (int64_t)sizeof(float), 64) +
                             pg_round_up(n * (int64_t)sizeof(float *), 64) };
    if (pg_decode_scratch(K) > need.lane) need.lane = pg_decode_scratch(K);
    if (!turned) need.shared = pg_round_up((int64_t)sizeof(pg_act) * acts, 64) + acts * (int64_t)pg_q8_bytes(K + 32);
    return need;
}
