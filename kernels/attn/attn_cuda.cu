/* attn_cuda.cu: the attention op on the device: which kernel, how rows are shared out, and the fold of what a row of
 * the decode class was cut into.
 *
 * Which kernel depends on the op, the cache and the device. How many runs a block takes depends on the bucket: enough
 * blocks to fill the device, and otherwise few, for each leaves its sums in scratch. Rows whose sums do not fit there
 * at once are launched in several waves. attn_cuda.cuh says why none of this shows in a result. */
#include "attn_cuda.cuh"

enum { FOLD_COLUMNS = 128 };
static const int64_t ROOM = 64ll << 20; /* scratch, unless even one row needs more */

/* Sums of the heads of a row over some of its positions. */
struct part {
    float top, sum, acc[FOLD_COLUMNS / 32];
};

/* x: the parts before; add the next one. */
static __device__ __forceinline__ void fold(part &x, const part &next)
{
    float keep, add;
    pg_attn_factors(x.top, next.top, keep, add);
    x.sum = pg_attn_fold(x.sum, keep, next.sum, add);
#pragma unroll
    for (int j = 0; j < FOLD_COLUMNS / 32; j++) x.acc[j] = pg_attn_fold(x.acc[j], keep, next.acc[j], add);
}

/* What a block has left in slot i of a row; columns from col on, 32 apart. Nothing where there is no such slot. */
static __device__ __forceinline__ part left_in(const pg_attn_args &a, int64_t row, int i, int n, int head, int col)
{
    part x = { -INFINITY, 0, { 0 } };
    if (i >= n) return x;
    const int64_t at = (row * a.slots + i) * a.heads + head;
    x.top = a.stat[at * 2];
    x.sum = a.stat[at * 2 + 1];
#pragma unroll
    for (int j = 0; j < FOLD_COLUMNS / 32; j++)
        if (col + 32 * j < a.dv) x.acc[j] = a.acc[at * a.dv + col + 32 * j];
    return x;
}

/* Block (columns, head, row): a warp brings the runs of a group together, then all threads the groups. */
static __global__ void __launch_bounds__(32 * PG_ATTN_GROUPS) fold_parts(const pg_attn_args a)
{
    __shared__ float top[PG_ATTN_GROUPS], sum[PG_ATTN_GROUPS], acc[PG_ATTN_GROUPS][FOLD_COLUMNS];
    pg_let_next();
    pg_wait_before();
    const int row = a.step->n_prefill + a.row0 + blockIdx.z, head = blockIdx.y, group = threadIdx.x / 32,
              lane = threadIdx.x % 32;
    if (row >= a.step->n) return;
    const int n = pg_attn_slots(a, pg_attn_cut(a, a.step->pos[row])), per_group = PG_ATTN_GROUP / a.per;
    const int n_group = (n + per_group - 1) / per_group;
    if (group < n_group) {
        part next[PG_ATTN_GROUP];
#pragma unroll
        for (int i = 0; i < PG_ATTN_GROUP; i++) /* all are asked for before the first is needed */
            next[i] = left_in(a, blockIdx.z, group * per_group + i, i < per_group ? n : 0, head,
                              blockIdx.x * FOLD_COLUMNS + lane);
        part x = { -INFINITY, 0, { 0 } };
#pragma unroll
        for (int i = 0; i < PG_ATTN_GROUP; i++)
            if (i < per_group && group * per_group + i < n) fold(x, next[i]);
        if (lane == 0) top[group] = x.top, sum[group] = x.sum;
#pragma unroll
        for (int j = 0; j < FOLD_COLUMNS / 32; j++) acc[group][32 * j + lane] = x.acc[j];
    }
    __syncthreads();
    const int col = blockIdx.x * FOLD_COLUMNS + threadIdx.x;
    if (threadIdx.x >= FOLD_COLUMNS || col >= a.dv) return;
    float most = a.sinks ? a.sinks[head] * PG_ATTN_LOG2E : -INFINITY, all = a.sinks ? 1 : 0, y = 0;
    for (int i = 0; i < n_group; i++) {
        float keep, add;
        pg_attn_factors(most, top[i], keep, add);
        all = pg_attn_fold(all, keep, sum[i], add);
        y = pg_attn_fold(y, keep, acc[i][threadIdx.x], add);
    }
    a.y[((int64_t)row * a.heads + head) * a.dv + col] = y / all;
}

/* ---- sharing out -------------------------------------------------------------------------------------------------- */

static int64_t slot_bytes(const pg_op *op) /* what a block leaves, all heads */
{
    return (int64_t)op->a.attn.heads * (op->a.attn.dv + 2) * (int64_t)sizeof(float);
}

static int64_t slots_of_room(const pg_code *code, const pg_op *op)
{
    const int64_t most = (int64_t)(PG_ATTN_RUNS + 1) * code->max_decode, n = ROOM / slot_bytes(op);
    return n > most ? most : n > PG_ATTN_GROUPS ? n : (int64_t)PG_ATTN_GROUPS;
}

