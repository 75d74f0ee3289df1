/* engine.c: the facade: submit, cancel, poll, counters. No work of its own; opening is in open.c, pg_logits in look.c. */
#include "hook/hook.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int pg_engine_check(const pg_engine *e, pg_error *err)
{
    if (!e) return pg_fail(err, PG_EINVAL, "no engine");
    if (e->pid != getpid())
        return pg_fail(err, PG_EINVAL,
                       "this engine was opened by another process: threads do not survive fork(), so open one "
                       "in each process");
    return PG_OK;
}

void pg_engine_wake(pg_engine *e)
{
    e->wake = 1;
    pthread_cond_signal(&e->work);
}

void pg_engine_queue(pg_engine *e, pg_task *t) /* under the lock */
{
    t->next = NULL;
    if (e->queue_tail)
        e->queue_tail->next = t;
    else
        e->queue_head = t;
    e->queue_tail = t;
    pthread_cond_signal(&e->work);
}

int pg_engine_watch(pg_engine *e, const pg_watch *from, const pg_watch *to)
{
    pthread_mutex_lock(&e->lock);
    const int fine = e->watch == from;
    if (fine) {
        e->watch = to;
        pg_engine_wake(e);
        while (e->backend->watch != to) pthread_cond_wait(&e->over, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return fine;
}

int pg_request_init(pg_engine *e, pg_request *req)
{
    if (!e || !req) return PG_EINVAL;
    *req = e->defaults;
    return PG_OK;
}

int pg_submit(pg_engine *e, const pg_request *req, int32_t *id, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!req || !id) return pg_fail(err, PG_EINVAL, "pg_submit needs a request and a place for its id");
    pg_error why = { 0 };
    pg_task *t = pg_task_open(e, req, &why);
    if (!t) {
        if (err) *err = why;
        return why.code;
    }
    pthread_mutex_lock(&e->lock);
    if (e->fault[0]) {
        rc = pg_fail(err, PG_EDEVICE, "%s", e->fault);
        pthread_mutex_unlock(&e->lock);
        pg_task_close(t);
        return rc;
    }
    int live = 0; /* one that was read to its end keeps its memory until the next poll, but no place in the queue */
    for (int i = 0; i < e->n_task; i++) live += !e->task[i]->gone;
    const int full = live >= e->queue_cap || e->n_task >= 2 * e->queue_cap;
    if (!full) {
        *id = t->id = ++e->last_id;
        e->task[e->n_task++] = t;
        e->stats.requests++;
        if (t->policy) e->hooks->changed = 1; /* it may include some that have successors */
        pg_engine_queue(e, t);
    }
    pthread_mutex_unlock(&e->lock);
    if (!full) return PG_OK;
    pg_task_close(t);
    return pg_fail(err, PG_EFULL, "%d requests wait or run already: poll for their events, then try again",
                   e->queue_cap);
}

int pg_cancel(pg_engine *e, int32_t id, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < e->n_task; i++)
        if (e->task[i]->id == id) atomic_store(&e->task[i]->cancelled, 1);
    pg_engine_wake(e);
    pthread_mutex_unlock(&e->lock);
    return PG_OK;
}

/* ---- poll ------------------------------------------------------------------------------------------------------------ */

/* What was handed out last time is no longer needed: give the rings their room back, free requests that have ended. */
static void release(pg_engine *e)
{
    int kept = 0, room = 0;
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < e->n_task; i++) {
        pg_task *t = e->task[i];
        room |= pg_ring_release(&t->ring);
        if (t->gone && t->left)
            pg_task_close(t);
        else
            e->task[kept++] = t;
    }
    e->n_task = kept;
    if (room) pg_engine_wake(e);
    pthread_mutex_unlock(&e->lock);
}

/* Take the signal away, before looking at the rings: see pg_signal_reader. */
static void take_signal(pg_engine *e)
{
    uint64_t signals;
    if (!atomic_load(&e->signalled)) return;
    if (read(e->event_fd, &signals, sizeof signals) > 0) atomic_store(&e->signalled, 0);
}

/* The lock is for the table, which pg_submit adds to, and for what readers may name; the rings themselves need none. */
static int collect(pg_engine *e, pg_event *events, int32_t max, int *more, int *live)
{
    int n = 0;
    pthread_mutex_lock(&e->lock);
    *live = *more = 0;
    for (int i = 0; i < e->n_task; i++) {
        pg_task *t = e->task[i];
        while (n < max && pg_ring_next(&t->ring, &events[n])) {
            const pg_event *ev = &events[n++];
            t->gone |= ev->kind != PG_EVENT_TEXT;
            t->asked.given += ev->kind == PG_EVENT_TEXT && ev->token >= 0 && ev->attempt == t->asked.attempt;
        }
        *more |= pg_ring_waiting(&t->ring) > 0;
        *live |= !t->gone;
    }
    pthread_mutex_unlock(&e->lock);
    return n;
}

static int collect_or_wait(pg_engine *e, int32_t timeout_ms, pg_event *events, int32_t max)
{
    const double until = timeout_ms > 0 ? pg_now_ms() + timeout_ms : 0;
    for (;;) {
        int more = 0, live = 0;
        take_signal(e);
        const int n = collect(e, events, max, &more, &live);
        if (more) pg_signal_reader(e);
        if (n || timeout_ms == 0 || (timeout_ms < 0 && !live)) return n;
        const double left = timeout_ms > 0 ? until - pg_now_ms() : 0;
        if (timeout_ms > 0 && left <= 0) return 0;
        struct pollfd fd = { .fd = e->event_fd, .events = POLLIN };
        if (poll(&fd, 1, timeout_ms < 0 ? -1 : (int)left + 1) < 0) return 0; /* a signal: let the caller look around */
    }
}

int pg_poll(pg_engine *e, int32_t timeout_ms, pg_event *events, int32_t max, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!events || max < 1) return pg_fail(err, PG_EINVAL, "pg_poll needs room for at least one event");
    if (pthread_mutex_trylock(&e->poll_lock))
        return pg_fail(err, PG_EINVAL, "another thread is inside pg_poll: one at a time");
    release(e);
    rc = collect_or_wait(e, timeout_ms, events, max);
    pthread_mutex_unlock(&e->poll_lock);
    return rc;
}

int pg_fd(pg_engine *e)
{
    return e ? e->event_fd : -1;
}

/* ---- looking --------------------------------------------------------------------------------------------------------- */

int pg_engine_info(pg_engine *e, pg_info *out, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!out) return pg_fail(err, PG_EINVAL, "pg_engine_info needs a place for its answer");
    *out = e->info;
    return PG_OK;
}

int pg_engine_stats(pg_engine *e, pg_stats *out, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!out) return pg_fail(err, PG_EINVAL, "pg_engine_stats needs a place for its answer");
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
    return PG_OK;
}

pg_tokenizer *pg_engine_tokenizer(pg_engine *e)
{
    return e ? e->tokenizer : NULL;
}
