/* attn, reference. */
#include "../cpu/isa.h"
#include "../exp.h"

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

static float exponentials(float *s, int n, float most)
{
    float sum[16] = { 0 };
    for (int t = 0; t < n; t++) {
        s[t] = pg_exp(s[t] - most);
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
        const float from = most == -INFINITY ? 0.0f : most, rest = sum[i] * (keep[i] = pg_exp(top[i] - from));
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
