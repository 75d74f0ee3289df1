--- A tree to closures: statements. Expressions are in evaluate.lua, which also says what a frame is.
--
-- A statement is a function of the frame that returns nothing, or BREAK or CONTINUE to the loop around. What is printed
-- goes to the rendering's list of pieces, s.out; blocks that are captured get a list of their own meanwhile.
-- @module perigee.template.compile
-- @local
local attributes = require "perigee.template.attributes"
local evaluate = require "perigee.template.evaluate"
local call = require "perigee.template.call"
local values = require "perigee.template.values"

local fail, truth, charge, str = values.fail, values.truth, values.charge, values.str
local compile, type = evaluate.compile, type

local MAX_DEPTH = 200              -- calls of macros and recursive loops within each other
local BREAK, CONTINUE = "break", "continue"

local statements = {}

local function emit(s, text)
   local n, size = s.n + 1, s.size + #text
   s.n, s.size, s.out[n] = n, size, text
   if size > s.max_size then
      error({ message = ("the output is longer than %.0f bytes"):format(s.max_size), code = "limit" }, 0)
   end
end

local function body(list)
   local all, n = {}, #list
   for i, node in ipairs(list) do all[i] = statements[node.type](node) end
   if n == 0 then return function() end end
   if n == 1 then return all[1] end
   if n == 2 then
      local first, second = all[1], all[2]
      return function(f)
         local signal = first(f)
         if signal then return signal end
         return second(f)
      end
   end
   return function(f)
      for i = 1, n do
         local signal = all[i](f)
         if signal then return signal end
      end
   end
end

