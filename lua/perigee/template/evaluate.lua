--- A tree to closures: expressions. Statements are in compile.lua.
--
-- Every node becomes a function of the frame it runs in: f[register] holds what names are set to, f.up is the frame
-- around it, f.s the rendering. Compiling decides all that can be decided before: which registers a name may stand in,
-- which filter is meant, whether arguments are plain. What cannot be found is a value of its own (undefined), made once
-- where its message is known.
-- @module perigee.template.evaluate
-- @local
local arithmetic = require "perigee.template.arithmetic"
local attributes = require "perigee.template.attributes"
local call = require "perigee.template.call"
local filters = require "perigee.template.filters"
local globals = require "perigee.template.globals"
local json = require "perigee.json"
local methods = require "perigee.template.methods"
local tests = require "perigee.template.tests"
local values = require "perigee.template.values"

local fail, truth, eq, null = values.fail, values.truth, values.eq, json.null
local getmetatable, type = getmetatable, type

local M = {}
local nodes = {}

local function compile(node) return nodes[node.type](node) end
M.compile = compile

local function compile_all(list)
   local out = {}
   for i, node in ipairs(list) do out[i] = compile(node) end
   return out, #out
end

-- Where a name may stand, innermost first: pairs of how many frames up, and the register.
local function places(scope, name)
   local list, hops, frame = {}, 0, scope.frame
   while scope do
      while frame ~= scope.frame do frame, hops = frame.parent, hops + 1 end
      local register = scope.names[name]
      if register then list[#list + 1] = { hops = hops, register = register } end
      scope = scope.parent
   end
   return list
end

function nodes.name(node)
   local name, list = node.name, places(node.scope, node.name)
   local fallback = globals.functions[name] or values.undefined(("'%s' is undefined"):format(name))
   local function outside(f)
      local v = f.s.vars[name]
      if v == nil then return fallback end
      return v
   end
   if #list == 0 then return outside end
   if #list == 1 and list[1].hops == 0 then
      local register = list[1].register
      return function(f)
         local v = f[register]
         if v == nil then return outside(f) end
         return v
      end
   end
   return function(f)
      for i = 1, #list do
         local place, frame = list[i], f
         for _ = 1, place.hops do frame = frame.up end
         local v = frame[place.register]
         if v ~= nil then return v end
      end
      return outside(f)
   end
end

function nodes.constant(node)
   local v = node.value
   if node.none then v = null end
   return function() return v end
end

function nodes.captured() return function(f) return f.s.captured end end

local function literal(make)
   return function(node)
      local items, n = compile_all(node.items)
      return function(f)
         local out = {}
         values.charge(1)
         for i = 1, n do out[i] = items[i](f) end
         return make(out)
      end
   end
end
nodes.list, nodes.tuple = literal(values.list), literal(values.tuple)

function nodes.dict(node)
   local keys, n = compile_all(node.keys)
   local items = compile_all(node.values)
   return function(f)
      local out = values.dict()
      values.charge(1)
      for i = 1, n do values.dict_set(out, keys[i](f), items[i](f)) end
      return out
   end
end

nodes["not"] = function(node)
   local value = compile(node.value)
   return function(f) return not truth(value(f)) end
end

nodes["and"] = function(node)
   local left, right = compile(node.left), compile(node.right)
   return function(f)
      local v = left(f)
      if truth(v) then return right(f) end
      return v
   end
end

nodes["or"] = function(node)
   local left, right = compile(node.left), compile(node.right)
   return function(f)
      local v = left(f)
      if truth(v) then return v end
      return right(f)
   end
end

function nodes.condition(node)
   local test, value = compile(node.test), compile(node.value)
   if not node.otherwise then
      local nothing = values.undefined(
         "the inline if-expression evaluated to false and no else section was defined")
      return function(f)
         if truth(test(f)) then return value(f) end
         return nothing
      end
   end
   local otherwise = compile(node.otherwise)
   return function(f)
      if truth(test(f)) then return value(f) end
      return otherwise(f)
   end
end

function nodes.compare(node)
   local first, operands, n = compile(node.first), compile_all(node.operands)
   local operators = {}
   for i = 1, n do operators[i] = values.compare[node.operators[i]] end
   local right, constant = operands[1], node.operands[1]
   if n == 1 and constant.type == "constant" and type(constant.value) == "string"
      and (node.operators[1] == "eq" or node.operators[1] == "ne") then
      local text, wanted = constant.value, node.operators[1] == "eq"
      return function(f)
         local v = first(f)
         if type(v) == "string" then return (v == text) == wanted end
         return eq(v, text) == wanted
      end
   end
   if n == 1 then
      local operator = operators[1]
      return function(f)
         local v = first(f)
         return operator(v, right(f))
      end
   end
   return function(f)
      local v = first(f)
      for i = 1, n do
         local w = operands[i](f)
         if not operators[i](v, w) then return false end
         v = w
      end
      return true
   end
end

function nodes.binary(node)
   local operator, left, right = arithmetic[node.operator], compile(node.left), compile(node.right)
   return function(f)
      local v = left(f)
      return operator(v, right(f))
   end
end

function nodes.unary(node)
   local operator, value = arithmetic[node.operator], compile(node.value)
   return function(f) return operator(value(f)) end
end

function nodes.concat(node)
   local parts, n = compile_all(node.parts)
   return function(f)
      local out = {}
      for i = 1, n do out[i] = parts[i](f) end
      return arithmetic.concat(out, n)
   end
end

-- Attributes, items ---------------------------------------------------------------------------------------------------

function nodes.attribute(node)
   local object, name = compile(node.object), node.name
   local absent = values.undefined(("'dict object' has no attribute '%s'"):format(name))
   local is_method = methods.is_dict_method(name)
   return function(f)
      local v = object(f)
      if type(v) == "table" and not is_method and getmetatable(v).kind == "dict" then
         local found = v[name]
         if found == nil then return absent end
         return found
      end
      local found = attributes.attribute(v, name)
      if found == nil then return attributes.missing(v, name) end
      return found
   end
end

function nodes.item(node)
   local object, key = compile(node.object), compile(node.key)
   return function(f)
      local v, k = object(f), key(f)
      local found
      if type(k) == "string" and type(v) == "table" and getmetatable(v).kind == "dict" then found = v[k] end
      if found == nil then found = attributes.item(v, k) end
      if found == nil then return attributes.missing(v, k) end
      return found
   end
end

local function nothing() end

function nodes.slice(node)
   local object = compile(node.object)
   local first, last = node.first and compile(node.first) or nothing, node.last and compile(node.last) or nothing
   local step = node.step and compile(node.step) or nothing
   return function(f)
      local v = object(f)
      local found = values.slice(v, first(f), last(f), step(f))
      if found == nil then return values.undefined(("'%s object' has no slices"):format(values.type_name(v))) end
      return found
   end
end

-- Calls ---------------------------------------------------------------------------------------------------------------

-- Arguments as a function of the frame: list, how many, names and values of keyword arguments.
local function arguments(node)
   local args, n = compile_all(node.args)
   local named, names = compile_all(node.named), node.names
   local star, starstar = node.star and compile(node.star), node.starstar and compile(node.starstar)
   if #named == 0 and not star and not starstar then
      return function(f)
         local out = {}
         for i = 1, n do out[i] = args[i](f) end
         return out, n
      end
   end
   return function(f)
      local out, m, all_names, all = {}, n, {}, {}
      for i = 1, n do out[i] = args[i](f) end
      if star then
         for _, v in ipairs(values.elements(star(f))) do
            m = m + 1
            out[m] = v
         end
      end
      for i, name in ipairs(names) do all_names[i], all[name] = name, named[i](f) end
      if starstar then
         local more = starstar(f)
         if values.kind(more) ~= "dict" then fail "the argument after ** must be a mapping" end
         for _, key in ipairs(values.shown_keys(more)) do
            if type(key) ~= "string" then fail "keywords must be strings" end
            if all[key] ~= nil then fail("got multiple values for keyword argument '%s'", key) end
            all_names[#all_names + 1], all[key] = key, more[key]
         end
      end
      return out, m, all_names, all
   end
end
M.arguments = arguments

local function is_plain(node) return #node.named == 0 and not node.star and not node.starstar and #node.args <= 2 end

-- A call of something described, behind a value: filters, tests. `find` gives it for a missing one.
local function applied(kinds, what)
   return function(node)
      local entry, name, value = kinds[node.name], node.name, compile(node.value)
      if not entry then
         return function() fail("no %s named '%s'", what, name) end
      end
      local n = #node.args
      if is_plain(node) and not entry.raw and n >= entry.min and n <= entry.max then
         local fn, args = entry.fn, compile_all(node.args)
         local first, second = args[1], args[2]
         local function subject(f)
            local v = value(f)
            call.pay(v)
            return v
         end
         if n == 0 then return function(f) return fn(subject(f)) end end
         if n == 1 then
            return function(f)
               local v = subject(f)
               return fn(v, first(f))
            end
         end
         return function(f)
            local v, a = subject(f), first(f)
            return fn(v, a, second(f))
         end
      end
      local collect = arguments(node)
      return function(f)
         local v = value(f)
         return call.invoke(entry, name, v, collect(f))
      end
   end
end
nodes.filter, nodes.test = applied(filters, "filter"), applied(tests, "test")

-- object.name(...): the method is called without a value being made of it.
local function method_call(node)
   local object, name = compile(node.callee.object), node.callee.name
   local collect, plain, n = arguments(node), is_plain(node), #node.args
   local args = compile_all(node.args)
   local first, second = args[1] or nothing, args[2] or nothing
   return function(f)
      local v = object(f)
      local entry = methods.find(v, name)
      values.charge(1)
      if entry then
         if plain and not entry.raw and n >= entry.min and n <= entry.max then
            local a = first(f)
            call.pay(v)
            return entry.fn(v, a, second(f))
         end
         return call.invoke(entry, name, v, collect(f))
      end
      local callee = attributes.attribute(v, name)
      if callee == nil then callee = attributes.missing(v, name) end
      return call.value(callee, collect(f))
   end
end

function nodes.call(node)
   if node.callee.type == "attribute" then return method_call(node) end
   local callee, collect = compile(node.callee), arguments(node)
   return function(f)
      local v = callee(f)
      values.charge(1)
      return call.value(v, collect(f))
   end
end

M.places = places

return M
