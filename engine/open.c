/* open.c: an engine from its options: checks, sizes, memory, thread; and its end. */
#include "device.h"
#include "hook/hook.h"
#include "host.h"
#include "json.h"
#include "pack.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MOST_ROWS = 2048, MOST_DECODE = 64, SAMPLED_BYTES = 128 << 20, MAX_QUEUE = 65536, MAX_THREADS = 1024 };

void pg_options_init(pg_options *o)
{
    const char *precision = getenv("PERIGEE_PRECISION"), *threads = getenv("PERIGEE_THREADS");
    *o = (pg_options){
        .device = "auto", .kv_tokens = 16384, .kv_type = NULL, .queue = 256, .use_mmap = 1, .prefix_cache = 1
    };
    o->precision = precision && *precision ? precision : "auto";
    o->threads = threads ? atoi(threads) : 0;
}

/* ---- checks --------------------------------------------------------------------------------------------------------- */

int pg_options_check(const pg_options *o, pg_error *err)
{
    const int device = pg_device_check(o->device, err);
    if (device < 0) return device;
    if (strcmp(o->precision, "auto") && strcmp(o->precision, "f32"))
        return pg_fail(err, PG_EINVAL, "precision is \"%s\", expected \"auto\" or \"f32\"", o->precision);
    const pg_dtype kv = o->kv_type ? pg_dtype_from_name(o->kv_type) : PG_F16;
    if (kv != PG_F32 && kv != PG_F16 && kv != PG_BF16 && kv != PG_Q8_0)
        return pg_fail(err, PG_EINVAL, "kv_type is \"%s\", expected f32, f16, bf16 or q8_0", o->kv_type);
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return pg_fail(err, PG_EINVAL, "threads is %d, expected 0 (all cores) to %d", o->threads, MAX_THREADS);
    if (o->context < 0 || o->kv_tokens < 0 || o->batch < 0 || o->queue < 1 || o->queue > MAX_QUEUE)
        return pg_fail(err, PG_EINVAL, "context, kv_tokens and batch must not be below 0, queue must be 1 to %d",
                       MAX_QUEUE);
    if (o->context > 1 << 24 || o->kv_tokens > 1 << 28 || o->batch > 1 << 16)
        return pg_fail(err, PG_EINVAL, "context, kv_tokens or batch is out of any reason");
    return PG_OK;
}

/* room: bytes that were free before anything was opened; 0: unknown. A device looks after its own memory. */
static int check_memory(const pg_engine *e, const pg_options *o, double room, pg_error *err)
{
    const double stored = pg_pack_stored(e->model), needed = stored + e->info.memory_bytes;
    const double weights = stored + pg_pack_own(e->model);
    if (pg_device_is_own(e->backend) || o->force || room <= 0 || needed <= room) return PG_OK;
    return pg_fail(err, PG_EMEMORY,
                   "%s needs %.1f GB (weights %.1f, engine %.1f) and %.1f GB are free: close other programs, lower "
                   "kv_tokens or batch, take a smaller quantisation, or set force to try all the same",
                   pg_source_path(e->model->source), needed * 1e-9, weights * 1e-9, (needed - weights) * 1e-9,
                   room * 1e-9);
}

/* ---- defaults for sampling ------------------------------------------------------------------------------------------- */

static void take(pg_source *s, const char *key, float *to)
{
    double x;
    if (pg_source_float(s, key, &x, NULL) > 0 && isfinite(x)) *to = (float)x;
}

static void take_json(const json_t *o, const char *key, float *to)
{
    json_t *x = json_object_get(o, key);
    if (json_is_number(x)) *to = (float)json_number_value(x);
}

static int in_range(float x, int low, int high)
{
    return x >= (float)low && x <= (float)high;
}

