/* hparams.c: the numbers of one model, out of GGUF keys or config.json, checked before anything indexes by them.
 * Sources: key tables of GGUF and of published config.json files; YaRN, Peng et al. (arXiv 2309.00071). */
#include "arch.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

enum { MAX_FF = 1 << 22, NO_WINDOW = 1 << 30 }; /* NO_WINDOW: beyond any context, and differences still fit an int */

/* Reading with one error at the end: the first failure is kept, later reads do nothing. */
typedef struct reader {
    const pg_source *s;
    const pg_arch *arch;
    int hf;
    int rc;
    pg_error *err;
    char key[128]; /* of the last read, for messages */
} reader;

/* Point r->key at the first of `names` ("a|b") that the source has, or at the first; 1 when it has one. */
static int find_key(reader *r, const char *gguf, const char *hf)
{
    const char *names = r->hf ? hf : gguf;
    char first[128] = "";
    if (r->rc < 0 || !names) return 0;
    for (const char *at = names;; at++) {
        const size_t n = strcspn(at, "|");
        const char *prefix = r->hf || !strncmp(at, "general.", 8) ? "" : r->arch->name;
        snprintf(r->key, sizeof r->key, "%s%s%.*s", prefix, *prefix ? "." : "", (int)n, at);
        if (pg_source_key(r->s, r->key) != PG_KEY_NONE) return 1;
        if (!*first) snprintf(first, sizeof first, "%s", r->key);
        at += n;
        if (!*at) break;
    }
    snprintf(r->key, sizeof r->key, "%s", first);
    return 0;
}

static void missing(reader *r)
{
    if (r->rc >= 0) r->rc = pg_fail(r->err, PG_EFORMAT, "%s: the key %s is missing", pg_source_path(r->s), r->key);
}

/* Fail unless `fine`. The message begins with the key as this source spells it and goes on with `format`; a key that is
 * not there stands for its default. */
PG_PRINTF(6, 7)
static void check(reader *r, int fine, int code, const char *gguf, const char *hf, const char *format, ...)
{
    char what[256];
    va_list args;
    if (fine || r->rc < 0) return;
    const int there = find_key(r, gguf, hf);
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    r->rc = pg_fail(r->err, code, "%s: the key %s %s%s", pg_source_path(r->s), r->key, what,
                    there ? "" : " (it is missing: this is its default)");
}

/* 1 when the key was there. */
static int read_int(reader *r, const char *gguf, const char *hf, int64_t min, int64_t max, int32_t *out)
{
    int64_t x;
    if (!find_key(r, gguf, hf)) return 0;
    r->rc = pg_source_int(r->s, r->key, min, max, &x, r->err);
    if (r->rc > 0) *out = (int32_t)x;
    return r->rc > 0;
}

static void need_int(reader *r, const char *gguf, const char *hf, int64_t min, int64_t max, int32_t *out)
{
    if (!read_int(r, gguf, hf, min, max, out)) missing(r);
}

static int read_float(reader *r, const char *gguf, const char *hf, float *out)
{
    double x;
    if (!find_key(r, gguf, hf)) return 0;
    r->rc = pg_source_float(r->s, r->key, &x, r->err);
    if (r->rc > 0 && fabs(x) > FLT_MAX)
        r->rc = pg_fail(r->err, PG_EFORMAT, "%s: the key %s is %g, more than 32 bits hold", pg_source_path(r->s),
                        r->key, x);
    if (r->rc > 0) *out = (float)x;
    return r->rc > 0;
}

static int read_positive(reader *r, const char *gguf, const char *hf, float *out)
{
    if (!read_float(r, gguf, hf, out)) return 0;
    if (*out > 0) return 1;
    r->rc = pg_fail(r->err, PG_EFORMAT, "%s: the key %s is %g, expected a number above 0", pg_source_path(r->s), r->key,
                    (double)*out);
    return 0;
}

