--- Methods of strings, as Python has them. Those of dicts and lists: methods.lua.
-- @module perigee.template.strings
-- @local
local call = require "perigee.template.call"
local format = require "perigee.template.format"
local text = require "perigee.template.text"
local values = require "perigee.template.values"
local json = require "perigee.json"

local define, fail, string_of, null = call.define, values.fail, values.string_of, json.null
local concat = table.concat

local str = {}

local function need_text(v, what)
   local s = string_of(v)
   if not s then
      values.refuse_undefined(v)
      fail("%s must be str, not %s", what, values.type_name(v))
   end
   return s
end

local function need_int(v, default)
   if v == nil then return default end
   local x = values.numeric(v)
   if not x or x % 1 ~= 0 or values.is_float(v) then
      values.refuse_undefined(v)
      fail("'%s' object cannot be interpreted as an integer", values.type_name(v))
   end
   return x
end

-- Strings: all of these get the plain string of their object ----------------------------------------------------------

local function method(name, parameters, fn)
   str[name] = define(parameters, function(v, ...) return fn(string_of(v), ...) end)
end

for _, name in ipairs { "upper", "lower", "title", "capitalize" } do
   method(name, "", function(s)
      values.charge(#s / 32)
      return text[name](s)
   end)
end
method("casefold", "", function(s) return (text.lower(s):gsub("ß", "ss")) end)
method("swapcase", "", function(s)
   values.charge(#s * 2)
   local chars = text.split(s)
   for i, char in ipairs(chars) do
      chars[i] = text.case(char) == "upper" and text.lower(char) or text.upper(char)
   end
   return concat(chars)
end)

-- The characters of a string as a set.
local function set_of(chars)
   local set = {}
   for _, char in ipairs((text.split(chars))) do set[char] = true end
   return set
end

-- s without white space, or without certain characters, on its left side, right side, or both.
local function strip(s, chars, left, right)
   values.charge(1 + #s / 64)
   if chars == nil or chars == null then
      if right then s = text.rstrip(s) end
      return left and text.lstrip(s) or s
   end
   local set = set_of(need_text(chars, "strip arg"))
   local list_of, n = text.split(s)
   local first, last = 1, n
   while left and first <= last and set[list_of[first]] do first = first + 1 end
   while right and last >= first and set[list_of[last]] do last = last - 1 end
   return concat(list_of, "", first, last)
end
method("strip", "chars?", function(s, chars) return strip(s, chars, true, true) end)
method("lstrip", "chars?", function(s, chars) return strip(s, chars, true, false) end)
method("rstrip", "chars?", function(s, chars) return strip(s, chars, false, true) end)

-- Where a part begins and ends in s, from the left; nil.
local function search(s, part, from) return s:find(part, from, true) end

-- The same from the right: a function that gives the last that ends before `limit`.
local function backwards(s, part)
   values.charge_search(s, part)
   local mirrored, sought, n = s:reverse(), part:reverse(), #s
   return function(limit)
      local at = mirrored:find(sought, n - limit + 2, true)
      if at then return n - at + 2 - #part, n - at + 1 end
   end
end

local function separator_of(sep)
   sep = need_text(sep, "separator")
   if sep == "" then fail "empty separator" end
   return sep
end

local SPACES = "[ \t\n\r\f\v\28-\31]"

-- Words between white space, at most max cuts.
local function split_words(s, max)
   local out, at = {}, text.next_word(s, 1)
   while at <= #s do
      if #out == max then
         out[#out + 1] = s:sub(at)
         break
      end
      local stop = text.word_end(s, at)
      out[#out + 1] = s:sub(at, stop - 1)
      values.charge(1)
      at = text.next_word(s, stop)
   end
   return out
end

method("split", "sep? maxsplit?", function(s, sep, max)
   values.check_length(#s / 8)
   max = need_int(max, -1)
   if max < 0 then max = math.huge end
   if sep == nil or sep == null then
      return values.list(split_words(s, max))
   end
   sep = separator_of(sep)
   values.charge_search(s, sep)
   local out, n, from = {}, 0, 1
   while n < max do
      local first, last = search(s, sep, from)
      if not first then break end
      n = n + 1
      out[n] = s:sub(from, first - 1)
      values.charge(1)
      from = last + 1
   end
   out[n + 1] = s:sub(from)
   return values.list(out)
end)

local function reversed(t)
   local out, n = {}, #t
   for i = 1, n do out[i] = t[n + 1 - i] end
   return out
end

method("rsplit", "sep? maxsplit?", function(s, sep, max)
   values.check_length(#s / 8)
   max = need_int(max, -1)
   if max < 0 then max = math.huge end
   local out = {}
   if sep == nil or sep == null then
      local mirrored, n, stop = s:reverse(), #s, text.trimmed(s, #s)
      while #out < max do
         local at = mirrored:find(SPACES, n - stop + 1)
         if not at then break end
         out[#out + 1] = s:sub(n - at + 2, stop)
         values.charge(1)
         stop = text.trimmed(s, n - at + 1)
      end
      local rest = s:sub(1, stop)
      if text.lstrip(rest) ~= "" then out[#out + 1] = #out < max and text.lstrip(rest) or rest end
      return values.list(reversed(out))
   end
   sep = separator_of(sep)
   local limit, last_before = #s + 1, backwards(s, sep)
   while #out < max do
      local first, last = last_before(limit)
      if not first then break end
      out[#out + 1] = s:sub(last + 1, limit - 1)
      values.charge(1)
      limit = first
   end
   out[#out + 1] = s:sub(1, limit - 1)
   return values.list(reversed(out))
end)

method("partition", "sep", function(s, sep)
   values.charge_search(s, separator_of(sep))
   local first, last = search(s, string_of(sep), 1)
   if not first then return values.tuple { s, "", "" } end
   return values.tuple { s:sub(1, first - 1), sep, s:sub(last + 1) }
end)
method("rpartition", "sep", function(s, sep)
   local first, last = backwards(s, separator_of(sep))(#s + 1)
   if not first then return values.tuple { "", "", s } end
   return values.tuple { s:sub(1, first - 1), sep, s:sub(last + 1) }
end)

method("splitlines", "keepends?", function(s, keep)
   values.check_length(#s / 8)
   local out, from = {}, 1
   keep = keep ~= nil and values.truth(keep)
   while from <= #s do
      local at = s:find("[\n\r\v\f\28-\30]", from)
      if not at then break end
      local behind = s:sub(at, at + 1) == "\r\n" and at + 2 or at + 1
      out[#out + 1] = s:sub(from, keep and behind - 1 or at - 1)
      values.charge(1)
      from = behind
   end
   if from <= #s then out[#out + 1] = s:sub(from) end
   return values.list(out)
end)

-- The part of a string from one character to another, as Python's optional arguments say, and how many were left out.
local function part_of(s, first, last)
   if (first == nil or first == null) and (last == nil or last == null) then return s, 0 end
   local n = text.length(s)
   local function bound(v, default)
      if v == nil or v == null then return default end
      v = need_int(v)
      return math.max(0, math.min(n, v < 0 and v + n or v))
   end
   local from, to = bound(first, 0), bound(last, n)
   if first and first ~= null and need_int(first) > n then return nil, 0 end
   return to > from and text.sub(s, from + 1, to) or "", from
end

-- Whether a string begins (or ends) with one of the texts of a tuple, or with a text.
local function affixed(name, check)
   method(name, "affix start? end_?", function(s, affix, first, last)
      s = part_of(s, first, last)
      if not s then return false end
      if values.kind(affix) == "tuple" then
         for _, one in ipairs(affix) do
            if check(s, need_text(one, name .. " arg")) then return true end
         end
         return false
      end
      return check(s, need_text(affix, name .. " first arg"))
   end)
end
affixed("startswith", function(s, affix) return s:sub(1, #affix) == affix end)
affixed("endswith", function(s, affix) return affix == "" or #affix <= #s and s:sub(-#affix) == affix end)

method("removeprefix", "prefix", function(s, prefix)
   prefix = need_text(prefix, "removeprefix() argument")
   return s:sub(1, #prefix) == prefix and s:sub(#prefix + 1) or s
end)
method("removesuffix", "suffix", function(s, suffix)
   suffix = need_text(suffix, "removesuffix() argument")
   return suffix ~= "" and #suffix <= #s and s:sub(-#suffix) == suffix and s:sub(1, -#suffix - 1) or s
end)

-- Index of a part, in characters from 0, or -1.
local function finder(back)
   return function(s, part, first, last)
      part = need_text(part, "argument")
      local within, skipped = part_of(s, first, last)
      if not within then return -1 end
      values.charge_search(within, part)
      local at
      if back then at = part == "" and #within + 1 or backwards(within, part)(#within + 1)
      else at = search(within, part, 1) end
      return at and text.length(within:sub(1, at - 1)) + skipped or -1
   end
end
local find, rfind = finder(false), finder(true)
method("find", "sub start? end_?", find)
method("rfind", "sub start? end_?", rfind)
local function must(finds)
   return function(...)
      local at = finds(...)
      if at < 0 then fail "substring not found" end
      return at
   end
end
method("index", "sub start? end_?", must(find))
method("rindex", "sub start? end_?", must(rfind))

method("count", "sub start? end_?", function(s, part, first, last)
   s = part_of(s, first, last)
   part = need_text(part, "argument")
   if not s then return 0 end
   if part == "" then return text.length(s) + 1 end
   values.charge_search(s, part)
   local n, from = 0, 1
   while true do
      local _, at = search(s, part, from)
      if not at then return n end
      values.charge(1)
      n, from = n + 1, at + 1
   end
end)

--- s with a text replaced, at most `count` times (below 0: all).
local function replace(s, old, new, count)
   old, new, count = need_text(old, "replace() argument 1"), need_text(new, "replace() argument 2"), need_int(count, -1)
   values.charge_search(s, old)
   if count < 0 then count = math.huge end
   local out, n, from, total = {}, 0, 1, #s
   if old == "" then
      local chars = text.split(s)
      values.check_size(#s + (#chars + 1) * #new)
      for i = 1, #chars do out[i] = (i <= count and new or "") .. chars[i] end
      return concat(out) .. (#chars < count and new or "")
   end
   while n < 2 * count do
      local first, last = search(s, old, from)
      if not first then break end
      out[n + 1], out[n + 2] = s:sub(from, first - 1), new
      n, from, total = n + 2, last + 1, total + #new - #old
      values.check_size(total / 64)
   end
   if n == 0 then return s end
   values.check_size(total)
   out[n + 1] = s:sub(from)
   return concat(out)
end
method("replace", "old new count?", replace)

local function padded(name, align)
   method(name, "width fillchar?", function(s, width, fill)
      return format.pad(s, need_int(width), align, fill and need_text(fill, "fill character") or " ")
   end)
end
padded("ljust", "<")
padded("rjust", ">")
method("center", "width fillchar?", function(s, width, fill)      -- Python: an odd blank goes left if width is odd
   width, fill = need_int(width), fill and need_text(fill, "fill character") or " "
   local missing = width - text.length(s)
   if missing <= 0 then return s end
   local left = math.floor(missing / 2) + (missing % 2 == 1 and width % 2 == 1 and 1 or 0)
   values.check_size(#s + missing * #fill)
   return fill:rep(left) .. s .. fill:rep(missing - left)
end)
method("zfill", "width", function(s, width) return format.pad(s, need_int(width), "=", "0") end)
method("expandtabs", "tabsize?", function(s, size)
   size = math.max(0, math.min(need_int(size, 8), 256))
   local column = 0
   values.check_size(#s * size)
   values.charge(#s)
   return (s:gsub("[^\128-\191]", function(char)
      if char == "\n" or char == "\r" then column = 0 return end
      if char ~= "\t" then column = column + 1 return end
      local blanks = size > 0 and size - column % size or 0
      column = column + blanks
      return (" "):rep(blanks)
   end))
end)

method("join", "iterable", function(s, items)
   local parts, total = {}, 0
   for i, item in ipairs(values.elements(items)) do
      local part = string_of(item)
      if not part then fail("sequence item %d: expected str instance, %s found", i - 1, values.type_name(item)) end
      parts[i], total = part, total + #part + #s
   end
   values.check_size(total)
   return concat(parts, s)
end)

method("format", "...", function(s, args, _, _, named) return format.format(s, args, named) end)
method("format_map", "mapping", function(s, mapping) return format.format(s, {}, mapping) end)
method("encode", "encoding? errors?", function(s) return setmetatable({ text = s }, { kind = "bytes" }) end)

-- Questions about all characters of a string; never true of an empty one.
local function asks(name, pattern, beyond)
   method(name, "", function(s)
      if s == "" then return false end
      for _, char in ipairs((text.split(s))) do
         if #char == 1 and not char:find(pattern) or #char > 1 and not (beyond and beyond(char)) then return false end
      end
      return true
   end)
end
asks("isalpha", "%a", text.is_letter)
asks("isalnum", "%w", text.is_letter)
asks("isdigit", "%d")
asks("isdecimal", "%d")
asks("isnumeric", "%d")
asks("isspace", SPACES, text.is_space)
method("isprintable", "", function(s)
   return not s:find "%c" and text.repr((s:gsub("[\\'\"]", ""))):sub(2, -2) == s:gsub("[\\'\"]", "")
end)
method("isascii", "", text.is_ascii)
method("isidentifier", "", function(s) return s:find "^[%a_\128-\255][%w_\128-\255]*$" ~= nil end)

local function cased(s, which)
   local some = false
   for _, char in ipairs((text.split(s))) do
      local case = text.case(char)
      if case and case ~= which then return false end
      some = some or case ~= nil
   end
   return some
end
method("isupper", "", function(s) return cased(s, "upper") end)
method("islower", "", function(s) return cased(s, "lower") end)
method("istitle", "", function(s) return s:find "%a" ~= nil and text.title(s) == s end)

return { str = str, replace = replace, strip = strip, split_words = split_words, reversed = reversed,
   need_text = need_text, need_int = need_int }
