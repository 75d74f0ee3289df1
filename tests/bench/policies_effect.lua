-- What the shipped policies do to the default model: perplexity, utilisation and experts a token over held-out texts
-- (windows of 256 tokens, through engine:score as it is served), and processor time of generating on one thread, by
-- turns with no policy.
--    eval "$(make -s env)"; luajit tests/bench/policies_effect.lua [-n WINDOWS] [-r TURNS] [MODEL [TALES POEMS]]
-- Ban lists and pins come from the first third of the windows; everything but the last table is measured on the rest.
-- That one is of balance: over all of the verse from the beginning, again and again, for several speeds and limits.
local perigee = require "perigee"
local experts = require "perigee.experts"
local measure = dofile "tests/bench/measure.lua"

local WINDOW, FOLDER = 256, "examples/policies/"

local function routed(engine, x) assert(engine:route(x)) end

-- ---- quality ----

-- Perplexity, utilisation, and experts a token and layer, over a list of windows.
local function quality(engine, list)
   local before, sum, n = engine:experts(), 0, 0
   for _, ids in ipairs(list) do
      for _, logprob in ipairs(assert(engine:score(ids))) do sum, n = sum - logprob, n + 1 end
   end
   local counts, chosen = experts.minus(engine:experts(), before), 0
   for _, load in ipairs(counts.counts) do
      for _, times in ipairs(load) do chosen = chosen + times end
   end
   return { perplexity = math.exp(sum / n), utilisation = experts.summary(counts).utilisation,
      experts = chosen / counts.tokens / #counts.layers, counts = counts }
end

-- ---- pace ----

-- Processor seconds of the process for `batch` requests of 128 tokens: whatever else the machine does counts little.
local function processor_seconds(engine, batch)
   local before, requests = os.clock(), {}
   for i = 1, batch do
      requests[i] = assert(engine:generate("Once upon a time", { max_new = 128, seed = i, ignore_eos = true }))
   end
   for _, request in ipairs(requests) do assert(request:result()) end
   return os.clock() - before
end

-- Processor time as a share of that without a policy: the median of turns.
local function pace(engine, x, batch, turns)
   local ratios = {}
   for turn = 1, turns do
      local odd = turn % 2 == 1
      routed(engine, odd and x or nil)
      local a = processor_seconds(engine, batch)
      routed(engine, not odd and x or nil)
      local b = processor_seconds(engine, batch)
      ratios[turn] = odd and a / b or b / a
   end
   routed(engine, nil)
   return measure.median(ratios)
end

-- ---- policies ----

local function last_used(engine, text, n, opts)          -- the n most used experts of each layer
   local bans = assert(dofile(FOLDER .. "domain_ban.lua")(engine, { text = text }, engine:info().experts - n, opts))
   local pins = {}
   for layer, knobs in pairs(bans.text.layers) do
      local banned, kept = {}, {}
      for _, e in ipairs(knobs.ban) do banned[e] = true end
      for e = 0, engine:info().experts - 1 do
         if not banned[e] then kept[#kept + 1] = e end
      end
      pins[layer] = kept
   end
   return pins
end

-- { name, what engine:route takes } each.
local function cases(engine, texts, third)
   local list, policies = { { "none" } }, engine.policies
   local function add(name, x) list[#list + 1] = { name, x } end
   local opts = { window = WINDOW, limit = third }
   for _, sure in ipairs { 1.2, 1.6, 2.0 } do
      local name = ("frugal, sure = %.1f"):format(sure)
      assert(policies:load(name, FOLDER .. "frugal.lua", { sure = sure }))
      add(name, name)
   end
   for _, share in ipairs { 0.8, 0.7, 0.6 } do
      add(("top_p = %.2f"):format(share), { cumulative = share })
   end
   assert(policies:load("balance", FOLDER .. "balance.lua"))
   add("balance", "balance")
   for _, n in ipairs { 4, 8 } do
      local bans = assert(dofile(FOLDER .. "domain_ban.lua")(engine, texts, n, opts))
      for _, name in ipairs { "tales", "verse" } do add(("domain_ban, %d for %s"):format(n, name), bans[name]) end
   end
   for _, name in ipairs { "tales", "verse" } do
      local title = "tenant_pin, 8 of " .. name
      assert(policies:load(title, FOLDER .. "tenant_pin.lua",
         { pins = { [name] = last_used(engine, texts[name], 8, opts) }, nobody = name }))
      add(title, title)
   end
   local under_load = dofile(FOLDER .. "under_load.lua")
   add("under_load, full", under_load.program)
   return list
end

local function effects(engine, texts, lists, third, turns)
   print "| policy | tales: perplexity, utilisation, experts | verse: the same | time: 1, 16 requests |"
   print "|---|---|---|---|"
   local plain
   for _, case in ipairs(cases(engine, texts, third)) do
      local cells = {}
      routed(engine, case[2])
      local share = tonumber(case[1]:match "^top_p = ([%d.]+)")
      if share then
         routed(engine, dofile(FOLDER .. "top_p.lua"))
         engine.knobs.top_p = share
      elseif case[1]:find "under_load" then
         engine.knobs.busy = 1
      end
      local now = {}
      for _, name in ipairs { "tales", "verse" } do
         local found = quality(engine, lists[name])
         now[name] = found
         local change = plain and (" (%+.1f %%)"):format(100 * (found.perplexity / plain[name].perplexity - 1)) or ""
         cells[#cells + 1] = ("%.2f%s, %.1f %%, %.2f"):format(found.perplexity, change, 100 * found.utilisation,
            found.experts)
      end
      plain = plain or now
      local x = share and dofile(FOLDER .. "top_p.lua") or case[2]
      cells[#cells + 1] = case[2] and ("%.3f, %.3f"):format(pace(engine, x, 1, turns), pace(engine, x, 16, turns))
         or "1, 1"
      print(("| %s | %s |"):format(case[1], table.concat(cells, " | ")))
      io.stdout:flush()
   end
end

-- Passes over all of a text, from biases of 0.
local function curve(engine, list)
   routed(engine, nil)
   local plain = quality(engine, list)
   print(("\nverse, %d windows, without: perplexity %.2f, utilisation %.1f %%"):format(#list, plain.perplexity,
      100 * plain.utilisation))
   print "| speed | limit | first pass: perplexity, utilisation | second | third |\n|---|---|---|---|---|"
   for _, each in ipairs { { 2e-5, 1 }, { 1e-4, 1 }, { 2e-4, 1 }, { 4e-4, 1 }, { 2e-3, 1 }, { 2e-4, 0.05 },
      { 2e-4, 0.2 } } do
      local name, cells = ("speed %g, limit %g"):format(each[1], each[2]), {}
      assert(engine.policies:load(name, FOLDER .. "balance.lua", { speed = each[1], limit = each[2] }))
      routed(engine, name)
      for pass = 1, 3 do
         local found = quality(engine, list)
         cells[pass] = ("%.2f (%+.2f %%), %.1f %%"):format(found.perplexity,
            100 * (found.perplexity / plain.perplexity - 1), 100 * found.utilisation)
      end
      print(("| %g | %g | %s |"):format(each[1], each[2], table.concat(cells, " | ")))
      io.stdout:flush()
   end
   routed(engine, nil)
end

local function main(opts, operands)
   local paths = { tales = operands[2] or measure.models "heldout-tales.txt",
      verse = operands[3] or measure.models "heldout-poems.txt" }
   local engine, texts, whole, lists = assert(perigee.open(operands[1], { threads = 1 })), {}, {}, {}
   local third = math.floor(opts.n / 3)
   for name, path in pairs(paths) do
      texts[name] = measure.read(path)
      if not texts[name] then return print(path .. " is not there: nothing was measured") end
      whole[name] = measure.windows(engine, texts[name], WINDOW, opts.n)
      lists[name] = { unpack(whole[name], third + 1) }
   end
   effects(engine, texts, lists, third, opts.r)
   curve(engine, whole.verse)
   for _, report in ipairs(engine:reports()) do print("report:", report.policy, report.text, report.count) end
   engine:close()
end

main(measure.options(arg, { n = 60, r = 15 }))
