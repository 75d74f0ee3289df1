/* attn_cpu.c: causal attention over the paged cache, and the store that fills it.
 *
 * One pass over the pages with a running maximum and sum, page borders being absolute positions: a row's arithmetic
 * depends on its own position and on nothing else. A tile of neighbouring rows and the heads that share a kv head use
 * one unpacked copy of each page. MLA's absorbed form is the same op: one kv head as wide as latent + rope, whose first
 * columns are the value.
 * Sources: online softmax, Milakov, Gimelshein 2018; paged cache, Kwon et al., PagedAttention, 2023; attention sinks as
 * a logit without a value, OpenAI gpt-oss; absorbed MLA, DeepSeek-V2 (arXiv 2405.04434). */
#include "attn.h"
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

#include <math.h>

enum { TILE = 16, HEADS = 16 }; /* rows and heads that share an unpacked page, at most */

typedef struct job {
    pg_cpu *c;
    const pg_op *op;
    const float *q; /* [T, H * dk] */
    float *y;       /* [T, H * dv] */
    const pg_kv_stream *ks, *vs;
    int n_tile, head_parts, heads_part; /* tiles of rows; parts of the heads of a kv head, heads in one */
} job;

/* Running state of one (row, head). */
typedef struct state {
    float top, sum; /* largest score so far; sum of exp(score - top) */
} state;

static const char *page_at(const pg_kv *kv, const pg_kv_stream *s, int32_t page)
{
    return kv->base + (int64_t)page * kv->page_bytes + s->offset;
}

/* n positions of a page, columns [col, col + width) of a stream, as f32 [n, width]. */
static void unpack_page(const pg_kv *kv, const pg_kv_stream *s, int32_t page, int n, int col, int width, float *out)
{
    const char *at = page_at(kv, s, page);
    const pg_dtype_info *info = pg_dtype_get(kv->dtype);
    pg_unpack_fn *unpack = pg_unpack_of(kv->dtype);
    const int lead = col % info->block; /* a block format may have to begin earlier */
    if (info->block == 1) {
        for (int t = 0; t < n; t++)
            unpack(out + (int64_t)t * width, at + (int64_t)t * s->row_bytes + (int64_t)col * info->bytes, width);
        return;
    }
    float block[32];
    for (int t = 0; t < n; t++) {
        const char *row = at + (int64_t)t * s->row_bytes + (int64_t)(col / info->block) * info->bytes;
        for (int i = -lead; i < width; i += info->block, row += info->bytes) {
            unpack(block, row, info->block);
            const int from = i < 0 ? -i : 0, to = width - i < info->block ? width - i : info->block;
            memcpy(out + (int64_t)t * width + i + from, block + from, (size_t)(to - from) * sizeof(float));
        }
    }
}

/* Meet n keys (positions from t0) of an unpacked page with one query: update state and output. */
static void meet(const pg_op *op, state *st, float *y, const float *q, const float *k, const float *v, int n)
{
    float s[PG_PAGE_MOST];
    const int dk = op->a.attn.dk, dv = op->a.attn.dv;
    float top = st->top;
    for (int t = 0; t < n; t++) {
        s[t] = op->a.attn.scale * pg_fdot(q, k + (int64_t)t * dk, dk);
        if (op->a.attn.softcap > 0) s[t] = op->a.attn.softcap * tanhf(s[t] / op->a.attn.softcap);
        if (s[t] > top) top = s[t];
    }
    const float keep = st->top == top ? 1.0f : expf(st->top - top);
    st->sum = st->sum * keep + pg_expsum(s, top, n);
    st->top = top;
    pg_wsum(y, keep, s, v, dv, n, dv);
}

/* Rows of a tile: neighbours in one sequence. Returns the row after it. */
static int tile_end(const pg_rows *rows, int r)
{
    int end = r + 1;
    while (end < rows->n && end - r < TILE && rows->seq[end] == rows->seq[r] && end != rows->n_prefill) end++;
    return end;
}

static int tile_start(const pg_rows *rows, int tile)
{
    int r = 0;
    for (; tile > 0; tile--) r = tile_end(rows, r);
    return r;
}

