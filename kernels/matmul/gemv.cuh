/* gemv: how a warp multiplies few rows by a few outputs of a stored matrix. What MATMUL and EXPERTS share.
 *
 * Lanes share out the chunks of a row (decode.cuh), lane l of a team of warps has chunks l, l + lanes, ...; a weight is
 * read once for all R rows, an activation once for all O outputs. The next U * O chunks are on their way while the last
 * ones are used. Which chunks a lane sums, and in which order, hangs on the matrix alone, never on R, O or U: the
 * result of a row is the same whatever else is in the batch.
 * Quantised weights meet rounded activations: integer sums of 16 columns by dp4a, then sum += (d * x.d) * dot + m * x.s
 * in f32. Others, and all in the exact form, meet activations in f32.
 * Not here: launches, outputs. Source: dot products of block formats as the GGML family of engines has them; the form
 * of the loop is that of any memory-bound reduction. */
#ifndef PG_GEMV_H
#define PG_GEMV_H

#include "acts.cuh"
#include "decode.cuh"

enum { PG_GEMV_WARPS = 8, PG_GEMV_THREADS = 32 * PG_GEMV_WARPS };

#ifdef PG_EMU /* g++ does not see that a chunk is used under the condition under which it was loaded */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/* How activations are met: rounded to 8 bits, in global or in shared memory; or in f32, where weights and activations
 * both allow loads of 16 bytes and chunks are whole (even), or do not. */
enum { PG_MEET_FAR, PG_MEET_NEAR, PG_MEET_EVEN, PG_MEET_ODD };

/* Activations: row r begins at element at[r] of these. */
typedef struct pg_in {
    pg_rounded q;
    const float *f;
} pg_in;

/* The next chunks of a lane, of the O outputs that its warp has a share in: rows row[o], which must exist, the first
 * O / V of matrix w[0], and so on. */
template <class F, int O, int U, int MEET> struct pg_ahead {
    typename F::raw raw[U][O];

    template <int V>
    __device__ __forceinline__ void load(const pg_view (&w)[V], const int (&row)[O], int c, int step, int chunks)
    {
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (c + u * step >= chunks) continue;
#pragma unroll
            for (int o = 0; o < O; o++) {
                if constexpr (F::QUANT || MEET == PG_MEET_EVEN)
                    raw[u][o] = F::template load<pg_far>(w[o * V / O], row[o], c + u * step);
                else
                    raw[u][o] = F::template load_part<pg_far>(w[o * V / O], row[o], c + u * step);
            }
        }
    }
};

/* sum[r * O + o] += 16 columns of rounded row r times output o, for each piece of the chunk. A float of 1.5 * 2^23 has
 * the integer in its low bits, so that the sum of products needs no conversion unit: it is below 2^22. The rows are
 * pg_near wherever they lie: another kernel has written them, perhaps while this one had begun. */
template <class F, int R, int O>
__device__ __forceinline__ void pg_meet_rounded(float (&sum)[R * O], int chunk, const typename F::raw (&raw)[O],
                                                const pg_rounded &x, const int (&at)[R])
{
#pragma unroll
    for (int p = 0; p < F::PIECES; p++) {
        const int col = F::column(chunk) + F::SPREAD * p;
        uint32_t q[O][4];
        float d[O], m[O];
#pragma unroll
        for (int o = 0; o < O; o++) {
            F::code(raw[o], chunk, p, q[o]);
            d[o] = F::d(raw[o], chunk, p);
            m[o] = F::m(raw[o], chunk, p);
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            const int k = at[r] + col;
            const uint4 xq = pg_near::word<uint4>(reinterpret_cast<const unsigned char *>(x.q + k));
            const float xd = pg_near::word<float>(reinterpret_cast<const unsigned char *>(x.d + k / 32));
            float xs = 0;
            if (F::HAS_MIN) xs = pg_near::word<float>(reinterpret_cast<const unsigned char *>(x.s + k / 16));
#pragma unroll
            for (int o = 0; o < O; o++) {
                int dot = 0x4b400000;
#pragma unroll
                for (int i = 0; i < 4; i++) dot = pg_dot4((int)q[o][i], (int)pg_word(xq, i), dot);
                float &y = sum[r * O + o];
                y = fmaf(d[o] * xd, __int_as_float(dot) - 12582912.0f, y);
                if (F::HAS_MIN) y = fmaf(m[o], xs, y);
            }
        }
    }
}