static int read_bool(reader *r, const char *gguf, const char *hf, int *out)
{
    if (!find_key(r, gguf, hf)) return 0;
    r->rc = pg_source_bool(r->s, r->key, out, r->err);
    return r->rc > 0;
}

static int is_text(pg_text t, const char *text)
{
    return t.n == strlen(text) && !memcmp(t.data, text, t.n);
}

static int read_text(reader *r, const char *gguf, const char *hf, char *out, size_t size)
{
    pg_text t;
    if (!find_key(r, gguf, hf)) return 0;
    r->rc = pg_source_text(r->s, r->key, &t, r->err);
    if (r->rc <= 0) return 0;
    snprintf(out, size, "%.*s", t.n < size ? (int)t.n : (int)size - 1, t.data);
    return 1;
}

/* A number for all layers, or an array with one for each. */
static int read_per_layer(reader *r, const char *gguf, const char *hf, int n_layer, int64_t min, int64_t max,
                          int32_t *out)
{
    int64_t x;
    if (!find_key(r, gguf, hf)) return 0;
    if (pg_source_key(r->s, r->key) != PG_KEY_ARRAY) {
        r->rc = pg_source_int(r->s, r->key, min, max, &x, r->err);
        for (int l = 0; r->rc > 0 && l < n_layer; l++) out[l] = (int32_t)x;
        return r->rc > 0;
    }
    if (pg_source_count(r->s, r->key) < n_layer) {
        r->rc = pg_fail(r->err, PG_EFORMAT, "%s: the key %s has %d numbers, expected one for each of %d layers",
                        pg_source_path(r->s), r->key, (int)pg_source_count(r->s, r->key), n_layer);
        return 0;
    }
    for (int l = 0; l < n_layer && r->rc >= 0; l++) {
        r->rc = pg_source_int_at(r->s, r->key, l, min, max, &x, r->err);
        if (r->rc > 0) out[l] = (int32_t)x;
    }
    return r->rc > 0;
}

/* ---- groups of keys ---------------------------------------------------------------------------------------------- */

static void read_sizes(reader *r, pg_hparams *h)
{
    int32_t mtp = 0;
    need_int(r, "block_count", "num_hidden_layers", 1, PG_MAX_LAYER, &h->n_layer);
    if (!r->hf && read_int(r, "nextn_predict_layers", NULL, 0, PG_MAX_LAYER, &mtp)) h->n_layer -= mtp;
    check(r, h->n_layer >= 1, PG_EFORMAT, "block_count", "num_hidden_layers",
          "leaves no layer beside the %d of nextn_predict_layers", mtp);
    need_int(r, "embedding_length", "hidden_size", 1, 1 << 20, &h->n_embd);
    h->n_ctx = 2048;
    read_int(r, "context_length", "max_position_embeddings", 1, INT32_MAX, &h->n_ctx);
    read_int(r, "vocab_size", "vocab_size", 1, 1 << 24, &h->n_vocab);
    if (!read_per_layer(r, "attention.head_count", "num_attention_heads", h->n_layer, 1, PG_MAX_HEAD, h->n_head))
        missing(r);
    memcpy(h->n_head_kv, h->n_head, sizeof h->n_head);
    read_per_layer(r, "attention.head_count_kv", "num_key_value_heads", h->n_layer, 1, PG_MAX_HEAD, h->n_head_kv);
    read_per_layer(r, "feed_forward_length", "intermediate_size", h->n_layer, 1, MAX_FF, h->n_ff);
    if (!read_positive(r, "attention.layer_norm_rms_epsilon", "rms_norm_eps", &h->eps)) missing(r);
    for (int l = 0; r->rc >= 0 && l < h->n_layer; l++)
        check(r, h->n_head[l] % h->n_head_kv[l] == 0, PG_EFORMAT, "attention.head_count", "num_attention_heads",
              "is %d in layer %d, expected a multiple of the %d key-value heads", h->n_head[l], l, h->n_head_kv[l]);
}

#define PART_KEYS "partial_rotary_factor|rope_parameters.partial_rotary_factor"

