--- Formatted text: the operator %, str.format, and strings marked as safe.
--
-- A marked string (filters `safe` and `escape`) is what Markup is to Jinja: it prints as it is, and text added to it is
-- escaped.
-- @module perigee.template.format
-- @local
local ffi = require "ffi"
local json = require "perigee.json"
local text = require "perigee.template.text"
local utf8 = require "perigee.utf8"
local values = require "perigee.template.values"

local fail, string_of = values.fail, values.string_of

-- LuaJIT's own %f rounds halves up; C's, as Python's, looks at what the number exactly is.
if not pcall(function() return ffi.C.snprintf end) then
   ffi.cdef "int snprintf(char *to, size_t size, const char *format, ...);"
end

local M = {}

local MARKUP = { kind = "markup" }
local buffer = ffi.new "char[512]"          -- 309 digits, a point and 100 more fit
local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&#34;", ["'"] = "&#39;" }

--- Mark a string as safe.
function M.markup(s) return setmetatable({ text = s }, MARKUP) end

--- A value as text for HTML; marked strings stay.
function M.escape(v)
   if type(v) == "table" and getmetatable(v) == MARKUP then return v.text end
   local s = values.str(v)
   values.check_size(#s)
   return (s:gsub("[&<>\"']", ENTITIES))
end

--- a + b where one of two strings is marked: the other is escaped.
function M.add_markup(a, b)
   local left, right = M.escape(a), M.escape(b)
   values.check_size(#left + #right)
   return M.markup(left .. right)
end

--- Fill up to a width of characters; align is "<", ">", "^" or "=" (behind the sign).
function M.pad(s, width, align, fill)
   local missing = width - text.length(s)
   if missing <= 0 then return s end
   values.check_size(#s + missing * #fill)
   if align == "<" then return s .. fill:rep(missing) end
   if align == "^" then
      local left = math.floor(missing / 2)
      return fill:rep(left) .. s .. fill:rep(missing - left)
   end
   local sign, rest = "", s
   if align == "=" then sign, rest = s:match "^([-+ ]?)(.*)$" end
   return sign .. fill:rep(missing) .. rest
end

local function need_number(v, what)
   local x = values.numeric(v)
   if not x then
      values.refuse_undefined(v)
      fail("%s: a number is required, not %s", what, values.type_name(v))
   end
   return x
end

local function truncated(x) return x < 0 and math.ceil(x) or math.floor(x) end

-- An integer in base 8, 16 or 2, without a sign.
local function based(x, base)
   if base == 2 then
      local bits = ""
      repeat
         bits = x % 2 .. bits
         x = math.floor(x / 2)
      until x == 0
      return bits
   end
   return (base == 8 and "%o" or "%x"):format(x)
end

local function grouped(digits, mark)
   local head, tail = digits:match "^(%d+)(.*)$"
   if not head then return digits end
   head = head:reverse():gsub("%d%d%d", "%0" .. mark):reverse()
   if head:sub(1, 1) == mark then head = head:sub(2) end
   return head .. tail
end

local function integer_digits(v, conversion)
   if conversion == "d" and type(v) == "table" then return (v.digits:gsub("^%-", "")) end
   local x = math.abs(truncated(need_number(v, "%" .. conversion)))
   if conversion == "d" then return ("%.0f"):format(x) end
   if conversion == "X" then return based(x, 16):upper() end
   return based(x, conversion == "x" and 16 or conversion == "o" and 8 or 2)
end

-- A float in one of C's conversions, without a sign.
local function float_digits(x, conversion, precision)
   if precision > 100 then fail("a precision of %d digits is too much", precision) end
   x = math.abs(x)
   if x ~= x or x == math.huge then return x ~= x and "nan" or "inf" end
   local n = ffi.C.snprintf(buffer, 512, "%." .. precision .. conversion, ffi.cast("double", x))
   return ffi.string(buffer, n)
end

--- A number with so many digits behind the point.
function M.fixed(x, precision) return (x < 0 and "-" or "") .. float_digits(x, "f", precision) end

local function sign_of(x, plus)
   if x < 0 or x == 0 and 1 / x < 0 then return "-" end
   return plus == "-" and "" or plus
end

-- The operator % ------------------------------------------------------------------------------------------------------

local function percent_one(v, flags, precision, conversion)
   if conversion == "s" or conversion == "r" or conversion == "a" then
      local s = conversion == "s" and values.str(v) or values.repr(v)
      return precision and text.sub(s, 1, math.min(precision, text.length(s))) or s
   end
   if conversion == "c" then
      local s = string_of(v)
      return s and text.length(s) == 1 and s or utf8.char(need_number(v, "%c") % 0x110000)
   end
   local plus = flags:find("+", 1, true) and "+" or flags:find(" ", 1, true) and " " or "-"
   local x = need_number(v, "%" .. conversion .. " format")
   if conversion:find "[diuxXo]" then
      conversion = conversion:find "[diu]" and "d" or conversion
      local digits = integer_digits(v, conversion)
      if precision and precision <= 100 then digits = ("0"):rep(precision - #digits) .. digits end
      if flags:find("#", 1, true) and conversion ~= "d" then
         digits = (conversion == "o" and "0o" or "0" .. conversion) .. digits
      end
      return (x <= -1 and "-" or plus == "-" and "" or plus) .. digits
   end
   return sign_of(x, plus) .. float_digits(x, conversion, precision or 6)
end

-- What may be left over: Python takes these for mappings.
local INDEXED = { dict = true, list = true, range = true, undefined = true }

--- format % v, v a tuple of values, a dict for %(name)s, or one value.
function M.percent(format, v)
   local kind = values.kind(v)
   local arguments = kind == "tuple" and v or { v }
   local out, from, used, mapped = {}, 1, 0, false
   local function star(number)
      if number ~= "*" then return tonumber(number) end
      used = used + 1
      if arguments[used] == nil then fail "not enough arguments for format string" end
      return need_number(arguments[used], "* format")
   end
   while true do
      local at = format:find("%", from, true)
      if not at then break end
      out[#out + 1] = format:sub(from, at - 1)
      local name, flags, width, dot, conversion, behind = nil, format:match("^([-#0 +]*)([%d*]*)(%.?[%d*]*)[hlL]?(.)()",
         at + 1)
      if conversion == "(" then
         name, behind = format:match("^%(([^)]*)%)()", at + 1)
         if not name then fail "incomplete format key" end
         flags, width, dot, conversion, behind = format:match("^([-#0 +]*)([%d*]*)(%.?[%d*]*)[hlL]?(.)()", behind)
      end
      if not conversion then fail "incomplete format" end
      if conversion == "%" then
         out[#out + 1] = "%"
      elseif not conversion:find "[sradiuxXoeEfFgGc]" then
         fail("unsupported format character '%s'", conversion)
      else
         width = star(width)
         local precision = dot ~= "" and (star(dot:sub(2)) or 0) or nil
         local value
         if name then
            if kind ~= "dict" then fail "format requires a mapping" end
            value, mapped = v[name], true
            if value == nil then fail("the format's key '%s' is not there", name) end
         else
            used = used + 1
            value = arguments[used]
            if value == nil then fail "not enough arguments for format string" end
         end
         local piece = percent_one(value, flags, precision, conversion)
         local left = flags:find("-", 1, true)
         local zero = flags:find("0", 1, true) and not left and not conversion:find "[src]"
         if width then piece = M.pad(piece, width, left and "<" or zero and "=" or ">", zero and "0" or " ") end
         out[#out + 1] = piece
      end
      from = behind
   end
   if used < #arguments and not mapped and not INDEXED[kind] then
      fail "not all arguments converted during string formatting"
   end
   out[#out + 1] = format:sub(from)
   local total = 0
   for _, piece in ipairs(out) do total = total + #piece end
   values.check_size(total)
   return table.concat(out)
end

-- str.format ----------------------------------------------------------------------------------------------------------

local function spec_parts(spec)
   local fill, align, rest = spec:match "^([%z\1-\127\194-\244][\128-\191]*)([<>=^])(.*)$"
   if not fill then
      align, rest = spec:match "^([<>=^])(.*)$"
      rest = rest or spec
   end
   local sign, alternate, zero, width, comma, precision, conversion, left =
      rest:match "^([-+ ]?)(#?)(0?)(%d*)([,_]?)(%.?%d*)([%a%%]?)(.*)$"
   if left ~= "" then fail("invalid format specifier '%s'", spec) end
   return fill, align, sign, alternate, zero, tonumber(width), comma, tonumber(precision:sub(2) or ""), conversion
end

local function general(x, precision)
   if not precision then return json.repr(math.abs(x)) end
   return float_digits(x, "g", math.max(precision, 1))
end

local function number_in_spec(v, sign, alternate, comma, precision, conversion)
   local x = need_number(v, "format")
   local digits
   local int = values.kind(v) ~= "float"
   if conversion == "" then conversion = int and not precision and "d" or "general" end
   if conversion == "n" then conversion = int and "d" or "g" end
   if ("dxXob"):find(conversion, 1, true) then
      if not int then fail("unknown format code '%s' for object of type 'float'", conversion) end
      digits = integer_digits(v, conversion)
      if alternate == "#" and conversion ~= "d" then digits = "0" .. conversion .. digits end
   elseif conversion == "c" then
      return utf8.char(x % 0x110000)
   elseif conversion == "%" then
      digits = float_digits(x * 100, "f", precision or 6) .. "%"
   elseif conversion == "general" then
      digits = general(x, precision)
   elseif ("eEfFgG"):find(conversion, 1, true) then
      digits = float_digits(x, conversion:gsub("F", "f"), precision or 6)
   else
      fail("unknown format code '%s'", conversion)
   end
   if comma ~= "" then digits = grouped(digits, comma) end
   return sign_of(x, sign == "" and "-" or sign) .. digits
end

--- A value in a format specification, as format(v, spec).
function M.spec(v, spec)
   if spec == "" then return values.str(v) end
   local fill, align, sign, alternate, zero, width, comma, precision, conversion = spec_parts(spec)
   local s = string_of(v)
   local piece
   if s or not values.numeric(v) then
      if not s then fail("unsupported format string passed to %s.__format__", values.type_name(v)) end
      if conversion ~= "" and conversion ~= "s" then
         fail("unknown format code '%s' for object of type 'str'", conversion)
      end
      piece = precision and text.sub(s, 1, math.min(precision, text.length(s))) or s
      align = align or "<"
   else
      piece = number_in_spec(v, sign, alternate, comma, precision, conversion)
      if zero == "0" and not align then fill, align = "0", "=" end
      align = align or ">"
   end
   return width and M.pad(piece, width, align, fill or " ") or piece
end

-- The value that a field names: 0, name, name.attribute, name[key].
local function field_value(name, state)
   local first, rest = name:match "^([^.%[]*)(.*)$"
   local value
   if first == "" then
      state.auto = state.auto + 1
      value = state.args[state.auto]
   elseif first:find "^%d+$" then
      value = state.args[tonumber(first) + 1]
   else
      value = state.named and state.named[first]
   end
   if value == nil then fail("format: there is no argument '%s'", first == "" and state.auto - 1 or first) end
   while rest ~= "" do
      local attribute, behind = rest:match "^%.([^.%[]+)(.*)$"
      if not attribute then attribute, behind = rest:match "^%[([^%]]+)%](.*)$" end
      if not attribute then fail("format: '%s' is no field", name) end
      value = values.element(value, tonumber(attribute) or attribute)
      if value == nil then fail("format: there is no '%s'", attribute) end
      rest = behind
   end
   return value
end

local function replacement(field, state)
   local name, conversion, spec = field:match "^([^!:]*)(!?[rsa]?):?(.*)$"
   local value = field_value(name, state)
   if conversion == "!r" or conversion == "!a" then value = values.repr(value) end
   if conversion == "!s" then value = values.str(value) end
   spec = spec:gsub("{([^{}]*)}", function(inner) return values.str(field_value(inner, state)) end)
   return M.spec(value, spec)
end

--- s.format(...).
function M.format(s, args, named)
   local state, out, from, total = { args = args, named = named, auto = 0 }, {}, 1, 0
   while true do
      local at = s:find("[{}]", from)
      if not at then break end
      out[#out + 1] = s:sub(from, at - 1)
      local char, piece = s:sub(at, at), nil
      if s:sub(at + 1, at + 1) == char then
         piece, from = char, at + 2
      elseif char == "}" then
         fail "single '}' encountered in format string"
      else
         local field, behind = s:match("^(%b{})()", at)
         if not field then fail "single '{' encountered in format string" end
         piece, from = replacement(field:sub(2, -2), state), behind
      end
      out[#out + 1], total = piece, total + #piece
      values.check_size(total)
   end
   out[#out + 1] = s:sub(from)
   return table.concat(out)
end

return M
