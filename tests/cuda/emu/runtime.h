/* runtime: what runtime.cc (memory, launches), streams.cc (streams, events, graphs) and devices.cc (several devices) share. */
#ifndef PG_EMU_RUNTIME_H
#define PG_EMU_RUNTIME_H

#include "cuda_runtime.h"

#include <deque>
#include <map>
#include <mutex>
#include <vector>

typedef std::function<void()> pg_emu_job;

struct CUgraph_st {
    std::vector<pg_emu_job> node;
    int device = 0;
    bool spoilt = false;
};
/* Work of streams (by their ids): of each all up to a ticket. */
typedef std::map<unsigned long long, unsigned long long> pg_emu_past;

struct CUstream_st {
    int device = 0;
    bool blocking = true; /* waits for, and is waited for by, the default stream */
    unsigned long long id = 0;
    std::deque<pg_emu_job> work;
    unsigned long long queued = 0, done = 0, kernel = 0; /* tickets; kernel: of the newest one */
    pg_emu_past after;                                   /* what of other streams comes before what is queued next */
    CUgraph_st *capture = NULL;
    bool origin = false; /* of the capture */
};

extern std::recursive_mutex pg_emu_lock;
typedef std::lock_guard<std::recursive_mutex> pg_emu_hold;

cudaError_t pg_emu_say(cudaError_t e); /* remember an error for cudaGetLastError */
bool pg_emu_unlucky(void);             /* this call is the one that was asked to fail */
bool pg_emu_forbidden(void);           /* a stream is captured: spoil it, and say so */

CUstream_st *pg_emu_stream(cudaStream_t s);
bool pg_emu_one(CUstream_st *s);   /* do the next piece of work; false: there is none */
void pg_emu_drain(CUstream_st *s); /* NULL: of all streams */
void pg_emu_drain_blocking(void);
/* Put work into a stream, or into the graph that it is captured for. kernels: it runs some. */
cudaError_t pg_emu_put(CUstream_st *s, pg_emu_job work, bool kernels = false);

/* ---- devices.cc: every device has memory of its own, which only its own streams reach ------------------------------ */

enum { PG_EMU_DEVICES = 16, PG_EMU_EVERY = -1 };
int pg_emu_devices(void); /* how many there are */
int pg_emu_device(void);  /* the calling thread's */
/* Memory that is reached from now on: a device's, or that of all. With one device there is nothing to hide. */
void pg_emu_show(int device);
int pg_emu_shown(void);
/* Device memory: pages of its own when there are several devices. */
void *pg_emu_map(size_t bytes, int device);
void pg_emu_unmap(void *p, size_t bytes);
/* Memory of that device, all of it in one piece. */
bool pg_emu_is_device(const void *p, size_t bytes, int device);

/* A stream is about to be given kernels, or a copy between the devices: ends the program when a copy between devices
 * could run beside kernels of one of them. */
void pg_emu_check_kernels(const CUstream_st *s);
void pg_emu_check_peers(const CUstream_st *s, int to, int from);
void pg_emu_forget(const CUstream_st *s);
extern std::vector<CUstream_st *> pg_emu_streams;

#endif
