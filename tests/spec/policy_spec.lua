-- Routing policies from Lua: knobs, programs made of operators, lists, knobs of programs; what is refused and how.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local policy = require "perigee.policy"

local TEXT = "Once upon a time there was a little fox, who lived at the edge of the forest."

describe("a policy program", function()
   it("shows its code, with what is constant worked out and what is equal done once", function()
      local busy = policy.knob("busy", 0)
      local scores = policy.scores - 4 * busy * (1 - policy.resident)
      local program = assert(policy.program { scores = scores, top = 2 ^ 3 - 4 * busy, name = "frugal" })
      local text = policy.text(program)
      assert.equal([[
program frugal over experts, 13 instructions
  v0 = scores
  s0 = const 4
  s1 = knob busy (0)
  s0 = mul s0 s1
  s1 = const 1
  v1 = resident
  v1 = sub s1 v1
  v1 = mul s0 v1
  v0 = sub v0 v1
  s1 = const 8
  s0 = sub s1 s0
  set_scores v0
  set_top s0
]], text)
      assert.equal(text:sub(1, -2), tostring(program))
      assert.same({ "busy" }, program.knobs)
   end)

   it("folds constants and drops what does nothing", function()
      local function code(e)
         local text = policy.text(assert(policy.program { scores = e }))
         return (text:gsub("^[^\n]*\n", ""):gsub("  (.-)\n", "%1; "))
      end
      assert.equal("v0 = scores; set_scores v0; ", code(policy.scores * 1 + 0 - 0))
      assert.equal("v0 = scores; set_scores v0; ", code((policy.scores / 1) ^ 1))
      assert.equal("s0 = const 3; set_scores s0; ", code(policy.max(policy.min(5, 3), 1)))
      assert.equal("v0 = scores; v0 = add v0 v0; set_scores v0; ", code(policy.scores + policy.scores))
      assert.equal("s0 = const 7; set_scores s0; ", code(policy.select(policy.lt(1, 2), 7, policy.exp(0))))
   end)

   it("is refused when it makes no sense", function()
      local function refused(outputs, pattern)
         local program, message, code = policy.program(outputs)
         assert.is_nil(program)
         assert.matches(pattern, message)
         assert.is_string(code)
      end
      refused({}, "nothing to set")
      refused({ score = policy.scores }, "did you mean \"scores\"")
      refused({ logits = policy.logits, top = 2 }, "belong to two programs")
      refused({ logits = policy.scores }, "reads policy.logits")
      refused({ scores = policy.logits }, "reads policy.scores")
      refused({ logits = policy.logits * policy.load }, "load is about experts")
      refused({ top = policy.knob("a", 1) + policy.knob("a", 2) }, "knob a has two defaults")
      local long = policy.scores
      for i = 1, 150 do long = long * policy.knob("k", 1) + i end
      refused({ scores = long }, "at most 256")
      local wide = {}
      for i = 1, 40 do wide[i] = policy.scores + i end
      local sum = policy.scores
      for i = 40, 1, -1 do sum = wide[i] / sum end
      refused({ scores = sum * policy.rank(wide[1]) }, "registers")
   end)

   it("raises at the caller's line for a wrong type", function()
      local function raises(fn, pattern)
         local fine, message = pcall(fn)
         assert.is_false(fine)
         assert.matches("policy_spec.lua:%d+: ", message)
         assert.matches(pattern, message)
      end
      raises(function() local _ = policy.scores + "x" end, "not a string")
      raises(function() local _ = policy.sum(3) end, "expected a vector")
      raises(function() local _ = policy.mass(policy.scores, policy.scores) end, "single number")
      raises(function() local _ = policy.scores < policy.choose end, "use policy.lt")
      raises(function() local _ = policy.program { top = policy.scores } end, "single number")
      raises(function() local _ = policy.knob("a b", 1) end, "no name")
      raises(function() local _ = policy.print {} end, "expected a program")
   end)
end)

