--- The text of a stream as a matcher sees it: bytes as they came, or folded, with the way back to where they came from.
--
-- Private to the module. A tape holds whole characters only, and of those the last ones: what is decided is trimmed
-- away. Places are counted from the start of the stream, from 0, and stay what they are when the tape is trimmed. The
-- memory is FFI's, so that automata and libpcre2 read it without strings being made.
-- @module perigee.filter.tape
-- @local
local ffi = require "ffi"
local bit = require "bit"

local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift

ffi.cdef "void *memmove(void *to, const void *from, size_t n);"

local Tape = {}
Tape.__index = Tape

local bytes, places = ffi.typeof "uint8_t[?]", ffi.typeof "int32_t[?]"

--- A tape without text.
-- @tparam ?cdata map what characters are folded to (@{perigee.filter.fold}); nil: they stay what they are
-- @treturn tape
function Tape.new(map)
   return setmetatable({
      map = map or false, room = 256, data = bytes(256), origin = map and places(256) or false,
      base = 0,       -- place of data[0]
      stop = 0,       -- place after the last byte
      raw_stop = 0,   -- the same in the text as it came
   }, Tape)
end

local function grow(self, n)
   local used = self.stop - self.base
   if used + n <= self.room then return end
   local room = math.max(used + n, 2 * self.room)
   local data = bytes(room)
   ffi.copy(data, self.data, used)
   if self.map then
      local origin = places(room)
      ffi.copy(origin, self.origin, 4 * used)
      self.origin = origin
   end
   self.data, self.room = data, room
end

-- Code point and length of the character at p[i], n bytes in all; a broken one is one byte long and has no code point.
local function decode(p, i, n)
   local b = p[i]
   local long = b >= 0xC2 and b < 0xE0 and 2 or b >= 0xE0 and b < 0xF0 and 3 or 1
   if long == 1 or i + long > n then return -1, 1 end
   local c = band(b, long == 2 and 0x1F or 0x0F)
   for k = 1, long - 1 do
      local follows = p[i + k]
      if band(follows, 0xC0) ~= 0x80 then return -1, 1 end
      c = bor(lshift(c, 6), band(follows, 0x3F))
   end
   return c, long
end

local function encode(p, j, c)
   if c < 0x80 then
      p[j] = c
      return 1
   elseif c < 0x800 then
      p[j], p[j + 1] = bor(0xC0, rshift(c, 6)), bor(0x80, band(c, 0x3F))
      return 2
   end
   p[j], p[j + 1], p[j + 2] = bor(0xE0, rshift(c, 12)), bor(0x80, band(rshift(c, 6), 0x3F)), bor(0x80, band(c, 0x3F))
   return 3
end

-- No folded character is longer than what it came from: the room is that of the text.
local function fold(self, p, n)
   local map, data, origin, raw = self.map, self.data, self.origin, self.raw_stop
   local i, j = 0, self.stop - self.base
   while i < n do
      local b = p[i]
      if b < 0x80 then
         data[j], origin[j] = map[b], raw + i
         i, j = i + 1, j + 1
      else
         local c, long = decode(p, i, n)
         if c >= 0 and map[c] ~= c then
            local made = encode(data, j, map[c])
            for k = 0, made - 1 do origin[j + k] = raw + i end
            j = j + made
         else
            for k = 0, long - 1 do data[j + k], origin[j + k] = p[i + k], raw + i end
            j = j + long
         end
         i = i + long
      end
   end
   self.stop = self.base + j
end

--- Append whole characters.
-- @tparam cdata p bytes
-- @tparam number n how many
function Tape:push(p, n)
   grow(self, n)
   if self.map then
      fold(self, p, n)
   else
      ffi.copy(self.data + (self.stop - self.base), p, n)
      self.stop = self.stop + n
   end
   self.raw_stop = self.raw_stop + n
end

--- Where the character at a place came from.
-- @tparam number place
-- @treturn number place in the text as it came
function Tape:raw(place)
   if not self.map then return place end
   if place >= self.stop then return self.raw_stop end
   return self.origin[place - self.base]
end

--- The reverse: the first place whose character came from `raw` or later.
-- @tparam number raw
-- @treturn number
function Tape:place(raw)
   if not self.map then return raw end
   local low, high = 0, self.stop - self.base
   while low < high do
      local middle = rshift(low + high, 1)
      if self.origin[middle] < raw then low = middle + 1 else high = middle end
   end
   return self.base + low
end

--- Forget what lies before a place; places keep their numbers. It moves what is left: not for every token.
-- @tparam number place
function Tape:trim(place)
   local gone = place - self.base
   local kept = self.stop - place
   ffi.C.memmove(self.data, self.data + gone, kept)
   if self.map then ffi.C.memmove(self.origin, self.origin + gone, 4 * kept) end
   self.base = place
end

--- Forget what came from `raw` or later.
-- @tparam number raw
function Tape:cut(raw)
   self.stop = self:place(raw)
   self.raw_stop = raw
end

--- A part of it.
-- @tparam number first place
-- @tparam number stop place after the last byte
-- @treturn string
function Tape:text(first, stop)
   return ffi.string(self.data + (first - self.base), stop - first)
end

--- The place of the first character that begins at a place or after it.
-- @tparam number place
-- @treturn number
function Tape:character(place)
   local data, base, stop = self.data, self.base, self.stop
   while place < stop and band(data[place - base], 0xC0) == 0x80 do place = place + 1 end
   return place
end

return Tape
