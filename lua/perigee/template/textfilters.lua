--- Filters over text.
--
-- Source: Jinja's documentation, "List of Builtin Filters".
-- @module perigee.template.textfilters
-- @local
local call = require "perigee.template.call"
local format = require "perigee.template.format"
local json = require "perigee.json"
local methods = require "perigee.template.methods"
local strings = require "perigee.template.strings"
local text = require "perigee.template.text"
local utf8 = require "perigee.utf8"
local values = require "perigee.template.values"

local define, null = call.define, json.null
local need_int, str = strings.need_int, values.str

-- A filter that is a method of what the value prints as.
local function of_method(name)
   local entry = strings.str[name]
   return { fn = function(v, ...) return entry.fn(str(v), ...) end, names = entry.names, min = entry.min,
      max = entry.max }
end

local function lines_of(s)
   local out = {}
   for line in (s .. "\n"):gmatch "([^\n]*)\n" do out[#out + 1] = line end
   return out
end

local function flag(v, default)
   if v == nil then return default end
   return values.truth(v)
end

local function indent(v, width, first, blank)
   local s = strings.need_text(v, "indent")
   local prefix = values.string_of(width) or (" "):rep(math.min(need_int(width, 4), 1000))
   local lines = lines_of(s)
   first, blank = flag(first, false), flag(blank, false)
   values.check_size(#s + #lines * #prefix)
   for i, line in ipairs(lines) do
      if i == 1 and first or i > 1 and (blank or line ~= "") then lines[i] = prefix .. line end
   end
   return table.concat(lines, "\n")
end

local function truncate(v, length, killwords, ending, leeway)
   length, leeway = need_int(length, 255), need_int(leeway, 5)
   if not values.string_of(v) and values.length(v) <= length + leeway then return v end
   local s = strings.need_text(v, "truncate")
   ending = ending == nil and "..." or strings.need_text(ending, "end")
   local room = length - text.length(ending)
   if room < 0 then values.fail "truncate: the length is shorter than the end" end
   if text.length(s) <= length + leeway then return s end
   local cut = text.sub(s, 1, room)
   if flag(killwords, false) then return cut .. ending end
   return (cut:match "^(.*) [^ ]*$" or cut) .. ending
end

-- The characters of a word in pieces of `width`, but for the last; returns that one and its length.
local function cut(word, n, width, out)
   local chars = not text.is_ascii(word) and text.split(word)
   local function part(first, last) return chars and table.concat(chars, "", first, last) or word:sub(first, last) end
   local first = 1
   while n - first + 1 > width do
      out[#out + 1] = part(first, first + width - 1)
      values.charge(1)
      first = first + width
   end
   return first == 1 and word or part(first, n), n - first + 1
end

-- Lines of at most `width` characters, broken at white space.
local function wordwrap(v, width, break_long, with)
   width, break_long = need_int(width, 79), flag(break_long, true)
   if with == nil or with == null then with = "\n" end
   with = strings.need_text(with, "wrapstring")
   if width < 1 then values.fail "wordwrap: the width must be at least 1" end
   local out, s = {}, strings.need_text(v, "wordwrap"):gsub("\n$", "")
   for _, line in ipairs(lines_of(s)) do
      local row, size = {}, 0
      for _, word in ipairs(strings.split_words(line, math.huge)) do
         local n = text.length(word)
         if row[1] and size + 1 + n > width then
            out[#out + 1] = table.concat(row, " ")
            row, size = {}, 0
         end
         if break_long and n > width then word, n = cut(word, n, width, out) end
         size = row[1] and size + 1 + n or n
         row[#row + 1] = word
      end
      out[#out + 1] = table.concat(row, " ")
   end
   values.check_size(#s + #out * #with)
   return table.concat(out, with)
end

local function percent_encoded(v, keep)
   local s = str(v)
   values.check_size(#s * 3)
   values.charge(#s / 2)
   return (s:gsub(keep, function(char) return ("%%%02X"):format(char:byte()) end))
end

local PAIRS = { dict = true, list = true, tuple = true, view = true }

local function urlencode(v)
   local kind = values.kind(v)
   if not PAIRS[kind] then return percent_encoded(v, "[^%w_.~/-]") end
   local parts = {}
   for i, pair in ipairs(kind == "dict" and methods.items_of(v) or v) do
      local key, value = values.element(pair, 0), values.element(pair, 1)
      if key == nil or value == nil then values.fail "urlencode: pairs are needed" end
      local function quoted(x) return (percent_encoded(x, "[^%w_.~ -]"):gsub(" ", "+")) end
      parts[i] = quoted(key) .. "=" .. quoted(value)
   end
   return table.concat(parts, "&")
end

local ENTITIES = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'", nbsp = "\194\160" }

local function unescaped(s)
   return (s:gsub("&(#?[xX]?)(%w+);", function(kind, name)
      if kind == "" then return ENTITIES[name] end
      local code = tonumber(name, #kind == 2 and 16 or 10)
      return code and code > 0 and code < 0xD800 and utf8.char(code) or nil
   end))
end

-- A text without what stands between two signs, the signs included.
local function without(s, opening, closing)
   local parts, from = {}, 1
   while true do
      local first, inner = s:find(opening, from, true)
      local _, last = s:find(closing, (inner or #s) + 1, true)
      if not first or not last then break end
      parts[#parts + 1] = s:sub(from, first - 1)
      values.charge(1)
      from = last + 1
   end
   parts[#parts + 1] = s:sub(from)
   return table.concat(parts)
end

local function striptags(v)
   local s = without(without(str(v), "<!--", "-->"), "<", ">")
   return unescaped(table.concat(strings.split_words(s, math.huge), " "))
end

local UNITS = { { "kB", "KiB" }, { "MB", "MiB" }, { "GB", "GiB" }, { "TB", "TiB" }, { "PB", "PiB" }, { "EB", "EiB" } }

local function filesizeformat(v, binary)
   local bytes = values.numeric(v) or tonumber(values.string_of(v) or "") or values.fail "filesizeformat: no number"
   local base = flag(binary, false) and 1024 or 1000
   if bytes == 1 then return "1 Byte" end
   if bytes < base then return ("%d Bytes"):format(bytes) end
   local size = base
   for i, unit in ipairs(UNITS) do
      if bytes < size * base or i == #UNITS then
         return ("%.1f %s"):format(bytes / size, unit[base == 1024 and 2 or 1])
      end
      size = size * base
   end
end

-- Words begin behind blanks and opening brackets; what follows in them is small.
local function title(v)
   local s = str(v)
   values.charge(#s)
   local out = s:gsub("[^%s%-({%[<]+", text.capitalize)
   return out
end

local function xmlattr(v, autospace)
   if values.kind(v) ~= "dict" then values.fail "xmlattr: a mapping is needed" end
   local parts = {}
   for _, pair in ipairs(methods.items_of(v)) do
      if pair[2] ~= null and not values.is_undefined(pair[2]) then
         parts[#parts + 1] = ('%s="%s"'):format(format.escape(pair[1]), format.escape(pair[2]))
      end
   end
   local out = table.concat(parts, " ")
   return out ~= "" and flag(autospace, true) and " " .. out or out
end

return function(M)
   M.upper, M.lower, M.capitalize = of_method "upper", of_method "lower", of_method "capitalize"
   M.trim = define("chars?", function(v, chars) return strings.strip(str(v), chars, true, true) end)
   M.title = define("", title)
   M.center = define("width?", function(v, width) return strings.str.center.fn(str(v), width or 80) end)
   M.replace = define("old new count?", function(v, old, new, count)
      return strings.replace(str(v), str(old), str(new), count ~= null and count or nil)
   end)
   M.indent = define("width? first? blank?", indent)
   M.truncate = define("length? killwords? end? leeway?", truncate)
   M.wordwrap = define("width? break_long_words? wrapstring?", wordwrap)
   M.wordcount = define("", function(v)
      local n, s = 0, str(v)
      values.charge(#s / 2)
      for word in s:gmatch "[%w_\128-\255]+" do n = n + (word and 1) end
      return n
   end)
   M.format = define("...", function(v, args, n, names, named)
      local s = str(v)
      if names and #names > 0 then
         if n > 0 then values.fail "format: positional and keyword arguments cannot be mixed" end
         local dict = values.dict()
         for _, name in ipairs(names) do values.dict_set(dict, name, named[name]) end
         return format.percent(s, dict)
      end
      local tuple = {}
      for i = 1, n do tuple[i] = args[i] end
      return format.percent(s, values.tuple(tuple))
   end)
   M.urlencode = define("", urlencode)
   M.striptags = define("", striptags)
   M.filesizeformat = define("binary?", filesizeformat)
   M.xmlattr = define("autospace?", xmlattr)
end
