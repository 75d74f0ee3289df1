---@meta _
-- luacheck: ignore 212 241
-- Types of the public interface for lua-language-server (EmmyLua annotations); never loaded. The reference with all the
-- words is in the modules themselves; tests/spec/types_spec.lua holds this file to them.

---@alias perigee.Code "invalid"|"not_found"|"format"|"unsupported"|"memory"|"full"|"limit"|"cancelled"|"device"|"io"
---| "filter"
---@alias perigee.Finish "stop"|"length"|"filter"|"cancelled"|"deadline"

---@class perigee
---@field version string "major.minor.patch"
---@field json perigee.Json
---@field experts perigee.experts
---@field policy table the module perigee.policy
---@field pipeline table the module perigee.pipeline
local perigee = {}

---@class perigee.OpenOptions
---@field device? string "auto", "cpu", "cuda", "cuda:N", "cuda:N,M" or "cuda:all"
---@field threads? integer 0: PERIGEE_THREADS, else the cores this process may use
---@field context? integer longest sequence in tokens
---@field kv_tokens? integer tokens in the KV page pool
---@field kv_type? "f32"|"f16"|"bf16"|"q8_0"
---@field precision? "auto"|"f32"
---@field batch? integer rows a step at most
---@field queue? integer requests that may wait or run at once
---@field mmap? boolean map the file (default) or read it
---@field mlock? boolean lock the weights into memory
---@field force? boolean skip the check that everything fits into memory
---@field prefix_cache? boolean prompts that begin alike share what was computed of it
---@field progress? fun(done: number, total: number, what: string)

---@class perigee.Info
---@field architecture string
---@field name string
---@field format "gguf"|"safetensors"
---@field quantisation string
---@field tokenizer string
---@field parameters number
---@field active_parameters number
---@field file_bytes number
---@field weight_bytes number
---@field expert_bytes number
---@field active_bytes number
---@field kv_bytes number
---@field kv_window_bytes number
---@field kv_window integer
---@field layers integer
---@field moe_layers integer
---@field width integer
---@field vocabulary integer
---@field heads integer
---@field kv_heads integer
---@field experts integer
---@field experts_used integer
---@field experts_shared integer
---@field context_train integer
---@field bos? integer
---@field eos? integer
---@field context? integer only of an engine, as all that follow
---@field kv_tokens? integer
---@field batch? integer
---@field threads? integer
---@field kv_type? string
---@field precision? string
---@field device? string
---@field isa? string
---@field memory_bytes? number
---@field note? string

---@param path? string nil: PERIGEE_MODEL, else the model that ships with perigee
---@param opts? perigee.OpenOptions
---@return perigee.Engine? engine
---@return string? message
---@return perigee.Code? code
function perigee.open(path, opts) end

---@param path? string
---@return perigee.Info? info
---@return string? message
---@return perigee.Code? code
function perigee.describe(path) end

---@param path? string
---@return perigee.Tokenizer? tokenizer
---@return string? message
---@return perigee.Code? code
function perigee.tokenizer(path) end

---@param source string Jinja
---@return perigee.Template? template
---@return string? message
---@return perigee.Code? code
function perigee.template(source) end

---@param text string GBNF
---@return perigee.Grammar? grammar
---@return string? message
---@return perigee.Code? code
function perigee.grammar(text) end

---@param json string
---@return perigee.Grammar? grammar
---@return string? message
---@return perigee.Code? code
function perigee.schema(json) end

---@param json string a list of tools, OpenAI's form
---@return perigee.Grammar? grammar
---@return string? message
---@return perigee.Code? code
function perigee.tool_schema(json) end

---@param opts? { threads?: integer, bytes?: number, seconds?: number }
---@return number? bytes a second
---@return string? message
---@return perigee.Code? code
function perigee.bandwidth(opts) end

---@class perigee.BenchOptions
---@field prompt? integer|integer[]
---@field new? integer
---@field depth? integer|integer[]
---@field batch? integer|integer[] requests at once
---@field reps? integer
---@field rows? integer a step at most
---@field threads? integer
---@field device? string
---@field kv_type? "f32"|"f16"|"bf16"|"q8_0"
---@field precision? "auto"|"f32"
---@field bandwidth? number GB/s, measured before
---@field progress? fun(done: number, total: number, what: string)

