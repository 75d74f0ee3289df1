/* elem: the ops that go element by element against the CPU backend: random shapes, in place, rows that sample, fewer rows
 * than were launched for, numbers that are not finite. */
#include "harness.h"

static unsigned long long seed = 1;

static void run(pg_cuda *c, const pg_op *op)
{
    switch (op->code) {
    case PG_OP_EMBED: pg_cuda_embed(c, op); break;
    case PG_OP_NORM: pg_cuda_norm(c, op); break;
    case PG_OP_ANGLES: pg_cuda_angles(c, op); break;
    case PG_OP_ROPE: pg_cuda_rope(c, op); break;
    case PG_OP_STORE: pg_cuda_store(c, op); break;
    case PG_OP_GLU: pg_cuda_glu(c, op); break;
    case PG_OP_ADD: pg_cuda_add(c, op); break;
    case PG_OP_GATE: pg_cuda_gate(c, op); break;
    case PG_OP_CLAMP: pg_cuda_clamp(c, op); break;
    case PG_OP_COPY: pg_cuda_copy(c, op); break;
    case PG_OP_GATHER: pg_cuda_gather(c, op); break;
    default: abort();
    }
}

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

/* A width of one of the kinds that matter: a multiple of four, odd, long. */
static int width_of(void)
{
    const int kind = below(4);
    return kind == 0 ? 1 + below(70) : kind == 1 ? 1 + below(1500) : 4 * (1 + below(kind == 2 ? 20 : 700));
}

static void make(harness *h)
{
    h->seed = ++seed * 77;
    h->max_rows = 1 + below(40);
    h->max_sampled = 1 + below(h->max_rows);
}

static void step(harness *h, int longest = 200)
{
    const int n = 1 + below(h->max_rows);
    harness_step(h, n, below(n + 1), 1 + below(n < h->max_sampled ? n : h->max_sampled), longest, 50);
}

/* Numbers that are not finite, here and there. */
static void odd(harness *h, pg_ref r)
{
    static const float list[] = { NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, 1e-40f, 90.0f, -90.0f };
    const int64_t n = (int64_t)h->value[r].width * (h->value[r].rows == PG_ROWS_ALL ? h->max_rows : h->max_sampled);
    for (int64_t i = 0; i < n; i++)
        if (below(7) == 0) *harness_at(h, r, 0, (int)i) = list[below(9)];
}

/* Both ways; the result within tolerance, nothing else written. */
static void compare(harness *h, pg_ref result, float tolerance, const char *name)
{
    harness_run_cpu(h);
    harness_run_cuda(h, run, name);
    harness_close(h, result, tolerance, name);
    harness_untouched(h, { result }, name);
    harness_close_all(h);
}

/* ADD, GATE, CLAMP, GLU: dst is a, b or a third value. */
static void element(pg_opcode code, int kind, float tolerance, const char *name)
{
    harness h;
    make(&h);
    const int width = width_of(), rows = below(2), way = below(3);
    const pg_ref a = harness_value(&h, width, rows, 5.0f);
    const pg_ref b = harness_value(&h, code == PG_OP_GATE ? 1 + below(3) : width, rows, 5.0f);
    const pg_ref third = harness_value(&h, width, rows);
    odd(&h, a);
    odd(&h, b);
    pg_ref dst = way == 0 ? a : way == 1 && code != PG_OP_GATE ? b : third;
    if (code == PG_OP_CLAMP) dst = a;
    pg_op *op = harness_emit(&h, code, dst, a, code == PG_OP_CLAMP ? PG_NO_REF : b);
    if (code == PG_OP_ADD) op->a.add.scale = below(2) ? 1.0f : 0.37f;
    if (code == PG_OP_CLAMP) op->a.clamp.limit = 2.5f;
    if (code == PG_OP_GLU) {
        op->a.glu.kind = kind;
        op->a.glu.limit = 3.0f;
    }
    step(&h);
    compare(&h, dst, tolerance, name);
}

static void copy(void)
{
    harness h;
    make(&h);
    const int by = below(2) ? 4 : 1, heads = 1 + below(6), n = by * (1 + below(20)), gap = by * below(9);
    const int src_col = by * below(5), dst_col = by * below(5);
    const pg_ref a = harness_value(&h, src_col + heads * (n + gap)),
                 y = harness_value(&h, dst_col + heads * (n + 2 * gap));
    odd(&h, a);
    harness_emit(&h, PG_OP_COPY, y, a)->a.copy = { heads, n, src_col, n + gap, dst_col, n + 2 * gap };
    step(&h);
    compare(&h, y, 0, "copy");
}

static void gather(void)
{
    harness h;
    make(&h);
    const int width = width_of();
    const pg_ref a = harness_value(&h, width), y = harness_value(&h, width, PG_ROWS_SAMPLED);
    odd(&h, a);
    harness_emit(&h, PG_OP_GATHER, y, a);
    step(&h);
    compare(&h, y, 0, "gather");
}

