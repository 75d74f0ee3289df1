/* seen: what the engine thread notes about the experts that a step chose: how often each was taken, always; who took
 * which with what weight, while somebody traces.
 *
 * Lives here: the counters, and the hand-over of picks to a tracer. Not here: routing itself (kernels/route), and what
 * counts mean (lua/perigee/experts.lua).
 * Why so: the thread must neither lock nor wait, and whoever asks wants whole steps. So the counters have one writer and
 * a version that is odd while it writes; readers copy and try again when it was odd or has changed. A tracer has a ring
 * of records and a thread of its own that brings them to the disk.
 * Source of the counter's version: sequence locks, Lameter, Gelato 2005; in C11 as in Boehm, MSPC 2012. */
#ifndef PG_SEEN_H
#define PG_SEEN_H

#include "../model.h"

#include <stdatomic.h>

typedef struct pg_seen {
    int32_t n_layer, n_expert;  /* MoE layers */
    int32_t *layer;             /* [n_layer] the model's own numbers */
    _Atomic uint32_t version;   /* odd: the thread is writing */
    _Atomic uint64_t *count;    /* [2, n_layer, n_expert] by PG_EXPERTS_* */
    _Atomic uint64_t tokens[2]; /* rows that were counted */
    uint64_t step;              /* the engine thread's own: steps so far */
    struct pg_trace *tracer;    /* under the engine's lock: who wants picks from the next step on */
    struct pg_trace *tracing;   /* the engine thread's own: who gets them */
} pg_seen;

/* 0, or -1: no memory. */
int pg_seen_open(pg_seen *s, const pg_model *m);
void pg_seen_close(pg_seen *s);

struct pg_engine;

/* Engine thread, after a run and before anybody is told of it: count the step's picks, show them to the tracer. */
void pg_seen_step(struct pg_engine *e);

/* trace.c. Engine thread: put the step's picks into the ring, those that find no room are counted as lost; never waits. */
void pg_trace_step(struct pg_trace *t, const struct pg_engine *e);
/* The engine is gone: the tracer writes out what it has. No thread may be tracing. */
void pg_trace_orphan(struct pg_trace *t);

#endif