static void attend_tile(const job *j, int r0, int r1, int g, int h0, int n_head, float *mem)
{
    const pg_op *op = j->op;
    const pg_rows *rows = j->c->rows;
    const pg_kv *kv = j->c->kv;
    const int dk = op->a.attn.dk, dv = op->a.attn.dv, H = op->a.attn.heads, P = kv->page_tokens;
    const int32_t *pages = rows->pages[rows->seq[r0]];
    const int first =
        op->a.attn.window && rows->pos[r0] >= op->a.attn.window ? rows->pos[r0] - op->a.attn.window + 1 : 0;
    float *k = mem, *v = mem + (int64_t)P * dk;
    state st[TILE * HEADS];
    for (int i = 0; i < (r1 - r0) * n_head; i++) {
        const int h = h0 + i % n_head;
        st[i] = op->v ? (state){ op->v[h], 1.0f } : (state){ -INFINITY, 0.0f };
        memset(j->y + ((int64_t)(r0 + i / n_head) * H + h) * dv, 0, (size_t)dv * sizeof(float));
    }
    for (int p = first / P; p <= rows->pos[r1 - 1] / P; p++) {
        const int n = rows->pos[r1 - 1] - p * P + 1 < P ? rows->pos[r1 - 1] - p * P + 1 : P;
        unpack_page(kv, j->ks, pages[p], n, g * dk, dk, k);
        unpack_page(kv, j->vs, pages[p], n, g * dv, dv, v);
        for (int r = r0; r < r1; r++) {
            const int pos = rows->pos[r];
            const int to = pos - p * P + 1 < n ? pos - p * P + 1 : n;
            int from = op->a.attn.window ? pos - op->a.attn.window + 1 - p * P : 0;
            if (from < 0) from = 0;
            if (from >= to) continue;
            for (int h = 0; h < n_head; h++)
                meet(op, &st[(r - r0) * n_head + h], j->y + ((int64_t)r * H + h0 + h) * dv,
                     j->q + ((int64_t)r * H + h0 + h) * dk, k + (int64_t)from * dk, v + (int64_t)from * dv, to - from);
        }
    }
    for (int i = 0; i < (r1 - r0) * n_head; i++) {
        float *y = j->y + ((int64_t)(r0 + i / n_head) * H + h0 + i % n_head) * dv;
        for (int d = 0; d < dv; d++) y[d] /= st[i].sum;
    }
}

static void attend(void *arg, int item, int lane)
{
    const job *j = arg;
    const pg_op *op = j->op;
    const int shared = op->a.attn.heads / op->a.attn.kv_heads; /* heads that share a kv head */
    const int part = item % j->head_parts, g = item / j->head_parts % op->a.attn.kv_heads;
    const int tile = item / j->head_parts / op->a.attn.kv_heads;
    const int h = part * j->heads_part, n = shared - h < j->heads_part ? shared - h : j->heads_part;
    const int r0 = tile_start(j->c->rows, tile);
    attend_tile(j, r0, tile_end(j->c->rows, r0), g, g * shared + h, n, (float *)pg_cpu_lane(j->c, lane));
}

void pg_cpu_attn(pg_cpu *c, const pg_op *op)
{
    job j = { .c = c,
              .op = op,
              .q = pg_cpu_rows(c, op->src[0]),
              .y = pg_cpu_rows(c, op->dst),
              .ks = &c->kv->stream[op->a.attn.k_stream],
              .vs = &c->kv->stream[op->a.attn.v_stream] };
    for (int r = 0; r < c->rows->n; r = tile_end(c->rows, r)) j.n_tile++;
    const int shared = op->a.attn.heads / op->a.attn.kv_heads;
    j.heads_part = shared < HEADS ? shared : HEADS;
    /* a lone row has few kv heads to share out: split the query heads then, which costs unpacking but no bits */
    while (j.heads_part > 1 &&
           j.n_tile * op->a.attn.kv_heads * ((shared + j.heads_part - 1) / j.heads_part) < c->n_lane)
        j.heads_part = (j.heads_part + 1) / 2;
    j.head_parts = (shared + j.heads_part - 1) / j.heads_part;
    pg_lanes_run(c->lanes, attend, &j, j.n_tile * op->a.attn.kv_heads * j.head_parts);
}

pg_need pg_attn_need(const pg_code *code, const pg_op *op)
{
    (void)code;
    return (pg_need){ .lane = PG_PAGE_MOST * (int64_t)(op->a.attn.dk + op->a.attn.dv) * (int64_t)sizeof(float) };
}

/* ---- store -------------------------------------------------------------------------------------------------------- */

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
    const float *from = j->q + (int64_t)r * pg_cpu_width(j->c, op->src[0]);
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
    job j = { .c = c, .op = op, .q = pg_cpu_rows(c, op->src[0]) };
    pg_lanes_run(c->lanes, store_row, &j, c->rows->n);
}
