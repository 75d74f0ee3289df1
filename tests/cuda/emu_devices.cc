/* emu_devices: the emulator with several devices. What one device may not do with another one's memory and streams, and
 * copies that no event puts in order, must be found: tests of several devices rest on it. */
#include "../../kernels/cuda/device.cuh"
#include "dies.h"

#include <vector>

enum { N = 64 };

static __global__ void fill(int *y, int first)
{
    y[threadIdx.x] = first + (int)threadIdx.x;
}
static __global__ void add(int *y, const int *x)
{
    y[threadIdx.x] += x[threadIdx.x];
}

struct two {
    cudaStream_t stream[2];
    cudaEvent_t event[2];
    int *x[2];

    two()
    {
        for (int d = 0; d < 2; d++) {
            cudaSetDevice(d);
            cudaStreamCreateWithFlags(&stream[d], cudaStreamNonBlocking);
            cudaEventCreateWithFlags(&event[d], cudaEventDisableTiming);
            cudaMalloc(&x[d], N * sizeof(int));
            cudaMemset(x[d], 0, N * sizeof(int));
        }
        cudaSetDevice(0);
    }
    ~two()
    {
        for (int d = 0; d < 2; d++) {
            cudaEventDestroy(event[d]);
            cudaStreamDestroy(stream[d]);
            cudaFree(x[d]);
        }
        cudaSetDevice(0);
        cudaGetLastError();
    }
    void launch(int d, int *y, int first)
    {
        cudaSetDevice(d);
        pg_emu_launch("fill", fill, 1, N, 0, stream[d], y, first);
    }
    void launch_add(int d, int *y, const int *from)
    {
        cudaSetDevice(d);
        pg_emu_launch("add", add, 1, N, 0, stream[d], y, from);
    }
    cudaError_t cross(int on) { return cudaMemcpyPeerAsync(x[1], 1, x[0], 0, N * sizeof(int), stream[on]); }
    void order(int first, int then)
    {
        cudaSetDevice(first);
        cudaEventRecord(event[first], stream[first]);
        cudaSetDevice(then);
        cudaStreamWaitEvent(stream[then], event[first], 0);
    }
    std::vector<int> home(int d)
    {
        std::vector<int> y(N);
        cudaSetDevice(d);
        cudaStreamSynchronize(stream[d]);
        cudaMemcpy(y.data(), x[d], N * sizeof(int), cudaMemcpyDeviceToHost);
        return y;
    }
};

/* ---- what works --------------------------------------------------------------------------------------------------- */

static void test_order(void)
{
    two t;
    for (int round = 0; round < 3; round++) {
        t.launch(0, t.x[0], 100 * round);
        CHECK(t.cross(0) == cudaSuccess, "a copy");
        t.order(0, 1);
        t.launch_add(1, t.x[1], t.x[1]);
        const std::vector<int> y = t.home(1);
        int same = 1;
        for (int i = 0; i < N; i++) same &= y[(size_t)i] == 2 * (100 * round + i);
        CHECK(same, "round %d", round);
    }
    t.launch(1, t.x[1], 5); /* the receiver's stream makes the copy, and waits for its own kernels */
    t.launch(0, t.x[0], 7);
    t.order(0, 1);
    CHECK(t.cross(1) == cudaSuccess && t.home(1)[3] == 10, "a copy by the receiver");
}

static void test_memory(void)
{
    size_t left[2], after, total;
    int *x = NULL;
    pg_emu_memory(1 << 20);
    for (int d = 0; d < 2; d++) cudaSetDevice(d), cudaMemGetInfo(&left[d], &total);
    cudaSetDevice(1);
    CHECK(cudaMalloc(&x, left[1] - 1000) == cudaSuccess, "memory of device 1");
    cudaMemGetInfo(&after, &total);
    CHECK(after == 1000, "%zu bytes are left on device 1", after);
    int *y = NULL;
    CHECK(cudaMalloc(&y, 2000) == cudaErrorMemoryAllocation, "more memory than there is");
    cudaSetDevice(0);
    cudaMemGetInfo(&after, &total);
    CHECK(after == left[0], "device 0 paid for it");
    CHECK(cudaFree(x) == cudaSuccess, "memory is given back whatever device is current");
    cudaSetDevice(1);
    cudaMemGetInfo(&after, &total);
    CHECK(after == left[1], "%zu bytes are left on device 1", after);
    cudaSetDevice(0);
    cudaGetLastError();
    pg_emu_memory((size_t)64 << 30);
}

/* ---- what the runtime refuses -------------------------------------------------------------------------------------- */

