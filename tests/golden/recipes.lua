--- The models that make.lua writes: sizes, keys and tensors.
-- Sizes differ from those of other golden files on purpose: odd head counts, widths that no vector length divides,
-- windows shorter than prompts. Gains make attention and routing sharp, so that a wrong formula moves logits by units.
-- A recipe's build(b) calls b:key(name, kind, value) for arch keys, b:normal(name, dims, gain[, type]) for matrices of
-- standard deviation gain / sqrt(n_in), b:around(name, n, centre) for norms, b:bias(name, dims, deviation).
-- @module recipes

local function sizes(b, d, layers, ffn, eps)
   b.d = d
   b:key("context_length", "u32", 512)
   b:key("embedding_length", "u32", d)
   b:key("block_count", "u32", layers)
   b:key("feed_forward_length", "u32", ffn)
   b:key("attention.layer_norm_rms_epsilon", "f32", eps)
end

local function heads(b, H, Hk, D, Dv)
   b:key("attention.head_count", "u32", H)
   b:key("attention.head_count_kv", "u32", Hk)
   b:key("attention.key_length", "u32", D)
   b:key("attention.value_length", "u32", Dv)
end

--- Bounds of the ramp fall between two pairs, so that rounding them shows.
local function yarn(b, factor, length, fast)
   b:key("rope.scaling.type", "string", "yarn")
   b:key("rope.scaling.factor", "f32", factor)
   b:key("rope.scaling.original_context_length", "u32", length)
   b:key("rope.scaling.yarn_beta_fast", "f32", fast)
   b:key("rope.scaling.yarn_beta_slow", "f32", 1)
end

local function experts(b, E, k, Fe)
   b:key("expert_count", "u32", E)
   b:key("expert_used_count", "u32", k)
   b:key("expert_feed_forward_length", "u32", Fe)
end

--- Embedding, last norm and, unless tied, the head.
local function ends(b, tied, kind, deviation)
   b:normal("token_embd.weight", { b.d, b.V }, (deviation or 1) * math.sqrt(b.d), kind)
   b:around("output_norm.weight", b.d, 1)
   if not tied then b:normal("output.weight", { b.d, b.V }, 2, kind) end
end

local function attention(b, p, H, Hk, D, gain, type_of)
   type_of = type_of or {}
   b:normal(p .. "attn_q.weight", { b.d, H * D }, gain, type_of.q)
   b:normal(p .. "attn_k.weight", { b.d, Hk * D }, gain, type_of.k)
   b:normal(p .. "attn_v.weight", { b.d, Hk * D }, 1, type_of.v)
   b:normal(p .. "attn_output.weight", { H * D, b.d }, 1.3, type_of.o)
end

local function dense(b, p, F, suffix, type_of)
   type_of = type_of or {}
   b:normal(p .. "ffn_gate" .. suffix .. ".weight", { b.d, F }, 1.5, type_of.gate)
   b:normal(p .. "ffn_up" .. suffix .. ".weight", { b.d, F }, 1.5, type_of.up)
   b:normal(p .. "ffn_down" .. suffix .. ".weight", { F, b.d }, 1, type_of.down)
end

local function mixture(b, p, E, Fe, router, gain, kind)
   b:normal(p .. "ffn_gate_inp.weight", { b.d, E }, router)
   b:normal(p .. "ffn_gate_exps.weight", { b.d, Fe, E }, gain, kind)
   b:normal(p .. "ffn_up_exps.weight", { b.d, Fe, E }, gain, kind)
   b:normal(p .. "ffn_down_exps.weight", { Fe, b.d, E }, 3 / gain, kind)
end

local function norms(b, p, names)
   for _, name in ipairs(names) do b:around(p .. name .. ".weight", b.d, 1) end
end

--- What both MLA recipes share; s has H, rank, nope, rope, v.
local function latent(b, p, s)
   b:normal(p .. "attn_kv_a_mqa.weight", { b.d, s.rank + s.rope }, 1.4)
   b:around(p .. "attn_kv_a_norm.weight", s.rank, 1.4)
   b:normal(p .. "attn_output.weight", { s.H * s.v, b.d }, 1.3)
end

