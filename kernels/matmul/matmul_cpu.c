/* matmul_cpu.c: the op. Matrices that read the same rows run as one; items are runs of panels, handed to the lanes.
 *
 * 8-bit: rows are rounded once, a tile of up to PG_TILE of them meets panel after panel while its records stay in the
 * second cache. Floats: 16 weight rows are unpacked 256 columns at a time, turned into a [k][16] panel, and pg_fpanel
 * adds that panel to every row's 16 sums; since it starts from the sums so far, each (row, output) is one chain over
 * k = 0 .. K-1 whatever the tiling. */
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

enum {
    KB = 256,          /* columns unpacked at a time */
    RUN = 8,           /* panels of an item at most */
    RUN_BYTES = 16384, /* and at least so many bytes of them when there are few rows */
    ALONE = 4          /* so many rows are few */
};

int64_t pg_mul_scratch(int64_t k)
{
    return PG_PANEL * KB * 2 * (int64_t)sizeof(float) + pg_round_up(PG_TILE * (int64_t)sizeof(float *), 64) +
           pg_round_up(k * (int64_t)sizeof(float), 64);
}

/* [16][kb] with row stride KB -> [kb][16] */
static void turn(float *panel, const float *rows, int kb)
{
    for (int k = 0; k < kb; k++)
        for (int o = 0; o < PG_PANEL; o++) panel[k * PG_PANEL + o] = rows[o * KB + k];
}

static int outputs_at(const pg_tensor *w, int64_t o0)
{
    return w->shape[1] - o0 < PG_PANEL ? (int)(w->shape[1] - o0) : PG_PANEL;
}

static void mul_panel(const pg_tensor *w, int64_t o0, const pg_acts *x, float *y, char *mem)
{
    const int64_t K = w->shape[0];
    const int n_o = outputs_at(w, o0);
    float *panel = (float *)mem, *rows = panel + PG_PANEL * KB;
    const float **at = (const float **)(rows + PG_PANEL * KB);
    memset(y, 0, (size_t)x->n * PG_PANEL * sizeof(float));
    memset(rows + n_o * KB, 0, (size_t)(PG_PANEL - n_o) * KB * sizeof(float));
    for (int64_t k0 = 0; k0 < K; k0 += KB) {
        const int kb = K - k0 < KB ? (int)(K - k0) : KB;
        for (int o = 0; o < n_o; o++) pg_unpack_row(rows + o * KB, w, o0 + o, k0, kb);
        turn(panel, rows, kb);
        for (int r = 0; r < x->n; r++) at[r] = x->f[r] + k0;
        pg_fpanel(y, at, panel, x->n, kb);
    }
}

static void mul_dot(const pg_tensor *w, int64_t o0, const pg_acts *x, float *y, char *mem)
{
    const int64_t K = w->shape[0];
    const int n_o = outputs_at(w, o0);
    pg_fdot16_fn *dot16 = pg_fdot16_of(w->dtype);
    for (int o = 0; o < n_o; o++) {
        const float *row = (float *)mem;
        if (dot16) {
            for (int r = 0; r < x->n; r++) y[r * PG_PANEL + o] = dot16(pg_tensor_row(w, o0 + o), x->f[r], K);
            continue;
        }
        if (w->dtype == PG_F32)
            row = pg_tensor_row(w, o0 + o);
        else
            pg_unpack_row((float *)mem, w, o0 + o, 0, K);
        for (int r = 0; r < x->n; r++) y[r * PG_PANEL + o] = pg_fdot(row, x->f[r], K);
    }
}

void pg_mul(int how, const pg_tensor *w, int64_t o0, const pg_acts *x, float *y, char *mem)
{
    switch (how) {
    case PG_MUL_8BIT: pg_qmul_of(w->dtype)(y, pg_panel_at(w, o0), x->q, x->n, w->shape[0]); break;
    case PG_MUL_PANEL: mul_panel(w, o0, x, y, mem); break;
    default: mul_dot(w, o0, x, y, mem);
    }
}

/* ---- the op ---------------------------------------------------------------------------------------------------- */

