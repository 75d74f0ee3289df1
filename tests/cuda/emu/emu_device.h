/* emu_device: the names of device.cuh for which the device has instructions of its own. */
#ifndef PG_EMU_DEVICE_H
#define PG_EMU_DEVICE_H

#define PG_LAUNCH(kernel, grid, block, shared, stream, ...) \
    pg_emu_launch(#kernel, kernel, (grid), (block), (shared), (stream), __VA_ARGS__)

#define PG_LAUNCH_EARLY(c, kernel, grid, block, shared, ...) \
    pg_emu_launch_early(#kernel, kernel, (grid), (block), (shared), (c)->stream, __VA_ARGS__)
static inline void pg_wait_before(void)
{
    pg_emu_waited();
}
static inline void pg_let_next(void) {}

#define PG_SHARED(type, name) type *const name = reinterpret_cast<type *>(pg_emu_shared())

/* Fragments of a lane, as mma.m16n8k16 has them. */
struct pg_emu_fragments {
    float *d;
    const uint32_t *a, *b;
};
void pg_emu_mma_bf16(void *const lane[32], unsigned mask);
void pg_emu_mma_f16(void *const lane[32], unsigned mask);
static inline void pg_mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    pg_emu_fragments f = { d, a, b };
    pg_emu_warp("pg_mma_bf16", 0xffffffffu, &f, pg_emu_mma_bf16);
}
static inline void pg_mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    pg_emu_fragments f = { d, a, b };
    pg_emu_warp("pg_mma_f16", 0xffffffffu, &f, pg_emu_mma_f16);
}

/* The row that a lane names, and the four registers that it gets. */
struct pg_emu_matrices {
    uint32_t *r;
    const void *row;
};
void pg_emu_ldmatrix(void *const lane[32], unsigned mask);
void pg_emu_ldmatrix_t(void *const lane[32], unsigned mask);
static inline void pg_ldmatrix_x4(uint32_t (&r)[4], const void *row)
{
    pg_emu_matrices m = { r, row };
    pg_emu_watch_read(row, 16);
    pg_emu_warp("pg_ldmatrix_x4", 0xffffffffu, &m, pg_emu_ldmatrix);
}
static inline void pg_ldmatrix_x4_t(uint32_t (&r)[4], const void *row)
{
    pg_emu_matrices m = { r, row };
    pg_emu_watch_read(row, 16);
    pg_emu_warp("pg_ldmatrix_x4_t", 0xffffffffu, &m, pg_emu_ldmatrix_t);
}

static inline void pg_copy16(void *to, const void *from, bool want)
{
    pg_emu_copy(to, from, 16, want);
}
static inline void pg_copy_commit(void)
{
    pg_emu_copy_commit();
}
template <int N> static inline void pg_copy_wait(void)
{
    pg_emu_copy_wait(N);
}

static inline int pg_dot4(int a, int b, int acc)
{
    return __dp4a(a, b, acc);
}

#endif
