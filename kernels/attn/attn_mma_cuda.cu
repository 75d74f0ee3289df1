/* attn_mma_cuda.cu: attention with tensor cores: the 16-bit caches, and q8_0 as 16-bit numbers.
 *
 * A block takes an item: some rows of a sequence times some heads that share a kv head (attn_mma_cuda.cuh). Prefill: a
 * warp has 32 queries, all positions of a tile and all columns, so weights stay in registers. Decode, and MLA, whose
 * 512 columns of sums fit no warp: warps share queries, each takes a part of the scores and of the sums' columns.
 * What a row does not see counts as 0 * v: an infinity among later values of its tile would show.
 * Sources: Dao, FlashAttention-2 (arXiv 2307.08691); Dao et al., Flash-Decoding, 2023; absorbed MLA, DeepSeek-V2
 * (arXiv 2405.04434). */
#include "attn_mma_cuda.cuh"

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
    attend<T, S, PG_ATTN_RUNNING>(a, pg_attn_room_of<S>(a, (int)blockDim.x / 32 / (S::WN * S::WK)), mem, w, x);
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
        attend<T, S, PG_ATTN_WHOLE>(a, m, mem, w, x);
        put<S>(a, w, x, me);
    }
}

/* What a row has seen so far: its sums as they are in y; in stat the largest score, and each lane's part of the sum, so
 * that it goes on with the same bits. act(16 queries, half of them, position, stat, the thread's first column of y, columns
 * from there on) for the thread's rows. */
template <class S, class Do>
static __device__ __forceinline__ void each_row(const pg_attn_args &a, const pg_attn_item &w, const lot<S> &me,
                                                const Do &act)
{
#pragma unroll
    for (int r = 0; r < S::MT * 2; r++) {
        const int row = me.query(r / 2, r % 2); /* a head a block */
        if (row >= w.n_row) continue;
        const int64_t at = (int64_t)(w.r0 + row) * a.heads + w.h0;
        act(r / 2, r % 2, a.step->pos[w.r0 + row], a.stat + at * PG_ATTN_STATE,
            a.y + at * a.dv + me.column() + me.lane % 4 * 2, a.dv - me.column() - me.lane % 4 * 2);
    }
}

static __device__ __forceinline__ int tile_end(const pg_attn_args &a)
{
    return min(a.step->n_prefill, (int)(gridDim.x - blockIdx.x) * a.rows_part);
}

/* Block (tile of rows, head): rows meet those of their positions whose keys and values have been expanded (mla_cuda.cu),
 * [key0, key0 + keys) of all sequences' one after the other, and go on from where the keys before have left them. */
