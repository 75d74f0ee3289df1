/* glm4moe: rotation of part of each head, biases on q, k and v, optional head norms, DeepSeek-V3's router.
 * Source: GLM-4.5 technical report (arXiv 2508.06471). */
#include "arch.h"

const pg_arch pg_arch_glm4moe = {
    .name = "glm4moe",
    .model_type = { "glm4_moe" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SIGMOID,
    .renorm = 1,
    .tensor = { [PG_T_FFN_NORM] = { "post_attention_norm", NULL } },
    .hf_expert = { "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj" },
};
