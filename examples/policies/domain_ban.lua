-- A ban list for each domain: what a domain's texts hardly use it does not use at all. Those experts' weights need not
-- be in fast memory while that domain is served; what it costs is in README.md.
--    local domain_ban = dofile "examples/policies/domain_ban.lua"
--    local bans = assert(domain_ban(engine, { tales = "Once upon a time ...", verse = "春眠不觉晓 ..." }, 4))
--    engine:generate("春", { route = bans.verse })
local experts = require "perigee.experts"

-- The n experts that one layer uses least, the lower number first.
local function least_used(load, n)
   local order = {}
   for e = 0, #load - 1 do order[e + 1] = e end
   table.sort(order, function(a, b)
      if load[a + 1] ~= load[b + 1] then return load[a + 1] < load[b + 1] end
      return a < b
   end)
   return { unpack(order, 1, n) }
end

-- Knobs for each domain, from texts of it by name; n experts of each layer are banned. nil, message, code.
return function(engine, texts, n, opts)
   local profiles, message, code = experts.profile(engine, texts, opts)
   if not profiles then return nil, message, code end
   local bans = {}
   for name, counts in pairs(profiles) do
      local layers = {}
      for i, layer in ipairs(counts.layers) do layers[layer] = { ban = least_used(counts.counts[i], n) } end
      bans[name] = { name = "ban for " .. name, layers = layers }
   end
   return bans
end
