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

-- The folders in which the model that ships with perigee may lie: beside the sources, or where `make install` puts it.
local function bundled_folders()
   local here = debug.getinfo(1, "S").source:match "^@(.*)model%.lua$"
   if not here then return {} end
   return { here .. "../../examples/models/", here .. "../../../perigee/models/" }
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

--- A model, told from its metadata alone. `engine:info()` has these fields and those of a running engine.
-- @table info
-- @tfield string architecture "deepseek2", "qwen3moe" ...
-- @tfield string name the model's own, or ""
-- @tfield string format "gguf" or "safetensors"
-- @tfield string quantisation the format that holds most weights: "q8_0" ...
-- @tfield string tokenizer "bpe qwen2", "spm" ...
-- @tfield number parameters weights in all
-- @tfield number active_parameters weights that a token meets
-- @tfield number file_bytes all weights as stored
-- @tfield number layers
-- @tfield number moe_layers those with experts
-- @tfield number width of the embedding
-- @tfield number vocabulary tokens
-- @tfield number heads
-- @tfield number kv_heads
-- @tfield number experts routed experts of a layer; 0 for a dense model
-- @tfield number experts_used routed experts that a token visits
-- @tfield number experts_shared experts that every token visits
-- @tfield number context_train tokens that the model was made for
-- @tfield ?number bos id of the begin token
-- @tfield ?number eos id of the end token
-- @tfield ?number context longest sequence (engine only, as all that follow)
-- @tfield ?number kv_tokens tokens in the KV pool
-- @tfield ?number batch rows a step at most
-- @tfield ?number threads
-- @tfield ?string kv_type
-- @tfield ?string precision
-- @tfield ?string device
-- @tfield ?string isa instruction set of the kernels in use
-- @tfield ?number memory_bytes of the engine itself, without the mapped file
-- @tfield ?string note a remark, such as a context beyond the model's own

local function id_or_nil(id) return id >= 0 and id or nil end

--- A `pg_info` as a table.
-- @tparam cdata c
-- @tparam boolean running whether it is an engine's
-- @treturn info
function M.info_table(c, running)
   local info = {
      architecture = ffi.string(c.architecture), name = ffi.string(c.name), format = ffi.string(c.format),
      quantisation = ffi.string(c.quantisation), tokenizer = ffi.string(c.tokenizer),
      parameters = c.n_params, active_parameters = c.n_active, file_bytes = c.file_bytes,
      layers = c.n_layer, moe_layers = c.n_moe_layer, width = c.n_embd, vocabulary = c.n_vocab,
      heads = c.n_head, kv_heads = c.n_head_kv,
      experts = c.n_expert, experts_used = c.n_expert_used, experts_shared = c.n_expert_shared,
      context_train = c.context_train, bos = id_or_nil(c.bos), eos = id_or_nil(c.eos),
   }
   if running then
      local note = ffi.string(c.note)
      info.context, info.kv_tokens, info.batch, info.threads = c.context, c.kv_tokens, c.batch, c.threads
      info.kv_type, info.precision = ffi.string(c.kv_type), ffi.string(c.precision)
      info.device, info.isa = ffi.string(c.device), ffi.string(c.isa)
      info.memory_bytes, info.note = c.memory_bytes, note ~= "" and note or nil
   end
   return info
end

--- What a model is, without loading its weights; behind @{perigee.describe}.
-- @tparam ?string path as for @{resolve}
-- @treturn ?info nil, message, code
function M.describe(path)
   local file, message, code = M.resolve(path)
   if not file then return nil, message, code end
   local c = ffi.new "pg_info"
   local rc = C.pg_describe(file, c, lib.err)
   if rc < 0 then return lib.fail(rc) end
   return M.info_table(c, false)
end

return M
