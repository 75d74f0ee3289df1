/* sample_cuda.cu: the best of each row that is drawn from, in two launches that end a step. The first finds the largest
 * number of every group of neighbours. The k-th largest of those is a bound that at least k numbers of the row reach, and few
 * more do; so the second looks again only into groups that reach it, and sorts what it finds. Beside that its other
 * blocks weigh the whole row. A row of which too many reach the bound (whose numbers are all alike) gets no list.
 * Source of the bound: as in engine/sched/order.c. */
#include "../cuda/cuda.cuh"
#include "../cuda/exact.cuh"

#include <stdlib.h>
#include <string.h>

enum { THREADS = 512, WARPS = THREADS / 32 };
enum { SUMS = 16 };     /* blocks that weigh a row */
enum { FEW = 2048 };    /* numbers that can be sorted; a row of no more is sorted as a whole */
enum { GROUPS = 6144 }; /* of a row at most */

/* What the host gets of a row. */
typedef struct best_row {
    int32_t n, all;
    float value[PG_BEST];
    int32_t id[PG_BEST];
    double part[SUMS]; /* of the row's sum, to be added in this order */
} best_row;

struct pg_cuda_best {
    pg_ref value;
    int n_vocab, quads, groups; /* quads of four numbers in a group, a power of two; groups of a row */
    float *top;                 /* device, [S, groups] */
    best_row *device, *host;    /* [S]; host: pinned */
};

/* A row, and how it is cut. */
typedef struct job {
    const float *x; /* [S, n] */
    int n, quads, groups;
    float *top;
    best_row *out;
    const pg_cuda_step *step;
    int all;
} job;

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

/* exp(d) for d <= 0, as softmax.c has it; below -87 and for NaN 0. */
PG_HD float exp_below(float d)
{
    if (!(d > -87.0f)) return 0;
    const float shift = 0x1.8p23f, whole = pg_add(pg_add(pg_mul(d, 0x1.715476p+0f), shift), -shift);
    const float r = pg_add(pg_add(d, -pg_mul(whole, 0x1.62e4p-1f)), -pg_mul(whole, 0x1.7f7d1cp-20f));
    float p = 1.0f / 5040;
    p = pg_add(pg_mul(p, r), 1.0f / 720);
    p = pg_add(pg_mul(p, r), 1.0f / 120);
    p = pg_add(pg_mul(p, r), 1.0f / 24);
    p = pg_add(pg_mul(p, r), 1.0f / 6);
    p = pg_add(pg_mul(p, r), 0.5f);
    p = pg_add(pg_mul(p, r), 1.0f);
    p = pg_add(pg_mul(p, r), 1.0f);
    return pg_mul(p, pg_float_of((uint32_t)((int)whole + 127) << 23));
}

/* Four neighbours, -inf where the row has ended. */
__device__ __forceinline__ float4 load_quad(const float *x, int quad, int n)
{
    const int at = 4 * quad;
    if (n % 4 == 0 && at < n) return *reinterpret_cast<const float4 *>(x + at);
    float4 y;
    y.x = at < n ? x[at] : -INFINITY;
    y.y = at + 1 < n ? x[at + 1] : -INFINITY;
    y.z = at + 2 < n ? x[at + 2] : -INFINITY;
    y.w = at + 3 < n ? x[at + 3] : -INFINITY;
    return y;
}

PG_HD float larger(float x, float top)
{
    return x > top ? x : top;
}

/* ---- the largest of each group -------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) find_tops(job j)
{
    const int row = (int)blockIdx.y, lane = (int)threadIdx.x % 32, begin = (int)blockIdx.x * 2 * THREADS;
    if (row >= pg_step_rows(j.step, j.all)) return;
    const float *x = j.x + (int64_t)row * j.n;
    for (int i = 0; i < 2; i++) {
        const int quad = begin + i * THREADS + (int)threadIdx.x, group = quad / j.quads;
        const float4 y = load_quad(x, quad, j.n);
        float top = larger(y.w, larger(y.z, larger(y.y, larger(y.x, -INFINITY))));
        for (int to = j.quads / 2; to; to >>= 1) top = larger(__shfl_xor_sync(0xffffffffu, top, to), top);
        if (lane % j.quads == 0 && group < j.groups) j.top[(int64_t)row * j.groups + group] = top;
    }
}

/* ---- what a block knows together ------------------------------------------------------------------------------------- */

typedef struct room {
    unsigned long long key[FEW];
    int32_t group[GROUPS]; /* that reach the bound */
    int32_t count[256];
    float warp[WARPS];
    double part[WARPS];
    int32_t n_key, n_group, digit, above;
} room;

/* The row's largest number, in every thread. */
__device__ __forceinline__ float block_top(const job &j, const float *top, room *m)
{
    float most = -INFINITY;
    for (int i = (int)threadIdx.x; i < j.groups; i += THREADS) most = larger(top[i], most);
    most = pg_warp_max(most);
    if (threadIdx.x % 32 == 0) m->warp[threadIdx.x / 32] = most;
    __syncthreads();
    for (int i = 0; i < WARPS; i++) most = larger(m->warp[i], most);
    return most;
}

