/* attn_mma_cuda.cu: attention with tensor cores: the 16-bit caches, and q8_0 as 16-bit numbers.
 *
 * A block takes an item: some rows of a sequence times some heads that share a kv head, 16 queries a warp-row (WM of
 * them). Keys and values pass through shared memory tile by tile, fetched ahead, and are read from the cache once for
 * all queries of the item. Prefill of ordinary heads: a warp has 16 queries, all positions of a tile and all columns, so
 * weights go from one product to the next in registers. Decode, and the latent of MLA, whose 512 columns of sums do not
 * fit one warp: WN warps share 16 queries; each takes some positions of the scores and some columns of the sums, and the
 * weights pass through shared memory.
 * Infinities in V that a row does not see reach it when they stand in a tile with what it sees (0 * inf).
 * Sources: Dao, FlashAttention-2 (arXiv 2307.08691); Dao et al., Flash-Decoding, 2023; absorbed MLA, DeepSeek-V2
 * (arXiv 2405.04434). */
#include "attn_tile_cuda.cuh"

/* Two rows' running softmax (queries lane / 4 and 8 more of the warp's 16), and the warp's columns of their sums. */
template <int NV> struct sums {
    float top[2], sum[2], acc[NV][4];
};

template <int NV> static __device__ __forceinline__ void begin(sums<NV> &x)
{
#pragma unroll
    for (int i = 0; i < 2; i++) x.top[i] = -INFINITY, x.sum[i] = 0;
#pragma unroll
    for (int j = 0; j < NV; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) x.acc[j][i] = 0;
}

/* Add a finished run to its group. */
template <int NV> static __device__ __forceinline__ void fold(sums<NV> &x, const sums<NV> &run)
{
    float keep[2], add[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        pg_attn_factors(x.top[i], run.top[i], keep[i], add[i]);
        x.sum[i] = pg_attn_fold(x.sum[i], keep[i], run.sum[i], add[i]);
    }
#pragma unroll
    for (int j = 0; j < NV; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) x.acc[j][i] = pg_attn_fold(x.acc[j][i], keep[i / 2], run.acc[j][i], add[i / 2]);
}

/* A number of each of the thread's two rows, brought together over the four lanes and WN warps that share the row: the
 * largest, or the sum in order. */
template <int WN, bool MOST>
static __device__ __forceinline__ void together(float (&x)[2], unsigned char *red, int wm, int wn)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        for (int to = 1; to <= 2; to *= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, x[i], to);
            x[i] = MOST ? fmaxf(x[i], other) : x[i] + other;
        }
    }
    if constexpr (WN > 1) {
        float *mine = reinterpret_cast<float *>(red) + (wm * 16 + lane / 4) * WN;
        if (lane % 4 == 0) mine[wn] = x[0], mine[8 * WN + wn] = x[1];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            x[i] = mine[8 * i * WN];
#pragma unroll
            for (int w = 1; w < WN; w++) x[i] = MOST ? fmaxf(x[i], mine[8 * i * WN + w]) : x[i] + mine[8 * i * WN + w];
        }
    }
}

/* The item's queries as 16-bit rows, zeros where there are none. */
template <class T>
static __device__ __forceinline__ void load_queries(const pg_attn_args &a, const pg_attn_room &m, unsigned char *mem,
                                                    const pg_attn_item &w, int queries)
{
    const int chunks = m.k_columns / 8, n = w.n_row * w.n_head;
    for (int i = threadIdx.x; i < queries * chunks; i += blockDim.x) {
        const int q = i / chunks, c = (i - q * chunks) * 8, row = q / w.n_head;
        const float *from = a.q + ((int64_t)(w.r0 + row) * a.heads + w.h0 + q - row * w.n_head) * a.dk + c;
        float x[8];
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = q < n && c + j < a.dk ? from[j] : 0;
        *reinterpret_cast<uint4 *>(mem + m.q + q * m.k_pitch + c * 2) =
            make_uint4(pg_attn_half<T>::pack(x[0], x[1]), pg_attn_half<T>::pack(x[2], x[3]),
                       pg_attn_half<T>::pack(x[4], x[5]), pg_attn_half<T>::pack(x[6], x[7]));
    }
}

