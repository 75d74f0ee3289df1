--- A forward pass in doubles, written from descriptions of the models alone.
-- Here: llama (dense and Mixtral), qwen2, qwen2moe, qwen3, qwen3moe, olmoe, granitemoe, glm4moe, gpt-oss, gemma3,
-- deepseek, deepseek2; one token at a time, every formula spelled out. Not here: speed, or any line of the engine: this
-- is the second opinion that decides what its answers should be. verify.lua holds it against other implementations.
-- Sources: HF transformers model descriptions; arXiv 2405.04434 and 2412.19437 (MLA, routing), 2309.00071 (YaRN),
-- 2508.10925 (gpt-oss), 2503.19786 (Gemma 3).
-- @module reference

local ffi = require "ffi"
local gguf = require "gguf"

local M = {}

local function doubles(n) return ffi.new("double[?]", n) end

-- ---- what the families differ in ----------------------------------------------------------------------------------
-- norm_pairs: rotary pairs are neighbours (else halves).  renorm: true always, "key" as expert_weights_norm says.
-- ffn_norm: name of the norm before the FFN.  gating: when expert_gating_func is missing.
local FAMILIES = {
   llama = { norm_pairs = true, gating = "softmax", renorm = true },
   qwen2 = {},
   qwen3 = {},
   qwen2moe = { gating = "softmax", renorm = "key" },
   qwen3moe = { gating = "softmax", renorm = true },
   olmoe = { gating = "softmax" },
   granitemoe = { norm_pairs = true, gating = "softmax of chosen" },
   glm4moe = { gating = "sigmoid", renorm = "key", ffn_norm = "post_attention_norm" },
   ["gpt-oss"] = { gating = "softmax of chosen", ffn_norm = "post_attention_norm", exact_ramp = true },
   gemma3 = { four_norms = true, gelu = true, scaled_embedding = true, period = 6 },
   deepseek = { norm_pairs = true, gating = "softmax", renorm = "key" },
   deepseek2 = { norm_pairs = true, gating = "softmax", renorm = "key", mla = true, no_magnitude = true },
}
local GATING = { "softmax", "sigmoid", "softmax of chosen" }

-- ---- arithmetic ---------------------------------------------------------------------------------------------------

--- Called with w, x, first and n_out of every product, when set: for those who want to see what the weights meet.
M.observe = nil

--- y[o] = bias[o] + sum over i of w[first + o][i] x[i]; w is { data, n_in }.
local function linear(w, x, n_out, bias, first, bias_at)
   if M.observe then M.observe(w, x, first or 0, n_out) end
   local y, data, n = doubles(n_out), w.data, w.n_in
   for o = 0, n_out - 1 do
      local sum, row = bias and bias.data[(bias_at or 0) + o] or 0, ((first or 0) + o) * n
      for i = 0, n - 1 do sum = sum + data[row + i] * x[i] end
      y[o] = sum
   end
   return y
end

--- Root mean square norm of x[at .. at + n - 1], into a new array or in place.
local function rms(x, n, w, eps, at, in_place)
   at = at or 0
   local y, to, square = in_place and x or doubles(n), in_place and at or 0, 0
   for i = 0, n - 1 do square = square + x[at + i] * x[at + i] end
   local scale = 1 / math.sqrt(square / n + eps)
   for i = 0, n - 1 do y[to + i] = x[at + i] * scale * w.data[i] end
   return y
end

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local function silu(x) return x * sigmoid(x) end
local function gelu_tanh(x) return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3))) end

local function add(x, y, scale, n)
   for i = 0, n - 1 do x[i] = x[i] + y[i] * scale end
end

--- Rotate `r` values of x from `at` on; rope = { frequencies, magnitude, norm_pairs }.
local function rotate(x, at, position, r, rope)
   for i = 0, r / 2 - 1 do
      local a = rope.norm_pairs and at + 2 * i or at + i
      local b = rope.norm_pairs and a + 1 or a + r / 2
      local angle = position * rope[i]
      local c, s = math.cos(angle) * rope.magnitude, math.sin(angle) * rope.magnitude
      x[a], x[b] = x[a] * c - x[b] * s, x[a] * s + x[b] * c
   end
end

-- ---- opening ------------------------------------------------------------------------------------------------------

local Model = {}
Model.__index = Model

function Model:key(name, default) return self.keys[self.arch .. "." .. name] or default end

