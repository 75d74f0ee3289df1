-- Experts of their own for tenants: rows of a tenant choose only among the experts pinned to it, so that its work stays
-- on them, and theirs alone has to be near. Tenants without pins choose among all.
--    engine.policies:load("tenant_pin", "examples/policies/tenant_pin.lua",
--       { pins = { acme = { [1] = { 0, 3, 5, 8 }, [2] = { 1, 2, 7, 9 } } } })
--    engine:route "tenant_pin"; engine:generate("The fox", { tenant = "acme" })
-- `pins`: tenant, layer, experts; at least as many as a token visits. `nobody`: as which tenant rows without one count.
local P = { name = "tenant_pin", version = 1, params = { pins = {}, nobody = "" } }

local outside = {}                         -- [tenant][layer]: the experts that it may not choose

local function list_outside(r, pinned)
   local inside, list = {}, {}
   for _, e in ipairs(pinned) do inside[e] = true end
   for e = 0, r.experts - 1 do
      if not inside[e] then list[#list + 1] = e end
   end
   return list
end

local function outside_of(r, tenant)
   local pins = P.params.pins[tenant]
   if not pins or not pins[r.layer] then return nil end
   local layers = outside[tenant] or {}
   outside[tenant] = layers
   layers[r.layer] = layers[r.layer] or list_outside(r, pins[r.layer])
   return layers[r.layer]
end

function P.route(r)
   for i = 0, r.rows - 1 do
      local list = outside_of(r, r:tenant(i) or P.params.nobody)
      for k = 1, list and #list or 0 do r:ban(i, list[k]) end
   end
end

return P
