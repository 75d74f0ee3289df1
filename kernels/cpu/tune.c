/* tune.c: how much work is worth a round of the lanes. It costs a trip to the other cores and back, and what they write has
 * to be fetched from there; how long that takes depends on which cores the system runs the threads on, which on a virtual
 * machine changes within minutes by several times. So it is not computed but tried: now and then some steps of few rows
 * go with the bound at hand and its neighbours, in turn, and the one that made a step fastest stays. Results do not
 * depend on it. */
#include "cpu.h"

#include <stdint.h>
#include <time.h>

/* Bytes below which work is done by the caller alone. Less is never worth a round; more than the last no small model has. */
const int64_t pg_tune_bound[PG_BOUNDS] = { 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20 };

enum {
    FIRST = 8,   /* steps before the first trials: memory is touched for the first time */
    STEPS = 512, /* between trials */
    TURNS = 3,   /* times that each bound is tried: the least counts */
    FEW = 4      /* rows of a step whose ops may be that small */
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void pg_tune_open(pg_cpu *c)
{
    c->tune = (pg_tune){ .wait = c->n_lane > 1 ? FIRST : INT32_MAX, .best = 1 };
    c->small = c->n_lane > 1 ? pg_tune_bound[c->tune.best] : INT64_MAX;
}

/* The bounds of these trials: the best so far, and those on both sides. */
static int first_of(const pg_tune *t)
{
    return t->best > 0 ? t->best - 1 : 0;
}

static int count_of(const pg_tune *t)
{
    return (t->best < PG_BOUNDS - 1 ? t->best + 2 : PG_BOUNDS) - first_of(t);
}

/* The bound of the next trial. */
static int tried_of(const pg_tune *t)
{
    return first_of(t) + t->n_tried % count_of(t);
}

void pg_tune_begin(pg_cpu *c)
{
    pg_tune *t = &c->tune;
    const pg_rows *rows = c->rows;
    const int fits = rows->n <= FEW && !rows->n_prefill;
    if (t->wait > 0 && t->wait < INT32_MAX) t->wait--;
    if (t->wait) return;
    if (!fits || rows->n != t->n_row) t->n_tried = 0; /* steps that are compared have as many rows */
    t->n_row = rows->n;
    c->small = pg_tune_bound[fits ? tried_of(t) : t->best];
    t->begin = fits ? now_ns() : 0;
}

void pg_tune_end(pg_cpu *c)
{
    pg_tune *t = &c->tune;
    if (!t->begin) return;
    const int64_t took = now_ns() - t->begin;
    const int i = tried_of(t), first = first_of(t), n = count_of(t);
    if (t->n_tried < n || took < t->least[i]) t->least[i] = took;
    t->begin = 0;
    if (++t->n_tried < TURNS * n) return;
    for (int b = first; b < first + n; b++) /* another has to be better by 1 in 64 */
        if (t->least[b] + t->least[t->best] / 64 < t->least[t->best]) t->best = b;
    c->small = pg_tune_bound[t->best];
    t->n_tried = 0;
    t->wait = STEPS;
}
