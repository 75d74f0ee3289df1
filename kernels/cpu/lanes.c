/* lanes.c: the team of threads. A round is published by bumping one counter; workers spin on it for a while, yielding,
 * then sleep. Each lane begins with a run of neighbouring items of its own, so that it reads memory forward, and then
 * takes what others have left: a lane that is late or descheduled costs one item, not a share. The caller is lane 0. */
#include "../lanes.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { SPIN = 20000, SPIN_YIELD = 64 }; /* looks at the counter before sleeping, and of them between two yields */

/* The items a lane begins with; on a cache line of its own. */
typedef struct run {
    _Alignas(64) _Atomic int next;
    int end;
} run;

typedef struct worker {
    struct pg_lanes *lanes;
    pthread_t thread;
    int lane;
} worker;

struct pg_lanes {
    int n;
    worker *workers;
    _Atomic unsigned round; /* odd and even alike: a new value is a new round */
    _Atomic int left, stop, asleep;
    pg_lane_fn *fn;
    void *arg;
    run *run; /* [n] */
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_items(pg_lanes *l, int lane)
{
    for (int i = 0; i < l->n; i++) {
        run *r = &l->run[(lane + i) % l->n];
        int item;
        while ((item = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed)) < r->end)
            l->fn(l->arg, item, lane);
    }
}

/* Wait until the round differs from `seen`; returns the new one. */
static unsigned await_round(pg_lanes *l, unsigned seen)
{
    for (int i = 0; i < SPIN; i++) {
        unsigned now = atomic_load_explicit(&l->round, memory_order_acquire);
        if (now != seen) return now;
        if (i % SPIN_YIELD == SPIN_YIELD - 1)
            sched_yield();
        else
            relax();
    }
    pthread_mutex_lock(&l->lock);
    atomic_fetch_add(&l->asleep, 1);
    while (atomic_load(&l->round) == seen) pthread_cond_wait(&l->wake, &l->lock);
    atomic_fetch_sub(&l->asleep, 1);
    pthread_mutex_unlock(&l->lock);
    return atomic_load(&l->round);
}

static void *work(void *p)
{
    worker *w = p;
    pg_lanes *l = w->lanes;
    unsigned seen = 0;
    for (;;) {
        seen = await_round(l, seen);
        if (atomic_load(&l->stop)) return NULL;
        take_items(l, w->lane);
        atomic_fetch_sub_explicit(&l->left, 1, memory_order_release);
    }
}

static void begin_round(pg_lanes *l)
{
    atomic_fetch_add(&l->round, 1);
    if (atomic_load(&l->asleep) > 0) {
        pthread_mutex_lock(&l->lock);
        pthread_cond_broadcast(&l->wake);
        pthread_mutex_unlock(&l->lock);
    }
}

pg_lanes *pg_lanes_open(int n_lane)
{
    pg_lanes *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->n = 1;
    l->workers = calloc((size_t)n_lane, sizeof *l->workers);
    l->run = aligned_alloc(64, (size_t)n_lane * sizeof *l->run);
    if (!l->workers || !l->run) {
        free(l->workers);
        free(l->run);
        free(l);
        return NULL;
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    for (int i = 1; i < n_lane; i++) {
        l->workers[i] = (worker){ .lanes = l, .lane = i };
        if (pthread_create(&l->workers[i].thread, NULL, work, &l->workers[i])) {
            pg_lanes_close(l);
            return NULL;
        }
        l->n = i + 1;
    }
    return l;
}

void pg_lanes_close(pg_lanes *l)
{
    if (!l) return;
    atomic_store(&l->stop, 1);
    begin_round(l);
    for (int i = 1; i < l->n; i++) pthread_join(l->workers[i].thread, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l->workers);
    free(l->run);
    free(l);
}

void pg_lanes_run(pg_lanes *l, pg_lane_fn *fn, void *arg, int n_item)
{
    if (n_item <= 0) return;
    if (l->n == 1 || n_item == 1) {
        for (int i = 0; i < n_item; i++) fn(arg, i, 0);
        return;
    }
    l->fn = fn;
    l->arg = arg;
    for (int i = 0; i < l->n; i++) {
        atomic_store_explicit(&l->run[i].next, (int)((int64_t)n_item * i / l->n), memory_order_relaxed);
        l->run[i].end = (int)((int64_t)n_item * (i + 1) / l->n);
    }
    atomic_store_explicit(&l->left, l->n - 1, memory_order_relaxed);
    begin_round(l);
    take_items(l, 0);
    /* every worker passes through every round, so the next one cannot begin under a straggler's feet */
    for (int i = 0; atomic_load_explicit(&l->left, memory_order_acquire) > 0; i++) {
        if (i % SPIN_YIELD == SPIN_YIELD - 1)
            sched_yield();
        else
            relax();
    }
}
