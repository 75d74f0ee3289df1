/* Policy programs on the device against program_ref.c: every instruction by itself, and random programs, on numbers of all
 * kinds. What only adds, compares, sorts or moves gives the same bits; sums, exponentials and what comes of them differ by
 * rounding. */
#include "../../kernels/policy/program_cuda.cuh"
#include "../c/check.h"

#include <vector>

enum { ROWS = 3, MOST_N = 300, N_KNOB = 5 };

static unsigned long long seed = 1;

static const struct {
    const char *name, *result, *operands;
} shape[] = {
#define PG_INSTR(code, name, result, operands) { name, result, operands },
#include "../../kernels/policy/program.def"
};

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

/* ---- programs --------------------------------------------------------------------------------------------------------- */

typedef struct draft {
    std::vector<pg_instr> code;
    std::vector<int> vectors, scalars; /* that have been written */
} draft;

static int is_rounded(int op)
{
    static const int ops[] = { PG_I_PROBS, PG_I_POW,     PG_I_EXP,     PG_I_LOG, PG_I_SUM,
                               PG_I_MEAN,  PG_I_ENTROPY, PG_I_SOFTMAX, PG_I_MASS };
    for (int o : ops)
        if (o == op) return 1;
    return 0;
}

static int one_of(const std::vector<int> &x)
{
    return x[(size_t)below((int)x.size())];
}

static float odd_number(void)
{
    static const float odd[] = { 0, 1, -1, 2, 3e38f, -3e38f, INFINITY, -INFINITY, 1e-40f, 0.5f };
    return odd[below(10)];
}

/* One instruction more, whose operands there are. */
static void append(draft *d, int op)
{
    pg_instr i = {};
    int vectors = 0;
    i.op = (uint8_t)op;
    for (int k = 0; shape[op].operands[k]; k++) {
        const char kind = shape[op].operands[k];
        const int vector = kind == 'v' || (kind == 'x' && below(3));
        if (kind == 'k')
            i.from[k] = (uint8_t)below(N_KNOB);
        else if (kind == 'c')
            i.value = below(2) ? odd_number() : 4 * check_uniform(&seed);
        else
            i.from[k] = (uint8_t)one_of(vector ? d->vectors : d->scalars), vectors |= vector;
    }
    const char result = shape[op].result[0];
    const int vector = result == 'v' || (result == 'x' && (vectors || below(4) == 0));
    if (result) {
        i.dst = (uint8_t)(vector ? below(PG_VECTORS) : PG_VECTORS + below(PG_SCALARS));
        (vector ? d->vectors : d->scalars).push_back(i.dst);
    }
    d->code.push_back(i);
}

static void begin(draft *d)
{
    append(d, PG_I_SCORES);
    append(d, PG_I_CHOOSE);
    append(d, PG_I_LOAD);
    append(d, PG_I_CONST);
    append(d, PG_I_KNOB);
}

/* Show what the newest registers hold. */
static void end(draft *d)
{
    const int vector = d->vectors.back(), scalar = d->scalars.back();
    const pg_instr show[] = { { PG_I_SET_SCORES, 0, { (uint8_t)vector, 0, 0 }, 0 },
                              { PG_I_SET_CUMULATIVE, 0, { (uint8_t)scalar, 0, 0 }, 0 } };
    d->code.insert(d->code.end(), show, show + 2);
}

template <class T> static T *device_copy(const std::vector<T> &x)
{
    T *d;
    if (cudaMalloc(&d, x.size() * sizeof(T))) abort();
    if (cudaMemcpy(d, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice)) abort();
    return d;
}

/* ---- both sides ------------------------------------------------------------------------------------------------------- */

typedef struct rows {
    int n, sigmoid;
    std::vector<float> scores, choose, load, knob, top, cumulative;
} rows;

static rows make_rows(int n, int odd)
{
    rows r;
    r.n = n;
    r.sigmoid = below(2);
    for (int i = 0; i < ROWS * n; i++) {
        r.scores.push_back(odd && !below(6) ? (below(5) ? odd_number() : NAN) : 3 * check_uniform(&seed));
        r.choose.push_back(below(3) ? check_uniform(&seed) : r.scores.back());
    }
    for (int i = 0; i < n; i++) r.load.push_back((1 + check_uniform(&seed)) / 2);
    for (int i = 0; i < N_KNOB; i++) r.knob.push_back((float)i / 4 - 0.5f);
    for (int i = 0; i < ROWS; i++) {
        r.top.push_back((float)below(9));
        r.cumulative.push_back((1 + check_uniform(&seed)) / 2);
    }
    return r;
}

static void set_row(pg_program_row *y, int row, int n, int sigmoid)
{
    y->n = n;
    y->layer = 7;
    y->position = (float)(100 + row);
    y->prompt = (float)(row % 2);
    y->n_used = 6;
    y->sigmoid = sigmoid;
}

static void run_cpu(const draft *d, rows *r)
{
    std::vector<float> scratch((size_t)pg_program_scratch(PG_VECTORS, r->n) / sizeof(float));
    for (int i = 0; i < ROWS; i++) {
        pg_program_row y = {};
        set_row(&y, i, r->n, r->sigmoid);
        y.scores = &r->scores[(size_t)i * r->n];
        y.choose = &r->choose[(size_t)i * r->n];
        y.load = r->load.data();
        y.knob = r->knob.data();
        y.top = r->top[i];
        y.cumulative = r->cumulative[i];
        pg_program_run(d->code.data(), (int32_t)d->code.size(), &y, scratch.data());
        r->top[i] = y.top;
        r->cumulative[i] = y.cumulative;
    }
}

