/* experts_few: EXPERTS of few rows on the device against the CPU backend: formats alike and mixed, activations and
 * biases, steered rows with more or fewer experts, buckets larger than the step; and that a row's result is the same,
 * bit for bit, however many rows there are. */
#include "harness.h"

#include "../../kernels/moe/moe_few_cuda.cuh"

/* Many rows are another file's; the object of few rows' MATMUL names it. */
void pg_cuda_gemm(pg_cuda *, const pg_op *) {}
int64_t pg_cuda_gemm_scratch(const pg_cuda *, const pg_code *, const pg_op *)
{
    return 0;
}

typedef struct shape {
    pg_dtype gate, up, down;
    int D, F, n_expert, n_used, glu, biased, exact, apart;
} shape;

static unsigned long long next_seed = 1;

/* Choices of a row: distinct experts in any order, then -1; then their weights. */
static void choose(harness *h, pg_ref pick, int row, int n, int n_expert)
{
    const int most = h->value[pick].width / 2;
    std::vector<int32_t> id;
    for (int e = 0; e < n_expert; e++) id.insert(id.begin() + harness_below(h, e + 1), e);
    for (int i = 0; i < most; i++) {
        const int32_t e = i < n ? id[i] : -1;
        memcpy(harness_at(h, pick, row, i), &e, 4);
        *harness_at(h, pick, row, most + i) = i < n ? harness_uniform(h) : 0;
    }
}

static void run(const shape &s, int max_rows, const std::vector<int> &buckets)
{
    harness h;
    h.seed = next_seed++;
    h.max_rows = max_rows;
    h.exact = s.exact;
    char name[160];
    snprintf(name, sizeof name, "%s %s %s D %d F %d, %d of %d, glu %d, biased %d, exact %d", pg_dtype_get(s.gate)->name,
             pg_dtype_get(s.up)->name, pg_dtype_get(s.down)->name, s.D, s.F, s.n_used, s.n_expert, s.glu, s.biased,
             s.exact);
    const int most = pg_router_most(s.n_expert, s.n_used);
    const pg_ref x = harness_value(&h, s.D), pick = harness_value(&h, 2 * most), y = harness_value(&h, s.D);
    pg_experts e = {};
    e.n_expert = s.n_expert;
    e.n_used = s.n_used;
    e.n_embd = s.D;
    e.n_ff = s.F;
    e.glu = s.glu;
    e.limit = 0.7f;
    e.gate = harness_matrix(&h, s.gate, s.D, s.F, s.n_expert, false, false, s.apart);
    e.up = harness_matrix(&h, s.up, s.D, s.F, s.n_expert, false, false, s.apart);
    e.down = harness_matrix(&h, s.down, s.F, s.D, s.n_expert, false, false, s.apart);
    if (s.biased) {
        e.gate_bias = harness_vector(&h, (int64_t)s.n_expert * s.F, 0, 0.5f);
        e.up_bias = harness_vector(&h, (int64_t)s.n_expert * s.F, 0, 0.5f);
        e.down_bias = harness_vector(&h, (int64_t)s.n_expert * s.D, 0, 0.5f);
    }
    harness_emit(&h, PG_OP_EXPERTS, y, x, pick)->a.experts.experts = &e;
    for (int r = 0; r < max_rows; r++)
        choose(&h, pick, r, r % 5 == 4 ? harness_below(&h, most + 1) : s.n_used, s.n_expert);
    if (max_rows > 2) *harness_at(&h, x, 2, 5) = NAN;
    std::vector<pg_op> ops;
    const pg_code code = harness_code(&h, &ops);
    h.scratch_bytes = pg_cuda_experts_few_scratch(NULL, &code, &ops[0]);
    /* an activation on the edge between two codes may fall to either side */
    const float tolerance = pg_dtype_is_quant(s.down) && !s.exact ? 5e-3f : 1e-5f;
    std::vector<char> first;
    for (int bucket : buckets) {
        harness_step(&h, bucket > 2 ? bucket - harness_below(&h, 2) : bucket, 0, 1, 32, 100);
        h.bucket = bucket;
        harness_run_cpu(&h);
        harness_run_cuda(&h, pg_cuda_experts_few, name);
        harness_untouched(&h, { y }, name);
        harness_close(&h, y, tolerance, name);
        const char *rows = h.by_cuda.data() + h.value[y].offset;
        const size_t bytes = (size_t)h.n * s.D * 4;
        if (first.empty()) first.assign(rows, rows + bytes);
        CHECK(memcmp(rows, first.data(), bytes < first.size() ? bytes : first.size()) == 0,
              "%s: not the same bits in a bucket of %d", name, bucket);
    }
    harness_close_all(&h);
}

int main(void)
{
    for (int i = PG_F32; i <= PG_MXFP4; i++) {
        const pg_dtype t = (pg_dtype)i;
        const int wide = pg_dtype_get(t)->block == 256 ? 256 : 96;
        run({ t, t, t, wide, wide, 8, 2, i % 4, i % 2, 0, i % 3 == 0 }, 9, { 9, 1, 2, 4 });
        if (pg_dtype_is_quant(t)) run({ t, t, t, wide, wide, 6, 2, i % 4, 0, 1, 0 }, 3, { 3, 1 });
    }
    run({ PG_Q8_0, PG_Q8_0, PG_Q8_0, 256, 160, 16, 4, PG_GLU_SILU, 0, 0, 0 }, PG_MOE_FEW_ROWS, { 64, 33, 1, 16, 8 });
    run({ PG_Q8_0, PG_Q8_0, PG_Q8_0, 64, 32, 64, 6, PG_GLU_SILU, 1, 0, 1 }, 20, { 20, 1, 2, 5 }); /* by choice */
    run({ PG_Q8_0, PG_Q8_0, PG_Q8_0, 1024, 4224, 4, 2, PG_GLU_SILU, 0, 0, 0 }, 3, { 3, 1 });      /* a warp an output */
    run({ PG_Q8_0, PG_Q4_0, PG_Q5_0, 64, 96, 8, 2, PG_GLU_OSS, 1, 0, 0 }, 9, { 9, 1, 3 }); /* gate and up apart */
    run({ PG_Q4_K, PG_Q8_0, PG_BF16, 256, 40, 8, 2, PG_GLU_CLAMP, 0, 0, 0 }, 9, { 9, 1, 3 });
    run({ PG_BF16, PG_F16, PG_F32, 35, 19, 5, 3, PG_GLU_GELU, 1, 0, 0 }, 9, { 9, 1, 3 });
    run({ PG_BF16, PG_BF16, PG_BF16, 128, 64, 16, 4, PG_GLU_SILU, 0, 0, 0 }, 40, { 40, 1, 17 });
    return check_done("experts_few");
}
