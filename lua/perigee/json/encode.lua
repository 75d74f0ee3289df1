--- The writer of JSON: values to text.
-- @module perigee.json.encode
-- @local
local utf8 = require "perigee.utf8"

local concat, find, gsub, sort = table.concat, string.find, string.gsub, table.sort

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
   ["\t"] = "\\t" }

local json, null, INTEGER

local out, n, style           -- of the encoding at hand; nothing in it yields or calls back

local function stop(message, code) error({ message = "JSON: " .. message, code = code or "invalid" }) end

local function put(piece)
   n = n + 1
   out[n] = piece
end

local function escape(char) return ESCAPES[char] or ("\\u%04x"):format(char:byte()) end

local function ascii(char)
   local code = utf8.code(char, 1)
   if code < 0x10000 then return ("\\u%04x"):format(code) end
   code = code - 0x10000
   return ("\\u%04x\\u%04x"):format(0xD800 + math.floor(code / 1024), 0xDC00 + code % 1024)
end

-- DEL is a control character to %c, but none to JSON.
local function quote(text)
   text = utf8.clean(text)
   if find(text, '[%z\1-\31"\\]') then text = gsub(text, '[%z\1-\31"\\]', escape) end
   if style.ascii and find(text, "[\128-\255]") then
      text = gsub(text, "[\194-\244][\128-\191]+", ascii)
   end
   return '"' .. text .. '"'
end

local function fraction(value)
   if value ~= value or value == math.huge or value == -math.huge then
      if not style.python then return "null" end
      return value ~= value and "NaN" or value > 0 and "Infinity" or "-Infinity"
   end
   if style.digits then return ("%." .. style.digits .. "g"):format(value) end
   return json.repr(value)
end

local function number(value)
   if value % 1 == 0 and value > -1e17 and value < 1e17 then return ("%.0f"):format(value) end
   return fraction(value)
end

local write

local function newline(depth)
   if style.indent then put("\n" .. style.indent:rep(depth)) end
end

local function list(value, depth)
   local count = #value
   if count == 0 then return put "[]" end
   put "["
   for i = 1, count do
      if i > 1 then put(style.item) end
      newline(depth)
      write(value[i], depth)
   end
   newline(depth - 1)
   put "]"
end

local function key_text(key)
   if type(key) == "string" then return quote(key) end
   if key == null then return '"null"' end
   if type(key) == "boolean" then return key and '"true"' or '"false"' end
   if json.number(key) then return '"' .. (type(key) == "number" and number(key) or tostring(key)) .. '"' end
   stop("a key must be a string, not a " .. type(key))
end

local function object(value, depth, keys)
   if style.sort then
      local fine = pcall(sort, keys)
      if not fine then stop "keys of more than one type cannot be sorted" end
   end
   local first = true
   put "{"
   for i = 1, #keys do
      local key = keys[i]
      if not first then put(style.item) end
      first = false
      newline(depth)
      put(key_text(key))
      put(style.key)
      write(value[key], depth)
   end
   if not first then newline(depth - 1) end
   put "}"
end

local function plain(value, depth)
   local count, total, texts = #value, 0, true
   for key in pairs(value) do
      total = total + 1
      texts = texts and type(key) == "string"
   end
   if total == count then return list(value, depth) end
   if not texts then stop "a table with holes, or with keys of several types, is neither list nor object" end
   return object(value, depth, json.keys(value))
end

local function container(value, depth)
   if depth > style.depth then stop("nested too deeply, or a table contains itself", "limit") end
   local meta = getmetatable(value)
   local kind = meta and meta.kind
   if kind == "list" or kind == "tuple" then return list(value, depth) end
   if kind == "markup" then return put(quote(value.text)) end
   if kind == "dict" then return object(value, depth, json.keys(value)) end
   if kind ~= nil then stop("a value of kind " .. kind .. " has no place in it") end
   return plain(value, depth)
end

function write(value, depth)
   local kind = type(value)
   if kind == "string" then
      put(quote(value))
   elseif kind == "number" then
      put(number(value))
   elseif kind == "boolean" then
      put(value and "true" or "false")
   elseif value == nil or value == null then
      put "null"
   elseif json.is_float(value) then
      put(fraction(value.value))
   elseif kind == "table" and getmetatable(value) == INTEGER then
      put(value.digits)
   elseif kind == "table" then
      container(value, depth + 1)
   else
      stop("a " .. kind .. " has no place in it")
   end
end

return function(module)
   json, null, INTEGER = module, module.null, module.INTEGER
   return function(value, opts, depth)
      local indent = opts.indent
      if type(indent) == "number" then indent = (" "):rep(math.min(indent, 64)) end
      style = {
         indent = indent, item = opts.item_separator or ",", key = opts.key_separator or (indent and ": " or ":"),
         sort = opts.sort_keys, ascii = opts.ascii, digits = opts.digits, python = opts.python, depth = depth,
      }
      out, n = {}, 0
      local fine, problem = pcall(write, value, 0)
      local pieces = out
      out = nil
      if fine then return concat(pieces) end
      if type(problem) ~= "table" then error(problem, 0) end
      return nil, problem.message, problem.code
   end
end
