/* matmul_cuda: MATMUL for few rows. Matrices that read the same rows run as one launch.
 *
 * A block of eight warps makes the outputs of one tile: teams of `split` warps, O outputs a team. One or two rows are
 * rounded by every block for itself while its first weights are on their way, which is quicker than a launch of its
 * own; more are rounded once, into scratch, by a kernel before. For the same reason every block norms a single row for
 * itself when a NORM stands before the product, and an ADD behind it is done where the outputs are made.
 * Not here: many rows (gemm_cuda.cu), the transposed form (turned_cuda.cu). */
#include "../cuda/fuse.cuh"
#include "../norm/norm.cuh"
#include "../route/tail.cuh"
#include "gemm_cuda.cuh"
#include "matmul_cuda.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

enum { GROUP = 4 };

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

/* One matrix, or one stack of them, of a launch. */
typedef struct target {
    pg_stack w;
    float *y;
    const float *bias;
    int32_t y_width, y_step;
    float scale;
    int32_t end; /* tiles of this one and of those before */
} target;

typedef struct job {
    target to[GROUP];
    const float *x;
    const pg_cuda_step *step;
    int32_t all, x_width, x_step, batch;
    int32_t split, groups; /* warps an output; groups of R rows */
    pg_rounded act;        /* [batch][groups * R][k], unless blocks round for themselves */
    /* of a single row: the NORM before, which leaves its row in `normed`; y = add + add_scale * product, add NULL: none */
    const float *norm, *add;
    float *normed;
    float eps, add_scale;
    pg_route_tail route;
} job;

/* What a block is to do. */
typedef struct place {
    target to;
    int tile, group, matrix;
} place;

__device__ __forceinline__ place place_of(const job &j)
{
    place at;
    int tile = (int)blockIdx.x / j.groups, from = 0;
    at.group = (int)blockIdx.x % j.groups;
    at.matrix = (int)blockIdx.y;
    at.to = j.to[0];
#pragma unroll
    for (int i = 1; i < GROUP; i++)
        if (tile >= j.to[i - 1].end) at.to = j.to[i], from = j.to[i - 1].end;
    at.tile = tile - from;
    return at;
}

/* The share of this warp in the team's outputs: rows of the matrix, kept inside it, and the first of its chunks. */
template <int O> __device__ __forceinline__ int outputs_of(const job &j, const place &at, int (&row)[O], int *lane)
{
    const int warp = (int)threadIdx.x / 32, team = warp / j.split;
    const int o0 = (at.tile * (PG_GEMV_WARPS / j.split) + team) * O;
#pragma unroll
    for (int o = 0; o < O; o++) row[o] = min(o0 + o, at.to.w.n - 1);
    *lane = warp % j.split * 32 + (int)threadIdx.x % 32;
    return o0;
}

/* Sums of the lanes, then of the team's warps in order; and out. */
template <int R, int O>
__device__ __forceinline__ void finish(const job &j, const place &at, float (&sum)[R * O], int o0, int n_row)
{
    __shared__ float part_sum[PG_GEMV_WARPS][R * O];
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    pg_warp_fold<R * O>(sum);
    float total = sum[0];
    const int v = lane * (R * O) / 32, mine = lane * (R * O) % 32 == 0;
    if (j.split > 1) {
        if (mine) part_sum[warp][v] = total;
        __syncthreads();
        if (warp % j.split) return;
        for (int i = 1; i < j.split; i++) total += part_sum[warp + i][v];
    }
    const int r = at.group * R + v / O, o = o0 + v % O;
    if (!mine || r >= n_row || o >= at.to.w.n) return;
    const float bias = at.to.bias ? at.to.bias[at.matrix * at.to.w.n + o] : 0.0f;
    float y = pg_add(pg_mul(total, at.to.scale), bias);
    if (R == 1 && j.add) y = pg_add(j.add[o], pg_mul(j.add_scale, y));
    at.to.y[(int64_t)r * at.to.y_width + at.matrix * at.to.y_step + o] = y;
}

