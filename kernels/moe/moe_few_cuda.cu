/* moe_few_cuda: EXPERTS for few rows: which kernels (moe_few.cuh), and their launches. Many rows: moe_many_cuda.cu. */
#include "../cuda/fuse.cuh"
#include "moe_few.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

typedef void kernel_fn(const job j);

/* Kernels of a format: for a single row (NULL: none), and the same with the shared expert beside the others; for some rows,
 * of which a block has `tile` at a time. Columns of a chunk; outputs a team has. */
typedef struct choice {
    kernel_fn *one, *one_own, *some;
    int chunk, one_outputs, outputs;
} choice;

/* How a pass meets its matrix: as 8-bit integers, or in f32, where everything is a multiple of 16 bytes or is not. */
enum { ROUNDED, EVEN, ODD };

template <class F, int R, int MEET> static choice some_of(bool is_output)
{
    kernel_fn *const some = is_output ? output<F, R, MEET> : hidden<F, R, MEET>;
    return { NULL, NULL, some, F::WIDTH * F::PIECES, outputs_of<F, 1, MEET>::O, outputs_of<F, R, MEET>::O };
}

/* near: how a block that rounds for itself meets its row; U: chunks it has under way. */
template <class F, int MEET, int NEAR, int U> static choice choice_of(int tile, bool is_output)
{
    constexpr int SLIM = F::PIECES == 1 ? U : 1; /* another network takes registers */
    choice k = tile == 2   ? some_of<F, 2, MEET>(is_output)
               : tile == 4 ? some_of<F, 4, MEET>(is_output)
                           : some_of < F,
           F::QUANT || F::WIDTH <= 8 ? 8 : 4, MEET > (is_output);
    k.one = is_output ? output_one<F, 1, MEET> : hidden_one<F, U, NEAR, false>;
    k.one_own = is_output ? k.one : hidden_one<F, SLIM, NEAR, true>;
    return k;
}

template <class F> static choice choose_of(int how, int tile, bool is_output)
{
    if constexpr (F::QUANT) {
        constexpr int U = sizeof(typename F::raw) > 32 ? 1 : 2;
        if (how == ROUNDED) return choice_of<F, PG_MEET_FAR, PG_MEET_NEAR, U>(tile, is_output);
    } else if (how == EVEN) {
        return choice_of<F, PG_MEET_EVEN, PG_MEET_EVEN, 1>(tile, is_output);
    }
    return some_of<F, 2, PG_MEET_ODD>(is_output);
}

static choice choose(pg_dtype type, int how, int tile, bool is_output)
{
    switch (type) {
#define F(name, type, has_min) \
    case type: return choose_of<pg_format<type>>(how, tile, is_output);
        PG_BLOCK_LIST(F)
        F(f32, PG_F32, 0)
        F(f16, PG_F16, 0)
        F(bf16, PG_BF16, 0)
        F(fp8, PG_FP8, 0)
#undef F
    default: return {};
    }
}

static int how_of(const pg_code *code, const pg_tensor *w)
{
    if (pg_dtype_is_quant(w->dtype) && !code->exact) return ROUNDED;
    return !pg_dtype_is_quant(w->dtype) && w->shape[0] % 4 == 0 && pg_stack_even(w->dtype, w->shape[0]) ? EVEN : ODD;
}

/* ---- scratch ----------------------------------------------------------------------------------------------------- */

typedef struct room {
    char *x, *h, *share, *sums[2]; /* rows rounded; hidden values; [pairs][D]; [pairs][F] of gate and of up */
    int64_t bytes;
} room;

static char *take(char *mem, int64_t *at, int64_t bytes)
{
    char *p = mem ? mem + *at : NULL;
    *at += pg_cuda_up(bytes);
    return p;
}

static int apart(const pg_experts *e) /* gate and up cannot be streamed side by side */
{
    return e->gate[0].dtype != e->up[0].dtype;
}

