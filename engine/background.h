/* background: one long task in a thread of its own, watched by whoever began it.
 *
 * For functions of the begin, poll, finish kind: callers can show progress and change their mind, and nothing of theirs
 * is called from another thread. Threads: one watcher at a time. */
#ifndef PG_BACKGROUND_H
#define PG_BACKGROUND_H

#include "status.h"

#include <pthread.h>

typedef struct pg_background pg_background;

/* The task: PG_OK, or PG_E* with words. */
typedef int pg_background_fn(void *ud, pg_background *b, pg_error *err);

struct pg_background {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pg_background_fn *fn;
    void *ud;
    double done, total, seen;
    int ready, cancelled, rc;
    pg_error error;
};

/* Run fn(ud, b, &error) in a new thread. PG_EMEMORY: there is none to be had. *b must stay where it is until joined. */
int pg_background_start(pg_background *b, pg_background_fn *fn, void *ud, pg_error *err);

/* For the task: how far it has come. PG_ECANCELLED when it is to stop. Takes the background itself, so that it serves
 * as a callback. */
int pg_background_tell(void *b, double done, double total);

/* 1: ended well, < 0: failed, 0: neither yet. Waits up to timeout_ms (< 0: until something changes). */
int pg_background_poll(pg_background *b, int32_t timeout_ms, double *done, double *total, pg_error *err);

/* Ask the task to stop; it is still to be joined. */
void pg_background_cancel(pg_background *b);

/* Wait for the end; what the task returned. Afterwards nothing of *b is in use. */
int pg_background_join(pg_background *b, pg_error *err);

#endif
