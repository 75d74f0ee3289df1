/* hook_cuda.cu: the HOOK op and what goes before and after a step that somebody steers: stages and tables on their way to the
 * device, faults on their way back. Where steering is data the op itself does nothing; where only the host can steer it
 * hands the layer's scores over, waits, and takes steering back, so such a step cannot be a graph. */
#include "steer.cuh"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* Parts of one piece of memory; with base NULL it counts their bytes. */
typedef struct part {
    char *base;
    int64_t at;
} part;

static void *take(part *p, int64_t bytes)
{
    char *at = p->base ? p->base + p->at : NULL;
    p->at += pg_cuda_up(bytes);
    return at;
}

static int64_t slot_bytes(const pg_cuda_steer *s)
{
    const int64_t knobs = s->n_hook * ((int64_t)sizeof(pg_steer_knobs) + s->n_expert * (int64_t)sizeof(float));
    const int64_t program = PG_PROGRAM_MOST * (int64_t)sizeof(pg_instr), most = knobs > program ? knobs : program;
    return pg_cuda_up(most);
}

static void lay_out_device(pg_cuda_steer *s, part *p)
{
    const int64_t T = s->max_rows, E = s->n_expert, word = 4;
    s->table = (pg_steer_table *)take(p, (int64_t)sizeof *s->table);
    s->policy = (int32_t *)take(p, T * word);
    s->slot = (char *)take(p, PG_STEER_STAGES * slot_bytes(s));
    s->load = (float *)take(p, s->n_hook * E * word);
    s->fault = (unsigned char *)take(p, s->n_hook * T);
    s->steered = (unsigned char *)take(p, T);
    s->plain = (float *)take(p, T * E * word);
    s->choose = (float *)take(p, T * E * word);
    s->cumulative = (float *)take(p, T * word);
    s->capacity = (float *)take(p, T * word);
    s->top = (int32_t *)take(p, T * word);
    s->view.state = (int32_t *)take(p, T * word);
    s->view.asked = (int32_t *)take(p, T * word);
    s->view.limit = (float *)take(p, T * word);
}

static void lay_out_host(pg_cuda_steer *s, part *p)
{
    const int64_t T = s->max_rows, E = s->n_expert, word = 4;
    s->table_now = (pg_steer_table *)take(p, (int64_t)sizeof *s->table_now);
    s->policy_now = (int32_t *)take(p, T * word);
    s->slot_room = (char *)take(p, slot_bytes(s));
    s->load_room = (float *)take(p, s->n_hook * E * word);
    s->score = (float *)take(p, T * E * word);
    s->fault_now = (unsigned char *)take(p, s->n_hook * T);
    s->any = (int32_t *)take(p, word);
}

static void measure(pg_cuda_steer *s, const pg_code *code)
{
    s->max_rows = code->max_rows;
    for (int i = 0; i < code->n_op; i++) {
        if (code->op[i].code != PG_OP_HOOK) continue;
        s->n_hook++;
        s->n_expert = code->op[i].a.hook.router->n_expert;
    }
}

int64_t pg_cuda_steer_bytes(const pg_code *code)
{
    pg_cuda_steer s = {};
    part p = {};
    measure(&s, code);
    if (s.n_hook) lay_out_device(&s, &p);
    return p.at;
}

static int take_memory(pg_cuda *c, pg_cuda_steer *s)
{
    part p = {};
    lay_out_device(s, &p);
    if (pg_cuda_try(c, cudaMalloc((void **)&s->device, (size_t)p.at), "memory for policies")) return -1;
    const int64_t device_bytes = p.at;
    p.base = s->device;
    p.at = 0;
    lay_out_device(s, &p);
    p = {};
    lay_out_host(s, &p);
    if (pg_cuda_try(c, cudaMallocHost((void **)&s->host, (size_t)p.at), "pinned memory for policies")) return -1;
    memset(s->host, 0, (size_t)p.at);
    p.base = s->host;
    p.at = 0;
    lay_out_host(s, &p);
    return pg_cuda_try(c, cudaMemset(s->device, 0, (size_t)device_bytes), "clearing memory for policies") ? -1 : 0;
}

int pg_cuda_steer_open(pg_cuda *c)
{
    pg_cuda_steer *s = (pg_cuda_steer *)calloc(1, sizeof *s);
    if (!s) return -1;
    c->steer = s;
    measure(s, c->code);
    if (!s->n_hook) return 0;
    s->hook = (const pg_op **)calloc((size_t)s->n_hook, sizeof *s->hook);
    if (!s->hook) return -1;
    for (int i = 0, n = 0; i < c->code->n_op; i++)
        if (c->code->op[i].code == PG_OP_HOOK) s->hook[n++] = &c->code->op[i];
    if (take_memory(c, s)) return -1;
    s->view.table = s->table;
    s->view.policy = s->policy;
    s->view.slot = s->slot;
    s->view.slot_bytes = slot_bytes(s);
    s->view.any = s->any;
    s->view.steered = s->steered;
    s->view.plain = s->plain;
    s->view.choose = s->choose;
    s->view.cumulative = s->cumulative;
    s->view.top = s->top;
    return 0;
}

