/* small_float: 16-bit floats and pairs of them that behave as CUDA's do, and the names of what is done with them: those
 * that kernels use. F says what the bits mean: float F::from(bits), and bits F::to(float), which rounds once, to nearest
 * even. The types get their names in cuda_fp16.h and cuda_bf16.h. */
#ifndef PG_EMU_SMALL_FLOAT_H
#define PG_EMU_SMALL_FLOAT_H

#include "device_math.h"

template <class F> struct pg_emu_small {
    unsigned short x;
    pg_emu_small() = default;
    pg_emu_small(float f) : x(F::to(f)) {}
    operator float() const { return F::from(x); }
};

template <class F> struct alignas(4) pg_emu_pair {
    pg_emu_small<F> x, y;
    pg_emu_pair() = default;
    pg_emu_pair(pg_emu_small<F> a, pg_emu_small<F> b) : x(a), y(b) {}
};

template <class F> static inline pg_emu_small<F> pg_emu_small_of(unsigned short bits)
{
    pg_emu_small<F> s;
    s.x = bits;
    return s;
}

/* T: the type as CUDA's functions name it, half or bfloat16. */
#define PG_EMU_SMALL_NAMES(T, F)                                       \
    static inline pg_emu_small<F> __float2##T(float x)                 \
    {                                                                  \
        return x;                                                      \
    }                                                                  \
    static inline pg_emu_small<F> __float2##T##_rn(float x)            \
    {                                                                  \
        return x;                                                      \
    }                                                                  \
    static inline float __##T##2float(pg_emu_small<F> x)               \
    {                                                                  \
        return x;                                                      \
    }                                                                  \
    static inline pg_emu_small<F> __ushort_as_##T(unsigned short bits) \
    {                                                                  \
        return pg_emu_small_of<F>(bits);                               \
    }                                                                  \
    static inline unsigned short __##T##_as_ushort(pg_emu_small<F> x)  \
    {                                                                  \
        return x.x;                                                    \
    }                                                                  \
    static inline pg_emu_pair<F> __floats2##T##2_rn(float a, float b)  \
    {                                                                  \
        return { a, b };                                               \
    }                                                                  \
    static inline pg_emu_small<F> __low2##T(pg_emu_pair<F> p)          \
    {                                                                  \
        return p.x;                                                    \
    }                                                                  \
    static inline pg_emu_small<F> __high2##T(pg_emu_pair<F> p)         \
    {                                                                  \
        return p.y;                                                    \
    }

#endif
