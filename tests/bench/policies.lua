-- What policies cost: instructions of the engine's thread for a generated token of the bundled model, under each kind
-- of policy, counted by valgrind's callgrind: they do not depend on what else the machine does. One thread, so that no
-- lane spins while it waits.
--   luajit tests/bench/policies.lua           all kinds
--   luajit tests/bench/policies.lua KIND N    generate N tokens under KIND: what the first calls
local perigee = require "perigee"
local policy = require "perigee.policy"
local measure = dofile "tests/bench/measure.lua"

local KINDS = { "none", "bans", "top", "house", "entropy", "load" }
local routes = {
   none = function() end,
   bans = function() return { layers = { [1] = { ban = { 3 } }, [2] = { bias = { [4] = 0.01 } } } } end,
   top = function() return { top = 2, cumulative = 0.999 } end,
   house = function()
      local busy = policy.knob("busy", 0)
      return policy.program { scores = policy.scores - 4 * busy * (1 - policy.resident), top = 2 - busy }
   end,
   entropy = function()
      return policy.program { top = policy.select(policy.lt(policy.entropy(policy.scores), 0.01), 1, policy.used) }
   end,
   load = function() return policy.program { choose = policy.choose - 0.001 * (policy.load * policy.size - 1) } end,
}

local function generate(kind, n)
   local engine = assert(perigee.open(nil, { threads = 1, context = 512 }))
   assert(engine:route(routes[kind]()))
   assert(engine:complete("Once upon a time", { max_new = n, temperature = 0, ignore_eos = true }))
   engine:close()
end

-- Instructions of the engine's thread in a run.
local function count(kind, n) return measure.instructions({ "-joff", arg[0], kind, n }, "pg_sched_run") end

if arg[1] then
   generate(arg[1], tonumber(arg[2]))
else
   local base
   for _, kind in ipairs(KINDS) do
      local few, many = count(kind, 20), count(kind, 84)
      if not few or not many then error("valgrind is not there, or did not count", 0) end
      local token = (many - few) / 64
      base = base or token
      print(("%-8s %9.0f instructions a token, %+.0f, %+.3f %%"):format(kind, token, token - base,
         100 * (token - base) / base))
   end
end
