/* program_cuda.cuh: a policy program over one row, by a warp; program_ref.c says what each instruction does.
 *
 * Number i of a vector belongs to lane i % 32, so instructions that go number by number need no meeting; those that look at
 * a whole vector meet before and after. Scalars are spread over the lanes' registers: number s is in lane s % 32, and all
 * lanes get it by a shuffle. Exponentials, logarithms and powers are computed in f64 and rounded once, as good libraries'
 * are; sums are in f64, in another order than the host's. */
#ifndef PG_PROGRAM_CUDA_CUH
#define PG_PROGRAM_CUDA_CUH

#include "../cuda/exact.cuh"

extern "C" {
#include "program.h"
}

/* Vectors of scratch: the registers, and one for what is read and written at once. */
enum { PG_PROGRAM_VECTORS = PG_VECTORS + 1 };

typedef struct pg_machine {
    pg_program_row row; /* in the memory that the warp shares */
    float *v;           /* [PG_PROGRAM_VECTORS, n] */
    float low, high;    /* this lane's scalars */
    int lane;
} pg_machine;

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

PG_HD float pg_program_exp(float x)
{
    return (float)exp((double)x);
}
PG_HD float pg_program_log(float x)
{
    return (float)log((double)x);
}

/* The instructions that go number by number. */
PG_HD float pg_program_one(int op, float x, float y)
{
    switch (op) {
    case PG_I_ADD: return pg_add(x, y);
    case PG_I_SUB: return pg_add(x, -y);
    case PG_I_MUL: return pg_mul(x, y);
    case PG_I_DIV: return x / y;
    case PG_I_MIN: return x < y ? x : y;
    case PG_I_MAX: return x > y ? x : y;
    case PG_I_POW: return (float)pow((double)x, (double)y);
    case PG_I_LT: return (float)(x < y);
    case PG_I_LE: return (float)(x <= y);
    case PG_I_EQ: return (float)(x == y);
    case PG_I_NEG: return -x;
    case PG_I_ABS: return fabsf(x);
    case PG_I_FLOOR: return floorf(x);
    case PG_I_SQRT: return sqrtf(x);
    case PG_I_EXP: return pg_program_exp(x);
    default: return pg_program_log(x);
    }
}

/* ---- registers ---------------------------------------------------------------------------------------------------- */

/* An operand: a vector, or one number repeated. */
typedef struct pg_operand {
    const float *v;
    float s;
} pg_operand;

__device__ __forceinline__ float pg_program_scalar(const pg_machine &m, int r)
{
    return __shfl_sync(0xffffffffu, r - PG_VECTORS < 32 ? m.low : m.high, (r - PG_VECTORS) & 31);
}
__device__ __forceinline__ void pg_program_keep(pg_machine &m, int r, float x)
{
    if (((r - PG_VECTORS) & 31) != m.lane) return;
    if (r - PG_VECTORS < 32)
        m.low = x;
    else
        m.high = x;
}
__device__ __forceinline__ pg_operand pg_program_from(const pg_machine &m, int r)
{
    pg_operand o = { nullptr, 0 };
    if (r < PG_VECTORS)
        o.v = m.v + (int64_t)r * m.row.n;
    else
        o.s = pg_program_scalar(m, r);
    return o;
}

__device__ __forceinline__ float pg_at(const pg_operand &o, int i)
{
    return o.v ? o.v[i] : o.s;
}

/* ---- a vector to a number ------------------------------------------------------------------------------------------ */

__device__ __forceinline__ double pg_program_total(double x)
{
    for (int to = 16; to; to >>= 1) x += __shfl_xor_sync(0xffffffffu, x, to);
    return x;
}

__device__ __forceinline__ float pg_program_sum(const pg_machine &m, const float *x)
{
    double sum = 0;
    for (int i = m.lane; i < m.row.n; i += 32) sum += (double)x[i];
    return (float)pg_program_total(sum);
}

__device__ __forceinline__ float pg_program_largest(const pg_machine &m, const float *x)
{
    float top = -INFINITY;
    for (int i = m.lane; i < m.row.n; i += 32) top = x[i] > top ? x[i] : top;
    return pg_warp_max(top);
}

__device__ __forceinline__ float pg_program_smallest(const pg_machine &m, const float *x)
{
    float least = INFINITY;
    for (int i = m.lane; i < m.row.n; i += 32) least = x[i] < least ? x[i] : least;
    return -pg_warp_max(-least);
}

