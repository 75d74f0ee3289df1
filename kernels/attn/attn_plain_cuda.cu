/* attn_plain_cuda.cu: attention in f32, for any cache format and any shape: exact plans, f32 caches, and what does not
 * fit the tensor cores' tiles. It shows plainly what is computed; where speed is wanted, attn_mma_cuda.cu computes it.
 *
 * A block takes up to eight heads that share a kv head, one row, and COLUMNS columns of their values. Scores: a warp
 * takes a position, its lanes the columns. Sums: a thread takes columns, all positions in order. */
#include "attn_cuda.cuh"

enum { THREADS = 128, HEADS = 8, TILE = 32, HELD = 4, COLUMNS = THREADS * HELD };

/* Column c of a cached row. */
template <int DTYPE> static __device__ __forceinline__ float held(const char *row, int c)
{
    if constexpr (DTYPE == PG_F32) return __ldg(reinterpret_cast<const float *>(row) + c);
    const unsigned short *half = reinterpret_cast<const unsigned short *>(row);
    if constexpr (DTYPE == PG_F16) return __half2float(__ushort_as_half(__ldg(half + c)));
    if constexpr (DTYPE == PG_BF16) return __uint_as_float((uint32_t)__ldg(half + c) << 16);
    const char *block = row + c / 32 * 34;
    const float d = __half2float(__ushort_as_half(*reinterpret_cast<const unsigned short *>(block)));
    return d * (float)reinterpret_cast<const signed char *>(block)[2 + c % 32];
}

/* What the threads of a block share; q follows. */
typedef struct shared {
    float p[HEADS][TILE];
    float top[HEADS], sum[HEADS], keep[HEADS], all_top[HEADS], all_sum[HEADS], add[HEADS];
    long long k[TILE], v[TILE]; /* where rows lie, from the start of the cache */
} shared;

typedef struct item {
    int g, h0, n_head, col; /* col: the thread's first column of values */
} item;

/* Scores of the tile's n positions, unscaled. */
template <int DTYPE>
static __device__ __forceinline__ void scores(const pg_attn_args &a, shared *m, const float *q, const item &w, int n)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int t = warp; t < n; t += THREADS / 32) {
        float s[HEADS] = { 0 };
        for (int c = lane; c < a.dk; c += 32) {
            const float k = held<DTYPE>(a.cache + m->k[t], w.g * a.dk + c);
#pragma unroll
            for (int h = 0; h < HEADS; h++)
                if (h < w.n_head) s[h] = fmaf(q[h * a.dk + c], k, s[h]);
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            if (h >= w.n_head) break;
            const float sum = pg_warp_sum(s[h]);
            if (lane == 0) m->p[h][t] = sum;
        }
    }
}

/* Scores to weights; the running softmax of each head takes a step. */
static __device__ __forceinline__ void weigh(const pg_attn_args &a, shared *m, const item &w, int n)
{
    const int lane = threadIdx.x % 32;
    for (int h = threadIdx.x / 32; h < w.n_head; h += THREADS / 32) {
        const float x = lane < n ? pg_attn_score(a, m->p[h][lane]) : -INFINITY;
        const float top = m->top[h], most = fmaxf(top, pg_warp_max(x)), from = pg_attn_from(most);
        const float p = exp2f(x - from), sum = pg_warp_sum(p), keep = exp2f(top - from);
        m->p[h][lane] = p;
        __syncwarp();
        if (lane == 0) {
            m->keep[h] = keep;
            m->top[h] = most;
            m->sum[h] = fmaf(m->sum[h], keep, sum);
        }
    }
}

template <int DTYPE>
static __device__ __forceinline__ void values(const pg_attn_args &a, const shared *m, const item &w, int n,
                                              float (&acc)[HEADS][HELD])
{
#pragma unroll
    for (int h = 0; h < HEADS; h++)
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (h < w.n_head) acc[h][j] *= m->keep[h];
    for (int t = 0; t < n; t++) {
        float v[HELD];
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            const int c = w.col + j * THREADS;
            v[j] = c < a.dv ? held<DTYPE>(a.cache + m->v[t], w.g * a.dv + c) : 0;
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int j = 0; j < HELD; j++)
                if (h < w.n_head) acc[h][j] = fmaf(m->p[h][t], v[j], acc[h][j]);
    }
}

/* Add the run that has ended to the runs before it, and begin another. */
static __device__ __forceinline__ void fold(shared *m, const item &w, float (&all)[HEADS][HELD],
                                            float (&acc)[HEADS][HELD])
{
    const int h = threadIdx.x;
    if (h < w.n_head) {
        float top = m->all_top[h], keep, add;
        pg_attn_factors(top, m->top[h], keep, add);
        m->all_top[h] = top;
        m->all_sum[h] = pg_attn_fold(m->all_sum[h], keep, m->sum[h], add);
        m->keep[h] = keep;
        m->add[h] = add;
        m->top[h] = -INFINITY;
        m->sum[h] = 0;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < HEADS; i++)
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            if (i < w.n_head) all[i][j] = pg_attn_fold(all[i][j], m->keep[i], acc[i][j], m->add[i]);
            acc[i][j] = 0;
        }
}

