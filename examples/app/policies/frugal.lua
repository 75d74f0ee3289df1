-- Rows whose router is sure visit fewer experts. It runs in the engine, once a layer and step.
local P = { name = "frugal", params = { sure = 1.6, few = 2 } }

function P.route(r)
   for i = 0, r.rows - 1 do
      if r:entropy(i) < P.params.sure then r:top(i, P.params.few) end
   end
end

return P
