/* bench_cuda: a V2-Lite-shaped model on a CUDA device against that device's own limits.
 *
 * Prints what the device can do (bytes a second of a large copy, read and written; bf16 products a second of a large
 * cuBLASLt product on random numbers), then for weights in Q8_0 and BF16: decode at batch 1, 8 and 64, prefill of 512 and
 * 4,096 rows, the experts' products of a prefill alone, and what routing knobs cost. A step's bytes are counted from the
 * plan: every matrix that is read, of experts those that its rows visited, and the cache.
 *     bench_cuda [--shape V2-Lite | tiny] [--device N] [--type q8_0 | bf16] */
#include "shape.h"

#include "../../../kernels/cuda/cuda.cuh"
extern "C" {
#include "../../../engine/kv/pages.h"
#include "../../../kernels/backend.h"
}

#include <algorithm>
#include <cublasLt.h>
#include <time.h>
#include <vector>

extern "C" const pg_plugin pg_plugin_cuda;

/* What is timed: rows of a decode step at most, of a prefill, positions of a sequence before and while it is decoded. */
typedef struct plan_sizes {
    int decode, rows, context, room;
} plan_sizes;
static plan_sizes size = { 64, 4096, 512, 256 };

static int device_number;
static double copy_rate, product_rate; /* measured: bytes, products (multiply and add as two) a second */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double median(std::vector<double> x)
{
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
}

[[noreturn]] static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_cuda: %s: %s\n", what, why);
    exit(1);
}
static void need(cudaError_t e, const char *what)
{
    if (e) die(what, cudaGetErrorString(e));
}
static void need(cublasStatus_t s, const char *what)
{
    if (s != CUBLAS_STATUS_SUCCESS) die(what, "cuBLASLt refused");
}

/* ---- the device's limits ------------------------------------------------------------------------------------------ */

/* Seconds of `call`, the median of several, after one that is not counted. */
template <class F> static double time_on_device(cudaStream_t stream, int n, F call)
{
    std::vector<double> seconds;
    cudaEvent_t from, to;
    need(cudaEventCreate(&from), "an event");
    need(cudaEventCreate(&to), "an event");
    for (int i = 0; i <= n; i++) {
        float ms;
        need(cudaEventRecord(from, stream), "an event");
        call();
        need(cudaEventRecord(to, stream), "an event");
        need(cudaEventSynchronize(to), "the device");
        need(cudaEventElapsedTime(&ms, from, to), "an event");
        if (i) seconds.push_back(ms * 1e-3);
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return median(seconds);
}

static double measure_copy(cudaStream_t stream, size_t bytes)
{
    char *a, *b;
    need(cudaMalloc(&a, bytes), "memory");
    need(cudaMalloc(&b, bytes), "memory");
    need(cudaMemset(a, 0x5a, bytes), "memory");
    const double t = time_on_device(
        stream, 10, [&] { need(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream), "a copy"); });
    cudaFree(a);
    cudaFree(b);
    return 2.0 * (double)bytes / t;
}

