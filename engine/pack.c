/* pack.c: loading weights.
 *
 * Lives here: which weights are packed (all that plans multiply by as 8-bit integers), the memory for them, and one pass
 * over the files in their own order: bytes are brought in, packed on their way or left in the mapping, and the pages of
 * what was packed are given back.
 * Not here: the layout of a panel (kernels/unpack), pages of files (load/file.c), what slots mean (model.c).
 * Why so: the disk reads ahead while all threads pack what has arrived, so that loading takes as long as the slower of
 * the two, and no weight is in memory twice for longer than it takes to pack its tensor. */
#include "pack.h"

#include "../kernels/lanes.h"
#include "../kernels/unpack/panel.h"
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Bytes that a thread reads at a time (two huge pages, so that threads rarely meet in one), what of them is used; bytes
 * that are read ahead; bytes that should be free beside those to come, some tensors and what the system wants. */
#define BUFFER ((size_t)4 << 20)
#define ITEM (BUFFER - 2 * PG_READ_ALIGN)
#define AHEAD ((size_t)128 << 20)
#define SPARE 1e9

/* A piece of memory that views point into: a tensor of the file, or memory that the model owns. */
typedef struct region {
    const char *at;
    size_t n;
    size_t packed;  /* bytes of it that are packed */
    int owned;      /* memory of the model's own */
    int rows;       /* an embedding: it is in the mapping, and single rows are read from there */
    int32_t n_item; /* that pack some of it */
    _Atomic int32_t left;
} region;

/* One view to be packed. */
typedef struct job {
    pg_tensor *view; /* to be replaced */
    pg_tensor from;  /* as it was */
    region *in;
    size_t to; /* offset of the packed one */
} job;

/* What one thread does at a time: panels of a job, or (job NULL) bytes that stay as they are. */
typedef struct item {
    const char *at;
    size_t n, before; /* bytes of the source; of all items before this one */
    region *in;
    const job *job;
    int64_t panel, n_panel; /* counted through all matrices of a stack */
} item;

struct pg_pack {
    region *region;
    job *job;
    item *item;
    int n_region, n_job, n_item;
    double own, stored;
    size_t total; /* bytes of the source in all items */
    char *memory;
    size_t size; /* bytes of memory */
};

/* ---- regions ------------------------------------------------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
    const region *x = a, *y = b;
    return ((uintptr_t)x->at > (uintptr_t)y->at) - ((uintptr_t)x->at < (uintptr_t)y->at);
}

static int list_regions(pg_pack *p, const pg_model *m)
{
    const int n_tensor = pg_source_n_tensor(m->source);
    size_t n = 1 + (size_t)n_tensor;
    for (const pg_owned *o = m->owned; o; o = o->next) n++;
    p->region = calloc(n, sizeof *p->region);
    if (!p->region) return 0;
    for (int i = 0; i < n_tensor; i++) {
        const pg_tensor *t = &pg_source_tensor_at(m->source, i)->view;
        if (m->used[i] != PG_USED) continue;
        p->region[p->n_region++] = (region){ .at = t->data, .n = (size_t)(t->stride[3] * t->shape[3]) };
    }
    for (const pg_owned *o = m->owned; o; o = o->next)
        p->region[p->n_region++] = (region){ .at = o->data, .n = o->size, .owned = 1 };
    qsort(p->region, (size_t)p->n_region, sizeof *p->region, by_address);
    return 1;
}

static region *region_of(const pg_pack *p, const void *at)
{
    int low = 0, high = p->n_region; /* the last region that begins at or before it is in [low, high) */
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if ((uintptr_t)p->region[middle].at <= (uintptr_t)at)
            low = middle;
        else
            high = middle;
    }
    region *r = &p->region[low];
    return high > low && (uintptr_t)at - (uintptr_t)r->at < r->n ? r : NULL;
}

/* Nothing of it will be read any more. */
static int is_spent(const region *r)
{
    return r->packed == r->n && !r->rows;
}

/* ---- jobs --------------------------------------------------------------------------------------------------------- */

static int64_t row_bytes(const pg_tensor *w)
{
    return (int64_t)pg_dtype_bytes(w->dtype, w->shape[0]);
}
static int64_t panels(const pg_tensor *w) /* of one matrix */
{
    return (w->shape[1] + PG_PANEL - 1) / PG_PANEL;
}

