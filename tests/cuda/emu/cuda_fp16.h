/* cuda_fp16: 16-bit floats of IEEE 754, under CUDA's names; every operation rounds once, to nearest even. */
#ifndef PG_EMU_CUDA_FP16_H
#define PG_EMU_CUDA_FP16_H

#include "device_math.h"

static inline float pg_emu_from_f16(unsigned short h)
{
    const unsigned sign = (unsigned)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ff) << 13);
    if (rest >= 0x0400) return __uint_as_float(sign | ((rest << 13) + (112u << 23)));
    const float tiny = (float)rest * 0x1p-24f;
    return sign ? -tiny : tiny;
}

/* The spacing of f16 around x is a power of two: adding and taking away 1.5 * 2^52 times that rounds a double to it. */
static inline unsigned short pg_emu_to_f16(double x)
{
    if (isnan(x)) return 0x7fff;
    const unsigned short sign = signbit(x) ? 0x8000 : 0;
    int e;
    const double most = fabs(x);
    frexp(most, &e);
    const double step = ldexp(1.0, (e < -13 ? -13 : e) - 11), magic = 0x1.8p52 * step;
    volatile double shifted = (most > 70000.0 ? 70000.0 : most) + magic; /* no excess precision, no folding */
    const double y = most > 70000.0 ? 70000.0 : shifted - magic;
    if (y >= 65520.0) return sign | 0x7c00;
    if (y < 0x1p-14) return (unsigned short)(sign | (unsigned)(y * 0x1p24));
    const double fraction = frexp(y, &e);
    return (unsigned short)(sign | ((unsigned)(e + 14) << 10) | ((unsigned)(fraction * 2048) & 0x3ff));
}

struct __half_raw {
    unsigned short x;
};
struct __half {
    unsigned short x;
    __half() = default;
    __half(float f) : x(pg_emu_to_f16(f)) {}
    __half(__half_raw r) : x(r.x) {}
    operator float() const { return pg_emu_from_f16(x); }
};
struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    __half2(__half a, __half b) : x(a), y(b) {}
};
typedef __half half;
typedef __half2 half2;

static inline __half __float2half(float x)
{
    return __half(x);
}
static inline __half __float2half_rn(float x)
{
    return __half(x);
}
static inline __half __double2half(double x)
{
    return __half_raw{ pg_emu_to_f16(x) };
}
static inline float __half2float(__half x)
{
    return pg_emu_from_f16(x.x);
}
static inline __half __ushort_as_half(unsigned short x)
{
    return __half_raw{ x };
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.x;
}
static inline __half __short_as_half(short x)
{
    return __half_raw{ (unsigned short)x };
}
static inline __half __int2half_rn(int x)
{
    return __double2half(x);
}
static inline __half2 __floats2half2_rn(float a, float b)
{
    return { a, b };
}
static inline __half2 __float22half2_rn(float2 x)
{
    return { x.x, x.y };
}
static inline __half2 __float2half2_rn(float x)
{
    return { x, x };
}
static inline float2 __half22float2(__half2 x)
{
    return { (float)x.x, (float)x.y };
}
static inline __half2 __half2half2(__half x)
{
    return { x, x };
}
static inline __half2 __halves2half2(__half a, __half b)
{
    return { a, b };
}
static inline __half2 make_half2(__half a, __half b)
{
    return { a, b };
}
static inline __half __low2half(__half2 x)
{
    return x.x;
}
static inline __half __high2half(__half2 x)
{
    return x.y;
}
static inline float __low2float(__half2 x)
{
    return x.x;
}
static inline float __high2float(__half2 x)
{
    return x.y;
}

static inline __half __hadd(__half a, __half b)
{
    return __double2half((double)(float)a + (float)b);
}
static inline __half __hsub(__half a, __half b)
{
    return __double2half((double)(float)a - (float)b);
}
static inline __half __hmul(__half a, __half b)
{
    return __double2half((double)(float)a * (float)b);
}
static inline __half __hfma(__half a, __half b, __half c)
{
    return __double2half(fma((float)a, (float)b, (float)c));
}
static inline __half2 __hadd2(__half2 a, __half2 b)
{
    return { __hadd(a.x, b.x), __hadd(a.y, b.y) };
}
static inline __half2 __hsub2(__half2 a, __half2 b)
{
    return { __hsub(a.x, b.x), __hsub(a.y, b.y) };
}
static inline __half2 __hmul2(__half2 a, __half2 b)
{
    return { __hmul(a.x, b.x), __hmul(a.y, b.y) };
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    return { __hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y) };
}

#endif
