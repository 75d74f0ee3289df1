/* moe_many_cuda: the routed experts of a layer as grouped products of many rows, without a word from the host.
 *
 * 1. count, place: (row, choice) pairs sorted by expert and then by row. A block has 256 rows; an expert's rows among them are
 *    a bit each, so a pair's place is a matter of counting bits and does not depend on who comes first.
 * 2. rows of x to bf16, once each; tiles gather them by the pairs' rows.
 * 3. gate and up in one product, the activation in its last step: hidden values of all pairs.
 * 4. down: the outputs of all pairs.
 * 5. combine: a row's outputs, weighed, in ascending order of its experts.
 * Launches are made for the most pairs that there can be; blocks look up how many there are (tile.cuh).
 * Source: grouped expert GEMM, Gale et al., MegaBlocks, 2022 (the grouping only). */
#include "moe_many_cuda.cuh"

#include "../glu/glu.cuh"
#include "../matmul/gemm_cuda.cuh"

enum { SORT_ROWS = 256, WORDS = SORT_ROWS / 32 };

typedef struct sorting {
    const int32_t *pick; /* [rows][2 * most] */
    const pg_cuda_step *step;
    int32_t all, most, n_expert, blocks;
    int32_t high[2]; /* rows of a tile: of gate and up, of down */
    int32_t *count;  /* [blocks][n_expert] */
    int32_t *first;  /* [n_expert + 1] */
    int32_t *tile;   /* [2][n_expert + 1] */
    int32_t *row;    /* [pairs] */
    int32_t *at;     /* [rows][most] pair of a choice, -1: none */
} sorting;

/* ---- sorting ------------------------------------------------------------------------------------------------------ */

/* Bits of the block's rows that chose each expert. */
static __device__ __forceinline__ void mark_rows(const sorting &s, uint32_t *bits)
{
    const int t = (int)threadIdx.x, r = (int)blockIdx.x * SORT_ROWS + t;
    for (int i = t; i < s.n_expert * WORDS; i += SORT_ROWS) bits[i] = 0;
    __syncthreads();
    if (r < pg_step_rows(s.step, s.all))
        for (int i = 0; i < s.most; i++) {
            const int e = s.pick[(int64_t)r * 2 * s.most + i];
            if (e < 0) break;
            atomicOr(&bits[e * WORDS + t / 32], 1u << t % 32);
        }
    __syncthreads();
}

static __global__ void count(const sorting s)
{
    PG_SHARED(uint32_t, bits);
    mark_rows(s, bits);
    for (int e = (int)threadIdx.x; e < s.n_expert; e += SORT_ROWS) {
        int n = 0;
        for (int i = 0; i < WORDS; i++) n += __popc(bits[e * WORDS + i]);
        s.count[blockIdx.x * s.n_expert + e] = n;
    }
}

/* to[i] = sum of the first i of n numbers (v[j] + per - 1) / per, to[n] of all; by one warp. */
static __device__ __forceinline__ void warp_scan(int32_t *to, const int32_t *v, int n, int per)
{
    const int lane = (int)threadIdx.x % 32;
    int before = 0;
    for (int i = 0; i < n; i += 32) {
        const int mine = i + lane < n ? (v[i + lane] + per - 1) / per : 0;
        int sum = mine;
        for (int by = 1; by < 32; by *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, by);
            if (lane >= by) sum += other;
        }
        if (i + lane < n) to[i + lane] = before + sum - mine;
        before += __shfl_sync(0xffffffffu, sum, 31);
    }
    if (lane == 0) to[n] = before;
}