local function sigmoid_mla(b)
   local s = { H = 3, rank = 28, nope = 12, rope = 8, v = 20, low = 22 }
   sizes(b, 40, 3, 72, 1e-6)
   heads(b, s.H, 1, s.rank + s.rope, s.rank)
   b:key("attention.q_lora_rank", "u32", s.low)
   b:key("attention.kv_lora_rank", "u32", s.rank)
   b:key("attention.key_length_mla", "u32", s.nope + s.rope)
   b:key("attention.value_length_mla", "u32", s.v)
   b:key("rope.dimension_count", "u32", s.rope)
   b:key("rope.freq_base", "f32", 10000)
   yarn(b, 8, 90, 4)
   b:key("rope.scaling.yarn_log_multiplier", "f32", 0.08)
   experts(b, 15, 4, 12)
   b:key("expert_shared_count", "u32", 1)
   b:key("leading_dense_block_count", "u32", 1)
   b:key("expert_weights_scale", "f32", 1.75)
   b:key("expert_weights_norm", "bool", true)
   b:key("expert_gating_func", "u32", 2)
   b:key("expert_group_count", "u32", 5)
   b:key("expert_group_used_count", "u32", 3)
   ends(b)
   for l = 0, 2 do
      local p = "blk." .. l .. "."
      norms(b, p, { "attn_norm", "ffn_norm" })
      b:normal(p .. "attn_q_a.weight", { b.d, s.low }, 1)
      b:around(p .. "attn_q_a_norm.weight", s.low, 1.4)
      b:normal(p .. "attn_q_b.weight", { s.low, s.H * (s.nope + s.rope) }, 1)
      latent(b, p, s)
      b:normal(p .. "attn_k_b.weight", { s.nope, s.rank, s.H }, math.sqrt(s.nope / s.rank))
      b:normal(p .. "attn_v_b.weight", { s.rank, s.v, s.H }, 1)
      if l == 0 then
         dense(b, p, 72, "")
      else
         mixture(b, p, 15, 12, 2, 1.5)
         b:bias(p .. "exp_probs_b.bias", { 15 }, 0.1)
         dense(b, p, 12, "_shexp")
      end
   end
end

local function softmax_mla(b)
   local s = { H = 5, rank = 20, nope = 8, rope = 12, v = 16 }
   sizes(b, 40, 2, 60, 1e-5)
   heads(b, s.H, s.H, s.nope + s.rope, s.v)
   b:key("attention.kv_lora_rank", "u32", s.rank)
   b:key("rope.dimension_count", "u32", s.rope)
   b:key("rope.freq_base", "f32", 5000)
   experts(b, 9, 3, 20)
   b:key("expert_shared_count", "u32", 2)
   b:key("leading_dense_block_count", "u32", 1)
   b:key("expert_weights_scale", "f32", 3)
   b:key("expert_weights_norm", "bool", false)
   b:key("expert_group_count", "u32", 3)
   b:key("expert_group_used_count", "u32", 2)
   ends(b)
   for l = 0, 1 do
      local p = "blk." .. l .. "."
      norms(b, p, { "attn_norm", "ffn_norm" })
      b:normal(p .. "attn_q.weight", { b.d, s.H * (s.nope + s.rope) }, 1.4)
      latent(b, p, s)
      b:normal(p .. "attn_kv_b.weight", { s.rank, s.H * (s.nope + s.v) }, 1)
      if l == 0 then
         dense(b, p, 60, "")
      else
         mixture(b, p, 9, 20, 1.5, 1.5)
         dense(b, p, 40, "_shexp")
      end
   end
end

local function qwen3moe(b)
   local H, Hk, D = 6, 3, 20
   sizes(b, 56, 2, 48, 1e-6)
   heads(b, H, Hk, D, D)
   b:key("rope.freq_base", "f32", 500000)
   experts(b, 11, 3, 16)
   ends(b)
   for l = 0, 1 do
      local p = "blk." .. l .. "."
      norms(b, p, { "attn_norm", "ffn_norm" })
      attention(b, p, H, Hk, D, 1)
      b:around(p .. "attn_q_norm.weight", D, 1.6)
      b:around(p .. "attn_k_norm.weight", D, 1.6)
      mixture(b, p, 11, 16, 2.5, 1.5, "BF16")
   end
end

local function gpt_oss(b)
   local H, Hk, D = 6, 2, 16
   sizes(b, 48, 3, 20, 1e-5)
   heads(b, H, Hk, D, D)
   b:key("rope.freq_base", "f32", 150000)
   yarn(b, 16, 150, 8)
   experts(b, 6, 3, 20)
   b:key("attention.sliding_window", "u32", 9)
   ends(b, false, "F16")
   for l = 0, 2 do
      local p = "blk." .. l .. "."
      norms(b, p, { "attn_norm", "post_attention_norm" })
      attention(b, p, H, Hk, D, 1.5)
      b:bias(p .. "attn_q.bias", { H * D }, 0.3)
      b:bias(p .. "attn_k.bias", { Hk * D }, 0.3)
      b:bias(p .. "attn_v.bias", { Hk * D }, 0.3)
      b:bias(p .. "attn_output.bias", { b.d }, 0.2)
      b:bias(p .. "attn_sinks.weight", { H }, 1.5)
      mixture(b, p, 6, 20, 2.5, 3.5, "BF16")             -- gain 3.5: the clamp at 7 does bite
      b:bias(p .. "ffn_gate_inp.bias", { 6 }, 0.5)
      b:bias(p .. "ffn_gate_exps.bias", { 20, 6 }, 0.5)
      b:bias(p .. "ffn_up_exps.bias", { 20, 6 }, 0.5)
      b:bias(p .. "ffn_down_exps.bias", { b.d, 6 }, 0.3)
   end