--- A tensor as { name, data, n_in, dims }, nil when the file has none.
function Model:tensor(name)
   local t = self.file.tensors[name]
   if not t then return nil end
   return { name = name, data = gguf.load(t), n_in = t.dims[1], dims = t.dims }
end

--- Rotary frequencies: base^(-2i/r), then the file's divisors, linear or YaRN scaling.
local function rope_table(model, base, r, scaling)
   local f, key = { magnitude = 1, norm_pairs = model.family.norm_pairs }, function(n, d) return model:key(n, d) end
   local divisors = model:tensor("rope_freqs.weight")
   for i = 0, r / 2 - 1 do f[i] = base ^ (-2 * i / r) / (divisors and divisors.data[i] or 1) end
   local factor = key("rope.scaling.factor", 1)
   if scaling == "linear" then
      for i = 0, r / 2 - 1 do f[i] = f[i] / factor end
   elseif scaling == "yarn" then
      local length = key("rope.scaling.original_context_length")
      local function dim(turns) return r * math.log(length / (2 * math.pi * turns)) / (2 * math.log(base)) end
      local low, high = dim(key("rope.scaling.yarn_beta_fast", 32)), dim(key("rope.scaling.yarn_beta_slow", 1))
      if not model.family.exact_ramp then low, high = math.floor(low), math.ceil(high) end
      low, high = math.max(low, 0), math.min(high, r - 1)
      for i = 0, r / 2 - 1 do
         local ramp = math.min(math.max((i - low) / math.max(0.001, high - low), 0), 1)
         f[i] = f[i] * (1 - ramp) + f[i] / factor * ramp
      end
      if not model.family.no_magnitude then f.magnitude = 1 + 0.1 * math.log(factor) end
   else
      assert(scaling == "none", "rope scaling " .. scaling .. " is not known here")
   end
   return f
end

--- Per head W_K [nope][latent] and W_V [v][latent], from either layout.
local function split_latent(model, prefix)
   local H, nope, v, rank = model.H, model.nope, model.Dv, model.rank
   local wk, wv = { n_in = rank, data = doubles(H * nope * rank) }, { n_in = rank, data = doubles(H * v * rank) }
   local both = model:tensor(prefix .. "attn_kv_b.weight")
   local kb, vb = model:tensor(prefix .. "attn_k_b.weight"), model:tensor(prefix .. "attn_v_b.weight")
   for h = 0, H - 1 do
      for r = 0, rank - 1 do
         for i = 0, nope - 1 do
            wk.data[(h * nope + i) * rank + r] = both and both.data[(h * (nope + v) + i) * rank + r]
               or kb.data[(h * rank + r) * nope + i]
         end
         for i = 0, v - 1 do
            wv.data[(h * v + i) * rank + r] = both and both.data[(h * (nope + v) + nope + i) * rank + r]
               or vb.data[(h * v + i) * rank + r]
         end
      end
   end
   return wk, wv
end

local LAYER = {
   "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "attn_q", "attn_k", "attn_v", "attn_output",
   "attn_q_norm", "attn_k_norm", "attn_sinks", "attn_q_a", "attn_q_a_norm", "attn_q_b", "attn_kv_a_mqa",
   "attn_kv_a_norm", "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps",
   "ffn_down_exps", "ffn_gate_up_exps", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp", "ffn_gate_inp_shexp",
   "exp_probs_b",
}

local function open_layer(model, l)
   local layer, prefix = { index = l, bias = {} }, "blk." .. l .. "."
   for _, name in ipairs(LAYER) do
      layer[name] = model:tensor(prefix .. name .. ".weight")
      layer.bias[name] = model:tensor(prefix .. name .. ".bias")
   end
   layer.expert = {}
   for e = 0, model:key("expert_count", 0) - 1 do          -- the oldest layout: a tensor an expert
      local one = {}
      for _, part in ipairs { "gate", "up", "down" } do
         one[part] = model:tensor(("%sffn_%s.%d.weight"):format(prefix, part, e))
      end
      if one.gate then layer.expert[e] = one end
   end
   if model.family.mla then layer.wk, layer.wv = split_latent(model, prefix) end
   layer.window, layer.rope = math.huge, model.rope
   if model.family.period and (l + 1) % model.family.period ~= 0 then
      layer.window, layer.rope = model:key("attention.sliding_window"), model.local_rope
   elseif model.arch == "gpt-oss" and l % 2 == 0 then
      layer.window = model:key("attention.sliding_window")
   end
   return layer
end

