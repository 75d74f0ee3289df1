-- Where the parts meet: policies and shared prompts, rewinds and grammars and stop strings, filters on every way in,
-- what is left of an engine that was closed.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

-- A prompt of more than a page, so that some of it can be shared.
local LONG = ("Once upon a time there was a little fox who lived at the edge of the forest. "):rep(8)

-- A text that differs from that of all other calls, of the same length in tokens or nearly so.
local fresh = 0
local function own_prompt()
   fresh = fresh + 1
   return ("Story %d. "):format(fresh) .. LONG
end

local function cached(engine, prompt, route)
   return assert(engine:generate(prompt, { max_new = 1, route = route }):result()).usage.cached
end

describe("policies and shared prompts", function()
   local engine
   lazy_setup(function() engine = assert(perigee.open(helper.model)) end)
   lazy_teardown(function() engine:close() end)

   it("share under the same policy only", function()
      local prompt = own_prompt()
      assert(engine.policies:load("narrow", { top = 1 }))
      assert(engine.policies:load("wide", { top = 3 }))
      local found = {}
      for i, route in ipairs { false, false, "narrow", "narrow", "wide", "wide" } do
         found[i] = cached(engine, prompt, route or nil)
      end
      assert.is_true(found[2] > 0)
      assert.same({ 0, found[2], 0, found[2], 0, found[2] }, found)
      assert(engine.policies:load("narrow", { top = 1 }))       -- a new version is another policy
      assert.equal(0, cached(engine, prompt, "narrow"))
   end)

   it("share nothing where knobs, load or code could make a difference", function()
      local policy = perigee.policy or require "perigee.policy"
      local knobs = policy.program { top = policy.knob("seams_top", 2) }
      local code = "local P = {}\nfunction P.route(r) r:top(0, 2) end\nreturn P\n"
      assert(engine.policies:load("knob", knobs))
      assert(engine.policies:load("code", code))
      assert(engine.policies:load("capacity", { capacity = 2 }))
      assert(engine.policies:load("live", { top = 2, live = true }))
      for _, name in ipairs { "knob", "code", "capacity", "live" } do
         local prompt = own_prompt()
         assert.same({ 0, 0 }, { cached(engine, prompt, name), cached(engine, prompt, name) }, name)
      end
   end)

   it("share with everybody where experts are left alone", function()
      local prompt = own_prompt()
      assert(engine.policies:load("ends", "local P = {}\nfunction P.token(t) if t.count == 3 then t:stop() end end\n"
         .. "return P\n"))
      local found = cached(engine, prompt, "ends")
      assert.equal(0, found)
      assert.is_true(cached(engine, prompt) > 0)
   end)
end)

describe("a default policy that changes while a prompt is read", function()
   -- What is computed behind the change must not be found by those whom it does not concern.
   local prompt = LONG:rep(3)

   local function tokens_after(engine, change)
      local reader = assert(engine:generate(prompt, { max_new = 2, chunk = 8, temperature = 0 }))
      while engine:stats().prompt_tokens < 100 do engine:poll(1) end
      change(engine)
      assert(reader:result())
      assert(engine:route(nil))
      return assert(engine:generate(prompt, { max_new = 24, temperature = 0, ignore_eos = true }):result())
   end

   for name, change in pairs {
      ["to another"] = function(engine) assert(engine:route { top = 1 }) end,
      ["by a live one"] = function(engine)
         assert(engine.policies:load("live", "local P = { live = true }\nfunction P.token() end\nreturn P\n"))
         assert(engine.policies:use "live")
         assert(engine.policies:load("live", { top = 1, live = true }))
      end,
   } do
      it(name, function()
         local engine = assert(perigee.open(helper.model))
         local alone = assert(perigee.open(helper.model, { prefix_cache = false }))
         local expected = assert(alone:generate(prompt, { max_new = 24, temperature = 0, ignore_eos = true }):result())
         local result = tokens_after(engine, change)
         assert.same(expected.tokens, result.tokens)
         alone:close()
         engine:close()
      end)
   end
end)

