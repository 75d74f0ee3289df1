/* cuda_bf16: the upper halves of 32-bit floats, under CUDA's names. */
#ifndef PG_EMU_CUDA_BF16_H
#define PG_EMU_CUDA_BF16_H

#include "small_float.h"

struct pg_emu_bf16 {
    static float from(unsigned short h) { return __uint_as_float((unsigned)h << 16); }

    static unsigned short to(float x)
    {
        const unsigned u = __float_as_uint(x);
        if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
        return (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
    }
};

typedef pg_emu_small<pg_emu_bf16> __nv_bfloat16, nv_bfloat16;
typedef pg_emu_pair<pg_emu_bf16> __nv_bfloat162, nv_bfloat162;
PG_EMU_SMALL_NAMES(bfloat16, pg_emu_bf16)

#endif
