/* backend.cu: the CUDA backend on one device: opened, given a plan, run, read from, closed.
 *
 * Lives here: the device and its streams, memory of a plan, values on their way home, words for what the runtime says.
 * Not here: weights (weights.cu), a step's launches (graph.cu), several devices (split.cu), the ops (a file of their family
 * each).
 * It is in a library of its own, which the engine loads when it is asked for a CUDA device; what that library exports is
 * at the end. It carries what it needs of kernels/ itself. */
#include "backend.cuh"
extern "C" {
#include "../lanes.h"
}

#include <stdio.h>
#include <stdlib.h>

enum { MOST_ROWS = 65535 }; /* rows: blocks of a launch along y and z */

int pg_cuda_try(pg_cuda *c, cudaError_t e, const char *what)
{
    if (e == cudaSuccess) return 0;
    if (!c->error) {
        c->error = e;
        c->why = what;
    }
    cudaGetLastError(); /* the runtime keeps it for this thread, where the next launch would be blamed, another engine's too */
    return 1;
}

/* What can be done about it, by what kind of failure it is. */
static const char *advice(cudaError_t e)
{
    switch (e) {
    case cudaErrorMemoryAllocation:
        return "close other programs that use the device, lower kv_tokens or batch, or take a smaller quantisation";
    case cudaErrorNoKernelImageForDevice: return "build it for this device (make CUDA=1 CUDA_ARCHS=...)";
    default:
        return "close the engine and open it again; if that does not help, the driver's log (dmesg, nvidia-smi -q) may "
               "say more";
    }
}

int pg_cuda_fault(pg_cuda_backend *b)
{
    pg_backend *base = &b->c.base;
    const int n = snprintf(base->fault, sizeof base->fault, "%s (%s): %s: %s", base->device, base->isa,
                           b->c.why ? b->c.why : "a step", cudaGetErrorString(b->c.error));
    if (n > 0 && (size_t)n < sizeof base->fault)
        snprintf(base->fault + n, sizeof base->fault - (size_t)n, "; %s", advice(b->c.error));
    return -1;
}

