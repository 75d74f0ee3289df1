/* deepseek2: DeepSeek-V2, V2-Lite, V2.5, V3, R1, V3.1: latent attention (MLA), group-limited or biased sigmoid routing.
 * Checkpoints are interleaved already, so both dialects rotate pairs.
 * Sources: DeepSeek-V2 (arXiv 2405.04434), DeepSeek-V3 (arXiv 2412.19437). */
#include "arch.h"

const pg_arch pg_arch_deepseek2 = {
    .name = "deepseek2",
    .model_type = { "deepseek_v2", "deepseek_v3", "kimi_k2" },
    .attn = PG_ATTN_MLA,
    .rope = PG_ROPE_PAIRS,
    .hf_rope = PG_ROPE_PAIRS,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SOFTMAX,
    .renorm = 0,
    .yarn_mscale = 1,
    .hf_expert = { "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj" },
};