--- Open a GGUF file.
-- @string path
-- @treturn Model
function M.open(path)
   local file = gguf.read(path)
   local m = setmetatable({ file = file, keys = file.keys, arch = file.keys["general.architecture"] }, Model)
   m.family = assert(FAMILIES[m.arch], path .. ": architecture " .. tostring(m.arch) .. " is not known here")
   m.d, m.L, m.H = m:key("embedding_length"), m:key("block_count"), m:key("attention.head_count")
   m.Hk = m.family.mla and m.H or m:key("attention.head_count_kv", m.H)
   m.eps = m:key("attention.layer_norm_rms_epsilon")
   m.D = m:key("attention.key_length_mla", m:key("attention.key_length", m.d / m.H))
   m.Dv = m:key("attention.value_length_mla", m:key("attention.value_length", m.d / m.H))
   m.R = m:key("rope.dimension_count", m.D)
   m.scale = m:key("attention.scale", m.D ^ -0.5)
   local scaling = m:key("rope.scaling.type", "none")
   m.rope = rope_table(m, m:key("rope.freq_base", 10000), m.R, scaling)
   m.local_rope = rope_table(m, m:key("rope.freq_base_swa", 10000), m.R, "none")
   if m.family.mla then
      m.rank, m.nope = m:key("attention.kv_lora_rank"), m.D - m.R
      if scaling == "yarn" then
         m.scale = m.scale * (1 + m:key("rope.scaling.yarn_log_multiplier", 0)
            * math.log(m:key("rope.scaling.factor"))) ^ 2
      end
   end
   m.embedding, m.output_norm = m:tensor("token_embd.weight"), m:tensor("output_norm.weight")
   m.output = m:tensor("output.weight") or m.embedding
   m.V = m.output.dims[2]
   m.layers = {}
   for l = 0, m.L - 1 do m.layers[l] = open_layer(m, l) end
   return m
end

-- ---- attention ----------------------------------------------------------------------------------------------------

--- Weighted sum of values for every head; cache.k[t] and cache.v[t] hold Hk heads of position t.
local function attend(model, layer, q, cache, position)
   local H, Hk, D, Dv, out = model.H, model.Hk, model.D, model.Dv, doubles(model.H * model.Dv)
   local first, score = math.max(0, position - layer.window + 1), {}
   for h = 0, H - 1 do
      local g = math.floor(h / (H / Hk))
      local sink = layer.attn_sinks and layer.attn_sinks.data[h]
      local max, sum = sink or -math.huge, 0
      for t = first, position do
         local dot, k = 0, cache.k[t]
         for i = 0, D - 1 do dot = dot + q[h * D + i] * k[g * D + i] end
         score[t] = dot * model.scale
         max = math.max(max, score[t])
      end
      if sink then sum = math.exp(sink - max) end
      for t = first, position do sum = sum + math.exp(score[t] - max) end
      for t = first, position do
         local a, v = math.exp(score[t] - max) / sum, cache.v[t]
         for i = 0, Dv - 1 do out[h * Dv + i] = out[h * Dv + i] + a * v[g * Dv + i] end
      end
   end
   return out
end

local function norm_heads(x, heads, D, w, eps)
   if not w then return end
   if w.n_in == D then                                      -- one weight for all heads; else over the whole projection
      for h = 0, heads - 1 do rms(x, D, w, eps, h * D, true) end
   else
      rms(x, heads * D, w, eps, 0, true)
   end
end

local function clamp(x, n, limit)
   if not limit then return end
   for i = 0, n - 1 do x[i] = math.min(math.max(x[i], -limit), limit) end
end

local function plain_qkv(model, layer, x, position)
   local H, Hk, D, Dv, limit = model.H, model.Hk, model.D, model.Dv, model:key("attention.clamp_kqv")
   local q = linear(layer.attn_q, x, H * D, layer.bias.attn_q)
   local k = linear(layer.attn_k, x, Hk * D, layer.bias.attn_k)
   local v = linear(layer.attn_v, x, Hk * Dv, layer.bias.attn_v)
   norm_heads(q, H, D, layer.attn_q_norm, model.eps)
   norm_heads(k, Hk, D, layer.attn_k_norm, model.eps)
   clamp(q, H * D, limit)
   clamp(k, Hk * D, limit)
   clamp(v, Hk * Dv, limit)
   for h = 0, H - 1 do rotate(q, h * D, position, model.R, layer.rope) end
   for h = 0, Hk - 1 do rotate(k, h * D, position, model.R, layer.rope) end
   return q, k, v
