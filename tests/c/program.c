/* Policy programs: every instruction against its meaning in double, for vectors of odd lengths and mixed operands; and the
 * verifier against code that says anything: what it lets through stays inside its memory (SAN=1 sees that). */
#include "check.h"

#include "../../engine/hook/hook.h"

#include <math.h>

enum { MOST_N = 131 };

typedef struct place {
    int32_t n;
    float scores[MOST_N], choose[MOST_N], load[MOST_N], knob[PG_KNOBS_MOST];
    pg_program_row row;
} place;

static int number_of(const char *name)
{
    const size_t n = strlen(name);
    for (int32_t i = 0; pg_program_op(i); i++)
        if (!strncmp(pg_program_op(i), name, n) && pg_program_op(i)[n] == ' ') return i;
    CHECK(0, "there is no instruction %s", name);
    return 0;
}

static void put(int32_t *code, int *n, const char *name, int dst, int a, int b, int c, float value)
{
    int32_t *word = code + 6 * (*n)++;
    word[0] = number_of(name);
    word[1] = dst;
    word[2] = a;
    word[3] = b;
    word[4] = c;
    memcpy(&word[5], &value, sizeof value);
}

static void make_place(place *p, int32_t n, unsigned long long *s)
{
    *p = (place){ .n = n };
    for (int i = 0; i < n; i++) {
        p->scores[i] = 3 * check_uniform(s);
        p->choose[i] = check_rand(s) % 3 ? check_uniform(s) : p->scores[i]; /* some are equal */
        p->load[i] = (1 + check_uniform(s)) / 2;
    }
    for (int i = 0; i < PG_KNOBS_MOST; i++) p->knob[i] = (float)i / 8;
    p->row = (pg_program_row){ .n = n, .scores = p->scores, .choose = p->choose, .load = p->load, .knob = p->knob };
    p->row.top = 4;
    p->row.cumulative = 0.75f;
    p->row.layer = 5;
    p->row.position = 77;
    p->row.prompt = 1;
    p->row.n_used = 6;
}

/* Verify and run; 0 when refused. Scratch has the exact size, so that a step outside shows. */
static int run(const int32_t *code, int n, int32_t point, place *p, int *uses)
{
    pg_stage_program out = { 0 };
    const pg_program program = { .point = point, .code = code, .n = n, .n_knob = 3 };
    if (pg_program_verify(&program, &out, uses, NULL) < 0) return 0;
    float *scratch = malloc((size_t)pg_program_scratch(out.n_vector, p->n));
    pg_program_run(out.code, out.n, &p->row, scratch);
    free(scratch);
    return 1;
}

/* ---- meanings ------------------------------------------------------------------------------------------------------- */

static double each(const char *name, double x, double y)
{
    if (!strcmp(name, "add")) return x + y;
    if (!strcmp(name, "sub")) return x - y;
    if (!strcmp(name, "mul")) return x * y;
    if (!strcmp(name, "div")) return x / y;
    if (!strcmp(name, "min")) return fmin(x, y);
    if (!strcmp(name, "max")) return fmax(x, y);
    if (!strcmp(name, "pow")) return pow(x, y);
    if (!strcmp(name, "lt")) return x < y;
    if (!strcmp(name, "le")) return x <= y;
    if (!strcmp(name, "eq")) return x == y;
    if (!strcmp(name, "neg")) return -x;
    if (!strcmp(name, "abs")) return fabs(x);
    if (!strcmp(name, "floor")) return floor(x);
    if (!strcmp(name, "sqrt")) return sqrt(x);
    if (!strcmp(name, "exp")) return exp(x);
    return log(x);
}

static int near(double got, double want)
{
    return (isnan(got) && isnan(want)) || got == want || fabs(got - want) <= 2e-6 * (1 + fabs(want));
}

