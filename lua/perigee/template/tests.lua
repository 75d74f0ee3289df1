--- Tests: what may follow `is`.
--
-- Source: Jinja's documentation, "List of Builtin Tests".
-- @module perigee.template.tests
-- @local
local call = require "perigee.template.call"
local json = require "perigee.json"
local values = require "perigee.template.values"

local define, kind = call.define, values.kind
local compare = values.compare

local M = {}

local function of_kind(...)
   local kinds = {}
   for _, name in ipairs { ... } do kinds[name] = true end
   return define("", function(v) return kinds[kind(v)] == true end)
end

M.none = of_kind "none"
M.boolean = of_kind "bool"
M.integer = of_kind "int"
M.float = of_kind "float"
M.number = of_kind("int", "float", "bool")
M.string = of_kind("str", "markup")
M.mapping = of_kind "dict"
M.sequence = of_kind("str", "markup", "list", "tuple", "range", "dict", "undefined")
M.iterable = of_kind("str", "markup", "list", "tuple", "range", "dict", "undefined", "view", "generator", "loop")
M.callable = of_kind("function", "macro", "loop", "undefined")
M.escaped = of_kind "markup"
M.undefined = of_kind "undefined"
M.defined = define("", function(v) return kind(v) ~= "undefined" end)
M["true"] = define("", function(v) return v == true end)
M["false"] = define("", function(v) return v == false end)

local function divides(v, n)
   local x, y = values.numeric(v), values.numeric(n)
   if not x or not y then
      values.refuse_undefined(v)
      values.fail("unsupported operand type(s) for %%: '%s' and '%s'", values.type_name(v), values.type_name(n))
   end
   if y == 0 then values.fail "modulo by zero" end
   return x % y
end
M.odd = define("", function(v) return divides(v, 2) == 1 end)
M.even = define("", function(v) return divides(v, 2) == 0 end)
M.divisibleby = define("num", function(v, n) return divides(v, n) == 0 end)

local function cased(which)
   local strings = require "perigee.template.strings"
   return define("", function(v) return strings.str[which].fn(values.str(v)) end)
end
M.lower, M.upper = cased "islower", cased "isupper"

for name, operator in pairs { eq = "eq", equalto = "eq", ["=="] = "eq", ne = "ne", ["!="] = "ne", lt = "lt",
   lessthan = "lt", ["<"] = "lt", le = "le", ["<="] = "le", gt = "gt", greaterthan = "gt", [">"] = "gt", ge = "ge",
   [">="] = "ge" } do
   M[name] = define("other", compare[operator])
end
M["in"] = define("seq", function(v, container) return values.contains(container, v) end)
M.sameas = define("other", function(v, other)
   if json.is_float(v) and json.is_float(other) then return v.value == other.value end
   return rawequal(v, other)
end)

M.filter = define("", function(v) return require "perigee.template.filters"[v] ~= nil end)
M.test = define("", function(v) return M[v] ~= nil end)

return M