end

--- Multi-head latent attention, not absorbed: keys and values are made in full.
local function latent_qkv(model, layer, x, position)
   local H, D, nope, R = model.H, model.D, model.nope, model.R
   local q
   if layer.attn_q_a then
      local low = linear(layer.attn_q_a, x, layer.attn_q_a.dims[2])
      q = linear(layer.attn_q_b, rms(low, layer.attn_q_a.dims[2], layer.attn_q_a_norm, model.eps), H * D)
   else
      q = linear(layer.attn_q, x, H * D)
   end
   for h = 0, H - 1 do rotate(q, h * D + nope, position, R, layer.rope) end
   local both = linear(layer.attn_kv_a_mqa, x, model.rank + R)
   local latent = rms(both, model.rank, layer.attn_kv_a_norm, model.eps)
   rotate(both, model.rank, position, R, layer.rope)
   local k_nope, k = linear(layer.wk, latent, H * nope), doubles(H * D)
   for h = 0, H - 1 do
      for i = 0, nope - 1 do k[h * D + i] = k_nope[h * nope + i] end
      for i = 0, R - 1 do k[h * D + nope + i] = both[model.rank + i] end
   end
   return q, k, linear(layer.wv, latent, H * model.Dv)
end

-- ---- feed-forward -------------------------------------------------------------------------------------------------

local function dense(model, gate, up, down, x)
   local n, act = gate.dims[2], model.family.gelu and gelu_tanh or silu
   local g, u = linear(gate, x, n), linear(up, x, n)
   for i = 0, n - 1 do g[i] = act(g[i]) * u[i] end
   return linear(down, g, model.d)
end

--- Expert e. gpt-oss has biases and a clamped gate.
local function expert(model, layer, e, x)
   local one, d = layer.expert[e], model.d
   if one then return dense(model, one.gate, one.up, one.down, x) end
   local n, g, u = layer.ffn_down_exps.dims[1]
   if layer.ffn_gate_up_exps then
      g = linear(layer.ffn_gate_up_exps, x, n, nil, 2 * n * e)
      u = linear(layer.ffn_gate_up_exps, x, n, nil, 2 * n * e + n)
   else
      g = linear(layer.ffn_gate_exps, x, n, layer.bias.ffn_gate_exps, n * e, n * e)
      u = linear(layer.ffn_up_exps, x, n, layer.bias.ffn_up_exps, n * e, n * e)
   end
   for i = 0, n - 1 do
      if model.arch == "gpt-oss" then
         local a, b = math.min(g[i], 7), math.min(math.max(u[i], -7), 7)
         g[i] = (b + 1) * a * sigmoid(1.702 * a)
      else
         g[i] = silu(g[i]) * u[i]
      end
   end
   return linear(layer.ffn_down_exps, g, d, layer.bias.ffn_down_exps, d * e, d * e)
end

--- Indices 0 .. n - 1 by falling score, the lower index first on a tie.
local function ranked(score, n)
   local order = {}
   for i = 0, n - 1 do order[i + 1] = i end
   table.sort(order, function(a, b)
      if score[a] ~= score[b] then return score[a] > score[b] end
      return a < b
   end)
   return order
end

--- The distance between the last kept and the first dropped score is how safe a choice is.
local function note_gap(state, score, order, kept)
   local next_best = order[kept + 1] and score[order[kept + 1]]
   if next_best and next_best > -math.huge then state.gap = math.min(state.gap, score[order[kept]] - next_best) end
end

--- Drop the experts of all but the best groups. A group counts by its best expert with softmax scores, by the sum of
-- its two best with sigmoid scores.
local function limit_groups(model, gating, choice, E, state)
   local groups, kept = model:key("expert_group_count", 1), model:key("expert_group_used_count", 1)
   if groups <= 1 then return end
   local size, score = E / groups, {}
   for g = 0, groups - 1 do
      local members = {}
      for i = 1, size do members[i] = choice[g * size + i - 1] end
      table.sort(members, function(a, b) return a > b end)
      score[g] = gating == "sigmoid" and members[1] + (members[2] or 0) or members[1]
   end
   local order = ranked(score, groups)
   note_gap(state, score, order, kept)
   for place = kept + 1, groups do
      for i = 0, size - 1 do choice[order[place] * size + i] = -math.huge end
   end
end

