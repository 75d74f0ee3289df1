/* tile: how a block multiplies a tile of rows by 128 rows of a weight matrix, whatever the format.
 *
 * Both operands stand in shared memory as rows of 64 bf16, 128 bytes; the 16-byte pieces of row r are swapped by
 * XOR with r % 8. Eight rows that are read (ldmatrix) or eight that are written (a decoded piece) at the same column then
 * touch all 32 banks once. It is also the tensor cores' own 128-byte swizzle, so wgmma reads the same tiles.
 * x comes by asynchronous copies, several tiles of 64 columns ahead. Weights come through registers: the stored bytes are
 * loaded one tile ahead, decoded into the other buffer, and meanwhile the tensor cores have the tile before. A block goes
 * from tile to tile; the row tiles of one weight tile are neighbours in time, so that weights are read from memory once.
 * bf16 and not f16: activations have outliers beyond f16's range in more than one model family, and the weights' own
 * rounding hides the three bits less.
 * Source: tiling and pipelining as in NVIDIA, CUTLASS documentation, Efficient GEMM; the swizzle is that of the PTX ISA's
 * shared memory layouts. */
#ifndef PG_TILE_H
#define PG_TILE_H

#include "../glu/glu.cuh"
#include "decode.cuh"
#include "gemm_cuda.cuh"

enum { PG_TILE_THREADS = 256, PG_TILE_N = 128, PG_TILE_ROW = 128 }; /* weight rows; bytes of a row of 64 columns */

/* ---- index maps --------------------------------------------------------------------------------------------------- */

/* Byte of piece 0 .. 7 of row r. */
PG_HD int pg_tile_at(int r, int piece)
{
    return PG_TILE_ROW * r + 16 * (piece ^ (r & 7));
}

/* What the threads of a block decode of a tile of 64 columns: units (row, chunk). Chunks of four pieces span 128 columns,
 * so of them a tile takes two pieces. Eight neighbouring threads have eight rows. */
template <class F> struct pg_units {
    enum {
        QUARTER = F::PIECES == 4,
        OF_ROW = QUARTER ? 2 : PG_GEMM_STEP / (F::WIDTH * F::PIECES),
        PIECES = QUARTER ? 2 : F::PIECES,
        EACH = OF_ROW / 2 /* units of a thread, when there are two rows for four threads */
    };
    static PG_HD int row(int id) { return id % 8 + id / (8 * OF_ROW) * 8; }
    static PG_HD int chunk(int id, int tile)
    {
        return QUARTER ? tile / 2 * 2 + id / 8 % OF_ROW : tile * OF_ROW + id / 8 % OF_ROW;
    }
    static PG_HD int piece(int p, int tile) { return QUARTER ? tile % 2 * 2 + p : p; }
    /* Of piece p, from the start of the tile. */
    static PG_HD int column(int id, int p, int tile)
    {
        return F::column(chunk(id, tile)) + F::SPREAD * piece(p, tile) - PG_GEMM_STEP * tile;
    }
};

/* ---- bf16 --------------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ uint32_t pg_bf16_pair(float low, float high)
{
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return (uint32_t)__bfloat16_as_ushort(v.x) | (uint32_t)__bfloat16_as_ushort(v.y) << 16;
}

__device__ __forceinline__ uint32_t pg_f16_pair(float low, float high)
{
    const __half2 v = __floats2half2_rn(low, high);
    return (uint32_t)__half_as_ushort(__low2half(v)) | (uint32_t)__half_as_ushort(__high2half(v)) << 16;
}

/* A piece as bf16. Codes of quantised formats get their factor and minimum in one step: a byte u in bits 8 .. 15 of 2^15 is
 * 2^15 + u, and d * (2^15 + u) + (m - d * (2^15 + 128)) rounds once; the second term is off by a thousandth of d at
 * most. MXFP4's factors are too wide for that. */
template <class F, pg_dtype T>
__device__ __forceinline__ void pg_piece_bf16(const typename F::raw &raw, int chunk, int piece,
                                              uint32_t (&y)[F::WIDTH / 2])
{
    if constexpr (T == PG_BF16) {
        y[0] = raw.w.x;
        y[1] = raw.w.y;
        y[2] = raw.w.z;
        y[3] = raw.w.w;
    } else if constexpr (F::QUANT && T != PG_MXFP4) {
        uint32_t q[4];
        F::code(raw, chunk, piece, q);
        const float d = F::d(raw, chunk, piece), m = fmaf(-32896.0f, d, F::m(raw, chunk, piece));
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint32_t up = q[i / 2] ^ 0x80808080u, at = 2 * (uint32_t)(i % 2) << 4;
            const float a = pg_float_of(pg_pick_bytes(up, 0x47000000u, 0x7404u | at));
            const float b = pg_float_of(pg_pick_bytes(up, 0x47000000u, 0x7414u + at));
            y[i] = pg_bf16_pair(fmaf(d, a, m), fmaf(d, b, m));
        }
    } else {
        float v[F::WIDTH];
        F::value(raw, chunk, piece, v);
#pragma unroll
        for (int i = 0; i < F::WIDTH / 2; i++) y[i] = pg_bf16_pair(v[2 * i], v[2 * i + 1]);
    }
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

