/* shape: a model that is only a shape: the numbers of DeepSeek-V2-Lite (or of a small sibling) and random weights, made in
 * memory, for timings that need no file. Its text would mean nothing; its speed is a real model's.
 *
 * Host memory holds one pool of random weights for each format; every matrix is a mapping of its pool's beginning at an
 * address of its own, so a backend that copies weights makes as many different matrices as the model has, and the host
 * needs no more than the largest. */
#ifndef PG_BENCH_SHAPE_H
#define PG_BENCH_SHAPE_H

#define _Alignas alignas
extern "C" {
#include "../../../engine/plan/plan.h"
}
#undef _Alignas

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct shape {
    const char *name;
    int32_t layers, hidden, heads, experts, used, shared, ff, dense_ff, kv_lora, nope, rope, v_dim, vocabulary;
} shape;

static const shape shapes[] = {
    { "V2-Lite", 27, 2048, 16, 64, 6, 2, 1408, 10944, 512, 128, 64, 128, 102400 },
    { "tiny", 3, 256, 4, 8, 2, 1, 96, 512, 64, 32, 16, 32, 500 },
};

static unsigned long long shape_seed = 1;
static inline unsigned shape_rand(void)
{
    shape_seed = shape_seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(shape_seed >> 32);
}
static inline float shape_uniform(void)
{
    return (float)shape_rand() / 2147483648.0f - 1.0f;
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

static inline void shape_die(const char *what)
{
    perror(what);
    exit(1);
}

/* n weights of standard deviation about 0.02. */
static inline void shape_fill(char *to, pg_dtype type, int64_t n)
{
    if (type == PG_Q8_0) {
        for (int64_t i = 0; i < n / 32; i++, to += 34) {
            const uint16_t d = pg_f32_to_f16((1.0f + 0.5f * shape_uniform()) * 0.02f / 73.0f);
            memcpy(to, &d, 2);
            for (int k = 0; k < 8; k++) {
                const unsigned q = shape_rand();
                memcpy(to + 2 + 4 * k, &q, 4);
            }
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const float x = 0.035f * shape_uniform();
        const uint16_t h = pg_f32_to_bf16(x);
        if (type == PG_F32)
            memcpy(to + 4 * i, &x, 4);
        else
            memcpy(to + 2 * i, &h, 2);
    }
}

/* The file behind a format's pool, `bytes` long at least; -1 type: all are closed. */
static inline int shape_pool(pg_dtype type, int64_t bytes)
{
    static int fd[PG_DTYPE_COUNT];
    static int64_t have[PG_DTYPE_COUNT];
    const pg_dtype_info *info = pg_dtype_get(type);
    if (!fd[type] && (fd[type] = memfd_create("weights", 0)) < 0) shape_die("memfd_create");
    if (bytes > have[type]) {
        const int64_t n = (bytes + info->bytes - 1) / info->bytes * info->block;
        if (ftruncate(fd[type], n / info->block * info->bytes)) shape_die("ftruncate");
        char *all = (char *)mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd[type], 0);
        if (all == MAP_FAILED) shape_die("mmap");
        const int64_t done = have[type] / info->bytes * info->block;
        shape_fill(all + have[type], type, n - done);
        munmap(all, (size_t)bytes);
        have[type] = bytes;
    }
    return fd[type];
}

/* A stack of `count` matrices of k inputs and n outputs. */
static inline pg_tensor shape_tensor(pg_dtype type, int64_t k, int64_t n, int64_t count)
{
    const int64_t bytes = (int64_t)pg_dtype_bytes(type, k) * n * count;
    void *data = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, shape_pool(type, bytes), 0);
    if (data == MAP_FAILED) shape_die("mmap");
    return pg_tensor_dense(type, data, k, n, count);
}

