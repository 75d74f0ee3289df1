/* glu, AVX2: the reference's formulas over 8 numbers, with the exponential of simd.h. */
#include "../cpu/isa.h"
#include "../simd.h"

#include <math.h>

/* g / (1 + exp(-arg)) */
static inline __m256 gated(__m256 g, __m256 minus_arg)
{
    return _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), exp8(minus_arg)));
}

static inline __m256 gelu(__m256 g)
{
    const __m256 one = _mm256_set1_ps(1.0f), k = _mm256_set1_ps(-1.5957691216f), c = _mm256_set1_ps(0.044715f);
    const __m256 poly = _mm256_add_ps(one, _mm256_mul_ps(c, _mm256_mul_ps(g, g))); /* no fma: as the reference rounds */
    return gated(g, _mm256_mul_ps(_mm256_mul_ps(k, g), poly));
}

/* kind is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) __m256 glu8(__m256 g, __m256 u, int kind, __m256 limit)
{
    if (kind == PG_GLU_OSS || kind == PG_GLU_CLAMP) { /* min and max give their second operand when it is a NaN */
        g = _mm256_min_ps(limit, g);
        u = _mm256_min_ps(limit, u);
        u = _mm256_max_ps(_mm256_xor_ps(limit, _mm256_set1_ps(-0.0f)), u);
    }
    if (kind == PG_GLU_OSS) {
        u = _mm256_add_ps(u, _mm256_set1_ps(1.0f));
        return _mm256_mul_ps(gated(g, _mm256_mul_ps(g, _mm256_set1_ps(-1.702f))), u);
    }
    if (kind == PG_GLU_GELU) return _mm256_mul_ps(gelu(g), u);
    return _mm256_mul_ps(gated(g, _mm256_xor_ps(g, _mm256_set1_ps(-0.0f))), u);
}

static inline __attribute__((always_inline)) void glu(float *y, const float *g, const float *u, int64_t n, int kind,
                                                      float limit)
{
    const __m256 cap = _mm256_set1_ps(limit);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, glu8(_mm256_loadu_ps(g + i), _mm256_loadu_ps(u + i), kind, cap));
    if (i < n) {
        const size_t left = (size_t)(n - i) * sizeof *y;
        float a[8] = { 0 }, b[8] = { 0 };
        memcpy(a, g + i, left);
        memcpy(b, u + i, left);
        _mm256_storeu_ps(a, glu8(_mm256_loadu_ps(a), _mm256_loadu_ps(b), kind, cap));
        memcpy(y + i, a, left);
    }
}

void pg_glu_avx2(float *y, const float *g, const float *u, int64_t n, int kind, float limit)
{
    switch (kind) {
    case PG_GLU_GELU: glu(y, g, u, n, PG_GLU_GELU, limit); break;
    case PG_GLU_OSS: glu(y, g, u, n, PG_GLU_OSS, limit); break;
    case PG_GLU_CLAMP: glu(y, g, u, n, PG_GLU_CLAMP, limit); break;
    default: glu(y, g, u, n, PG_GLU_SILU, limit); break;
    }
}