/* The stored bytes of a thread's share of a weight tile: N rows, the second half of which may be of another matrix. */
template <class F, int N, bool EVEN> struct pg_tile_raw {
    typedef pg_units<F> U;
    enum { EACH = U::EACH, THREADS = 2 * N, HALF = N / 2 };
    typename F::raw raw[EACH];
    pg_view w[2];
    int32_t first[2], last, chunks; /* first row of each half; the last row that there is; chunks of a row */

    static __device__ __forceinline__ int id(int i) { return (int)threadIdx.x + THREADS * i; }
    /* A single unit's half is the thread's; of several, the first ones are of the first half. */
    static __device__ __forceinline__ int half(int i) { return EACH > 1 ? 2 * i >= EACH : 0; }

    __device__ __forceinline__ void load(int tile)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int h = half(i), row = min(first[h] + U::row(id(i)) % HALF, last), chunk = U::chunk(id(i), tile);
            if (chunk >= chunks) continue;
            if constexpr (F::QUANT || EVEN)
                raw[i] = F::template load<pg_far>(w[h], row, chunk);
            else
                raw[i] = F::template load_part<pg_far>(w[h], row, chunk);
        }
    }
};

/* Decoded into a tile of bf16. */
template <class F, pg_dtype T, bool EVEN>
__device__ __forceinline__ void pg_tile_decode(const pg_tile_raw<F, PG_TILE_N, EVEN> &r, int tile, unsigned char *to)
{
    typedef pg_units<F> U;
#pragma unroll
    for (int i = 0; i < U::EACH; i++) {
        const int id = r.id(i), row = U::row(id), chunk = U::chunk(id, tile);
#pragma unroll
        for (int p = 0; p < U::PIECES; p++) {
            uint32_t y[F::WIDTH / 2] = {};
            if (chunk < r.chunks) pg_piece_bf16<F, T>(r.raw[i], chunk, U::piece(p, tile), y);
            const int column = U::column(id, p, tile);
            if constexpr (F::WIDTH == 4) {
                *reinterpret_cast<uint2 *>(to + pg_tile_at(row, column / 8) + column % 8 * 2) = make_uint2(y[0], y[1]);
            } else {
#pragma unroll
                for (int k = 0; k < F::WIDTH / 8; k++)
                    *reinterpret_cast<uint4 *>(to + pg_tile_at(row, column / 8 + k)) =
                        make_uint4(y[4 * k], y[4 * k + 1], y[4 * k + 2], y[4 * k + 3]);
            }
        }
    }
}

/* ---- where a tile is ---------------------------------------------------------------------------------------------- */

typedef struct pg_tile_place {
    int32_t group, column;     /* first weight row: of a pair half as far */
    int32_t row, end;          /* rows (of the step, or pairs) of the tile, and where they end */
    int32_t part, step, steps; /* part of K; its tiles of 64 columns */
} pg_tile_place;

/* How many of n ascending numbers are at most x. All lanes of a warp ask the same. */
__device__ __forceinline__ int pg_warp_find(const int32_t *v, int n, int64_t x, int64_t times)
{
    int at = 0;
    for (int i = 0; i < n; i += 32) {
        const int mine = i + (int)threadIdx.x % 32;
        at += __popc(__ballot_sync(0xffffffffu, mine < n && v[mine] * times <= x));
    }
    return at;
}

/* Tile number id, of rows rows and columns columns; false: there are no more. */
__device__ __forceinline__ bool pg_tile_find(const pg_gemm &g, int64_t id, int rows, int columns, pg_tile_place *p)
{
    const int n_column = (g.w[0].n + columns - 1) / columns, steps = (g.w[0].k + PG_GEMM_STEP - 1) / PG_GEMM_STEP;
    int64_t high; /* row tiles of the group */
    if (g.first) {
        p->group = pg_warp_find(g.tile + 1, g.groups, id, n_column);
        if (p->group >= g.groups) return false;
        const int32_t before = g.tile[p->group];
        high = g.tile[p->group + 1] - before;
        id -= (int64_t)before * n_column;
        p->row = g.first[p->group];
        p->end = g.first[p->group + 1];
        p->part = 0;
    } else {
        const int n = pg_step_rows(g.step, g.all);
        high = (n + rows - 1) / rows;
        const int64_t each = high * n_column * g.split;
        if (id >= each * g.groups) return false;
        p->group = (int32_t)(id / each);
        id -= p->group * each;
        p->part = (int32_t)(id / (high * n_column));
        id -= p->part * high * n_column;
        p->row = 0;
        p->end = n;
    }
    p->column = (int32_t)(id / high) * columns;
    p->row += (int32_t)(id % high) * rows;
    p->step = steps * p->part / g.split;
    p->steps = steps * (p->part + 1) / g.split - p->step;
    return true;
}