static void read_heads(reader *r, pg_hparams *h)
{
    if (r->rc < 0) return;
    h->head_k = h->n_embd / h->n_head[0];
    read_int(r, "attention.key_length", "head_dim", 1, 1 << 14, &h->head_k);
    h->head_v = r->hf ? h->head_k : h->n_embd / h->n_head[0];
    read_int(r, "attention.value_length", NULL, 1, 1 << 14, &h->head_v);
    h->n_rot = h->head_k;
    read_int(r, "rope.dimension_count", NULL, 2, 1 << 14, &h->n_rot);
    float part;
    if (!r->hf || !read_positive(r, NULL, PART_KEYS, &part)) return;
    check(r, part <= 1.0f, PG_EFORMAT, NULL, PART_KEYS, "is %g, expected at most 1", (double)part);
    if (part <= 1.0f) h->n_rot = (int32_t)((float)h->head_k * part);
}

static void read_mla(reader *r, pg_hparams *h)
{
    int32_t rope = h->n_rot;
    need_int(r, "attention.kv_lora_rank", "kv_lora_rank", 1, 1 << 14, &h->kv_lora);
    read_int(r, "attention.q_lora_rank", "q_lora_rank", 0, 1 << 16, &h->q_lora);
    if (r->hf) {
        need_int(r, NULL, "qk_rope_head_dim", 2, PG_MAX_HEAD_DIM, &rope);
        need_int(r, NULL, "qk_nope_head_dim", 1, PG_MAX_HEAD_DIM, &h->nope);
        need_int(r, NULL, "v_head_dim", 1, PG_MAX_HEAD_DIM, &h->head_v);
        h->head_k = h->nope + rope;
    } else {
        need_int(r, "rope.dimension_count", NULL, 2, PG_MAX_HEAD_DIM, &rope);
        /* mainline's dialect has the un-absorbed sizes in keys of their own, the older one in the plain ones */
        if (!read_int(r, "attention.key_length_mla", NULL, 1, PG_MAX_HEAD_DIM, &h->head_k))
            need_int(r, "attention.key_length", NULL, 1, PG_MAX_HEAD_DIM, &h->head_k);
        if (!read_int(r, "attention.value_length_mla", NULL, 1, PG_MAX_HEAD_DIM, &h->head_v))
            need_int(r, "attention.value_length", NULL, 1, PG_MAX_HEAD_DIM, &h->head_v);
        h->nope = h->head_k - rope;
    }
    h->n_rot = rope;
    check(r, h->nope >= 1, PG_EFORMAT, "rope.dimension_count", "qk_rope_head_dim",
          "is %d, expected less than the %d columns of a head", rope, h->head_k);
}

#define EXPERT_KEYS "n_routed_experts|num_local_experts|num_experts"
#define SHARED_FF_KEYS "shared_expert_intermediate_size|shared_intermediate_size"

/* How router logits become scores. */
static void read_scores(reader *r, pg_hparams *h)
{
    char text[64] = "";
    h->score = r->arch->score;
    h->renorm = r->arch->renorm;
    if (!r->hf) {
        read_int(r, "expert_gating_func", NULL, 0, INT32_MAX, &h->score);
        check(r, h->score >= PG_SCORE_SOFTMAX && h->score <= PG_SCORE_TOPK_SOFTMAX, PG_EUNSUPPORTED,
              "expert_gating_func", "",
              "is %d, a score that perigee does not know; it knows 1 (softmax), 2 (sigmoid), "
              "3 (softmax over the chosen)",
              h->score);
    } else if (read_text(r, NULL, "scoring_func", text, sizeof text)) {
        h->score = !strcmp(text, "sigmoid") ? PG_SCORE_SIGMOID : PG_SCORE_SOFTMAX;
        check(r, !strcmp(text, "sigmoid") || !strcmp(text, "softmax"), PG_EUNSUPPORTED, "", "scoring_func",
              "is \"%s\", expected \"softmax\" or \"sigmoid\"", text);
    } else if (read_text(r, NULL, "model_type", text, sizeof text) &&
               (!strcmp(text, "deepseek_v3") || !strcmp(text, "kimi_k2"))) {
        h->score = PG_SCORE_SIGMOID; /* what the checkpoint's own code does when the key is left out */
        h->renorm = 1;
    }
    read_bool(r, "expert_weights_norm", "norm_topk_prob", &h->renorm);
    read_float(r, "expert_weights_scale", "routed_scaling_factor", &h->expert_scale);
    if (h->expert_scale == 0) h->expert_scale = 1; /* writers put 0 for "none" */
}

