/* attn, reference. The exponential is written out, for a library's may differ from machine to machine. */
#include "../cpu/isa.h"

#include <math.h>

/* Number c of row t. */
static float held(const pg_held *h, int t, int64_t c)
{
    const char *row = (const char *)h->at + t * h->step;
    uint16_t half;
    float whole;
    if (h->dtype == PG_F32) {
        memcpy(&whole, row + 4 * c, 4);
        return whole;
    }
    memcpy(&half, row + 2 * c, 2);
    return h->dtype == PG_F16 ? pg_f16_to_f32(half) : pg_bf16_to_f32(half);
}

void pg_qk_ref(float *s, int64_t s_step, const float *const *q, int n_q, const pg_held *k, int n_k, int64_t d)
{
    for (int t = 0; t < n_k; t++) {
        for (int i = 0; i < n_q; i++) {
            float sum[16] = { 0 };
            for (int64_t c = 0; c < d; c++) sum[c % 16] = fmaf(q[i][c], held(k, t, c), sum[c % 16]);
            for (int half = 8; half > 0; half /= 2)
                for (int j = 0; j < half; j++) sum[j] += sum[j + half];
            s[i * s_step + t] = sum[0];
        }
    }
}

/* exp of x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2; exp r by its Taylor polynomial, whose rest is below r^8 / 8! = 6e-9. */
static float exponential(float x)
{
    if (isnan(x)) return x;
    if (x < -104.0f) x = -104.0f; /* which gives 0 */
    const float n = nearbyintf(x * 0x1.715476p+0f);
    const float r = fmaf(-n, -0x1.05c61p-29f, fmaf(-n, 0x1.62e43p-1f, x)); /* ln 2 in two parts */
    float p = 1.0f / 5040, inverse[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }; /* 1 / k! */
    for (int k = 0; k < 7; k++) p = fmaf(p, r, inverse[k]);
    return ldexpf(p, (int)n);
}

static float exponentials(float *s, int n, float most)
{
    float sum[16] = { 0 };
    for (int t = 0; t < n; t++) {
        s[t] = exponential(s[t] - most);
        sum[t % 16] += s[t];
    }
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    return sum[0];
}

void pg_softmax_ref(float *top, float *sum, float *keep, float *s, int64_t s_step, int n_q, int n, float scale)
{
    for (int i = 0; i < n_q; i++, s += s_step) {
        float most = top[i];
        for (int t = 0; t < n; t++) {
            s[t] *= scale;
            if (s[t] > most) most = s[t];
        }
        const float from = most == -INFINITY ? 0.0f : most, rest = sum[i] * (keep[i] = exponential(top[i] - from));
        top[i] = most;
        sum[i] = rest + exponentials(s, n, from);
    }
}

void pg_pv_ref(float *acc, int64_t acc_step, const float *keep, const float *p, int64_t p_step, int n_q,
               const pg_held *v, int n_t, int64_t d)
{
    for (int i = 0; i < n_q; i++) {
        for (int64_t c = 0; c < d; c++) {
            float sum = keep[i] == 0 ? 0.0f : acc[i * acc_step + c] * keep[i];
            for (int t = 0; t < n_t; t++) sum = fmaf(p[i * p_step + t], held(v, t, c), sum);
            acc[i * acc_step + c] = sum;
        }
    }
}
