/* matmul_few: MATMUL of few rows on the device against the CPU backend: all formats, groups, heads, odd sizes, rows that a
 * bucket has too many, activations that are not finite; and a row's result whatever else is in the batch, bit for bit. */
#include "few.h"

#include "../../kernels/matmul/gemm_cuda.cuh"
#include "../../kernels/matmul/matmul_cuda.cuh"

/* Many rows are another file's; here they only must not come. */
void pg_cuda_gemm(pg_cuda *, const pg_op *)
{
    CHECK(0, "gemm was called");
}
int64_t pg_cuda_gemm_scratch(const pg_cuda *, const pg_code *, const pg_op *)
{
    return 0;
}

static pg_op matmul(pg_ref y, pg_ref x, const weight &w, const std::vector<float> &bias)
{
    pg_op op = {};
    op.code = PG_OP_MATMUL;
    op.dst = y;
    op.src[0] = x;
    op.src[1] = PG_NO_REF;
    op.w = &w.cpu[0];
    op.v = bias.empty() ? NULL : bias.data();
    op.a.matmul.batch = 1;
    op.a.matmul.scale = 1;
    return op;
}

static std::vector<float> numbers(int n)
{
    std::vector<float> v((size_t)n);
    for (float &x : v) x = check_uniform(&seed);
    return v;
}

static void fill(plan &p, pg_ref x, int rows)
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < p.value[x].width; i++) p.row(x, r)[i] = check_uniform(&seed) * (float)(1 << below(4));
}

/* One matrix, some of them in a group; every launched size up to 16 rows, with all and with fewer true rows. */
static void alone(pg_dtype type, int k, int n, int n_op, int exact, int own_exact)
{
    plan p(PG_FEW_ROWS);
    p.code.exact = exact;
    const int packed = pg_dtype_is_quant(type) && !exact && !own_exact;
    const pg_ref x = p.add(k);
    std::deque<weight> w;
    std::deque<std::vector<float>> bias;
    std::vector<pg_ref> y;
    for (int i = 0; i < n_op; i++) {
        w.emplace_back(type, k, n + 5 * i, 1, packed);
        bias.push_back(i % 2 ? numbers(n + 5 * i) : std::vector<float>());
        y.push_back(p.add(n + 5 * i));
        p.op.push_back(matmul(y[i], x, w[i], bias[i]));
        p.op.back().a.matmul.exact = own_exact;
        p.op.back().a.matmul.scale = i ? 0.5f : 1;
        p.use(w[i], &w[i].cpu[0]);
        p.use(bias[i]);
    }
    p.close(pg_cuda_matmul_scratch);
    fill(p, x, PG_FEW_ROWS);
    std::vector<std::vector<float>> first;
    for (int launched : { 16, 1, 2, 3, 4, 7, 8, 13 }) {
        const int true_rows = launched > 2 ? launched - below(2) : launched;
        p.run(true_rows, launched, pg_cuda_matmul);
        for (int i = 0; i < n_op; i++) {
            const int bad = p.wrong(y[i], true_rows);
            CHECK(bad == 0, "%s [%d x %d] op %d, %d of %d rows, exact %d %d: %d values", pg_dtype_get(type)->name, k,
                  n + 5 * i, i, true_rows, launched, exact, own_exact, bad);
            const std::vector<float> made = p.made(y[i], true_rows);
            if (launched == 16) first.push_back(made);
            const size_t both = (made.size() < first[i].size() ? made.size() : first[i].size()) * sizeof(float);
            CHECK(memcmp(made.data(), first[i].data(), both) == 0, "%s [%d x %d]: not the same in %d rows",
                  pg_dtype_get(type)->name, k, n, launched);
        }
    }
}