static void read_experts(reader *r, pg_hparams *h)
{
    if (!read_int(r, "expert_count", EXPERT_KEYS, 0, PG_MAX_EXPERT, &h->n_expert) || !h->n_expert) return;
    need_int(r, "expert_used_count", "num_experts_per_tok", 1, PG_MAX_EXPERT, &h->n_used);
    check(r, h->n_used <= h->n_expert, PG_EFORMAT, "expert_used_count", "num_experts_per_tok",
          "is %d, more than the %d experts", h->n_used, h->n_expert);
    read_int(r, "expert_shared_count", "n_shared_experts", 0, 64, &h->n_shared);
    h->n_ff_exp = h->n_ff[0];
    if (!read_int(r, "expert_feed_forward_length", "moe_intermediate_size", 1, MAX_FF, &h->n_ff_exp) && !h->n_ff_exp)
        missing(r);
    h->n_ff_shared = h->n_ff_exp * h->n_shared;
    read_int(r, "expert_shared_feed_forward_length", SHARED_FF_KEYS, 0, MAX_FF, &h->n_ff_shared);
    read_scores(r, h);
}

/* GGUF does not name the rule by which groups of experts count; the scores tell (V2: softmax, V3: sigmoid). */
static void read_groups(reader *r, pg_hparams *h)
{
    char text[64] = "";
    h->n_group = h->n_group_used = 1;
    if (!h->n_expert) return;
    read_int(r, "expert_group_count", "n_group", 1, PG_MAX_EXPERT, &h->n_group);
    read_int(r, "expert_group_used_count", "topk_group", 1, PG_MAX_EXPERT, &h->n_group_used);
    if (r->hf && read_text(r, NULL, "topk_method", text, sizeof text) && !strcmp(text, "greedy"))
        h->n_group = h->n_group_used = 1;
    check(r, h->n_expert % h->n_group == 0, PG_EFORMAT, "expert_group_count", "n_group",
          "is %d, which does not divide the %d experts", h->n_group, h->n_expert);
    check(r, h->n_group_used <= h->n_group, PG_EFORMAT, "expert_group_used_count", "topk_group",
          "is %d, more than the %d groups", h->n_group_used, h->n_group);
    check(r, h->n_used <= h->n_expert / h->n_group * h->n_group_used, PG_EFORMAT, "expert_used_count",
          "num_experts_per_tok", "is %d, more than the experts of the %d groups that are kept", h->n_used,
          h->n_group_used);
    h->group_rule = h->n_group < 2 ? PG_GROUP_NONE : h->score == PG_SCORE_SIGMOID ? PG_GROUP_TOP2 : PG_GROUP_BEST;
}

/* Element l of the array at r->key: 1 for a layer with a window. */
static int read_window_flag(reader *r, int l)
{
    int64_t flag = 0;
    pg_text t = { "", 0 };
    r->rc =
        r->hf ? pg_source_text_at(r->s, r->key, l, &t, r->err) : pg_source_int_at(r->s, r->key, l, 0, 1, &flag, r->err);
    if (!r->hf || r->rc < 0) return (int)flag;
    if (is_text(t, "sliding_attention")) return 1;
    if (!is_text(t, "full_attention"))
        r->rc = pg_fail(r->err, PG_EUNSUPPORTED,
                        "%s: the key %s[%d] is \"%.*s\", expected \"full_attention\" or \"sliding_attention\"",
                        pg_source_path(r->s), r->key, l, t.n < 60 ? (int)t.n : 60, t.data);
    return 0;
}

