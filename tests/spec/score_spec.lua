-- Scores and logits: that they agree with each other and with the reference.
local ffi = require "ffi"
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local TEXT = "Once upon a time there was a little fox, who lived at the edge of the forest."

describe("scores and logits", function()
   local engine
   setup(function() engine = assert(perigee.open(helper.model, { context = 300, precision = "f32" })) end)
   teardown(function() engine:close() end)

   it("of one text agree", function()
      local logprobs, ids = assert(engine:score(TEXT))
      assert.same(engine:encode(TEXT), ids)
      assert.equal(#ids - 1, #logprobs)
      local logits, T, V = assert(engine:logits(ids))
      assert.equal(#ids, T)
      assert.equal(8192, V)
      for i, logprob in ipairs(logprobs) do
         assert.is_true(math.abs(helper.log_softmax(logits + (i - 1) * V, V, ids[i + 1]) - logprob) < 1e-4)
      end
   end)

   it("are the same for text and ids, and when done again", function()
      local first = engine:score(TEXT)
      assert.same(first, engine:score(engine:encode(TEXT)))
      assert.same(first, engine:score(TEXT))
   end)

   it("do not depend on chunks, bit for bit", function()
      local ids = engine:encode(TEXT)
      local function bits(opts)
         local logits, T, V = assert(engine:logits(ids, opts))
         return ffi.string(logits, 4 * T * V)
      end
      local whole = bits()
      assert.is_true(whole == bits { chunk = 1 })
      assert.is_true(whole == bits { chunk = 5 })
   end)

   it("agree between prompt and generated tokens", function()
      local ids = engine:encode(TEXT)
      local logits, T, V = assert(engine:logits(ids))
      local prefill = {}
      for t = 0, T - 1 do prefill[t] = ffi.string(logits + t * V, 4 * V) end
      logits = assert(engine:logits(ids, { decode = 4 }))
      local largest = 0
      for t = 0, T - 1 do
         local row = ffi.cast("const float *", prefill[t])
         for v = 0, V - 1 do largest = math.max(largest, math.abs(row[v] - logits[t * V + v])) end
      end
      assert.is_true(largest < 1e-2, "largest difference " .. largest)
   end)

   it("use the decode class from the index on that is given", function()
      local fast = assert(perigee.open(helper.model, { context = 64, precision = "auto" }))
      local ids = fast:encode(TEXT)
      local function rows(opts)
         local logits, T, V = assert(fast:logits(ids, opts))
         return ffi.string(logits, 4 * 5 * V), ffi.string(logits + 5 * V, 4 * (T - 5) * V)
      end
      local before, after = rows()
      local same, other = rows { decode = 5 }
      assert.is_true(before == same)
      assert.is_true(after ~= other)
      fast:close()
   end)

   it("keep their engine while the pointer is held", function()
      local held = setmetatable({}, { __mode = "v" })
      local function open()
         held.engine = assert(perigee.open(helper.model, { context = 64 }))
         return assert(held.engine:logits { 1, 300, 301 })
      end
      local function collect() for _ = 1, 4 do collectgarbage() end end
      local logits = open()
      collect()
      assert.is_not_nil(held.engine)
      assert.equal(logits[0], logits[0])
      logits = nil
      collect()
      assert.is_nil(logits or held.engine)
   end)

   it("are refused for what cannot have any", function()
      for _, case in ipairs {
         { engine.score, "", "invalid" }, { engine.score, { 1 }, "invalid" }, { engine.score, {}, "invalid" },
         { engine.score, ("word "):rep(1000), "limit" }, { engine.score, { 1, 8192 }, "invalid" },
         { engine.logits, {}, "invalid" }, { engine.logits, { -1 }, "invalid" }, { engine.logits, { 1.5 }, "invalid" },
      } do
         local value, message, code = case[1](engine, case[2])
         assert.is_nil(value)
         assert.is_true(#message > 0)
         assert.equal(case[3], code)
      end
      assert.equal("invalid", select(3, engine:logits({ 1 }, { chunk = -1 })))
      assert.equal("invalid", select(3, engine:logits({ 1 }, { decode = -1 })))
      assert.equal("invalid", select(3, engine:logits({ 1 }, { chunks = 1 })))
   end)

   it("raise for wrong types", function()
      for _, call in ipairs { function() local _ = engine:score(1) end, function() local _ = engine:logits "x" end,
         function() local _ = engine:logits({ 1 }, { chunk = "1" }) end,
         function() local _ = engine:score { "x" } end } do
         local fine, message = pcall(call)
         assert.is_false(fine)
         assert.matches("score_spec.lua:%d+: engine:", message)
      end
   end)

   describe("of the bundled model", function()
      local reference, why = helper.reference()

      it("are those of the reference", function()
         if not reference then return pending(why) end
         assert.is_true(#reference.scores >= 1)
         for _, case in ipairs(reference.scores) do
            local logprobs = assert(engine:score(case.ids))
            local difference = helper.mean(logprobs) - case.mean_logprob
            assert.is_true(math.abs(difference) < 2e-3, ("%s: %.6f nats off"):format(case.text, difference))
         end
      end)

      it("lead to the same most likely tokens", function()
         if not reference then return pending(why) end
         assert.is_true(#reference.greedy >= 1)
         for _, case in ipairs(reference.greedy) do
            local result = assert(assert(engine:generate(case.ids, { temperature = 0, max_new = #case.next })):result())
            assert.same(case.next, result.tokens, case.prompt)
         end
      end)

      it("are close to the reference in the default precision", function()
         if not reference then return pending(why) end
         local fast = assert(perigee.open(helper.model, { context = 300, precision = "auto" }))
         for _, case in ipairs(reference.scores) do
            local difference = helper.mean(assert(fast:score(case.ids))) - case.mean_logprob
            assert.is_true(math.abs(difference) < 2e-2, ("%s: %.6f nats off"):format(case.text, difference))
         end
         fast:close()
      end)

      it("give the perplexity of the reference over whole texts", function()
         if not reference then return pending(why) end
         if helper.fast then return pending "FAST is set: 30,000 tokens are not scored" end
         local n = 0
         for name, case in pairs(reference.perplexity) do
            local status, out, err = helper.shell(("perigee score %s %s/heldout-%s.txt -w 256 --limit 60 "
               .. "--precision f32 --json"):format(helper.model, helper.quote(helper.models), name))
            assert.equal(0, status, err)
            local perplexity, tokens = out:match '"perplexity":([%d.]+)', out:match '"tokens":(%d+)'
            assert.equal(case.tokens, tonumber(tokens))
            assert.is_true(math.abs(math.log(tonumber(perplexity) / case.value)) < 2e-3, name .. ": " .. perplexity)
            n = n + 1
         end
         assert.is_true(n >= 1)
      end)
   end)
end)
