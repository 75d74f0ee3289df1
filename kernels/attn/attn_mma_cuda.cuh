/* attn_mma: a block's item of attention with tensor cores: queries meet tiles of keys and values. Private to
 * attn_mma_cuda.cu, which has the kernels.
 *
 * Keys and values pass through shared memory tile by tile, fetched ahead, and are read from the cache once for all
 * queries of the item. Which warp has which share of a tile is a pg_attn_split's to say (attn_tile_cuda.cuh).
 * Sources: Dao, FlashAttention-2 (arXiv 2307.08691). */
#ifndef PG_ATTN_MMA_H
#define PG_ATTN_MMA_H

#include "attn_tile_cuda.cuh"

/* The running softmax of a thread's rows (of 16 queries lane / 4 and 8 more), and its warp's columns of the sums. */
template <int MT, int NV> struct sums {
    float top[MT][2], sum[MT][2], acc[MT][NV][4];
};

template <int MT, int NV> static __device__ __forceinline__ void begin(sums<MT, NV> &x)
{
#pragma unroll
    for (int m = 0; m < MT; m++) {
        x.top[m][0] = x.top[m][1] = -INFINITY;
        x.sum[m][0] = x.sum[m][1] = 0;
#pragma unroll
        for (int i = 0; i < NV * 4; i++) x.acc[m][i / 4][i % 4] = 0;
    }
}

/* Add a finished run to its group. */
template <int MT, int NV> static __device__ __forceinline__ void fold(sums<MT, NV> &x, const sums<MT, NV> &run)
{
#pragma unroll
    for (int m = 0; m < MT; m++) {
        float keep[2], add[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            pg_attn_factors(x.top[m][i], run.top[m][i], keep[i], add[i]);
            x.sum[m][i] = pg_attn_fold(x.sum[m][i], keep[i], run.sum[m][i], add[i]);
        }
#pragma unroll
        for (int i = 0; i < NV * 4; i++) {
            float &to = x.acc[m][i / 4][i % 4];
            to = pg_attn_fold(to, keep[i % 4 / 2], run.acc[m][i / 4][i % 4], add[i % 4 / 2]);
        }
    }
}

/* Which share of a tile a warp has. */
template <class S> struct lot {
    int wm, wn, wk, lane;
    __device__ __forceinline__ lot()
    {
        const int warp = threadIdx.x / 32;
        lane = threadIdx.x % 32;
        wk = warp % S::WK;
        wn = warp / S::WK % S::WN;
        wm = warp / (S::WK * S::WN);
    }
    __device__ __forceinline__ int query(int m, int half) const /* the thread's row of 16 queries m */
    {
        return wm * S::ROWS + m * 16 + half * 8 + lane / 4;
    }
    __device__ __forceinline__ int column() const /* of values: the warp's first */
    {
        return (wn * S::WK + wk) * S::NV * 8;
    }
};

/* A number of each of the thread's rows, brought together over the four lanes and WN warps that share the row: the
 * largest, or the sum in order. */
template <class S, bool MOST>
static __device__ __forceinline__ void together(float (&x)[S::MT][2], unsigned char *red, const lot<S> &me)
{
#pragma unroll
    for (int i = 0; i < S::MT * 2; i++) {
        float &y = x[i / 2][i % 2];
        for (int to = 1; to <= 2; to *= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, y, to);
            y = MOST ? fmaxf(y, other) : y + other;
        }
    }
    if constexpr (S::ALONE) return;
    float *row = reinterpret_cast<float *>(red);
