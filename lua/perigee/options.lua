--- Checking what callers hand over: option tables, texts, lists of ids, seeds.
--
-- Private to the module. A wrong type is a mistake in the program and raises at the caller's line; a value out of range
-- or an option name that does not exist comes back as `nil, message, code`.
-- @module perigee.options
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"

local M = {}

local TWO32 = 2 ^ 32

-- Letters to add, drop, change or swap with the next (Damerau's distance, neighbours only), row by row.
local function distance(a, b)
   local above, row = {}, {}
   for j = 0, #b do row[j] = j end
   for i = 1, #a do
      local twice = above
      above, row = row, { [0] = i }
      for j = 1, #b do
         local cost = a:byte(i) == b:byte(j) and 0 or 1
         row[j] = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost)
         if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
            row[j] = math.min(row[j], twice[j - 2] + 1)
         end
      end
   end
   return row[#b]
end

--- The name that was probably meant.
-- @tparam string name
-- @tparam {string,...} names
-- @treturn ?string nil when none is near
function M.nearest(name, names)
   local best, least
   for _, candidate in ipairs(names) do
      local d = distance(name, candidate)
      if not least or d < least then best, least = candidate, d end
   end
   return least and least <= math.max(1, math.floor(#name / 3)) and best or nil
end

local function is_int32(value)
   return value % 1 == 0 and value >= -2147483648 and value <= 2147483647
end

--- A seed as its two halves of 32 bits.
-- @tparam number|string seed a whole number from 0 to 2^53, or decimal digits of a number below 2^64
-- @treturn ?number low half; nil when it is no seed
-- @treturn number high half
function M.seed_halves(seed)
   if type(seed) == "number" then
      if not (seed % 1 == 0 and seed >= 0 and seed <= 2 ^ 53) then return nil end
      return seed % TWO32, math.floor(seed / TWO32)
   end
   if not seed:match "^%d+$" then return nil end
   local low, high = 0, 0
   for digit in seed:gmatch "%d" do
      low = low * 10 + tonumber(digit)
      high = high * 10 + math.floor(low / TWO32)
      low = low % TWO32
      if high >= TWO32 then return nil end
   end
   return low, high
end

--- The reverse of @{seed_halves}: a number where it is exact, else decimal digits.
-- @tparam number low
-- @tparam number high
-- @treturn number|string
function M.seed_value(low, high)
   if high < 2 ^ 21 then return high * TWO32 + low end
   local digits = {}
   while high > 0 or low > 0 do
      low = low + high % 10 * TWO32
      high = math.floor(high / 10)
      table.insert(digits, 1, string.format("%d", low % 10))
      low = math.floor(low / 10)
   end
   return table.concat(digits)
end

-- A kind returns nil for a good value; else what it should be, and whether its type is right at least.
local kinds = {}

function kinds.integer(value)
   if type(value) ~= "number" then return "an integer" end
   if not is_int32(value) then return "an integer of 32 bits", true end
end

function kinds.counts(value)
   if type(value) ~= "table" then return kinds.integer(value) and "an integer or a list of them" end
   for _, n in ipairs(value) do
      if type(n) ~= "number" then return "an integer or a list of them" end
      if not is_int32(n) then return "integers of 32 bits", true end
   end
   if #value == 0 then return "a list with something in it", true end
end

function kinds.number(value)
   if type(value) ~= "number" then return "a number" end
   if value ~= value then return "a number", true end
end

function kinds.boolean(value)
   if type(value) ~= "boolean" then return "true or false" end
end

function kinds.any() end     -- whoever gives it a meaning checks it

function kinds.grammar(value)
   local fits = type(value) == "string" or type(value) == "table" and type(value.accepts) == "function"
   if not fits then return "a text or a grammar" end
end

kinds["function"] = function(value)
   if type(value) ~= "function" then return "a function" end
end

function kinds.string(value)
   if type(value) ~= "string" then return "a string" end
   if value:find("%z") then return "a string without zero bytes", true end
end

function kinds.strings(value)
   if type(value) == "string" then return kinds.string(value) end
   if type(value) ~= "table" then return "a string or a list of strings" end
   for _, text in ipairs(value) do
      local expected, typed = kinds.string(text)
      if expected then return "a list of strings without zero bytes", typed end
   end
end

function kinds.seed(value)
   if type(value) ~= "number" and type(value) ~= "string" then return "a number or a string of decimal digits" end
   if not M.seed_halves(value) then
      return "a whole number from 0 to 2^53, or decimal digits of a number below 2^64", true
   end
end

function kinds.biases(value)
   if type(value) ~= "table" then return "a table of token id = bias" end
   for id, bias in pairs(value) do
      if type(id) ~= "number" or type(bias) ~= "number" then return "a table of token id = bias, both numbers" end
      if not is_int32(id) or bias ~= bias then return "a table of whole token ids and biases", true end
   end
end

--- Check an option table.
-- @tparam string where name of the public function, for messages
-- @tparam table spec name = kind; `spec.later` lists names that are planned but not there yet
-- @tparam ?table given what the caller handed over
-- @tparam number level of the caller's line, as for `error`, seen from the function that calls this
-- @treturn ?table the options (empty when none were given); nil, message, code
function M.check(where, spec, given, level)
   if given == nil then return {} end
   if type(given) ~= "table" then
      error(("%s: options must be a table, not a %s"):format(where, type(given)), level + 1)
   end
   for name, value in pairs(given) do
      local kind = name ~= "later" and spec[name]
      if not kind then return M.refuse(where, spec, tostring(name)) end
      local expected, typed = kinds[kind](value)
      if expected then
         local shown = typed and tostring(value) or "a " .. type(value)
         local message = ("%s: option %q must be %s, not %s"):format(where, name, expected, shown)
         if not typed then error(message, level + 1) end
         return nil, message, "invalid"
      end
   end
   return given
end

--- The names in a set, sorted.
-- @tparam table set
-- @treturn {string,...}
function M.names(set)
   local names = {}
   for name in pairs(set) do names[#names + 1] = name end
   table.sort(names)
   return names
end

-- An option name that the specification does not have.
function M.refuse(where, spec, name)
   if spec.later and spec.later[name] then
      return nil, ("%s: option %q is planned but not there yet"):format(where, name), "unsupported"
   end
   local names = {}
   for known in pairs(spec) do
      if known ~= "later" then names[#names + 1] = known end
   end
   table.sort(names)
   local near = M.nearest(name, names)
   local hint = near and ("did you mean %q?"):format(near)
      or #names == 0 and "it takes none" or "it takes " .. table.concat(names, ", ")
   return nil, ("%s: unknown option %q; %s"):format(where, name, hint), "invalid"
end

--- Raise unless a value has the type that the function expects.
-- @tparam string where
-- @tparam string what name of the argument
-- @param value
-- @tparam string expected a Lua type
-- @tparam number level as in @{check}
function M.expect(where, what, value, expected, level)
   if type(value) ~= expected then
      error(("%s: %s must be a %s, not a %s"):format(where, what, expected, type(value)), level + 1)
   end
end

local id_buffer = lib.buffer "int32_t"

--- Copy a Lua list of token ids into scratch memory; good until the next call.
-- @tparam string where
-- @tparam {number,...} list
-- @tparam number level as in @{check}
-- @treturn ?cdata `int32_t *`; nil, message, code
-- @treturn number how many
function M.ids(where, list, level)
   local n = #list
   local data = id_buffer(n)
   for i = 1, n do
      local id = list[i]
      if type(id) ~= "number" then
         error(("%s: token id %d of the list must be a number, not a %s"):format(where, i, type(id)), level + 1)
      end
      if not is_int32(id) then
         return nil, ("%s: token id %d of the list, %s, is not an integer of 32 bits"):format(where, i, id), "invalid"
      end
      data[i - 1] = id
   end
   return data, n
end

--- Fill the fields of a C struct from options; those that are nil keep what the struct holds.
-- @tparam cdata struct
-- @tparam table given options
-- @tparam table fields names that both have; option = field where they differ
function M.copy(struct, given, fields)
   for name, field in pairs(fields) do
      local value = given[type(name) == "string" and name or field]
      if value ~= nil then struct[field] = value end
   end
end

--- A C array of C strings. The strings must stay referenced by the caller's table while it is in use.
-- @tparam {string,...} list
-- @treturn cdata `const char *[n]`
function M.strings(list) return ffi.new("const char *[?]", math.max(#list, 1), list) end

return M