/* Scores of a tile become weights, and the running softmax takes a step. t: position of s[0][0]. keep: what the sums so
 * far are worth now. */
template <int NT, int WN>
static __device__ __forceinline__ void weigh(const pg_attn_args &a, float (&s)[NT][4], const int (&first)[2],
                                             const int (&last)[2], int t, bool whole, float (&top)[2], float (&sum)[2],
                                             float (&keep)[2], unsigned char *red, int wm, int wn)
{
    float most[2] = { -INFINITY, -INFINITY };
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = t + 8 * j + i % 2, r = i / 2;
            s[j][i] = whole || (at >= first[r] && at <= last[r]) ? pg_attn_score(a, s[j][i]) : -INFINITY;
            most[r] = fmaxf(most[r], s[j][i]);
        }
    together<WN, true>(most, red, wm, wn);
    float from[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        most[r] = fmaxf(most[r], top[r]);
        from[r] = pg_attn_from(most[r]);
        keep[r] = exp2f(top[r] - from[r]);
        top[r] = most[r];
        sum[r] *= keep[r];
    }
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[j][i] = exp2f(s[j][i] - from[i / 2]);
            sum[i / 2] += s[j][i];
        }
}

/* Weights times values. With WN > 1 the weights meet in shared memory, for each warp needs all positions. */
template <class T, int NT, int NV, int WN, int N>
static __device__ __forceinline__ void values(float (&acc)[NV][4], const float (&s)[NT][4], const pg_attn_room &m,
                                              unsigned char *mem, const unsigned char *v, int wm, int wn)
{
    const int lane = threadIdx.x % 32, col = wn * NV * 8, n = (m.v_columns - col) / 8, pitch = (N + 8) * 2;
    if constexpr (WN > 1) {
        unsigned char *p = mem + m.p + wm * 16 * pitch;
#pragma unroll
        for (int j = 0; j < NT; j++) {
            unsigned char *to = p + lane / 4 * pitch + (wn * NT * 8 + 8 * j + lane % 4 * 2) * 2;
            *reinterpret_cast<uint32_t *>(to) = pg_attn_half<T>::pack(s[j][0], s[j][1]);
            *reinterpret_cast<uint32_t *>(to + 8 * pitch) = pg_attn_half<T>::pack(s[j][2], s[j][3]);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < N / 16; k++) {
            uint32_t w[4];
            pg_ldmatrix_x4(w, p + lane % 16 * pitch + k * 32 + lane / 16 * 16);
            pg_attn_pv<T, NV>(acc, w, v + k * 16 * m.v_pitch + col * 2, m.v_pitch, n);
        }
    } else {
#pragma unroll
        for (int k = 0; k < N / 16; k++) {
            const uint32_t w[4] = { pg_attn_half<T>::pack(s[2 * k][0], s[2 * k][1]),
                                    pg_attn_half<T>::pack(s[2 * k][2], s[2 * k][3]),
                                    pg_attn_half<T>::pack(s[2 * k + 1][0], s[2 * k + 1][1]),
                                    pg_attn_half<T>::pack(s[2 * k + 1][2], s[2 * k + 1][3]) };
            pg_attn_pv<T, NV>(acc, w, v + k * 16 * m.v_pitch + col * 2, m.v_pitch, n);
        }
    }
}

/* Where positions of a tile lie, for the tile's copies two steps on. */
template <int N>
static __device__ __forceinline__ void set_place(const pg_attn_room &m, unsigned char *mem, int tile, int i,
                                                 const pg_attn_place &at)
{
    reinterpret_cast<pg_attn_place *>(mem + m.place)[tile % PG_ATTN_RING * N + i] = at;
}

/* Queries ready, the first tiles on their way. */
template <class T, int N>
static __device__ __forceinline__ void prepare(const pg_attn_args &a, const pg_attn_room &m, unsigned char *mem,
                                               const pg_attn_item &w, int t0, int t1, int queries)
{
    __syncthreads(); /* nobody is still at the rows before these */
    for (int i = threadIdx.x; i < a.stages * N; i += blockDim.x)
        set_place<N>(m, mem, t0 + i / N, i % N, pg_attn_place_of(a, w, t0 * N + i));
    __syncthreads();
    for (int s = 0; s < a.stages - 1; s++) pg_attn_fetch<N>(a, m, mem, w, t0 + s, t1);
    load_queries<T>(a, m, mem, w, queries);
}

