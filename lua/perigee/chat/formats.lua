--- How families of models write reasoning and tool calls.
--
-- A format is data for `perigee.chat.segments`: states and the markers between them. Which one a model speaks is read
-- off its chat template, by the marker that the template itself writes; tests hold each to what the published templates
-- render. `special`: the markers are control tokens, so a request has to let them appear in the text.
-- @module perigee.chat.formats
-- @local
local bodies = require "perigee.chat.bodies"

local M = {}

-- Reasoning between tags of the family. A model that was sent thinking may leave the first tag out, and one that does
-- not think may close it at once, so the second is layout in text as well.
local function thinking(states, open, close)
   open, close = open or "<think>", close or "</think>"
   states.text.on[open], states.text.on[close] = "think", "text"
   states.think = { kind = "reasoning", on = { [close] = "text" } }
   return states
end

-- One marker opens a call or a list of them, another closes it. `how`: special, think (the tags of reasoning), mark.
local function single(name, opens, closes, read, how)
   how = how or {}
   local text, call = { kind = "text", on = {} }, { read = read, on = {} }
   for _, open in ipairs(opens) do text.on[open] = "call" end
   for _, close in ipairs(closes) do call.on[close] = "text" end
   local tags = how.think or {}
   return {
      name = name, special = how.special or false, first = "text", mark = how.mark or opens[1],
      states = thinking({ text = text, call = call }, tags[1], tags[2]),
   }
end

-- A list around calls, each bounded by markers of its own.
local function list(name, outer, inner, read, example)
   return {
      name = name, special = true, example = example, first = "text", mark = inner[1],
      states = thinking {
         text = { kind = "text", on = { [outer[1]] = "gap", [inner[1]] = "call" } },
         gap = { gap = true, on = { [inner[1]] = "call", [outer[2]] = "text" } },
         call = { read = read, on = { [inner[2]] = "gap", [outer[2]] = "text" } },
      },
   }
end

-- Harmony: messages of a header and a body; the header's channel says what the body is.
local function body_of(header)
   if header:find("to=", 1, true) then return "call" end
   return header:find("analysis", 1, true) and "think" or "text"
end

local function harmony()
   local ends = { ["<|end|>"] = "gap", ["<|call|>"] = "gap", ["<|return|>"] = "gap", ["<|start|>"] = "header",
      ["<|channel|>"] = "header" }
   return {
      name = "harmony", special = true, first = "header", mark = "<|channel|>",
      states = {
         header = { head = true, on = { ["<|message|>"] = body_of } },
         text = { kind = "text", on = ends },
         think = { kind = "reasoning", on = ends },
         call = { read = bodies.harmony, on = ends },
         gap = { gap = true, on = { ["<|start|>"] = "header", ["<|channel|>"] = "header" } },
      },
   }
end

-- A call is the whole answer, as JSON; anything else is text.
local function whole(name, mark)
   local states = thinking {
      text = { kind = "text", on = { ["<|python_tag|>"] = "call" } },
      start = { by = { ["{"] = "call", ["["] = "call" }, other = "text" },
      call = { read = bodies.json, on = {} },
   }
   states.think.on["</think>"] = "start"
   return { name = name, special = false, first = "start", mark = mark, states = states }
end

local MISTRAL = "[TOOL_CALLS]"

