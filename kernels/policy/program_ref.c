/* program_ref.c: a policy program over one row, instruction by instruction. Each is a loop over a whole vector, which the
 * compiler makes wide; what an instruction reads and writes may be the same register. */
#include "program.h"

#include <math.h>
#include <string.h>

/* A running program. */
typedef struct machine {
    pg_program_row *row;
    float *v; /* [registers, n]; before them two more, for sorting */
    float s[PG_SCALARS];
    int32_t n;
} machine;

static float *at(machine *m, int r)
{
    return r < PG_VECTORS ? m->v + (int64_t)r * m->n : &m->s[r - PG_VECTORS];
}

/* ---- number by number ---------------------------------------------------------------------------------------------- */

/* Operands are vectors (step 1) or one number repeated (step 0). d = expr of x and y, n times. */
typedef void each_fn(float *d, const float *a, int a_step, const float *b, int b_step, int32_t n);

#define EACH(name, expr)                                                                                 \
    static void each_##name(float *d, const float *a, int a_step, const float *b, int b_step, int32_t n) \
    {                                                                                                    \
        if (a_step && b_step) {                                                                          \
            for (int32_t i = 0; i < n; i++) {                                                            \
                const float x = a[i], y = b[i];                                                          \
                (void)y, d[i] = (expr);                                                                  \
            }                                                                                            \
        } else if (a_step) {                                                                             \
            const float y = *b;                                                                          \
            for (int32_t i = 0; i < n; i++) {                                                            \
                const float x = a[i];                                                                    \
                (void)y, d[i] = (expr);                                                                  \
            }                                                                                            \
        } else {                                                                                         \
            const float x = *a;                                                                          \
            for (int32_t i = 0; i < n; i++) {                                                            \
                const float y = b[i * b_step];                                                           \
                (void)y, d[i] = (expr);                                                                  \
            }                                                                                            \
        }                                                                                                \
    }
EACH(ADD, x + y)
EACH(SUB, x - y)
EACH(MUL, x *y)
EACH(DIV, x / y)
EACH(MIN, x < y ? x : y)
EACH(MAX, x > y ? x : y)
EACH(POW, powf(x, y))
EACH(LT, (float)(x < y))
EACH(LE, (float)(x <= y))
EACH(EQ, (float)(x == y))
EACH(NEG, -x)
EACH(ABS, fabsf(x))
EACH(FLOOR, floorf(x))
EACH(SQRT, sqrtf(x))
EACH(EXP, expf(x))
EACH(LOG, logf(x))

static each_fn *const each[PG_I_COUNT] = {
    [PG_I_ADD] = each_ADD, [PG_I_SUB] = each_SUB, [PG_I_MUL] = each_MUL,   [PG_I_DIV] = each_DIV,
    [PG_I_MIN] = each_MIN, [PG_I_MAX] = each_MAX, [PG_I_POW] = each_POW,   [PG_I_LT] = each_LT,
    [PG_I_LE] = each_LE,   [PG_I_EQ] = each_EQ,   [PG_I_NEG] = each_NEG,   [PG_I_ABS] = each_ABS,
    [PG_I_EXP] = each_EXP, [PG_I_LOG] = each_LOG, [PG_I_SQRT] = each_SQRT, [PG_I_FLOOR] = each_FLOOR,
};

static void select_each(machine *m, const pg_instr *i)
{
    float *d = at(m, i->dst);
    const float *c = at(m, i->from[0]), *a = at(m, i->from[1]), *b = at(m, i->from[2]);
    const int c_step = i->from[0] < PG_VECTORS, a_step = i->from[1] < PG_VECTORS, b_step = i->from[2] < PG_VECTORS;
    const int32_t n = i->dst < PG_VECTORS ? m->n : 1;
    for (int32_t k = 0; k < n; k++) d[k] = c[k * c_step] != 0 ? a[k * a_step] : b[k * b_step];
}

/* ---- a vector to a number ------------------------------------------------------------------------------------------- */

static float sum_of(const float *x, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)x[i];
    return (float)sum;
}

static float largest_of(const float *x, int32_t n)
{
    float top = -INFINITY;
    for (int32_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

static float smallest_of(const float *x, int32_t n)
{
    float least = INFINITY;
    for (int32_t i = 0; i < n; i++) least = x[i] < least ? x[i] : least;
    return least;
}

static float margin_of(const float *x, int32_t n)
{
    float first = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        const float low = x[i] < first ? x[i] : first;
        first = x[i] > first ? x[i] : first;
        second = low > second ? low : second;
    }
    return first - second;
}

/* With z = x - largest and S = sum e^z: ln S - sum(z e^z) / S. */
static float entropy_of(const float *x, int32_t n)
{
    const float top = largest_of(x, n);
    double sum = 0, dot = 0;
    for (int32_t i = 0; i < n; i++) {
        const float z = x[i] - top;
        if (!(z > -88.0f)) continue; /* it adds nothing; and -inf times 0 would be NaN */
        const double p = (double)expf(z);
        sum += p;
        dot += p * (double)z;
    }
    return (float)(log(sum) - dot / sum);
}

static void softmax(float *d, const float *x, int32_t n)
{
    const float top = largest_of(x, n);
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)(d[i] = expf(x[i] - top));
    const float inverse = (float)(1 / sum);
    for (int32_t i = 0; i < n; i++) d[i] *= inverse;
}

