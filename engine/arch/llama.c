/* llama: the dense model most others descend from, and Mixtral, which is llama with experts in the same file format.
 * Converters permute q and k rows for interleaved rotation; checkpoints keep the half-split order.
 * Sources: Touvron et al., LLaMA (arXiv 2302.13971); Jiang et al., Mixtral of Experts (arXiv 2401.04088). */
#include "arch.h"

const pg_arch pg_arch_llama = {
    .name = "llama",
    .model_type = { "llama", "mistral", "mixtral" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_PAIRS,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_SILU,
    .score = PG_SCORE_SOFTMAX,
    .renorm = 1,
    .tensor = { [PG_T_ROUTER] = { NULL, "block_sparse_moe.gate" } },
    .hf_expert = { "block_sparse_moe.experts.%d.w1", "block_sparse_moe.experts.%d.w3",
                   "block_sparse_moe.experts.%d.w2" },
};
