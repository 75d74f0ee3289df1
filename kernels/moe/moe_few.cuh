/* moe_few: the kernels of EXPERTS for few rows. Private to moe_few_cuda.cu.
 *
 * Nothing is sorted: a block looks through the choices of all rows, which are few, for the rows of its expert, and
 * streams its part of the expert's weights past some of them at a time; an expert that nobody chose costs an empty
 * block. For a single row blocks are told their expert by its choice alone.
 *   hidden   32 hidden values of each row: gate and up side by side (gemv.cuh), the activation, and the rounding
 *            for the next pass while all 32 are at hand
 *   output   the shares of rows in the outputs: weight * (sums of down + bias), one for each choice
 *   combine  the shares of a row, in ascending order of its experts
 * A pair is a choice of a row: number row * most + place. Sums do not depend on how many rows there are (gemv.cuh), and
 * nothing is added by whoever comes first, so results are the same in every batch. */
#ifndef PG_MOE_FEW_H
#define PG_MOE_FEW_H

#include "../glu/glu.cuh"
#include "../matmul/matmul_cuda.cuh"
#include "moe_few_cuda.cuh"

enum { STRIP = 32 }; /* hidden values of a block */

typedef struct job {
    pg_stack gate, up;
    const float *gate_bias, *up_bias; /* [n_expert][F] or NULL */
    const int32_t *pick;              /* [rows][2 * most] */
    pg_in x;                          /* [rows][D] */
    pg_rounded h8;                    /* [pairs][F] hidden values, if rounds_h; */
    float *h;                         /* else */
    const pg_cuda_step *step;
    int32_t all, D, F, most, glu, rounds_h;
    int32_t by_choice; /* blocks are numbered by pairs, not by experts */
    int32_t split;     /* warps an output */
    float limit;
    /* what the output pass multiplies: the hidden values by down, for shares; or the rows by gate or up, for plain
     * sums */
    pg_stack w;
    pg_in in;
    int32_t by_row, weighs;
    const float *bias; /* of down */
    float *to;         /* [pairs][w.n] */
    float *y;          /* [rows][D] */
    /* of a single row: a network that every row goes through, as one more choice; its hidden values; warps an output of
     * its down; y = add + add_scale * (sum of choices + own_scale * own output), add NULL: none */
    pg_stack own_gate, own_up, own_down; /* own_down.n 0: there is none */
    pg_rounded own_h8;
    float *own_h;
    int32_t own_split;
    float own_scale, add_scale;
    const float *add;
} job;

/* Outputs that a team has at a time, of R rows: as many as there are registers for. */
template <class F, int R, int MEET> struct outputs_of {
    enum {
        slim = sizeof(typename F::raw) <= 32 && F::PIECES * F::WIDTH <= 32 && (F::QUANT || F::WIDTH <= 8),
        O = MEET == PG_MEET_ODD                             ? 1
            : R == 1 || (slim && (R < 8 || F::PIECES == 1)) ? 4
                                                            : 2
    };
};

/* The pairs of one expert. */
typedef struct crew {
    int expert, n;
} crew;

/* The pairs of this block's expert, in the order of rows; none if another block has them. All threads come here. */
__device__ __forceinline__ crew find_crew(const job &j, int (&pair)[PG_MOE_FEW_ROWS])
{
    __shared__ int place[PG_MOE_FEW_ROWS], count;
    const int t = (int)threadIdx.x, n_row = pg_step_rows(j.step, j.all), index = (int)blockIdx.y, most = j.most;
    crew c = { index, 0 };
    if (j.by_choice) {
        if (index / most >= n_row) return c;
        c.expert = j.pick[index / most * 2 * most + index % most];
        if (c.expert < 0) return c;
    }
    if (t < PG_MOE_FEW_ROWS) place[t] = -1;
    __syncthreads();
    for (int i = t; i < n_row * most; i += PG_GEMV_THREADS)
        if (j.pick[i / most * 2 * most + i % most] == c.expert) place[i / most] = i % most;
    __syncthreads();
    if (t < 32) {
        const unsigned first = __ballot_sync(0xffffffffu, place[t] >= 0), below = (1u << t) - 1;
        const unsigned second = __ballot_sync(0xffffffffu, place[t + 32] >= 0);
        if (place[t] >= 0) pair[__popc(first & below)] = t * most + place[t];
        if (place[t + 32] >= 0) pair[__popc(first) + __popc(second & below)] = (t + 32) * most + place[t + 32];
        if (t == 0) count = __popc(first) + __popc(second);
    }
    __syncthreads();
    c.n = count;
    if (j.by_choice && pair[0] != index) c.n = 0;
    return c;
}

/* ---- hidden values ----------------------------------------------------------------------------------------------- */

