--- perigee: a mixture-of-experts language-model engine that you script in Lua.
--
-- What can go wrong at run time comes back as `nil, message, code`; a wrong argument type raises. `code` is one of
-- invalid, not_found, format, unsupported, memory, full, limit, cancelled, device, io. Rows, layers, experts, positions
-- and token ids count from 0, Lua lists from 1.
-- @module perigee
-- @usage
-- local perigee = require "perigee"
-- local engine = assert(perigee.open())
-- for piece in engine:generate("Once upon a time"):pieces() do io.write(piece) end
local lib = require "perigee.ffi"
local model = require "perigee.model"
local options = require "perigee.options"
local Engine = require "perigee.engine"
local Tokenizer = require "perigee.tokenizer"

local perigee = {}

--- Version of the library, "major.minor.patch".
perigee.version = lib.version

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

--- How to open a model.
-- @table open_options
-- @tfield ?string device "auto" (the default), "cpu", "cuda" or "cuda:N"
-- @tfield ?number threads 0: PERIGEE_THREADS, else the cores this process may use
-- @tfield ?number context longest sequence in tokens; default: the model's own, at most 4096
-- @tfield ?number kv_tokens tokens in the KV page pool over all sequences; default 16384
-- @tfield ?string kv_type "f32", "f16" (the default), "bf16" or "q8_0"
-- @tfield ?string precision "auto" or "f32": weights de-quantised exactly, activations, sums and KV in f32; default:
-- PERIGEE_PRECISION, else "auto"
-- @tfield ?number batch rows a step at most; 0: 2048, less if the memory would not fit
-- @tfield ?number queue requests that may wait or run at once; default 256
-- @tfield ?boolean mmap map the file (the default), or read it into memory of our own
-- @tfield ?boolean mlock lock the weights into memory; default false
-- @tfield ?boolean force skip the check that everything fits into memory; default false
-- @tfield ?function progress called with done, total (bytes) and what ("load") while the model is opened; an error that
-- it raises gives the opening up and passes through

local function check_path(where, path, level)
   if path ~= nil then options.expect(where, "path", path, "string", level + 1) end
end

--- Open a model and start its engine.
-- @tparam ?string path a GGUF file (or the first of its shards) or a Hugging Face folder; nil: PERIGEE_MODEL, else the
-- model that ships with perigee
-- @tparam[opt] open_options opts
-- @treturn ?perigee.engine nil, message, code
-- @usage local engine = assert(perigee.open("model.gguf", { threads = 8, context = 8192 }))
function perigee.open(path, opts)
   check_path("perigee.open", path, 2)
   local engine, message, code = Engine.open(path, opts, 2)
   return engine, message, code
end

--- What a model is, without loading its weights.
-- @tparam ?string path as for @{open}
-- @treturn ?info nil, message, code
-- @usage print(assert(perigee.describe("model.gguf")).architecture)
function perigee.describe(path)
   check_path("perigee.describe", path, 2)
   return model.describe(path)
end

--- Open a tokenizer alone.
-- @tparam ?string path a GGUF file (also one without weights), a tokenizer.json, or a folder that holds one; nil: as
-- for @{open}
-- @treturn ?perigee.tokenizer nil, message, code
-- @usage local tokenizer = assert(perigee.tokenizer("tokenizer.json"))
function perigee.tokenizer(path)
   check_path("perigee.tokenizer", path, 2)
   local file, message, code = model.resolve(path)
   if not file then return nil, message, code end
   return Tokenizer.open(file)
end

return perigee --[[@as perigee]]