static void read_windows(reader *r, pg_hparams *h)
{
    const int kind = r->arch->window;
    int32_t period = kind == PG_WINDOW_SIX ? 6 : kind == PG_WINDOW_EVEN ? 2 : 1;
    int use =
        kind != PG_WINDOW_KEY || (r->hf && !strcmp(r->arch->name, "llama")); /* GGUF llama files carry unused ones */
    read_int(r, "attention.sliding_window", "sliding_window", 0, INT32_MAX, &h->window);
    if (r->hf && kind == PG_WINDOW_KEY) read_bool(r, NULL, "use_sliding_window", &use);
    if (!use || r->rc < 0) h->window = 0;
    if (!h->window) return;
    if (h->window > NO_WINDOW) h->window = NO_WINDOW;
    if (find_key(r, "attention.sliding_window_pattern", "layer_types") && pg_source_key(r->s, r->key) == PG_KEY_ARRAY) {
        for (int l = 0; l < h->n_layer && r->rc >= 0; l++) h->windowed[l] = (char)read_window_flag(r, l);
        return;
    }
    read_int(r, "attention.sliding_window_pattern", "sliding_window_pattern", 1, PG_MAX_LAYER, &period);
    int32_t full = 0; /* qwen: the first max_window_layers attend to everything */
    if (r->hf && kind == PG_WINDOW_KEY) read_int(r, NULL, "max_window_layers", 0, INT32_MAX, &full);
    for (int l = 0; l < h->n_layer; l++) h->windowed[l] = period == 1 ? l >= full : (l + 1) % period != 0;
}

#define SCALING_KEYS                                                                           \
    "rope_scaling.rope_type|rope_scaling.type|rope_parameters.rope_type|rope_parameters.type|" \
    "rope_parameters.full_attention.rope_type"

#define ATTN_FACTOR_GGUF "rope.scaling.attn_factor|rope.scaling.yarn_attn_factor"
#define ATTN_FACTOR_HF "rope_scaling.attention_factor|rope_parameters.attention_factor"

static void read_scaling(reader *r, pg_hparams *h)
{
    char type[64] = "none";
    float attn = 0;
    h->factor = 1;
    h->low_freq = 1;
    h->high_freq = 4;
    h->beta_fast = 32;
    h->beta_slow = 1;
    h->magnitude = 1;
    h->rope_base = 10000;
    h->orig_ctx = (float)h->n_ctx;
    read_positive(r, "rope.freq_base",
                  "rope_theta|rope_parameters.rope_theta|rope_parameters.full_attention.rope_theta", &h->rope_base);
    h->rope_base_swa = r->arch->rope_base_swa > 0 ? r->arch->rope_base_swa : h->rope_base;
    read_positive(r, "rope.freq_base_swa", "rope_local_base_freq|rope_parameters.sliding_attention.rope_theta",
                  &h->rope_base_swa);
    if (!read_text(r, "rope.scaling.type", SCALING_KEYS, type, sizeof type) && !r->hf &&
        read_positive(r, "rope.scale_linear", NULL, &h->factor))
        strcpy(type, "linear");
    read_positive(r, "rope.scaling.factor",
                  "rope_scaling.factor|rope_parameters.factor|rope_parameters.full_attention.factor", &h->factor);
    read_positive(r, "rope.scaling.original_context_length",
                  "rope_scaling.original_max_position_embeddings|rope_parameters.original_max_position_embeddings",
                  &h->orig_ctx);
    read_positive(r, "rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast|rope_parameters.beta_fast", &h->beta_fast);
    read_positive(r, "rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow|rope_parameters.beta_slow", &h->beta_slow);
    read_positive(r, NULL, "rope_scaling.low_freq_factor|rope_parameters.low_freq_factor", &h->low_freq);
    read_positive(r, NULL, "rope_scaling.high_freq_factor|rope_parameters.high_freq_factor", &h->high_freq);
    if (!strcmp(type, "none") || !strcmp(type, "default")) return;
    h->scaling = !strcmp(type, "linear")   ? PG_SCALING_LINEAR
                 : !strcmp(type, "yarn")   ? PG_SCALING_YARN
                 : !strcmp(type, "llama3") ? PG_SCALING_LLAMA3
                                           : PG_SCALING_NONE;
    check(r, h->scaling != PG_SCALING_NONE, PG_EUNSUPPORTED, "rope.scaling.type", SCALING_KEYS,
          "is \"%s\", expected none, linear, yarn or llama3", type);
    if (h->scaling != PG_SCALING_YARN) return;
    h->magnitude = 1 + 0.1f * logf(h->factor);
    if (read_positive(r, ATTN_FACTOR_GGUF, ATTN_FACTOR_HF, &attn)) h->magnitude = r->hf ? attn : attn * h->magnitude;
}