/* One part of the row's sum. */
__device__ __forceinline__ void weigh_part(const job &j, const float *x, const float *top, int part, best_row *out,
                                           room *m)
{
    const int quads = (j.n + 3) / 4, each = (quads + SUMS - 1) / SUMS, begin = part * each;
    const int end = begin + each < quads ? begin + each : quads;
    const float most = block_top(j, top, m);
    double sum = 0;
    for (int q = begin + (int)threadIdx.x; q < end; q += THREADS) {
        const float4 y = load_quad(x, q, j.n);
        sum += (double)exp_below(pg_add(y.x, -most));
        sum += (double)exp_below(pg_add(y.y, -most));
        sum += (double)exp_below(pg_add(y.z, -most));
        sum += (double)exp_below(pg_add(y.w, -most));
    }
    for (int to = 16; to; to >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, to);
    if (threadIdx.x % 32 == 0) m->part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < WARPS; i++) sum += m->part[i];
    out->part[part] = sum;
}

/* ---- the bound ------------------------------------------------------------------------------------------------------ */

/* In which of 256 bins, counted from the last, the k-th number falls, and how many are in later ones. By the first warp,
 * each lane of which has eight bins. */
__device__ __forceinline__ void find_digit(room *m, int k)
{
    const int lane = (int)threadIdx.x;
    int mine = 0, after;
    for (int i = 0; i < 8; i++) mine += m->count[8 * lane + i];
    after = mine; /* of this lane and those above it */
    for (int to = 1; to < 32; to <<= 1) {
        const int more = __shfl_down_sync(0xffffffffu, after, to);
        if (lane + to < 32) after += more;
    }
    if (after < k || after - mine >= k) return;
    int above = after - mine, digit = 8 * lane + 7;
    while (above + m->count[digit] < k) above += m->count[digit--];
    m->digit = digit;
    m->above = above;
}

/* The place of the k-th largest of the groups' tops, digit by digit; there are at least k. */
__device__ __forceinline__ uint32_t find_bound(const job &j, const float *top, int k, room *m)
{
    uint32_t bound = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        if (threadIdx.x < 256) m->count[threadIdx.x] = 0;
        __syncthreads();
        for (int i = (int)threadIdx.x; i < j.groups; i += THREADS) {
            const uint32_t place = pg_place_of(top[i]);
            if (shift == 24 || place >> (shift + 8) == bound >> (shift + 8))
                atomicAdd(&m->count[place >> shift & 255], 1);
        }
        __syncthreads();
        if (threadIdx.x < 32) find_digit(m, k);
        __syncthreads();
        bound |= (uint32_t)m->digit << shift;
        k -= m->above;
    }
    return bound;
}

/* ---- the list -------------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ void add_key(room *m, float x, int id, uint32_t bound)
{
    const uint32_t place = pg_place_of(x);
    if (place < bound) return;
    const int at = atomicAdd(&m->n_key, 1);
    if (at < FEW) m->key[at] = (unsigned long long)place << 32 | (0xffffffffu - (uint32_t)id);
}

/* All numbers whose place is not below the bound. */
__device__ __forceinline__ void gather_keys(const job &j, const float *x, const float *top, uint32_t bound, room *m)
{
    for (int i = (int)threadIdx.x; i < j.groups; i += THREADS)
        if (pg_place_of(top[i]) >= bound) m->group[atomicAdd(&m->n_group, 1)] = i;
    __syncthreads();
    const int n = m->n_group * j.quads;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        const int quad = m->group[i / j.quads] * j.quads + i % j.quads;
        const float4 y = load_quad(x, quad, j.n);
        add_key(m, y.x, 4 * quad, bound);
        add_key(m, y.y, 4 * quad + 1, bound);
        add_key(m, y.z, 4 * quad + 2, bound);
        add_key(m, y.w, 4 * quad + 3, bound);
    }
    __syncthreads();
}

/* Largest first. Source: Batcher, Sorting networks and their applications, 1968. */
__device__ __forceinline__ void sort_keys(unsigned long long *key, int n)
{
    int size = 2;
    while (size < n) size *= 2;
    for (int i = n + (int)threadIdx.x; i < size; i += THREADS) key[i] = 0;
    __syncthreads();
    for (int run = 2; run <= size; run *= 2)
        for (int step = run / 2; step; step /= 2) {
            for (int i = (int)threadIdx.x; i < size / 2; i += THREADS) {
                const int a = 2 * i - (i & (step - 1)), b = a + step;
                const unsigned long long p = key[a], q = key[b];
                if ((p < q) == ((a & run) == 0)) {
                    key[a] = q;
                    key[b] = p;
                }
            }
            __syncthreads();
        }
}