/* The row of the op, normed, into shared memory: rounded, or as it is. */
template <int MEET> __device__ __forceinline__ void norm_row(const job &j, pg_in &x, unsigned char *mem, int k)
{
    __shared__ float part[PG_NORM_MOST / 32];
    const float by = pg_norm_of_block<4, PG_GEMV_WARPS>(j.x, k, j.eps, part);
    float *const row = reinterpret_cast<float *>(mem);
    for (int i = (int)threadIdx.x; i / 32 * 32 < k / 4; i += PG_GEMV_THREADS) {
        const bool want = i < k / 4;
        pg_floats<4> v = {};
        if (want) v = pg_norm_take<4>(j.x + 4 * i, j.norm ? j.norm + 4 * i : nullptr, by);
        if (want && blockIdx.x == 0 && blockIdx.y == 0) pg_floats_put<4>(j.normed + 4 * i, v);
        if constexpr (MEET == PG_MEET_NEAR)
            pg_round4(x.q, 4 * i, make_float4(v.x[0], v.x[1], v.x[2], v.x[3]), want);
        else if (want)
            pg_floats_put<4>(row + 4 * i, v);
    }
    if (MEET == PG_MEET_EVEN) x.f = row;
}

/* PG_MEET_NEAR: the block rounds its rows itself, into shared memory. NORM: it norms its row, R = 1. */
template <class F, int R, int O, int U, int MEET, bool NORM>
__global__ __launch_bounds__(PG_GEMV_THREADS, 2) void gemv(const job j)
{
    PG_SHARED(unsigned char, mem);
    const place at = place_of(j);
    const pg_view w[1] = { pg_view_of(at.to.w, at.matrix) };
    const int chunks = pg_chunks<F>(w[0].k), step = 32 * j.split, k = w[0].k;
    int row[O], lane, from[R];
    const int o0 = outputs_of<O>(j, at, row, &lane);
    pg_ahead<F, O, U, MEET> now;
    pg_let_next();
    now.load(w, row, lane, step, chunks);

    pg_wait_before();
    const int n_row = pg_step_rows(j.step, j.all);
    if (at.group * R >= n_row) return;
    pg_in x = { j.act, j.x };
#pragma unroll
    for (int r = 0; r < R; r++) {
        if (MEET == PG_MEET_NEAR || NORM)
            from[r] = r * k;
        else if (MEET == PG_MEET_FAR)
            from[r] = ((at.matrix * j.groups + at.group) * R + r) * k;
        else
            from[r] = min(at.group * R + r, n_row - 1) * j.x_width + at.matrix * j.x_step;
    }
    if (MEET == PG_MEET_NEAR) {
        x.q = pg_rounded_at(mem, (int64_t)R * k);
        for (int r = 0; r < R && !NORM; r++)
            pg_round_row(x.q, r * k, j.x + min(r, n_row - 1) * j.x_width + at.matrix * j.x_step, k);
    }
    if constexpr (NORM) norm_row<MEET>(j, x, mem, k);
    if (MEET == PG_MEET_NEAR || NORM) __syncthreads();
    float sum[R * O] = {};
    pg_dot_rows<F, R, O, U, MEET>(sum, now, w, row, lane, step, chunks, x, from);
    finish<R, O>(j, at, sum, o0, n_row);
    if constexpr (NORM && MEET == PG_MEET_EVEN)
        if (j.route.r.n_expert) pg_route_by_last(j.route, at.to.y, reinterpret_cast<float *>(mem));
}

/* Rows [batch][rows], k columns of each; a thread has four. Rows that there are not stay as they were. */
static __global__ void round_rows(pg_rounded y, const float *x, int x_width, int x_step, int rows, int k,
                                  const pg_cuda_step *step, int all)
{
    const int r = (int)blockIdx.y, b = (int)blockIdx.z, i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    pg_let_next();
    pg_wait_before();
    if (r >= pg_step_rows(step, all)) return;
    const float *from = x + (int64_t)r * x_width + (int64_t)b * x_step;
    const bool want = 4 * i < k, even = (reinterpret_cast<uintptr_t>(from) & 15) == 0;
    pg_round4(y, ((int64_t)b * rows + r) * k + 4 * i, want ? pg_four(from + 4 * i, even) : make_float4(0, 0, 0, 0),
              want);
}

