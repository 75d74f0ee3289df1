/* arch: a model family as data. One table a file; build.c is the only forward pass and reads nothing else.
 *
 * Lives here: what families differ in (pg_arch), the numbers of one model (pg_hparams) and the places that weights go to
 * (slots). Not here: bytes (load/), weights in slots (model.c), ops (plan/).
 * Names of slots stand in the slot list in both dialects; a family overrides the few that it spells differently. */
#ifndef PG_ARCH_H
#define PG_ARCH_H

#include "../../kernels/op.h"
#include "../load/source.h"

enum { PG_MAX_LAYER = 512, PG_MAX_EXPERT = 1024, PG_MAX_HEAD = 1024, PG_MAX_HEAD_DIM = 1024 };

/* X(ID, GGUF name, checkpoint name, kind, columns, rows, matrices): shapes in terms of h (pg_hparams) and l (layer).
 * Kinds: MAT a matrix or a stack of them, its bias is optional; VEC a vector kept as f32; 0 columns: any length.
 * Names of layer slots have "blk.%d." or "model.layers.%d." in front and ".weight" behind unless stored without. */
#define PG_SLOT_LIST(X)                                                                                   \
    X(EMBD, "token_embd", "model.embed_tokens", MAT, h->n_embd, h->n_vocab, 1)                            \
    X(OUT_NORM, "output_norm", "model.norm", VEC, h->n_embd, 1, 1)                                        \
    X(OUT, "output", "lm_head", MAT, h->n_embd, h->n_vocab, 1)                                            \
    X(ROPE_FREQS, "rope_freqs", "", VEC, h->n_rot / 2, 1, 1)                                              \
    X(ATTN_NORM, "attn_norm", "input_layernorm", VEC, h->n_embd, 1, 1)                                    \
    X(Q, "attn_q", "self_attn.q_proj", MAT, h->n_embd, h->n_head[l] * h->head_k, 1)                       \
    X(K, "attn_k", "self_attn.k_proj", MAT, h->n_embd, h->n_head_kv[l] * h->head_k, 1)                    \
    X(V, "attn_v", "self_attn.v_proj", MAT, h->n_embd, h->n_head_kv[l] * h->head_v, 1)                    \
    X(O, "attn_output", "self_attn.o_proj", MAT, h->n_head[l] * h->head_v, h->n_embd, 1)                  \
    X(Q_NORM, "attn_q_norm", "self_attn.q_norm", VEC, 0, 1, 1)                                            \
    X(K_NORM, "attn_k_norm", "self_attn.k_norm", VEC, 0, 1, 1)                                            \
    X(SINKS, "attn_sinks", "self_attn.sinks", VEC, h->n_head[l], 1, 1)                                    \
    X(Q_A, "attn_q_a", "self_attn.q_a_proj", MAT, h->n_embd, h->q_lora, 1)                                \
    X(Q_A_NORM, "attn_q_a_norm", "self_attn.q_a_layernorm", VEC, h->q_lora, 1, 1)                         \
    X(Q_B, "attn_q_b", "self_attn.q_b_proj", MAT, h->q_lora, h->n_head[l] * h->head_k, 1)                 \
    X(KV_A, "attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", MAT, h->n_embd, h->kv_lora + h->n_rot, 1)    \
    X(KV_A_NORM, "attn_kv_a_norm", "self_attn.kv_a_layernorm", VEC, h->kv_lora, 1, 1)                     \
    X(KV_B, "attn_kv_b", "self_attn.kv_b_proj", MAT, h->kv_lora, h->n_head[l] * (h->nope + h->head_v), 1) \
    X(K_B, "attn_k_b", "", MAT, h->nope, h->kv_lora, h->n_head[l])                                        \
    X(V_B, "attn_v_b", "", MAT, h->kv_lora, h->head_v, h->n_head[l])                                      \
    X(ATTN_POST_NORM, "", "", VEC, h->n_embd, 1, 1)                                                       \
    X(FFN_NORM, "ffn_norm", "post_attention_layernorm", VEC, h->n_embd, 1, 1)                             \
    X(FFN_POST_NORM, "", "", VEC, h->n_embd, 1, 1)                                                        \
    X(GATE, "ffn_gate", "mlp.gate_proj", MAT, h->n_embd, h->n_ff[l], 1)                                   \
    X(UP, "ffn_up", "mlp.up_proj", MAT, h->n_embd, h->n_ff[l], 1)                                         \
    X(DOWN, "ffn_down", "mlp.down_proj", MAT, h->n_ff[l], h->n_embd, 1)                                   \
    X(ROUTER, "ffn_gate_inp", "mlp.gate", MAT, h->n_embd, h->n_expert, 1)                                 \
    X(ROUTER_BIAS, "exp_probs_b", "mlp.gate.e_score_correction_bias", VEC, h->n_expert, 1, 1)             \
    X(GATE_SHARED, "ffn_gate_shexp", "mlp.shared_experts.gate_proj", MAT, h->n_embd, h->n_ff_shared, 1)   \
    X(UP_SHARED, "ffn_up_shexp", "mlp.shared_experts.up_proj", MAT, h->n_embd, h->n_ff_shared, 1)         \
    X(DOWN_SHARED, "ffn_down_shexp", "mlp.shared_experts.down_proj", MAT, h->n_ff_shared, h->n_embd, 1)   \
    X(SHARED_GATE, "ffn_gate_inp_shexp", "mlp.shared_expert_gate", MAT, h->n_embd, 1, 1)