---@class perigee.BenchRun
---@field kind "prefill"|"decode"
---@field tokens integer
---@field depth integer
---@field batch integer
---@field tps_median number
---@field tps_min number
---@field tps_max number
---@field bytes_per_token number
---@field bandwidth_share number

---@class perigee.BenchResult
---@field machine string
---@field isa string
---@field threads integer
---@field model string
---@field bandwidth_gbs number
---@field runs perigee.BenchRun[]
---@field dram_gbs? number
---@field open_seconds number
---@field peak_bytes? number
---@field busy_share number
---@field weight_bytes number
---@field rows integer

---@param path? string
---@param opts? perigee.BenchOptions
---@return perigee.BenchResult? result
---@return string? message
---@return perigee.Code? code
function perigee.bench(path, opts) end

---@class perigee.ImatrixOptions
---@field texts string|string[]
---@field out string
---@field names? string|string[]
---@field chunk? integer
---@field limit? integer
---@field threads? integer
---@field device? string
---@field batch? integer
---@field progress? fun(done: number, total: number, what: string)

---@param path? string
---@param opts perigee.ImatrixOptions
---@return { chunks: integer, tokens: integer, perplexity: number, unmet: integer }? result
---@return string? message
---@return perigee.Code? code
function perigee.imatrix(path, opts) end

---@class perigee.QuantizeOptions
---@field input string
---@field output string
---@field type? "f16"|"bf16"|"q8_0"|"q6_k"|"q5_k_m"|"q5_k"|"q5_1"|"q5_0"|"q4_k_m"|"q4_k"|"q4_0"|"mxfp4"|"copy"
---@field imatrix? string
---@field pack? boolean
---@field requantize? boolean
---@field threads? integer
---@field progress? fun(done: number, total: number, what: string)

---@class perigee.QuantizeReport
---@field bytes_in number
---@field bytes_out number
---@field tensors integer
---@field quantised integer
---@field packed integer
---@field weighted integer
---@field types string

---@param opts perigee.QuantizeOptions
---@return perigee.QuantizeReport? report
---@return string? message
---@return perigee.Code? code
function perigee.quantize(opts) end

---@param opts perigee.FilterOptions
---@return perigee.Filter? filter
---@return string? message
---@return perigee.Code? code
function perigee.filter(opts) end

---@param names string|string[]
---@param opts? perigee.PackOptions
---@return perigee.Filter[]? filters
---@return string? message
---@return perigee.Code? code
function perigee.filter.pack(names, opts) end

---@return perigee.Pack[]
function perigee.filter.packs() end

---@class perigee.Engine
---@field path string
---@field filters perigee.Filters
local Engine = {}

---@class perigee.GenerateOptions
---@field max_new? integer
---@field temperature? number 0: always the most likely token
---@field top_k? integer 0: off
---@field top_p? number 1: off
---@field min_p? number 0: off
---@field typical_p? number 1: off
---@field repeat_penalty? number 1: off
---@field repeat_last_n? integer below 0: all
---@field presence_penalty? number
---@field frequency_penalty? number
---@field seed? integer|string
---@field stop? string|string[]
---@field logit_bias? table<integer, number>
---@field logprobs? integer
---@field special? boolean
---@field priority? integer
---@field chunk? integer
---@field deadline_ms? number
---@field ignore_eos? boolean
---@field cache_salt? string
---@field filters? string|perigee.Filter|(string|perigee.Filter)[]
---@field route? perigee.Route
---@field tenant? string
---@field grammar? string|perigee.Grammar GBNF, or a grammar
---@field json_schema? string|perigee.Grammar its text, or a grammar

---@class perigee.Stats
---@field prompt_tokens number
---@field generated_tokens number
---@field steps number
---@field requests number
---@field prefill_seconds number
---@field decode_seconds number
---@field busy_seconds number
---@field last_seconds number
---@field steered_rows number
---@field faulty_rows number
---@field waiting integer
---@field running integer
---@field kv_pages_used integer
---@field kv_pages integer
---@field kv_page_tokens integer
---@field kv_pages_cached integer
---@field cached_tokens number