typedef struct job {
    pg_cpu *c;
    const pg_op *op; /* [n_op] */
    int n_op, how;
    const float *x;
    int xw; /* words a row of x */
    float *y[PG_GROUP];
    int row0, n_row; /* the rows that are multiplied this way */
    int64_t K;
    pg_q8 *act;                         /* [batch] of tiles of [K / 32][rows of the tile] */
    int run[PG_GROUP], items[PG_GROUP]; /* panels an item; items of a matrix */
} job;

/* Row r as matrix b of an op reads it. */
static const float *x_at(const job *j, int b, int r)
{
    return j->x + (int64_t)(j->row0 + r) * j->xw + (int64_t)b * j->op->a.matmul.x_step;
}

static int tile_rows(const job *j, int r0)
{
    return j->n_row - r0 < PG_TILE ? j->n_row - r0 : PG_TILE;
}

static pg_q8 *tile_at(const job *j, int b, int r0)
{
    return j->act + ((int64_t)b * j->n_row + r0) * (j->K / 32);
}

static void round_row(void *arg, int item, int lane)
{
    (void)lane;
    const job *j = arg;
    const int b = item / j->n_row, r = item % j->n_row, r0 = r / PG_TILE * PG_TILE;
    pg_q8row(tile_at(j, b, r0) + (r - r0), tile_rows(j, r0), x_at(j, b, r), j->K);
}

static void round_rows(job *j)
{
    const int n = j->n_row * j->op->a.matmul.batch;
    j->act = (pg_q8 *)j->c->shared;
    pg_cpu_each(j->c, round_row, j, n, 16 * j->K);
}

static void put(const job *j, int i, int b, int64_t o0, int r0, int n, const float *sum)
{
    const pg_op *op = &j->op[i];
    const int yw = pg_cpu_width(j->c, op->dst), n_o = outputs_at(op->w, o0);
    const float *bias = op->v ? op->v + (int64_t)b * op->w->shape[1] + o0 : NULL;
    float *y = j->y[i] + (int64_t)(j->row0 + r0) * yw + (int64_t)b * op->a.matmul.y_step + o0;
    for (int r = 0; r < n; r++, y += yw, sum += PG_PANEL)
        for (int o = 0; o < n_o; o++) y[o] = sum[o] * op->a.matmul.scale + (bias ? bias[o] : 0.0f);
}

/* Whole panels of a matrix whose sums are the outputs, met by one row: kernels write where the outputs belong. */
static int is_plain(const job *j, const pg_op *op, int64_t n_out)
{
    return j->how == PG_MUL_8BIT && j->n_row == 1 && n_out % PG_PANEL == 0 && op->a.matmul.scale == 1 && !op->v;
}

static void mul_plain(const job *j, int i, int b, const pg_tensor *w, int64_t from, int64_t to)
{
    const pg_op *op = &j->op[i];
    pg_qmul_fn *qmul = pg_qmul_of(w->dtype);
    const pg_q8 *x = tile_at(j, b, 0);
    float *y = j->y[i] + (int64_t)j->row0 * pg_cpu_width(j->c, op->dst) + (int64_t)b * op->a.matmul.y_step;
    for (; from < to; from += PG_PANEL) qmul(y + from, pg_panel_at(w, from), x, 1, j->K);
}

static void mul_item(void *arg, int item, int lane)
{
    const job *j = arg;
    int i = 0;
    for (; item >= j->items[i] * j->op[i].a.matmul.batch; i++) item -= j->items[i] * j->op[i].a.matmul.batch;
    const pg_op *op = &j->op[i];
    const int b = item / j->items[i];
    const pg_tensor w = pg_tensor_slice(op->w, b);
    const int64_t from = (int64_t)(item % j->items[i]) * j->run[i] * PG_PANEL, end = from + j->run[i] * PG_PANEL;
    const int64_t to = end < w.shape[1] ? end : w.shape[1];
    float *sum = (float *)pg_cpu_lane(j->c, lane);
    const float **f = (const float **)(sum + PG_TILE * PG_PANEL);
    char *mem = (char *)(f + PG_TILE);
    if (is_plain(j, op, to - from)) {
        mul_plain(j, i, b, &w, from, to);
        return;
    }
    for (int r0 = 0; r0 < j->n_row; r0 += PG_TILE) {
        const pg_acts x = { f, tile_at(j, b, r0), tile_rows(j, r0) };
        for (int r = 0; r < x.n; r++) f[r] = x_at(j, b, r0 + r);
        for (int64_t o0 = from; o0 < to; o0 += PG_PANEL) {
            pg_mul(j->how, &w, o0, &x, sum, mem);
            put(j, i, b, o0, r0, x.n, sum);
        }
    }
}