void pg_cuda_steer_close(pg_cuda *c)
{
    pg_cuda_steer *s = c->steer;
    if (!s) return;
    if (s->device) cudaFree(s->device);
    if (s->host) cudaFreeHost(s->host);
    free((void *)s->hook);
    free(s);
    c->steer = NULL;
}

/* ---- data, before a step --------------------------------------------------------------------------------------------- */

static void copy(pg_cuda *c, void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    pg_cuda_try(c, cudaMemcpyAsync(to, from, bytes, kind, c->stream), "copying what policies say");
}

static void wait(pg_cuda *c)
{
    pg_cuda_try(c, cudaStreamSynchronize(c->stream), "waiting for what policies say");
}

static int fits(const pg_steering *d)
{
    const int32_t n = d->n_policy <= PG_STEER_STAGES ? d->first[d->n_policy] : PG_STEER_STAGES + 1;
    if (n > PG_STEER_STAGES) return 0;
    for (int32_t i = 0; i < n; i++)
        if (!d->stage[i].knobs && (d->stage[i].n > PG_PROGRAM_MOST || d->stage[i].n_knob > PG_KNOBS_MOST)) return 0;
    return 1;
}

static void write_knobs(const pg_cuda_steer *s, const pg_steer_stage *stage)
{
    char *at = s->slot_room;
    for (int i = 0; i < s->n_hook; i++) {
        const pg_layer_knobs *k = &stage->knobs[s->hook[i]->a.hook.layer];
        pg_steer_knobs y = {};
        y.top = k->top;
        y.cumulative = k->cumulative;
        y.temperature = k->temperature;
        y.capacity = k->capacity;
        y.chooses = k->choose != NULL;
        memcpy(at, &y, sizeof y);
        at += sizeof y;
        if (k->choose) memcpy(at, k->choose, (size_t)s->n_expert * sizeof(float));
        at += (size_t)s->n_expert * sizeof(float);
    }
}

/* The slot of a stage; it is brought there when it is new, into the slot that lay unused for longest. */
static int slot_of(pg_cuda *c, pg_cuda_steer *s, const pg_steer_stage *stage)
{
    int oldest = 0;
    for (int i = 0; i < PG_STEER_STAGES; i++) {
        if (s->id[i] == stage->id) {
            s->used[i] = s->step;
            return i;
        }
        if (s->used[i] < s->used[oldest]) oldest = i;
    }
    if (stage->knobs)
        write_knobs(s, stage);
    else
        memcpy(s->slot_room, stage->code, (size_t)stage->n * sizeof(pg_instr));
    copy(c, s->slot + s->view.slot_bytes * oldest, s->slot_room, (size_t)s->view.slot_bytes, cudaMemcpyHostToDevice);
    wait(c); /* the room is needed again */
    s->id[oldest] = stage->id;
    s->used[oldest] = s->step;
    return oldest;
}

static void make_table(pg_cuda *c, pg_cuda_steer *s, const pg_steering *d, pg_steer_table *t)
{
    memcpy(t->first, d->first, (size_t)(d->n_policy + 1) * sizeof *t->first);
    for (int32_t i = 0; i < d->first[d->n_policy]; i++) {
        const pg_steer_stage *stage = &d->stage[i];
        t->slot[i] = slot_of(c, s, stage);
        t->n_code[i] = stage->knobs ? 0 : stage->n;
        if (stage->n_knob) memcpy(t->knob[i], stage->knob, (size_t)stage->n_knob * sizeof(float));
    }
}

/* Only what is not there already: in most steps that is nothing. The device has done with the step before. */
static void bring(pg_cuda *c, pg_cuda_steer *s, const pg_steering *d)
{
    pg_steer_table next = *s->table_now;
    const size_t rows = (size_t)s->n_row * sizeof(int32_t);
    make_table(c, s, d, &next);
    if (memcmp(&next, s->table_now, sizeof next) != 0) {
        *s->table_now = next;
        copy(c, s->table, s->table_now, sizeof next, cudaMemcpyHostToDevice);
    }
    if (memcmp(d->policy, s->policy_now, rows) != 0) {
        memcpy(s->policy_now, d->policy, rows);
        copy(c, s->policy, s->policy_now, rows, cudaMemcpyHostToDevice);
    }
    if (d->load) {
        const size_t bytes = (size_t)s->n_hook * (size_t)s->n_expert * sizeof(float);
        memcpy(s->load_room, d->load, bytes);
        copy(c, s->load, s->load_room, bytes, cudaMemcpyHostToDevice);
    }
}

