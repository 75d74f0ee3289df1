--- Calculating with values of templates, by Python's rules: int and float stay apart, // and % round down, strings and
-- lists can be added and repeated.
--
-- Integers are exact up to 2^53; a result beyond is an error, not another number. (Longer ones come from JSON and
-- literals, are carried, printed and compared.)
-- @module perigee.template.arithmetic
-- @local
local json = require "perigee.json"
local format = require "perigee.template.format"
local values = require "perigee.template.values"

local fail, numeric, string_of, float = values.fail, values.numeric, values.string_of, json.float
local floor, type = math.floor, type

local M = {}

local EXACT = 2 ^ 53

local function is_int(v)
   local t = type(v)
   return t == "boolean" or t == "number" and v % 1 == 0 or t == "table"
end

local function whole(x)
   if x > EXACT or x < -EXACT or x ~= x then fail "an integer beyond 2^53 cannot be calculated" end
   return x + 0 == 0 and 0 or x
end

-- Two operands as Lua numbers, and whether both are ints; raises when they are none.
local function both(a, b, operator)
   local x, y = numeric(a), numeric(b)
   if not x or not y then
      values.refuse_undefined(a)
      values.refuse_undefined(b)
      fail("unsupported operand type(s) for %s: '%s' and '%s'", operator, values.type_name(a), values.type_name(b))
   end
   local ints = is_int(a) and is_int(b)
   if ints and (type(a) == "table" or type(b) == "table") then whole(math.huge) end
   return x, y, ints
end

local function joined(a, b, make)
   local out, n = {}, #a
   values.check_length(n + #b)
   for i = 1, n do out[i] = a[i] end
   for i = 1, #b do out[n + i] = b[i] end
   return make(out)
end

function M.add(a, b)
   if type(a) == "string" and type(b) == "string" then
      values.check_size(#a + #b)
      return a .. b
   end
   local left, right = string_of(a), string_of(b)
   if left and right then return format.add_markup(a, b) end
   if left and not values.is_undefined(b) then
      fail('can only concatenate str (not "%s") to str', values.type_name(b))
   end
   local kind = values.kind(a)
   if kind == values.kind(b) then
      if kind == "list" then return joined(a, b, values.list) end
      if kind == "tuple" then return joined(a, b, values.tuple) end
   end
   local x, y, ints = both(a, b, "+")
   return ints and whole(x + y) or float(x + y)
end

function M.sub(a, b)
   local x, y, ints = both(a, b, "-")
   return ints and whole(x - y) or float(x - y)
end

local function repeated(v, times, kind)
   if kind == "str" then
      local s = string_of(v)
      values.check_size(#s * math.max(times, 0))
      return s:rep(times)
   end
   local out, n = {}, #v
   values.check_length(n * math.max(times, 0))
   for i = 0, n * times - 1 do out[i + 1] = v[i % n + 1] end
   return kind == "list" and values.list(out) or values.tuple(out)
end

local REPEATED = { str = true, list = true, tuple = true }

function M.mul(a, b)
   local left, right = string_of(a) and "str" or values.kind(a), string_of(b) and "str" or values.kind(b)
   if REPEATED[left] and (right == "int" or right == "bool") then return repeated(a, numeric(b), left) end
   if REPEATED[right] and (left == "int" or left == "bool") then return repeated(b, numeric(a), right) end
   local x, y, ints = both(a, b, "*")
   return ints and whole(x * y) or float(x * y)
end

function M.div(a, b)
   local x, y = both(a, b, "/")
   if y == 0 then fail "division by zero" end
   return float(x / y)
end

function M.floordiv(a, b)
   local x, y, ints = both(a, b, "//")
   if y == 0 then fail "integer division or modulo by zero" end
   return ints and whole(floor(x / y)) or float(floor(x / y))
end

function M.mod(a, b)
   local s = string_of(a)
   if s then return format.percent(s, b) end
   local x, y, ints = both(a, b, "%")
   if y == 0 then fail "modulo by zero" end
   local rest = math.fmod(x, y)                -- exact, unlike x - floor(x / y) * y
   if rest ~= 0 and (rest < 0) ~= (y < 0) then rest = rest + y end
   return ints and whole(rest) or float(rest)
end

function M.pow(a, b)
   local x, y, ints = both(a, b, "**")
   if x == 0 and y < 0 then fail "0.0 cannot be raised to a negative power" end
   if x < 0 and y % 1 ~= 0 then fail "a negative number has no such power" end
   return ints and y >= 0 and whole(x ^ y) or float(x ^ y)
end

function M.neg(v)
   if type(v) == "table" and getmetatable(v) == json.INTEGER then
      return json.integer(v.digits:sub(1, 1) == "-" and v.digits:sub(2) or "-" .. v.digits)
   end
   local x = numeric(v)
   if not x then
      values.refuse_undefined(v)
      fail("bad operand type for unary -: '%s'", values.type_name(v))
   end
   return is_int(v) and whole(-x) or float(-x)
end

function M.pos(v)
   if not numeric(v) then
      values.refuse_undefined(v)
      fail("bad operand type for unary +: '%s'", values.type_name(v))
   end
   return type(v) == "boolean" and numeric(v) or v
end

--- a ~ b: both as text.
function M.concat(parts, n)
   local total = 0
   for i = 1, n do
      local part = values.str(parts[i])
      parts[i], total = part, total + #part
   end
   values.check_size(total)
   return table.concat(parts, "", 1, n)
end

return M
