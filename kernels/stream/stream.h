/* stream: reads memory and does as little as possible with it, to learn how fast it can be read.
 *
 * stream: the exclusive or of the 64-bit words (as they lie in memory) of n bytes; n is a multiple of 256, p of 64.
 *   walks 1: one walk from front to end; walks 4: four, each through its own quarter of the bytes, side by side.
 *   ahead: bytes in front of a read that are asked for by a prefetch; 0: none. A prefetch never faults.
 *   All variants equal _ref bit for bit.
 * bandwidth.c times it on several threads; what the engine sees of that is in backend.h.
 * Source: McCalpin, Memory Bandwidth and Machine Balance, 1995 (its read-only part). */
#ifndef PG_STREAM_H
#define PG_STREAM_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t pg_stream_fn(const void *p, size_t n, int walks, size_t ahead);

#endif
