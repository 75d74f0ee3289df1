/* stream_avx2.c: 32 bytes a load. */
#include "../cpu/isa.h"

#include <immintrin.h>

typedef struct sums {
    __m256i s[8]; /* two a walk */
} sums;

static inline void join(sums *y, const char *at, size_t step)
{
    for (int k = 0; k < 4; k++) {
        const __m256i *x = (const __m256i *)(at + (size_t)k * step);
        y->s[2 * k] = _mm256_xor_si256(y->s[2 * k], _mm256_load_si256(x));
        y->s[2 * k + 1] = _mm256_xor_si256(y->s[2 * k + 1], _mm256_load_si256(x + 1));
    }
}

#include "walk.h"

uint64_t pg_stream_avx2(const void *p, size_t n, int walks, size_t ahead)
{
    sums y;
    for (int i = 0; i < 8; i++) y.s[i] = _mm256_setzero_si256();
    walk(&y, p, n, walks, ahead);
    for (int i = 1; i < 8; i++) y.s[0] = _mm256_xor_si256(y.s[0], y.s[i]);
    uint64_t w[4];
    _mm256_storeu_si256((__m256i *)w, y.s[0]);
    return w[0] ^ w[1] ^ w[2] ^ w[3];
}
