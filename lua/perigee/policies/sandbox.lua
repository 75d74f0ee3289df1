-- The globals of a policy: what it needs to compute, and nothing that reaches out of its state, is unsafe (load, ffi,
-- debug, setfenv ...), or works for long inside one call of a C function, where no count runs.
--
-- Runs inside the policy's state and arrives there as dumped bytecode: one function without upvalues.
-- Functions whose work grows with their arguments are replaced by ones that bound it and charge it to the budget.

-- @param shared the counter: its field n
-- @return the environment
return function(shared)
   local LONGEST = 65536          -- bytes of a string that a function makes; `..` is left to the memory limit
   local concat, find, floor, format, insert, log = table.concat, string.find, math.floor, string.format, table.insert,
      math.log
   local gmatch, match, remove, rep, sort, sub = string.gmatch, string.match, table.remove, string.rep, table.sort,
      string.sub

   -- What costs less than nothing would pay for the turns of a loop.
   local function charge(cost)
      if cost > 0 then shared.n = shared.n - floor(cost) end
   end
   local function short(n, where)
      if n > LONGEST then error(where .. ": longer than " .. LONGEST .. " bytes", 3) end
   end
   local function copy(from, names)
      local to = {}
      for name in names:gmatch "%S+" do to[name] = from[name] end
      return to
   end

   local strings = copy(string, "byte char len")

   for _, name in ipairs { "lower", "reverse", "sub", "upper" } do
      local plain = string[name]
      strings[name] = function(s, ...)
         charge(#s / 256)
         return plain(s, ...)
      end
   end

   function strings.rep(s, n, separator)
      if type(n) == "number" and n > 0 then short((#s + #(separator or "")) * n, "string.rep") end
      return rep(s, n, separator)
   end

   function strings.format(pattern, ...)
      local n = 128 * #pattern
      for i = 1, select("#", ...) do
         local value = select(i, ...)
         if type(value) == "string" then n = n + #value end
      end
      short(n, "string.format")
      return format(pattern, ...)
   end

   -- A pattern of q quantifiers may try (bytes of the subject)^(q + 1) ways before it gives up.
   local function bounded(try, where)
      return function(s, pattern, init, plain)
         s, pattern = sub(s, 1), sub(pattern, 1)              -- numbers count as strings
         local cost = #s * #pattern
         if not plain then
            for _ in gmatch(pattern, "[*+?%-]") do cost = cost * (#s + 1) end
         end
         if cost > 1e6 then error(where .. ": the pattern may take too many steps on a text of this length", 2) end
         charge(cost / 64)
         return try(s, pattern, init, plain)
      end
   end
   strings.find, strings.match = bounded(find, "string.find"), bounded(match, "string.match")

   local tables = copy(table, "")

   function tables.concat(list, separator, first, last)
      local n = 0
      for i = first or 1, last or #list do
         local value = list[i]
         n = n + (type(value) == "string" and #value or 24) + #(separator or "")
         short(n, "table.concat")
      end
      return concat(list, separator, first, last)
   end

   function tables.insert(list, ...)
      local n = #list
      if select("#", ...) > 1 then
         local at = ...
         if type(at) == "number" and not (at >= 1 and at <= n + 1) then
            error("table.insert: place " .. at .. " is not in 1 .. " .. n + 1, 2)
         end
         charge((n - at) / 64)
      end
      return insert(list, ...)
   end

   function tables.remove(list, at)
      local n = #list
      if type(at) == "number" then
         if not (at >= 1 and at <= n) then return nil end
         charge((n - at) / 64)
      end
      return remove(list, at)
   end

   function tables.sort(list, before)
      local n = #list
      charge(n * log(n + 2))
      return sort(list, before)
   end

   local env = copy(_G, "assert error getmetatable ipairs next pairs pcall rawequal rawget select setmetatable "
      .. "tonumber tostring type unpack xpcall")
   env.bit = copy(bit, "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex")
   env.math = copy(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min "
      .. "modf pi pow rad random randomseed sin sinh sqrt tan tanh")
   env.string, env.table, env._G = strings, tables, env

   local meta = getmetatable ""
   meta.__index, meta.__metatable = strings, false
   return env
end
