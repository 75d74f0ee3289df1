/* opening.c: an engine is built in the background, so that callers can show progress and change their mind. */
#include "background.h"
#include "device.h"
#include "pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pg_opening {
    char *path;
    pg_options options;
    char device[128], kv_type[16], precision[16];
    pg_background task;
    pg_engine *engine;
};

static int run_opening(void *ud, pg_background *task, pg_error *err)
{
    pg_opening *p = ud;
    pg_engine *e = pg_engine_new();
    const int how = p->options.use_mlock ? PG_PACK_LOCK : 0;
    int rc = e ? pg_engine_build(e, p->path, &p->options, err) : pg_fail(err, PG_EMEMORY, "no memory for an engine");
    if (rc >= 0)
        rc = pg_device_is_own(e->backend) ? pg_device_load(e, pg_background_tell, task, err)
                                          : pg_pack_run(e->model, e->info.threads, how, pg_background_tell, task, err);
    if (rc == PG_ECANCELLED) pg_fail(err, rc, "opening %s was cancelled", p->path);
    if (rc >= 0) rc = pg_engine_start(e, err);
    if (rc < 0)
        pg_close(e);
    else
        p->engine = e;
    return rc;
}

static void free_opening(pg_opening *p)
{
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
    if (!path || !out) {
        free(p);
        return pg_fail(err, PG_EINVAL, "pg_open needs a path and a place for the engine");
    }
    if (!p || !(p->path = strdup(path))) {
        free(p);
        return pg_fail(err, PG_EMEMORY, "no memory to open %s", path);
    }
    if (options)
        p->options = *options;
    else
        pg_options_init(&p->options);
    if (!p->options.device) p->options.device = "auto";
    if (!p->options.precision) p->options.precision = "auto";
    int rc = pg_options_check(&p->options, err);
    keep_text(p->device, sizeof p->device, &p->options.device);
    keep_text(p->kv_type, sizeof p->kv_type, &p->options.kv_type);
    keep_text(p->precision, sizeof p->precision, &p->options.precision);
    if (rc >= 0) rc = pg_background_start(&p->task, run_opening, p, err);
    if (rc < 0)
        free_opening(p);
    else
        *out = p;
    return rc < 0 ? rc : PG_OK;
}

int pg_open_poll(pg_opening *p, int32_t timeout_ms, double *done, double *total, pg_error *err)
{
    return p ? pg_background_poll(&p->task, timeout_ms, done, total, err) : pg_fail(err, PG_EINVAL, "no opening");
}

int pg_open_finish(pg_opening *p, pg_engine **out, pg_error *err)
{
    if (!p || !out) return pg_fail(err, PG_EINVAL, "pg_open_finish needs an opening and a place for the engine");
    const int rc = pg_background_join(&p->task, err);
    *out = p->engine;
    free_opening(p);
    return rc;
}

void pg_open_cancel(pg_opening *p)
{
    pg_engine *e;
    if (!p) return;
    pg_background_cancel(&p->task);
    if (pg_open_finish(p, &e, NULL) >= 0) pg_close(e);
}

int pg_open(const char *path, const pg_options *options, pg_engine **out, pg_error *err)
{
    pg_opening *p;
    const int rc = pg_open_begin(path, options, &p, err);
    return rc < 0 ? rc : pg_open_finish(p, out, err);
}
