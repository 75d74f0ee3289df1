/* weights.cu: the weights of a plan in device memory.
 *
 * Lives here: which tensors and vectors a plan reads, where each of them goes, and the way there: rows are gathered by
 * the host's threads into one of two pinned buffers while the other one crosses the bus and is cut into planes.
 * Not here: what planes are (planes.cu), memory for values (backend.cu).
 * Everything but experts must fit into device memory. Experts that do not are kept in pinned host memory, as planes like
 * the others, and read over the bus by the kernels that need them: a token visits few of them, so this costs the time of
 * a few matrices, not of all. */
#include "backend.cuh"
extern "C" {
#include "../lanes.h"
#include "../unpack/panel.h"
#include "../unpack/unpack.h"
}

#include <stdio.h>
#include <stdlib.h>

/* ---- what a plan reads -------------------------------------------------------------------------------------------- */

static pg_tensor matrix_at(const pg_cuda_stored *s, int64_t i)
{
    return s->n_view > 1 ? s->view[i] : pg_tensor_slice(s->view, i);
}

/* Factors of FP8 that do not begin with the matrix cannot be kept as a plane of it. */
static int is_cut_inside(const pg_cuda_stored *s)
{
    for (int32_t i = 0; i < s->w.count; i++)
        if (matrix_at(s, i).row0 % 128) return 1;
    return 0;
}

static int is_same(const pg_tensor *a, const pg_tensor *b)
{
    return a->data == b->data && a->dtype == b->dtype && a->packed == b->packed && a->shape[0] == b->shape[0] &&
           a->shape[1] == b->shape[1] && a->shape[2] == b->shape[2] && a->stride[1] == b->stride[1] &&
           a->stride[2] == b->stride[2];
}

/* Two may name the same matrix, as a head that multiplies by the embedding does. */
static int add_matrices(pg_cuda_weights *s, const pg_tensor *t, int32_t n_view, int expert, char *why, size_t n_why)
{
    if (!t) return 0;
    pg_cuda_name *name = &s->name[s->n_name++];
    *name = { t, 0 };
    for (; name->which < s->n_stored; name->which++) {
        const pg_cuda_stored *o = &s->stored[name->which];
        if (o->n_view == n_view && is_same(o->view, t)) return 0;
    }
    pg_cuda_stored *o = &s->stored[s->n_stored++];
    *o = {};
    o->view = t;
    o->n_view = n_view;
    o->expert = expert;
    o->w.count = n_view > 1 ? n_view : (int32_t)t->shape[2];
    for (int32_t i = 1; i < n_view; i++)
        if (t[i].dtype != t->dtype || t[i].shape[0] != t->shape[0] || t[i].shape[1] != t->shape[1]) {
            snprintf(why, n_why,
                     "experts of one layer that are stored in different formats or sizes do not run on this "
                     "device: quantise them alike, or take device \"cpu\"");
            return -1;
        }
    o->as_f32 = t->dtype == PG_FP8 && is_cut_inside(o);
    o->w.at = pg_planes_lay_out(o->as_f32 ? PG_F32 : t->dtype, t->shape[0], t->shape[1]);
    if (!o->w.at.n_plane) {
        snprintf(why, n_why, "weights of format %s do not run on this device: take device \"cpu\"",
                 pg_dtype_get(t->dtype)->name);
        return -1;
    }
    s->n_matrix += o->w.count;
    *(expert ? &s->expert_bytes : &s->dense_bytes) += o->w.at.bytes * o->w.count;
    return 0;
}

static void add_vector(pg_cuda_weights *s, const float *v, int64_t n)
{
    int32_t i = 0;
    if (!v) return;
    while (i < s->n_vector && s->vector[i].v != v) i++;
    if (i == s->n_vector) s->vector[s->n_vector++] = { v, 0, 0 };
    if (s->vector[i].n < n) s->vector[i].n = n;
}