---@return perigee.Info? info
---@return string? message
---@return perigee.Code? code
function Engine:info() end

---@return perigee.Tokenizer? tokenizer
---@return string? message
---@return perigee.Code? code
function Engine:tokenizer() end

---@param name? string
---@return perigee.Template? template
---@return string? message
---@return perigee.Code? code
function Engine:template(name) end

---@param text string
---@param opts? perigee.EncodeOptions
---@return integer[]? ids
---@return string? message
---@return perigee.Code? code
function Engine:encode(text, opts) end

---@param ids integer[]
---@param opts? perigee.DecodeOptions
---@return string? text
---@return string? message
---@return perigee.Code? code
function Engine:decode(ids, opts) end

---@param prompt string|integer[]
---@param opts? perigee.GenerateOptions
---@return perigee.Request? request
---@return string? message
---@return perigee.Code? code
function Engine:generate(prompt, opts) end

---@param prompt string|integer[]
---@param opts? perigee.GenerateOptions
---@return string? text
---@return perigee.Result|string result or the message
---@return perigee.Code? code
function Engine:complete(prompt, opts) end

---@param text string|integer[]
---@return number[]? logprobs logprobs[i] is that of ids[i + 1]
---@return integer[]|string ids or the message
---@return perigee.Code? code
function Engine:score(text) end

---@param ids integer[]
---@param opts? { chunk?: integer, decode?: integer }
---@return ffi.cdata*? logits const float * [T, V]
---@return integer|string rows or the message
---@return integer|perigee.Code vocabulary or the code
function Engine:logits(ids, opts) end

---@return perigee.Stats? stats
---@return string? message
---@return perigee.Code? code
function Engine:stats() end

---@param timeout_ms? number 0: do not wait; below 0: until there is an event
---@return integer? events
---@return string? message
---@return perigee.Code? code
function Engine:poll(timeout_ms) end

---@return integer? fd
---@return string? message
---@return perigee.Code? code
function Engine:fd() end

---@return boolean
function Engine:close() end

---@class perigee.Request
---@field id integer
---@field engine perigee.Engine
---@field done boolean whether its last event was read
local Request = {}

---@class perigee.Choice
---@field token integer
---@field logprob number
---@field top { token: integer, logprob: number }[]

---@class perigee.Usage
---@field prompt integer
---@field cached integer
---@field completion integer
---@field dropped integer

---@class perigee.Timings
---@field queue number
---@field prefill number
---@field decode number

---@class perigee.Experts
---@field used integer
---@field all integer

---@class perigee.Event
---@field kind "text"|"filter"|"done"|"fail"
---@field text? string of "text" and "filter"
---@field token? integer of "text"
---@field attempt? integer of "text", "filter" and "done"
---@field filter? string of "filter"
---@field category? string of "filter"
---@field action? perigee.FilterAction of "filter"
---@field first? integer of "filter"
---@field last? integer of "filter"
---@field on? "prompt"|"output" of "filter"
---@field logprobs? perigee.Choice of "text"
---@field finish? perigee.Finish of "done"
---@field usage? perigee.Usage of "done"
---@field timings? perigee.Timings of "done"
---@field experts? perigee.Experts of "done"
---@field seed? integer|string of "done"
---@field message? string of "fail"
---@field code? perigee.Code of "fail"

---@class perigee.Result
---@field text string
---@field tokens integer[]
---@field finish perigee.Finish
---@field usage perigee.Usage
---@field timings perigee.Timings
---@field experts perigee.Experts
---@field logprobs? perigee.Choice[]
---@field seed integer|string
---@field filters? perigee.Event[]

---@param timeout_ms? number below 0, the default: until there is one
---@return perigee.Event?
function Request:next(timeout_ms) end

---@return fun(): perigee.Event?
function Request:events() end

---@return fun(): string?
function Request:pieces() end

---@return perigee.Result? result
---@return string? message
---@return perigee.Code? code
function Request:result() end

---@return boolean? fine
---@return string? message
---@return perigee.Code? code
function Request:cancel() end
