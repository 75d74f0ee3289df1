/* emu_test: the emulator against plain loops, and that it finds what it is there to find. */
#include "dies.h"
#include "device.cuh"

#include <math.h>
#include <vector>

static unsigned long long seed = 1;

template <class T> static T *device(const std::vector<T> &x)
{
    T *p = NULL;
    cudaMalloc(&p, x.size() * sizeof(T));
    cudaMemcpy(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice);
    return p;
}
template <class T> static std::vector<T> host(const T *p, size_t n)
{
    std::vector<T> x(n);
    cudaMemcpy(x.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost);
    return x;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------- */

/* Sums of columns, by a tree in shared memory. */
static __global__ void tree_sum(float *y, const float *x, int n)
{
    PG_SHARED(float, part);
    const int i = threadIdx.x;
    float sum = 0;
    for (int j = i; j < n; j += blockDim.x) sum += x[blockIdx.x * n + j];
    part[i] = sum;
    for (int half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (i < half) part[i] += part[i + half];
    }
    if (i == 0) y[blockIdx.x] = part[0];
}

static void test_block(void)
{
    enum { ROWS = 7, N = 1000 };
    std::vector<float> x(ROWS * N);
    for (float &f : x) f = (float)(int)(check_uniform(&seed) * 100);
    float *dx = device(x), *dy = device(std::vector<float>(ROWS));
    for (int threads = 64; threads <= 1024; threads *= 4) {
        PG_LAUNCH(tree_sum, ROWS, threads, threads * sizeof(float), 0, dy, dx, (int)N);
        const std::vector<float> y = host(dy, ROWS);
        for (int r = 0; r < ROWS; r++) {
            float want = 0;
            for (int i = 0; i < N; i++) want += x[r * N + i];
            CHECK(y[r] == want, "row %d of %d threads: %g, not %g", r, threads, y[r], want);
        }
    }
    CHECK(cudaGetLastError() == cudaSuccess, "a launch failed");
    PG_LAUNCH(tree_sum, ROWS, 1025, 1025 * sizeof(float), 0, dy, dx, (int)N);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration, "1025 threads were started");
    PG_LAUNCH(tree_sum, ROWS, 64, 64 << 10, 0, dy, dx, (int)N);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue, "64 KiB of shared memory were given without asking");
    cudaFree(dx);
    cudaFree(dy);
}

/* ---- warps -------------------------------------------------------------------------------------------------------- */

static __global__ void warp_ops(int *y, const int *x)
{
    const int i = threadIdx.x, lane = i % 32;
    int *to = y + 8 * i;
    to[0] = __shfl_xor_sync(0xffffffffu, x[i], 5);
    to[1] = __shfl_up_sync(0xffffffffu, x[i], 3, 16);
    to[2] = __shfl_down_sync(0xffffffffu, x[i], 7);
    to[3] = __shfl_sync(0xffffffffu, x[i], 9, 8);
    to[4] = (int)__ballot_sync(0xffffffffu, x[i] & 1);
    to[5] = __any_sync(0xffffffffu, x[i] == 77);
    to[6] = __all_sync(0xffffffffu, x[i] >= 0);
    if (lane < 16) /* halves of a warp may part */
        to[7] = __shfl_xor_sync(0x0000ffffu, x[i], 1);
    else
        to[7] = __shfl_xor_sync(0xffff0000u, x[i], 2);
}

static void test_warp(void)
{
    enum { N = 96 };
    std::vector<int> x(N);
    for (int &v : x) v = (int)(check_rand(&seed) % 50);
    x[40] = 77;
    x[70] = -1;
    int *dx = device(x), *dy = device(std::vector<int>(8 * N));
    PG_LAUNCH(warp_ops, 1, N, 0, 0, dy, dx);
    const std::vector<int> y = host(dy, 8 * N);
    for (int i = 0; i < N; i++) {
        const int w = i / 32 * 32, lane = i % 32;
        unsigned odd = 0;
        for (int l = 0; l < 32; l++) odd |= (unsigned)(x[w + l] & 1) << l;
        const int want[8] = { x[w + (lane ^ 5)],
                              lane % 16 >= 3 ? x[i - 3] : x[i],
                              lane + 7 < 32 ? x[i + 7] : x[i],
                              x[w + lane / 8 * 8 + 1],
                              (int)odd,
                              w == 32,
                              w != 64,
                              x[w + (lane ^ (lane < 16 ? 1 : 2))] };
        for (int k = 0; k < 8; k++)
            CHECK(y[8 * i + k] == want[k], "lane %d, primitive %d: %d, not %d", i, k, y[8 * i + k], want[k]);
    }
    cudaFree(dx);
    cudaFree(dy);
}

/* ---- matrices ----------------------------------------------------------------------------------------------------- */