static void norm(int wild)
{
    harness h;
    make(&h);
    const int rows = below(2), count = 1 + below(4),
              n = count == 1 ? width_of()
                  : below(2) ? 4 * (1 + below(60))
                             : 1 + below(600);
    const int rest = below(2) ? 4 * below(5) : below(5), in_place = below(2);
    const pg_ref x = harness_value(&h, n * count + rest, rows, 3.0f), third = harness_value(&h, n * count + rest, rows);
    const pg_ref y = in_place ? x : third;
    if (wild) odd(&h, x);
    pg_op *op = harness_emit(&h, PG_OP_NORM, y, x);
    if (below(3)) op->v = harness_vector(&h, n, 1.0f, 0.5f);
    op->a.norm = { n, count, 1e-6f };
    step(&h);
    compare(&h, y, 1e-6f, "norm");
}

static void rope(int layout)
{
    harness h;
    make(&h);
    const int by = below(2) ? 4 : 1, half = by * (1 + below(12)), heads = 1 + below(5);
    const int col = by * below(4), gap = by * below(6), head = 2 * half + gap;
    const pg_ref angles = harness_value(&h, 2 * half), x = harness_value(&h, col + heads * head);
    pg_op *op = harness_emit(&h, PG_OP_ANGLES, angles, PG_NO_REF);
    op->v = harness_vector(&h, half, 0.5f, 0.5f);
    op->a.angles = { half, 1.2f };
    harness_emit(&h, PG_OP_ROPE, x, x, angles)->a.rope = { col, heads, head, 2 * half, layout };
    step(&h, 100000);
    harness_run_cpu(&h);
    harness_run_cuda(&h, run, "rope");
    harness_close(&h, angles, 1e-7f, "angles");
    harness_close(&h, x, 1e-6f, "rope");
    harness_untouched(&h, { angles, x }, "rope");
    harness_close_all(&h);
}

/* The caches must be equal, bytes that belong to no row included. */
static void store(pg_dtype type)
{
    harness h;
    make(&h);
    const int width = below(2) ? 32 * (1 + below(8)) : 1 + below(150), other = 1 + below(100);
    const pg_ref x = harness_value(&h, width + (below(2) ? 4 : 1) * below(4), PG_ROWS_ALL, 3.0f);
    pg_op *op = harness_emit(&h, PG_OP_STORE, PG_NO_REF, x);
    op->a.store = { 1, width };
    const int kind = below(3);
    if (kind) { /* a block of zeros; numbers around the borders of a format; whatever */
        for (int r = 0; r < h.max_rows; r++)
            for (int i = 0; i < h.value[x].width; i++) {
                float *at = harness_at(&h, x, r, i);
                if (kind == 1)
                    *at = i / 32 % 2 ? 0.0f : *at * ldexpf(1.0f, below(60) - 40);
                else if (below(300) == 0)
                    *at = below(2) ? INFINITY : -INFINITY;
            }
    }
    const int tokens = 1 << below(7), longest = 1 + below(200);
    h.kv.page_tokens = tokens;
    step(&h, longest);
    int pages = 0;
    for (const std::vector<int32_t> &p : h.pages) pages += (int)p.size();
    harness_cache(&h, type, tokens, { other, width }, pages);
    harness_run_cpu(&h);
    harness_run_cuda(&h, run, "store");
    size_t at = 0;
    while (at < h.cache.size() && h.cache_cpu[at] == h.cache_cuda[at]) at++;
    CHECK(at == h.cache.size(), "store, %s, width %d: byte %zu of %zu: %02x, not %02x", pg_dtype_get(type)->name, width,
          at, h.cache.size(), h.cache_cuda[at] & 255, h.cache_cpu[at] & 255);
    harness_untouched(&h, {}, "store");
    harness_close_all(&h);
}

static void embed(pg_dtype type)
{
    harness h;
    make(&h);
    const int block = pg_dtype_get(type)->block, vocabulary = 50;
    const int k = block > 1 ? block * (1 + below(4)) : width_of();
    h.exact = 1; /* rows as they are stored: the CPU embeds from tables that are not packed */
    const pg_ref y = harness_value(&h, k);
    pg_op *op = harness_emit(&h, PG_OP_EMBED, y, PG_NO_REF);
    op->w = harness_matrix(&h, type, k, vocabulary);
    op->a.embed.scale = below(2) ? 1.0f : 3.5f;
    step(&h);
    compare(&h, y, 0, pg_dtype_get(type)->name);
}

int main(void)
{
    for (int i = 0; i < 60; i++) {
        element(PG_OP_ADD, 0, 0, "add");
        element(PG_OP_GATE, 0, 1e-6f, "gate");
        element(PG_OP_CLAMP, 0, 0, "clamp");
        for (int kind = PG_GLU_SILU; kind <= PG_GLU_CLAMP; kind++) element(PG_OP_GLU, kind, 1e-6f, "glu");
        copy();
        gather();
        norm(i % 4 == 0);
        rope(i % 2 ? PG_ROPE_HALVES : PG_ROPE_PAIRS);
    }
    for (int i = 0; i < 20; i++)
        for (pg_dtype type : { PG_F32, PG_F16, PG_BF16, PG_Q8_0 }) store(type);
    for (int type = PG_F32; type <= PG_MXFP4; type++)
        for (int i = 0; i < 4; i++) embed((pg_dtype)type);
    return check_done("elem");
}
