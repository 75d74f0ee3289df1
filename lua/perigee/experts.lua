--- What the experts of a model do: how evenly they are used, which of them work together, how two texts differ, what a
-- cache of them would find, and pictures of it all.
--
-- Everything here starts from counts: those of an engine (@{perigee.engine:experts}, since it was opened), those of a
-- trace (@{perigee.engine:trace} writes one, @{read} reads it), or those of texts (@{profile}). Layers and experts have
-- the model's own numbers, from 0; lists count from 1, so expert e of the i-th MoE layer is `counts.counts[i][e + 1]`.
-- @module perigee.experts
-- @usage
-- local perigee, experts = require "perigee", require "perigee.experts"
-- local engine = assert(perigee.open())
-- engine:complete("Once upon a time", { max_new = 64 })
-- experts.show(engine)
local options = require "perigee.options"
local stats = require "perigee.experts.stats"
local cache = require "perigee.experts.cache"
local draw = require "perigee.experts.draw"
local terminal = require "perigee.cli.terminal"
local windows = require "perigee.windows"
local Engine = require "perigee.engine"
local Trace = require "perigee.experts.trace"

local experts = {}

--- How often each expert was chosen.
-- @table counts
-- @tfield number experts routed experts of a layer
-- @tfield number used of them, by default, a token
-- @tfield {number,...} layers the MoE layers' numbers in the model
-- @tfield number tokens that were counted
-- @tfield {{number,...},...} counts a list for each MoE layer, of a number for each expert
-- @tfield ?number perplexity of the text, in profiles

-- ---- one layer ----

--- Utilisation of one layer: sum / (experts * largest).
-- @tparam {number,...} load how often each expert was chosen, as all functions of one layer take it
-- @treturn number from 1 / experts, one has everything, to 1, all alike; 0 when nothing was chosen, as below
function experts.utilisation(load) return stats.utilisation(load) end

--- How many times its fair share the busiest expert has: largest / mean.
-- @tparam {number,...} load
-- @treturn number 1: all alike
function experts.max_mean(load) return stats.max_mean(load) end

--- Gini's coefficient.
-- @tparam {number,...} load
-- @treturn number 0: all alike; (experts - 1) / experts: one has everything
function experts.gini(load) return stats.gini(load) end

--- Entropy of the shares.
-- @tparam {number,...} load
-- @treturn number in nats; ln(experts): all alike
function experts.entropy(load) return stats.entropy(load) end

--- Divergence of Jensen and Shannon between two loads.
-- @tparam {number,...} a
-- @tparam {number,...} b
-- @treturn number in nats; 0: the same shares; ln 2: no expert serves both
function experts.divergence(a, b) return stats.divergence(a, b) end

-- ---- where counts come from ----

--- Read a trace. The whole file is checked before this returns.
-- @tparam string path
-- @treturn ?perigee.trace to be walked through: `for record in trace do`; nil, message, code ("format": the file is no
-- trace, or damaged)
-- @usage for record in assert(experts.read "story.trace") do print(record.token, unpack(record.experts[1])) end
function experts.read(path)
   options.expect("perigee.experts.read", "path", path, "string", 2)
   return Trace.open(path)
end

local function empty_counts(like)
   local counts = { experts = like.experts, used = like.used, layers = like.layers, tokens = 0, counts = {} }
   for i = 1, #like.layers do
      local load = {}
      for e = 1, like.experts do load[e] = 0 end
      counts.counts[i] = load
   end
   return counts
end

local function count_trace(trace, keep)
   local counts = empty_counts(trace)
   for record in trace:tokens() do
      if not keep or keep(record) then
         counts.tokens = counts.tokens + 1
         for i, ids in ipairs(record.experts) do
            local load = counts.counts[i]
            for _, id in ipairs(ids) do load[id + 1] = load[id + 1] + 1 end
         end
      end
   end
   return counts
end

-- A trace from itself or its path.
local function to_trace(where, source, level)
   if type(source) == "string" then return Trace.open(source) end
   if getmetatable(source) == Trace then return source end
   error(where .. ": expected a trace or the path of one", level + 1)