static void test_each(int32_t n, unsigned long long *s)
{
    static const char *const names[] = { "add", "sub", "mul", "div", "min", "max",   "pow",  "lt",
                                         "le",  "eq",  "neg", "abs", "log", "floor", "sqrt", "exp" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int shape = 0; shape < 3; shape++) { /* both vectors, the second a scalar, the first */
            int32_t code[6 * 8] = { 0 };
            int m = 0, uses;
            place p, before;
            make_place(&p, n, s);
            before = p;
            const int a = shape == 2 ? PG_VECTORS + 1 : 0, b = shape == 1 ? PG_VECTORS + 1 : 1;
            put(code, &m, "scores", 0, 0, 0, 0, 0);
            put(code, &m, "choose", 1, 0, 0, 0, 0);
            put(code, &m, "const", PG_VECTORS + 1, 0, 0, 0, 1.25f);
            put(code, &m, names[i], 1, a, b, 0, 0); /* into one of its operands */
            put(code, &m, "set_scores", 0, 1, 0, 0, 0);
            CHECK(run(code, m, PG_PROGRAM_ROUTE, &p, &uses), "%s is refused", names[i]);
            int bad = 0;
            for (int k = 0; k < n; k++) {
                const double x = shape == 2 ? 1.25 : (double)before.scores[k];
                const double y = shape == 1 ? 1.25 : (double)before.choose[k];
                bad += !near((double)p.scores[k], each(names[i], x, y));
            }
            CHECK(!bad, "%s, shape %d, n %d: %d numbers differ", names[i], shape, n, bad);
        }
}

static double reduce(const char *name, const float *x, int n)
{
    double sum = 0, top = -INFINITY, second = -INFINITY, least = INFINITY, e = 0, h = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)x[i];
        least = fmin(least, (double)x[i]);
        if ((double)x[i] > top) {
            second = top;
            top = (double)x[i];
        } else if ((double)x[i] > second) {
            second = (double)x[i];
        }
    }
    for (int i = 0; i < n; i++) e += exp((double)x[i] - top);
    for (int i = 0; i < n; i++) h -= exp((double)x[i] - top) / e * log(exp((double)x[i] - top) / e);
    if (!strcmp(name, "sum")) return sum;
    if (!strcmp(name, "mean")) return sum / n;
    if (!strcmp(name, "largest")) return top;
    if (!strcmp(name, "smallest")) return least;
    if (!strcmp(name, "margin")) return top - second;
    return h;
}

static void test_reductions(int32_t n, unsigned long long *s)
{
    static const char *const names[] = { "sum", "mean", "largest", "smallest", "margin", "entropy" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t code[6 * 3] = { 0 };
        int m = 0, uses;
        place p;
        make_place(&p, n, s);
        put(code, &m, "choose", 3, 0, 0, 0, 0);
        put(code, &m, names[i], PG_VECTORS, 3, 0, 0, 0);
        put(code, &m, "set_cumulative", 0, PG_VECTORS, 0, 0, 0);
        const double want = reduce(names[i], p.choose, n);
        CHECK(run(code, m, PG_PROGRAM_ROUTE, &p, &uses), "%s is refused", names[i]);
        CHECK(near((double)p.row.cumulative, want), "%s, n %d: %g for %g", names[i], n, (double)p.row.cumulative, want);
    }
}

