/* encode: f32 weights into blocks of each format. Private to kernels/quant. */
#ifndef PG_ENCODE_H
#define PG_ENCODE_H

#include "../dtype.h"

/* Write the block of one format. x, w: its weights, at most PG_ENCODE_MOST, and how much the square error of each counts
 * (> 0). 1; 0 when a factor would be beyond f16. */
#define PG_ENCODE_MOST 1e9f /* more than any format with an f16 factor holds, and safe to square and sum */
typedef int pg_encode_fn(uint8_t *to, const float *x, const float *w);
pg_encode_fn pg_encode_q8_0, pg_encode_q4_0, pg_encode_q5_0, pg_encode_q5_1, pg_encode_mxfp4;
pg_encode_fn pg_encode_q4_k, pg_encode_q5_k, pg_encode_q6_k;

/* Store a factor: nearest f16, little-endian; returns what was stored. */
static inline float pg_put_f16(uint8_t *to, float d)
{
    const uint16_t h = pg_f32_to_f16(d);
    to[0] = (uint8_t)h;
    to[1] = (uint8_t)(h >> 8);
    return pg_f16_to_f32(h);
}

#endif