static void add_job(pg_pack *p, pg_tensor *w)
{
    region *r = w->dtype != PG_DTYPE_NONE && pg_dtype_is_quant(w->dtype) && !w->packed ? region_of(p, w->data) : NULL;
    if (!r) return;
    if (p->job) {
        r->packed += (size_t)(row_bytes(w) * w->shape[1] * w->shape[2]);
        p->job[p->n_job] = (job){ .view = w, .from = *w, .in = r };
    }
    p->n_job++;
}

/* Slots that are read in another way, or through k_part and v_part. */
static int is_multiplied(int slot)
{
    return slot != PG_T_EMBD && slot != PG_T_ROUTER && slot != PG_T_KV_B && slot != PG_T_K_B && slot != PG_T_V_B;
}

static void add_layer(pg_pack *p, pg_layer *y)
{
    for (int slot = 0; slot < PG_T_COUNT; slot++)
        if (is_multiplied(slot)) add_job(p, &y->w[slot]);
    if (!y->k_turned) add_job(p, &y->k_part);
    add_job(p, &y->v_part);
    for (int64_t i = 0; i < 3 * (int64_t)y->experts.n_expert; i++) add_job(p, &y->expert[i]);
}

static int by_source(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t)((const job *)a)->from.data, y = (uintptr_t)((const job *)b)->from.data;
    return (x > y) - (x < y);
}

static int list_jobs(pg_pack *p, pg_model *m)
{
    for (int pass = 0; pass < 2; pass++) {
        if (pass && !(p->job = calloc((size_t)p->n_job + 1, sizeof *p->job))) return 0;
        p->n_job = 0;
        add_layer(p, &m->top);
        for (int l = 0; l < m->h.n_layer; l++) add_layer(p, &m->layer[l]);
    }
    qsort(p->job, (size_t)p->n_job, sizeof *p->job, by_source);
    for (job *j = p->job; j < p->job + p->n_job; j++) {
        j->to = p->size;
        p->size += ((size_t)(j->from.shape[2] * panels(&j->from) * PG_PANEL * row_bytes(&j->from)) + 63) & ~(size_t)63;
    }
    return 1;
}

static pg_tensor packed_view(const pg_pack *p, const job *j)
{
    pg_tensor w = j->from;
    w.data = p->memory + j->to;
    w.stride[1] = row_bytes(&w);
    w.stride[2] = panels(&w) * PG_PANEL * w.stride[1];
    w.stride[3] = w.stride[2] * w.shape[2];
    w.row0 = 0;
    w.packed = 1;
    return w;
}

/* ---- items -------------------------------------------------------------------------------------------------------- */

static void add_item(pg_pack *p, item x)
{
    if (p->item) {
        x.before = p->total;
        x.in->n_item += x.job != NULL;
        p->item[p->n_item] = x;
        p->total += x.n;
    }
    p->n_item++;
}

/* First row of a panel as stored. */
static const char *panel_at(const pg_tensor *w, int64_t panel)
{
    const int64_t n = panels(w);
    return (const char *)w->data + panel / n * w->stride[2] + panel % n * PG_PANEL * w->stride[1];
}

static const char *panel_end(const pg_tensor *w, int64_t panel)
{
    const int64_t left = w->shape[1] - panel % panels(w) * PG_PANEL, n = left < PG_PANEL ? left : PG_PANEL;
    return panel_at(w, panel) + (n - 1) * w->stride[1] + row_bytes(w);
}

static void add_panels(pg_pack *p, const job *j)
{
    const pg_tensor *w = &j->from;
    const int64_t all = panels(w) * w->shape[2], fit = (int64_t)ITEM / (PG_PANEL * w->stride[1]);
    for (int64_t i = 0, n; i < all; i += n) {
        n = fit < 1 ? 1 : fit < all - i ? fit : all - i;
        const char *at = panel_at(w, i), *end = panel_end(w, i + n - 1);
        add_item(p, (item){ .at = at, .n = (size_t)(end - at), .in = j->in, .job = j, .panel = i, .n_panel = n });
    }
}

static void add_stored(pg_pack *p, region *r)
{
    for (size_t i = 0, n; i < r->n; i += n) {
        n = r->n - i < ITEM ? r->n - i : ITEM;
        add_item(p, (item){ .at = r->at + i, .n = n, .in = r });
    }
}

/* In the order of addresses, which is that of the bytes in each file. */
static int list_items(pg_pack *p)
{
    for (int pass = 0; pass < 2; pass++) {
        const job *j = p->job;
        if (pass && !(p->item = calloc((size_t)p->n_item + 1, sizeof *p->item))) return 0;
        p->n_item = 0;
        for (region *r = p->region; r < p->region + p->n_region; r++) {
            for (; j && j < p->job + p->n_job && j->in == r; j++) add_panels(p, j);
            if (!r->owned && !is_spent(r)) add_stored(p, r);
        }
    }
    return 1;
}

