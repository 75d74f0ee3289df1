/* emu_wgmma: the names of wgmma.cuh. A product reads shared memory when it is begun and again when it is waited for, and
 * must find the same bytes. */
#ifndef PG_EMU_WGMMA_H
#define PG_EMU_WGMMA_H

static inline uint32_t pg_shared_address(const void *p)
{
    return (uint32_t)(static_cast<const unsigned char *>(p) - pg_emu_shared());
}
void pg_emu_wgmma(float *d, uint64_t a, uint64_t b);
void pg_emu_wgmma_commit(void);
void pg_emu_wgmma_wait(int most);

static inline void pg_wgmma_sent(void) {}
static inline void pg_wgmma_begin(void) {}
static inline void pg_wgmma_hold(float (&)[PG_WGMMA_SUMS]) {}
static inline void pg_wgmma_commit(void)
{
    pg_emu_wgmma_commit();
}
template <int N> static inline void pg_wgmma_wait(void)
{
    pg_emu_wgmma_wait(N);
}
static inline void pg_wgmma(float (&d)[PG_WGMMA_SUMS], uint64_t a, uint64_t b)
{
    pg_emu_wgmma(d, a, b);
}

#endif
