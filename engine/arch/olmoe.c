/* olmoe: norms over the whole q and k projections, weights not renormalised, no shared expert.
 * Source: Muennighoff et al., OLMoE (arXiv 2409.02060). */
#include "arch.h"

const pg_arch pg_arch_olmoe = {
    .name = "olmoe",
    .model_type = { "olmoe" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SOFTMAX,
    .renorm = 0,
    .hf_expert = { "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj" },
};
