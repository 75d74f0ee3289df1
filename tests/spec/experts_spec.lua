-- What experts do: statistics against values computed by hand, counters against traces, damaged files, pictures.
local bit = require "bit"
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local experts = perigee.experts

local function near(expected, found, what)
   assert.is_true(math.abs(expected - found) < 1e-9, ("%s: %.12g, expected %.12g"):format(what or "", found, expected))
end

-- Counts of one or more layers.
local function counts_of(...)
   local layers = {}
   for i = 1, select("#", ...) do layers[i] = i end
   return { experts = #(...), used = 1, layers = layers, tokens = 1, counts = { ... } }
end

describe("statistics", function()
   it("of loads are those worked out by hand", function()
      near(1, experts.utilisation { 5, 5, 5, 5 })
      near(0.25, experts.utilisation { 0, 7, 0, 0 })
      near(0.625, experts.utilisation { 4, 3, 2, 1 })              -- 10 / (4 * 4)
      near(1.6, experts.max_mean { 4, 3, 2, 1 })
      near(0, experts.gini { 3, 3, 3 })
      near(0.75, experts.gini { 0, 0, 9, 0 })
      near(0.25, experts.gini { 4, 3, 2, 1 })                      -- mean difference 1.25 of mean 2.5, halved
      near(math.log(4), experts.entropy { 2, 2, 2, 2 })
      near(0, experts.entropy { 0, 3 })
      near(1.75 * math.log(2), experts.entropy { 4, 2, 1, 1 })     -- 1/2, 1/4, 1/8, 1/8: 1.75 bits
   end)

   it("of pairs too", function()
      near(0, experts.divergence({ 1, 2, 3 }, { 10, 20, 30 }))
      near(math.log(2), experts.divergence({ 1, 0 }, { 0, 5 }))
      -- (1, 0) and (1/2, 1/2): m = (3/4, 1/4); half of ln(4/3), and half of (ln(2/3) + ln 2) / 2
      near(math.log(4 / 3) / 2 + (math.log(2 / 3) + math.log(2)) / 4, experts.divergence({ 4, 0 }, { 1, 1 }))
      near(experts.divergence({ 1, 5, 2 }, { 4, 4, 0 }), experts.divergence({ 4, 4, 0 }, { 1, 5, 2 }))
   end)

   it("of nothing are 0", function()
      for _, name in ipairs { "utilisation", "max_mean", "gini", "entropy" } do
         near(0, experts[name] { 0, 0, 0 }, name)
      end
      near(0, experts.divergence({ 0, 0 }, { 1, 2 }))
   end)

   it("are means over layers in a summary", function()
      local found = experts.summary(counts_of({ 5, 5, 5, 5 }, { 0, 7, 0, 0 }))
      near(0.625, found.utilisation)
      near(2.5, found.max_mean)
      near(0.5, found.entropy_share)
      assert.same({ 1, 2 }, { found.layers[1].layer, found.layers[2].layer })
      assert.same({ 0, 3 }, { found.layers[1].unused, found.layers[2].unused })
   end)

   it("name the experts in which two loads differ most", function()
      local found = experts.difference(counts_of { 6, 2, 1, 1 }, counts_of { 1, 2, 1, 6 }, 2)
      assert.same({ 0, 3 }, { found.layers[1].top[1].expert, found.layers[1].top[2].expert })
      near(0.6, found.layers[1].top[1].a)
      near(0.1, found.layers[1].top[1].b)
      near(found.divergence, found.layers[1].divergence)
      assert.equal("invalid", select(3, experts.difference(counts_of { 1, 2 }, counts_of { 1, 2, 3 })))
   end)

   it("raise for what has no counts", function()
      for _, call in ipairs { function() experts.summary(1) end, function() experts.count {} end,
         function() experts.read(7) end, function() experts.profile({}, {}) end } do
         local fine, message = pcall(call)
         assert.is_false(fine)
         assert.matches("experts_spec.lua:%d+: perigee.experts", message)
      end
   end)
end)

-- ---- a trace file, written by hand ----

local function u16(n) return string.char(n % 256, math.floor(n / 256)) end
local function u32(n) return u16(n % 65536) .. u16(math.floor(n / 65536)) end

local HALF = { [1] = 0x3C00, [0.5] = 0x3800, [0.25] = 0x3400 }

-- tokens: a list of lists, for each layer, of experts; all weights are 1 / n.
local function trace_file(E, tokens, edit)
   local L = #tokens[1]
   local h = { magic = "PGEXPERT", version = 1, layers = L, experts = E, used = 1, most = E, every = 1, closed = 1,
      records = #tokens, lost = 0, all = L + 1, name = "by hand", numbers = {}, rest = "" }
   for i = 1, L do h.numbers[i] = i end
   local parts = {}
   for t, layers in ipairs(tokens) do
      parts[#parts + 1] = u32(t - 1) .. u32(1) .. u32(t - 1) .. u32(100 + t)
      for _, ids in ipairs(layers) do
         parts[#parts + 1] = u16(#ids)
         for _, id in ipairs(ids) do parts[#parts + 1] = u16(id) .. u16(HALF[1 / #ids]) end
      end
   end
   if edit then edit(h) end
   local numbers = {}
   for i, n in ipairs(h.numbers) do numbers[i] = u32(n) end
   return h.magic .. u32(h.version) .. u32(h.header or 64 + 4 * L + #h.name) .. u32(h.layers) .. u32(h.experts)
      .. u32(h.used) .. u32(h.most) .. u32(h.every) .. u32(h.closed) .. u32(h.records) .. u32(0) .. u32(h.lost)
      .. u32(0)
      .. u32(h.all) .. u32(h.n_name or #h.name) .. table.concat(numbers) .. h.name .. table.concat(parts) .. h.rest
end

local TOKENS = { { { 0 }, { 1, 2 } }, { { 0 }, { 2, 3 } }, { { 1 }, { 1, 2 } }, { { 0 }, { 2, 0 } } }

describe("a trace", function()
   local path
   setup(function() path = os.tmpname() end)
   teardown(function() os.remove(path) end)

   local function read(tokens, edit)
      helper.write(path, trace_file(4, tokens, edit))
      return experts.read(path)
   end

   it("is read as it was written", function()
      local trace = assert(read(TOKENS))
      assert.same({ "by hand", 4, 1, 4, 0, true }, { trace.name, trace.experts, trace.used, trace.n, trace.lost,
         trace.closed })
      assert.same({ 1, 2 }, trace.layers)
      for _ = 1, 2 do                                              -- a second walk begins anew
         local n = 0
         for record in trace do
            n = n + 1
            assert.same(TOKENS[n], record.experts)
            assert.same({ n - 1, 1, n - 1, 100 + n, "prompt" }, { record.step, record.request, record.position,
               record.token, record.kind })
            assert.same({ { 1 }, { 0.5, 0.5 } }, record.weights)
         end
         assert.equal(4, n)
      end
      assert.matches("4 tokens through 2 layers of 4 experts", tostring(trace))
   end)

   it("gives counts, and pairs that work together", function()
      local counts = assert(experts.count(assert(read(TOKENS))))
      assert.same({ { 3, 1, 0, 0 }, { 1, 2, 4, 1 } }, counts.counts)
      assert.equal(4, counts.tokens)
      local late = experts.count(path, function(record) return record.position >= 2 end)
      assert.same({ { 1, 1, 0, 0 }, { 1, 1, 2, 0 } }, late.counts)
      assert.same({ { 1, 0, 1, 0 }, { 0, 2, 2, 0 }, { 1, 2, 4, 1 }, { 0, 0, 1, 1 } }, experts.coactivation(path, 2))
      local nothing, message, code = experts.coactivation(path, 0)
      assert.is_nil(nothing)
      assert.equal("invalid", code)
      assert.matches("those are 1, 2", message)
   end)

   it("is replayed against caches as by hand", function()
      -- asked for, in order: 0 1 0 2 0 1 2 3
      local sequence = {}
      for i, id in ipairs { 0, 1, 0, 2, 0, 1, 2, 3 } do sequence[i] = { { id } } end
      assert(read(sequence))
      local found = assert(experts.replay(path, { sizes = { 1, 2, 3 } }))
      local function hits(name) return { found[name][1].hits, found[name][2].hits, found[name][3].hits } end
      assert.same({ 0, 2, 4 }, hits "lru")       -- of 2: 0 at the third and the fifth
      assert.same({ 0, 2, 4 }, hits "lfu")       -- of 2: 0 stays; 1 goes for 2, 2 for 1, 1 for 2, 2 for 3
      assert.same({ 2, 3, 4 }, hits "static")    -- 0 is met three times, 1 and 2 twice: less the first meetings
      assert.equal(8, found.lru[1].asked)
      near(4 / 8, found.lru[3].rate)
      assert.same({ 1, 2, 4 }, { experts.replay(path).lru[1].size, experts.replay(path).lru[2].size,
         experts.replay(path).lru[3].size })
      assert.equal("invalid", select(3, experts.replay(path, { policies = "fifo" })))
      assert.equal("invalid", select(3, experts.replay(path, { sizes = 5 })))
   end)

   it("is refused when it is damaged", function()
      for what, edit in pairs {
         ["begin with PGEXPERT"] = function(h) h.magic = "PGEXPERU" end,
         ["version 2"] = function(h) h.version = 2 end,
         ["a header of 4000000000 bytes"] = function(h) h.header = 4000000000 end,
         ["0 MoE layers"] = function(h) h.layers = 0 end,
         ["4294967295 MoE layers"] = function(h) h.layers = 4294967295 end,
         ["0 experts a layer"] = function(h) h.experts = 0 end,
         ["takes up to 9 experts"] = function(h) h.most = 9 end,
         ["takes 0 experts by default"] = function(h) h.used = 0 end,
         ["every is 0"] = function(h) h.every = 0 end,
         ["closed is 2"] = function(h) h.closed = 2 end,
         ["name of 4294967295 bytes"] = function(h) h.n_name = 4294967295 end,
         ["has number 1: they must ascend"] = function(h) h.numbers = { 1, 1 } end,
         ["has number 7: they must ascend and be below 3"] = function(h) h.numbers = { 1, 7 } end,
         ["expert 3, expected 0 to 2"] = function(h) h.experts, h.most = 3, 3 end,
         ["a token with 2 experts in a layer, expected 1"] = function(h) h.most = 1 end,
         ["4 whole records, its header says 5"] = function(h) h.records = 5 end,
         ["4 whole records, its header says 4"] = function(h) h.rest = "\0" end,
         ["a token with 65535 experts"] = function(h) h.rest = ("\0"):rep(16) .. "\255\255" end,
         ["a weight that is no number"] = function(h)
            h.rest = ("\0"):rep(16) .. u16(1) .. u16(0) .. u16(0x7E00) .. u16(0)
         end,
         ["a request or a position below 0"] = function(h)
            h.rest = u32(0) .. "\255\255\255\255" .. u32(0) .. u32(0) .. u16(0) .. u16(0)
         end,
      } do
         local trace, message, code = read(TOKENS, edit)
         assert.is_nil(trace, what)
         assert.equal("format", code)
         assert.matches(what, message, 1, true)
         assert.matches(path, message, 1, true)
      end
      assert.equal("not_found", select(3, experts.read "no/such.trace"))
   end)

   it("may end anywhere while it is written, and not once it is closed", function()
      local whole = trace_file(4, TOKENS, function(h) h.closed = 0 end)
      local closed = trace_file(4, TOKENS)
      local records = {}
      for n = 0, #whole do
         helper.write(path, whole:sub(1, n))
         local trace, _, code = experts.read(path)
         if trace then
            records[trace.n] = true
            assert.is_false(trace.closed)
            local walked = 0
            for _ in trace do walked = walked + 1 end
            assert.equal(trace.n, walked)
         else
            assert.equal("format", code)
         end
         helper.write(path, closed:sub(1, n))
         assert.equal(n == #closed, experts.read(path) ~= nil)
      end
      assert.same({ [0] = true, true, true, true, true }, records)
   end)

   it("never breaks its reader, whatever bytes it holds", function()
      local whole, seed = trace_file(4, TOKENS, function(h) h.closed = 0 end), 1
      local function random(n)
         seed = (seed * 1103515245 + 12345) % 2 ^ 31
         return math.floor(seed / 65536) % n
      end
      for _ = 1, 3000 do
         local at = random(#whole)
         helper.write(path, whole:sub(1, at) .. string.char(random(256)) .. whole:sub(at + 2))
         local trace, message, code = experts.read(path)
         if trace then
            for record in trace do
               for _, ids in ipairs(record.experts) do
                  for _, id in ipairs(ids) do assert.is_true(id < trace.experts) end
               end
            end
         else
            assert.equal("format", code, message)
         end
      end
   end)
end)

-- ---- an engine ----

describe("an engine's experts", function()
   local engine, path
   setup(function()
      engine, path = assert(perigee.open(helper.model, { context = 256 })), os.tmpname()
   end)
   teardown(function()
      engine:close()
      os.remove(path)
   end)

   it("are counted as the trace has them", function()
      local before = { prompt = engine:experts { kind = "prompt" }, generated = engine:experts { kind = "generated" } }
      local tracer = assert(engine:trace { file = path })
      assert.matches("perigee.tracer", tostring(tracer))
      local requests = {}
      for i = 1, 6 do
         requests[i] = assert(engine:generate(("The fox and the hare. "):rep(i), { max_new = 12, seed = i,
            ignore_eos = true }))
      end
      local prompt, generated = 0, 0
      for _, request in ipairs(requests) do
         local usage = request:result().usage
         prompt, generated = prompt + usage.prompt, generated + usage.completion - 1
      end
      local state = assert(tracer:close())
      assert.same(state, tracer:close())
      assert.equal("invalid", select(3, tracer:state()))
      assert.same({ prompt + generated, 0 }, { state.tokens, state.lost })
      local trace = assert(experts.read(path))
      assert.same({ true, 0, engine:info().name }, { trace.closed, trace.lost, trace.name })
      for kind, n in pairs { prompt = prompt, generated = generated } do
         local counted = experts.minus(engine:experts { kind = kind }, before[kind])
         local traced = experts.count(trace, function(record) return record.kind == kind end)
         assert.equal(n, counted.tokens)
         assert.same(counted, traced)
         for _, load in ipairs(counted.counts) do
            local sum = 0
            for _, times in ipairs(load) do sum = sum + times end
            assert.equal(n * counted.used, sum)
         end
      end
      local one = experts.count(trace, function(record) return record.request == requests[2].id end)
      assert.equal(requests[2]:result().usage.prompt + 11, one.tokens)
   end)

   it("are traced at each n-th position only, when asked", function()
      local tracer = assert(engine:trace { file = path, every = 5 })
      local ids = engine:encode(("The fox and the hare. "):rep(3))
      assert(engine:score(ids))
      assert.equal(math.ceil(#ids / 5), tracer:close().tokens)
      for record in assert(experts.read(path)) do
         assert.equal(0, record.position % 5)
         assert.equal(ids[record.position + 1], record.token)
         assert.equal(0, record.request)
      end
   end)

   it("outlive it in a trace", function()
      local other = assert(perigee.open(helper.model, { context = 64 }))
      local tracer = assert(other:trace { file = path })
      other:complete("Once", { max_new = 4, ignore_eos = true })
      other:close()
      assert.is_true(tracer:close().tokens >= 4)
      assert.is_true(experts.read(path).closed)
      assert.equal("invalid", select(3, other:experts()))
      assert.equal("invalid", select(3, other:trace { file = path }))
   end)

   it("are refused with a reason", function()
      for _, case in ipairs {
         { engine.experts, { kind = "both" }, "invalid", "all, prompt or generated" },
         { engine.experts, { sort = "prompt" }, "invalid", "unknown option" },
         { engine.trace, {}, "invalid", "file" }, { engine.trace, nil, "invalid", "file" },
         { engine.trace, { file = path, every = 0 }, "invalid", "every is 0" },
         { engine.trace, { file = "no/such/folder/x" }, "not_found", "no/such/folder/x" },
         { engine.trace, { file = "/dev/full" }, "io", "/dev/full" },
      } do
         local value, message, code = case[1](engine, case[2])
         assert.is_nil(value)
         assert.equal(case[3], code)
         assert.matches(case[4], message, 1, true)
      end
      local tracer = assert(engine:trace { file = path })
      assert.equal("invalid", select(3, engine:trace { file = path .. "2" }))
      tracer:close()
   end)

   it("make profiles that tell domains apart", function()
      local tales, verse = ("Once upon a time there was a little fox. "):rep(4), ("春眠不觉晓，处处闻啼鸟。"):rep(4)
      local profiles = assert(experts.profile(engine, { tales = tales, again = tales, verse = verse }, { window = 32 }))
      assert.same(profiles.tales, profiles.again)
      local logprobs = {}
      local ids_of_all = engine:encode(tales, { bos = false })
      for _, ids in ipairs(require("perigee.windows").cut(ids_of_all, engine:info().bos, 32)) do
         for _, logprob in ipairs(engine:score(ids)) do logprobs[#logprobs + 1] = logprob end
      end
      assert.is_true(math.abs(math.exp(-helper.mean(logprobs)) / profiles.tales.perplexity - 1) < 1e-6)
      near(0, experts.difference(profiles.tales, profiles.again).divergence)
      assert.is_true(experts.difference(profiles.tales, profiles.verse).divergence > 0.05)
      assert.equal("invalid", select(3, experts.profile(engine, { none = "" })))
      assert.equal("invalid", select(3, experts.profile(engine, { tales = tales }, { window = 1 })))
   end)
end)

-- ---- pictures ----

describe("a heat map", function()
   local counts = counts_of({ 0, 1, 2, 4 }, { 1, 1, 1, 1 })        -- shares of the first: 0, 4/7, 8/7, 16/7

   it("is digits, blocks or colours", function()
      local text = experts.text(counts, { style = "digits" })
      assert.equal("    1  0259\n    2  4444\n", text:sub(1, 24))
      assert.matches("0 to 2%.29 times the fair share", text)
      assert.matches("    1   ▂▄█\n", experts.text(counts, { style = "blocks" }), 1, true)
      assert.matches("    1  \27%[38;5;%d+m \27%[38;5;%d+m▂.-█\27%[0m\n", experts.text(counts, { style = "colours" }))
      assert.equal(experts.text(counts, { style = "digits" }), experts.text(counts))       -- this is no terminal
      assert.equal("    2  9999", experts.text(counts, { style = "digits", layer = 2 }):match "^[^\n]+")
      assert.equal("invalid", select(3, experts.text(counts, { layer = 0 })))
      assert.equal("invalid", select(3, experts.text(counts, { style = "ascii" })))
   end)

   it("folds experts for which there is no room", function()
      local load = {}
      for e = 1, 64 do load[e] = e <= 32 and 1 or 0 end
      local text = experts.text(counts_of(load), { style = "digits", width = 23 })
      assert.equal("    1  9999999900000000", text:match "^[^\n]+")
      assert.matches("4 a column", text)
   end)

   it("honours NO_COLOR on a terminal", function()
      local program = ([[luajit -e 'local terminal, experts = require "perigee.cli.terminal", require "perigee.experts"
         function terminal.is_terminal() return true end
         io.write(experts.text({ experts = 2, used = 1, layers = { 1 }, tokens = 3, counts = { { 1, 2 } } }))']])
      local _, coloured = helper.shell("unset NO_COLOR; TERM=xterm " .. program)
      local _, plain = helper.shell("NO_COLOR=1 TERM=xterm " .. program)
      local _, dumb = helper.shell("TERM=dumb " .. program)
      assert.matches("\27%[38;5;", coloured)
      assert.is_nil(plain:find "\27")
      assert.matches("▄█", plain, 1, true)
      assert.matches("    1  59\n", dumb, 1, true)
   end)

   it("is SVG, with its title kept apart from its marks", function()
      local svg = experts.svg(counts, { title = 'a<b & "c"', cell = 10 })
      assert.matches("a&lt;b &amp; &quot;c&quot;", svg, 1, true)
      local _, cells = svg:gsub("<rect x=", "")
      assert.equal(8, cells)
      assert.matches("layer 1, expert 3: 2.29 times the fair share, 4 tokens", svg, 1, true)
      assert.equal("invalid", select(3, experts.svg(counts, { cell = 0 })))
   end)

   -- An independent look at the bytes: sizes, checksums of the stored data, pixels.
   it("is PNG", function()
      local png = experts.png(counts_of({ 0, 1, 3, 5 }, { 1, 1, 1, 1 }), { cell = 3 })
      local function be32(at)
         local a, b, c, d = png:byte(at, at + 3)
         return ((a * 256 + b) * 256 + c) * 256 + d
      end
      assert.equal("\137PNG\r\n\26\n", png:sub(1, 8))
      local at, chunks = 9, {}
      while at <= #png do
         local n, kind = be32(at), png:sub(at + 4, at + 7)
         local crc = 0xFFFFFFFF
         for i = at + 4, at + 7 + n do
            crc = bit.bxor(crc, png:byte(i))
            for _ = 1, 8 do
               crc = bit.bxor(bit.rshift(crc, 1), bit.band(crc, 1) == 1 and 0xEDB88320 or 0)
            end
         end
         assert.equal(be32(at + 8 + n), bit.bnot(crc) % 2 ^ 32, kind)
         chunks[kind] = png:sub(at + 8, at + 7 + n)
         at = at + 12 + n
      end
      assert.equal("\0\0\0\12\0\0\0\6\8\3\0\0\0", chunks.IHDR)
      assert.equal(768, #chunks.PLTE)
      assert.equal("", chunks.IEND)
      local data = chunks.IDAT:sub(8, -5)                            -- zlib's two bytes, one stored block of five
      assert.equal(6 * 13, #data)
      local function row(y) return { data:byte(13 * y + 1, 13 * y + 13) } end
      assert.same({ 0, 0, 0, 0, 51, 51, 51, 153, 153, 153, 255, 255, 255 }, row(2))      -- of 20 / 9 of the fair share
      for x, index in ipairs(row(3)) do assert.equal(x == 1 and 0 or math.floor(255 * 9 / 20 + 0.5), index) end
   end)

   it("is shown by the command and by the example", function()
      local place = helper.workplace()
      local status, out, err = helper.shell("perigee experts --text story.txt --json", place)
      assert.equal(0, status, err)
      local found = require("cjson").decode(out).texts["story.txt"]
      local engine = assert(perigee.open(helper.model))
      local profile = assert(experts.profile(engine, { story = helper.read(place .. "/story.txt") })).story
      engine:close()
      assert.same(profile.counts, { found.layers[1].counts, found.layers[2].counts, found.layers[3].counts })
      assert.is_true(math.abs(found.utilisation - experts.summary(profile).utilisation) < 1e-8)
      local _, words = helper.shell("perigee experts --text story.txt --text README.md --limit 1 --layer 3", place)
      assert.matches("story.txt: perplexity [%d.]+\n    3  %d+\n", words)
      assert.matches("story.txt and README.md: divergence 0%.%d+ nats\n    3  0%.%d+; expert %d+ ", words)
      status, out, err = helper.shell("luajit examples/heatmap.lua story.txt map.png && "
         .. "luajit examples/heatmap.lua story.txt map.svg", place)
      assert.equal("", err)
      assert.equal(0, status)
      assert.matches("layer 1: utilisation [%d.]+ %%, %d+ of 16 experts idle\n", out)
      assert.equal("\137PNG", helper.read(place .. "/map.png"):sub(1, 4))
      assert.matches("^<svg ", helper.read(place .. "/map.svg"))
      helper.remove(place)
   end)
end)