/* Every host thread has a current device of its own. */
pg_cuda_backend *pg_cuda_enter(const pg_backend *base)
{
    pg_cuda_backend *b = pg_cuda_whole(reinterpret_cast<const pg_cuda *>(base));
    cudaSetDevice(b->c.device);
    return b;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static int64_t scratch_of(const pg_cuda *c, const pg_code *code)
{
    int64_t most = 256;
    for (int32_t i = 0; i < code->n_op; i++) {
        const pg_op *op = &code->op[i];
        const int64_t bytes = op->code == PG_OP_MATMUL    ? pg_cuda_matmul_scratch(c, code, op)
                              : op->code == PG_OP_ATTN    ? pg_cuda_attn_scratch(c, code, op)
                              : op->code == PG_OP_MLA     ? pg_cuda_mla_scratch(c, code, op)
                              : op->code == PG_OP_ROUTE   ? pg_cuda_route_scratch(c, code, op)
                              : op->code == PG_OP_EXPERTS ? pg_cuda_experts_scratch(c, code, op)
                                                          : 0;
        if (bytes > most) most = bytes;
    }
    return pg_cuda_up(most);
}

static int64_t memory(const pg_backend *base, const pg_code *code)
{
    const pg_cuda_backend *b = pg_cuda_enter(base);
    return pg_cuda_up(code->arena_bytes) + scratch_of(&b->c, code) + pg_step_bytes(code) + pg_cuda_steer_bytes(code) +
           pg_cuda_best_bytes(code, base->drawn);
}

/* Bytes that are free, less what the runtime takes by and by (code, graphs) and the buffers that weights come through.
 * PERIGEE_CUDA_MEMORY: gigabytes of them that may be used. */
static int64_t room(const pg_backend *base)
{
    size_t left = 0, total = 0;
    const char *most = getenv("PERIGEE_CUDA_MEMORY");
    pg_cuda_enter(base);
    if (cudaMemGetInfo(&left, &total)) return 0;
    const int64_t keep = (int64_t)(total / 64 < (size_t)512 << 20 ? total / 64 : (size_t)512 << 20);
    const int64_t bytes = (int64_t)left - keep;
    const double allowed = most && *most ? atof(most) * 1e9 : 0;
    return allowed > 0 && allowed < (double)bytes ? (int64_t)allowed : bytes < 0 ? 0 : bytes;
}

static int64_t lacks(const pg_backend *base, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    pg_cuda_weights s;
    char why[256];
    const int bad = pg_store_list(&s, code, why, sizeof why);
    const int64_t missing =
        bad ? INT64_MAX : memory(base, code) + kv->page_bytes * n_page + s.dense_bytes + s.expert_bytes - room(base);
    pg_store_free(&s);
    return missing > 0 ? missing : 0;
}

static void *take(pg_backend *base, const pg_code *code, const pg_kv *kv, int32_t n_page)
{
    pg_cuda_backend *b = pg_cuda_enter(base);
    const int64_t bytes = kv->page_bytes * n_page;
    (void)code;
    if (pg_cuda_try(&b->c, cudaMalloc(&b->kv, (size_t)(bytes ? bytes : 1)), "memory for the KV cache")) {
        pg_cuda_fault(b);
        b->kv = NULL;
    }
    return b->kv;
}

static int place_weights(pg_cuda_backend *b, int64_t left)
{
    pg_backend *base = &b->c.base;
    if (pg_store_list(&b->store, b->c.code, base->fault, sizeof base->fault)) return -1;
    const int64_t missing = pg_store_place(&b->store, left);
    if (missing) {
        snprintf(
            base->fault, sizeof base->fault,
            "%s (%s) has %.2f GB too little memory: %.2f GB are left for weights, and those that every token visits "
            "take %.2f GB (experts could stay in host memory); close other programs that use the device, lower "
            "kv_tokens or batch, or take a smaller quantisation",
            base->device, base->isa, (double)missing * 1e-9, left > 0 ? (double)left * 1e-9 : 0.0,
            (double)b->store.dense_bytes * 1e-9);
        return -1;
    }
    base->weight_bytes = (double)(b->store.near_bytes + b->store.far_bytes);
    base->far_bytes = (double)b->store.far_bytes;
    return pg_store_take(&b->store, &b->c) ? pg_cuda_fault(b) : 0;
}

/* ---- a step, and what comes of it --------------------------------------------------------------------------------- */

int pg_cuda_begin(pg_cuda_backend *b, const pg_rows *rows, const pg_kv *kv)
{
    pg_cuda_enter(&b->c.base);
    if (kv) b->c.kv = *kv;
    if (!b->c.error) {
        for (int32_t i = 0; i < b->c.code->n_value; i++) b->seen[i].fresh = 0;
        if (!pg_step_begin(b, rows)) return 0;
    }
    return pg_cuda_fault(b);
}

static int run(pg_backend *base, const pg_rows *rows, const pg_kv *kv)
{
    pg_cuda_backend *b = pg_cuda_whole(reinterpret_cast<const pg_cuda *>(base));
    if (pg_cuda_begin(b, rows, kv)) return -1;
    pg_step_launch(b);
    return pg_step_end(b) ? pg_cuda_fault(b) : 0;
}

static int64_t rows_of(const pg_cuda *c, pg_ref r)
{
    return c->code->value[r].rows == PG_ROWS_ALL ? c->code->max_rows : c->code->max_sampled;
}

/* Host memory for a value, kept from its first reading on. Under the lock. */
static char *home_of(pg_cuda_backend *b, pg_ref r)
{
    pg_cuda_seen *s = &b->seen[r];
    const size_t bytes = (size_t)rows_of(&b->c, r) * (size_t)b->c.code->value[r].width * 4;
    if (!s->host && pg_cuda_try(&b->c, cudaHostAlloc(&s->host, bytes, cudaHostAllocPortable), "pinned host memory"))
        s->host = NULL;
    return s->host;
}

static int bring(pg_cuda_backend *b, pg_ref r, int64_t row, int64_t n)
{
    pg_cuda *c = &b->c;
    const size_t bytes = (size_t)c->code->value[r].width * 4;
    return pg_cuda_try(c,
                       cudaMemcpyAsync(b->seen[r].host + (size_t)row * bytes,
                                       reinterpret_cast<const char *>(pg_cuda_value(c, r)) + (size_t)row * bytes,
                                       (size_t)n * bytes, cudaMemcpyDeviceToHost, c->stream),
                       "reading a value");
}

static int await(pg_cuda_backend *b)
{
    return pg_cuda_try(&b->c, cudaStreamSynchronize(b->c.stream), "reading a value");
}

/* Once a step has run its counts are those of the bucket in `rows`, `sampled`, which is enough to know what to read. */
static const void *read_value(pg_backend *base, pg_ref r)
{
    pg_cuda_backend *b = pg_cuda_whole(reinterpret_cast<const pg_cuda *>(base));
    for (int32_t i = 0; i < b->n_pick; i++)
        if (b->pick[i] == r) {
            int64_t words = 0; /* of a row, of the choices before this one */
            for (int32_t k = 0; k < i; k++) words += b->c.code->value[b->pick[k]].width;
            return b->pick_home + words * b->launched_rows * 4;
        }
    pthread_mutex_lock(&b->lock);
    pg_cuda_enter(base);
    pg_cuda_seen *s = &b->seen[r];
    char *host = home_of(b, r);
    if (host && !s->fresh) {
        const int n = pg_cuda_rows(&b->c, r);
        s->fresh = n > 0 && !bring(b, r, 0, n) && !await(b);
    }
    pthread_mutex_unlock(&b->lock);
    return host;
}

static void fetch(pg_backend *base, pg_ref r, const int32_t *row, int32_t n, const void **out)
{
    pg_cuda_backend *b = pg_cuda_enter(base);
    pthread_mutex_lock(&b->lock);
    char *host = home_of(b, r);
    int bad = 0;
    for (int32_t i = 0; i < n; i++) {
        out[i] = host ? host + (int64_t)row[i] * b->c.code->value[r].width * 4 : NULL;
        if (host && !b->seen[r].fresh) bad |= bring(b, r, row[i], 1);
    }
    if (host && !b->seen[r].fresh && !bad) await(b);
    pthread_mutex_unlock(&b->lock);
}

static void best(pg_backend *base, int32_t row, pg_best *out)
{
    pg_cuda_best_row(reinterpret_cast<const pg_cuda *>(base), row, out);
}

static void spread(pg_backend *base, pg_lane_fn *fn, void *arg, int n_item)
{
    pg_lanes_run(pg_cuda_whole(reinterpret_cast<const pg_cuda *>(base))->lanes, fn, arg, n_item);
}

/* ---- a plan ------------------------------------------------------------------------------------------------------ */

static int prepare(pg_backend *base, const pg_code *code)
{
    pg_cuda_backend *b = pg_cuda_enter(base);
    pg_cuda *c = &b->c;
    if (code->max_rows > MOST_ROWS) {
        snprintf(base->fault, sizeof base->fault, "%s (%s) takes at most %d rows a step: lower batch", base->device,
                 base->isa, (int)MOST_ROWS);
        return -1;
    }
    const int64_t left = room(base) - memory(base, code);
    c->code = code;
    c->scratch_bytes = scratch_of(c, code);
    b->seen = static_cast<pg_cuda_seen *>(calloc((size_t)code->n_value + 1, sizeof *b->seen));
    if (!b->seen) return -1;
    if (place_weights(b, left)) return -1;
    if (pg_cuda_try(c, cudaMalloc(&c->arena, (size_t)pg_cuda_up(code->arena_bytes)), "memory for values") ||
        pg_cuda_try(c, cudaMalloc(&c->scratch, (size_t)c->scratch_bytes), "memory for the ops") || pg_step_open(b) ||
        pg_cuda_steer_open(c) || pg_cuda_best_open(c) || (base->drawn != PG_NO_REF && !home_of(b, base->drawn)))
        return pg_cuda_fault(b);
    return 0;
}

static int load(pg_backend *base, const pg_loader *l)
{
    pg_cuda_backend *b = pg_cuda_enter(base);
    const int rc = pg_store_load(b, l);
    return rc < 0 ? pg_cuda_fault(b) : rc;
}

/* ---- opening and closing ------------------------------------------------------------------------------------------ */

static void close_cuda(pg_backend *base)
{
    pg_cuda_backend *b = pg_cuda_enter(base);
    pg_cuda *c = &b->c;
    if (c->stream) cudaStreamSynchronize(c->stream);
    pg_step_close(b);
    if (c->code) {
        pg_cuda_steer_close(c);
        pg_cuda_best_close(c);
    }
    for (int32_t i = 0; b->seen && i < c->code->n_value; i++)
        if (b->seen[i].host) cudaFreeHost(b->seen[i].host);
    free(b->seen);
    pg_store_free(&b->store);
    cudaFree(c->arena);
    cudaFree(c->scratch);
    cudaFree(b->kv);
    if (b->copy) cudaStreamDestroy(b->copy);
    if (c->stream) cudaStreamDestroy(c->stream);
    if (!b->lends) pg_lanes_close(b->lanes);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static const pg_backend_ops cuda_ops = { "cuda", prepare, memory, run,   read_value, spread, close_cuda,
                                         best,   fetch,   room,   lacks, take,       load };

/* Devices that there are; 0 and words when there are none. */
static int count_devices(char *why, size_t n_why)
{
    int n = 0, driver = 0, built = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (!e && n > 0) return n;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&built);
    if (!driver)
        snprintf(why, n_why, "there is no NVIDIA driver on this machine (no libcuda.so.1)");
    else if (e == cudaErrorInsufficientDriver)
        snprintf(why, n_why,
                 "the NVIDIA driver is for CUDA %d.%d, and perigee_cuda.so was built with CUDA %d.%d: bring the "
                 "driver up to date, or build with an older CUDA",
                 driver / 1000, driver % 1000 / 10, built / 1000, built % 1000 / 10);
    else if (!e || e == cudaErrorNoDevice)
        snprintf(why, n_why, "the driver knows of no CUDA device (CUDA_VISIBLE_DEVICES hides those it does not name)");
    else
        snprintf(why, n_why, "the driver says: %s", cudaGetErrorString(e));
    return 0;
}

/* Graphs keep such launches as what they are from CUDA 12.3 on, of the driver and of the runtime. */
static int may_begin_early(int arch)
{
    const char *no = getenv("PERIGEE_CUDA_PDL");
    int driver = 0, built = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&built);
    return arch >= 90 && driver >= 12030 && built >= 12030 && !(no && no[0] == '0');
}

