/* cuda_bf16: the upper halves of 32-bit floats, under CUDA's names; every operation rounds once, to nearest even. */
#ifndef PG_EMU_CUDA_BF16_H
#define PG_EMU_CUDA_BF16_H

#include "device_math.h"

static inline float pg_emu_from_bf16(unsigned short h)
{
    return __uint_as_float((unsigned)h << 16);
}
static inline unsigned short pg_emu_to_bf16(float x)
{
    const unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

struct __nv_bfloat16_raw {
    unsigned short x;
};
struct __nv_bfloat16 {
    unsigned short x;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f) : x(pg_emu_to_bf16(f)) {}
    __nv_bfloat16(__nv_bfloat16_raw r) : x(r.x) {}
    operator float() const { return pg_emu_from_bf16(x); }
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16(x);
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return pg_emu_from_bf16(x.x);
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x)
{
    return __nv_bfloat16_raw{ x };
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.x;
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return { a, b };
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 x)
{
    return { x.x, x.y };
}
static inline __nv_bfloat162 __float2bfloat162_rn(float x)
{
    return { x, x };
}
static inline float2 __bfloat1622float2(__nv_bfloat162 x)
{
    return { (float)x.x, (float)x.y };
}
static inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x)
{
    return { x, x };
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return { a, b };
}
static inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return { a, b };
}
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x)
{
    return x.x;
}
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x)
{
    return x.y;
}
static inline float __low2float(__nv_bfloat162 x)
{
    return x.x;
}
static inline float __high2float(__nv_bfloat162 x)
{
    return x.y;
}

static inline __nv_bfloat16 __hadd(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return (float)a + (float)b;
}
static inline __nv_bfloat16 __hsub(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return (float)a - (float)b;
}
static inline __nv_bfloat16 __hmul(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return (float)a * (float)b;
}
static inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return { __hadd(a.x, b.x), __hadd(a.y, b.y) };
}
static inline __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return { __hsub(a.x, b.x), __hsub(a.y, b.y) };
}
static inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return { __hmul(a.x, b.x), __hmul(a.y, b.y) };
}

#endif
