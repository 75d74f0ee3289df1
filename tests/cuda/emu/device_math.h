/* device_math: device functions under CUDA's names. Fast forms (__expf ...) are the exact ones here: tests must allow for
 * the device's larger error. */
#ifndef PG_EMU_DEVICE_MATH_H
#define PG_EMU_DEVICE_MATH_H

#include "emu.h"

#include <algorithm>
#include <cmath>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <type_traits>

/* ---- bits --------------------------------------------------------------------------------------------------------- */

template <class To, class From> static inline To pg_emu_cast(From from)
{
    static_assert(sizeof(To) == sizeof(From), "a bit cast changes no size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x)
{
    return pg_emu_cast<int>(x);
}
static inline unsigned __float_as_uint(float x)
{
    return pg_emu_cast<unsigned>(x);
}
static inline float __int_as_float(int x)
{
    return pg_emu_cast<float>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return pg_emu_cast<float>(x);
}
static inline long long __double_as_longlong(double x)
{
    return pg_emu_cast<long long>(x);
}
static inline double __longlong_as_double(long long x)
{
    return pg_emu_cast<double>(x);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __clzll(long long x)
{
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}
static inline unsigned __brev(unsigned x)
{
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned choose)
{
    const unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned y = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned which = choose >> (4 * i) & 15, byte = (unsigned)(both >> (8 * (which & 7))) & 255;
        y |= (which & 8 ? (byte & 128 ? 255u : 0u) : byte) << (8 * i);
    }
    return y;
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n)
{
    return (unsigned)(((unsigned long long)high << 32 | low) >> (n & 31));
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n)
{
    return (unsigned)((((unsigned long long)high << 32 | low) << (n & 31)) >> 32);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}
static inline int __mulhi(int a, int b)
{
    return (int)((long long)a * b >> 32);
}

static inline unsigned pg_emu_bytes(unsigned a, unsigned b, int (*fn)(int, int))
{
    unsigned y = 0;
    for (int i = 0; i < 32; i += 8) y |= ((unsigned)fn((int8_t)(a >> i & 255), (int8_t)(b >> i & 255)) & 255) << i;
    return y;
}
static inline unsigned __vadd4(unsigned a, unsigned b)
{
    return pg_emu_bytes(a, b, [](int x, int y) { return x + y; });
}
static inline unsigned __vsub4(unsigned a, unsigned b)
{
    return pg_emu_bytes(a, b, [](int x, int y) { return x - y; });
}
static inline unsigned __vsubss4(unsigned a, unsigned b)
{
    return pg_emu_bytes(a, b, [](int x, int y) { return x - y > 127 ? 127 : x - y < -128 ? -128 : x - y; });
}
static inline unsigned __vcmpne4(unsigned a, unsigned b)
{
    return pg_emu_bytes(a, b, [](int x, int y) { return x != y ? 255 : 0; });
}
static inline unsigned __vcmpeq4(unsigned a, unsigned b)
{
    return pg_emu_bytes(a, b, [](int x, int y) { return x == y ? 255 : 0; });
}

static inline int __dp4a(int a, int b, int sum)
{
    for (int i = 0; i < 32; i += 8) sum += (int8_t)((unsigned)a >> i & 255) * (int8_t)((unsigned)b >> i & 255);
    return sum;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum)
{
    for (int i = 0; i < 32; i += 8) sum += (a >> i & 255) * (b >> i & 255);
    return sum;
}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

static inline float pg_emu_expf(float x)
{
    return expf(x);
}
static inline float pg_emu_exp10f(float x)
{
    return powf(10.0f, x);
}
static inline float pg_emu_logf(float x)
{
    return logf(x);
}
static inline float pg_emu_log2f(float x)
{
    return log2f(x);
}
static inline float pg_emu_sinf(float x)
{
    return sinf(x);
}
static inline float pg_emu_cosf(float x)
{
    return cosf(x);
}
static inline float pg_emu_powf(float x, float y)
{
    return powf(x, y);
}
#define __expf pg_emu_expf /* the C library has these names too, for something else */
#define __exp10f pg_emu_exp10f
#define __logf pg_emu_logf
#define __log2f pg_emu_log2f
#define __sinf pg_emu_sinf
#define __cosf pg_emu_cosf
#define __powf pg_emu_powf
static inline float __fdividef(float x, float y)
{
    return x / y;
}
static inline float __frcp_rn(float x)
{
    return 1.0f / x;
}
static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
static inline float __frsqrt_rn(float x)
{
    return (float)(1.0 / sqrt((double)x));
}
static inline float rsqrtf(float x)
{
    return (float)(1.0 / sqrt((double)x));
}
static inline float __fadd_rn(float x, float y)
{
    return x + y;
}
static inline float __fsub_rn(float x, float y)
{
    return x - y;
}
static inline float __fmul_rn(float x, float y)
{
    return x * y;
}
static inline float __fdiv_rn(float x, float y)
{
    return x / y;
}
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline float __saturatef(float x)
{
    return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f;
}
static inline int __float2int_rn(float x)
{
    return (int)rintf(x);
}
static inline int __float2int_rz(float x)
{
    return (int)x;
}
static inline int __float2int_rd(float x)
{
    return (int)floorf(x);
}
static inline unsigned __float2uint_rn(float x)
{
    return (unsigned)rintf(x);
}
static inline float __int2float_rn(int x)
{
    return (float)x;
}
static inline float __uint2float_rn(unsigned x)
{
    return (float)x;
}

#define PG_EMU_ORDER(type)                 \
    static inline type min(type a, type b) \
    {                                      \
        return a < b ? a : b;              \
    }                                      \
    static inline type max(type a, type b) \
    {                                      \
        return a < b ? b : a;              \
    }
PG_EMU_ORDER(int)
PG_EMU_ORDER(unsigned)
PG_EMU_ORDER(long)
PG_EMU_ORDER(unsigned long)
PG_EMU_ORDER(long long)
PG_EMU_ORDER(unsigned long long)
#undef PG_EMU_ORDER
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

template <class T> static inline T pg_emu_load(const T *p)
{
    if ((uintptr_t)p % alignof(T)) pg_emu_die("a load that is not aligned");
    return *p;
}
template <class T> static inline T __ldg(const T *p)
{
    pg_emu_watch_constant(p, sizeof *p);
    return pg_emu_load(p);
}
template <class T> static inline T __ldcs(const T *p)
{
    return pg_emu_load(p);
}
template <class T> static inline T __ldcg(const T *p)
{
    return pg_emu_load(p);
}
template <class T> static inline T __ldca(const T *p)
{
    return pg_emu_load(p);
}
template <class T> static inline T __ldlu(const T *p)
{
    return pg_emu_load(p);
}
template <class T> static inline void pg_emu_store(T *p, T x)
{
    if ((uintptr_t)p % alignof(T)) pg_emu_die("a store that is not aligned");
    *p = x;
}
template <class T> static inline void __stcs(T *p, T x)
{
    pg_emu_store(p, x);
}
template <class T> static inline void __stcg(T *p, T x)
{
    pg_emu_store(p, x);
}
template <class T> static inline void __stwt(T *p, T x)
{
    pg_emu_store(p, x);
}

/* Not among the loads and stores that are plain. */
#define PG_EMU_ATOMIC static inline __attribute__((no_sanitize("thread")))
template <class T, class V> PG_EMU_ATOMIC T atomicAdd(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = was + (T)x;
    return was;
}
template <class T, class V> PG_EMU_ATOMIC T atomicSub(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = was - (T)x;
    return was;
}
template <class T, class V> PG_EMU_ATOMIC T atomicMax(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = (T)x > was ? (T)x : was;
    return was;
}
template <class T, class V> PG_EMU_ATOMIC T atomicMin(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = (T)x < was ? (T)x : was;
    return was;
}
template <class T, class V> PG_EMU_ATOMIC T atomicOr(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = was | (T)x;
    return was;
}
template <class T, class V> PG_EMU_ATOMIC T atomicAnd(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = was & (T)x;
    return was;
}
template <class T, class V> PG_EMU_ATOMIC T atomicExch(T *p, V x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    *p = (T)x;
    return was;
}
template <class T, class V, class W> PG_EMU_ATOMIC T atomicCAS(T *p, V old, W x)
{
    pg_emu_watch_atomic(p, sizeof *p);
    T was = *p;
    if (was == (T)old) *p = (T)x;
    return was;
}
PG_EMU_ATOMIC unsigned atomicInc(unsigned *p, unsigned most)
{
    pg_emu_watch_atomic(p, sizeof *p);
    unsigned was = *p;
    *p = was >= most ? 0 : was + 1;
    return was;
}
static inline void __threadfence(void)
{
    pg_emu_watch_fence();
}
static inline void __threadfence_block(void) {}
static inline void __threadfence_system(void) {}
[[noreturn]] static inline void __trap(void)
{
    pg_emu_die("__trap");
}

/* ---- meeting points ----------------------------------------------------------------------------------------------- */

static inline void __syncthreads(void)
{
    pg_emu_barrier("__syncthreads");
}
static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    pg_emu_warp("__syncwarp", mask, NULL, [](void *const *, unsigned) {});
}

enum { PG_EMU_FROM, PG_EMU_UP, PG_EMU_DOWN, PG_EMU_XOR };
struct pg_emu_shuffle {
    unsigned long long given, taken;
    int by, width, how;
};
void pg_emu_shuffle_meet(void *const lane[32], unsigned mask);
template <class T> static inline T pg_emu_shuffled(const char *name, unsigned mask, T x, int by, int width, int how)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "what a shuffle moves");
    pg_emu_shuffle s = { 0, 0, by, width, how };
    memcpy(&s.given, &x, sizeof x);
    pg_emu_warp(name, mask, &s, pg_emu_shuffle_meet);
    memcpy(&x, &s.taken, sizeof x);
    return x;
}
template <class T> static inline T __shfl_sync(unsigned mask, T x, int lane, int width = 32)
{
    return pg_emu_shuffled("__shfl_sync", mask, x, lane, width, PG_EMU_FROM);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32)
{
    return pg_emu_shuffled("__shfl_up_sync", mask, x, (int)by, width, PG_EMU_UP);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32)
{
    return pg_emu_shuffled("__shfl_down_sync", mask, x, (int)by, width, PG_EMU_DOWN);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int with, int width = 32)
{
    return pg_emu_shuffled("__shfl_xor_sync", mask, x, with, width, PG_EMU_XOR);
}

/* Which lanes of mask said yes. */
unsigned pg_emu_vote(const char *name, unsigned mask, bool yes);
static inline unsigned __ballot_sync(unsigned mask, int yes)
{
    return pg_emu_vote("__ballot_sync", mask, yes != 0);
}
static inline int __any_sync(unsigned mask, int yes)
{
    return pg_emu_vote("__any_sync", mask, yes != 0) != 0;
}
static inline int __all_sync(unsigned mask, int yes)
{
    return pg_emu_vote("__all_sync", mask, yes != 0) == mask;
}

#endif