describe("policies that say who may start", function()
   it("leave no trace of those whom they refuse", function()
      local engine = assert(perigee.open(helper.model, { queue = 4 }))
      assert(engine.policies:load("gate", "local P = {}\nfunction P.admit(q)\n   if q.tenant == 'mallory' then "
         .. "q:refuse('not you') end\nend\nreturn P\n"))
      assert(engine.policies:use "gate")
      for _ = 1, 20 do
         local reader = assert(engine:generate("Once", { tenant = "mallory", max_new = 1 }))
         assert.same({ nil, "not you", "cancelled" }, { reader:result() })
      end
      assert.equal(1, #assert(engine:generate("Once", { tenant = "alice", max_new = 1 }):result()).tokens)
      engine:close()
   end)

   it("count pages of earlier prompts as free", function()
      local engine = assert(perigee.open(helper.model, { kv_tokens = 1024, context = 512 }))
      assert(engine.policies:load("gate", "local P = {}\nfunction P.admit(q)\n   if q.pages_free < q.pages then "
         .. "q:refuse(('%d of %d'):format(q.pages_free, q.pages)) end\nend\nreturn P\n"))
      assert(engine.policies:use "gate")
      for _ = 1, 3 do
         assert(engine:generate(own_prompt(), { max_new = 2 }):result())
         helper.settle(engine)
      end
      assert.is_true(engine:stats().kv_pages_cached > 0)
      engine:close()
   end)
end)

describe("rewinds", function()
   local engine
   lazy_setup(function() engine = assert(perigee.open(helper.model)) end)
   lazy_teardown(function() engine:close() end)

   local ROOT = 'root ::= item ("," item){3,5}\nitem ::= "red" | "green" | "blue" | "grey"'
   local colours = assert(perigee.grammar(ROOT))
   local function without(word, times)
      return assert(perigee.filter { name = "no " .. word, words = { word }, action = "rewind", times = times or 8 })
   end

   it("keep to the grammar, and without what a filter takes back", function()
      local back = 0
      for seed = 1, 12 do
         local result = assert(engine:generate("Colours: ", { grammar = colours, seed = seed, temperature = 1.5,
            top_k = 0, top_p = 1, min_p = 0, filters = { without("blue", 64), without("green", 64) } }):result())
         assert.equal("stop", result.finish)
         assert.is_true(colours:accepts(result.text), result.text)
         assert.is_nil(result.text:find "blue")
         assert.is_nil(result.text:find "green")
         assert.equal(#result.tokens, result.usage.completion)
         assert.equal(result.text, (assert(engine:decode(result.tokens)):gsub("^ ", "")))
         if #result.filters > 0 then assert.is_true(result.usage.dropped > 0) end
         back = back + #result.filters
      end
      assert.is_true(back > 0)
   end)

   it("follow a grammar and stop strings with policies on top", function()
      assert(engine.policies:load("two", "local P = {}\nfunction P.route(r) for i = 0, r.rows - 1 do r:top(i, 2) end "
         .. "end\nreturn P\n"))
      for seed = 1, 12 do
         local result = assert(engine:generate("Colours: ", { grammar = colours, seed = seed, temperature = 1.5,
            top_k = 0, top_p = 1, min_p = 0, stop = { ",grey", ",green" }, route = "two",
            filters = { without("blue", 64) } }):result())
         assert.equal("stop", result.finish)
         assert.is_nil(result.text:find "blue")
         assert.is_nil(result.text:find(",gre", 1, true))
         assert.is_true(colours:alive(result.text), result.text)
      end
      assert.same({}, engine.policies:reports())
   end)

   it("end where a policy's token hook says so", function()
      assert(engine.policies:load("five", "local P = {}\nfunction P.token(t) if t.count >= 5 then t:stop() end end\n"
         .. "return P\n"))
      for _, filters in ipairs { {}, { without "zebra" } } do
         local result = assert(engine:generate("Once upon a time", { route = "five", filters = filters,
            ignore_eos = true, temperature = 0 }):result())
         assert.same({ 5, "stop", 5 }, { #result.tokens, result.finish, result.usage.completion })
      end
      local plain = assert(engine:generate("Once upon a time", { max_new = 5, ignore_eos = true, temperature = 0,
         route = "five" }):result())
      local word = plain.text:match "%a+"
      local other = assert(engine:generate("Once upon a time", { route = "five", filters = { without(word) },
         ignore_eos = true, temperature = 0 }):result())
      assert.is_nil(other.text:find(word, 1, true))
      assert.same({ 5, "stop" }, { #other.tokens, other.finish })
      assert.is_true(other.usage.dropped > 0)
   end)
end)

describe("filters", function()
   local engine, seen
   local counts = assert(perigee.filter { name = "counts", words = { "river" }, action = "flag",
      on = { "prompt", "output" } })
   lazy_setup(function() engine = assert(perigee.open(helper.model)) end)
   lazy_teardown(function() engine:close() end)
   before_each(function() seen = nil end)

   local function on_prompt(result)
      local n = 0
      for _, event in ipairs(result.filters) do n = n + (event.on == "prompt" and 1 or 0) end
      return n
   end

   it("look once at what goes in, on every way in", function()
      local opts = { max_new = 2, filters = { counts } }
      local said = { { role = "user", content = "To the river" } }
      assert.equal(1, on_prompt(assert(engine:generate("To the river", opts):result())))
      assert.equal(1, on_prompt(assert(engine:generate(engine:encode "To the river", opts):result())))
      assert.equal(1, on_prompt(assert(engine:generate(said, opts):result())))
      assert.equal(1, on_prompt(assert(perigee.pipeline {}:generate(engine, said, opts):result())))
      local chat = assert(engine:chat())
      assert.equal(1, on_prompt(assert(chat:say("To the river", opts):result())))
      assert.equal(0, on_prompt(assert(chat:say("And back", opts):result())))
   end)

   local hide = assert(perigee.filter { name = "hide", words = { "secret" }, action = "mask", on = "prompt" })
   local wall = assert(perigee.filter { name = "wall", words = { "forbidden" }, action = "block", on = "prompt" })

   it("look at what tools gave", function()
      local chat = assert(engine:chat { messages = { { role = "user", content = "Look it up" },
         { role = "assistant", content = "", tool_calls = { { id = "call00001", type = "function",
            ["function"] = { name = "look", arguments = "{}" } } } } } })
      chat:tool({ id = "call00001", name = "look" }, "the secret word")
      local result = assert(assert(chat:continue { max_new = 2, filters = { hide, wall } }):result())
      assert.equal("the ****** word", chat.messages[3].content)
      assert.equal(1, on_prompt(result))
      chat:tool({ id = "call00002", name = "look" }, "the forbidden word")
      local reply, message, code = chat:continue { max_new = 2, filters = { hide, wall } }
      assert.is_nil(reply)
      assert.truthy(message:find("wall", 1, true), message)
      assert.equal("filter", code)
   end)

   it("look at the parts of a content", function()
      local template = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"
      local parts = { { type = "text", text = "the secret word" } }
      local chat = assert(engine:chat { template = template, messages = { { role = "user", content = parts } } })
      local result = assert(assert(chat:continue { max_new = 2, filters = { hide, wall } }):result())
      assert.equal(1, on_prompt(result))
      assert.equal("the ****** word", chat.messages[1].content[1].text)
      assert.equal("the secret word", parts[1].text)
      parts[2] = { type = "text", text = "the forbidden word" }
      local request, message, code = engine:generate({ { role = "user", content = parts } }, { filters = { wall } })
      assert.is_nil(request)
      assert.truthy(message:find("wall", 1, true), message)
      assert.equal("filter", code)
   end)

   it("look at the history that a chat begins with, once", function()
      local history = { { role = "user", content = "the secret word" }, { role = "assistant", content = "Yes." } }
      local chat = assert(engine:chat { system = "No secret.", messages = history })
      local result = assert(assert(chat:say("Again.", { max_new = 2, filters = { hide } })):result())
      assert.equal(1, on_prompt(result))
      assert.equal("the ****** word", chat.messages[2].content)
      result = assert(assert(chat:say("Again.", { max_new = 2, filters = { hide } })):result())
      assert.equal(0, on_prompt(result))
      local other = assert(engine:chat { messages = { { role = "user", content = "the forbidden word" } } })
      local reply, _, code = other:say("Again.", { max_new = 2, filters = { wall } })
      assert.is_nil(reply)
      assert.equal("filter", code)
      assert.equal(1, #other.messages)
   end)

   it("may generate for themselves, before a prompt and behind it", function()
      local judge = assert(perigee.filter { name = "judge", max = 16, on = { "prompt", "output" },
         classify = function(text)
            if seen or not text:find "%a" then return end
            seen = { engine:complete("Is this fine? ", { max_new = 1, filters = { counts } }) }
         end })
      assert(engine:generate("Once", { max_new = 4, filters = { judge } }):result())
      assert.equal("string", type(seen[1]))
      local short = { max_new = 4, temperature = 0, ignore_eos = true }
      local only = assert(perigee.filter { name = "only", max = 16, on = "output", classify = function(text)
         if seen or not text:find "%a" then return end
         seen = { (engine:complete("Is this fine? ", short)) }
      end })
      seen = nil
      local result = assert(engine:generate("Once upon a time", { max_new = 8, filters = { only } }):result())
      assert.equal(8, #result.tokens)
      assert.same({ (engine:complete("Is this fine? ", short)) }, seen)
      assert.is_true(#seen[1] > 0)
   end)

   -- Many events are fetched in one go, and functions run while others of them are not read yet.
   local function slowly(name, act)
      return assert(perigee.filter { name = name, words = { "e" }, action = function()
         act()
         return "flag"
      end })
   end
   local story = { max_new = 60, seed = 3, ignore_eos = true }

   it("may wait for another engine, and lose nothing of their own", function()
      local other = assert(perigee.open(helper.model, { context = 512 }))
      local asked = 0
      local ask = slowly("ask", function()
         asked = asked + 1
         assert(other:complete("The fox", { max_new = 3, seed = 1 }))
      end)
      local expected = assert(engine:complete("Once upon a time", story))
      local request = assert(engine:generate("Once upon a time", { max_new = 60, seed = 3, ignore_eos = true,
         filters = { ask } }))
      while engine:stats().running > 0 do end
      assert.equal(expected, assert(request:result()).text)
      assert.is_true(asked > 1)
      other:close()
   end)

   it("may close their engine", function()
      local own = assert(perigee.open(helper.model, { context = 512 }))
      local close = slowly("close", function() own:close() end)
      local request = assert(own:generate("Once upon a time", { max_new = 60, seed = 3, ignore_eos = true,
         filters = { close } }))
      local neighbour = assert(own:generate("Once upon a time", story))
      while own:stats().running > 0 do end
      for _, reader in ipairs { request, neighbour } do
         local result, message, code = reader:result()
         assert.is_nil(result)
         assert.equal("cancelled", code, message)
      end
   end)
end)

describe("everything at once", function()
   it("ends, and its usage adds up", function()
      local engine = assert(perigee.open(helper.model, { batch = 64, kv_tokens = 4096, context = 512, queue = 64 }))
      assert(engine.policies:load("few", { top = 1 }))
      assert(engine.policies:load("moves", "local P = { live = true }\nfunction P.route(r)\n"
         .. "   for i = 0, r.rows - 1 do r:top(i, 1 + r:position(i) % 2) end\nend\nreturn P\n"))
      assert(engine.filters:load("mask", { name = "mask", words = { "the", "fox" }, action = "mask" }))
      assert(engine.filters:load("back", { name = "back", words = { "and", "she", "e" }, action = "rewind",
         times = 3 }))
      local grammar = assert(perigee.grammar 'root ::= ([a-z]{1,6} " "?){4,9} "."')
      local state = 7
      local function dice(n)
         state = (state * 16807) % 2147483647
         return state % n
      end
      local function pick(list) return list[dice(#list) + 1] end
      local running, ended = {}, {}
      local function collect()
         for reader in pairs(running) do
            while reader:next(0) do end
            if reader.done then running[reader], ended[#ended + 1] = nil, reader end
         end
      end
      for i = 1, 200 do
         local rewinds = pick { false, false, "back" }
         local opts = {
            max_new = 4 + dice(20), seed = i, route = pick { false, "few", "moves" } or nil,
            grammar = pick { false, false, grammar } or nil, stop = pick { false, ".", "s" } or nil,
            filters = pick { false, { "mask" }, rewinds and { "mask", rewinds } } or nil,
            cache_salt = pick { false, "a", "b" } or nil, ignore_eos = dice(2) == 0, chunk = dice(3) * 8,
         }
         local reader, message, code = engine:generate(LONG:sub(1, 40 + dice(#LONG - 40)), opts)
         while code == "full" do
            engine:poll(10)
            collect()
            reader, message, code = engine:generate("Once", opts)
         end
         assert.truthy(reader, message)
         reader.asked, running[reader] = opts, true
         if dice(16) == 0 then reader:cancel() end
         if dice(20) == 0 then assert(engine.policies:load("few", { top = 1 + dice(3) })) end
         if dice(20) == 0 then assert(engine:route(pick { { top = 3 }, "few", "moves" })) end
      end
      while next(running) do
         assert(engine:poll(100))
         collect()
      end
      assert.equal(200, #ended)
      for _, reader in ipairs(ended) do
         local result, message, code = reader:result()
         if not result then
            assert.equal("limit", code, message)          -- of bans at one place
         else
            local usage = result.usage
            assert.is_true(#result.tokens <= usage.completion and usage.completion <= reader.asked.max_new)
            if result.finish == "stop" or result.finish == "length" then
               assert.equal(usage.completion, #result.tokens)
            end
            assert.is_true(usage.cached < usage.prompt)
         end
      end
      local stats = helper.settle(engine)
      assert.same({ 0, 0, 0 }, { stats.running, stats.waiting, stats.kv_pages_used })
      engine:close()
   end)
end)

describe("what an engine that was closed left behind", function()
   it("says so", function()
      local engine = assert(perigee.open(helper.model))
      local file = os.tmpname()
      local tracer = assert(engine:trace { file = file })
      local chat, policies, knobs, filters = assert(engine:chat()), engine.policies, engine.knobs, engine.filters
      assert(policies:load("one", { top = 1 }))
      assert(policies:load("code", "local P = {}\nfunction P.token() end\nreturn P\n"))
      assert(policies:use "code")
      local grammar = assert(perigee.grammar 'root ::= "a"')
      local folder = helper.folder()
      local app = assert(perigee.app(folder, engine))
      local reader = assert(engine:generate("Once upon", { max_new = 400, grammar = grammar, route = "one" }))
      engine:close()
      local CLOSED = "the engine is closed"
      for name, call in pairs {
         route = function() return engine:route { top = 1 } end,
         reports = function() return engine:reports() end,
         experts = function() return engine:experts() end,
         trace = function() return engine:trace { file = file } end,
         template = function() return engine:template() end,
         chat = function() return engine:chat() end,
         ["policies:load"] = function() return policies:load("one", { top = 2 }) end,
         ["policies:load text"] = function() return policies:load("two", "return {}\n") end,
         ["policies:use"] = function() return policies:use "one" end,
         ["policies:use nil"] = function() return policies:use(nil) end,
         ["policies:rollback"] = function() return policies:rollback "one" end,
         ["policies:unload"] = function() return policies:unload "one" end,
         ["policies:watch"] = function() return policies:watch("one", file) end,
         ["policies:reports"] = function() return policies:reports() end,
         ["filters:load"] = function() return filters:load("f", { words = { "a" }, action = "flag" }) end,
         ["filters:unload"] = function() return filters:unload "f" end,
         ["chat:say"] = function() return chat:say "Hello" end,
         ["chat:run"] = function() return chat:run "Hello" end,
         ["app:generate"] = function() return app:generate "Hello" end,
         ["app:chat"] = function() return app:chat() end,
         pipeline = function() return perigee.pipeline {}:generate(engine, "Hello") end,
         messages = function() return engine:generate { { role = "user", content = "Hi" } } end,
      } do
         local first, message, code = call()
         assert.same({ nil, CLOSED, "invalid" }, { first, message, code }, name)
      end
      assert.is_nil(knobs.anything)
      assert.has_error(function() knobs.anything = 1 end, "engine.knobs: " .. CLOSED)
      assert.equal("{  }", tostring(knobs))
      assert.same({ nil, "the engine was closed", "cancelled" }, { reader:result() })
      assert.same({}, app:poll())
      assert.is_table(tracer:close())
      assert.is_true(grammar:accepts "a")
      for _, thing in ipairs { policies, filters, chat, app, tracer, reader, engine } do
         assert.equal("string", type(tostring(thing)))
      end
      app:close()
      os.remove(file)
      helper.remove(folder)
      collectgarbage()
      collectgarbage()
   end)

   it("may be collected with it, in any order", function()
      for _ = 1, 5 do
         collectgarbage()                              -- what the last turn left
         collectgarbage()
         local engine = assert(perigee.open(helper.model, { kv_tokens = 1024 }))
         assert(engine.policies:load("code", "local P = {}\nfunction P.route(r) r:top(0, 1) end\nreturn P\n"))
         assert(engine.policies:load("table", { "code", { top = 2 } }))
         assert(engine.policies:use "table")
         local file = os.tmpname()
         local all = { assert(engine:trace { file = file }), assert(engine:chat()),
            assert(engine:generate("Once", { route = "code", grammar = 'root ::= "a"+', max_new = 200 })) }
         engine:poll(1)
         assert.equal(3, #all)
         os.remove(file)
      end
   end)
end)
