--- Reads what stands inside a tool call: the syntaxes of the families, each a function from a body to calls.
--
-- A call is `{ name =, arguments = JSON text }`; the arguments stay text, since that is what APIs hand on and what
-- keeps numbers and the order of keys as the model wrote them. A body that is not of its syntax gives nil. Values that
-- a family writes without quotes are JSON when they read as such, else strings.
-- @module perigee.chat.bodies
-- @local
local json = require "perigee.json"

local M = {}

local function trim(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

-- JSON text of an object of arguments, or nil. Some models write the object as a string once more.
local function arguments_text(value)
   if type(value) == "string" then
      local inner = json.decode(value)
      return type(inner) == "table" and value or nil
   end
   if value == nil or value == json.null then return "{}" end
   return type(value) == "table" and json.encode(value) or nil
end

local function call_of(object)
   if type(object) ~= "table" then return nil end
   local inner = type(object["function"]) == "table" and object["function"] or object
   local name = inner.name or inner.tool_name
   local arguments = inner.arguments
   if arguments == nil then arguments = inner.parameters end
   arguments = arguments_text(arguments)
   if type(name) ~= "string" or not arguments then return nil end
   local id = object.id
   return { name = name, arguments = arguments, id = type(id) == "string" and id or nil }
end

--- `{"name": ..., "arguments": {...}}`, the same with `parameters`, wrapped in `function`, or a list of such.
function M.json(body)
   local value = json.decode(trim(body))
   if type(value) ~= "table" then return nil end
   local wrapped = value.tool_calls
   if type(wrapped) == "table" then value = wrapped end
   if value.name ~= nil or value.tool_name ~= nil or value["function"] ~= nil then value = { value } end
   local calls = {}
   for i, object in ipairs(value) do
      calls[i] = call_of(object)
      if not calls[i] then return nil end
   end
   return #calls > 0 and calls or nil
end

-- Arguments from { key, raw value, surely text } in order.
local function object_text(name, list, is_string)
   local parts = {}
   for i, pair in ipairs(list) do
      local value = pair[2]
      local quoted = pair[3] or is_string and is_string(name, pair[1]) or json.decode(value) == nil
      if quoted then value = json.encode(value) end
      parts[i] = json.encode(pair[1]) .. ":" .. value
   end
   return "{" .. table.concat(parts, ",") .. "}"
end

-- One line break on each side of a value is layout.
local function unframe(value) return (value:gsub("^\r?\n", ""):gsub("\r?\n$", "")) end

-- `<function=name> <parameter=key> value </parameter> </function>`
local function xml_function(body, is_string)
   local name, rest = body:match "^<function=([^>]+)>(.*)$"
   if not name then return nil end
   local list = {}
   for key, value in rest:gmatch "<parameter=([^>]+)>(.-)</parameter>" do list[#list + 1] = { key, unframe(value) } end
   name = trim(name)
   return { { name = name, arguments = object_text(name, list, is_string) } }
end

-- `name <arg_key>k</arg_key> <arg_value>v</arg_value>`
local function arg_keys(body, is_string)
   local name, rest = body:match "^([%w_.:/-]+)%s*(.*)$"
   if not name then return nil end
   rest = rest:gsub("^<tool_sep[^>]*>", "")
   local list = {}
   for key, value in rest:gmatch "<arg_key[^>]*>(.-)</arg_key[^>]*>%s*<arg_value[^>]*>(.-)</arg_value[^>]*>" do
      list[#list + 1] = { trim(key), value }
   end
   if #list == 0 and rest:find "%S" then return nil end
   return { { name = name, arguments = object_text(name, list, is_string) } }
end

--- What stands between `<tool_call>` tags: JSON (Hermes, Qwen), functions as tags (Qwen3-Coder), keys and values (GLM).
function M.tagged(body, _, is_string)
   body = trim(body)
   if body:find "^[%[{]" then return M.json(body) end
   return xml_function(body, is_string) or arg_keys(body, is_string)
end

--- `<invoke name="f"> <parameter name="k" string="true|false">v</parameter> </invoke>`, any number of them (DeepSeek
-- V3.2 with its marks, MiniMax, Muse).
function M.invoke(body, _, is_string)
   body = body:gsub("｜DSML｜", ""):gsub("(</?)%a+:", "%1")
   local calls = {}
   for name, inner in body:gmatch '<invoke name="([^"]*)">(.-)</invoke>' do
      local list = {}
      for key, more, value in inner:gmatch '<parameter name="([^"]*)"([^>]*)>(.-)</parameter>' do
         list[#list + 1] = { key, unframe(value), more:find('string="true"', 1, true) ~= nil }
      end
      calls[#calls + 1] = { name = name, arguments = object_text(name, list, is_string) }
   end
   return #calls > 0 and calls or nil
end

-- JSON text of an object, also where it is written as a string of JSON; nil for anything else.
local function object_of(text)
   local value = json.decode(trim(text))
   if type(value) == "string" then return arguments_text(value) end
   return type(value) == "table" and trim(text) or nil
end

--- `function<sep>name` and a fenced JSON block (DeepSeek V3, R1), or `name<sep>JSON` (V3.1).
function M.deepseek(body)
   local head, rest = body:match "^%s*(.-)%s*<｜tool▁sep｜>(.*)$"
   if not head then return nil end
   if head == "function" then
      local name, inner = rest:match "^%s*([^\n]+)\n```%a*\n(.*)```%s*$"
      if not name then return nil end
      head, rest = trim(name), inner
   end
   local object = object_of(rest)
   return head ~= "" and object and { { name = head, arguments = object } } or nil
end

--- `functions.name:0<|tool_call_argument_begin|>JSON` (Kimi K2).
function M.kimi(body)
   local id, rest = body:match "^%s*(.-)%s*<|tool_call_argument_begin|>(.*)$"
   if not id then return nil end
   local name = id:gsub("^functions%.", ""):gsub(":%d+$", "")
   local object = object_of(rest)
   return name ~= "" and object and { { name = name, arguments = object, id = id } } or nil
end

--- A JSON list (Mistral 7B, Nemo), or `name[CALL_ID]id[ARGS]JSON` (Small 3.2, Devstral).
function M.mistral(body)
   body = trim(body)
   if body:find "^[%[{]" then return M.json(body) end
   local head, rest = body:match "^(.-)%[ARGS%](.*)$"
   if not head then
      head, rest = body:match "^([%w_.-]+)%s*(%b{})$"
      if not head then return nil end
   end
   local name, id = head:match "^(.-)%[CALL_ID%](.*)$"
   name = trim(name or head)
   local object = object_of(rest)
   return name ~= "" and object and { { name = name, arguments = object, id = id } } or nil
end

--- JSON in a message whose header names its receiver: `to=functions.name` (gpt-oss harmony).
function M.harmony(body, header)
   local name = header:match "to=functions%.([%w_.-]+)" or header:match "to=([%w_.-]+)"
   local object = object_of(body)
   return name and object and { { name = name, arguments = object } } or nil
end

--- `[{"name": {arguments}}, ...]` (Apertus).
function M.keyed(body)
   local value = json.decode(trim(body))
   if type(value) ~= "table" then return nil end
   local calls = {}
   for _, object in ipairs(value) do
      if type(object) ~= "table" then return nil end
      for name, arguments in json.pairs(object) do
         calls[#calls + 1] = { name = name, arguments = arguments_text(arguments) }
         if not calls[#calls].arguments then return nil end
      end
   end
   return #calls > 0 and calls or nil
end

--- `id<|tool_call:name|>name<|tool_call:args|>JSON` (Solar).
function M.solar(body)
   local id, name, rest = body:match "^(.-)<|tool_call:name|>(.-)<|tool_call:args|>(.*)$"
   local object = id and object_of(rest)
   return object and name ~= "" and { { name = name, arguments = object, id = id ~= "" and id or nil } } or nil
end

--- What follows `<function=`: `name>JSON` (Functionary).
function M.functionary(body)
   local name, rest = body:match "^([%w_.-]+)>(.*)$"
   local object = name and object_of(rest)
   return object and { { name = name, arguments = object } } or nil
end

--- What follows `<function name=`: `"name"> <param name="k">v</param>`, values bare or in CDATA (MiniCPM).
function M.named(body, _, is_string)
   local name, rest = body:match '^"([^"]+)">(.*)$'
   if not name then return nil end
   local list = {}
   for key, value in rest:gmatch '<param name="([^"]*)">(.-)</param>' do
      local inner = value:match "^<!%[CDATA%[(.*)%]%]>$"
      list[#list + 1] = { key, inner or value, inner ~= nil }
   end
   return { { name = name, arguments = object_text(name, list, is_string) } }
end

--- `call:name{key:<|"|>text<|"|>,key:1}` (Gemma 4): JSON but for its quotes and bare keys.
function M.gemma(body)
   local name, rest = body:match "^%s*call:([%w_.-]+)(%b{})%s*$"
   if not name then return nil end
   if rest:find "^{{.*}}$" then rest = rest:sub(2, -2) end
   local texts = {}
   rest = rest:gsub('<|"|>(.-)<|"|>', function(text)
      texts[#texts + 1] = json.encode(text)
      return "\1" .. #texts .. "\2"
   end)
   rest = rest:gsub("([{,]%s*)([%w_.-]+):", '%1"%2":'):gsub(":None", ":null"):gsub(",None", ",null")
   rest = rest:gsub("\1(%d+)\2", function(n) return texts[tonumber(n)] end)
   local object = object_of(rest)
   return object and { { name = name, arguments = object } } or nil
end

return M
