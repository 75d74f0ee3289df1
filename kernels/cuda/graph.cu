/* graph.cu: one step on the device.
 *
 * Lives here: the rows of a step on their way to the device, the launches of all ops, graphs of decode steps, and the
 * chosen experts on their way back. Not here: memory of the plan (backend.cu), the ops.
 * A step of decode rows launches for a bucket of 1, 2, 4 ... rows; kernels look up in *step how many there are. So all
 * steps of a bucket launch the same, and from the second one on they are replayed as a graph, which costs the host one
 * call where a plan has hundreds of launches. The first one is not captured: kernels are loaded when they are first
 * launched, which a capture forbids, and a bucket that never comes again is not worth a graph. Steps with prompt rows
 * have any size and are long: they launch for the rows that there are.
 * Source: CUDA graphs per batch size, as serving engines use them. */
#include "backend.cuh"

#include <stdlib.h>

enum {
    FIRST_PAGES = 1 << 14,
    LEAST_LONGEST = 512,
    HEAD = 256, /* the step, and from REST on the same without the rows of the prefill class */
    REST = HEAD / 2
};
static_assert(sizeof(pg_cuda_step) <= REST, "room for a step");

static void (*const run_op[PG_OP_COUNT])(pg_cuda *, const pg_op *) = {
#define PG_OP(code, row) pg_cuda_##row,
#include "../op.def"
};

