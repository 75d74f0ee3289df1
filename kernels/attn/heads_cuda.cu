/* heads_cuda.cu: what happens to the heads of a decode row between the products that make them and attention, as one launch:
 * NORM, CLAMP, ROPE, STORE and MLA's COPY, each with the bits of its own op. One by one these are up to six launches of
 * a few kilobytes.
 *
 * Queries, keys and values are parts; a warp takes a head of a part (where nothing is done by heads: some columns), holds
 * it in shared memory, and does in order what the ops say. Prompts run the ops themselves, which are bound by memory
 * there. */
#include "../cuda/fuse.cuh"
#include "../norm/norm.cuh"
#include "../rope/rope.cuh"
#include "store.cuh"

enum { PARTS = 3, WARPS = 4, WIDEST = 1024, PIECE = 128 }; /* columns of a head at most; of a piece of a part without */

typedef struct part {
    float *x;                      /* [T, x_step], in place */
    int x_step, heads, width, end; /* end: heads of this part and of those before */
    int norm_n;                    /* 0: no NORM, of the first so many columns of a head */
    const float *norm;
    float eps, limit; /* limit 0: no CLAMP */
    const float *angles;
    int angle_step, col, half, halves; /* half 0: no ROPE, from column col of a head on */
    int dtype;                         /* PG_DTYPE_NONE: no STORE */
    pg_kv_rows to;
    float *copy; /* NULL: no COPY, of n columns from src_col of a head on */
    int copy_step, n, src_col, dst_col, dst_step;
} part;

typedef struct job {
    const pg_cuda_step *step;
    part p[PARTS];
    int heads; /* of all parts */
} job;

__device__ __forceinline__ void norm_head(const part &p, float *x, int lane)
{
    const float by = pg_norm_by(pg_warp_sum(pg_norm_squares<4>(x, p.norm_n, lane, 32)), p.norm_n, p.eps);
    __syncwarp();
    pg_norm_scale<4>(x, x, p.norm, p.norm_n, by, lane, 32);
    __syncwarp();
}

__device__ __forceinline__ void rope_head(const part &p, float *x, int row, int lane)
{
    const float *angle = p.angles + (int64_t)row * p.angle_step;
    for (int i = lane; i < p.half; i += 32) {
        float *a = x + p.col + (p.halves ? i : 2 * i), *b = p.halves ? a + p.half : a + 1;
        pg_rotate(*a, *b, angle[i], angle[p.half + i]);
    }
    __syncwarp();
}

/* Column 0 of the head is column `at` of the row in the cache. */
__device__ __forceinline__ void store_head(const job &j, const part &p, const float *x, int row, int at, int lane)
{
    char *to = pg_kv_row(p.to, j.step, row);
    for (int i = 4 * lane; i / 128 * 128 < p.width; i += 128) {
        const bool here = i < p.width;
        pg_floats<4> v = {};
        if (here) v = pg_floats_at<4>(x + i);
        if (p.dtype == PG_Q8_0)
            pg_kv_put_q8_0(to, at + i, v.x, here);
        else if (here && p.dtype == PG_F16)
            pg_kv_put<pg_kv_f16, 4>(to, at + i, v);
        else if (here && p.dtype == PG_BF16)
            pg_kv_put<pg_kv_bf16, 4>(to, at + i, v);
        else if (here)
            pg_kv_put<pg_kv_f32, 4>(to, at + i, v);
    }
}

__device__ __forceinline__ void do_head(const job &j, const part &p, float *x, int row, int head, int lane)
{
    float *from = p.x + (int64_t)row * p.x_step + head * p.width;
    for (int i = 4 * lane; i < p.width; i += 128) pg_floats_put<4>(x + i, pg_floats_at<4>(from + i));
    __syncwarp();
    if (p.norm_n) norm_head(p, x, lane);
    for (int i = lane; i < p.width && p.limit > 0; i += 32)
        x[i] = x[i] > p.limit ? p.limit : x[i] < -p.limit ? -p.limit : x[i]; /* NaN stays */
    __syncwarp();
    if (p.half) rope_head(p, x, row, lane);
    for (int i = 4 * lane; i < p.width; i += 128) pg_floats_put<4>(from + i, pg_floats_at<4>(x + i));
    if (p.dtype != PG_DTYPE_NONE) store_head(j, p, x, row, head * p.width, lane);
    if (!p.copy) return;
    float *to = p.copy + (int64_t)row * p.copy_step + head * p.dst_step + p.dst_col;
    for (int i = lane; i < p.n; i += 32) to[i] = x[p.src_col + i];
}

static __global__ void __launch_bounds__(32 * WARPS) heads(const job j)
{
    __shared__ __align__(16) float room[WARPS][WIDEST];
    const int warp = (int)threadIdx.x / 32, row = (int)blockIdx.y;
    int head = (int)blockIdx.x * WARPS + warp;
    pg_let_next();
    pg_wait_before();
    if (head >= j.heads || row >= j.step->n) return;
    const int which = (head >= j.p[0].end) + (head >= j.p[1].end);
    if (which) head -= which == 1 ? j.p[0].end : j.p[1].end;
    const int lane = (int)threadIdx.x % 32;
    if (which == 0) do_head(j, j.p[0], room[warp], row, head, lane); /* a run-time index would copy the parts */
    if (which == 1) do_head(j, j.p[1], room[warp], row, head, lane);
    if (which == 2) do_head(j, j.p[2], room[warp], row, head, lane);
}

