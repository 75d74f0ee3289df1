/* pages.c: one piece of memory, the device's or an anonymous mapping, a stack of free page numbers, a count for each. */
#include "pages.h"

#include <stdlib.h>
#include <sys/mman.h>

pg_kv pg_pages_lay_out(pg_kv_stream *stream, int n_stream, pg_dtype dtype)
{
    const int block = pg_dtype_get(dtype)->block;
    int64_t at = 0;
    for (int i = 0; i < n_stream; i++) {
        stream[i].row_bytes = (int32_t)pg_dtype_bytes(dtype, (stream[i].width + block - 1) / block * block);
        stream[i].offset = at;
        at += pg_kv_stream_bytes(&stream[i], PG_PAGE_TOKENS);
    }
    return (pg_kv){
        .page_bytes = at, .page_tokens = PG_PAGE_TOKENS, .n_stream = n_stream, .dtype = dtype, .stream = stream
    };
}

static char *map(size_t bytes)
{
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    madvise(base, bytes, MADV_HUGEPAGE); /* read from end to end by every step */
    return base;
}

int pg_pages_open(pg_pages *p, pg_backend *b, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    *p = (pg_pages){ .kv = *kv, .n_page = n_page, .n_free = n_page, .bytes = kv->page_bytes * n_page };
    p->free_page = malloc((size_t)n_page * sizeof *p->free_page);
    p->count = calloc((size_t)n_page, sizeof *p->count);
    p->mapped = !b || !b->ops->take;
    p->kv.base = p->mapped ? map((size_t)p->bytes) : b->ops->take(b, code, kv, n_page);
    if (!p->free_page || !p->count || !p->kv.base) {
        pg_pages_close(p);
        return -1;
    }
    for (int32_t i = 0; i < n_page; i++) p->free_page[i] = n_page - 1 - i;
    return 0;
}

void pg_pages_close(pg_pages *p)
{
    if (p->kv.base && p->mapped) munmap(p->kv.base, (size_t)p->bytes);
    free(p->free_page);
    free(p->count);
    *p = (pg_pages){ 0 };
}

int32_t pg_pages_take(pg_pages *p)
{
    if (!p->n_free) return -1;
    const int32_t page = p->free_page[--p->n_free];
    p->count[page] = 1;
    return page;
}

void pg_pages_hold(pg_pages *p, int32_t page)
{
    p->count[page]++;
}

void pg_pages_drop(pg_pages *p, int32_t page)
{
    if (--p->count[page] == 0) p->free_page[p->n_free++] = page;
}