int pg_cuda_steer_begin(pg_cuda *c, const pg_rows *rows)
{
    pg_cuda_steer *s = c->steer;
    const pg_hook *h = c->base.hook;
    s->by = PG_BY_NOBODY;
    s->told = NULL;
    s->waited = s->bytes = 0;
    if (!h || !s->n_hook) return PG_STEER_NOBODY_ASKS;
    s->n_row = rows->n;
    s->step++;
    if (!h->data || !fits(h->data)) return PG_STEER_CALLS;
    bring(c, s, h->data);
    s->by = PG_BY_TABLE;
    s->with_limits = h->data->capacity;
    return s->with_limits ? PG_STEER_CAPACITY : PG_STEER_DATA;
}

/* ---- calls, within a step -------------------------------------------------------------------------------------------- */

/* What the ROUTE op said about the layer before this one, to whom it steered. */
static void tell(pg_cuda *c, pg_cuda_steer *s)
{
    if (!s->told) return;
    copy(c, s->fault_now, s->fault + (int64_t)s->told_hook * s->max_rows, (size_t)s->n_row, cudaMemcpyDeviceToHost);
    wait(c);
    for (int32_t r = 0; r < s->n_row; r++)
        if (s->told->steered[r]) s->told->fault[r] = s->fault_now[r];
    s->told = NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void call(pg_cuda *c, pg_cuda_steer *s, const pg_op *op)
{
    const pg_hook *h = c->base.hook;
    const size_t rows = (size_t)s->n_row, row = (size_t)s->n_expert * sizeof(float);
    const double begin = now();
    float *score = pg_cuda_value(c, op->src[0]);
    tell(c, s);
    copy(c, s->score, score, rows * row, cudaMemcpyDeviceToHost);
    wait(c);
    const pg_steer *told = h->route(h->ud, op, s->score, s->n_row);
    s->by = told ? PG_BY_ARRAYS : PG_BY_NOBODY;
    s->waited += now() - begin;
    s->bytes += (double)(rows * row);
    if (!told) return;
    s->bytes += (double)(3 * rows * row);
    copy(c, score, s->score, rows * row, cudaMemcpyHostToDevice);
    copy(c, s->steered, told->steered, rows, cudaMemcpyHostToDevice);
    copy(c, s->plain, told->plain, rows * row, cudaMemcpyHostToDevice);
    copy(c, s->choose, told->choose, rows * row, cudaMemcpyHostToDevice);
    copy(c, s->top, told->top, rows * sizeof(int32_t), cudaMemcpyHostToDevice);
    copy(c, s->cumulative, told->cumulative, rows * sizeof(float), cudaMemcpyHostToDevice);
    if (told->capacity) copy(c, s->capacity, told->capacity, rows * sizeof(float), cudaMemcpyHostToDevice);
    s->with_limits = told->capacity != NULL;
    s->view.capacity = told->capacity ? s->capacity : NULL;
    s->told = told;
}

void pg_cuda_hook(pg_cuda *c, const pg_op *op)
{
    pg_cuda_steer *s = c->steer;
    if (!s || !c->base.hook) return;
    int i = 0;
    while (i < s->n_hook && s->hook[i] != op) i++;
    s->view.hook = i;
    s->view.layer = op->a.hook.layer;
    s->view.load = s->load + (int64_t)i * s->n_expert;
    s->view.fault = s->fault + (int64_t)i * s->max_rows;
    if (s->by == PG_BY_TABLE) return;
    call(c, s, op);
    s->told_hook = i;
}

/* ---- after a step ---------------------------------------------------------------------------------------------------- */

void pg_cuda_steer_end(pg_cuda *c)
{
    pg_cuda_steer *s = c->steer;
    const pg_hook *h = c->base.hook;
    if (!s || !h || !s->n_hook) return;
    tell(c, s);
    if (s->bytes > 0 && h->waited) h->waited(h->ud, s->waited, s->bytes);
    if (s->by != PG_BY_TABLE) return;
    wait(c);
    if (!*s->any) return;
    *s->any = 0;
    copy(c, s->fault_now, s->fault, (size_t)s->n_hook * (size_t)s->max_rows, cudaMemcpyDeviceToHost);
    wait(c);
    for (int i = 0; i < s->n_hook; i++) h->faults(h->ud, s->hook[i], s->fault_now + (int64_t)i * s->max_rows);
}
