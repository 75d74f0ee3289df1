/* attn, AVX2: 64 columns stay in registers while t runs, enough sums to hide the latency of their chains. */
#include "../cpu/isa.h"
#include "../simd.h"

#include <math.h>

/* 8 * n columns; n is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void columns(float *acc, float keep, const float *p, const float *v,
                                                          int64_t stride, int n_t, int n)
{
    __m256 sum[8];
    UNROLL
    for (int j = 0; j < n; j++) sum[j] = _mm256_mul_ps(_mm256_loadu_ps(acc + 8 * j), _mm256_set1_ps(keep));
    for (int t = 0; t < n_t; t++, v += stride) {
        UNROLL
        for (int j = 0; j < n; j++)
            sum[j] = _mm256_fmadd_ps(_mm256_broadcast_ss(p + t), _mm256_loadu_ps(v + 8 * j), sum[j]);
    }
    UNROLL
    for (int j = 0; j < n; j++) _mm256_storeu_ps(acc + 8 * j, sum[j]);
}

void pg_wsum_avx2(float *acc, float keep, const float *p, const float *v, int64_t stride, int n_t, int64_t d)
{
    int64_t i = 0;
    for (; i + 64 <= d; i += 64) columns(acc + i, keep, p, v + i, stride, n_t, 8);
    for (; i + 8 <= d; i += 8) columns(acc + i, keep, p, v + i, stride, n_t, 1);
    for (; i < d; i++) {
        float sum = acc[i] * keep;
        for (int t = 0; t < n_t; t++) sum = fmaf(p[t], v[t * stride + i], sum);
        acc[i] = sum;
    }
}
