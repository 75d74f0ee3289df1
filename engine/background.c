/* background: a thread, a lock, and how far the task has come. */
#include "background.h"

#include <errno.h>
#include <time.h>

static void *run(void *p)
{
    pg_background *b = p;
    pg_error err = { 0 };
    const int rc = b->fn(b->ud, b, &err);
    pthread_mutex_lock(&b->lock);
    b->rc = rc < 0 ? rc : PG_OK;
    b->error = err;
    b->ready = 1;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

int pg_background_start(pg_background *b, pg_background_fn *fn, void *ud, pg_error *err)
{
    pthread_condattr_t attr;
    *b = (pg_background){ .fn = fn, .ud = ud };
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&b->thread, NULL, run, b) == 0) return PG_OK;
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    return pg_fail(err, PG_EMEMORY, "the system gives no further thread");
}

int pg_background_tell(void *p, double done, double total)
{
    pg_background *b = p;
    pthread_mutex_lock(&b->lock);
    b->done = done;
    b->total = total;
    const int cancelled = b->cancelled;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return cancelled ? PG_ECANCELLED : PG_OK;
}

static struct timespec after(int32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    return t;
}

int pg_background_poll(pg_background *b, int32_t timeout_ms, double *done, double *total, pg_error *err)
{
    const struct timespec until = after(timeout_ms > 0 ? timeout_ms : 0);
    int timed_out = timeout_ms == 0;
    pthread_mutex_lock(&b->lock);
    while (!b->ready && b->done == b->seen && !timed_out)
        timed_out = (timeout_ms < 0 ? pthread_cond_wait(&b->changed, &b->lock)
                                    : pthread_cond_timedwait(&b->changed, &b->lock, &until)) == ETIMEDOUT;
    b->seen = b->done;
    if (done) *done = b->done;
    if (total) *total = b->total;
    const int rc = !b->ready ? 0 : b->rc < 0 ? b->rc : 1;
    if (rc < 0 && err) *err = b->error;
    pthread_mutex_unlock(&b->lock);
    return rc;
}

void pg_background_cancel(pg_background *b)
{
    pthread_mutex_lock(&b->lock);
    b->cancelled = 1;
    pthread_mutex_unlock(&b->lock);
}

int pg_background_join(pg_background *b, pg_error *err)
{
    pthread_join(b->thread, NULL);
    if (b->rc < 0 && err) *err = b->error;
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    return b->rc;
}
