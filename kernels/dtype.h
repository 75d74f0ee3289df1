/* Storage formats: what a stored number looks like, not what is done with it.
 *
 * Lives here: the list of formats, their block geometry and names, scalar conversions of 16-bit and 8-bit floats.
 * Not here: unpacking whole rows (unpack/), arithmetic (matmul/).
 * Source: specs of GGUF block formats; OCP Microscaling v1.0 for MXFP4; OCP OFP8 for E4M3. */
#ifndef PG_DTYPE_H
#define PG_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* X(ID, name, elements a block, bytes a block, GGUF type id or -1). Order is private: files store GGUF ids or names.
 * FP8 carries its 128x128 factors beside the data (pg_tensor.scale). */
#define PG_DTYPE_LIST(X)               \
    X(F32, "f32", 1, 4, 0)             \
    X(F16, "f16", 1, 2, 1)             \
    X(BF16, "bf16", 1, 2, 30)          \
    X(FP8, "fp8_e4m3", 1, 1, -1)       \
    X(Q8_0, "q8_0", 32, 34, 8)         \
    X(Q4_0, "q4_0", 32, 18, 2)         \
    X(Q4_1, "q4_1", 32, 20, 3)         \
    X(Q5_0, "q5_0", 32, 22, 6)         \
    X(Q5_1, "q5_1", 32, 24, 7)         \
    X(Q2_K, "q2_k", 256, 84, 10)       \
    X(Q3_K, "q3_k", 256, 110, 11)      \
    X(Q4_K, "q4_k", 256, 144, 12)      \
    X(Q5_K, "q5_k", 256, 176, 13)      \
    X(Q6_K, "q6_k", 256, 210, 14)      \
    X(IQ4_NL, "iq4_nl", 32, 18, 20)    \
    X(IQ4_XS, "iq4_xs", 256, 136, 23)  \
    X(IQ2_XXS, "iq2_xxs", 256, 66, 16) \
    X(MXFP4, "mxfp4", 32, 17, 39)      \
    X(I8, "i8", 1, 1, 24)              \
    X(I16, "i16", 1, 2, 25)            \
    X(I32, "i32", 1, 4, 26)            \
    X(I64, "i64", 1, 8, 27)            \
    X(F64, "f64", 1, 8, 28)            \
    X(U8, "u8", 1, 1, -1)              \
    X(E8M0, "e8m0", 1, 1, -1)

typedef enum pg_dtype {
#define X(id, name, block, bytes, gguf) PG_##id,
    PG_DTYPE_LIST(X)
#undef X
        PG_DTYPE_COUNT,
    PG_DTYPE_NONE = -1
} pg_dtype;

/* What one format looks like in memory. */
typedef struct pg_dtype_info {
    const char *name; /* lower case, as users write it */
    int32_t block;    /* elements in a block, along shape[0] */
    int32_t bytes;    /* bytes of a block */
    int32_t gguf;     /* ggml type id, -1: never in a GGUF file */
} pg_dtype_info;

/* Geometry of a format; type must be in [0, PG_DTYPE_COUNT). */
const pg_dtype_info *pg_dtype_get(pg_dtype type);

/* The format with this ggml type id, or PG_DTYPE_NONE when perigee does not read it. */
pg_dtype pg_dtype_from_gguf(uint32_t id);

/* The format with this name, or PG_DTYPE_NONE. */
pg_dtype pg_dtype_from_name(const char *name);

/* True for formats that a weight matrix may be computed from (all but the integer, f64 and e8m0 containers). */
int pg_dtype_is_weight(pg_dtype type);

/* True for formats of small integers with block scales: their decode class takes 8-bit activations. */
int pg_dtype_is_quant(pg_dtype type);

/* Bytes of n elements; n must be a multiple of the block. */
static inline size_t pg_dtype_bytes(pg_dtype type, int64_t n)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    return (size_t)(n / info->block) * (size_t)info->bytes;
}

static inline float pg_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t pg_bits_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float pg_bf16_to_f32(uint16_t h)
{
    return pg_f32_from_bits((uint32_t)h << 16);
}

/* Nearest even; a NaN keeps its sign and becomes quiet. */
static inline uint16_t pg_f32_to_bf16(float f)
{
    uint32_t u = pg_bits_from_f32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

float pg_f16_to_f32(uint16_t h);
uint16_t pg_f32_to_f16(float f); /* nearest even, subnormals kept, overflow to infinity */
float pg_fp8_to_f32(uint8_t b);  /* E4M3FN: no infinities, 0x7f and 0xff are NaN */

#endif
