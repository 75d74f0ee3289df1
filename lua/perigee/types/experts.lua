---@meta _
-- luacheck: ignore 212 241
-- Types of what tells about experts, for lua-language-server; never loaded. The reference is in the modules themselves.

---@class perigee.ExpertCounts
---@field experts integer routed experts of a layer
---@field used integer of them, by default, a token
---@field layers integer[] the MoE layers' numbers in the model
---@field tokens number
---@field counts number[][] for each MoE layer, of each expert
---@field perplexity? number of a profile

---@class perigee.Engine
local Engine = {}

---@param opts? { kind?: "all"|"prompt"|"generated" }
---@return perigee.ExpertCounts? counts
---@return string? message
---@return perigee.Code? code
function Engine:experts(opts) end

---@param opts { file: string, every?: integer }
---@return perigee.Tracer? tracer
---@return string? message
---@return perigee.Code? code
function Engine:trace(opts) end

---@class perigee.Tracer
---@field path string
local Tracer = {}

---@class perigee.TracerState
---@field tokens number
---@field lost number
---@field bytes number

---@return perigee.TracerState? state
---@return string? message
---@return perigee.Code? code
function Tracer:state() end

---@return perigee.TracerState? state
---@return string? message
---@return perigee.Code? code
function Tracer:close() end

---@class perigee.Trace
---@field path string
---@field name string of the model
---@field layers integer[] the MoE layers' numbers in the model
---@field model_layers integer
---@field experts integer
---@field used integer
---@field most integer experts a token and layer at most
---@field every integer
---@field closed boolean false: it was read while it was written, or its process ended early
---@field n integer records
---@field lost number
---@overload fun(): perigee.ExpertRecord?
local Trace = {}

---@class perigee.ExpertRecord
---@field step integer
---@field request integer
---@field position integer
---@field token integer
---@field kind "prompt"|"generated"
---@field experts integer[][]
---@field weights number[][]

---@return fun(): perigee.ExpertRecord?
function Trace:tokens() end

---@class perigee.ExpertBalance
---@field utilisation number
---@field max_mean number
---@field gini number
---@field entropy number
---@field entropy_share number
---@field layers table[]

---@alias perigee.ExpertSource perigee.Engine|perigee.ExpertCounts|perigee.Trace|string

---@class perigee.experts
local experts = {}

---@param load number[]
---@return number
function experts.utilisation(load) end

---@param load number[]
---@return number
function experts.max_mean(load) end

---@param load number[]
---@return number
function experts.gini(load) end

---@param load number[]
---@return number
function experts.entropy(load) end

---@param a number[]
---@param b number[]
---@return number
function experts.divergence(a, b) end

---@param path string
---@return perigee.Trace? trace
---@return string? message
---@return perigee.Code? code
function experts.read(path) end

---@param trace perigee.Trace|string
---@param keep? fun(record: perigee.ExpertRecord): boolean
---@return perigee.ExpertCounts? counts
---@return string? message
---@return perigee.Code? code
function experts.count(trace, keep) end

---@param after perigee.ExpertCounts
---@param before perigee.ExpertCounts
---@return perigee.ExpertCounts
function experts.minus(after, before) end

---@param engine perigee.Engine
---@param texts table<string, string>
---@param opts? { window?: integer, limit?: integer, progress?: fun(done: number, total: number, what: string) }
---@return table<string, perigee.ExpertCounts>? profiles
---@return string? message
---@return perigee.Code? code
function experts.profile(engine, texts, opts) end

---@param source perigee.ExpertSource
---@return perigee.ExpertBalance? balance
---@return string? message
---@return perigee.Code? code
function experts.summary(source) end

---@param trace perigee.Trace|string
---@param layer integer
---@return number[][]? together
---@return string? message
---@return perigee.Code? code
function experts.coactivation(trace, layer) end

---@param a perigee.ExpertSource
---@param b perigee.ExpertSource
---@param most? integer
---@return { divergence: number, layers: table[] }? difference
---@return string? message
---@return perigee.Code? code
function experts.difference(a, b, most) end

---@param trace perigee.Trace|string
---@param opts? { sizes?: integer|integer[], policies?: string|string[] }
---@return table<string, { size: integer, asked: integer, hits: integer, rate: number }[]>? found
---@return string? message
---@return perigee.Code? code
function experts.replay(trace, opts) end

---@param source perigee.ExpertSource
---@param opts? { style?: "colours"|"blocks"|"digits", width?: integer, layer?: integer }
---@return string? lines
---@return string? message
---@return perigee.Code? code
function experts.text(source, opts) end

---@param source perigee.ExpertSource
---@param opts? { style?: "colours"|"blocks"|"digits", width?: integer, layer?: integer }
---@return boolean? shown
---@return string? message
---@return perigee.Code? code
function experts.show(source, opts) end

---@param source perigee.ExpertSource
---@param opts? { cell?: integer, title?: string }
---@return string? svg
---@return string? message
---@return perigee.Code? code
function experts.svg(source, opts) end

---@param source perigee.ExpertSource
---@param opts? { cell?: integer, title?: string }
---@return string? bytes
---@return string? message
---@return perigee.Code? code
function experts.png(source, opts) end
