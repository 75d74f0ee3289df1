/* norm, AVX2. */
#include "../cpu/isa.h"
#include "../simd.h"

#include <math.h>

void pg_rmsnorm_avx2(float *y, const float *x, const float *w, int64_t n, float eps)
{
    const float r = 1.0f / sqrtf(pg_fdot_avx2(x, x, n) / (float)n + eps);
    const __m256 by = _mm256_set1_ps(r);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), by);
        _mm256_storeu_ps(y + i, w ? _mm256_mul_ps(v, _mm256_loadu_ps(w + i)) : v);
    }
    for (; i < n; i++) y[i] = w ? x[i] * r * w[i] : x[i] * r;
}
