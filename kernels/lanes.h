/* lanes: fork-join over a fixed team of threads. One fork-join for each group of independent items; who takes which
 * item is left to chance, so an item must own its outputs and must not care. */
#ifndef PG_LANES_H
#define PG_LANES_H

typedef struct pg_lanes pg_lanes;

/* Called for each item in [0, n_item), on lane 0 .. n_lane-1 (lane 0 is the caller's thread). */
typedef void pg_lane_fn(void *arg, int item, int lane);

pg_lanes *pg_lanes_open(int n_lane); /* NULL: no memory or no threads */
void pg_lanes_close(pg_lanes *l);

/* Run all items and return when they are done. Allocates nothing. One caller at a time. */
void pg_lanes_run(pg_lanes *l, pg_lane_fn *fn, void *arg, int n_item);

#endif
