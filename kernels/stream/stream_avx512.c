/* stream_avx512.c: a line a load; otherwise as stream_avx2.c. */
#include "../cpu/isa.h"

#include <immintrin.h>

typedef struct sums {
    __m512i s[4];
} sums;

static inline void join(sums *y, const char *at, size_t step)
{
    for (int k = 0; k < 4; k++) y->s[k] = _mm512_xor_si512(y->s[k], _mm512_load_si512(at + (size_t)k * step));
}

#include "walk.h"

uint64_t pg_stream_avx512(const void *p, size_t n, int walks, size_t ahead)
{
    sums y;
    for (int i = 0; i < 4; i++) y.s[i] = _mm512_setzero_si512();
    walk(&y, p, n, walks, ahead);
    y.s[0] = _mm512_xor_si512(_mm512_xor_si512(y.s[0], y.s[1]), _mm512_xor_si512(y.s[2], y.s[3]));
    uint64_t w[8], all = 0;
    _mm512_storeu_si512(w, y.s[0]);
    for (int i = 0; i < 8; i++) all ^= w[i];
    return all;
}
