/* backend_test: a small model through the CUDA backend and through the CPU's: prompt rows, decode rows by launches and by
 * graphs, values read back; and what is said when the device has too little memory or fails. */
#include "../../kernels/cuda/backend.cuh"
#include "../c/check.h"
#include "step.h"

#include <math.h>
#include <unistd.h>
#include <vector>

extern "C" const pg_plugin pg_plugin_cuda;

enum {
    T = 40,
    S = 24,
    D = 64,
    V = 96,
    E = 8,
    H = 4,
    DK = 16,
    X = 2,
    M = 4,
    PAGE = 4,
    SEQS = 20,
    LONGEST = 40,
    PAGES = (SEQS + 1) * LONGEST / PAGE
};
static const int first = 0, absent = 77; /* devices */
enum { X0, NORMED, Q, K, ATTENDED, SCORE, PICK, SAMPLED, LOGITS, VALUES };

static unsigned long long seed = 3;

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

static std::vector<float> numbers(int n, float size)
{
    std::vector<float> x((size_t)n);
    for (float &v : x) v = size * check_uniform(&seed);
    return x;
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */

struct model {
    std::vector<float> table = numbers(V * D, 1), q = numbers(D * H * DK, 0.3f), k = numbers(D * DK, 0.3f),
                       router = numbers(D * E, 1), head = numbers(H * DK * V, 0.3f), norm = numbers(D, 1);
    pg_tensor w[5];
    pg_router how = {};
    std::vector<pg_op> op;
    pg_value value[VALUES];
    pg_kv_stream stream = { 0, DK, DK * 4 };
    pg_kv kv = {};
    pg_code code = {};

    pg_op *emit(pg_opcode c, int dst, int a, int b = PG_NO_REF)
    {
        pg_op o;
        memset(&o, 0, sizeof o);
        o.code = c;
        o.dst = dst;
        o.src[0] = a;
        o.src[1] = b;
        op.push_back(o);
        return &op.back();
    }
    void multiply(int dst, int a, const pg_tensor *t, int exact = 0)
    {
        pg_op *o = emit(PG_OP_MATMUL, dst, a);
        o->w = t;
        o->a.matmul.batch = 1;
        o->a.matmul.scale = 1;
        o->a.matmul.exact = exact;
    }
    model(bool attends = true)
    {
        const int width[VALUES] = { D, D, H * DK, DK, H * DK, E, 2 * M, H * DK, V };
        for (int i = 0; i < VALUES; i++) {
            value[i] = { width[i], i >= SAMPLED, code.arena_bytes };
            code.arena_bytes += (int64_t)width[i] * 4 * T;
        }
        w[0] = pg_tensor_dense(PG_F32, table.data(), D, V, 1);
        w[1] = pg_tensor_dense(PG_F32, q.data(), D, H * DK, 1);
        w[2] = pg_tensor_dense(PG_F32, k.data(), D, DK, 1);
        w[3] = pg_tensor_dense(PG_F32, router.data(), D, E, 1);
        w[4] = pg_tensor_dense(PG_F32, head.data(), H * DK, V, 1);
        how.n_expert = E;
        how.n_used = X;
        how.n_group = how.n_group_used = 1;
        how.score = PG_SCORE_SOFTMAX;
        how.scale = 1;
        pg_op *o = emit(PG_OP_EMBED, X0, PG_NO_REF);
        o->w = &w[0];
        o->a.embed.scale = 1;
        o = emit(PG_OP_NORM, NORMED, X0);
        o->v = norm.data();
        o->a.norm.n = D;
        o->a.norm.count = 1;
        o->a.norm.eps = 1e-6f;
        multiply(Q, NORMED, &w[1]);
        multiply(K, NORMED, &w[2]);
        o = emit(PG_OP_STORE, PG_NO_REF, K);
        o->a.store.n = DK;
        if (attends) {
            o = emit(PG_OP_ATTN, ATTENDED, Q);
            o->a.attn.heads = H;
            o->a.attn.kv_heads = 1;
            o->a.attn.dk = o->a.attn.dv = DK;
            o->a.attn.scale = 0.25f;
        }
        multiply(SCORE, NORMED, &w[3], 1);
        emit(PG_OP_HOOK, SCORE, SCORE)->a.hook.router = &how;
        emit(PG_OP_ROUTE, PICK, SCORE)->a.route.router = &how;
        emit(PG_OP_GATHER, SAMPLED, attends ? ATTENDED : Q);
        multiply(LOGITS, SAMPLED, &w[4]);
        code.op = op.data();
        code.value = value;
        code.n_op = (int32_t)op.size();
        code.n_value = VALUES;
        code.max_rows = code.max_decode = T;
        code.max_sampled = S;
        code.exact = 1;
        kv.page_bytes = PAGE * DK * 4;
        kv.page_tokens = PAGE;
        kv.n_stream = 1;
        kv.dtype = PG_F32;
        kv.stream = &stream;
    }
};

/* ---- steps -------------------------------------------------------------------------------------------------------- */

struct step : step_rows {
    /* n_prefill rows of sequence 0 from position `at` on, then one row of each of the sequences that follow. */
    step(int n_prefill, int n_decode, int at, bool samples = true)
    {
        for (int i = 0; i < n_prefill; i++) add(below(V), 0, at + i);
        for (int i = 0; i < n_decode; i++) add(below(V), 1 + i, at);
        for (int i = 0; i < SEQS + 1; i++) {
            page.emplace_back();
            for (int p = 0; p * PAGE < LONGEST; p++)
                page[i].push_back(i * (LONGEST / PAGE) + (p * 7 + 3) % (LONGEST / PAGE));
        }
        finish(n_prefill, samples);
    }
};

static pg_backend *open_device(const pg_code *code, pg_kv *kv, char *why, size_t n)
{
    pg_backend *b = pg_plugin_cuda.open(&first, 1, 2, why, n);
    if (!b) return NULL;
    b->drawn = LOGITS;
    kv->base = static_cast<char *>(b->ops->take(b, code, kv, PAGES));
    if (kv->base)
        cudaMemset(kv->base, 0,
                   (size_t)(kv->page_bytes * PAGES)); /* steps here look at positions that none has written */
    if (kv->base && !b->ops->prepare(b, code) && !b->ops->load(b, NULL)) return b;
    snprintf(why, n, "%s", b->fault[0] ? b->fault : "no memory");
    b->ops->close(b);
    return NULL;
}

static double distance(const void *a, const void *b, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) {
        const double d = fabs((double)static_cast<const float *>(a)[i] - static_cast<const float *>(b)[i]);
        if (!(d <= most)) most = d;
    }
    return most;
}

