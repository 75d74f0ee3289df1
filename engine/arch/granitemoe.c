/* granitemoe: multipliers on embedding, residual, scores and logits; softmax over the chosen logits only.
 * Source: IBM Granite 3.0 language models (2024). */
#include "arch.h"

const pg_arch pg_arch_granitemoe = {
    .name = "granitemoe",
    .model_type = { "granitemoe", "granitemoeshared" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_PAIRS,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_TOPK_SOFTMAX,
    .tensor = { [PG_T_ROUTER] = { NULL, "block_sparse_moe.router.layer" },
                [PG_T_DOWN_SHARED] = { NULL, "shared_mlp.output_linear" } },
    .hf_experts = { "block_sparse_moe.input_linear", "block_sparse_moe.output_linear" },
    .hf_shared_in = "shared_mlp.input_linear",
};
