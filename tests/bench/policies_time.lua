-- What policies cost by time: one engine, the kinds of policy by turns, tokens/s of each and the ratio to none. None is
-- measured twice, under two names: what those two differ by is the noise.
--    luajit tests/bench/policies_time.lua [MODEL] [TURNS] [TOKENS]
local perigee = require "perigee"
local clock = require "perigee.clock"
local policy = require "perigee.policy"

local turns, tokens = tonumber(arg[2]) or 15, tonumber(arg[3]) or 64
local engine = assert(perigee.open(arg[1]))
local info = engine:info()
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
   { "none", nil }, { "none again", nil },
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

local speed = {}
for _, kind in ipairs(kinds) do
   run(kind[2])
   speed[kind[1]] = {}
end
for turn = 1, turns do
   for i = 1, #kinds do
      local kind = kinds[(turn + i) % #kinds + 1]
      table.insert(speed[kind[1]], run(kind[2]))
   end
end

local function median(list)
   table.sort(list)
   return list[math.ceil(#list / 2)]
end

local base = median(speed.none)
print(("%s, %d threads, %d turns of %d tokens"):format(engine.path:match "[^/]+$", info.threads, turns, tokens))
for _, kind in ipairs(kinds) do
   local list = speed[kind[1]]
   local middle = median(list)
   print(("%-18s %9.1f tokens/s [%.1f - %.1f]  %+.2f %%"):format(kind[1], middle, list[1], list[#list],
      (base / middle - 1) * 100))
end
