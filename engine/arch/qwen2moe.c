/* qwen2moe: qwen2 with routed experts, weights not renormalised, and a shared expert behind a gate of its own.
 * Source: Qwen2 technical report (arXiv 2407.10671). */
#include "arch.h"

const pg_arch pg_arch_qwen2moe = {
    .name = "qwen2moe",
    .model_type = { "qwen2_moe" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SOFTMAX,
    .renorm = 0,
    .tensor = { [PG_T_GATE_SHARED] = { NULL, "mlp.shared_expert.gate_proj" },
                [PG_T_UP_SHARED] = { NULL, "mlp.shared_expert.up_proj" },
                [PG_T_DOWN_SHARED] = { NULL, "mlp.shared_expert.down_proj" } },
    .hf_expert = { "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj" },
};
