--- `perigee experts`: which experts read a text, and how texts differ in them.
-- @module perigee.cli.experts
-- @local
local experts = require "perigee.experts"
local common = require "perigee.cli.common"
local json = require "perigee.cli.json"

local command = {
   name = "experts",
   summary = "Heat map of layers and experts that read a text: how even the load is, how texts differ.",
   operands = "[model]",
   n_operands = { 0, 1 },
   options = common.join({
      { false, "text", "FILE", "text", "list", "run the model over FILE; several of them are compared" },
      { false, "trace", "FILE", "trace", "string", "look at a trace of engine:trace instead; no model is opened" },
      { false, "layer", "N", "layer", "integer", "show layer N alone" },
      { "w", "window", "N", "window", "integer", "tokens that are seen at once (512, at most the context)" },
      { false, "limit", "N", "limit", "integer", "use at most N windows of each text" },
      { false, "svg", "FILE", "svg", "string", "write the heat map to FILE, as SVG" },
      { false, "png", "FILE", "png", "string", "write the heat map to FILE, as PNG" },
      { false, "json", false, "json", "flag", "print one JSON object" },
      { "q", "quiet", false, "quiet", "flag", "no progress bar" },
   }, common.engine_options),
   notes = [[
A row of the map is a MoE layer, a column an expert: how many times its fair share it was chosen, relative to the
largest of the map. On a terminal in colours, unless NO_COLOR is set; elsewhere in digits. Utilisation is the mean over
layers of sum / (experts * largest); Gini's coefficient is 0 where all experts are alike; entropy is told also as a part
of ln(experts). Texts are compared by the divergence of Jensen and Shannon between shares: 0, alike, to ln 2, no expert
in common.
A trace also tells which part of the experts a cache of N of each layer would have had.
FILE of --text may be - for standard input.
]],
   examples = { "perigee experts --text story.txt",
      "perigee experts --text story.txt --text README.md --limit 2 --json",
      "perigee experts model.gguf --text story.txt --layer 2 --png map.png" },
}

local function show_difference(names, profiles, layer)
   for k = 2, #names do
      local found = assert(experts.difference(profiles[names[1]], profiles[names[k]], 3))
      io.write(("%s and %s: divergence %.4f nats\n"):format(names[1], names[k], found.divergence))
      for _, each in ipairs(found.layers) do
         if not layer or each.layer == layer then
            local parts = {}
            for i, top in ipairs(each.top) do
               parts[i] = ("expert %d %.1f and %.1f %%"):format(top.expert, 100 * top.a, 100 * top.b)
            end
            io.write(("%5d  %.4f; %s\n"):format(each.layer, each.divergence, table.concat(parts, ", ")))
         end
      end
   end
end

local function show_replay(replay)
   for _, name in ipairs { "lru", "lfu", "static" } do
      local parts = {}
      for i, point in ipairs(replay[name]) do parts[i] = ("%d: %.1f %%"):format(point.size, 100 * point.rate) end
      io.write(("%-6s  hits of a cache of %s\n"):format(name, table.concat(parts, ", ")))
   end
end

local function write_file(path, bytes)
   local file, message = io.open(path, "wb")
   if not file then return nil, message, "io" end
   local fine, why = file:write(bytes)
   local shut = file:close()
   if not fine or not shut then return nil, ("%s: %s"):format(path, why or "not all of it could be written"), "io" end
   return true
end

local function write_pictures(values, counts, title)
   for kind, make in pairs { svg = experts.svg, png = experts.png } do
      if values[kind] then
         local fine, message, code = write_file(values[kind], assert(make(counts, { title = title })))
         if not fine then return nil, message, code end
      end
   end
   return true
end

