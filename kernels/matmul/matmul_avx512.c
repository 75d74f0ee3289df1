/* matmul, AVX-512: the float panel alone. A panel row is one register, so 12 rows hide the latency of the chain. */
#include "../cpu/isa.h"
#include "../simd.h"

/* n rows of a panel; n is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void rows(float *y, const float *const *x, const float *w, int n, int kb)
{
    __m512 a[8];
    UNROLL
    for (int r = 0; r < n; r++) a[r] = _mm512_loadu_ps(y + 16 * r);
    for (int64_t k = 0; k < kb; k++) {
        const __m512 v = _mm512_load_ps(w + 16 * k);
        UNROLL
        for (int r = 0; r < n; r++) a[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][k]), v, a[r]);
    }
    UNROLL
    for (int r = 0; r < n; r++) _mm512_storeu_ps(y + 16 * r, a[r]);
}

void pg_fpanel_avx512(float *y, const float *const *x, const float *w, int n_row, int kb)
{
    for (; n_row >= 8; n_row -= 8, x += 8, y += 8 * 16) rows(y, x, w, 8, kb);
#define CASE(n) \
    case n: rows(y, x, w, n, kb); break;
    switch (n_row) {
        CASE(7)
        CASE(6)
        CASE(5)
        CASE(4)
        CASE(3)
        CASE(2)
        CASE(1)
    default: break;
    }
#undef CASE
}
