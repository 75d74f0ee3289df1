/* pages: the KV cache's memory: a pool of counted pages, each holding page_tokens positions of every layer's streams.
 * Owned by the engine thread; nothing here locks. Source: paged KV cache, Kwon et al., PagedAttention, 2023. */
#ifndef PG_PAGES_H
#define PG_PAGES_H

#include "../../kernels/backend.h"

enum { PG_PAGE_TOKENS = 32 };

typedef struct pg_pages {
    pg_kv kv;
    int32_t n_page, n_free;
    int32_t *free_page; /* [n_page] stack of free ones */
    int32_t *count;     /* [n_page] holders */
    int64_t bytes;
    int mapped; /* memory of its own; else the device's, which frees it */
} pg_pages;

/* Set the streams' offsets and row sizes for a cache format; returns a cache of such pages that has no memory yet, and
 * borrows the streams. */
pg_kv pg_pages_lay_out(pg_kv_stream *stream, int n_stream, pg_dtype dtype);

/* A pool of n_page pages as kv lays them out, in the memory of b, which is to run code, or (b NULL, or without any of its
 * own) the host's. 0, or -1: no memory. */
int pg_pages_open(pg_pages *p, pg_backend *b, const pg_code *code, const pg_kv *kv, int32_t n_page);
void pg_pages_close(pg_pages *p);

/* A free page, counted once, or -1; count one holder more; give one holder's count back. */
int32_t pg_pages_take(pg_pages *p);
void pg_pages_hold(pg_pages *p, int32_t page);
void pg_pages_drop(pg_pages *p, int32_t page);

#endif