/* A matrix a head. */
static void heads(pg_dtype type, int k, int n, int count, int turned, int x_gap, int near)
{
    plan p(PG_FEW_ROWS);
    const int packed = pg_dtype_is_quant(type) && !turned;
    const pg_ref x = p.add(count * (k + x_gap)), y = p.add(count * n);
    weight w(type, turned ? n : k, turned ? k : n, count, 0, near);
    std::vector<unsigned char> panels;
    pg_tensor stack = w.host;
    if (packed) { /* the heads' panels behind each other */
        for (int i = 0; i < count; i++) {
            pg_tensor one = pg_tensor_slice(&w.host, i);
            const size_t at = panels.size(), bytes = (size_t)pg_panel_bytes(&one, n);
            panels.resize(at + bytes);
            for (int j = 0; j < (n + 15) / 16; j++)
                pg_panel_pack(&panels[at + (size_t)j * 16 * one.stride[1]], &one, j);
        }
        stack.data = panels.data();
        stack.packed = 1;
        stack.stride[2] = (int64_t)panels.size() / count;
    }
    if (type == PG_FP8) {
        stack.scale = w.factor.data();
        stack.scale_stride = ((turned ? n : k) + 127) / 128;
    }
    pg_op op = matmul(y, x, w, {});
    op.w = &stack;
    op.a.matmul.batch = count;
    op.a.matmul.transposed = turned;
    op.a.matmul.x_step = k + x_gap;
    op.a.matmul.y_step = n;
    op.a.matmul.scale = 1;
    p.op.push_back(op);
    p.use(w, &stack);
    p.close(pg_cuda_matmul_scratch);
    fill(p, x, PG_FEW_ROWS);
    std::vector<float> first;
    for (int launched : { 16, 1, 2, 5, 8 }) {
        p.run(launched, launched, pg_cuda_matmul);
        const int bad = p.wrong(y, launched);
        CHECK(bad == 0, "%s %d heads [%d x %d] turned %d, %d rows: %d values", pg_dtype_get(type)->name, count, k, n,
              turned, launched, bad);
        const std::vector<float> made = p.made(y, launched);
        if (launched == 16) first = made;
        CHECK(memcmp(made.data(), first.data(), made.size() * sizeof(float)) == 0, "%s heads: not the same in %d rows",
              pg_dtype_get(type)->name, launched);
    }
}

/* Rows with a NaN, an infinity, zeros only, and numbers so small that their factor's inverse overflows. */
static void odd_rows(pg_dtype type)
{
    plan p(PG_FEW_ROWS);
    const int k = 512, n = 24;
    const pg_ref x = p.add(k), y = p.add(n);
    weight w(type, k, n, 1, pg_dtype_is_quant(type));
    p.op.push_back(matmul(y, x, w, {}));
    p.use(w, &w.cpu[0]);
    p.close(pg_cuda_matmul_scratch);
    for (int launched : { 1, 2, 8 })
        for (int first = 0; first < 6; first++) {
            fill(p, x, 8);
            for (int r = 0; r < launched; r++) {
                float *v = p.row(x, r);
                const int kind = (first + r) % 6, at = below(k);
                if (kind == 0) v[at] = NAN;
                if (kind == 1) v[at] = -INFINITY;
                for (int i = 0; i < k; i++) {
                    if (kind == 2) v[i] = 0;
                    if (kind == 3) v[i] *= 1e-38f;
                    if (kind == 4) v[i] *= i / 32 % 2 ? 1e-41f : 1e-37f;
                }
            }
            p.run(launched, launched, pg_cuda_matmul);
            const int bad = p.wrong(y, launched);
            CHECK(bad == 0, "%s odd rows from %d, %d rows: %d values", pg_dtype_get(type)->name, first, launched, bad);
        }
}

int main(void)
{
    for (int t = PG_F32; t <= PG_MXFP4; t++) {
        const pg_dtype type = (pg_dtype)t;
        const int block = pg_dtype_get(type)->block, quant = pg_dtype_is_quant(type);
        alone(type, quant ? block : 32, 7, 1, 0, 0);
        alone(type, quant ? 9 * block : 300 - 44 * (t % 2), 21, 2, 0, 0);
        alone(type, 2304, 37, 1, 0, 0);
        if (quant) alone(type, 3 * block, 11, 3, 1, 0);
        alone(type, 768, 18, 1, 0, 1);
        /* the factors of FP8 count 128 rows of the whole stack */
        const int rows = type == PG_FP8 ? 128 : 0;
        heads(type, quant ? block : 72, rows ? rows : 40, 3, 0, 8, 1);
        heads(type, quant ? block : 72, rows ? rows : 16, 2, 0, 0, 0);
        heads(type, rows ? rows : 9, quant ? 2 * block : 72, 3, 1, 3, 1);
        heads(type, rows ? 2 * rows : 130, quant ? 3 * block : 25, 2, 1, 0, 0);
        odd_rows(type);
    }
    alone(PG_Q8_0, 18880, 5, 1, 0, 0);
    alone(PG_Q8_0, 2048, 70, 6, 0, 0);
    alone(PG_BF16, 35, 9, 2, 0, 0);
    alone(PG_F32, 1, 1, 1, 0, 0);
    return check_done("matmul_few");
}
