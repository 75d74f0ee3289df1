/* one_row: what fuse.cuh launches at once against the same ops one by one, bit for bit: NORM, products and ADD in all
 * formats; EXPERTS with a shared expert and ADDs; and what happens to heads between products and attention. */
#include "harness.h"

#include "../../kernels/cuda/fuse.cuh"

/* Many rows are another file's; here they must not come. */
void pg_cuda_gemm(pg_cuda *, const pg_op *)
{
    CHECK(0, "gemm was called");
}
int64_t pg_cuda_gemm_scratch(const pg_cuda *, const pg_code *, const pg_op *)
{
    return 0;
}
void pg_cuda_experts_many(pg_cuda *, const pg_op *)
{
    CHECK(0, "many rows were asked for");
}
int64_t pg_cuda_experts_many_scratch(const pg_cuda *, const pg_code *, const pg_op *)
{
    return 0;
}

static unsigned long long next_seed = 1;
static int n_refused;

static void one_by_one(pg_cuda *c, const pg_op *op)
{
    switch (op->code) {
    case PG_OP_NORM: pg_cuda_norm(c, op); break;
    case PG_OP_MATMUL: pg_cuda_matmul(c, op); break;
    case PG_OP_ADD: pg_cuda_add(c, op); break;
    case PG_OP_GLU: pg_cuda_glu(c, op); break;
    case PG_OP_EXPERTS: pg_cuda_experts(c, op); break;
    case PG_OP_CLAMP: pg_cuda_clamp(c, op); break;
    case PG_OP_ROPE: pg_cuda_rope(c, op); break;
    case PG_OP_STORE: pg_cuda_store(c, op); break;
    case PG_OP_COPY: pg_cuda_copy(c, op); break;
    default: CHECK(0, "op %d has no function", op->code);
    }
}

/* Everything is launched when the first op comes. */
static int is_first(const pg_cuda *c, const pg_op *op)
{
    return op->code == c->code->op[0].code && op->dst == c->code->op[0].dst && op->src[0] == c->code->op[0].src[0];
}

static void product_at_once(pg_cuda *c, const pg_op *op)
{
    const pg_op *first = c->code->op, *last = first + c->code->n_op - 1;
    const pg_op *norm = first->code == PG_OP_NORM ? first : NULL;
    if (is_first(c, op) &&
        pg_cuda_multiply_one(c, norm, norm ? first + 1 : first, last->code == PG_OP_ADD ? last : NULL))
        n_refused++;
}

static void experts_at_once(pg_cuda *c, const pg_op *op)
{
    const pg_op *first = c->code->op;
    const int n = c->code->n_op;
    if (is_first(c, op) && pg_cuda_experts_one(c, first, n > 2 ? first + 1 : NULL, n % 5 == 2 ? first + n - 1 : NULL))
        n_refused++;
}

static void heads_at_once(pg_cuda *c, const pg_op *op)
{
    const pg_op *all[16];
    for (int i = 0; i < c->code->n_op; i++) all[i] = &c->code->op[i];
    if (is_first(c, op) && pg_cuda_heads(c, all, c->code->n_op)) n_refused++;
}

/* Both ways; the values `made` and the cache are the same. */
static void compare(harness *h, harness_op *at_once, const std::vector<pg_ref> &made, const char *name)
{
    const int refused = n_refused;
    harness_run_cuda(h, one_by_one, name);
    const std::vector<char> arena = h->by_cuda, cache = h->cache_cuda;
    harness_run_cuda(h, at_once, name);
    CHECK(n_refused == refused, "%s: refused", name);
    CHECK(cache == h->cache_cuda, "%s: the cache differs", name);
    for (pg_ref r : made) {
        const size_t at = (size_t)h->value[r].offset, bytes = (size_t)h->value[r].width * 4 * (size_t)h->max_rows;
        CHECK(!memcmp(&arena[at], &h->by_cuda[at], bytes), "%s, seed %llu: value %d differs", name, h->seed, (int)r);
    }
    harness_close_all(h);
}

static void begin(harness *h, int rows, int bucket)
{
    h->seed = next_seed++;
    h->max_rows = rows > 4 ? rows : 4;
    harness_step(h, rows, 0, 1, 60, 100);
    h->bucket = bucket;
    h->scratch_bytes = 1 << 22;
}

static void emit_norm(harness *h, pg_ref y, pg_ref x, int n, int count)
{
    pg_op *op = harness_emit(h, PG_OP_NORM, y, x);
    op->v = harness_below(h, 4) ? harness_vector(h, n, 1, 0.5f) : NULL;
    op->a.norm.n = n;
    op->a.norm.count = count;
    op->a.norm.eps = 1e-5f;
}

