--- UTF-8: where characters begin and end, and whether bytes are characters at all.
--
-- Only what LuaJIT lacks and more than one module needs; letters and their cases are not here.
-- @module perigee.utf8
-- @local
local M = {}

local byte, char, find, floor, sub = string.byte, string.char, string.find, math.floor, string.sub

local function tail(x) return x and x >= 0x80 and x <= 0xBF end

-- Length of the well-formed character at i (RFC 3629), or nil.
local function width(text, i)
   local a, b, c, d = byte(text, i, i + 3)
   if a < 0x80 then return 1 end
   if a >= 0xC2 and a <= 0xDF then return tail(b) and 2 or nil end
   if a >= 0xE0 and a <= 0xEF then
      local fine = tail(b) and tail(c) and not (a == 0xE0 and b < 0xA0) and not (a == 0xED and b > 0x9F)
      return fine and 3 or nil
   end
   if a >= 0xF0 and a <= 0xF4 then
      local fine = tail(b) and tail(c) and tail(d) and not (a == 0xF0 and b < 0x90) and not (a == 0xF4 and b > 0x8F)
      return fine and 4 or nil
   end
end
M.width = width

--- Where the first byte stands that is part of no character.
-- @tparam string text
-- @treturn ?number nil when all is UTF-8
function M.invalid(text)
   local i = find(text, "[\128-\255]")
   while i do
      local n = width(text, i)
      if not n then return i end
      i = find(text, "[\128-\255]", i + n)
   end
end

--- The text with U+FFFD for each byte that is part of no character.
-- @tparam string text
-- @treturn string
function M.clean(text)
   local bad = M.invalid(text)
   if not bad then return text end
   local parts, i = { sub(text, 1, bad - 1) }, bad
   while i <= #text do
      local n = width(text, i)
      parts[#parts + 1] = n and sub(text, i, i + n - 1) or "\239\191\189"
      i = i + (n or 1)
   end
   return table.concat(parts)
end

--- A code point as text.
-- @tparam number code
-- @treturn string
function M.char(code)
   if code < 0x80 then return char(code) end
   if code < 0x800 then return char(0xC0 + floor(code / 64), 0x80 + code % 64) end
   if code < 0x10000 then
      return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
   end
   return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64,
      0x80 + code % 64)
end

--- The code point of the character at i, which must be whole.
-- @tparam string text
-- @tparam number i
-- @treturn number code
-- @treturn number bytes that it takes
function M.code(text, i)
   local a, b, c, d = byte(text, i, i + 3)
   if a < 0x80 then return a, 1 end
   if a < 0xE0 then return a % 32 * 64 + b % 64, 2 end
   if a < 0xF0 then return a % 16 * 4096 + b % 64 * 64 + c % 64, 3 end
   return a % 8 * 262144 + b % 64 * 4096 + c % 64 * 64 + d % 64, 4
end

--- The characters of a text; a byte that is part of none counts as one.
-- @tparam string text
-- @treturn {string,...}
-- @treturn number how many
function M.split(text)
   local list, n, i, size = {}, 0, 1, #text
   while i <= size do
      local w = byte(text, i) < 0x80 and 1 or width(text, i) or 1
      n = n + 1
      list[n] = sub(text, i, i + w - 1)
      i = i + w
   end
   return list, n
end

return M
