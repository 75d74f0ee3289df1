/* model.c: names to slots. The routed experts, which files store in many ways, are in experts.c. */
#include "model.h"

#include "../kernels/unpack/panel.h"
#include "pack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void *pg_model_alloc(pg_model *m, size_t bytes, pg_error *err)
{
    const size_t size = (sizeof(pg_owned) + bytes + 63) & ~(size_t)63;
    const double all = m->owned_bytes + (double)bytes;
    pg_owned *o = size > bytes && !(m->room > 0 && all > m->room) ? aligned_alloc(64, size) : NULL;
    if (!o) {
        pg_fail(err, PG_EMEMORY, "%s: its weights must be converted, and there is no memory for %.3g MB of them",
                pg_source_path(m->source), all * 1e-6);
        return NULL;
    }
    o->next = m->owned;
    o->size = size - sizeof *o;
    m->owned = o;
    m->owned_bytes += (double)size;
    return o->data;
}

/* ---- finding ------------------------------------------------------------------------------------------------------ */

enum { NAME = 160 }; /* bytes of a tensor's full name, all of which are put together here */

static const char *full_name(const pg_model *m, int l, const char *name, const char *suffix, char full[NAME])
{
    const int hf = pg_source_dialect(m->source) == PG_DIALECT_HF;
    const char *dot = *suffix ? "." : "";
    if (l < 0)
        snprintf(full, NAME, "%s%s%s", name, dot, suffix);
    else
        snprintf(full, NAME, hf ? "model.layers.%d.%s%s%s" : "blk.%d.%s%s%s", l, name, dot, suffix);
    return full;
}

static const pg_source_tensor *find(const pg_model *m, const char *full)
{
    const pg_source_tensor *t = pg_source_find(m->source, full);
    if (t) m->used[t - pg_source_tensor_at(m->source, 0)] = PG_USED;
    return t;
}

void pg_model_converted(pg_model *m, const pg_source_tensor *t)
{
    m->used[t - pg_source_tensor_at(m->source, 0)] = PG_CONVERTED;
    pg_source_drop(t->view.data, (size_t)(t->view.stride[3] * t->view.shape[3]));
}

const pg_source_tensor *pg_model_find(const pg_model *m, int l, const char *name, const char *suffix)
{
    char full[NAME];
    return *name ? find(m, full_name(m, l, name, suffix, full)) : NULL;
}

int pg_model_missing(const pg_model *m, int l, const char *name, const char *suffix, pg_error *err)
{
    char full[NAME];
    return pg_fail(err, PG_EFORMAT, "%s: the tensor %s is missing", pg_source_path(m->source),
                   full_name(m, l, name, suffix, full));
}

static const char *slot_name(const pg_model *m, int slot)
{
    static const char *const names[PG_T_COUNT][2] = {
#define X(id, gguf, hf, kind, n0, n1, n2) { gguf, hf },
        PG_SLOT_LIST(X)
#undef X
    };
    const int hf = pg_source_dialect(m->source) == PG_DIALECT_HF;
    const char *other = hf ? m->arch->tensor[slot].hf : m->arch->tensor[slot].gguf;
    return other ? other : names[slot][hf];
}

int pg_model_view(pg_model *m, const pg_source_tensor *t, int64_t n0, int64_t n1, int64_t n2, pg_tensor *out,
                  pg_error *err)
{
    const int64_t *s = t->view.shape;
    const int whole = s[1] == n1 && s[2] == n2, folded = s[1] == n1 * n2 && s[2] == 1;
    const char *path = pg_source_path(m->source);
    if (s[0] != n0 || s[3] != 1 || (!whole && !folded))
        return pg_fail(err, PG_EFORMAT, "%s: the tensor %.*s is %lld x %lld x %lld, expected %lld x %lld x %lld", path,
                       (int)t->name.n, t->name.data, (long long)s[0], (long long)s[1], (long long)s[2], (long long)n0,
                       (long long)n1, (long long)n2);
    if (!pg_dtype_is_weight(t->view.dtype))
        return pg_fail(err, PG_EUNSUPPORTED, "%s: the tensor %.*s is stored as %s, which perigee does not compute with",
                       path, (int)t->name.n, t->name.data, pg_dtype_get(t->view.dtype)->name);
    if (t->view.packed) {
        const int rc = whole ? PG_OK : pg_model_cut(m, t, n1, err);
        *out = t->view;
        out->shape[1] = n1, out->shape[2] = n2;
        if (!whole) out->stride[2] = n1 * out->stride[1];
        out->stride[3] = n2 * out->stride[2];
        return rc;
    }
    *out = pg_tensor_dense(t->view.dtype, t->view.data, n0, n1, n2);
    if (t->view.dtype != PG_FP8) return PG_OK;
    char name[200];
    snprintf(name, sizeof name, "%.*s_scale_inv", (int)t->name.n, t->name.data);
    const pg_source_tensor *f = find(m, name);
    const int64_t cols = (n0 + 127) / 128, rows = (n1 * n2 + 127) / 128;
    if (!f || f->view.shape[0] != cols || f->view.shape[1] != rows)
        return pg_fail(err, PG_EFORMAT, "%s: the FP8 tensor %.*s needs %s of %lld x %lld factors, which %s", path,
                       (int)t->name.n, t->name.data, name, (long long)cols, (long long)rows,
                       f ? "has another shape" : "is missing");
    const int rc = pg_model_vector(m, f, cols * rows, &out->scale, NULL, err);
    if (rc < 0) return rc;
    out->scale_stride = cols;
    return PG_OK;
}

