-- Prompts that begin alike share what was computed of them: what Lua sees of it.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local OPTIONS = { context = 512, kv_tokens = 1024 }

-- A prompt of n tokens that begins like all others up to `alike`.
local function prompt(n, alike)
   local ids = {}
   for i = 1, n do ids[i] = 300 + (i * 7 + (i > alike and 1 or 0)) % 5000 end
   return ids
end

describe("shared prompts", function()
   local engine, plain
   before_each(function() engine = assert(perigee.open(helper.model, OPTIONS)) end)
   after_each(function() engine:close() end)
   setup(function()
      plain = assert(perigee.open(helper.model, { context = 512, kv_tokens = 1024, prefix_cache = false }))
   end)
   teardown(function() plain:close() end)

   local function ask(from, ids, opts)
      local given = { max_new = 8, seed = 3, ignore_eos = true, logprobs = 3 }
      for name, value in pairs(opts or {}) do given[name] = value end
      return assert(assert(from:generate(ids, given)):result())
   end

   it("are found, counted, and give the same bits", function()
      for _, case in ipairs { { 100, 100, 0 }, { 100, 100, 96 }, { 128, 128, 96 }, { 128, 70, 64 }, { 31, 31, 0 } } do
         local ids = prompt(case[1], case[2])
         local got, want = ask(engine, ids), ask(plain, ids)
         assert.equal(case[3], got.usage.cached)
         assert.equal(case[1], got.usage.prompt)
         assert.equal(0, want.usage.cached)
         assert.same(want.tokens, got.tokens)
         assert.same(want.logprobs, got.logprobs)
      end
      local stats = helper.settle(engine)
      assert.equal(0, stats.kv_pages_used)
      assert.equal(4, stats.kv_pages_cached)       -- three of the longest, one behind 64 tokens that it shares
      assert.equal(96 + 96 + 64, stats.cached_tokens)
      assert.equal(0, helper.settle(plain).kv_pages_cached)
   end)

   it("stay within their salt", function()
      local ids = prompt(70, 70)
      ask(engine, ids, { cache_salt = "a" })
      assert.equal(0, ask(engine, ids).usage.cached)
      assert.equal(0, ask(engine, ids, { cache_salt = "b" }).usage.cached)
      assert.equal(64, ask(engine, ids, { cache_salt = "a" }).usage.cached)
      local request, message, code = engine:generate(ids, { cache_salt = ("x"):rep(1025) })
      assert.is_nil(request)
      assert.matches("cache_salt", message)
      assert.equal("invalid", code)
   end)

   it("make room for whoever needs it", function()
      for i = 1, 20 do ask(engine, prompt(200, i)) end
      local stats = helper.settle(engine)
      assert.is_true(stats.kv_pages_cached > 16 and stats.kv_pages_cached <= stats.kv_pages)
      assert.equal(8, #ask(engine, prompt(500, 0)).tokens)
      assert.equal(0, helper.settle(engine).kv_pages_used)
   end)
end)
