--- GGUF files, read and written in plain LuaJIT.
-- Here: the container, and the storage types that the golden cases need, to and from double arrays. Not here: what the
-- tensors mean (reference.lua). It shares no line with the engine's own reader, so that the two can disagree.
-- Source: ggml-org/ggml, docs/gguf.md; block layouts: ggml-org/llama.cpp, ggml/src/ggml-common.h.
-- @module gguf

local ffi = require "ffi"
local bit = require "bit"

local M = {}

local SCALAR = {
   [0] = "uint8_t", "int8_t", "uint16_t", "int16_t", "uint32_t", "int32_t", "float", "uint8_t", nil, nil,
   "uint64_t", "int64_t", "double",
}
local KEY_TYPE = { u32 = 4, i32 = 5, f32 = 6, bool = 7, string = 8 }
local BOOL, STRING, ARRAY = 7, 8, 9
local ALIGN = 32

-- ---- half floats --------------------------------------------------------------------------------------------------

local word = ffi.new("union { float f; uint32_t u; }")

local function from_f16(h)
   local sign = bit.band(h, 0x8000) ~= 0 and -1 or 1
   local exponent, fraction = bit.band(bit.rshift(h, 10), 31), bit.band(h, 1023)
   if exponent == 0 then return sign * fraction * 2 ^ -24 end
   if exponent == 31 then return fraction == 0 and sign * math.huge or 0 / 0 end
   return sign * (1 + fraction / 1024) * 2 ^ (exponent - 15)
end

local function nearest_even(x)
   local low = math.floor(x)
   local rest = x - low
   if rest > 0.5 or (rest == 0.5 and low % 2 == 1) then low = low + 1 end
   return low
end

local function to_f16(x)
   local sign = x < 0 and 0x8000 or 0
   local size = math.abs(x)
   assert(size < 65504, "value too large for F16")
   local _, exponent = math.frexp(size)
   exponent = size == 0 and -14 or math.max(exponent - 1, -14)
   local steps = nearest_even(size * 2 ^ (10 - exponent))   -- 1024 .. 2048 when normal; 2048 carries into the exponent
   return sign + (exponent + 14) * 1024 + steps
end

local function from_bf16(h)
   word.u = bit.lshift(h, 16)
   return word.f
end

local function to_bf16(x)
   word.f = x
   local u = tonumber(word.u)
   return math.floor((u + 0x7FFF + math.floor(u / 65536) % 2) / 65536)
end

-- ---- storage types ------------------------------------------------------------------------------------------------

local function nibbles(value)
   return function(src, out, d, at)
      for j = 0, 15 do
         out[at + j] = d * value(bit.band(src[j], 15))
         out[at + j + 16] = d * value(bit.rshift(src[j], 4))
      end
   end
end

local E2M1 = { [0] = 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 }
local q4_0 = nibbles(function(q) return q - 8 end)
local mxfp4 = nibbles(function(q) return E2M1[q] end)

local function f16_at(src) return from_f16(src[0] + 256 * src[1]) end

-- read(src, out, at) turns one block into doubles, write(x, at, dst) the other way.
local TYPES = {
   [0] = { name = "F32", elements = 1, bytes = 4,
      read = function(src, out, at) out[at] = ffi.cast("const float *", src)[0] end,
      write = function(x, at, dst) ffi.cast("float *", dst)[0] = x[at] end },
   [1] = { name = "F16", elements = 1, bytes = 2,
      read = function(src, out, at) out[at] = f16_at(src) end,
      write = function(x, at, dst) ffi.cast("uint16_t *", dst)[0] = to_f16(x[at]) end },
   [30] = { name = "BF16", elements = 1, bytes = 2,
      read = function(src, out, at) out[at] = from_bf16(src[0] + 256 * src[1]) end,
      write = function(x, at, dst) ffi.cast("uint16_t *", dst)[0] = to_bf16(x[at]) end },
   [2] = { name = "Q4_0", elements = 32, bytes = 18,
      read = function(src, out, at) q4_0(src + 2, out, f16_at(src), at) end,
      write = function(x, at, dst)
         local far = 0
         for i = 0, 31 do if math.abs(x[at + i]) > math.abs(far) then far = x[at + i] end end
         local d = far / -8
         ffi.cast("uint16_t *", dst)[0] = to_f16(d)
         local function q(i) return d == 0 and 8 or math.min(15, math.floor(x[at + i] / d + 8.5)) end
         for j = 0, 15 do dst[2 + j] = q(j) + 16 * q(j + 16) end
      end },
   [8] = { name = "Q8_0", elements = 32, bytes = 34,
      read = function(src, out, at)
         local d, q = f16_at(src), ffi.cast("const int8_t *", src + 2)
         for i = 0, 31 do out[at + i] = d * q[i] end
      end,
      write = function(x, at, dst)
         local far = 0
         for i = 0, 31 do far = math.max(far, math.abs(x[at + i])) end
         local d, q = far / 127, ffi.cast("int8_t *", dst + 2)
         ffi.cast("uint16_t *", dst)[0] = to_f16(d)
         for i = 0, 31 do q[i] = d == 0 and 0 or nearest_even(x[at + i] / d) end
      end },
   [39] = { name = "MXFP4", elements = 32, bytes = 17,
      read = function(src, out, at) mxfp4(src + 1, out, 2 ^ (src[0] - 128), at) end },
}
local TYPE_ID = {}
for id, t in pairs(TYPES) do TYPE_ID[t.name] = id end

local function count(dims)
   local n = 1
   for _, dim in ipairs(dims) do n = n * dim end
   return n
end