template <class T, class S, int THREADS>
static __global__ void __launch_bounds__(THREADS) expanded(const pg_attn_args a)
{
    static_assert(S::ALONE, "a warp has its queries to itself");
    PG_SHARED(unsigned char, mem);
    const pg_attn_room m = pg_attn_room_of<S>(a, (int)blockDim.x / 32);
    const lot<S> me;
    pg_attn_item w;
    set_heads(a, w, blockIdx.y);
    for (w.r0 = (gridDim.x - 1 - blockIdx.x) * a.rows_part; w.r0 < tile_end(a); w.r0 += w.n_row) {
        const int span = pg_span_of(a.step->span_row, a.step->n_span, w.r0), from = a.key0 - a.step->span_key[span];
        w.n_row = min(tile_end(a), a.step->span_row[span + 1]) - w.r0;
        w.lo = max(from, 0);
        w.hi = min(a.step->pos[w.r0 + w.n_row - 1], from + a.keys - 1);
        if (w.lo > w.hi) continue; /* all of them are through, or their keys are still to come */
        w.pages = a.pages - from / a.page_tokens;
        sums<S::MT, S::NV> x;
        begin(x);
        if (w.lo > 0)
            each_row<S>(a, w, me, [&](int i, int half, int pos, const float *stat, const float *y, int n) {
                if (pos < w.lo) return;
                x.top[i][half] = stat[0];
                x.sum[i][half] = stat[1 + me.lane % 4];
#pragma unroll
                for (int k = 0; k < S::NV; k++) {
                    if (k * 8 < n) x.acc[i][k][half * 2] = y[k * 8];
                    if (k * 8 + 1 < n) x.acc[i][k][half * 2 + 1] = y[k * 8 + 1];
                }
            });
        attend<T, S, PG_ATTN_ON>(a, m, mem, w, x);
        float all[S::MT][2];
#pragma unroll
        for (int i = 0; i < S::MT * 2; i++) all[i / 2][i % 2] = x.sum[i / 2][i % 2];
        together<S, false>(all, mem, me);
        each_row<S>(a, w, me, [&](int i, int half, int pos, float *stat, float *y, int n) {
            const bool on = pos > w.hi;
            if (pos < w.lo) return;
            if (on && me.lane % 4 == 0) stat[0] = x.top[i][half];
            if (on) stat[1 + me.lane % 4] = x.sum[i][half];
            const float by = on ? 1.0f : 1.0f / all[i][half];
#pragma unroll
            for (int k = 0; k < S::NV; k++) {
                if (k * 8 < n) y[k * 8] = x.acc[i][k][half * 2] * by;
                if (k * 8 + 1 < n) y[k * 8 + 1] = x.acc[i][k][half * 2 + 1] * by;
            }
        });
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

template <class T, class S, int WM> static choice expanded_by(void)
{
    return { expanded<T, S, 32 * WM>, pg_attn_room_of<S>, S::DV, S::ROWS, 1, WM };
}

/* For a number format, best first; the last has room where there is little shared memory. */
enum { CHOICES = 5, DECODE = 0, PREFILL, EXPANDED };
template <class T> static const choice *choices(int how)
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
    static const choice expansions[CHOICES] = {
        expanded_by<T, pg_attn_split<64, 2, 1, 1, 64>, 4>(),
        expanded_by<T, pg_attn_split<128, 2, 1, 1, 64>, 4>(),
        expanded_by<T, pg_attn_split<256, 1, 1, 1, 64>, 8>(),
    };
    return how == DECODE ? decodes : how == PREFILL ? prefills : expansions;
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

/* The kernel, its warp-rows and its bytes of shared memory; NULL: none for this shape on this device. */
static const choice *choose(const pg_cuda *c, pg_attn_args *a, int how, int *wm, int *bytes)
{
    const int shared = a->heads / a->kv_heads;
    if (a->dtype == PG_F32) return NULL;
    const choice *k = a->dtype == PG_BF16 ? choices<__nv_bfloat16>(how) : choices<__half>(how);
    for (int i = 0; i < CHOICES; i++, k++) {
        if (k->dv < a->dv) continue;
        for (*wm = k->wm; how == DECODE && *wm > 1 && shared <= k->rows * *wm / 2;) *wm /= 2;
        if ((*bytes = fit(c, a, k, wm))) return k;
    }
    return NULL;
}

static int launch(pg_cuda *c, pg_attn_args *a, int how, int rows)
{
    int wm, bytes;
    const choice *k = choose(c, a, how, &wm, &bytes);
    if (!k) return -1;
    const int shared = a->heads / a->kv_heads, most = k->rows * wm;
    a->heads_part = shared < most ? shared : most;
    a->parts = (shared + a->heads_part - 1) / a->heads_part;
    a->rows_part = most / a->heads_part;
    if (pg_cuda_try(c, cudaFuncSetAttribute(k->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                    "shared memory of attention"))
        return 0;
    const unsigned items = a->kv_heads * a->parts, tiles = (rows + a->rows_part - 1) / a->rows_part;
    const int is_decode = how == DECODE;
    const dim3 grid = is_decode ? dim3(a->slots, items, rows) : dim3(tiles, items);
    if (is_decode)
        PG_LAUNCH_EARLY(c, k->kernel, grid, wm * k->warps * 32, bytes, *a);
    else
        PG_LAUNCH(k->kernel, grid, wm * k->warps * 32, bytes, c->stream, *a);
    pg_cuda_try(c, cudaGetLastError(), "attention");
    return 0;
}

int pg_attn_mma_decode(pg_cuda *c, pg_attn_args *a, int rows)
{
    return launch(c, a, DECODE, rows);
}

int pg_attn_mma_prefill(pg_cuda *c, pg_attn_args *a, int rows)
{
    return launch(c, a, PREFILL, rows);
}

int pg_attn_mma_expands(const pg_cuda *c, pg_attn_args *a)
{
    int wm, bytes;
    return choose(c, a, EXPANDED, &wm, &bytes) != NULL;
}

void pg_attn_mma_expanded(pg_cuda *c, pg_attn_args *a, int rows)
{
    launch(c, a, EXPANDED, rows);
}
