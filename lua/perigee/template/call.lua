--- Calling what is built in: filters, tests, methods and functions written in Lua, with Python's rules for arguments.
-- @module perigee.template.call
-- @local
local values = require "perigee.template.values"

local fail = values.fail

local M = {}

--- Describe a function: the names of its parameters behind the first (the value a filter is applied to, the object of a
-- method), those with "?" may be left out and are nil then. At most six. "..." takes whatever comes:
-- fn(value, args, n, names, named).
-- @tparam string parameters
-- @tparam function fn
-- @treturn table
function M.define(parameters, fn)
   local entry = { fn = fn, names = {}, min = 0, raw = parameters == "..." }
   if entry.raw then
      entry.max = math.huge
      return entry
   end
   for name, optional in parameters:gmatch "([%a_]+)(%??)" do
      entry.names[#entry.names + 1] = name
      if optional == "" then entry.min = #entry.names end
   end
   entry.max = #entry.names
   return entry
end

--- Spend what any function may take to go through the text that it is applied to; those that take more say so.
function M.pay(value)
   local s = values.string_of(value)
   if s then values.charge(#s / 64) end
end

local function position(list, name)
   for i = 1, #list do
      if list[i] == name then return i end
   end
end

--- Call a described function.
-- @tparam table entry
-- @tparam string title its name, for messages
-- @param value its first argument
-- @tparam table args positional arguments
-- @tparam number n how many
-- @tparam ?{string,...} names of keyword arguments
-- @tparam ?table named their values, by name
function M.invoke(entry, title, value, args, n, names, named)
   M.pay(value)
   if entry.raw then return entry.fn(value, args, n, names, named) end
   if n > entry.max then fail("%s() takes at most %d arguments, %d are given", title, entry.max, n) end
   if names and #names > 0 then
      if entry.positional then fail("%s() takes no keyword arguments", title) end
      local all = {}
      for i = 1, n do all[i] = args[i] end
      for _, name in ipairs(names) do
         local i = position(entry.names, name)
         if not i then fail("%s() got an unexpected keyword argument '%s'", title, name) end
         if all[i] ~= nil then fail("%s() got multiple values for argument '%s'", title, name) end
         all[i] = named[name]
      end
      args = all
   end
   for i = n + 1, entry.min do
      if args[i] == nil then fail("%s() misses its argument '%s'", title, entry.names[i]) end
   end
   return entry.fn(value, args[1], args[2], args[3], args[4], args[5], args[6])
end

--- Call a value of the template.
-- @param v
-- @tparam table args
-- @tparam number n
-- @tparam ?{string,...} names
-- @tparam ?table named
function M.value(v, args, n, names, named)
   local kind = values.kind(v)
   if kind == "function" or kind == "macro" then return v.call(args, n, names, named) end
   if kind == "loop" then return v.recurse(args, n) end
   values.refuse_undefined(v)
   fail("'%s' object is not callable", values.type_name(v))
end

return M
