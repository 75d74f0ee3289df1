--- JSON in and out, with nothing lost on the way: objects keep the order of their keys, null is not nil, 1.0 stays 1.0,
-- and integers of any size keep their digits.
--
-- A decoded object is a table whose fields are the keys (`message.role`); @{pairs} walks it in order. A decoded array
-- is a plain list; null is @{null}. Numbers are Lua numbers wherever those tell the same: a whole number written as a
-- float (1.0, 1e3) is a small value that calculates, compares and prints like the number; an integer beyond 2^53 keeps
-- its digits (@{number} makes a Lua number of either). What is written by others is treated as hostile: depth is
-- limited, a mistake is reported with its line and column. Checking values against a schema is not here.
--
-- Source: RFC 8259; the layout of floats is that of Python's repr (shortest digits that read back the same).
-- @module perigee.json
local ffi = require "ffi"

local M = {}

local MAX_DEPTH = 512
local EXACT = 2 ^ 53                          -- up to here every integer is a double

--- Stands for null: a value of its own, not nil, and true as a condition; compare with it.
M.null = setmetatable({}, { __tostring = function() return "null" end, kind = "none", __newindex = function()
   error("perigee.json.null takes no fields", 2)
end })

-- Metatables tell what a table is. An object has one of its own, which holds its keys in order.
local ARRAY = { kind = "list", decoded = true }
local INTEGER = { kind = "integer", __tostring = function(self) return self.digits end,
   __eq = function(a, b) return a.digits == b.digits end }
M.ARRAY, M.INTEGER = ARRAY, INTEGER

local function plain(value) return type(value) == "cdata" and value.value or value end

local Float = ffi.metatype("struct { double value; }", {
   __add = function(a, b) return plain(a) + plain(b) end,
   __sub = function(a, b) return plain(a) - plain(b) end,
   __mul = function(a, b) return plain(a) * plain(b) end,
   __div = function(a, b) return plain(a) / plain(b) end,
   __mod = function(a, b) return plain(a) % plain(b) end,
   __pow = function(a, b) return plain(a) ^ plain(b) end,
   __unm = function(a) return -plain(a) end,
   __eq = function(a, b) return plain(a) == plain(b) end,
   __lt = function(a, b) return plain(a) < plain(b) end,
   __le = function(a, b) return plain(a) <= plain(b) end,
   __tostring = function(a) return M.repr(a.value) end,
})

--- A number that is written as a float also where it is whole: `json.encode(json.float(1))` is "1.0".
-- @tparam number x
-- @return the number itself where it has a fraction, else a value that acts like it
function M.float(x) return x % 1 == 0 and Float(x) or x end

--- The digits of an integer as a value: a Lua number where that is exact.
-- @tparam string digits decimal, with or without a minus sign
function M.integer(digits)
   local value = tonumber(digits)
   if value >= -EXACT and value <= EXACT then return value + 0 == 0 and 0 or value end
   local sign, rest = digits:match "^(%-?)0*(%d+)$"
   return setmetatable({ digits = sign .. rest }, INTEGER)
end

--- The Lua number nearest to a decoded one.
-- @param value a number as @{decode} gives it
-- @treturn ?number nil when it is no number
function M.number(value)
   if type(value) == "number" then return value end
   if type(value) == "cdata" and ffi.istype(Float, value) then return value.value end
   if type(value) == "table" and getmetatable(value) == INTEGER then return tonumber(value.digits) end
   return nil
end

--- Whether a value is a number that is written as a float though it is whole.
-- @param value
-- @treturn boolean
function M.is_float(value) return type(value) == "cdata" and ffi.istype(Float, value) end

-- Digits of the shortest decimal that reads back as x (x > 0): the text of "%.{n}e".
local function shortest(x)
   for n = x < 2.3e-308 and 0 or 14, 16 do    -- 15 digits that suffice end in zeros where fewer do, if x is normal
      local text = ("%." .. n .. "e"):format(x)
      if tonumber(text) == x then return text end
   end
end

--- A number as Python writes a float.
-- @tparam number x
-- @treturn string "1.0", "1e+16", "inf", "nan" ...
function M.repr(x)
   if x ~= x then return "nan" end
   if x == math.huge or x == -math.huge then return x > 0 and "inf" or "-inf" end
   if x == 0 then return 1 / x < 0 and "-0.0" or "0.0" end
   local sign = x < 0 and "-" or ""
   local head, tail, exponent = shortest(math.abs(x)):match "^(%d)%.?(%d*)e([+-]%d+)$"
   local digits, e = (head .. tail):gsub("0+$", ""), tonumber(exponent)
   if digits == "" then digits = "0" end
   if e < -4 or e >= 16 then
      local fraction = #digits > 1 and "." .. digits:sub(2) or ""
      return ("%s%s%se%s%02d"):format(sign, digits:sub(1, 1), fraction, e < 0 and "-" or "+", math.abs(e))
   end
   if e < 0 then return sign .. "0." .. ("0"):rep(-e - 1) .. digits end
   if #digits <= e + 1 then return sign .. digits .. ("0"):rep(e + 1 - #digits) .. ".0" end
   return sign .. digits:sub(1, e + 1) .. "." .. digits:sub(e + 2)