void pg_cuda_round(pg_cuda *c, const pg_rounded &y, const float *x, int x_width, int x_step, int padded, int k,
                   int batch, int all)
{
    const int rows = all ? c->rows : c->sampled;
    PG_LAUNCH_EARLY(c, round_rows, dim3((k / 4 + 255) / 256, rows, batch), 256, 0, y, x, x_width, x_step, padded, k,
                    c->step, all);
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

typedef void kernel_fn(const job j);

/* A kernel: the rows it has at a time, the outputs of a team, the columns of a chunk; whether it rounds for itself. */
typedef struct choice {
    kernel_fn *kernel;
    int rows, outputs, chunk, own;
} choice;

template <class F, int R, int O, int U, int MEET, bool NORM = false> static choice take(void)
{
    return { gemv<F, R, O, U, MEET, NORM>, R, O, F::WIDTH * F::PIECES, MEET == PG_MEET_NEAR };
}

/* More outputs a warp for more rows, whose activations are then read less often, and as many chunks under way as there
 * are registers for: fewer where a chunk is several loads, or its decoding takes many. */
template <class F> static choice choose8(int rows, bool own, bool norm)
{
    constexpr bool fat = sizeof(typename F::raw) > 32, one = F::PIECES == 1;
    constexpr bool busy = F::TYPE == PG_Q5_1 || F::TYPE == PG_IQ4_NL || F::TYPE == PG_MXFP4 || F::TYPE == PG_Q4_1 ||
                          F::TYPE == PG_IQ4_XS || F::PIECES > 2 || fat;
    constexpr int U = fat ? 1 : 2, O4 = fat || F::PIECES > 2 || F::TYPE == PG_IQ4_XS ? 2 : 4, O8 = one ? 4 : 2,
                  U8 = one || busy ? 1 : 2;
    if (norm) return take<F, 1, 2, U, PG_MEET_NEAR, true>();
    if (rows == 1) return own ? take<F, 1, 2, U, PG_MEET_NEAR>() : take<F, 1, 2, U, PG_MEET_FAR>();
    if (rows == 2) return own ? take<F, 2, 2, U, PG_MEET_NEAR>() : take<F, 2, 2, U, PG_MEET_FAR>();
    return rows <= 4 ? take<F, 4, O4, 1, PG_MEET_FAR>() : take<F, 8, O8, U8, PG_MEET_FAR>();
}

/* The exact form of quantised weights, and rows of odd lengths, are there to be right. */
template <class F> static choice choose_float(int rows, bool even, bool norm)
{
    if constexpr (!F::QUANT) {
        constexpr int O = F::WIDTH > 8 ? 2 : 4, most = F::WIDTH > 8 ? 4 : 8;
        if (norm) return take<F, 1, 2, 2, PG_MEET_EVEN, true>();
        if (even && rows == 1) return take<F, 1, 2, 2, PG_MEET_EVEN>();
        if (even && rows == 2) return take<F, 2, 2, 2, PG_MEET_EVEN>();
        if (even) return rows <= 4 ? take<F, 4, O, 1, PG_MEET_EVEN>() : take<F, most, O, 1, PG_MEET_EVEN>();
    }
    return take<F, 4, 1, 1, PG_MEET_ODD>();
}

/* flag: blocks can round for themselves, or everything is 16-byte aligned. norm: they norm their row too, which takes
 * the flag. */
static choice choose(pg_dtype type, int rounded, int rows, bool flag, bool norm)
{
    switch (type) {
#define F(name, type, has_min) \
    case type:                 \
        return rounded ? choose8<pg_format<type>>(rows, flag, norm) : choose_float<pg_format<type>>(rows, flag, norm);
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: return choose_float<pg_format<PG_F32>>(rows, flag, norm);
    case PG_F16: return choose_float<pg_format<PG_F16>>(rows, flag, norm);
    case PG_BF16: return choose_float<pg_format<PG_BF16>>(rows, flag, norm);
    case PG_FP8: return choose_float<pg_format<PG_FP8>>(rows, flag, norm);
    default: return {};
    }
}

int pg_cuda_rounds(const pg_code *code, const pg_op *op)
{
    return pg_dtype_is_quant(op->w->dtype) && !code->exact && !op->a.matmul.exact && !op->a.matmul.transposed;
}

/* Whether op runs in one launch with the one before it: the same rows, none of which either writes. */
static int joins(const pg_code *code, const pg_op *op)
{
    const pg_op *before = op - 1;
    if (op == code->op || before->code != PG_OP_MATMUL || op->code != PG_OP_MATMUL) return 0;
    return before->src[0] == op->src[0] && before->dst != op->src[0] && op->dst != op->src[0] &&
           before->w->dtype == op->w->dtype && op->w->dtype != PG_FP8 && before->a.matmul.batch == 1 &&
           op->a.matmul.batch == 1 && !before->a.matmul.transposed && !op->a.matmul.transposed &&
           pg_cuda_rounds(code, before) == pg_cuda_rounds(code, op);
}

int pg_cuda_group(const pg_code *code, const pg_op *op)
{
    int before = 0, n = 1;
    while (joins(code, op - before)) before++;
    if (before % GROUP) return 0;
    while (n < GROUP && op + n < code->op + code->n_op && joins(code, op + n)) n++;
    return n;
}

static target target_of(const pg_cuda *c, const pg_op *op)
{
    target p = {};
    p.w = pg_stack_of(pg_cuda_weight_of(c, op->w));
    p.y = pg_cuda_value(c, op->dst);
    p.bias = pg_cuda_vector_of(c, op->v);
    p.y_width = pg_cuda_width(c, op->dst);
    p.y_step = op->a.matmul.y_step;
    p.scale = op->a.matmul.scale;
    return p;
}

static job job_of(const pg_cuda *c, const pg_op *op, int n_op)
{
    job j = {};
    for (int i = 0; i < n_op; i++) j.to[i] = target_of(c, op + i);
    j.x = pg_cuda_value(c, op->src[0]);
    j.x_width = pg_cuda_width(c, op->src[0]);
    j.x_step = op->a.matmul.x_step;
    j.batch = op->a.matmul.batch;
    j.step = c->step;
    j.all = pg_cuda_is_all(c, op->src[0]);
    return j;
}

/* shared: bytes of it that a block takes. */
static void multiply(pg_cuda *c, job *j, int n_op, const choice &best, int rows, size_t shared)
{
    const int k = j->to[0].w.k;
    int64_t n = 0;
    for (int i = 0; i < n_op; i++) n += (int64_t)j->to[i].w.n * j->batch;
    j->groups = (rows + best.rows - 1) / best.rows;
    j->split = pg_gemv_split(n, (k + best.chunk - 1) / best.chunk);
    const int outputs = PG_GEMV_WARPS / j->split * best.outputs;
    int tiles = 0;
    for (int i = 0; i < GROUP; i++) {
        if (i < n_op) tiles += (j->to[i].w.n + outputs - 1) / outputs;
        j->to[i].end = tiles;
    }
    PG_LAUNCH_EARLY(c, best.kernel, dim3(tiles * j->groups, j->batch), PG_GEMV_THREADS, shared, *j);
    pg_cuda_try(c, cudaGetLastError(), "cannot multiply few rows");
}

static void multiply_few(pg_cuda *c, const pg_op *op, int n_op)
{
    const int rows = pg_cuda_rows(c, op->src[0]), rounded = pg_cuda_rounds(c->code, op), k = (int)op->w->shape[0];
    const pg_dtype type = pg_cuda_type_of(c, op->w);
    job j = job_of(c, op, n_op);
    const bool x_even = j.x_width % 4 == 0 && j.x_step % 4 == 0;
    const int64_t own_bytes = pg_rounded_bytes((int64_t)(rows < 2 ? 1 : 2) * k);
    const choice best =
        choose(type, rounded, rows, rounded ? own_bytes <= PG_SHARED_MOST : x_even && pg_stack_even(type, k), false);
    if (rounded && !best.own) {
        const int padded = (rows + best.rows - 1) / best.rows * best.rows;
        j.act = pg_rounded_at(c->scratch, (int64_t)j.batch * padded * k);
        pg_cuda_round(c, j.act, j.x, j.x_width, j.x_step, padded, k, j.batch, j.all);
    }
    multiply(c, &j, n_op, best, rows, best.own ? (size_t)own_bytes : 0);
}

/* ROUTE behind the op. 0, or -1: not here. */
static int add_route(const pg_cuda *c, job *j, const pg_op *route, int64_t bytes)
{
    const pg_router *r = route->a.route.router;
    if (pg_cuda_is_steered(c) || !c->count) return -1;
    j->route.r = *r;
    j->route.r.bias = pg_cuda_vector_of(c, r->bias);
    j->route.pick = reinterpret_cast<int32_t *>(pg_cuda_value(c, route->dst));
    j->route.words = pg_choice_words(r, 0);
    j->route.count = c->count;
    return (j->route.words + r->n_expert) * 4 > bytes ? -1 : 0;
}

int pg_cuda_multiply_one(pg_cuda *c, const pg_op *norm, const pg_op *op, const pg_op *then)
{
    const pg_op *add = then && then->code == PG_OP_ADD ? then : NULL;
    const int rounded = pg_cuda_rounds(c->code, op), k = (int)op->w->shape[0], n_op = pg_cuda_group(c->code, op);
    const pg_dtype type = pg_cuda_type_of(c, op->w);
    const int64_t bytes = rounded ? pg_rounded_bytes(k) : norm ? 4 * (int64_t)k : 0;
    if (pg_cuda_rows(c, op->src[0]) != 1 || !n_op || (then && n_op > 1) || bytes > PG_SHARED_MOST) return -1;
    if (!rounded && (pg_dtype_is_quant(type) || !pg_stack_even(type, k) || k % 4)) return -1;
    job j = job_of(c, op, n_op);
    if (norm) {
        j.x = pg_cuda_value(c, norm->src[0]);
        j.norm = pg_cuda_vector_of(c, norm->v);
        j.normed = pg_cuda_value(c, norm->dst);
        j.eps = norm->a.norm.eps;
        if (!pg_norm_by_four(k, j.x_width, 0, j.norm)) return -1;
    }
    if (add) {
        j.add = pg_cuda_value(c, add->src[0]);
        j.add_scale = add->a.add.scale;
        j.to[0].y = pg_cuda_value(c, add->dst);
    }
    if (then && !add && (rounded || !norm || add_route(c, &j, then, bytes))) return -1;
    multiply(c, &j, n_op, choose(type, rounded, 1, true, norm != NULL), 1, (size_t)bytes);
    return 0;
}

void pg_cuda_matmul(pg_cuda *c, const pg_op *op)
{
    const int rows = pg_cuda_rows(c, op->src[0]);
    if (rows == 0) return;
    if (rows > PG_FEW_ROWS) {
        pg_cuda_gemm(c, op);
    } else if (op->a.matmul.transposed) {
        pg_cuda_turned(c, op);
    } else {
        const int n = pg_cuda_group(c->code, op);
        if (n) multiply_few(c, op, n);
    }
}

int64_t pg_cuda_matmul_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    const int64_t few =
        pg_cuda_rounds(code, op) ? pg_cuda_rounded_room(PG_FEW_ROWS, op->w->shape[0]) * op->a.matmul.batch : 0;
    const int64_t many = pg_cuda_gemm_scratch(c, code, op);
    return few > many ? few : many;
}
