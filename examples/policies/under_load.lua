-- Frugal when many wait: a program whose knob `busy` says how loaded the engine is, from 0 to 1, and a function that
-- turns it. Loaded, a token visits `few` experts; in between, so many fewer.
--    local under_load = dofile "examples/policies/under_load.lua"
--    engine:route(under_load.program)
--    while engine:poll(20) do under_load.update(engine) ... end
local policy = require "perigee.policy"

local M = { few = 1, calm = 4, full = 16 }  -- experts; requests up to which all is calm; from which on it is full

local busy = policy.knob("busy", 0)
M.program = assert(policy.program { name = "under_load", top = policy.used - busy * (policy.used - M.few) })

--- Turn the knob by how many requests wait and run. Returns what it is now.
function M.update(engine)
   local stats = engine:stats()
   local share = (stats.waiting + stats.running - M.calm) / (M.full - M.calm)
   engine.knobs.busy = math.max(0, math.min(1, share))
   return engine.knobs.busy
end

return M
