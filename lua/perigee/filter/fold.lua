--- Which characters count as the same: upper and lower case, full width and half width.
--
-- Private to the module. One character becomes one character, so that places in the folded text and in the text as it
-- came can be told from each other. Case is folded as in Unicode's simple folding for Latin, Greek, Cyrillic, Armenian
-- and full-width letters; what needs more than a range of code points to say (Turkish dots, sharp s) stays as it is.
-- Source: The Unicode Standard, CaseFolding.txt (status C and S), and section 18.5 on half- and full-width forms.
-- @module perigee.filter.fold
-- @local
local ffi = require "ffi"

local M = {}

-- { first, last, added, step }: every step-th code point from first to last moves by what is added.
local CASE = {
   { 0x41, 0x5A, 32 }, { 0xC0, 0xD6, 32 }, { 0xD8, 0xDE, 32 },
   { 0x100, 0x12E, 1, 2 }, { 0x132, 0x136, 1, 2 }, { 0x139, 0x147, 1, 2 }, { 0x14A, 0x176, 1, 2 },
   { 0x178, 0x178, -121 }, { 0x179, 0x17D, 1, 2 }, { 0x1CD, 0x1DB, 1, 2 }, { 0x1DE, 0x1EE, 1, 2 },
   { 0x1F8, 0x21E, 1, 2 }, { 0x222, 0x232, 1, 2 },
   { 0x386, 0x386, 38 }, { 0x388, 0x38A, 37 }, { 0x38C, 0x38C, 64 }, { 0x38E, 0x38F, 63 }, { 0x391, 0x3A1, 32 },
   { 0x3A3, 0x3AB, 32 }, { 0x3C2, 0x3C2, 1 },
   { 0x400, 0x40F, 80 }, { 0x410, 0x42F, 32 }, { 0x460, 0x480, 1, 2 }, { 0x48A, 0x4BE, 1, 2 }, { 0x4C0, 0x4C0, 15 },
   { 0x4C1, 0x4CD, 1, 2 }, { 0x4D0, 0x52E, 1, 2 }, { 0x531, 0x556, 48 },
   { 0x1E00, 0x1E94, 1, 2 }, { 0x1EA0, 0x1EFE, 1, 2 }, { 0xFF21, 0xFF3A, 32 },
}
local WIDTH = { { 0xFF01, 0xFF5E, -0xFEE0 }, { 0x3000, 0x3000, 0x20 - 0x3000 } }

local function move(map, ranges)
   local before = ffi.new "uint16_t[65536]"
   ffi.copy(before, map, ffi.sizeof(before))
   for _, range in ipairs(ranges) do
      local first, last, added, step = unpack(range)
      for c = 0, 65535 do
         local here = before[c]
         if here >= first and here <= last and (here - first) % (step or 1) == 0 then map[c] = here + added end
      end
   end
end

local maps = {}

--- A table of what characters are folded to, made once.
-- @tparam boolean case fold upper to lower case
-- @tparam boolean width fold full width to half width
-- @treturn ?cdata `uint16_t[65536]`, for code points below 65536; nil when nothing is folded
function M.map(case, width)
   if not (case or width) then return nil end
   local name = (case and "c" or "") .. (width and "w" or "")
   if not maps[name] then
      local map = ffi.new "uint16_t[65536]"
      for c = 0, 65535 do map[c] = c end
      if width then move(map, WIDTH) end
      if case then move(map, CASE) end
      maps[name] = map
   end
   return maps[name]
end

return M
