/* attn_tile: tiles of cached keys and values on their way into shared memory, and the products that tensor cores make
 * of them. Private to attn_mma_cuda.cu.
 *
 * A tile is N positions of a kv head; its rows stand an odd number of 16-byte chunks apart, so that the eight rows that
 * ldmatrix takes at once never share a bank. Positions that no row of the block sees are zeros: pages are not cleared,
 * and a NaN times a weight of 0 would show. Columns from dk, or dv, on to the next border that the products need are
 * zeros. Numbers of 16 bits whose slices begin at multiples of 16 bytes are copied to where they are used, several
 * tiles ahead. Everything else (q8_0, odd head sizes) comes as it is stored, from the 16-byte border before a slice,
 * and is converted once it is there. */
#ifndef PG_ATTN_TILE_H
#define PG_ATTN_TILE_H

#include "attn_cuda.cuh"

enum { PG_ATTN_RING = 4 }; /* tiles whose places are known at once; stages at most */

/* Where a position's K and V lie, from the start of the cache; k < 0: nobody sees it. */
typedef struct pg_attn_place {
    long long k, v;
} pg_attn_place;

/* How the warps of a block share a tile: WM * WN * WK of them. A warp-row has 16 * MT queries; WN warps take its
 * positions, WK of them its columns of keys, and then all WN * WK the columns of values. */
template <int DV_, int MT_, int WN_, int WK_, int N_> struct pg_attn_split {
    static constexpr int DV = DV_, MT = MT_, WN = WN_, WK = WK_, N = N_;
    static constexpr int ROWS = 16 * MT, NT = N / WN / 8, NV = DV / (WN * WK) / 8;
    static constexpr bool ALONE = WN * WK == 1; /* a warp has its queries to itself */
};

/* The parts of shared memory, in bytes. */
typedef struct pg_attn_room {
    int k_pitch, v_pitch, k_columns, v_columns; /* of a tile; columns with their zeros */
    int place, q, stage, stage_bytes, stage_v;  /* stage_v: of V in a stage */
    int tile, tile_v;                           /* what a raw stage is converted to */
    int p, red, total;                          /* p: weights, and before them the scores that WK warps add up */
} pg_attn_room;

template <class S> static __host__ __device__ inline pg_attn_room pg_attn_room_of(const pg_attn_args &a, int wm)
{
    pg_attn_room m;
    const int n = S::N, rows = S::ROWS * wm;
    m.k_columns = (a.dk + 31) / 32 * 32;
    m.v_columns = (a.dv + 15) / 16 * 16;
    m.k_pitch = (m.k_columns / 8 | 1) * 16;
    m.v_pitch = a.one ? m.k_pitch : (m.v_columns / 8 | 1) * 16;
    const int k_tile = n * m.k_pitch, v_tile = a.one ? 0 : n * m.v_pitch;
    m.place = 0;
    m.q = PG_ATTN_RING * n * (int)sizeof(pg_attn_place);
    m.stage = m.q + rows * m.k_pitch;
    m.stage_v = a.one ? 0 : a.raw ? n * a.k_chunks * 16 : k_tile;
    m.stage_bytes = a.raw ? n * (a.k_chunks + (a.one ? 0 : a.v_chunks)) * 16 : k_tile + v_tile;
    m.tile = m.stage + a.stages * m.stage_bytes;
    m.tile_v = a.one ? m.tile : m.tile + k_tile;
    m.p = m.tile + (a.raw ? k_tile + v_tile : 0);
    const int weights = rows * (n + 8) * 2, parts = S::WK > 1 ? S::WK * rows * n * 4 : 0;
    m.red = m.p + (S::ALONE ? 0 : weights > parts ? weights : parts);
    m.total = m.red + (S::ALONE ? 0 : rows * S::WN * 4);
    return m;
}

/* ---- 16-bit numbers ----------------------------------------------------------------------------------------------- */

