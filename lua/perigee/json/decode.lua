--- The reader of JSON: text to values.
--
-- Written by hand over string.find, which runs at the speed of C on what texts consist of: the runs between escapes
-- and the digits of numbers. An LPeg grammar would build its captures for the whole text before the first mistake.
-- @module perigee.json.decode
-- @local
local byte, find, sub = string.byte, string.find, string.sub

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local text, size, json, null, ARRAY      -- of the decoding at hand; nothing in it yields or calls back

local utf8 = require "perigee.utf8"

local function stop(at, what, code)
   local line, start = 1, 1
   for newline in text:gmatch "()\n" do
      if newline >= at then break end
      line, start = line + 1, newline + 1
   end
   error({ message = ("JSON: %s at line %d, column %d"):format(what, line, at - start + 1), code = code or "format" })
end

local function shown(at)
   if at > size then return "the end of the text" end
   local char = byte(text, at)
   return char > 32 and char < 127 and "'" .. sub(text, at, at) .. "'" or ("byte %d"):format(char)
end

local function skip(at) return find(text, "[^ \t\r\n]", at) or size + 1 end

local function hex4(at)
   local digits = text:match("^%x%x%x%x", at)
   if not digits then stop(at, "\\u needs four hexadecimal digits, it stands") end
   return tonumber(digits, 16)
end

-- The escape at the backslash `at`: its text, and where the string goes on. Halves of a pair without the other half
-- become U+FFFD.
local function escape(at)
   local char = sub(text, at + 1, at + 1)
   if ESCAPES[char] then return ESCAPES[char], at + 2 end
   if char ~= "u" then stop(at, "unknown escape \\" .. char) end
   local code = hex4(at + 2)
   if code >= 0xD800 and code <= 0xDBFF and sub(text, at + 6, at + 7) == "\\u" then
      local low = hex4(at + 8)
      if low >= 0xDC00 and low <= 0xDFFF then
         return utf8.char(0x10000 + (code - 0xD800) * 1024 + low - 0xDC00), at + 12
      end
   end
   if code >= 0xD800 and code <= 0xDFFF then code = 0xFFFD end
   return utf8.char(code), at + 6
end

-- The string whose opening quote is at `at`.
local function string_at(at)
   local from = at + 1
   local next_at = find(text, '[%c"\\]', from)
   if next_at and byte(text, next_at) == 34 then
      return sub(text, from, next_at - 1), next_at + 1
   end
   local parts, n = {}, 0
   while true do
      if not next_at then stop(at, "a string that never ends begins") end
      n = n + 1
      parts[n] = sub(text, from, next_at - 1)
      local char = byte(text, next_at)
      if char == 34 then return table.concat(parts), next_at + 1 end
      n = n + 1
      if char == 92 then
         parts[n], from = escape(next_at)
      elseif char == 127 then
         parts[n], from = "\127", next_at + 1
      else
         stop(next_at, ("control character %d in a string, it must be escaped,"):format(char))
      end
      next_at = find(text, '[%c"\\]', from)
   end
end

local function number_at(at)
   local _, last = find(text, "^-?%d+", at)
   if not last then stop(at, "expected a value, found " .. shown(at)) end
   local zero = byte(text, at) == 45 and at + 1 or at
   if last > zero and byte(text, zero) == 48 then stop(at, "a number must not begin with 0, as") end
   local int_last = last
   local _, dot = find(text, "^%.%d+", last + 1)
   last = dot or last
   local _, exponent = find(text, "^[eE][+-]?%d+", last + 1)
   last = exponent or last
   local digits = sub(text, at, last)
   if last > int_last then return json.float(tonumber(digits)), last + 1 end
   if last - at < 15 then
      local value = tonumber(digits)
      return value == 0 and 0 or value, last + 1     -- no -0: it is an integer
   end
   return json.integer(digits), last + 1
end

local value_at

local function array_at(at, depth)
   local list, n = setmetatable({}, ARRAY), 0
   at = skip(at + 1)
   if byte(text, at) == 93 then return list, at + 1 end
   while true do
      n = n + 1
      list[n], at = value_at(at, depth)
      at = skip(at)
      local char = byte(text, at)
      if char == 93 then return list, at + 1 end
      if char ~= 44 then stop(at, "expected ',' or ']', found " .. shown(at)) end
      at = skip(at + 1)
   end
end

local function object_at(at, depth)
   local object, keys, n = {}, {}, 0
   at = skip(at + 1)
   if byte(text, at) == 125 then return json.object(object, keys), at + 1 end
   while true do
      if byte(text, at) ~= 34 then stop(at, "expected a key in quotes, found " .. shown(at)) end
      local key
      key, at = string_at(at)
      at = skip(at)
      if byte(text, at) ~= 58 then stop(at, "expected ':', found " .. shown(at)) end
      if object[key] == nil then
         n = n + 1
         keys[n] = key
      end
      object[key], at = value_at(skip(at + 1), depth)
      at = skip(at)
      local char = byte(text, at)
      if char == 125 then return json.object(object, keys), at + 1 end
      if char ~= 44 then stop(at, "expected ',' or '}', found " .. shown(at)) end
      at = skip(at + 1)
   end
end

function value_at(at, depth)
   local char = byte(text, at)
   if char == 34 then return string_at(at) end
   if char == 123 or char == 91 then
      if depth == 0 then stop(at, "nested too deeply", "limit") end
      if char == 123 then return object_at(at, depth - 1) end
      return array_at(at, depth - 1)
   end
   if char == 116 and sub(text, at, at + 3) == "true" then return true, at + 4 end
   if char == 102 and sub(text, at, at + 4) == "false" then return false, at + 5 end
   if char == 110 and sub(text, at, at + 3) == "null" then return null, at + 4 end
   return number_at(at)
end

local function whole(depth)
   local bad = utf8.invalid(text)
   if bad then stop(bad, "bytes that are not UTF-8") end
   local value, at = value_at(skip(1), depth)
   at = skip(at)
   if at <= size then stop(at, "expected nothing more, found " .. shown(at)) end
   return value
end

return function(module)
   json, null, ARRAY = module, module.null, module.ARRAY
   return function(given, depth)
      text, size = given, #given
      local fine, value = pcall(whole, depth)
      text = nil
      if fine then return value end
      if type(value) ~= "table" then error(value, 0) end
      return nil, value.message, value.code
   end
end
