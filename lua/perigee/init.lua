--- perigee: a mixture-of-experts language-model engine that you script in Lua.
--
-- What can go wrong at run time comes back as `nil, message, code`; a wrong argument type raises. `code` is one of
-- invalid, not_found, format, unsupported, memory, full, limit, cancelled, device, io, filter. Rows, layers, experts,
-- positions and token ids count from 0, Lua lists from 1.
-- @module perigee
-- @usage
-- local perigee = require "perigee"
-- local engine = assert(perigee.open())
-- for piece in engine:generate("Once upon a time"):pieces() do io.write(piece) end
local app = require "perigee.app"
local bench = require "perigee.bench"
local experts = require "perigee.experts"
local filter = require "perigee.filter"
local imatrix = require "perigee.imatrix"
local json = require "perigee.json"
local lib = require "perigee.ffi"
local loader = require "perigee.loader"
local memory = require "perigee.memory"
local model = require "perigee.model"
local options = require "perigee.options"
local pipeline = require "perigee.pipeline"
local policy = require "perigee.policy"
local pack = require "perigee.filter.pack"
local quantize = require "perigee.quantize"
local reload = require "perigee.reload"
local Engine = require "perigee.engine"
local Grammar = require "perigee.grammar"
local Tokenizer = require "perigee.tokenizer"

local perigee = {}

--- Version of the library, "major.minor.patch".
perigee.version = lib.version

--- What the experts do: numbers and pictures of counts and traces; @{perigee.experts}.
perigee.experts = experts

--- Routing policies as programs: operators that build them; @{perigee.policy}.
perigee.policy = policy

--- Prompt pipelines: `perigee.pipeline { stage, ... }` makes one, its fields make stages; @{perigee.pipeline}.
perigee.pipeline = pipeline

--- Reading and writing JSON with nothing lost: @{perigee.json}.
perigee.json = json

--- A model, told from its metadata alone. `engine:info()` has these fields and those of a running engine.
-- @table info
-- @tfield string architecture "deepseek2", "qwen3moe" ...
-- @tfield string name the model's own, or ""
-- @tfield string format "gguf" or "safetensors"
-- @tfield string quantisation the format that holds most weights: "q8_0" ..., "q8_0 packed" in packed files
-- @tfield string tokenizer "bpe qwen2", "spm" ...
-- @tfield number parameters weights in all
-- @tfield number active_parameters weights that a token meets
-- @tfield number file_bytes all weights as stored
-- @tfield number weight_bytes of them, the matrices that tokens are multiplied by
-- @tfield number expert_bytes of these, the routed experts'
-- @tfield number active_bytes what one token meets: experts counted by how many it visits; and its row of the embedding
-- @tfield number kv_bytes of the KV cache, a token of context; f16, or as the engine was opened
-- @tfield number kv_window_bytes of them, in layers whose queries look back on kv_window tokens at most
-- @tfield number kv_window tokens; 0: no layer has a window
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
-- @tfield ?string device "cpu", "cuda:0", "cuda:0,1"
-- @tfield ?string isa instruction set of the kernels in use: "avx512", "sm_90 NVIDIA H200"
-- @tfield ?number memory_bytes of the engine itself, packed weights included, without the mapped file
-- @tfield ?string note a remark, such as a context beyond the model's own

--- How to open a model.
-- @table open_options
-- @tfield ?string device "auto" (the default: a CUDA device if everything fits its memory, or all of them if it fits
--   theirs, else the CPU), "cpu", "cuda" (the first), "cuda:N", "cuda:N,M" (any number of them) or "cuda:all": several
--   devices have consecutive layers each, by how much memory is free there, and work one after the other
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
-- @tfield ?boolean prefix_cache prompts that begin alike share what was computed of it; default true
-- @tfield ?function progress called with done, total (bytes) and what ("load") while the model is opened; an error that
-- it raises gives the opening up and passes through

--- How to quantise a model file.
-- @table quantize_options
-- @tfield string input a GGUF file (or the first of its shards) in F32, F16 or BF16
-- @tfield string output the file to write; one of that name is replaced when the new one is whole
-- @tfield ?string type "q4_k_m" (the default), "q8_0", "q6_k", "q5_k_m", "q5_k", "q5_1", "q5_0", "q4_k", "q4_0",
-- "mxfp4" (routed experts, all else q8_0), "f16", "bf16" or "copy" (nothing is quantised: to pack a file as it is)
-- @tfield ?string imatrix a file that @{imatrix} wrote: how much each input of a matrix matters
-- @tfield ?boolean pack store matrices as the engine wants them in memory: it maps them as they are, processes share
-- them, and only perigee reads such a file; default false
-- @tfield ?boolean requantize take a model that is quantised already, at a loss; default false
-- @tfield ?number threads 0: PERIGEE_THREADS, else the cores this process may use
-- @tfield ?function progress called with done, total (bytes of the input) and what ("quantize"); an error that it
-- raises gives the file up and passes through