static void read_defaults(pg_engine *e)
{
    pg_source *s = e->model->source;
    pg_request *d = &e->defaults;
    pg_text text;
    float k = 40, last = 64;
    *d = (pg_request){ .temperature = 0.8f, .top_p = 0.95f, .min_p = 0.05f, .typical_p = 1, .repeat_penalty = 1 };
    take(s, "general.sampling.temp", &d->temperature);
    take(s, "general.sampling.top_k", &k);
    take(s, "general.sampling.top_p", &d->top_p);
    take(s, "general.sampling.min_p", &d->min_p);
    take(s, "general.sampling.penalty_repeat", &d->repeat_penalty);
    take(s, "general.sampling.penalty_last_n", &last);
    json_t *g = pg_source_file(s, "generation_config.json", &text, NULL) > 0
                    ? pg_json_parse(text.data, text.n, "generation_config.json", NULL)
                    : NULL;
    take_json(g, "temperature", &d->temperature);
    take_json(g, "top_k", &k);
    take_json(g, "top_p", &d->top_p);
    take_json(g, "min_p", &d->min_p);
    take_json(g, "typical_p", &d->typical_p);
    take_json(g, "repetition_penalty", &d->repeat_penalty);
    json_decref(g);
    d->top_k = in_range(k, -1, 1 << 24) ? (int32_t)k : 40;
    d->repeat_last_n = in_range(last, -1, 1 << 24) ? (int32_t)last : 64;
    if (!(d->repeat_penalty > 0)) d->repeat_penalty = 1;
}

/* ---- building --------------------------------------------------------------------------------------------------------- */

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int build_plan(pg_engine *e, const pg_options *o, int rows, pg_error *err)
{
    const int by_memory = (int)(SAMPLED_BYTES / 4 / e->model->h.n_vocab);
    const int decode = min_int(MOST_DECODE, rows), sampled = min_int(rows, by_memory > decode ? by_memory : decode);
    return pg_plan_build(e->model, rows, sampled, decode, !strcmp(o->precision, "f32"), &e->plan, err);
}

/* The largest step whose memory stays within an eighth of what is free. room: of the host. */
static int choose_plan(pg_engine *e, const pg_options *o, double room, pg_error *err)
{
    int rows = o->batch ? o->batch : MOST_ROWS;
    if (pg_device_is_own(e->backend)) room = (double)e->backend->ops->room(e->backend);
    for (;;) {
        const int rc = build_plan(e, o, rows, err);
        if (rc < 0) return rc;
        e->backend->drawn = e->plan.logits;
        const double bytes = (double)e->backend->ops->memory(e->backend, &e->plan.code);
        e->info.memory_bytes = bytes + pg_pack_own(e->model);
        if (o->batch || rows <= 64 || room <= 0 || bytes <= room / 8) return PG_OK;
        pg_plan_free(&e->plan);
        rows /= 2;
    }
}

static void *zeroed(size_t n, size_t size)
{
    return calloc(n ? n : 1, size);
}

static int take_rows(pg_engine *e)
{
    const size_t T = (size_t)e->plan.code.max_rows, S = (size_t)e->plan.code.max_sampled, Q = 2 * (size_t)e->queue_cap;
    e->row_token = zeroed(T, sizeof(int32_t));
    e->row_pos = zeroed(T, sizeof(int32_t));
    e->row_seq = zeroed(T, sizeof(int32_t));
    e->row_task = zeroed(T, sizeof(int32_t));
    e->sampled = zeroed(S, sizeof(int32_t));
    e->sampled_task = zeroed(S, sizeof(int32_t));
    e->row_pages = zeroed((size_t)e->max_running, sizeof *e->row_pages);
    e->task = zeroed(Q, sizeof(pg_task *));
    e->waiting = zeroed(Q, sizeof(pg_task *));
    e->running = zeroed(Q, sizeof(pg_task *));
    e->drawn = zeroed(S, sizeof(int32_t));
    e->wanted = zeroed(S, sizeof(int32_t));
    e->logits = zeroed(S, sizeof *e->logits);
    e->brought = zeroed(S, sizeof *e->brought);
    e->top = zeroed(S * PG_MAX_LOGPROBS, sizeof *e->top);
    e->sampler = zeroed((size_t)e->info.threads, sizeof(pg_sampler *));
    int samplers = e->sampler != NULL;
    for (int i = 0; samplers && i < e->info.threads; i++)
        samplers = (e->sampler[i] = pg_sampler_open(e->model->h.n_vocab)) != NULL;
    e->rows = (pg_rows){
        .token = e->row_token, .pos = e->row_pos, .seq = e->row_seq, .sampled = e->sampled, .pages = e->row_pages
    };
    return e->row_token && e->row_pos && e->row_seq && e->row_task && e->sampled && e->sampled_task && e->row_pages &&
           e->task && e->waiting && e->running && e->drawn && e->wanted && e->logits && e->brought && e->top &&
           samplers;
}

static int no_memory(const pg_engine *e, pg_error *err)
{
    if (e->backend->fault[0]) return pg_fail(err, PG_EMEMORY, "%s", e->backend->fault);
    return pg_fail(err, PG_EMEMORY,
                   "no memory for steps of %d rows and %d tokens of KV cache: lower batch or kv_tokens",
                   e->plan.code.max_rows, e->info.kv_tokens);
}