static int add_op(pg_cuda_weights *s, const pg_op *op, char *why, size_t n)
{
    if (add_matrices(s, op->w, 1, 0, why, n)) return -1;
    switch (op->code) {
    case PG_OP_NORM: add_vector(s, op->v, op->a.norm.n); break;
    case PG_OP_ANGLES: add_vector(s, op->v, op->a.angles.n); break;
    case PG_OP_ATTN: add_vector(s, op->v, op->a.attn.heads); break;
    case PG_OP_MATMUL: add_vector(s, op->v, op->w->shape[!op->a.matmul.transposed] * op->a.matmul.batch); break;
    case PG_OP_ROUTE: add_vector(s, op->a.route.router->bias, op->a.route.router->n_expert); break;
    case PG_OP_EXPERTS: {
        const pg_experts *e = op->a.experts.experts;
        const pg_tensor *const part[] = { e->gate, e->up, e->down };
        for (const pg_tensor *t : part)
            if (add_matrices(s, t, e->n_expert, 1, why, n)) return -1;
        add_vector(s, e->gate_bias, (int64_t)e->n_expert * e->n_ff);
        add_vector(s, e->up_bias, (int64_t)e->n_expert * e->n_ff);
        add_vector(s, e->down_bias, (int64_t)e->n_expert * e->n_embd);
        break;
    }
    default: break;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t) static_cast<const pg_cuda_name *>(a)->t;
    const uintptr_t y = (uintptr_t) static_cast<const pg_cuda_name *>(b)->t;
    return (x > y) - (x < y);
}

static int by_address(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t) static_cast<const pg_cuda_vector *>(a)->v;
    const uintptr_t y = (uintptr_t) static_cast<const pg_cuda_vector *>(b)->v;
    return (x > y) - (x < y);
}

template <class T> static T *zeroed(size_t n)
{
    return static_cast<T *>(calloc(n + 1, sizeof(T)));
}

int pg_store_list(pg_cuda_weights *s, const pg_code *code, char *why, size_t n)
{
    const size_t most = 3 * (size_t)code->n_op;
    *s = {};
    s->stored = zeroed<pg_cuda_stored>(most);
    s->name = zeroed<pg_cuda_name>(most);
    s->vector = zeroed<pg_cuda_vector>(most);
    if (!s->stored || !s->name || !s->vector) {
        snprintf(why, n, "no memory for the list of weights");
        return -1;
    }
    for (int32_t i = 0; i < code->n_op; i++)
        if (add_op(s, &code->op[i], why, n)) return -1;
    qsort(s->name, (size_t)s->n_name, sizeof *s->name, by_name);
    qsort(s->vector, (size_t)s->n_vector, sizeof *s->vector, by_address);
    for (pg_cuda_vector *v = s->vector; v < s->vector + s->n_vector; v++) {
        v->at = s->vector_bytes;
        s->vector_bytes = pg_cuda_up(s->vector_bytes + v->n * (int64_t)sizeof(float));
    }
    s->dense_bytes += s->vector_bytes + pg_cuda_up(s->n_matrix * (int64_t)sizeof *s->base);
    return 0;
}

/* ---- where it goes ------------------------------------------------------------------------------------------------ */

int64_t pg_store_place(pg_cuda_weights *s, int64_t room)
{
    int64_t left = room - s->dense_bytes;
    int32_t base_at = 0;
    s->near_bytes = s->vector_bytes + pg_cuda_up(s->n_matrix * (int64_t)sizeof *s->base);
    s->far_bytes = 0;
    for (pg_cuda_stored *o = s->stored; o < s->stored + s->n_stored; o++) {
        const int64_t fit = o->expert ? left < 0 ? 0 : left / o->w.at.bytes : o->w.count;
        o->near = fit < o->w.count ? (int32_t)fit : o->w.count;
        if (o->expert) left -= o->near * o->w.at.bytes;
        o->near_at = s->near_bytes;
        o->far_at = s->far_bytes;
        o->base_at = base_at;
        s->near_bytes += o->near * o->w.at.bytes;
        s->far_bytes += (o->w.count - o->near) * o->w.at.bytes;
        base_at += o->w.count;
    }
    return room < s->dense_bytes ? s->dense_bytes - room : 0;
}

