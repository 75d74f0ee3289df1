/* lanes.c: the team of threads. A round is published in one cache line; workers spin on it for a while, yielding, then
 * sleep. Each lane begins with a run of neighbouring items of its own, so that it reads memory forward, and then takes
 * what others have left. The caller is lane 0; it waits only for workers that have begun: one that is late, asleep or
 * descheduled is passed over, and its items are done by those who are there.
 *
 * What a lane has taken and whether it is at work share one line, which costs one trip between two cores to look at: a
 * round of two lanes is little more than that trip there and back. */
#include "../lanes.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* Looks at the round before sleeping; of them between two yields; before the first. A yield is a system call that may last
 * longer than a small model's round, so who waits for that only looks. */
enum { SPIN = 20000, SPIN_YIELD = 64, SPIN_QUIET = 256 };

typedef struct lane {
    _Alignas(64) _Atomic uint64_t next; /* round << 32 | next item of its run, once somebody has taken one */
    _Atomic uint32_t state;             /* 2 * round + 1: at work; 2 * round: finished it, or passed over */
    int index;
    struct pg_lanes *lanes;
    pthread_t thread;
} lane;

struct pg_lanes {
    _Alignas(64) _Atomic uint32_t round; /* 31 bits; this line is written once a round */
    int n_item;
    pg_lane_fn *fn;
    void *arg;
    _Alignas(64) int n;
    lane *lane; /* [n] */
    _Atomic int stop, asleep;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void relax(int i) /* the i-th look */
{
    if (i >= SPIN_QUIET && i % SPIN_YIELD == 0) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The first item of a lane's run. */
static int run_begin(const pg_lanes *l, int of)
{
    return (int)((int64_t)l->n_item * of / l->n);
}

/* The next item of a lane's run, for whoever asks; -1: there are no more. The caller's first item is its own without
 * asking, so that nobody looks at its line for that one: a line that another core has looked at takes a trip to write. */
static int take(pg_lanes *l, uint32_t round, int of)
{
    const int begin = run_begin(l, of) + !of, end = run_begin(l, of + 1);
    if (begin >= end) return -1;
    uint64_t seen = atomic_load_explicit(&l->lane[of].next, memory_order_relaxed);
    for (;;) {
        const int item = seen >> 32 == round ? (int)(uint32_t)seen : begin;
        if (item >= end) return -1;
        if (atomic_compare_exchange_weak_explicit(&l->lane[of].next, &seen,
                                                  (uint64_t)round << 32 | (uint32_t)(item + 1), memory_order_relaxed,
                                                  memory_order_relaxed))
            return item;
    }
}

static void take_items(pg_lanes *l, uint32_t round, int me)
{
    for (int i = 0; i < l->n; i++)
        for (int item; (item = take(l, round, (me + i) % l->n)) >= 0;) l->fn(l->arg, item, me);
}

/* Wait until the round differs from `seen`; returns the new one. */
static uint32_t await_round(pg_lanes *l, uint32_t seen)
{
    for (int i = 0; i < SPIN; i++, relax(i)) {
        const uint32_t now = atomic_load_explicit(&l->round, memory_order_acquire);
        if (now != seen) return now;
    }
    pthread_mutex_lock(&l->lock);
    atomic_fetch_add(&l->asleep, 1);
    while (atomic_load(&l->round) == seen) pthread_cond_wait(&l->wake, &l->lock);
    atomic_fetch_sub(&l->asleep, 1);
    pthread_mutex_unlock(&l->lock);
    return atomic_load(&l->round);
}

/* Rounds count on through 31 bits. */
static int is_before(uint32_t a, uint32_t b)
{
    return ((b - a) & 0x7fffffff) - 1 < 0x3fffffff;
}

static void *work(void *p)
{
    lane *me = p;
    pg_lanes *l = me->lanes;
    for (uint32_t seen = 0;;) {
        seen = await_round(l, seen);
        if (atomic_load(&l->stop)) return NULL;
        uint32_t state = atomic_load(&me->state);
        /* not when the caller has passed this lane over in that round, or a later one has begun meanwhile */
        if (!is_before(state >> 1, seen) || !atomic_compare_exchange_strong(&me->state, &state, 2 * seen + 1)) continue;
        take_items(l, seen, me->index);
        atomic_store_explicit(&me->state, 2 * seen, memory_order_release);
    }
}

/* A worker that falls asleep at this very moment may not be seen, since waiting for the store to be visible first takes
 * a trip: then it sleeps through this round, which the others finish, and the next one wakes it. `order`: of the store. */
static uint32_t begin_round(pg_lanes *l, memory_order order)
{
    const uint32_t round = (atomic_load_explicit(&l->round, memory_order_relaxed) + 1) & 0x7fffffff;
    atomic_store_explicit(&l->round, round, order);
    if (atomic_load(&l->asleep) > 0) {
        pthread_mutex_lock(&l->lock);
        pthread_cond_broadcast(&l->wake);
        pthread_mutex_unlock(&l->lock);
    }
    return round;
}

/* Worker has finished this round, or will not begin it any more. */
static void await_worker(lane *w, uint32_t round)
{
    for (int i = 0;; i++, relax(i)) {
        uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
        if (state == 2 * round) return;
        if (state != 2 * round + 1 && atomic_compare_exchange_strong(&w->state, &state, 2 * round)) return;
    }
}

pg_lanes *pg_lanes_open(int n_lane)
{
    pg_lanes *l = aligned_alloc(64, sizeof *l);
    lane *all = aligned_alloc(64, (size_t)n_lane * sizeof *all);
    if (!l || !all) {
        free(l);
        free(all);
        return NULL;
    }
    *l = (pg_lanes){ .n = 1, .lane = all };
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    for (int i = 0; i < n_lane; i++) all[i] = (lane){ .index = i, .lanes = l };
    for (int i = 1; i < n_lane; i++) {
        if (pthread_create(&all[i].thread, NULL, work, &all[i])) {
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
    begin_round(l, memory_order_seq_cst);
    for (int i = 1; i < l->n; i++) pthread_join(l->lane[i].thread, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l->lane);
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
    l->n_item = n_item;
    const uint32_t round = begin_round(l, memory_order_release);
    if (run_begin(l, 1) > 0) fn(arg, 0, 0);
    take_items(l, round, 0);
    for (int i = 1; i < l->n; i++) await_worker(&l->lane[i], round);
}
