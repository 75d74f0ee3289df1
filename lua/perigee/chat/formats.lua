--- How families of models write reasoning and tool calls.
--
-- A format is data for `perigee.chat.segments`: states and the markers between them. Which one a model speaks is read off
-- its chat template, by the marker that the template itself writes; tests hold each to what the published templates
-- render. `special`: the markers are control tokens, so a request has to let them appear in the text.
-- @module perigee.chat.formats
-- @local
local bodies = require "perigee.chat.bodies"

local M = {}

-- States that most formats share; `open` and `close` bound a list of calls or a single one.
local function thinking(states)
   states.text = states.text or { kind = "text", on = {} }
   states.text.on["<think>"] = "think"
   states.think = { kind = "reasoning", on = { ["</think>"] = "text" } }
   -- a model that was sent thinking may leave the first marker out, and one that does not think may close it at once
   states.text.on["</think>"] = "text"
   return states
end

-- One marker opens a call, another closes it.
local function single(name, open, close, read, special)
   return {
      name = name, special = special, first = "text", mark = open,
      states = thinking {
         text = { kind = "text", on = { [open] = "call" } },
         call = { read = read, on = { [close] = "text" } },
      },
   }
end

-- A list around calls, each bounded by markers of its own.
local function list(name, outer, inner, read)
   return {
      name = name, special = true, first = "text", mark = inner[1],
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
local function whole(name, key, mark)
   local states = thinking {
      text = { kind = "text", on = { ["<|python_tag|>"] = "call" } },
      start = { by = { ["{"] = "call", ["["] = "call" }, other = "text" },
      call = { read = bodies.json, on = {} },
   }
   states.think.on["</think>"] = "start"
   return { name = name, special = false, first = "start", mark = mark, key = key, states = states }
end

local MISTRAL = "[TOOL_CALLS]"

-- The first whose mark a template writes is the one it speaks, so the more particular come first.
local FORMATS = {
   harmony(),
   list("deepseek", { "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>" },
      { "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>" }, bodies.deepseek),
   single("dsml-functions", "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", bodies.invoke),
   single("dsml", "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", bodies.invoke),
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
   single("minimax", "<minimax:tool_call>", "</minimax:tool_call>", bodies.invoke),
   single("hunyuan", "<tool_call:opensource>", "</tool_call:opensource>", bodies.tagged),
   single("hermes", "<tool_call>", "</tool_call>", bodies.tagged),
   whole("llama", "parameters", "<|python_tag|>"),
   whole("llama", "parameters", '"parameters": '),
}

--- Any model: a call is a JSON object alone, or a list of them.
M.json = whole("json", "arguments")

--- The format that a chat template speaks; `json` when it names none.
-- @tparam string template source
-- @treturn table format
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

--- The state that a reply begins in when the prompt ends with this text: templates of thinking models open the reasoning
-- themselves.
-- @tparam table format
-- @tparam string prompt
-- @treturn string name of a state
function M.first(format, prompt)
   if format.states.think and prompt:find "<think[^>]*>%s*$" then return "think" end
   return format.first
end

return M
