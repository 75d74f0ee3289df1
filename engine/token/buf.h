/* buf: bytes and ids that grow. Every function that may allocate says false when memory is short and leaves the buffer
 * as it was. */
#ifndef PG_BUF_H
#define PG_BUF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct pg_buf {
    char *data;
    size_t n, room;
} pg_buf;

typedef struct pg_ids {
    int32_t *data;
    size_t n, room;
} pg_ids;

/* Room for `more` items of `size` bytes behind the n that *data has. */
static inline bool pg_grow(void **data, size_t n, size_t *room, size_t more, size_t size)
{
    if (more <= *room - n) return true;
    if (more > SIZE_MAX / 4 / size - n) return false;
    size_t want = n + more, next = *room + *room / 2;
    if (next < want) next = want < 16 ? 16 : want;
    void *bigger = realloc(*data, next * size);
    if (!bigger) return false;
    *data = bigger;
    *room = next;
    return true;
}

static inline bool pg_buf_room(pg_buf *b, size_t more)
{
    void *data = b->data;
    bool fine = pg_grow(&data, b->n, &b->room, more, 1);
    b->data = data;
    return fine;
}

static inline bool pg_buf_add(pg_buf *b, const char *s, size_t n)
{
    if (!pg_buf_room(b, n)) return false;
    if (n) memcpy(b->data + b->n, s, n);
    b->n += n;
    return true;
}

static inline bool pg_buf_put(pg_buf *b, const char *s)
{
    return pg_buf_add(b, s, strlen(s));
}

static inline bool pg_ids_add(pg_ids *b, int32_t id)
{
    void *data = b->data;
    bool fine = pg_grow(&data, b->n, &b->room, 1, sizeof *b->data);
    b->data = data;
    if (fine) b->data[b->n++] = id;
    return fine;
}

#endif
