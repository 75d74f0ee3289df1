--- The files beside a golden model: cases.json and logits-N.f32.
-- Here: reading and writing just this layout, one case a line. Not here: JSON in general.
-- @module cases

local ffi = require "ffi"

local M = {}

local function slurp(path)
   local file = io.open(path, "rb")
   if not file then return nil end
   local text = file:read("*a")
   file:close()
   return text
end

local function numbers(text)
   local list = {}
   for n in text:gmatch "[^,%s]+" do list[#list + 1] = assert(tonumber(n)) end
   return list
end

--- Read cases.json; nil when there is none.
-- @treturn table list of { name, ids, logits, shape, greedy, greedy_margin, router_gap }
function M.read(path)
   local text = slurp(path)
   if not text then return nil end
   local list = {}
   for object in text:gmatch "%b{}" do
      local case = {}
      for name, value in object:gmatch '"([%w_]+)":%s*"([^"]*)"' do case[name] = value end
      for name, value in object:gmatch '"([%w_]+)":%s*%[([^%]]*)%]' do case[name] = numbers(value) end
      for name, value in object:gmatch '"([%w_]+)":%s*(%-?%d[%w.+-]*)' do case[name] = tonumber(value) end
      assert(case.ids and case.logits and case.shape and case.greedy, path .. ": a case lacks a field")
      list[#list + 1] = case
   end
   return list
end

--- Write cases.json.
function M.write(path, list)
   local lines = {}
   for i, c in ipairs(list) do
      lines[i] = ('{"name": "%s", "ids": [%s], "logits": "%s", "shape": [%d, %d], "greedy": [%s], '
         .. '"greedy_margin": %.5g, "router_gap": %s}'):format(c.name, table.concat(c.ids, ", "), c.logits, c.shape[1],
         c.shape[2], table.concat(c.greedy, ", "), c.greedy_margin,
         c.router_gap and ("%.5g"):format(c.router_gap) or "null")
   end
   local file = assert(io.open(path, "wb"))
   file:write("[\n", table.concat(lines, ",\n"), "\n]\n")
   file:close()
end

--- The floats of a logits file.
-- @treturn cdata const float *, anchored by the second result
function M.read_floats(path, n)
   local text = assert(slurp(path), path .. ": cannot be read")
   assert(#text == 4 * n, path .. ": expected " .. 4 * n .. " bytes, found " .. #text)
   return ffi.cast("const float *", text), text
end

--- Write a list of double arrays of n values each as float32.
function M.write_floats(path, rows, n)
   local out = ffi.new("float[?]", #rows * n)
   for t, row in ipairs(rows) do
      for i = 0, n - 1 do out[(t - 1) * n + i] = row[i] end
   end
   local file = assert(io.open(path, "wb"))
   file:write(ffi.string(out, ffi.sizeof(out)))
   file:close()
end

return M