end

local function gemma3(b)
   local H, Hk, D = 3, 1, 20
   sizes(b, 40, 6, 44, 1e-6)
   heads(b, H, Hk, D, D)
   b:key("rope.freq_base", "f32", 1000000)
   b:key("rope.freq_base_swa", "f32", 10000)
   b:key("attention.sliding_window", "u32", 7)
   b:key("rope.scaling.type", "string", "linear")
   b:key("rope.scaling.factor", "f32", 4)
   ends(b, true, "F32", 1 / math.sqrt(b.d))               -- the model multiplies by sqrt(d)
   for l = 0, 5 do
      local p = "blk." .. l .. "."
      norms(b, p, { "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm" })
      attention(b, p, H, Hk, D, 1)
      b:around(p .. "attn_q_norm.weight", D, 1.6)
      b:around(p .. "attn_k_norm.weight", D, 1.6)
      dense(b, p, 44, "")
   end
end

--- Divisors of llama3: none for short waves, s for long ones, a mix between.
local function llama3_divisors(r, base, s, low, high, old)
   local out = {}
   for i = 0, r / 2 - 1 do
      local wave = 2 * math.pi * base ^ (2 * i / r)
      local t = math.min(math.max((old / wave - low) / (high - low), 0), 1)
      out[i + 1] = 1 / ((1 - t) / s + t)
   end
   return out
end

local function llama(b)
   local H, Hk, D = 6, 2, 20
   sizes(b, 64, 3, 96, 1e-5)
   heads(b, H, Hk, D, D)
   b:key("rope.dimension_count", "u32", D)
   b:key("rope.freq_base", "f32", 10000)
   ends(b, false, "Q8_0")
   b:values("rope_freqs.weight", llama3_divisors(D, 10000, 4, 1, 4, 32))
   local types = {
      { q = "F16", k = "BF16", v = "Q8_0", o = "F16", gate = "Q8_0", up = "BF16", down = "Q4_0" },
      { q = "Q8_0", k = "Q4_0", v = "F16", o = "BF16", gate = "Q4_0", up = "Q8_0", down = "F16" },
      { q = "Q4_0", k = "Q8_0", v = "BF16", o = "F32", gate = "F16", up = "Q4_0", down = "Q8_0" },
   }
   for l = 0, 2 do
      local p = "blk." .. l .. "."
      norms(b, p, { "attn_norm", "ffn_norm" })
      attention(b, p, H, Hk, D, 1.5, types[l + 1])
      dense(b, p, 96, "", types[l + 1])
   end
end

return {
   { name = "deepseek2_sigmoid", arch = "deepseek2", seed = 9001, build = sigmoid_mla,
      notes = "three heads, q_lora, attn_k_b and attn_v_b, YaRN over a length of 90 with mscale, five groups of three "
         .. "experts, sigmoid scores with bias, renormalised, times 1.75, one shared expert, one dense layer" },
   { name = "deepseek2_softmax", arch = "deepseek2", seed = 9002, build = softmax_mla,
      notes = "five heads, attn_q, unsplit attn_kv_b with head_count_kv = head_count, rope wider than nope, no "
         .. "YaRN, no expert_gating_func, three groups of three experts (scored by the best), times 3, two "
         .. "shared experts" },
   { name = "qwen3moe_small", arch = "qwen3moe", seed = 9003, build = qwen3moe,
      notes = "six heads over three, heads times head size wider than the model, eleven experts as BF16" },
   { name = "gpt_oss_small", arch = "gpt-oss", seed = 9004, build = gpt_oss,
      notes = "three heads a kv head, sinks, window 9 on layers 0 and 2, YaRN ramp bounds not rounded, all biases, six "
         .. "experts as BF16 whose clamp bites, embedding and head as F16" },
   { name = "gemma3_small", arch = "gemma3", seed = 9005, build = gemma3,
      notes = "three heads over one, window 7 on five layers, one global layer with linear factor 4, tied head" },
   { name = "llama_mixed", arch = "llama", seed = 9006, build = llama,
      notes = "rope_freqs, heads times head size wider than the model, matrices as F32, F16, BF16, Q8_0 and Q4_0" },
}
