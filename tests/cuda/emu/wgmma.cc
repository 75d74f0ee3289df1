/* wgmma.cc: asynchronous products of a group of 4 warps. Each thread makes its own sums, for nothing is exchanged but what
 * shared memory holds; sums appear when they are waited for. */
#include "cuda_bf16.h"
#include "cuda_runtime.h"
#include "emu_device.h"
#include "../../../kernels/cuda/wgmma.cuh"

#include <deque>
#include <vector>

namespace
{
struct product {
    float *d;
    uint64_t a, b;
    float begun[PG_WGMMA_SUMS]; /* what it added when it was begun */
};
struct group {
    std::vector<product> products;
};
struct thread {
    std::vector<product> open;
    std::deque<group> groups;
};
thread threads[1024];

int me(void)
{
    return (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}

float number(uint64_t about, int r, int k)
{
    const unsigned char *p = pg_emu_shared() + pg_wgmma_find(about, r, k);
    if (!pg_emu_in_shared(p, 2)) pg_emu_die("wgmma: row %d, column %d is not in shared memory", r, k);
    unsigned short h;
    memcpy(&h, p, 2);
    return pg_emu_bf16::from(h);
}

void add(float *sum, uint64_t a, uint64_t b)
{
    const int t = me();
    for (int i = 0; i < PG_WGMMA_SUMS; i++) {
        double s = 0;
        for (int k = 0; k < 16; k++)
            s += (double)number(a, pg_wgmma_row(t, i), k) * number(b, pg_wgmma_column(t, i), k);
        sum[i] = (float)s;
    }
}

/* Rows are read by the group; each thread answers for some, and not for those that it has likely written. */
void watch(uint64_t a, uint64_t b)
{
    const int t = (me() + 37) % 128;
    for (int half = 0; half < 2; half++) { /* 8 columns, which the swizzle leaves together */
        pg_emu_watch_read(pg_emu_shared() + pg_wgmma_find(a, t % PG_WGMMA_ROWS, 8 * half), 16);
        pg_emu_watch_read(pg_emu_shared() + pg_wgmma_find(b, t, 8 * half), 16);
    }
}

void end(const product &p)
{
    watch(p.a, p.b);
    float now[PG_WGMMA_SUMS];
    add(now, p.a, p.b);
    for (int i = 0; i < PG_WGMMA_SUMS; i++) {
        if (memcmp(&now[i], &p.begun[i], 4)) pg_emu_die("wgmma: what it reads was written before it was waited for");
        p.d[i] += now[i];
    }
}
} // namespace

void pg_emu_wgmma(float *d, uint64_t a, uint64_t b)
{
    if (blockDim.x % 128) pg_emu_die("wgmma: a block of %u threads", blockDim.x);
    if ((a | b) >> 62 != 1) pg_emu_die("wgmma: not the 128-byte swizzle");
    if ((a & 0x3fff) >> 3 & 7 || (b & 0x3fff) >> 3 & 7) pg_emu_die("wgmma: an operand is not aligned");
    watch(a, b);
    product p = { d, a, b, {} };
    add(p.begun, a, b);
    threads[me()].open.push_back(p);
}

void pg_emu_wgmma_commit(void)
{
    thread *t = &threads[me()];
    t->groups.push_back({ t->open });
    t->open.clear();
}

void pg_emu_wgmma_wait(int most)
{
    thread *t = &threads[me()];
    while ((int)t->groups.size() > most) {
        for (const product &p : t->groups.front().products) end(p);
        t->groups.pop_front();
    }
}