int pg_model_cut(const pg_model *m, const pg_source_tensor *t, int64_t row, pg_error *err)
{
    if (!t->view.packed || row % PG_PANEL == 0) return PG_OK;
    return pg_fail(
        err, PG_EUNSUPPORTED,
        "%s: the tensor %.*s is packed and would have to be cut at row %lld, expected a multiple of %d: take "
        "the file that this one was made from",
        pg_source_path(m->source), (int)t->name.n, t->name.data, (long long)row, PG_PANEL);
}

/* f32 from the scalar formats that vectors come in; kernels unpack matrices, this is for a few numbers at load. */
static float scalar_at(const pg_tensor *t, int64_t i)
{
    const char *p = (const char *)t->data + i * pg_dtype_get(t->dtype)->bytes;
    uint16_t h;
    float f;
    double d;
    switch (t->dtype) {
    case PG_F16: memcpy(&h, p, 2); return pg_f16_to_f32(h);
    case PG_BF16: memcpy(&h, p, 2); return pg_bf16_to_f32(h);
    case PG_F64: memcpy(&d, p, 8); return (float)d;
    default: memcpy(&f, p, 4); return f;
    }
}

enum { MOST_FREE = 1 << 20, MOST_VOCAB = 1 << 24 }; /* numbers in a vector whose length the caller judges; tokens */

int pg_model_vector(pg_model *m, const pg_source_tensor *t, int64_t n, const float **out, int32_t *n_out, pg_error *err)
{
    const pg_tensor *v = &t->view;
    const int flat = v->shape[0] <= 1 << 24 && v->shape[1] <= 1 << 14 && v->shape[2] == 1 && v->shape[3] == 1;
    const int64_t have = flat ? v->shape[0] * v->shape[1] : -1;
    if (have < 1 || (n ? have != n : have > MOST_FREE))
        return pg_fail(err, PG_EFORMAT, "%s: the tensor %.*s is %lld x %lld x %lld, expected %s%lld numbers",
                       pg_source_path(m->source), (int)t->name.n, t->name.data, (long long)v->shape[0],
                       (long long)v->shape[1], (long long)v->shape[2], n ? "" : "at most ",
                       (long long)(n ? n : MOST_FREE));
    if (v->dtype != PG_F32 && v->dtype != PG_F16 && v->dtype != PG_BF16 && v->dtype != PG_F64)
        return pg_fail(err, PG_EUNSUPPORTED, "%s: the tensor %.*s is stored as %s, expected a float format",
                       pg_source_path(m->source), (int)t->name.n, t->name.data, pg_dtype_get(v->dtype)->name);
    float *f = pg_model_alloc(m, (size_t)have * sizeof(float), err);
    if (!f) return PG_EMEMORY;
    for (int64_t i = 0; i < have; i++) f[i] = scalar_at(v, i);
    *out = f;
    if (n_out) *n_out = (int32_t)have;
    return PG_OK;
}

/* ---- slots -------------------------------------------------------------------------------------------------------- */

enum { MAT, VEC };

static void slot_shape(const pg_hparams *h, int l, int slot, int64_t d[3], int *kind)
{
    switch (slot) {
#define X(id, gguf, hf, k, n0, n1, n2)         \
    case PG_T_##id:                            \
        d[0] = (n0), d[1] = (n1), d[2] = (n2); \
        *kind = k;                             \
        break;
        PG_SLOT_LIST(X)
#undef X
    default: break;
    }
}

