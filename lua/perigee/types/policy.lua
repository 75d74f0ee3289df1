---@meta _
-- luacheck: ignore 212 241
-- Types of routing policies for lua-language-server; never loaded. The words are in lua/perigee/policy.lua and
-- lua/perigee/engine/route.lua; tests/spec/types_spec.lua holds this file to them.

---@class perigee.Expression
---@operator add(perigee.Operand): perigee.Expression
---@operator sub(perigee.Operand): perigee.Expression
---@operator mul(perigee.Operand): perigee.Expression
---@operator div(perigee.Operand): perigee.Expression
---@operator pow(perigee.Operand): perigee.Expression
---@operator unm: perigee.Expression

---@alias perigee.Operand perigee.Expression|number

---@class perigee.Program
---@field name? string
---@field live? boolean
---@field knobs string[]
---@field defaults number[]
---@field vocabulary boolean

---@class perigee.ProgramOutputs
---@field scores? perigee.Operand
---@field choose? perigee.Operand
---@field top? perigee.Operand
---@field cumulative? perigee.Operand
---@field logits? perigee.Operand
---@field name? string
---@field live? boolean

---@class perigee.policy
---@field scores perigee.Expression
---@field choose perigee.Expression
---@field probs perigee.Expression
---@field load perigee.Expression
---@field resident perigee.Expression
---@field index perigee.Expression
---@field layer perigee.Expression
---@field position perigee.Expression
---@field prompt perigee.Expression
---@field top perigee.Expression
---@field cumulative perigee.Expression
---@field used perigee.Expression
---@field size perigee.Expression
---@field logits perigee.Expression
local policy = {}

---@param name string
---@param default number
---@return perigee.Expression
function policy.knob(name, default) end

---@param a perigee.Operand
---@param ... perigee.Operand
---@return perigee.Expression
function policy.min(a, ...) end

---@param a perigee.Operand
---@param ... perigee.Operand
---@return perigee.Expression
function policy.max(a, ...) end

---@param condition perigee.Operand
---@param a perigee.Operand
---@param b perigee.Operand
---@return perigee.Expression
function policy.select(condition, a, b) end

---@param a perigee.Operand
---@param b perigee.Operand
---@return perigee.Expression
function policy.lt(a, b) end

---@param a perigee.Operand
---@param b perigee.Operand
---@return perigee.Expression
function policy.le(a, b) end

---@param a perigee.Operand
---@param b perigee.Operand
---@return perigee.Expression
function policy.gt(a, b) end

---@param a perigee.Operand
---@param b perigee.Operand
---@return perigee.Expression
function policy.ge(a, b) end

---@param a perigee.Operand
---@param b perigee.Operand
---@return perigee.Expression
function policy.eq(a, b) end

---@param a perigee.Operand
---@return perigee.Expression
function policy.abs(a) end

---@param a perigee.Operand
---@return perigee.Expression
function policy.floor(a) end

---@param a perigee.Operand
---@return perigee.Expression
function policy.sqrt(a) end

---@param a perigee.Operand
---@return perigee.Expression
function policy.exp(a) end

---@param a perigee.Operand
---@return perigee.Expression
function policy.log(a) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.sum(v) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.mean(v) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.largest(v) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.smallest(v) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.margin(v) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.entropy(v) end

---@param v perigee.Expression
---@param k perigee.Operand
---@return perigee.Expression
function policy.mass(v, k) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.softmax(v) end

---@param v perigee.Expression
---@return perigee.Expression
function policy.rank(v) end

---@param outputs perigee.ProgramOutputs
---@return perigee.Program? program
---@return string? message
---@return perigee.Code? code
function policy.program(outputs) end

---@param program perigee.Program
---@return string
function policy.text(program) end

---@param program perigee.Program
function policy.print(program) end

---@class perigee.LayerKnobs
---@field top? integer
---@field cumulative? number
---@field temperature? number
---@field capacity? number
---@field ban? integer|integer[]
---@field force? integer|integer[]
---@field bias? table<integer, number>

---@class perigee.Knobs
---@field top? integer
---@field cumulative? number
---@field temperature? number
---@field capacity? number
---@field ban? integer|integer[]
---@field force? integer|integer[]
---@field bias? table<integer, number>
---@field layers? table<integer, perigee.LayerKnobs>
---@field name? string
---@field live? boolean

---@class perigee.Report
---@field number number
---@field policy string
---@field version integer
---@field layer? integer
---@field text string
---@field count number
---@field unhooked boolean

---@alias perigee.Route perigee.Knobs|perigee.Program|string|table

---@class perigee.Engine
---@field knobs table<string, number>
local Engine = {}

---@param x? perigee.Route
---@return boolean? fine
---@return string? message
---@return perigee.Code? code
function Engine:route(x) end

---@param since? number
---@return perigee.Report[]? reports
---@return string? message
---@return perigee.Code? code
function Engine:reports(since) end
