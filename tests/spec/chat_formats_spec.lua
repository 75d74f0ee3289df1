-- Reasoning and tool calls in what models say. The families' syntaxes are held to the published templates: what a
-- template renders for an assistant's calls is what its model says, so reading it must give the calls back.
local helper = dofile "tests/spec/helper.lua"
local json = require "perigee.json"
local formats = require "perigee.chat.formats"
local segments = require "perigee.chat.segments"
local template = require "perigee.template"

local golden = os.getenv "PERIGEE_GOLDEN"
if not golden or golden == "" then golden = "../shared/golden" end

-- All parts of a text that comes in pieces of n bytes; neighbours of one kind as one.
local function read(format, text, n, state, is_string)
   local stream, parts = segments.new(format, state, is_string), {}
   local function add(more)
      for _, part in ipairs(more) do
         local last = parts[#parts]
         if last and last.kind == part.kind and part.text then
            last.text = last.text .. part.text
         else
            parts[#parts + 1] = part
         end
      end
   end
   for at = 1, #text, n do add(stream:push(text:sub(at, at + n - 1))) end
   add(stream:finish())
   return parts
end

local function same_in_all_pieces(format, text, expected, state)
   for _, n in ipairs { 1, 2, 3, 5, 7, 64, #text + 1 } do
      assert.same(expected, read(format, text, n, state), "pieces of " .. n)
   end
end

local function tool(name, arguments, id) return { kind = "tool", call = { name = name, arguments = arguments,
   id = id } } end

describe("what a model says", function()
   local hermes = formats.named "hermes"

   it("is cut at markers however it comes", function()
      same_in_all_pieces(hermes,
         '<think>\nfirst I\n</think>\n\nNow.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', {
         { kind = "reasoning", text = "first I" }, { kind = "text", text = "Now." }, tool("add", '{"a":1}'),
      })
      same_in_all_pieces(hermes, "a <tool_cal is not <a> tool_call", {
         { kind = "text", text = "a <tool_cal is not <a> tool_call" } })
   end)

   it("keeps what cannot be read as the text it was", function()
      same_in_all_pieces(hermes, "<tool_call>\nadd 1 and 2, please\n</tool_call>", {
         { kind = "text", text = "<tool_call>\nadd 1 and 2, please\n</tool_call>" } })
      assert.same({ { kind = "text", text = 'x<tool_call>{"name": "add", "argum' } },
         read(hermes, 'x <tool_call>{"name": "add", "argum', 64))
   end)

   it("begins in the reasoning that the prompt opened", function()
      assert.equal("think", formats.first(hermes, "<|im_start|>assistant\n<think>\n"))
      assert.equal("text", formats.first(hermes, "<|im_start|>assistant\n"))
      local began = os.clock()
      assert.equal("text", formats.first(hermes, ("<think"):rep(100000)))        -- what a user wrote
      assert.is_true(os.clock() - began < 5)
      same_in_all_pieces(hermes, "I think\n</think>\n\nYes.", {
         { kind = "reasoning", text = "I think" }, { kind = "text", text = "Yes." } }, "think")
   end)

   it("has no calls when the model has no tools, and no reasoning when it does not reason", function()
      local text = '<think>a</think><tool_call>{"name": "f", "arguments": {}}</tool_call>'
      assert.same({ { kind = "reasoning", text = "a" },
         { kind = "text", text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>' } },
         read(formats.variant(hermes, false, true), text, 4))
      assert.same({ { kind = "text", text = text } }, read(formats.variant(hermes, false, false), text, 4))
      local object = '{"name": "f", "arguments": {}}'
      assert.same({ tool("f", "{}") }, read(formats.json, object, 3))
      assert.same({ { kind = "text", text = object } }, read(formats.variant(formats.json, false, true), object, 3))
   end)

   it("reads harmony's channels", function()
      local harmony = formats.named "harmony"
      same_in_all_pieces(harmony, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
         .. 'to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>', {
         { kind = "reasoning", text = "Hm." }, tool("add", '{"a": 1}') })
      same_in_all_pieces(harmony, "<|channel|>final<|message|>It is 3.<|return|>", { { kind = "text",
         text = "It is 3." } })
      same_in_all_pieces(harmony, "no channel at all", { { kind = "text", text = "no channel at all" } })
   end)

   it("takes values as text where the tool wants text", function()
      local body = "<tool_call>\n<function=dial>\n<parameter=number>\n0042\n</parameter>\n<parameter=times>\n2\n"
         .. "</parameter>\n</function>\n</tool_call>"
      local parts = read(hermes, body, 9, nil, function(_, key) return key == "number" end)
      assert.same({ number = "0042", times = 2 }, { number = json.decode(parts[1].call.arguments).number,
         times = json.decode(parts[1].call.arguments).times })
   end)

   it("reads older and plainer forms", function()
      local deepseek, mistral = formats.named "deepseek", formats.named "mistral"
      same_in_all_pieces(deepseek,
         "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
         .. '{"a": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>sub\n```json\n{"b": 2}\n```'
         .. "<｜tool▁call▁end｜><｜tool▁calls▁end｜>", {
         { kind = "text", text = "Let me see." }, tool("add", '{"a": 1}'), tool("sub", '{"b": 2}') })
      local calls = read(mistral, '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}, "id": "abc123XYZ"}]', 5)
      assert.equal("abc123XYZ", calls[1].call.id)
      assert.equal(1, json.decode(calls[1].call.arguments).a)
   end)
end)

-- ---- the published templates ----------------------------------------------------------------------------------------

local function deep_equal(a, b) return json.encode(a, { sort_keys = true }) == json.encode(b, { sort_keys = true }) end

-- What the model of a template would have said in place of message i; nil where the template does not render turns so.
local function said(made, case, i)
   local vars = { tools = case.tools ~= json.null and case.tools or nil, bos_token = case.bos_token,
      eos_token = case.eos_token }
   if type(case.vars) == "table" then
      for key, value in json.pairs(case.vars) do vars[key] = value end
   end
   local before, with = {}, {}
   for k = 1, i do
      with[k] = case.messages[k]
      if k < i then before[k] = case.messages[k] end
   end
   vars.messages, vars.add_generation_prompt = before, true
   local prompt = made:render(vars, { now = case.now })
   vars.messages, vars.add_generation_prompt = with, false
   local text = prompt and made:render(vars, { now = case.now })
   if not text then return nil end
   local same = 0                                        -- the opening of a turn may differ where reasoning begins
   while same < #prompt and text:byte(same + 1) == prompt:byte(same + 1) do same = same + 1 end
   if same < #prompt - 64 then return nil end
   if same < #prompt then same = #text:sub(1, same):gsub("<[^<>]*$", "") end
   prompt, text = text:sub(1, same), text:sub(same + 1)
   local stop = case.eos_token ~= "" and text:find(case.eos_token, 1, true)
   if stop then text = text:sub(1, stop - 1) end
   return text, prompt
end

-- These templates write nested values as Python would, which their models are not asked to.
local PYTHON = { minicpm = true, seed = true }

local function skips(format, case) return PYTHON[format] and case:find "nested" ~= nil end

local function calls_of(parts)
   local calls = {}
   for _, part in ipairs(parts) do
      if part.kind == "tool" then calls[#calls + 1] = part.call end
   end
   return calls
end

describe("the published templates", function()
   if not helper.exists(golden .. "/templates/FEATURES.md") then
      pending(("golden folder %s is absent: its cases did not run"):format(golden))
      return
   end
   local seen = {}
   for folder in io.popen("ls " .. golden .. "/templates"):lines() do
      local path = golden .. "/templates/" .. folder
      if helper.exists(path .. "/template.jinja") then
         local source = helper.read(path .. "/template.jinja")
         local format, shows_tools = formats.detect(source)
         local speaks = shows_tools or format ~= formats.json
         local cases = assert(json.decode(helper.read(path .. "/cases.json")))
         it("of " .. folder .. " (" .. format.name .. ")", function()
            local made = assert(template.new(source))
            for _, case in ipairs(cases) do
               for i, message in ipairs(case.messages) do
                  local wanted = message.role == "assistant" and message.tool_calls
                  if speaks and case.expected and wanted and wanted ~= json.null and #wanted > 0 then
                     local text, prompt = said(made, case, i)
                     if text and text:find(wanted[1]["function"].name, 1, true) and not skips(format.name,
                        case.name) then
                        local first = text:find("</think", 1, true) and formats.first(format, prompt) or format.first
                        local calls = calls_of(read(format, text, 11, first))
                        local n = format.name == "harmony" and 1 or #wanted      -- its template renders the first alone
                        assert.equal(n, #calls, case.name .. ": " .. text)
                        for k = 1, n do
                           local call = wanted[k]
                           local arguments = call["function"].arguments
                           if type(arguments) == "string" then arguments = json.decode(arguments) end
                           assert.equal(call["function"].name, calls[k].name)
                           assert.is_true(deep_equal(arguments, json.decode(calls[k].arguments)), text)
                           seen[format.name] = (seen[format.name] or 0) + 1
                        end
                     end
                  end
               end
            end
         end)
      end
   end

   it("were read for all families", function()
      for _, name in ipairs { "harmony", "deepseek", "dsml", "kimi", "mistral", "hermes", "llama", "minimax", "gemma",
         "cohere",
         "apertus", "seed", "hunyuan", "solar" } do
         assert.is_true((seen[name] or 0) > 0, name .. " was never read")
      end
   end)
end)
