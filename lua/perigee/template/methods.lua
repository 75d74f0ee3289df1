--- Methods of dicts and lists, and finding the method of any value. Those of strings: strings.lua.
--
-- What Python's classes have and templates can use. Methods that change a list or a dict work on those that the
-- template made itself; the caller's data has none of them.
-- @module perigee.template.methods
-- @local
local call = require "perigee.template.call"
local json = require "perigee.json"
local strings = require "perigee.template.strings"
local values = require "perigee.template.values"

local define, fail, null = call.define, values.fail, json.null
local need_int, reversed = strings.need_int, strings.reversed

local dict, list, tuple, changing = {}, {}, {}, { list = {}, dict = {} }

-- Dicts ---------------------------------------------------------------------------------------------------------------

local function items_of(d)
   local keys, shown = values.dict_keys(d)
   local out = {}
   values.charge(#keys / 4)
   for i = 1, #keys do
      local key = keys[i]
      out[i] = values.tuple { values.shown_key(key, shown), d[key] }
   end
   return out
end

local function values_of(d)
   local keys, out = values.dict_keys(d), {}
   for i = 1, #keys do out[i] = d[keys[i]] end
   return out
end

local function copy_of(d)
   local out = values.dict()
   for _, key in ipairs(values.shown_keys(d)) do values.dict_set(out, key, d[values.raw_key(key)]) end
   return out
end

dict.items = define("", function(d) return values.view(items_of(d), "dict_items") end)
dict.keys = define("", function(d) return values.view(values.shown_keys(d), "dict_keys") end)
dict.values = define("", function(d) return values.view(values_of(d), "dict_values") end)
dict.get = define("key default?", function(d, key, default)
   local value = d[values.raw_key(key)]
   if value ~= nil then return value end
   return default == nil and null or default
end)
dict.copy = define("", copy_of)
dict.fromkeys = define("iterable value?", function(_, keys, value)
   local out = values.dict()
   for _, key in ipairs(values.elements(keys)) do values.dict_set(out, key, value == nil and null or value) end
   return out
end)

local function forget(d, raw)
   local meta = getmetatable(d)
   for i, key in ipairs(meta.keys) do
      if key == raw then
         table.remove(meta.keys, i)
         break
      end
   end
   d[raw] = nil
end

changing.dict.update = define("...", function(d, args, n, names, named)
   if n > 1 then fail "update() takes at most one argument" end
   if n == 1 then
      if values.kind(args[1]) ~= "dict" then fail "update() takes a dict" end
      for _, key in ipairs(values.shown_keys(args[1])) do
         values.dict_set(d, key, args[1][values.raw_key(key)])
      end
   end
   for _, name in ipairs(names or {}) do values.dict_set(d, name, named[name]) end
   return null
end)
changing.dict.setdefault = define("key default?", function(d, key, default)
   local raw = values.raw_key(key)
   if d[raw] == nil then values.dict_set(d, key, default == nil and null or default) end
   return d[raw]
end)
changing.dict.pop = define("key default?", function(d, key, default)
   local raw = values.raw_key(key)
   local value = d[raw]
   if value == nil and default == nil then fail("there is no key %s", values.repr(key)) end
   if value ~= nil then forget(d, raw) end
   return value == nil and default or value
end)
changing.dict.popitem = define("", function(d)
   local keys = getmetatable(d).keys
   local raw = keys[#keys]
   if raw == nil then fail "popitem(): dictionary is empty" end
   local value = d[raw]
   forget(d, raw)
   return values.tuple { raw, value }
end)
changing.dict.clear = define("", function(d)
   for _, key in ipairs(getmetatable(d).keys) do d[key] = nil end
   getmetatable(d).keys = {}
   return null
end)

-- Lists and tuples ----------------------------------------------------------------------------------------------------

local function index_of(t, value, first, last)
   local n = #t
   local from, to = need_int(first, 0), need_int(last, n)
   if from < 0 then from = math.max(0, from + n) end
   if to < 0 then to = to + n end
   values.charge(n / 4)
   for i = from + 1, math.min(to, n) do
      if values.eq(t[i], value) then return i - 1 end
   end
   return nil
end
list.index = define("value start? stop?", function(t, value, first, last)
   return index_of(t, value, first, last) or fail("%s is not in list", values.repr(value))
end)
list.count = define("value", function(t, value)
   local n = 0
   values.charge(#t / 4)
   for i = 1, #t do
      if values.eq(t[i], value) then n = n + 1 end
   end
   return n
end)
tuple.index, tuple.count = list.index, list.count
list.copy = define("", function(t)
   local out = {}
   values.check_length(#t)
   for i = 1, #t do out[i] = t[i] end
   return values.list(out)
end)

changing.list.append = define("value", function(t, value)
   values.check_length(#t + 1)
   t[#t + 1] = value
   return null
end)
changing.list.extend = define("iterable", function(t, items)
   local more = values.elements(items)
   local n = #more
   values.check_length(#t + n)
   for i = 1, n do t[#t + 1] = more[i] end
   return null
end)
changing.list.insert = define("index value", function(t, index, value)
   index = need_int(index)
   values.check_length(#t + 1)
   if index < 0 then index = math.max(0, index + #t) end
   table.insert(t, math.min(index, #t) + 1, value)
   return null
end)
changing.list.pop = define("index?", function(t, index)
   index = need_int(index, -1)
   if index < 0 then index = index + #t end
   if index < 0 or index >= #t then fail "pop index out of range" end
   values.charge(#t / 64)
   return table.remove(t, index + 1)
end)
changing.list.remove = define("value", function(t, value)
   table.remove(t, (index_of(t, value) or fail "list.remove(x): x not in list") + 1)
   return null
end)
changing.list.reverse = define("", function(t)
   for i, value in ipairs(reversed(t)) do t[i] = value end
   return null
end)
changing.list.clear = define("", function(t)
   for i = #t, 1, -1 do t[i] = nil end
   return null
end)

local KINDS = { str = strings.str, markup = strings.str, dict = dict, list = list, tuple = tuple, range = tuple }

local M = { items_of = items_of, copy_of = copy_of }

--- Whether dicts have a method of a name, which hides the key of that name behind a dot.
function M.is_dict_method(name) return dict[name] ~= nil or changing.dict[name] ~= nil end

--- The method of a value under a name.
-- @param v
-- @tparam string name
-- @treturn ?table as @{perigee.template.call.define} makes it
function M.find(v, name)
   local kind = values.kind(v)
   local methods = KINDS[kind]
   local entry = methods and methods[name]
   if entry or kind ~= "list" and kind ~= "dict" then return entry end
   local meta = getmetatable(v)
   if kind == "list" and not meta.decoded or kind == "dict" and meta.made then return changing[kind][name] end
end

return M
