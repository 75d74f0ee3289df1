--- PNG files of up to 256 colours, written without any library: rows stored, not compressed.
-- Source: PNG (ISO/IEC 15948), zlib (RFC 1950), deflate's stored blocks (RFC 1951, section 3.2.4).
-- @module perigee.experts.png
-- @local
local bit = require "bit"

local M = {}

local band, bxor, rshift = bit.band, bit.bxor, bit.rshift
local STORED = 65535                                     -- bytes in a stored block at most

local crc_of = {}
for byte = 0, 255 do
   local c = byte
   for _ = 1, 8 do c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xEDB88320) or rshift(c, 1) end
   crc_of[byte] = c
end

local function crc(text)
   local c = -1
   for i = 1, #text do c = bxor(rshift(c, 8), crc_of[band(bxor(c, text:byte(i)), 255)]) end
   return bit.bnot(c)
end

local function adler(text)
   local a, b = 1, 0
   for i = 1, #text do
      a = (a + text:byte(i)) % 65521
      b = (b + a) % 65521
   end
   return b * 65536 + a
end

local function be32(n)
   return string.char(band(rshift(n, 24), 255), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255))
end

local function le16(n) return string.char(n % 256, math.floor(n / 256)) end

local function chunk(kind, data) return be32(#data) .. kind .. data .. be32(crc(kind .. data)) end

local function zlib(text)
   local parts = { "\120\1" }
   for first = 1, #text, STORED do
      local piece = text:sub(first, first + STORED - 1)
      parts[#parts + 1] = (first + STORED > #text and "\1" or "\0") .. le16(#piece) .. le16(65535 - #piece) .. piece
   end
   parts[#parts + 1] = be32(bit.tobit(adler(text)))
   return table.concat(parts)
end

--- An image.
-- @tparam {string,...} rows of equal length, a byte a pixel; at least one row and pixel
-- @tparam string palette 3 bytes for each of up to 256 colours
-- @treturn string bytes of the file
function M.indexed(rows, palette)
   local header = be32(#rows[1]) .. be32(#rows) .. "\8\3\0\0\0"
   return "\137PNG\r\n\26\n" .. chunk("IHDR", header) .. chunk("PLTE", palette)
      .. chunk("IDAT", zlib("\0" .. table.concat(rows, "\0"))) .. chunk("IEND", "")
end

return M
