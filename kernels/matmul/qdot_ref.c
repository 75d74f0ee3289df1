/* qdot, reference: 8-bit products of a stored row with a rounded row. Integer sums of 16, then factors and the sum
 * over blocks in double, so that the reference adds no error of its own. */
#include "../cpu/isa.h"
#include "../unpack/blocks.h"

static float qdot(const uint8_t *w, pg_q8 x, int64_t n, pg_dtype type, pg_block_fn *decode, int has_min)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    double sum = 0;
    for (int64_t i = 0; i < n; i += info->block, w += info->bytes) {
        pg_block b;
        decode(&b, w);
        for (int k = 0; k < info->block / 16; k++) {
            const int64_t at = i + 16 * k;
            int dot = 0;
            for (int j = 0; j < 16; j++) dot += b.q[16 * k + j] * x.q[at + j];
            double part = (double)b.d[k] * dot;
            if (has_min) part += (double)b.m[k] * x.isum[at / 16];
            sum += part * x.d[at / 32];
        }
    }
    return (float)sum;
}

#define F(name, type, has_min)                                    \
    float pg_qdot_##name##_ref(const void *w, pg_q8 x, int64_t n) \
    {                                                             \
        return qdot(w, x, n, type, pg_block_##name, has_min);     \
    }
PG_BLOCK_LIST(F)
#undef F