/* The weights of a tile of N rows. */
template <class F, int N, bool EVEN>
__device__ __forceinline__ void pg_tile_weights(pg_tile_raw<F, N, EVEN> *r, const pg_gemm &g, const pg_tile_place &p)
{
    r->w[0] = pg_view_of(g.w[0], p.group);
    r->w[1] = g.pair ? pg_view_of(g.w[1], p.group) : r->w[0];
    r->first[0] = p.column;
    r->first[1] = g.pair ? p.column : p.column + N / 2;
    r->last = g.w[0].n - 1;
    r->chunks = pg_chunks<F>(g.w[0].k);
    if (r->EACH > 1) return;
    if ((int)threadIdx.x >=
        r->THREADS / 2) { /* the half is known from here on: the other's addresses need no registers */
        r->w[0] = r->w[1];
        r->first[0] = r->first[1];
    }
}

/* ---- what becomes of sums ----------------------------------------------------------------------------------------- */

/* The same four sums as 16-bit numbers. */
__device__ __forceinline__ void pg_tile_put_half(const pg_gemm &g, const pg_tile_place &p, int r, int o,
                                                 const float (&sum)[4], int half)
{
    uint16_t *y = reinterpret_cast<uint16_t *>(g.y) + (int64_t)r * g.y_width + p.group * g.y_group;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = o + i * half, n = g.w[0].n;
        const float low = sum[2 * i] * g.scale, high = sum[2 * i + 1] * g.scale;
        const uint32_t two = g.as == PG_BF16 ? pg_bf16_pair(low, high) : pg_f16_pair(low, high);
        uint16_t *to = y + at;
        if (at + 1 < n && (reinterpret_cast<uintptr_t>(to) & 3) == 0) {
            *reinterpret_cast<uint32_t *>(to) = two;
        } else {
            if (at < n) to[0] = (uint16_t)two;
            if (at + 1 < n) to[1] = (uint16_t)(two >> 16);
        }
    }
}

/* Four sums of row r: of weight rows o and o + STEP, and of those `half` rows further down the tile, which of a pair are
 * the same rows of the other matrix. H: what hidden values are. */
template <class H, int STEP>
__device__ __forceinline__ void pg_tile_put(const pg_gemm &g, const pg_tile_place &p, int r, int o,
                                            const float (&sum)[4], int half)
{
    const int n = g.w[0].n;
    const int64_t bias_at = (int64_t)p.group * n;
    if (g.pair) {
        H *to = static_cast<H *>(g.hidden) + (int64_t)r * g.hidden_width + o;
        float y[2] = {};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int at = o + i * STEP;
            if (at >= n) continue; /* zero, which down multiplies by zero */
            const float gate = sum[i] + (g.bias[0] ? g.bias[0][bias_at + at] : 0.0f);
            const float up = sum[2 + i] + (g.bias[1] ? g.bias[1][bias_at + at] : 0.0f);
            y[i] = pg_glu_one(gate, up, g.glu, g.limit);
        }
        if constexpr (sizeof(H) == 2) {
            if (o < g.hidden_width) *reinterpret_cast<uint32_t *>(to) = pg_bf16_pair(y[0], y[1]);
        } else {
            if (o < g.hidden_width) to[0] = y[0];
            if (o + STEP < g.hidden_width) to[STEP] = y[1];
        }
        return;
    }
    if constexpr (sizeof(H) == 2 && STEP == 1) {
        if (g.as != PG_F32) {
            pg_tile_put_half(g, p, r, o, sum, half);
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = o + i % 2 * STEP + i / 2 * half;
        if (at >= n) continue;
        if (g.split > 1)
            g.part[(((int64_t)p.part * g.groups + p.group) * g.rows + r) * n + at] = sum[i];
        else
            g.y[(int64_t)r * g.y_width + p.group * g.y_group + at] =
                sum[i] * g.scale + (g.bias[0] ? g.bias[0][bias_at + at] : 0.0f);
    }
}

/* ---- the tile ----------------------------------------------------------------------------------------------------- */

