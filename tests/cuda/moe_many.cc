/* moe_many: EXPERTS of many rows on the device against the CPU backend: formats, activations, biases, odd sizes, experts that
 * nobody or everybody chose, steered rows with more or no experts, fewer rows than were launched for. */
#include "harness.h"

#include "../../kernels/moe/moe_many_cuda.cuh"

static unsigned long long seed = 11;
static int wgmma;

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

static void run(pg_cuda *c, const pg_op *op)
{
    c->wgmma = wgmma;
    CHECK(pg_cuda_experts_many_scratch(c, c->code, op) <= c->scratch_bytes, "scratch");
    pg_cuda_experts_many(c, op);
}

enum { EVEN_CHOICE, ONE_EXPERT, STEERED };

/* The choices of every row: distinct experts in any order, then -1; weights. */
static void choose(harness *h, pg_ref pick, int n_expert, int n_used, int how)
{
    const int most = h->value[pick].width / 2;
    for (int r = 0; r < h->max_rows; r++) {
        const int n = how == STEERED ? below(most + 1) : how == ONE_EXPERT ? 1 : n_used;
        std::vector<int> all;
        for (int e = 0; e < n_expert; e++) all.insert(all.begin() + below(e + 1), e);
        for (int i = 0; i < most; i++) {
            const int32_t id = i >= n ? -1 : how == ONE_EXPERT ? n_expert / 2 : all[i];
            memcpy(harness_at(h, pick, r, i), &id, 4);
            *harness_at(h, pick, r, most + i) = 0.2f + fabsf(harness_uniform(h));
        }
    }
}

typedef struct shape {
    int rows, D, F, n_expert, n_used;
} shape;

static void experts(pg_dtype gate, pg_dtype up, pg_dtype down, shape s, int how, int glu, int bias, int exact,
                    int apart)
{
    harness h;
    h.seed = ++seed * 131;
    h.max_rows = s.rows + below(30);
    h.max_sampled = 1;
    h.exact = exact;
    h.scratch_bytes = 32 << 20;
    const pg_ref x = harness_value(&h, s.D, PG_ROWS_ALL, 2.0f), y = harness_value(&h, s.D);
    const pg_ref pick = harness_value(&h, 2 * pg_router_most(s.n_expert, s.n_used));
    pg_experts e = {};
    e.n_expert = s.n_expert;
    e.n_used = s.n_used;
    e.n_embd = s.D;
    e.n_ff = s.F;
    e.glu = glu;
    e.limit = 3.0f;
    e.gate = harness_matrix(&h, gate, s.D, s.F, s.n_expert, false, false, apart);
    e.up = harness_matrix(&h, up, s.D, s.F, s.n_expert, false, false, apart);
    e.down = harness_matrix(&h, down, s.F, s.D, s.n_expert, false, false, apart);
    if (bias) {
        e.gate_bias = harness_vector(&h, (int64_t)s.n_expert * s.F, 0, 1.0f);
        e.up_bias = harness_vector(&h, (int64_t)s.n_expert * s.F, 0, 1.0f);
        e.down_bias = harness_vector(&h, (int64_t)s.n_expert * s.D, 0, 1.0f);
    }
    harness_emit(&h, PG_OP_EXPERTS, y, x, pick)->a.experts.experts = &e;
    harness_step(&h, s.rows, s.rows, 1, 400, 50);
    choose(&h, pick, s.n_expert, s.n_used, how);
    char name[160];
    snprintf(name, sizeof name, "%s %s %s, %d rows, %d -> %d, choice %d, glu %d, exact %d, wgmma %d",
             pg_dtype_get(gate)->name, pg_dtype_get(up)->name, pg_dtype_get(down)->name, s.rows, s.D, s.F, how, glu,
             exact, wgmma);
    harness_run_cpu(&h);
    harness_run_cuda(&h, run, name);
    harness_untouched(&h, { y }, name);
    const float *want = reinterpret_cast<const float *>(h.by_cpu.data() + h.value[y].offset);
    const float *got = reinterpret_cast<const float *>(h.by_cuda.data() + h.value[y].offset);
    double off = 0, size = 0;
    const int64_t n = (int64_t)s.rows * s.D;
    for (int64_t i = 0; i < n; i++) {
        off += (double)(got[i] - want[i]) * (got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    const double most = exact ? 1e-5 : pg_dtype_is_quant(gate) || pg_dtype_is_quant(down) ? 3e-2 : 1e-2;
    CHECK(off <= most * most * size && (size > 0 || off == 0), "%s: off by %g", name, sqrt(off / size));
    CHECK(memcmp(got + n, reinterpret_cast<const float *>(h.arena.data() + h.value[y].offset) + n,
                 (size_t)(h.max_rows - s.rows) * s.D * 4) == 0,
          "%s: rows that the step does not have were written", name);
    harness_close_all(&h);
}

int main(void)
{
    const shape small = { 70, 256, 256, 6, 2 }, odd = { 75, 100, 70, 5, 2 };
    for (int type = 0; type < PG_DTYPE_COUNT; type++) {
        const pg_dtype t = (pg_dtype)type;
        if (pg_dtype_is_weight(t)) experts(t, t, t, small, EVEN_CHOICE, PG_GLU_SILU, 0, 0, below(2));
    }
    for (int glu = PG_GLU_SILU; glu <= PG_GLU_CLAMP; glu++)
        experts(PG_BF16, PG_BF16, PG_BF16, odd, STEERED, glu, 1, glu % 2, below(2));
    experts(PG_F32, PG_F16, PG_F32, { 66, 33, 17, 4, 2 }, EVEN_CHOICE, PG_GLU_SILU, 1, 0, 0);
    experts(PG_Q4_K, PG_Q6_K, PG_Q8_0, { 66, 256, 96, 4, 2 }, STEERED, PG_GLU_SILU, 1, 0, 0);
    experts(PG_Q4_K, PG_Q6_K, PG_Q8_0, { 66, 256, 96, 4, 2 }, STEERED, PG_GLU_SILU, 1, 1, 0);
    experts(PG_Q8_0, PG_Q8_0, PG_Q8_0, { 300, 64, 96, 70, 6 }, STEERED, PG_GLU_OSS, 1, 0, 0); /* two blocks sort */
    experts(PG_Q8_0, PG_Q8_0, PG_Q8_0, { 280, 128, 96, 3, 1 }, ONE_EXPERT, PG_GLU_SILU, 0, 0, 0);
    wgmma = 1;
    experts(PG_Q8_0, PG_Q8_0, PG_Q8_0, { 280, 128, 96, 2, 1 }, ONE_EXPERT, PG_GLU_SILU, 1, 0, 0);
    experts(PG_BF16, PG_BF16, PG_BF16, { 290, 136, 104, 3, 2 }, STEERED, PG_GLU_GELU, 1, 0, 1);
    experts(PG_Q4_K, PG_Q4_K, PG_Q4_K, { 500, 256, 256, 2, 1 }, EVEN_CHOICE, PG_GLU_SILU, 0, 0, 0);
    return check_done("moe_many");
}
