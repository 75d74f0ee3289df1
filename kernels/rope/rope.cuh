/* rope: one rotation, for the op and for kernels that have one among other things. */
#ifndef PG_ROPE_CUH
#define PG_ROPE_CUH

#include "../cuda/device.cuh"

__device__ __forceinline__ void pg_rotate(float &a, float &b, float cosine, float sine)
{
    const float re = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
    b = __fadd_rn(__fmul_rn(a, sine), __fmul_rn(b, cosine));
    a = re;
}

#endif