/* Gemma's checkpoints store norm weights minus one. */
static void add_one(const pg_model *m, const float *v, int64_t n)
{
    if (m->arch->hf_norm_plus_one && pg_source_dialect(m->source) == PG_DIALECT_HF)
        for (int64_t i = 0; i < n; i++) ((float *)v)[i] += 1.0f;
}

static int is_norm(int slot)
{
    return slot == PG_T_OUT_NORM || slot == PG_T_ATTN_NORM || slot == PG_T_Q_NORM || slot == PG_T_K_NORM ||
           slot == PG_T_ATTN_POST_NORM || slot == PG_T_FFN_NORM || slot == PG_T_FFN_POST_NORM;
}

/* A tensor whose size the keys leave open: say which key is to blame. */
static int no_size(const pg_model *m, const pg_source_tensor *t, int slot, pg_error *err)
{
    static const char *const ff[] = { "feed_forward_length", "intermediate_size" },
                             *const experts[] = { "expert_count", "num_experts" },
                             *const shared[] = { "expert_shared_count or expert_shared_feed_forward_length",
                                                 "n_shared_experts or shared_expert_intermediate_size" },
                             *const rank[] = { "attention.q_lora_rank", "q_lora_rank" };
    static const char *const *const key[PG_T_COUNT] = {
        [PG_T_GATE] = ff,
        [PG_T_UP] = ff,
        [PG_T_DOWN] = ff,
        [PG_T_ROUTER] = experts,
        [PG_T_GATE_SHARED] = shared,
        [PG_T_UP_SHARED] = shared,
        [PG_T_DOWN_SHARED] = shared,
        [PG_T_Q_A] = rank,
        [PG_T_Q_B] = rank,
    };
    const char *path = pg_source_path(m->source);
    const int hf = pg_source_dialect(m->source) == PG_DIALECT_HF;
    if (!key[slot])
        return pg_fail(err, PG_EUNSUPPORTED, "%s: the tensor %.*s has no place in a model of the family %s", path,
                       (int)t->name.n, t->name.data, m->arch->name);
    return pg_fail(err, PG_EFORMAT, "%s: the tensor %.*s needs the key %s%s%s, which is missing or 0", path,
                   (int)t->name.n, t->name.data, hf ? "" : m->arch->name, hf ? "" : ".", key[slot][hf]);
}

static int fill_slot(pg_model *m, int l, int slot, pg_error *err)
{
    pg_layer *to = l < 0 ? &m->top : &m->layer[l];
    const char *name = slot_name(m, slot);
    int64_t d[3] = { 0 };
    int kind = MAT, rc;
    slot_shape(&m->h, l < 0 ? 0 : l, slot, d, &kind);
    const pg_source_tensor *t = pg_model_find(m, l, name, "weight");
    if (!t) t = pg_model_find(m, l, name, "");
    if (!t && slot == PG_T_ROUTER_BIAS) t = pg_model_find(m, l, name, "bias");
    if (!t) return PG_OK;
    if (kind == VEC) {
        rc = pg_model_vector(m, t, d[0], &to->v[slot], &to->n[slot], err);
        if (rc >= 0 && is_norm(slot)) add_one(m, to->v[slot], to->n[slot]);
        return rc;
    }
    if (!d[0] || !d[1] || !d[2]) return no_size(m, t, slot, err);
    rc = pg_model_view(m, t, d[0], d[1], d[2], &to->w[slot], err);
    t = rc < 0 ? NULL : pg_model_find(m, l, name, "bias");
    return t ? pg_model_vector(m, t, d[1] * d[2], &to->v[slot], &to->n[slot], err) : rc;
}

static int need(const pg_model *m, int l, int slot, int found, pg_error *err)
{
    return found ? PG_OK : pg_model_missing(m, l, slot_name(m, slot), "weight", err);
}

