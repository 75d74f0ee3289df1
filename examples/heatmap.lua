-- A picture of layers and experts: which of them read a text, dark to bright.
--    luajit examples/heatmap.lua FILE OUT.png [MODEL]     (or OUT.svg, whose cells tell their counts)
local perigee, experts = require "perigee", require "perigee.experts"

local path, out = arg[1], arg[2]
if not out then error("usage: luajit heatmap.lua FILE OUT.png|OUT.svg [MODEL]", 0) end
local file = assert(io.open(path, "rb"))
local text = file:read "*a"
file:close()

local engine = assert(perigee.open(arg[3]))
local counts = assert(experts.profile(engine, { [path] = text }))[path]
engine:close()

local picture = out:match "%.svg$" and experts.svg(counts, { title = path }) or experts.png(counts, { cell = 24 })
file = assert(io.open(out, "wb"))
assert(file:write(picture))
file:close()

experts.show(counts)
for _, layer in ipairs(experts.summary(counts).layers) do
   print(("layer %d: utilisation %.1f %%, %d of %d experts idle"):format(layer.layer, 100 * layer.utilisation,
      layer.unused, counts.experts))
end