/* What both say about one step; rows of fetch in any order. */
static void compare(pg_backend *cpu, pg_backend *gpu, const pg_kv *a, const pg_kv *b, const step *s, const char *what)
{
    const int S_ = s->rows.n_sampled;
    cpu->ops->run(cpu, &s->rows, a);
    CHECK(!gpu->ops->run(gpu, &s->rows, b), "%s: %s", what, gpu->fault);
    const int32_t *p = static_cast<const int32_t *>(cpu->ops->read(cpu, PICK));
    const int32_t *q = static_cast<const int32_t *>(gpu->ops->read(gpu, PICK));
    int same = 1;
    for (int r = 0; r < s->rows.n; r++)
        same &=
            !memcmp(p + r * 2 * M, q + r * 2 * M, M * 4) && distance(p + r * 2 * M + M, q + r * 2 * M + M, X) < 1e-5;
    CHECK(same, "%s: other experts", what);
    const float *y = static_cast<const float *>(cpu->ops->read(cpu, LOGITS));
    if (S_ > 1) {
        const int32_t which[2] = { S_ - 1, 0 };
        const void *row[2];
        gpu->ops->fetch(gpu, LOGITS, which, 2, row);
        CHECK(distance(row[0], y + (S_ - 1) * V, V) < 1e-4 && distance(row[1], y, V) < 1e-4, "%s: rows fetched", what);
    }
    if (S_)
        CHECK(distance(gpu->ops->read(gpu, LOGITS), y, S_ * V) < 1e-4, "%s: logits differ by %g", what,
              distance(gpu->ops->read(gpu, LOGITS), y, S_ * V));
    CHECK(distance(gpu->ops->read(gpu, NORMED), cpu->ops->read(cpu, NORMED), s->rows.n * D) < 1e-5, "%s: norm", what);
    for (int i = 0; i < S_; i++) {
        pg_best best = {};
        gpu->ops->best(gpu, i, &best);
        int top = 0;
        for (int v = 1; v < V; v++)
            if (y[i * V + v] > y[i * V + top]) top = v;
        CHECK(best.n > 0 && best.id[0] == top, "%s: row %d: the best is %d", what, i, top);
    }
}