/* Tile t is in shared memory; the next one that has a free stage is on its way. Returns K, *v: V. */
template <int N>
static __device__ __forceinline__ const unsigned char *arrive(const pg_attn_args &a, const pg_attn_room &m,
                                                              unsigned char *mem, const pg_attn_item &w, int t, int t1,
                                                              const unsigned char **v)
{
    if (a.stages > 1) pg_attn_wait(a.stages);
    __syncthreads(); /* all see it, and have left the tile before */
    pg_attn_fetch<N>(a, m, mem, w, t + a.stages - 1, t1);
    if (a.stages == 1) {
        pg_copy_wait<0>();
        __syncthreads();
    }
    const unsigned char *stage = mem + m.stage + t % a.stages * m.stage_bytes;
    *v = stage + m.stage_v;
    if (!a.raw) return stage;
    const pg_attn_place *place = reinterpret_cast<pg_attn_place *>(mem + m.place) + t % PG_ATTN_RING * N;
    pg_attn_convert<N>(a, mem + m.tile, m.k_pitch, m.k_columns, stage, a.k_chunks * 16, place, 0, w.g, a.dk);
    if (!a.one) pg_attn_convert<N>(a, mem + m.tile_v, m.v_pitch, m.v_columns, *v, a.v_chunks * 16, place, 1, w.g, a.dv);
    __syncthreads();
    *v = mem + m.tile_v;
    return mem + m.tile;
}

/* The item's queries meet the positions that they see. SPLIT: x is the group of its runs, each from nothing. */
template <class T, int DV, int WN, int N, bool SPLIT>
static __device__ __forceinline__ void attend(const pg_attn_args &a, const pg_attn_room &m, unsigned char *mem,
                                              const pg_attn_item &w, sums<DV / WN / 8> &x)
{
    constexpr int NT = N / WN / 8, NV = DV / WN / 8;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp / WN, wn = warp % WN;
    const int t0 = w.lo / N, t1 = w.hi / N + 1, n = w.n_row * w.n_head;
    prepare<T, N>(a, m, mem, w, t0, t1, (int)blockDim.x / 32 / WN * 16);
    int first[2], last[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int q = wm * 16 + lane / 4 + 8 * i;
        last[i] = q < n ? a.step->pos[w.r0 + q / w.n_head] : -1;
        first[i] = pg_attn_first(a, last[i]);
    }
    const int least = a.step->pos[w.r0], from = pg_attn_first(a, a.step->pos[w.r0 + w.n_row - 1]);
    begin(x);
    sums<SPLIT ? NV : 1> run;
    if constexpr (SPLIT) begin(run);
    for (int t = t0; t < t1; t++) {
        const bool mine = threadIdx.x < N && t + a.stages < t1;
        pg_attn_place next = { -1, -1 };
        if (mine) next = pg_attn_place_of(a, w, (t + a.stages) * N + threadIdx.x); /* asked for before it is needed */
        const unsigned char *v, *k = arrive<N>(a, m, mem, w, t, t1, &v);
        float s[NT][4], keep[2];
        pg_attn_qk<T, NT>(s, mem + m.q + wm * 16 * m.k_pitch, k + wn * NT * 8 * m.k_pitch, m.k_pitch, m.k_columns);
        const bool whole = t * N >= from && t * N + N - 1 <= least;
        const auto step = [&](auto &y) {
            weigh<NT, WN>(a, s, first, last, t * N + wn * NT * 8 + lane % 4 * 2, whole, y.top, y.sum, keep, mem + m.red,
                          wm, wn);
#pragma unroll
            for (int j = 0; j < NV; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) y.acc[j][i] *= keep[i / 2];
            values<T, NT, NV, WN, N>(y.acc, s, m, mem, v, wm, wn);
        };
        if constexpr (SPLIT) {
            step(run);
            if ((t + 1) * N % w.run == 0 || t + 1 == t1) {
                together<WN, false>(run.sum, mem + m.red, wm, wn);
                fold(x, run);
                begin(run);
            }
        } else {
            step(x);
        }
        if (mine) set_place<N>(m, mem, t + a.stages, threadIdx.x, next);
    }
    if constexpr (!SPLIT) together<WN, false>(x.sum, mem + m.red, wm, wn);
}