/* c [16][8] = a [16][16] times b [16][8], b's columns as rows [8][16]; half: f16, else bf16; loaded by ldmatrix. */
static __global__ void multiply(float *c, const unsigned short *a, const unsigned short *b, int half, int by_ldmatrix)
{
    __shared__ __align__(16) unsigned short sa[16][24], sb[16][24], st[16][24];
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (int i = lane; i < 256; i += 32) sa[i / 16][i % 16] = a[i];
    for (int i = lane; i < 128; i += 32) sb[i / 16][i % 16] = b[i], st[i % 16][i / 16] = b[i];
    for (int i = lane; i < 128; i += 32) sb[8 + i / 16][i % 16] = 0, st[i % 16][8 + i / 16] = 0;
    __syncwarp();
    uint32_t fa[4], fb[2];
    float d[4] = { 1, 1, 1, 1 };
    if (by_ldmatrix) {
        uint32_t plain[4], turned[4];
        pg_ldmatrix_x4(fa, &sa[lane % 16][lane / 16 * 8]);
        pg_ldmatrix_x4(plain, &sb[lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
        pg_ldmatrix_x4_t(turned, &st[lane % 16][lane / 16 * 8]);
        fb[0] = plain[0];
        fb[1] = turned[1];
    } else {
        for (int i = 0; i < 4; i++) fa[i] = *(uint32_t *)&sa[g + i % 2 * 8][2 * t + i / 2 * 8];
        for (int i = 0; i < 2; i++) fb[i] = *(uint32_t *)&sb[g][2 * t + 8 * i];
    }
    if (half)
        pg_mma_f16(d, fa, fb);
    else
        pg_mma_bf16(d, fa, fb);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

static void test_matrix(void)
{
    for (int way = 0; way < 4; way++) {
        std::vector<unsigned short> a(256), b(128);
        std::vector<float> fa(256), fb(128);
        for (int i = 0; i < 256; i++) {
            const float x = check_uniform(&seed);
            a[i] = way & 1 ? __half_as_ushort(__float2half(x)) : __bfloat16_as_ushort(__float2bfloat16(x));
            fa[i] = way & 1 ? __half2float(__ushort_as_half(a[i])) : __bfloat162float(__ushort_as_bfloat16(a[i]));
        }
        for (int i = 0; i < 128; i++) {
            const float x = check_uniform(&seed);
            b[i] = way & 1 ? __half_as_ushort(__float2half(x)) : __bfloat16_as_ushort(__float2bfloat16(x));
            fb[i] = way & 1 ? __half2float(__ushort_as_half(b[i])) : __bfloat162float(__ushort_as_bfloat16(b[i]));
        }
        unsigned short *da = device(a), *db = device(b);
        float *dc = device(std::vector<float>(128));
        PG_LAUNCH(multiply, 1, 32, 0, 0, dc, da, db, way & 1, way & 2);
        const std::vector<float> c = host(dc, 128);
        for (int i = 0; i < 128; i++) {
            double want = 1;
            for (int k = 0; k < 16; k++) want += (double)fa[i / 8 * 16 + k] * fb[i % 8 * 16 + k];
            CHECK(fabs(c[i] - want) < 1e-5, "way %d, element %d: %g, not %g", way, i, c[i], want);
        }
        cudaFree(da);
        cudaFree(db);
        cudaFree(dc);
    }
}

/* All 16-bit numbers, and the border between each and the next. */
static void test_numbers(void)
{
    int bad = 0;
    for (int h = 0; h < 0x7c00; h++) {
        const float x = __half2float(__ushort_as_half((unsigned short)h));
        const double next = h == 0x7bff ? 65536.0 : (double)__half2float(__ushort_as_half((unsigned short)(h + 1)));
        const float middle = (float)((x + next) / 2), even = h % 2 ? h + 1 : h;
        bad += __half_as_ushort(__float2half(x)) != h;
        bad += __half_as_ushort(__float2half(-x)) != (h | 0x8000);
        bad += __half_as_ushort(__float2half(middle)) != even;
        bad += __half_as_ushort(__float2half(nextafterf(middle, 1e9f))) != h + 1;
        bad += __half_as_ushort(__float2half(nextafterf(middle, -1e9f))) != h;
        bad += ldexp(rint(ldexp(x, 24)), -24) != x;
    }
    CHECK(bad == 0, "%d conversions to f16 are wrong", bad);
    bad = 0;
    for (unsigned h = 0; h < 0x7f80; h++) {
        const float x = __bfloat162float(__ushort_as_bfloat16((unsigned short)h)),
                    middle = __uint_as_float(h << 16 | 0x8000);
        bad += __float_as_uint(x) != h << 16 || __bfloat16_as_ushort(__float2bfloat16(x)) != h;
        bad += __bfloat16_as_ushort(__float2bfloat16(middle)) != (h % 2 ? h + 1 : h);
        bad += __bfloat16_as_ushort(__float2bfloat16(__uint_as_float(h << 16 | 0x8001))) != h + 1;
        bad += __bfloat16_as_ushort(__float2bfloat16(__uint_as_float(h << 16 | 0x7fff))) != h;
    }
    CHECK(bad == 0, "%d conversions to bf16 are wrong", bad);
    CHECK(isnan(__half2float(__float2half(NAN))) && isnan(__bfloat162float(__float2bfloat16(NAN))), "NaN is lost");
    CHECK(isinf(__half2float(__float2half(65520.0f))) && isinf(__half2float(__float2half(INFINITY))),
          "infinity is lost");
    CHECK(__dp4a((int)0x80ff0102, 0x7f02ff03, 10) == 10 + -128 * 127 - 2 - 1 + 6, "dp4a");
    CHECK(__byte_perm(0x33221100, 0x77665544, 0x7041) == 0x77004411, "byte_perm");
}

/* ---- asynchronous copies ------------------------------------------------------------------------------------------ */

/* y[0]: before the wait; y[1], y[2]: when the first group has come; y[3]: when all have; y[4]: not wanted. */
static __global__ void copies(int *y, const int4 *x)
{
    __shared__ __align__(16) int4 room[3];
    pg_copy16(&room[0], x, true);
    pg_copy_commit();
    pg_copy16(&room[1], x + 1, true);
    pg_copy16(&room[2], x + 2, false);
    pg_copy_commit();
    y[0] = room[0].x;
    pg_copy_wait<1>();
    y[1] = room[0].x;
    y[2] = room[1].y;
    pg_copy_wait<0>();
    y[3] = room[1].y;
    y[4] = room[2].z;
}

static void test_copies(void)
{
    int4 *x = device(std::vector<int4>{ { 1, 2, 3, 4 }, { 5, 6, 7, 8 }, { 9, 10, 11, 12 } });
    int *dy = device(std::vector<int>(5));
    PG_LAUNCH(copies, 1, 1, 0, 0, dy, x);
    const std::vector<int> y = host(dy, 5);
    CHECK(y[0] == -1 && y[1] == 1 && y[2] == -1 && y[3] == 6 && y[4] == 0, "%d %d %d %d %d", y[0], y[1], y[2], y[3],
          y[4]);
    cudaFree(x);
    cudaFree(dy);
}

/* ---- streams and graphs ------------------------------------------------------------------------------------------- */

static __global__ void affine(int *y, int times, int plus)
{
    y[threadIdx.x] = y[threadIdx.x] * times + plus;
}

static void test_streams(void)
{
    cudaStream_t a, b;
    cudaEvent_t e;
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreate(&e);
    int *pinned, *d;
    cudaMallocHost(&pinned, 32 * sizeof(int));
    cudaMalloc(&d, 32 * sizeof(int));
    for (int i = 0; i < 32; i++) pinned[i] = i;
    cudaMemcpyAsync(d, pinned, 32 * sizeof(int), cudaMemcpyHostToDevice, a);
    pinned[0] = 100; /* too early: the copy has not been waited for */
    cudaEventRecord(e, a);
    cudaStreamWaitEvent(b, e, 0);
    PG_LAUNCH(affine, 1, 32, 0, b, d, 3, 1);
    cudaStreamSynchronize(b);
    CHECK(host(d, 32)[0] == 301 && host(d, 32)[5] == 16, "%d %d", host(d, 32)[0], host(d, 32)[5]);

    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal);
    PG_LAUNCH(affine, 1, 32, 0, a, d, 2, 0);
    cudaEventRecord(e, a);
    cudaStreamWaitEvent(b, e, 0); /* a second stream joins */
    PG_LAUNCH(affine, 1, 32, 0, b, d, 1, 7);
    cudaEventRecord(e, b);
    cudaStreamWaitEvent(a, e, 0);
    cudaMemcpyAsync(pinned, d, 32 * sizeof(int), cudaMemcpyDeviceToHost, a);
    CHECK(cudaStreamEndCapture(a, &graph) == cudaSuccess, "capture");
    CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess, "instantiate");
    cudaGraphDestroy(graph);
    CHECK(host(d, 32)[5] == 16, "the captured kernels have run");
    for (int i = 0; i < 3; i++) cudaGraphLaunch(exec, a);
    cudaStreamSynchronize(a);
    int want = 16;
    for (int i = 0; i < 3; i++) want = want * 2 + 7;
    CHECK(pinned[5] == want, "%d, not %d", pinned[5], want);

    cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal);
    int *not_now;
    CHECK(cudaMalloc(&not_now, 4) != cudaSuccess, "memory was given during a capture");
    CHECK(cudaStreamEndCapture(a, &graph) != cudaSuccess, "a spoilt capture ended well");
    cudaGetLastError();
    CHECK(cudaMemcpy(d, pinned, 33 * sizeof(int), cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "a copy too long");
    CHECK(cudaMemcpy(pinned, pinned + 8, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "a copy to the host");
    cudaGraphExecDestroy(exec);
    cudaEventDestroy(e);
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaFreeHost(pinned);
    cudaFree(d);

    size_t left, total;
    pg_emu_memory(1 << 20);
    cudaMemGetInfo(&left, &total);
    CHECK(total == 1 << 20 && cudaMalloc(&d, left + 1) == cudaErrorMemoryAllocation && !d, "more memory than there is");
    pg_emu_memory((size_t)64 << 30);
    pg_emu_fail_at(2);
    CHECK(cudaMalloc(&d, 4) == cudaSuccess && cudaMemset(d, 0, 4) == cudaErrorLaunchFailure,
          "a failure that was asked for");
    CHECK(cudaFree(d) == cudaSuccess, "free");
    cudaGetLastError();
}

/* ---- what must be found ------------------------------------------------------------------------------------------- */

#define UNSEEN __attribute__((no_sanitize("thread"))) /* by emu/watch.cc: here the result is to show it */
static __global__ UNSEEN void no_barrier(int *y)
{
    PG_SHARED(int, x);
    x[threadIdx.x] = (int)threadIdx.x;
    y[blockIdx.x * blockDim.x + threadIdx.x] = x[blockDim.x - 1 - threadIdx.x];
}
static __global__ UNSEEN void no_syncwarp(int *y)
{
    __shared__ int x[32];
    x[threadIdx.x] = (int)threadIdx.x;
    y[blockIdx.x * blockDim.x + threadIdx.x] = x[31 - threadIdx.x];
}
static __global__ void one_leaves(int *y)
{
    if (threadIdx.x == 3) return;
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}
static __global__ void two_primitives(int *y)
{
    if (threadIdx.x < 16)
        y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        y[threadIdx.x] = __any_sync(0xffffffffu, 1);
}
static __global__ void some_at_the_barrier(int *y)
{
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncwarp();
    y[threadIdx.x] = 1;
}
static __global__ void beyond_shared(int *y)
{
    PG_SHARED(int, x);
    x[32 + threadIdx.x] = 1;
    y[threadIdx.x] = x[threadIdx.x];
}
static __global__ void beyond_global(int *y)
{
    y[1024 + threadIdx.x] = 1;
}
static __global__ void hasty(int *y)
{
    if (threadIdx.x == 5) return;
    pg_wait_before();
    y[threadIdx.x] = 1;
}
static __global__ void askew(int *y)
{
    const int4 x = __ldg((const int4 *)(y + 1));
    y[0] = x.x;
}

static void kernel_dies(void (*kernel)(int *), const char *name, const char *text)
{
    dies(name, text, [kernel, name] {
        int *y;
        cudaMalloc(&y, 4096);
        pg_emu_launch(name, kernel, 1, 32, 128, 0, y);
        cudaFree(y);
    });
}

static void early_dies(void (*kernel)(int *), const char *name, const char *text)
{
    dies(name, text, [kernel, name] {
        int *y;
        cudaMalloc(&y, 4096);
        pg_emu_launch_early(name, kernel, 1, 32, 128, 0, y);
    });
}

/* Whether a result shows that the kernel lacks a barrier. */
static void shows(void (*kernel)(int *), const char *name)
{
    enum { BLOCKS = 4, N = 32 };
    int *dy, wrong = 0;
    cudaMalloc(&dy, BLOCKS * 4 * N * sizeof *dy);
    const int threads = kernel == no_barrier ? 4 * N : N;
    pg_emu_launch(name, kernel, BLOCKS, threads, threads * sizeof(int), 0, dy);
    const std::vector<int> y = host(dy, (size_t)BLOCKS * threads);
    for (int i = 0; i < BLOCKS * threads; i++) wrong += y[i] != threads - 1 - i % threads;
    CHECK(wrong > 0, "%s: nobody would know", name);
    cudaFree(dy);
}

int main(void)
{
    test_block();
    test_warp();
    test_matrix();
    test_numbers();
    test_copies();
    test_streams();
    shows(no_barrier, "no_barrier");
    shows(no_syncwarp, "no_syncwarp");
    kernel_dies(one_leaves, "one_leaves", "returned");
    kernel_dies(two_primitives, "two_primitives", "another primitive");
    kernel_dies(some_at_the_barrier, "some_at_the_barrier", "no thread can go on");
    kernel_dies(beyond_shared, "beyond_shared", "shared memory");
    kernel_dies(beyond_global, "beyond_global", "behind an allocation");
    early_dies(hasty, "hasty", "has not waited");
    kernel_dies(askew, "askew", "not aligned");
    return check_done("emu_test");
}
