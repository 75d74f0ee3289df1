--- What stands behind a dot or in brackets: methods, keys, fields of loops and of other objects of the engine.
-- @module perigee.template.attributes
-- @local
local call = require "perigee.template.call"
local methods = require "perigee.template.methods"
local values = require "perigee.template.values"
local json = require "perigee.json"

local fail, null = values.fail, json.null
local getmetatable, type = getmetatable, type

local M = {}

-- A method as a value of its own.
local function bound(v, name, entry)
   return values.func(name, function(args, n, names, named)
      return call.invoke(entry, name, v, args, n, names, named)
   end)
end

-- Loops ---------------------------------------------------------------------------------------------------------------

local LOOP = { kind = "loop" }

--- The variable `loop`; its field i is the number of the element at hand, from 1.
function M.loop(list, n, depth, recurse)
   return setmetatable({ list = list, n = n, depth = depth, recurse = recurse }, LOOP)
end

local loop_fields = {
   index = function(l) return l.i end,
   index0 = function(l) return l.i - 1 end,
   revindex = function(l) return l.n - l.i + 1 end,
   revindex0 = function(l) return l.n - l.i end,
   first = function(l) return l.i == 1 end,
   last = function(l) return l.i == l.n end,
   length = function(l) return l.n end,
   depth = function(l) return l.depth end,
   depth0 = function(l) return l.depth - 1 end,
   previtem = function(l)
      if l.i == 1 then return values.undefined "there is no previous item" end
      return l.list[l.i - 1]
   end,
   nextitem = function(l)
      if l.i == l.n then return values.undefined "there is no next item" end
      return l.list[l.i + 1]
   end,
   cycle = function(l)
      return values.func("cycle", function(args, n)
         if n == 0 then fail "loop.cycle: no items for cycling are given" end
         return args[(l.i - 1) % n + 1]
      end)
   end,
   changed = function(l)
      return values.func("changed", function(args, n)
         local now = {}
         for i = 1, n do now[i] = args[i] end
         values.tuple(now)
         if l.seen and values.eq(l.seen, now) then return false end
         l.seen = now
         return true
      end)
   end,
}

-- Objects that a template makes ---------------------------------------------------------------------------------------

local CYCLER = { kind = "cycler" }

function M.cycler(items, n) return setmetatable({ items = items, n = n, at = 1 }, CYCLER) end

local cycler_fields = {
   current = function(c) return c.items[c.at] end,
   next = function(c)
      return values.func("next", function()
         local item = c.items[c.at]
         c.at = c.at % c.n + 1
         return item
      end)
   end,
   reset = function(c)
      return values.func("reset", function()
         c.at = 1
         return null
      end)
   end,
}

local by_kind = {
   loop = function(v, name) return loop_fields[name] and loop_fields[name](v) end,
   cycler = function(v, name) return cycler_fields[name] and cycler_fields[name](v) end,
   namespace = function(v, name) return v.fields[name] end,
   macro = function(v, name) return name == "name" and v.name or nil end,
   dict = function(v, name) return v[name] end,
   tuple = function(v, name) return (name == "grouper" or name == "list") and v[name] or nil end,
   undefined = function(v) fail("%s", v.message) end,
}

--- v.name, nil when there is nothing.
function M.attribute(v, name)
   local entry = methods.find(v, name)
   if entry then return bound(v, name, entry) end
   local find = by_kind[values.kind(v)]
   return find and find(v, name)
end
local attribute = M.attribute

--- v[key], nil when there is nothing.
function M.item(v, key)
   local found = values.element(v, key)
   if found ~= nil then return found end
   if type(key) == "string" and values.kind(v) ~= "dict" then return attribute(v, key) end
   if type(key) == "string" then
      local entry = methods.find(v, key)
      return entry and bound(v, key, entry)
   end
end

--- What a missing attribute or key gives.
function M.missing(v, key)
   return values.undefined(("'%s object' has no attribute %s"):format(values.type_name(v),
      type(key) == "string" and "'" .. key .. "'" or values.repr(key)))
end

--- Whether the metatable is that of a dict, for fast paths.
function M.is_dict(v)
   local meta = type(v) == "table" and getmetatable(v)
   return meta and meta.kind == "dict"
end

return M
