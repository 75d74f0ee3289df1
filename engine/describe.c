/* describe.c: what a model is, in the words of pg_info, counted from its tensors. */
#include "host.h"
#include "model.h"
#include "token/token.h"

#include <stdio.h>

static double numbers(const pg_tensor *t)
{
    return (double)t->shape[0] * (double)t->shape[1] * (double)t->shape[2] * (double)t->shape[3];
}

/* The format that holds most weights names the quantisation; *packed: some of them stand in panels. */
static pg_dtype main_format(const pg_source *s, double *total, int *packed)
{
    double count[PG_DTYPE_COUNT] = { 0 };
    int best = PG_F32;
    *total = 0;
    *packed = 0;
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_tensor *t = &pg_source_tensor_at(s, i)->view;
        if (pg_dtype_is_weight(t->dtype)) count[t->dtype] += numbers(t);
        *packed |= t->packed;
        if (t->dtype == PG_U8) count[PG_MXFP4] += 2 * numbers(t); /* nibble pairs of gpt-oss checkpoints */
    }
    for (int i = 0; i < PG_DTYPE_COUNT; i++) {
        *total += count[i];
        if (count[i] > count[best]) best = i;
    }
    return (pg_dtype)best;
}

/* Weights a token meets: all but the embedding's other rows and the experts it does not visit. */
static double active(const pg_model *m, double total)
{
    const double expert = 3.0 * m->h.n_embd * m->h.n_ff_exp;
    if (m->top.w[PG_T_OUT].data != m->top.w[PG_T_EMBD].data) total -= numbers(&m->top.w[PG_T_EMBD]) - m->h.n_embd;
    return total - expert * (m->h.n_expert - m->h.n_used) * m->n_moe_layer;
}

static double stored(const pg_tensor *t)
{
    const pg_dtype_info *f = pg_dtype_get(t->dtype);
    return numbers(t) / f->block * f->bytes;
}

/* Matrices that the plan multiplies by; of MLA's up-projection the parts, however the file has them. */
static double layer_bytes(const pg_layer *y)
{
    double sum = 0;
    for (int slot = PG_FIRST_LAYER_SLOT; slot < PG_T_COUNT; slot++) {
        const int split = slot == PG_T_KV_B || slot == PG_T_K_B || slot == PG_T_V_B;
        if (!split && y->w[slot].dtype != PG_DTYPE_NONE) sum += stored(&y->w[slot]);
    }
    if (y->k_part.data) sum += stored(&y->k_part) + stored(&y->v_part);
    return sum;
}

static double expert_bytes(const pg_experts *e)
{
    double sum = 0;
    for (int i = 0; i < e->n_expert; i++) sum += stored(&e->gate[i]) + stored(&e->up[i]) + stored(&e->down[i]);
    return sum;
}

static void count_bytes(const pg_model *m, pg_info *info)
{
    const pg_hparams *h = &m->h;
    const pg_tensor *embd = &m->top.w[PG_T_EMBD];
    info->weight_bytes = stored(&m->top.w[PG_T_OUT]);
    for (int l = 0; l < h->n_layer; l++) {
        info->weight_bytes += layer_bytes(&m->layer[l]);
        info->expert_bytes += expert_bytes(&m->layer[l].experts);
    }
    info->weight_bytes += info->expert_bytes;
    info->active_bytes = info->weight_bytes + stored(embd) / (double)embd->shape[1];
    if (h->n_expert) info->active_bytes -= info->expert_bytes * (1 - (double)h->n_used / h->n_expert);
}

void pg_model_kv_info(const pg_model *m, pg_dtype dtype, pg_info *info)
{
    const pg_hparams *h = &m->h;
    const pg_dtype_info *f = pg_dtype_get(dtype);
    info->kv_bytes = info->kv_window_bytes = 0;
    for (int l = 0; l < h->n_layer; l++) {
        const int gqa = m->arch->attn == PG_ATTN_GQA;
        const double width = gqa ? (double)h->n_head_kv[l] * (h->head_k + h->head_v) : (double)h->kv_lora + h->n_rot;
        const double bytes = width / f->block * f->bytes;
        info->kv_bytes += bytes;
        if (h->windowed[l] && h->window > 0) info->kv_window_bytes += bytes;
    }
    info->kv_window = info->kv_window_bytes > 0 ? h->window : 0;
}

