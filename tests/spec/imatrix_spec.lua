-- Importance matrices: every sum against a forward pass in doubles that shares no line with the engine; the command.
local helper = dofile "tests/spec/helper.lua"
local ffi = require "ffi"
local perigee = require "perigee"
local lib = require "perigee.ffi"
package.path = "tests/golden/?.lua;" .. package.path
local cases = require "cases"
local gguf = require "gguf"
local reference = require "reference"

local C = lib.C
ffi.cdef "int pg_spec_compare(const void *a, const void *b, size_t n) __asm__(\"memcmp\");"
local FOLDER = "tests/golden/models/"
local SHARED = helper.models:match "^(.*)/%.%./models$" .. "/models/"

-- The longest prompt of a case, cut; nil when the case is absent.
local function prompt(folder, most)
   local ids
   for _, case in ipairs(cases.read(folder .. "cases.json") or {}) do
      if not ids or #case.ids > #ids then ids = case.ids end
   end
   return ids and helper.slice(ids, 1, math.min(#ids, most))
end

-- What the engine meets in another form than the formula: MLA's up-projection is absorbed.
local ABSORBED = { attn_kv_b = true, attn_k_b = true, attn_v_b = true }
local function is_absorbed(name) return ABSORBED[name:match "^blk%.%d+%.([%w_]+)%.weight$"] end

-- { [tensor] = { sum = { [matrix * n_in + column] }, count = { [matrix] }, n_in, n } } by the other implementation.
local function expected(path, ids)
   local all, model = {}, reference.open(path)
   function reference.observe(w, x, first)
      if not w.name then return end                       -- put together from others
      local rows, n_in = w.dims[2], w.n_in
      if first % rows ~= 0 then return end                -- the second half of a fused matrix: the same x
      local t = all[w.name]
      if not t then
         t = { sum = {}, count = {}, n_in = n_in, n = w.dims[3] or 1 }
         for i = 0, t.n * n_in - 1 do t.sum[i] = 0 end
         for i = 0, t.n - 1 do t.count[i] = 0 end
         all[w.name] = t
      end
      local e = first / rows
      for i = 0, n_in - 1 do t.sum[e * n_in + i] = t.sum[e * n_in + i] + x[i] * x[i] end
      t.count[e] = t.count[e] + 1
   end
   local session = model:session()
   for _, id in ipairs(ids) do session:step(id) end
   reference.observe = nil
   return all, model
end

-- The engine's file for the same ids.
local function collected(path, ids, out)
   local engine = assert(perigee.open(path, { precision = "f32", threads = 2, batch = 7 }))
   local handle = ffi.new "pg_imatrix *[1]"
   assert(C.pg_imatrix_open(engine._handle, handle, lib.err) == C.PG_OK)
   assert(engine:score(ids))
   local rc = C.pg_imatrix_save(handle[0], out, nil, 0, 1, #ids, lib.err)
   assert(rc >= 0, rc < 0 and ffi.string(lib.err.text))
   C.pg_imatrix_close(handle[0])
   engine:close()
   return gguf.read(out), rc
end

local function check_tensor(name, want, file)
   local sums, counts = file.tensors[name .. ".in_sum2"], file.tensors[name .. ".counts"]
   assert.is_truthy(sums and counts, name)
   assert.equal(want.n_in, sums.dims[1], name)
   assert.equal(want.n, sums.dims[2] or 1, name)
   assert.equal(1, counts.dims[1], name)
   assert.equal(want.n, counts.dims[2] or 1, name)
   sums, counts = gguf.load(sums), gguf.load(counts)
   local unmet = 0
   for e = 0, want.n - 1 do
      assert.equal(want.count[e], counts[e], name)
      unmet = unmet + (want.count[e] == 0 and 1 or 0)
      for i = e * want.n_in, (e + 1) * want.n_in - 1 do
         -- f32 against doubles; a hidden value near zero, the difference of larger ones, may be far off in ratio
         assert.is_true(math.abs(want.sum[i] - sums[i]) <= 1e-3 * want.sum[i] + 1e-6 * want.count[e], name)
      end
   end
   return unmet
end

describe("an importance matrix", function()
   local out
   setup(function() out = os.tmpname() end)
   teardown(function() os.remove(out) end)

   for _, name in ipairs { "qwen3moe_small", "gpt_oss_small", "gemma3_small", "llama_mixed", "deepseek2_sigmoid",
      "deepseek2_softmax" } do
      it("has what the weights meet: " .. name, function()
         local path = FOLDER .. name .. "/model.gguf"
         local ids = prompt(FOLDER .. name .. "/", 24)
         local want, model = expected(path, ids)
         local file, unmet = collected(path, ids, out)
         local seen, found = {}, 0
         for tensor, sums in pairs(want) do
            found = found + check_tensor(tensor, sums, file)
            seen[tensor .. ".in_sum2"], seen[tensor .. ".counts"] = true, true
         end
         assert.equal(unmet, found)
         for tensor, t in pairs(file.tensors) do
            local base = tensor:match "^(.*)%.[%w_]+$"
            assert.is_true(seen[tensor] or is_absorbed(base), tensor)
            if is_absorbed(base) and tensor:find "%.counts$" then
               -- one row a position and head: of each matrix where heads have one each
               local heads = model.H
               local n = t.dims[2] or 1
               assert.equal(n == 1 and heads * #ids or #ids, gguf.load(t)[n - 1], tensor)
            end
         end
         local parts = model.family.mla and (file.tensors["blk.0.attn_kv_b.weight.counts"]
            or file.tensors["blk.0.attn_k_b.weight.counts"] and file.tensors["blk.0.attn_v_b.weight.counts"])
         assert.equal(model.family.mla or nil, parts and true or nil)
      end)
   end

   it("counts gate and up in one tensor once", function()
      local path, ids = SHARED .. "deepseek_v3/model-fused.gguf", prompt(SHARED .. "deepseek_v3/", 12)
      if not ids then return pending("golden folder " .. SHARED .. " is absent") end
      local want = expected(path, ids)
      local file = collected(path, ids, out)
      local fused = 0
      for tensor, sums in pairs(want) do
         check_tensor(tensor, sums, file)
         if tensor:find("ffn_gate_up_exps", 1, true) then fused = fused + 1 end
      end
      assert.is_true(fused > 0)
   end)

   it("counts experts that have a tensor each", function()
      local path, ids = SHARED .. "mixtral/model-perexpert.gguf", prompt(SHARED .. "mixtral/", 12)
      if not ids then return pending("golden folder " .. SHARED .. " is absent") end
      local want = expected(path, ids)
      local file = collected(path, ids, out)
      local met = 0
      for tensor, sums in pairs(want) do
         check_tensor(tensor, sums, file)
         if tensor:find("%.ffn_down%.%d+%.") then met = met + 1 end
      end
      assert.is_true(met > 0)
   end)
end)

describe("perigee.imatrix", function()
   local place
   setup(function() place = helper.folder() end)
   teardown(function() helper.remove(place) end)

   local STORY = ("Once upon a time there was a fox. "):rep(12)

   it("cuts each text into chunks", function()
      local out = place .. "/a.gguf"
      local engine = assert(perigee.open(helper.model))
      local ids = assert(engine:encode(STORY, { bos = false }))
      local fresh = engine:info().bos and 15 or 16
      engine:close()
      local found = assert(perigee.imatrix(helper.model, {
         texts = { STORY, STORY }, names = { "one", "two" }, chunk = 16, out = out,
      }))
      assert.is_true(#ids % fresh ~= 1)                   -- a rest of one token alone would be no chunk
      local chunks = 2 * math.ceil(#ids / fresh)
      assert.equal(chunks, found.chunks)
      assert.equal(2 * #ids + (16 - fresh) * chunks, found.tokens)
      assert.is_true(found.perplexity > 1)
      local file = gguf.read(out)
      assert.equal("imatrix", file.keys["general.type"])
      assert.same({ "one", "two" }, file.keys["imatrix.datasets"])
      assert.equal(chunks, file.keys["imatrix.chunk_count"])
      assert.equal(16, file.keys["imatrix.chunk_size"])
      assert.equal(found.tokens, gguf.load(file.tensors["blk.0.attn_output.weight.counts"])[0])
   end)

   it("does not depend on threads and steps", function()
      local function bytes(opts)
         opts.texts, opts.chunk, opts.limit, opts.out = STORY, 20, 3, place .. "/b.gguf"
         assert(perigee.imatrix(helper.model, opts))
         return helper.read(opts.out)
      end
      local first = bytes { threads = 1 }
      assert.equal(first, bytes { threads = 3 })
      assert.equal(first, bytes { threads = 2, batch = 6 })
   end)

   it("refuses what makes no sense, by name", function()
      local function refused(opts, word, code)
         opts.out = opts.out or place .. "/c.gguf"
         local found, message, name = perigee.imatrix(helper.model, opts)
         assert.same({ nil, code or "invalid" }, { found, name })
         assert.matches(word, message, 1, true)
         assert.is_false(helper.exists(place .. "/c.gguf"))
      end
      refused({}, "texts are needed")
      refused({ texts = {} }, "texts are needed")
      refused({ texts = STORY, chunk = 1 }, "chunk must be")
      refused({ texts = STORY, limit = 0 }, "limit must be")
      refused({ texts = STORY, names = { "a", "b" } }, "2 names for 1 texts")
      refused({ texts = "" }, "too short")
      refused({ texts = STORY, limit = 1, out = place .. "/absent/c.gguf" }, "No such file", "not_found")
      refused({ texts = STORY, trends = 2 }, "unknown option")
      assert.same("invalid", (select(3, perigee.imatrix(helper.model, { texts = STORY }))))
      assert.has_error(function() perigee.imatrix(helper.model, { texts = 5, out = "x" }) end)
   end)

   it("leaves nothing behind when progress raises", function()
      local fine, raised = pcall(perigee.imatrix, helper.model, {
         texts = STORY, chunk = 16, out = place .. "/d.gguf",
         progress = function(done, _, what)
            if what == "imatrix" and done == 1 then error("enough", 0) end
         end,
      })
      assert.same({ false, "enough" }, { fine, raised })
      assert.is_false(helper.exists(place .. "/d.gguf"))
   end)
end)

describe("perigee imatrix", function()
   local place
   setup(function() place = helper.workplace() end)
   teardown(function() helper.remove(place) end)

   local function shell(command) return helper.shell(command, place) end

   it("writes a file and says what it saw", function()
      local status, text = shell "perigee imatrix --text story.txt --chunk 16 -o one.gguf"
      assert.equal(0, status)
      assert.matches("^one.gguf: %d+ chunks, %d+ tokens, perplexity [%d.]+", text)
      status = shell "cat story.txt | perigee imatrix --text - --chunk 16 -o two.gguf --json"
      assert.equal(0, status)
      local one, two = gguf.read(place .. "/one.gguf"), gguf.read(place .. "/two.gguf")
      assert.same({ "story.txt" }, one.keys["imatrix.datasets"])
      assert.same({ "-" }, two.keys["imatrix.datasets"])
      local name = "blk.1.ffn_down_exps.weight.in_sum2"
      assert.equal(0, ffi.C.pg_spec_compare(one.tensors[name].bytes, two.tensors[name].bytes, 64))
   end)

   it("wants a text and a place", function()
      for given, wanted in pairs { ["-o x.gguf"] = "a text is needed", ["--text story.txt"] = "a place for the" } do
         local status, _, err = shell("perigee imatrix " .. given)
         assert.equal(2, status)
         assert.matches(wanted, err, 1, true)
      end
      assert.equal(1, (shell "perigee imatrix --text absent.txt -o x.gguf"))
   end)
end)