/* The head multiplies by the embedding. */
static int is_tied(const pg_model *m)
{
    return m->top.w[PG_T_OUT].data == m->top.w[PG_T_EMBD].data;
}

/* ---- the plan ----------------------------------------------------------------------------------------------------- */

int pg_pack_plan(pg_model *m, int exact, pg_error *err)
{
    pg_pack *p = m->pack = calloc(1, sizeof *p);
    if (!p || !list_regions(p, m)) return pg_fail(err, PG_EMEMORY, "no memory for a plan of loading");
    if (!exact && !list_jobs(p, m)) return pg_fail(err, PG_EMEMORY, "no memory for a plan of loading");
    region *embd = region_of(p, m->top.w[PG_T_EMBD].data);
    if (embd) embd->rows = pg_source_is_mapped(m->source, embd->at) && (embd->packed || !is_tied(m));
    if (!list_items(p)) return pg_fail(err, PG_EMEMORY, "no memory for a plan of loading");
    p->own = m->owned_bytes + (double)p->size;
    for (const region *r = p->region; r < p->region + p->n_region; r++) {
        if (r->owned)
            p->own -= is_spent(r) ? (double)r->n : 0;
        else
            p->stored += is_spent(r) ? 0 : (double)r->n;
    }
    return PG_OK;
}

double pg_pack_own(const pg_model *m)
{
    return m->pack->own;
}
double pg_pack_stored(const pg_model *m)
{
    return m->pack->stored;
}

/* ---- the run ------------------------------------------------------------------------------------------------------ */

typedef struct run {
    pg_pack *pack;
    const pg_source *source;
    int lock;
    char *buffer; /* a part for each thread when files are read past the system's cache, else NULL */
    int (*see)(void *ud, double done, double total);
    void *ud;
    pthread_mutex_t mutex;
    double done;
    pg_error *err;
    _Atomic int rc;    /* the first one below 0 ends the run */
    _Atomic int ahead; /* the next item to be read ahead */
} run;

static int is_read_directly(const run *x, const item *i)
{
    return x->buffer && i->job && i->n <= ITEM && !i->in->owned;
}

/* Keep the disk busy: what lies less than AHEAD bytes behind this item is on its way. */
static void read_ahead(run *x, const item *at)
{
    int i = atomic_load(&x->ahead);
    while (i < x->pack->n_item && x->pack->item[i].before < at->before + AHEAD)
        if (atomic_compare_exchange_weak(&x->ahead, &i, i + 1)) {
            const item *next = &x->pack->item[i++];
            if (!is_read_directly(x, next)) pg_source_ahead(x->source, next->at, next->n);
        }
}

/* from: the item's bytes, which may have been read to elsewhere. */
static void pack_item(const pg_pack *p, const item *i, const char *from)
{
    const job *j = i->job;
    const int64_t n = panels(&j->from), bytes = PG_PANEL * row_bytes(&j->from);
    for (int64_t k = i->panel; k < i->panel + i->n_panel; k++) {
        pg_tensor w = pg_tensor_slice(&j->from, k / n);
        w.data = (const void *)((uintptr_t)from + ((uintptr_t)w.data - (uintptr_t)i->at));
        pg_panel_pack(p->memory + j->to + k * bytes, &w, k % n);
    }
}

/* Whether less memory is free than what is still to come takes. Then the system would have to look for pages of files
 * that it can do without, one by one and while we wait; it had better be told of those that are packed. */
static int is_short(run *x)
{
    pthread_mutex_lock(&x->mutex);
    const double to_come = (double)x->pack->total - x->done;
    pthread_mutex_unlock(&x->mutex);
    return pg_host_free() < to_come + SPARE;
}

/* Once for each tensor: every such call makes all processors look up, and neighbours share pages. */
static void give_back(run *x, region *r)
{
    if (atomic_fetch_sub(&r->left, 1) > 1 || !(r->rows || is_spent(r))) return;
    pg_source_drop(r->at, r->n);
    if (is_short(x)) pg_source_forget(x->source, r->at, r->n);
}

static int load_item(run *x, const item *i, int lane, pg_error *err)
{
    const int read_later = i->in->rows && !i->job && !x->lock; /* rows of an embedding come as they are asked for */
    const char *from = NULL;
    if (is_read_directly(x, i)) from = pg_source_read(x->source, i->at, i->n, x->buffer + (size_t)lane * BUFFER);
    int rc = read_later || from ? PG_OK : pg_source_touch(x->source, i->at, i->n, err);
    if (rc >= 0 && x->lock && !i->job) rc = pg_source_lock(x->source, i->at, i->n, err);
    if (rc < 0 || !i->job) return rc;
    pack_item(x->pack, i, from ? from : i->at);
    give_back(x, i->in);
    return rc;
}