/* Sums of a strip: by each warp of a team, for each row, of gate and of up. */
template <int R> struct strip {
    float sum[PG_GEMV_WARPS][R][2][STRIP];
};

/* One value a lane of a row's 32, rounded as pg_round4 does. */
__device__ __forceinline__ void round_lane(const pg_rounded &y, int64_t at, float x)
{
    const uint32_t inf = 0x7f800000u;
    uint32_t most = __float_as_uint(x) & 0x7fffffffu;
    for (int to = 16; to; to >>= 1) most = max(most, __shfl_xor_sync(0xffffffffu, most, to));
    const float amax = __uint_as_float(most), inv = 127.0f / amax;
    const bool whole = most > 0 && most < inf && __float_as_uint(inv) < inf;
    const float d = whole ? amax / 127.0f : most >= inf ? __uint_as_float(0x7fc00000u) : 0.0f;
    const int q = whole ? (int)rintf(x * inv) : 0, lane = (int)threadIdx.x % 32;
    int sum = q;
    for (int to = 8; to; to >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, to);
    y.q[at + lane] = (int8_t)q;
    if (lane == 0) y.d[at / 32] = d;
    if (lane % 16 == 0) y.s[(at + lane) / 16] = d * (float)sum;
}

/* The hidden value of column o from its sums of gate and of up; a warp has 32 of them. own: of the network that every row
 * goes through, else of expert e. */
__device__ __forceinline__ void put_hidden(const job &j, int e, bool own, int pair, int o, float g, float u)
{
    const int F = own ? j.own_gate.n : j.F;
    if (o < F && !own) {
        if (j.gate_bias) g += j.gate_bias[e * F + o];
        if (j.up_bias) u += j.up_bias[e * F + o];
    }
    const float h = pg_glu_one(g, u, j.glu, j.limit);
    if (j.rounds_h)
        round_lane(own ? j.own_h8 : j.h8, (int64_t)pair * F + o / STRIP * STRIP, h); /* F is a multiple of 32 then */
    else if (o < F)
        (own ? j.own_h : j.h)[(int64_t)pair * F + o] = h;
}

/* What becomes of a strip's sums: a warp has a row, a lane a column, the first of them o0. */
template <int R>
__device__ __forceinline__ void finish_strip(const job &j, const strip<R> &s, int e, bool own, const int *pair, int n,
                                             int o0)
{
    const int r = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (r >= n) return;
    float g = 0, u = 0;
    for (int w = 0; w < j.split; w++) g += s.sum[w][r][0][lane], u += s.sum[w][r][1][lane];
    put_hidden(j, e, own, pair[r], o0 + lane, g, u);
}

/* Rows pair[0 .. n - 1], n <= R, of expert e; hidden values from first_o on. O outputs of gate and of up a team. */
template <class F, int R, int O, int U, int MEET>
__device__ __forceinline__ void hidden_tile(const job &j, strip<R> &s, int e, bool own, const int *pair, int n,
                                            const pg_in &x, int first_o)
{
    const pg_view w[2] = { own ? pg_view_of(j.own_gate, 0) : pg_view_of(j.gate, e),
                           own ? pg_view_of(j.own_up, 0) : pg_view_of(j.up, e) };
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, teams = PG_GEMV_WARPS / j.split;
    const int chunks = pg_chunks<F>(j.D), step = 32 * j.split, first = warp % j.split * 32 + lane;
    int at[R];
#pragma unroll
    for (int r = 0; r < R; r++) at[r] = MEET == PG_MEET_NEAR ? 0 : pair[min(r, n - 1)] / j.most * j.D;
    for (int o0 = warp / j.split * O; o0 < STRIP; o0 += teams * O) {
        int row[2 * O];
#pragma unroll
        for (int o = 0; o < O; o++) row[o] = row[O + o] = min(first_o + o0 + o, (own ? j.own_gate.n : j.F) - 1);
        pg_ahead<F, 2 * O, U, MEET> now;
        now.load(w, row, first, step, chunks);
        float sum[R * 2 * O] = {};
        pg_dot_rows<F, R, 2 * O, U, MEET>(sum, now, w, row, first, step, chunks, x, at);
        pg_warp_fold<R * 2 * O>(sum);
        const int v = lane * (R * 2 * O) / 32;
        if (lane * (R * 2 * O) % 32 == 0) s.sum[warp % j.split][v / (2 * O)][v / O % 2][o0 + v % O] = sum[0];
    }
    __syncthreads();
    finish_strip<R>(j, s, e, own, pair, n, first_o);
    __syncthreads();
}

/* A single row, rounded by each block for itself where it is rounded. OWN: blocks behind the row's choices have what
 * everybody goes through. */