/* ---- sorting -------------------------------------------------------------------------------------------------------- */

/* NaN goes last. */
static int goes_before(const float *x, int32_t a, int32_t b)
{
    const float p = x[a] != x[a] ? -INFINITY : x[a], q = x[b] != x[b] ? -INFINITY : x[b];
    return p > q || (p == q && a < b);
}

/* Indices of x, largest first, by merging runs of growing length; in m's spare vectors, one of which is returned. */
static const int32_t *sort_down(machine *m, const float *x)
{
    const int32_t n = m->n;
    int32_t *from = (int32_t *)(m->v - 2 * (int64_t)n), *to = from + n;
    for (int32_t i = 0; i < n; i++) from[i] = i;
    for (int64_t run = 1; run < n; run *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * run) {
            const int64_t mid = begin + run < n ? begin + run : n, end = mid + run < n ? mid + run : n;
            int64_t a = begin, b = mid;
            for (int64_t k = begin; k < end; k++)
                to[k] = b >= end || (a < mid && !goes_before(x, from[b], from[a])) ? from[a++] : from[b++];
        }
        int32_t *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

static void rank_of(machine *m, float *d, const float *x)
{
    const int32_t *order = sort_down(m, x);
    for (int32_t i = 0; i < m->n; i++) d[order[i]] = (float)i;
}

static float mass_of(machine *m, const float *x, float k)
{
    const int32_t *order = sort_down(m, x);
    double sum = 0;
    for (int32_t i = 0; i < m->n && (float)i < k; i++) sum += (double)x[order[i]];
    return (float)sum;
}

/* ---- one instruction ------------------------------------------------------------------------------------------------ */

static void fill(float *d, float x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) d[i] = x;
}

static void copy(machine *m, float *d, const float *x)
{
    if (x)
        memcpy(d, x, (size_t)m->n * sizeof *d);
    else
        fill(d, 0, m->n);
}

static void probs(machine *m, float *d)
{
    const float *x = m->row->scores;
    if (!m->row->sigmoid)
        softmax(d, x, m->n);
    else
        for (int32_t i = 0; i < m->n; i++) d[i] = 1.0f / (1.0f + expf(-x[i]));
}

static void set(machine *m, float *to, const pg_instr *i)
{
    const float *x = at(m, i->from[0]);
    if (i->from[0] < PG_VECTORS)
        copy(m, to, x);
    else
        fill(to, *x, m->n);
}

static void one(machine *m, const pg_instr *i)
{
    pg_program_row *row = m->row;
    float *d = at(m, i->dst);
    const float *x = at(m, i->from[0]);
    switch (i->op) {
    case PG_I_SCORES: copy(m, d, row->scores); break;
    case PG_I_CHOOSE: copy(m, d, row->choose); break;
    case PG_I_RESIDENT: fill(d, 1, m->n); break;
    case PG_I_LOAD: copy(m, d, row->load); break;
    case PG_I_PROBS: probs(m, d); break;
    case PG_I_INDEX:
        for (int32_t k = 0; k < m->n; k++) d[k] = (float)k;
        break;
    case PG_I_LAYER: *d = row->layer; break;
    case PG_I_TOP: *d = row->top; break;
    case PG_I_CUMULATIVE: *d = row->cumulative; break;
    case PG_I_N_USED: *d = row->n_used; break;
    case PG_I_POSITION: *d = row->position; break;
    case PG_I_PROMPT: *d = row->prompt; break;
    case PG_I_SIZE: *d = (float)m->n; break;
    case PG_I_KNOB: *d = row->knob[i->from[0]]; break;
    case PG_I_CONST: *d = i->value; break;
    case PG_I_SELECT: select_each(m, i); break;
    case PG_I_SUM: *d = sum_of(x, m->n); break;
    case PG_I_MEAN: *d = sum_of(x, m->n) / (float)m->n; break;
    case PG_I_LARGEST: *d = largest_of(x, m->n); break;
    case PG_I_SMALLEST: *d = smallest_of(x, m->n); break;
    case PG_I_MARGIN: *d = margin_of(x, m->n); break;
    case PG_I_ENTROPY: *d = entropy_of(x, m->n); break;
    case PG_I_MASS: *d = mass_of(m, x, *at(m, i->from[1])); break;
    case PG_I_SOFTMAX: softmax(d, x, m->n); break;
    case PG_I_RANK: rank_of(m, d, x); break;
    case PG_I_SET_SCORES: set(m, row->scores, i); break;
    case PG_I_SET_CHOOSE: set(m, row->choose, i); break;
    case PG_I_SET_TOP: row->top = *x; break;
    case PG_I_SET_CUMULATIVE: row->cumulative = *x; break;
    default:
        each[i->op](d, x, i->from[0] < PG_VECTORS, at(m, i->from[1]), i->from[1] < PG_VECTORS,
                    i->dst < PG_VECTORS ? m->n : 1);
    }
}

void pg_program_run(const pg_instr *code, int32_t n_code, pg_program_row *row, float *scratch)
{
    machine m = { .row = row, .v = scratch + 2 * (int64_t)row->n, .n = row->n };
    for (int32_t i = 0; i < n_code; i++) one(&m, &code[i]);
}
