/* runtime.cc: properties of an emulated device, memory, and launches. */
#include "runtime.h"

#include <malloc.h>
#include <map>
#include <memory>
#include <string>

/* Tests take and give back the same memory over and over: the C library is to keep it. */
[[maybe_unused]] static const int kept = mallopt(M_MMAP_THRESHOLD, 1 << 30) + mallopt(M_TRIM_THRESHOLD, 1 << 30);

namespace
{
enum { GUARD = 256, POISON = 0xff, SHARED_MOST = 227 << 10, SHARED_PLAIN = 48 << 10, SMS = 132 };
enum kind { DEVICE, HOST, REGISTERED };
struct block {
    size_t bytes;
    kind is;
    void *from; /* what malloc or pg_emu_map gave */
    int device;
    bool mapped;
};

std::map<char *, block> blocks;
std::map<const void *, int> shared_most[PG_EMU_DEVICES]; /* of kernels: what cudaFuncSetAttribute said */
size_t memory = (size_t)64 << 30, used[PG_EMU_DEVICES];
cudaError_t last;
int fail_in;

const block *block_of(const void *p, size_t bytes, char **start)
{
    auto it = blocks.upper_bound(static_cast<char *>(const_cast<void *>(p)));
    if (it == blocks.begin()) return NULL;
    --it;
    const char *at = static_cast<const char *>(p);
    if (at >= it->first + it->second.bytes && !(bytes == 0 && at == it->first)) return NULL;
    if (start) *start = it->first;
    return &it->second;
}

/* Device memory or not, as the caller says it is, and all of it in one piece. */
bool fits(const void *p, size_t bytes, bool device)
{
    char *start;
    const block *b = block_of(p, bytes, &start);
    if (!b || b->is != DEVICE) return !device;
    return device && static_cast<const char *>(p) + bytes <= start + b->bytes;
}

bool fits_kind(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    if (bytes == 0) return true;
    if (kind == cudaMemcpyDefault) {
        const block *t = block_of(to, bytes, NULL), *f = block_of(from, bytes, NULL);
        return fits(to, bytes, t && t->is == DEVICE) && fits(from, bytes, f && f->is == DEVICE);
    }
    return fits(to, bytes, kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
           fits(from, bytes, kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice);
}

void *guarded(size_t bytes, kind is)
{
    void *from = NULL;
    const int device = pg_emu_device();
    const bool mapped = is == DEVICE && pg_emu_devices() > 1;
    if (mapped)
        from = pg_emu_map(bytes + 2 * GUARD, device);
    else if (posix_memalign(&from, 256, bytes + 2 * GUARD))
        return NULL;
    if (!from) return NULL;
    if (mapped) pg_emu_show(device);
    memset(from, POISON, bytes + 2 * GUARD);
    char *p = static_cast<char *>(from) + GUARD;
    blocks[p] = { bytes, is, from, device, mapped };
    return p;
}

/* What is copied or set on a stream is in the memory of its device, or the host's. */
void check_owner(const void *p, size_t bytes, const CUstream_st *s)
{
    const block *b = bytes ? block_of(p, bytes, NULL) : NULL;
    if (b && b->is == DEVICE && b->device != s->device)
        pg_emu_die("memory of device %d is copied or set on a stream of device %d", b->device, s->device);
}

void copy(void *to, const void *from, size_t bytes)
{
    pg_emu_watch_apart();
    memmove(to, from, bytes);
}

cudaError_t let_go(void *p, kind is)
{
    if (!p) return cudaSuccess;
    auto it = blocks.find(static_cast<char *>(p));
    if (it == blocks.end() || it->second.is != is) return pg_emu_say(cudaErrorInvalidValue);
    const block b = it->second;
    if (b.mapped) pg_emu_show(b.device);
    const unsigned char *low = static_cast<unsigned char *>(b.from), *high = static_cast<unsigned char *>(p) + b.bytes;
    for (int i = 0; i < GUARD; i++)
        if (low[i] != POISON || high[i] != POISON)
            pg_emu_die("somebody wrote before or behind an allocation of %zu bytes", b.bytes);
    if (is == DEVICE) used[b.device] -= b.bytes;
    blocks.erase(it);
    if (b.mapped)
        pg_emu_unmap(b.from, b.bytes + 2 * GUARD);
    else
        free(b.from);
    return cudaSuccess;
}
} // namespace

cudaError_t pg_emu_say(cudaError_t e)
{
    if (e != cudaSuccess) last = e;
    return e;
}

bool pg_emu_unlucky(void)
{
    return fail_in > 0 && --fail_in == 0;
}

bool pg_emu_is_device(const void *p, size_t bytes, int device)
{
    const block *b = block_of(p, bytes, NULL);
    return bytes == 0 || (b && b->is == DEVICE && b->device == device && fits(p, bytes, true));
}

void pg_emu_memory(size_t bytes)
{
    memory = bytes;
}

void pg_emu_fail_at(int n)
{
    fail_in = n;
}

/* ---- errors and the device ---------------------------------------------------------------------------------------- */

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorPeerAccessUnsupported: return "peer access is not supported between these two devices";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    default: return "unknown error";
    }
}
const char *cudaGetErrorName(cudaError_t e)
{
    return cudaGetErrorString(e);
}
cudaError_t cudaPeekAtLastError(void)
{
    return last;
}
cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last;
    last = cudaSuccess;
    return e;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= pg_emu_devices()) return pg_emu_say(cudaErrorInvalidDevice);
    *p = cudaDeviceProp{ "emulator", memory, SHARED_PLAIN, SHARED_MOST, 228 << 10, 9, 0, SMS, 32, 1024, 50 << 20, 0 };
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device)
{
    if (device < 0 || device >= pg_emu_devices()) return pg_emu_say(cudaErrorInvalidDevice);
    switch (what) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED_PLAIN; break;
    case cudaDevAttrMultiProcessorCount: *value = SMS; break;
    case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_MOST; break;
    default: return pg_emu_say(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    for (CUstream_st *s : pg_emu_streams)
        if (s->device == pg_emu_device()) pg_emu_drain(s);
    return pg_emu_say(pg_emu_unlucky() ? cudaErrorLaunchFailure : cudaSuccess);
}
cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    pg_emu_hold h(pg_emu_lock);
    *left = memory - used[pg_emu_device()];
    *total = memory;
    return cudaSuccess;
}
cudaError_t pg_emu_malloc(void **p, size_t bytes)
{
    pg_emu_hold h(pg_emu_lock);
    *p = NULL;
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    if (pg_emu_unlucky() || bytes > memory - used[pg_emu_device()]) return pg_emu_say(cudaErrorMemoryAllocation);
    if (bytes == 0) return cudaSuccess;
    *p = guarded(bytes, DEVICE);
    if (!*p) return pg_emu_say(cudaErrorMemoryAllocation);
    used[pg_emu_device()] += bytes;
    return cudaSuccess;
}
cudaError_t pg_emu_host_alloc(void **p, size_t bytes)
{
    pg_emu_hold h(pg_emu_lock);
    *p = NULL;
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorMemoryAllocation);
    *p = guarded(bytes, HOST);
    return pg_emu_say(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *p)
{
    pg_emu_hold h(pg_emu_lock);
    if (p && pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    pg_emu_drain(NULL);
    return let_go(p, DEVICE);
}
cudaError_t cudaFreeHost(void *p)
{
    pg_emu_hold h(pg_emu_lock);
    pg_emu_drain(NULL);
    return let_go(p, HOST);
}
cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags)
{
    (void)flags;
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorMemoryAllocation);
    if (!p || !bytes) return pg_emu_say(cudaErrorInvalidValue);
    if (block_of(p, bytes, NULL)) return pg_emu_say(cudaErrorHostMemoryAlreadyRegistered);
    blocks[static_cast<char *>(p)] = { bytes, REGISTERED, NULL, 0, false };
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *p)
{
    pg_emu_hold h(pg_emu_lock);
    pg_emu_drain(NULL);
    auto it = blocks.find(static_cast<char *>(p));
    if (it == blocks.end() || it->second.is != REGISTERED) return pg_emu_say(cudaErrorHostMemoryNotRegistered);
    blocks.erase(it);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorLaunchFailure);
    if (bytes == 0) return cudaSuccess; /* from nowhere, perhaps, which memmove does not allow */
    if (!fits_kind(to, from, bytes, kind)) return pg_emu_say(cudaErrorInvalidValue);
    check_owner(to, bytes, pg_emu_stream(0));
    check_owner(from, bytes, pg_emu_stream(0));
    return pg_emu_put(pg_emu_stream(0), [=] { copy(to, from, bytes); });
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorLaunchFailure);
    if (!fits_kind(to, from, bytes, kind)) return pg_emu_say(cudaErrorInvalidValue);
    CUstream_st *s = pg_emu_stream(stream);
    check_owner(to, bytes, s);
    check_owner(from, bytes, s);
    if (!s->capture && !block_of(from, bytes, NULL)) { /* pageable memory is read before the call returns */
        auto read = std::make_shared<std::string>(static_cast<const char *>(from), bytes);
        return pg_emu_put(s, [=] { copy(to, read->data(), bytes); });
    }
    const cudaError_t e = pg_emu_put(s, [=] { copy(to, from, bytes); });
    if (!s->capture && !block_of(to, bytes, NULL)) pg_emu_drain(s); /* and written before it returns */
    return e;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (width > to_pitch || width > from_pitch) return pg_emu_say(cudaErrorInvalidValue);
    for (size_t i = 0; i < height; i++) {
        const cudaError_t e = cudaMemcpyAsync(static_cast<char *>(to) + i * to_pitch,
                                              static_cast<const char *>(from) + i * from_pitch, width, kind, stream);
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, 0);
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorLaunchFailure);
    if (bytes && !fits(to, bytes, true)) return pg_emu_say(cudaErrorInvalidValue);
    check_owner(to, bytes, pg_emu_stream(stream));
    return pg_emu_put(pg_emu_stream(stream), [=] {
        pg_emu_watch_apart();
        memset(to, value, bytes);
    });
}
cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    return cudaMemsetAsync(to, value, bytes, 0);
}