static int look_at(pg_cuda_backend *b, char *why, size_t n_why)
{
    cudaDeviceProp p;
    pg_cuda *c = &b->c;
    cudaError_t e = cudaSetDevice(c->device);
    if (!e) e = cudaGetDeviceProperties(&p, c->device);
    if (e) {
        snprintf(why, n_why, "the driver says: %s", cudaGetErrorString(e));
        return -1;
    }
    c->n_sm = p.multiProcessorCount;
    c->arch = 10 * p.major + p.minor;
    c->early = may_begin_early(c->arch);
    snprintf(c->base.device, sizeof c->base.device, "cuda:%d", c->device);
    snprintf(c->base.isa, sizeof c->base.isa, "sm_%d %.48s", c->arch, p.name);
    if (c->arch < PG_CUDA_LEAST)
        snprintf(why, n_why, "%s is an sm_%d, and sm_%d (Ampere, 2020) is the least that runs here", p.name, c->arch,
                 PG_CUDA_LEAST);
    else if (pg_planes_runs_here())
        snprintf(why, n_why, "perigee_cuda.so has no code for %s, an sm_%d: build it with CUDA_ARCHS=%d", p.name,
                 c->arch, c->arch);
    else
        return 0;
    return -1;
}

static int open_streams(pg_cuda_backend *b, char *why, size_t n_why)
{
    pg_cuda *c = &b->c;
    if (pg_cuda_try(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "a stream") ||
        pg_cuda_try(c, cudaStreamCreateWithFlags(&b->copy, cudaStreamNonBlocking), "a stream")) {
        snprintf(why, n_why, "%s: %s", c->why, cudaGetErrorString(c->error));
        return -1;
    }
    return 0;
}

