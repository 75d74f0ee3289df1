/* emu_watch: the emulator's watch over loads and stores (emu/watch.cc): what has an order passes, and what has none is found
 * in whatever order the threads happen to run; what a kernel that begins early may not touch, likewise. */
#include "../../kernels/cuda/device.cuh"
#include "dies.h"

enum { N = 64, BLOCKS = 4 };

/* ---- what has an order -------------------------------------------------------------------------------------------- */

static __global__ void by_barriers(int *y)
{
    PG_SHARED(int, x);
    const int t = (int)threadIdx.x;
    for (int round = 0; round < 3; round++) {
        x[t] = t + round;
        __syncthreads();
        y[t] = x[N - 1 - t];
        __syncthreads();
    }
}

static __global__ void by_warps(int *y)
{
    PG_SHARED(int, x);
    const int t = (int)threadIdx.x, lane = t % 32;
    x[t] = t;
    __syncwarp();
    int sum = x[t ^ 1];
    if (lane < 16) { /* half a warp */
        __syncwarp(0xffffu);
        x[t] = sum;
        __syncwarp(0xffffu);
        sum = x[t ^ 2];
    }
    __syncwarp();
    y[t] = sum + x[t ^ 31];
}

/* Bytes of a word, each of a thread of its own. */
static __global__ void by_bytes(unsigned char *y)
{
    y[blockIdx.x * N + threadIdx.x] = (unsigned char)threadIdx.x;
}

/* The block that is done last adds up what all have left. */
static __global__ void by_last(int *y, unsigned *count)
{
    __shared__ int is_last;
    y[blockIdx.x * N + threadIdx.x] = 1;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(count, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!is_last || threadIdx.x) return;
    int sum = 0;
    for (int i = 0; i < BLOCKS * N; i++) sum += y[i];
    y[0] = sum;
}

static __global__ void by_atomics(int *y, volatile int *flag)
{
    atomicAdd(y, 1);
    atomicMax(y + 1, (int)threadIdx.x);
    *flag = 1;
}

static __global__ void fill(int *y, int first)
{
    y[threadIdx.x] = first + (int)threadIdx.x;
}

/* Weights before, what was written after. */
static __global__ void patient(int *y, const int *weight, const int *x)
{
    PG_SHARED(int, mine);
    mine[threadIdx.x] = weight[threadIdx.x];
    pg_let_next();
    pg_wait_before();
    y[threadIdx.x] = x[threadIdx.x] + mine[threadIdx.x];
}

struct memory {
    int *y, *x, *w;
    memory()
    {
        for (int **p : { &y, &x, &w }) {
            cudaMalloc(p, 4096);
            cudaMemset(*p, 0, 4096);
        }
    }
    ~memory()
    {
        for (int *p : { y, x, w }) cudaFree(p);
    }
    int at(int i) const
    {
        int v;
        cudaMemcpy(&v, y + i, sizeof v, cudaMemcpyDeviceToHost);
        return v;
    }
};

static void test_order(void)
{
    memory m;
    PG_LAUNCH(by_barriers, 1, N, N * sizeof(int), 0, m.y);
    CHECK(m.at(3) == N - 4 + 2, "%d", m.at(3));
    PG_LAUNCH(by_warps, 1, N, N * sizeof(int), 0, m.y);
    PG_LAUNCH(by_bytes, BLOCKS, N, 0, 0, reinterpret_cast<unsigned char *>(m.y));
    cudaMemset(m.w, 0, 4);
    PG_LAUNCH(by_last, BLOCKS, N, 0, 0, m.y, reinterpret_cast<unsigned *>(m.w));
    CHECK(m.at(0) == BLOCKS * N, "%d", m.at(0));
    cudaMemset(m.y, 0, 8);
    PG_LAUNCH(by_atomics, BLOCKS, N, 0, 0, m.y, m.w);
    CHECK(m.at(0) == BLOCKS * N && m.at(1) == N - 1, "%d, %d", m.at(0), m.at(1));
}

static void test_early(void)
{
    memory m;
    pg_emu_launch("fill", fill, 1, N, 0, 0, m.w, 5);
    cudaMemset(m.y, 0, 4); /* what comes before it is over when a kernel begins behind it */
    pg_emu_launch("fill", fill, 1, N, 0, 0, m.x, 100);
    pg_emu_launch_early("patient", patient, 1, N, N * sizeof(int), 0, m.y, m.w, m.x);
    pg_emu_launch_early("patient", patient, 1, N, N * sizeof(int), 0, m.x, m.w, m.y);
    CHECK(m.at(3) == 103 + 8, "%d", m.at(3));
}

/* ---- what must be found ------------------------------------------------------------------------------------------- */

