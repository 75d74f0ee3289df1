/* stream_ref.c: in plain C, which a compiler turns into whatever vectors it may use everywhere. */
#include "../cpu/isa.h"

typedef struct line {
    uint64_t w[8];
} line;

static inline void join(line *sum, const char *p)
{
    line x;
    memcpy(&x, p, sizeof x);
    for (int i = 0; i < 8; i++) sum->w[i] ^= x.w[i];
}

uint64_t pg_stream_ref(const void *p, size_t n, int walks, size_t ahead)
{
    const char *at = p;
    const size_t step = walks == 4 ? n / 4 : 64, move = walks == 4 ? 64 : 256;
    line sum[4] = { 0 };
    for (size_t i = 0; i < n / 256; i++, at += move) {
        for (int k = 0; k < 4; k++) {
            if (ahead) __builtin_prefetch(at + (size_t)k * step + ahead);
            join(&sum[k], at + (size_t)k * step);
        }
    }
    uint64_t all = 0;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 8; i++) all ^= sum[k].w[i];
    return all;
}
