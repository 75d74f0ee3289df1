-- Grammars and schemas from Lua: alone, and bounding what an engine says.
local perigee = require "perigee"
local json = require "cjson"

describe("perigee.grammar", function()
   it("checks texts and beginnings of texts", function()
      local g = assert(perigee.grammar 'root ::= ("yes" | "n\\u00f6") "."+')
      assert.is_true(g:accepts "yes.")
      assert.is_true(g:accepts "n\195\182..")
      assert.is_false(g:accepts "yes")
      assert.is_true(g:alive "ye")
      assert.is_true(g:alive "n\195")
      assert.is_false(g:alive "no")
      assert.equal('root ::= ("yes" | "n\\u00f6") "."+', tostring(g))
      assert.is_true(g:close())
      assert.same({ nil, "the grammar is closed", "invalid" }, { g:accepts "yes." })
      assert.equal("perigee.grammar (closed)", tostring(g))
   end)

   it("says where a text does not parse", function()
      local g, message, code = perigee.grammar 'root ::= "a"\nother ::= [a-'
      assert.is_nil(g)
      assert.truthy(message:find("line 2, column 11", 1, true), message)
      assert.equal("invalid", code)
      assert.has_error(function() perigee.grammar(7) end, "perigee.grammar: text must be a string, not a number")
   end)

   it("reads again what a schema prints", function()
      local g = assert(perigee.schema '{"type":"array","items":{"enum":["a\\"b",1]},"minItems":1}')
      local again = assert(perigee.grammar(tostring(g)))
      for text, fits in pairs { ['["a\\"b",1]'] = true, ["[1]"] = true, ["[]"] = false, ["[2]"] = false } do
         assert.equal(fits, g:accepts(text), text)
         assert.equal(fits, again:accepts(text), text)
      end
   end)

   it("names what a schema cannot hold by its path", function()
      local g, message, code = perigee.schema '{"type":"object","properties":{"a":{"not":{}}}}'
      assert.is_nil(g)
      assert.truthy(message:find("#/properties/a/not", 1, true), message)
      assert.equal("unsupported", code)
      assert.equal("format", select(3, perigee.schema "{"))
   end)

   it("makes one grammar of a list of tools", function()
      local tools = {
         { type = "function", ["function"] = { name = "add", parameters = {
            type = "object", properties = { a = { ["$ref"] = "#/$defs/n" } }, required = { "a" },
            ["$defs"] = { n = { type = "integer" } } } } },
         { name = "now" },
      }
      local g = assert(perigee.tool_schema(json.encode(tools)))
      assert.is_true(g:accepts '{"name": "add", "arguments": {"a": 12}}')
      assert.is_true(g:accepts '{"name": "now", "arguments": {}}')
      assert.is_false(g:accepts '{"name": "add", "arguments": {}}')
      assert.is_false(g:accepts '{"name": "sub", "arguments": {}}')
      assert.equal("invalid", select(3, perigee.tool_schema "[]"))
   end)
end)

describe("engine:generate under a grammar", function()
   local engine
   setup(function() engine = assert(perigee.open(nil, { context = 512 })) end)
   teardown(function() engine:close() end)

   local function say(opts)
      local text, result = engine:complete("Once upon a time there was", opts)
      return assert(text, result), result
   end

   it("says only what fits, and stops where nothing can follow", function()
      for seed = 1, 6 do
         local answer = 'root ::= ("yes" | "no" | "perhaps") "!"'
         local text, result = say { grammar = answer, seed = seed, temperature = 1.5 }
         assert.truthy(text == "yes!" or text == "no!" or text == "perhaps!", text)
         assert.equal("stop", result.finish)
      end
   end)

   it("fills in a schema", function()
      local schema = [[{ "type": "object", "properties": {
         "name": { "type": "string", "minLength": 1, "maxLength": 12 },
         "age": { "type": "integer", "minimum": 3, "maximum": 120 }, "mood": { "enum": ["glad", "sad"] } },
         "required": ["name", "age", "mood"], "additionalProperties": false }]]
      for seed = 1, 6 do
         local text, result = say { json_schema = schema, seed = seed, temperature = 1 }
         assert.equal("stop", result.finish)
         local value = json.decode(text)
         assert.truthy(#value.name >= 1 and value.age % 1 == 0 and value.age >= 3 and value.age <= 120, text)
         assert.truthy(value.mood == "glad" or value.mood == "sad", text)
      end
   end)

   it("gives the same text beside other requests, and from a kept grammar", function()
      local g = assert(perigee.grammar 'root ::= [a-z ]{20,40} "."')
      local alone = say { grammar = g, seed = 3, temperature = 1 }
      local requests = {}
      for i = 1, 5 do
         local opts = { grammar = i % 2 == 0 and g or tostring(g), seed = 3, temperature = 1, max_new = 60 }
         requests[i] = assert(engine:generate("Once upon a time there was", opts))
      end
      for i = 1, 5 do assert.equal(alone, assert(requests[i]:result()).text) end
      assert.is_true(g:accepts(alone))
   end)

   it("leaves log-probabilities those of the model", function()
      local _, result = say { grammar = 'root ::= "zq"', seed = 1, logprobs = 1 }
      for _, choice in ipairs(result.logprobs) do assert.truthy(choice.logprob <= 0 and choice.logprob > -math.huge) end
   end)

   it("refuses what it cannot follow before a token is said", function()
      local request, message, code = engine:generate("x", { grammar = "root ::= root" })
      assert.is_nil(request)
      assert.truthy(message:find("left recursion", 1, true), message)
      assert.equal("invalid", code)
      assert.equal("not_found", select(3, engine:generate("x", { grammar = 'root ::= <no-such-token> "a"' })))
      assert.equal("invalid", select(3, engine:generate("x", { grammar = 'root ::= "a"', json_schema = "{}" })))
      assert.has_error(function() engine:generate("x", { grammar = 7 }) end,
         'engine:generate: option "grammar" must be a text or a grammar, not a number')
   end)

   it("takes whole tokens by id", function()
      local ids = assert(engine:encode("fox", { bos = false }))
      local text = say { grammar = ('root ::= <[%d]> "!"'):format(ids[1]) }
      assert.equal(engine:decode { ids[1] } .. "!", text)
   end)
end)
