/* qwen2: dense, biases on q, k and v. Source: Qwen2 technical report (arXiv 2407.10671). */
#include "arch.h"

const pg_arch pg_arch_qwen2 = {
    .name = "qwen2",
    .model_type = { "qwen2" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
};
