/* HOOK and ROUTE on the device against the CPU's, bit for bit: random routers of all kinds, ties, numbers that are none;
 * steering that the host hands over row by row, and steering as data, which the reference below carries out on the CPU:
 * bans, forces, shares, capacities, and rows whose steering is unusable. */
#include "steer.h"

static void take_faults(void *ud, const pg_op *op, const unsigned char *fault)
{
    bench *b = static_cast<bench *>(ud);
    CHECK(op->code == PG_OP_HOOK, "faults of op %d", op->code);
    b->by_cuda.assign(fault, fault + b->h.n);
}

/* ---- both sides ------------------------------------------------------------------------------------------------------- */

static bench *now;
static const pg_hook *hook_now;

static void run_cpu(bench *b, const pg_hook *hook)
{
    std::vector<pg_op> op;
    harness *h = &b->h;
    const pg_code code = harness_code(h, &op);
    const char *why = "";
    pg_backend *back = pg_cpu_open(1, NULL, &why);
    if (!back || back->ops->prepare(back, &code)) abort();
    char *arena = static_cast<char *>(const_cast<void *>(back->ops->read(back, 0))) - h->value[0].offset;
    memcpy(arena, h->arena.data(), h->arena.size());
    pg_rows rows = {};
    rows.n = h->n;
    rows.n_prefill = h->n_prefill;
    back->hook = hook;
    back->ops->run(back, &rows, NULL);
    h->by_cpu.assign(arena, arena + h->arena_bytes);
    back->ops->close(back);
}

static void run_op(pg_cuda *c, const pg_op *op)
{
    if (op->code == PG_OP_HOOK) {
        pg_rows rows = {};
        rows.n = now->h.n;
        c->base.hook = hook_now;
        now->by_cuda.assign(now->h.n, 0);
        if (pg_cuda_steer_open(c)) abort();
        const int kind = pg_cuda_steer_begin(c, &rows), data = hook_now && hook_now->data;
        CHECK(kind == (!hook_now                  ? PG_STEER_NOBODY_ASKS
                       : !data                    ? PG_STEER_CALLS
                       : hook_now->data->capacity ? PG_STEER_CAPACITY
                                                  : PG_STEER_DATA),
              "the step is of kind %d", kind);
        pg_cuda_hook(c, op);
        return;
    }
    pg_cuda_route(c, op);
    cudaStreamSynchronize(c->stream);
    pg_cuda_steer_end(c);
    pg_cuda_steer_close(c);
}

static void compare(bench *b, const char *name, unsigned long long seed)
{
    const harness *h = &b->h;
    const int W = 2 * b->most;
    const int32_t *want = reinterpret_cast<const int32_t *>(h->by_cpu.data() + h->value[b->pick].offset);
    const int32_t *got = reinterpret_cast<const int32_t *>(h->by_cuda.data() + h->value[b->pick].offset);
    int bad = 0;
    for (int i = 0; i < h->n * W && bad < 3; i++)
        if (!same_word(&want[i], &got[i])) {
            bad++;
            CHECK(0, "%s, seed %llu: row %d of %d, word %d of %d: %x, not %x; %d experts, kind %d", name, seed, i / W,
                  h->n, i % W, W, got[i], want[i], b->E, b->r.score);
        }
    CHECK(!memcmp(got + (size_t)h->n * W, h->arena.data() + h->value[b->pick].offset + (size_t)h->n * W * 4,
                  (size_t)(h->max_rows - h->n) * W * 4),
          "%s, seed %llu: rows that are not there were written", name, seed);
}

static void compare_faults(bench *b, int masked, const char *name, unsigned long long seed)
{
    for (int t = 0; t < b->h.n; t++) {
        int want = b->by_cpu[t];
        for (int e = 0; e < b->E && masked; e++)
            if (!isfinite(b->plain[(size_t)t * b->E + e])) want = 0;
        if (!b->steered[t]) want = 0;
        CHECK(want == b->by_cuda[t], "%s, seed %llu: row %d has fault %d, not %d", name, seed, t, b->by_cuda[t], want);
    }
}

static void run(bench *b, const pg_hook *cpu, const pg_hook *cuda, const char *name, unsigned long long seed)
{
    run_cpu(b, cpu);
    b->by_cpu = b->fault;
    now = b;
    hook_now = cuda;
    harness_run_cuda(&b->h, run_op, name);
    compare(b, name, seed);
    if (cuda && !cuda->data) b->by_cuda = b->fault;
    if (cuda) compare_faults(b, cuda->data != NULL, name, seed);
}

static void one_case(unsigned long long seed)
{
    bench *b = make_case(seed);
    run(b, NULL, NULL, "nobody steers", seed);
    make_arrays(b, (int)(seed % 2));
    const pg_hook arrays = { by_arrays, b, NULL, take_faults };
    run(b, &arrays, &arrays, "steered by arrays", seed);
    make_data(b);
    const pg_hook reference = { by_data, b, NULL, NULL }, data = { NULL, b, &b->data, take_faults };
    run(b, &reference, &data, "steered by data", seed);
    for (auto &v : b->h.vector) {
        cudaFree(v.second.first);
        free(const_cast<float *>(v.first));
    }
    delete b;
}

int main(int argc, char **argv)
{
    const unsigned long long only = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    for (unsigned long long seed = 1; seed <= 60; seed++)
        if (!only || seed == only) one_case(seed);
    return check_done("route_test");
}