static double measure_product(cudaStream_t stream, int n)
{
    std::vector<uint16_t> x((size_t)n * n);
    for (uint16_t &v : x) v = pg_f32_to_bf16(shape_uniform());
    const size_t bytes = x.size() * 2, room = 32 << 20;
    uint16_t *a, *b, *c;
    char *work;
    for (uint16_t **p : { &a, &b, &c }) need(cudaMalloc(p, bytes), "memory");
    need(cudaMalloc(&work, room), "memory");
    need(cudaMemcpy(a, x.data(), bytes, cudaMemcpyHostToDevice), "a copy");
    std::reverse(x.begin(), x.end());
    need(cudaMemcpy(b, x.data(), bytes, cudaMemcpyHostToDevice), "a copy");
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t d;
    cublasLtMatrixLayout_t l;
    cublasLtMatmulPreference_t p;
    cublasLtMatmulHeuristicResult_t found;
    const cublasOperation_t turned = CUBLAS_OP_T;
    const float one = 1, zero = 0;
    int n_found = 0;
    need(cublasLtCreate(&lt), "cuBLASLt");
    need(cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cuBLASLt");
    need(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned), "cuBLASLt");
    need(cublasLtMatrixLayoutCreate(&l, CUDA_R_16BF, (uint64_t)n, (uint64_t)n, n), "cuBLASLt");
    need(cublasLtMatmulPreferenceCreate(&p), "cuBLASLt");
    need(cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room),
         "cuBLASLt");
    need(cublasLtMatmulAlgoGetHeuristic(lt, d, l, l, l, l, p, 1, &found, &n_found), "cuBLASLt");
    const double t = time_on_device(stream, 10, [&] {
        need(cublasLtMatmul(lt, d, &one, a, l, b, l, &zero, c, l, c, l, &found.algo, work, room, stream), "a product");
    });
    cublasLtMatmulPreferenceDestroy(p);
    cublasLtMatrixLayoutDestroy(l);
    cublasLtMatmulDescDestroy(d);
    cublasLtDestroy(lt);
    for (uint16_t *q : { a, b, c }) cudaFree(q);
    cudaFree(work);
    return 2.0 * n * (double)n * n / t;
}

/* ---- a plan on the device ----------------------------------------------------------------------------------------- */

struct engine {
    pg_backend *b;
    pg_plan *plan;
    pg_kv kv;
    int n_seq, per_seq; /* sequences; pages of each */
    int layers;
    std::vector<std::vector<int32_t>> pages;
};

static int want(void *ud, const void *at, int64_t bytes, double done, double total)
{
    (void)ud, (void)at, (void)bytes, (void)done, (void)total;
    return 0;
}

static void open_engine(engine *e, pg_plan *plan, int n_seq, int positions)
{
    char why[256] = "";
    e->plan = plan;
    e->n_seq = n_seq;
    e->per_seq = (positions + PG_PAGE_TOKENS - 1) / PG_PAGE_TOKENS;
    e->b = pg_plugin_cuda.open(&device_number, 1, 1, why, sizeof why);
    if (!e->b) die("no device", why);
    e->b->drawn = plan->logits;
    e->kv = pg_pages_lay_out(plan->stream, plan->n_stream, PG_F16);
    e->kv.base = static_cast<char *>(e->b->ops->take(e->b, &plan->code, &e->kv, n_seq * e->per_seq));
    if (!e->kv.base || e->b->ops->prepare(e->b, &plan->code)) die("no room", e->b->fault);
    const pg_loader loader = { want, NULL };
    if (e->b->ops->load(e->b, &loader)) die("weights", e->b->fault);
    for (int s = 0; s < n_seq; s++) {
        e->pages.push_back(std::vector<int32_t>());
        for (int i = 0; i < e->per_seq; i++) e->pages[s].push_back(i * n_seq + s); /* not side by side */
    }
}

/* Seconds of one step: n_seq sequences from `seq` on, `each` rows of each from position pos on, one row of each drawn. */
static double step(engine *e, int seq, int n_seq, int each, int pos, int prefill)
{
    const int n = n_seq * each;
    std::vector<int32_t> token(n), at(n), of(n), sampled;
    std::vector<const int32_t *> pages;
    for (int r = 0; r < n; r++) {
        token[r] = (int32_t)(shape_rand() % (unsigned)e->plan->code.op[0].w->shape[1]);
        at[r] = pos + r % each;
        of[r] = seq + r / each;
        if (r % each == each - 1) sampled.push_back(r);
    }
    for (const std::vector<int32_t> &p : e->pages) pages.push_back(p.data());
    const pg_rows rows = { n,         prefill ? n : 0, n_seq,          prefill ? n_seq : 0, token.data(),
                           at.data(), of.data(),       sampled.data(), pages.data() };
    const double start = now();
    if (e->b->ops->run(e->b, &rows, &e->kv)) die("a step", e->b->fault);
    for (int s = 0; e->plan->logits != PG_NO_REF && s < n_seq; s++) {
        pg_best best;
        e->b->ops->best(e->b, s, &best);
    }
    return now() - start;
}

