--- Filters over lists, dicts and values of any kind, and the table of all filters. Those over text: textfilters.lua.
--
-- Source: Jinja's documentation, "List of Builtin Filters"; tojson as chat templates know it.
-- @module perigee.template.filters
-- @local
local attributes = require "perigee.template.attributes"
local call = require "perigee.template.call"
local format = require "perigee.template.format"
local json = require "perigee.json"
local methods = require "perigee.template.methods"
local strings = require "perigee.template.strings"
local tests = require "perigee.template.tests"
local text = require "perigee.template.text"
local values = require "perigee.template.values"

local define, fail, null = call.define, values.fail, json.null
local need_int, string_of = strings.need_int, values.string_of

local M = {}
require "perigee.template.textfilters"(M)

local function given(v) return v ~= nil and v ~= null end
local function flag(v, default)
   if v == nil then return default end
   return values.truth(v)
end

--- An attribute or key of a value: "name", "a.b.0" or an index; raises nothing, what is missing is undefined.
local function dig(v, path)
   if type(path) == "number" then
      local found = values.element(v, path)
      return found == nil and values.undefined("there is no element " .. path) or found
   end
   for part in strings.need_text(path, "attribute"):gmatch "[^.]+" do
      local key = part:find "^%d+$" and tonumber(part) or part
      local found = values.element(v, key)
      if found == nil and type(v) == "table" and getmetatable(v).kind == "group" then found = v[key] end
      if found == nil then return attributes.missing(v, part) end
      v = found
   end
   return v
end

-- What a filter compares by: an attribute, and strings without their case unless told otherwise.
local function keyer(attribute, case_sensitive)
   return function(v)
      if given(attribute) then v = dig(v, attribute) end
      local s = not case_sensitive and string_of(v)
      return s and text.lower(s) or v
   end
end

-- A stable sort by keys: table.sort is not stable, and does not like comparisons that raise.
local function sorted(list, key, reverse)
   local n = #list
   local keys, order, spare = {}, {}, {}
   for i = 1, n do keys[i], order[i] = key(list[i]), i end
   local function before(a, b)
      if values.is_undefined(keys[a]) and values.is_undefined(keys[b]) then return false end
      if reverse then return values.less(keys[a], keys[b], "<") end
      return values.less(keys[b], keys[a], "<")
   end
   local width = 1
   while width < n do
      for start = 1, n, 2 * width do
         local i, j = start, start + width
         local middle, last = math.min(j, n + 1), math.min(j + width, n + 1)
         for k = start, last - 1 do
            if i < middle and (j >= last or not before(order[i], order[j])) then
               spare[k], i = order[i], i + 1
            else
               spare[k], j = order[j], j + 1
            end
         end
      end
      values.charge(n / 2)
      order, spare = spare, order
      width = 2 * width
   end
   local out = {}
   for i = 1, n do out[i] = list[order[i]] end
   return out
end