/* ---- kernels ------------------------------------------------------------------------------------------------------ */

cudaError_t pg_emu_set_attribute(const void *kernel, cudaFuncAttribute what, int value)
{
    pg_emu_hold h(pg_emu_lock);
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value > SHARED_MOST) return pg_emu_say(cudaErrorInvalidValue);
    shared_most[pg_emu_device()][kernel] = value;
    return cudaSuccess;
}
cudaError_t pg_emu_occupancy(int *n, int threads, size_t shared)
{
    if (threads < 1 || threads > 1024) return pg_emu_say(cudaErrorInvalidValue);
    const int by_threads = 2048 / threads, by_memory = (int)((228u << 10) / (shared + 1024));
    *n = by_threads < by_memory ? by_threads : by_memory;
    return cudaSuccess;
}
void pg_emu_queue(const char *name, const void *function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                  pg_emu_job body, bool early)
{
    pg_emu_hold h(pg_emu_lock);
    const std::map<const void *, int> &attributes = shared_most[pg_emu_device()];
    const auto most = attributes.find(function);
    CUstream_st *s = pg_emu_stream(stream);
    if (s->device != pg_emu_device()) {
        pg_emu_say(cudaErrorInvalidResourceHandle);
    } else if (pg_emu_unlucky()) {
        pg_emu_say(cudaErrorLaunchFailure);
    } else if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 || !block.x || !block.y || !block.z ||
               block.z > 64 || (size_t)block.x * block.y * block.z > 1024) {
        pg_emu_say(cudaErrorInvalidConfiguration);
    } else if (shared > (size_t)(most == attributes.end() ? (int)SHARED_PLAIN : most->second)) {
        pg_emu_say(cudaErrorInvalidValue);
    } else {
        pg_emu_put(
            s, [=] { pg_emu_run(name, grid, block, shared, body, early); }, true);
    }
}