/* ---- from ops to parts --------------------------------------------------------------------------------------------- */

/* What has been said of a part: later ops come later in do_head, too. */
enum { AT_NORM = 1, AT_CLAMP, AT_ROPE, AT_STORE, AT_COPY };
typedef struct plan {
    pg_ref value[PARTS];
    int said[PARTS], n;
} plan;

static int part_of(plan *s, pg_ref value)
{
    int i = 0;
    while (i < s->n && s->value[i] != value) i++;
    if (i == PARTS) return -1;
    s->value[i] = value;
    if (i == s->n) s->n++;
    return i;
}

/* A part is cut into `heads` heads by everything that cuts it. 0, or -1. */
static int cut(part *p, int heads)
{
    if (p->heads && p->heads != heads) return -1;
    p->heads = heads;
    return 0;
}

static int add_norm(const pg_cuda *c, const pg_op *op, part *p)
{
    p->norm = pg_cuda_vector_of(c, op->v);
    p->norm_n = op->a.norm.n;
    p->eps = op->a.norm.eps;
    if (op->a.norm.count > 1 && op->a.norm.n * op->a.norm.count != p->x_step) return -1;
    return p->norm_n > PG_NORM_SHORT || !pg_norm_by_four(p->norm_n, p->x_step, p->x_step, p->norm)
               ? -1
               : cut(p, op->a.norm.count);
}

static int add_rope(const pg_cuda *c, const pg_op *op, part *p)
{
    const int heads = op->a.rope.heads;
    p->angles = pg_cuda_value(c, op->src[1]);
    p->angle_step = pg_cuda_width(c, op->src[1]);
    p->col = op->a.rope.col;
    p->half = op->a.rope.n / 2;
    p->halves = op->a.rope.layout == PG_ROPE_HALVES;
    return heads > 1 && op->a.rope.step * heads != p->x_step ? -1 : cut(p, heads);
}

static int add_store(const pg_cuda *c, const pg_op *op, part *p)
{
    const int word = c->kv.dtype == PG_F32 ? 4 : 2;
    p->dtype = c->kv.dtype;
    p->to = pg_kv_rows_of(&c->kv, op->a.store.stream);
    if (op->a.store.n != p->x_step) return -1;
    return p->dtype == PG_Q8_0 || pg_kv_by_four(p->to, p->x_step, p->x_step, word) ? 0 : -1;
}

static int add_copy(const pg_cuda *c, const pg_op *op, part *p)
{
    p->copy = pg_cuda_value(c, op->dst);
    p->copy_step = pg_cuda_width(c, op->dst);
    p->n = op->a.copy.n;
    p->src_col = op->a.copy.src_col;
    p->dst_col = op->a.copy.dst_col;
    p->dst_step = op->a.copy.dst_step;
    return op->a.copy.src_step * op->a.copy.heads != p->x_step ? -1 : cut(p, op->a.copy.heads);
}

static int add(const pg_cuda *c, const pg_op *op, plan *s, job *j)
{
    const int i = part_of(s, op->src[0]);
    const int said = op->code == PG_OP_NORM    ? AT_NORM
                     : op->code == PG_OP_CLAMP ? AT_CLAMP
                     : op->code == PG_OP_ROPE  ? AT_ROPE
                     : op->code == PG_OP_STORE ? AT_STORE
                                               : AT_COPY;
    if (i < 0 || s->said[i] >= said) return -1;
    s->said[i] = said;
    part *p = &j->p[i];
    p->x = pg_cuda_value(c, op->src[0]);
    p->x_step = pg_cuda_width(c, op->src[0]);
    if (said == AT_CLAMP) p->limit = op->a.clamp.limit;
    return said == AT_NORM    ? add_norm(c, op, p)
           : said == AT_CLAMP ? 0
           : said == AT_ROPE  ? add_rope(c, op, p)
           : said == AT_STORE ? add_store(c, op, p)
                              : add_copy(c, op, p);
}

int pg_cuda_heads(pg_cuda *c, const pg_op *const *op, int n)
{
    job j = {};
    plan s = {};
    j.step = c->step;
    for (part &p : j.p) p.dtype = PG_DTYPE_NONE;
    for (int i = 0; i < n; i++)
        if (add(c, op[i], &s, &j)) return -1;
    for (part &p : j.p) {
        if (p.x && !p.heads) p.heads = p.x_step % PIECE ? 1 : p.x_step / PIECE;
        if (p.x) p.width = p.x_step / p.heads;
        if (p.width > WIDEST || p.width % 4 || (p.x && p.width * p.heads != p.x_step)) return -1;
        if (p.dtype == PG_Q8_0 && p.width % 32) return -1;
        p.end = j.heads += p.heads;
    }
    PG_LAUNCH_EARLY(c, heads, dim3((unsigned)((j.heads + WARPS - 1) / WARPS), (unsigned)c->rows), 32 * WARPS, 0, j);
    pg_cuda_try(c, cudaGetLastError(), "heads before attention");
    return 0;
}