static void run_item(void *arg, int which, int lane)
{
    run *x = arg;
    const item *i = &x->pack->item[which];
    pg_error err = { 0 };
    if (atomic_load(&x->rc) < 0) return;
    read_ahead(x, i);
    int rc = load_item(x, i, lane, &err);
    pthread_mutex_lock(&x->mutex);
    x->done += (double)i->n;
    const int told = rc < 0;
    if (rc >= 0 && x->see && atomic_load(&x->rc) >= 0) rc = x->see(x->ud, x->done, (double)x->pack->total);
    if (rc < 0 && atomic_load(&x->rc) >= 0) {
        atomic_store(&x->rc, rc);
        if (told && x->err) *x->err = err;
    }
    pthread_mutex_unlock(&x->mutex);
}

/* A file that has to come from the disk and is not small beside the memory that is free would push everything else out
 * of the system's cache, to be of no use there once it is packed. */
static int is_large_and_cold(const pg_pack *p, const pg_source *s)
{
    int cold = 0;
    for (int i = 0; i < p->n_item; i++) cold += !pg_source_is_cached(s, p->item[i].at);
    return cold > p->n_item / 2 && 4 * (double)p->total > pg_host_memory();
}

/* Huge pages where the system has them, taken as they are written to; NULL: no memory. */
static char *pages(size_t n)
{
    void *memory = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    (void)madvise(memory, n, MADV_HUGEPAGE);
    return memory;
}

static int take_memory(pg_pack *p, const pg_source *s, int lock, pg_error *err)
{
    if (!p->size) return PG_OK;
    if (!(p->memory = pages(p->size)))
        return pg_fail(err, PG_EMEMORY,
                       "%s: no memory for %.3g GB of packed weights: take a smaller quantisation, or a packed file "
                       "(perigee quantize --pack), whose weights are used where they are mapped",
                       pg_source_path(s), (double)p->size * 1e-9);
    return lock ? pg_source_lock(s, p->memory, p->size, err) : PG_OK;
}

/* Threads beside those that compute: while some wait for the disk, others pack. */
enum { MORE_LANES = 4 };

int pg_pack_run(pg_model *m, int n_thread, int how, int (*see)(void *ud, double done, double total), void *ud,
                pg_error *err)
{
    pg_pack *p = m->pack;
    run x = { .pack = p, .source = m->source, .lock = how & PG_PACK_LOCK, .see = see, .ud = ud, .err = err };
    int rc = take_memory(p, m->source, x.lock, err), n_lane = n_thread;
    if (rc < 0) return rc;
    if (((how & PG_PACK_DIRECT) || is_large_and_cold(p, m->source)) && pg_source_direct(m->source)) {
        n_lane += n_thread < MORE_LANES ? n_thread : MORE_LANES;
        x.buffer = pages((size_t)n_lane * BUFFER);
    }
    pg_lanes *lanes = pg_lanes_open(n_lane);
    if (lanes) {
        for (region *r = p->region; r < p->region + p->n_region; r++) atomic_store(&r->left, r->n_item);
        pthread_mutex_init(&x.mutex, NULL);
        pg_lanes_run(lanes, run_item, &x, p->n_item);
        pthread_mutex_destroy(&x.mutex);
        pg_lanes_close(lanes);
    }
    if (x.buffer) munmap(x.buffer, (size_t)n_lane * BUFFER);
    if (!lanes) return pg_fail(err, PG_EMEMORY, "no memory or no threads to load %s", pg_source_path(m->source));
    if (atomic_load(&x.rc) < 0) return atomic_load(&x.rc);
    const int tied = is_tied(m);
    for (const job *j = p->job; j && j < p->job + p->n_job; j++) *j->view = packed_view(p, j);
    const region *embd = region_of(p, m->top.w[PG_T_EMBD].data);
    if (tied && embd && is_spent(embd)) m->top.w[PG_T_EMBD] = m->top.w[PG_T_OUT]; /* rows can be read there as well */
    return PG_OK;
}

void pg_pack_free(pg_pack *p)
{
    if (!p) return;
    if (p->memory) munmap(p->memory, p->size);
    free(p->region);
    free(p->job);
    free(p->item);
    free(p);
}