#define ALL_KEYS "rope_scaling.mscale_all_dim|rope_parameters.mscale_all_dim"

static int is_positive(float x)
{
    return x > 0 && isfinite(x);
}

static float mscale(float a, float factor)
{
    return factor > 1 ? 0.1f * a * logf(factor) + 1 : 1;
}

static void read_scales(reader *r, pg_hparams *h)
{
    float x = 0, cap = 0;
    h->embed_scale = r->arch->embed_sqrt ? sqrtf((float)h->n_embd) : 1;
    h->residual_scale = h->logit_scale = 1;
    h->glu_limit = r->arch->glu_limit;
    h->attn_scale = 1 / sqrtf((float)h->head_k);
    if (!strcmp(r->arch->name, "gemma3") && !r->hf && h->n_layer == 62) /* 27B: GGUF has no key for d / H = 168 */
        h->attn_scale = 1 / sqrtf((float)(h->n_embd / h->n_head[0]));
    if (r->hf && read_positive(r, NULL, "query_pre_attn_scalar", &x)) h->attn_scale = 1 / sqrtf(x);
    read_positive(r, "attention.scale", "attention_multiplier", &h->attn_scale);
    read_positive(r, "embedding_scale", "embedding_multiplier", &h->embed_scale);
    read_positive(r, "residual_scale", "residual_multiplier", &h->residual_scale);
    if (read_positive(r, "logit_scale", "logits_scaling", &x)) h->logit_scale = 1 / x;
    read_positive(r, "attention.clamp_kqv", "clip_qkv", &h->clamp_qkv);
    read_positive(r, NULL, "swiglu_limit", &h->glu_limit);
    if (read_float(r, "attn_logit_softcapping", "attn_logit_softcapping", &cap) && cap > 0) h->attn_softcap = cap;
    if (read_float(r, "final_logit_softcapping", "final_logit_softcapping", &cap))
        check(r, cap <= 0, PG_EUNSUPPORTED, "final_logit_softcapping", "final_logit_softcapping",
              "is %g: it belongs to a family that perigee does not run", (double)cap);
}

/* DeepSeek's YaRN: a magnitude of its own for scores. */
static void read_mscale(reader *r, pg_hparams *h)
{
    float x = 0, all = 0, one = 1;
    if (!r->arch->yarn_mscale || h->scaling != PG_SCALING_YARN) return;
    if (r->hf) {
        read_float(r, NULL, "rope_scaling.mscale|rope_parameters.mscale", &one);
        read_float(r, NULL, ALL_KEYS, &all);
        h->magnitude = mscale(one, h->factor) / mscale(all, h->factor);
    } else if (read_float(r, "rope.scaling.yarn_log_multiplier", NULL, &x)) {
        all = x * 10;
        h->magnitude = 1; /* writers put the key in when mscale = mscale_all_dim, whose ratio this is */
    }
    h->attn_scale *= mscale(all, h->factor) * mscale(all, h->factor);
    check(r, is_positive(h->magnitude) && is_positive(h->attn_scale), PG_EFORMAT, "rope.scaling.yarn_log_multiplier",
          ALL_KEYS, "is out of range: it makes the scale of scores %g", (double)(h->attn_scale * h->magnitude));
}