__device__ __forceinline__ void list_best(const job &j, const float *x, const float *top, best_row *out, room *m)
{
    const uint32_t least = pg_place_of(-INFINITY) + 1; /* of what may be in a list */
    uint32_t bound = least;
    if (threadIdx.x == 0) m->n_key = m->n_group = 0;
    __syncthreads();
    if (j.n > FEW) bound = find_bound(j, top, PG_BEST, m);
    if (bound < least) bound = least;
    gather_keys(j, x, top, bound, m);
    const int found = m->n_key, n = found < PG_BEST ? found : PG_BEST;
    if (threadIdx.x == 0) {
        out->n = found <= FEW ? n : -1;
        out->all = bound == least && found == n;
    }
    if (found > FEW) return;
    sort_keys(m->key, found);
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        out->value[i] = pg_of_place((uint32_t)(m->key[i] >> 32));
        out->id[i] = (int32_t)(0xffffffffu - (uint32_t)m->key[i]);
    }
}

static __global__ void __launch_bounds__(THREADS) find_best(job j)
{
    PG_SHARED(room, m);
    const int row = (int)blockIdx.y;
    if (row >= pg_step_rows(j.step, j.all)) return;
    const float *x = j.x + (int64_t)row * j.n, *top = j.top + (int64_t)row * j.groups;
    if (blockIdx.x == 0)
        list_best(j, x, top, &j.out[row], m);
    else
        weigh_part(j, x, top, (int)blockIdx.x - 1, &j.out[row], m);
}

/* ---- around them ------------------------------------------------------------------------------------------------------ */

static int rows_of(const pg_code *code, pg_ref value)
{
    return code->value[value].rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled;
}

/* Groups of 4 to 64 numbers, at least twice as many as a list is long where the row is long enough to need them. */
static void cut(pg_cuda_best *b, int n)
{
    b->n_vocab = n;
    b->quads = 1;
    while (b->quads < 16 && n / (8 * b->quads) >= 2 * PG_BEST) b->quads *= 2;
    b->groups = ((n + 3) / 4 + b->quads - 1) / b->quads;
}

int64_t pg_cuda_best_bytes(const pg_code *code, pg_ref drawn)
{
    pg_cuda_best b = {};
    if (drawn == PG_NO_REF) return 0;
    cut(&b, code->value[drawn].width);
    return rows_of(code, drawn) * ((int64_t)sizeof(best_row) + b.groups * (int64_t)sizeof(float) + 256);
}

int pg_cuda_best_open(pg_cuda *c)
{
    pg_cuda_best *b = (pg_cuda_best *)calloc(1, sizeof *b);
    if (!b) return -1;
    c->best = b;
    b->value = c->base.drawn;
    if (b->value == PG_NO_REF) return 0;
    const size_t rows = (size_t)rows_of(c->code, b->value);
    cut(b, pg_cuda_width(c, b->value));
    if (b->groups > GROUPS) { /* whole rows are read then */
        b->value = PG_NO_REF;
        return 0;
    }
    return pg_cuda_try(c, cudaMalloc((void **)&b->top, rows * (size_t)b->groups * sizeof(float)), "memory for draws") ||
                   pg_cuda_try(c, cudaMalloc((void **)&b->device, rows * sizeof *b->device), "memory for draws") ||
                   pg_cuda_try(c, cudaMallocHost((void **)&b->host, rows * sizeof *b->host), "pinned memory for draws")
               ? -1
               : 0;
}

void pg_cuda_best_close(pg_cuda *c)
{
    pg_cuda_best *b = c->best;
    if (!b) return;
    if (b->top) cudaFree(b->top);
    if (b->device) cudaFree(b->device);
    if (b->host) cudaFreeHost(b->host);
    free(b);
    c->best = NULL;
}

void pg_cuda_best_step(pg_cuda *c)
{
    const pg_cuda_best *b = c->best;
    if (!b || b->value == PG_NO_REF) return;
    const int rows = pg_cuda_rows(c, b->value);
    job j = {};
    if (rows < 1) return;
    j.x = pg_cuda_value(c, b->value);
    j.n = b->n_vocab;
    j.quads = b->quads;
    j.groups = b->groups;
    j.top = b->top;
    j.out = b->device;
    j.step = c->step;
    j.all = pg_cuda_is_all(c, b->value);
    const int quads = (j.n + 3) / 4;
    PG_LAUNCH(find_tops, dim3((quads + 2 * THREADS - 1) / (2 * THREADS), rows), THREADS, 0, c->stream, j);
    PG_LAUNCH(find_best, dim3(1 + SUMS, rows), THREADS, sizeof(room), c->stream, j);
    pg_cuda_try(c, cudaGetLastError(), "finding the best tokens");
    pg_cuda_try(c,
                cudaMemcpyAsync(b->host, b->device, (size_t)rows * sizeof *b->host, cudaMemcpyDeviceToHost, c->stream),
                "copying the best tokens");
}

void pg_cuda_best_row(const pg_cuda *c, int32_t row, pg_best *out)
{
    const pg_cuda_best *b = c->best;
    pg_best none = {};
    none.n = -1;
    *out = none;
    if (!b || b->value == PG_NO_REF) return;
    const best_row *r = &b->host[row];
    out->n = r->n;
    out->all = r->all;
    out->value = r->value;
    out->id = r->id;
    for (int i = 0; i < SUMS; i++) out->sum += r->part[i];
}
