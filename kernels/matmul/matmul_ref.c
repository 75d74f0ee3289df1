/* matmul, reference rows of float arithmetic and of rounding activations. fmaf is meant where it stands: the
 * contract is one rounding a step. */
#include "../amax.h"
#include "../cpu/isa.h"

#include <math.h>

void pg_fpanel_ref(float *y, const float *const *x, const float *w, int n_row, int kb)
{
    for (int r = 0; r < n_row; r++)
        for (int k = 0; k < kb; k++)
            for (int o = 0; o < PG_PANEL; o++)
                y[PG_PANEL * r + o] = fmaf(x[r][k], w[(int64_t)PG_PANEL * k + o], y[PG_PANEL * r + o]);
}

static float fold16(float sum[16])
{
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    return sum[0];
}

float pg_fdot_ref(const float *a, const float *b, int64_t n)
{
    float sum[16] = { 0 };
    for (int64_t k = 0; k < n; k++) sum[k % 16] = fmaf(a[k], b[k], sum[k % 16]);
    return fold16(sum);
}

static float fdot16(const uint8_t *w, const float *x, int64_t n, float (*to_f32)(uint16_t))
{
    float sum[16] = { 0 };
    for (int64_t k = 0; k < n; k++)
        sum[k % 16] = fmaf(to_f32((uint16_t)(w[2 * k] | w[2 * k + 1] << 8)), x[k], sum[k % 16]);
    return fold16(sum);
}

float pg_fdot_f16_ref(const void *w, const float *x, int64_t n)
{
    return fdot16(w, x, n, pg_f16_to_f32);
}
float pg_fdot_bf16_ref(const void *w, const float *x, int64_t n)
{
    return fdot16(w, x, n, pg_bf16_to_f32);
}

void pg_q8row_ref(pg_q8 *y, int64_t step, const float *x, int64_t n)
{
    for (int64_t b = 0; b < n / 32; b++, y += step) {
        const float amax = pg_amax32(x + 32 * b), inv = 127.0f / amax;
        const int whole = isfinite(inv) && amax > 0; /* false: zero, so small that inv overflows, or not finite */
        y->d = whole ? amax / 127.0f : isnan(amax) ? amax : 0.0f;
        y->sum = 0;
        for (int i = 0; i < 32; i++) {
            y->q[i] = whole ? (int8_t)rintf(x[32 * b + i] * inv) : 0;
            y->sum += y->q[i];
            if (i == 15) y->low = y->sum;
        }
        y->ds = y->d * (float)y->sum;
    }
}
