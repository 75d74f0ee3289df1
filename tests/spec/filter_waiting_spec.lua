-- Functions of filters that wait: for other requests of the same engine, or for whoever resumes their coroutine.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local PROMPT = "Once upon a time there was"
local GREEDY = { max_new = 24, temperature = 0, ignore_eos = true }

local function with(opts)
   local given = {}
   for name, value in pairs(GREEDY) do given[name] = value end
   for name, value in pairs(opts or {}) do given[name] = value end
   return given
end

-- A filter that asks a function about every match of " a", and masks what it says counts.
local function asking(check)
   return (assert(perigee.filter { name = "asks", words = { " a" }, action = "mask", replace = "<a>", check = check }))
end

describe("a filter whose function waits", function()
   local engine, plain, masked

   before_each(function()
      engine = assert(perigee.open(helper.model, { context = 256, precision = "f32" }))
      plain = assert(assert(engine:generate(PROMPT, GREEDY)):result())
      masked = plain.text:gsub(" a", "<a>")
      assert.not_equal(plain.text, masked)
   end)
   after_each(function() engine:close() end)

   it("may ask the engine whose text it looks at", function()
      local asked = 0
      local function check()
         asked = asked + 1
         local judge = assert(assert(engine:generate(PROMPT, with { max_new = 3 })):result())
         return plain.text:sub(1, #judge.text) == judge.text
      end
      local got = assert(assert(engine:generate(PROMPT, with { filters = asking(check) })):result())
      assert.equal(masked, got.text)
      assert.equal(#got.filters, asked)
   end)

   -- A function that yields before it does what another does, or says what is given.
   local function wait(value)
      return function(...)
         coroutine.yield "waiting"
         if type(value) == "function" then return value(...) end
         return value
      end
   end
   local function find(text) return text:find(" a", 1, true) end

   for word, opts in pairs {
      check = { words = { " a" }, check = wait(true), replace = "<a>" },
      action = { words = { " a" }, action = wait "mask", replace = "<a>" },
      replace = { words = { " a" }, replace = wait "<a>" },
      classify = { classify = wait(find), max = 2, replace = "<a>" },
   } do
      it("holds up nobody else: " .. word, function()
         local given = { name = "waits", action = "mask" }
         for name, value in pairs(opts) do given[name] = value end
         local slow = coroutine.create(function()
            local filters = assert(perigee.filter(given))
            return assert(assert(engine:generate(PROMPT, with { filters = filters })):result()).text
         end)
         local fine, said = coroutine.resume(slow)
         assert.is_true(fine, said)
         assert.equal("waiting", said)
         for _ = 1, 3 do                               -- others come and go meanwhile, their filters as well
            local other = asking(function() return true end)
            assert.equal(plain.text, assert(assert(engine:generate(PROMPT, GREEDY)):result()).text)
            assert.equal(masked, assert(assert(engine:generate(PROMPT, with { filters = other })):result()).text)
         end
         while coroutine.status(slow) ~= "dead" do
            assert.equal("waiting", said)
            fine, said = coroutine.resume(slow)
            assert.is_true(fine, said)
         end
         assert.equal(masked, said)
      end)
   end

   it("is forgotten with its coroutine, and the engine goes on", function()
      local slow = coroutine.create(function()
         return engine:generate(PROMPT, with { filters = asking(coroutine.yield) }):result()
      end)
      assert.is_true(coroutine.resume(slow))
      assert.equal("suspended", coroutine.status(slow))
      assert.equal(plain.text, assert(assert(engine:generate(PROMPT, GREEDY)):result()).text)
      helper.settle(engine)
   end)

   it("fails when it waits for the text that it is looking at", function()
      local request
      request = assert(engine:generate(PROMPT, with { filters = asking(function() return request:next() end) }))
      local got, message, code = request:result()
      assert.is_nil(got)
      assert.equal('filter "asks" failed: request: a filter\'s function waits for the text that it is looking at',
         message)
      assert.equal("invalid", code)
      assert.equal(plain.text, assert(assert(engine:generate(PROMPT, GREEDY)):result()).text)
   end)

   it("may look whether more of its text has come, which it has not", function()
      local request, seen
      request = assert(engine:generate(PROMPT, with {
         filters = asking(function()
            seen = request:next(0)
            return true
         end),
      }))
      assert.equal(masked, assert(request:result()).text)
      assert.is_nil(seen)
   end)

   it("may close the engine: what had come is read, then the reason", function()
      local request
      request = assert(engine:generate(PROMPT, with {
         filters = asking(function()
            engine:close()
            return true
         end),
      }))
      local texts, last = {}, nil
      for event in request:events() do
         if event.kind == "text" then texts[#texts + 1] = event.text end
         last = event
      end
      local text = table.concat(texts)
      assert.equal(text, masked:sub(1, #text))
      assert.is_truthy(text:find("<a>", 1, true))
      assert.equal("fail", last.kind)
      assert.equal("cancelled", last.code)
   end)

   it("looks at what came before the engine was closed", function()
      local request = assert(engine:generate(PROMPT, with { filters = asking(function() return true end) }))
      helper.settle(engine)
      engine:close()
      local got = assert(request:result())
      assert.equal(masked, got.text)
      assert.equal("length", got.finish)
   end)

   it("rewinds no more when the engine is closed", function()
      local request = assert(engine:generate(PROMPT, with {
         filters = assert(perigee.filter { name = "back", words = { " a" }, action = "rewind" }),
      }))
      repeat engine:poll(10) until engine:stats().generated_tokens > 30   -- 24 of them are of the run before
      engine:close()
      local got, message, code = request:result()
      assert.is_nil(got)
      assert.equal("the engine was closed", message)
      assert.equal("cancelled", code)
   end)
end)
