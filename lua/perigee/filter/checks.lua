--- What tells a number from its look-alikes: checksums, dates, lengths, chance.
--
-- Each function takes a match (or just its text) and says whether it counts: they are the `check` of filters, and the
-- packs name them. Full-width forms count as half-width ones.
-- Source: ISO/IEC 7812-1 (card numbers, Luhn), GB 11643 and ISO 7064 (resident IDs), ISO 13616 (IBAN), E.164 (phones),
-- RFC 6890 (addresses with a purpose of their own).
-- @module perigee.filter.checks
local M = {}

local function half(text)
   text = text:gsub("\239\188([\129-\191])", function(c) return string.char(c:byte() - 0x60) end)
   return (text:gsub("\239\189([\128-\158])", function(c) return string.char(c:byte() - 0x20) end))
end

local function text_of(match) return half(type(match) == "table" and match.text or match) end

--- Whether the last digit is Luhn's: every second digit from the right counts twice, less 9 above 9.
-- @tparam string digits nothing else
-- @treturn boolean
function M.luhn(digits)
   local sum = 0
   for i = 1, #digits do
      local digit = digits:byte(-i) - 48
      if i % 2 == 0 then digit = digit > 4 and 2 * digit - 9 or 2 * digit end
      sum = sum + digit
   end
   return sum % 10 == 0
end

-- First and last prefix of a scheme, and the lengths that it issues.
local SCHEMES = {
   { "4", "4", 13, 16, 19 }, { "51", "55", 16 }, { "2221", "2720", 16 },                     -- Visa, Mastercard
   { "34", "34", 15 }, { "37", "37", 15 },                                                   -- American Express
   { "300", "305", 14 }, { "36", "36", 14 }, { "38", "39", 14 },                             -- Diners Club
   { "6011", "6011", 16, 19 }, { "644", "649", 16, 19 }, { "65", "65", 16, 19 },             -- Discover
   { "3528", "3589", 16 }, { "62", "62", 16, 17, 18, 19 }, { "81", "81", 16 },               -- JCB, UnionPay
   { "50", "50", 12, 13, 14, 15, 16, 17, 18, 19 }, { "56", "58", 12, 13, 14, 15, 16, 17, 18, 19 },   -- Maestro
   { "6304", "6304", 12, 13, 14, 15, 16, 17, 18, 19 }, { "67", "67", 12, 13, 14, 15, 16, 17, 18, 19 },
   { "9792", "9792", 16 }, { "2200", "2204", 16 },                                           -- Troy, Mir
}

local function issued(digits)
   for _, scheme in ipairs(SCHEMES) do
      local prefix = digits:sub(1, #scheme[1])
      if prefix >= scheme[1] and prefix <= scheme[2] then
         for i = 3, #scheme do
            if scheme[i] == #digits then return true end
         end
      end
   end
   return false
end

--- Payment cards: a scheme's prefix and length, and Luhn.
-- @param match
-- @treturn boolean
function M.card(match)
   local digits = text_of(match):gsub("%D", "")
   if digits:find("^(%d)%1+$") or digits:find "0000000000" then return false end      -- samples, not cards
   return issued(digits) and M.luhn(digits) and not M.resident_id(digits)
end

-- Provinces by the first two digits.
local PROVINCES = {}
for code in ("11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83")
   :gmatch "%d+" do PROVINCES[code] = true end

local function is_date(year, month, day)
   local days = { 31, year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) and 29 or 28, 31, 30, 31, 30, 31, 31, 30,
      31, 30, 31 }
   return month >= 1 and month <= 12 and day >= 1 and day <= days[month]
end

--- Chinese resident IDs of 18 characters: province, a date of birth from 1850 on that is not to come, check character.
-- @param match
-- @treturn boolean
function M.resident_id(match)
   local id = text_of(match):gsub(" ", ""):upper()
   if not id:find "^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d[%dX]$" or not PROVINCES[id:sub(1, 2)] then return false end
   local year, month, day = tonumber(id:sub(7, 10)), tonumber(id:sub(11, 12)), tonumber(id:sub(13, 14))
   if year < 1850 or not is_date(year, month, day) or id:sub(7, 14) > os.date "%Y%m%d" then return false end
   local rest = 0                                      -- ISO 7064 MOD 11-2, by Horner's rule
   for i = 1, 17 do rest = (rest + id:byte(i) - 48) * 2 % 11 end
   local check = (12 - rest) % 11
   return id:sub(18) == (check == 10 and "X" or tostring(check))
