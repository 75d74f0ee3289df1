--- Plain data as text and back: what passes from one Lua state to another (parameters, P.keep, what a policy is).
--
-- Numbers, strings, booleans and tables of these. Both functions are self-contained, since they also run inside a
-- policy's state, where they arrive as dumped bytecode: no upvalues, and nothing but the base libraries.
-- @module perigee.policies.plain
-- @local
local M = {}

--- A value as text.
-- @param value
-- @tparam boolean strict whether what is no plain data raises; else it is left out
-- @treturn string
-- @raise over 1 MiB; when strict, also for other types and for tables deeper than 16
function M.pack(value, strict)
   local parts, n, bytes = {}, 0, 0
   local function put(text)
      n, bytes = n + 1, bytes + #text
      if bytes > 2 ^ 20 then error("more than 1 MiB of data", 0) end
      parts[n] = text
   end
   local function plain(v, depth)
      local kind = type(v)
      local fine = kind == "number" or kind == "string" or kind == "boolean" or kind == "table" and depth <= 16
      if not fine and strict then
         error(kind == "table" and "tables deeper than 16" or "a " .. kind .. " among the data", 0)
      end
      return fine
   end
   local function write(v, depth)
      local kind = type(v)
      if kind == "number" then
         put(string.format("n%.17g;", v))
      elseif kind == "string" then
         put(string.format("s%d:", #v))
         put(v)
      elseif kind == "boolean" then
         put(v and "y" or "x")
      else
         put "t"
         for key, item in next, v do
            if plain(key, 17) and plain(item, depth + 1) then
               write(key, depth)
               write(item, depth + 1)
            end
         end
         put "e"
      end
   end
   if plain(value, 1) then write(value, 1) end
   return table.concat(parts)
end

--- The value that @{pack} wrote; nil of an empty text.
-- @tparam string text
-- @return value
function M.unpack(text)
   local at = 1
   local function read()
      local kind = string.sub(text, at, at)
      at = at + 1
      if kind == "n" or kind == "s" then
         local digits = string.match(text, "^[^;:]*", at)
         at = at + #digits + 1
         if kind == "n" then return tonumber(digits) end
         local length = tonumber(digits)
         at = at + length
         return string.sub(text, at - length, at - 1)
      elseif kind == "t" then
         local result = {}
         while string.sub(text, at, at) ~= "e" do
            local key = read()
            result[key] = read()
         end
         at = at + 1
         return result
      end
      return kind == "y"
   end
   if text == "" then return nil end
   return read()
end

return M