end

local function is_counts(source)
   return type(source) == "table" and type(source.counts) == "table" and type(source.layers) == "table"
      and type(source.experts) == "number"
end

-- Counts from whatever has some.
local function to_counts(where, source, level)
   if getmetatable(source) == Engine then return source:experts() end
   if type(source) == "string" or getmetatable(source) == Trace then
      local trace, message, code = to_trace(where, source, level + 1)
      if not trace then return nil, message, code end
      return count_trace(trace)
   end
   if is_counts(source) then return source end
   error(where .. ": expected an engine, counts, a trace, or the path of a trace", level + 1)
end

--- Counts of a trace.
-- @tparam perigee.trace|string trace or its path
-- @tparam[opt] function keep called with each record; only those count for which it returns true
-- @treturn ?counts nil, message, code
-- @usage local mine = experts.count("story.trace", function(record) return record.request == 7 end)
function experts.count(trace, keep)
   local source, message, code = to_trace("perigee.experts.count", trace, 2)
   if not source then return nil, message, code end
   return count_trace(source, keep)
end

--- What was counted between two moments.
-- @tparam counts after
-- @tparam counts before of the same engine
-- @treturn counts
-- @usage
-- local before = engine:experts()
-- engine:score "A text"
-- print(experts.summary(experts.minus(engine:experts(), before)).utilisation)
function experts.minus(after, before)
   local found = empty_counts(after)
   found.tokens = after.tokens - before.tokens
   for i, load in ipairs(found.counts) do
      for e = 1, #load do load[e] = after.counts[i][e] - before.counts[i][e] end
   end
   return found
end

local PROFILE = { window = "integer", limit = "integer", progress = "function" }