#pragma unroll
    for (int i = 0; i < S::MT * 2; i++)
        if (me.lane % 4 == 0 && me.wk == 0) row[me.query(i / 2, i % 2) * S::WN + me.wn] = x[i / 2][i % 2];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < S::MT * 2; i++) {
        const float *part = row + me.query(i / 2, i % 2) * S::WN;
        float y = part[0];
#pragma unroll
        for (int w = 1; w < S::WN; w++) y = MOST ? fmaxf(y, part[w]) : y + part[w];
        x[i / 2][i % 2] = y;
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

/* Scores of the warp's queries and positions. WK warps have each summed up some columns, and all get the whole. */
template <class T, class S>
static __device__ __forceinline__ void scores(float (&s)[S::MT][S::NT][4], const pg_attn_room &m, unsigned char *mem,
                                              const unsigned char *k, const lot<S> &me)
{
    const int steps = m.k_columns / 32, from = steps * me.wk / S::WK, to = steps * (me.wk + 1) / S::WK;
    pg_attn_qk<T, S::MT, S::NT>(s, mem + m.q + me.wm * S::ROWS * m.k_pitch, k + me.wn * S::NT * 8 * m.k_pitch,
                                m.k_pitch, from * 32, to * 32);
    if constexpr (S::WK > 1) {
        float4 *part =
            reinterpret_cast<float4 *>(mem + m.p) + (threadIdx.x / 32 - me.wk) * S::MT * S::NT * 32 + me.lane;
        float4 *mine = part + me.wk * S::MT * S::NT * 32;
#pragma unroll
        for (int i = 0; i < S::MT * S::NT; i++) {
            const float(&x)[4] = s[i / S::NT][i % S::NT];
            mine[i * 32] = make_float4(x[0], x[1], x[2], x[3]);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < S::MT * S::NT; i++) {
            float(&x)[4] = s[i / S::NT][i % S::NT];
            float4 sum = part[i * 32];
#pragma unroll
            for (int other = 1; other < S::WK; other++) {
                const float4 y = part[(other * S::MT * S::NT + i) * 32];
                sum = make_float4(sum.x + y.x, sum.y + y.y, sum.z + y.z, sum.w + y.w);
            }
            x[0] = sum.x, x[1] = sum.y, x[2] = sum.z, x[3] = sum.w;
        }
    }
}

/* Scores of a tile become weights, and the running softmax takes a step. t: the thread's first position. */
template <class S>
static __device__ __forceinline__ void weigh(const pg_attn_args &a, float (&s)[S::MT][S::NT][4],
                                             const int (&first)[S::MT][2], const int (&last)[S::MT][2], int t,
                                             bool whole, sums<S::MT, S::NV> &x, unsigned char *red, const lot<S> &me)
{
    float most[S::MT][2];
#pragma unroll
    for (int m = 0; m < S::MT; m++) {
        most[m][0] = most[m][1] = -INFINITY;
#pragma unroll
        for (int i = 0; i < S::NT * 4; i++) {
            const int at = t + i / 4 * 8 + i % 2, r = i % 4 / 2;
            float &y = s[m][i / 4][i % 4];
            y = whole || (at >= first[m][r] && at <= last[m][r]) ? pg_attn_score(a, y) : -INFINITY;
            most[m][r] = fmaxf(most[m][r], y);
        }
    }
    together<S, true>(most, red, me);
#pragma unroll
    for (int m = 0; m < S::MT; m++) {
        float keep[2], from[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            most[m][r] = fmaxf(most[m][r], x.top[m][r]);
            from[r] = pg_attn_from(most[m][r]);
            keep[r] = exp2f(x.top[m][r] - from[r]);
            x.top[m][r] = most[m][r];
            x.sum[m][r] *= keep[r];
        }
#pragma unroll
        for (int i = 0; i < S::NT * 4; i++) {
            float &y = s[m][i / 4][i % 4];
            y = exp2f(y - from[i % 4 / 2]);
            x.sum[m][i % 4 / 2] += y;
        }
#pragma unroll
        for (int i = 0; i < S::NV * 4; i++) x.acc[m][i / 4][i % 4] *= keep[i % 4 / 2];
    }
}

/* Weights times values. Where warps share queries, the weights meet in shared memory, for each needs all positions. */
template <class T, class S>
static __device__ __forceinline__ void values(float (&acc)[S::MT][S::NV][4], const float (&s)[S::MT][S::NT][4],
                                              const pg_attn_room &m, unsigned char *mem, const unsigned char *v,
                                              const lot<S> &me)
{
    const int col = me.column(), n = (m.v_columns - col) / 8, pitch = (S::N + 8) * 2;
    unsigned char *p = mem + m.p + me.wm * S::ROWS * pitch;
    if constexpr (!S::ALONE) {
#pragma unroll
        for (int i = 0; i < S::MT * S::NT; i++) {
            const float(&x)[4] = s[i / S::NT][i % S::NT];
            unsigned char *to =
                p + (i / S::NT * 16 + me.lane / 4) * pitch + (me.wn * S::NT * 8 + i % S::NT * 8 + me.lane % 4 * 2) * 2;
            if (me.wk) continue;
            *reinterpret_cast<uint32_t *>(to) = pg_attn_half<T>::pack(x[0], x[1]);
            *reinterpret_cast<uint32_t *>(to + 8 * pitch) = pg_attn_half<T>::pack(x[2], x[3]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < S::N / 16; k++) {
        uint32_t w[S::MT][4];
#pragma unroll
        for (int i = 0; i < S::MT; i++) {
            if constexpr (S::ALONE) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float(&x)[4] = s[i][2 * k + j / 2];
                    w[i][j] = pg_attn_half<T>::pack(x[j % 2 * 2], x[j % 2 * 2 + 1]);
                }
            } else {
                pg_ldmatrix_x4(w[i], p + (i * 16 + me.lane % 16) * pitch + k * 32 + me.lane / 16 * 16);
            }
        }
        pg_attn_pv<T, S::MT, S::NV>(acc, w, v + k * 16 * m.v_pitch + col * 2, m.v_pitch, n);
    }
}

/* Where a position of a tile lies, for when the tile is fetched. */
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

/* How the sums of an item come about: from nothing; a group of runs, each from nothing; or, where there is no window, going
 * on from what x has, of which every lane then keeps its own part of x.sum. */
enum { PG_ATTN_WHOLE, PG_ATTN_RUNNING, PG_ATTN_ON };

/* The item's queries meet the positions that they see. */
template <class T, class S, int HOW>
static __device__ __forceinline__ void attend(const pg_attn_args &a, const pg_attn_room &m, unsigned char *mem,
                                              const pg_attn_item &w, sums<S::MT, S::NV> &x)
{
    constexpr bool GROUP = HOW == PG_ATTN_RUNNING, WINDOW = HOW != PG_ATTN_ON;
    const lot<S> me;
    const int t0 = w.lo / S::N, t1 = w.hi / S::N + 1, n = w.n_row * w.n_head;
    prepare<T, S::N>(a, m, mem, w, t0, t1, (int)blockDim.x / 32 / (S::WN * S::WK) * S::ROWS);
    int first[S::MT][2], last[S::MT][2];
#pragma unroll
    for (int i = 0; i < S::MT * 2; i++) {
        const int q = me.query(i / 2, i % 2);
        last[i / 2][i % 2] = q < n ? a.step->pos[w.r0 + q / w.n_head] : -1;
        first[i / 2][i % 2] = WINDOW ? pg_attn_first(a, last[i / 2][i % 2]) : 0;
    }
    const int least = a.step->pos[w.r0], from = WINDOW ? pg_attn_first(a, a.step->pos[w.r0 + w.n_row - 1]) : 0;
    sums<S::MT, GROUP ? S::NV : 1> group;
    if (HOW != PG_ATTN_ON) begin(x);
    begin(group);
    for (int t = t0; t < t1; t++) {
        const bool mine = threadIdx.x < S::N && t + a.stages < t1;
        pg_attn_place next = { -1, -1 };
        if (mine) next = pg_attn_place_of(a, w, (t + a.stages) * S::N + threadIdx.x); /* asked for well ahead */
        const unsigned char *v, *k = arrive<S::N>(a, m, mem, w, t, t1, &v);
        float s[S::MT][S::NT][4];
        scores<T, S>(s, m, mem, k, me);
        weigh<S>(a, s, first, last, t * S::N + me.wn * S::NT * 8 + me.lane % 4 * 2,
                 t * S::N >= from && t * S::N + S::N - 1 <= least, x, mem + m.red, me);
        values<T, S>(x.acc, s, m, mem, v, me);
        const bool ends = t + 1 == t1 || (GROUP && (t + 1) * S::N % w.run == 0);
        if (ends && HOW != PG_ATTN_ON) together<S, false>(x.sum, mem + m.red, me);
        if (GROUP && ends) {
            if constexpr (GROUP) fold(group, x);
            begin(x);
        }
        if (mine) set_place<S::N>(m, mem, t + a.stages, threadIdx.x, next);
    }
    if constexpr (GROUP) x = group;
}

static __device__ __forceinline__ void set_heads(const pg_attn_args &a, pg_attn_item &w, int item)
{
    const int shared = a.heads / a.kv_heads, h = item % a.parts * a.heads_part;
    w.g = item / a.parts;
    w.h0 = w.g * shared + h;
    w.n_head = shared - h < a.heads_part ? shared - h : a.heads_part;
}

#endif
