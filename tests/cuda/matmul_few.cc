/* matmul_few: MATMUL of few rows on the device against the CPU backend: all formats, groups, heads, the transposed
 * form, odd sizes, rows that a bucket has too many, activations that are not finite; and that a row's result is the
 * same, bit for bit, however many rows there are. */
#include "harness.h"

#include "../../kernels/matmul/gemm_cuda.cuh"
#include "../../kernels/matmul/matmul_cuda.cuh"

/* Many rows are another file's; here they must not come. */
void pg_cuda_gemm(pg_cuda *, const pg_op *)
{
    CHECK(0, "gemm was called");
}
int64_t pg_cuda_gemm_scratch(const pg_cuda *, const pg_code *, const pg_op *)
{
    return 0;
}

static unsigned long long next_seed = 1;

/* A plan under test and the values it makes. */
struct trial {
    harness h;
    std::vector<pg_ref> made;
    std::vector<std::vector<char>> first; /* rows that each value had in the first run */

    explicit trial(int exact)
    {
        h.seed = next_seed++;
        h.max_rows = PG_FEW_ROWS;
        h.exact = exact;
    }
    ~trial() { harness_close_all(&h); }
    pg_op *multiply(pg_ref x, const pg_tensor *w, int width, const float *bias)
    {
        made.push_back(harness_value(&h, width));
        pg_op *op = harness_emit(&h, PG_OP_MATMUL, made.back(), x);
        op->w = w;
        op->v = bias;
        op->a.matmul.batch = 1;
        op->a.matmul.scale = made.size() % 2 ? 1 : 0.5f;
        return op;
    }
    void run(int n, int bucket, const char *name)
    {
        h.scratch_bytes = 0;
        std::vector<pg_op> ops;
        const pg_code code = harness_code(&h, &ops);
        for (const pg_op &op : ops) {
            const int64_t bytes = pg_cuda_matmul_scratch(NULL, &code, &op);
            if (bytes > h.scratch_bytes) h.scratch_bytes = bytes;
        }
        harness_step(&h, n, 0, 1, 32, 100);
        h.bucket = bucket;
        harness_run_cpu(&h);
        harness_run_cuda(&h, pg_cuda_matmul, name);
        harness_untouched(&h, made, name);
        for (size_t i = 0; i < made.size(); i++) {
            harness_close(&h, made[i], 1e-5f, name);
            const char *rows = h.by_cuda.data() + h.value[made[i]].offset;
            const size_t bytes = (size_t)n * h.value[made[i]].width * 4;
            if (first.size() <= i) first.push_back(std::vector<char>(rows, rows + bytes));
            CHECK(memcmp(rows, first[i].data(), bytes < first[i].size() ? bytes : first[i].size()) == 0,
                  "%s: not the same bits in a bucket of %d", name, bucket);
        }
    }
    void run_all(const char *name)
    {
        run(PG_FEW_ROWS, PG_FEW_ROWS, name);
        for (int bucket : { 1, 2, 3, 4, 7, 8, 13 })
            run(bucket > 2 ? bucket - harness_below(&h, 2) : bucket, bucket, name);
    }
};

/* Matrices that read the same rows. own_exact: the op is exact, not the plan. */
static void alone(pg_dtype type, int k, int n, int n_op, int exact, int own_exact = 0)
{
    trial t(exact);
    char name[128];
    snprintf(name, sizeof name, "%d of %s [%d x %d] exact %d %d", n_op, pg_dtype_get(type)->name, k, n, exact,
             own_exact);
    const pg_ref x = harness_value(&t.h, k, PG_ROWS_ALL, 3);
    for (int i = 0; i < n_op; i++) {
        const int outputs = n + 5 * i;
        const float *bias = i % 2 ? NULL : harness_vector(&t.h, outputs, 0, 1);
        t.multiply(x, harness_matrix(&t.h, type, k, outputs), outputs, bias)->a.matmul.exact = own_exact;
    }
    t.run_all(name);
}

/* A matrix a head, columns of x `gap` apart. */
static void heads(pg_dtype type, int k, int n, int count, int gap, bool turned, bool apart)
{
    trial t(0);
    char name[128];
    snprintf(name, sizeof name, "%d heads of %s [%d x %d] turned %d", count, pg_dtype_get(type)->name, k, n, turned);
    const pg_ref x = harness_value(&t.h, count * (k + gap));
    const pg_tensor *w = harness_matrix(&t.h, type, turned ? n : k, turned ? k : n, count, true, turned, apart);
    pg_op *op = t.multiply(x, w, count * n, NULL);
    op->a.matmul.batch = count;
    op->a.matmul.transposed = turned;
    op->a.matmul.x_step = k + gap;
    op->a.matmul.y_step = n;
    t.run_all(name);
}

/* Rows with a NaN, with an infinity, of zeros, and of numbers so small that the inverse of their factor overflows. */
static void odd_rows(pg_dtype type)
{
    const int k = 512, n = 24;
    trial t(0);
    char name[128];
    snprintf(name, sizeof name, "odd rows of %s", pg_dtype_get(type)->name);
    const pg_ref x = harness_value(&t.h, k);
    t.multiply(x, harness_matrix(&t.h, type, k, n), n, NULL);
    for (int r = 0; r < PG_FEW_ROWS; r++) {
        float *v = harness_at(&t.h, x, r, 0);
        const int kind = r % 6;
        for (int i = 0; i < k; i++)
            v[i] *= kind == 2 ? 0.0f : kind == 3 ? 1e-38f : kind == 4 && i / 32 % 2 ? 1e-41f : 1.0f;
        if (kind == 0) v[harness_below(&t.h, k)] = NAN;
        if (kind == 1) v[harness_below(&t.h, k)] = -INFINITY;
    }
    t.run_all(name);
}

int main(void)
{
    for (int i = PG_F32; i <= PG_MXFP4; i++) {
        const pg_dtype type = (pg_dtype)i;
        const int block = pg_dtype_get(type)->block, quant = pg_dtype_is_quant(type);
        alone(type, quant ? block : 32, 7, 1, 0);
        alone(type, quant ? 9 * block : 300 - 44 * (i % 2), 21, 2, 0);
        alone(type, 2304, 37, 1, 0);
        if (quant) alone(type, 3 * block, 11, 3, 1);
        alone(type, 768, 18, 1, 0, 1);
        const int rows = type == PG_FP8 ? 128 : 0; /* whose factors count 128 rows through the whole stack */
        heads(type, quant ? block : 72, rows ? rows : 40, 3, 8, false, false);
        heads(type, quant ? block : 72, rows ? rows : 16, 2, 0, false, true);
        heads(type, rows ? rows : 9, quant ? 2 * block : 72, 3, 3, true, false);
        heads(type, rows ? 2 * rows : 130, quant ? 3 * block : 25, 2, 0, true, true);
        odd_rows(type);
    }
    alone(PG_Q8_0, 36000, 5, 1, 0);
    alone(PG_Q8_0, 2048, 70, 6, 0);
    alone(PG_BF16, 35, 9, 2, 0);
    alone(PG_F32, 1, 1, 1, 0);
    return check_done("matmul_few");
}