local function as_object(counts, layer)
   local balance = experts.summary(counts)
   local found = { tokens = counts.tokens, perplexity = counts.perplexity, layers = {} }
   for _, name in ipairs { "utilisation", "max_mean", "gini", "entropy", "entropy_share" } do
      found[name] = balance[name]
   end
   for i, each in ipairs(balance.layers) do
      each.counts = counts.counts[i]
      if not layer or each.layer == layer then found.layers[#found.layers + 1] = each end
   end
   return found
end

-- Whether the layer that was asked for is there.
local function check_layer(counts, values)
   if not values.layer then return true end
   for _, number in ipairs(counts.layers) do
      if number == values.layer then return true end
   end
   return nil, ("layer %d has no experts; those are %s"):format(values.layer,
      table.concat(counts.layers, ", ")), "usage"
end

-- ---- texts ----

local function read_all(paths)
   local texts = {}
   for _, path in ipairs(paths) do
      local text, message, code = common.read(path)
      if not text then return nil, message, code end
      texts[path] = text
   end
   return texts
end

local LABELS = { load = "loading", profile = "reading" }

local function measure(path, texts, values, interrupted)
   local engine, message, code = common.open(path, values, interrupted)
   if not engine then return nil, message, code end
   local counts
   counts, message, code = engine:experts()
   if counts then counts, message, code = check_layer(counts, values) end
   if not counts then return nil, message, code end
   local profiles, why, name = common.watched(LABELS, values.quiet, interrupted, function(progress)
      return experts.profile(engine, texts, { window = values.window, limit = values.limit, progress = progress })
   end)
   engine:close()
   return profiles, why, name
end

local function print_texts(names, profiles, values)
   if values.json then
      local texts = {}
      for _, name in ipairs(names) do texts[name] = as_object(profiles[name], values.layer) end
      local found, first = { texts = texts }, profiles[names[1]]
      if #names > 1 then found.differences = {} end
      for k = 2, #names do
         found.differences[k - 1] = assert(experts.difference(first, profiles[names[k]]))
         found.differences[k - 1].texts = { names[1], names[k] }
      end
      io.write(json.encode(found), "\n")
      return
   end
   for _, name in ipairs(names) do
      io.write(("%s: perplexity %.2f\n"):format(name, profiles[name].perplexity))
      assert(experts.show(profiles[name], { layer = values.layer }))
   end
   show_difference(names, profiles, values.layer)
end

local function check_texts(values)
   if not values.text then return nil, "a text is needed: --text FILE (or --trace FILE)", "usage" end
   if (values.window or 2) < 2 then return nil, "--window must be 2 or more", "usage" end
   if (values.limit or 1) < 1 then return nil, "--limit must be 1 or more", "usage" end
   local names, seen = {}, {}
   for _, name in ipairs(values.text) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
   end
   if (values.svg or values.png) and #values.text > 1 then return nil, "a picture is of one text", "usage" end
   return names
end

local function run_texts(values, path)
   local names, message, code = check_texts(values)
   if not names then return nil, message, code end
   local texts
   texts, message, code = read_all(names)
   if not texts then return nil, message, code end
   return common.interruptible(function(interrupted)
      local profiles, why, name = measure(path, texts, values, interrupted)
      if not profiles then return nil, why, name end
      local fine
      fine, why, name = write_pictures(values, profiles[names[1]], names[1])
      if not fine then return nil, why, name end
      print_texts(names, profiles, values)
      return common.FINE
   end)
end

-- ---- a trace ----

local function run_trace(values)
   local trace, message, code = experts.read(values.trace)
   if not trace then return nil, message, code end
   local counts = assert(experts.count(trace))
   local fine, why, name = check_layer(counts, values)
   if fine then fine, why, name = write_pictures(values, counts, values.trace) end
   if not fine then return nil, why, name end
   local replay = assert(experts.replay(trace))
   if values.json then
      local found = as_object(counts, values.layer)
      found.replay, found.lost = replay, trace.lost
      io.write(json.encode(found), "\n")
   else
      io.write(tostring(trace), "\n")
      assert(experts.show(counts, { layer = values.layer }))
      show_replay(replay)
   end
   return common.FINE
end

function command.run(values, operands)
   if not values.trace then return run_texts(values, operands[1]) end
   if values.text or operands[1] then return nil, "a trace needs no model and no text", "usage" end
   return run_trace(values)
end

return command