static __device__ __forceinline__ void set_heads(const pg_attn_args &a, pg_attn_item &w, int item)
{
    const int shared = a.heads / a.kv_heads, h = item % a.parts * a.heads_part;
    w.g = item / a.parts;
    w.h0 = w.g * shared + h;
    w.n_head = shared - h < a.heads_part ? shared - h : a.heads_part;
}

/* Block (slot, item, row of the decode class): `per` of the row's runs. Left for the kernel that folds groups. */
template <class T, int DV, int WN, int N>
static __global__ void __launch_bounds__(DV > 256 ? 256 : 128) decode(const pg_attn_args a)
{
    constexpr int NV = DV / WN / 8;
    PG_SHARED(unsigned char, mem);
    const int row = a.step->n_prefill + a.row0 + blockIdx.z;
    if (row >= a.step->n) return;
    const pg_attn_span s = pg_attn_cut(a, a.step->pos[row]);
    const int u = blockIdx.x * a.per;
    if (u >= s.n_run) return;
    pg_attn_item w;
    set_heads(a, w, blockIdx.y);
    w.seq = a.step->seq[row];
    w.r0 = row;
    w.n_row = 1;
    w.run = s.run;
    w.lo = max(s.first, (s.u0 + u) * s.run);
    w.hi = min(s.last, (s.u0 + u + a.per) * s.run - 1);
    const pg_attn_room m = pg_attn_room_of(a, (int)blockDim.x / 32 / WN, WN, N);
    sums<NV> x;
    attend<T, DV, WN, N, true>(a, m, mem, w, x);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, col = warp % WN * NV * 8 + lane % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int q = warp / WN * 16 + lane / 4 + 8 * r;
        if (q >= w.n_head) continue;
        const int64_t at = ((int64_t)blockIdx.z * a.slots + blockIdx.x) * a.heads + w.h0 + q;
        if (col == 0) a.stat[at * 2] = x.top[r], a.stat[at * 2 + 1] = x.sum[r];
#pragma unroll
        for (int j = 0; j < NV; j++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (col + 8 * j + i < a.dv) a.acc[at * a.dv + col + 8 * j + i] = x.acc[j][2 * r + i];
    }
}

/* The sink joins, and sums become means. */
template <int NV>
static __device__ __forceinline__ void put(const pg_attn_args &a, const pg_attn_item &w, sums<NV> &x, int q0, int col)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int q = q0 + 8 * r, row = q / w.n_head, head = w.h0 + q - row * w.n_head;
        if (row >= w.n_row) continue;
        float by = 1, sum = x.sum[r];
        if (a.sinks) {
            float most = x.top[r], sink;
            pg_attn_factors(most, a.sinks[head] * PG_ATTN_LOG2E, by, sink);
            sum = fmaf(sum, by, sink);
        }
        by /= sum;
        float *to = a.y + ((int64_t)(w.r0 + row) * a.heads + head) * a.dv + col;
#pragma unroll
        for (int j = 0; j < NV; j++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (col + 8 * j + i < a.dv) to[8 * j + i] = x.acc[j][2 * r + i] * by;
    }
}

/* Block (tile of rows, item), tiles from the last, which see most, to the first. Where a tile has rows of several
 * sequences they go one after the other. */
template <class T, int DV, int WN, int N>
static __global__ void __launch_bounds__(DV > 256 ? 512 : 256) prefill(const pg_attn_args a)
{
    constexpr int NV = DV / WN / 8;
    PG_SHARED(unsigned char, mem);
    const int tile = (gridDim.x - 1 - blockIdx.x) * a.rows_part;
    const int end = min(a.step->n_prefill, tile + a.rows_part), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const pg_attn_room m = pg_attn_room_of(a, (int)blockDim.x / 32 / WN, WN, N);
    pg_attn_item w;
    set_heads(a, w, blockIdx.y);
    for (w.r0 = tile; w.r0 < end; w.r0 += w.n_row) {
        w.seq = a.step->seq[w.r0];
        w.n_row = 1;
        while (w.r0 + w.n_row < end && a.step->seq[w.r0 + w.n_row] == w.seq) w.n_row++;
        w.lo = pg_attn_first(a, a.step->pos[w.r0]);
        w.hi = a.step->pos[w.r0 + w.n_row - 1];
        sums<NV> x;
        attend<T, DV, WN, N, false>(a, m, mem, w, x);
        put(a, w, x, warp / WN * 16 + lane / 4, warp % WN * NV * 8 + lane % 4 * 2);
    }
}

