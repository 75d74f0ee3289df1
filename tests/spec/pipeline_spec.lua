-- Prompt pipelines: what each stage does to a context, what an answer passes, what a broken stage says.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local pipeline = require "perigee.pipeline"
local mask = require "perigee.pipeline.mask"

describe("perigee.pipeline", function()
   local engine

   setup(function() engine = assert(perigee.open(helper.model)) end)
   teardown(function() engine:close() end)

   local function run(stages, input, opts) return pipeline(stages):run(engine, input, opts) end

   it("runs its stages in order over copies", function()
      local mine = { { role = "user", content = "Hi" } }
      local context = assert(run({
         pipeline.few_shot { { "2 + 2?", "4" } },
         pipeline.system "Be brief.",
         function(c)
            c.options.max_new = 3
            return c
         end,
      }, mine, { temperature = 0 }))
      assert.same({
         { role = "system", content = "Be brief." }, { role = "user", content = "2 + 2?" },
         { role = "assistant", content = "4" }, { role = "user", content = "Hi" },
      }, context.messages)
      assert.same({ max_new = 3, temperature = 0 }, context.options)
      assert.same({ { role = "user", content = "Hi" } }, mine)
   end)

   it("generates what the model says to the changed messages", function()
      local made = pipeline { pipeline.system "Be brief." }
      local result = assert(assert(made:generate(engine, "Tell me a story.", { max_new = 8,
         temperature = 0 })):result())
      assert.equal(assert(engine:complete({ { role = "system", content = "Be brief." },
         { role = "user", content = "Tell me a story." } }, { max_new = 8, temperature = 0 })), result.text)
   end)

   it("renders a prompt of its own", function()
      local made = pipeline { pipeline.template(function(c) return "Story: " .. c.messages[1].content end) }
      local result = assert(assert(made:generate(engine, "a fox", { max_new = 8, temperature = 0 })):result())
      assert.equal(assert(engine:complete("Story: a fox", { max_new = 8, temperature = 0 })), result.text)
      local jinja = pipeline { pipeline.template "{{ messages[0].content | upper }}" }
      result = assert(assert(jinja:generate(engine, "a fox", { max_new = 8, temperature = 0 })):result())
      assert.equal(assert(engine:complete("A FOX", { max_new = 8, temperature = 0 })), result.text)
   end)

   it("puts what a search finds before the question", function()
      local context = assert(run({ pipeline.retrieve(function(query)
         return { "about " .. query, "b", "c" }
      end, { most = 2, title = "See:" }) }, "foxes"))
      assert.equal("See:\n[1] about foxes\n[2] b", context.messages[1].content)
      local none, message = run({ pipeline.retrieve(function() return nil, "the index is offline" end) }, "foxes")
      assert.is_nil(none)
      assert.equal("pipeline, retrieve: the index is offline", message)
   end)

   it("cuts the history to a number of tokens, turn by turn", function()
      local list = { { role = "system", content = "S" } }
      for i = 1, 6 do
         list[#list + 1] = { role = "user", content = i .. (" word"):rep(20) }
         list[#list + 1] = { role = "assistant", content = "ok" }
      end
      list[#list + 1] = { role = "user", content = "last" }
      local context = assert(run({ pipeline.history(90) }, list))
      assert.equal("system", context.messages[1].role)
      assert.equal("user", context.messages[2].role)
      assert.equal("last", context.messages[#context.messages].content)
      assert.is_true(#context.messages < #list and #context.messages > 2, #context.messages)
   end)

   it("translates there and back", function()
      local function with(text, language) return language .. "(" .. text .. ")" end
      local made = pipeline { pipeline.translate { to = "en", from = "zh", with = with } }
      local context = assert(made:run(engine, "hi"))
      assert.equal("en(hi)", context.messages[1].content)
      local plain = assert(engine:complete({ { role = "user", content = "en(hi)" } }, { max_new = 6, temperature = 0 }))
      local result = assert(assert(made:generate(engine, "hi", { max_new = 6, temperature = 0 })):result())
      assert.equal("zh(" .. plain .. ")", result.text)
   end)

   it("names the stage that failed", function()
      local none, message = run({ { name = "mine", run = function() error("no luck", 0) end } }, "x")
      assert.is_nil(none)
      assert.equal("pipeline, mine: no luck", message)
      none, message = run({ function() return nil, "not today", "full" end }, "x")
      assert.is_nil(none)
      assert.equal("pipeline, stage 1: not today", message)
      assert.has_error(function() pipeline { 7 } end,
         "perigee.pipeline: stage 1 must be a function or a table with run, not a number")
   end)

   it("keeps personal data from the model, the same sign for the same value", function()
      local context = assert(run({ pipeline.mask_pii() },
         "Mail bob@example.com, then bob@example.com again; card 4111 1111 1111 1111."))
      assert.equal("Mail [EMAIL_1], then [EMAIL_1] again; card [CARD_1].", context.messages[1].content)
      local values = {}
      for _, value in pairs(context.state.masked) do values[#values + 1] = value end
      table.sort(values)
      assert.same({ "4111 1111 1111 1111", "bob@example.com" }, values)
      assert.equal(1, #context.output)
   end)

   it("puts masked values back however the signs are cut", function()
      local signs = { by_sign = { ["[EMAIL_1]"] = "a@b.c", ["[PHONE_12]"] = "123" } }
      local text = "To [EMAIL_1] or [PHONE_12], not [PHONE_9], [x [EMAIL_1"
      for n = 1, #text do
         local rewriter, out = mask.unmask(signs), {}
         for at = 1, #text, n do out[#out + 1] = rewriter:push(text:sub(at, at + n - 1)) end
         out[#out + 1] = rewriter:finish()
         assert.equal("To a@b.c or 123, not [PHONE_9], [x [EMAIL_1", table.concat(out), "pieces of " .. n)
      end
      assert.equal("go on", mask.unmask(signs):push "go on")       -- what can be no sign is not held back
   end)
end)