static unsigned char *place_of(const pg_cuda_weights *s, const pg_cuda_stored *o, int32_t i)
{
    return i < o->near ? s->near + o->near_at + i * o->w.at.bytes
                       : s->far + o->far_at + (int64_t)(i - o->near) * o->w.at.bytes;
}

int pg_store_take(pg_cuda_weights *s, pg_cuda *c)
{
    const unsigned char **base = zeroed<const unsigned char *>((size_t)s->n_matrix);
    if (!base) return pg_cuda_try(c, cudaErrorMemoryAllocation, "the table of weights");
    int bad = pg_cuda_try(c, cudaMalloc(&s->near, (size_t)s->near_bytes), "memory for weights");
    if (!bad && s->far_bytes) {
        bad = pg_cuda_try(c, cudaHostAlloc(&s->far, (size_t)s->far_bytes, cudaHostAllocMapped | cudaHostAllocPortable),
                          "pinned host memory for experts that do not fit the device");
        if (bad) s->far = NULL;
    }
    if (!bad) {
        s->vectors = reinterpret_cast<char *>(s->near);
        s->base = reinterpret_cast<const unsigned char **>(s->near + s->vector_bytes);
        for (pg_cuda_stored *o = s->stored; o < s->stored + s->n_stored; o++) {
            for (int32_t i = 0; i < o->w.count; i++) base[o->base_at + i] = place_of(s, o, i);
            o->w.base = s->base + o->base_at;
            o->w.first = base[o->base_at];
            o->w.all_near = o->near == o->w.count;
        }
        bad = pg_cuda_try(c, cudaMemcpy(s->base, base, (size_t)s->n_matrix * sizeof *base, cudaMemcpyHostToDevice),
                          "copying the table of weights");
    }
    free(base);
    return bad ? -1 : 0;
}

void pg_store_free(pg_cuda_weights *s)
{
    cudaFree(s->near);
    if (s->far) cudaFreeHost(s->far);
    free(s->stored);
    free(s->name);
    free(s->vector);
    *s = {};
}

const pg_cuda_weight *pg_cuda_weight_of(const pg_cuda *c, const pg_tensor *t)
{
    const pg_cuda_weights *s = &pg_cuda_whole(c)->store;
    const pg_cuda_name key = { t, 0 };
    const void *found = bsearch(&key, s->name, (size_t)s->n_name, sizeof key, by_name);
    return found ? &s->stored[static_cast<const pg_cuda_name *>(found)->which].w : NULL;
}

const float *pg_cuda_vector_of(const pg_cuda *c, const float *v)
{
    const pg_cuda_weights *s = &pg_cuda_whole(c)->store;
    const pg_cuda_vector key = { v, 0, 0 };
    const void *found = v ? bsearch(&key, s->vector, (size_t)s->n_vector, sizeof key, by_address) : NULL;
    return found ? reinterpret_cast<const float *>(s->vectors + static_cast<const pg_cuda_vector *>(found)->at) : NULL;
}

/* ---- the way there ------------------------------------------------------------------------------------------------ */

enum { LEAST = 16 << 20, ITEM_ROWS = PG_PANEL }; /* bytes of a buffer, unless rows are huge; a lane's part of one */

struct slot {
    char *host, *device;
    cudaEvent_t free; /* what was in it has arrived */
};

struct loading {
    pg_cuda_backend *b;
    const pg_loader *who;
    slot slots[2];
    int64_t bytes; /* of a buffer */
    int turn;
    double done, total;
};

/* Rows of a matrix that go into a buffer, in their stored order. */
struct gathered {
    const pg_tensor *w;
    char *to;
    int64_t row, n, row_bytes;
    int as_f32;
};