typedef enum pg_slot {
#define X(id, gguf, hf, kind, n0, n1, n2) PG_T_##id,
    PG_SLOT_LIST(X)
#undef X
        PG_T_COUNT
} pg_slot;

enum { PG_FIRST_LAYER_SLOT = PG_T_ATTN_NORM };

enum { PG_ATTN_GQA = 0, PG_ATTN_MLA = 1 };
enum {
    PG_WINDOW_KEY = 0,
    PG_WINDOW_EVEN = 1,
    PG_WINDOW_SIX = 2
}; /* all layers if a key says so; even layers; 5 of 6 */
enum { PG_SCALING_NONE = 0, PG_SCALING_LINEAR = 1, PG_SCALING_YARN = 2, PG_SCALING_LLAMA3 = 3 };

/* What tells one family from another. */
typedef struct pg_arch {
    const char *name;          /* general.architecture */
    const char *model_type[4]; /* config.json's model_type values that are this family */
    int attn;                  /* PG_ATTN_* */
    int rope;                  /* PG_ROPE_* in GGUF files */
    int hf_rope;               /* PG_ROPE_* in checkpoints; differs where converters permute q and k */
    int glu;                   /* PG_GLU_* of kernels/glu/glu.h */
    int score, renorm;         /* router when the file does not say: PG_SCORE_*; weights divided by their sum */
    int window;                /* PG_WINDOW_* */
    int yarn_unrounded;        /* YaRN's ramp bounds stay real numbers */
    int yarn_mscale;           /* DeepSeek: magnitude m(mscale) / m(mscale_all_dim), softmax scale times m^2 */
    int embed_sqrt;            /* embedding times sqrt(n_embd) */
    int hf_norm_plus_one;      /* checkpoints store norm weights minus one */
    float glu_limit;           /* clamp of the activation's inputs when the file does not say */
    float rope_base_swa;       /* base of layers with a window; 0: the same as the others */
    struct {
        const char *gguf, *hf;
    } tensor[PG_T_COUNT];      /* names that differ from the slot list; NULL: as there */
    const char *hf_expert[3];  /* checkpoint names of expert %d's gate, up, down */
    const char *hf_experts[2]; /* or of all experts' gate and up in one, and of all downs */
    const char *hf_shared_in;  /* shared gate and up in one matrix, or NULL */
} pg_arch;

/* The numbers of one model, checked: everything is in range for the loops that use it. */
typedef struct pg_hparams {
    int32_t n_layer, n_embd, n_vocab, n_ctx;
    int32_t n_head[PG_MAX_LAYER], n_head_kv[PG_MAX_LAYER], n_ff[PG_MAX_LAYER];
    int32_t head_k, head_v, n_rot; /* of a head; MLA: head_k = nope + n_rot */
    int32_t q_lora, kv_lora, nope;
    int32_t n_expert, n_used, n_shared, n_ff_exp, n_ff_shared, n_group, n_group_used, group_rule;
    int32_t score, renorm;
    float expert_scale;
    float eps;
    int32_t window;
    char windowed[PG_MAX_LAYER];
    float rope_base, rope_base_swa;
    int32_t scaling; /* PG_SCALING_* */
    float factor, low_freq, high_freq, beta_fast, beta_slow, magnitude, orig_ctx;
    float attn_scale; /* of scores, everything included */
    float embed_scale, residual_scale, logit_scale, clamp_qkv, glu_limit, attn_softcap;
    int rope; /* PG_ROPE_* of the weights at hand */
    int tied; /* without an output matrix the embedding serves; 0: the file says that it has one */
} pg_hparams;

/* All families; NULL-terminated. */
extern const pg_arch *const pg_arch_list[];

/* The family of a source (PG_EUNSUPPORTED names the architecture and lists the known ones), and its numbers. */
int pg_arch_find(const pg_source *s, const pg_arch **out, pg_error *err);
int pg_hparams_read(const pg_source *s, const pg_arch *arch, pg_hparams *h, pg_error *err);

/* Inverse frequencies [n_rot / 2] of rotary embedding; divisors: a rope_freqs tensor's or NULL; swa: of layers with a
 * window. */
void pg_rope_freqs(const pg_hparams *h, const pg_arch *arch, const float *divisors, int swa, float *freqs);

#endif