end

--- An empty object, or one with the fields of a table, keys in the order of a list.
-- @tparam[opt] table fields taken over as it is, not copied
-- @tparam[opt] {string,...} keys their order; default: sorted
-- @treturn table
function M.object(fields, keys)
   fields = fields or {}
   if not keys then
      keys = {}
      for key in pairs(fields) do keys[#keys + 1] = key end
      table.sort(keys)
   end
   return setmetatable(fields, { kind = "dict", keys = keys })
end

--- A list that is written as `[]` also when it is empty; so is every empty table without a mark.
-- @tparam[opt] table list taken over as it is
-- @treturn table
function M.array(list) return setmetatable(list or {}, ARRAY) end

--- Whether a table is an object: decoded as one, made by @{object}, or with string keys.
-- @param value
-- @treturn boolean
function M.is_object(value)
   if type(value) ~= "table" or value == M.null then return false end
   local meta = getmetatable(value)
   if meta and meta.kind then return meta.kind == "dict" end
   return type(next(value)) == "string"
end

-- The keys of an object as they stand now: those it was decoded with, in order, then those that were added, sorted.
local function keys_of(object)
   local meta = getmetatable(object)
   local known = meta and meta.kind == "dict" and meta.keys or {}
   local keys, seen, added = {}, {}, {}
   for _, key in ipairs(known) do
      if object[key] ~= nil then keys[#keys + 1], seen[key] = key, true end
   end
   for key in pairs(object) do
      if not seen[key] then added[#added + 1] = key end
   end
   if #added > 0 then
      table.sort(added, function(a, b) return tostring(a) < tostring(b) end)
      for _, key in ipairs(added) do keys[#keys + 1] = key end
   end
   return keys
end
M.keys = keys_of

--- Walk an object in the order of its keys; keys that were added since it was decoded come last, sorted.
-- @tparam table object
-- @treturn function iterator over key, value
-- @usage for key, value in json.pairs(object) do print(key, value) end
function M.pairs(object)
   local keys, i = keys_of(object), 0
   return function()
      i = i + 1
      local key = keys[i]
      if key ~= nil then return key, object[key] end
   end
end

local decoder = require "perigee.json.decode"(M)
local encoder = require "perigee.json.encode"(M)

--- Read JSON.
-- @tparam string text one JSON value in UTF-8; of keys that occur twice, the last value counts
-- @treturn ?value nil, message (with line and column), code "format" or "limit" (nested deeper than 512)
-- @usage local object = assert(json.decode '{"role": "user", "n": 1.0}'); print(object.role)
function M.decode(text)
   if type(text) ~= "string" then
      error(("perigee.json.decode: text must be a string, not a %s"):format(type(text)), 2)
   end
   return decoder(text, MAX_DEPTH)
end

--- How to write JSON.
-- @table encode_options
-- @tfield ?number|string indent a value a line, nested by so many spaces, or by this text; default: all in one line
-- @tfield ?string item_separator default ",", also with indent
-- @tfield ?string key_separator default ":", with indent ": "
-- @tfield ?boolean sort_keys objects in alphabetical order; default: their own; maps without one are always sorted
-- @tfield ?boolean ascii everything else than ASCII as \u escapes; default: UTF-8 as it is
-- @tfield ?number digits of fractions, at most 17; default: as many as read back the same
-- @tfield ?boolean python write what JSON lacks as Python does (Infinity, NaN); default: null

--- Write JSON. Decoded values come out as they were. A table with the keys 1 .. n, or with none, is a list, one with
-- string keys is an object; a table that is neither, or a value that JSON has not, is an error. Bytes that are not
-- UTF-8 become U+FFFD.
-- @param value
-- @tparam[opt] encode_options opts
-- @treturn ?string nil, message, code
-- @usage print(assert(json.encode({ name = "x", list = { 1, 2 } }, { indent = 2 })))
function M.encode(value, opts)
   if opts ~= nil and type(opts) ~= "table" then
      error(("perigee.json.encode: options must be a table, not a %s"):format(type(opts)), 2)
   end
   return encoder(value, opts or {}, MAX_DEPTH)
end

return M
