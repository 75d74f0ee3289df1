/* device.c: see device.h. The CUDA backend is a library of its own, perigee_cuda.so, so that one build of perigee serves
 * machines with and without a GPU. It is looked for when a device is asked for, and stays loaded until the process ends:
 * the CUDA runtime cannot be taken out again. */
#include "device.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "perigee_cuda.so"
#define AHEAD ((size_t)64 << 20) /* bytes that are read ahead of those being copied */

/* ---- names -------------------------------------------------------------------------------------------------------- */

#define EXPECTED "expected \"auto\", \"cpu\", \"cuda\", \"cuda:N\", \"cuda:N,M\" or \"cuda:all\""
enum { DIGITS = 3 }; /* of a device's number at most */

/* The numbers of "cuda" (0), "cuda:N", "cuda:N,M,..." and "cuda:all" (none, which is all of them): how many, or
 * PG_EINVAL. */
static int numbers_of(const char *device, int which[PG_DEVICES], pg_error *err)
{
    int n = 0;
    which[0] = 0;
    if (!strcmp(device, "cuda")) return 1;
    if (!strcmp(device, "cuda:all")) return 0;
    if (strncmp(device, "cuda:", 5)) return pg_fail(err, PG_EINVAL, "device is \"%s\", " EXPECTED, device);
    for (const char *at = device + 5;; at++) {
        const size_t digits = strspn(at, "0123456789");
        if (!digits || digits > DIGITS || (at[digits] && at[digits] != ','))
            return pg_fail(err, PG_EINVAL, "device is \"%s\", " EXPECTED ", of numbers up to 999", device);
        if (n == PG_DEVICES)
            return pg_fail(err, PG_EINVAL, "device is \"%s\": an engine takes %d devices at most", device, PG_DEVICES);
        which[n] = atoi(at);
        for (int i = 0; i < n; i++)
            if (which[i] == which[n])
                return pg_fail(err, PG_EINVAL, "device is \"%s\": %d is named twice, name each device once", device,
                               which[n]);
        n++;
        at += digits;
        if (!*at) return n;
    }
}

int pg_device_check(const char *device, pg_error *err)
{
    int which[PG_DEVICES];
    if (!strcmp(device, "cpu") || !strcmp(device, "auto")) return PG_OK;
    const int n = numbers_of(device, which, err);
    return n < 0 ? n : PG_OK;
}

/* ---- the library -------------------------------------------------------------------------------------------------- */

/* Where the code of this library is: a file beside it, or "". */
static void beside(char *path, size_t size)
{
    Dl_info info;
    const char *slash =
        dladdr((void *)(uintptr_t)pg_device_check, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    *path = 0;
    if (slash && (size_t)(slash - info.dli_fname) + sizeof "/" LIBRARY <= size)
        snprintf(path, size, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, LIBRARY);
}

/* PERIGEE_CUDA names the file; else beside this library, else on the loader's path. what: the one that was tried last. */
static void *open_library(char *what, size_t size)
{
    const char *named = getenv("PERIGEE_CUDA");
    void *library = NULL;
    if (named && *named) {
        snprintf(what, size, "%s", named);
        return dlopen(what, RTLD_NOW | RTLD_LOCAL);
    }
    beside(what, size);
    FILE *there = *what ? fopen(what, "re") : NULL;
    if (there) {
        fclose(there);
        return dlopen(what, RTLD_NOW | RTLD_LOCAL);
    }
    if ((library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL))) snprintf(what, size, "%s", LIBRARY);
    return library;
}

static const pg_plugin *find_plugin(const char *device, pg_error *err)
{
    char what[PATH_MAX] = "";
    void *library = open_library(what, sizeof what);
    if (!library) {
        const char *why = dlerror();
        const char *named = getenv("PERIGEE_CUDA");
        FILE *there = *what ? fopen(what, "re") : NULL;
        if (there) fclose(there);
        if (there)
            pg_fail(err, PG_EDEVICE, "device \"%s\": %s", device, why);
        else if (named && *named)
            pg_fail(err, PG_EDEVICE, "device \"%s\": %s, which PERIGEE_CUDA names, is not there", device, named);
        else
            pg_fail(err, PG_EDEVICE,
                    "device \"%s\": this perigee comes without " LIBRARY
                    ", the CUDA backend; `make CUDA=1` builds it where "
                    "there is nvcc, and PERIGEE_CUDA names it when it is not beside %s; or use \"cpu\"",
                    device, *what ? what : "the library");
        return NULL;
    }
    const pg_plugin *p = dlsym(library, PG_PLUGIN_NAME);
    if (p && p->layout == PG_PLUGIN_LAYOUT) return p;
    pg_fail(err, PG_EDEVICE, "device \"%s\": %s is no backend of this build of perigee; build both from one source",
            device, what);
    return NULL;
}

int pg_device_open(const char *device, int n_lane, pg_backend **out, pg_error *err)
{
    char why[512] = "";
    int which[PG_DEVICES];
    const int n = numbers_of(device, which, err);
    const pg_plugin *p = n < 0 ? NULL : find_plugin(device, err);
    if (!p) return n < 0 ? n : PG_EDEVICE;
    *out = p->open(which, n, n_lane, why, sizeof why);
    return *out ? PG_OK : pg_fail(err, PG_EDEVICE, "device \"%s\": %s; or use \"cpu\"", device, why);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

typedef struct loading {
    const pg_source *source;
    int (*see)(void *ud, double done, double total);
    void *ud;
    int rc;
    pg_error err;
} loading;

/* The pages are brought in here, where a file that became shorter is an error and not the end of the process. */
static int want(void *ud, const void *at, int64_t bytes, double done, double total)
{
    loading *l = ud;
    pg_source_ahead(l->source, at, (size_t)bytes + AHEAD);
    l->rc = pg_source_touch(l->source, at, (size_t)bytes, &l->err);
    if (l->rc >= 0 && l->see && (l->rc = l->see(l->ud, done, total)) < 0) l->err = (pg_error){ .code = l->rc };
    return l->rc;
}

int pg_device_load(pg_engine *e, int (*see)(void *ud, double done, double total), void *ud, pg_error *err)
{
    loading l = { .source = e->model->source, .see = see, .ud = ud };
    const pg_loader who = { want, &l };
    const int rc = e->backend->ops->load(e->backend, &who);
    if (rc < 0) return pg_fail(err, PG_EDEVICE, "%s", e->backend->fault);
    if (rc == 0) return PG_OK;
    if (err) *err = l.err;
    return l.rc;
}