describe("a routing policy", function()
   local engine, plain
   setup(function()
      engine = assert(perigee.open(helper.model, { context = 300, precision = "f32" }))
      plain = engine:score(TEXT)
   end)
   teardown(function() engine:close() end)
   before_each(function() engine:route(nil) end)

   local function scores_under(x)
      assert(engine:route(x))
      return engine:score(TEXT)
   end

   it("changes what the model says, and nil takes it back", function()
      assert.is_true(helper.mean(scores_under { top = 1 }) < helper.mean(plain))
      assert.is_true(engine:route(nil))
      assert.same(plain, engine:score(TEXT))
   end)

   it("is the same as knobs, as a program, in a list", function()
      local one = scores_under { top = 1 }
      assert.same(one, scores_under(policy.program { top = 1 }))
      assert.same(one, scores_under { { top = 2 }, policy.program { top = policy.top - 1 } })
      assert.is_not.same(one, scores_under { policy.program { top = policy.top - 1 }, { top = 2 } })
      local banned = scores_under { ban = { 3, 5 } }
      local either = policy.eq(policy.index, 3) + policy.eq(policy.index, 5)
      assert.same(banned, scores_under(policy.program { choose = policy.select(either, -math.huge, policy.choose) }))
      assert.is_not.same(plain, banned)
      assert.same(scores_under { temperature = 2 }, scores_under(policy.program { scores = policy.scores / 2 }))
   end)

   it("applies to the layers that it names", function()
      local second = scores_under { layers = { [2] = { ban = 0, bias = { [4] = 0.1 } } } }
      assert.is_not.same(plain, second)
      local inside = policy.select(policy.eq(policy.index, 0), -math.huge, 0.1 * policy.eq(policy.index, 4))
      local there = policy.eq(policy.layer, 2)
      assert.same(second, scores_under(policy.program { choose = policy.select(there, inside, 0) }))
   end)

   it("forces experts, caps their share, keeps those that count", function()
      for _, knobs in ipairs { { force = 9 }, { capacity = 1 }, { cumulative = 0.6 } } do
         assert.is_not.same(plain, scores_under(knobs))
      end
      assert.same(plain, scores_under { cumulative = 1 })
      assert.same({}, engine:reports())
   end)

   it("is refused with a word about what would do", function()
      local function refused(x, pattern, code)
         local fine, message, why = engine:route(x)
         assert.is_nil(fine)
         assert.matches(pattern, message)
         assert.equal(code, why)
      end
      refused({ layers = { [0] = { top = 1 } } }, "layer 0 has no experts: layers 1 to 3 have", "not_found")
      refused({ layers = { [9] = { top = 1 } } }, "there is no layer 9", "not_found")
      refused({ layers = { [1] = { tops = 1 } } }, "layer 1: unknown option \"tops\"; did you mean \"top\"", "invalid")
      refused({ ban = 16 }, "there is no expert 16, they count from 0 to 15", "invalid")
      refused({ top = 5 }, "top is 5: expected 1 to 4", "invalid")
      refused({ top = 0 }, "top must be above 0", "invalid")
      refused({ cumulative = 2 }, "cumulative is 2", "invalid")
      refused("frugal", "frugal", "not_found")
      refused({ { top = 1 }, top = 2 }, "stands in a list", "invalid")
      refused({ { top = 1 }, { top = 99 } }, "engine:route, 2", "invalid")
      assert.has_error(function() engine:route(7) end)
      assert.has_error(function() engine:route { top = "many" } end)
      assert.same(plain, engine:score(TEXT))
   end)

   it("belongs to a request, beside others", function()
      local function tokens(route)
         local opts = { max_new = 12, temperature = 0, route = route, tenant = "t", ignore_eos = true }
         return assert(engine:generate(TEXT, opts))
      end
      local alone, routes = {}, { false, { top = 1 }, policy.program { top = 4, scores = policy.scores * 0.1 } }
      for i, route in ipairs(routes) do alone[i] = tokens(route or nil):result().tokens end
      assert.is_not.same(alone[1], alone[2])
      local together = {}
      for i, route in ipairs(routes) do together[i] = tokens(route or nil) end
      for i, request in ipairs(together) do assert.same(alone[i], request:result().tokens) end
      local request, message, code = engine:generate(TEXT, { route = { top = 77 } })
      assert.is_nil(request)
      assert.matches("top is 77", message)
      assert.equal("invalid", code)
   end)

   it("can be over the vocabulary", function()
      local function first(route)
         local result = engine:generate(TEXT, { max_new = 1, temperature = 0, logprobs = 1, route = route }):result()
         return result.tokens[1], result.logprobs[1].logprob
      end
      local token, logprob = first()
      local it = policy.eq(policy.index, token)
      local banned = policy.program { logits = policy.select(it, -math.huge, policy.logits) }
      local other, lower = first(banned)
      assert.is_not.equal(token, other)
      assert.is_true(lower < logprob)
   end)

   it("has knobs, which keep their value over versions", function()
      local program = policy.program { top = 4 - 3 * policy.knob("busy_spec", 0) }
      local four = scores_under(program)
      engine.knobs.busy_spec = 1
      assert.equal(1, engine.knobs.busy_spec)
      assert.same(scores_under { top = 1 }, scores_under(program))
      engine.knobs.busy_spec = 0
      assert.same(four, scores_under(policy.program { top = 4 - 3 * policy.knob("busy_spec", 0.5) }))
      assert.is_nil(engine.knobs.other)
      assert.matches("busy_spec = 0", tostring(engine.knobs))
      local fine, message = pcall(function() engine.knobs.busy_spac = 1 end)
      assert.is_false(fine)
      assert.matches("policy_spec.lua:%d+: .*did you mean busy_spec", message)
      assert.has_error(function() engine.knobs.busy_spec = "1" end)
      assert.has_error(function() engine.knobs.busy_spec = 0 / 0 end)
   end)

   it("that leaves rows unusable is reported", function()
      local before, stats = #engine:reports(), engine:stats()
      assert.same(plain, scores_under(policy.program { top = 99, name = "greedy" }))
      helper.settle(engine)
      local reports = engine:reports()
      assert.equal(before + 1, #reports)
      local report = reports[#reports]
      assert.equal("greedy", report.policy)
      assert.matches("top is below 1 or above", report.text)
      assert.is_false(report.unhooked)
      assert.is_true(report.count > 0)
      assert.same({}, engine:reports(report.number))
      assert.equal(stats.faulty_rows + report.count, engine:stats().faulty_rows)
   end)

   it("is set in compiled code", function()
      engine:route(policy.program { top = 2 * policy.knob("jit_spec", 1) })
      assert.is_true(helper.compiles(function()
         for i = 1, 300 do engine.knobs.jit_spec = 1 + i % 2 end
      end))
   end)

   it("outlives its engine", function()
      local short = assert(perigee.open(helper.model, { context = 64 }))
      assert(short:route { top = 1 })
      local knobs = short.knobs
      short:close()
      collectgarbage()
      assert.is_nil((short:route { top = 1 }))
      assert.is_nil(knobs.busy)
      assert.has_error(function() knobs.busy = 1 end)
   end)
end)