--- What @{quantize} wrote.
-- @table quantize_report
-- @tfield number bytes_in of all tensors
-- @tfield number bytes_out
-- @tfield number tensors
-- @tfield number quantised tensors in a quantised format now
-- @tfield number packed
-- @tfield number weighted tensors with an entry of the imatrix
-- @tfield string types formats and how many tensors have them: "q4_k 120, q6_k 25, f32 61"

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

--- Compile a chat template: how a model's file says that a conversation becomes a prompt. Needs LPeg.
-- @tparam string source Jinja, as in `tokenizer.chat_template` of a GGUF file or in chat_template.jinja
-- @treturn ?perigee.template nil, message (with the line), code: "format" (not well formed), "unsupported" (no LPeg)
-- @usage
-- local template = assert(perigee.template "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
-- print(template:render { messages = { { role = "user", content = "Hi" } } })
function perigee.template(source)
   options.expect("perigee.template", "source", source, "string", 2)
   local Template, message, code = loader.template()
   if not Template then return nil, message, code end
   return Template.new(source)
end

--- A grammar in GBNF: what a text may be, to bound what @{perigee.engine:generate} says, or to check texts.
-- @tparam string text rules `name ::= alternatives`, beginning with `root`; literals, classes, groups, `| * + ? {m,n}`
-- @treturn ?perigee.grammar nil, message with line and column, code
-- @usage
-- local answer = assert(perigee.grammar 'root ::= ("yes" | "no") "."')
-- print(engine:complete("Do foxes sleep? ", { grammar = answer }))
function perigee.grammar(text)
   options.expect("perigee.grammar", "text", text, "string", 2)
   return Grammar.open(text)
end

--- The same from a JSON schema (draft 2020-12). What it cannot hold is refused by its path, never passed over.
-- @tparam string text the schema
-- @treturn ?perigee.grammar nil, message, code ("unsupported": a keyword that cannot be held)
-- @usage
-- local person = assert(perigee.schema [[{ "type": "object", "properties": { "name": { "type": "string" } },
--    "required": ["name"] }]])
function perigee.schema(text)
   options.expect("perigee.schema", "text", text, "string", 2)
   return Grammar.open_schema(text)
end

--- The same from a list of tools in OpenAI's form: one call, `{"name": ..., "arguments": {...}}`, of one of them.
-- @tparam string text list of `{"type": "function", "function": {"name": ..., "parameters": schema}}`, or of what
-- stands under "function"; its text
-- @treturn ?perigee.grammar nil, message, code
function perigee.tool_schema(text)
   options.expect("perigee.tool_schema", "text", text, "string", 2)
   return Grammar.open_tools(text)
end

--- How fast this machine reads memory, which bounds decoding.
-- @tparam[opt] table opts `threads`: 0, the default: the cores this process may use; `bytes`: read over and over, all
-- threads together; 0, the default: more than caches hold; `seconds`: how long, about; default 1
-- @treturn ?number bytes a second; nil, message, code
-- @usage print(assert(perigee.bandwidth { threads = 2 }) / 1e9, "GB/s")
function perigee.bandwidth(opts)
   local rate, message, code = memory.bandwidth(opts, 2)
   return rate, message, code
end

--- What to measure.
-- @table bench_options
-- @tfield ?number|{number,...} prompt tokens of the prompts that are timed; default 512
-- @tfield ?number new tokens that each sequence generates while timed; default 64
-- @tfield ?number|{number,...} depth tokens of context in front; default { 0, 1024 }
-- @tfield ?number|{number,...} batch requests at once, at most 64; default { 1, 4 }
-- @tfield ?number reps how often each is measured; default 5
-- @tfield ?number rows a step at most, as batch of @{open_options}; 0, the default: the engine's choice
-- @tfield ?number threads as in @{open_options}
-- @tfield ?string device as in @{open_options}
-- @tfield ?string kv_type as in @{open_options}
-- @tfield ?string precision as in @{open_options}
-- @tfield ?number bandwidth GB/s to compare with, measured before; 0, the default: measure it
-- @tfield ?function progress called with done, total and what ("memory", "load", "bench"); an error that it raises ends
-- the measurement and passes through

--- How fast a model ran.
-- @table bench_result
-- @tfield string machine processor and cores
-- @tfield string isa instruction set of the kernels in use
-- @tfield number threads
-- @tfield string model name of its file or folder
-- @tfield number bandwidth_gbs GB/s at which as many bytes as the weights have were read over and over
-- @tfield {table,...} runs each with kind ("prefill", "decode"), tokens, depth, batch; tps_median, tps_min, tps_max of
-- all sequences together; bytes_per_token, and bandwidth_share, of bandwidth_gbs
-- @tfield ?number dram_gbs GB/s from memory that no cache holds; nil when the bandwidth was given
-- @tfield number open_seconds that opening took
-- @tfield ?number peak_bytes of memory that the process took from then on, what it maps included
-- @tfield number busy_share of the time measured in decoding, what the engine's steps took
-- @tfield number weight_bytes as in @{info}
-- @tfield number rows a step at most

--- Measure how fast a model runs: prompts and generated tokens, at several depths and batch sizes. `perigee help bench`
-- tells how each figure is made.
-- @tparam ?string path as for @{open}
-- @tparam[opt] bench_options opts
-- @treturn ?bench_result nil, message, code
-- @usage print(assert(perigee.bench(nil, { reps = 1 })).runs[1].tps_median)
function perigee.bench(path, opts)
   check_path("perigee.bench", path, 2)
   local result, message, code = bench.run(path, opts, 2)
   return result, message, code
end

--- What to collect an importance matrix from.
-- @table imatrix_options
-- @tfield string|{string,...} texts needed; each is cut into chunks of its own
-- @tfield string out needed: path of the file to write
-- @tfield ?string|{string,...} names of the texts, written into the file
-- @tfield ?number chunk tokens that the model sees at once; default 512
-- @tfield ?number limit chunks at most
-- @tfield ?number threads as in @{open_options}
-- @tfield ?string device as in @{open_options}
-- @tfield ?number batch as in @{open_options}
-- @tfield ?function progress called with done, total and what ("load", "imatrix"); an error that it raises gives up and
-- passes through

--- Run a model over texts and write how strong the activations are that each column of its weights meets: by them a
-- quantizer weighs its errors. The file is GGUF, as pg_imatrix_save in perigee.h describes it; it does not depend on
-- threads or steps.
-- @tparam ?string path as for @{open}
-- @tparam imatrix_options opts
-- @treturn ?table chunks, tokens, perplexity of the texts, and unmet, how many matrices no token met (experts that none
-- chose); nil, message, code
-- @usage assert(perigee.imatrix("model.gguf", { texts = text, out = "imatrix.gguf" }))
function perigee.imatrix(path, opts)
   check_path("perigee.imatrix", path, 2)
   local result, message, code = imatrix.run(path, opts, 2)
   return result, message, code
end

--- Write a model file in another storage format.
-- @tparam quantize_options opts
-- @treturn ?quantize_report nil, message, code
-- @usage assert(perigee.quantize { input = "model-bf16.gguf", output = "model-q4_k_m.gguf", type = "q4_k_m" })
function perigee.quantize(opts)
   local report, message, code = quantize.quantize(opts, 2)
   return report, message, code
end

--- Make a content filter: @{perigee.filter}.
-- @tparam perigee.filter.filter_options opts
-- @treturn ?perigee.filter nil, message, code
-- @usage
-- local filter = assert(perigee.filter { name = "names", words = { "Voldemort" }, action = "mask", whole_word = true })
-- print(filter:clean "Lord Voldemort came in")
function perigee.filter(opts)
   local made, message, code = filter.make(opts, 2)
   return made, message, code
end

--- Open an app folder: policies, filters and pipelines, a file each, loaded now and swapped when they change.
-- @tparam string folder
-- @tparam perigee.engine engine
-- @tparam[opt] table opts `watch`: false: files are loaded once and not watched
-- @treturn ?perigee.app nil, message, code
-- @usage local application = assert(perigee.app("app/", engine))
function perigee.app(folder, engine, opts)
   options.expect("perigee.app", "folder", folder, "string", 2)
   options.expect("perigee.app", "engine", engine, "table", 2)
   local opened, message, code = app.open(folder, engine, opts, 2)
   return opened, message, code
end

--- Watch files, and call back for each that has changed and come to rest. Nothing happens but in
-- @{perigee.watcher:poll}, or, in a program that has loaded luv, in its loop. Policies: @{perigee.policies:watch}.
-- @tparam string|{string,...} paths files; they need not be there yet
-- @tparam function callback called with the path
-- @treturn perigee.watcher
-- @usage
-- local watcher = perigee.watch("app.lua", function(path) print(path .. " has changed") end)
-- while engine:poll(20) do watcher:poll() end
function perigee.watch(paths, callback)
   return (reload.watch("perigee.watch", paths, callback, 2))
end

-- Callable as before, and with the packs as functions of its own.
perigee.filter = pack.attach(perigee.filter)

return perigee --[[@as perigee]]
