--- From messages to a prompt: checks them, shows tools, renders the model's chat template, encodes the result.
--
-- Control tokens that users or tools write into their messages stay text: each is replaced by a sign before the
-- template sees it and encoded on its own afterwards, so nobody can end their turn and begin the assistant's.
-- @module perigee.chat.messages
-- @local
local json = require "perigee.json"
local formats = require "perigee.chat.formats"

local M = {}

local ROLES = { system = true, developer = true, user = true, assistant = true, tool = true }
local GUARDED = { user = true, tool = true }
local MAX_DEPTH = 200                                   -- of content; templates refuse what is deeper
local LEFT, RIGHT = "\238\128\128", "\238\128\129"       -- U+E000 and U+E001, of the private use area

--- Check a list of messages.
-- @tparam string where
-- @tparam {table,...} messages
-- @treturn ?boolean true; nil, message, code
function M.check(where, messages)
   if #messages == 0 then return nil, where .. ": the list of messages is empty", "invalid" end
   for i, message in ipairs(messages) do
      if type(message) ~= "table" or not ROLES[message.role] then
         return nil, ("%s: message %d needs a role: system, developer, user, assistant or tool"):format(where, i),
            "invalid"
      end
      local content = message.content
      if type(content) ~= "string" and type(content) ~= "table" and not (content == nil and message.tool_calls) then
         return nil, ("%s: message %d (%s) needs content, a string"):format(where, i, message.role), "invalid"
      end
   end
   return true
end