/* ---- choosing ----------------------------------------------------------------------------------------------------- */

/* A kernel and its shape: columns of sums it has room for, warps that share 16 queries, positions of a tile, 16 queries a
 * warp-row and the most of them. */
typedef struct choice {
    void (*kernel)(pg_attn_args);
    int dv, wn, n, wm;
} choice;

#define ROW(kernel, T, dv, wn, n, wm)       \
    {                                       \
        kernel<T, dv, wn, n>, dv, wn, n, wm \
    }
#define DECODE(T)                                                                                   \
    {                                                                                               \
        ROW(decode, T, 64, 4, 64, 1), ROW(decode, T, 128, 4, 64, 1), ROW(decode, T, 256, 4, 64, 1), \
            ROW(decode, T, 512, 4, 32, 2)                                                           \
    }
#define PREFILL(T)                                                                                     \
    {                                                                                                  \
        ROW(prefill, T, 64, 1, 64, 8), ROW(prefill, T, 128, 1, 64, 8), ROW(prefill, T, 256, 1, 64, 8), \
            ROW(prefill, T, 512, 4, 32, 4)                                                             \
    }
static const choice kernels[2][2][4] = { { DECODE(__half), PREFILL(__half) },
                                         { DECODE(__nv_bfloat16), PREFILL(__nv_bfloat16) } };

/* Shared memory of a multiprocessor; a block may have 1 KB less. */
static int shared_bytes(int arch)
{
    return (arch == 80 || arch == 87 ? 164 : arch < 90 || arch >= 120 ? 100 : 228) << 10;
}

/* Most stages and warp-rows that fit; two blocks a multiprocessor before more than two stages. 0: none do. */
static int fit(const pg_cuda *c, pg_attn_args *a, const choice *k, int wm)
{
    const int room = shared_bytes(c->arch);
    for (; wm > 0; wm /= 2) {
        for (a->stages = PG_ATTN_RING; a->stages > 0; a->stages--) {
            const int bytes = pg_attn_room_of(*a, wm, k->wn, k->n).total + 1024;
            if (2 * bytes <= room || (a->stages <= 2 && bytes <= room)) return wm;
            if (a->stages > 2 && a->one && bytes <= room) return wm;
        }
    }
    return 0;
}

static int launch(pg_cuda *c, pg_attn_args *a, int is_prefill, int rows)
{
    const int shared = a->heads / a->kv_heads;
    if (a->dtype == PG_F32 || a->dv > 512) return -1;
    const choice *k = kernels[a->dtype == PG_BF16][is_prefill];
    while (k->dv < a->dv) k++;
    int wm = k->wm;
    if (!is_prefill && shared <= 16) wm = 1;
    wm = fit(c, a, k, wm);
    if (!wm) return -1;
    a->heads_part = shared < 16 * wm ? shared : 16 * wm;
    a->parts = (shared + a->heads_part - 1) / a->heads_part;
    a->rows_part = 16 * wm / a->heads_part;
    const int bytes = pg_attn_room_of(*a, wm, k->wn, k->n).total, items = a->kv_heads * a->parts;
    if (pg_cuda_try(c, cudaFuncSetAttribute(k->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                    "shared memory of attention"))
        return 0;
    const dim3 grid = is_prefill ? dim3((rows + a->rows_part - 1) / a->rows_part, items) : dim3(a->slots, items, rows);
    PG_LAUNCH(k->kernel, grid, wm * k->wn * 32, bytes, c->stream, *a);
    pg_cuda_try(c, cudaGetLastError(), "attention");
    return 0;
}

int pg_attn_mma_decode(pg_cuda *c, pg_attn_args *a, int rows)
{
    return launch(c, a, 0, rows);
}

int pg_attn_mma_prefill(pg_cuda *c, pg_attn_args *a, int rows)
{
    return launch(c, a, 1, rows);
}
