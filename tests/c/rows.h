/* rows.h: what the tests and timings of row kernels share: random stored blocks and comparisons. */
#ifndef PG_TEST_ROWS_H
#define PG_TEST_ROWS_H

#include "../../kernels/cpu/isa.h"
#include "../../kernels/unpack/blocks.h"
#include "check.h"

#include <math.h>

static unsigned long long rows_seed = 1;

static inline unsigned rows_rand(void)
{
    return check_rand(&rows_seed);
}
static inline float rows_uniform(void)
{
    return check_uniform(&rows_seed);
}
static inline int rows_below(int n)
{
    return (int)(rows_rand() % (unsigned)n);
}

/* Any 32 bits as a float: every exponent, subnormals, infinities, NaN. */
static inline float rows_any(void)
{
    return pg_f32_from_bits(rows_rand() << 16 ^ rows_rand());
}

/* Numbers over many orders of magnitude, all finite. */
static inline float rows_wide(int exponent)
{
    return ldexpf(rows_uniform(), rows_below(2 * exponent + 1) - exponent);
}

/* Two NaNs are the same, whatever they carry; anything else must agree in every bit. */
static inline int rows_same(float a, float b)
{
    return (isnan(a) && isnan(b)) || pg_bits_from_f32(a) == pg_bits_from_f32(b);
}

static inline int rows_same_n(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!rows_same(a[i], b[i])) return 0;
    return 1;
}

/* Within tol of each other; infinities and NaN must agree. */
static inline int rows_near(double a, double b, double tol)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b)) return a == b;
    return fabs(a - b) <= tol;
}

/* Where a format keeps its f16 factor and minimum; -1: none. */
static inline int rows_factor_at(pg_dtype type)
{
    switch (type) {
    case PG_Q2_K: return 80;
    case PG_Q3_K: return 108;
    case PG_Q6_K: return 208;
    case PG_MXFP4: return -1;
    default: return 0;
    }
}

static inline int rows_min_at(pg_dtype type)
{
    switch (type) {
    case PG_Q4_1:
    case PG_Q5_1:
    case PG_Q4_K:
    case PG_Q5_K: return 2;
    case PG_Q2_K: return 82;
    default: return -1;
    }
}

static inline void rows_put_half(uint8_t *w, float f)
{
    const uint16_t h = pg_f32_to_f16(f);
    w[0] = (uint8_t)h;
    w[1] = (uint8_t)(h >> 8);
}

/* n random elements of a quantised format, with factors of ordinary size. */
static inline void rows_fill_blocks(uint8_t *w, pg_dtype type, int64_t n)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    const int d = rows_factor_at(type), m = rows_min_at(type);
    for (int64_t i = 0; i < n / info->block; i++, w += info->bytes) {
        for (int k = 0; k < info->bytes; k++) w[k] = (uint8_t)rows_rand();
        if (d >= 0) rows_put_half(w + d, rows_uniform());
        if (m >= 0) rows_put_half(w + m, rows_uniform());
        if (type == PG_MXFP4) w[0] = (uint8_t)(120 + rows_below(12));
    }
}

/* `bytes` of memory at `offset` from a multiple of 16, whose exact end an address sanitizer watches; free(*base). */
static inline void *rows_alloc(void **base, size_t bytes, int offset)
{
    *base = malloc(bytes + (size_t)offset + !bytes);
    if (!*base) exit(1);
    return (char *)*base + offset;
}

#endif
