/* trace.c: picks of experts on their way into a file; perigee.h describes it.
 *
 * The ring holds records as the engine thread finds them, in words of 32 bits: step, request, position, token, then for
 * each layer its row of picks. The writer, a thread of its own, leaves out unused places, halves the numbers and writes.
 * It looks every few milliseconds: waking it would cost the engine thread a system call a step. */
#include "sched.h"

#include "../../kernels/dtype.h"
#include "../host.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 4, FIXED = 64, LEAST_RING = 1 << 20, MOST_RING = 64 << 20, BUFFER = 1 << 18, LOOK_MS = 2 };
static const char MAGIC[] = "PGEXPERT";

struct pg_trace {
    pg_engine *engine; /* NULL: it was closed before */
    int32_t every, n_layer;
    int32_t *width; /* [n_layer] places in a row of picks */

    int32_t *ring; /* [n_slot, slot] */
    uint32_t n_slot, slot;
    _Atomic uint64_t head, tail; /* records from the beginning of time: written, taken out */
    _Atomic uint64_t lost;

    pthread_t writer;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int stop;           /* under lock */
    int has_writer, fd; /* the rest: the writer's, and after its end the closer's */
    unsigned char *buffer;
    size_t n_buffer;
    char *path;
    _Atomic uint64_t written, bytes;
    _Atomic int failed; /* errno */
};

/* ---- engine thread --------------------------------------------------------------------------------------------------- */

static void put_record(const pg_trace *t, const pg_engine *e, int row, int32_t *to)
{
    const pg_task *task = e->running[e->row_task[row]];
    *to++ = (int32_t)(uint32_t)e->seen.step;
    *to++ = task->looking ? 0 : task->id;
    *to++ = e->row_pos[row];
    *to++ = e->row_token[row] | (row < e->rows.n_prefill ? 0 : INT32_MIN);
    for (int i = 0; i < t->n_layer; i++) {
        const size_t n = 2 * (size_t)t->width[i];
        const int32_t *pick = e->backend->ops->read(e->backend, e->plan.pick[i]);
        memcpy(to, pick + (size_t)row * n, n * sizeof *to);
        to += n;
    }
}

void pg_trace_step(pg_trace *t, const pg_engine *e)
{
    uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed), lost = 0;
    const uint64_t full = atomic_load_explicit(&t->tail, memory_order_acquire) + t->n_slot;
    for (int r = 0; r < e->rows.n; r++) {
        if (e->row_pos[r] % t->every) continue;
        if (head < full)
            put_record(t, e, r, t->ring + (size_t)(head++ % t->n_slot) * t->slot);
        else
            lost++;
    }
    atomic_store_explicit(&t->head, head, memory_order_release);
    if (lost) atomic_fetch_add_explicit(&t->lost, lost, memory_order_relaxed);
}

/* ---- writer ---------------------------------------------------------------------------------------------------------- */

static void put16(unsigned char **at, uint32_t x)
{
    *(*at)++ = (unsigned char)x;
    *(*at)++ = (unsigned char)(x >> 8);
}

static void put32(unsigned char **at, uint32_t x)
{
    put16(at, x & 0xffff);
    put16(at, x >> 16);
}

static void put64(unsigned char **at, uint64_t x)
{
    put32(at, (uint32_t)x);
    put32(at, (uint32_t)(x >> 32));
}

/* All of it, or t->failed says why not; once it failed nothing more is tried. */
static void write_all(pg_trace *t, const unsigned char *data, size_t n)
{
    while (n && !t->failed) {
        const ssize_t k = write(t->fd, data, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            t->failed = k < 0 ? errno : EIO;
            return;
        }
        data += k;
        n -= (size_t)k;
        t->bytes += (uint64_t)k;
    }
}

static void flush(pg_trace *t)
{
    write_all(t, t->buffer, t->n_buffer);
    t->n_buffer = 0;
}

/* A weight as f16; the largest there is for what is beyond, so that a file never holds what is no number. */
static uint16_t half(int32_t bits)
{
    const float w = pg_f32_from_bits((uint32_t)bits);
    return pg_f32_to_f16(w > 65504.0f ? 65504.0f : w < -65504.0f ? -65504.0f : isnan(w) ? 0 : w);
}

