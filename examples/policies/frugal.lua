-- Fewer experts when the router is sure: where the entropy of its softmax is below `sure` nats, a token visits `few`.
--    engine.policies:load("frugal", "examples/policies/frugal.lua", { sure = 2.0 }); engine:route "frugal"
-- Entropy goes from 0 to ln(experts), 2.77 for 16 of them; a larger `sure` saves more and costs more.
local P = { name = "frugal", version = 1, params = { sure = 1.6, few = 1 } }

function P.route(r)
   local sure, few = P.params.sure, math.min(P.params.few, r.used)
   for i = 0, r.rows - 1 do
      if r:entropy(i) < sure then r:top(i, few) end
   end
end

return P
