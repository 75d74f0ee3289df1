/* matmul_cuda: MATMUL for few rows. Matrices that read the same rows run as one launch.
 *
 * A block of eight warps makes the outputs of one tile: teams of `split` warps, O outputs a team. One or two rows are
 * rounded by every block for itself while its first weights are on their way, which is quicker than a launch of its
 * own; more are rounded once, into scratch, by a kernel before.
 * Not here: many rows (gemm_cuda.cu), the transposed form (turned_cuda.cu). */
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
    at.to.y[(int64_t)r * at.to.y_width + at.matrix * at.to.y_step + o] = pg_add(pg_mul(total, at.to.scale), bias);
}

/* PG_MEET_NEAR: the block rounds its rows itself, into shared memory. */
template <class F, int R, int O, int U, int MEET>
__global__ __launch_bounds__(PG_GEMV_THREADS, 2) void gemv(const job j)
{
    PG_SHARED(unsigned char, mem);
    const place at = place_of(j);
    const pg_view w[1] = { pg_view_of(at.to.w, at.matrix) };
    const int chunks = pg_chunks<F>(w[0].k), step = 32 * j.split, k = w[0].k;
    int row[O], lane, from[R];
    const int o0 = outputs_of<O>(j, at, row, &lane);
    pg_ahead<F, O, U, MEET> now;
    now.load(w, row, lane, step, chunks);

    const int n_row = pg_step_rows(j.step, j.all);
    if (at.group * R >= n_row) return;
    pg_in x = { j.act, j.x };
#pragma unroll
    for (int r = 0; r < R; r++) {
        if (MEET == PG_MEET_NEAR)
            from[r] = r * k;
        else if (MEET == PG_MEET_FAR)
            from[r] = ((at.matrix * j.groups + at.group) * R + r) * k;
        else
            from[r] = min(at.group * R + r, n_row - 1) * j.x_width + at.matrix * j.x_step;
    }
    if (MEET == PG_MEET_NEAR) {
        x.q = pg_rounded_at(mem, (int64_t)R * k);
        for (int r = 0; r < R; r++)
            pg_round_row(x.q, r * k, j.x + min(r, n_row - 1) * j.x_width + at.matrix * j.x_step, k);
        __syncthreads();
    }
    float sum[R * O] = {};
    pg_dot_rows<F, R, O, U, MEET>(sum, now, w, row, lane, step, chunks, x, from);
    finish<R, O>(j, at, sum, o0, n_row);
}

