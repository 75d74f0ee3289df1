/* streams.cc: streams, events and graphs of the emulated device. */
#include "runtime.h"

#include <chrono>
#include <memory>

typedef pg_emu_job job;

struct CUgraphExec_st {
    int device;
    std::shared_ptr<std::vector<job>> node;
};
struct CUevent_st {
    CUstream_st *stream = NULL;
    unsigned long long ticket = 0;
    int device = 0;
    pg_emu_past after;
    CUgraph_st *capture = NULL;
    std::chrono::steady_clock::time_point when;
};

std::recursive_mutex pg_emu_lock;

std::vector<CUstream_st *> pg_emu_streams;
static std::vector<CUstream_st *> &streams = pg_emu_streams;
static CUstream_st plain[PG_EMU_DEVICES]; /* the default stream of each device */
static int captures;
static unsigned long long ids;

CUstream_st *pg_emu_stream(cudaStream_t s)
{
    if (s) return s;
    CUstream_st *mine = &plain[pg_emu_device()];
    mine->device = pg_emu_device();
    return mine;
}

static bool is_plain(const CUstream_st *s)
{
    return s >= plain && s < plain + PG_EMU_DEVICES;
}

bool pg_emu_one(CUstream_st *s)
{
    if (s->work.empty()) return false;
    job next = std::move(s->work.front());
    s->work.pop_front();
    pg_emu_show(s->device);
    next();
    s->done++;
    return true;
}

void pg_emu_drain(CUstream_st *s)
{
    if (!s)
        for (CUstream_st *other : streams) pg_emu_drain(other);
    else
        while (pg_emu_one(s)) {}
}

void pg_emu_drain_blocking(void)
{
    for (CUstream_st *s : streams)
        if (s->blocking) pg_emu_drain(s);
}

cudaError_t pg_emu_put(CUstream_st *s, job work, bool kernels)
{
    if (s->capture) {
        s->capture->node.push_back(std::move(work));
        return cudaSuccess;
    }
    if (kernels) pg_emu_check_kernels(s);
    if (is_plain(s)) {
        if (captures) return pg_emu_say(cudaErrorStreamCaptureUnsupported);
        pg_emu_drain_blocking();
        pg_emu_show(s->device);
        work();
        return cudaSuccess;
    }
    s->work.push_back(std::move(work));
    s->queued++;
    if (kernels) s->kernel = s->queued;
    return cudaSuccess;
}

bool pg_emu_forbidden(void)
{
    if (!captures) return false;
    for (CUstream_st *s : streams)
        if (s->capture) s->capture->spoilt = true;
    pg_emu_say(cudaErrorStreamCaptureUnsupported);
    return true;
}