static void gather_rows(void *arg, int item, int lane)
{
    (void)lane;
    const gathered *g = static_cast<const gathered *>(arg);
    const pg_dtype_info *info = pg_dtype_get(g->w->dtype);
    const int64_t end = (item + 1) * (int64_t)ITEM_ROWS < g->n ? (item + 1) * (int64_t)ITEM_ROWS : g->n;
    for (int64_t i = item * (int64_t)ITEM_ROWS; i < end; i++) {
        char *to = g->to + i * g->row_bytes;
        if (g->as_f32)
            pg_unpack_row(reinterpret_cast<float *>(to), g->w, g->row + i, 0, g->w->shape[0]);
        else if (!g->w->packed)
            memcpy(to, pg_tensor_row(g->w, g->row + i), (size_t)g->row_bytes);
        else
            for (int64_t k = 0; k < g->w->shape[0] / info->block; k++)
                pg_panel_block(to + k * info->bytes, g->w, g->row + i, k);
    }
}

/* The buffer whose turn it is, once the device is done with it. NULL and c->error. */
static slot *next_slot(loading *l)
{
    slot *s = &l->slots[l->turn ^= 1];
    return pg_cuda_try(&l->b->c, cudaEventSynchronize(s->free), "copying weights") ? NULL : s;
}

static int tell(loading *l, const void *at, int64_t bytes)
{
    return l->who && l->who->want && l->who->want(l->who->ud, at, bytes, l->done, l->total) < 0;
}

/* Rows from `row` on, as many as fit a buffer; returns how many, 0: stopped, -1: c->error. */
static int64_t load_rows(loading *l, const pg_cuda_stored *o, const pg_tensor *w, unsigned char *to, int64_t row)
{
    pg_cuda *c = &l->b->c;
    const pg_planes *p = &o->w.at;
    const int64_t row_bytes = (int64_t)pg_dtype_bytes(p->dtype, p->k), blocks = p->k / pg_dtype_get(p->dtype)->block;
    int64_t n = l->bytes / row_bytes / ITEM_ROWS * ITEM_ROWS;
    if (n > p->n - row) n = p->n - row;
    const int64_t stored = w->packed ? (n + PG_PANEL - 1) / PG_PANEL * PG_PANEL : n;
    if (tell(l, static_cast<const char *>(w->data) + row * w->stride[1],
             (stored - 1) * w->stride[1] + (int64_t)pg_dtype_bytes(w->dtype, w->shape[0])))
        return 0;
    slot *s = next_slot(l);
    if (!s) return -1;
    gathered g = { w, s->host, row, n, row_bytes, o->as_f32 };
    pg_lanes_run(l->b->lanes, gather_rows, &g, (int)((n + ITEM_ROWS - 1) / ITEM_ROWS));
    const int whole = p->n_plane == 1 || p->dtype == PG_FP8; /* stands as it is stored */
    void *at = whole ? static_cast<void *>(to + row * row_bytes) : s->device;
    int bad = pg_cuda_try(c, cudaMemcpyAsync(at, s->host, (size_t)(n * row_bytes), cudaMemcpyDefault, l->b->copy),
                          "copying weights");
    if (!bad && !whole) {
        pg_planes_cut(l->b->copy, p, to, row * blocks, n * blocks, s->device);
        bad = pg_cuda_try(c, cudaGetLastError(), "cutting weights into planes");
    }
    if (!bad) bad = pg_cuda_try(c, cudaEventRecord(s->free, l->b->copy), "copying weights");
    l->done += (double)(n * row_bytes);
    return bad ? -1 : n;
}

/* The factors of an FP8 matrix. */
static int load_factors(loading *l, const pg_cuda_stored *o, const pg_tensor *w, unsigned char *to)
{
    const int64_t rows = (o->w.at.n + 127) / 128, cols = (o->w.at.k + 127) / 128;
    for (int64_t r = 0, n; r < rows; r += n) {
        slot *s = next_slot(l);
        if (!s) return -1;
        n = l->bytes / (cols * 4) < rows - r ? l->bytes / (cols * 4) : rows - r;
        for (int64_t i = 0; i < n; i++)
            memcpy(s->host + i * cols * 4, w->scale + (w->row0 / 128 + r + i) * w->scale_stride, (size_t)cols * 4);
        if (pg_cuda_try(&l->b->c,
                        cudaMemcpyAsync(to + o->w.at.plane[1] + r * cols * 4, s->host, (size_t)(n * cols * 4),
                                        cudaMemcpyDefault, l->b->copy),
                        "copying factors") ||
            pg_cuda_try(&l->b->c, cudaEventRecord(s->free, l->b->copy), "copying factors"))
            return -1;
    }
    return 0;
}