end

--- IBANs: the remainder modulo 97, letters read as 10 to 35 and the first four characters moved to the end, is 1.
-- @param match of a length that its country has
-- @treturn boolean
function M.iban(match)
   local text = text_of(match):gsub(" ", ""):upper()
   if #text < 15 or #text > 34 or not text:find "^%u%u%d%d%w+$" then return false end
   local rest = 0
   for c in (text:sub(5) .. text:sub(1, 4)):gmatch "%w" do
      for digit in tostring(tonumber(c, 36)):gmatch "%d" do rest = (rest * 10 + digit) % 97 end
   end
   return rest == 1
end

--- Phones: 7 to 15 digits.
-- @param match
-- @treturn boolean
function M.phone(match)
   local text = text_of(match)
   local digits = text:gsub("%D", "")
   if text:find "^%+" then return #digits >= 8 and #digits <= 15 end
   return #digits >= 7 and #digits <= 17 and not digits:find "^(%d)%1+$"
end

local FILES = { png = true, jpg = true, jpeg = true, gif = true, svg = true, webp = true, css = true, js = true }

--- E-mail addresses that belong to somebody: not the one that fetches over ssh, not names of files.
-- @param match
-- @treturn boolean
function M.email(match)
   local text = text_of(match):lower()
   return not text:find "^git@" and not text:find "%.%." and not text:find "%.@" and not FILES[text:match "%.(%a+)$"]
end

local function is_v4(text)
   local a, b, c, d = text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
   a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
   if not a or a > 255 or b > 255 or c > 255 or d > 255 then return false end
   return not (a == 0 or a == 10 or a == 127 or a >= 224 or a == 169 and b == 254 or a == 172 and b >= 16 and b < 32
      or a == 192 and b == 168 or a == 100 and b >= 64 and b < 128)
end

local function is_v6(text)
   local before, after = text:match "^(.-)::(.*)$"
   if after and after:find("::", 1, true) then return false end
   local groups = 0
   for group in ((before or text) .. ":" .. (after or "")):gmatch "[^:]+" do
      if #group > 4 or not group:find "^%x+$" then return false end
      groups = groups + 1
   end
   if before then return groups >= 2 and groups <= 7 and not before:find "^:" and not after:find ":$" end
   return groups == 8 and not text:find ":$"
end

--- Addresses on the public internet.
-- @param match
-- @treturn boolean
function M.address(match)
   local text = text_of(match)
   if text:find(":", 1, true) then return is_v6(text) end
   return is_v4(text)
end

--- Bits that a character of a text carries, by how often each occurs in it.
-- @tparam string text
-- @treturn number
function M.entropy(text)
   local counts, bits = {}, 0
   for c in text:gmatch "." do counts[c] = (counts[c] or 0) + 1 end
   for _, n in pairs(counts) do bits = bits - n / #text * math.log(n / #text) / math.log(2) end
   return bits
end

local function drawn(value, least)
   return value:find "%d" and value:find "%a" and M.entropy(value) >= least
end

--- Secrets: what has a prefix of its own counts; what was assigned or begins with sk- must look drawn by chance.
-- @param match
-- @treturn boolean
function M.secret(match)
   local text = text_of(match)
   if text:find "^sk%-" then return drawn(text, 3.5) and true or false end
   local value = text:match "^[%w_%-\128-\255]+[\"']?%s*[:=>]+%s*[\"']?(.+)$" or text:match "^%S+[是为]%s*[\"']?(.+)$"
   if not value or text:find "^%-%-%-%-%-BEGIN" then return true end
   if value:find "^[%a_][%w_]*%.[%a_]" or value:find "^%%" then return false end     -- os.environ, config.key: names
   return drawn(value, 2.8) and true or false
end

return M