template <class F, int U, int MEET, bool OWN>
__global__ __launch_bounds__(PG_GEMV_THREADS, 2) void hidden_one(const job j)
{
    PG_SHARED(unsigned char, mem);
    __shared__ strip<1> s;
    pg_let_next();
    pg_wait_before();
    const bool own = OWN && (int)blockIdx.y >= j.most;
    const int index = (int)blockIdx.y, pair[1] = { own ? 0 : index };
    const int o = (int)(own ? (index - j.most) * gridDim.x + blockIdx.x : blockIdx.x) * STRIP;
    const int e = own ? 0 : j.pick[index];
    if (e < 0 || pg_step_rows(j.step, j.all) < 1) return;
    if (own && o >= j.own_gate.n) return;
    pg_in x = j.x;
    if (MEET == PG_MEET_NEAR) {
        x.q = pg_rounded_at(mem, j.D);
        pg_round_row(x.q, 0, j.x.f, j.D);
        __syncthreads();
    }
    hidden_tile<F, 1, 2, U, MEET>(j, s, e, own, pair, 1, x, o);
}

/* R rows at a time. */
template <class F, int R, int MEET> __global__ __launch_bounds__(PG_GEMV_THREADS, 2) void hidden(const job j)
{
    __shared__ int pair[PG_MOE_FEW_ROWS];
    __shared__ strip<R> s;
    constexpr int O = outputs_of<F, R, MEET>::O > 2 ? 2 : 1;
    const crew c = find_crew(j, pair);
    for (int i = 0; i < c.n; i += R)
        hidden_tile<F, R, O, 1, MEET>(j, s, c.expert, false, pair + i, min(c.n - i, R), j.x, (int)blockIdx.x * STRIP);
}

/* Hidden values from the sums of gate and up, which stand in memory: where the two differ in format. A warp a strip. */
static __global__ void activate(const job j, const float *gate, const float *up)
{
    const int pair = (int)blockIdx.y, row = pair / j.most, o = (int)(blockIdx.x * STRIP + threadIdx.x);
    if (row >= pg_step_rows(j.step, j.all)) return;
    const int e = j.pick[row * 2 * j.most + pair % j.most];
    if (e < 0) return;
    const int64_t at = (int64_t)pair * j.F + o;
    put_hidden(j, e, false, pair, o, o < j.F ? gate[at] : 0.0f, o < j.F ? up[at] : 0.0f);
}

/* ---- outputs ----------------------------------------------------------------------------------------------------- */

typedef float team_sums[PG_GEMV_WARPS][32];

/* O outputs from o0 on of rows pair[0 .. n - 1] of expert e: the sums, value v in lane v * 32 / (R * O) of the team's
 * first warp. */
template <class F, int R, int O, int U, int MEET>
__device__ __forceinline__ float sum_tile(const job &j, team_sums &s, int e, const int *pair, int n, int o0, int split)
{
    const pg_view w[1] = { pg_view_of(j.w, e) };
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, first = warp % split * 32 + lane;
    const int chunks = pg_chunks<F>(j.w.k), step = 32 * split;
    int at[R], row[O];
#pragma unroll
    for (int r = 0; r < R; r++) at[r] = pair[min(r, n - 1)] / (j.by_row ? j.most : 1) * j.w.k;
#pragma unroll
    for (int o = 0; o < O; o++) row[o] = min(o0 + o, j.w.n - 1);
    pg_ahead<F, O, U, MEET> now;
    now.load(w, row, first, step, chunks);
    float sum[R * O] = {};
    pg_dot_rows<F, R, O, U, MEET>(sum, now, w, row, first, step, chunks, j.in, at);
    pg_warp_fold<R * O>(sum);
    if (split == 1) return sum[0];
    __syncthreads();
    s[warp][lane] = sum[0];
    __syncthreads();
    float total = sum[0];
    for (int i = 1; i < split && warp % split == 0; i++) total += s[warp + i][lane];
    return total;
}

/* The share of a pair in output o, given the sum. */
__device__ __forceinline__ float share_of(const job &j, int e, int pair, int o, float sum)
{
    const float weight = __int_as_float(j.pick[pair / j.most * 2 * j.most + j.most + pair % j.most]);
    return pg_mul(weight, pg_add(sum, j.bias ? j.bias[e * j.D + o] : 0.0f));
}

template <class F, int R, int O, int U, int MEET>
__device__ __forceinline__ void output_tile(const job &j, team_sums &s, int e, const int *pair, int n)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int o0 = ((int)blockIdx.x * (PG_GEMV_WARPS / j.split) + warp / j.split) * O;
    const float total = sum_tile<F, R, O, U, MEET>(j, s, e, pair, n, o0, j.split);
    const int v = lane * (R * O) / 32, r = v / O, o = o0 + v % O;
    if (warp % j.split || lane * (R * O) % 32 || r >= n || o >= j.w.n) return;
    j.to[(int64_t)pair[r] * j.w.n + o] = j.weighs ? share_of(j, e, pair[r], o, total) : total;
}