int pg_step_bucket(int n, int most)
{
    int rows = 1;
    while (rows < n) rows *= 2;
    return rows < most ? rows : most;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static int64_t stage_bytes_of(const pg_code *code, int64_t page_words)
{
    return HEAD +
           pg_cuda_up((5 * (int64_t)code->max_rows + code->max_sampled + 2 + page_words) * (int64_t)sizeof(int32_t));
}

static int64_t pick_bytes(const pg_code *code, int32_t *n_pick)
{
    int64_t words = 0;
    *n_pick = 0;
    for (int32_t i = 0; i < code->n_op; i++)
        if (code->op[i].code == PG_OP_ROUTE) words += code->value[code->op[i].dst].width, ++*n_pick;
    return words * code->max_rows * (int64_t)sizeof(int32_t);
}

int64_t pg_step_bytes(const pg_code *code)
{
    int32_t n;
    const int64_t picks = pick_bytes(code, &n);
    return stage_bytes_of(code, FIRST_PAGES) + pg_cuda_up(picks) + pg_cuda_up(n * 16);
}

static void drop_graphs(pg_cuda_backend *b)
{
    for (int i = 0; i < b->n_graph; i++)
        if (b->graph[i].exec) cudaGraphExecDestroy(b->graph[i].exec);
    b->n_graph = 0;
}

static int take_stage(pg_cuda_backend *b, int64_t page_words)
{
    pg_cuda *c = &b->c;
    if (b->stage) cudaFreeHost(b->stage);
    cudaFree(b->stage_device);
    b->stage = b->stage_device = NULL;
    drop_graphs(b); /* they know where the old one was */
    b->page_words = page_words;
    b->stage_bytes = stage_bytes_of(c->code, page_words);
    if (pg_cuda_try(c, cudaHostAlloc(&b->stage, (size_t)b->stage_bytes, cudaHostAllocDefault), "pinned host memory") ||
        pg_cuda_try(c, cudaMalloc(&b->stage_device, (size_t)b->stage_bytes), "memory for the rows of a step"))
        return -1;
    c->step = reinterpret_cast<const pg_cuda_step *>(b->stage_device);
    return 0;
}

/* Of each chosen value: where it is (bytes into the arena, two words), its width, words of a row before it. */
static int take_picks(pg_cuda_backend *b)
{
    pg_cuda *c = &b->c;
    const int64_t bytes = pick_bytes(c->code, &b->n_pick);
    if (!b->n_pick) return 0;
    int32_t *table = static_cast<int32_t *>(calloc((size_t)b->n_pick, 16));
    b->pick = static_cast<pg_ref *>(calloc((size_t)b->n_pick, sizeof *b->pick));
    if (!table || !b->pick) {
        free(table);
        return pg_cuda_try(c, cudaErrorMemoryAllocation, "the list of chosen experts");
    }
    for (int32_t i = 0, n = 0; i < c->code->n_op; i++) {
        if (c->code->op[i].code != PG_OP_ROUTE) continue;
        const pg_value *v = &c->code->value[b->pick[n] = c->code->op[i].dst];
        int32_t *row = table + 4 * n++;
        memcpy(row, &v->offset, sizeof v->offset);
        row[2] = v->width;
        row[3] = (int32_t)b->pick_width;
        b->pick_width += v->width;
    }
    const int bad =
        pg_cuda_try(c, cudaMalloc(&b->pick_table, (size_t)b->n_pick * 16), "memory for chosen experts") ||
        pg_cuda_try(c, cudaMalloc(&b->picks, (size_t)bytes), "memory for chosen experts") ||
        pg_cuda_try(c, cudaHostAlloc(&b->pick_home, (size_t)bytes, cudaHostAllocDefault), "pinned host memory") ||
        pg_cuda_try(c, cudaMemcpy(b->pick_table, table, (size_t)b->n_pick * 16, cudaMemcpyHostToDevice), "a table");
    free(table);
    return bad ? -1 : 0;
}

int pg_step_open(pg_cuda_backend *b)
{
    const char *off = getenv("PERIGEE_CUDA_GRAPHS");
    b->no_graphs = off && off[0] == '0';
    return pg_fuse_open(b) || take_stage(b, FIRST_PAGES) || take_picks(b) ? -1 : 0;
}

void pg_step_close(pg_cuda_backend *b)
{
    drop_graphs(b);
    pg_fuse_close(b);
    if (b->stage) cudaFreeHost(b->stage);
    if (b->pick_home) cudaFreeHost(b->pick_home);
    cudaFree(b->stage_device);
    cudaFree(b->picks);
    cudaFree(b->pick_table);
    free(b->pick);
}

/* ---- rows to the device ------------------------------------------------------------------------------------------- */

static const int32_t *put_words(const pg_cuda_backend *b, int64_t *at, const int32_t *from, int64_t n)
{
    const int32_t *there = reinterpret_cast<const int32_t *>(b->stage_device + *at);
    if (n) memcpy(b->stage + *at, from, (size_t)n * sizeof *from);
    *at += n * (int64_t)sizeof *from;
    return there;
}

static void page_counts(const pg_cuda_backend *b, const pg_rows *rows, int32_t *n_seq, int32_t *longest)
{
    (void)b;
    *n_seq = *longest = 0;
    for (int32_t r = 0; r < rows->n; r++) {
        if (rows->seq[r] >= *n_seq) *n_seq = rows->seq[r] + 1;
        if (rows->pos[r] >= *longest) *longest = rows->pos[r] + 1;
    }
}

static void put_pages(const pg_cuda_backend *b, const pg_rows *rows, int64_t at, int32_t step)
{
    int32_t *to = reinterpret_cast<int32_t *>(b->stage + at);
    const int32_t tokens = b->c.kv.page_tokens;
    for (int32_t r = 0; r < rows->n; r++) { /* of a sequence's rows the last one has the largest position */
        if (r + 1 < rows->n && rows->seq[r + 1] == rows->seq[r]) continue;
        memcpy(to + (int64_t)rows->seq[r] * step, rows->pages[rows->seq[r]],
               (size_t)(rows->pos[r] / tokens + 1) * sizeof *to);
    }
}

static void put_spans(pg_cuda_backend *b, const pg_rows *rows, int64_t *at)
{
    pg_cuda *c = &b->c;
    const int64_t bytes = (rows->n_prefill + 1) * (int64_t)sizeof(int32_t);
    int32_t *row = reinterpret_cast<int32_t *>(b->stage + *at), *key = row + rows->n_prefill + 1;
    c->now.n_span = pg_cuda_spans(c, rows->pos, rows->seq, rows->n_prefill, row, key);
    c->now.span_row = reinterpret_cast<const int32_t *>(b->stage_device + *at);
    c->now.span_key = reinterpret_cast<const int32_t *>(b->stage_device + *at + bytes);
    *at += 2 * bytes;
}

/* The step without its rows of the prefill class. */
static pg_cuda_step rest_of(const pg_cuda_step *s)
{
    pg_cuda_step rest = *s;
    rest.n -= s->n_prefill;
    rest.token += s->n_prefill;
    rest.pos += s->n_prefill;
    rest.seq += s->n_prefill;
    rest.n_prefill = rest.n_sampled = rest.n_sampled_prefill = rest.n_span = 0;
    return rest;
}

static int put_rows(pg_cuda_backend *b, const pg_rows *rows)
{
    pg_cuda *c = &b->c;
    int32_t n_seq, longest;
    int64_t at = HEAD;
    page_counts(b, rows, &n_seq, &longest);
    const int32_t step = c->kv.page_tokens ? (longest + c->kv.page_tokens - 1) / c->kv.page_tokens : 0;
    if ((int64_t)n_seq * step > b->page_words && take_stage(b, 2 * (int64_t)n_seq * step)) return -1;
    pg_cuda_step *s = &c->now;
    *s = {};
    s->n = rows->n;
    s->n_prefill = rows->n_prefill;
    s->n_sampled = rows->n_sampled;
    s->n_sampled_prefill = rows->n_sampled_prefill;
    s->longest = longest;
    s->page_step = step;
    s->token = put_words(b, &at, rows->token, rows->n);
    s->pos = put_words(b, &at, rows->pos, rows->n);
    s->seq = put_words(b, &at, rows->seq, rows->n);
    s->sampled = put_words(b, &at, rows->sampled, rows->n_sampled);
    put_spans(b, rows, &at);
    s->pages = reinterpret_cast<const int32_t *>(b->stage_device + at);
    if (step) put_pages(b, rows, at, step);
    const pg_cuda_step rest = rest_of(s);
    memcpy(b->stage, s, sizeof *s);
    memcpy(b->stage + REST, &rest, sizeof rest);
    at += (int64_t)n_seq * step * (int64_t)sizeof(int32_t);
    return pg_cuda_try(c, cudaMemcpyAsync(b->stage_device, b->stage, (size_t)at, cudaMemcpyHostToDevice, c->stream),
                       "copying the rows of a step");
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

/* Chosen experts of all layers, one layer's rows after the other's: [pick][rows][width]. */
static __global__ void gather_picks(int32_t *to, const char *arena, const int32_t *table, int rows)
{
    const int32_t *mine = table + 4 * blockIdx.y;
    int64_t offset = 0;
    memcpy(&offset, mine, sizeof offset);
    const int32_t *from = reinterpret_cast<const int32_t *>(arena + offset);
    const int64_t n = (int64_t)rows * mine[2];
    to += (int64_t)rows * mine[3];
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        to[i] = from[i];
}

static void bring_picks_home(pg_cuda_backend *b)
{
    pg_cuda *c = &b->c;
    const int64_t words = (int64_t)c->rows * b->pick_width;
    if (!b->n_pick) return;
    const int64_t blocks = (words / b->n_pick + 255) / 256;
    PG_LAUNCH(gather_picks, dim3((unsigned)(blocks < 64 ? blocks : 64), (unsigned)b->n_pick), 256, 0, c->stream,
              reinterpret_cast<int32_t *>(b->picks), c->arena, b->pick_table, c->rows);
    pg_cuda_try(c, cudaMemcpyAsync(b->pick_home, b->picks, (size_t)words * 4, cudaMemcpyDeviceToHost, c->stream),
                "copying chosen experts");
}

/* The rows of the prefill class have what this op would give them: launch it for the others, if there are any. */
static void launch_rest(pg_cuda_backend *b, const pg_op *op)
{
    pg_cuda *c = &b->c;
    const pg_cuda_step now = c->now, *step = c->step;
    const int prefill = c->rows_prefill;
    if (c->rows == prefill) return;
    c->now = rest_of(&now);
    c->step = reinterpret_cast<const pg_cuda_step *>(b->stage_device + REST);
    c->row0 = prefill;
    c->rows -= prefill;
    c->rows_prefill = 0;
    run_op[op->code](c, op);
    c->now = now;
    c->step = step;
    c->row0 = 0;
    c->rows += prefill;
    c->rows_prefill = prefill;
}

/* Rows that sample may be absent from a step of prompt rows: then nothing is launched for them. */
static void launch_ops(pg_cuda_backend *b)
{
    pg_cuda *c = &b->c;
    pg_fuse_begin(b);
    for (int32_t i = 0; i < c->code->n_op && !c->error; i++) {
        const pg_op *op = &c->code->op[i];
        if (!c->sampled && op->dst != PG_NO_REF && c->code->value[op->dst].rows == PG_ROWS_SAMPLED) continue;
        if (pg_fuse_run(b, i)) continue;
        if (op->decode_only && c->expanded)
            launch_rest(b, op);
        else
            run_op[op->code](c, op);
    }
    bring_picks_home(b);
    if (c->sampled) pg_cuda_best_step(c);
    pg_cuda_try(c, cudaGetLastError(), "launching kernels");
}

/* ---- graphs ------------------------------------------------------------------------------------------------------- */

static pg_cuda_graph *find_graph(pg_cuda_backend *b, int rows, int longest, int steer)
{
    for (int i = 0; i < b->n_graph; i++) {
        pg_cuda_graph *g = &b->graph[i];
        if (g->rows == rows && g->longest == longest && g->steer == steer) return g;
    }
    return NULL;
}

static int capture(pg_cuda_backend *b, pg_cuda_graph *g)
{
    pg_cuda *c = &b->c;
    cudaGraph_t graph = NULL;
    if (pg_cuda_try(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal), "capturing a step"))
        return -1;
    launch_ops(b);
    const cudaError_t e = cudaStreamEndCapture(c->stream, &graph);
    if (!pg_cuda_try(c, e, "capturing a step") &&
        !pg_cuda_try(c, cudaGraphInstantiate(&g->exec, graph, 0), "instantiating a graph"))
        pg_cuda_try(c, cudaGraphGetNodes(graph, NULL, &g->nodes), "counting what a graph launches");
    if (graph) cudaGraphDestroy(graph);
    return c->error ? -1 : 0;
}

static void run_decode(pg_cuda_backend *b, int steer)
{
    pg_cuda *c = &b->c;
    if (b->no_graphs || steer == PG_STEER_CALLS) {
        launch_ops(b);
        return;
    }
    pg_cuda_graph *g = find_graph(b, c->rows, c->now.longest, steer);
    if (!g) {
        if (b->n_graph == PG_CUDA_GRAPHS) drop_graphs(b);
        b->graph[b->n_graph++] = { c->rows, c->now.longest, steer, NULL, 0 };
        launch_ops(b);
    } else if (g->exec || !capture(b, g)) {
        pg_cuda_try(c, cudaGraphLaunch(g->exec, c->stream), "launching a graph");
        c->nodes = (int)g->nodes;
    }
}

int pg_step_begin(pg_cuda_backend *b, const pg_rows *rows)
{
    pg_cuda *c = &b->c;
    const int decode = rows->n_prefill == 0;
    if (put_rows(b, rows)) return -1;
    c->rows = rows->n;
    c->sampled = rows->n_sampled;
    c->rows_prefill = rows->n_prefill;
    if (decode) { /* from here on `now` is the bucket's, on the device it is the step's */
        c->now.n = c->rows = pg_step_bucket(rows->n, c->code->max_rows);
        c->now.n_sampled = c->sampled = c->rows < c->code->max_sampled ? c->rows : c->code->max_sampled;
        int longest = LEAST_LONGEST;
        while (longest < c->now.longest) longest *= 2;
        c->now.longest = longest;
    }
    b->launched_rows = c->rows;
    b->steer = pg_cuda_steer_begin(c, rows);
    return c->error ? -1 : 0;
}

int pg_step_launch(pg_cuda_backend *b)
{
    if (b->c.rows_prefill)
        launch_ops(b);
    else
        run_decode(b, b->steer);
    return b->c.error ? -1 : 0;
}

int pg_step_end(pg_cuda_backend *b)
{
    pg_cuda *c = &b->c;
    if (!c->error && b->steer != PG_STEER_NOBODY_ASKS) pg_cuda_steer_end(c);
    b->steer = PG_STEER_NOBODY_ASKS;
    pg_cuda_try(c, cudaStreamSynchronize(c->stream), "running a step");
    return c->error ? -1 : 0;
}
