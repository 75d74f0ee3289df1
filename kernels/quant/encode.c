/* encode: formats of 32 weights with one factor.
 *
 * Lives here: choosing the factor (and minimum) of a block and writing its bytes. Not here: the search itself
 * (search.c), blocks of 256 (encode_k.c), what a block means to a reader (unpack/blocks.c).
 * Why Q8_0 is plain rounding: it loses nothing that could be won back, and all writers give the same bytes.
 * Source: block layouts of GGUF; OCP Microscaling v1.0 for MXFP4. */
#include "encode.h"
#include "../unpack/blocks.h"
#include "search.h"

#include <math.h>

enum { N = 32 };

static float largest(const float *x)
{
    float most = 0;
    for (int i = 0; i < N; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

int pg_encode_q8_0(uint8_t *to, const float *x, const float *w)
{
    (void)w;
    const float d = largest(x) / 127, inv = d > 0 ? 1 / d : 0;
    if (!isfinite(pg_put_f16(to, d))) return 0;
    for (int i = 0; i < N; i++) to[2 + i] = (uint8_t)(int8_t)roundf(x[i] * (isinf(inv) ? 0 : inv));
    return 1;
}

/* Codes of d * (q - offset), q from 0: nibbles to `low`, fifth bits returned. */
static uint32_t put_codes(uint8_t *low, const float *x, pg_line line, int high)
{
    const float inv = line.d != 0 ? 1 / line.d : 0;
    uint32_t fifth = 0;
    for (int i = 0; i < N; i++) {
        const int q = (int)pg_clamp(pg_nearest(inv * (x[i] - line.m)), 0, (float)high);
        if (i < N / 2)
            low[i] = (uint8_t)(q & 15);
        else
            low[i - N / 2] |= (uint8_t)((q & 15) << 4);
        fifth |= (uint32_t)(q >> 4) << i;
    }
    return fifth;
}

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> 8 * i);
}

int pg_encode_q4_0(uint8_t *to, const float *x, const float *w)
{
    const float d = pg_put_f16(to, pg_scale_search(x, w, N, 7));
    if (!isfinite(d)) return 0;
    put_codes(to + 2, x, (pg_line){ d, -8 * d }, 15);
    return 1;
}

int pg_encode_q5_0(uint8_t *to, const float *x, const float *w)
{
    const float d = pg_put_f16(to, pg_scale_search(x, w, N, 15));
    if (!isfinite(d)) return 0;
    put_u32(to + 2, put_codes(to + 6, x, (pg_line){ d, -16 * d }, 31));
    return 1;
}

int pg_encode_q5_1(uint8_t *to, const float *x, const float *w)
{
    pg_line line = pg_line_search(x, w, N, 31, 0);
    line.d = pg_put_f16(to, line.d);
    line.m = pg_put_f16(to + 2, line.m);
    if (!isfinite(line.d) || !isfinite(line.m)) return 0;
    put_u32(to + 4, put_codes(to + 8, x, line, 31));
    return 1;
}

/* ---- MXFP4 ---- */

/* The code of |v| in units of half a step: nearest, ties to the even code. */
static int fp4_code(float v)
{
    return (v > 0.5f) + (v >= 1.5f) + (v > 2.5f) + (v >= 3.5f) + (v > 5) + (v >= 7) + (v > 10);
}

static float fp4_error(const float *x, const float *w, float unit)
{
    float sum = 0;
    for (int i = 0; i < N; i++) {
        const float e = fabsf(x[i]) - unit * (float)pg_fp4_twice[fp4_code(fabsf(x[i]) / unit)];
        sum += w[i] * e * e;
    }
    return sum;
}

int pg_encode_mxfp4(uint8_t *to, const float *x, const float *w)
{
    int top = 0, best = 0;
    const float most = largest(x);
    memset(to, 0, 17);
    if (!(most > 0)) return 1;
    (void)frexpf(most, &top); /* most is 2^(top - 1) or more, and its code 4 to 6 with the scale 2^(top - 3) */
    float least = INFINITY;
    for (int e = top + 125; e >= top + 123; e--) {
        if (e < 0 || e > 254) continue;
        const float error = fp4_error(x, w, pg_e8m0_half((uint8_t)e));
        if (error < least) least = error, best = e;
    }
    const float unit = pg_e8m0_half((uint8_t)best);
    to[0] = (uint8_t)best;
    for (int i = 0; i < N; i++) {
        const int code = fp4_code(fabsf(x[i]) / unit), sign = code && x[i] < 0 ? 8 : 0;
        to[1 + i % 16] |= (uint8_t)((code | sign) << 4 * (i / 16));
    }
    return 1;
}