static void put_picks(unsigned char **at, const int32_t *pick, int32_t W)
{
    unsigned char *count = *at;
    uint32_t n = 0;
    *at += 2;
    for (int32_t x = 0; x < W; x++) {
        if (pick[x] < 0) continue;
        put16(at, (uint32_t)pick[x]);
        put16(at, half(pick[W + x]));
        n++;
    }
    put16(&count, n);
}

static void write_record(pg_trace *t, const int32_t *from)
{
    if (t->n_buffer > BUFFER) flush(t); /* behind it there is room for one more: in the file none is longer than here */
    unsigned char *at = t->buffer + t->n_buffer;
    for (int i = 0; i < HEAD; i++) put32(&at, (uint32_t)*from++);
    for (int i = 0; i < t->n_layer; i++) {
        put_picks(&at, from, t->width[i]);
        from += 2 * t->width[i];
    }
    t->n_buffer = (size_t)(at - t->buffer);
}

static void drain(pg_trace *t)
{
    uint64_t tail = t->tail;
    const uint64_t head = atomic_load_explicit(&t->head, memory_order_acquire);
    if (tail == head) return;
    for (; tail < head; atomic_store_explicit(&t->tail, ++tail, memory_order_release))
        write_record(t, t->ring + (size_t)(tail % t->n_slot) * t->slot);
    flush(t);
    if (!t->failed) t->written = head;
}

static void *run_writer(void *trace)
{
    pg_trace *t = trace;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_MS * 1000000;
        if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
        pthread_cond_timedwait(&t->wake, &t->lock, &until);
        pthread_mutex_unlock(&t->lock);
        drain(t);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    drain(t);
    return NULL;
}

/* ---- the header ------------------------------------------------------------------------------------------------------ */

static void write_header(pg_trace *t)
{
    const pg_engine *e = t->engine;
    const uint32_t L = (uint32_t)t->n_layer, n_name = (uint32_t)strlen(e->info.name);
    uint32_t most = 0;
    unsigned char *at = t->buffer;
    for (int i = 0; i < t->n_layer; i++) most = (uint32_t)t->width[i] > most ? (uint32_t)t->width[i] : most;
    memcpy(at, MAGIC, 8);
    at += 8;
    put32(&at, 1);
    put32(&at, FIXED + 4 * L + n_name);
    put32(&at, L);
    put32(&at, (uint32_t)e->seen.n_expert);
    put32(&at, (uint32_t)e->model->h.n_used);
    put32(&at, most);
    put32(&at, (uint32_t)t->every);
    put32(&at, 0);
    put64(&at, 0);
    put64(&at, 0);
    put32(&at, (uint32_t)e->model->h.n_layer);
    put32(&at, n_name);
    for (uint32_t i = 0; i < L; i++) put32(&at, (uint32_t)e->seen.layer[i]);
    memcpy(at, e->info.name, n_name);
    write_all(t, t->buffer, FIXED + 4 * (size_t)L + n_name);
}

/* Closed, how many records, how many lost: bytes 36 to 55. */
static void finish_header(pg_trace *t)
{
    unsigned char end[20], *at = end;
    put32(&at, 1);
    put64(&at, t->written);
    put64(&at, t->lost);
    if (!t->failed && pwrite(t->fd, end, sizeof end, 36) != (ssize_t)sizeof end) t->failed = errno ? errno : EIO;
}

/* ---- opening and closing --------------------------------------------------------------------------------------------- */

static void free_trace(pg_trace *t)
{
    if (t->fd >= 0) close(t->fd);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t->width);
    free(t->ring);
    free(t->buffer);
    free(t->path);
    free(t);
}

/* Room for eight of the largest steps, within reason. */
static int take_ring(pg_trace *t)
{
    const pg_plan *p = &t->engine->plan;
    size_t words = HEAD;
    t->n_layer = t->engine->seen.n_layer;
    t->width = calloc((size_t)t->n_layer, sizeof *t->width);
    for (int i = 0; t->width && i < t->n_layer; i++) {
        t->width[i] = pg_plan_width(p, p->pick[i]) / 2;
        words += 2 * (size_t)t->width[i];
    }
    size_t bytes = 8 * (size_t)p->code.max_rows * 4 * words;
    bytes = bytes < LEAST_RING ? LEAST_RING : bytes > MOST_RING ? MOST_RING : bytes;
    t->slot = (uint32_t)words;
    bytes = bytes < 4 * words ? 4 * words : bytes;
    t->n_slot = (uint32_t)(bytes / (4 * words));
    t->ring = malloc(bytes);
    t->buffer = malloc(BUFFER + 1024 + 4 * words); /* as large as the header as well */
    return t->width && t->ring && t->buffer;
}