template <class F, int R, int MEET> __global__ __launch_bounds__(PG_GEMV_THREADS, 2) void output(const job j)
{
    __shared__ int pair[PG_MOE_FEW_ROWS];
    __shared__ team_sums s;
    const crew c = find_crew(j, pair);
    for (int i = 0; i < c.n; i += R)
        output_tile<F, R, outputs_of<F, R, MEET>::O, 1, MEET>(j, s, c.expert, pair + i, min(c.n - i, R));
}

/* Places of a row's choices in ascending order of experts; returns how many there are. All threads come here. */
__device__ __forceinline__ int sort_choices(const int32_t *pick, int most, int *order)
{
    __shared__ int used;
    if (threadIdx.x == 0) used = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < most; i += (int)blockDim.x) {
        if (pick[i] < 0) continue;
        int before = 0;
        for (int k = 0; k < most; k++) before += pick[k] >= 0 && pick[k] < pick[i];
        order[before] = i;
        atomicAdd(&used, 1);
    }
    __syncthreads();
    return used;
}

static __global__ void combine(const job j)
{
    PG_SHARED(int, order); /* [most] */
    const int r = (int)blockIdx.y, o = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (r >= pg_step_rows(j.step, j.all)) return;
    const int n = sort_choices(j.pick + r * 2 * j.most, j.most, order);
    if (o >= j.D) return;
    float sum = 0;
    for (int i = 0; i < n; i++) sum = pg_add(sum, j.to[(int64_t)(r * j.most + order[i]) * j.D + o]);
    j.y[(int64_t)r * j.D + o] = sum;
}

/* O outputs from o0 on of a single row's choice i, or of a part of what everybody goes through: the sums, value v in lane
 * v * 32 / O. */
template <class F, int O, int U, int MEET>
__device__ __forceinline__ float sum_one(const job &j, int e, int i, int o0, bool own)
{
    const pg_view w[1] = { own ? pg_view_of(j.own_down, 0) : pg_view_of(j.w, e) };
    const int lane = (int)threadIdx.x % 32, split = own ? j.own_split : 1, first = own ? i * 32 + lane : lane;
    const int chunks = pg_chunks<F>(w[0].k), step = 32 * split, at[1] = { own ? 0 : i * w[0].k };
    pg_in in = j.in;
    if (own) in.q = j.own_h8, in.f = j.own_h;
    int row[O];
#pragma unroll
    for (int o = 0; o < O; o++) row[o] = min(o0 + o, j.w.n - 1);
    pg_ahead<F, O, U, MEET> now;
    now.load(w, row, first, step, chunks);
    float sum[O] = {};
    pg_dot_rows<F, 1, O, U, MEET>(sum, now, w, row, first, step, chunks, in, at);
    pg_warp_fold<O>(sum);
    return sum[0];
}

/* A single row: warps have its choices and the parts of what everybody goes through, which come first, and all meet in the
 * block. Only where one warp has an output of a choice. */
template <class F, int U, int MEET> __global__ __launch_bounds__(PG_GEMV_THREADS, 2) void output_one(const job j)
{
    PG_SHARED(int, order); /* [most], then the shares: floats [most + own_split][O] */
    constexpr int O = outputs_of<F, 1, MEET>::O;
    float *const share = reinterpret_cast<float *>(order + j.most), *const own = share + j.most * O;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, o0 = (int)blockIdx.x * O, v = lane * O / 32;
    pg_let_next();
    pg_wait_before();
    if (pg_step_rows(j.step, j.all) < 1) return;
    for (int task = warp; task < j.own_split + j.most; task += PG_GEMV_WARPS) {
        const bool is_own = task < j.own_split;
        const int i = is_own ? task : task - j.own_split, e = is_own ? 0 : j.pick[i];
        if (e < 0) break;
        const float total = sum_one<F, O, U, MEET>(j, e, i, o0, is_own);
        if (lane * O % 32 == 0)
            (is_own ? own : share)[i * O + v] = is_own ? total : share_of(j, e, i, min(o0 + v, j.D - 1), total);
    }
    const int n = sort_choices(j.pick, j.most, order), o = (int)threadIdx.x;
    if (o >= O || o0 + o >= j.D) return;
    float sum = 0, all = 0;
    for (int i = 0; i < n; i++) sum = pg_add(sum, share[order[i] * O + o]);
    for (int i = 0; i < j.own_split; i++) all = i ? all + own[i * O + o] : own[o];
    if (j.own_split) sum = pg_add(sum, pg_mul(j.own_scale, all));
    j.y[o0 + o] = j.add ? pg_add(j.add[o0 + o], pg_mul(j.add_scale, sum)) : sum;
}

#endif
