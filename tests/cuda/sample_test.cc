/* The best of a row on the device against sample_ref.c: vocabularies of all sizes, ties, rows of which little or nothing is
 * a number; and the sum of a row against its own terms in another order. */
#include "harness.h"

extern "C" {
#include "../../kernels/sample/sample.h"
}

enum { ROWS = 3 };
enum { SPREAD, TIES, ODD, MOSTLY_NONE, NONE, ALIKE, RISING, KINDS };
static const char *const kind_name[] = { "spread", "ties", "odd", "mostly none", "none", "alike", "rising" };

static struct {
    int n, kind, listed;
} now;

static float number_of(harness *h, int kind, int i)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, -0.0f, 0.0f, 3e38f };
    float x = 0;
    for (int k = 0; k < 6; k++) x += 2 * harness_uniform(h);
    switch (kind) {
    case TIES: return floorf(x * 20) / 20;
    case ODD: return harness_below(h, 50) ? x : odd[harness_below(h, 6)];
    case MOSTLY_NONE: return harness_below(h, 40) ? -INFINITY : x;
    case NONE: return harness_below(h, 2) ? -INFINITY : NAN;
    case ALIKE: return -1.25f;
    case RISING: return (float)i * 1e-4f;
    default: return x;
    }
}

static void check_row(const float *x, int row, const pg_best *got)
{
    static float value[PG_BEST];
    static int32_t id[PG_BEST];
    pg_best want;
    pg_best_ref(x, now.n, PG_BEST, value, id, &want);
    now.listed += got->n >= 0;
    if (got->n < 0) {
        CHECK(now.n > 2048 && (now.kind == ALIKE || now.kind == TIES || now.kind == RISING),
              "row %d of %d %s numbers has no list", row, now.n, kind_name[now.kind]);
        return;
    }
    int bad = got->n != want.n || got->all != want.all;
    for (int i = 0; i < want.n && !bad; i++) bad = got->value[i] != want.value[i] || got->id[i] != want.id[i];
    CHECK(!bad, "row %d of %d %s numbers: %d best (all: %d), not %d (%d), or others", row, now.n, kind_name[now.kind],
          got->n, got->all, want.n, want.all);
    if (want.n && isfinite(want.value[0]))
        CHECK(fabs(got->sum - want.sum) <= 1e-11 * want.sum, "row %d of %d %s numbers weighs %.17g, not %.17g", row,
              now.n, kind_name[now.kind], got->sum, want.sum);
}

static void run(pg_cuda *c, const pg_op *op)
{
    c->base.drawn = op->src[0];
    if (pg_cuda_best_open(c)) abort();
    CHECK(pg_cuda_best_bytes(c->code, op->src[0]) >= 0, "bytes of the lists");
    for (int again = 0; again < 2; again++) pg_cuda_best_step(c); /* what a step leaves must not reach the next */
    if (cudaStreamSynchronize(c->stream)) abort();
    pg_cuda_step step;
    cudaMemcpy(&step, c->step, sizeof step, cudaMemcpyDeviceToHost);
    std::vector<float> x((size_t)now.n);
    for (int row = 0; row < step.n_sampled; row++) {
        pg_best best;
        cudaMemcpy(x.data(), pg_cuda_value(c, op->src[0]) + (int64_t)row * now.n, x.size() * 4, cudaMemcpyDeviceToHost);
        pg_cuda_best_row(c, row, &best);
        check_row(x.data(), row, &best);
    }
    pg_cuda_best_close(c);
}

static void test(int n, int kind, unsigned long long seed)
{
    harness h;
    h.seed = seed;
    h.max_rows = h.max_sampled = ROWS;
    now.n = n;
    now.kind = kind;
    const pg_ref logits = harness_value(&h, n, PG_ROWS_SAMPLED);
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < n; i++) *harness_at(&h, logits, row, i) = number_of(&h, kind, i);
    harness_emit(&h, PG_OP_GATHER, logits, logits);
    harness_step(&h, ROWS, 0, 1 + harness_below(&h, ROWS), 9, 9);
    if (n < 5000)
        harness_run_cuda(&h, run, "best");
    else
        harness_run_once(&h, run, "best");
}

int main(void)
{
    static const int sizes[] = { 1, 2, 5, 255, 256, 257, 1000, 2047, 2048, 2049, 4096, 5001, 32003, 102400, 262208 };
    unsigned long long seed = 1;
    for (int n : sizes)
        for (int kind = 0; kind < (n < 40000 ? KINDS : ODD + 1); kind++) test(n, kind, seed++);
    CHECK(now.listed > 250, "only %d rows have a list", now.listed);
    return check_done("sample_test");
}
