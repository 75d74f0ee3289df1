-- Instructions of a generated token of the bundled model under each shipped policy, counted by valgrind's callgrind on
-- one thread: the policy's own work and the work that it saves. What they do to the texts: policies_effect.lua.
--   luajit tests/bench/policies_shipped.lua           all of them
--   luajit tests/bench/policies_shipped.lua NAME N    generate N tokens under one: what the first calls
local perigee = require "perigee"
local measure = dofile "tests/bench/measure.lua"

local FOLDER, FEW, MANY = "examples/policies/", 60, 140       -- after 64 calls, 22 tokens, a Lua policy is compiled
local ORDER = { "none", "frugal", "top_p", "balance", "domain_ban", "tenant_pin", "under_load" }

local routes = { none = function() end }

function routes.frugal(engine)
   return engine.policies:load("frugal", FOLDER .. "frugal.lua", { sure = 2.0 }) and "frugal"
end

function routes.top_p() return dofile(FOLDER .. "top_p.lua") end

function routes.balance(engine) return engine.policies:load("balance", FOLDER .. "balance.lua") and "balance" end

function routes.domain_ban(engine)
   return assert(dofile(FOLDER .. "domain_ban.lua")(engine, { tales = "Once upon a time there was a fox." }, 8)).tales
end

function routes.tenant_pin(engine)
   local pins = { [1] = { 0, 1, 2, 3, 4, 5, 6, 7 }, [2] = { 0, 1, 2, 3, 4, 5, 6, 7 }, [3] = { 8, 9, 10, 11, 12, 13 } }
   return engine.policies:load("tenant_pin", FOLDER .. "tenant_pin.lua", { pins = { acme = pins }, nobody = "acme" })
      and "tenant_pin"
end

function routes.under_load() return dofile(FOLDER .. "under_load.lua").program end

local function generate(name, n)
   local engine = assert(perigee.open(nil, { threads = 1, context = 512 }))
   assert(engine:route(routes[name](engine)))
   if name == "under_load" then engine.knobs.busy = 1 end
   assert(engine:complete("Once upon a time", { max_new = n, temperature = 0, ignore_eos = true }))
   assert(#engine:reports() == 0)
   engine:close()
end

local function count(name, n)
   return measure.instructions { arg[0], name, n } or error("valgrind is not there, or could not run it", 0)
end

local function main()
   if arg[1] then return generate(arg[1], tonumber(arg[2])) end
   local plain
   print "instructions a generated token"
   for _, name in ipairs(ORDER) do
      local each = (count(name, MANY) - count(name, FEW)) / (MANY - FEW)
      plain = plain or each
      print(("%-12s %9.0f  %+.2f %%"):format(name, each, 100 * (each / plain - 1)))
      io.stdout:flush()
   end
end

main()