static pg_trace *new_trace(pg_engine *e, const char *path, int32_t every)
{
    pg_trace *t = calloc(1, sizeof *t);
    pthread_condattr_t attr;
    if (!t) return NULL;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    t->engine = e;
    t->every = every;
    t->fd = -1;
    t->path = strdup(path);
    if (t->path && take_ring(t)) return t;
    free_trace(t);
    return NULL;
}

static int fail_io(const pg_trace *t, int errnum, pg_error *err)
{
    char why[128];
    const int code = errnum == ENOENT || errnum == ENOTDIR ? PG_ENOTFOUND : PG_EIO;
    return pg_fail(err, code, "trace %s: %s", t->path, strerror_r(errnum, why, sizeof why));
}

/* The engine thread shows picks to `to` when this returns; 0: somebody else traces. */
static int attach(pg_engine *e, const pg_trace *from, pg_trace *to)
{
    pthread_mutex_lock(&e->lock);
    const int fine = e->seen.tracer == from;
    if (fine) {
        e->seen.tracer = to;
        e->wake = 1;
        pthread_cond_signal(&e->work);
        while (e->seen.tracing != to) pthread_cond_wait(&e->over, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return fine;
}

static int is_taken(pg_engine *e)
{
    pthread_mutex_lock(&e->lock);
    const int taken = e->seen.tracer != NULL;
    pthread_mutex_unlock(&e->lock);
    return taken;
}

static int start(pg_trace *t, pg_error *err)
{
    t->fd = open(t->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666); /* no FIFO may hold us up */
    if (t->fd < 0) return fail_io(t, errno, err);
    write_header(t);
    if (t->failed) return fail_io(t, t->failed, err);
    if (pthread_create(&t->writer, NULL, run_writer, t))
        return pg_fail(err, PG_EMEMORY, "the thread that writes the trace could not be started");
    t->has_writer = 1;
    return PG_OK;
}

static void stop(pg_trace *t)
{
    if (!t->has_writer) return;
    pthread_mutex_lock(&t->lock);
    t->stop = 1;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->writer, NULL);
    t->has_writer = 0;
}

static const char ONE_TRACE[] = "another trace of this engine is open: close it first";

int pg_trace_open(pg_engine *e, const char *path, int32_t every, pg_trace **out, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!out || !path || !*path) return pg_fail(err, PG_EINVAL, "pg_trace_open needs a path and a place for the trace");
    if (every < 1) return pg_fail(err, PG_EINVAL, "every is %d, expected 1 (each token) or more", every);
    if (!e->seen.n_layer) return pg_fail(err, PG_EINVAL, "a trace is of experts, and this model has none");
    if (is_taken(e)) return pg_fail(err, PG_EINVAL, "%s", ONE_TRACE);
    pg_trace *t = new_trace(e, path, every);
    if (!t) return pg_fail(err, PG_EMEMORY, "no memory for a trace");
    rc = start(t, err);
    if (rc >= 0 && !attach(e, NULL, t)) rc = pg_fail(err, PG_EINVAL, "%s", ONE_TRACE);
    if (rc < 0) {
        stop(t);
        free_trace(t);
        return rc;
    }
    *out = t;
    return PG_OK;
}

int pg_trace_look(pg_trace *t, pg_trace_state *state, pg_error *err)
{
    if (!t || !state) return pg_fail(err, PG_EINVAL, "pg_trace_look needs a trace and a place for its state");
    *state = (pg_trace_state){ (double)t->written, (double)t->lost, (double)t->bytes };
    return t->failed ? fail_io(t, t->failed, err) : PG_OK;
}

void pg_trace_orphan(pg_trace *t)
{
    if (!t) return;
    stop(t);
    t->engine = NULL;
}

int pg_trace_close(pg_trace *t, pg_trace_state *state, pg_error *err)
{
    pg_trace_state unseen;
    if (!t) return PG_OK;
    if (t->engine && pg_engine_check(t->engine, err) < 0) return PG_EINVAL;
    if (t->engine) attach(t->engine, t, NULL);
    stop(t);
    finish_header(t);
    const int rc = pg_trace_look(t, state ? state : &unseen, err);
    free_trace(t);
    return rc;
}