typedef struct job {
    const pg_instr *code;
    int n_code, n, sigmoid;
    float *scores, *choose, *top, *cumulative, *v;
    const float *load, *knob;
} job;

static __device__ void set_place(pg_program_row *y, int row, const job &j)
{
    y->n = j.n;
    y->layer = 7;
    y->position = (float)(100 + row);
    y->prompt = (float)(row % 2);
    y->n_used = 6;
    y->sigmoid = j.sigmoid;
}

static __global__ void run_programs(job j)
{
    const int row = (int)blockIdx.x;
    pg_machine m;
    set_place(&m.row, row, j);
    m.row.scores = j.scores + row * j.n;
    m.row.choose = j.choose + row * j.n;
    m.row.load = j.load;
    m.row.knob = j.knob;
    m.row.top = j.top[row];
    m.row.cumulative = j.cumulative[row];
    m.v = j.v + (int64_t)row * PG_PROGRAM_VECTORS * j.n;
    m.lane = (int)threadIdx.x;
    __syncwarp();
    pg_program_run_warp(m, j.code, j.n_code);
    if (m.lane) return;
    j.top[row] = m.row.top;
    j.cumulative[row] = m.row.cumulative;
}

static void back(std::vector<float> *to, float *from)
{
    cudaMemcpy(to->data(), from, to->size() * sizeof(float), cudaMemcpyDeviceToHost);
    cudaFree(from);
}

static void run_cuda(const draft *d, rows *r)
{
    pg_instr *code = device_copy(d->code);
    float *load = device_copy(r->load), *knob = device_copy(r->knob);
    job j = {};
    j.code = code;
    j.n_code = (int)d->code.size();
    j.n = r->n;
    j.sigmoid = r->sigmoid;
    j.scores = device_copy(r->scores);
    j.choose = device_copy(r->choose);
    j.top = device_copy(r->top);
    j.cumulative = device_copy(r->cumulative);
    j.load = load;
    j.knob = knob;
    j.v = device_copy(std::vector<float>((size_t)ROWS * PG_PROGRAM_VECTORS * r->n));
    PG_LAUNCH(run_programs, ROWS, 32, 0, 0, j);
    CHECK(cudaDeviceSynchronize() == cudaSuccess, "a program did not run");
    back(&r->scores, j.scores);
    back(&r->choose, j.choose);
    back(&r->top, j.top);
    back(&r->cumulative, j.cumulative);
    cudaFree(j.v);
    cudaFree(code);
    cudaFree(load);
    cudaFree(knob);
}

/* ---- comparing -------------------------------------------------------------------------------------------------------- */

static int differ(const std::vector<float> &got, const std::vector<float> &want, float tolerance)
{
    int bad = 0;
    for (size_t i = 0; i < got.size(); i++) {
        const float a = got[i], b = want[i];
        bad += isnan(a) || isnan(b) ? !(isnan(a) && isnan(b)) : !(a == b || fabsf(a - b) <= tolerance * (1 + fabsf(b)));
    }
    return bad;
}

static int run(const draft *d, int n, int odd, float tolerance)
{
    rows cpu = make_rows(n, odd), cuda = cpu;
    run_cpu(d, &cpu);
    run_cuda(d, &cuda);
    return differ(cuda.scores, cpu.scores, tolerance) + differ(cuda.choose, cpu.choose, tolerance) +
           differ(cuda.top, cpu.top, tolerance) + differ(cuda.cumulative, cpu.cumulative, tolerance);
}

static void test_each(int op, int n)
{
    for (int i = 0; i < 6; i++) {
        draft d;
        const unsigned long long from = seed;
        begin(&d);
        append(&d, op);
        end(&d);
        const int bad = run(&d, n, i % 2, is_rounded(op) ? 4e-7f : 0);
        CHECK(!bad, "%s, seed %llu, %d numbers a row: %d differ", shape[op].name, from, n, bad);
    }
}

/* exact: of instructions that give the same bits. Comparisons make much of a rounding, so of the others some may differ. */
static int test_random(int exact)
{
    draft d;
    const int n = 1 + below(MOST_N), length = 1 + below(80);
    const unsigned long long from = seed;
    begin(&d);
    for (int i = 0; i < length; i++) {
        int op = below(PG_I_COUNT);
        while (exact && is_rounded(op)) op = below(PG_I_COUNT);
        append(&d, op);
    }
    end(&d);
    const int bad = run(&d, n, below(3) == 0, exact ? 0 : 1e-4f);
    CHECK(!exact || !bad, "seed %llu: %d instructions on %d numbers: %d differ", from, (int)d.code.size(), n, bad);
    return bad > 0;
}

int main(void)
{
    static const int sizes[] = { 1, 2, 31, 64, 130 };
    int bad = 0;
    for (int op = 0; op < PG_I_COUNT; op++)
        for (int n : sizes) test_each(op, n);
    for (int i = 0; i < 400; i++) test_random(1);
    for (int i = 0; i < 400; i++) bad += test_random(0);
    CHECK(bad <= 8, "%d of 400 programs differ by more than rounding", bad);
    return check_done("program_test");
}
