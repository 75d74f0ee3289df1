/* queue.c: see queue.h. Indices count from the beginning of time and are reduced when used, so full and empty differ. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

int pg_ring_open(pg_ring *r, uint32_t text_most, int32_t n_logprob)
{
    *r = (pg_ring){ .text_most = text_most, .text_size = 8 * text_most + 16384, .n_logprob = n_logprob };
    r->event = calloc(PG_RING_EVENTS, sizeof *r->event);
    r->text_end = calloc(PG_RING_EVENTS, sizeof *r->text_end);
    r->text = malloc(r->text_size);
    r->logprob = n_logprob ? calloc((size_t)PG_RING_EVENTS * (size_t)n_logprob, sizeof *r->logprob) : NULL;
    if (r->event && r->text_end && r->text && (r->logprob || !n_logprob)) return 0;
    pg_ring_close(r);
    return -1;
}

void pg_ring_close(pg_ring *r)
{
    free(r->event);
    free(r->text_end);
    free(r->text);
    free(r->logprob);
    *r = (pg_ring){ 0 };
}

int pg_ring_room(const pg_ring *r, uint32_t n)
{
    const uint32_t used =
        atomic_load_explicit(&r->head, memory_order_relaxed) - atomic_load_explicit(&r->tail, memory_order_acquire);
    const uint64_t text = r->text_head - atomic_load_explicit(&r->text_tail, memory_order_acquire);
    /* a piece that does not fit at the end of the ring skips it, so it may cost up to twice its size */
    return PG_RING_EVENTS - used >= n && text + 2 * (uint64_t)n * r->text_most <= r->text_size;
}

void pg_ring_push(pg_ring *r, const pg_event *e)
{
    const uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed), at = head % PG_RING_EVENTS;
    uint32_t begin = (uint32_t)(r->text_head % r->text_size);
    if (begin + (uint32_t)e->n_text > r->text_size) {
        r->text_head += r->text_size - begin;
        begin = 0;
    }
    r->event[at] = *e;
    r->event[at].text = r->text + begin;
    if (e->n_text) memcpy(r->text + begin, e->text, (size_t)e->n_text);
    r->text_head += (uint32_t)e->n_text;
    r->text_end[at] = r->text_head;
    if (e->n_logprobs) {
        r->event[at].logprobs = r->logprob + (size_t)at * (size_t)r->n_logprob;
        memcpy(r->logprob + (size_t)at * (size_t)r->n_logprob, e->logprobs,
               (size_t)e->n_logprobs * sizeof *e->logprobs);
    }
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

int pg_ring_waiting(const pg_ring *r)
{
    return (int)(atomic_load_explicit(&r->head, memory_order_acquire) - r->seen);
}

int pg_ring_next(pg_ring *r, pg_event *out)
{
    if (!pg_ring_waiting(r)) return 0;
    *out = r->event[r->seen++ % PG_RING_EVENTS];
    return 1;
}

int pg_ring_release(pg_ring *r)
{
    const uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail == r->seen) return 0;
    atomic_store_explicit(&r->text_tail, r->text_end[(r->seen - 1) % PG_RING_EVENTS], memory_order_release);
    atomic_store_explicit(&r->tail, r->seen, memory_order_release);
    return 1;
}
