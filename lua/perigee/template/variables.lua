--- What the caller hands to a rendering, as values of templates: a copy, so that nothing the template does reaches the
-- caller, and nothing but data gets in.
-- @module perigee.template.variables
-- @local
local json = require "perigee.json"

local MAX_DEPTH, MAX_VALUES = 200, 4e6

local ABSENT = { tools = json.null, documents = json.null, add_generation_prompt = false }

local count

local function stop(path, what, code)
   error({ message = ("%s %s"):format(path == "" and "vars" or path, what), code = code or "invalid" }, 0)
end

local convert

local function list(t, n, path, depth)
   local out = {}
   for i = 1, n do out[i] = convert(t[i], path .. "[" .. i .. "]", depth) end
   return json.array(out)
end

local function map(t, path, depth)
   local out, keys = {}, json.keys(t)
   for _, key in ipairs(keys) do
      if type(key) ~= "string" then stop(path, "has keys of several types: it is neither a list nor a map") end
      out[key] = convert(t[key], path == "" and key or path .. "." .. key, depth)
   end
   return json.object(out, keys)
end

local function container(t, path, depth)
   if depth > MAX_DEPTH then stop(path, "is nested too deeply, or contains itself", "limit") end
   local meta = getmetatable(t)
   if t == json.null or meta == json.INTEGER then return t end
   local kind = meta and type(meta) == "table" and meta.kind
   if kind == "list" then return list(t, #t, path, depth) end
   if kind == "dict" then return map(t, path, depth) end
   if #t > 0 or next(t) == nil then
      local n, total = #t, 0
      for _ in pairs(t) do total = total + 1 end
      if total ~= n then stop(path, "is a list with holes, or has other keys as well") end
      return list(t, n, path, depth)
   end
   return map(t, path, depth)
end

function convert(v, path, depth)
   count = count + 1
   if count > MAX_VALUES then stop("vars", "holds too many values", "limit") end
   local kind = type(v)
   if kind == "string" or kind == "number" or kind == "boolean" or json.is_float(v) then return v end
   if kind == "table" then return container(v, path, depth + 1) end
   stop(path, "is a " .. kind .. ", which templates do not know")
end

local function copied(vars)
   count = 0
   return map(vars, "", 0)
end

--- Variables of a rendering by name.
-- @tparam table|string vars
-- @tparam table defaults for what is absent
-- @treturn ?table nil, message, code
return function(vars, defaults)
   local out
   if type(vars) == "string" then
      local message, code
      out, message, code = json.decode(vars)
      if out == nil then return nil, message, code end
      if not json.is_object(out) then return nil, "the JSON text is no object", "format" end
   else
      local fine, made = pcall(copied, vars)
      if not fine then
         if type(made) ~= "table" then error(made, 0) end
         return nil, made.message, made.code
      end
      out = made
   end
   for name, value in pairs(defaults) do
      if out[name] == nil then out[name] = value end
   end
   for name, value in pairs(ABSENT) do
      if out[name] == nil then out[name] = value end
   end
   return out
end
