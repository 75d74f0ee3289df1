-- Even work for all experts: a bias for choosing, which goes up for experts that had less than their fair share lately
-- and down for those that had more. Weights stay the router's own.
--    engine.policies:load("balance", "examples/policies/balance.lua"); engine:route "balance"
-- `speed`: how far a bias moves for each row of a step, when an expert has nothing (as far down when it has twice its
-- share). `limit`: how far from 0 it may go; the router's probabilities, which it is added to, are from 0 to 1.
-- What it has learned outlives a reload (`keep`). It reads load, so what a request gets depends on what ran before.
-- Source: Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts, 2024; there the bias moves
-- by a fixed step, here in proportion, which does not oscillate.
local P = { name = "balance", version = 1, live = true, keep = {}, params = { speed = 2e-4, limit = 1 } }

-- The load is a mean over some 128 rows, so a step of more tells no more.
local MOST_ROWS = 256

local function bias_of(r)
   local bias = P.keep[r.layer] or {}
   P.keep[r.layer] = bias
   for e = 0, r.experts - 1 do bias[e] = bias[e] or 0 end
   return bias
end

function P.route(r)
   local bias, limit = bias_of(r), P.params.limit
   local step = P.params.speed * math.min(r.rows, MOST_ROWS)
   for e = 0, r.experts - 1 do
      bias[e] = math.max(-limit, math.min(limit, bias[e] + step * (1 - r.experts * r:load(e))))
   end
   for i = 0, r.rows - 1 do r:biases(i, bias) end
end

return P
