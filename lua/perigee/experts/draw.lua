--- Heat maps of experts: as text for terminals and files, as SVG, as PNG. Public through @{perigee.experts}.
--
-- A row is a MoE layer, a column an expert, or several neighbours where there is no room for all. What is drawn is how
-- many times its fair share an expert has, from nothing to the largest of the map.
-- @module perigee.experts.draw
-- @local
local png = require "perigee.experts.png"

local M = {}

-- Black over red and yellow to white; dark enough at its lower end that both kinds of background show the rest.
local RAMP = { { 20, 11, 52 }, { 87, 16, 110 }, { 153, 39, 103 }, { 205, 66, 71 }, { 243, 120, 25 }, { 249, 186, 42 },
   { 252, 255, 164 } }

-- x from 0 to 1 as red, green, blue from 0 to 255.
local function colour(x)
   local at = math.max(0, math.min(x, 1)) * (#RAMP - 1)
   local i = math.min(math.floor(at), #RAMP - 2)
   local low, high, part, mixed = RAMP[i + 1], RAMP[i + 2], at - i, {}
   for k = 1, 3 do mixed[k] = math.floor(low[k] + (high[k] - low[k]) * part + 0.5) end
   return mixed[1], mixed[2], mixed[3]
end

-- The same among the 216 colours of the cube that terminals of 256 colours have.
local function cube(x)
   local r, g, b = colour(x)
   local function level(c) return c < 48 and 0 or c < 115 and 1 or math.floor((c - 35) / 40) end
   return 16 + 36 * level(r) + 6 * level(g) + level(b)
end

--- Times its fair share, for each layer and group of `group` neighbours.
-- @tparam perigee.experts.counts counts
-- @tparam number group
-- @treturn {{number,...},...}
-- @treturn number the largest
function M.grid(counts, group)
   local grid, largest = {}, 0
   for i, load in ipairs(counts.counts) do
      local sum, row = 0, {}
      for _, n in ipairs(load) do sum = sum + n end
      for first = 1, #load, group do
         local part, last = 0, math.min(first + group - 1, #load)
         for e = first, last do part = part + load[e] end
         local value = sum > 0 and part / (last - first + 1) * #load / sum or 0
         row[#row + 1], largest = value, math.max(largest, value)
      end
      grid[i] = row
   end
   return grid, largest
end

-- ---- text ----

local BLOCKS = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

local cells = {}

function cells.digits(x) return tostring(math.min(math.floor(10 * x), 9)) end
function cells.blocks(x) return BLOCKS[math.floor(8 * x + 0.5) + 1] end
function cells.colours(x) return ("\27[38;5;%dm%s"):format(cube(x), cells.blocks(x)) end

--- A heat map as text.
-- @tparam perigee.experts.counts counts
-- @tparam string style "digits", "blocks" or "colours"
-- @tparam number width columns that there are
-- @treturn string lines
function M.text(counts, style, width)
   local group = math.max(1, math.ceil(counts.experts / math.max(width - 7, 8)))
   local grid, largest = M.grid(counts, group)
   local lines, cell, reset = {}, cells[style], style == "colours" and "\27[0m" or ""
   for i, row in ipairs(grid) do
      local parts = {}
      for k, value in ipairs(row) do parts[k] = cell(largest > 0 and value / largest or 0) end
      lines[i] = ("%5d  %s%s"):format(counts.layers[i], table.concat(parts), reset)
   end
   local scale = style == "digits" and "0 to 9" or "empty to full"
   lines[#lines + 1] = ("layer  %s experts from 0%s; %s: 0 to %.2f times the fair share"):format(counts.experts,
      group > 1 and (", %d a column"):format(group) or "", scale, largest)
   return table.concat(lines, "\n") .. "\n"
end

-- ---- pictures ----

local function escape(text)
   return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }):gsub("%c", " "))
end

--- A heat map as SVG.
-- @tparam perigee.experts.counts counts
-- @tparam number cell side of a cell in pixels
-- @tparam string title
-- @treturn string
function M.svg(counts, cell, title)
   local grid, largest = M.grid(counts, 1)
   local left, top = 48, 36
   local width, height = left + cell * counts.experts + 12, top + cell * #grid + 32
   local out = { ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" '
      .. 'font-size="11"><rect width="100%%" height="100%%" fill="#fff"/>'):format(width, height),
      ('<text x="%d" y="20" font-size="13">%s</text>'):format(left, escape(title)) }
   for i, row in ipairs(grid) do
      local y = top + cell * (i - 1)
      out[#out + 1] = ('<text x="%d" y="%.1f" text-anchor="end">%d</text>'):format(left - 6, y + cell / 2 + 4,
         counts.layers[i])
      for e, value in ipairs(row) do
         local r, g, b = colour(largest > 0 and value / largest or 0)
         out[#out + 1] = ('<rect x="%d" y="%d" width="%d" height="%d" fill="#%02x%02x%02x"><title>layer %d, expert %d: '
            .. '%.2f times the fair share, %.0f tokens</title></rect>'):format(left + cell * (e - 1), y, cell, cell, r,
            g, b, counts.layers[i], e - 1, value, counts.counts[i][e])
      end
   end
   out[#out + 1] = ('<text x="%d" y="%d">%d experts from 0; dark to bright: 0 to %.2f times the fair share</text>\n'
      .. '</svg>\n'):format(left, height - 12, counts.experts, largest)
   return table.concat(out, "\n")
end

--- A heat map as PNG: cells alone, no words.
-- @tparam perigee.experts.counts counts
-- @tparam number cell side of a cell in pixels
-- @treturn string bytes
function M.png(counts, cell)
   local grid, largest = M.grid(counts, 1)
   local rows, palette = {}, {}
   for i = 0, 255 do palette[i + 1] = string.char(colour(i / 255)) end
   for i, row in ipairs(grid) do
      local parts = {}
      for e, value in ipairs(row) do
         parts[e] = string.char(largest > 0 and math.floor(255 * value / largest + 0.5) or 0):rep(cell)
      end
      local line = table.concat(parts)
      for k = 1, cell do rows[cell * (i - 1) + k] = line end
   end
   return png.indexed(rows, table.concat(palette))
end

return M