template <class T> struct pg_attn_half;
template <> struct pg_attn_half<__half> {
    static __device__ __forceinline__ uint32_t pack(float x, float y)
    {
        const __half2 h = __floats2half2_rn(x, y);
        return (uint32_t)__half_as_ushort(__low2half(h)) | (uint32_t)__half_as_ushort(__high2half(h)) << 16;
    }
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
    {
        const uint32_t b[2] = { b0, b1 };
        pg_mma_f16(d, a, b);
    }
};
template <> struct pg_attn_half<__nv_bfloat16> {
    static __device__ __forceinline__ uint32_t pack(float x, float y)
    {
        const __nv_bfloat162 h = __floats2bfloat162_rn(x, y);
        return (uint32_t)__bfloat16_as_ushort(__low2bfloat16(h)) | (uint32_t)__bfloat16_as_ushort(__high2bfloat16(h))
                                                                       << 16;
    }
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
    {
        const uint32_t b[2] = { b0, b1 };
        pg_mma_bf16(d, a, b);
    }
};

/* ---- from the cache ----------------------------------------------------------------------------------------------- */

/* What of a sequence a block reads: positions [lo, hi] of kv head g. */
typedef struct pg_attn_item {
    const int32_t *pages; /* of the sequence */
    int lo, hi, g;
    int r0, n_row, h0, n_head; /* its queries: rows, heads */
    int run;                   /* decode class: positions of a run */
} pg_attn_item;

static __device__ __forceinline__ pg_attn_place pg_attn_place_of(const pg_attn_args &a, const pg_attn_item &w, int t)
{
    pg_attn_place at = { -1, -1 };
    if (t < w.lo || t > w.hi) return at;
    const int p = t / a.page_tokens, within = t - p * a.page_tokens;
    const long long from = (long long)__ldg(w.pages + p) * a.page_bytes;
    at.k = from + a.k_at + (long long)within * a.k_row;
    at.v = from + a.v_at + (long long)within * a.v_row;
    return at;
}

/* Bytes from the start of a cached row to its slice for kv head g; and of the slice, whole blocks. */
static __device__ __forceinline__ int pg_attn_slice(const pg_attn_args &a, int g, int width)
{
    return a.dtype == PG_Q8_0 ? g * width / 32 * 34 : g * width * 2;
}
static __device__ __forceinline__ int pg_attn_slice_bytes(const pg_attn_args &a, int g, int width)
{
    return a.dtype == PG_Q8_0 ? ((g + 1) * width + 31) / 32 * 34 - g * width / 32 * 34 : width * 2;
}

/* Copy one kind of row of a tile: `chunks` 16-byte pieces of it from the border before its slice for kv head g. 8, 16
 * or 32 lanes take a row. */
template <int N>
static __device__ __forceinline__ void pg_attn_copy(const pg_attn_args &a, unsigned char *to, int pitch, int chunks,
                                                    const pg_attn_place *place, int is_v, int g, int width)
{
    const int slice = pg_attn_slice(a, g, width), bytes = pg_attn_slice_bytes(a, g, width);
    const int shift = chunks <= 8 ? 3 : chunks <= 16 ? 4 : 5, c0 = threadIdx.x & ((1 << shift) - 1);
    for (int t = threadIdx.x >> shift; t < N; t += blockDim.x >> shift) {
        const long long row = is_v ? place[t].v : place[t].k, from = row + slice, border = from & ~15ll;
        const int n = row >= 0 ? (int)(from - border) + bytes : 0;
        const char *source = a.cache + (n ? border : 0) + c0 * 16;
        unsigned char *target = to + t * pitch + c0 * 16;
        for (int c = c0; c < chunks; c += 1 << shift, source += 16 << shift, target += 16 << shift)
            pg_copy16(target, c * 16 < n ? source : a.cache, c * 16 < n);
    }
}