static void test_refusals(void)
{
    two t;
    int n, can;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaGetDeviceCount(&n) == cudaSuccess && n == 2 && cudaSetDevice(2) == cudaErrorInvalidDevice, "%d devices",
          n);
    cudaSetDevice(1);
    pg_emu_launch("fill", fill, 1, N, 0, t.stream[0], t.x[1], 0);
    CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle, "a launch on a stream of another device");
    CHECK(cudaEventRecord(t.event[1], t.stream[0]) == cudaErrorInvalidResourceHandle, "an event of another device");
    CHECK(cudaMemcpyPeerAsync(t.x[1], 0, t.x[0], 0, 4, t.stream[0]) == cudaErrorInvalidValue,
          "a copy to no such memory");
    CHECK(cudaMemcpyPeerAsync(t.x[1], 1, t.x[0], 0, 4 * N + 4, t.stream[0]) == cudaErrorInvalidValue,
          "a copy too long");
    CHECK(cudaDeviceCanAccessPeer(&can, 0, 1) == cudaSuccess && can &&
              cudaDeviceCanAccessPeer(&can, 1, 1) == cudaSuccess && !can,
          "who reaches whom");
    CHECK(cudaDeviceEnablePeerAccess(0, 0) == cudaSuccess &&
              cudaDeviceEnablePeerAccess(0, 0) == cudaErrorPeerAccessAlreadyEnabled,
          "twice");
    setenv("PERIGEE_EMU_PEERS", "0", 1);
    cudaSetDevice(0);
    CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessUnsupported, "there is no way");
    unsetenv("PERIGEE_EMU_PEERS");
    CHECK(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10) == cudaSuccess,
          "attribute");
    pg_emu_launch("fill", fill, 1, N, 60 << 10, t.stream[0], t.x[0], 0);
    cudaGetLastError();
    pg_emu_launch("fill", fill, 1, N, 60 << 10, t.stream[0], t.x[0], 0);
    CHECK(cudaGetLastError() == cudaSuccess, "shared memory on device 0");
    cudaSetDevice(1);
    pg_emu_launch("fill", fill, 1, N, 60 << 10, t.stream[1], t.x[1], 0);
    CHECK(cudaGetLastError() != cudaSuccess, "an attribute of device 0 holds on device 1");
    cudaStreamBeginCapture(t.stream[1], cudaStreamCaptureModeThreadLocal);
    t.launch(1, t.x[1], 1);
    cudaStreamEndCapture(t.stream[1], &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    CHECK(cudaGraphLaunch(exec, t.stream[0]) != cudaSuccess && cudaGraphLaunch(exec, t.stream[1]) == cudaSuccess,
          "a graph of another device");
    cudaStreamSynchronize(t.stream[1]);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
}

/* ---- what must be found -------------------------------------------------------------------------------------------- */

static void reads_other(two *t)
{
    t->launch_add(0, t->x[0], t->x[1]);
    cudaStreamSynchronize(t->stream[0]);
}
static void writes_other(two *t)
{
    t->launch(1, t->x[0], 1);
    cudaStreamSynchronize(t->stream[1]);
}
static void copies_on_other(two *t)
{
    int y[N];
    cudaMemcpyAsync(y, t->x[1], sizeof y, cudaMemcpyDeviceToHost, t->stream[0]);
}
static void sets_on_other(two *t)
{
    cudaMemsetAsync(t->x[0], 0, N, t->stream[1]);
}
static void reads_too_early(two *t)
{
    t->launch(0, t->x[0], 1);
    t->cross(0);
    t->launch_add(1, t->x[1], t->x[1]);
}
static void waits_for_too_little(two *t) /* the event comes before the copy */
{
    t->launch(0, t->x[0], 1);
    t->order(0, 1);
    t->cross(0);
    t->launch_add(1, t->x[1], t->x[1]);
}
static void copies_too_early(two *t) /* kernels of the receiver may still read */
{
    t->launch(1, t->x[1], 1);
    t->cross(0);
}
static void graph_too_early(two *t)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaSetDevice(1);
    cudaStreamBeginCapture(t->stream[1], cudaStreamCaptureModeThreadLocal);
    t->launch(1, t->x[1], 1);
    cudaStreamEndCapture(t->stream[1], &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    t->cross(0);
    cudaGraphLaunch(exec, t->stream[1]);
}
static void host_reads(two *t)
{
    t->launch(0, t->x[0], 1);
    cudaStreamSynchronize(t->stream[0]);
    CHECK(*(volatile int *)t->x[1] == 0, "read");
}

static void dies_with_two(void (*what)(two *), const char *name, const char *text)
{
    dies(name, text, [what] {
        two t;
        what(&t);
    });
}

int main(void)
{
    setenv("PERIGEE_EMU_DEVICES", "2", 1);
    test_order();
    test_memory();
    test_refusals();
    dies_with_two(reads_other, "reads_other", "touches memory of device 1 while device 0 is at work");
    dies_with_two(writes_other, "writes_other", "touches memory of device 0 while device 1 is at work");
    dies_with_two(host_reads, "host_reads", "touches memory of device 1");
    dies_with_two(copies_on_other, "copies_on_other", "memory of device 1 is copied or set on a stream of device 0");
    dies_with_two(sets_on_other, "sets_on_other", "memory of device 0 is copied or set on a stream of device 1");
    dies_with_two(reads_too_early, "reads_too_early",
                  "kernels of device 1 may run while a copy from device 0 to device 1 does");
    dies_with_two(waits_for_too_little, "waits_for_too_little", "no event says which comes first");
    dies_with_two(copies_too_early, "copies_too_early", "may run while kernels of device 1 do");
    dies_with_two(graph_too_early, "graph_too_early", "kernels of device 1 may run while");
    return check_done("emu_devices");
}