/* The same with activations in f32; k columns a row. */
template <class F, int R, int O, bool EVEN>
__device__ __forceinline__ void pg_meet_float(float (&sum)[R * O], int chunk, const typename F::raw (&raw)[O],
                                              const float *x, const int (&at)[R], int k)
{
#pragma unroll
    for (int p = 0; p < F::PIECES; p++) {
        const int col = F::column(chunk) + F::SPREAD * p;
        float w[O][F::WIDTH];
#pragma unroll
        for (int o = 0; o < O; o++) F::value(raw[o], chunk, p, w[o]);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float *from = x + (at[r] + col);
#pragma unroll
            for (int i = 0; i < F::WIDTH; i += 4) {
                float v[4];
                if (EVEN) {
                    const float4 four = *reinterpret_cast<const float4 *>(from + i);
                    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
                }
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (!EVEN && col + i + j >= k) continue;
                    const float one = EVEN ? v[j] : from[i + j];
#pragma unroll
                    for (int o = 0; o < O; o++) sum[r * O + o] = fmaf(w[o][i + j], one, sum[r * O + o]);
                }
            }
        }
    }
}

/* The chunks c, c + step, ... of a lane, the first U of which are already under way in `now`: sum[r * O + o] += row r
 * times output o. */
template <class F, int R, int O, int U, int MEET, int V>
__device__ __forceinline__ void pg_dot_rows(float (&sum)[R * O], pg_ahead<F, O, U, MEET> &now, const pg_view (&w)[V],
                                            const int (&row)[O], int c, int step, int chunks, const pg_in &x,
                                            const int (&at)[R])
{
    for (; c < chunks; c += U * step) {
        pg_ahead<F, O, U, MEET> next;
        next.load(w, row, c + U * step, step, chunks);
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (c + u * step >= chunks) continue;
            if constexpr (MEET == PG_MEET_FAR || MEET == PG_MEET_NEAR)
                pg_meet_rounded<F, R, O>(sum, c + u * step, now.raw[u], x.q, at);
            if constexpr (MEET == PG_MEET_EVEN || MEET == PG_MEET_ODD)
                pg_meet_float<F, R, O, MEET == PG_MEET_EVEN>(sum, c + u * step, now.raw[u], x.f, at, w[0].k);
        }
        now = next;
    }
}

/* Sums of N values each over the lanes that are the same modulo LOW; powers of two. Lanes hand each other half of what
 * they have until one is left or all have met: few steps more than for a single value. Lane l is left with the values
 * from l / LOW * N * LOW / 32 on, at the front of v; one at least. Each sum is a butterfly from 16 down, whatever N. */
template <int N, int LOW = 1> __device__ __forceinline__ void pg_warp_fold(float (&v)[N])
{
#pragma unroll
    for (int n = N, to = 16; to >= LOW; to >>= 1) {
        const bool upper = ((int)threadIdx.x & to) != 0;
        if (n == 1) {
            v[0] += __shfl_xor_sync(0xffffffffu, v[0], to);
            continue;
        }
        n /= 2;
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            if (i >= n) break;
            const float keep = upper ? v[i + n] : v[i], give = upper ? v[i] : v[i + n];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, to);
        }
    }
}

/* Warps that share an output's columns, a power of two: more when there are few outputs. n: outputs in all; chunks: of
 * a row. */
static inline int pg_gemv_split(int64_t n, int64_t chunks)
{
    int split = 1;
    while (split < PG_GEMV_WARPS && n * split < 4096 && chunks >= 64 * split) split *= 2;
    return split;
}

#endif
