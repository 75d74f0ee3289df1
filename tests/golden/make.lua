--- Writes the golden models of this folder: weights from a seed, prompts, and the answers of reference.lua.
-- usage: luajit tests/golden/make.lua [FOLDER]      from the root of the repository; default tests/golden/models
-- The same seed gives the same files: weights are sums of integers, no library function touches them.

local here = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path
local ffi = require "ffi"
local cases = require "cases"
local gguf = require "gguf"
local recipes = require "recipes"
local reference = require "reference"

local LENGTHS = { 1, 7, 40 }
local GREEDY = 24
local MARGIN, GAP = 1e-2, 1e-3                            -- of greedy choices; of expert and group choices
local LOGIT_DEVIATION = 2

-- ---- tokenizer ----------------------------------------------------------------------------------------------------

local function utf8_of(code)
   if code < 128 then return string.char(code) end
   return string.char(192 + math.floor(code / 64), 128 + code % 64)
end

--- The 256 byte characters of byte-level BPE: printable bytes as themselves, the others from U+0100 on.
local function byte_characters()
   local plain, moved, map, next_code = {}, {}, {}, 256
   for byte = 0, 255 do
      if (byte >= 0x21 and byte <= 0x7E) or (byte >= 0xA1 and byte ~= 0xAD) then
         map[byte] = utf8_of(byte)
         plain[#plain + 1] = map[byte]
      else
         map[byte] = utf8_of(next_code)
         moved[#moved + 1], next_code = map[byte], next_code + 1
      end
   end
   for _, c in ipairs(moved) do plain[#plain + 1] = c end
   return plain, map
end

-- "left|right" in raw bytes; each side is a byte or an earlier result.
local MERGES = {
   " |t", "h|e", " t|he", "i|n", "e|r", " |a", "o|n", " |s", "r|e", "a|n", " |w", "an|d", "o|u", " |o", "a|t", " |b",
   "e|n", "i|t", " |c", " |f", "i|s", "in|g", " |i", " |m", "o|r", " |d", "e|d", "e|s", "l|l", "\228|\184",
   "\228\184|\173", "\n|\n", "a|r", " |p", " |h", "\239|\188", "\239\188|\140", "1|2",
}

local function tokenizer_keys()
   local characters, map = byte_characters()
   local tokens, kinds, merges, known = { "<|bos|>", "<|eos|>", "<|pad|>" }, { 3, 3, 3 }, {}, {}
   local function add(text)
      assert(not known[text], "token twice")
      tokens[#tokens + 1], kinds[#kinds + 1], known[text] = text, 1, true
   end
   local function mapped(raw) return (raw:gsub(".", function(c) return map[c:byte()] end)) end
   for _, c in ipairs(characters) do add(c) end
   for _, entry in ipairs(MERGES) do
      local left, right = entry:match "^([^|]+)|(.+)$"
      left, right = mapped(left), mapped(right)
      assert(known[left] and known[right], "merge of unknown parts")
      merges[#merges + 1] = left .. " " .. right
      add(left .. right)
   end
   return {
      { "tokenizer.ggml.model", "string", "gpt2" },
      { "tokenizer.ggml.pre", "string", "gpt-2" },
      { "tokenizer.ggml.tokens", "string[]", tokens },
      { "tokenizer.ggml.token_type", "i32[]", kinds },
      { "tokenizer.ggml.merges", "string[]", merges },
      { "tokenizer.ggml.bos_token_id", "u32", 0 },
      { "tokenizer.ggml.eos_token_id", "u32", 1 },
      { "tokenizer.ggml.padding_token_id", "u32", 2 },
      { "tokenizer.ggml.add_bos_token", "bool", true },
      { "tokenizer.ggml.add_eos_token", "bool", false },
   }, #tokens
end

-- ---- weights ------------------------------------------------------------------------------------------------------

local Random = {}
Random.__index = Random

local function random(seed) return setmetatable({ state = seed * 0x9E3779B97F4A7C15ULL }, Random) end

--- An integer in [0, n), n <= 2^24.
function Random:below(n)
   self.state = self.state * 6364136223846793005ULL + 1442695040888963407ULL
   return math.floor(tonumber(self.state / 0x10000000000ULL) * n / 16777216)
end

--- Nearly normal, mean 0, deviation 1: twelve uniform numbers.
function Random:normal()
   local sum = 0
   for _ = 1, 12 do sum = sum + self:below(16777216) end
   return sum / 16777216 - 6
end

local Builder = {}
Builder.__index = Builder

function Builder:key(name, kind, value) self.keys[#self.keys + 1] = { self.arch .. "." .. name, kind, value } end

function Builder:add(name, dims, kind, value)
   local n = 1
   for _, dim in ipairs(dims) do n = n * dim end
   local data = ffi.new("double[?]", n)
   for i = 0, n - 1 do data[i] = value(i) end
   self.tensors[#self.tensors + 1] = { name = name, dims = dims, data = data, type = kind }
end

function Builder:normal(name, dims, gain, kind)
   local scale = gain / math.sqrt(dims[1])
   self:add(name, dims, kind or "F32", function() return self.random:normal() * scale end)
end

function Builder:around(name, n, centre)
   self:add(name, { n }, "F32", function() return centre * (1 + 0.15 * self.random:normal()) end)
end

function Builder:bias(name, dims, deviation)
   self:add(name, dims, "F32", function() return deviation * self.random:normal() end)
end

function Builder:values(name, list)
   self:add(name, { #list }, "F32", function(i) return list[i + 1] end)
end

local function build(recipe)
   local token_keys, V = tokenizer_keys()
   local b = setmetatable({ arch = recipe.arch, V = V, random = random(recipe.seed), tensors = {} }, Builder)
   b.keys = {
      { "general.architecture", "string", recipe.arch },
      { "general.name", "string", "tiny " .. recipe.name },
      { "general.file_type", "u32", recipe.name == "llama_mixed" and 7 or 0 },
      { "general.quantization_version", "u32", 2 },
   }
   b:key("vocab_size", "u32", V)
   recipe.build(b)
   for _, key in ipairs(token_keys) do b.keys[#b.keys + 1] = key end
   return b
end

-- ---- prompts ------------------------------------------------------------------------------------------------------

--- Take the sequence back to its first n tokens, with the gap as it was then; later keys are overwritten.
local function rewind(session, n, gap) session.n, session.gap = n, gap end

--- A prompt of random ids, each of which keeps the routing gaps wide, with its logits.
local function draw_prompt(model, rng, length)
   local session, ids, rows = model:session(), {}, {}
   while #ids < length do
      local n, gap, id = session.n, session.gap, 3 + rng:below(model.V - 3)
      local logits = session:step(id)
      if session.gap < GAP then
         rewind(session, n, gap)
      else
         ids[#ids + 1], rows[#rows + 1] = id, logits
      end
   end
   return session, ids, rows
end

--- Continue greedily; nil when a choice on the way is too close.
local function continue(model, session, logits)
   local greedy, least = {}, math.huge
   for i = 1, GREEDY do
      local id, margin = reference.argmax(logits, model.V)
      least = math.min(least, margin)
      if least < MARGIN then return nil end
      greedy[i] = id
      if i < GREEDY then logits = session:step(id) end
      if session.gap < GAP then return nil end
   end
   return greedy, least
end

local function make_case(model, rng, folder, index, length)
   for try = 1, 500 do
      local session, ids, rows = draw_prompt(model, rng, length)
      local greedy, margin = continue(model, session, rows[length])
      if greedy then
         local file = ("logits-%d.f32"):format(index - 1)
         cases.write_floats(folder .. "/" .. file, rows, model.V)
         return { name = "p" .. length, ids = ids, logits = file, shape = { length, model.V }, greedy = greedy,
            greedy_margin = margin, router_gap = session.gap < math.huge and session.gap or nil }, rows, try
      end
   end
   error "no prompt with wide margins was found"
end

local function deviation(rows, V)
   local sum, square, n = 0, 0, #rows * V
   for _, row in ipairs(rows) do
      for i = 0, V - 1 do sum, square = sum + row[i], square + row[i] * row[i] end
   end
   return math.sqrt(square / n - (sum / n) ^ 2)
end

-- ---- files --------------------------------------------------------------------------------------------------------

local function write_meta(path, recipe, std, list)
   local margin, gap = math.huge, math.huge
   for _, c in ipairs(list) do
      margin, gap = math.min(margin, c.greedy_margin), math.min(gap, c.router_gap or math.huge)
   end
   local file = assert(io.open(path, "wb"))
   local function line(form, ...) file:write(" ", form:format(...), "\n") end
   file:write "{\n"
   line('"family": "%s",', recipe.arch)
   line '"source": "float64 forward pass in tests/golden/reference.lua",'
   line('"seed": %d,', recipe.seed)
   line('"notes": "%s",', recipe.notes)
   line('"logit_std": %.4g,', std)
   line('"greedy_margin_min": %.4g,', margin)
   line('"router_gap_min": %s', gap < math.huge and ("%.4g"):format(gap) or "null")
   file:write "}\n"
   file:close()
end

--- Write the model, scale its last norm so that logits spread as wanted, and write it again with its cases.
local function make(recipe, root)
   local folder = root .. "/" .. recipe.name
   os.execute(("mkdir -p '%s'"):format(folder))
   local path, b = folder .. "/model.gguf", build(recipe)
   gguf.write(path, b.keys, b.tensors)
   local _, _, rows = draw_prompt(reference.open(path), random(recipe.seed + 1), 40)
   local scale = LOGIT_DEVIATION / deviation(rows, b.V)
   for _, t in ipairs(b.tensors) do
      if t.name == "output_norm.weight" then
         for i = 0, b.d - 1 do t.data[i] = t.data[i] * scale end
      end
   end
   gguf.write(path, b.keys, b.tensors)
   local model, rng, list, tries, all = reference.open(path), random(recipe.seed + 2), {}, 0, {}
   for index, length in ipairs(LENGTHS) do
      local case, case_rows, n = make_case(model, rng, folder, index, length)
      list[index], tries = case, tries + n
      for _, row in ipairs(case_rows) do all[#all + 1] = row end
   end
   cases.write(folder .. "/cases.json", list)
   local std = deviation(all, b.V)
   write_meta(folder .. "/meta.json", recipe, std, list)
   print(("%-20s scale %.3f, logit deviation %.3f, %d draws for %d prompts"):format(recipe.name, scale, std, tries,
      #LENGTHS))
end

for _, recipe in ipairs(recipes) do make(recipe, arg[1] or here .. "/models") end
