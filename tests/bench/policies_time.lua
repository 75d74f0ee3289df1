-- What policies cost by time: one engine; each kind of policy by turns with none, a pair right after the other, who
-- goes first changing. Of the pairs' ratios the median counts, and the quarters beside it. "none" itself stands among
-- the kinds: what it seems to cost is the noise.
--    luajit tests/bench/policies_time.lua [MODEL] [PAIRS] [TOKENS]
local perigee = require "perigee"
local clock = require "perigee.clock"
local measure = dofile "tests/bench/measure.lua"
local policy = require "perigee.policy"

local pairs_of, tokens = tonumber(arg[2]) or 15, tonumber(arg[3]) or 64
local engine = assert(perigee.open(arg[1]))
local ids = {}
for i = 1, 32 do ids[i] = 10 + i end

assert(engine.policies:load("entropy", [[
local P = { name = "entropy", params = { sure = 0 } }
function P.route(r)
   for i = 0, r.rows - 1 do
      if r:entropy(i) < P.params.sure then r:top(i, 1) end
   end
end
return P
]]))
-- None of them changes a choice: what is left is their own cost.
local kinds = {
   { "none", nil },
   { "knobs: bias", { bias = { [0] = 1e-9 } } },
   { "program: entropy", policy.program {
      top = policy.select(policy.lt(policy.entropy(policy.scores), 0), 1, policy.used) } },
   { "Lua: entropy", "entropy" },
}

local function run(route)
   assert(engine:route(route))
   local request = assert(engine:generate(ids, { max_new = tokens, temperature = 0, ignore_eos = true }))
   request:next()                                          -- the prompt is computed
   local begin = clock.now()
   assert(request:result())
   return (tokens - 1) / (clock.now() - begin)
end

print(("%s, %d threads, %d pairs of %d tokens"):format(engine.path:match "[^/]+$", engine:info().threads, pairs_of,
   tokens))
run(nil)
for _, kind in ipairs(kinds) do
   local ratios, plain = {}, {}
   run(kind[2])
   for i = 1, pairs_of do
      local first, second = run(i % 2 == 0 and kind[2] or nil), run(i % 2 == 1 and kind[2] or nil)
      ratios[i] = i % 2 == 0 and second / first or first / second
      plain[i] = i % 2 == 0 and second or first
   end
   local function at(part) return (measure.quantile(ratios, part) - 1) * 100 end
   print(("%-18s %+6.2f %% [%+.2f, %+.2f]   (none: %.1f tokens/s)"):format(kind[1], at(0.5), at(0.25), at(0.75),
      measure.median(plain)))
end