/* Each is positive where it is read; what is derived from it may still overflow. */
static void check_scales(reader *r, const pg_hparams *h)
{
    check(r, is_positive(h->attn_scale), PG_EFORMAT, "attention.scale", "attention_multiplier|query_pre_attn_scalar",
          "is out of range: scores would be multiplied by %g", (double)h->attn_scale);
    check(r, is_positive(h->logit_scale), PG_EFORMAT, "logit_scale", "logits_scaling",
          "is out of range: logits would be multiplied by %g", (double)h->logit_scale);
    check(r, isfinite(h->magnitude), PG_EFORMAT, ATTN_FACTOR_GGUF, ATTN_FACTOR_HF,
          "is out of range: rotary angles would have the magnitude %g", (double)h->magnitude);
}

static void check_heads(reader *r, const pg_hparams *h)
{
    const int mla = r->arch->attn == PG_ATTN_MLA;
    const char *k = mla ? "attention.key_length_mla|attention.key_length" : "attention.key_length";
    const char *v = mla ? "attention.value_length_mla|attention.value_length" : "attention.value_length";
    check(r, h->head_k >= 1 && h->head_k <= PG_MAX_HEAD_DIM, PG_EFORMAT, k, mla ? "qk_nope_head_dim" : "head_dim",
          "gives heads of %d columns, expected 1 to %d", h->head_k, PG_MAX_HEAD_DIM);
    check(r, h->head_v >= 1 && h->head_v <= PG_MAX_HEAD_DIM, PG_EFORMAT, v, mla ? "v_head_dim" : "head_dim",
          "gives values of %d columns, expected 1 to %d", h->head_v, PG_MAX_HEAD_DIM);
    check(r, h->n_rot >= 2 && h->n_rot % 2 == 0 && h->n_rot <= h->head_k, PG_EFORMAT, "rope.dimension_count",
          mla ? "qk_rope_head_dim" : PART_KEYS "|head_dim",
          "rotates %d columns of a head, expected an even number from 2 to %d", h->n_rot, h->head_k);
}

/* Every family has one activation; a checkpoint that names another is another model. */
static void check_activation(reader *r)
{
    char name[64] = "";
    const int gelu = r->arch->glu == PG_GLU_GELU;
    if (!r->hf || !read_text(r, NULL, "hidden_act|hidden_activation", name, sizeof name)) return;
    const int fine = gelu ? !strcmp(name, "gelu_pytorch_tanh") : !strcmp(name, "silu") || !strcmp(name, "swish");
    check(r, fine, PG_EUNSUPPORTED, NULL, "hidden_act|hidden_activation", "is \"%s\", expected %s", name,
          gelu ? "gelu_pytorch_tanh" : "silu");
}

int pg_hparams_read(const pg_source *s, const pg_arch *arch, pg_hparams *h, pg_error *err)
{
    reader r = { .s = s, .arch = arch, .hf = pg_source_dialect(s) == PG_DIALECT_HF, .err = err };
    *h = (pg_hparams){ .expert_scale = 1, .tied = 1 };
    read_sizes(&r, h);
    read_heads(&r, h);
    if (arch->attn == PG_ATTN_MLA) read_mla(&r, h);
    read_experts(&r, h);
    read_groups(&r, h);
    read_windows(&r, h);
    read_scaling(&r, h);
    read_scales(&r, h);
    read_mscale(&r, h);
    check_heads(&r, h);
    check_scales(&r, h);
    check_activation(&r);
    h->rope = r.hf ? arch->hf_rope : arch->rope;
    int interleave = 1;
    if (r.hf && arch->attn == PG_ATTN_MLA && read_bool(&r, NULL, "rope_interleave", &interleave) && !interleave)
        h->rope = PG_ROPE_HALVES;
    read_bool(&r, NULL, "tie_word_embeddings", &h->tied);
    return r.rc < 0 ? r.rc : PG_OK;
}