M.sort = define("reverse? case_sensitive? attribute?", function(v, reverse, case, attribute)
   local list = values.elements(v)
   if not given(attribute) or type(attribute) == "number" or not attribute:find(",", 1, true) then
      return values.list(sorted(list, keyer(attribute, flag(case, false)), flag(reverse, false)))
   end
   local keys = {}
   for one in attribute:gmatch "[^,]+" do keys[#keys + 1] = keyer(one, flag(case, false)) end
   return values.list(sorted(list, function(item)
      local parts = {}
      for i, key in ipairs(keys) do parts[i] = key(item) end
      return values.tuple(parts)
   end, flag(reverse, false)))
end)

M.dictsort = define("case_sensitive? by? reverse?", function(v, case, by, reverse)
   if values.kind(v) ~= "dict" then
      values.refuse_undefined(v)
      fail("'%s object' has no attribute 'items'", values.type_name(v))
   end
   by = by or "key"
   if by ~= "key" and by ~= "value" then fail "dictsort: by must be 'key' or 'value'" end
   local key = keyer(by == "key" and 0 or 1, flag(case, false))
   return values.list(sorted(methods.items_of(v), key, flag(reverse, false)))
end)

M.items = define("", function(v)
   if values.is_undefined(v) then return values.generator {} end
   if values.kind(v) ~= "dict" then fail "items: this is no mapping" end
   return values.generator(methods.items_of(v))
end)

M.length = define("", values.length)
M.count = M.length
M.list = define("", function(v)
   local list, out = values.elements(v), {}
   values.check_length(#list)
   for i = 1, #list do out[i] = list[i] end
   return values.list(out)
end)

M.first = define("", function(v)
   local found = values.elements(v)[1]
   return found == nil and values.undefined "there is no first item, the sequence is empty" or found
end)
M.last = define("", function(v)
   local kind = values.kind(v)
   if kind == "generator" then fail "'generator' object is not reversible" end
   local list = values.elements(v)
   return #list == 0 and values.undefined "there is no last item, the sequence is empty" or list[#list]
end)
M.random = define("", function(v)
   local n = values.length(v)
   if n == 0 then return values.undefined "there is no random item, the sequence is empty" end
   return values.elements(v)[math.random(n)]
end)

M.reverse = define("", function(v)
   local list = values.elements(v)
   local out, n = {}, #list
   for i = 1, n do out[i] = list[n + 1 - i] end
   if string_of(v) then return table.concat(out) end
   return values.kind(v) == "generator" and values.list(out) or values.generator(out)
end)

M.join = define("d? attribute?", function(v, separator, attribute)
   local parts, total = {}, 0
   separator = given(separator) and values.str(separator) or ""
   for i, item in ipairs(values.elements(v)) do
      if given(attribute) then item = dig(item, attribute) end
      local part = values.str(item)
      parts[i], total = part, total + #part + #separator
   end
   values.check_size(total)
   return table.concat(parts, separator)
end)

local function extreme(sign)
   return function(v, case, attribute)
      local key, best, best_key = keyer(attribute, flag(case, false)), nil, nil
      for _, item in ipairs(values.elements(v)) do
         local item_key = key(item)
         if best == nil or sign < 0 and values.less(item_key, best_key, "<")
            or sign > 0 and values.less(best_key, item_key, ">") then
            best, best_key = item, item_key
         end
      end
      return best == nil and values.undefined "there is no such item, the sequence is empty" or best
   end
end
M.min = define("case_sensitive? attribute?", extreme(-1))
M.max = define("case_sensitive? attribute?", extreme(1))

M.sum = define("attribute? start?", function(v, attribute, start)
   local add = require "perigee.template.arithmetic".add
   local total = start == nil and 0 or start
   for _, item in ipairs(values.elements(v)) do
      values.charge(1)
      total = add(total, given(attribute) and dig(item, attribute) or item)
   end
   return total
end)

M.unique = define("case_sensitive? attribute?", function(v, case, attribute)
   local key, seen, out = keyer(attribute, flag(case, false)), {}, {}
   for _, item in ipairs(values.elements(v)) do
      local raw = values.raw_key(key(item))
      if not seen[raw] then
         seen[raw] = true
         out[#out + 1] = item
      end
   end
   return values.generator(out)
end)

M.groupby = define("attribute default? case_sensitive?", function(v, attribute, default, case)
   local function value_of(item)
      local found = dig(item, attribute)
      return values.is_undefined(found) and default ~= nil and default or found
   end
   local function key(item)
      local found = value_of(item)
      local s = not flag(case, false) and string_of(found)
      return s and text.lower(s) or found
   end
   local groups, last = {}, nil
   for _, item in ipairs(sorted(values.elements(v), key, false)) do
      local item_key = key(item)
      if last == nil or not values.eq(last, item_key) then
         local group = { value_of(item), values.list {} }
         group.grouper, group.list = group[1], group[2]
         groups[#groups + 1] = values.tuple(group)
         last = item_key
      end
      local list = groups[#groups][2]
      list[#list + 1] = item
   end
   return values.list(groups)
end)

M.batch = define("linecount fill_with?", function(v, size, fill)
   local out, row = {}, nil
   size = need_int(size)
   for _, item in ipairs(values.elements(v)) do
      if not row or #row >= size then
         row = values.list {}
         out[#out + 1] = row
      end
      row[#row + 1] = item
   end
   if row and given(fill) then
      values.check_length(size)
      while #row < size do row[#row + 1] = fill end
   end
   return values.generator(out)
end)

M.slice = define("slices fill_with?", function(v, slices, fill)
   local list, out, at = values.elements(v), {}, 0
   slices = need_int(slices)
   if slices < 1 then fail "slice: at least one slice is needed" end
   values.check_length(slices)
   local each, more = math.floor(#list / slices), #list % slices
   for i = 1, slices do
      local row = values.list {}
      for _ = 1, each + (i <= more and 1 or 0) do
         at = at + 1
         row[#row + 1] = list[at]
      end
      if given(fill) and i > more and more > 0 then row[#row + 1] = fill end
      out[i] = row
   end
   return values.generator(out)
end)

-- map, select and their kin -------------------------------------------------------------------------------------------

local function rest(args, n, from)
   local out = {}
   for i = from, n do out[i - from + 1] = args[i] end
   return out, math.max(0, n - from + 1)
end

local function by_name(kinds, what, name)
   local entry = kinds[strings.need_text(name, what)]
   if not entry then fail("no %s named '%s'", what, name) end
   return entry
end

-- The elements to go through. What is false is taken for empty here, none as well.
local function elements_of(v) return values.truth(v) and values.elements(v) or {} end

M.map = define("...", function(v, args, n, names, named)
   local list, out = elements_of(v), {}
   if n == 0 and named and named.attribute ~= nil then
      for _, name in ipairs(names) do
         if name ~= "attribute" and name ~= "default" then fail("map: unexpected keyword argument '%s'", name) end
      end
      for i = 1, #list do
         local found = dig(list[i], named.attribute)
         out[i] = values.is_undefined(found) and named.default ~= nil and named.default or found
      end
      return values.generator(out)
   end
   if n == 0 then fail "map requires a filter argument" end
   local entry = by_name(M, "filter", args[1])
   local others, m = rest(args, n, 2)
   for i = 1, #list do
      values.charge(1)
      out[i] = call.invoke(entry, args[1], list[i], others, m, names, named)
   end
   return values.generator(out)
end)

local function chooser(wanted, with_attribute)
   return define("...", function(v, args, n, names, named)
      local list, out, first = elements_of(v), {}, with_attribute and 2 or 1
      if with_attribute and n == 0 then fail "an attribute's name is missing" end
      local entry = args[first] ~= nil and by_name(tests, "test", args[first])
      local others, m = rest(args, n, first + 1)
      for i = 1, #list do
         local item = list[i]
         if with_attribute then item = dig(item, args[1]) end
         values.charge(1)
         local chosen
         if entry then
            chosen = values.truth(call.invoke(entry, args[first], item, others, m, names, named))
         else
            chosen = values.truth(item)
         end
         if chosen == wanted then out[#out + 1] = list[i] end
      end
      return values.generator(out)
   end)
end
M.select, M.reject = chooser(true, false), chooser(false, false)
M.selectattr, M.rejectattr = chooser(true, true), chooser(false, true)

-- Values --------------------------------------------------------------------------------------------------------------

M.default = define("default_value? boolean?", function(v, default, boolean)
   if default == nil then default = "" end
   if values.is_undefined(v) or flag(boolean, false) and not values.truth(v) then return default end
   return v
end)
M.d = M.default

M.attr = define("name", function(v, name)
   local kind = values.kind(v)
   local found
   if kind == "namespace" then found = v.fields[values.raw_key(name)] end
   values.refuse_undefined(v)
   return found == nil and attributes.missing(v, name) or found
end)

M.abs = define("", function(v)
   local x = values.numeric(v)
   if not x then fail("bad operand type for abs(): '%s'", values.type_name(v)) end
   if type(v) == "table" then return json.integer((v.digits:gsub("^%-", ""))) end
   return values.kind(v) == "float" and json.float(math.abs(x)) or math.abs(x)
end)

M.int = define("default? base?", function(v, default, base)
   values.refuse_undefined(v)
   base = need_int(base, 10)
   local s = string_of(v)
   if s then
      s = text.strip(s):gsub("_", "")
      if base == 10 and s:find "^[-+]?%d+$" then return json.integer((s:gsub("^%+", ""))) end
      local sign, digits = s:match "^([-+]?)0?[xXoObB]?(%w+)$"
      local x = base ~= 10 and base >= 2 and base <= 36 and digits and tonumber(digits, base)
      if x then return sign == "-" and -x or x end
      v = s:find "^[-+]?[%d.]+[eE]?[-+]?%d*$" and tonumber((s:gsub("^%+", ""))) or nil
   end
   local x = v ~= nil and values.numeric(v)
   if not x or x ~= x or x == math.huge or x == -math.huge then return default == nil and 0 or default end
   if type(v) == "table" then return v end
   return (x < 0 and math.ceil(x) or math.floor(x)) + 0
end)

M.float = define("default?", function(v, default)
   values.refuse_undefined(v)
   local s = string_of(v)
   local x
   if s then
      s = text.strip(s):gsub("_", ""):gsub("^%+", ""):lower()
      x = s:find "^-?[%d.]+e?[-+]?%d*$" and tonumber(s)
      if s == "inf" or s == "infinity" then x = math.huge elseif s == "nan" then x = 0 / 0 end
   else
      x = values.numeric(v)
   end
   if x then return json.float(x) end
   return default == nil and json.float(0) or default
end)

M.round = define("precision? method?", function(v, precision, method)
   local x = values.numeric(v)
   if not x then
      values.refuse_undefined(v)
      fail("round: a number is needed, not %s", values.type_name(v))
   end
   if type(v) == "table" then return v end
   precision, method = need_int(precision, 0), method or "common"
   if method ~= "common" and method ~= "ceil" and method ~= "floor" then
      fail "round: method must be common, ceil or floor"
   end
   if math.abs(precision) > 300 then fail "round: too many digits" end
   if method == "common" then
      if precision >= 0 and math.abs(x) < 1e15 then
         local rounded = tonumber(format.fixed(x, math.min(precision, 20)))
         return values.kind(v) == "float" and json.float(rounded) or rounded
      end
      local scale = 10 ^ -precision
      local low = math.floor(x / scale)
      local part = x / scale - low
      if part > 0.5 or part == 0.5 and low % 2 == 1 then low = low + 1 end
      return values.kind(v) == "float" and json.float(low * scale) or low * scale
   end
   local scale = 10 ^ precision
   return json.float((method == "ceil" and math.ceil or math.floor)(x * scale) / scale)
end)

M.string = define("", function(v) return string_of(v) and v or values.str(v) end)
M.pprint = define("", values.repr)
M.safe = define("", function(v) return format.markup(values.str(v)) end)
M.escape = define("", function(v) return format.markup(format.escape(v)) end)
M.e = M.escape
M.forceescape = define("", function(v) return format.markup(format.escape(values.str(v))) end)

-- JSON ----------------------------------------------------------------------------------------------------------------

local function separators_of(given_ones, indent)
   if not given(given_ones) then return indent and "," or ", ", ": " end
   local list = values.elements(given_ones)
   return strings.need_text(list[1], "separators"), strings.need_text(list[2], "separators")
end

M.tojson = define("ensure_ascii? indent? separators? sort_keys?", function(v, ascii, indent, separators, sort)
   if values.is_undefined(v) then fail "Object of type Undefined is not JSON serializable" end
   indent = given(indent) and (string_of(indent) or math.max(0, need_int(indent))) or nil
   local item, key = separators_of(separators, indent)
   local out, message = json.encode(v, { ascii = flag(ascii, false), indent = indent, item_separator = item,
      key_separator = key, sort_keys = flag(sort, false), python = true })
   if not out then fail("%s", message) end
   values.check_size(#out * 4)
   return out
end)

return M