/* A NaN takes the place of the largest before it: then the numbers are looked at in their order. */
__device__ __forceinline__ float pg_program_margin(const pg_machine &m, const float *x)
{
    float first = -INFINITY, second = -INFINITY;
    bool odd = false;
    for (int i = m.lane; i < m.row.n; i += 32) odd |= x[i] != x[i];
    const bool in_order = __any_sync(0xffffffffu, odd);
    __syncwarp();
    for (int i = in_order ? 0 : m.lane; i < m.row.n; i += in_order ? 1 : 32) {
        const float low = x[i] < first ? x[i] : first;
        first = x[i] > first ? x[i] : first;
        second = low > second ? low : second;
    }
    for (int to = 16; to && !in_order; to >>= 1) {
        const float f = __shfl_xor_sync(0xffffffffu, first, to), s = __shfl_xor_sync(0xffffffffu, second, to);
        second = fmaxf(fminf(first, f), fmaxf(second, s));
        first = fmaxf(first, f);
    }
    __syncwarp(); /* where all lanes have looked at all numbers, the next instruction may write them */
    return first - second;
}

__device__ __forceinline__ float pg_program_entropy(const pg_machine &m, const float *x)
{
    const float top = pg_program_largest(m, x);
    double sum = 0, dot = 0;
    for (int i = m.lane; i < m.row.n; i += 32) {
        const float z = x[i] - top;
        if (!(z > -88.0f)) continue;
        const double p = (double)pg_program_exp(z);
        sum += p;
        dot += p * (double)z;
    }
    sum = pg_program_total(sum);
    dot = pg_program_total(dot);
    return (float)(log(sum) - dot / sum);
}

/* Does number k of x go before number i, whose place is given? */
PG_HD int pg_program_before(uint32_t place_k, int k, uint32_t place_i, int i)
{
    return place_k > place_i || (place_k == place_i && k < i);
}

/* How many go before number i. */
__device__ __forceinline__ int pg_program_rank(const float *x, int n, int i)
{
    const uint32_t place = pg_place_of(x[i]);
    int before = 0;
    for (int k = 0; k < n; k++) before += pg_program_before(pg_place_of(x[k]), k, place, i);
    return before;
}

__device__ __forceinline__ float pg_program_mass(const pg_machine &m, const float *x, float k)
{
    double sum = 0;
    __syncwarp();
    for (int i = m.lane; i < m.row.n; i += 32)
        if ((float)pg_program_rank(x, m.row.n, i) < k) sum += (double)x[i];
    __syncwarp();
    return (float)pg_program_total(sum);
}

/* ---- a vector to a vector ------------------------------------------------------------------------------------------ */

__device__ __forceinline__ void pg_program_ranks(const pg_machine &m, float *d, const float *x)
{
    float *const spare = m.v + (int64_t)PG_VECTORS * m.row.n;
    __syncwarp();
    for (int i = m.lane; i < m.row.n; i += 32) spare[i] = (float)pg_program_rank(x, m.row.n, i);
    __syncwarp();
    for (int i = m.lane; i < m.row.n; i += 32) d[i] = spare[i];
}

__device__ __forceinline__ void pg_program_softmax(const pg_machine &m, float *d, const float *x)
{
    const float top = pg_program_largest(m, x);
    double sum = 0;
    for (int i = m.lane; i < m.row.n; i += 32) {
        d[i] = pg_program_exp(x[i] - top);
        sum += (double)d[i];
    }
    const float inverse = (float)(1 / pg_program_total(sum));
    for (int i = m.lane; i < m.row.n; i += 32) d[i] *= inverse;
}

__device__ __forceinline__ void pg_program_probs(const pg_machine &m, float *d)
{
    if (!m.row.sigmoid)
        pg_program_softmax(m, d, m.row.scores);
    else
        for (int i = m.lane; i < m.row.n; i += 32) d[i] = 1.0f / pg_add(1.0f, pg_program_exp(-m.row.scores[i]));
}

__device__ __forceinline__ void pg_program_fill(const pg_machine &m, float *d, const pg_operand &o)
{
    for (int i = m.lane; i < m.row.n; i += 32) d[i] = pg_at(o, i);
}

/* ---- instructions -------------------------------------------------------------------------------------------------- */