--- @treturn table list of { expert, weight }
function M.route(model, logits, E, bias, state)
   local k = model:key("expert_used_count")
   local gating = GATING[model:key("expert_gating_func")] or model.family.gating
   local p, choice, max, sum = {}, {}, -math.huge, 0
   for e = 0, E - 1 do max = math.max(max, logits[e]) end
   for e = 0, E - 1 do sum = sum + math.exp(logits[e] - max) end
   for e = 0, E - 1 do
      p[e] = gating == "softmax" and math.exp(logits[e] - max) / sum or gating == "sigmoid" and sigmoid(logits[e])
         or logits[e]
      choice[e] = p[e] + (bias and bias.data[e] or 0)
   end
   limit_groups(model, gating, choice, E, state)
   local order = ranked(choice, E)
   note_gap(state, choice, order, k)
   local renorm = model.family.renorm
   if renorm == "key" then renorm = model:key("expert_weights_norm", false) end
   local picked, total = {}, 0
   for place = 1, k do
      local w = p[order[place]]
      if gating == "softmax of chosen" then w = math.exp(w - p[order[1]]) end
      picked[place] = { expert = order[place], weight = w }
      total = total + w
   end
   local scale = model:key("expert_weights_scale", 1)
   for _, one in ipairs(picked) do
      if renorm or gating == "softmax of chosen" then one.weight = one.weight / total end
      if scale ~= 0 then one.weight = one.weight * scale end
   end
   return picked
end

local function mixture(model, layer, x, state)
   local E = layer.ffn_gate_inp.dims[2]
   local logits = linear(layer.ffn_gate_inp, x, E, layer.bias.ffn_gate_inp)
   local y = doubles(model.d)
   for _, one in ipairs(M.route(model, logits, E, layer.bias.exp_probs_b or layer.exp_probs_b, state)) do
      add(y, expert(model, layer, one.expert, x), one.weight, model.d)
   end
   if layer.ffn_gate_shexp then
      local gate = layer.ffn_gate_inp_shexp
      local share = gate and sigmoid(linear(gate, x, 1)[0]) or 1
      add(y, dense(model, layer.ffn_gate_shexp, layer.ffn_up_shexp, layer.ffn_down_shexp, x), share, model.d)
   end
   return y
end

-- ---- the pass -----------------------------------------------------------------------------------------------------

local Session = {}
Session.__index = Session

--- A sequence: its keys and values, how many tokens it has, and the smallest routing gap met so far.
function Model:session()
   local s = setmetatable({ model = self, n = 0, gap = math.huge, cache = {} }, Session)
   for l = 0, self.L - 1 do s.cache[l] = { k = {}, v = {} } end
   return s
end

--- Append a token.
-- @treturn cdata double[V] logits after it
function Session:step(id)
   local m, d, position = self.model, self.model.d, self.n
   local family, residual = m.family, m:key("residual_scale", 1)
   local x = doubles(d)
   add(x, m.embedding.data + id * d, m:key("embedding_scale", family.scaled_embedding and math.sqrt(d) or 1), d)
   for l = 0, m.L - 1 do
      local layer, cache = m.layers[l], self.cache[l]
      local q, k, v = (family.mla and latent_qkv or plain_qkv)(m, layer, rms(x, d, layer.attn_norm, m.eps), position)
      cache.k[position], cache.v[position] = k, v
      local y = linear(layer.attn_output, attend(m, layer, q, cache, position), d, layer.bias.attn_output)
      if family.four_norms then y = rms(y, d, layer.post_attention_norm, m.eps) end
      add(x, y, residual, d)
      local h = rms(x, d, layer[family.ffn_norm or "ffn_norm"], m.eps)
      y = layer.ffn_gate_inp and mixture(m, layer, h, self)
         or dense(m, layer.ffn_gate, layer.ffn_up, layer.ffn_down, h)
      if family.four_norms then y = rms(y, d, layer.post_ffw_norm, m.eps) end
      add(x, y, residual, d)
   end
   self.n = position + 1
   local logits, divisor = linear(m.output, rms(x, d, m.output_norm, m.eps), m.V), m:key("logit_scale", 1)
   for i = 0, m.V - 1 do logits[i] = logits[i] / divisor end
   return logits
end

--- The best id (the lower on a tie) and its distance to the second best.
function M.argmax(logits, n)
   local best, second = 0, -math.huge
   for i = 1, n - 1 do
      if logits[i] > logits[best] then
         best, second = i, logits[best]
      elseif logits[i] > second then
         second = logits[i]
      end
   end
   return best, logits[best] - second
end

return M