template <int N>
static __device__ __forceinline__ void pg_attn_fetch(const pg_attn_args &a, const pg_attn_room &m, unsigned char *mem,
                                                     const pg_attn_item &w, int tile, int t1)
{
    if (tile < t1) {
        const pg_attn_place *place = reinterpret_cast<pg_attn_place *>(mem + m.place) + tile % PG_ATTN_RING * N;
        unsigned char *to = mem + m.stage + tile % a.stages * m.stage_bytes;
        pg_attn_copy<N>(a, to, a.raw ? a.k_chunks * 16 : m.k_pitch, a.raw ? a.k_chunks : m.k_columns / 8, place, 0, w.g,
                        a.dk);
        if (!a.one)
            pg_attn_copy<N>(a, to + m.stage_v, a.raw ? a.v_chunks * 16 : m.v_pitch,
                            a.raw ? a.v_chunks : m.v_columns / 8, place, 1, w.g, a.dv);
    }
    pg_copy_commit();
}

/* Until tile `n` of those that are under way is there. */
static __device__ __forceinline__ void pg_attn_wait(int stages)
{
    if (stages == 4)
        pg_copy_wait<2>();
    else if (stages == 3)
        pg_copy_wait<1>();
    else
        pg_copy_wait<0>();
}

/* ---- converting --------------------------------------------------------------------------------------------------- */

/* The bits of column c of a stored row, which begins `skew` columns into a block. */
static __device__ __forceinline__ uint32_t pg_attn_bits(int dtype, const unsigned char *row, int skew, int c)
{
    if (dtype != PG_Q8_0) return reinterpret_cast<const unsigned short *>(row)[c];
    const unsigned char *block = row + (skew + c) / 32 * 34;
    const float d = __half2float(__ushort_as_half(*reinterpret_cast<const unsigned short *>(block)));
    return __half_as_ushort(__float2half_rn(d * (float)(signed char)block[2 + (skew + c) % 32]));
}

/* Eight columns from c on, all in one block of q8_0. */
static __device__ __forceinline__ uint4 pg_attn_eight(const unsigned char *row, int c)
{
    const unsigned char *block = row + c / 32 * 34;
    const float d = __half2float(__ushort_as_half(*reinterpret_cast<const unsigned short *>(block)));
    const unsigned short *pair = reinterpret_cast<const unsigned short *>(block + 2 + c % 32);
    uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int two = pair[i];
        out[i] = pg_attn_half<__half>::pack(d * (float)(signed char)(two & 255), d * (float)(signed char)(two >> 8));
    }
    return make_uint4(out[0], out[1], out[2], out[3]);
}

