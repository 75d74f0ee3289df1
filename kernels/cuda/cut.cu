/* cut.cu: a plan in consecutive stretches, one for each of several devices.
 *
 * Lives here: where a plan may be cut, what the pieces between those places weigh, which of them go together, and what
 * each stretch is. Not here: the devices (split.cu). Nothing here touches one.
 * A place may be cut when one value alone crosses it, the residual stream, beside rotary angles: that is between the blocks
 * of a forward pass. Values keep their places in the arena, so that what crosses is copied from a place to the same place,
 * and an arena reaches as far as the last value that the stretch has to do with.
 * The stretches are those whose fullest device is the least full: pieces are few, so all ways are compared (dynamic
 * programming over pieces and devices). Source: layers over devices in order, as pipeline parallelism has them (Huang et
 * al., GPipe, 2019), without its micro-batches: a step's rows are the batch of every request. */
#include "backend.cuh"

#include <stdio.h>
#include <stdlib.h>

namespace
{
struct plan {
    const pg_code *code;
    const pg_kv *kv;
    int32_t n_page;
    int32_t *begin, *end;               /* [n_value] first and last op that names it; begin < 0: none */
    int32_t *stream_begin, *stream_end; /* [n_stream] */
    int32_t *first;                     /* [n_piece + 1] ops at which pieces begin */
    double *bytes;                      /* [n_piece] */
    int32_t n_piece;
};

void touch(int32_t *begin, int32_t *end, int32_t which, int32_t op)
{
    if (which < 0) return;
    if (begin[which] < 0) begin[which] = op;
    end[which] = op;
}

/* Streams of the KV cache that an op names; returns how many. */
int streams_of(const pg_op *op, int32_t stream[2])
{
    switch (op->code) {
    case PG_OP_STORE: stream[0] = op->a.store.stream; return 1;
    case PG_OP_MLA: stream[0] = op->a.mla.stream; return 1;
    case PG_OP_ATTN:
        stream[0] = op->a.attn.k_stream;
        stream[1] = op->a.attn.v_stream;
        return 2;
    default: return 0;
    }
}

template <class T> T *numbers(int64_t n, int all)
{
    T *x = static_cast<T *>(malloc((size_t)(n + 1) * sizeof *x));
    if (x) memset(x, all, (size_t)(n + 1) * sizeof *x);
    return x;
}

int open_plan(plan *p, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    const int n_stream = kv ? kv->n_stream : 0;
    *p = {};
    p->code = code;
    p->kv = kv;
    p->n_page = n_page;
    p->begin = numbers<int32_t>(code->n_value, -1);
    p->end = numbers<int32_t>(code->n_value, -1);
    p->stream_begin = numbers<int32_t>(n_stream, -1);
    p->stream_end = numbers<int32_t>(n_stream, -1);
    p->first = numbers<int32_t>(code->n_op, 0);
    p->bytes = numbers<double>(code->n_op, 0);
    if (!p->begin || !p->end || !p->stream_begin || !p->stream_end || !p->first || !p->bytes) return -1;
    for (int32_t i = 0; i < code->n_op; i++) {
        const pg_op *op = &code->op[i];
        int32_t stream[2];
        touch(p->begin, p->end, op->dst, i);
        for (const pg_ref r : op->src) touch(p->begin, p->end, r, i);
        for (int k = kv ? streams_of(op, stream) : 0; k-- > 0;) touch(p->stream_begin, p->stream_end, stream[k], i);
    }
    return 0;
}

void close_plan(plan *p)
{
    free(p->begin);
    free(p->end);
    free(p->stream_begin);
    free(p->stream_end);
    free(p->first);
    free(p->bytes);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------- */

bool crosses(const plan *p, pg_ref r, int32_t op) /* the place before that op */
{
    return p->begin[r] >= 0 && p->begin[r] < op && p->end[r] >= op;
}

bool may_cut(const plan *p, int32_t op)
{
    int n = 0;
    for (pg_ref r = 0; r < p->code->n_value; r++)
        n += crosses(p, r, op) && p->code->op[p->begin[r]].code != PG_OP_ANGLES;
    for (int32_t s = 0; p->kv && s < p->kv->n_stream; s++)
        if (p->stream_begin[s] < op && p->stream_end[s] >= op) return false;
    return n == 1;
}

int weigh(plan *p, int32_t piece, char *why, size_t n_why)
{
    const int32_t first = p->first[piece], end = p->first[piece + 1];
    pg_cuda_weights s;
    pg_code code = *p->code;
    code.op += first;
    code.n_op = end - first;
    const int bad = pg_store_list(&s, &code, why, n_why);
    p->bytes[piece] = (double)(s.dense_bytes + s.expert_bytes);
    for (int32_t k = 0; p->kv && k < p->kv->n_stream; k++)
        if (p->stream_begin[k] >= first && p->stream_begin[k] < end)
            p->bytes[piece] += (double)(pg_kv_stream_bytes(&p->kv->stream[k], p->kv->page_tokens) * p->n_page);
    pg_store_free(&s);
    return bad;
}

int find_pieces(plan *p, char *why, size_t n_why)
{
    p->n_piece = 1;
    for (int32_t i = 1; i < p->code->n_op; i++)
        if (may_cut(p, i)) p->first[p->n_piece++] = i;
    p->first[p->n_piece] = p->code->n_op;
    for (int32_t i = 0; i < p->n_piece; i++)
        if (weigh(p, i, why, n_why)) return -1;
    return 0;
}

/* ---- which go together -------------------------------------------------------------------------------------------- */

/* fullest[d][i]: how full the fullest of the first d devices is, when they have the first i pieces. */
int choose(const plan *p, const int64_t *room, int n, int32_t *end)
{
    const int32_t k = p->n_piece, step = k + 1;
    double *fullest = numbers<double>((int64_t)(n + 1) * step, 0);
    int32_t *from = numbers<int32_t>((int64_t)(n + 1) * step, -1);
    if (!fullest || !from) {
        free(fullest);
        free(from);
        return -1;
    }
    for (int d = 0; d <= n; d++)
        for (int32_t i = 0; i <= k; i++) {
            double bytes = 0, *best = &fullest[d * step + i];
            *best = d == 0 && i == 0 ? 0 : HUGE_VAL;
            for (int32_t j = i - 1; d > 0 && j >= 0; j--) { /* pieces j .. i - 1 on the d-th */
                bytes += p->bytes[j];
                const double before = fullest[(d - 1) * step + j],
                             here = bytes / (double)(room[d - 1] > 1 ? room[d - 1] : 1);
                const double all = before > here ? before : here;
                if (all < *best) *best = all, from[d * step + i] = j;
            }
        }
    for (int d = n, i = k; d > 0; i = from[d * step + i], d--) end[d - 1] = i;
    free(fullest);
    free(from);
    return 0;
}

/* ---- a stretch ---------------------------------------------------------------------------------------------------- */

int64_t end_of(const pg_code *code, pg_ref r)
{
    const pg_value *v = &code->value[r];
    return v->offset + (int64_t)v->width * 4 * (v->rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled);
}

int fill(const plan *p, int32_t first, int32_t end, pg_cuda_cut *cut)
{
    const pg_code *code = p->code;
    cut->code = *code;
    cut->code.op += first;
    cut->code.n_op = end - first;
    cut->code.arena_bytes = 0;
    cut->cross = numbers<pg_ref>(code->n_value, 0);
    cut->stream = numbers<pg_kv_stream>(p->kv ? p->kv->n_stream : 0, 0);
    if (!cut->cross || !cut->stream) return -1;
    for (pg_ref r = 0; r < code->n_value; r++) {
        if (p->begin[r] < 0 || p->begin[r] >= end || p->end[r] < first) continue;
        if (end_of(code, r) > cut->code.arena_bytes) cut->code.arena_bytes = end_of(code, r);
        if (crosses(p, r, end)) cut->cross[cut->n_cross++] = r;
    }
    for (int32_t i = 0; i < first; i++) cut->n_hook += code->op[i].code == PG_OP_HOOK;
    if (!p->kv) return 0;
    cut->kv = *p->kv;
    cut->kv.page_bytes = 0;
    cut->kv.stream = cut->stream;
    for (int32_t s = 0; s < p->kv->n_stream; s++) {
        cut->stream[s] = p->kv->stream[s];
        if (p->stream_begin[s] < first || p->stream_begin[s] >= end) continue;
        cut->stream[s].offset = cut->kv.page_bytes;
        cut->kv.page_bytes += pg_kv_stream_bytes(&p->kv->stream[s], p->kv->page_tokens);
    }
    return 0;
}
} // namespace

int pg_cut_make(pg_cuda_cut *cut, int n, const int64_t *room, const pg_code *code, const pg_kv *kv, int32_t n_page,
                char *why, size_t n_why)
{
    plan p;
    int32_t end[PG_DEVICES];
    for (int i = 0; i < n; i++) cut[i] = {};
    snprintf(why, n_why, "no memory for cutting the plan");
    int bad = open_plan(&p, code, kv, n_page) || find_pieces(&p, why, n_why);
    if (!bad && p.n_piece < n) {
        snprintf(why, n_why, "the model can be cut into %d parts, and there are %d devices: name fewer of them",
                 p.n_piece, n);
        bad = 1;
    }
    if (!bad) bad = choose(&p, room, n, end);
    for (int i = 0; i < n && !bad; i++) bad = fill(&p, p.first[i ? end[i - 1] : 0], p.first[end[i]], &cut[i]);
    close_plan(&p);
    return bad ? -1 : 0;
}

void pg_cut_free(pg_cuda_cut *cut, int n)
{
    for (int i = 0; i < n; i++) {
        free(cut[i].cross);
        free(cut[i].stream);
        cut[i] = {};
    }
}