static inline const float *shape_ones(int32_t n)
{
    float *v = (float *)malloc((size_t)n * sizeof *v);
    if (!v) shape_die("malloc");
    for (int32_t i = 0; i < n; i++) v[i] = 1.0f;
    return v;
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */

static inline void shape_experts(pg_layer *y, const shape *s, pg_dtype type)
{
    pg_tensor *t = y->expert = (pg_tensor *)calloc((size_t)(3 * s->experts), sizeof *t);
    const pg_tensor stack[3] = { shape_tensor(type, s->hidden, s->ff, s->experts),
                                 shape_tensor(type, s->hidden, s->ff, s->experts),
                                 shape_tensor(type, s->ff, s->hidden, s->experts) };
    if (!t) shape_die("calloc");
    for (int i = 0; i < 3 * s->experts; i++) t[i] = pg_tensor_slice(&stack[i / s->experts], i % s->experts);
    pg_experts *e = &y->experts;
    e->n_expert = s->experts;
    e->n_used = s->used;
    e->n_embd = s->hidden;
    e->n_ff = s->ff;
    e->glu = PG_GLU_SILU;
    e->gate = t;
    e->up = t + s->experts;
    e->down = t + 2 * s->experts;
    pg_router *r = &y->router;
    r->n_expert = s->experts;
    r->n_used = s->used;
    r->n_group = r->n_group_used = 1;
    r->score = PG_SCORE_SOFTMAX;
    r->scale = 1;
    y->w[PG_T_ROUTER] = shape_tensor(PG_F32, s->hidden, s->experts, 1);
    const int32_t both = s->shared * s->ff;
    y->w[PG_T_GATE_SHARED] = shape_tensor(type, s->hidden, both, 1);
    y->w[PG_T_UP_SHARED] = shape_tensor(type, s->hidden, both, 1);
    y->w[PG_T_DOWN_SHARED] = shape_tensor(type, both, s->hidden, 1);
}

static inline void shape_layer(pg_layer *y, const shape *s, pg_dtype type, int dense)
{
    const int32_t head = s->nope + s->rope;
    for (pg_tensor &t : y->w) t.dtype = PG_DTYPE_NONE;
    y->v[PG_T_ATTN_NORM] = shape_ones(s->hidden);
    y->v[PG_T_FFN_NORM] = shape_ones(s->hidden);
    y->v[PG_T_KV_A_NORM] = shape_ones(s->kv_lora);
    y->w[PG_T_Q] = shape_tensor(type, s->hidden, s->heads * head, 1);
    y->w[PG_T_KV_A] = shape_tensor(type, s->hidden, s->kv_lora + s->rope, 1);
    y->k_part = shape_tensor(type, s->nope, s->kv_lora, s->heads);
    y->v_part = shape_tensor(type, s->kv_lora, s->v_dim, s->heads);
    y->w[PG_T_O] = shape_tensor(type, s->heads * s->v_dim, s->hidden, 1);
    if (!dense) {
        shape_experts(y, s, type);
        return;
    }
    y->w[PG_T_GATE] = shape_tensor(type, s->hidden, s->dense_ff, 1);
    y->w[PG_T_UP] = shape_tensor(type, s->hidden, s->dense_ff, 1);
    y->w[PG_T_DOWN] = shape_tensor(type, s->dense_ff, s->hidden, 1);
}

static inline void shape_numbers(pg_hparams *h, const shape *s)
{
    h->n_layer = s->layers;
    h->n_embd = s->hidden;
    h->n_vocab = s->vocabulary;
    for (int l = 0; l < s->layers; l++) {
        h->n_head[l] = s->heads;
        h->n_head_kv[l] = 1;
        h->n_ff[l] = s->dense_ff;
    }
    h->head_k = s->nope + s->rope;
    h->head_v = s->v_dim;
    h->n_rot = s->rope;
    h->nope = s->nope;
    h->kv_lora = s->kv_lora;
    h->n_expert = s->experts;
    h->n_used = s->used;
    h->eps = 1e-6f;
    h->attn_scale = 1.0f / sqrtf((float)h->head_k);
    h->magnitude = h->embed_scale = h->residual_scale = h->logit_scale = 1;
    h->rope = PG_ROPE_PAIRS;
}

/* The model, with matrices in `type` and routers in f32; lives until the program ends. */
static inline pg_model *shape_model(const shape *s, pg_dtype type)
{
    pg_model *m = (pg_model *)calloc(1, sizeof *m);
    if (!m) shape_die("calloc");
    for (const pg_arch *const *a = pg_arch_list; *a; a++)
        if (!strcmp((*a)->name, "deepseek2")) m->arch = *a;
    shape_numbers(&m->h, s);
    m->layer = (pg_layer *)calloc((size_t)s->layers, sizeof *m->layer);
    if (!m->layer) shape_die("calloc");
    for (int l = 0; l < s->layers; l++) shape_layer(&m->layer[l], s, type, l == 0);
    for (pg_tensor &t : m->top.w) t.dtype = PG_DTYPE_NONE;
    m->top.w[PG_T_EMBD] = shape_tensor(type, s->hidden, s->vocabulary, 1);
    m->top.w[PG_T_OUT] = shape_tensor(type, s->hidden, s->vocabulary, 1);
    m->top.v[PG_T_OUT_NORM] = shape_ones(s->hidden);
    m->freqs[0] = (float *)malloc((size_t)s->rope / 2 * sizeof(float));
    if (!m->freqs[0]) shape_die("malloc");
    for (int i = 0; i < s->rope / 2; i++) m->freqs[0][i] = powf(10000.0f, -2.0f * (float)i / (float)s->rope);
    m->n_moe_layer = s->layers - 1;
    return m;
}

#endif