static void add_note(pg_engine *e, const char *format, ...)
{
    size_t n = strlen(e->info.note);
    va_list args;
    n += (size_t)snprintf(e->info.note + n, sizeof e->info.note - n, "%s", n ? "; " : "");
    if (n >= sizeof e->info.note) return;
    va_start(args, format);
    vsnprintf(e->info.note + n, sizeof e->info.note - n, format, args);
    va_end(args);
}

/* Pages of the KV cache, and how many for the tokens that were asked for. */
static int32_t lay_out_kv(pg_engine *e, const pg_options *o, pg_kv *kv)
{
    const int64_t tokens = o->kv_tokens > e->context ? o->kv_tokens : e->context;
    const pg_dtype dtype = pg_dtype_from_name(o->kv_type ? o->kv_type : e->plan.code.exact ? "f32" : "f16");
    *kv = pg_pages_lay_out(e->plan.stream, e->plan.n_stream, dtype);
    return (int32_t)((tokens + PG_PAGE_TOKENS - 1) / PG_PAGE_TOKENS);
}

static int take_memory(pg_engine *e, const pg_options *o, double room, pg_error *err)
{
    pg_kv kv;
    const int32_t pages = lay_out_kv(e, o, &kv);
    e->info.memory_bytes += (double)kv.page_bytes * pages;
    e->info.kv_tokens = pages * PG_PAGE_TOKENS;
    pg_model_kv_info(e->model, kv.dtype, &e->info);
    snprintf(e->info.kv_type, sizeof e->info.kv_type, "%s", pg_dtype_get(kv.dtype)->name);
    int rc = check_memory(e, o, room, err);
    if (rc < 0) return rc;
    if (!take_rows(e) || pg_hook_open(e) || pg_pages_open(&e->pages, e->backend, &e->plan.code, &kv, pages) ||
        pg_prefix_open(&e->prefix, &e->pages, o->prefix_cache) || e->backend->ops->prepare(e->backend, &e->plan.code))
        return no_memory(e, err);
    e->info.memory_bytes += e->backend->weight_bytes;
    if (e->backend->far_bytes > 0)
        add_note(e, "%.1f GB of experts did not fit the device and are read from host memory, which is slow",
                 e->backend->far_bytes * 1e-9);
    return PG_OK;
}

static void choose_context(pg_engine *e, const pg_options *o)
{
    const int own = e->model->h.n_ctx;
    e->context = o->context ? o->context : min_int(own, 4096);
    e->info.context = e->context;
    if (e->context > own)
        add_note(e, "the context of %d tokens is longer than the %d that the model was made for", e->context, own);
}

/* How weights are to be read, and the plan, for the backend that is open. */
static int plan_for_backend(pg_engine *e, const pg_options *o, double room, pg_error *err)
{
    const int stored = pg_device_is_own(e->backend) || !strcmp(o->precision, "f32");
    pg_pack_free(e->model->pack);
    e->model->pack = NULL;
    const int rc = pg_pack_plan(e->model, stored, err);
    return rc < 0 ? rc : choose_plan(e, o, room, err);
}

/* "auto" takes a device, or all of them, only when all is well there. */
static int takes_device(pg_engine *e, const pg_options *o, const char *device, double room)
{
    pg_kv kv;
    if (pg_device_open(device, e->info.threads, &e->backend, NULL) < 0) return 0;
    if (plan_for_backend(e, o, room, NULL) >= 0) {
        const int32_t pages = lay_out_kv(e, o, &kv);
        if (!e->backend->ops->lacks(e->backend, &e->plan.code, &kv, pages)) return 1;
        pg_plan_free(&e->plan);
    }
    e->backend->ops->close(e->backend);
    e->backend = NULL;
    return 0;
}

static int choose_device(pg_engine *e, const pg_options *o, double room, pg_error *err)
{
    const char *why;
    if (!strcmp(o->device, "auto") && (takes_device(e, o, "cuda", room) || takes_device(e, o, "cuda:all", room)))
        return PG_OK;
    if (strcmp(o->device, "auto") && strcmp(o->device, "cpu")) {
        const int rc = pg_device_open(o->device, e->info.threads, &e->backend, err);
        if (rc < 0) return rc;
    } else if (!(e->backend = pg_cpu_open(e->info.threads, getenv("PERIGEE_ISA"), &why))) {
        return pg_fail(err, PG_EDEVICE, "%s", why);
    }
    return plan_for_backend(e, o, room, err);
}