/* Tensors that no part of the forward pass asked for: multi-token prediction, or something a family has on top. */
static void note_unused(const pg_model *m, pg_info *info)
{
    const pg_source_tensor *first = NULL;
    int n = 0;
    for (int i = pg_source_n_tensor(m->source) - 1; i >= 0; i--)
        if (!m->used[i]) first = pg_source_tensor_at(m->source, i), n++;
    if (!n) return;
    snprintf(info->note, sizeof info->note, "%d of the file's tensors not used, the first is %.*s", n,
             first->name.n > 80 ? 80 : (int)first->name.n, first->name.data);
    pg_log(PG_LOG_WARN, "%s: %s", pg_source_path(m->source), info->note);
}

void pg_model_info(const pg_model *m, pg_info *info)
{
    const pg_hparams *h = &m->h;
    pg_text name = { "", 0 };
    *info = (pg_info){ .n_layer = h->n_layer,
                       .n_moe_layer = m->n_moe_layer,
                       .n_embd = h->n_embd,
                       .n_vocab = h->n_vocab,
                       .n_head = h->n_head[0],
                       .n_head_kv = h->n_head_kv[0],
                       .n_expert = h->n_expert,
                       .n_expert_used = h->n_used,
                       .n_expert_shared = h->n_shared,
                       .context_train = h->n_ctx,
                       .bos = -1,
                       .eos = -1,
                       .file_bytes = pg_source_bytes(m->source) };
    snprintf(info->architecture, sizeof info->architecture, "%s", m->arch->name);
    if (pg_source_text(m->source, "general.name", &name, NULL) > 0)
        snprintf(info->name, sizeof info->name, "%.*s",
                 name.n < sizeof info->name ? (int)name.n : (int)sizeof info->name - 1, name.data);
    for (char *c = info->name; *c; c++)
        if ((unsigned char)*c < 32) *c = ' ';
    snprintf(info->format, sizeof info->format, "%s",
             pg_source_dialect(m->source) == PG_DIALECT_GGUF ? "gguf" : "safetensors");
    int packed;
    const pg_dtype most = main_format(m->source, &info->n_params, &packed);
    snprintf(info->quantisation, sizeof info->quantisation, "%s%s", pg_dtype_get(most)->name, packed ? " packed" : "");
    info->n_active = active(m, info->n_params);
    count_bytes(m, info);
    pg_model_kv_info(m, PG_F16, info);
    note_unused(m, info);
}

void pg_info_tokenizer(pg_info *info, pg_tokenizer *t)
{
    pg_tokenizer_info ti;
    if (!t || pg_tokenizer_describe(t, &ti) < 0) return;
    info->bos = ti.bos;
    info->eos = ti.eos;
    snprintf(info->tokenizer, sizeof info->tokenizer, "%s", ti.kind);
}

int pg_model_covers(const pg_model *m, pg_tokenizer *t, pg_error *err)
{
    pg_tokenizer_info ti;
    if (!t || pg_tokenizer_describe(t, &ti) < 0 || ti.n_vocab <= m->h.n_vocab) return PG_OK;
    const int hf = pg_source_dialect(m->source) == PG_DIALECT_HF;
    return pg_fail(err, PG_EFORMAT, "%s: the tokenizer has %d tokens and the tensor %s %d rows",
                   pg_source_path(m->source), ti.n_vocab, hf ? "model.embed_tokens.weight" : "token_embd.weight",
                   m->h.n_vocab);
}

int pg_describe(const char *path, pg_info *out, pg_error *err)
{
    pg_source *source;
    pg_model *m;
    pg_tokenizer *t = NULL;
    if (!path || !out) return pg_fail(err, PG_EINVAL, "pg_describe needs a path and a place for its answer");
    int rc = pg_source_open(path, 1, &source, err);
    if (rc >= 0) rc = pg_model_open(source, 0, pg_host_memory(), &m, err);
    if (rc < 0) return rc;
    pg_model_info(m, out);
    rc = pg_tokenizer_from_source(m->source, &t, err);
    if (rc == PG_ENOTFOUND) rc = PG_OK; /* a model may come without one; it can still be looked at */
    if (rc >= 0) rc = pg_model_covers(m, t, err);
    pg_info_tokenizer(out, t);
    pg_tokenizer_close(t);
    pg_model_close(m);
    return rc < 0 ? rc : PG_OK;
}