static void show_rows(const job *j)
{
    const pg_watch *watch = j->c->base.watch;
    for (const pg_op *op = j->op; op < j->op + j->n_op; op++)
        for (int b = 0; b < op->a.matmul.batch; b++)
            for (int r = 0; r < j->n_row; r++) watch->row(watch->ud, op, PG_WATCH_IN, b, x_at(j, b, r), j->K);
}

/* Items of equal bytes, some for each lane; few rows only stream weights, so there the bytes should be worth the trip. */
static void multiply(job *j)
{
    const int few = j->n_row <= ALONE;
    int64_t bytes = 0, panels[PG_GROUP];
    int n = 0;
    for (int i = 0; i < j->n_op; i++) {
        panels[i] = (j->op[i].w->shape[1] + PG_PANEL - 1) / PG_PANEL;
        bytes += panels[i] * j->op[i].a.matmul.batch * PG_PANEL * j->op[i].w->stride[1];
    }
    const int alone =
        pg_cpu_is_small(j->c, bytes * (j->n_row + 3) / 4); /* four rows at once take twice as long as one */
    if (!alone) bytes /= 8 * j->c->n_lane;
    if (few && bytes < RUN_BYTES) bytes = RUN_BYTES;
    for (int i = 0; i < j->n_op; i++) {
        int64_t run = bytes / (PG_PANEL * j->op[i].w->stride[1]);
        if (run > RUN && !few) run = RUN;
        if (run > panels[i]) run = panels[i];
        j->run[i] = run < 1 ? 1 : (int)run;
        j->items[i] = (int)((panels[i] + j->run[i] - 1) / j->run[i]);
        n += j->items[i] * j->op[i].a.matmul.batch;
    }
    for (int i = 0; alone && i < n; i++) mul_item(j, i, 0);
    if (!alone) pg_lanes_run(j->c->lanes, mul_item, j, n);
}

/* ---- the transposed form: w is {N, K}, whose rows are panel rows already; floats, both classes ------------------- */

static void turned_item(void *arg, int item, int lane)
{
    const job *j = arg;
    const pg_op *op = j->op;
    const int64_t N = op->w->shape[0], panels = (N + PG_PANEL - 1) / PG_PANEL;
    const int b = (int)(item / panels);
    const int64_t o0 = item % panels * PG_PANEL;
    const pg_tensor w = pg_tensor_slice(op->w, b);
    const int64_t step = w.dtype == PG_FP8 ? 128 : pg_dtype_get(w.dtype)->block; /* where unpacking may begin */
    const int64_t c0 = o0 / step * step;
    const int n_o = N - o0 < PG_PANEL ? (int)(N - o0) : PG_PANEL;
    const int64_t c1 = pg_round_up(o0 + n_o, step) < N ? pg_round_up(o0 + n_o, step) : N;
    float *sum = (float *)pg_cpu_lane(j->c, lane), *panel = sum + PG_TILE * PG_PANEL, *row = panel + PG_PANEL * KB;
    const float **at = (const float **)(row + PG_PANEL * KB);
    const int yw = pg_cpu_width(j->c, op->dst);
    for (int r0 = 0; r0 < j->n_row; r0 += PG_TILE) {
        const int n = tile_rows(j, r0);
        memset(sum, 0, (size_t)n * PG_PANEL * sizeof(float));
        for (int64_t k0 = 0; k0 < j->K; k0 += KB) {
            const int kb = j->K - k0 < KB ? (int)(j->K - k0) : KB;
            memset(panel, 0, (size_t)kb * PG_PANEL * sizeof(float));
            for (int k = 0; k < kb; k++) {
                pg_unpack_row(row, &w, k0 + k, c0, c1 - c0);
                memcpy(panel + k * PG_PANEL, row + (o0 - c0), (size_t)n_o * sizeof(float));
            }
            for (int r = 0; r < n; r++) at[r] = x_at(j, b, r0 + r) + k0;
            pg_fpanel(sum, at, panel, n, kb);
        }
        float *y = j->y[0] + (int64_t)(j->row0 + r0) * yw + (int64_t)b * op->a.matmul.y_step + o0;
        for (int r = 0; r < n; r++, y += yw)
            for (int o = 0; o < n_o; o++) y[o] = sum[r * PG_PANEL + o] * op->a.matmul.scale;
    }
}

