--- How strong the activations are that each column of the weights meets; behind @{perigee.imatrix}.
--
-- Here: texts, windows, their order. Not here: the sums and the file of them, which are the library's (pg_imatrix_*).
-- @module perigee.imatrix
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local windows = require "perigee.windows"
local Engine = require "perigee.engine"

local C = lib.C

local M = {}

local OPTIONS = {
   texts = "strings", names = "strings", out = "string", chunk = "integer", limit = "integer", threads = "integer",
   device = "string", batch = "integer", progress = "function",
}
local CHUNK = 512

local function as_list(value) return type(value) == "table" and value or { value } end

local function complete(opts, level)
   local given, message, code = options.check("perigee.imatrix", OPTIONS, opts, level + 1)
   if not given then return nil, message, code end
   local o = {}
   for name, value in pairs(given) do o[name] = value end
   local chunk, limit = o.chunk or CHUNK, o.limit or 1
   if o.texts == nil or #as_list(o.texts) == 0 then return nil, "perigee.imatrix: texts are needed", "invalid" end
   if o.out == nil then return nil, "perigee.imatrix: out, the path of the file to write, is needed", "invalid" end
   if chunk < 2 or chunk > 2 ^ 24 then
      return nil, ("perigee.imatrix: chunk must be from 2 to %d, not %s"):format(2 ^ 24, chunk), "invalid"
   end
   if limit < 1 then return nil, ("perigee.imatrix: limit must be 1 or more, not %s"):format(limit), "invalid" end
   o.texts, o.names, o.chunk = as_list(o.texts), as_list(o.names or {}), chunk
   if #o.names > 0 and #o.names ~= #o.texts then
      return nil, ("perigee.imatrix: %d names for %d texts"):format(#o.names, #o.texts), "invalid"
   end
   return o
end

-- The windows of all texts, each text begun anew.
local function cut(engine, o)
   local bos, list = engine:info().bos, {}
   for i, text in ipairs(o.texts) do
      local left = o.limit and o.limit - #list
      if left == 0 then break end
      local ids, message, code = engine:encode(text, { bos = false })
      if not ids then return nil, ("text %d: %s"):format(i, message), code end
      for _, window in ipairs(windows.cut(ids, bos, o.chunk, left)) do list[#list + 1] = window end
   end
   if #list == 0 then return nil, "perigee.imatrix: the texts are too short: it takes two tokens", "invalid" end
   return list
end

local function run_all(engine, list, progress)
   local sum, scored, tokens = 0, 0, 0
   for i, window in ipairs(list) do
      if progress then progress(i - 1, #list, "imatrix") end
      local logprobs, message, code = engine:score(window)
      if not logprobs then return nil, message, code end
      for _, logprob in ipairs(logprobs) do sum = sum + logprob end
      scored, tokens = scored + #logprobs, tokens + #window
   end
   return { chunks = #list, tokens = tokens, perplexity = math.exp(-sum / scored) }
end

local function save(handle, o, found)
   local names = options.strings(o.names)
   return C.pg_imatrix_save(handle, o.out, names, #o.names, found.chunks, o.chunk, lib.err)
end

-- With the sums open: count everything, write the file.
local function collect(engine, handle, o, list)
   local found, message, code = run_all(engine, list, o.progress)
   if not found then return nil, message, code end
   local rc = save(handle, o, found)
   if rc < 0 then return lib.fail(rc) end
   found.unmet = rc
   return found
end

local function measure(engine, o)
   local list, message, code = cut(engine, o)
   if not list then return nil, message, code end
   local out = ffi.new "pg_imatrix *[1]"
   local rc = C.pg_imatrix_open(engine._handle, out, lib.err)
   if rc < 0 then return lib.fail(rc) end
   local fine, a, b, c = pcall(collect, engine, out[0], o, list)
   C.pg_imatrix_close(out[0])
   if not fine then error(a, 0) end
   return a, b, c
end

--- Collect and write; public as @{perigee.imatrix}.
-- @tparam ?string path
-- @tparam table opts
-- @tparam number level of the caller's line
-- @treturn ?table nil, message, code
function M.run(path, opts, level)
   local o, message, code = complete(opts, level + 1)
   if not o then return nil, message, code end
   local engine
   engine, message, code = Engine.open(path, {
      precision = "f32", context = o.chunk, kv_tokens = o.chunk, threads = o.threads,
      device = o.device ~= "auto" and o.device or "cpu",
      batch = o.batch, progress = o.progress,
   }, level + 1)
   if not engine then return nil, message, code end
   local fine, a, b, c = pcall(measure, engine, o)
   engine:close()
   if not fine then error(a, 0) end
   return a, b, c
end

return M