#define HAS_W(layer, slot) ((layer)->w[PG_T_##slot].dtype != PG_DTYPE_NONE)
#define HAS_V(layer, slot) ((layer)->v[PG_T_##slot] != NULL)
#define NEED_W(slot) \
    if ((rc = need(m, l, PG_T_##slot, HAS_W(y, slot), err)) < 0) return rc
#define NEED_V(slot) \
    if ((rc = need(m, l, PG_T_##slot, HAS_V(y, slot), err)) < 0) return rc

/* MLA: the parts of the up-projection by head, from either dialect. */
static int split_mla(pg_model *m, int l, pg_error *err)
{
    pg_layer *y = &m->layer[l];
    const pg_hparams *h = &m->h;
    char name[NAME];
    int rc;
    if (HAS_W(y, K_B) && HAS_W(y, V_B)) {
        y->k_part = y->w[PG_T_K_B];
        y->v_part = y->w[PG_T_V_B];
        return PG_OK;
    }
    NEED_W(KV_B);
    pg_tensor all = y->w[PG_T_KV_B];
    if (all.packed)
        return pg_fail(
            err, PG_EUNSUPPORTED,
            "%s: the tensor %s is packed, but half of it is multiplied by across its rows: take the file that "
            "this one was made from",
            pg_source_path(m->source), full_name(m, l, slot_name(m, PG_T_KV_B), "weight", name));
    all.shape[1] = h->nope;
    all.shape[2] = h->n_head[l];
    all.stride[2] = all.stride[1] * (h->nope + h->head_v);
    y->k_part = all;
    y->k_turned = 1;
    y->v_part = pg_tensor_rows(&all, h->nope, h->head_v, 1);
    return PG_OK;
}

static int check_attention(pg_model *m, int l, pg_error *err)
{
    pg_layer *y = &m->layer[l];
    char name[NAME];
    int rc;
    NEED_V(ATTN_NORM);
    NEED_W(O);
    if (m->arch->attn == PG_ATTN_MLA) {
        if (HAS_W(y, Q_A)) {
            NEED_V(Q_A_NORM);
            NEED_W(Q_B);
        } else {
            NEED_W(Q);
        }
        NEED_W(KV_A);
        NEED_V(KV_A_NORM);
        return split_mla(m, l, err);
    }
    NEED_W(Q);
    NEED_W(K);
    NEED_W(V);
    for (int i = 0; i < 2; i++) { /* a norm a head, or one over the whole projection */
        const int slot = i ? PG_T_K_NORM : PG_T_Q_NORM, heads = i ? m->h.n_head_kv[l] : m->h.n_head[l];
        if (y->v[slot] && y->n[slot] != m->h.head_k && y->n[slot] != heads * m->h.head_k)
            return pg_fail(err, PG_EFORMAT, "%s: the tensor %s has %d numbers, expected %d or %d",
                           pg_source_path(m->source), full_name(m, l, slot_name(m, slot), "weight", name), y->n[slot],
                           m->h.head_k, heads * m->h.head_k);
    }
    return PG_OK;
}

/* granitemoeshared: the shared expert's gate and up stand in one matrix. */
static int split_shared(pg_model *m, int l, pg_error *err)
{
    pg_layer *y = &m->layer[l];
    const pg_hparams *h = &m->h;
    if (!m->arch->hf_shared_in || pg_source_dialect(m->source) != PG_DIALECT_HF) return PG_OK;
    const pg_source_tensor *t = pg_model_find(m, l, m->arch->hf_shared_in, "weight");
    pg_tensor both;
    if (!t) return PG_OK;
    int rc = pg_model_view(m, t, h->n_embd, 2 * (int64_t)h->n_ff_shared, 1, &both, err); /* never packed: no GGUF */
    if (rc < 0) return rc;
    y->w[PG_T_GATE_SHARED] = pg_tensor_rows(&both, 0, h->n_ff_shared, 1);
    y->w[PG_T_UP_SHARED] = pg_tensor_rows(&both, h->n_ff_shared, h->n_ff_shared, 1);
    return PG_OK;
}

static int check_ffn(pg_model *m, int l, pg_error *err)
{
    pg_layer *y = &m->layer[l];
    int rc = pg_model_experts(m, l, err);
    if (rc < 0) return rc;
    NEED_V(FFN_NORM);
    if (!y->experts.n_expert) {
        NEED_W(GATE);
        NEED_W(UP);
        NEED_W(DOWN);
        return PG_OK;
    }
    m->n_moe_layer++;
    y->router = (pg_router){ .n_expert = m->h.n_expert,
                             .n_used = m->h.n_used,
                             .n_group = m->h.n_group,
                             .n_group_used = m->h.n_group_used,
                             .group_rule = m->h.group_rule,
                             .score = m->h.score,
                             .renorm = m->h.renorm,
                             .scale = m->h.expert_scale,
                             .bias = y->v[PG_T_ROUTER_BIAS] };
    if ((rc = split_shared(m, l, err)) < 0) return rc;
    if (HAS_W(y, GATE_SHARED) || m->h.n_ff_shared) {
        NEED_W(GATE_SHARED);
        NEED_W(UP_SHARED);
        NEED_W(DOWN_SHARED);
    }
    return PG_OK;
}

static int fill_layer(pg_model *m, int l, pg_error *err)
{
    int rc = PG_OK;
    for (int slot = PG_FIRST_LAYER_SLOT; slot < PG_T_COUNT && rc >= 0; slot++) rc = fill_slot(m, l, slot, err);
    if (rc >= 0) rc = check_attention(m, l, err);
    return rc < 0 ? rc : check_ffn(m, l, err);
}

static void empty_layer(pg_layer *y)
{
    for (int i = 0; i < PG_T_COUNT; i++) y->w[i].dtype = PG_DTYPE_NONE;
}

/* Rows of the embedding are the vocabulary, whatever a key says: files pad one or the other. */
static int fill_top(pg_model *m, pg_error *err)
{
    const int l = -1;
    pg_layer *y = &m->top;
    int rc = PG_OK;
    const pg_source_tensor *t = pg_model_find(m, -1, slot_name(m, PG_T_EMBD), "weight");
    if (t) m->h.n_vocab = (int32_t)(t->view.shape[1] < MOST_VOCAB ? t->view.shape[1] : MOST_VOCAB);
    empty_layer(y);
    for (int slot = 0; slot < PG_FIRST_LAYER_SLOT && rc >= 0; slot++) rc = fill_slot(m, -1, slot, err);
    if (rc < 0) return rc;
    NEED_W(EMBD);
    NEED_V(OUT_NORM);
    if (!m->h.tied) NEED_W(OUT);
    if (!HAS_W(y, OUT)) y->w[PG_T_OUT] = y->w[PG_T_EMBD];
    return PG_OK;
}

static int fill_freqs(pg_model *m, pg_error *err)
{
    const int n = m->h.n_rot / 2, two = m->arch->rope_base_swa > 0;
    for (int i = 0; i < 1 + two; i++) {
        if (!(m->freqs[i] = pg_model_alloc(m, (size_t)n * sizeof(float), err))) return PG_EMEMORY;
        pg_rope_freqs(&m->h, m->arch, m->top.v[PG_T_ROPE_FREQS], i, m->freqs[i]);
        for (int j = 0; j < n; j++)
            if (!isfinite(m->freqs[i][j]))
                return pg_fail(err, PG_EFORMAT,
                               "%s: the rotary frequencies are not finite: rope.freq_base, rope.scaling or "
                               "rope_freqs are out of range",
                               pg_source_path(m->source));
    }
    return PG_OK;
}

int pg_model_open(pg_source *source, int weights, double room, pg_model **out, pg_error *err)
{
    pg_model *m = calloc(1, sizeof *m);
    if (!m) {
        pg_source_close(source);
        return pg_fail(err, PG_EMEMORY, "no memory for the model's tables");
    }
    m->source = source;
    m->weights = weights;
    m->room = room;
    int rc = pg_arch_find(source, &m->arch, err);
    if (rc >= 0) rc = pg_hparams_read(source, m->arch, &m->h, err);
    m->used = calloc((size_t)pg_source_n_tensor(source) + 1, 1);
    if (rc >= 0 && (!m->used || !(m->layer = calloc((size_t)m->h.n_layer, sizeof *m->layer))))
        rc = pg_fail(err, PG_EMEMORY, "no memory for the model's tables");
    if (rc >= 0) rc = fill_top(m, err);
    for (int l = 0; rc >= 0 && l < m->h.n_layer; l++) {
        empty_layer(&m->layer[l]);
        rc = fill_layer(m, l, err);
    }
    if (rc >= 0) rc = fill_freqs(m, err);
    if (rc < 0) {
        pg_model_close(m);
        return rc;
    }
    *out = m;
    return PG_OK;
}

void pg_model_close(pg_model *m)
{
    if (!m) return;
    while (m->owned) {
        pg_owned *next = m->owned->next;
        free(m->owned);
        m->owned = next;
    }
    pg_pack_free(m->pack);
    free(m->layer);
    free(m->used);
    pg_source_close(m->source);
    free(m);
}