/* Positions [lo, hi] of a row, cut into runs. */
template <int DTYPE>
static __device__ __forceinline__ void attend(const pg_attn_args &a, shared *m, const float *q, const item &w, int row,
                                              int lo, int hi, int run, float (&all)[HEADS][HELD])
{
    const int32_t *pages = a.step->pages + (int64_t)a.step->seq[row] * a.step->page_step;
    float acc[HEADS][HELD] = { { 0 } };
    for (int t = lo, n; t <= hi; t += n) {
        n = min(min(TILE, hi + 1 - t), run - t % run);
        __syncthreads();
        if ((int)threadIdx.x < n) {
            const int p = (t + threadIdx.x) / a.page_tokens, within = t + threadIdx.x - p * a.page_tokens;
            const long long page = pages[p] * (long long)a.page_bytes;
            m->k[threadIdx.x] = page + a.k_at + (long long)within * a.k_row;
            m->v[threadIdx.x] = page + a.v_at + (long long)within * a.v_row;
        }
        __syncthreads();
        scores<DTYPE>(a, m, q, w, n);
        __syncthreads();
        weigh(a, m, w, n);
        __syncthreads();
        values<DTYPE>(a, m, w, n, acc);
        if ((t + n) % run && t + n <= hi) continue;
        __syncthreads();
        fold(m, w, all, acc);
    }
}

/* The sink joins, and sums become means. */
static __device__ __forceinline__ void put(const pg_attn_args &a, const shared *m, const item &w, int row,
                                           const float (&all)[HEADS][HELD])
{
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (h >= w.n_head) break;
        float by = 1, sum = m->all_sum[h], most = m->all_top[h], sink;
        if (a.sinks) {
            pg_attn_factors(most, a.sinks[w.h0 + h] * PG_ATTN_LOG2E, by, sink);
            sum = fmaf(sum, by, sink);
        }
        by /= sum;
        float *to = a.y + ((int64_t)row * a.heads + w.h0 + h) * a.dv;
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (w.col + j * THREADS < a.dv) to[w.col + j * THREADS] = all[h][j] * by;
    }
}

static __device__ __forceinline__ void leave(const pg_attn_args &a, const shared *m, const item &w,
                                             const float (&all)[HEADS][HELD])
{
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (h >= w.n_head) break;
        const int64_t at = ((int64_t)blockIdx.z * a.slots + blockIdx.x) * a.heads + w.h0 + h;
        if (w.col == 0) a.stat[at * 2] = m->all_top[h], a.stat[at * 2 + 1] = m->all_sum[h];
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (w.col + j * THREADS < a.dv) a.acc[at * a.dv + w.col + j * THREADS] = all[h][j];
    }
}

/* Block (slot, item and columns, row): `per` of a row's runs, or with per = 0 the whole row, of the prefill class. */
template <int DTYPE> static __global__ void __launch_bounds__(THREADS) plain(const pg_attn_args a)
{
    PG_SHARED(shared, m);
    float *q = reinterpret_cast<float *>(m + 1); /* [heads_part, dk] */
    const int row = (a.per ? a.step->n_prefill + a.row0 : 0) + blockIdx.z, shared_by = a.heads / a.kv_heads;
    if (row >= (a.per ? a.step->n : a.step->n_prefill)) return;
    const pg_attn_span s = pg_attn_cut(a, a.step->pos[row]);
    const int u = blockIdx.x * a.per, of = blockIdx.y % (a.kv_heads * a.parts), h0 = of % a.parts * a.heads_part;
    if (u >= s.n_run) return;
    item w;
    w.g = of / a.parts;
    w.h0 = w.g * shared_by + h0;
    w.n_head = min(a.heads_part, shared_by - h0);
    w.col = blockIdx.y / (a.kv_heads * a.parts) * COLUMNS + threadIdx.x;
    for (int i = threadIdx.x; i < w.n_head * a.dk; i += THREADS) q[i] = a.q[((int64_t)row * a.heads + w.h0) * a.dk + i];
    if (threadIdx.x < HEADS) {
        m->top[threadIdx.x] = m->all_top[threadIdx.x] = -INFINITY;
        m->sum[threadIdx.x] = m->all_sum[threadIdx.x] = 0;
    }
    float all[HEADS][HELD] = { { 0 } };
    if (a.per) {
        attend<DTYPE>(a, m, q, w, row, max(s.first, (s.u0 + u) * s.run), min(s.last, (s.u0 + u + a.per) * s.run - 1),
                      s.run, all);
        leave(a, m, w, all);
    } else {
        attend<DTYPE>(a, m, q, w, row, s.first, s.last, 1 << 30, all);
        put(a, m, w, row, all);
    }
}

static void launch(pg_cuda *c, pg_attn_args *a, int rows)
{
    const int shared_by = a->heads / a->kv_heads, room = 46 << 10; /* what every device has unasked */
    int most = (room - (int)sizeof(shared)) / (a->dk * 4);
    most = most < 1 ? 1 : most < HEADS ? most : HEADS;
    a->heads_part = shared_by < most ? shared_by : most;
    a->parts = (shared_by + a->heads_part - 1) / a->heads_part;
    void (*const kernel)(pg_attn_args) = a->dtype == PG_F32    ? plain<PG_F32>
                                         : a->dtype == PG_F16  ? plain<PG_F16>
                                         : a->dtype == PG_BF16 ? plain<PG_BF16>
                                                               : plain<PG_Q8_0>;
    const int columns = (a->dv + COLUMNS - 1) / COLUMNS, bytes = (int)sizeof(shared) + a->heads_part * a->dk * 4;
    PG_LAUNCH(kernel, dim3(a->per ? a->slots : 1, a->kv_heads * a->parts * columns, rows), THREADS, bytes, c->stream,
              *a);
    pg_cuda_try(c, cudaGetLastError(), "attention in f32");
}

void pg_attn_plain_decode(pg_cuda *c, pg_attn_args *a, int rows)
{
    launch(c, a, rows);
}

void pg_attn_plain_prefill(pg_cuda *c, pg_attn_args *a, int rows)
{
    a->per = 0;
    launch(c, a, rows);
}
