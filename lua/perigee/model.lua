--- Which model a path means, and what a model is.
--
-- A model is opened by @{perigee.open}; here are the questions that need no engine.
-- @module perigee.model
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"

local C = lib.C

local M = {}

local BUNDLED = "perigee-voices.q8_0.gguf"

local function exists(path)
   local file = io.open(path, "rb")
   if file then file:close() end
   return file ~= nil
end

-- Where the model that ships with perigee may lie: in the source tree, under the prefix of `make install`, in a rock.
local function bundled_folders()
   local here = debug.getinfo(1, "S").source:match "^@(.*)model%.lua$"
   if not here then return {} end
   return { here .. "../../examples/models/", here .. "../../../perigee/models/", here .. "models/" }
end

--- The file or folder that a path means.
-- @tparam ?string path nil: the environment's PERIGEE_MODEL, else the model that ships with perigee
-- @treturn ?string path; nil, message, code
function M.resolve(path)
   if path == nil then
      local named = os.getenv "PERIGEE_MODEL"
      if named and named ~= "" then path = named end
   end
   if path == nil then
      local folders = bundled_folders()
      for _, folder in ipairs(folders) do
         if exists(folder .. BUNDLED) then return folder .. BUNDLED end
      end
      return nil, ("no model: give a path or set PERIGEE_MODEL; the bundled %s is not in %s"):format(BUNDLED,
         table.concat(folders, " nor in ")), "not_found"
   end
   if path:find("%z") then return nil, "the path of the model holds a zero byte", "invalid" end
   if path:match "^hf:" then
      return nil, path .. ": hf: paths are not there yet; download the file and give its path", "unsupported"
   end
   return path
end

--- A number of weights in words: "5.55 million", "1.40 billion".
-- @tparam number weights
-- @treturn string
function M.amount(weights)
   if weights >= 1e9 then return ("%.2f billion"):format(weights / 1e9) end
   return ("%.2f million"):format(weights / 1e6)
end

local function id_or_nil(id) return id >= 0 and id or nil end

--- A `pg_info` as a table.
-- @tparam cdata c
-- @tparam boolean running whether it is an engine's
-- @treturn perigee.info
function M.info_table(c, running)
   local info = {
      architecture = ffi.string(c.architecture), name = ffi.string(c.name), format = ffi.string(c.format),
      quantisation = ffi.string(c.quantisation), tokenizer = ffi.string(c.tokenizer),
      parameters = c.n_params, active_parameters = c.n_active, file_bytes = c.file_bytes,
      weight_bytes = c.weight_bytes, expert_bytes = c.expert_bytes, active_bytes = c.active_bytes,
      kv_bytes = c.kv_bytes, kv_window_bytes = c.kv_window_bytes, kv_window = c.kv_window,
      layers = c.n_layer, moe_layers = c.n_moe_layer, width = c.n_embd, vocabulary = c.n_vocab,
      heads = c.n_head, kv_heads = c.n_head_kv,
      experts = c.n_expert, experts_used = c.n_expert_used, experts_shared = c.n_expert_shared,
      context_train = c.context_train, bos = id_or_nil(c.bos), eos = id_or_nil(c.eos),
   }
   local note = ffi.string(c.note)
   info.note = note ~= "" and note or nil
   if running then
      info.context, info.kv_tokens, info.batch, info.threads = c.context, c.kv_tokens, c.batch, c.threads
      info.kv_type, info.precision = ffi.string(c.kv_type), ffi.string(c.precision)
      info.device, info.isa = ffi.string(c.device), ffi.string(c.isa)
      info.memory_bytes = c.memory_bytes
   end
   return info
end

--- What a model is, without loading its weights; behind @{perigee.describe}.
-- @tparam ?string path as for @{resolve}
-- @treturn ?perigee.info nil, message, code
function M.describe(path)
   local file, message, code = M.resolve(path)
   if not file then return nil, message, code end
   local c = ffi.new "pg_info"
   local rc = C.pg_describe(file, c, lib.err)
   if rc < 0 then return lib.fail(rc) end
   return M.info_table(c, false)
end

return M
