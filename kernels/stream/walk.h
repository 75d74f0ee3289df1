/* walk.h: how the variants with vectors go through their bytes. Whoever includes it has said before what a step does: the
 * type sums, and join(sums *, at, step), which takes in 64 bytes at each of at, at + step, at + 2 step, at + 3 step. */
#ifndef PG_WALK_H
#define PG_WALK_H

#include <immintrin.h>

static inline void ask(const char *at, size_t step)
{
    for (int k = 0; k < 4; k++) _mm_prefetch(at + (size_t)k * step, _MM_HINT_T0);
}

/* The loop without prefetches stands apart: a prefetch costs a load's place, which counts where the bytes lie in a cache. */
static inline void walk(sums *y, const char *at, size_t n, int walks, size_t ahead)
{
    const size_t step = walks == 4 ? n / 4 : 64, move = walks == 4 ? 64 : 256;
    if (ahead) {
        for (size_t i = 0; i < n / 256; i++, at += move) {
            ask(at + ahead, step);
            join(y, at, step);
        }
    } else {
        for (size_t i = 0; i < n / 256; i++, at += move) join(y, at, step);
    }
}

#endif
