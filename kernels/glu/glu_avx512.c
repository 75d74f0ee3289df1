/* glu, AVX-512: as glu_avx2.c, sixteen numbers at once, with the same bits. */
#include "../cpu/isa.h"
#include "../simd.h"

/* g / (1 + exp(-arg)) */
static inline __m512 gated(__m512 g, __m512 minus_arg)
{
    return _mm512_div_ps(g,
                         _mm512_add_ps(_mm512_set1_ps(1.0f), exp16(_mm512_min_ps(_mm512_set1_ps(89.0f), minus_arg))));
}

/* kind is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) __m512 glu16(__m512 g, __m512 u, int kind, __m512 limit)
{
    const __m512 sign = _mm512_set1_ps(-0.0f), one = _mm512_set1_ps(1.0f);
    if (kind == PG_GLU_OSS || kind == PG_GLU_CLAMP) { /* min and max give their second operand when it is a NaN */
        g = _mm512_min_ps(limit, g);
        u = _mm512_min_ps(limit, u);
        u = _mm512_max_ps(_mm512_xor_ps(limit, sign), u);
    }
    if (kind == PG_GLU_OSS) {
        u = _mm512_add_ps(u, one);
        return _mm512_mul_ps(gated(g, _mm512_mul_ps(g, _mm512_set1_ps(-1.702f))), u);
    }
    if (kind == PG_GLU_GELU) { /* no fma: as the reference rounds */
        const __m512 cube = _mm512_mul_ps(_mm512_set1_ps(0.044715f), _mm512_mul_ps(g, g));
        const __m512 arg = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(-1.5957691216f), g), _mm512_add_ps(one, cube));
        return _mm512_mul_ps(gated(g, arg), u);
    }
    return _mm512_mul_ps(gated(g, _mm512_xor_ps(g, sign)), u);
}

static inline __attribute__((always_inline)) void glu(float *y, const float *g, const float *u, int64_t n, int kind,
                                                      float limit)
{
    const __m512 cap = _mm512_set1_ps(limit);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, glu16(_mm512_loadu_ps(g + i), _mm512_loadu_ps(u + i), kind, cap));
    if (i < n) {
        const __mmask16 left = (__mmask16)((1u << (n - i)) - 1);
        const __m512 a = _mm512_maskz_loadu_ps(left, g + i), b = _mm512_maskz_loadu_ps(left, u + i);
        _mm512_mask_storeu_ps(y + i, left, glu16(a, b, kind, cap));
    }
}

void pg_glu_avx512(float *y, const float *g, const float *u, int64_t n, int kind, float limit)
{
    switch (kind) {
    case PG_GLU_GELU: glu(y, g, u, n, PG_GLU_GELU, limit); break;
    case PG_GLU_OSS: glu(y, g, u, n, PG_GLU_OSS, limit); break;
    case PG_GLU_CLAMP: glu(y, g, u, n, PG_GLU_CLAMP, limit); break;
    default: glu(y, g, u, n, PG_GLU_SILU, limit); break;
    }
}
