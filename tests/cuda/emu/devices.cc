/* devices.cc: several emulated devices: PERIGEE_EMU_DEVICES says how many (1).
 *
 * They must not be one device with several numbers, or a test of them would prove nothing:
 * - each has memory of its own, of which there is so much, and only the memory of the device that is at work can be
 *   touched: that of the others is taken out of reach, so a kernel that goes there ends the program, and so does the host;
 * - copies within a device, and between it and the host, are made on a stream of that device;
 * - a copy from device to device and the kernels of both must have an order that events (or a wait of the host) give
 *   them. Streams here do their work one after the other, so a missing event would hardly ever show in the results: it is
 *   looked for when work is queued, by what each stream is known to come after (vector clocks, as race detectors have). */
#include "runtime.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace
{
struct range {
    size_t bytes;
    int device;
};
/* A copy between two devices that may not be over. */
struct crossing {
    const CUstream_st *stream;
    unsigned long long ticket;
    int to, from;
};

std::map<char *, range> &ranges = *new std::map<char *, range>; /* of device memory, when there are several devices */
std::vector<crossing> crossings;
bool peers[PG_EMU_DEVICES][PG_EMU_DEVICES]; /* [device][whose memory it may reach] */
int shown = PG_EMU_EVERY;
thread_local int current = 1; /* plus 1: what begins as zeros stands for shared memory here, and is spoilt with it */
struct sigaction before;

size_t whole_pages(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

void protect(const std::pair<char *const, range> &r)
{
    const bool open = shown == PG_EMU_EVERY || shown == r.second.device;
    if (mprotect(r.first, r.second.bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE)) pg_emu_die("mprotect");
}

const range *range_of(const void *p)
{
    auto it = ranges.upper_bound(static_cast<char *>(const_cast<void *>(p)));
    if (it == ranges.begin()) return NULL;
    --it;
    return static_cast<const char *>(p) < it->first + it->second.bytes ? &it->second : NULL;
}

void on_fault(int number, siginfo_t *info, void *context)
{
    const range *r = range_of(info->si_addr);
    if (r && r->device != shown) pg_emu_die("touches memory of device %d while device %d is at work", r->device, shown);
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else
        sigaction(number, &before, NULL); /* and again */
}

bool comes_after(const CUstream_st *s, const CUstream_st *other, unsigned long long ticket)
{
    const auto it = s->after.find(other->id);
    return s == other || other->done >= ticket || (it != s->after.end() && it->second >= ticket);
}
} // namespace

int pg_emu_devices(void)
{
    const char *n = getenv("PERIGEE_EMU_DEVICES");
    const int asked = n ? atoi(n) : 1;
    return asked < 1 ? 1 : asked < PG_EMU_DEVICES ? asked : (int)PG_EMU_DEVICES;
}

int pg_emu_device(void)
{
    return current - 1;
}

/* ---- memory of each ----------------------------------------------------------------------------------------------- */

void pg_emu_show(int device)
{
    if (shown == device) return;
    shown = device;
    for (const auto &r : ranges) protect(r);
}

int pg_emu_shown(void)
{
    return shown;
}

void *pg_emu_map(size_t bytes, int device)
{
    static const bool watched = [] {
        struct sigaction a = {};
        a.sa_sigaction = on_fault;
        a.sa_flags = SA_SIGINFO;
        return !sigaction(SIGSEGV, &a, &before);
    }();
    (void)watched;
    void *p = mmap(NULL, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    ranges[static_cast<char *>(p)] = { whole_pages(bytes), device };
    return p;
}

void pg_emu_unmap(void *p, size_t bytes)
{
    ranges.erase(static_cast<char *>(p));
    munmap(p, whole_pages(bytes));
}

/* ---- order between them ------------------------------------------------------------------------------------------- */

void pg_emu_forget(const CUstream_st *s)
{
    for (size_t i = 0; i < crossings.size(); i++)
        if (crossings[i].stream == s) crossings.erase(crossings.begin() + (long)i--);
}

void pg_emu_check_kernels(const CUstream_st *s)
{
    for (size_t i = 0; i < crossings.size(); i++) {
        const crossing &c = crossings[i];
        if (c.stream->done >= c.ticket)
            crossings.erase(crossings.begin() + (long)i--);
        else if ((c.to == s->device || c.from == s->device) && !comes_after(s, c.stream, c.ticket))
            pg_emu_die(
                "kernels of device %d may run while a copy from device %d to device %d does: no event says which "
                "comes first",
                s->device, c.from, c.to);
    }
}

void pg_emu_check_peers(const CUstream_st *s, int to, int from)
{
    for (const CUstream_st *other : pg_emu_streams)
        if ((other->device == to || other->device == from) && !comes_after(s, other, other->kernel))
            pg_emu_die("a copy from device %d to device %d may run while kernels of device %d do: no event says which "
                       "comes first",
                       from, to, other->device);
    crossings.push_back({ s, s->queued + 1, to, from });
}

/* ---- the runtime's functions -------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = pg_emu_devices();
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    *device = pg_emu_device();
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= pg_emu_devices()) return pg_emu_say(cudaErrorInvalidDevice);
    current = device + 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    const int n = pg_emu_devices();
    const char *off = getenv("PERIGEE_EMU_PEERS");
    *can = 0;
    if (device < 0 || device >= n || peer < 0 || peer >= n) return pg_emu_say(cudaErrorInvalidDevice);
    *can = device != peer && !(off && off[0] == '0');
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    int can;
    pg_emu_hold h(pg_emu_lock);
    if (flags) return pg_emu_say(cudaErrorInvalidValue);
    const cudaError_t e = cudaDeviceCanAccessPeer(&can, pg_emu_device(), peer);
    if (e != cudaSuccess) return e;
    if (!can) return pg_emu_say(cudaErrorPeerAccessUnsupported);
    if (peers[pg_emu_device()][peer]) return pg_emu_say(cudaErrorPeerAccessAlreadyEnabled);
    peers[pg_emu_device()][peer] = true;
    return cudaSuccess;
}
/* The same whether one may reach the other's memory or not: then the driver goes through the host's. */
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    CUstream_st *s = pg_emu_stream(stream);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorLaunchFailure);
    if (s->capture) return pg_emu_say(cudaErrorNotSupported);
    if (!pg_emu_is_device(to, bytes, to_device) || !pg_emu_is_device(from, bytes, from_device))
        return pg_emu_say(cudaErrorInvalidValue);
    pg_emu_check_peers(s, to_device, from_device);
    return pg_emu_put(s, [=] {
        pg_emu_show(PG_EMU_EVERY);
        memmove(to, from, bytes);
        pg_emu_show(s->device);
    });
}