/* rank, softmax, probs, select, mass and the plain inputs. */
static void test_vectors(int32_t n, unsigned long long *s)
{
    int32_t code[6 * 16] = { 0 };
    int m = 0, uses = 0, bad = 0;
    place p, before;
    make_place(&p, n, s);
    before = p;
    const int S = PG_VECTORS;
    put(code, &m, "choose", 0, 0, 0, 0, 0);
    put(code, &m, "rank", 1, 0, 0, 0, 0);
    put(code, &m, "const", S, 0, 0, 0, 3);
    put(code, &m, "lt", 2, 1, S, 0, 0);
    put(code, &m, "load", 3, 0, 0, 0, 0);
    put(code, &m, "probs", 4, 0, 0, 0, 0);
    put(code, &m, "select", 3, 2, 3, 4, 0); /* load of the three best, probabilities of the others */
    put(code, &m, "set_choose", 0, 3, 0, 0, 0);
    put(code, &m, "mass", S + 1, 0, S, 0, 0);
    put(code, &m, "set_top", 0, S + 1, 0, 0, 0);
    CHECK(run(code, m, PG_PROGRAM_ROUTE, &p, &uses) && uses == (PG_USES_ROUTE | PG_USES_LOAD), "a program is refused");
    double e = 0, mass = 0;
    for (int i = 0; i < n; i++) e += exp((double)before.scores[i]);
    for (int i = 0; i < n; i++) {
        int rank = 0;
        for (int k = 0; k < n; k++)
            rank += before.choose[k] > before.choose[i] || (before.choose[k] == before.choose[i] && k < i);
        mass += rank < 3 ? (double)before.choose[i] : 0;
        bad += !near((double)p.choose[i], rank < 3 ? (double)before.load[i] : exp((double)before.scores[i]) / e);
    }
    CHECK(!bad, "n %d: %d numbers differ", n, bad);
    CHECK(near((double)p.row.top, mass), "mass of 3 of %d: %g for %g", n, (double)p.row.top, mass);
}

static void test_scalars(void)
{
    static const struct {
        const char *name;
        int from;
        double want;
    } inputs[] = { { "layer", 0, 5 },     { "top", 0, 4 },    { "cumulative", 0, 0.75 }, { "n_used", 0, 6 },
                   { "position", 0, 77 }, { "prompt", 0, 1 }, { "size", 0, 17 },         { "knob", 2, 0.25 } };
    unsigned long long s = 3;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        int32_t code[6 * 2] = { 0 };
        int m = 0, uses;
        place p;
        make_place(&p, 17, &s);
        put(code, &m, inputs[i].name, PG_VECTORS + 63, inputs[i].from, 0, 0, 0);
        put(code, &m, "set_top", 0, PG_VECTORS + 63, 0, 0, 0);
        CHECK(run(code, m, PG_PROGRAM_ROUTE, &p, &uses) && near((double)p.row.top, inputs[i].want), "%s is %g",
              inputs[i].name, (double)p.row.top);
    }
}

/* ---- what is refused --------------------------------------------------------------------------------------------------- */

static void refuse(const char *why, int32_t point, int op, int dst, int a, int b, float value)
{
    int32_t code[6 * 3] = { 0 };
    int m = 0, uses;
    pg_error err = { 0 };
    pg_stage_program out;
    put(code, &m, "scores", 0, 0, 0, 0, 0);
    put(code, &m, "const", PG_VECTORS, 0, 0, 0, 1);
    put(code, &m, "scores", dst, a, b, 0, value);
    code[12] = op;
    const pg_program program = { .point = point, .code = code, .n = m, .n_knob = 2 };
    CHECK(pg_program_verify(&program, &out, &uses, &err) == PG_EINVAL && strstr(err.text, why), "%s: %s", why,
          err.text);
}