static room lay_out(char *mem, const pg_code *code, const pg_experts *e, int rows, int most)
{
    const int64_t pairs = (int64_t)rows * most, D = e->n_embd, F = e->n_ff;
    room m = {};
    if (how_of(code, &e->gate[0]) == ROUNDED || how_of(code, &e->up[0]) == ROUNDED)
        m.x = take(mem, &m.bytes, pg_rounded_bytes(rows * D));
    m.h = take(mem, &m.bytes, how_of(code, &e->down[0]) == ROUNDED ? pg_rounded_bytes(pairs * F) : pairs * F * 4);
    m.share = take(mem, &m.bytes, pairs * D * 4);
    for (int i = 0; i < 2 && apart(e); i++) m.sums[i] = take(mem, &m.bytes, pairs * F * 4);
    return m;
}

int64_t pg_cuda_experts_few_scratch(const pg_cuda *, const pg_code *code, const pg_op *op)
{
    const int rows = code->max_rows < PG_MOE_FEW_ROWS ? code->max_rows : PG_MOE_FEW_ROWS;
    return lay_out(NULL, code, op->a.experts.experts, rows, code->value[op->src[1]].width / 2).bytes;
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

/* Rows that a block has at a time: about as many as share an expert. More go in turns, whose weights then come out of
 * the second cache. */
static int tile_of(const pg_experts *e, int rows)
{
    const int64_t pairs = (int64_t)rows * e->n_used;
    return pairs <= e->n_expert ? 2 : pairs <= 3 * (int64_t)e->n_expert ? 4 : 8;
}

/* Blocks along y: one for each choice of a row, or one for each expert, whichever are fewer. */
static unsigned crews(const job *j, const pg_experts *e, int rows)
{
    return (unsigned)(j->by_choice ? rows * j->most : e->n_expert);
}

/* The output kernels over all pairs: sums or shares of j->w into j->to. */
static void multiply(pg_cuda *c, job *j, const pg_experts *e, const choice &k, int rows)
{
    j->split = pg_gemv_split((int64_t)j->w.n * e->n_used, (j->w.k + k.chunk - 1) / k.chunk);
    const int tile = PG_GEMV_WARPS / j->split * k.outputs;
    const dim3 grid((unsigned)((j->w.n + tile - 1) / tile), crews(j, e, rows));
    PG_LAUNCH(k.some, grid, PG_GEMV_THREADS, 0, c->stream, *j);
}

/* Rows are rounded by whoever meets them when there is one, else at once. */
static void round_rows(pg_cuda *c, job *j, char *mem, int rows)
{
    j->x.q = pg_rounded_at(mem, (int64_t)rows * j->D);
    pg_cuda_round(c, j->x.q, j->x.f, j->D, 0, rows, j->D, 1, j->all);
}

static void make_hidden(pg_cuda *c, job *j, const pg_experts *e, const room &m, int rows)
{
    const int how = how_of(c->code, &e->gate[0]), own = (int)pg_rounded_bytes(j->D);
    const unsigned strips = (unsigned)((j->F + STRIP - 1) / STRIP);
    const choice k = choose(pg_cuda_type_of(c, e->gate), how, tile_of(e, rows), false);
    j->split = pg_gemv_split(2 * (int64_t)j->F * e->n_used, (j->D + k.chunk - 1) / k.chunk);
    if (rows == 1 && k.one && own <= PG_SHARED_MOST) {
        PG_LAUNCH_EARLY(c, k.one, dim3(strips, (unsigned)j->most), PG_GEMV_THREADS, how == ROUNDED ? own : 0, *j);
        return;
    }
    if (how == ROUNDED) round_rows(c, j, m.x, rows);
    PG_LAUNCH(k.some, dim3(strips, crews(j, e, rows)), PG_GEMV_THREADS, 0, c->stream, *j);
}

/* Gate and up one after the other, in their own formats, then the activation. */
static void make_hidden_apart(pg_cuda *c, job *j, const pg_experts *e, const room &m, int rows)
{
    if (m.x) round_rows(c, j, m.x, rows);
    j->in = j->x;
    j->by_row = 1;
    for (int up = 0; up < 2; up++) {
        const pg_tensor *w = up ? &e->up[0] : &e->gate[0];
        j->w = up ? j->up : j->gate;
        j->to = reinterpret_cast<float *>(m.sums[up]);
        multiply(c, j, e, choose(pg_cuda_type_of(c, up ? e->up : e->gate), how_of(c->code, w), tile_of(e, rows), true),
                 rows);
    }
    PG_LAUNCH(activate, dim3((unsigned)((j->F + STRIP - 1) / STRIP), (unsigned)(rows * j->most)), STRIP, 0, c->stream,
              *j, reinterpret_cast<const float *>(m.sums[0]), reinterpret_cast<const float *>(m.sums[1]));
}

static void make_output(pg_cuda *c, job *j, const pg_experts *e, const room &m, int rows)
{
    const choice k = choose(pg_cuda_type_of(c, e->down), how_of(c->code, &e->down[0]), tile_of(e, rows), true);
    const int chunks = (j->F + k.chunk - 1) / k.chunk, order = j->most * (int)sizeof(int32_t);
    const int shares = order + j->most * k.one_outputs * (int)sizeof(float);
    j->w = pg_stack_of(pg_cuda_weight_of(c, e->down));
    j->in.q = j->h8;
    j->in.f = j->h;
    j->by_row = 0;
    j->weighs = 1;
    j->bias = pg_cuda_vector_of(c, e->down_bias);
    j->to = reinterpret_cast<float *>(m.share);
    if (rows == 1 && k.one && pg_gemv_split((int64_t)j->D * e->n_used, chunks) == 1 && shares <= PG_SHARED_MOST) {
        PG_LAUNCH_EARLY(c, k.one, (unsigned)((j->D + k.one_outputs - 1) / k.one_outputs), PG_GEMV_THREADS, shares, *j);
        return;
    }
    multiply(c, j, e, k, rows);
    PG_LAUNCH(combine, dim3((unsigned)((j->D + 255) / 256), (unsigned)rows), 256, order, c->stream, *j);
}

static job job_of(const pg_cuda *c, const pg_op *op, const room &m, int rows)
{
    const pg_experts *e = op->a.experts.experts;
    job j = {};
    j.all = pg_cuda_is_all(c, op->src[0]);
    j.step = c->step;
    j.D = e->n_embd;
    j.F = e->n_ff;
    j.most = pg_cuda_width(c, op->src[1]) / 2;
    j.glu = e->glu;
    j.limit = e->limit;
    j.gate = pg_stack_of(pg_cuda_weight_of(c, e->gate));
    j.up = pg_stack_of(pg_cuda_weight_of(c, e->up));
    j.gate_bias = pg_cuda_vector_of(c, e->gate_bias);
    j.up_bias = pg_cuda_vector_of(c, e->up_bias);
    j.x.f = pg_cuda_value(c, op->src[0]);
    j.pick = reinterpret_cast<const int32_t *>(pg_cuda_value(c, op->src[1]));
    j.y = pg_cuda_value(c, op->dst);
    j.rounds_h = how_of(c->code, &e->down[0]) == ROUNDED;
    j.h = reinterpret_cast<float *>(m.h);
    if (j.rounds_h) j.h8 = pg_rounded_at(m.h, (int64_t)rows * j.most * j.F);
    j.by_choice = rows * j.most <= e->n_expert;
    return j;
}

void pg_cuda_experts_few(pg_cuda *c, const pg_op *op)
{
    const pg_experts *e = op->a.experts.experts;
    const int rows = pg_cuda_rows(c, op->src[0]);
    if (rows == 0) return;
    const room m = lay_out(c->scratch, c->code, e, rows, pg_cuda_width(c, op->src[1]) / 2);
    job j = job_of(c, op, m, rows);
    apart(e) ? make_hidden_apart(c, &j, e, m, rows) : make_hidden(c, &j, e, m, rows);
    make_output(c, &j, e, m, rows);
    pg_cuda_try(c, cudaGetLastError(), "cannot run the experts of few rows");
}

/* ---- a single row, and what stands behind the op ------------------------------------------------------------------ */

/* The kernels of both passes; 0, or -1: they are not for this op. */
static int choose_one(const pg_cuda *c, const pg_experts *e, int most, choice *hidden, choice *output)
{
    if (apart(e) || pg_rounded_bytes(e->n_embd) > PG_SHARED_MOST) return -1;
    *hidden = choose(pg_cuda_type_of(c, e->gate), how_of(c->code, &e->gate[0]), 2, false);
    *output = choose(pg_cuda_type_of(c, e->down), how_of(c->code, &e->down[0]), 2, true);
    if (!hidden->one || !output->one) return -1;
    const int chunks = (e->n_ff + output->chunk - 1) / output->chunk;
    const int shares = (most + PG_GEMV_WARPS) * output->one_outputs + most;
    return pg_gemv_split((int64_t)e->n_embd * e->n_used, chunks) > 1 || shares * 4 > PG_SHARED_MOST ? -1 : 0;
}

static int same_form(const pg_cuda *c, const pg_tensor *a, const pg_tensor *b)
{
    return pg_cuda_type_of(c, a) == pg_cuda_type_of(c, b) && how_of(c->code, a) == how_of(c->code, b);
}

/* The shared expert joins as one more choice, if its matrices are of the kind that the experts' are, and are shared out
 * as MATMUL would. */
static int join_shared(const pg_cuda *c, job *j, const pg_experts *e, const pg_op *shared, const choice &hidden,
                       const choice &output, char *mem)
{
    const pg_op *gate = shared, *up = shared + 1, *glu = shared + 2, *down = shared + 3, *both = shared + 4;
    const int F = (int)gate->w->shape[1], chunks = (j->D + hidden.chunk - 1) / hidden.chunk;
    if (!same_form(c, gate->w, e->gate) || !same_form(c, up->w, e->up) || !same_form(c, down->w, e->down)) return -1;
    if (glu->a.glu.kind != e->glu || glu->a.glu.limit != e->limit) return -1;
    if (pg_gemv_split(2 * (int64_t)F, chunks) != j->split) return -1;
    j->own_gate = pg_stack_of(pg_cuda_weight_of(c, gate->w));
    j->own_up = pg_stack_of(pg_cuda_weight_of(c, up->w));
    j->own_down = pg_stack_of(pg_cuda_weight_of(c, down->w));
    j->own_h = reinterpret_cast<float *>(mem);
    if (j->rounds_h) j->own_h8 = pg_rounded_at(mem, F);
    j->own_split = pg_gemv_split(j->D, (F + output.chunk - 1) / output.chunk);
    j->own_scale = both->a.add.scale;
    j->y = pg_cuda_value(c, both->dst);
    return 0;
}

int pg_cuda_experts_one(pg_cuda *c, const pg_op *op, const pg_op *shared, const pg_op *add)
{
    const pg_experts *e = op->a.experts.experts;
    const int most = pg_cuda_width(c, op->src[1]) / 2;
    choice hidden, output;
    if (pg_cuda_rows(c, op->src[0]) != 1 || choose_one(c, e, most, &hidden, &output)) return -1;
    const room m = lay_out(c->scratch, c->code, e, 1, most);
    if (shared && m.bytes + 4 * shared->w->shape[1] > c->scratch_bytes) return -1;
    job j = job_of(c, op, m, 1);
    j.split = pg_gemv_split(2 * (int64_t)j.F * e->n_used, (j.D + hidden.chunk - 1) / hidden.chunk);
    j.w = pg_stack_of(pg_cuda_weight_of(c, e->down));
    j.in.q = j.h8;
    j.in.f = j.h;
    j.weighs = 1;
    j.bias = pg_cuda_vector_of(c, e->down_bias);
    if (shared && join_shared(c, &j, e, shared, hidden, output, c->scratch + m.bytes)) return -1;
    if (add) {
        j.add = pg_cuda_value(c, add->src[0]);
        j.add_scale = add->a.add.scale;
        j.y = pg_cuda_value(c, add->dst);
    }
    const int strips = (j.F + STRIP - 1) / STRIP, more = (j.own_gate.n + STRIP - 1) / STRIP;
    const int shares = (most + (most + j.own_split) * output.one_outputs) * 4;
    PG_LAUNCH_EARLY(c, shared ? hidden.one_own : hidden.one,
                    dim3((unsigned)strips, (unsigned)(most + (more + strips - 1) / strips)), PG_GEMV_THREADS,
                    how_of(c->code, &e->gate[0]) == ROUNDED ? (size_t)pg_rounded_bytes(j.D) : 0, j);
    PG_LAUNCH_EARLY(c, output.one, (unsigned)((j.D + output.one_outputs - 1) / output.one_outputs), PG_GEMV_THREADS,
                    (size_t)shares, j);
    pg_cuda_try(c, cudaGetLastError(), "cannot run the experts of one row");
    return 0;
}