/* Rows of x on their way into a tile of M rows: a thread copies one piece of every 32nd row. */
template <int M> struct pg_tile_x {
    enum { EACH = M / 32 };
    const unsigned char *base;
    int64_t width;      /* bytes */
    int32_t from[EACH]; /* the row, -1: none */

    __device__ __forceinline__ void begin(const pg_gemm &g, const pg_tile_place &p)
    {
        width = g.x_width * 2;
        base = static_cast<const unsigned char *>(g.x) + p.group * g.x_group * 2 + (int)threadIdx.x % 8 * 16;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int r = p.row + (int)threadIdx.x / 8 + 32 * i;
            from[i] = r >= p.end ? -1 : g.row ? g.row[r] : r;
        }
    }
    __device__ __forceinline__ void copy(unsigned char *to, int tile) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            pg_copy16(to + pg_tile_at((int)threadIdx.x / 8 + 32 * i, (int)threadIdx.x % 8),
                      base + max(from[i], 0) * width + (int64_t)tile * PG_TILE_ROW, from[i] >= 0);
    }
};

/* All of K of a tile. E has the sums and multiplies: step(x tile, weight tile, rows that count) begins one, and lets LAG of
 * them be under way; sent() makes what this thread has written visible to it; settle() waits but for LAG, finish() for all.
 * Buffers: a step is read while the next one's weights and the x of DEPTH on are written. */
template <class F, pg_dtype T, class E, bool EVEN>
__device__ __forceinline__ void pg_tile_run(E &e, unsigned char *mem, const pg_gemm &g, const pg_tile_place &p)
{
    enum { X = E::ROWS * PG_TILE_ROW, W = PG_TILE_N * PG_TILE_ROW, DEPTH = E::X_BUFFERS - 1 - E::LAG };
    unsigned char *const mem_w = mem + E::X_BUFFERS * X;
/* Read only where it was loaded: the same tile, and a chunk that there is. gcc, for the emulator, reads it sooner and
 * warns of that. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
    pg_tile_raw<F, PG_TILE_N, EVEN> raw;
#pragma GCC diagnostic pop
    pg_tile_x<E::ROWS> x;
    pg_tile_weights(&raw, g, p);
    raw.load(p.step);
    x.begin(g, p);
#pragma unroll
    for (int i = 0; i < DEPTH; i++) {
        if (i < p.steps) x.copy(mem + i * X, p.step + i);
        pg_copy_commit();
    }
    pg_tile_decode<F, T>(raw, p.step, mem_w);
    if (p.steps > 1) raw.load(p.step + 1);
    pg_copy_wait<DEPTH - 1>();
    e.sent();
    int at_x = 0, at_w = 0, next_x = DEPTH % E::X_BUFFERS;
    for (int i = 0; i < p.steps; i++) {
        const int next_w = at_w + 1 == E::W_BUFFERS ? 0 : at_w + 1;
        __syncthreads();
        if constexpr (E::LAG) e.step(mem + at_x * X, mem_w + at_w * W, p.end - p.row);
        if (i + DEPTH < p.steps) x.copy(mem + next_x * X, p.step + i + DEPTH);
        pg_copy_commit();
        if (i + 1 < p.steps) pg_tile_decode<F, T>(raw, p.step + i + 1, mem_w + next_w * W);
        if (i + 2 < p.steps) raw.load(p.step + i + 2);
        if constexpr (!E::LAG) e.step(mem + at_x * X, mem_w + at_w * W, p.end - p.row);
        pg_copy_wait<DEPTH - 1>();
        e.sent();
        e.settle();
        at_x = at_x + 1 == E::X_BUFFERS ? 0 : at_x + 1;
        next_x = next_x + 1 == E::X_BUFFERS ? 0 : next_x + 1;
        at_w = next_w;
    }
    e.finish();
    __syncthreads(); /* nobody reads the tiles any more */
}

/* A block: tile after tile. */
template <class F, pg_dtype T, class E, bool EVEN>
__device__ __forceinline__ void pg_tiles(const pg_gemm &g, unsigned char *mem)
{
    pg_tile_place p;
    const int columns = g.pair ? PG_TILE_N / 2 : PG_TILE_N;
    for (int64_t id = blockIdx.x; pg_tile_find(g, id, E::ROWS, columns, &p); id += gridDim.x) {
        E e;
        e.clear();
        pg_tile_run<F, T, E, EVEN>(e, mem, g, p);
        e.each([&](int r, int o, const float(&sum)[4]) {
            if (p.row + r < p.end) pg_tile_put<uint16_t, 1>(g, p, p.row + r, p.column + o, sum, PG_TILE_N / 2);
        });
    }
}

#endif
