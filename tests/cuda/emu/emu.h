/* emu: runs kernels on the CPU. Every thread of a block is a fiber, so that barriers, shuffles and the tensor-core
 * instructions can be meeting points; blocks run one after the other.
 *
 * What it is for: finding wrong arithmetic, wrong indices, missing barriers and waits, before a GPU does. What it is not:
 * a timing model.
 * - Blocks, warps and lanes take turns in an order that changes from block to block and from launch to launch, so that a
 *   result that depends on who comes first shows; and loads and stores that nothing puts in order are found: watch.cc.
 * - Memory that nobody has written holds 0xff bytes, which are NaNs: device memory, dynamic shared memory, and static
 *   shared memory at the start of every block; the target of an asynchronous copy until it is waited for.
 * - What would hang or be undefined on a device (lanes of a warp at different primitives, a lane of the mask that has
 *   left, no end in sight) ends the program with the kernel's name.
 * - There may be several devices: devices.cc.
 * Not safe for two host threads at once: a lock makes them take turns. */
#ifndef PG_EMU_H
#define PG_EMU_H

#include "vectors.h"

#include <functional>
#include <stddef.h>
#include <stdint.h>

/* Where the running thread is. */
struct pg_emu_place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};
extern pg_emu_place pg_emu_at;

#define threadIdx (pg_emu_at.thread)
#define blockIdx (pg_emu_at.block)
#define blockDim (pg_emu_at.block_dim)
#define gridDim (pg_emu_at.grid_dim)
static const int warpSize = 32;

typedef struct CUstream_st *cudaStream_t;

/* Say what is wrong with the running kernel and end the program. */
[[noreturn]] void pg_emu_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Queue `body`, to be called by every thread of every block. function: what cudaFuncSetAttribute was told about. */
void pg_emu_queue(const char *name, const void *function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                  std::function<void()> body, bool early = false);

/* The arguments of a launch, copied. Nameless, for files may have argument types of one name that differ. */
namespace
{
template <class... P> struct pg_emu_arguments;
template <> struct pg_emu_arguments<> {
    template <class F, class... B> void call(F kernel, const B &...b) const { kernel(b...); }
};
template <class T, class... P> struct pg_emu_arguments<T, P...> {
    T first;
    pg_emu_arguments<P...> rest;
    template <class A, class... B> pg_emu_arguments(const A &a, const B &...b) : first(a), rest(b...) {}
    template <class F, class... B> void call(F kernel, const B &...b) const { rest.call(kernel, b..., first); }
};
} // namespace

template <class... P, class... A>
static inline void pg_emu_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                 cudaStream_t stream, const A &...argument)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel's arguments");
    const pg_emu_arguments<P...> copy(argument...);
    pg_emu_queue(name, reinterpret_cast<const void *>(kernel), grid, block, shared, stream,
                 [kernel, copy] { copy.call(kernel); });
}

/* The same for a kernel that may begin before those in front of it have ended: every thread says when it has waited for
 * them, and dies if it ends without. */
template <class... P, class... A>
static inline void pg_emu_launch_early(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                       cudaStream_t stream, const A &...argument)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel's arguments");
    const pg_emu_arguments<P...> copy(argument...);
    pg_emu_queue(
        name, reinterpret_cast<const void *>(kernel), grid, block, shared, stream,
        [kernel, copy] { copy.call(kernel); }, true);
}
void pg_emu_waited(void);

/* Run a kernel now. PERIGEE_EMU_TRACE: say which, on stderr. */
void pg_emu_run(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &body,
                bool early = false);

unsigned char *pg_emu_shared(void); /* the block's dynamic shared memory */
void pg_emu_barrier(const char *name);
bool pg_emu_in_shared(const void *p, size_t bytes);

/* Wait for the lanes of mask, each of which brings `mine`; the last one to come calls meet(all of them, mask), which
 * reads and writes what they brought. lane[i] is NULL for a lane that is not in mask. */
typedef void pg_emu_meet(void *const lane[32], unsigned mask);
void pg_emu_warp(const char *name, unsigned mask, void *mine, pg_emu_meet *meet);

/* watch.cc: who touches what. Device code tells of its plain loads and stores itself, when it has been compiled for that. */
void pg_emu_watch_launch(const char *name, bool early);
void pg_emu_watch_apart(void); /* what is queued next waits for all kernels before */
void pg_emu_watch_block(int threads);
void pg_emu_watch_barrier(void);
void pg_emu_watch_syncwarp(int first, unsigned mask);
void pg_emu_watch_fence(void);
void pg_emu_watch_read(const void *p, size_t bytes);
void pg_emu_watch_constant(const void *p, size_t bytes); /* by a way that sees only what nobody writes meanwhile */
void pg_emu_watch_write(const void *p, size_t bytes);
void pg_emu_watch_atomic(const void *p, size_t bytes);

/* The running thread, and what it has for a stack: NULL in between. */
enum { PG_EMU_STACK = 256 << 10 };
struct pg_emu_running {
    unsigned block;
    int thread;
    const char *stack;
    bool must_wait; /* for the kernels before, and has not yet */
};
extern pg_emu_running pg_emu_me;

/* Asynchronous copies of the running thread. */
void pg_emu_copy(void *to, const void *from, size_t bytes, bool want);
void pg_emu_copy_commit(void);
void pg_emu_copy_wait(int most);

/* Who comes first in the launches that follow: by turns (the default), in order, from the last to the first, at random. */
enum { PG_EMU_TURNS, PG_EMU_FORWARD, PG_EMU_BACKWARD, PG_EMU_RANDOM };
void pg_emu_order(int how);

/* Bytes of memory that each device has; the n-th call from now of a runtime function that can fail returns an error
 * (0: none does). */
#define PG_EMU_SEEN extern "C" __attribute__((visibility("default"))) /* for a program that has loaded the library */
PG_EMU_SEEN void pg_emu_memory(size_t bytes);
PG_EMU_SEEN void pg_emu_fail_at(int n);

#endif