static __global__ void no_barrier(int *y)
{
    PG_SHARED(int, x);
    x[threadIdx.x] = 1;
    y[threadIdx.x] = x[N - 1 - threadIdx.x];
}
/* The next round's numbers, before all have read this one's. */
static __global__ void barrier_too_few(int *y)
{
    PG_SHARED(int, x);
    for (int round = 0; round < 2; round++) {
        x[threadIdx.x] = round;
        __syncthreads();
        y[threadIdx.x] = x[N - 1 - threadIdx.x];
    }
}
static __global__ void shuffle_only(int *y)
{
    PG_SHARED(int, x);
    x[threadIdx.x] = 1;
    const int one = __shfl_xor_sync(0xffffffffu, 1, 1);
    y[threadIdx.x] = x[threadIdx.x ^ 1] + one;
}
static __global__ void wrong_half(int *y)
{
    PG_SHARED(int, x);
    x[threadIdx.x] = 1;
    __syncwarp(threadIdx.x & 16 ? 0xffff0000u : 0xffffu);
    y[threadIdx.x] = x[threadIdx.x ^ 16];
}
static __global__ void warp_for_block(int *y)
{
    PG_SHARED(int, x);
    x[threadIdx.x] = 1;
    __syncwarp();
    y[threadIdx.x] = x[threadIdx.x ^ 32];
}
static __global__ void two_blocks(int *y)
{
    y[threadIdx.x] = (int)blockIdx.x;
}
static __global__ void byte_and_word(int *y)
{
    if (threadIdx.x) reinterpret_cast<unsigned char *>(y)[threadIdx.x % 4] = 1;
    if (!threadIdx.x) y[0] = 0;
}
static __global__ void no_fence(int *y)
{
    __shared__ int is_last;
    y[blockIdx.x * N + threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(y + BLOCKS * N, 1) == 3;
    __syncthreads();
    if (is_last && threadIdx.x == 0) y[0] = y[N] + y[2 * N];
}
static __global__ void atomic_and_plain(int *y)
{
    if (threadIdx.x) atomicAdd(y, 1);
    if (!threadIdx.x) y[1] = y[0];
}
/* A copy is there for the thread that waited, not yet for others. */
static __global__ void copied_for_others(int *y)
{
    __shared__ __align__(16) int4 x[N];
    pg_copy16(&x[threadIdx.x], y + 4 * threadIdx.x, true);
    pg_copy_commit();
    pg_copy_wait<0>();
    y[4 * N + threadIdx.x] = x[N - 1 - threadIdx.x].x;
}
static __global__ void crooked(int *y)
{
    *reinterpret_cast<int4 *>(y + 2) = make_int4(0, 0, 0, 0);
}

static __global__ void reads_early(int *y, const int *x)
{
    const int mine = x[threadIdx.x];
    pg_wait_before();
    y[threadIdx.x] = mine;
}
static __global__ void copies_early(int *y, const int *x)
{
    __shared__ __align__(16) int4 room[N];
    pg_copy16(&room[threadIdx.x], x, true);
    pg_copy_commit();
    pg_wait_before();
    pg_copy_wait<0>();
    y[threadIdx.x] = room[threadIdx.x].x;
}
static __global__ void writes_early(int *y, const int *)
{
    y[threadIdx.x] = 1;
    pg_wait_before();
}
static __global__ void counts_early(int *y, const int *)
{
    atomicAdd(y, 1);
    pg_wait_before();
}
static __global__ void never_waits(int *, const int *)
{
    if (threadIdx.x != 5) pg_wait_before();
}
static __global__ void waits(int *, const int *)
{
    pg_wait_before();
}
static __global__ void reads_as_constant(int *y, const int *x)
{
    pg_wait_before();
    y[threadIdx.x] = __ldg(x + threadIdx.x);
}

static void found(void (*kernel)(int *), const char *name, const char *text)
{
    for (int order : { PG_EMU_FORWARD, PG_EMU_BACKWARD, PG_EMU_RANDOM })
        dies(name, text, [kernel, name, order] {
            memory m;
            pg_emu_order(order);
            pg_emu_launch(name, kernel, BLOCKS, N, 4096, 0, m.y);
        });
}

/* between: kernels that begin early and come between the one that writes and this one. */
static void found_early(void (*kernel)(int *, const int *), const char *name, int between, const char *text)
{
    dies(name, text, [kernel, name, between] {
        memory m;
        pg_emu_launch("fill", fill, 1, N, 0, 0, m.x, 100);
        for (int i = 0; i < between; i++) pg_emu_launch_early("waits", waits, 1, N, 0, 0, m.y, m.w);
        pg_emu_launch_early(name, kernel, 1, N, 0, 0, m.y, m.x);
    });
}

static void test_found(void)
{
    found(no_barrier, "no_barrier", "a race");
    found(barrier_too_few, "barrier_too_few", "a race");
    found(shuffle_only, "shuffle_only", "a race");
    found(wrong_half, "wrong_half", "a race");
    found(warp_for_block, "warp_for_block", "a race");
    found(two_blocks, "two_blocks", "a race: writes device memory");
    found(byte_and_word, "byte_and_word", "a race: writes device memory");
    found(no_fence, "no_fence", "a race: reads device memory");
    found(atomic_and_plain, "atomic_and_plain", "a race");
    found(copied_for_others, "copied_for_others", "a race: ");
    found(crooked, "crooked", "not aligned");
    for (int between = 0; between < 3; between++) {
        found_early(reads_early, "reads_early", between, "before it has waited for fill, which writes it");
        found_early(copies_early, "copies_early", between, "before it has waited for fill, which writes it");
        found_early(reads_as_constant, "reads_as_constant", between,
                    "as what nobody writes while it runs, and fill does");
    }
    found_early(writes_early, "writes_early", 0, "before it has waited for the kernels before it");
    found_early(counts_early, "counts_early", 0, "before it has waited for the kernels before it");
    found_early(never_waits, "never_waits", 0, "began early and has not waited");
}

#ifdef __SANITIZE_THREAD__
static const bool watched = true;
#else
static const bool watched = false;
#endif

int main(void)
{
    unsetenv("PERIGEE_EMU_WATCH");
    test_order();
    test_early();
    if (watched)
        test_found();
    else
        printf("    the watch did not run: device code is compiled without it\n");
    return check_done("emu_watch");
}