/* Rows [batch][rows], k columns of each; a thread has four. Rows that there are not stay as they were. */
static __global__ void round_rows(pg_rounded y, const float *x, int x_width, int x_step, int rows, int k,
                                  const pg_cuda_step *step, int all)
{
    const int r = (int)blockIdx.y, b = (int)blockIdx.z, i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
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
    PG_LAUNCH(round_rows, dim3((k / 4 + 255) / 256, rows, batch), 256, 0, c->stream, y, x, x_width, x_step, padded, k,
              c->step, all);
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

typedef void kernel_fn(const job j);

/* A kernel: the rows it has at a time, the outputs of a team, the columns of a chunk; whether it rounds for itself. */
typedef struct choice {
    kernel_fn *kernel;
    int rows, outputs, chunk, own;
} choice;

template <class F, int R, int O, int U, int MEET> static choice take(void)
{
    return { gemv<F, R, O, U, MEET>, R, O, F::WIDTH * F::PIECES, MEET == PG_MEET_NEAR };
}

/* More outputs a warp for more rows, whose activations are then read less often, and as many chunks under way as there
 * are registers for: fewer where a chunk is several loads, or its decoding takes many. */
template <class F> static choice choose8(int rows, bool own)
{
    constexpr bool fat = sizeof(typename F::raw) > 32, one = F::PIECES == 1;
    constexpr bool busy = F::TYPE == PG_Q5_1 || F::TYPE == PG_IQ4_NL || F::TYPE == PG_MXFP4 || F::TYPE == PG_Q4_1 ||
                          F::TYPE == PG_IQ4_XS || F::PIECES > 2 || fat;
    constexpr int U = fat ? 1 : 2, O4 = fat || F::PIECES > 2 || F::TYPE == PG_IQ4_XS ? 2 : 4, O8 = one ? 4 : 2,
                  U8 = one || busy ? 1 : 2;
    if (rows == 1) return own ? take<F, 1, 2, U, PG_MEET_NEAR>() : take<F, 1, 2, U, PG_MEET_FAR>();
    if (rows == 2) return own ? take<F, 2, 2, U, PG_MEET_NEAR>() : take<F, 2, 2, U, PG_MEET_FAR>();
    return rows <= 4 ? take<F, 4, O4, 1, PG_MEET_FAR>() : take<F, 8, O8, U8, PG_MEET_FAR>();
}

/* The exact form of quantised weights, and rows of odd lengths, are there to be right. */
template <class F> static choice choose_float(int rows, bool even)
{
    if constexpr (!F::QUANT) {
        constexpr int O = F::WIDTH > 8 ? 2 : 4, most = F::WIDTH > 8 ? 4 : 8;
        if (even && rows == 1) return take<F, 1, 2, 2, PG_MEET_EVEN>();
        if (even && rows == 2) return take<F, 2, 2, 2, PG_MEET_EVEN>();
        if (even) return rows <= 4 ? take<F, 4, O, 1, PG_MEET_EVEN>() : take<F, most, O, 1, PG_MEET_EVEN>();
    }
    return take<F, 4, 1, 1, PG_MEET_ODD>();
}

/* flag: blocks can round for themselves, or everything is 16-byte aligned. */
static choice choose(pg_dtype type, int rounded, int rows, bool flag)
{
    switch (type) {
#define F(name, type, has_min) \
    case type: return rounded ? choose8<pg_format<type>>(rows, flag) : choose_float<pg_format<type>>(rows, flag);
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: return choose_float<pg_format<PG_F32>>(rows, flag);
    case PG_F16: return choose_float<pg_format<PG_F16>>(rows, flag);
    case PG_BF16: return choose_float<pg_format<PG_BF16>>(rows, flag);
    case PG_FP8: return choose_float<pg_format<PG_FP8>>(rows, flag);
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

/* Ops that run with this one, itself included; 0: it runs with one before. */
static int group_at(const pg_code *code, const pg_op *op)
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

static void multiply(pg_cuda *c, const pg_op *op, int n_op)
{
    const int rows = pg_cuda_rows(c, op->src[0]), rounded = pg_cuda_rounds(c->code, op), k = (int)op->w->shape[0];
    const pg_dtype type = pg_cuda_type_of(c, op->w);
    job j = {};
    int64_t n = 0;
    for (int i = 0; i < n_op; i++) {
        j.to[i] = target_of(c, op + i);
        n += (int64_t)j.to[i].w.n * op->a.matmul.batch;
    }
    j.x = pg_cuda_value(c, op->src[0]);
    j.x_width = pg_cuda_width(c, op->src[0]);
    j.x_step = op->a.matmul.x_step;
    j.batch = op->a.matmul.batch;
    j.step = c->step;
    j.all = pg_cuda_is_all(c, op->src[0]);
    const bool x_even = j.x_width % 4 == 0 && j.x_step % 4 == 0;
    const int64_t own_bytes = pg_rounded_bytes((int64_t)(rows < 2 ? 1 : 2) * k);
    const choice best =
        choose(type, rounded, rows, rounded ? own_bytes <= PG_SHARED_MOST : x_even && pg_stack_even(type, k));
    j.groups = (rows + best.rows - 1) / best.rows;
    j.split = pg_gemv_split(n, (k + best.chunk - 1) / best.chunk);
    const int outputs = PG_GEMV_WARPS / j.split * best.outputs;
    int tiles = 0;
    for (int i = 0; i < GROUP; i++) {
        if (i < n_op) tiles += (j.to[i].w.n + outputs - 1) / outputs;
        j.to[i].end = tiles;
    }
    if (rounded && !best.own) {
        const int padded = j.groups * best.rows;
        j.act = pg_rounded_at(c->scratch, (int64_t)j.batch * padded * k);
        pg_cuda_round(c, j.act, j.x, j.x_width, j.x_step, padded, k, j.batch, j.all);
    }
    PG_LAUNCH(best.kernel, dim3(tiles * j.groups, j.batch), PG_GEMV_THREADS, best.own ? own_bytes : 0, c->stream, j);
    pg_cuda_try(c, cudaGetLastError(), "cannot multiply few rows");
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
        const int n = group_at(c->code, op);
        if (n) multiply(c, op, n);
    }
}

int64_t pg_cuda_matmul_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    const int64_t few =
        pg_cuda_rounds(code, op) ? pg_cuda_rounded_room(PG_FEW_ROWS, op->w->shape[0]) * op->a.matmul.batch : 0;
    const int64_t many = pg_cuda_gemm_scratch(c, code, op);
    return few > many ? few : many;
}
