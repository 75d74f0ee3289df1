/* opening.c: an engine is built in a thread of its own, so that callers can show progress and change their mind. */
#include "pack.h"
#include "sched/sched.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pg_opening {
    char *path;
    pg_options options;
    char device[32], kv_type[16], precision[16];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    double done, total, seen;
    int ready, cancelled;
    pg_engine *engine;
    int rc;
    pg_error error;
};

static int show_progress(void *ud, double done, double total)
{
    pg_opening *p = ud;
    pthread_mutex_lock(&p->lock);
    p->done = done;
    p->total = total;
    const int cancelled = p->cancelled;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return cancelled ? PG_ECANCELLED : PG_OK;
}

static void *run_opening(void *ud)
{
    pg_opening *p = ud;
    pg_error err = { 0 };
    pg_engine *e = pg_engine_new();
    int rc = e ? pg_engine_build(e, p->path, &p->options, &err) : pg_fail(&err, PG_EMEMORY, "no memory for an engine");
    if (rc >= 0) rc = pg_pack_run(e->model, e->info.threads, p->options.use_mlock, show_progress, p, &err);
    if (rc == PG_ECANCELLED) pg_fail(&err, rc, "opening %s was cancelled", p->path);
    if (rc >= 0) rc = pg_engine_start(e, &err);
    if (rc < 0) pg_close(e);
    pthread_mutex_lock(&p->lock);
    p->engine = rc < 0 ? NULL : e;
    p->rc = rc;
    p->error = err;
    p->ready = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void free_opening(pg_opening *p)
{
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->path);
    free(p);
}

/* Texts of the options live in the opening: the caller's may be gone before the thread reads them. */
static void keep_text(char *to, size_t size, const char **text)
{
    if (!*text) return;
    snprintf(to, size, "%s", *text);
    *text = to;
}

int pg_open_begin(const char *path, const pg_options *options, pg_opening **out, pg_error *err)
{
    pg_opening *p = calloc(1, sizeof *p);
    pthread_condattr_t attr;
    if (!path || !out) {
        free(p);
        return pg_fail(err, PG_EINVAL, "pg_open needs a path and a place for the engine");
    }
    if (!p || !(p->path = strdup(path))) {
        free(p);
        return pg_fail(err, PG_EMEMORY, "no memory to open %s", path);
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (options)
        p->options = *options;
    else
        pg_options_init(&p->options);
    if (!p->options.device) p->options.device = "auto";
    if (!p->options.precision) p->options.precision = "auto";
    keep_text(p->device, sizeof p->device, &p->options.device);
    keep_text(p->kv_type, sizeof p->kv_type, &p->options.kv_type);
    keep_text(p->precision, sizeof p->precision, &p->options.precision);
    int rc = pg_options_check(&p->options, err);
    if (rc >= 0 && pthread_create(&p->thread, NULL, run_opening, p))
        rc = pg_fail(err, PG_EMEMORY, "no thread to open %s in", path);
    if (rc < 0)
        free_opening(p);
    else
        *out = p;
    return rc < 0 ? rc : PG_OK;
}

int pg_open_poll(pg_opening *p, int32_t timeout_ms, double *done, double *total, pg_error *err)
{
    if (!p) return pg_fail(err, PG_EINVAL, "no opening");
    const double until = pg_now_ms() + timeout_ms;
    const struct timespec at = { (time_t)(until * 1e-3), (long)(fmod(until, 1e3) * 1e6) };
    int timed_out = timeout_ms == 0;
    pthread_mutex_lock(&p->lock);
    while (!p->ready && p->done == p->seen && !timed_out)
        timed_out = timeout_ms < 0 ? pthread_cond_wait(&p->changed, &p->lock)
                                   : pthread_cond_timedwait(&p->changed, &p->lock, &at);
    p->seen = p->done;
    if (done) *done = p->done;
    if (total) *total = p->total;
    const int rc = !p->ready ? 0 : p->rc < 0 ? p->rc : 1;
    if (rc < 0 && err) *err = p->error;
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int pg_open_finish(pg_opening *p, pg_engine **out, pg_error *err)
{
    if (!p || !out) return pg_fail(err, PG_EINVAL, "pg_open_finish needs an opening and a place for the engine");
    pthread_join(p->thread, NULL);
    const int rc = p->rc;
    *out = p->engine;
    if (rc < 0 && err) *err = p->error;
    free_opening(p);
    return rc < 0 ? rc : PG_OK;
}

void pg_open_cancel(pg_opening *p)
{
    pg_engine *e;
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->cancelled = 1;
    pthread_mutex_unlock(&p->lock);
    if (pg_open_finish(p, &e, NULL) >= 0) pg_close(e);
}

int pg_open(const char *path, const pg_options *options, pg_engine **out, pg_error *err)
{
    pg_opening *p;
    const int rc = pg_open_begin(path, options, &p, err);
    return rc < 0 ? rc : pg_open_finish(p, out, err);
}