int64_t pg_cuda_attn_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    (void)c;
    return slots_of_room(code, op) * slot_bytes(op);
}

/* Runs that a row may have at positions below `longest`. */
static int most_runs(const pg_op *op, int longest)
{
    const int window = op->a.attn.window, cut = window && window < longest;
    const int n = ((cut ? window : longest) + PG_ATTN_RUN - 1) / PG_ATTN_RUN;
    return (n < PG_ATTN_RUNS ? n : PG_ATTN_RUNS) + cut; /* a window begins anywhere */
}

/* 16-byte pieces that a kv head's slice of `width` columns may touch; q8_0 comes in whole blocks. */
static int chunks_of(pg_dtype dtype, int width)
{
    const int bytes = dtype != PG_Q8_0 ? width * 2 : width % 32 ? ((width + 30) / 32 + 1) * 34 : width / 32 * 34;
    return (bytes + 30) / 16;
}

static pg_attn_args arguments(const pg_cuda *c, const pg_op *op)
{
    const pg_kv_stream *ks = &c->kv.stream[op->a.attn.k_stream], *vs = &c->kv.stream[op->a.attn.v_stream];
    pg_attn_args a = {};
    a.step = c->step;
    a.q = pg_cuda_value(c, op->src[0]);
    a.y = pg_cuda_value(c, op->dst);
    a.sinks = pg_cuda_vector_of(c, op->v);
    a.cache = c->kv.base;
    a.page_bytes = c->kv.page_bytes;
    a.page_tokens = c->kv.page_tokens;
    a.k_at = ks->offset;
    a.v_at = vs->offset;
    a.k_row = ks->row_bytes;
    a.v_row = vs->row_bytes;
    a.heads = op->a.attn.heads;
    a.kv_heads = op->a.attn.kv_heads;
    a.dk = op->a.attn.dk;
    a.dv = op->a.attn.dv;
    a.window = op->a.attn.window;
    a.one = ks == vs && a.kv_heads == 1;
    const float cap = op->a.attn.softcap;
    a.scale = cap > 0 ? op->a.attn.scale / cap : op->a.attn.scale * PG_ATTN_LOG2E;
    a.softcap = cap > 0 ? cap * PG_ATTN_LOG2E : 0;
    a.dtype = c->kv.dtype;
    const int odd =
        a.dk % 8 || a.dv % 8 || a.k_row % 16 || a.v_row % 16 || a.page_bytes % 16 || a.k_at % 16 || a.v_at % 16;
    a.raw = a.dtype == PG_Q8_0 || odd;
    a.k_chunks = chunks_of(c->kv.dtype, a.dk);
    a.v_chunks = chunks_of(c->kv.dtype, a.dv);
    return a;
}

/* ---- the op ------------------------------------------------------------------------------------------------------- */

/* Rows of the decode class: a wave of them leaves sums in scratch, which are then folded. */
static void attend_decode(pg_cuda *c, const pg_op *op, pg_attn_args *a, int rows)
{
    const int runs = most_runs(op, c->now.longest), shared = a->heads / a->kv_heads;
    const int groups = (runs + PG_ATTN_GROUP - 1) / PG_ATTN_GROUP, items = a->kv_heads * ((shared + 31) / 32);
    const int64_t room = slots_of_room(c->code, op);
    a->per = (int64_t)rows * items * groups < 2 * c->n_sm && rows * (int64_t)runs <= room ? 1 : PG_ATTN_GROUP;
    a->slots = a->per == 1 ? runs : groups;
    a->stat = reinterpret_cast<float *>(c->scratch);
    a->acc = a->stat + room * a->heads * 2;
    const int wave = (int)(room / a->slots < rows ? room / a->slots : rows);
    const int exact = c->code->exact;
    for (a->row0 = 0; a->row0 < rows; a->row0 += wave) {
        const int n = rows - a->row0 < wave ? rows - a->row0 : wave;
        if (exact || pg_attn_mma_decode(c, a, n)) pg_attn_plain_decode(c, a, n);
        PG_LAUNCH_EARLY(c, fold_parts, dim3((a->dv + FOLD_COLUMNS - 1) / FOLD_COLUMNS, a->heads, n),
                        32 * PG_ATTN_GROUPS, 0, *a);
        pg_cuda_try(c, cudaGetLastError(), "folding attention");
    }
}

void pg_cuda_attn(pg_cuda *c, const pg_op *op)
{
    pg_attn_args a = arguments(c, op);
    if (c->rows_prefill && (c->code->exact || pg_attn_mma_prefill(c, &a, c->rows_prefill)))
        pg_attn_plain_prefill(c, &a, c->rows_prefill);
    int rows = c->rows - c->rows_prefill;
    if (rows > c->code->max_decode) rows = c->code->max_decode; /* a bucket may be wider than its steps can be */
    if (rows > 0) attend_decode(c, op, &a, rows);
}