/* 0, 1: stopped, -1. */
static int load_matrices(loading *l, const pg_cuda_stored *o)
{
    for (int32_t i = 0; i < o->w.count; i++) {
        const pg_tensor w = matrix_at(o, i);
        unsigned char *to = place_of(&l->b->store, o, i);
        for (int64_t row = 0, n; row < w.shape[1]; row += n)
            if ((n = load_rows(l, o, &w, to, row)) <= 0) return n ? -1 : 1;
        if (o->w.at.dtype == PG_FP8 && load_factors(l, o, &w, to)) return -1;
    }
    return 0;
}

static int load_vectors(loading *l)
{
    const pg_cuda_weights *s = &l->b->store;
    char *all = zeroed<char>((size_t)s->vector_bytes);
    if (!all) return pg_cuda_try(&l->b->c, cudaErrorMemoryAllocation, "vectors");
    for (const pg_cuda_vector *v = s->vector; v < s->vector + s->n_vector; v++)
        memcpy(all + v->at, v->v, (size_t)v->n * sizeof(float));
    const int bad = pg_cuda_try(&l->b->c, cudaMemcpy(s->vectors, all, (size_t)s->vector_bytes, cudaMemcpyHostToDevice),
                                "copying vectors");
    free(all);
    return bad ? -1 : 0;
}

/* Buffers hold the rows of a panel at least. */
static int open_buffers(loading *l)
{
    pg_cuda *c = &l->b->c;
    l->bytes = LEAST;
    for (const pg_cuda_stored *o = l->b->store.stored; o < l->b->store.stored + l->b->store.n_stored; o++) {
        const int64_t bytes = ITEM_ROWS * (int64_t)pg_dtype_bytes(o->w.at.dtype, o->w.at.k);
        if (bytes > l->bytes) l->bytes = bytes;
        l->total += (double)pg_dtype_bytes(o->w.at.dtype, o->w.at.k) * (double)o->w.at.n * o->w.count;
    }
    for (slot &s : l->slots)
        if (pg_cuda_try(c, cudaHostAlloc(&s.host, (size_t)l->bytes, cudaHostAllocDefault), "pinned host memory") ||
            pg_cuda_try(c, cudaMalloc(&s.device, (size_t)l->bytes), "memory for copying weights") ||
            pg_cuda_try(c, cudaEventCreateWithFlags(&s.free, cudaEventDisableTiming), "an event") ||
            pg_cuda_try(c, cudaEventRecord(s.free, l->b->copy), "an event"))
            return -1;
    return 0;
}

static void close_buffers(loading *l)
{
    for (slot &s : l->slots) {
        if (s.free) cudaEventDestroy(s.free);
        cudaFree(s.device);
        if (s.host) cudaFreeHost(s.host);
    }
}

int pg_store_load(pg_cuda_backend *b, const pg_loader *who)
{
    loading l = {};
    l.b = b;
    l.who = who;
    int rc = open_buffers(&l) ? -1 : load_vectors(&l);
    for (int32_t i = 0; rc == 0 && i < b->store.n_stored; i++) rc = load_matrices(&l, &b->store.stored[i]);
    /* of the whole device: what was copied out of pageable memory, or set, may be on its way still, and steps run on a
     * stream that does not wait for the default one */
    if (pg_cuda_try(&b->c, cudaDeviceSynchronize(), "copying weights")) rc = -1;
    close_buffers(&l);
    return rc;
}