--- Content with its texts replaced: a string, or whatever a template may find texts in.
-- @param content
-- @tparam function change text -> text
-- @tparam ?boolean keys whether those of objects are texts as well
-- @tparam ?number depth of content within what was given first; default 0
-- @return a copy; the same where there is nothing to replace
function M.replace(content, change, keys, depth)
   depth = depth or 0
   if type(content) == "string" then return change(content) end
   local meta = type(content) == "table" and getmetatable(content)
   if type(content) ~= "table" or content == json.null or meta == json.INTEGER or depth > MAX_DEPTH then
      return content
   end
   if not json.is_object(content) then
      local list, n = {}, 0
      for i, item in ipairs(content) do list[i] = M.replace(item, change, keys, depth + 1) end
      for _ in pairs(content) do n = n + 1 end
      return n == #list and json.array(list) or content                -- neither list nor map: no template takes it
   end
   local fields, order = {}, {}
   for key, value in json.pairs(content) do
      if keys and type(key) == "string" then key = change(key) end
      order[#order + 1], fields[key] = key, M.replace(value, change, keys, depth + 1)
   end
   return json.object(fields, order)
end

-- All texts of content, one after the other.
local function text_of(content)
   if type(content) == "string" then return content end
   local texts = {}
   for i, part in ipairs(content or {}) do
      local text = type(part) == "table" and part.text or part
      texts[i] = type(text) == "string" and text or ""
   end
   return table.concat(texts)
end

-- ---- tools ----------------------------------------------------------------------------------------------------------

local function parameters_text(parameters)
   if type(parameters) == "string" then return parameters end
   return parameters and json.encode(parameters) or '{"type": "object", "properties": {}}'
end

--- Tools as templates expect them, and what the application says of each.
-- @tparam string where
-- @tparam ?{table,...} tools each `{ name, description, parameters (JSON schema: text or table), call }`, or as in
-- OpenAI's API, `{ type = "function", ["function"] = { ... } }`
-- @treturn ?{table,...} JSON values, keys in the order of the API; nil, message, code
-- @treturn table by name: `{ call, schema }`
function M.tools(where, tools)
   local list, by_name = {}, {}
   for i, tool in ipairs(tools or {}) do
      local own = type(tool) == "table" and type(tool["function"]) == "table" and tool["function"] or tool
      if type(own) ~= "table" or type(own.name) ~= "string" or not own.name:find "^[%w_.-]+$" then
         return nil, ("%s: tool %d needs a name of letters, digits, _, . or -"):format(where, i), "invalid"
      end
      if by_name[own.name] then
         return nil, ("%s: two tools are named %q"):format(where, own.name), "invalid"
      end
      local text = parameters_text(own.parameters)
      local schema, why = json.decode(text)
      if type(schema) ~= "table" then
         return nil, ("%s: parameters of tool %q are no JSON schema: %s"):format(where, own.name, why or text),
            "invalid"
      end
      local described = own.description and ('"description": %s, '):format(json.encode(own.description)) or ""
      list[i] = json.decode(('{"type": "function", "function": {"name": %s, %s"parameters": %s}}'):format(
         json.encode(own.name), described, text))
      by_name[own.name] = { call = own.call or tool.call, schema = schema }
   end
   return list, by_name
end

-- What a template that shows no tools leaves unsaid: it goes into the system message.
local function advice(tools, format)
   local lines = { "You can call these tools:" }
   for _, tool in ipairs(tools) do lines[#lines + 1] = json.encode(tool["function"]) end
   lines[#lines + 1] = "To call one, answer with nothing but: " .. (format.example or "")
   if format == formats.json then
      lines[#lines + 1] = 'Its result follows in a message that begins with "Result of". Otherwise answer as usual.'
   end
   return table.concat(lines, "\n")
end

-- The messages with something said before all others, behind the system message if there is one.
local function told(list, text)
   local copies, first = {}, list[1]
   if first.role == "system" then
      copies[1] = { role = "system", content = text_of(first.content) .. "\n\n" .. text }
   else
      copies[1] = { role = "system", content = text }
   end
   for i = first.role == "system" and 2 or 1, #list do copies[#copies + 1] = list[i] end
   return copies
end

-- ---- rendering ------------------------------------------------------------------------------------------------------

-- Control tokens that the text spells, by their texts; nil when there are none, which is the usual case.
local function control_texts(tokenizer, text)
   local ids = tokenizer:encode(text, { special = true, bos = false })
   local found
   for _, id in ipairs(ids or {}) do
      if tokenizer:decode { id } == "" then
         local spelt = tokenizer:decode({ id }, { special = true })
         if spelt ~= "" and text:find(spelt, 1, true) then
            found = found or {}
            found[spelt] = true
         end
      end
   end
   return found
end

-- The text with signs in place of control tokens; signs[n] is what the n-th stands for.
local function guard(tokenizer, text, signs)
   local found = control_texts(tokenizer, text)
   while found do
      for spelt in pairs(found) do
         signs[#signs + 1] = spelt
         local sign = LEFT .. #signs .. RIGHT
         local escaped = spelt:gsub("%p", "%%%0")
         text = text:gsub(escaped, (sign:gsub("%%", "%%%%")))
      end
      found = control_texts(tokenizer, text)           -- taking one out may have put another together
   end
   return text
end

-- A copy that templates may look at: contents guarded, arguments of calls as an object or as JSON text.
local function prepare(tokenizer, messages, as_text, signs)
   local list = {}
   for i, message in ipairs(messages) do
      local copy = {}
      for key, value in pairs(message) do copy[key] = value end
      if GUARDED[copy.role] then
         local function guarded(text) return guard(tokenizer, text, signs) end
         for key, value in pairs(copy) do
            if key ~= "role" then copy[key] = M.replace(value, guarded, true) end
         end
      end
      if copy.content == nil then copy.content = "" end
      if copy.tool_calls then
         local calls = {}
         for k, call in ipairs(copy.tool_calls) do
            local own = call["function"]
            local arguments = own.arguments
            if as_text and type(arguments) ~= "string" then
               arguments = json.encode(arguments)
            elseif not as_text and type(arguments) == "string" then
               arguments = json.decode(arguments) or arguments
            end
            calls[k] = { id = call.id, type = "function", ["function"] = { name = own.name, arguments = arguments } }
         end
         copy.tool_calls = calls
      end
      list[i] = copy
   end
   return list
end

-- A turn in words: a call that the model made, or what a tool gave.
local function worded(message)
   if message.role == "tool" then
      return { role = "user", content = ("Result of %s: %s"):format(message.name or "the call",
         text_of(message.content)) }
   end
   local lines = {}
   for i, call in ipairs(message.tool_calls) do
      local own = call["function"]
      lines[i] = ('{"name": %s, "arguments": %s}'):format(json.encode(own.name),
         type(own.arguments) == "string" and own.arguments or json.encode(own.arguments))
   end
   return { role = message.role, content = table.concat(lines, "\n") }
end

-- For templates that know no tools at all: calls and results as plain turns.
local function plainly(list)
   local plain = {}
   for i, message in ipairs(list) do
      local of_tools = message.role == "tool" or message.tool_calls and #message.tool_calls > 0
      plain[i] = of_tools and worded(message) or message
   end
   return plain
end

local function encode(tokenizer, text, signs, bos)
   local ids, at = {}, 1
   local function add(piece, special, first)
      if piece == "" then return end
      local rule = false
      if first then rule = bos end
      local more = assert(tokenizer:encode(piece, { special = special, bos = rule }))
      for i = 1, #more do ids[#ids + 1] = more[i] end
   end
   while true do
      local from, to, number = text:find(LEFT .. "(%d+)" .. RIGHT, at)
      local spelt = number and signs[tonumber(number)]
      add(text:sub(at, (from or 0) - 1), true, at == 1)
      if not from then return ids end
      add(spelt or text:sub(from, to), false, false)
      at = to + 1
   end
end

--- Render messages and encode them.
-- @tparam perigee.engine engine
-- @tparam {table,...} messages checked
-- @tparam table how `template` (@{perigee.template}, default: the model's own), `tools` (from @{tools}), `vars`
-- (further variables of the template), `now`, `continue` (true: no opening of an assistant's turn)
-- @treturn ?{number,...} ids; nil, message, code
-- @treturn string the text
-- @treturn table format as in `perigee.chat.formats`
function M.prompt(engine, messages, how)
   local template, message, code = how.template
   if not template then
      template, message, code = engine:template()
      if not template then return nil, message, code end
   end
   local tokenizer = engine:tokenizer()
   local format, shows_tools = formats.detect(template.source)
   local tools = how.tools or {}
   if not shows_tools and #tools > 0 then messages = told(messages, advice(tools, format)) end
   if not shows_tools and format == formats.json then messages = plainly(messages) end
   local thinks = template.source:find("think", 1, true) ~= nil
   local vars = { add_generation_prompt = not how.continue, tools = #tools > 0 and shows_tools and tools or nil }
   for key, value in pairs(how.vars or {}) do vars[key] = value end
   local text, signs
   for _, as_text in ipairs { false, true } do          -- templates want one or the other, and fail on what they do not
      signs = {}
      vars.messages = prepare(tokenizer, messages, as_text, signs)
      text, message, code = template:render(vars, { now = how.now })
      if text then break end
   end
   if not text then return nil, "the chat template: " .. message, code end
   local info = tokenizer:info()
   local bos = info.bos and tokenizer:decode({ info.bos }, { special = true }) or ""
   local bos_rule                                       -- nil: as the model's default is
   if bos ~= "" and text:sub(1, #bos) == bos then bos_rule = false end
   return encode(tokenizer, text, signs, bos_rule), text, formats.variant(format, #tools > 0, thinks)
end

return M