static pg_op *emit_product(harness *h, pg_dtype type, pg_ref y, pg_ref x, const float *bias)
{
    pg_op *op = harness_emit(h, PG_OP_MATMUL, y, x);
    op->w = harness_matrix(h, type, h->value[x].width, h->value[y].width);
    op->v = bias;
    op->a.matmul.batch = 1;
    op->a.matmul.scale = 1;
    return op;
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

static void product(pg_dtype type, int k, int n_op, int normed, int added, int exact)
{
    harness h;
    char name[128];
    snprintf(name, sizeof name, "%d of %s, %d columns, norm %d, add %d, exact %d", n_op, pg_dtype_get(type)->name, k,
             normed, added, exact);
    begin(&h, 1, 1);
    h.exact = exact;
    pg_ref x = harness_value(&h, k, PG_ROWS_ALL, 3);
    std::vector<pg_ref> made;
    if (normed) {
        made.push_back(harness_value(&h, k));
        emit_norm(&h, made[0], x, k, 1);
        x = made[0];
    }
    pg_ref y = PG_NO_REF;
    for (int i = 0; i < n_op; i++) {
        y = harness_value(&h, 21 + 6 * i);
        if (!added) made.push_back(y);
        emit_product(&h, type, y, x, i % 2 ? NULL : harness_vector(&h, 21 + 6 * i, 0, 1))->a.matmul.scale = 0.5f;
    }
    if (added) {
        const pg_ref z = harness_value(&h, h.value[y].width), sum = harness_value(&h, h.value[y].width);
        harness_emit(&h, PG_OP_ADD, sum, z, y)->a.add.scale = 0.75f;
        made.push_back(sum);
    }
    compare(&h, product_at_once, made, name);
}

/* ---- experts ------------------------------------------------------------------------------------------------------ */

static void experts(pg_dtype type, int D, int F, int own_F, int E, int X, int added, int biased)
{
    harness h;
    pg_experts e = {};
    char name[128];
    snprintf(name, sizeof name, "%d of %d experts in %s, %d x %d, shared %d, add %d", X, E, pg_dtype_get(type)->name, D,
             F, own_F, added);
    begin(&h, 1, 1);
    const int most = pg_router_most(E, X);
    const pg_ref x = harness_value(&h, D), pick = harness_value(&h, 2 * most);
    pg_ref y = harness_value(&h, D);
    for (int i = 0; i < most; i++) { /* descending, so that the order of the sum is not that of the choice */
        const int32_t id = i < X ? E - 1 - i : -1;
        memcpy(harness_at(&h, pick, 0, i), &id, 4);
    }
    e.n_expert = E;
    e.n_used = X;
    e.n_embd = D;
    e.n_ff = F;
    e.glu = harness_below(&h, 4);
    e.limit = 0.7f;
    e.gate = harness_matrix(&h, type, D, F, E, false, false, true);
    e.up = harness_matrix(&h, type, D, F, E, false, false, true);
    e.down = harness_matrix(&h, type, F, D, E, false, false, true);
    if (biased) {
        e.gate_bias = harness_vector(&h, (int64_t)E * F, 0, 0.5f);
        e.up_bias = harness_vector(&h, (int64_t)E * F, 0, 0.5f);
        e.down_bias = harness_vector(&h, (int64_t)E * D, 0, 0.5f);
    }
    harness_emit(&h, PG_OP_EXPERTS, y, x, pick)->a.experts.experts = &e;
    if (own_F) {
        const pg_ref g = harness_value(&h, own_F), u = harness_value(&h, own_F), m = harness_value(&h, own_F);
        const pg_ref s = harness_value(&h, D), both = harness_value(&h, D);
        emit_product(&h, type, g, x, NULL);
        emit_product(&h, type, u, x, NULL);
        harness_emit(&h, PG_OP_GLU, m, g, u)->a.glu = { e.glu, e.limit };
        emit_product(&h, type, s, m, NULL);
        harness_emit(&h, PG_OP_ADD, both, y, s)->a.add.scale = 1;
        y = both;
    }
    if (added) {
        const pg_ref z = harness_value(&h, D), sum = harness_value(&h, D);
        harness_emit(&h, PG_OP_ADD, sum, z, y)->a.add.scale = 0.75f;
        y = sum;
    }
    compare(&h, experts_at_once, { y }, name);
}

/* ---- heads -------------------------------------------------------------------------------------------------------- */

static void emit_rope(harness *h, pg_ref x, pg_ref angles, int col, int heads, int step, int n, int layout)
{
    harness_emit(h, PG_OP_ROPE, x, x, angles)->a.rope = { col, heads, step, n, layout };
}

/* As grouped queries have it: queries, keys, values. */
static void grouped(pg_dtype cache, int H, int G, int width, int rot, int layout, int normed, int clamped)
{
    harness h;
    char name[128];
    snprintf(name, sizeof name, "%d and %d heads of %d, %d turned, layout %d, norm %d, clamp %d, %s", H, G, width, rot,
             layout, normed, clamped, pg_dtype_get(cache)->name);
    h.kv.page_tokens = 8;
    begin(&h, 5, 8);
    h.max_rows = 8;
    harness_cache(&h, cache, 8, { G * width, G * width }, 64);
    const pg_ref q = harness_value(&h, H * width), k = harness_value(&h, G * width), v = harness_value(&h, G * width);
    const pg_ref angles = harness_value(&h, rot);
    if (normed) emit_norm(&h, q, q, width, H);
    if (normed) emit_norm(&h, k, k, width, G);
    for (pg_ref r : { q, k, v })
        if (clamped) harness_emit(&h, PG_OP_CLAMP, r, r)->a.clamp.limit = 0.5f;
    emit_rope(&h, q, angles, 0, H, width, rot, layout);
    emit_rope(&h, k, angles, 0, G, width, rot, layout);
    harness_emit(&h, PG_OP_STORE, PG_NO_REF, k)->a.store = { 0, G * width };
    harness_emit(&h, PG_OP_STORE, PG_NO_REF, v)->a.store = { 1, G * width };
    compare(&h, heads_at_once, { q, k, v }, name);
}

/* As latents have it: one wide key, queries whose last columns are turned and copied. */
static void latents(pg_dtype cache, int H, int latent, int nope, int rot)
{
    harness h;
    char name[128];
    snprintf(name, sizeof name, "a latent of %d, %d heads of %d and %d, %s", latent, H, nope, rot,
             pg_dtype_get(cache)->name);
    h.kv.page_tokens = 8;
    begin(&h, 3, 4);
    harness_cache(&h, cache, 8, { latent + rot }, 64);
    const pg_ref kv = harness_value(&h, latent + rot), q = harness_value(&h, H * (nope + rot));
    const pg_ref qa = harness_value(&h, H * (latent + rot)), angles = harness_value(&h, rot);
    emit_norm(&h, kv, kv, latent, 1);
    emit_rope(&h, kv, angles, latent, 1, 0, rot, PG_ROPE_PAIRS);
    harness_emit(&h, PG_OP_STORE, PG_NO_REF, kv)->a.store = { 0, latent + rot };
    emit_rope(&h, q, angles, nope, H, nope + rot, rot, PG_ROPE_PAIRS);
    harness_emit(&h, PG_OP_COPY, qa, q)->a.copy = { H, rot, nope, nope + rot, latent, latent + rot };
    compare(&h, heads_at_once, { kv, q, qa }, name);
}

int main(void)
{
    for (int i = PG_F32; i <= PG_MXFP4; i++) {
        const pg_dtype type = (pg_dtype)i;
        const int block = pg_dtype_get(type)->block, wide = block < 32 ? 32 : block;
        product(type, wide, type == PG_FP8 ? 1 : 2, 1, 0, 0); /* whose products run apart */
        product(type, 3 * wide, 1, 0, 1, 0);
        if (!pg_dtype_is_quant(type)) product(type, 2304, 1, 1, 1, 1);
        experts(type, wide, wide, i % 2 ? 2 * wide : 0, 8, 2, i % 3 > 0 || i % 2 == 0, i % 2 == 0);
    }
    for (int k : { 512, 544, 2048, 5120 }) product(PG_Q8_0, k, 3, 1, 0, 0);
    experts(PG_Q8_0, 64, 96, 64, 16, 6, 1, 0);
    experts(PG_BF16, 256, 64, 128, 64, 6, 0, 0);
    experts(PG_Q8_0, 64, 32, 2816, 16, 4, 1, 0); /* warps share an output of the shared expert */
    for (pg_dtype cache : { PG_F32, PG_F16, PG_BF16, PG_Q8_0 })
        for (int normed = 0; normed < 2; normed++) {
            grouped(cache, 4, 2, 64, 64, PG_ROPE_HALVES, normed, 0);
            grouped(cache, 6, 1, 96, 32, PG_ROPE_PAIRS, normed, 1);
            latents(cache, 4, normed ? 512 : 64, 32, 32);
        }
    return check_done("one_row");
}
