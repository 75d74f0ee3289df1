-- Requests: streaming, several at once, ending early, reproducing, what the result says.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local PROMPT = "Once upon a time there was"

describe("a request", function()
   local engine
   setup(function() engine = assert(perigee.open(helper.model, { context = 512, precision = "f32" })) end)
   teardown(function() engine:close() end)

   -- What a request gives when nothing else runs.
   local function alone(prompt, opts) return assert(assert(engine:generate(prompt, opts)):result()) end

   it("gives its text in pieces, and the same text in the result", function()
      local request = assert(engine:generate(PROMPT, { max_new = 24, seed = 1, ignore_eos = true }))
      local pieces = {}
      for piece in request:pieces() do
         assert.is_true(#piece > 0)
         pieces[#pieces + 1] = piece
      end
      assert.is_true(request.done)
      assert.is_true(#pieces > 5)
      local result = assert(request:result())
      assert.equal(table.concat(pieces), result.text)
      assert.equal(24, #result.tokens)
      assert.equal("length", result.finish)
      assert.same({ prompt = #engine:encode(PROMPT), cached = 0, completion = 24, dropped = 0 }, result.usage)
      assert.equal(engine:decode(result.tokens), result.text)
      assert.is_true(result.timings.prefill > 0 and result.timings.decode > 0 and result.timings.queue >= 0)
      assert.is_true(result.experts.used > 0 and result.experts.used <= result.experts.all)
      assert.equal(0, result.experts.all % 16)
      assert.is_nil(result.logprobs)
      assert.equal(1, result.seed)
      assert.same(result, request:result())
   end)

   it("gives events that end with done", function()
      local tokens, last = {}, nil
      for event in engine:generate(PROMPT, { max_new = 8, temperature = 0 }):events() do
         assert.is_nil(last)
         if event.kind == "text" then
            assert.equal("string", type(event.text))
            tokens[#tokens + 1] = event.token
         else
            last = event
         end
      end
      assert.equal("done", last.kind)
      assert.equal("length", last.finish)
      assert.equal(8, last.usage.completion)
      assert.same(alone(PROMPT, { max_new = 8, temperature = 0 }).tokens, tokens)
   end)

   it("hands out whole characters only", function()
      local pieces = {}
      for piece in engine:generate("写一首诗：春", { max_new = 40, seed = 5, ignore_eos = true }):pieces() do
         assert.is_nil(piece:find "^[\128-\191]")
         assert.is_true(piece:match "[%z\1-\127]$" ~= nil or piece:match "[\194-\244][\128-\191]+$" ~= nil)
         pieces[#pieces + 1] = piece
      end
      assert.is_true(#pieces > 5)
   end)

   it("is complete's text and result", function()
      local text, result = engine:complete(PROMPT, { max_new = 6, temperature = 0 })
      assert.equal(alone(PROMPT, { max_new = 6, temperature = 0 }).text, text)
      assert.equal(text, result.text)
   end)

   it("takes token ids as well as text", function()
      local opts = { max_new = 6, temperature = 0 }
      assert.same(alone(PROMPT, opts).tokens, alone(engine:encode(PROMPT), opts).tokens)
   end)

   it("runs beside others, and gives what it gives alone", function()
      local cases = {
         { PROMPT, { max_new = 20, seed = 11, temperature = 1 } }, { "local function ", { max_new = 30, seed = 12 } },
         { "写一首诗：春", { max_new = 12, temperature = 0 } }, { "The fox", { max_new = 5, seed = 13, top_k = 5 } },
      }
      local expected, running = {}, {}
      for i, case in ipairs(cases) do expected[i] = alone(case[1], case[2]) end
      for i, case in ipairs(cases) do running[i] = assert(engine:generate(case[1], case[2])) end
      for _, i in ipairs { 3, 1, 4, 2 } do          -- read in another order: the others' events are kept
         local result = assert(running[i]:result())
         assert.same(expected[i].tokens, result.tokens)
         assert.equal(expected[i].text, result.text)
         assert.equal(expected[i].finish, result.finish)
      end
   end)

   it("can be read in turns with another", function()
      local a = engine:generate(PROMPT, { max_new = 10, seed = 1, ignore_eos = true }):events()
      local b = engine:generate("The fox", { max_new = 10, seed = 2, ignore_eos = true }):events()
      local n = { 0, 0 }
      repeat
         local x, y = a(), b()
         n[1], n[2] = n[1] + (x and x.token and 1 or 0), n[2] + (y and y.token and 1 or 0)
      until not x and not y
      assert.same({ 10, 10 }, n)
   end)

   it("takes its prompt in chunks, to the same end", function()
      local ids = assert(engine:encode(PROMPT))
      local options = { max_new = 8, temperature = 0, logprobs = 1 }
      local whole = alone(ids, options)
      local before = helper.settle(engine)
      options.chunk = 2
      local result, after = alone(ids, options), helper.settle(engine)
      assert.same(whole.tokens, result.tokens)
      assert.same(whole.logprobs, result.logprobs)
      assert.equal(math.ceil(#ids / 2) + 7, after.steps - before.steps)
      assert.is_true(after.last_seconds > 0 and after.last_seconds <= after.busy_seconds - before.busy_seconds)
      options.chunk = -1
      local nothing, message, code = engine:generate(ids, options)
      assert.same({ nil, "invalid" }, { nothing, code })
      assert.matches("chunk is -1", message, 1, true)
   end)

   it("ends when cancelled, and keeps what it has", function()
      local request = assert(engine:generate(PROMPT, { ignore_eos = true, seed = 3 }))
      local some = request:pieces()()
      assert.is_true(request:cancel())
      local result = assert(request:result())
      assert.equal("cancelled", result.finish)
      assert.equal(some, result.text:sub(1, #some))
      assert.equal(#result.tokens, result.usage.completion)
      assert.is_true(#result.tokens < 500)
      assert.is_true(request:cancel())
      assert.matches("cancelled$", tostring(request))
   end)

   it("ends at its deadline", function()
      local result = alone(PROMPT, { ignore_eos = true, deadline_ms = 30 })
      assert.equal("deadline", result.finish)
      assert.is_true(#result.tokens < 500)
   end)

   it("is cancelled when it is dropped", function()
      local before = helper.settle(engine)
      assert(engine:generate(PROMPT, { ignore_eos = true })):next()
      collectgarbage()
      collectgarbage()
      local after = helper.settle(engine)
      assert.equal(before.requests + 1, after.requests)
      assert.equal(0, after.running + after.waiting)
      assert.equal(before.kv_pages_used, after.kv_pages_used)
      assert.is_true(after.generated_tokens - before.generated_tokens < 450)      -- the context is 512
   end)

   it("says nothing yet when asked without waiting", function()
      -- so many that a reader who is kept from its core for a while still comes before the last
      local request = assert(engine:generate(PROMPT, { max_new = 400, ignore_eos = true }))
      local waits, kinds = 0, {}
      while not request.done do
         local event = request:next(0)
         if event then kinds[#kinds + 1] = event.kind else waits = waits + 1 end
      end
      assert.is_true(waits > 0)
      assert.equal("done", kinds[#kinds])
      assert.is_nil(request:next(0))
      assert.is_nil(request:next())
   end)

   it("is refused when the prompt is empty", function()
      for _, prompt in ipairs { "", {} } do
         local request, message, code = engine:generate(prompt)
         assert.is_nil(request)
         assert.matches("prompt is empty", message)
         assert.equal("invalid", code)
      end
   end)

   it("is refused when the prompt does not fit", function()
      local request, message, code = engine:generate(("word "):rep(2000))
      assert.is_nil(request)
      assert.matches("512", message)
      assert.equal("limit", code)
   end)

   it("is refused when an id is outside the vocabulary", function()
      for _, id in ipairs { 8192, -1, 2 ^ 31, 1.5 } do
         local request, message, code = engine:generate { 1, id }
         assert.is_nil(request)
         assert.matches(tostring(id), message, 1, true)
         assert.equal("invalid", code)
      end
   end)

   it("raises for a prompt of another type", function()
      for _, prompt in ipairs { 3, true, print } do
         local fine, message = pcall(function() local _ = engine:generate(prompt) end)
         assert.is_false(fine)
         assert.matches("request_spec.lua:%d+: engine:generate: the prompt must be", message)
      end
      assert.has_error(function() local _ = engine:generate { 1, "2" } end)
   end)

   describe("with a seed", function()
      local opts = { max_new = 24, temperature = 1.2, top_k = 0, top_p = 1, min_p = 0, ignore_eos = true }
      local function tokens(seed)
         opts.seed = seed
         return alone(PROMPT, opts).tokens
      end

      it("repeats itself", function()
         assert.same(tokens(42), tokens(42))
         assert.same(tokens(42), tokens "42")
         assert.same(tokens "18446744073709551615", tokens "18446744073709551615")
      end)

      it("differs from another seed, in either half", function()
         assert.not_same(tokens(42), tokens(43))
         assert.not_same(tokens "42", tokens "4294967338")         -- 42 + 2^32
      end)

      it("that was drawn can be used again", function()
         opts.seed = nil
         local first, second = alone(PROMPT, opts), alone(PROMPT, opts)
         assert.not_equal(first.seed, second.seed)
         assert.same(first.tokens, tokens(first.seed))
         assert.equal(first.seed, alone(PROMPT, opts).seed)
      end)
   end)

   describe("with sampling options", function()
      local function tokens(opts)
         opts.max_new, opts.ignore_eos = 24, true
         return alone(PROMPT, opts).tokens
      end
      local function hot(opts)               -- so hot that what is left in the draw is drawn evenly
         opts.temperature, opts.top_k, opts.top_p, opts.min_p = 1e6, opts.top_k or 0, opts.top_p or 1, opts.min_p or 0
         return opts
      end
      local function repeats(list)
         local seen, n = {}, 0
         for _, id in ipairs(engine:encode(PROMPT)) do seen[id] = true end
         for _, id in ipairs(list) do
            n = n + (seen[id] and 1 or 0)
            seen[id] = true
         end
         return n
      end

      it("draws from what they leave", function()
         local best = tokens { temperature = 0 }
         assert.not_same(best, tokens(hot { seed = 1 }))
         assert.same(best, tokens(hot { seed = 1, top_k = 1 }))
         assert.same(best, tokens(hot { seed = 1, top_p = 1e-6 }))
         assert.same(best, tokens(hot { seed = 1, min_p = 1 }))
         assert.same(tokens(hot { seed = 1, typical_p = 1e-6 }), tokens(hot { seed = 2, typical_p = 1e-6 }))
      end)

      it("avoids what they punish", function()
         local plain = tokens { temperature = 0 }
         assert.is_true(repeats(plain) > 0)
         assert.equal(0, repeats(tokens { temperature = 0, presence_penalty = 1000, repeat_last_n = -1 }))
         assert.equal(0, repeats(tokens { temperature = 0, frequency_penalty = 1000, repeat_last_n = -1 }))
         assert.is_true(repeats(tokens { temperature = 0, repeat_penalty = 1e6, repeat_last_n = -1 }) < repeats(plain))
         assert.same(plain, tokens { temperature = 0, presence_penalty = 1000, repeat_last_n = 0 })
      end)
   end)

   it("goes before others when its priority is larger", function()
      local narrow = assert(perigee.open(helper.model, { context = 64, batch = 1 }))       -- one at a time
      local function start(priority)
         return assert(narrow:generate("Once upon", { max_new = 20, ignore_eos = true, priority = priority }))
      end
      local first, low, high = start(0), start(-5), start(5)
      low, high = assert(low:result()), assert(high:result())
      assert(first:result())
      assert.is_true(high.timings.queue < low.timings.queue)
      narrow:close()
   end)

   describe("with stop strings", function()
      local plain
      setup(function() plain = alone(PROMPT, { max_new = 24, temperature = 0 }) end)

      -- The last byte of one token and the first of the next: found only by looking across tokens.
      local function across()
         local ids = plain.tokens
         local head = engine:decode(helper.slice(ids, 1, 10))
         return head, plain.text:sub(#head, #head + 1)
      end

      it("ends before the first that appears, across tokens", function()
         local _, stop = across()
         local at = plain.text:find(stop, 1, true)
         local pieces = {}
         local request = assert(engine:generate(PROMPT, { max_new = 24, temperature = 0, stop = stop }))
         for piece in request:pieces() do pieces[#pieces + 1] = piece end
         local result = request:result()
         assert.equal(plain.text:sub(1, at - 1), result.text)
         assert.equal(result.text, table.concat(pieces))
         assert.equal("stop", result.finish)
      end)

      it("takes several", function()
         local head = across()
         local word = plain.text:match("%a%a+", #head)
         local result = alone(PROMPT, { max_new = 24, temperature = 0, stop = { "never seen", word, "neither" } })
         assert.equal(plain.text:sub(1, plain.text:find(word, 1, true) - 1), result.text)
         assert.equal("stop", result.finish)
      end)

      it("gives all text back when none appears", function()
         local result = alone(PROMPT, { max_new = 24, temperature = 0, stop = plain.text .. plain.text })
         assert.equal(plain.text, result.text)
         assert.equal("length", result.finish)
      end)
   end)

   describe("with biases", function()
      it("never takes a banned token", function()
         local first = alone(PROMPT, { max_new = 1, temperature = 0 }).tokens[1]
         local other = alone(PROMPT, { max_new = 1, temperature = 0, logit_bias = { [first] = -math.huge } }).tokens[1]
         assert.not_equal(first, other)
      end)

      it("takes what is pushed", function()
         local result = alone(PROMPT, { max_new = 3, temperature = 0, logit_bias = { [300] = 1000, [301] = -1000 } })
         assert.same({ 300, 300, 300 }, result.tokens)
      end)

      it("ends at an end token, unless it is to be ignored", function()
         local eos = engine:info().eos
         local bias = { [eos] = 1000 }
         local result = alone(PROMPT, { max_new = 3, temperature = 0, logit_bias = bias })
         assert.equal("stop", result.finish)
         assert.equal("", result.text)
         result = alone(PROMPT, { max_new = 3, temperature = 0, logit_bias = bias, ignore_eos = true })
         assert.equal("length", result.finish)
         assert.same({ eos, eos, eos }, result.tokens)
         assert.equal("", result.text)
         result = alone(PROMPT, { max_new = 3, temperature = 0, logit_bias = bias, ignore_eos = true, special = true })
         assert.equal(engine:decode({ eos, eos, eos }, { special = true }), result.text)
      end)
   end)

   describe("with logprobs", function()
      it("tells those of the plain softmax, best first", function()
         local prompt = engine:encode(PROMPT)
         local result = alone(prompt, { max_new = 8, temperature = 1, seed = 4, logprobs = 4, ignore_eos = true })
         assert.equal(8, #result.logprobs)
         local all = helper.slice(prompt, 1)
         for _, id in ipairs(result.tokens) do all[#all + 1] = id end
         local logits, T, V = assert(engine:logits(all))
         assert.equal(#all, T)
         for i, choice in ipairs(result.logprobs) do
            local row = logits + (#prompt + i - 2) * V
            assert.equal(result.tokens[i], choice.token)
            assert.equal(3, #choice.top)
            assert.is_true(math.abs(helper.log_softmax(row, V, choice.token) - choice.logprob) < 1e-3)
            for j, other in ipairs(choice.top) do
               assert.not_equal(choice.token, other.token)
               assert.is_true(j == 1 or choice.top[j - 1].logprob >= other.logprob)
               assert.is_true(math.abs(helper.log_softmax(row, V, other.token) - other.logprob) < 1e-3)
            end
         end
      end)

      it("has the chosen one on top when it is the most likely", function()
         for event in engine:generate(PROMPT, { max_new = 6, temperature = 0, logprobs = 2 }):events() do
            if event.token then
               assert.equal(event.token, event.logprobs.token)
               assert.is_true(event.logprobs.logprob >= event.logprobs.top[1].logprob)
            end
         end
      end)
   end)

   it("recognises control tokens only when told to", function()
      local text = "<|user|>Tell me a story about a fox.<|assistant|>"
      local plain = alone(text, { max_new = 1 }).usage.prompt
      local special = alone(text, { max_new = 1, special = true }).usage.prompt
      assert.equal(#engine:encode(text), plain)
      assert.equal(#engine:encode(text, { special = true }), special)
      assert.is_true(special < plain)
   end)
end)

describe("polling", function()
   local engine
   setup(function() engine = assert(perigee.open(helper.model, { context = 256, queue = 2 })) end)
   teardown(function() engine:close() end)

   it("keeps the loop in compiled code", function()
      local compiled, why = helper.compiles(function() for _ = 1, 200 do engine:poll(0) end end)
      assert.is_true(compiled, why)
   end)

   it("keeps a loop over one request in compiled code, while nothing comes", function()
      local request = assert(engine:generate("Once", { max_new = 1 }))
      for _ = 1, 2 do request:next() end
      request.done = false                                 -- as one that the engine has not got to yet
      local compiled, why = helper.compiles(function() for _ = 1, 200 do request:next(0) end end)
      assert.is_true(compiled, why)
   end)

   it("can be told apart from a loop that does not compile", function()
      assert.is_false((helper.compiles(function() for _ = 1, 200 do string.dump(helper.read) end end)))
   end)

   it("returns how many events came", function()
      local request = assert(engine:generate("Once", { max_new = 5, ignore_eos = true }))
      local n = 0
      repeat n = n + assert(engine:poll(-1)) until request:next(0) and n >= 6
      while not request.done do request:next() end
      assert.equal(6, n)
      assert.equal(0, engine:poll(0))
      assert.equal(0, engine:poll(-1))          -- nothing is in flight: it does not wait for ever
      assert.equal(0, engine:poll())
   end)

   it("has a descriptor that is readable while events wait", function()
      local fd = assert(engine:fd())
      assert.is_false(helper.readable(fd))
      local request = assert(engine:generate("Once", { max_new = 3, ignore_eos = true }))
      local until_s = os.time() + 120
      while not helper.readable(fd) and os.time() < until_s do os.execute "sleep 0.01" end
      assert.is_true(helper.readable(fd))
      assert(request:result())
      engine:poll(0)
      assert.is_false(helper.readable(fd))
   end)

   it("takes no more than the queue holds, and takes more after a poll", function()
      local opts = { max_new = 2, ignore_eos = true }
      local a, b = assert(engine:generate("Once", opts)), assert(engine:generate("Twice", opts))
      local c, message, code = engine:generate("Thrice", opts)
      if not c then                             -- else the first two have ended already
         assert.equal("full", code)
         assert.matches("poll", message)
      end
      assert(a:result())
      assert(b:result())
      assert(assert(engine:generate("Thrice", opts)):result())
   end)

   it("raises in pieces when the engine gave the request up", function()
      local short = assert(perigee.open(helper.model, { context = 64 }))
      local request = assert(short:generate("Once", { ignore_eos = true }))
      short:close()
      local fine, message = pcall(function() for _ in request:pieces() do assert(true) end end)
      assert.is_false(fine)
      assert.matches("request_spec.lua:%d+: the engine was closed", message)
   end)
end)
