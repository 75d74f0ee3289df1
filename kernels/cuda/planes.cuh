/* planes: which bytes of a stored block stand together in which plane (cuda.cuh says what planes are).
 *
 * One table for whoever lays planes out (planes.cu) and whoever reads them (matmul/decode.cuh), on the host and on the
 * device. The fields of a block in the order in which they stand in it; neighbours that are always read together are one
 * field, so that factors come in few loads: d and m, and the head of Q4_K, Q5_K and IQ4_XS with its small scales. Codes
 * begin at a multiple of 8 bytes in every plane, since a block's codes take a multiple of 8 bytes.
 * Not here: the factors of FP8, which are a plane but no part of a block. */
#ifndef PG_CUDA_PLANES_H
#define PG_CUDA_PLANES_H

#include "device.cuh"
extern "C" {
#include "../dtype.h"
}

/* Field i of a block is the bytes [from[i], from[i] + length[i]). n = 0: no such format on this device. */
typedef struct pg_plane_fields {
    int32_t n, from[4], length[4];
} pg_plane_fields;

PG_HD constexpr pg_plane_fields pg_plane_fields_of(pg_dtype type)
{
    switch (type) {
    case PG_F32: return { 1, { 0 }, { 4 } };
    case PG_F16:
    case PG_BF16: return { 1, { 0 }, { 2 } };
    case PG_FP8: return { 1, { 0 }, { 1 } };
    case PG_Q8_0: return { 2, { 0, 2 }, { 2, 32 } };                      /* d, codes */
    case PG_Q4_0:                                                         /* likewise */
    case PG_IQ4_NL: return { 2, { 0, 2 }, { 2, 16 } };                    /* likewise */
    case PG_Q4_1: return { 2, { 0, 4 }, { 4, 16 } };                      /* d m, codes */
    case PG_Q5_0: return { 3, { 0, 2, 6 }, { 2, 4, 16 } };                /* d, fifth bits, codes */
    case PG_Q5_1: return { 3, { 0, 4, 8 }, { 4, 4, 16 } };                /* d m, fifth bits, codes */
    case PG_Q2_K: return { 3, { 0, 16, 80 }, { 16, 64, 4 } };             /* scales, codes, d dmin */
    case PG_Q3_K: return { 4, { 0, 32, 96, 108 }, { 32, 64, 12, 2 } };    /* third bits, codes, scales, d */
    case PG_Q4_K: return { 2, { 0, 16 }, { 16, 128 } };                   /* d dmin scales, codes */
    case PG_Q5_K: return { 3, { 0, 16, 48 }, { 16, 32, 128 } };           /* d dmin scales, fifth bits, codes */
    case PG_Q6_K: return { 4, { 0, 128, 192, 208 }, { 128, 64, 16, 2 } }; /* low, high bits, scales, d */
    case PG_IQ4_XS: return { 2, { 0, 8 }, { 8, 128 } };                   /* d scales, codes */
    case PG_IQ2_XXS: return { 2, { 0, 2 }, { 2, 64 } };                   /* d, codes with signs and scales */
    case PG_MXFP4: return { 2, { 0, 1 }, { 1, 16 } };                     /* e, codes */
    default: return { 0, { 0 }, { 0 } };
    }
}

#endif