static __global__ void place(const sorting s)
{
    PG_SHARED(uint32_t, bits);
    int32_t *const all = reinterpret_cast<int32_t *>(bits + s.n_expert * WORDS); /* [n_expert] pairs of an expert */
    int32_t *const before = all + s.n_expert;                                    /* of rows before this block */
    int32_t *const first = before + s.n_expert;                                  /* [n_expert + 1] */
    const int t = (int)threadIdx.x, r = (int)blockIdx.x * SORT_ROWS + t;
    mark_rows(s, bits);
    for (int e = t; e < s.n_expert; e += SORT_ROWS) {
        int n = 0;
        for (int b = 0; b < s.blocks; b++) {
            if (b == (int)blockIdx.x) before[e] = n;
            n += s.count[b * s.n_expert + e];
        }
        all[e] = n;
    }
    __syncthreads();
    if (t < 32) warp_scan(first, all, s.n_expert, 1);
    if (blockIdx.x == 0) {
        if (t / 32 == 1) warp_scan(s.first, all, s.n_expert, 1);
        if (t / 32 == 2) warp_scan(s.tile, all, s.n_expert, s.high[0]);
        if (t / 32 == 3) warp_scan(s.tile + s.n_expert + 1, all, s.n_expert, s.high[1]);
    }
    __syncthreads();
    if (r >= pg_step_rows(s.step, s.all)) return;
    bool more = true;
    for (int i = 0; i < s.most; i++) {
        const int e = more ? s.pick[(int64_t)r * 2 * s.most + i] : -1;
        more = e >= 0;
        int pair = -1;
        if (more) {
            pair = first[e] + before[e];
            for (int w = 0; w < t / 32; w++) pair += __popc(bits[e * WORDS + w]);
            pair += __popc(bits[e * WORDS + t / 32] & ((1u << t % 32) - 1));
            s.row[pair] = r;
        }
        s.at[(int64_t)r * s.most + i] = pair;
    }
}

/* ---- hidden values and outputs ------------------------------------------------------------------------------------ */

typedef struct ends {
    const int32_t *pick, *at, *first; /* as above */
    const pg_cuda_step *step;
    int32_t all, most, n_expert;
    const float *sums; /* [pairs][2 * F], of gate and of up */
    void *hidden;      /* [pairs][hidden_width] */
    int32_t F, hidden_width, glu, exact;
    float limit;
    const float *out; /* [pairs][D] */
    float *y;         /* [rows][D] */
    int32_t D;
} ends;

/* Where gate and up are of two formats, and so were multiplied apart. */
static __global__ void activate(const ends j)
{
    const int o = (int)(blockIdx.x * blockDim.x + threadIdx.x), n = j.first[j.n_expert];
    if (o >= j.hidden_width) return;
    for (int64_t p = blockIdx.y; p < n; p += gridDim.y) {
        const float *sum = j.sums + p * 2 * j.F;
        const float h = o < j.F ? pg_glu_one(sum[o], sum[j.F + o], j.glu, j.limit) : 0;
        if (j.exact)
            static_cast<float *>(j.hidden)[p * j.hidden_width + o] = h;
        else
            static_cast<uint16_t *>(j.hidden)[p * j.hidden_width + o] = __bfloat16_as_ushort(__float2bfloat16_rn(h));
    }
}

/* Pairs are numbered by expert, so their order is that of the experts. */
static __global__ void combine(const ends j)
{
    PG_SHARED(int32_t, pair); /* [most] ascending */
    float *const weight = reinterpret_cast<float *>(pair + j.most);
    __shared__ int32_t used;
    const int r = (int)blockIdx.x, t = (int)threadIdx.x;
    if (r >= pg_step_rows(j.step, j.all)) return;
    const int32_t *at = j.at + (int64_t)r * j.most;
    if (t == 0) used = 0;
    __syncthreads();
    for (int i = t; i < j.most && at[i] >= 0; i += (int)blockDim.x) {
        int rank = 0;
        for (int k = 0; k < j.most && at[k] >= 0; k++) rank += at[k] < at[i] || (at[k] == at[i] && k < i);
        pair[rank] = at[i];
        weight[rank] = __int_as_float(j.pick[(int64_t)r * 2 * j.most + j.most + i]);
        atomicAdd(&used, 1);
    }
    __syncthreads();
    for (int o = t; o < j.D; o += (int)blockDim.x) {
        float sum = 0;
        for (int i = 0; i < used; i++) sum += weight[i] * j.out[(int64_t)pair[i] * j.D + o];
        j.y[(int64_t)r * j.D + o] = sum;
    }
}

/* ---- the op ------------------------------------------------------------------------------------------------------- */

typedef struct room {
    char *x, *count, *first, *tile, *row, *at, *hidden, *out, *sums;
} room;

