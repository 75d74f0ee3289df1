/* gemma3: dense, four norms a layer, five layers with a window for one without, a rotary base for each kind.
 * Source: Gemma 3 technical report (arXiv 2503.19786). */
#include "arch.h"

const pg_arch pg_arch_gemma3 = {
    .name = "gemma3",
    .model_type = { "gemma3_text" },
    .attn = PG_ATTN_GQA,
    .rope = PG_ROPE_HALVES,
    .hf_rope = PG_ROPE_HALVES,
    .glu = PG_GLU_GELU,
    .window = PG_WINDOW_SIX,
    .rope_base_swa = 10000.0f,
    .embed_sqrt = 1,
    .hf_norm_plus_one = 1,
    .tensor = { [PG_T_ATTN_POST_NORM] = { "post_attention_norm", "post_attention_layernorm" },
                [PG_T_FFN_NORM] = { NULL, "pre_feedforward_layernorm" },
                [PG_T_FFN_POST_NORM] = { "post_ffw_norm", "post_feedforward_layernorm" } },
};
