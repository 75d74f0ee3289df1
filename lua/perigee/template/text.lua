--- Strings as Python has them: characters are code points, white space and cases are Unicode's.
--
-- Cases cover Latin, Greek, Cyrillic and Armenian letters, which is what has cases and is met in prompts; others stay
-- as they are. Methods of strings in templates are strings.lua, this is what they and the lexer stand on.
-- @module perigee.template.text
-- @local
local lpeg = require "perigee.template.lpeg"
local utf8 = require "perigee.utf8"

local M = {}

local find, sub, byte = string.find, string.sub, string.byte

--- What working on so many bytes costs a rendering, in steps; values.lua puts its own function here.
function M.charge() end

--- The characters of a text, and how many.
function M.split(s)
   M.charge(#s / 4)
   return utf8.split(s)
end
local split = M.split

local space = lpeg.space
local leading, word = space ^ 0 * lpeg.Cp(), (1 - space) ^ 0 * lpeg.Cp()

local function is_ascii(s) return not find(s, "[\128-\255]") end
M.is_ascii = is_ascii

--- How many characters.
function M.length(s)
   if is_ascii(s) then return #s end
   local _, n = split(s)
   return n
end

--- The characters from the first to the last, from 1, both within the text or empty.
function M.sub(s, first, last)
   if is_ascii(s) then return sub(s, first, last) end
   local chars, n = split(s)
   return table.concat(chars, "", first, math.min(last, n))
end

--- Where a text ends that goes up to `last`, without white space at its end.
function M.trimmed(s, last)
   while last > 0 do
      local b = byte(s, last)
      if b < 128 then
         if b == 32 or b >= 9 and b <= 13 or b >= 28 and b <= 31 then last = last - 1 else break end
      else
         local start = last                    -- a character beyond ASCII: find where it begins
         while start > 1 and byte(s, start) >= 128 and byte(s, start) < 192 do start = start - 1 end
         if space:match(s, start) ~= last + 1 then break end
         last = start - 1
      end
   end
   return last
end

--- Without white space at its end.
function M.rstrip(s)
   local last = M.trimmed(s, #s)
   return last == #s and s or sub(s, 1, last)
end

--- Without white space at its beginning.
function M.lstrip(s)
   local at = leading:match(s)
   return at == 1 and s or sub(s, at)
end

--- Where the next word begins, at a place or after it; the place after the text when there is none.
function M.next_word(s, at) return leading:match(s, at) end

--- Where the word that begins at a place is over.
function M.word_end(s, at) return word:match(s, at) end

function M.strip(s) return M.lstrip(M.rstrip(s)) end

--- Whether all of it is white space and there is some.
function M.is_space(s) return s ~= "" and leading:match(s) == #s + 1 end

-- Where capitals and small letters take turns, and where a block of small ones stands so far behind its capitals.
local TURNS = { { 0x100, 0x137 }, { 0x139, 0x148 }, { 0x14A, 0x177 }, { 0x179, 0x17E }, { 0x1CD, 0x1DC },
   { 0x1DE, 0x1EF }, { 0x1F8, 0x21F }, { 0x222, 0x233 }, { 0x370, 0x373 }, { 0x3D8, 0x3EF },
   { 0x460, 0x481 }, { 0x48A, 0x4BF }, { 0x4C1, 0x4CE }, { 0x4D0, 0x52F }, { 0x1E00, 0x1E95 },
   { 0x1EA0, 0x1EFF } }
local SHIFTS = { { 0xC0, 0xD6, 32 }, { 0xD8, 0xDE, 32 }, { 0x391, 0x3A1, 32 }, { 0x3A3, 0x3AB, 32 },
   { 0x410, 0x42F, 32 }, { 0x400, 0x40F, 80 }, { 0x531, 0x556, 48 }, { 0xFF21, 0xFF3A, 32 }, { 0x388, 0x38A, 37 },
   { 0x386, 0x386, 38 }, { 0x38C, 0x38C, 64 }, { 0x38E, 0x38F, 63 }, { 0x178, 0x178, -121 }, { 0x10400, 0x10427, 40 } }

local UPPER, LOWER = {}, {}       -- of single characters beyond ASCII

local function pair(capital, small)
   local a, b = utf8.char(capital), utf8.char(small)
   UPPER[b], LOWER[a] = UPPER[b] or a, LOWER[a] or b
end
for _, range in ipairs(TURNS) do
   for code = range[1], range[2] - 1, 2 do
      if code ~= 0x130 then pair(code, code + 1) end
   end
end
for _, range in ipairs(SHIFTS) do
   for code = range[1], range[2] do pair(code, code + range[3]) end
end
UPPER["ß"], UPPER["ς"], UPPER["µ"], UPPER["ı"], UPPER["ſ"] = "SS", "Σ", "Μ", "I", "S"
LOWER["ẞ"], LOWER["İ"] = "ß", "i̇"

local CHARACTER = "[\194-\244][\128-\191]+"

function M.upper(s)
   s = s:upper()
   return is_ascii(s) and s or (s:gsub(CHARACTER, UPPER))
end

function M.lower(s)
   s = s:lower()
   return is_ascii(s) and s or (s:gsub(CHARACTER, LOWER))
end

--- Whether a character is a letter with cases, and which: "upper", "lower" or nil.
function M.case(char)
   if find(char, "^%u") or LOWER[char] then return "upper" end
   if find(char, "^%l") or UPPER[char] then return "lower" end
end

-- Blocks of letters without cases, beside those with; coarse, but right for whole scripts.
local LETTERS = { { 0xAA, 0xAA }, { 0xB5, 0xB5 }, { 0xBA, 0xBA }, { 0xC0, 0xD6 }, { 0xD8, 0xF6 }, { 0xF8, 0x2C1 },
   { 0x370, 0x374 }, { 0x376, 0x37D }, { 0x386, 0x386 }, { 0x388, 0x481 }, { 0x48A, 0x587 }, { 0x5D0, 0x5EA },
   { 0x620, 0x64A }, { 0x671, 0x6D3 }, { 0x904, 0x939 }, { 0xE01, 0xE30 }, { 0x10A0, 0x10FF }, { 0x1100, 0x11FF },
   { 0x1E00, 0x1FFC }, { 0x3005, 0x3006 }, { 0x3041, 0x3096 }, { 0x30A1, 0x30FA }, { 0x3105, 0x312F },
   { 0x3131, 0x318E }, { 0x3400, 0x4DBF }, { 0x4E00, 0x9FFF }, { 0xA000, 0xA48C }, { 0xAC00, 0xD7A3 },
   { 0xF900, 0xFAD9 }, { 0xFF21, 0xFF3A }, { 0xFF41, 0xFF5A }, { 0xFF66, 0xFFDC }, { 0x20000, 0x323AF } }

--- Whether a character is a letter.
function M.is_letter(char)
   if #char == 1 then return find(char, "^%a") ~= nil end
   local code = utf8.code(char, 1)
   for _, range in ipairs(LETTERS) do
      if code <= range[2] then return code >= range[1] and code ~= 0xD7 and code ~= 0xF7 end
   end
   return false
end

--- First letters of words large, the others small; a word is a run of letters.
function M.title(s)
   M.charge(#s * 2)
   local chars, inside = split(s), false
   for i, char in ipairs(chars) do
      chars[i] = inside and M.lower(char) or M.upper(char)
      inside = M.is_letter(char)
   end
   return table.concat(chars)
end

function M.capitalize(s)
   if s == "" then return s end
   local first = utf8.width(s, 1) or 1
   return M.upper(sub(s, 1, first)) .. M.lower(sub(s, first + 1))
end

-- What Python's repr shows as an escape, beyond ASCII: controls, formatting, separators, surrogates, private use.
local HIDDEN = { { 0x80, 0xA0 }, { 0xAD, 0xAD }, { 0x600, 0x605 }, { 0x61C, 0x61C }, { 0x6DD, 0x6DD }, { 0x70F, 0x70F },
   { 0x1680, 0x1680 }, { 0x180E, 0x180E }, { 0x2000, 0x200F }, { 0x2028, 0x202F }, { 0x205F, 0x206F },
   { 0x3000, 0x3000 }, { 0xD800, 0xF8FF }, { 0xFEFF, 0xFEFF }, { 0xFFF0, 0xFFFB }, { 0xFFFE, 0xFFFF },
   { 0xE0000, 0xE00FF }, { 0xE01F0, 0x10FFFF } }

local function hidden(char)
   local code = utf8.code(char, 1)
   for _, range in ipairs(HIDDEN) do
      if code <= range[2] then
         if code < range[1] then return nil end
         return (code < 0x100 and "\\x%02x" or code < 0x10000 and "\\u%04x" or "\\U%08x"):format(code)
      end
   end
end

local SHORT = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\" }

--- A string as Python shows it in a list.
function M.repr(s)
   local mark = find(s, "'", 1, true) and not find(s, '"', 1, true) and '"' or "'"
   local shown = s:gsub("[%c\\]", function(char) return SHORT[char] or ("\\x%02x"):format(byte(char)) end)
   if mark == "'" then shown = shown:gsub("'", "\\'") end
   if not is_ascii(shown) then shown = utf8.clean(shown):gsub(CHARACTER, hidden) end
   return mark .. shown .. mark
end

return M
