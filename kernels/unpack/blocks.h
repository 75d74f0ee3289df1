/* blocks: what the bytes of a quantised block mean, in plain C.
 *
 * Every format is decoded to one form, from which the references of unpack and of the 8-bit product are a few lines:
 *     value i = d[i / 16] * q[i] + m[i / 16]      (without "+ m" where the format has no minimum)
 * d and m are exact in f32: a product of an f16 and a 6-bit or 8-bit integer fits 24 bits.
 * Not here: vector code, which reads the bytes its own way (simd.h). Source: block layouts of GGUF. */
#ifndef PG_BLOCKS_H
#define PG_BLOCKS_H

#include "../dtype.h"

typedef struct pg_block {
    float d[16], m[16]; /* a factor and a minimum for each 16 elements */
    int8_t q[256];      /* only the format's block size is filled */
} pg_block;

extern const int8_t pg_iq4_value[16]; /* what a 4-bit code of IQ4_NL and IQ4_XS stands for */
extern const int8_t pg_fp4_twice[16]; /* E2M1, doubled to be whole */

extern const int8_t pg_iq2_grid[256][8]; /* IQ2_XXS: the eight magnitudes that an index byte stands for */

/* 2^(e - 128): half of the E8M0 scale, to go with the doubled E2M1 values. 255 is read as a number, as GGML does. */
static inline float pg_e8m0_half(uint8_t e)
{
    return pg_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* The formats: F(row suffix, dtype, has a minimum). */
#define PG_BLOCK_LIST(F)      \
    F(q8_0, PG_Q8_0, 0)       \
    F(q4_0, PG_Q4_0, 0)       \
    F(q4_1, PG_Q4_1, 1)       \
    F(q5_0, PG_Q5_0, 0)       \
    F(q5_1, PG_Q5_1, 1)       \
    F(q2_k, PG_Q2_K, 1)       \
    F(q3_k, PG_Q3_K, 0)       \
    F(q4_k, PG_Q4_K, 1)       \
    F(q5_k, PG_Q5_K, 1)       \
    F(q6_k, PG_Q6_K, 0)       \
    F(iq4_nl, PG_IQ4_NL, 0)   \
    F(iq4_xs, PG_IQ4_XS, 0)   \
    F(iq2_xxs, PG_IQ2_XXS, 0) \
    F(mxfp4, PG_MXFP4, 0)

/* pg_block_<type>: decodes the block at w, any alignment. */
typedef void pg_block_fn(pg_block *b, const uint8_t *w);
#define F(name, type, has_min) pg_block_fn pg_block_##name;
PG_BLOCK_LIST(F)
#undef F

#endif
