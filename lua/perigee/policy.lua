--- Policy programs: expressions over the experts of a layer, or over the vocabulary, compiled to vector code that the
-- engine verifies and runs natively.
--
-- An expression is made by ordinary operators from inputs, knobs and numbers. What has a value for each expert (or
-- token) is a vector, what has one for the row is a scalar; together they give vectors. There are no branches:
-- @{select} takes from both sides. Comparing operators cannot be had in Lua 5.1, hence @{lt} and its like.
--
-- Inputs of a routing program are, as vectors, `policy.scores` (router logits, nats), `choose` (added for choosing
-- only), `probs` (the router's softmax or sigmoid), `load` (running share of this layer's choices), `resident` (1 when
-- the expert is in fast memory), `index` (0, 1, 2 ...); as scalars `layer`, `position`, `prompt` (1 for a prompt's
-- rows), `top`, `cumulative`, `used` (experts a row visits by default), `size` (how many experts). Of a program over
-- the vocabulary: `policy.logits`, and `probs`, `index`, `position`, `prompt`, `size`.
-- @module perigee.policy
-- @usage
-- local policy = require "perigee.policy"
-- local sure = policy.entropy(policy.scores)
-- engine:route(policy.program { top = policy.select(policy.lt(sure, 1), 1, policy.used) })
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"

local C = lib.C
local M = {}

local VECTORS, SCALARS = 32, 64

-- ---- instructions ---------------------------------------------------------------------------------------------------

-- By name: number, kinds of result and operands; the library says what there is.
local instructions = {}
do
   local i = 0
   while C.pg_program_op(i) ~= nil do
      local name, result, operands = ffi.string(C.pg_program_op(i)):match "^(%S+) (%S*) (%S*)$"
      instructions[name] = { number = i, result = result, operands = operands }
      i = i + 1
   end
end

-- ---- expressions ----------------------------------------------------------------------------------------------------

local Expression = {}
Expression.__index = Expression

local function is_expression(value) return getmetatable(value) == Expression end

local function node(op, ...)
   local from, vector = { ... }, instructions[op].result == "v"
   if instructions[op].result == "x" then
      for _, operand in ipairs(from) do vector = vector or operand.vector end
   end
   return setmetatable({ op = op, vector = vector, from = from }, Expression)
end

local function constant(value) return setmetatable({ op = "const", value = value, from = {} }, Expression) end

-- Numbers become constants; anything else that is no expression raises at the line that wrote it.
local function expression(where, value, level)
   if is_expression(value) then return value end
   if type(value) == "number" then
      if value ~= value then error(where .. ": a constant is not a number", level + 1) end
      return constant(value)
   end
   error(("%s: expected an expression or a number, not a %s"):format(where, type(value)), level + 1)
end

-- What constants give at once, in the library's own terms: f32 is close enough to fold in double and round at the end.
local fold = {
   add = function(a, b) return a + b end, sub = function(a, b) return a - b end,
   mul = function(a, b) return a * b end, div = function(a, b) return a / b end,
   min = math.min, max = math.max, pow = function(a, b) return a ^ b end,
   lt = function(a, b) return a < b and 1 or 0 end, le = function(a, b) return a <= b and 1 or 0 end,
   eq = function(a, b) return a == b and 1 or 0 end,
   neg = function(a) return -a end, abs = math.abs, floor = math.floor, sqrt = math.sqrt, exp = math.exp,
   log = math.log,
   select = function(c, a, b) return c ~= 0 and a or b end,
}

-- Which operand is all that is left when the other is this constant.
local neutral = {
   add = { [0] = "either" }, sub = { [0] = "second" }, mul = { [1] = "either" }, div = { [1] = "second" },
   pow = { [1] = "second" },
}

