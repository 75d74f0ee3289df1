/* acts: activations rounded to 8 bits on the device, as pg_q8row (matmul.h) has them, bit for bit. Kept as planes:
 * codes, a factor for 32 columns, and for 16 columns the factor times the sum of their codes, which goes with a
 * minimum. Not here: what meets them (gemv.cuh). */
#ifndef PG_ACTS_H
#define PG_ACTS_H

#include "../cuda/device.cuh"

/* Row r, column k: code q[r * k + ..], factor d[(r * k + ..) / 32], sum s[(r * k + ..) / 16]. */
typedef struct pg_rounded {
    int8_t *q;
    float *d, *s;
} pg_rounded;

/* Bytes that n columns in all take, n % 32 == 0; and their places in memory that is 16-byte aligned. */
PG_HD int64_t pg_rounded_bytes(int64_t n)
{
    return n + n / 8 + n / 4;
}
PG_HD pg_rounded pg_rounded_at(void *mem, int64_t n)
{
    pg_rounded x;
    x.q = static_cast<int8_t *>(mem);
    x.s = reinterpret_cast<float *>(x.q + n);
    x.d = x.s + n / 16;
    return x;
}

/* Four floats; `even`: p is a multiple of 16. */
__device__ __forceinline__ float4 pg_four(const float *p, bool even)
{
    return even ? *reinterpret_cast<const float4 *>(p) : make_float4(p[0], p[1], p[2], p[3]);
}

/* Columns at .. at + 3 of the flat array, by 8 neighbouring threads for each 32 columns. All lanes of the warp come
 * here; those that have nothing bring zeros and want = false. */
__device__ __forceinline__ void pg_round4(const pg_rounded &y, int64_t at, float4 x, bool want)
{
    const uint32_t rest = 0x7fffffffu, inf = 0x7f800000u;
    /* magnitudes are ordered as their bits are, and what is not finite comes last */
    uint32_t most = max(max(__float_as_uint(x.x) & rest, __float_as_uint(x.y) & rest),
                        max(__float_as_uint(x.z) & rest, __float_as_uint(x.w) & rest));
    for (int to = 4; to; to >>= 1) most = max(most, __shfl_xor_sync(0xffffffffu, most, to));
    const float amax = __uint_as_float(most), inv = 127.0f / amax;
    const bool whole = most > 0 && most < inf && __float_as_uint(inv) < inf;
    const float d = whole ? amax / 127.0f : most >= inf ? __uint_as_float(0x7fc00000u) : 0.0f;
    const int a = whole ? (int)rintf(x.x * inv) : 0, b = whole ? (int)rintf(x.y * inv) : 0;
    const int c = whole ? (int)rintf(x.z * inv) : 0, e = whole ? (int)rintf(x.w * inv) : 0;
    int sum = a + b + c + e;
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (!want) return;
    *reinterpret_cast<int *>(y.q + at) = (a & 255) | (b & 255) << 8 | (c & 255) << 16 | (int)((uint32_t)e << 24);
    if (at % 32 == 0) y.d[at / 32] = d;
    if (at % 16 == 0) y.s[at / 16] = d * (float)sum;
}

/* A row of k columns, by the whole block; into columns from `at` on of the flat array. */
__device__ __forceinline__ void pg_round_row(const pg_rounded &y, int64_t at, const float *x, int k)
{
    const bool even = (reinterpret_cast<uintptr_t>(x) & 15) == 0;
    for (int i = (int)threadIdx.x; i / 32 * 32 < k / 4; i += (int)blockDim.x) {
        const bool want = i < k / 4;
        pg_round4(y, at + 4 * i, want ? pg_four(x + 4 * i, even) : make_float4(0, 0, 0, 0), want);
    }
}

#endif