static void steps(bool graphs)
{
    model m;
    char why[512] = "";
    std::vector<char> cache((size_t)(m.kv.page_bytes * PAGES));
    pg_kv here = m.kv, there = m.kv;
    const char *text;
    setenv("PERIGEE_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    pg_backend *cpu = pg_cpu_open(1, NULL, &text), *gpu = open_device(&m.code, &there, why, sizeof why);
    CHECK(gpu && cpu && !cpu->ops->prepare(cpu, &m.code), "%s", why);
    if (!gpu) return;
    here.base = cache.data();
    compare(cpu, gpu, &here, &there, new step(9, 0, 0, false), "prompt that nobody samples");
    compare(cpu, gpu, &here, &there, new step(7, 0, 9), "rest of a prompt");
    for (int at = 0; at < 4; at++)
        for (int n : { 1, 3, 4, 13 }) {
            char what[64];
            snprintf(what, sizeof what, "%d decode rows at %d%s", n, at, graphs ? "" : ", launched");
            compare(cpu, gpu, &here, &there, new step(0, n, at), what);
        }
    compare(cpu, gpu, &here, &there, new step(11, 6, 16), "both");
    compare(cpu, gpu, &here, &there, new step(0, 2, 5), "a bucket that comes late");
    const pg_cuda_backend *b = pg_cuda_whole(reinterpret_cast<const pg_cuda *>(gpu));
    int ready = 0;
    for (int i = 0; i < b->n_graph; i++) ready += b->graph[i].exec != NULL;
    CHECK(graphs ? b->n_graph == 4 && ready == 3 : b->n_graph == 0, "%d buckets, %d graphs", b->n_graph, ready);
    cpu->ops->close(cpu);
    gpu->ops->close(gpu);
}

/* More pages than there was room for: the stage grows, and graphs that knew the old one go. */
static void many_pages(void)
{
    model m(false);
    char why[512] = "";
    pg_kv kv = m.kv;
    kv.page_tokens = 1;
    kv.page_bytes = DK * 4;
    pg_backend *gpu = open_device(&m.code, &kv, why, sizeof why);
    CHECK(gpu, "%s", why);
    if (!gpu) return;
    for (int round = 0; round < 6; round++) {
        step s(0, 10, round < 3 ? 5 : 1999);
        for (size_t i = 0; i < s.page.size(); i++) {
            s.page[i].assign(2000, (int32_t)i);
            s.page_list[i] = s.page[i].data();
        }
        CHECK(!gpu->ops->run(gpu, &s.rows, &kv), "round %d: %s", round, gpu->fault);
        const float *x = static_cast<const float *>(gpu->ops->read(gpu, X0));
        for (int r = 0; r < 10; r++)
            CHECK(!memcmp(x + r * D, &m.table[(size_t)s.token[(size_t)r] * D], D * 4), "round %d, row %d", round, r);
    }
    gpu->ops->close(gpu);
}

/* ---- what goes wrong ---------------------------------------------------------------------------------------------- */

#ifdef PG_EMU /* a device that fails when it is told to */
static int64_t left(void)
{
    size_t free_bytes = 0, total;
    cudaMemGetInfo(&free_bytes, &total);
    return (int64_t)free_bytes;
}

/* The n-th call that can fail does, in opening or in a step: words, no crash, nothing kept, and no further step. */
static void failures(void)
{
    model m;
    const int64_t before = left();
    int opened = 0, failed = 0;
    for (int n = 1; n < 400 && opened < 60; n++) {
        char why[512] = "";
        pg_kv kv = m.kv;
        pg_emu_fail_at(n);
        pg_backend *gpu = open_device(&m.code, &kv, why, sizeof why);
        if (!gpu) {
            pg_emu_fail_at(0);
            CHECK(strlen(why) > 8, "call %d: \"%s\"", n, why);
            CHECK(left() == before, "call %d: %lld bytes kept", n, (long long)(before - left()));
            continue;
        }
        opened++;
        int bad = 0;
        for (int at = 0; at < 6 && !bad; at++) {
            step s(at == 0 ? 5 : 0, at == 0 ? 0 : 3, at);
            bad = gpu->ops->run(gpu, &s.rows, &kv);
            gpu->ops->read(gpu, LOGITS);
        }
        pg_emu_fail_at(0);
        if (bad) {
            step s(0, 2, 3);
            failed++;
            CHECK(strstr(gpu->fault, "cuda:0 (sm_") && strstr(gpu->fault, "; "), "call %d: \"%s\"", n, gpu->fault);
            CHECK(gpu->ops->run(gpu, &s.rows, &kv), "call %d: goes on after a failure", n);
        }
        gpu->ops->close(gpu);
        CHECK(left() == before, "call %d: %lld bytes kept", n, (long long)(before - left()));
    }
    CHECK(opened >= 30 && failed >= 20, "%d opened, %d failed", opened, failed);
}
#endif

static void memory(void)
{
    model m;
    char why[512] = "";
    pg_kv kv = m.kv;
    const int64_t kv_bytes = kv.page_bytes * PAGES;
    pg_backend *b = pg_plugin_cuda.open(&first, 1, 1, why, sizeof why);
    CHECK(b && !strcmp(b->device, "cuda:0"), "%s", why);
    CHECK(!b->ops->lacks(b, &m.code, &kv, PAGES), "it fits");
    const int64_t plan = b->ops->memory(b, &m.code), weights = 4 * D * (V + H * DK + DK + E) + 4 * H * DK * V;
    setenv("PERIGEE_CUDA_MEMORY", "0.040", 1);
    const int64_t room = b->ops->room(b),
                  lacks = b->ops->lacks(b, &m.code, &kv, (int32_t)(room / kv.page_bytes) + PAGES);
    CHECK(room == 40000000, "%lld bytes of room", (long long)room);
    CHECK(lacks >= plan + kv_bytes + weights - kv.page_bytes && lacks < plan + kv_bytes + weights + 8192, "%lld lack",
          (long long)lacks);
    b->ops->close(b);
    setenv("PERIGEE_CUDA_MEMORY", "0.0001", 1);
    CHECK(!open_device(&m.code, &kv, why, sizeof why) && strstr(why, "too little memory"), "%s", why);
    unsetenv("PERIGEE_CUDA_MEMORY");
    CHECK(!pg_plugin_cuda.open(&absent, 1, 1, why, sizeof why) && strstr(why, "no such device"), "%s", why);
    CHECK(pg_plugin_cuda.layout == PG_PLUGIN_LAYOUT, "layout");
}

int main(void)
{
    steps(true);
    steps(false);
    many_pages();
    memory();
#ifdef PG_EMU
    failures();
#endif
    return check_done("backend_test");
}