-- The first whose mark a template writes is the one it speaks, so the more particular come first.
local FORMATS = {
   harmony(),
   list("deepseek", { "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>" },
      { "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>" }, bodies.deepseek, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
      .. "NAME<｜tool▁sep｜>{ARGUMENTS AS JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
   single("dsml", { "<｜DSML｜function_calls>", "<｜DSML｜tool_calls>" },
      { "</｜DSML｜function_calls>", "</｜DSML｜tool_calls>" }, bodies.invoke, { mark = "DSML" }),
   list("kimi", { "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>" },
      { "<|tool_call_begin|>", "<|tool_call_end|>" }, bodies.kimi),
   {
      name = "mistral", special = true, first = "text", mark = MISTRAL,
      states = {
         text = { kind = "text", on = { [MISTRAL] = "call", ["[THINK]"] = "think", ["<think>"] = "think" } },
         think = { kind = "reasoning", on = { ["[/THINK]"] = "text", ["</think>"] = "text" } },
         call = { read = bodies.mistral, on = { [MISTRAL] = "call" } },
      },
   },
   list("solar", { "<|tool_calls|>", "<|calls|>" }, { "<|tool_call:begin|>", "<|tool_call:end|>" }, bodies.solar),
   single("cohere", { "<|START_ACTION|>" }, { "<|END_ACTION|>" }, bodies.json,
      { special = true, think = { "<|START_THINKING|>", "<|END_THINKING|>" } }),
   single("apertus", { "<|tools_prefix|>" }, { "<|tools_suffix|>" }, bodies.keyed, { special = true }),
   single("gigachat", { "<|function_call|>" }, { "<|message_sep|>" }, bodies.json, { special = true }),
   single("gemma", { "<|tool_call>" }, { "<tool_call|>" }, bodies.gemma,
      { special = true, think = { "<|channel>thought", "<channel|>" } }),
   single("seed", { "<seed:tool_call>" }, { "</seed:tool_call>" }, bodies.tagged,
      { think = { "<seed:think>", "</seed:think>" } }),
   single("minimax", { "<minimax:tool_call>" }, { "</minimax:tool_call>" }, bodies.invoke),
   single("muse", { "<atem:function_calls>" }, { "</atem:function_calls>" }, bodies.invoke),
   single("hunyuan", { "<tool_call:opensource>" }, { "</tool_call:opensource>" }, bodies.tagged,
      { mark = "｜hy_", think = { "<think:opensource>", "</think:opensource>" } }),
   single("nemotron", { "<TOOLCALL>" }, { "</TOOLCALL>" }, bodies.json),
   single("apriel", { "<tool_calls>" }, { "</tool_calls>" }, bodies.json, { mark = "<tool_calls>[" }),
   single("hermes", { "<tool_call>" }, { "</tool_call>" }, bodies.tagged),
   single("minicpm", { "<function name=" }, { "</function>" }, bodies.named),
   single("functionary", { "<function=" }, { "</function>" }, bodies.functionary),
   single("functools", { "functools" }, {}, bodies.json),
   whole("llama", "<|python_tag|>"),
   whole("llama", '"parameters": '),
}

--- Any model: a call is a JSON object alone, or a list of them.
M.json = whole("json")
M.json.example = '{"name": "NAME OF THE TOOL", "arguments": {ITS ARGUMENTS}}'

--- The format that a chat template speaks; `json` when it names none.
-- @tparam string template source
-- @treturn table format; `example`, where it has one, shows a call to models whose templates describe no tools
-- @treturn boolean whether the template itself shows tools to the model
function M.detect(template)
   local tools = template:find("tools", 1, true) ~= nil
   for _, format in ipairs(FORMATS) do
      if template:find(format.mark, 1, true) then return format, tools end
   end
   return M.json, tools
end

--- A format by name.
-- @tparam string name
-- @treturn ?table nil when there is none of that name
-- @treturn {string,...} all names
function M.named(name)
   local names, found = {}, name == "json" and M.json or nil
   for _, format in ipairs(FORMATS) do
      if names[#names] ~= format.name then names[#names + 1] = format.name end
      if format.name == name and not found then found = format end
   end
   names[#names + 1] = "json"
   return found, names
end

--- Text and nothing else.
M.plain = { name = "plain", special = false, first = "text", states = { text = { kind = "text", on = {} } } }

-- States without the markers that lead where nothing may lead now.
local function without(states, closed)
   local kept = {}
   for name, state in pairs(states) do
      local on = {}
      for marker, target in pairs(state.on or {}) do
         if not closed[target] then on[marker] = target end
      end
      kept[name] = setmetatable({ on = on }, { __index = state })
   end
   return kept
end

--- The format as one conversation needs it: without tools nothing is a call, and a model that does not think may write
-- the tags of reasoning as text.
-- @tparam table format
-- @tparam boolean tools whether the model was given any
-- @tparam boolean thinks whether its template knows reasoning
-- @treturn table format
function M.variant(format, tools, thinks)
   if format.name == "harmony" or tools and thinks then return format end
   local first = format.first
   if not tools and format.states.start then first = "text" end
   local states = format.states
   if not tools then states = without(states, { call = true, gap = true, start = true }) end
   if not tools and format.states.start then states.think.on["</think>"] = "text" end
   if not thinks then
      states = without(states, { think = true })
      states.text.on["</think>"] = nil
   end
   return { name = format.name, special = format.special and tools, first = first, states = states, mark = format.mark }
end

--- The state that a reply begins in when the prompt ends with this text: templates of thinking models open the
-- reasoning themselves.
-- @tparam table format
-- @tparam string prompt
-- @treturn string name of a state
function M.first(format, prompt)
   if format.states.think and prompt:find "<think[^<>]*>%s*$" then return "think" end
   return format.first
end

return M