-- The windows of all texts: { name, ids } each.
local function cut(engine, texts, size, limit)
   local list, bos = {}, engine:info().bos
   for _, name in ipairs(options.names(texts)) do
      local ids, message, code = engine:encode(texts[name], { bos = false })
      if not ids then return nil, ("text %q: %s"):format(name, message), code end
      local parts = windows.cut(ids, bos, size, limit)
      if #parts == 0 then return nil, ("text %q is too short: it takes two tokens"):format(name), "invalid" end
      for _, part in ipairs(parts) do list[#list + 1] = { name = name, ids = part } end
   end
   return list
end

local function add_counts(to, from)
   to.tokens = to.tokens + from.tokens
   for i, load in ipairs(to.counts) do
      for e = 1, #load do load[e] = load[e] + from.counts[i][e] end
   end
end

local function run_windows(engine, list, progress)
   local found, before = {}, engine:experts()
   for i, window in ipairs(list) do
      if progress then progress(i - 1, #list, "profile") end
      local logprobs, message, code = engine:score(window.ids)
      if not logprobs then return nil, message, code end
      local after = engine:experts()
      local profile = found[window.name] or empty_counts(after)
      add_counts(profile, experts.minus(after, before))
      profile.surprise, profile.scored = profile.surprise or 0, (profile.scored or 0) + #logprobs
      for _, logprob in ipairs(logprobs) do profile.surprise = profile.surprise - logprob end
      found[window.name], before = profile, after
   end
   for _, profile in pairs(found) do
      profile.perplexity = math.exp(profile.surprise / profile.scored)
      profile.surprise, profile.scored = nil, nil
   end
   return found
end

--- Which experts read which text: each text is scored, in windows, and its counts taken by themselves. Whatever else
-- the engine does meanwhile is counted too, so let it do nothing else.
-- @tparam perigee.engine engine
-- @tparam {[string]=string} texts by name
-- @tparam[opt] table opts `window`: tokens that are seen at once; default 512, at most the context; `limit`: windows of
-- each text at most; `progress`: called with done, total, "profile"
-- @treturn ?{[string]=counts} by name; each also has `perplexity`; nil, message, code
-- @usage
-- local profiles = assert(experts.profile(engine, { tales = "Once upon a time", verse = "春眠不觉晓" }))
-- print(experts.difference(profiles.tales, profiles.verse).divergence)
function experts.profile(engine, texts, opts)
   if getmetatable(engine) ~= Engine then error("perigee.experts.profile: expected an engine", 2) end
   options.expect("perigee.experts.profile", "texts", texts, "table", 2)
   local given, message, code = options.check("perigee.experts.profile", PROFILE, opts, 2)
   if not given then return nil, message, code end
   local started, why, name = engine:experts()
   if not started then return nil, why, name end
   local size, context = given.window, engine:info().context
   if (given.window or 2) < 2 or (given.limit or 1) < 1 then
      return nil, "perigee.experts.profile: window must be 2 or more, limit 1 or more", "invalid"
   end
   local list
   list, message, code = cut(engine, texts, math.min(size or 512, context), given.limit)
   if not list then return nil, "perigee.experts.profile: " .. message, code end
   return run_windows(engine, list, given.progress)
end

-- ---- what they tell ----

--- How evenly experts are used.
-- @table balance
-- @tfield number utilisation mean over layers of sum / (experts * largest)
-- @tfield number max_mean mean over layers of largest / mean
-- @tfield number gini mean over layers
-- @tfield number entropy mean over layers, in nats
-- @tfield number entropy_share the same as part of ln(experts)
-- @tfield {table,...} layers for each: layer, its number; these five; unused, experts that nobody chose

local MEASURES = { "utilisation", "max_mean", "gini", "entropy", "entropy_share" }

local function measure_layer(number, load)
   local unused = 0
   for _, n in ipairs(load) do unused = unused + (n == 0 and 1 or 0) end
   local entropy = stats.entropy(load)
   return {
      layer = number, unused = unused, utilisation = stats.utilisation(load), max_mean = stats.max_mean(load),
      gini = stats.gini(load), entropy = entropy, entropy_share = #load > 1 and entropy / math.log(#load) or 1,
   }
end

--- How evenly experts are used, over all layers and in each.
-- @tparam perigee.engine|counts|perigee.trace|string source an engine, counts, a trace or the path of one
-- @treturn ?balance nil, message, code
-- @usage print(experts.summary(engine).utilisation)
function experts.summary(source)
   local counts, message, code = to_counts("perigee.experts.summary", source, 2)
   if not counts then return nil, message, code end
   local found = { layers = {} }
   for i, load in ipairs(counts.counts) do found.layers[i] = measure_layer(counts.layers[i], load) end
   for _, name in ipairs(MEASURES) do
      local sum = 0
      for _, layer in ipairs(found.layers) do sum = sum + layer[name] end
      found[name] = sum / #found.layers
   end
   return found
end

-- The place of a layer by its number.
local function place_of(where, layers, number)
   for i, known in ipairs(layers) do
      if known == number then return i end
   end
   return nil, ("%s: layer %s has no experts; those are %s"):format(where, tostring(number),
      table.concat(layers, ", ")), "invalid"
end

--- Which experts work together on one token.
-- @tparam perigee.trace|string trace or its path
-- @tparam number layer its number in the model
-- @treturn ?{{number,...},...} together[a + 1][b + 1]: tokens that took a and b; [a + 1][a + 1]: that took a; nil,
-- message, code
-- @usage local together = assert(experts.coactivation("story.trace", 1)); print(together[3][4])
function experts.coactivation(trace, layer)
   local source, message, code = to_trace("perigee.experts.coactivation", trace, 2)
   if not source then return nil, message, code end
   local at, why, name = place_of("perigee.experts.coactivation", source.layers, layer)
   if not at then return nil, why, name end
   local together = {}
   for a = 1, source.experts do
      together[a] = {}
      for b = 1, source.experts do together[a][b] = 0 end
   end
   for record in source:tokens() do
      local ids = record.experts[at]
      for _, a in ipairs(ids) do
         for _, b in ipairs(ids) do together[a + 1][b + 1] = together[a + 1][b + 1] + 1 end
      end
   end
   return together
end

-- Experts of one layer by how much their shares differ.
local function differing(a, b, most)
   local p, q, list = stats.shares(a), stats.shares(b), {}
   for e = 1, #p do list[e] = { expert = e - 1, a = p[e], b = q[e] } end
   table.sort(list, function(x, y)
      local dx, dy = math.abs(x.a - x.b), math.abs(y.a - y.b)
      return dx > dy or dx == dy and x.expert < y.expert
   end)
   return { unpack(list, 1, math.min(most, #list)) }
end

--- How two prompts, texts or domains differ in the experts they take.
-- @tparam perigee.engine|counts|perigee.trace|string a
-- @tparam perigee.engine|counts|perigee.trace|string b of the same model
-- @tparam[opt=5] number most experts to name a layer
-- @treturn ?table `divergence`: mean over layers of Jensen and Shannon's, in nats (at most ln 2); `layers`: for each
-- layer, divergence, and top: a list of { expert, a, b }, the experts whose shares differ most; nil, message, code
-- @usage print(experts.difference(profiles.tales, profiles.verse).layers[1].top[1].expert)
function experts.difference(a, b, most)
   local first, message, code = to_counts("perigee.experts.difference", a, 2)
   if not first then return nil, message, code end
   local second
   second, message, code = to_counts("perigee.experts.difference", b, 2)
   if not second then return nil, message, code end
   if first.experts ~= second.experts or #first.layers ~= #second.layers then
      return nil, ("perigee.experts.difference: %d layers of %d experts and %d of %d: not the same model"):format(
         #first.layers, first.experts, #second.layers, second.experts), "invalid"
   end
   local found, sum = { layers = {} }, 0
   for i, load in ipairs(first.counts) do
      local divergence = stats.divergence(load, second.counts[i])
      found.layers[i] = { layer = first.layers[i], divergence = divergence,
         top = differing(load, second.counts[i], most or 5) }
      sum = sum + divergence
   end
   found.divergence = sum / #found.layers
   return found
end

local REPLAY = { sizes = "counts", policies = "strings" }

-- Sizes of 1, 2, 4 ... up to all experts.
local function default_sizes(E)
   local sizes, size = {}, 1
   while size < E do
      sizes[#sizes + 1] = size
      size = 2 * size
   end
   sizes[#sizes + 1] = E
   return sizes
end

local function as_list(value) return type(value) == "table" and value or { value } end

--- What a cache of experts would find: a trace replayed against caches that hold `size` experts of each layer.
-- @tparam perigee.trace|string trace or its path
-- @tparam[opt] table opts `sizes`: a number or a list, default 1, 2, 4 ... to all; `policies`: of "lru", the one used
-- longest ago leaves; "lfu", the one used least often; "static", the most used of the whole trace stay; default all
-- @treturn ?{[string]={table,...}} for each policy a list of size, asked, hits, and rate, which is hits / asked; nil,
-- message, code
-- @usage for _, point in ipairs(experts.replay("story.trace").lru) do print(point.size, point.rate) end
function experts.replay(trace, opts)
   local source, message, code = to_trace("perigee.experts.replay", trace, 2)
   if not source then return nil, message, code end
   local given, why, name = options.check("perigee.experts.replay", REPLAY, opts, 2)
   if not given then return nil, why, name end
   local names = as_list(given.policies or { "lru", "lfu", "static" })
   local sizes = as_list(given.sizes or default_sizes(source.experts))
   for _, policy in ipairs(names) do
      if not cache.policies[policy] then
         return nil, ("perigee.experts.replay: policy %q, expected lru, lfu or static"):format(policy), "invalid"
      end
   end
   for _, size in ipairs(sizes) do
      if size < 1 or size > source.experts then
         return nil, ("perigee.experts.replay: a cache of %d experts, expected 1 to %d"):format(size, source.experts),
            "invalid"
      end
   end
   return cache.replay(function() return source:tokens() end, count_trace(source), names, sizes)
end

-- ---- pictures ----

local SHOW = { style = "string", width = "integer", layer = "integer" }
local STYLES = { digits = true, blocks = true, colours = true }

local function set(name) return (os.getenv(name) or "") ~= "" end

-- What standard output can show.
local function default_style()
   if not terminal.is_terminal(1) or os.getenv "TERM" == "dumb" then return "digits" end
   return set "NO_COLOR" and "blocks" or "colours"
end

-- One layer of counts alone.
local function only(where, counts, layer)
   if not layer then return counts end
   local at, message, code = place_of(where, counts.layers, layer)
   if not at then return nil, message, code end
   return { experts = counts.experts, used = counts.used, tokens = counts.tokens, layers = { layer },
      counts = { counts.counts[at] } }
end

--- A heat map of layers and experts as text.
-- @tparam perigee.engine|counts|perigee.trace|string source
-- @tparam[opt] table opts `style`: "colours" (256, for a terminal), "blocks" or "digits"; default: what standard output
-- can show, without colours where NO_COLOR is set; `width`: columns; default 80; `layer`: this one alone
-- @treturn ?string lines; nil, message, code
-- @usage print(experts.text(engine, { style = "digits" }))
function experts.text(source, opts)
   local counts, message, code = to_counts("perigee.experts.text", source, 2)
   if not counts then return nil, message, code end
   local given, why, name = options.check("perigee.experts.text", SHOW, opts, 2)
   if not given then return nil, why, name end
   local style = given.style or default_style()
   if not STYLES[style] then
      return nil, ("perigee.experts.text: style %q, expected colours, blocks or digits"):format(style), "invalid"
   end
   counts, message, code = only("perigee.experts.text", counts, given.layer)
   if not counts then return nil, message, code end
   return draw.text(counts, style, given.width or 80)
end

--- Print a heat map and how even the load is; for the prompt of a LuaJIT.
-- @tparam perigee.engine|counts|perigee.trace|string source
-- @tparam[opt] table opts as for @{text}
-- @treturn ?boolean true; nil, message, code
-- @usage experts.show(engine)
function experts.show(source, opts)
   local counts, message, code = to_counts("perigee.experts.show", source, 2)
   if not counts then return nil, message, code end
   local text
   text, message, code = experts.text(counts, opts)
   if not text then return nil, message, code end
   local balance = experts.summary(only("", counts, opts and opts.layer))
   io.write(text, ("%d tokens; utilisation %.1f %%, max/mean %.2f, Gini %.2f, entropy %.2f nats (%.0f %% of ln E)\n")
      :format(counts.tokens, 100 * balance.utilisation, balance.max_mean, balance.gini, balance.entropy,
         100 * balance.entropy_share))
   return true
end

local PICTURE = { cell = "integer", title = "string" }

-- Checked options of a picture.
local function picture(where, source, opts, level)
   local counts, message, code = to_counts(where, source, level + 1)
   if not counts then return nil, message, code end
   local given, why, name = options.check(where, PICTURE, opts, level + 1)
   if not given then return nil, why, name end
   local cell = given.cell or 16
   if cell < 1 or cell > 256 then return nil, ("%s: cell is %d, expected 1 to 256"):format(where, cell), "invalid" end
   return counts, cell, given.title or "Experts"
end

--- A heat map as SVG; the place of a pointer tells layer, expert and count.
-- @tparam perigee.engine|counts|perigee.trace|string source
-- @tparam[opt] table opts `cell`: side of a cell in pixels, default 16; `title`
-- @treturn ?string nil, message, code
-- @usage io.open("map.svg", "wb"):write(experts.svg(engine, { title = "Tales" }))
function experts.svg(source, opts)
   local counts, cell, title = picture("perigee.experts.svg", source, opts, 2)
   if not counts then return nil, cell, title end
   return draw.svg(counts, cell, title)
end

--- A heat map as PNG: a row of cells a layer, dark to bright.
-- @tparam perigee.engine|counts|perigee.trace|string source
-- @tparam[opt] table opts `cell` as for @{svg}
-- @treturn ?string bytes of the file; nil, message, code
-- @usage io.open("map.png", "wb"):write(experts.png(engine))
function experts.png(source, opts)
   local counts, cell, code = picture("perigee.experts.png", source, opts, 2)
   if not counts then return nil, cell, code end
   return draw.png(counts, cell)
end

return experts