int pg_matmul_rounds(const pg_code *code, const pg_op *op)
{
    return pg_is_rounded(code, op->w) && !op->a.matmul.exact && !op->a.matmul.transposed;
}

void pg_cpu_matmul(pg_cpu *c, const pg_op *op)
{
    const int turned = op->a.matmul.transposed, n = pg_cpu_count(c, op->src[0]), first = pg_cpu_first(c, op);
    const int n_pre = pg_cpu_count_prefill(c, op->src[0]);
    if (first == n) return;
    job j = { .c = c,
              .op = op,
              .n_op = pg_cpu_group(c, op),
              .x = pg_cpu_rows(c, op->src[0]),
              .xw = pg_cpu_width(c, op->src[0]),
              .row0 = first,
              .n_row = n - first,
              .K = op->w->shape[turned] };
    for (int i = 0; i < j.n_op; i++) j.y[i] = pg_cpu_rows(c, op[i].dst);
    if (c->base.watch && !turned) show_rows(&j);
    if (turned) {
        pg_lanes_run(c->lanes, turned_item, &j,
                     (int)(op->a.matmul.batch * ((op->w->shape[0] + PG_PANEL - 1) / PG_PANEL)));
        return;
    }
    if (pg_matmul_rounds(c->code, op)) {
        j.how = PG_MUL_8BIT;
        round_rows(&j);
        multiply(&j);
        return;
    }
    for (int class = 0; class < 2; class ++) {
        j.row0 = class ? n_pre : first;
        j.n_row = class ? n - n_pre : n_pre - first;
        j.how = class ? PG_MUL_DOT : PG_MUL_PANEL;
        if (j.n_row) multiply(&j);
    }
}

/* Records of the rounded row that a lane needs for its heads, at the end of its scratch. */
static int64_t heads_bytes(const pg_op *op)
{
    return op->a.matmul.batch * (op->w->shape[0] / 32) * (int64_t)sizeof(pg_q8);
}

void pg_matmul_heads(pg_cpu *c, const pg_op *op, const pg_heads *h)
{
    const int turned = op->a.matmul.transposed, batch = op->a.matmul.batch;
    const int64_t panels = (op->w->shape[!turned] + PG_PANEL - 1) / PG_PANEL;
    job j = { .c = c,
              .op = op,
              .n_op = 1,
              .how = pg_matmul_rounds(c->code, op) ? PG_MUL_8BIT : PG_MUL_DOT,
              .x = pg_heads_row(c, h, op->src[0]),
              .xw = pg_cpu_width(c, op->src[0]),
              .y = { pg_heads_row(c, h, op->dst) },
              .n_row = 1,
              .K = op->w->shape[turned] };
    j.run[0] = (int)(panels * batch / h->H); /* one matrix a head, or a head's share of the only one */
    j.items[0] = (int)(panels / j.run[0]);
    if (j.how == PG_MUL_8BIT) {
        j.act = (pg_q8 *)(pg_cpu_lane(c, h->lane) + c->lane_bytes - heads_bytes(op));
        for (int b = h->from * batch / h->H; b <= (h->to - 1) * batch / h->H; b++) round_row(&j, b, h->lane);
    }
    const int items = turned ? (int)panels : 1; /* of a head */
    for (int i = h->from * items; i < h->to * items; i++) (turned ? turned_item : mul_item)(&j, i, h->lane);
}

pg_need pg_matmul_need(const pg_code *code, const pg_op *op)
{
    const int64_t K = op->w->shape[op->a.matmul.transposed];
    const int64_t n = code->value[op->src[0]].rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled;
    pg_need need = { .lane =
                         PG_TILE * (PG_PANEL * (int64_t)sizeof(float) + (int64_t)sizeof(float *)) + pg_mul_scratch(K) };
    need.lane += pg_round_up(pg_matmul_rounds(code, op) ? heads_bytes(op) : 0, 64);
    if (pg_matmul_rounds(code, op)) need.shared = n * op->a.matmul.batch * (K / 32) * (int64_t)sizeof(pg_q8);
    return need;
}
