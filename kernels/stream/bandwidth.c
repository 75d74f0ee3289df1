/* bandwidth.c: how fast n threads read memory together, each its own part of one buffer, over and over.
 *
 * Which way of reading is fastest differs by machine and by where the bytes lie (prefetches double nothing on one
 * processor and give half as much again on the next), so each has a try, the best two have more, and the better median
 * counts. Threads of its own, not the engine's lanes: a lane may take two items and another none. They are not pinned, as the engine's are not. */
#include "../backend.h"
#include "../cpu/isa.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { PASSES = 5, HUGE_PAGE = 2 << 20 };

static const struct {
    int walks;
    size_t ahead;
} way[] = { { 1, 0 }, { 1, 1024 }, { 1, 4096 }, { 4, 0 }, { 4, 1024 } };
enum { WAYS = sizeof way / sizeof *way };

typedef struct team {
    pthread_barrier_t barrier;
    pg_stream_fn *read;
    char *base;
    size_t part; /* bytes of a thread's part, a multiple of 256 */
    int n;
    int way, rounds;   /* of the next pass, times that it reads its part; set by thread 0 between passes */
    double pass;       /* seconds that a pass should take */
    double *from, *to; /* [n] of the pass that ended last */
    double best;       /* bytes a second */
    _Atomic uint64_t sink;
    pthread_mutex_t lock;
    pthread_cond_t gate;
    int go; /* 1: all threads are there; -1: go home */
} team;

typedef struct member {
    team *t;
    pthread_t thread;
    int i;
} member;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds from the first thread's start to the last one's end. */
static double span(const team *t)
{
    double from = t->from[0], to = t->to[0];
    for (int i = 1; i < t->n; i++) {
        if (t->from[i] < from) from = t->from[i];
        if (t->to[i] > to) to = t->to[i];
    }
    return to - from > 1e-9 ? to - from : 1e-9;
}

/* All threads read; thread 0 gets the time that it took. */
static double pass(team *t, int i)
{
    uint64_t sum = 0;
    pthread_barrier_wait(&t->barrier);
    const int walks = way[t->way].walks;
    const size_t ahead = way[t->way].ahead;
    t->from[i] = now();
    for (int k = 0; k < t->rounds; k++) sum += t->read(t->base + (size_t)i * t->part, t->part, walks, ahead);
    t->to[i] = now();
    atomic_fetch_add(&t->sink, sum); /* nobody may leave the reading out */
    pthread_barrier_wait(&t->barrier);
    return i == 0 ? span(t) : 0;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum {
    TRIES = 1 + WAYS + 2 * PASSES
}; /* one to learn how long a pass should be, one of each way, more of the best two */

/* Thread 0, before try k: what to do, from the seconds of the tries before. */
static void direct(team *t, int k, const double *seconds)
{
    int best = 0, next = -1;
    if (k == 1) {
        const double more = t->pass / seconds[0];
        t->rounds = more < 1 ? 1 : more > 1e6 ? 1000000 : (int)more;
    }
    for (int w = 1; w < WAYS && k > WAYS; w++) {
        if (seconds[1 + w] < seconds[1 + best]) {
            next = best;
            best = w;
        } else if (next < 0 || seconds[1 + w] < seconds[1 + next]) {
            next = w;
        }
    }
    t->way = k == 0 ? 0 : k <= WAYS ? k - 1 : k <= WAYS + PASSES ? best : next;
}

static void work(team *t, int i)
{
    double seconds[TRIES];
    memset(t->base + (size_t)i * t->part, i + 1, t->part); /* here, so that the pages are near this thread */
    for (int k = 0; k < TRIES; k++) {
        if (i == 0) direct(t, k, seconds);
        seconds[k] = pass(t, i);
    }
    for (int k = 1 + WAYS; k < TRIES && i == 0; k += PASSES) {
        qsort(seconds + k, PASSES, sizeof *seconds, by_size);
        const double rate = (double)t->part * t->n * t->rounds / seconds[k + PASSES / 2];
        if (rate > t->best) t->best = rate;
    }
}

static void *join_team(void *arg)
{
    const member *m = arg;
    pthread_mutex_lock(&m->t->lock);
    while (!m->t->go) pthread_cond_wait(&m->t->gate, &m->t->lock);
    const int go = m->t->go;
    pthread_mutex_unlock(&m->t->lock);
    if (go > 0) work(m->t, m->i);
    return NULL;
}

static void open_gate(team *t, int go)
{
    pthread_mutex_lock(&t->lock);
    t->go = go;
    pthread_cond_broadcast(&t->gate);
    pthread_mutex_unlock(&t->lock);
}

static int run(team *t)
{
    member *m = calloc((size_t)t->n, sizeof *m);
    int n = 1, fine;
    if (!m) return 0;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->gate, NULL);
    pthread_barrier_init(&t->barrier, NULL, (unsigned)t->n);
    for (; n < t->n; n++) {
        m[n] = (member){ .t = t, .i = n };
        if (pthread_create(&m[n].thread, NULL, join_team, &m[n])) break;
    }
    fine = n == t->n;
    open_gate(t, fine ? 1 : -1);
    if (fine) work(t, 0);
    while (--n > 0) pthread_join(m[n].thread, NULL);
    pthread_barrier_destroy(&t->barrier);
    pthread_cond_destroy(&t->gate);
    pthread_mutex_destroy(&t->lock);
    free(m);
    return fine;
}

static pg_stream_fn *reader(unsigned have)
{
#if defined __x86_64__
    if (have & PG_ISA_avx512) return pg_stream_avx512;
    if (have & PG_ISA_avx2) return pg_stream_avx2;
#endif
    (void)have;
    return pg_stream_ref;
}

double pg_cpu_bandwidth(int n_thread, int64_t bytes, double seconds, const char *isa)
{
    const size_t part = ((size_t)bytes / (size_t)n_thread / 256 + 1) * 256, size = part * (size_t)n_thread;
    char *map = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return 0;
    team t = { .read = reader(pg_isa_allowed(isa) & pg_isa_have()), .part = part, .n = n_thread, .rounds = 1 };
    t.base = (char *)(((uintptr_t)map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    t.pass = seconds / TRIES;
    t.from = calloc(2 * (size_t)n_thread, sizeof *t.from);
    if (t.from) {
        t.to = t.from + n_thread;
        madvise(t.base, size, MADV_HUGEPAGE);
        if (!run(&t)) t.best = 0;
    }
    free(t.from);
    munmap(map, size + HUGE_PAGE);
    return t.best;
}
