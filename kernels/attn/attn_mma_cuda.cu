/* attn_mma_cuda.cu: attention with tensor cores: the 16-bit caches, and q8_0 as 16-bit numbers.
 *
 * A block takes an item: some rows of a sequence times some heads that share a kv head. Keys and values pass through
 * shared memory tile by tile, fetched ahead, and are read from the cache once for all queries of the item. Prefill: a
 * warp has 32 queries, all positions of a tile and all columns, so weights stay in registers. Decode, and MLA, whose
 * 512 columns of sums fit no warp: warps share queries, each takes a part of the scores and of the sums' columns.
 * What a row does not see counts as 0 * v: an infinity among later values of its tile would show.
 * Sources: Dao, FlashAttention-2 (arXiv 2307.08691); Dao et al., Flash-Decoding, 2023; absorbed MLA, DeepSeek-V2
 * (arXiv 2405.04434). */
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

/* The item's queries meet the positions that they see. GROUP: x is the group of its runs, each from nothing. */
template <class T, class S, bool GROUP>
static __device__ __forceinline__ void attend(const pg_attn_args &a, const pg_attn_room &m, unsigned char *mem,
                                              const pg_attn_item &w, sums<S::MT, S::NV> &x)
{
    const lot<S> me;
    const int t0 = w.lo / S::N, t1 = w.hi / S::N + 1, n = w.n_row * w.n_head;
    prepare<T, S::N>(a, m, mem, w, t0, t1, (int)blockDim.x / 32 / (S::WN * S::WK) * S::ROWS);
    int first[S::MT][2], last[S::MT][2];
#pragma unroll
    for (int i = 0; i < S::MT * 2; i++) {
        const int q = me.query(i / 2, i % 2);
        last[i / 2][i % 2] = q < n ? a.step->pos[w.r0 + q / w.n_head] : -1;
        first[i / 2][i % 2] = pg_attn_first(a, last[i / 2][i % 2]);
    }
    const int least = a.step->pos[w.r0], from = pg_attn_first(a, a.step->pos[w.r0 + w.n_row - 1]);
    sums<S::MT, GROUP ? S::NV : 1> group;
    begin(x);
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
        if (ends) together<S, false>(x.sum, mem + m.red, me);
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

/* Block (slot, item, row of the decode class): `per` of the row's runs. Left for the kernel that folds groups. */
template <class T, class S, int THREADS> static __global__ void __launch_bounds__(THREADS) decode(const pg_attn_args a)
{
    PG_SHARED(unsigned char, mem);
    pg_let_next();
    pg_wait_before();
    const pg_cuda_step step = *a.step;
    const int row = step.n_prefill + a.row0 + blockIdx.z;
    if (row >= step.n) return;
    const int pos = step.pos[row], seq = step.seq[row];
    const pg_attn_span span = pg_attn_cut(a, pos);
    const int u = blockIdx.x * a.per;
    if (u >= span.n_run) return;
    pg_attn_item w;
    set_heads(a, w, blockIdx.y);
    w.pages = step.pages + (int64_t)seq * step.page_step;
    w.r0 = row;
    w.n_row = 1;
    w.run = span.run;
    w.lo = max(span.first, (span.u0 + u) * span.run);
    w.hi = min(span.last, (span.u0 + u + a.per) * span.run - 1);
    const lot<S> me;
    sums<S::MT, S::NV> x;
    attend<T, S, true>(a, pg_attn_room_of<S>(a, (int)blockDim.x / 32 / (S::WN * S::WK)), mem, w, x);
    const int col = me.column() + me.lane % 4 * 2;
#pragma unroll
    for (int r = 0; r < S::MT * 2; r++) {
        const int q = me.query(r / 2, r % 2);
        if (q >= w.n_head) continue;
        const int64_t at = ((int64_t)blockIdx.z * a.slots + blockIdx.x) * a.heads + w.h0 + q;
        if (col == 0) a.stat[at * 2] = x.top[r / 2][r % 2], a.stat[at * 2 + 1] = x.sum[r / 2][r % 2];
        float *to = a.acc + at * a.dv;
#pragma unroll
        for (int i = 0; i < S::NV * 2; i++)
            if (col + i / 2 * 8 + i % 2 < a.dv) to[col + i / 2 * 8 + i % 2] = x.acc[r / 2][i / 2][r % 2 * 2 + i % 2];
    }
}

/* The sink joins, and sums become means. */
template <class S>
static __device__ __forceinline__ void put(const pg_attn_args &a, const pg_attn_item &w, sums<S::MT, S::NV> &x,
                                           const lot<S> &me)
{
    const int col = me.column() + me.lane % 4 * 2;
#pragma unroll
    for (int r = 0; r < S::MT * 2; r++) {
        const int q = me.query(r / 2, r % 2), row = q / w.n_head, head = w.h0 + q - row * w.n_head;
        if (row >= w.n_row) continue;
        float by = 1, sum = x.sum[r / 2][r % 2];
        if (a.sinks) {
            float most = x.top[r / 2][r % 2], sink;
            pg_attn_factors(most, a.sinks[head] * PG_ATTN_LOG2E, by, sink);
            sum = fmaf(sum, by, sink);
        }
        by /= sum;
        float *to = a.y + ((int64_t)(w.r0 + row) * a.heads + head) * a.dv;
#pragma unroll
        for (int i = 0; i < S::NV * 2; i++) {
            const int c = col + i / 2 * 8 + i % 2;
            if (c < a.dv) to[c] = x.acc[r / 2][i / 2][r % 2 * 2 + i % 2] * by;
        }
    }
}

/* Block (tile of rows, item), tiles from the last, which see most, to the first. Where a tile has rows of several
 * sequences they go one after the other. */
template <class T, class S, int THREADS> static __global__ void __launch_bounds__(THREADS) prefill(const pg_attn_args a)
{
    PG_SHARED(unsigned char, mem);
    const pg_cuda_step *step = a.step;
    const int tile = (gridDim.x - 1 - blockIdx.x) * a.rows_part, end = min(step->n_prefill, tile + a.rows_part);
    const pg_attn_room m = pg_attn_room_of<S>(a, (int)blockDim.x / 32 / (S::WN * S::WK));
    const lot<S> me;
    pg_attn_item w;
    set_heads(a, w, blockIdx.y);
    for (w.r0 = tile; w.r0 < end; w.r0 += w.n_row) {
        const int seq = step->seq[w.r0];
        w.n_row = step->seq[end - 1] == seq ? end - w.r0 : 1; /* mostly the former: a sequence's rows stand together */
        while (w.r0 + w.n_row < end && step->seq[w.r0 + w.n_row] == seq) w.n_row++;
        w.pages = step->pages + (int64_t)seq * step->page_step;
        w.lo = pg_attn_first(a, step->pos[w.r0]);
        w.hi = step->pos[w.r0 + w.n_row - 1];
        sums<S::MT, S::NV> x;
        attend<T, S, false>(a, m, mem, w, x);
        put<S>(a, w, x, me);
    }
}

/* ---- choosing ----------------------------------------------------------------------------------------------------- */

/* A kernel and the shape of its blocks. room: bytes of shared memory with wm warp-rows. */
typedef struct choice {
    void (*kernel)(pg_attn_args);
    pg_attn_room (*room)(const pg_attn_args &, int wm);
    int dv, rows, warps, wm; /* most columns of values; queries and warps of a warp-row; most warp-rows */
} choice;

template <class T, class S, int WM> static choice decode_by(void)
{
    return { decode<T, S, 32 * WM * S::WN * S::WK>, pg_attn_room_of<S>, S::DV, S::ROWS, S::WN * S::WK, WM };
}
template <class T, class S, int WM> static choice prefill_by(void)
{
    return { prefill<T, S, 32 * WM * S::WN * S::WK>, pg_attn_room_of<S>, S::DV, S::ROWS, S::WN * S::WK, WM };
}

/* For a number format, best first; the last has room where there is little shared memory. */
enum { CHOICES = 5 };
template <class T> static const choice *choices(int is_prefill)
{
    static const choice decodes[CHOICES] = {
        decode_by<T, pg_attn_split<64, 1, 4, 1, 64>, 1>(),
        decode_by<T, pg_attn_split<128, 1, 4, 1, 64>, 1>(),
        decode_by<T, pg_attn_split<256, 1, 4, 1, 64>, 1>(),
        decode_by<T, pg_attn_split<512, 1, 4, 2, 32>, 2>(),
    };
    static const choice prefills[CHOICES] = {
        prefill_by<T, pg_attn_split<64, 2, 1, 1, 64>, 4>(),  prefill_by<T, pg_attn_split<128, 2, 1, 1, 64>, 4>(),
        prefill_by<T, pg_attn_split<256, 1, 1, 1, 64>, 8>(), prefill_by<T, pg_attn_split<512, 2, 2, 2, 32>, 2>(),
        prefill_by<T, pg_attn_split<512, 1, 4, 2, 32>, 1>(),
    };
    return is_prefill ? prefills : decodes;
}

/* Most warp-rows that fit with two stages or, if none do, with one; and most stages, but a second block on a
 * multiprocessor is worth more than a third stage. Returns bytes, 0: nothing fits. */
static int fit(const pg_cuda *c, pg_attn_args *a, const choice *k, int *wm)
{
    const int room = pg_attn_shared_bytes(c->arch), all = *wm;
    for (int least = 2; least > 0; least--) {
        for (*wm = all; *wm > 0; *wm /= 2) {
            a->stages = least;
            const int most = 2 * (k->room(*a, *wm).total + 1024) <= room ? room / 2 : room;
            for (a->stages = PG_ATTN_RING; a->stages >= least; a->stages--) {
                const int bytes = k->room(*a, *wm).total;
                if (bytes + 1024 <= most) return bytes;
            }
        }
    }
    return 0;
}

static int launch(pg_cuda *c, pg_attn_args *a, int is_prefill, int rows)
{
    const int shared = a->heads / a->kv_heads;
    if (a->dtype == PG_F32 || a->dv > 512) return -1;
    const choice *k = a->dtype == PG_BF16 ? choices<__nv_bfloat16>(is_prefill) : choices<__half>(is_prefill);
    int wm = 0, bytes = 0;
    for (int i = 0; i < CHOICES && !bytes; i++, k += !bytes) {
        if (k->dv < a->dv) continue;
        for (wm = k->wm; !is_prefill && wm > 1 && shared <= k->rows * wm / 2;) wm /= 2;
        bytes = fit(c, a, k, &wm);
    }
    const int most = k->rows * wm;
    if (!bytes) return -1;
    a->heads_part = shared < most ? shared : most;
    a->parts = (shared + a->heads_part - 1) / a->heads_part;
    a->rows_part = most / a->heads_part;
    if (pg_cuda_try(c, cudaFuncSetAttribute(k->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                    "shared memory of attention"))
        return 0;
    const unsigned items = a->kv_heads * a->parts, tiles = (rows + a->rows_part - 1) / a->rows_part;
    const dim3 grid = is_prefill ? dim3(tiles, items) : dim3(a->slots, items, rows);
    if (is_prefill)
        PG_LAUNCH(k->kernel, grid, wm * k->warps * 32, bytes, c->stream, *a);
    else
        PG_LAUNCH_EARLY(c, k->kernel, grid, wm * k->warps * 32, bytes, *a);
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