/* Whether products of many rows may take wgmma here; where they could and may not, the device's name says so. */
static int try_products(pg_cuda_backend *b, const pg_cuda_backend *first, char *why, size_t n_why)
{
    pg_cuda *c = &b->c;
    if (first && first->c.arch == c->arch) {
        c->wgmma = first->c.wgmma;
    } else if (pg_cuda_gemm_open(c)) {
        snprintf(why, n_why, "%s: %s", c->why, cudaGetErrorString(c->error));
        return -1;
    }
    const size_t used = strlen(c->base.isa);
    if (c->arch / 10 == 9 && !c->wgmma) snprintf(c->base.isa + used, sizeof c->base.isa - used, ", no wgmma");
    return 0;
}

pg_cuda_backend *pg_cuda_open(int which, int n_lane, const pg_cuda_backend *first, char *why, size_t n_why)
{
    pg_cuda_backend *b = static_cast<pg_cuda_backend *>(calloc(1, sizeof *b));
    if (!b || !(b->lanes = first ? first->lanes : pg_lanes_open(n_lane))) {
        snprintf(why, n_why, "no memory or no threads for the backend");
        free(b);
        return NULL;
    }
    pthread_mutex_init(&b->lock, NULL);
    b->c.base.ops = &cuda_ops;
    b->c.base.drawn = PG_NO_REF;
    b->c.device = which;
    b->lends = first != NULL;
    if (!look_at(b, why, n_why) && !open_streams(b, why, n_why) && !try_products(b, first, why, n_why)) return b;
    close_cuda(&b->c.base);
    return NULL;
}

static pg_backend *open_cuda(const int *which, int n, int n_lane, char *why, size_t n_why)
{
    int all[PG_DEVICES];
    const int there = count_devices(why, n_why);
    if (!there) return NULL;
    if (there > PG_DEVICES && !n) {
        snprintf(why, n_why, "there are %d of them, and an engine takes %d at most: name those", there,
                 (int)PG_DEVICES);
        return NULL;
    }
    for (int i = 0; i < n; i++)
        if (which[i] < 0 || which[i] >= there) {
            snprintf(why, n_why, "there is no such device as cuda:%d: the driver knows of %d, counted from 0", which[i],
                     there);
            return NULL;
        }
    for (int i = 0; i < there && !n; i++) all[i] = i;
    if (!n) which = all, n = there;
    if (n > 1) return pg_split_open(which, n, n_lane, why, n_why);
    pg_cuda_backend *b = pg_cuda_open(which[0], n_lane, NULL, why, n_why);
    return b ? &b->c.base : NULL;
}

extern "C" __attribute__((visibility("default"))) const pg_plugin pg_plugin_cuda = { PG_PLUGIN_LAYOUT, open_cuda };
