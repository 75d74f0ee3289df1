--- Values of templates: what kinds there are, whether they are true, how they print, compare and are indexed.
--
-- A string, a boolean, or a number that says by itself what it is (whole: int, with a fraction: float) is Lua's own.
-- All else is told by the `kind` of its metatable: what perigee.json decodes is used as it is (dict, list, none, whole
-- floats, long integers), and the template's own kinds are added here. A table without such a metatable never gets in.
-- Python's rules hold throughout; its classes, its internals and Lua's globals cannot be reached from a template.
-- Calculating is arithmetic.lua, methods are methods.lua.
-- @module perigee.template.values
-- @local
local json = require "perigee.json"
local text = require "perigee.template.text"

local M = {}

local null, is_float = json.null, json.is_float
local concat, floor = table.concat, math.floor
local getmetatable, setmetatable, type = getmetatable, setmetatable, type

-- Failing, and what a rendering may cost ------------------------------------------------------------------------------

--- End the rendering with a message.
function M.fail(message, ...)
   if select("#", ...) > 0 then message = message:format(...) end
   error({ message = message }, 0)
end
local fail = M.fail

M.MAX_TEXT = 32 * 1024 * 1024           -- bytes of one string
M.MAX_LIST = 1000000                    -- elements of one list that a template makes

local left = 0

--- What may be spent from now on; a step is about a tenth of a microsecond.
function M.allow(steps) left = steps end

--- Spend some; ends the rendering when nothing is left.
function M.charge(steps)
   left = left - steps
   if left < 0 then error({ message = "it takes too long: its limit of steps is used up", code = "limit" }, 0) end
end
local charge = M.charge
text.charge = charge

--- Refuse a string before it is made.
function M.check_size(bytes)
   if bytes > M.MAX_TEXT then
      error({ message = ("a text of %.0f bytes is too long"):format(bytes), code = "limit" }, 0)
   end
   charge(bytes / 128)
end

