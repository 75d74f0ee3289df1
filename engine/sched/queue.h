/* queue: the event ring of one request, one writer (the engine thread) and one reader (pg_poll), without locks.
 *
 * Text lies in a ring of bytes beside the events; an event's text is in one piece. What the reader has been given stays
 * valid until it comes again: `seen` runs ahead of `tail`, and only pg_ring_release gives the room back. */
#ifndef PG_QUEUE_H
#define PG_QUEUE_H

#include "../include/perigee.h"

#include <stdatomic.h>

typedef struct pg_ring {
    pg_event *event;               /* [PG_RING_EVENTS] */
    uint64_t *text_end;            /* [PG_RING_EVENTS] where an event's text ends, counted from the beginning of time */
    pg_logprob *logprob;           /* [PG_RING_EVENTS, n_logprob], or NULL */
    char *text;                    /* [text_size] */
    uint32_t text_size, text_most; /* bytes; the most that one event may bring */
    int32_t n_logprob;
    uint64_t text_head; /* writer */
    _Atomic uint64_t text_tail;
    _Atomic uint32_t head, tail; /* events written; events whose room is free again */
    uint32_t seen;               /* reader: events handed out */
} pg_ring;

enum { PG_RING_EVENTS = 256 };

/* text_most: bytes that one event may carry. 0, or -1: no memory. */
int pg_ring_open(pg_ring *r, uint32_t text_most, int32_t n_logprob);
void pg_ring_close(pg_ring *r);

/* Writer. Room for `n` more events of the largest size (keep one for DONE). Push copies text and logprobs. */
int pg_ring_room(const pg_ring *r, uint32_t n);
void pg_ring_push(pg_ring *r, const pg_event *e);

/* Reader. The next event, or 0; give back the room of all events handed out so far. */
int pg_ring_next(pg_ring *r, pg_event *out);
int pg_ring_release(pg_ring *r);       /* 1 when there was any */
int pg_ring_waiting(const pg_ring *r); /* events not yet handed out */

#endif
