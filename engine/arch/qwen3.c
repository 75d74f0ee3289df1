/* qwen3: dense, a norm on every head of q and k. Source: Qwen3 technical report (arXiv 2505.09388). */
#include "arch.h"

const pg_arch pg_arch_qwen3 = {
    .name = "qwen3",
    .model_type = { "qwen3" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
};
