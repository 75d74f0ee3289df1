-- An agent with two tools: a calculator, and a lister of files that cannot leave its folder. A JSON schema holds every
-- step of the model to a call of one of them or an answer, so even a tiny model cannot break the loop.
--    luajit examples/agent.lua [QUESTION] [FOLDER] [MODEL]
local perigee = require "perigee"
local ffi = require "ffi"
ffi.cdef "char *realpath(const char *path, char *resolved); void free(void *p);"

local function calculate(text)                            -- sums of products of numbers and brackets; no Lua is run
   local at, sum = 1, nil
   local function take(pattern)
      local _, last, found = text:find("^%s*(" .. pattern .. ")", at)
      at = last and last + 1 or at
      return found
   end
   local function factor()
      if take "%-" then return -factor() end
      if not take "%(" then return tonumber(take "%d+%.?%d*" or error("a number is missing", 0)) end
      local value = sum()
      return take "%)" and value or error("a bracket is missing", 0)
   end
   local function row(part, more, less, apply)
      local value = part()
      for sign in function() return take(more) or take(less) end do value = apply(sign, value, part()) end
      return value
   end
   local function product() return row(factor, "%*", "/", function(s, a, b) return s == "*" and a * b or a / b end) end
   function sum() return row(product, "%+", "%-", function(s, a, b) return s == "+" and a + b or a - b end) end
   local value = sum()
   return text:find("%S", at) and error("cannot read: " .. text:sub(at), 0) or ("%.12g"):format(value)
end

local function real(path)
   local found = ffi.C.realpath(path, nil)
   return found ~= nil and ffi.string(ffi.gc(found, ffi.C.free)) or nil
end
local root = assert(real(arg[2] or "."), "no such folder")

local function list(path)
   local folder = real(root .. "/" .. path)               -- links resolved: what counts is where the path ends
   if not folder or (folder .. "/"):sub(1, #root + 1) ~= root .. "/" then return nil, "outside the folder" end
   return (io.popen("ls -1Ap '" .. folder:gsub("'", "'\\''") .. "' 2>&1"):read(400)) or "empty"
end

local function step(name, key, pattern)
   return ([[{"type": "object", "properties": {"name": {"const": "%s"}, "arguments": {"type": "object", "properties":
      {"%s": {"type": "string", "pattern": "%s"}}, "required": ["%s"], "additionalProperties": false}},
      "required": ["name", "arguments"], "additionalProperties": false}]]):format(name, key, pattern, key)
end
local schema = assert(perigee.schema(([[{"anyOf": [%s, %s, {"type": "object", "properties": {"answer": {"type":
   "string", "maxLength": 60}}, "required": ["answer"], "additionalProperties": false}]}]]):format(
   step("calculate", "expression", "^[0-9]{1,6}( [-+*/] [0-9]{1,6}){1,5}$"),
   step("list", "path", "^[A-Za-z0-9_./-]{1,40}$"))))

local chat = assert(assert(perigee.open(arg[3])):chat { format = "json", tools = {
   { name = "calculate", description = "Does sums.", call = function(i) return calculate(i.expression) end },
   { name = "list", description = "Lists a folder.", call = function(i) return list(i.path) end },
} })
local said = assert(chat:run(arg[1] or "What is 17 * 23?", { json_schema = schema, max_new = 100, temperature = 0,
   steps = 3, watch = function(call, result) print(call.name, call.arguments, result) end }))
print((perigee.json.decode(said) or {}).answer or said)
