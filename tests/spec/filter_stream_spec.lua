-- Filters on generations: the bundled model, greedy, so that what must come is known from runs without filters.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local PROMPT = "Once upon a time there was"

local function filter(opts) return (assert(perigee.filter(opts))) end

describe("a generation with filters", function()
   local engine, plain
   local GREEDY = { max_new = 40, temperature = 0, ignore_eos = true, logprobs = 3 }

   local function generate(prompt, opts)
      local given = {}
      for name, value in pairs(GREEDY) do given[name] = value end
      for name, value in pairs(opts or {}) do given[name] = value end
      return engine:generate(prompt, given)
   end
   local function result(prompt, opts) return assert(assert(generate(prompt, opts)):result()) end

   setup(function()
      engine = assert(perigee.open(helper.model, { context = 512, precision = "f32" }))
      plain = result(PROMPT)
   end)
   teardown(function() engine:close() end)

   -- A word of the plain text that stands there once only, behind some others.
   local function some_word()
      for word in plain.text:sub(20):gmatch "%f[%w]%l%l%l%l+%f[%W]" do
         local first, last = plain.text:find(word, 1, true)
         if not plain.text:find(word, last + 1, true) then return word, first, last end
      end
   end

   -- Index of the token in which a byte of the plain text lies.
   local function token_at(place)
      local bytes = 0
      for i, id in ipairs(plain.tokens) do
         bytes = bytes + #engine:decode { id }
         if bytes >= place then return i end
      end
   end

   it("is the same when nothing matches, text and tokens, piece by piece", function()
      local filters = { filter { name = "none", words = { "zebra" } }, filter { name = "re", regex = "[0-9]{4}" } }
      local got = result(PROMPT, { filters = filters })
      assert.equal(plain.text, got.text)
      assert.same(plain.tokens, got.tokens)
      assert.same(plain.logprobs, got.logprobs)
      assert.same({}, got.filters)
      assert.equal("length", got.finish)
      assert.equal(plain.usage.completion, got.usage.completion)
      assert.is_nil(plain.filters)
      local texts, n = {}, 0
      for event in generate(PROMPT, { filters = filters }):events() do
         if event.token then
            n = n + 1
            assert.equal(plain.tokens[n], event.token)
            assert.same(plain.logprobs[n], event.logprobs)
         end
         texts[#texts + 1] = event.text
      end
      assert.equal(plain.text, table.concat(texts))
      assert.equal(#plain.tokens, n)
   end)

   it("masks, and says what", function()
      local word, first, last = some_word()
      local request = assert(generate(PROMPT, {
         filters = filter { name = "m", category = "c", words = { word }, action = "mask", replace = "[gone]" },
      }))
      local pieces, events = {}, {}
      for event in request:events() do
         if event.kind == "text" then pieces[#pieces + 1] = event.text end
         if event.kind == "filter" then events[#events + 1] = event end
      end
      local expected = plain.text:sub(1, first - 1) .. "[gone]" .. plain.text:sub(last + 1)
      assert.equal(expected, table.concat(pieces))
      local got = request:result()
      assert.equal(expected, got.text)
      assert.same(plain.tokens, got.tokens)
      assert.same(events, got.filters)
      assert.same({ { kind = "filter", filter = "m", category = "c", action = "mask", text = word, first = first,
         last = last, on = "output", attempt = 0 } }, events)
   end)

   it("reports, and leaves the text alone", function()
      local word = some_word()
      local got = result(PROMPT, { filters = filter { name = "f", words = { word }, action = "flag" } })
      assert.equal(plain.text, got.text)
      assert.equal("flag", got.filters[1].action)
      assert.equal(word, got.filters[1].text)
   end)

   it("ends before what is blocked, and counts what was computed", function()
      local word, first = some_word()
      local got = result(PROMPT, { filters = filter { name = "b", words = { word } } })
      assert.equal(plain.text:sub(1, first - 1), got.text)
      assert.equal("filter", got.finish)
      local at = token_at(first)
      assert.same(helper.slice(plain.tokens, 1, #got.tokens), got.tokens)
      assert.is_true(#got.tokens < at)
      assert.is_true(got.usage.completion >= at and got.usage.completion <= 40)
      assert.equal(0, got.usage.dropped)
      assert.equal("block", got.filters[1].action)
      local pieces = {}
      for piece in generate(PROMPT, { filters = filter { name = "b", words = { word } } }):pieces() do
         pieces[#pieces + 1] = piece
      end
      assert.equal(got.text, table.concat(pieces))
   end)

   it("takes tokens back: the second most likely comes in place of the first, on a cache that never saw it", function()
      local word, first = some_word()
      local at = token_at(first)
      local likely, second = -math.huge, nil
      for _, other in ipairs(plain.logprobs[at].top) do
         if other.token ~= plain.tokens[at] and other.logprob > likely then
            likely, second = other.logprob, other.token
         end
      end
      local request = assert(generate(PROMPT, { filters = filter {
         name = "r", words = { word }, action = "rewind", times = 1,
         check = function(match) return match.first == first end,
      } }))
      local released, seen = "", {}
      for event in request:events() do
         if event.kind == "text" then
            released = released .. event.text
            assert.equal(engine:decode(seen):sub(1, #released), released:sub(1, #engine:decode(seen)))
            seen[#seen + 1] = event.token
         end
      end
      local got = request:result()
      assert.equal(got.text, released)
      assert.same(got.tokens, seen)
      assert.same(helper.slice(plain.tokens, 1, at - 1), helper.slice(got.tokens, 1, at - 1))
      assert.equal(second, got.tokens[at])
      -- The same from a prompt that holds the kept tokens and the second one.
      local ids = assert(engine:encode(PROMPT))
      for i = 1, at do ids[#ids + 1] = got.tokens[i] end
      local other = result(ids, { max_new = 40 - at })
      assert.same(other.tokens, helper.slice(got.tokens, at + 1))
      for i, choice in ipairs(other.logprobs) do
         assert.is_true(math.abs(choice.logprob - got.logprobs[at + i].logprob) < 1e-4)
      end
      assert.equal(40, got.usage.completion)
      assert.is_true(got.usage.dropped >= 1)
      assert.equal("length", got.finish)
      assert.equal("rewind", got.filters[1].action)
      assert.equal(word, got.filters[1].text)
   end)

   it("takes back at most as often as the filter says, then it blocks", function()
      local got = result(PROMPT, { filters = filter { name = "r", regex = "\\w+", action = "rewind", times = 4,
         check = function(match) return match.first > 20 end } })
      local counts = { rewind = 0, block = 0 }
      for _, event in ipairs(got.filters) do counts[event.action] = counts[event.action] + 1 end
      assert.same({ rewind = 4, block = 1 }, counts)
      assert.equal("filter", got.finish)
      assert.is_nil(got.text:sub(21):find "%w")
   end)

   it("takes back beside stop strings and at its very end", function()
      local word, first = some_word()
      local at = token_at(first)
      local opts = { filters = filter { name = "r", words = { word }, action = "rewind" } }
      local free = result(PROMPT, opts)
      opts.stop = { "@@", word .. " not there" }
      assert.same(free.tokens, result(PROMPT, opts).tokens)
      assert.equal(free.text, result(PROMPT, opts).text)
      opts.stop, opts.max_new = nil, token_at(first + #word - 1)         -- the word's end is the text's end
      local short = result(PROMPT, opts)
      assert.same(helper.slice(free.tokens, 1, opts.max_new), short.tokens)
      assert.is_true(short.usage.dropped >= opts.max_new - at + 1)
   end)

   it("ends at a stop string that filters do not hinder", function()
      local word, first = some_word()
      local got = result(PROMPT, { stop = { word }, filters = filter { name = "n", words = { "zebra", word .. "s" } } })
      assert.equal("stop", got.finish)
      assert.equal(plain.text:sub(1, first - 1), got.text)
   end)

   it("stops when a filter fails, and says which", function()
      local word = some_word()
      local ways = {
         { words = { word }, action = function() error "no" end },
         { words = { word }, action = "mask", replace = function() return nil end },
         { words = { word }, check = function() error "no" end },
         { words = { word }, action = function() return "explode" end },
         { max = 8, classify = function() error "no" end },
         { max = 8, classify = function() return 0, 1 end },
         { regex = "((\\w+\\s?)+)+\\d" },
      }
      for i, way in ipairs(ways) do
         way.name = "way " .. i
         local request = assert(generate(PROMPT, { filters = filter(way) }))
         local last
         for event in request:events() do last = event end
         assert.equal("fail", last.kind)
         assert.matches('filter "way ' .. i .. '" failed', last.message, 1, true)
         local got, message, code = request:result()
         assert.is_nil(got)
         assert.equal(last.message, message)
         assert.equal("invalid", code)
      end
      assert.equal(0, helper.settle(engine).running)
   end)

   it("asks functions what to do", function()
      local word, first = some_word()
      local seen
      local got = result(PROMPT, { filters = filter { name = "f", words = { word }, times = 1, action = function(match)
         seen = match.text
         return "rewind"
      end } })
      assert.equal(word, seen)
      assert.equal("rewind", got.filters[1].action)
      assert.equal("flag", result(PROMPT, {
         filters = filter { name = "f", words = { word }, action = function() end },
      }).filters[1].action)
      local function block() return "block" end
      got = result(PROMPT, { filters = filter { name = "f", words = { word }, action = block } })
      assert.equal(plain.text:sub(1, first - 1), got.text)
   end)

   it("can be cancelled while text is held back", function()
      local request = assert(generate(PROMPT, { max_new = 400, filters = {
         filter { name = "all", regex = "(?s).{300}x", action = "rewind" },
      } }))
      engine:poll(50)
      assert.is_true(request:cancel())
      local got = assert(request:result())
      assert.equal("cancelled", got.finish)
      assert.equal(engine:decode(got.tokens), got.text)
   end)

   it("looks at prompts", function()
      local on = { "prompt" }
      local request, message, code = generate(PROMPT, { filters = filter { name = "b", words = { "upon" }, on = on } })
      assert.is_nil(request)
      assert.equal("filter", code)
      assert.matches('filter "b" blocks the prompt', message, 1, true)
      local mask = filter { name = "m", words = { "upon a time" }, action = "mask", replace = "in a wood", on = on }
      local got = result(PROMPT, { filters = mask })
      assert.same(result("Once in a wood there was").tokens, got.tokens)
      assert.same({ { kind = "filter", filter = "m", category = "m", action = "mask", text = "upon a time", first = 6,
         last = 16, on = "prompt", attempt = 0 } }, got.filters)
      local ids = assert(engine:encode(PROMPT))
      request, message, code = generate(ids, { filters = mask })
      assert.is_nil(request)
      assert.equal("filter", code)
      assert.matches("token ids", message)
      got = result(ids, { filters = filter { name = "f", words = { "upon" }, action = "flag", on = on } })
      assert.equal(plain.text, got.text)
      assert.equal("upon", got.filters[1].text)
   end)

   it("knows filters by name, swaps them, and lets requests in flight keep theirs", function()
      local filters, word = engine.filters, some_word()
      assert.equal(1, assert(filters:load("one", { name = "one", words = { word }, action = "mask", replace = "1" })))
      local before = assert(generate(PROMPT, { filters = "one" }))
      local source = ('return { name = "one", words = %q, action = "mask", replace = "2" }'):format(word)
      assert.equal(2, assert(filters:load("one", source)))
      local after = assert(generate(PROMPT, { filters = { "one" } }))
      assert.equal((plain.text:gsub(word, "1")), assert(before:result()).text)
      assert.equal((plain.text:gsub(word, "2")), assert(after:result()).text)
      for _, broken in ipairs {
         "return", "return 1", "x =\n", "no/such/file.lua", "error 'no'\n", "return { name = 1 }",
      } do
         local version, message = filters:load("one", broken)
         assert.is_nil(version)
         assert.matches('filters:load: "one"', message, 1, true)
      end
      local list = filters:list()
      assert.equal(1, #list)
      assert.equal(2, list[1].version)
      local path = os.tmpname()
      helper.write(path, ('local perigee = require "perigee"\n'
         .. 'return { assert(perigee.filter { name = "a", words = %q }), { name = "b", regex = "b" } }'):format(word))
      assert.equal(3, assert(filters:load("one", path)))
      os.remove(path)
      assert.equal(path, filters:list()[1].path)
      assert.equal(2, #filters:list()[1].filters)
      assert.is_true(filters:unload "one")
      assert.is_nil((filters:unload "one"))
      local request, message, code = generate(PROMPT, { filters = { "one" } })
      assert.is_nil(request)
      assert.matches('no filter is called "one"', message, 1, true)
      assert.equal("not_found", code)
   end)

   it("is refused with something that is no filter", function()
      for _, what in ipairs { 1, true, { 1 }, { {} } } do
         local request, message, code = generate(PROMPT, { filters = what })
         assert.is_nil(request)
         assert.matches("filters", message)
         assert.equal("invalid", code)
      end
      local any = filter { name = "n", words = "a", on = { "prompt", "output" } }
      assert.has_error(function() engine:generate(nil, { filters = any }) end)
      assert.has_error(function() engine:generate(1, { filters = any }) end)
   end)

   it("runs beside others, each with its own", function()
      local word, first = some_word()
      local requests = {}
      for i = 1, 6 do
         requests[i] = assert(generate(PROMPT, { filters = i % 3 > 0 and filter {
            name = "f", words = { word }, action = i % 3 == 1 and "rewind" or "block",
         } or nil }))
      end
      local rewound = assert(requests[1]:result()).text
      for i = 1, 6 do
         local expected = i % 3 == 0 and plain.text or i % 3 == 1 and rewound or plain.text:sub(1, first - 1)
         assert.equal(expected, assert(requests[i]:result()).text)
      end
   end)
end)