static char *part(char *mem, int64_t *at, int64_t bytes)
{
    char *p = mem ? mem + *at : NULL;
    *at += pg_cuda_up(bytes);
    return p;
}

static int apart(const pg_experts *e)
{
    return e->gate[0].dtype != e->up[0].dtype;
}

static int64_t hidden_width(const pg_experts *e, int exact)
{
    return exact ? e->n_ff : pg_gemm_width(e->n_ff);
}

/* Scratch for rows that visit `most` experts each. Returns the bytes it takes. */
static int64_t lay_out(room *m, char *mem, const pg_experts *e, int64_t rows, int64_t most, int exact)
{
    const int64_t pairs = rows * most, E = e->n_expert, word = 4;
    int64_t at = 0;
    m->x = part(mem, &at, exact ? 0 : rows * pg_gemm_width(e->n_embd) * 2);
    m->count = part(mem, &at, (rows + SORT_ROWS - 1) / SORT_ROWS * E * word);
    m->first = part(mem, &at, (E + 1) * word);
    m->tile = part(mem, &at, 2 * (E + 1) * word);
    m->row = part(mem, &at, pairs * word);
    m->at = part(mem, &at, pairs * word);
    m->hidden = part(mem, &at, pairs * hidden_width(e, exact) * (exact ? 4 : 2));
    m->out = part(mem, &at, pairs * e->n_embd * word);
    m->sums = part(mem, &at, apart(e) ? pairs * 2 * e->n_ff * word : 0);
    return at;
}

static void sort_pairs(pg_cuda *c, const sorting *s)
{
    const size_t bits = (size_t)s->n_expert * WORDS * 4, sums = ((size_t)s->n_expert * 3 + 1) * 4;
    PG_LAUNCH(count, dim3((unsigned)s->blocks), SORT_ROWS, bits, c->stream, *s);
    PG_LAUNCH(place, dim3((unsigned)s->blocks), SORT_ROWS, bits + sums, c->stream, *s);
}

/* One product of all pairs. which: of the tile tables. */
static pg_gemm product(const pg_cuda *c, const sorting *s, const pg_tensor *w, int which)
{
    pg_gemm g = {};
    g.w[0] = pg_stack_of(pg_cuda_weight_of(c, w));
    g.k = g.w[0].k;
    g.groups = s->n_expert;
    g.step = c->step;
    g.all = s->all;
    g.first = s->first;
    g.tile = s->tile + which * (s->n_expert + 1);
    g.scale = 1;
    g.split = 1;
    return g;
}

/* At most: every expert may have a tile that is not full. */
static int64_t tiles_of(const sorting *s, int64_t pairs, int high, int64_t n, int columns)
{
    return (pairs / high + s->n_expert) * ((n + columns - 1) / columns);
}

static void multiply_hidden(pg_cuda *c, const pg_experts *e, const sorting *s, const pg_gemm *in, const room *m,
                            const pg_gemm_kernel kernel[2], int64_t pairs, ends *j)
{
    for (int up = 0; up < (apart(e) ? 2 : 1); up++) {
        pg_gemm g = *in;
        if (apart(e)) {
            g.w[0] = pg_stack_of(pg_cuda_weight_of(c, up ? e->up : e->gate));
            g.y = reinterpret_cast<float *>(m->sums) + up * e->n_ff;
            g.y_width = 2 * e->n_ff;
            g.bias[0] = pg_cuda_vector_of(c, up ? e->up_bias : e->gate_bias);
        } else {
            g.pair = 1;
            g.w[1] = pg_stack_of(pg_cuda_weight_of(c, e->up));
            g.hidden = m->hidden;
            g.hidden_width = j->hidden_width;
            g.bias[0] = pg_cuda_vector_of(c, e->gate_bias);
            g.bias[1] = pg_cuda_vector_of(c, e->up_bias);
            g.glu = e->glu;
            g.limit = e->limit;
        }
        const pg_gemm_kernel *k = &kernel[up];
        pg_gemm_launch(c, k, &g, tiles_of(s, pairs, k->rows, g.w[0].n, g.pair ? k->columns / 2 : k->columns));
    }
    if (apart(e)) PG_LAUNCH(activate, dim3((unsigned)(j->hidden_width + 255) / 256, 1024), 256, 0, c->stream, *j);
}

