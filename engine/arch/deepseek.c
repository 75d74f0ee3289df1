/* deepseek: DeepSeek-MoE (V1): llama's attention, leading dense layers, fine-grained experts and shared ones.
 * Source: Dai et al., DeepSeekMoE (arXiv 2401.06066). */
#include "arch.h"

const pg_arch pg_arch_deepseek = {
    .name = "deepseek",
    .model_type = { "deepseek" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_PAIRS,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SOFTMAX,
    .renorm = 0,
    .hf_expert = { "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj" },
};