/* Results that are a vector. from: operands, already fetched. */
__device__ __forceinline__ void pg_program_vector(pg_machine &m, int op, float *d, const pg_operand *from)
{
    const float *const x = from[0].v;
    const pg_operand one = { nullptr, 1 }, scores = { m.row.scores, 0 }, choose = { m.row.choose, 0 },
                     load = { m.row.load, 0 };
    switch (op) {
    case PG_I_SCORES: pg_program_fill(m, d, scores); break;
    case PG_I_CHOOSE: pg_program_fill(m, d, choose); break;
    case PG_I_RESIDENT: pg_program_fill(m, d, one); break;
    case PG_I_LOAD: pg_program_fill(m, d, load); break;
    case PG_I_PROBS: pg_program_probs(m, d); break;
    case PG_I_INDEX:
        for (int i = m.lane; i < m.row.n; i += 32) d[i] = (float)i;
        break;
    case PG_I_SELECT:
        for (int i = m.lane; i < m.row.n; i += 32)
            d[i] = pg_at(from[0], i) != 0 ? pg_at(from[1], i) : pg_at(from[2], i);
        break;
    case PG_I_SOFTMAX: pg_program_softmax(m, d, x); break;
    case PG_I_RANK: pg_program_ranks(m, d, x); break;
    default:
        for (int i = m.lane; i < m.row.n; i += 32) d[i] = pg_program_one(op, pg_at(from[0], i), pg_at(from[1], i));
    }
}

/* Results that are a number. */
__device__ __forceinline__ float pg_program_number(pg_machine &m, int op, int knob, float value, const pg_operand *from)
{
    const float *const x = from[0].v;
    switch (op) {
    case PG_I_LAYER: return m.row.layer;
    case PG_I_TOP: return m.row.top;
    case PG_I_CUMULATIVE: return m.row.cumulative;
    case PG_I_N_USED: return m.row.n_used;
    case PG_I_POSITION: return m.row.position;
    case PG_I_PROMPT: return m.row.prompt;
    case PG_I_SIZE: return (float)m.row.n;
    case PG_I_KNOB: return m.row.knob[knob];
    case PG_I_CONST: return value;
    case PG_I_SELECT: return from[0].s != 0 ? from[1].s : from[2].s;
    case PG_I_SUM: return pg_program_sum(m, x);
    case PG_I_MEAN: return pg_program_sum(m, x) / (float)m.row.n;
    case PG_I_LARGEST: return pg_program_largest(m, x);
    case PG_I_SMALLEST: return pg_program_smallest(m, x);
    case PG_I_MARGIN: return pg_program_margin(m, x);
    case PG_I_ENTROPY: return pg_program_entropy(m, x);
    case PG_I_MASS: return pg_program_mass(m, x, from[1].s);
    default: return pg_program_one(op, from[0].s, from[1].s);
    }
}

__device__ __forceinline__ void pg_program_step(pg_machine &m, int op, int dst, const int *r, float value)
{
    const int is_input = op <= PG_I_CONST; /* has no operands, and from[0] may be a knob */
    pg_operand from[3];
    for (int k = 0; k < 3; k++) from[k] = pg_program_from(m, is_input ? PG_VECTORS : r[k]);
    switch (op) {
    case PG_I_SET_SCORES: pg_program_fill(m, m.row.scores, from[0]); return;
    case PG_I_SET_CHOOSE: pg_program_fill(m, m.row.choose, from[0]); return;
    case PG_I_SET_TOP: m.row.top = from[0].s; return;
    case PG_I_SET_CUMULATIVE: m.row.cumulative = from[0].s; return;
    default:
        if (dst < PG_VECTORS)
            pg_program_vector(m, op, m.v + (int64_t)dst * m.row.n, from);
        else
            pg_program_keep(m, dst, pg_program_number(m, op, r[0], value, from));
    }
}

/* Run verified code over m.row. Code is fetched a lane an instruction, 32 at a time, and handed round. */
__device__ __forceinline__ void pg_program_run_warp(pg_machine &m, const pg_instr *code, int n_code)
{
    m.low = m.high = 0;
    for (int at = 0; at < n_code; at += 32) {
        const int left = n_code - at < 32 ? n_code - at : 32;
        pg_instr mine = {};
        if (m.lane < left) mine = code[at + m.lane];
        const uint32_t head =
            mine.op | (uint32_t)mine.dst << 8 | (uint32_t)mine.from[0] << 16 | (uint32_t)mine.from[1] << 24;
        for (int k = 0; k < left; k++) {
            const uint32_t word = __shfl_sync(0xffffffffu, head, k);
            const int third = __shfl_sync(0xffffffffu, (int)mine.from[2], k);
            const float value = __shfl_sync(0xffffffffu, mine.value, k);
            const int r[3] = { (int)(word >> 16 & 255), (int)(word >> 24), third };
            pg_program_step(m, (int)(word & 255), (int)(word >> 8 & 255), r, value);
        }
    }
    __syncwarp();
}

#endif