void pg_cuda_experts_many(pg_cuda *c, const pg_op *op)
{
    const pg_experts *e = op->a.experts.experts;
    const int rows = pg_cuda_rows(c, op->src[0]), most = pg_cuda_width(c, op->src[1]) / 2, exact = c->code->exact;
    const int64_t pairs = (int64_t)rows * most, D = e->n_embd, F = e->n_ff,
                  each = (int64_t)rows * e->n_used / e->n_expert;
    room m;
    lay_out(&m, c->scratch, e, rows, most, exact);
    pg_gemm_kernel in[2] = { pg_gemm_choose(c, pg_cuda_type_of(c, e->gate), D, each, exact),
                             pg_gemm_choose(c, pg_cuda_type_of(c, e->up), D, each, exact) };
    if (in[0].rows != in[1].rows) { /* the table is one: both take the lowest tiles */
        in[0] = pg_gemm_choose(c, pg_cuda_type_of(c, e->gate), D, 1, exact);
        in[1] = pg_gemm_choose(c, pg_cuda_type_of(c, e->up), D, 1, exact);
    }
    const pg_gemm_kernel down = pg_gemm_choose(c, pg_cuda_type_of(c, e->down), F, each, exact);
    sorting s = {};
    s.pick = reinterpret_cast<const int32_t *>(pg_cuda_value(c, op->src[1]));
    s.step = c->step;
    s.all = pg_cuda_is_all(c, op->src[0]);
    s.most = most;
    s.n_expert = e->n_expert;
    s.blocks = (rows + SORT_ROWS - 1) / SORT_ROWS;
    s.high[0] = in[0].rows;
    s.high[1] = down.rows;
    s.count = reinterpret_cast<int32_t *>(m.count);
    s.first = reinterpret_cast<int32_t *>(m.first);
    s.tile = reinterpret_cast<int32_t *>(m.tile);
    s.row = reinterpret_cast<int32_t *>(m.row);
    s.at = reinterpret_cast<int32_t *>(m.at);
    sort_pairs(c, &s);

    ends j = {};
    j.pick = s.pick;
    j.at = s.at;
    j.first = s.first;
    j.step = c->step;
    j.all = s.all;
    j.most = most;
    j.n_expert = s.n_expert;
    j.sums = reinterpret_cast<const float *>(m.sums);
    j.hidden = m.hidden;
    j.F = e->n_ff;
    j.hidden_width = (int32_t)hidden_width(e, exact);
    j.glu = e->glu;
    j.limit = e->limit;
    j.exact = exact;
    j.out = reinterpret_cast<const float *>(m.out);
    j.y = pg_cuda_value(c, op->dst);
    j.D = e->n_embd;

    pg_gemm g = product(c, &s, e->gate, 0);
    g.row = s.row;
    g.x = pg_cuda_value(c, op->src[0]);
    g.x_width = D;
    if (!exact) {
        pg_gemm_to_bf16(c, reinterpret_cast<uint16_t *>(m.x), static_cast<const float *>(g.x), D, 0, 1, rows, D, s.all);
        g.x = m.x;
        g.x_width = pg_gemm_width(D);
    }
    multiply_hidden(c, e, &s, &g, &m, in, pairs, &j);

    g = product(c, &s, e->down, 1);
    g.x = m.hidden;
    g.x_width = j.hidden_width;
    g.y = reinterpret_cast<float *>(m.out);
    g.y_width = D;
    g.bias[0] = pg_cuda_vector_of(c, e->down_bias);
    pg_gemm_launch(c, &down, &g, tiles_of(&s, pairs, down.rows, D, down.columns));
    PG_LAUNCH(combine, dim3((unsigned)rows), 256, (size_t)most * 8, c->stream, j);
    pg_cuda_try(c, cudaGetLastError(), "cannot run the experts");
}

int64_t pg_cuda_experts_many_scratch(const pg_cuda *, const pg_code *code, const pg_op *op)
{
    const int64_t rows = code->value[op->src[0]].rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled;
    room m;
    return lay_out(&m, NULL, op->a.experts.experts, rows, code->value[op->src[1]].width / 2, code->exact);
}
