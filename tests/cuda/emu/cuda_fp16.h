/* cuda_fp16: 16-bit floats of IEEE 754, under CUDA's names. */
#ifndef PG_EMU_CUDA_FP16_H
#define PG_EMU_CUDA_FP16_H

#include "small_float.h"

struct pg_emu_f16 {
    static float from(unsigned short h)
    {
        const unsigned sign = (unsigned)(h & 0x8000) << 16, rest = h & 0x7fff;
        if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ff) << 13);
        if (rest >= 0x0400) return __uint_as_float(sign | ((rest << 13) + (112u << 23)));
        const float tiny = (float)rest * 0x1p-24f;
        return sign ? -tiny : tiny;
    }

    /* The spacing of f16 around x is a power of two: adding and taking away 1.5 * 2^52 times that rounds a double to it. */
    static unsigned short to(double x)
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
};

typedef pg_emu_small<pg_emu_f16> __half, half;
typedef pg_emu_pair<pg_emu_f16> __half2, half2;
PG_EMU_SMALL_NAMES(half, pg_emu_f16)

#endif
