/* runtime: what runtime.cc (device, memory, launches) and streams.cc (streams, events, graphs) share. */
#ifndef PG_EMU_RUNTIME_H
#define PG_EMU_RUNTIME_H

#include "cuda_runtime.h"

#include <deque>
#include <mutex>
#include <vector>

typedef std::function<void()> pg_emu_job;

struct CUgraph_st {
    std::vector<pg_emu_job> node;
    bool spoilt = false;
};
struct CUstream_st {
    bool blocking = true; /* waits for, and is waited for by, the default stream */
    std::deque<pg_emu_job> work;
    unsigned long long queued = 0, done = 0;
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
/* Put work into a stream, or into the graph that it is captured for. */
cudaError_t pg_emu_put(CUstream_st *s, pg_emu_job work);

#endif