local function pad(n, to) return (to - n % to) % to end

-- ---- reading ------------------------------------------------------------------------------------------------------

local Cursor = {}
Cursor.__index = Cursor

function Cursor:bytes(n)
   assert(self.at + n <= self.size, "file ends early")
   local p = self.base + self.at
   self.at = self.at + n
   return p
end

function Cursor:number(ctype)
   return tonumber(ffi.cast("const " .. ctype .. " *", self:bytes(ffi.sizeof(ctype)))[0])
end

function Cursor:string()
   local n = self:number("uint64_t")
   return ffi.string(self:bytes(n), n)
end

function Cursor:value(kind)
   if kind == STRING then return self:string() end
   if kind == ARRAY then
      local of, n, list = self:number("uint32_t"), self:number("uint64_t"), {}
      assert(of ~= ARRAY, "array of arrays")
      for i = 1, n do list[i] = self:value(of) end
      return list
   end
   local x = self:number(assert(SCALAR[kind], "unknown value type"))
   if kind == BOOL then return x ~= 0 end
   return x
end

--- Read a whole file.
-- @string path
-- @treturn table { keys = { name = value }, tensors = { name = { dims, type, data = double[n] } } }; data is made by
-- `load` on first use
function M.read(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read("*a")
   file:close()
   local c = setmetatable({ base = ffi.cast("const uint8_t *", text), size = #text, at = 0 }, Cursor)
   assert(ffi.string(c:bytes(4), 4) == "GGUF" and c:number("uint32_t") == 3, path .. ": not GGUF version 3")
   local n_tensors, n_keys = c:number("uint64_t"), c:number("uint64_t")
   local g = { path = path, text = text, keys = {}, tensors = {} }
   for _ = 1, n_keys do
      local name = c:string()
      g.keys[name] = c:value(c:number("uint32_t"))
   end
   for _ = 1, n_tensors do
      local name, dims = c:string(), {}
      for i = 1, c:number("uint32_t") do dims[i] = c:number("uint64_t") end
      local id, offset = c:number("uint32_t"), c:number("uint64_t")
      g.tensors[name] = { name = name, dims = dims, type = id, offset = offset }
   end
   local start = c.at + pad(c.at, g.keys["general.alignment"] or ALIGN)
   for _, t in pairs(g.tensors) do
      local kind = assert(TYPES[t.type], path .. ": " .. t.name .. ": storage type " .. t.type .. " is not known here")
      c.at = start + t.offset
      t.bytes = c:bytes(count(t.dims) / kind.elements * kind.bytes)
   end
   return g
end

--- The values of a tensor as doubles.
-- @treturn cdata double[n]
function M.load(t)
   if t.data then return t.data end
   local kind, n = TYPES[t.type], count(t.dims)
   local data = ffi.new("double[?]", n)
   for i = 0, n / kind.elements - 1 do kind.read(t.bytes + i * kind.bytes, data, i * kind.elements) end
   t.data = data
   return data
end

-- ---- writing ------------------------------------------------------------------------------------------------------

local function packed(ctype, x)
   local cell = ffi.new(ctype .. "[1]", x)
   return ffi.string(cell, ffi.sizeof(cell))
end

local function text_of(s) return packed("uint64_t", #s) .. s end

local function value_of(kind, x)
   if kind == STRING then return text_of(x) end
   if kind == BOOL then x = x and 1 or 0 end
   return packed(SCALAR[kind], x)
end

--- Write a file.
-- @string path
-- @tparam table keys list of { name, kind, value }; kind is u32, i32, f32, bool, string, or one of them with "[]"
-- @tparam table tensors list of { name =, dims =, data = double[n], type = "F32" }
function M.write(path, keys, tensors)
   local out, at = {}, 0
   local function put(s)
      out[#out + 1] = s
      at = at + #s
   end
   put("GGUF" .. packed("uint32_t", 3) .. packed("uint64_t", #tensors) .. packed("uint64_t", #keys))
   for _, key in ipairs(keys) do
      local name, kind, value = key[1], key[2], key[3]
      local of = kind:match("^(.*)%[%]$")
      put(text_of(name))
      if of then
         put(packed("uint32_t", ARRAY) .. packed("uint32_t", KEY_TYPE[of]) .. packed("uint64_t", #value))
         for _, x in ipairs(value) do put(value_of(KEY_TYPE[of], x)) end
      else
         put(packed("uint32_t", KEY_TYPE[kind]) .. value_of(KEY_TYPE[kind], value))
      end
   end
   local offset, blobs = 0, {}
   for _, t in ipairs(tensors) do
      local id = TYPE_ID[t.type]
      local kind, n = TYPES[id], count(t.dims)
      assert(t.dims[1] % kind.elements == 0, t.name .. ": rows do not divide into blocks")
      local blob = ffi.new("uint8_t[?]", n / kind.elements * kind.bytes)
      for i = 0, n / kind.elements - 1 do kind.write(t.data, i * kind.elements, blob + i * kind.bytes) end
      local s = ffi.string(blob, ffi.sizeof(blob))
      put(text_of(t.name) .. packed("uint32_t", #t.dims))
      for _, dim in ipairs(t.dims) do put(packed("uint64_t", dim)) end
      put(packed("uint32_t", id) .. packed("uint64_t", offset))
      blobs[#blobs + 1] = s .. ("\0"):rep(pad(#s, ALIGN))
      offset = offset + #blobs[#blobs]
   end
   put(("\0"):rep(pad(at, ALIGN)))
   local file = assert(io.open(path, "wb"))
   file:write(table.concat(out), table.concat(blobs))
   file:close()
end

return M