/* Stored rows to rows of a tile. */
template <int N>
static __device__ __forceinline__ void pg_attn_convert(const pg_attn_args &a, unsigned char *to, int pitch, int columns,
                                                       const unsigned char *from, int step, const pg_attn_place *place,
                                                       int is_v, int g, int width)
{
    const int slice = pg_attn_slice(a, g, width), skew = a.dtype == PG_Q8_0 ? g * width % 32 : 0, chunks = columns / 8;
    for (int i = threadIdx.x; i < N * chunks; i += blockDim.x) {
        const int t = i / chunks, c = (i - t * chunks) * 8;
        const long long at = is_v ? place[t].v : place[t].k;
        const unsigned char *row = from + t * step + (int)((at + slice) & 15);
        uint4 out = make_uint4(0, 0, 0, 0);
        if (at >= 0 && a.dtype == PG_Q8_0 && skew % 8 == 0 && c + 8 <= width) {
            out = pg_attn_eight(row, skew + c);
        } else if (at >= 0) {
            uint32_t bits[8];
#pragma unroll
            for (int j = 0; j < 8; j++) bits[j] = c + j < width ? pg_attn_bits(a.dtype, row, skew, c + j) : 0;
            out = make_uint4(bits[0] | bits[1] << 16, bits[2] | bits[3] << 16, bits[4] | bits[5] << 16,
                             bits[6] | bits[7] << 16);
        }
        *reinterpret_cast<uint4 *>(to + t * pitch + c * 2) = out;
    }
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

/* s[i][j] = q . k for the warp's queries [16 * i, 16 * i + 16) and positions [8 * j, 8 * j + 8), columns [from, to),
 * which are multiples of 32. q, k: its first rows. Where a warp has few sums, two of each go on at once, or every
 * product would wait for the one before. */
template <class T, int MT, int NT>
static __device__ __forceinline__ void pg_attn_qk(float (&s)[MT][NT][4], const unsigned char *q, const unsigned char *k,
                                                  int pitch, int from, int to)
{
    constexpr bool TWO = MT * NT <= 2;
    const int lane = threadIdx.x % 32;
    float odd[TWO ? MT : 1][NT][4];
#pragma unroll
    for (int x = 0; x < MT * NT * 4; x++) s[x / 4 / NT][x / 4 % NT][x % 4] = 0;
    if constexpr (TWO) {
#pragma unroll
        for (int x = 0; x < MT * NT * 4; x++) odd[x / 4 / NT][x / 4 % NT][x % 4] = 0;
    }
    q += lane % 16 * pitch + lane / 16 * 16;
    k += NT == 1 ? lane % 8 * pitch + lane / 8 * 16 : (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 16;
    for (int c = from * 2; c < to * 2; c += 64) {
        uint32_t a[MT][4], b[4];
        if constexpr (NT == 1) pg_ldmatrix_x4(b, k + c); /* both halves of the 32 columns */
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < MT; i++) pg_ldmatrix_x4(a[i], q + i * 16 * pitch + c + half * 32);
#pragma unroll
            for (int j = 0; j < NT; j += 2) {
                if constexpr (NT > 1) pg_ldmatrix_x4(b, k + j * 8 * pitch + c + half * 32);
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    float(&d)[NT][4] = TWO && half ? odd[TWO ? i : 0] : s[i];
                    if constexpr (NT == 1) {
                        pg_attn_half<T>::mma(d[0], a[i], b[2 * half], b[2 * half + 1]);
                    } else {
                        pg_attn_half<T>::mma(d[j], a[i], b[0], b[1]);
                        pg_attn_half<T>::mma(d[j + 1], a[i], b[2], b[3]);
                    }
                }
            }
        }
    }
    if constexpr (TWO) {
#pragma unroll
        for (int x = 0; x < MT * NT * 4; x++) s[x / 4 / NT][x / 4 % NT][x % 4] += odd[x / 4 / NT][x / 4 % NT][x % 4];
    }
}

/* acc[i][j] += p[i] . v for 16 positions and the warp's columns [8 * j, 8 * j + 8), j < n. v: its first column. */
template <class T, int MT, int NV>
static __device__ __forceinline__ void pg_attn_pv(float (&acc)[MT][NV][4], const uint32_t (&p)[MT][4],
                                                  const unsigned char *v, int pitch, int n)
{
    const int lane = threadIdx.x % 32;
    v += (lane / 8 % 2 * 8 + lane % 8) * pitch + lane / 16 * 16;
#pragma unroll
    for (int j = 0; j < NV; j += 2) {
        if (j >= n) break;
        uint32_t b[4];
        pg_ldmatrix_x4_t(b, v + j * 16);
#pragma unroll
        for (int i = 0; i < MT; i++) {
            pg_attn_half<T>::mma(acc[i][j], p[i], b[0], b[1]);
            pg_attn_half<T>::mma(acc[i][j + 1], p[i], b[2], b[3]);
        }
    }
}

/* Shared memory of a multiprocessor; a block may have 1 KB less. */
static inline int pg_attn_shared_bytes(int arch)
{
    return (arch == 80 || arch == 87 ? 164 : arch < 90 || arch >= 120 ? 100 : 228) << 10;
}

#endif
