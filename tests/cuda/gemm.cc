/* gemm: MATMUL of many rows on the device against the CPU backend: all formats, odd sizes, heads, the transposed form, biases,
 * fewer rows than were launched for, parts of K, numbers that are not finite. */
#include "harness.h"

#include "../../kernels/cuda/wgmma.cuh"
#include "../../kernels/matmul/gemm_cuda.cuh"
#include "../../kernels/matmul/tile.cuh"

static unsigned long long seed = 5;

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

static int wgmma; /* whether tiles may take it */

static void run(pg_cuda *c, const pg_op *op)
{
    c->wgmma = wgmma;
    CHECK(pg_cuda_gemm_scratch(c, c->code, op) <= c->scratch_bytes, "scratch");
    pg_cuda_gemm(c, op);
}

/* ||cuda - cpu|| / ||cpu|| over the rows of a value; rows that the step does not have must be as they were. */
static void compare(harness *h, pg_ref y, double tolerance, const char *name)
{
    harness_run_cpu(h);
    harness_run_cuda(h, run, name);
    harness_untouched(h, { y }, name);
    const pg_value v = h->value[y];
    const float *want = reinterpret_cast<const float *>(h->by_cpu.data() + v.offset);
    const float *got = reinterpret_cast<const float *>(h->by_cuda.data() + v.offset);
    double off = 0, size = 0;
    const int64_t n = (int64_t)harness_count(h, y) * v.width;
    for (int64_t i = 0; i < n; i++) {
        off += (double)(got[i] - want[i]) * (got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    CHECK(off <= tolerance * tolerance * size, "%s, seed %llu, %d rows, %d columns: off by %g", name, h->seed,
          harness_count(h, y), v.width, sqrt(off / size));
    const int64_t most = (int64_t)(v.rows == PG_ROWS_ALL ? h->max_rows : h->max_sampled) * v.width;
    CHECK(memcmp(got + n, reinterpret_cast<const float *>(h->arena.data() + v.offset) + n, (size_t)(most - n) * 4) == 0,
          "%s: rows that the step does not have were written", name);
    harness_close_all(h);
}

enum { EXACT = 1, OWN_EXACT = 2, ACROSS = 4, APART = 8, BIAS = 16, SAMPLED = 32, WGMMA = 64 };

static void product(pg_dtype type, int rows, int k, int n, int batch, int how)
{
    harness h;
    h.seed = ++seed * 97;
    h.max_rows = rows + below(40);
    h.max_sampled = rows + below(40);
    h.exact = !!(how & EXACT);
    h.scratch_bytes = 40 << 20;
    const int across = !!(how & ACROSS), gap = below(2) * 5, kind = how & SAMPLED ? PG_ROWS_SAMPLED : PG_ROWS_ALL;
    const pg_ref x = harness_value(&h, batch * (k + gap), kind, 3.0f), y = harness_value(&h, batch * n + 3, kind);
    pg_op *op = harness_emit(&h, PG_OP_MATMUL, y, x);
    h.exact |= !!(how & OWN_EXACT); /* so that the matrix stands as it is stored */
    op->w = harness_matrix(&h, type, across ? n : k, across ? k : n, batch, true, across, how & APART);
    h.exact = !!(how & EXACT);
    if (how & BIAS) op->v = harness_vector(&h, (int64_t)batch * n, 0, 2.0f);
    op->a.matmul = { k + gap, n, batch, across, !!(how & OWN_EXACT), 0.75f };
    harness_step(&h, rows, below(rows + 1), rows, 400, 50);
    for (int r = 0; r < h.max_rows && r < h.max_sampled; r++) /* outliers that f16 could not hold */
        if (below(4) == 0) *harness_at(&h, x, r, below(k)) = 90000.0f;
    wgmma = how & WGMMA;
    char name[128];
    snprintf(name, sizeof name, "%s {%d, %d} x %d, how %d", pg_dtype_get(type)->name, k, n, batch, how);
    const int exact = how & (EXACT | OWN_EXACT), rounded = pg_dtype_is_quant(type) && !exact && !across;
    compare(&h, y, exact ? 1e-5 : rounded ? 2e-2 : 1e-2, name);
}

/* A number that is not finite in one row makes its own row so, and no other. */
static void not_finite(pg_dtype type)
{
    harness h;
    h.seed = ++seed * 97;
    h.max_rows = 70;
    h.scratch_bytes = 40 << 20;
    const int k = 512, n = 70;
    const pg_ref x = harness_value(&h, k), y = harness_value(&h, n);
    pg_op *op = harness_emit(&h, PG_OP_MATMUL, y, x);
    op->w = harness_matrix(&h, type, k, n);
    op->a.matmul = { 0, 0, 1, 0, 0, 1.0f };
    harness_step(&h, 66, 66, 1, 400, 50);
    *harness_at(&h, x, 3, 100) = NAN;
    *harness_at(&h, x, 40, 511) = INFINITY;
    harness_run_cpu(&h);
    harness_run_cuda(&h, run, "not finite");
    const float *got = reinterpret_cast<const float *>(h.by_cuda.data() + h.value[y].offset);
    for (int r = 0; r < 66; r++)
        for (int o = 0; o < n; o++)
            CHECK(isfinite(got[r * n + o]) == (r != 3 && r != 40), "%s: row %d, column %d is %g",
                  pg_dtype_get(type)->name, r, o, got[r * n + o]);
    harness_close_all(&h);
}

/* Every 16-byte piece of a tile has a place of its own, and what is read or written together meets no bank twice. */
static void tile_places(void)
{
    std::vector<int> seen(1024);
    for (int r = 0; r < 128; r++)
        for (int p = 0; p < 8; p++) seen[pg_tile_at(r, p) / 16]++;
    for (int n : seen) CHECK(n == 1, "a piece's place");
    for (int r = 0; r < 128; r += 8)
        for (int p = 0; p < 8; p++) {
            unsigned banks = 0;
            for (int i = 0; i < 8; i++) banks |= 1u << pg_tile_at(r + i, p) / 16 % 8;
            CHECK(banks == 255, "eight rows meet in a bank");
        }
}

/* Units cover a tile of 64 columns once, whatever the tile's number. */
template <class F> static void units(const char *name)
{
    typedef pg_units<F> U;
    for (int tile = 0; tile < 8; tile++) {
        std::vector<int> seen(128 * 64);
        for (int id = 0; id < PG_TILE_THREADS * U::EACH; id++)
            for (int p = 0; p < U::PIECES; p++)
                for (int i = 0; i < F::WIDTH; i++) seen[U::row(id) * 64 + U::column(id, p, tile) + i]++;
        for (int n : seen) CHECK(n == 1, "%s: a column is decoded %d times", name, n);
    }
}

/* A tile as the tensor cores of sm_90 find it. */
static void wgmma_places(void)
{
    for (int r = 0; r < 128; r++)
        for (int k = 0; k < 64; k++) {
            const uint64_t about = pg_wgmma_describe(2048) + 2 * (k / 16);
            CHECK((int)pg_wgmma_find(about, r, k % 16) - 2048 == pg_tile_at(r, k / 8) + k % 8 * 2, "row %d, column %d",
                  r, k);
        }
    std::vector<int> seen(64 * 128);
    for (int t = 0; t < 128; t++)
        for (int i = 0; i < PG_WGMMA_SUMS; i++) seen[pg_wgmma_row(t, i) * 128 + pg_wgmma_column(t, i)]++;
    for (int n : seen) CHECK(n == 1, "a sum is that of %d threads", n);
}

/* The trial at open: yes where there is wgmma, and not asked for elsewhere. */
static void trial(int arch)
{
    pg_cuda c = {};
    c.arch = arch;
    c.n_sm = 4;
    cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking);
    CHECK(pg_cuda_gemm_open(&c) == 0 && c.wgmma == (arch == 90), "sm_%d: wgmma %d", arch, c.wgmma);
    cudaStreamDestroy(c.stream);
}

int main(void)
{
    wgmma_places();
    trial(80);
    trial(90);
    tile_places();
    units<pg_format<PG_F32>>("f32");
    units<pg_format<PG_BF16>>("bf16");
    units<pg_format<PG_FP8>>("fp8");
    units<pg_format<PG_Q8_0>>("q8_0");
    units<pg_format<PG_Q4_0>>("q4_0");
    units<pg_format<PG_Q4_K>>("q4_k");
    units<pg_format<PG_Q6_K>>("q6_k");
    units<pg_format<PG_IQ2_XXS>>("iq2_xxs");
    for (int type = 0; type < PG_DTYPE_COUNT; type++) {
        const pg_dtype t = (pg_dtype)type;
        if (!pg_dtype_is_weight(t)) continue;
        const int block = pg_dtype_get(t)->block;
        product(t, 17 + below(40), 512, 96 + below(60), 1, below(2) * BIAS | below(2) * SAMPLED);
        product(t, 65 + below(80), block == 256 ? 768 : 32 * (3 + below(9)), 30 + below(160), 1, below(2) * BIAS);
        product(t, 65 + below(90), 512, 30 + below(160), 1, WGMMA | BIAS);
        product(t, 193 + below(100), 256, 130, 1, WGMMA);
        product(t, 20 + below(30), 256, block == 1 ? 33 + below(60) : 64, 1, EXACT);
        product(t, 20 + below(30), 256, 128, 2, OWN_EXACT | BIAS);
        product(t, 20 + below(60), 256, 128, 3, APART);
        product(t, 20 + below(60), t == PG_FP8 ? 128 : 40 + below(60), 256, 2, ACROSS);
        if (pg_dtype_is_quant(t)) product(t, 20, 72, 256, 2, ACROSS | EXACT);
        not_finite(t);
    }
    for (pg_dtype t : { PG_F32, PG_F16, PG_BF16, PG_FP8 }) {
        product(t, 17 + below(60), 1 + below(300), 1 + below(200), 1, BIAS);
        product(t, 20, 1 + below(100), 1 + below(100), 1, EXACT);
        product(t, 20, 1 + below(100), t == PG_FP8 ? 128 : 1 + below(100), t == PG_FP8 ? 1 : 3, ACROSS | below(2));
    }
    product(PG_Q8_0, 24, 2048, 40, 1, 0); /* parts of K */
    product(PG_F32, 140, 64, 8, 1, OWN_EXACT);
    return check_done("gemm");
}
