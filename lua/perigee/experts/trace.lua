--- A trace of experts, read: which experts each token took, with what weights. Made by @{perigee.experts.read}.
--
-- Here: the file's format, as pg_trace_open in perigee.h describes it. Nothing in a file is believed before it was
-- compared with what there can be; the whole file is walked through once before the first token is handed out, so that
-- a damaged one is refused at once and not half way. Not here: what traces tell (@{perigee.experts}).
-- @classmod perigee.trace
local bit = require "bit"
local ffi = require "ffi"

local Trace = {}
Trace.__index = Trace

local FIXED, RECORD, MOST_LAYERS, MOST_EXPERTS, MOST_NAME = 64, 16, 65536, 65535, 4096
local BLOCK = 2 ^ 18

-- ---- bytes ----

local bytes = ffi.typeof "const uint8_t *"

local function u16(p, i) return p[i] + 256 * p[i + 1] end
local function u32(p, i) return p[i] + 256 * p[i + 1] + 65536 * p[i + 2] + 16777216 * p[i + 3] end
local function i32(p, i) return bit.tobit(u32(p, i)) end

-- An IEEE half as a number; infinities and what is no number as nil.
local function f16(h)
   local sign, exponent, fraction = h >= 0x8000 and -1 or 1, bit.band(bit.rshift(h, 10), 31), bit.band(h, 1023)
   if exponent == 31 then return nil end
   if exponent == 0 then return sign * fraction * 2 ^ -24 end
   return sign * (1024 + fraction) * 2 ^ (exponent - 25)
end

