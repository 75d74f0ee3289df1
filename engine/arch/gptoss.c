/* gpt-oss: attention sinks, windows on even layers, biases everywhere, a clamped activation, MXFP4 experts.
 * The released configuration does not round YaRN's bounds, and GGUF has no key to say so: the family implies it.
 * Source: OpenAI, gpt-oss model card (arXiv 2508.10925). */
#include "arch.h"

const pg_arch pg_arch_gptoss = {
    .name = "gpt-oss",
    .model_type = { "gpt_oss" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_OSS,
    .glu_limit = 7.0f,
    .score = PG_SCORE_TOPK_SOFTMAX,
    .window = PG_WINDOW_EVEN,
    .yarn_unrounded = 1,
    .tensor = { [PG_T_FFN_NORM] = { "post_attention_norm", NULL }, [PG_T_ROUTER] = { NULL, "mlp.router" } },
    .hf_experts = { "mlp.experts.gate_up_proj", "mlp.experts.down_proj" },
};
