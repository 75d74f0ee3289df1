/* qwen3moe: qwen3 with routed experts, weights renormalised, none shared.
 * Source: Qwen3 technical report (arXiv 2505.09388). */
#include "arch.h"

const pg_arch pg_arch_qwen3moe = {
    .name = "qwen3moe",
    .model_type = { "qwen3_moe" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SOFTMAX,
    .renorm = 1,
    .hf_expert = { "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj" },
};