/* ---- streams and events ------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    pg_emu_hold h(pg_emu_lock);
    *stream = NULL;
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorMemoryAllocation);
    *stream = new CUstream_st();
    (*stream)->blocking = !(flags & cudaStreamNonBlocking);
    (*stream)->device = pg_emu_device();
    (*stream)->id = ++ids;
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    if (!stream) return pg_emu_say(cudaErrorInvalidResourceHandle);
    pg_emu_drain(stream);
    pg_emu_forget(stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + i--);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    if (!stream) pg_emu_drain_blocking();
    pg_emu_drain(pg_emu_stream(stream));
    return pg_emu_say(pg_emu_unlucky() ? cudaErrorLaunchFailure : cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    return pg_emu_one(pg_emu_stream(stream)) ? cudaErrorNotReady
                                             : cudaSuccess; /* each question gives it time for one more */
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *ud)
{
    pg_emu_hold h(pg_emu_lock);
    return pg_emu_put(pg_emu_stream(stream), [=] { fn(ud); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    pg_emu_hold h(pg_emu_lock);
    *event = NULL;
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorMemoryAllocation);
    *event = new CUevent_st();
    (*event)->device = pg_emu_device();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    pg_emu_hold h(pg_emu_lock);
    if (event && event->stream) pg_emu_drain(event->stream);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    CUstream_st *s = pg_emu_stream(stream);
    if (event->device != s->device) return pg_emu_say(cudaErrorInvalidResourceHandle);
    event->capture = s->capture;
    if (s->capture) return cudaSuccess;
    event->stream = s;
    event->after = s->after;
    const cudaError_t e = pg_emu_put(s, [=] { event->when = std::chrono::steady_clock::now(); });
    event->ticket = s->queued;
    event->after[s->id] = event->ticket;
    return e;
}
static void reach(CUstream_st *s, unsigned long long ticket)
{
    while (s && s->done < ticket && pg_emu_one(s)) {}
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    pg_emu_hold h(pg_emu_lock);
    if (pg_emu_forbidden()) return cudaErrorStreamCaptureUnsupported;
    reach(event->stream, event->ticket);
    return pg_emu_say(pg_emu_unlucky() ? cudaErrorLaunchFailure : cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    pg_emu_hold h(pg_emu_lock);
    if (!event->stream || event->stream->done >= event->ticket) return cudaSuccess;
    pg_emu_one(event->stream);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    pg_emu_hold h(pg_emu_lock);
    for (cudaEvent_t e : { from, to })
        if (e->stream && e->stream->done < e->ticket) return pg_emu_say(cudaErrorNotReady);
    *ms = std::chrono::duration<float, std::milli>(to->when - from->when).count();
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    pg_emu_hold h(pg_emu_lock);
    CUstream_st *s = pg_emu_stream(stream), *other = event->stream;
    if (event->capture) { /* the stream joins the capture */
        if (s->capture && s->capture != event->capture) return pg_emu_say(cudaErrorStreamCaptureInvalidated);
        s->capture = event->capture;
        return cudaSuccess;
    }
    if (s->capture) return pg_emu_say(cudaErrorStreamCaptureUnsupported);
    const unsigned long long ticket = event->ticket;
    for (const auto &past : event->after)
        if (s->after[past.first] < past.second) s->after[past.first] = past.second;
    return pg_emu_put(s, [=] {
        reach(other, ticket);
        pg_emu_show(s->device);
    });
}

/* ---- graphs ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)mode;
    pg_emu_hold h(pg_emu_lock);
    if (!stream || stream->capture) return pg_emu_say(cudaErrorStreamCaptureUnsupported);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorMemoryAllocation);
    stream->capture = new CUgraph_st();
    stream->capture->device = stream->device;
    stream->origin = true;
    captures++;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    pg_emu_hold h(pg_emu_lock);
    *graph = NULL;
    if (!stream || !stream->capture || !stream->origin) return pg_emu_say(cudaErrorInvalidValue);
    CUgraph_st *g = stream->capture;
    for (CUstream_st *s : streams)
        if (s->capture == g) s->capture = NULL;
    stream->origin = false;
    captures--;
    if (g->spoilt || pg_emu_unlucky()) {
        delete g;
        return pg_emu_say(cudaErrorStreamCaptureInvalidated);
    }
    *graph = g;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    pg_emu_hold h(pg_emu_lock);
    *exec = NULL;
    if (!graph) return pg_emu_say(cudaErrorInvalidValue);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorMemoryAllocation);
    *exec = new CUgraphExec_st{ graph->device, std::make_shared<std::vector<job>>(graph->node) };
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)stream;
    return pg_emu_say(exec ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    pg_emu_hold h(pg_emu_lock);
    if (!exec) return pg_emu_say(cudaErrorInvalidValue);
    if (pg_emu_unlucky()) return pg_emu_say(cudaErrorLaunchFailure);
    auto node = exec->node;
    CUstream_st *s = pg_emu_stream(stream);
    if (s->device != exec->device) return pg_emu_say(cudaErrorInvalidValue);
    return pg_emu_put(
        s,
        [=] {
            for (const job &n : *node) n();
        },
        true);
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    pg_emu_hold h(pg_emu_lock);
    if (nodes) return pg_emu_say(cudaErrorNotSupported);
    *n = graph->node.size();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