--- Spend what looking for a part of a string may take: at each place where it could begin, all of the part is compared.
function M.charge_search(s, part) charge(#s / 64 + math.max(0, #s - #part) * #part / 4096) end

--- The same as check_size of a list.
function M.check_length(n)
   if n > M.MAX_LIST then
      error({ message = ("a list of %.0f elements is too long"):format(n), code = "limit" }, 0)
   end
   charge(n / 8)
end

-- Making --------------------------------------------------------------------------------------------------------------

local LIST, TUPLE, GENERATOR = { kind = "list" }, { kind = "tuple" }, { kind = "generator" }
local RANGE, UNDEFINED, NAMESPACE, FUNCTION = { kind = "range" }, { kind = "undefined" }, { kind = "namespace" },
   { kind = "function" }
M.GENERATOR = GENERATOR

--- A list that the template made and may change.
function M.list(t) return setmetatable(t, LIST) end
function M.tuple(t) return setmetatable(t, TUPLE) end
--- What is walked once: results of map, select ...
function M.generator(t) return setmetatable(t, GENERATOR) end
function M.namespace(fields) return setmetatable({ fields = fields }, NAMESPACE) end
--- A view of a dict: keys, items or values.
function M.view(t, name) return setmetatable(t, { kind = "view", name = name }) end
function M.range(t, start, stop, step)
   t.start, t.stop, t.step = start, stop, step
   return setmetatable(t, RANGE)
end
--- A function: call(args, n, names, named), positional and keyword arguments.
function M.func(name, call) return setmetatable({ name = name, call = call }, FUNCTION) end
--- What is not there; the message says so when it is used.
function M.undefined(message) return setmetatable({ message = message }, UNDEFINED) end

function M.kind(v)
   local t = type(v)
   if t == "string" then return "str" end
   if t == "boolean" then return "bool" end
   if t == "number" then return v % 1 == 0 and "int" or "float" end
   if t == "cdata" then return "float" end
   local meta = getmetatable(v)
   local kind = meta and meta.kind
   return kind == "integer" and "int" or kind
end
local kind_of = M.kind

local TYPES = { none = "NoneType", undefined = "Undefined", namespace = "Namespace", macro = "Macro" }

--- Python's name of a value's type.
function M.type_name(v)
   local kind = kind_of(v)
   return kind == "view" and getmetatable(v).name or TYPES[kind] or kind
end
local type_name = M.type_name

--- Use of something undefined, if it is.
function M.refuse_undefined(v)
   if type(v) == "table" and getmetatable(v) == UNDEFINED then fail("%s", v.message) end
end
local refuse_undefined = M.refuse_undefined

function M.is_undefined(v) return type(v) == "table" and getmetatable(v) == UNDEFINED end

-- Dicts ---------------------------------------------------------------------------------------------------------------

local repr

--- The key under which a table holds what a dict holds under a value.
local function raw_key(v)
   local t = type(v)
   if t == "string" or t == "number" then return v end
   if t == "boolean" then return v and 1 or 0 end
   if t == "cdata" then return v.value end
   local kind = getmetatable(v).kind
   if kind == "none" or kind == "undefined" then return v end
   if kind == "integer" then return "\0i" .. v.digits end
   if kind == "tuple" then return "\0t" .. repr(v) end
   if kind == "list" or kind == "dict" then fail("unhashable type: '%s'", kind) end
   return v
end
M.raw_key = raw_key

function M.dict() return setmetatable({}, { kind = "dict", keys = {}, made = true }) end

function M.dict_set(dict, key, value)
   local raw, meta = raw_key(key), getmetatable(dict)
   if dict[raw] == nil then
      meta.keys[#meta.keys + 1] = raw
      if type(raw) ~= type(key) then
         meta.shown = meta.shown or {}
         meta.shown[raw] = key
      end
   end
   dict[raw] = value
end

--- The keys of a dict in order: raw ones, and what they are to the template where that differs.
function M.dict_keys(dict)
   local meta = getmetatable(dict)
   return meta.keys, meta.shown
end
local dict_keys = M.dict_keys

--- A raw key as the template sees it.
function M.shown_key(raw, shown)
   local key = shown and shown[raw]
   if key == nil then return raw end
   return key
end

--- The keys of a dict as the template sees them.
function M.shown_keys(dict)
   local keys, shown = dict_keys(dict)
   local list = {}
   for i = 1, #keys do list[i] = M.shown_key(keys[i], shown) end
   return list
end

-- Truth, text ---------------------------------------------------------------------------------------------------------

function M.truth(v)
   if v == true or v == false then return v end
   local t = type(v)
   if t == "string" then return v ~= "" end
   if t == "number" then return v ~= 0 end
   if t == "cdata" then return v.value ~= 0 end
   local kind = getmetatable(v).kind
   if kind == "none" or kind == "undefined" then return false end
   if kind == "list" or kind == "tuple" or kind == "range" or kind == "view" then return v[1] ~= nil end
   if kind == "dict" then return next(v) ~= nil end
   return true
end

local function join_repr(t, depth)
   local parts = {}
   for i = 1, #t do parts[i] = repr(t[i], depth) end
   return concat(parts, ", ")
end

local function dict_repr(v, depth)
   local keys, shown = dict_keys(v)
   local parts = {}
   for i = 1, #keys do
      local key = keys[i]
      parts[i] = repr(M.shown_key(key, shown), depth) .. ": " .. repr(v[key], depth)
   end
   return "{" .. concat(parts, ", ") .. "}"
end

local SHOW = {
   none = function() return "None" end,
   undefined = function() return "Undefined" end,
   list = function(v, depth) return "[" .. join_repr(v, depth) .. "]" end,
   tuple = function(v, depth) return "(" .. join_repr(v, depth) .. (#v == 1 and ",)" or ")") end,
   dict = dict_repr,
   integer = function(v) return v.digits end,
   view = function(v, depth) return getmetatable(v).name .. "([" .. join_repr(v, depth) .. "])" end,
   range = function(v)
      if v.step ~= 1 then return ("range(%d, %d, %d)"):format(v.start, v.stop, v.step) end
      return ("range(%d, %d)"):format(v.start, v.stop)
   end,
   namespace = function(v, depth) return "<Namespace " .. dict_repr(v.fields, depth) .. ">" end,
   markup = function(v) return "Markup(" .. text.repr(v.text) .. ")" end,
}

--- A value as Python's repr shows it.
function repr(v, depth)
   local t = type(v)
   if t == "string" then
      charge(1 + #v / 64)
      return text.repr(v)
   end
   if t == "number" then return v % 1 == 0 and ("%.0f"):format(v) or json.repr(v) end
   if t == "boolean" then return v and "True" or "False" end
   if t == "cdata" then return json.repr(v.value) end
   depth = (depth or 0) + 1
   if depth > 200 then fail "a value is nested too deeply to be shown" end
   charge(1)
   local kind = getmetatable(v).kind
   local show = SHOW[kind]
   return show and show(v, depth) or "<" .. kind .. ">"
end
M.repr = repr

--- A value as it is printed.
function M.str(v)
   local t = type(v)
   if t == "string" then return v end
   if t == "table" then
      local kind = getmetatable(v).kind
      if kind == "undefined" then return "" end
      if kind == "markup" then return v.text end
   end
   local shown = repr(v)
   M.check_size(#shown)
   return shown
end

-- Comparing -----------------------------------------------------------------------------------------------------------

--- A Lua number for what Python calculates with: numbers and booleans; nil for others.
local function numeric(v)
   local t = type(v)
   if t == "number" then return v end
   if t == "cdata" then return v.value end
   if t == "boolean" then return v and 1 or 0 end
   if t == "table" and getmetatable(v) == json.INTEGER then return tonumber(v.digits) end
end
M.numeric = numeric

--- The string in a value that is one, also in one marked as safe; nil for others.
local function string_of(v)
   if type(v) == "string" then return v end
   if type(v) == "table" and getmetatable(v).kind == "markup" then return v.text end
end
M.string_of = string_of

local SEQUENCES = { list = "list", tuple = "tuple", range = "range" }
local eq

local function eq_tables(a, b)
   local left_kind, right_kind = kind_of(a), kind_of(b)
   charge(1)
   if left_kind ~= right_kind then return false end
   if left_kind == "undefined" then return true end
   if SEQUENCES[left_kind] then
      local n = #a
      if n ~= #b then return false end
      for i = 1, n do
         if not eq(a[i], b[i]) then return false end
      end
      return true
   end
   if left_kind ~= "dict" then return false end
   local keys = dict_keys(a)
   if #keys ~= #dict_keys(b) then return false end
   for i = 1, #keys do
      local other = b[keys[i]]
      if other == nil or not eq(a[keys[i]], other) then return false end
   end
   return true
end

function eq(a, b)
   if type(a) == "string" and type(b) == "string" then return a == b end
   if rawequal(a, b) then return a == a end
   local x, y = numeric(a), numeric(b)
   if x and y then
      if type(a) == "table" or type(b) == "table" then return tostring(a) == tostring(b) end
      return x == y
   end
   x, y = string_of(a), string_of(b)
   if x or y then return x == y end
   if type(a) ~= "table" or type(b) ~= "table" then return false end
   return eq_tables(a, b)
end
M.eq = eq

--- Whether a < b.
-- @param a
-- @param b
-- @tparam string operator for the message
local function less(a, b, operator)
   local x, y = numeric(a), numeric(b)
   if x and y then return x < y end
   x, y = string_of(a), string_of(b)
   if x and y then
      charge(math.min(#x, #y) / 64)
      return x < y
   end
   refuse_undefined(a)
   refuse_undefined(b)
   local kind = kind_of(a)
   if (kind == "list" or kind == "tuple") and kind == kind_of(b) then
      charge(1)
      for i = 1, math.min(#a, #b) do
         if not eq(a[i], b[i]) then return less(a[i], b[i], operator) end
      end
      return #a < #b
   end
   fail("'%s' not supported between instances of '%s' and '%s'", operator, type_name(a), type_name(b))
end
M.less = less

--- Compare by an operator's name.
M.compare = {
   eq = eq,
   ne = function(a, b) return not eq(a, b) end,
   lt = function(a, b) return less(a, b, "<") end,
   gt = function(a, b) return less(b, a, ">") end,
   le = function(a, b) return less(a, b, "<=") or eq(a, b) end,
   ge = function(a, b) return less(b, a, ">=") or eq(a, b) end,
}

--- What a loop walks over: a table of elements 1 .. n. Generators are used up by it.
function M.elements(v)
   local s = string_of(v)
   if s then
      return (text.split(s))
   end
   local kind = type(v) == "table" and getmetatable(v).kind
   if kind == "list" or kind == "tuple" or kind == "range" or kind == "view" then return v end
   if kind == "dict" then return M.shown_keys(v) end
   if kind == "undefined" then return {} end
   if kind == "generator" then
      if v.used then return {} end
      v.used = true
      return v
   end
   fail("'%s' object is not iterable", type_name(v))
end

--- Whether an element is in a container.
function M.contains(container, element)
   local s = string_of(container)
   if s then
      local part = string_of(element)
      if not part then fail("'in <string>' requires string as left operand, not %s", type_name(element)) end
      M.charge_search(s, part)
      return s:find(part, 1, true) ~= nil
   end
   if kind_of(container) == "dict" then return container[raw_key(element)] ~= nil end
   if type(container) ~= "table" then fail("argument of type '%s' is not iterable", type_name(container)) end
   local list = M.elements(container)
   charge(#list / 4)
   for i = 1, #list do
      if eq(list[i], element) then return true end
   end
   return false
end
M.compare["in"] = function(a, b) return M.contains(b, a) end
M.compare.not_in = function(a, b) return not M.contains(b, a) end

-- Indexing ------------------------------------------------------------------------------------------------------------

--- How many elements, as len() says.
function M.length(v)
   local s = string_of(v)
   if s then
      charge(#s / 64)
      return text.length(s)
   end
   local kind = kind_of(v)
   if kind == "dict" then return #dict_keys(v) end
   if SEQUENCES[kind] or kind == "view" then return #v end
   if kind == "undefined" then return 0 end
   if kind == "loop" then return #v.list end
   fail("object of type '%s' has no len()", type_name(v))
end

-- The element at an index from 0, negative ones from the end; nil when there is none.
local function at(v, kind, index)
   if index % 1 ~= 0 then return nil end
   if kind == "str" then
      local s = string_of(v)
      charge(#s / 64)
      if text.is_ascii(s) then
         if index < 0 then index = #s + index end
         if index < 0 or index >= #s then return nil end
         return s:sub(index + 1, index + 1)
      end
      local chars, n = text.split(s)
      return chars[(index < 0 and n + index or index) + 1]
   end
   if index < 0 then index = #v + index end
   return v[index + 1]
end

local INDEXED = { str = true, list = true, tuple = true, range = true }

--- The element of a container under a key; nil when there is none.
function M.element(v, key)
   local kind = string_of(v) and "str" or kind_of(v)
   if kind == "dict" then
      if type(key) == "string" then return v[key] end
      local key_kind = kind_of(key)
      if key_kind == "list" or key_kind == "dict" then return nil end
      return v[raw_key(key)]
   end
   if INDEXED[kind] then
      if type(key) == "number" then return at(v, kind, key) end
      if type(key) == "boolean" then return at(v, kind, key and 1 or 0) end
   end
   if kind == "undefined" then fail("%s", v.message) end
   return nil
end

local function bound(value, n, default, low, high)
   if value == nil or value == null then return default end
   if type(value) == "boolean" then value = value and 1 or 0 end
   if type(value) ~= "number" or value % 1 ~= 0 then
      refuse_undefined(value)
      fail "slice indices must be integers or None"
   end
   if value < 0 then value = value + n end
   return math.max(low, math.min(high, value))
end

--- v[first:last:step]; nil when it has no slices.
function M.slice(v, first, last, step)
   local kind = string_of(v) and "str" or kind_of(v)
   refuse_undefined(v)
   if kind == "dict" then return nil end
   if not INDEXED[kind] then fail("'%s' object is not subscriptable", type_name(v)) end
   local n = kind == "str" and M.length(v) or #v
   step = bound(step, 0, 1, -math.huge, math.huge)
   if step == 0 then fail "slice step cannot be zero" end
   if step > 0 then
      first, last = bound(first, n, 0, 0, n), bound(last, n, n, 0, n)
   else
      first, last = bound(first, n, n - 1, -1, n - 1), bound(last, n, -1, -1, n - 1)
   end
   if kind == "str" and step == 1 then
      return last > first and text.sub(string_of(v), first + 1, last) or ""
   end
   local source, out, k = kind == "str" and text.split(string_of(v)) or v, {}, 0
   M.check_length(floor(math.abs(last - first)))
   for i = first, last + (step > 0 and -1 or 1), step do
      k = k + 1
      out[k] = source[i + 1]
   end
   if kind == "str" then return concat(out) end
   if kind == "range" then
      return M.range(out, v.start + first * v.step, v.start + last * v.step, v.step * step)
   end
   return kind == "tuple" and M.tuple(out) or M.list(out)
end

M.is_float = is_float

return M
