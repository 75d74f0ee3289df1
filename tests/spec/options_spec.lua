-- Options and seeds: what every function with an option table does.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local options = require "perigee.options"

describe("seeds", function()
   it("of 64 bits pass through both halves unharmed", function()
      for _, seed in ipairs { "9007199254740993", "18446744073709551615", "9223372036854775808",
         "12345678901234567890" } do
         assert.equal(seed, options.seed_value(options.seed_halves(seed)))
      end
      for _, seed in ipairs { 0, 1, 42, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 53 - 1 } do
         assert.equal(seed, options.seed_value(options.seed_halves(seed)))
      end
      assert.same({ 1, 0x200000 }, { options.seed_halves "9007199254740993" })
      assert.same({ 0xFFFFFFFF, 0xFFFFFFFF }, { options.seed_halves "18446744073709551615" })
   end)

   it("that are none are refused", function()
      for _, seed in ipairs { -1, 1.5, 2 ^ 54, 0 / 0, math.huge, "", "-1", "0x10", "1e3", "18446744073709551616",
         ("9"):rep(40) } do
         assert.is_nil((options.seed_halves(seed)))
      end
   end)
end)

describe("the nearest name", function()
   it("is found within a third of the letters", function()
      assert.equal("temperature", options.nearest("temprature", { "top_k", "temperature", "top_p" }))
      assert.equal("top_k", options.nearest("topk", { "top_k", "temperature" }))
      assert.is_nil(options.nearest("banana", { "top_k", "temperature" }))
   end)
end)

describe("options of a generation", function()
   local engine
   setup(function() engine = assert(perigee.open(helper.model, { context = 128 })) end)
   teardown(function() engine:close() end)

   local function refused(opts, pattern, expected)
      local request, message, code = engine:generate("Once", opts)
      assert.is_nil(request)
      assert.matches(pattern, message, 1, true)
      assert.equal(expected or "invalid", code)
   end

   it("are refused by name when unknown", function()
      refused({ temprature = 1 }, 'unknown option "temprature"; did you mean "temperature"?')
      refused({ [1] = 1 }, 'unknown option "1"')
   end)

   it("are refused by name when they are still to come", function()
      for _, name in ipairs { "dry", "xtc", "mirostat", "grammar", "json_schema", "adapters",
         "filters", "session", "cache_salt" } do
         refused({ [name] = {} }, ('option "%s" is planned but not there yet'):format(name), "unsupported")
      end
   end)

   it("are refused when out of range", function()
      refused({ max_new = -1 }, "max_new")
      refused({ max_new = 1.5 }, '"max_new" must be an integer of 32 bits, not 1.5')
      refused({ max_new = 2 ^ 31 }, "max_new")
      refused({ temperature = 0 / 0 }, "temperature")
      refused({ repeat_penalty = 0 }, "repeat_penalty")
      refused({ logprobs = 34 }, "logprobs")
      refused({ logprobs = -1 }, "logprobs")
      refused({ seed = -1 }, "seed")
      refused({ seed = "12a" }, "seed")
      refused({ stop = { "" } }, "stop string")
      refused({ stop = ("x"):rep(257) }, "stop string")
      refused({ stop = "a\0b" }, "stop")
      refused({ logit_bias = { [10 ^ 6] = 1 } }, "1000000")
      refused({ logit_bias = { [1.5] = 1 } }, "logit_bias")
      refused({ deadline_ms = 0 / 0 }, "deadline_ms")
      local many = {}
      for i = 1, 17 do many[i] = "stop" .. i end
      refused({ stop = many }, "stop")
   end)

   it("raise at the caller's line when of the wrong type", function()
      for name, value in pairs { max_new = "8", temperature = "hot", stop = 3, seed = {}, special = 1,
         ignore_eos = "yes", logit_bias = 1, deadline_ms = true, logprobs = true } do
         local fine, message = pcall(function() local _ = engine:generate("Once", { [name] = value }) end)
         assert.is_false(fine, name)
         assert.matches("options_spec.lua:%d+: engine:generate: ", message)
         assert.matches(name, message, 1, true)
         assert.matches("a " .. type(value), message, 1, true)
      end
      for _, opts in ipairs { { stop = { 1 } }, { logit_bias = { x = 1 } }, { logit_bias = { "x" } } } do
         assert.has_error(function() local _ = engine:generate("Once", opts) end)
      end
   end)

   it("have the same checks in complete", function()
      local text, message, code = engine:complete("Once", { mx_new = 1 })
      assert.is_nil(text)
      assert.matches('engine:complete: unknown option "mx_new"', message, 1, true)
      assert.equal("invalid", code)
      local fine, raised = pcall(function() local _ = engine:complete("Once", { max_new = {} }) end)
      assert.is_false(fine)
      assert.matches("options_spec.lua:%d+: engine:complete: ", raised)
   end)
end)
