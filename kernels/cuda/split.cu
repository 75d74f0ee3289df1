/* split.cu: several devices as one backend: each has consecutive layers of the plan, with their weights, their part of the
 * KV cache and memory for their values, and a step goes through them one after the other.
 *
 * Lives here: the backend that stands for all of them, what goes from one to the next, and whom it asks for what. Not here:
 * where the plan is cut (cut.cu), what a device does with its part (backend.cu): it knows of no other.
 * A step's rows go to all devices at once; then each one's launches follow, its graph or what there is, behind an event
 * that says that the values from the device before have come. Nothing waits on the host until all is launched, unless
 * somebody on the host steers. So one device works at a time: what is won is memory, not time.
 * Device numbers in messages are those that the devices were named by. */
#include "backend.cuh"

#include <stdio.h>
#include <stdlib.h>

namespace
{
struct share {
    pg_cuda_backend *b;
    pg_cuda_cut cut;
    cudaEvent_t crossed; /* what the next part needs has arrived there */
    pg_hook hook;        /* who steers, as this part sees it */
    pg_steering data;
};

struct split {
    pg_backend base; /* first: the engine has a pointer to it */
    share part[PG_DEVICES];
    int n;
    int is_cut, has_failed;
    unsigned char *owner; /* [n_value] the last part that writes it */
    double waited, bytes; /* in this step */
    /* while weights are loaded */
    const pg_loader *loader;
    double loaded, loading, total; /* bytes of the parts before, of this one, of all */
};

split *whole(const pg_backend *base)
{
    return reinterpret_cast<split *>(const_cast<pg_backend *>(base));
}

pg_backend *of(const share *p)
{
    return &p->b->c.base;
}

/* Words of a part that has failed. Returns -1. */
int fail(split *s, const share *p)
{
    s->has_failed = 1;
    memcpy(s->base.fault, of(p)->fault, sizeof s->base.fault);
    return -1;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

/* The last part has the rows that are drawn from. */
void tell_drawn(const split *s)
{
    for (int i = 0; i < s->n; i++) of(&s->part[i])->drawn = i == s->n - 1 ? s->base.drawn : PG_NO_REF;
}

/* Cut as the memory that is free now wants it. Each device is taken to need for values what one alone would. */
int cut_plan(const split *s, const pg_code *code, const pg_kv *kv, int32_t n_page, pg_cuda_cut *cut, char *why,
             size_t n)
{
    int64_t room[PG_DEVICES];
    tell_drawn(s);
    for (int i = 0; i < s->n; i++) {
        const pg_backend *b = of(&s->part[i]);
        room[i] = b->ops->room(b) - b->ops->memory(b, code);
    }
    return pg_cut_make(cut, s->n, room, code, kv, n_page, why, n);
}

int64_t memory(const pg_backend *base, const pg_code *code)
{
    const split *s = whole(base);
    pg_cuda_cut cut[PG_DEVICES];
    char why[256];
    int64_t bytes = 0;
    const int bad = cut_plan(s, code, NULL, 0, cut, why, sizeof why);
    for (int i = 0; i < s->n; i++) {
        const pg_backend *b = of(&s->part[i]);
        bytes += b->ops->memory(b, bad ? code : &cut[i].code);
    }
    pg_cut_free(cut, s->n);
    return bytes;
}

int64_t room(const pg_backend *base)
{
    const split *s = whole(base);
    int64_t bytes = 0;
    for (int i = 0; i < s->n; i++) bytes += of(&s->part[i])->ops->room(of(&s->part[i]));
    return bytes;
}

int64_t lacks(const pg_backend *base, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    const split *s = whole(base);
    pg_cuda_cut cut[PG_DEVICES];
    char why[256];
    int64_t missing = 0;
    const int bad = cut_plan(s, code, kv, n_page, cut, why, sizeof why);
    for (int i = 0; i < s->n && !bad; i++) {
        const pg_backend *b = of(&s->part[i]);
        missing += b->ops->lacks(b, &cut[i].code, &cut[i].kv, n_page);
    }
    pg_cut_free(cut, s->n);
    return bad ? INT64_MAX : missing;
}

int cut_for_good(split *s, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    pg_cuda_cut cut[PG_DEVICES];
    const int bad = cut_plan(s, code, kv, n_page, cut, s->base.fault, sizeof s->base.fault);
    for (int i = 0; i < s->n; i++) s->part[i].cut = cut[i];
    if (!bad) s->base.fault[0] = 0;
    s->is_cut = !bad;
    return bad;
}

/* Every part knows where its own pages are; what is returned is only not NULL. */
void *take(pg_backend *base, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    split *s = whole(base);
    if (cut_for_good(s, code, kv, n_page)) return NULL;
    for (share *p = s->part; p < s->part + s->n; p++) {
        pg_kv *own = &p->cut.kv;
        if (own->page_bytes && !(own->base = static_cast<char *>(of(p)->ops->take(of(p), &p->cut.code, own, n_page)))) {
            fail(s, p);
            return NULL;
        }
    }
    return s;
}

/* ---- a plan ------------------------------------------------------------------------------------------------------- */

int find_owners(split *s, const pg_code *code)
{
    if (!(s->owner = static_cast<unsigned char *>(calloc((size_t)code->n_value + 1, 1)))) return -1;
    for (int i = 0; i < s->n; i++) {
        const pg_code *own = &s->part[i].cut.code;
        for (int32_t k = 0; k < own->n_op; k++)
            if (own->op[k].dst != PG_NO_REF) s->owner[own->op[k].dst] = (unsigned char)i;
    }
    return 0;
}

int prepare(pg_backend *base, const pg_code *code)
{
    split *s = whole(base);
    if (!s->is_cut && cut_for_good(s, code, NULL, 0)) return -1;
    if (find_owners(s, code)) return -1;
    tell_drawn(s);
    for (share *p = s->part; p < s->part + s->n; p++) {
        p->b->asked = p->cut.cross;
        p->b->n_asked = p->cut.n_cross;
        if (of(p)->ops->prepare(of(p), &p->cut.code)) return fail(s, p);
        base->weight_bytes += of(p)->weight_bytes;
        base->far_bytes += of(p)->far_bytes;
    }
    return 0;
}

/* Progress of one part as progress of all. */
int want(void *ud, const void *at, int64_t bytes, double done, double total)
{
    const split *s = static_cast<split *>(ud);
    const pg_loader *l = s->loader;
    if (!l || !l->want) return 0;
    return l->want(l->ud, at, bytes, s->loaded + (total > 0 ? done / total * s->loading : 0), s->total);
}

int load(pg_backend *base, const pg_loader *l)
{
    split *s = whole(base);
    const pg_loader each = { want, s };
    s->loader = l;
    s->loaded = 0;
    s->total = base->weight_bytes;
    for (const share *p = s->part; p < s->part + s->n; p++) {
        s->loading = of(p)->weight_bytes;
        const int rc = of(p)->ops->load(of(p), &each);
        if (rc) return rc < 0 ? fail(s, p) : rc;
        s->loaded += s->loading;
    }
    return 0;
}

/* ---- who steers --------------------------------------------------------------------------------------------------- */

const pg_steer *on_route(void *ud, const pg_op *op, float *score, int32_t n_row)
{
    const pg_hook *h = static_cast<split *>(ud)->base.hook;
    return h->route(h->ud, op, score, n_row);
}

void on_faults(void *ud, const pg_op *op, const unsigned char *fault)
{
    const pg_hook *h = static_cast<split *>(ud)->base.hook;
    h->faults(h->ud, op, fault);
}

void on_waited(void *ud, double seconds, double bytes)
{
    split *s = static_cast<split *>(ud);
    s->waited += seconds;
    s->bytes += bytes;
}

/* Loads are by HOOK op of the whole plan: a part looks at its own. */
void pass_hook(split *s, share *p)
{
    of(p)->hook = s->base.hook ? &p->hook : NULL;
    if (!s->base.hook) return;
    p->hook = { on_route, s, NULL, on_faults, on_waited };
    if (!s->base.hook->data) return;
    p->data = *s->base.hook->data;
    for (int32_t i = 0; p->data.load && i < p->cut.code.n_op; i++)
        if (p->cut.code.op[i].code == PG_OP_HOOK) {
            p->data.load += (int64_t)p->cut.n_hook * p->cut.code.op[i].a.hook.router->n_expert;
            break;
        }
    p->hook.data = &p->data;
}

/* ---- a step ------------------------------------------------------------------------------------------------------- */

/* What the parts after this one need of it, or what it has passed on to them: the rows that there are. The device that it
 * goes to has nothing to do meanwhile: the step before is over, and its launches of this one wait for the event. */
int hand_over(share *from, share *to, const pg_rows *rows)
{
    pg_cuda *a = &from->b->c, *b = &to->b->c;
    for (int32_t i = 0; i < from->cut.n_cross; i++) {
        const pg_ref r = from->cut.cross[i];
        const int n = pg_cuda_is_all(a, r) ? rows->n : rows->n_sampled;
        if (n && pg_cuda_try(a,
                             cudaMemcpyPeerAsync(pg_cuda_value(b, r), b->device, pg_cuda_value(a, r), a->device,
                                                 (size_t)n * (size_t)pg_cuda_width(a, r) * 4, a->stream),
                             "copying to the next device"))
            return -1;
    }
    if (pg_cuda_try(a, cudaEventRecord(from->crossed, a->stream), "an event")) return -1;
    pg_cuda_enter(of(to));
    return pg_cuda_try(a, cudaStreamWaitEvent(b->stream, from->crossed, 0), "waiting for the device before") ? -1 : 0;
}

/* Where the host steers it is told of the last layer before it is asked about the next. */
int launch(split *s, const pg_rows *rows)
{
    for (int i = 0; i < s->n; i++) {
        share *p = &s->part[i];
        pg_cuda_enter(of(p));
        const int calls = p->b->steer == PG_STEER_CALLS;
        int bad = pg_step_launch(p->b) || (calls && pg_step_end(p->b));
        if (!bad && i + 1 < s->n) bad = hand_over(p, p + 1, rows);
        if (bad) {
            pg_cuda_fault(p->b);
            return fail(s, p);
        }
    }
    return 0;
}

int run(pg_backend *base, const pg_rows *rows, const pg_kv *kv)
{
    split *s = whole(base);
    (void)kv; /* laid out as it was when memory for it was taken */
    if (s->has_failed) return -1;
    s->waited = s->bytes = 0;
    for (share *p = s->part; p < s->part + s->n; p++) {
        pass_hook(s, p);
        if (pg_cuda_begin(p->b, rows, &p->cut.kv)) return fail(s, p);
    }
    if (launch(s, rows)) return -1;
    for (share *p = s->part; p < s->part + s->n; p++) {
        pg_cuda_enter(of(p));
        if (pg_step_end(p->b)) {
            pg_cuda_fault(p->b);
            return fail(s, p);
        }
    }
    if (s->bytes > 0 && base->hook && base->hook->waited) base->hook->waited(base->hook->ud, s->waited, s->bytes);
    return 0;
}

const pg_backend *owner_of(const split *s, pg_ref r)
{
    return of(&s->part[s->owner[r]]);
}

const void *read_value(pg_backend *base, pg_ref r)
{
    pg_backend *b = const_cast<pg_backend *>(owner_of(whole(base), r));
    return b->ops->read(b, r);
}

void fetch(pg_backend *base, pg_ref r, const int32_t *row, int32_t n, const void **out)
{
    pg_backend *b = const_cast<pg_backend *>(owner_of(whole(base), r));
    b->ops->fetch(b, r, row, n, out);
}

void best(pg_backend *base, int32_t row, pg_best *out)
{
    pg_backend *b = const_cast<pg_backend *>(owner_of(whole(base), base->drawn));
    b->ops->best(b, row, out);
}

void spread(pg_backend *base, pg_lane_fn *fn, void *arg, int n_item)
{
    pg_backend *b = of(&whole(base)->part[0]);
    b->ops->spread(b, fn, arg, n_item);
}

/* ---- opening and closing ------------------------------------------------------------------------------------------ */

/* The lanes are the first part's. */
void close_split(pg_backend *base)
{
    split *s = whole(base);
    for (share *p = s->part; p < s->part + s->n; p++) {
        pg_cuda_enter(of(p));
        cudaStreamSynchronize(p->b->c.stream);
    }
    for (share *p = s->part; p < s->part + s->n; p++)
        if (p->crossed) cudaEventDestroy(p->crossed);
    for (share *p = s->part; p < s->part + s->n; p++) of(p)->ops->close(of(p));
    for (int i = 0; i < s->n; i++) pg_cut_free(&s->part[i].cut, 1);
    free(s->owner);
    free(s);
}

const pg_backend_ops split_ops = { "cuda", prepare, memory, run,   read_value, spread, close_split,
                                   best,   fetch,   room,   lacks, take,       load };

/* Let a device write to another one's memory, if it can: else the driver takes a copy through the host's. */
void reach(const share *from, const share *to)
{
    int can = 0;
    pg_cuda_enter(of(from));
    if (cudaDeviceCanAccessPeer(&can, from->b->c.device, to->b->c.device) || !can ||
        cudaDeviceEnablePeerAccess(to->b->c.device, 0))
        cudaGetLastError(); /* an engine before this one may have done it */
}

int open_parts(split *s, const int *which, int n, int n_lane, char *why, size_t n_why)
{
    for (int i = 0; i < n; i++) {
        share *p = &s->part[i];
        char text[400] = "";
        p->b = pg_cuda_open(which[i], n_lane, i ? s->part[0].b : NULL, text, sizeof text);
        if (!p->b) {
            snprintf(why, n_why, "cuda:%d: %s", which[i], text);
            return -1;
        }
        s->n++;
        if (pg_cuda_try(&p->b->c, cudaEventCreateWithFlags(&p->crossed, cudaEventDisableTiming), "an event")) {
            p->crossed = NULL;
            snprintf(why, n_why, "%s: %s", p->b->c.why, cudaGetErrorString(p->b->c.error));
            return -1;
        }
    }
    for (int i = 0; i + 1 < n; i++) {
        reach(&s->part[i], &s->part[i + 1]);
        reach(&s->part[i + 1], &s->part[i]);
    }
    return 0;
}

/* "cuda:0,1"; "2 x sm_90 NVIDIA H200", or what each is. */
void name(split *s)
{
    pg_backend *base = &s->base;
    int same = 1;
    for (int i = 0; i < s->n; i++) {
        const size_t device = strlen(base->device), isa = strlen(base->isa);
        same &= !strcmp(of(&s->part[i])->isa, of(&s->part[0])->isa);
        snprintf(base->device + device, sizeof base->device - device, "%s%d",
                 i ? "," : "cuda:", s->part[i].b->c.device);
        snprintf(base->isa + isa, sizeof base->isa - isa, "%s%s", i ? " + " : "", of(&s->part[i])->isa);
    }
    if (same) snprintf(base->isa, sizeof base->isa, "%d x %.48s", s->n, of(&s->part[0])->isa);
}
} // namespace

pg_backend *pg_split_open(const int *which, int n, int n_lane, char *why, size_t n_why)
{
    split *s = static_cast<split *>(calloc(1, sizeof *s));
    if (!s) {
        snprintf(why, n_why, "no memory for the backend");
        return NULL;
    }
    s->base.ops = &split_ops;
    s->base.drawn = PG_NO_REF;
    if (open_parts(s, which, n, n_lane, why, n_why)) {
        close_split(&s->base);
        return NULL;
    }
    name(s);
    return &s->base;
}