static void show_device(pg_engine *e)
{
    const int own = pg_device_is_own(e->backend);
    snprintf(e->info.device, sizeof e->info.device, "%s", own ? e->backend->device : "cpu");
    snprintf(e->info.isa, sizeof e->info.isa, "%s", own ? e->backend->isa : pg_cpu_isa(e->backend));
}

int pg_engine_build(pg_engine *e, const char *path, const pg_options *o, pg_error *err)
{
    pg_source *source;
    const double room = pg_host_memory();
    int rc = pg_source_open(path, o->use_mmap, &source, err);
    if (rc >= 0) rc = pg_model_open(source, 1, o->force ? 0 : room, &e->model, err);
    if (rc >= 0) rc = pg_tokenizer_from_source(e->model->source, &e->tokenizer, err);
    if (rc >= 0) rc = pg_model_covers(e->model, e->tokenizer, err);
    if (rc < 0) return rc;
    if (pg_seen_open(&e->seen, e->model) < 0) return pg_fail(err, PG_EMEMORY, "no memory for counting experts");
    pg_model_info(e->model, &e->info);
    pg_info_tokenizer(&e->info, e->tokenizer);
    read_defaults(e);
    choose_context(e, o);
    e->queue_cap = o->queue;
    e->info.threads = o->threads ? o->threads : pg_host_threads();
    if ((rc = choose_device(e, o, room, err)) < 0) return rc;
    e->max_running = min_int(e->queue_cap * 2, e->plan.code.max_decode);
    e->info.batch = e->plan.code.max_rows;
    snprintf(e->info.precision, sizeof e->info.precision, "%s", o->precision);
    show_device(e);
    return take_memory(e, o, room, err);
}

int pg_engine_start(pg_engine *e, pg_error *err)
{
    e->stats.kv_pages = e->pages.n_page;
    e->stats.kv_page_tokens = PG_PAGE_TOKENS;
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (e->event_fd < 0) return pg_fail(err, PG_EIO, "no eventfd: too many open files?");
    if (pthread_create(&e->thread, NULL, pg_sched_run, e))
        return pg_fail(err, PG_EMEMORY, "the engine thread could not be started");
    e->has_thread = 1;
    return PG_OK;
}

pg_engine *pg_engine_new(void)
{
    pg_engine *e = calloc(1, sizeof *e);
    pthread_condattr_t attr;
    if (!e) return NULL;
    e->pid = getpid();
    e->event_fd = -1;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->poll_lock, NULL);
    pthread_mutex_init(&e->look_lock, NULL);
    pg_guides_open(&e->guides);
    pthread_cond_init(&e->work, &attr);
    pthread_cond_init(&e->over, &attr);
    pthread_condattr_destroy(&attr);
    return e;
}

void pg_close(pg_engine *e)
{
    /* in a forked child the threads do not exist: leave the parent's memory alone */
    if (!e || e->pid != getpid()) return;
    if (e->has_thread) {
        pthread_mutex_lock(&e->lock);
        e->stop = 1;
        pthread_cond_signal(&e->work);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    pg_trace_orphan(e->seen.tracer);
    pg_seen_close(&e->seen);
    for (int i = 0; i < e->n_task; i++) pg_task_close(e->task[i]);
    pg_hook_close(e);
    if (e->event_fd >= 0) close(e->event_fd);
    for (int i = 0; e->sampler && i < e->info.threads; i++) pg_sampler_close(e->sampler[i]);
    pg_prefix_close(&e->prefix);
    pg_pages_close(&e->pages);
    if (e->backend) e->backend->ops->close(e->backend);
    pg_plan_free(&e->plan);
    pg_guides_close(&e->guides);
    pg_tokenizer_close(e->tokenizer);
    pg_model_close(e->model);
    void *const arrays[] = {
        e->row_token,       e->row_pos, e->row_seq,        e->row_task,        e->sampled,    e->sampled_task,
        e->drawn,           e->wanted,  (void *)e->logits, (void *)e->brought, e->top,        (void *)e->row_pages,
        (void *)e->sampler, e->task,    e->waiting,        e->running,         e->look_logits
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    pthread_cond_destroy(&e->work);
    pthread_cond_destroy(&e->over);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->poll_lock);
    pthread_mutex_destroy(&e->look_lock);
    free(e);
}
