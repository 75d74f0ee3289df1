/* Steering from step to step, through both backends: policies, knobs and who has which of them change while graphs stay;
 * somebody's code steers in between; and nobody does. Scores are rows of an embedding, so a token is a row. */
#define HARNESS_WITH_BACKEND 1
#include "../../kernels/cuda/backend.cuh"
#include "steer.h"

extern "C" const pg_plugin pg_plugin_cuda;

enum { NOBODY, BY_DATA, BY_CODE, WAYS };

struct both {
    bench *b;
    std::vector<pg_op> op;
    pg_code code;
    std::vector<float> rows; /* [max_rows, E] */
    pg_tensor table;
    pg_backend *cpu, *gpu;
};

static void take_faults(void *ud, const pg_op *op, const unsigned char *fault)
{
    bench *b = static_cast<bench *>(ud);
    CHECK(op->code == PG_OP_HOOK, "faults of op %d", op->code);
    b->by_cuda.assign(fault, fault + b->h.n);
}

static double waited_bytes;

static void on_wait(void *ud, double seconds, double bytes)
{
    (void)ud;
    CHECK(seconds >= 0, "the device waited for %g s", seconds);
    waited_bytes += bytes;
}

static void open_both(both *t)
{
    char why[512] = "";
    const char *text = "";
    harness *h = &t->b->h;
    pg_op embed;
    memset(&embed, 0, sizeof embed);
    t->rows = t->b->plain;
    t->table = pg_tensor_dense(PG_F32, t->rows.data(), t->b->E, h->max_rows, 1);
    embed.code = PG_OP_EMBED;
    embed.dst = t->b->score;
    embed.src[0] = embed.src[1] = PG_NO_REF;
    embed.w = &t->table;
    embed.a.embed.scale = 1;
    h->op.push_front(embed);
    t->code = harness_code(h, &t->op);
    t->cpu = pg_cpu_open(1, NULL, &text);
    t->gpu = pg_plugin_cuda.open(NULL, 0, 1, why, sizeof why);
    CHECK(t->cpu && t->gpu, "%s%s", text, why);
    if (t->cpu->ops->prepare(t->cpu, &t->code) || t->gpu->ops->prepare(t->gpu, &t->code) ||
        t->gpu->ops->load(t->gpu, NULL)) {
        CHECK(0, "%s", t->gpu->fault);
        exit(1);
    }
}

/* Another step: other rows, perhaps another who has which policy, other values of knobs. */
static void change(both *t, int i)
{
    bench *b = t->b;
    harness *h = &b->h;
    harness_step(h, 1 + below(b, h->max_rows), 0, 1, 50, h->max_rows);
    if (i % 3 == 0)
        for (int32_t &p : b->policy) p = below(b, b->data.n_policy + 1) - 1;
    if (i % 4 == 1)
        for (std::vector<float> &k : b->knob)
            for (float &x : k) x = 0.4f + uniform(b) / 2;
    if (i % 5 == 2)
        for (float &x : b->load) x = (1 + uniform(b)) / 2;
    if (i % 7 == 3) { /* as if it were a new policy: its knobs are others */
        for (pg_steer_stage &s : b->stage) s.id += 1000;
        for (std::vector<float> &k : b->knob_choose)
            for (float &x : k) x = isinf(x) ? 0 : x + 0.25f;
    }
}

static pg_rows rows_of(const harness *h)
{
    pg_rows r = {};
    r.n = h->n;
    r.token = h->token.data();
    r.pos = h->pos.data();
    r.seq = h->seq.data();
    return r;
}

static void one_step(both *t, int way, unsigned long long seed, int i)
{
    bench *b = t->b;
    std::vector<const int32_t *> pages;
    static const int32_t page[4] = { 0 };
    pages.assign((size_t)b->h.n, page);
    pg_rows rows = rows_of(&b->h);
    rows.pages = pages.data();
    for (int r = 0; r < b->h.n; r++) /* what the reference goes back to when a row has a fault */
        memcpy(&b->plain[(size_t)r * b->E], &t->rows[(size_t)b->h.token[r] * b->E], (size_t)b->E * sizeof(float));
    const pg_hook reference = { by_data, b, NULL, NULL, NULL }, data = { NULL, b, &b->data, take_faults, NULL },
                  code = { by_data, b, NULL, take_faults, on_wait };
    b->fault.assign((size_t)b->h.n, 0);
    t->cpu->hook = way == NOBODY ? NULL : &reference;
    t->cpu->ops->run(t->cpu, &rows, NULL);
    b->by_cpu = b->fault;
    b->by_cuda.assign((size_t)b->h.n, 0);
    t->gpu->hook = way == NOBODY ? NULL : way == BY_DATA ? &data : &code;
    CHECK(!t->gpu->ops->run(t->gpu, &rows, NULL), "seed %llu: %s", seed, t->gpu->fault);
    if (way == BY_CODE) b->by_cuda = b->fault;
    const int32_t *want = static_cast<const int32_t *>(t->cpu->ops->read(t->cpu, b->pick));
    const int32_t *got = static_cast<const int32_t *>(t->gpu->ops->read(t->gpu, b->pick));
    int bad = 0, faults = 0;
    for (int k = 0; k < b->h.n * 2 * b->most; k++) bad += !same_word(&want[k], &got[k]);
    CHECK(!bad, "seed %llu, step %d, steered in way %d: %d words of %d rows differ", seed, i, way, bad, b->h.n);
    for (int r = 0; r < b->h.n && way != NOBODY; r++) {
        int finite = 1;
        for (int e = 0; e < b->E; e++) finite &= isfinite(b->plain[(size_t)r * b->E + e]) != 0;
        faults += b->by_cuda[r] != (b->steered[r] && (finite || way == BY_CODE) ? b->by_cpu[r] : 0);
    }
    CHECK(!faults, "seed %llu, step %d, steered in way %d: %d faults differ", seed, i, way, faults);
}

static int graphs;

static void test(unsigned long long seed)
{
    both t;
    t.b = make_case(seed);
    t.b->h.n_prefill = 0;
    t.b->h.max_sampled = 1;
    make_data(t.b);
    open_both(&t);
    for (int i = 0; i < 24; i++) {
        change(&t, i);
        one_step(&t, i % 8 == 7 ? BY_CODE : i % 8 == 4 ? NOBODY : BY_DATA, seed, i);
    }
    const pg_cuda_backend *c = pg_cuda_whole(reinterpret_cast<const pg_cuda *>(t.gpu));
    for (int i = 0; i < c->n_graph; i++) graphs += c->graph[i].exec != NULL;
    t.cpu->ops->close(t.cpu);
    t.gpu->ops->close(t.gpu);
    for (auto &v : t.b->h.vector) {
        cudaFree(v.second.first);
        free(const_cast<float *>(v.first));
    }
    delete t.b;
}

int main(void)
{
    for (unsigned long long seed = 1; seed <= 10; seed++) test(seed);
    CHECK(graphs > 8, "only %d graphs were replayed", graphs);
    CHECK(waited_bytes > 0, "nobody was told that the device waited");
    return check_done("steer_test");
}
