/* store_cpu.c: a row of keys, values or latents into its place in the paged cache, in the cache's format. */
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

typedef struct job {
    pg_cpu *c;
    const pg_op *op;
    const float *x; /* [T, width of the value] */
} job;

static void store_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const pg_op *op = j->op;
    const pg_kv *kv = j->c->kv;
    const pg_rows *rows = j->c->rows;
    const pg_kv_stream *s = &kv->stream[op->a.store.stream];
    const int32_t page = rows->pages[rows->seq[r]][rows->pos[r] / kv->page_tokens];
    char *to = kv->base + (int64_t)page * kv->page_bytes + s->offset +
               (int64_t)(rows->pos[r] % kv->page_tokens) * s->row_bytes;
    const float *from = j->x + (int64_t)r * pg_cpu_width(j->c, op->src[0]);
    pg_pack_fn *pack = pg_pack_of(kv->dtype);
    const int block = pg_dtype_get(kv->dtype)->block, whole = op->a.store.n / block * block;
    pack(to, from, whole);
    if (whole == op->a.store.n) return;
    float rest[32] = { 0 }; /* a block format's last block is filled up with zeros */
    memcpy(rest, from + whole, (size_t)(op->a.store.n - whole) * sizeof(float));
    pack(to + pg_dtype_bytes(kv->dtype, whole), rest, block);
}

void pg_cpu_store(pg_cpu *c, const pg_op *op)
{
    job j = { .c = c, .op = op, .x = pg_cpu_rows(c, op->src[0]) };
    pg_cpu_each(c, store_row, &j, c->rows->n, 8 * (int64_t)op->a.store.n);
}
