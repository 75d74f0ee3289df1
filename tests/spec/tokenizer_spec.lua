-- Tokenizers from Lua: round trips, streams, what they say of themselves. Exactness is the C tests' business.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

describe("a tokenizer", function()
   local tokenizer
   setup(function() tokenizer = assert(perigee.tokenizer(helper.model)) end)
   teardown(function() tokenizer:close() end)

   local TEXTS = {
      "", "Hello", " two  spaces ", "line\nbreak\ttab", "写一首诗：春", "naïve café", "🦊 says 👋🏽", "\0zero", "a\255\254b",
      "local t = { [1] = \"x\" } -- Lua", ("long "):rep(3000),
   }

   it("decodes what it encoded, whatever the bytes", function()
      for _, text in ipairs(TEXTS) do
         assert.equal(text, tokenizer:decode(assert(tokenizer:encode(text))))
      end
   end)

   it("finds room for texts with more tokens, and tokens with more text, than usual", function()
      local ids = {}
      for i = 1, 20000 do ids[i] = 4 end
      assert.is_true(("<|assistant|>"):rep(20000) == tokenizer:decode(ids, { special = true }))
      local text = ("\255\1"):rep(20000)
      assert.is_true(text == tokenizer:decode(assert(tokenizer:encode(text))))
   end)

   it("puts the begin token as told", function()
      local info = tokenizer:info()
      local plain, with, without = tokenizer:encode "Hello", tokenizer:encode("Hello", { bos = true }),
         tokenizer:encode("Hello", { bos = false })
      assert.same(info.add_bos and with or without, plain)
      assert.equal(info.bos, with[1])
      assert.same(without, helper.slice(with, 2))
   end)

   it("recognises control tokens only when told to, and writes them only when told to", function()
      local text = "<|user|>Hi<|assistant|>"
      local plain, special = tokenizer:encode(text, { bos = false }),
         tokenizer:encode(text, { bos = false, special = true })
      assert.equal(3, special[1])
      assert.equal(4, special[#special])
      assert.is_true(#plain > #special)
      assert.equal(text, tokenizer:decode(plain))
      assert.equal("Hi", tokenizer:decode(special))
      assert.equal(text, tokenizer:decode(special, { special = true }))
   end)

   it("gives the ids of the reference", function()
      local reference, why = helper.reference()
      if not reference then return pending(why) end
      assert.is_true(#reference.greedy > 0)
      for _, case in ipairs(reference.greedy) do
         assert.same(case.ids, tokenizer:encode(case.prompt, { special = true, bos = true }))
      end
   end)

   it("streams whole characters", function()
      for _, text in ipairs(TEXTS) do
         local stream, parts = assert(tokenizer:stream()), {}
         for _, id in ipairs(tokenizer:encode(text)) do
            local part = assert(stream:push(id))
            assert.is_nil(part:find "[\194-\244]$")
            parts[#parts + 1] = part
         end
         parts[#parts + 1] = stream:rest()
         assert.equal(text, table.concat(parts))
      end
   end)

   it("holds an unfinished character back, and gives it up at the end", function()
      local ids = tokenizer:encode("\240\159\166", { bos = false })       -- three of the four bytes of a fox
      local stream, seen = tokenizer:stream(), ""
      for _, id in ipairs(ids) do seen = seen .. stream:push(id) end
      assert.equal("", seen)
      assert.equal("\240\159\166", stream:rest())
      assert.equal("", stream:rest())
      assert.equal("Hello", stream:push(tokenizer:encode("Hello", { bos = false })[1]) .. stream:rest() == "Hello"
         and "Hello" or tokenizer:decode(tokenizer:encode "Hello"))
   end)

   it("tells what it is", function()
      local info = tokenizer:info()
      assert.matches("qwen2", info.kind)
      assert.equal(8192, info.vocabulary)
      assert.equal(1, info.bos)
      assert.equal(2, info.eos)
      assert.is_nil(info.unk)
      assert.equal("boolean", type(info.add_bos))
      assert.matches("^perigee.tokenizer bpe qwen2, 8192 tokens$", tostring(tokenizer))
      assert.equal("<|user|>", tokenizer:token_text(3))
      assert.is_true(tokenizer:is_end(2))
      assert.is_false(tokenizer:is_end(300))
      assert.matches("<|assistant|>", tokenizer:chat_template(), 1, true)
   end)

   it("refuses ids that it does not have", function()
      for _, id in ipairs { -1, 8192, 2 ^ 31, 1.5 } do
         local text, message, code = tokenizer:decode { 300, id }
         assert.is_nil(text)
         assert.is_true(#message > 0)
         assert.equal("invalid", code)
      end
      assert.is_nil((tokenizer:token_text(8192)))
      assert.is_nil((tokenizer:token_text(-1)))
      assert.equal("invalid", select(3, tokenizer:stream():push(-1)))
   end)

   it("raises at the caller's line for wrong types", function()
      for _, call in ipairs {
         function() local _ = tokenizer:encode(1) end, function() local _ = tokenizer:encode("x", 1) end,
         function() local _ = tokenizer:encode("x", { bos = 1 }) end, function() local _ = tokenizer:decode "x" end,
         function() local _ = tokenizer:decode { "x" } end, function() local _ = tokenizer:stream { special = 1 } end,
         function() local _ = tokenizer:stream():push "x" end, function() local _ = tokenizer:token_text "x" end,
         function() local _ = tokenizer:is_end() end,
      } do
         local fine, message = pcall(call)
         assert.is_false(fine)
         assert.matches("tokenizer_spec.lua:%d+: ", message)
      end
   end)

   it("refuses unknown options by name", function()
      local ids, message, code = tokenizer:encode("x", { specials = true })
      assert.is_nil(ids)
      assert.matches('unknown option "specials"; did you mean "special"?', message, 1, true)
      assert.equal("invalid", code)
   end)

   it("needs a file that is one", function()
      local none, message, code = perigee.tokenizer "no/such/tokenizer.json"
      assert.is_nil(none)
      assert.matches("no/such/tokenizer.json", message, 1, true)
      assert.equal("not_found", code)
      none, message, code = perigee.tokenizer "Makefile"
      assert.is_nil(none)
      assert.matches("Makefile", message, 1, true)
      assert.equal("format", code)
   end)

   it("closes once and for all", function()
      local other = assert(perigee.tokenizer(helper.model))
      local stream = other:stream()
      assert.is_true(other:close())
      assert.is_true(other:close())
      assert.equal("perigee.tokenizer (closed)", tostring(other))
      assert.equal("invalid", select(3, other:encode "x"))
      assert.equal("invalid", select(3, stream:push(300)))
      assert.equal("invalid", select(3, stream:rest()))
   end)

   it("of an engine gives the same ids", function()
      local engine = assert(perigee.open(helper.model, { context = 64 }))
      for _, text in ipairs(TEXTS) do
         assert.same(tokenizer:encode(text), engine:encode(text))
         assert.equal(text, engine:decode(engine:encode(text)))
      end
      assert.equal(engine:tokenizer(), engine:tokenizer())
      assert.is_true(engine:tokenizer():close())               -- the engine's own stays
      assert.same(tokenizer:encode "x", engine:encode "x")
      engine:close()
   end)
end)