-- A reader over a file: want(n) makes at least n bytes available and returns them, or nil when the file has fewer left;
-- skip(n) leaves n of them behind.
local function reader(file)
   local text, at, base = "", 0, 0
   local self = {}
   function self.want(n)
      if #text - at < n then
         local parts, have = { text:sub(at + 1) }, #text - at
         base, at = base + at, 0
         while have < n do
            local more = file:read(math.max(BLOCK, n - have))
            if not more then break end
            parts[#parts + 1], have = more, have + #more
         end
         text = table.concat(parts)
         if have < n then return nil end
      end
      return ffi.cast(bytes, text) + at
   end
   function self.skip(n) at = at + n end
   function self.offset() return base + at end
   function self.left() return #text - at end
   function self.text(n) return text:sub(at + 1, at + n) end
   return self
end

-- ---- header ----

local function damaged(path, why) return nil, ("%s: %s"):format(path, why), "format" end

local function check_header(path, h, header)
   local L, E = h.layers_moe, h.experts
   if L < 1 or L > MOST_LAYERS then return damaged(path, ("%d MoE layers, expected 1 to %d"):format(L, MOST_LAYERS)) end
   if E < 1 or E > MOST_EXPERTS then
      return damaged(path, ("%d experts a layer, expected 1 to %d"):format(E, MOST_EXPERTS))
   end
   if h.most < 1 or h.most > E then
      return damaged(path, ("a token takes up to %d experts, expected 1 to %d"):format(h.most, E))
   end
   if h.used < 1 or h.used > h.most then
      return damaged(path, ("a token takes %d experts by default, expected 1 to %d"):format(h.used, h.most))
   end
   if h.every < 1 then return damaged(path, "every is 0, expected 1 or more") end
   if h.closed > 1 then return damaged(path, ("closed is %d, expected 0 or 1"):format(h.closed)) end
   if h.n_name > MOST_NAME then
      return damaged(path, ("a name of %d bytes, expected %d at most"):format(h.n_name, MOST_NAME))
   end
   if header ~= FIXED + 4 * L + h.n_name then
      return damaged(path, ("a header of %d bytes, expected %d"):format(header, FIXED + 4 * L + h.n_name))
   end
   return true
end

local function read_layers(path, p, h)
   local list, last = {}, -1
   for i = 1, h.layers_moe do
      local number = u32(p, FIXED + 4 * (i - 1))
      if number <= last or number >= h.layers_all then
         return damaged(path, ("MoE layer %d has number %d: they must ascend and be below %d"):format(i - 1, number,
            h.layers_all))
      end
      list[i], last = number, number
   end
   return list
end

local function read_header(path, input)
   local p = input.want(FIXED)
   if not p or input.text(8) ~= "PGEXPERT" then
      return damaged(path, "no trace of experts: it must begin with PGEXPERT")
   end
   if u32(p, 8) ~= 1 then return damaged(path, ("version %d, this perigee reads 1"):format(u32(p, 8))) end
   local header = u32(p, 12)
   local h = {
      layers_moe = u32(p, 16), experts = u32(p, 20), used = u32(p, 24), most = u32(p, 28), every = u32(p, 32),
      closed = u32(p, 36), records = u32(p, 40) + 2 ^ 32 * u32(p, 44), lost = u32(p, 48) + 2 ^ 32 * u32(p, 52),
      layers_all = u32(p, 56), n_name = u32(p, 60),
   }
   local fine, message, code = check_header(path, h, header)
   if not fine then return nil, message, code end
   p = input.want(header)
   if not p then return damaged(path, "it ends within its header") end
   h.layers, message, code = read_layers(path, p, h)
   if not h.layers then return nil, message, code end
   h.name = input.text(header):sub(FIXED + 4 * h.layers_moe + 1)
   input.skip(header)
   return h
end

-- ---- records ----

-- Where the next record ends, counted from its beginning; nil when the file ends before; nil and what is wrong with it.
local function measure(input, h)
   local size = RECORD
   for _ = 1, h.layers_moe do
      local p = input.want(size + 2)
      if not p then return nil end
      local n = u16(p, size)
      if n > h.most then return nil, ("a token with %d experts in a layer, expected %d at most"):format(n, h.most) end
      size = size + 2 + 4 * n
   end
   return input.want(size) and size
end

-- What is wrong with the record at p, or nil.
local function check_record(p, h)
   if i32(p, 4) < 0 or i32(p, 8) < 0 then return "a request or a position below 0" end
   local at = RECORD
   for _ = 1, h.layers_moe do
      local n = u16(p, at)
      at = at + 2
      for x = 0, n - 1 do
         local id = u16(p, at + 4 * x)
         if id >= h.experts then return ("expert %d, expected 0 to %d"):format(id, h.experts - 1) end
         if bit.band(u16(p, at + 4 * x + 2), 0x7C00) == 0x7C00 then return "a weight that is no number" end
      end
      at = at + 4 * n
   end
end

-- Walk through all records. How many there are, and whether the file ends with a whole one; nil, message, code.
local function check_records(path, input, h)
   local n = 0
   while true do
      local size, wrong = measure(input, h)
      if size then wrong = check_record(input.want(size), h) end
      if wrong then return damaged(path, ("record %d at byte %.0f: %s"):format(n, input.offset(), wrong)) end
      if not size then return n, input.left() == 0 end
      input.skip(size)
      n = n + 1
   end
end

local function decode(p, h)
   local token = u32(p, 12)
   local record = {
      step = u32(p, 0), request = i32(p, 4), position = i32(p, 8), token = token % 2 ^ 31,
      kind = token >= 2 ^ 31 and "generated" or "prompt", experts = {}, weights = {},
   }
   local at = RECORD
   for i = 1, h.layers_moe do
      local n, ids, weights = u16(p, at), {}, {}
      at = at + 2
      for x = 1, n do
         ids[x], weights[x] = u16(p, at), f16(u16(p, at + 2))
         at = at + 4
      end
      record.experts[i], record.weights[i] = ids, weights
   end
   return record
end

-- ---- the class ----

--- Read a trace; public as @{perigee.experts.read}.
-- @local
function Trace.open(path)
   local file, message = io.open(path, "rb")
   if not file then return nil, message, "not_found" end
   local input = reader(file)
   local h, why, code = read_header(path, input)
   local n, whole
   if h then
      n, whole, code = check_records(path, input, h)
      if not n then h, why = nil, whole end
   end
   file:close()
   if not h then return nil, why, code end
   if h.closed == 1 and (n ~= h.records or not whole) then
      return damaged(path, ("%d whole records, its header says %.0f"):format(n, h.records))
   end
   return setmetatable({
      path = path, name = h.name, layers = h.layers, model_layers = h.layers_all, experts = h.experts, used = h.used,
      most = h.most, every = h.every, closed = h.closed == 1, n = n, lost = h.lost, _header = h,
   }, Trace)
end

--- Which experts one token took.
-- @table record
-- @tfield number step of the engine, counted from its opening
-- @tfield number request its id; 0: @{perigee.engine:score} or @{perigee.engine:logits}
-- @tfield number position in its sequence
-- @tfield number token id
-- @tfield string kind "prompt" or "generated"
-- @tfield {{number,...},...} experts ids for each MoE layer, in the order of `layers`, most wanted first
-- @tfield {{number,...},...} weights what each of them counts, in 11 bits

--- Walk through the tokens in the order in which they were computed; each call begins anew.
-- @treturn function iterator over @{record}, a new table each
-- @raise when the file has changed since it was read
-- @usage for record in trace:tokens() do print(record.position, record.experts[1][1]) end
function Trace:tokens()
   local file, message = io.open(self.path, "rb")
   if not file then error(message, 2) end
   local input, h, n = reader(file), self._header, 0
   local again = read_header(self.path, input)
   return function()
      if n == self.n or not file then
         if file then file:close() end
         file = nil
         return nil
      end
      local size = again and measure(input, h)
      if not size or check_record(input.want(size), h) then
         file:close()
         error(self.path .. ": the trace has changed since it was read", 2)
      end
      local record = decode(input.want(size), h)
      input.skip(size)
      n = n + 1
      return record
   end
end

--- `for record in trace do`: as @{tokens}, once.
-- @local
function Trace:__call()
   self._walk = self._walk or self:tokens()
   local record = self._walk()
   if not record then self._walk = nil end
   return record
end

function Trace:__tostring()
   return ("perigee.trace %s: %d tokens%s through %d layers of %d experts%s"):format(self.path, self.n,
      self.every > 1 and (", one in %d,"):format(self.every) or "", #self.layers, self.experts,
      self.lost > 0 and (", %d lost"):format(self.lost) or not self.closed and ", not closed" or "")
end

return Trace
