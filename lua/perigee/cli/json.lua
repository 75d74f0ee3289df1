--- JSON out: keys in alphabetical order, so that outputs can be compared.
--
-- Only what the command line prints; reading JSON, and objects that keep their order, are not here.
-- @module perigee.cli.json
-- @local
local M = {}

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
   ["\t"] = "\\t" }

local function escape(char) return ESCAPES[char] or ("\\u%04x"):format(char:byte()) end

-- Length of the well-formed UTF-8 character at i (RFC 3629), or nil.
local function character(text, i)
   local a, b, c, d = text:byte(i, i + 3)
   local function tail(x) return x and x >= 0x80 and x <= 0xBF end
   if a < 0x80 then return 1 end
   if a >= 0xC2 and a <= 0xDF then return tail(b) and 2 end
   if a >= 0xE0 and a <= 0xEF then
      local fine = tail(b) and tail(c) and not (a == 0xE0 and b < 0xA0) and not (a == 0xED and b > 0x9F)
      return fine and 3
   end
   if a >= 0xF0 and a <= 0xF4 then
      local fine = tail(b) and tail(c) and tail(d) and not (a == 0xF0 and b < 0x90) and not (a == 0xF4 and b > 0x8F)
      return fine and 4
   end
end

-- Bytes that are not UTF-8 become U+FFFD: JSON has no other place for them.
local function clean(text)
   if not text:find "[\128-\255]" then return text end
   local parts, i = {}, 1
   while i <= #text do
      local n = character(text, i)
      parts[#parts + 1] = n and text:sub(i, i + n - 1) or "\239\191\189"
      i = i + (n or 1)
   end
   return table.concat(parts)
end

local encode

local function number(value)
   if value ~= value or value == math.huge or value == -math.huge then return "null" end
   if value % 1 == 0 and math.abs(value) < 2 ^ 53 then return ("%d"):format(value) end
   return ("%.9g"):format(value)
end

local function object(value)
   local keys, parts = {}, {}
   for key in pairs(value) do keys[#keys + 1] = key end
   table.sort(keys)
   for i, key in ipairs(keys) do parts[i] = encode(key) .. ":" .. encode(value[key]) end
   return "{" .. table.concat(parts, ",") .. "}"
end

local function list(value)
   local parts = {}
   for i, element in ipairs(value) do parts[i] = encode(element) end
   return "[" .. table.concat(parts, ",") .. "]"
end

function encode(value)
   local kind = type(value)
   if kind == "table" then return type(next(value)) == "string" and object(value) or list(value) end
   if kind == "string" then return '"' .. clean(value):gsub('[%c"\\]', escape) .. '"' end
   return kind == "number" and number(value) or tostring(value)
end

--- A value as JSON. A table without string keys is a list, also when it is empty.
-- @param value string, number, boolean, or a table of these
-- @treturn string
function M.encode(value) return encode(value) end

return M