static void test_refusals(void)
{
    const int S = PG_VECTORS;
    refuse("there is no instruction", 0, -1, 0, 0, 0, 0);
    refuse("there is no instruction", 0, PG_I_COUNT, 0, 0, 0, 0);
    refuse("no such register", 0, PG_I_NEG, PG_REGISTERS, 0, 0, 0);
    refuse("no such register", 0, PG_I_NEG, 1, -1, 0, 0);
    refuse("no such register", 0, PG_I_ADD, 1, 0, 1 << 30, 0);
    refuse("read before it is written", 0, PG_I_NEG, 1, 1, 0, 0);
    refuse("read before it is written", 0, PG_I_ADD, 1, 0, S + 5, 0);
    refuse("must be a vector", 0, PG_I_SUM, S, S, 0, 0);
    refuse("must be a scalar", 0, PG_I_SET_TOP, 0, 0, 0, 0);
    refuse("the result is a scalar", 0, PG_I_SUM, 1, 0, 0, 0);
    refuse("the result is a vector", 0, PG_I_SOFTMAX, S, 0, 0, 0);
    refuse("as an operand is", 0, PG_I_ADD, S, 0, S, 0);
    refuse("no such knob", 0, PG_I_KNOB, S, 2, 0, 0);
    refuse("not a number", 0, PG_I_CONST, S, 0, 0, NAN);
    refuse("no experts", PG_PROGRAM_LOGITS, PG_I_LOAD, 1, 0, 0, 0);
    refuse("no experts", PG_PROGRAM_LOGITS, PG_I_LAYER, S, 0, 0, 0);
    refuse("no experts", PG_PROGRAM_LOGITS, PG_I_SET_CHOOSE, 0, 0, 0, 0);
    refuse("no experts", PG_PROGRAM_LOGITS, PG_I_SET_CUMULATIVE, 0, S, 0, 0);
    refuse("no point", 2, PG_I_NEG, 1, 0, 0, 0);
    static int32_t many[6 * (PG_PROGRAM_MOST + 1)];
    int uses;
    pg_stage_program out;
    const pg_program long_one = { .code = many, .n = PG_PROGRAM_MOST + 1 }, none = { .code = many }, null = { .n = 1 };
    CHECK(pg_program_verify(&long_one, &out, &uses, NULL) < 0, "257 instructions");
    CHECK(pg_program_verify(&none, &out, &uses, NULL) < 0, "no instruction");
    CHECK(pg_program_verify(&null, &out, &uses, NULL) < 0, "no code");
    CHECK(pg_program_op(-1) == NULL && pg_program_op(PG_I_COUNT) == NULL, "names of what there is not");
}

/* Words that are often right, so that some code passes: it then runs on numbers of all kinds. */
static void fuzz(unsigned long long *s, int *passed)
{
    static const float odd[] = { 0, 1, -1, 3e38f, -3e38f, INFINITY, -INFINITY, NAN, 1e-40f };
    int32_t code[6 * 40];
    const int n = 1 + (int)(check_rand(s) % 40), careless = check_rand(s) % 2;
    place p;
    make_place(&p, 1 + (int32_t)(check_rand(s) % MOST_N), s);
    for (int i = 0; i < p.n; i++)
        if (check_rand(s) % 4 == 0) p.scores[i] = odd[check_rand(s) % 9];
    for (int i = 0; i < n; i++) {
        int32_t *word = code + 6 * i;
        const float value = odd[check_rand(s) % 9];
        word[0] = i == 0 ? PG_I_SCORES : i == 1 ? PG_I_CONST : (int32_t)(check_rand(s) % PG_I_COUNT);
        for (int k = 1; k < 5; k++) word[k] = (int32_t)(check_rand(s) % 2 * PG_VECTORS + check_rand(s) % 2);
        if (i == 0) word[1] = 0;
        if (i == 1) word[1] = PG_VECTORS;
        memcpy(&word[5], &value, sizeof value);
        if (careless && check_rand(s) % 20 == 0) word[check_rand(s) % 6] = (int32_t)check_rand(s) - (1 << 29);
        int uses; /* without what does not fit, more gets through */
        pg_stage_program out;
        const pg_program so_far = { .point = 0, .code = code, .n = i + 1, .n_knob = 3 };
        if (!careless && pg_program_verify(&so_far, &out, &uses, NULL) < 0) i--;
    }
    int uses;
    *passed += run(code, n, check_rand(s) % 8 == 0, &p, &uses);
}

int main(void)
{
    static const int32_t sizes[] = { 1, 2, 3, 16, 17, 130 };
    unsigned long long s = 11;
    int passed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_each(sizes[i], &s);
        test_reductions(sizes[i], &s);
        test_vectors(sizes[i], &s);
    }
    test_scalars();
    test_refusals();
    for (int i = 0; i < 20000; i++) fuzz(&s, &passed);
    CHECK(passed > 5000, "only %d random programs ran", passed);
    return check_done("program");
}