local function simplify(op, from)
   local values, constants = {}, 0
   for i, operand in ipairs(from) do
      values[i] = operand.value
      if operand.value then constants = constants + 1 end
   end
   if constants == #from and fold[op] then
      local value = fold[op](unpack(values, 1, #from))
      if value == value then return constant(value) end
   end
   local side = neutral[op]
   if not side then return end
   if from[2].op == "const" and side[from[2].value] then return from[1] end
   if from[1].op == "const" and side[from[1].value] == "either" then return from[2] end
end

-- Callers put parentheses around it: a tail call would take their own callers' lines away from messages.
local function apply(where, level, op, ...)
   local from = {}
   for i = 1, select("#", ...) do from[i] = expression(where, (select(i, ...)), level + 1) end
   local kinds = instructions[op].operands
   for i, operand in ipairs(from) do
      local kind = kinds:sub(i, i)
      if kind == "v" and not operand.vector then
         error(("%s: expected a vector, such as policy.scores, not a single number"):format(where), level + 1)
      elseif kind == "s" and operand.vector then
         error(("%s: expected a single number, not a vector; reduce it with sum, mean, largest ..."):format(where),
            level + 1)
      end
   end
   return simplify(op, from) or node(op, unpack(from))
end

for method, op in pairs { __add = "add", __sub = "sub", __mul = "mul", __div = "div", __pow = "pow" } do
   Expression[method] = function(a, b) return (apply("policy", 2, op, a, b)) end
end
Expression.__unm = function(a) return (apply("policy", 2, "neg", a)) end

local function no_order()
   error("policy: an expression has no order yet; use policy.lt, policy.le and policy.select", 2)
end
Expression.__lt, Expression.__le = no_order, no_order

local of_experts = { choose = true, load = true, resident = true, layer = true, top = true, cumulative = true,
   n_used = true }

for _, name in ipairs { "scores", "choose", "probs", "load", "resident", "index", "layer", "position", "prompt", "top",
   "cumulative", "size" } do
   M[name] = node(name)
end
M.used = node "n_used"
M.logits = node "scores"
M.logits.vocabulary = true

--- A number that can be changed while the engine runs, as `engine.knobs.NAME`; read once a step. Programs of one engine
-- that name the same knob share it.
-- @tparam string name
-- @tparam number default until it is set
-- @treturn expression scalar
function M.knob(name, default)
   options.expect("policy.knob", "name", name, "string", 2)
   options.expect("policy.knob", "default", default, "number", 2)
   if not name:find "^[%a_][%w_]*$" or #name > 63 then
      error(("policy.knob: %q is no name: letters, digits and _, at most 63"):format(name), 2)
   end
   local knob = node "knob"
   knob.knob, knob.default = name, default
   return knob
end

--- The smallest of its operands, number by number.
-- @tparam expression|number a
-- @tparam expression|number ...
-- @treturn expression
function M.min(a, ...)
   local least = expression("policy.min", a, 2)
   for i = 1, select("#", ...) do least = apply("policy.min", 2, "min", least, (select(i, ...))) end
   return least
end

--- The largest of its operands, number by number.
-- @tparam expression|number a
-- @tparam expression|number ...
-- @treturn expression
function M.max(a, ...)
   local most = expression("policy.max", a, 2)
   for i = 1, select("#", ...) do most = apply("policy.max", 2, "max", most, (select(i, ...))) end
   return most
end

--- a where condition is not 0, else b; number by number.
-- @tparam expression|number condition
-- @tparam expression|number a
-- @tparam expression|number b
-- @treturn expression
function M.select(condition, a, b) return (apply("policy.select", 2, "select", condition, a, b)) end

--- 1 where a < b, else 0.
-- @tparam expression|number a
-- @tparam expression|number b
-- @treturn expression
function M.lt(a, b) return (apply("policy.lt", 2, "lt", a, b)) end

--- 1 where a <= b, else 0.
-- @tparam expression|number a
-- @tparam expression|number b
-- @treturn expression
function M.le(a, b) return (apply("policy.le", 2, "le", a, b)) end

--- 1 where a > b, else 0.
-- @tparam expression|number a
-- @tparam expression|number b
-- @treturn expression
function M.gt(a, b) return (apply("policy.gt", 2, "lt", b, a)) end

--- 1 where a >= b, else 0.
-- @tparam expression|number a
-- @tparam expression|number b
-- @treturn expression
function M.ge(a, b) return (apply("policy.ge", 2, "le", b, a)) end

--- 1 where a equals b, else 0; `policy.eq(policy.index, 7)` is 1 for expert 7 alone.
-- @tparam expression|number a
-- @tparam expression|number b
-- @treturn expression
function M.eq(a, b) return (apply("policy.eq", 2, "eq", a, b)) end

--- Without its sign.
-- @tparam expression|number a
-- @treturn expression
function M.abs(a) return (apply("policy.abs", 2, "abs", a)) end

--- The largest whole number not above it.
-- @tparam expression|number a
-- @treturn expression
function M.floor(a) return (apply("policy.floor", 2, "floor", a)) end

--- Square root.
-- @tparam expression|number a
-- @treturn expression
function M.sqrt(a) return (apply("policy.sqrt", 2, "sqrt", a)) end

--- e to this power.
-- @tparam expression|number a
-- @treturn expression
function M.exp(a) return (apply("policy.exp", 2, "exp", a)) end

--- Natural logarithm.
-- @tparam expression|number a
-- @treturn expression
function M.log(a) return (apply("policy.log", 2, "log", a)) end

--- Sum of a vector.
-- @tparam expression v
-- @treturn expression scalar, as all down to @{mass}
function M.sum(v) return (apply("policy.sum", 2, "sum", v)) end

--- Mean of a vector.
-- @tparam expression v
-- @treturn expression
function M.mean(v) return (apply("policy.mean", 2, "mean", v)) end

--- Largest number of a vector.
-- @tparam expression v
-- @treturn expression
function M.largest(v) return (apply("policy.largest", 2, "largest", v)) end

--- Smallest number of a vector.
-- @tparam expression v
-- @treturn expression
function M.smallest(v) return (apply("policy.smallest", 2, "smallest", v)) end

--- The largest number of a vector less the next.
-- @tparam expression v
-- @treturn expression
function M.margin(v) return (apply("policy.margin", 2, "margin", v)) end

--- Entropy of a vector's softmax, in nats.
-- @tparam expression v logits
-- @treturn expression
function M.entropy(v) return (apply("policy.entropy", 2, "entropy", v)) end

--- Sum of the largest k numbers of a vector.
-- @tparam expression v
-- @tparam expression|number k scalar
-- @treturn expression
function M.mass(v, k) return (apply("policy.mass", 2, "mass", v, k)) end

--- Softmax of a vector.
-- @tparam expression v
-- @treturn expression vector
function M.softmax(v) return (apply("policy.softmax", 2, "softmax", v)) end

--- 0 for the largest number of a vector, 1 for the next ...; the lower index first on ties.
-- @tparam expression v
-- @treturn expression vector
function M.rank(v) return (apply("policy.rank", 2, "rank", v)) end

-- ---- compiling ------------------------------------------------------------------------------------------------------

local Program = {}
Program.__index = Program

-- Equal expressions become one: nodes are numbered by what they say. Returns the node's number.
local function number(c, e)
   if c.of[e] then return c.of[e] end
   local key = { e.op, e.knob or "", e.default or "", e.value and ("%.17g"):format(e.value) or "" }
   for _, operand in ipairs(e.from) do key[#key + 1] = number(c, operand) end
   key = table.concat(key, " ")
   local n = c.by_key[key]
   if not n then
      n = #c.nodes + 1
      c.by_key[key], c.nodes[n] = n, e
      c.uses[n] = 0
      for _, operand in ipairs(e.from) do c.uses[c.of[operand]] = c.uses[c.of[operand]] + 1 end
   end
   c.of[e] = n
   return n
end

local function knob_number(c, e)
   local n = c.knob_of[e.knob]
   if not n then
      n = #c.knobs
      c.knob_of[e.knob] = n
      c.knobs[n + 1], c.defaults[n + 1] = e.knob, e.default
   elseif c.defaults[n + 1] ~= e.default then
      return nil, ("policy.program: knob %s has two defaults, %g and %g"):format(e.knob, c.defaults[n + 1], e.default)
   end
   return n
end

local function take_register(c, vector)
   local first, last = vector and 0 or VECTORS, vector and VECTORS - 1 or VECTORS + SCALARS - 1
   for r = first, last do
      if not c.busy[r] then
         c.busy[r] = true
         return r
      end
   end
   return nil, "policy.program: it needs more values at once than there are registers; say less in one program"
end

local function release(c, n)
   c.uses[n] = c.uses[n] - 1
   if c.uses[n] == 0 then c.busy[c.register[n]] = nil end
end

local function emit(c, op, dst, from, value)
   c.code[#c.code + 1] = { op = op, dst = dst, from = from, value = value }
end

local function translate(c, n)
   local e, from = c.nodes[n], {}
   for i, operand in ipairs(e.from) do from[i] = c.register[c.of[operand]] end
   if e.knob then
      local knob, message = knob_number(c, e)
      if not knob then return nil, message end
      from[1] = knob
   end
   for _, operand in ipairs(e.from) do release(c, c.of[operand]) end
   local register, message = take_register(c, e.vector)
   if not register then return nil, message end
   c.register[n] = register
   emit(c, e.op, register, from, e.value)
   return true
end

local OUTPUTS = { "scores", "choose", "top", "cumulative" }

local function check_points(c, vocabulary)
   for _, e in ipairs(c.nodes) do
      if vocabulary and of_experts[e.op] then
         return nil, ("policy.program: %s is about experts, a program over logits has none"):format(
            e.op == "n_used" and "used" or e.op)
      elseif e.op == "scores" and (e.vocabulary or false) ~= vocabulary then
         return nil, vocabulary and "policy.program: a program over logits reads policy.logits, not policy.scores"
            or "policy.program: a routing program reads policy.scores, not policy.logits"
      end
   end
   return true
end

local function words(code)
   local data, float = ffi.new("int32_t[?]", 6 * #code), ffi.new "union { float f; int32_t i; }"
   for i, instruction in ipairs(code) do
      local at = 6 * (i - 1)
      data[at] = instructions[instruction.op].number
      data[at + 1] = instruction.dst or 0
      for k = 1, 3 do data[at + 1 + k] = instruction.from[k] or 0 end
      float.f = instruction.value or 0
      data[at + 5] = float.i
   end
   return data
end

local function compile(outputs, vocabulary)
   local c = {
      of = {}, by_key = {}, nodes = {}, uses = {}, knobs = {}, knob_of = {}, defaults = {}, busy = {}, register = {},
      code = {},
   }
   for _, output in ipairs(outputs) do
      local n = number(c, output.e)
      c.uses[n] = c.uses[n] + 1
   end
   local fine, message = check_points(c, vocabulary)
   for n = 1, #c.nodes do
      if fine then fine, message = translate(c, n) end
   end
   if not fine then return nil, message, "invalid" end
   for _, output in ipairs(outputs) do emit(c, "set_" .. output.name, nil, { c.register[c.of[output.e]] }) end
   if #c.code > 256 then
      return nil, ("policy.program: %d instructions, at most 256"):format(#c.code), "limit"
   end
   return c
end

--- Compile a program.
-- @tparam table outputs for a routing program any of `scores`, `choose` (vectors; a scalar is for all), `top` (rounded)
-- and `cumulative` (scalars): what a row has instead of what it had; or `logits` alone, for a program over the
-- vocabulary. Also `name` (for reports), `live` (true: requests in flight follow its successor)
-- @treturn ?program nil, message, code
-- @usage
-- local busy = policy.knob("busy", 0)
-- engine:route(policy.program { scores = policy.scores - 4 * busy * (1 - policy.resident), top = 8 - 4 * busy })
-- engine.knobs.busy = 1
function M.program(outputs)
   options.expect("policy.program", "outputs", outputs, "table", 2)
   local KNOWN = { scores = "any", choose = "any", top = "any", cumulative = "any", logits = "any", name = "string",
      live = "boolean" }
   local given, message, code = options.check("policy.program", KNOWN, outputs, 2)
   if not given then return nil, message, code end
   local list, vocabulary = {}, given.logits ~= nil
   for _, name in ipairs(vocabulary and { "logits" } or OUTPUTS) do
      if given[name] ~= nil then
         local e = expression("policy.program, " .. name, given[name], 2)
         if e.vector and (name == "top" or name == "cumulative") then
            error(("policy.program: %s must be a single number, not a vector"):format(name), 2)
         end
         list[#list + 1] = { name = vocabulary and "scores" or name, e = e }
      end
   end
   for _, name in ipairs(vocabulary and OUTPUTS or {}) do
      if given[name] ~= nil then
         return nil, ("policy.program: logits and %s belong to two programs"):format(name), "invalid"
      end
   end
   if #list == 0 then
      return nil, "policy.program: nothing to set; give scores, choose, top, cumulative or logits", "invalid"
   end
   local c
   c, message, code = compile(list, vocabulary)
   if not c then return nil, message, code end
   return setmetatable({
      name = given.name, live = given.live, knobs = c.knobs, defaults = c.defaults, vocabulary = vocabulary,
      _list = c.code, _words = words(c.code),
   }, Program)
end

local function register_name(r)
   return r < VECTORS and "v" .. r or "s" .. r - VECTORS
end

--- The code of a program, a line an instruction: `v` registers hold a number for each expert or token, `s` registers
-- one number.
-- @tparam program program
-- @treturn string
function M.text(program)
   if getmetatable(program) ~= Program then error("policy.text: expected a program of policy.program", 2) end
   local lines = { ("program%s over %s, %d instructions"):format(program.name and " " .. program.name or "",
      program.vocabulary and "the vocabulary" or "experts", #program._list) }
   for _, i in ipairs(program._list) do
      local shown = { i.op }
      if i.op == "const" then shown[2] = ("%.9g"):format(i.value) end
      if i.op == "knob" then
         local n = i.from[1] + 1
         shown[2] = ("%s (%.9g)"):format(program.knobs[n], program.defaults[n])
      else
         for _, r in ipairs(i.from) do shown[#shown + 1] = register_name(r) end
      end
      lines[#lines + 1] = "  " .. (i.dst and register_name(i.dst) .. " = " or "") .. table.concat(shown, " ")
   end
   return table.concat(lines, "\n") .. "\n"
end

--- Print the code of a program.
-- @tparam program program
function M.print(program)
   if getmetatable(program) ~= Program then error("policy.print: expected a program of policy.program", 2) end
   io.write(M.text(program))
end

Program.__tostring = function(program) return M.text(program):sub(1, -2) end

--- Whether a value is a program.
-- @param value
-- @treturn boolean
-- @local
function M.is_program(value) return getmetatable(value) == Program end

--- Add a program to a policy as its next stage.
-- @tparam cdata handle `pg_policy *`
-- @tparam program program
-- @treturn number result code
-- @local
function M.add(handle, program)
   local n = #program.knobs
   local c = ffi.new "pg_program"
   local names, values = options.strings(program.knobs), ffi.new("float[?]", math.max(n, 1), program.defaults)
   c.point = program.vocabulary and C.PG_PROGRAM_LOGITS or C.PG_PROGRAM_ROUTE
   c.code, c.n = program._words, #program._list
   c.knob, c.knob_value, c.n_knob = names, values, n
   return C.pg_policy_program(handle, c, lib.err)
end

return M