-- Run a body and take what it prints: text, signal.
local function capture(f, run)
   local s = f.s
   local out, n = s.out, s.n
   s.out, s.n = {}, 0
   local signal = run(f)
   local text = table.concat(s.out, "", 1, s.n)
   charge(1 + #text / 64)
   s.out, s.n = out, n
   return text, signal
end

-- Registers that a scope sets, but for some names.
local function registers_but(scope, kept)
   local list = {}
   for name, register in pairs(scope.names) do
      if not kept[name] then list[#list + 1] = register end
   end
   table.sort(list)
   return list, #list
end

local function clearing(scope, run)
   local list, n = registers_but(scope, {})
   if n == 0 then return run end
   return function(f)
      for i = 1, n do f[list[i]] = nil end
      return run(f)
   end
end

-- Store a value in a target: function(f, v).
local function assign(target, scope)
   if target.type == "name" then
      local register = scope.names[target.name]
      return function(f, v) f[register] = v end
   end
   local items, n = {}, #target.items
   for i, item in ipairs(target.items) do items[i] = assign(item, scope) end
   return function(f, v)
      local list = values.elements(v)
      if #list ~= n then fail("cannot unpack %d values into %d names", #list, n) end
      for i = 1, n do items[i](f, list[i]) end
   end
end

function statements.text(node)
   local text = node.text
   return function(f) emit(f.s, text) end
end

function statements.output(node)
   local value, line = compile(node.value), node.line
   return function(f)
      local s = f.s
      s.line = line
      local v = value(f)
      if type(v) ~= "string" then v = str(v) end
      emit(s, v)
   end
end

statements["if"] = function(node)
   local tests, bodies, n, line = {}, {}, #node.tests, node.line
   for i = 1, n do tests[i], bodies[i] = compile(node.tests[i]), body(node.bodies[i]) end
   local otherwise = node.otherwise and body(node.otherwise)
   local test, run = tests[1], bodies[1]
   if n == 1 then
      return function(f)
         f.s.line = line
         if truth(test(f)) then return run(f) end
         if otherwise then return otherwise(f) end
      end
   end
   return function(f)
      f.s.line = line
      for i = 1, n do
         if truth(tests[i](f)) then return bodies[i](f) end
      end
      if otherwise then return otherwise(f) end
   end
end

-- Elements that pass a loop's `if`.
local function chosen(f, list, test, target)
   local out = {}
   charge(#list)
   for i = 1, #list do
      target(f, list[i])
      if truth(test(f)) then out[#out + 1] = list[i] end
   end
   return out
end

-- The part of a loop behind its list: function(f, list, depth, recurse).
local function walk(node)
   local scope = node.scope
   local kept = { loop = true }
   local clear, n_clear = registers_but(scope, kept)
   local target, run = assign(node.target, scope), body(node.body)
   local loop_register = scope.uses_loop and scope.names.loop
   local otherwise = node.otherwise and clearing(node.else_scope, body(node.otherwise))
   return function(f, list, depth, recurse)
      local n = #list
      if n == 0 then return otherwise and otherwise(f) end
      local loop = loop_register and attributes.loop(list, n, depth, recurse)
      for i = 1, n do
         charge(1)
         for k = 1, n_clear do f[clear[k]] = nil end
         if loop then
            loop.i = i
            f[loop_register] = loop
         end
         target(f, list[i])
         local signal = run(f)
         if signal == BREAK then break end
      end
   end
end

local function not_recursive() fail "the loop must have the word 'recursive' to be called" end

statements["for"] = function(node)
   local iterable, line, loop = compile(node.iterable), node.line, walk(node)
   local test = node.test and compile(node.test)
   local test_target = test and assign(node.target, node.test_scope)
   local function list_of(f, v)
      local list = values.elements(v)
      return test and chosen(f, list, test, test_target) or list
   end
   if not node.recursive then
      return function(f)
         f.s.line = line
         loop(f, list_of(f, iterable(f)), 1, not_recursive)
      end
   end
   local function enter(f, v, depth)
      if depth > MAX_DEPTH then fail("loops within each other more than %d times", MAX_DEPTH) end
      local inner = { s = f.s, up = f }
      loop(inner, list_of(f, v), depth, function(args, n)
         if n ~= 1 then fail "loop() takes one argument" end
         return (capture(f, function() enter(f, args[1], depth + 1) end))
      end)
   end
   return function(f)
      f.s.line = line
      enter(f, iterable(f), 1)
   end
end

statements["break"] = function() return function() return BREAK end end
statements["continue"] = function() return function() return CONTINUE end end

-- A body whose text is captured, goes through filters, and is handed on.
local function captured(node, scope)
   local run, filters = clearing(scope, body(node.body)), compile(node.filters)
   return function(f)
      local text, signal = capture(f, run)
      f.s.captured = text
      return filters(f), signal
   end
end

local function value_of(node)
   return node.value and compile(node.value) or captured(node, node.scope_of_body)
end

function statements.set(node)
   local value, target, line = value_of(node), assign(node.target, node.scope), node.line
   return function(f)
      f.s.line = line
      local v, signal = value(f)
      target(f, v)
      return signal
   end
end

function statements.set_attribute(node)
   local object, value, name, line = compile(node.object), value_of(node), node.name, node.line
   return function(f)
      f.s.line = line
      local v, signal = value(f)
      local target = object(f)
      if values.kind(target) ~= "namespace" then fail "cannot assign attribute on non-namespace object" end
      if name:sub(1, 1) == "_" then fail("a namespace cannot hold '%s'", name) end
      values.dict_set(target.fields, name, v)
      return signal
   end
end

function statements.filter_block(node)
   local value, line = captured(node, node.scope), node.line
   return function(f)
      f.s.line = line
      local v, signal = value(f)
      emit(f.s, str(v))
      return signal
   end
end

function statements.with(node)
   local items, n, scope = {}, #node.targets, node.scope
   local run, clear, n_clear = body(node.body), registers_but(scope, {})
   for i = 1, n do items[i] = { compile(node.values[i]), assign(node.targets[i], scope) } end
   return function(f)
      local given = {}
      for i = 1, n do given[i] = items[i][1](f) end
      for i = 1, n_clear do f[clear[i]] = nil end
      for i = 1, n do items[i][2](f, given[i]) end
      return run(f)
   end
end

statements["raise"] = function(node)
   local message, line = node.message, node.line
   return function(f)
      f.s.line = line
      fail("%s", message)
   end
end

-- Macros --------------------------------------------------------------------------------------------------------------

local MACRO = { kind = "macro" }

-- Put keyword arguments into the frame of a call; those that are no parameters are returned: dict, first name.
local function take_named(node, inner, by_name, names, named)
   local others, first
   for _, name in ipairs(names) do
      local register = by_name[name]
      if register then
         if inner[register] ~= nil then fail("macro '%s' got two values for the argument '%s'", node.name, name) end
         inner[register] = named[name]
      elseif name == "caller" and node.caller then
         inner[node.caller] = named[name]
      else
         others, first = others or values.dict(), first or name
         values.dict_set(others, name, named[name])
      end
   end
   return others, first
end

-- function(f) that makes the macro, closed over its frame.
local function macro(node)
   local run, parameters, n_parameters = body(node.body), node.parameters, #node.parameters
   local by_name, defaults, missing = {}, {}, {}
   for i, parameter in ipairs(parameters) do
      by_name[parameter.name] = parameter.register
      defaults[i] = parameter.default and compile(parameter.default)
      missing[i] = values.undefined(("parameter '%s' was not provided"):format(parameter.name))
   end
   local no_caller = values.undefined "no caller defined"
   local function bind(inner, args, n, names, named)
      for i = 1, math.min(n, n_parameters) do inner[parameters[i].register] = args[i] end
      local others, first
      if names and #names > 0 then others, first = take_named(node, inner, by_name, names, named) end
      if node.varargs then
         local rest = {}
         for i = n_parameters + 1, n do rest[#rest + 1] = args[i] end
         inner[node.varargs] = values.tuple(rest)
      elseif n > n_parameters then
         fail("macro '%s' takes not more than %d argument(s)", node.name, n_parameters)
      end
      if node.kwargs then
         inner[node.kwargs] = others or values.dict()
      elseif others then
         fail("macro '%s' takes no keyword argument '%s'", node.name, first)
      end
      if node.caller and inner[node.caller] == nil then inner[node.caller] = no_caller end
      for i = 1, n_parameters do
         local register = parameters[i].register
         if inner[register] == nil then inner[register] = defaults[i] and defaults[i](inner) or missing[i] end
      end
   end
   return function(f)
      return setmetatable({ name = node.name, call = function(args, n, names, named)
         local s = f.s
         local inner, depth = { s = s, up = f }, s.depth + 1
         if depth > MAX_DEPTH then fail("calls within each other more than %d times", MAX_DEPTH) end
         charge(4)
         s.depth = depth
         bind(inner, args, n, names, named)
         local text = capture(inner, run)
         s.depth = depth - 1
         return text
      end }, MACRO)
   end
end

function statements.macro(node)
   local make, register = macro(node), node.register
   return function(f) f[register] = make(f) end
end

function statements.call_block(node)
   local make, callee, collect, line = macro(node), compile(node.call.callee), evaluate.arguments(node.call), node.line
   return function(f)
      f.s.line = line
      local v = callee(f)
      local args, n, names, named = collect(f)
      names, named = names or {}, named or {}
      names[#names + 1], named.caller = "caller", make(f)
      emit(f.s, str(call.value(v, args, n, names, named)))
   end
end

--- Compile a template's tree.
-- @tparam table tree as parse.lua makes it
-- @treturn function of the frame
return function(tree) return body(tree.body) end