/* ---- what a step must read, and compute --------------------------------------------------------------------------- */

/* Experts that the rows of the last step visited in the layer of pick. */
static int visited(const engine *e, pg_ref pick, int rows, int n_expert)
{
    const int32_t *id = static_cast<const int32_t *>(e->b->ops->read(e->b, pick));
    const int width = e->plan->code.value[pick].width;
    std::vector<char> seen((size_t)n_expert);
    int n = 0;
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < width / 2; k++) {
            const int32_t i = id[(int64_t)r * width + k];
            if (i >= 0 && i < n_expert && !seen[i]) seen[i] = 1, n++;
        }
    return n;
}

static double tensor_bytes(const pg_tensor *t)
{
    return (double)pg_dtype_bytes(t->dtype, t->shape[0]) * (double)t->shape[1] * (double)t->shape[2];
}

/* Bytes of the last step of `rows` rows, of which all n_seq drawn, at `positions` each; and its products. */
static void count(const engine *e, int rows, int n_seq, double positions, double *bytes, double *products)
{
    const pg_code *c = &e->plan->code;
    *bytes = *products = 0;
    for (int i = 0; i < c->n_op; i++) {
        const pg_op *op = &c->op[i];
        if (op->code == PG_OP_EMBED) {
            *bytes += (double)rows * (double)pg_dtype_bytes(op->w->dtype, op->w->shape[0]);
        } else if (op->code == PG_OP_MATMUL) {
            const double n = c->value[op->dst].rows == PG_ROWS_ALL ? rows : n_seq;
            *bytes += tensor_bytes(op->w);
            *products += 2 * n * (double)op->w->shape[0] * (double)op->w->shape[1] * (double)op->w->shape[2];
        } else if (op->code == PG_OP_EXPERTS) {
            const pg_experts *x = op->a.experts.experts;
            const double one = tensor_bytes(x->gate) + tensor_bytes(x->up) + tensor_bytes(x->down);
            *bytes += one * visited(e, op->src[1], rows, x->n_expert);
            *products += 2.0 * rows * x->n_used * 3.0 * x->n_embd * x->n_ff;
        } else if (op->code == PG_OP_ATTN) {
            const pg_kv_stream *s = &e->kv.stream[op->a.attn.k_stream];
            *bytes += positions * n_seq * s->row_bytes;
            *products += 2.0 * positions * rows * op->a.attn.heads * (op->a.attn.dk + op->a.attn.dv);
        }
    }
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

static void head(void)
{
    printf("\n%-26s %10s %12s %9s %9s %8s\n", "", "ms/step", "tokens/s", "GB/step", "TFLOP", "of limit");
}

static double line(const engine *e, const char *name, double t, int rows, int n_seq, double positions, int prefill)
{
    double bytes, products;
    count(e, rows, n_seq, positions, &bytes, &products);
    const double by_memory = bytes / copy_rate, by_products = products / product_rate;
    const double limit = prefill && by_products > by_memory ? by_products : by_memory;
    printf("%-26s %10.3f %12.1f %9.3f %9.3f %7.1f%% (%s)\n", name, t * 1e3, rows / t, bytes * 1e-9, products * 1e-12,
           100 * limit / t, limit > by_memory ? "bf16" : "memory");
    return t;
}

static double decode(engine *e, const char *how, int n)
{
    char name[40];
    snprintf(name, sizeof name, "decode %d%s", n, how);
    std::vector<double> seconds;
    for (int i = 0; i < size.room / 2; i++) {
        const double t = step(e, 0, n, 1, size.context + i, 0);
        if (i >= 8) seconds.push_back(t); /* the first ones make graphs */
    }
    const double t = line(e, name, median(seconds), n, n, size.context + size.room / 4, 0);
    const int nodes = reinterpret_cast<const pg_cuda *>(e->b)->nodes;
    printf("%26s %d launches and copies, %.1f a layer\n", "", nodes, (double)nodes / e->layers);
    return t;
}

static double prefill(engine *e, const char *how, int rows)
{
    char name[40];
    snprintf(name, sizeof name, "prefill %d%s", rows, how);
    std::vector<double> seconds;
    const int n_seq = rows / size.context;
    for (int i = 0; i < 6; i++) {
        const double t = step(e, 0, n_seq, size.context, 0, 1);
        if (i) seconds.push_back(t);
    }
    return line(e, name, median(seconds), rows, n_seq, size.context / 2, 1);
}

/* ---- knobs -------------------------------------------------------------------------------------------------------- */

static const pg_steer *by_call(void *ud, const pg_op *op, float *score, int32_t n_row)
{
    (void)ud, (void)op, (void)score, (void)n_row;
    return NULL; /* data says it all */
}
static void faults(void *ud, const pg_op *op, const unsigned char *fault)
{
    (void)ud, (void)op, (void)fault;
}

/* Every row has knobs in every layer: two experts banned, one favoured, the sum of weights cut. */
static void knobs(engine *e, const shape *s, double plain_1, double plain_many, double plain_long)
{
    std::vector<float> choose((size_t)s->experts);
    choose[1] = -INFINITY;
    choose[3] = 0.5f;
    std::vector<pg_layer_knobs> layer((size_t)s->layers, pg_layer_knobs{ 0, 0.95f, 0, 0, choose.data() });
    std::vector<int32_t> policy(size.rows, 0);
    const int32_t first[2] = { 0, 1 };
    pg_steer_stage stage = {};
    stage.id = 1;
    stage.knobs = layer.data();
    pg_steering data = {};
    data.stage = &stage;
    data.first = first;
    data.n_policy = 1;
    data.policy = policy.data();
    const pg_hook hook = { by_call, NULL, &data, faults };
    e->b->hook = &hook;
    const double t1 = decode(e, ", knobs", 1), many = decode(e, ", knobs", size.decode);
    const double long_one = prefill(e, ", knobs", size.rows);
    e->b->hook = NULL;
    printf("knobs cost %+.1f%% at batch 1, %+.1f%% at %d, %+.1f%% of a prefill\n", 100 * (t1 / plain_1 - 1),
           100 * (many / plain_many - 1), size.decode, 100 * (long_one / plain_long - 1));
}

/* ---- experts alone ------------------------------------------------------------------------------------------------ */

/* Routers and, if `all`, experts of some layers, over embedded rows. */
static void experts_plan(pg_plan *p, const pg_model *m, int layers, int all)
{
    pg_error err;
    memset(static_cast<void *>(p), 0, sizeof *p);
    p->code.max_rows = size.rows;
    p->code.max_sampled = 1;
    p->code.max_decode = 1;
    p->logits = PG_NO_REF;
    pg_ref x = pg_plan_value(p, PG_ROWS_ALL, m->h.n_embd);
    pg_op *op = pg_plan_emit(p, PG_OP_EMBED, x, PG_NO_REF, PG_NO_REF);
    op->w = &m->top.w[PG_T_EMBD];
    op->a.embed.scale = 1;
    for (int l = 1; l <= layers; l++) {
        const pg_layer *y = &m->layer[l];
        const pg_ref score = pg_emit_matmul(p, x, &y->w[PG_T_ROUTER], NULL);
        p->op[p->code.n_op - 1].a.matmul.exact = 1;
        const pg_ref pick = pg_plan_value(p, PG_ROWS_ALL, 2 * pg_router_most(y->router.n_expert, y->router.n_used));
        op = pg_plan_emit(p, PG_OP_ROUTE, pick, score, PG_NO_REF);
        op->a.route.router = &y->router;
        pg_plan_keep(p, pick);
        if (!all) continue;
        const pg_ref out = pg_plan_value(p, PG_ROWS_ALL, m->h.n_embd);
        op = pg_plan_emit(p, PG_OP_EXPERTS, out, x, pick);
        op->a.experts.experts = &y->experts;
        pg_plan_keep(p, out);
    }
    if (pg_plan_finish(p, &err) < 0) die("a plan of experts", err.text);
}

static void experts_alone(const pg_model *m)
{
    const int layers = m->h.n_layer > 4 ? 4 : m->h.n_layer - 1;
    double t[2];
    for (int all = 0; all < 2; all++) {
        pg_plan plan;
        engine e = {};
        std::vector<double> seconds;
        experts_plan(&plan, m, layers, all);
        open_engine(&e, &plan, 1, 1);
        for (int i = 0; i < 12; i++) {
            const double one = step(&e, 0, 1, size.rows, 0, 1);
            if (i >= 2) seconds.push_back(one);
        }
        t[all] = median(seconds);
        e.b->ops->close(e.b);
        pg_plan_free(&plan);
    }
    const pg_experts *x = &m->layer[1].experts;
    const double products = 2.0 * size.rows * x->n_used * 3.0 * x->n_embd * x->n_ff, spent = (t[1] - t[0]) / layers;
    printf("experts of a layer, %d rows: %.3f ms, %.1f TFLOP/s, %.1f%% of the dense bf16 rate\n", size.rows,
           spent * 1e3, products / spent * 1e-12, 100 * products / spent / product_rate);
}

/* ---- one model ---------------------------------------------------------------------------------------------------- */

static void bench(const shape *s, pg_dtype type)
{
    pg_error err;
    pg_plan plan;
    engine e = {};
    const pg_model *m = shape_model(s, type);
    if (pg_plan_build(m, size.rows, size.decode, size.decode, 0, &plan, &err) < 0) die("the plan", err.text);
    const double start = now();
    open_engine(&e, &plan, size.decode, size.context + size.room);
    e.layers = s->layers;
    printf("\n%s-shaped, %s: %.2f GB of weights on %s (%s), there in %.1f s", s->name, pg_dtype_get(type)->name,
           e.b->weight_bytes * 1e-9, e.b->device, e.b->isa, now() - start);
    head();
    for (int seq = 0; seq < size.decode; seq += size.rows / size.context)
        step(&e, seq, size.rows / size.context, size.context, 0, 1); /* something to attend to */
    const double one = decode(&e, "", 1);
    decode(&e, "", size.decode / 8);
    const double many = decode(&e, "", size.decode);
    prefill(&e, "", size.context);
    const double long_one = prefill(&e, "", size.rows);
    knobs(&e, s, one, many, long_one);
    e.b->ops->close(e.b);
    pg_plan_free(&plan);
    experts_alone(m);
}

int main(int argc, char **argv)
{
    const shape *s = &shapes[0];
    pg_dtype only = PG_DTYPE_NONE;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--shape"))
            s = strcmp(value, "tiny") ? &shapes[0] : &shapes[1], i++;
        else if (!strcmp(argv[i], "--device"))
            device_number = atoi(value), i++;
        else if (!strcmp(argv[i], "--type"))
            only = pg_dtype_from_name(value), i++;
        else
            die(argv[i], "options are --shape V2-Lite | tiny, --device N, --type q8_0 | bf16");
    }
    const int small = s != &shapes[0];
    if (small) size = { 8, 64, 16, 32 };
    cudaStream_t stream;
    need(cudaSetDevice(device_number), "the device");
    need(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
    copy_rate = measure_copy(stream, small ? 1 << 20 : (size_t)2 << 30);
    product_rate = measure_product(stream, small ? 64 : 8192);
    cudaStreamDestroy(stream);
    printf("a copy moves %.2f TB/s (read and written), a bf16 product computes %.1f TFLOP/s\n", copy_rate * 1e-12,
           product_rate * 1e-12);
    for (pg_dtype type : { PG_Q8_0, PG_BF16 })
        if (only == PG_DTYPE_NONE || only == type) bench(s, type);
    return 0;
}
