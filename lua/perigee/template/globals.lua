--- Functions that every template sees.
-- @module perigee.template.globals
-- @local
local attributes = require "perigee.template.attributes"
local call = require "perigee.template.call"
local clock = require "perigee.template.clock"
local methods = require "perigee.template.methods"
local strings = require "perigee.template.strings"
local values = require "perigee.template.values"

local fail, func = values.fail, values.func

local MAX_RANGE = 100000           -- what Jinja's sandbox allows

local functions = {}
local M = { functions = functions }

local function described(name, parameters, fn)
   local entry = call.define(parameters, function(_, ...) return fn(...) end)
   functions[name] = func(name, function(args, n, names, named)
      return call.invoke(entry, name, nil, args, n, names, named)
   end)
end

described("range", "start stop? step?", function(start, stop, step)
   start, stop, step = strings.need_int(start), strings.need_int(stop), strings.need_int(step, 1)
   if not stop then start, stop = 0, start end
   if step == 0 then fail "range() arg 3 must not be zero" end
   local n = math.max(0, math.ceil((stop - start) / step))
   if n > MAX_RANGE then fail("range too big: %.0f elements, at most %d", n, MAX_RANGE) end
   values.check_length(n)
   local out = {}
   for i = 1, n do out[i] = start + (i - 1) * step end
   return values.range(out, start, stop, step)
end)

-- What dict() and namespace() make of their arguments: mappings and pairs, then names.
local function filled(title, args, n, names, named)
   local out = values.dict()
   if n > 1 then fail("%s expected at most 1 argument, got %d", title, n) end
   if n == 1 then values.refuse_undefined(args[1]) end
   if n == 1 and values.kind(args[1]) == "dict" then
      out = methods.copy_of(args[1])
   elseif n == 1 then
      for _, pair in ipairs(values.elements(args[1])) do
         local two = values.elements(pair)
         if #two ~= 2 then fail("%s: an element has %d parts instead of a key and a value", title, #two) end
         values.dict_set(out, two[1], two[2])
      end
   end
   for _, name in ipairs(names or {}) do values.dict_set(out, name, named[name]) end
   return out
end

functions.dict = func("dict", function(...) return filled("dict", ...) end)
functions.namespace = func("namespace", function(...)
   local fields = filled("namespace", ...)
   for _, key in ipairs((values.dict_keys(fields))) do
      if type(key) == "string" and key:sub(1, 1) == "_" then
         fail("a namespace cannot hold '%s': names with an underscore in front are not for templates", key)
      end
   end
   return values.namespace(fields)
end)

described("raise_exception", "message", function(message)
   error({ message = values.str(message), raised = true }, 0)
end)

local now

--- Set what strftime_now tells.
-- @tparam ?string time "YYYY-MM-DDTHH:MM:SS"; nil: the present, local time
function M.set_now(time) now = time end

described("strftime_now", "format", function(format)
   return clock.format(strings.need_text(format, "strftime_now argument"), now)
end)

functions.cycler = func("cycler", function(args, n)
   if n == 0 then fail "cycler: at least one item has to be provided" end
   local items = {}
   for i = 1, n do items[i] = args[i] end
   return attributes.cycler(items, n)
end)

described("joiner", "sep?", function(sep)
   local used = false
   return func("joiner", function()
      if used then return sep == nil and ", " or sep end
      used = true
      return ""
   end)
end)

functions.lipsum = func("lipsum", function() fail "lipsum() is not available" end)
functions.self = values.namespace(values.dict())

return M
