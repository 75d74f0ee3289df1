-- What a Lua policy costs: the one of the documentation (entropy of a row, then how many experts), by instructions a
-- token (callgrind, when valgrind is there: time is too coarse for a percent) and by time, by turns with no policy;
-- what a reload takes; and a thousand reloads under load.
--    eval "$(make -s env)"; luajit tests/bench/policies_lua.lua [MODEL]
-- Instructions are counted with PERIGEE_ISA=avx2, which valgrind knows, and one thread; with wider vectors a token
-- takes fewer of them and the policy as many. Those of the policy are what runs below pg_hook_route, machine code that
-- LuaJIT made included. `sure` is 0: the policy looks at every row and changes none, what is left is its cost.
local perigee = require "perigee"
local clock = require "perigee.clock"
local measure = dofile "tests/bench/measure.lua"

local median = measure.median

local SOURCE = [[
local P = { name = "frugal", version = %d, params = { sure = 0, few = 2 } }
function P.route(r)                       -- r: rows x experts, router logits, editable in place
   for i = 0, r.rows - 1 do
      if r:entropy(i) < P.params.sure then r:top(i, P.params.few) end
   end
end
return P
]]
local PROMPT = "Once upon a time there was a little fox who lived at the edge of the forest."

local function generate(engine, n)
   return engine:generate(PROMPT, { max_new = n, temperature = 0, ignore_eos = true })
end

-- ---- instructions ---------------------------------------------------------------------------------------------------

-- What the counted process does.
local function child(model, n, policy)
   local engine = assert(perigee.open(model, { threads = 1 }))
   if policy == "lua" then
      assert(engine.policies:load("frugal", SOURCE:format(1)))
      assert(engine.policies:use "frugal")
   end
   assert(generate(engine, n):result())
   engine:close()
end

-- A token's: the difference between many and few.
local function each(model, policy, within)
   local few, many = 100, 300
   local function count(n) return measure.instructions({ arg[0], "--child", model or "", n, policy }, within) end
   local a, b = count(few), count(many)
   return a and b and (b - a) / (many - few)
end

local function instructions(model)
   local plain, lua = each(model, "none"), each(model, "lua", "pg_hook_route")
   if not plain or not lua then return print "instructions: valgrind is not there, or could not run it" end
   print(("instructions a token: %.0f without a policy; %.0f (%.2f %%) more for it"):format(plain, lua,
      100 * lua / plain))
end

-- ---- time -----------------------------------------------------------------------------------------------------------

local function timing(engine)
   local took, names = { none = {}, lua = {} }, { "none", "lua" }
   assert(engine.policies:load("frugal", SOURCE:format(1)))
   for turn = 0, 20 do
      for _, name in ipairs(names) do
         assert(engine.policies:use(name == "lua" and "frugal" or nil))
         local result = assert(generate(engine, 200):result())
         if turn > 0 then table.insert(took[name], result.timings.decode / 199) end       -- the first one warms up
      end
   end
   local none, lua = median(took.none), median(took.lua)
   print(("decode: %.4f ms a token without, %.4f ms with (%+.2f %%), medians of 20"):format(none, lua,
      100 * (lua - none) / none))
end

-- ---- reloading ------------------------------------------------------------------------------------------------------

-- A policy that makes itself known: it lets nothing but one token be drawn.
local MARKER = "return { live = true, logits = function(l)\n for i = 0, l.rows - 1 do l:set(i, %d, 1e6) end\nend }\n"

-- Milliseconds from calling `change` in the middle of a generation to the first token `id`.
local function until_token(engine, id, change)
   local request = engine:generate(PROMPT, { max_new = 400, temperature = 0, ignore_eos = true, route = "marker" })
   while request:count() < 20 do engine:poll(1) end
   while request:next(0) do end                       -- what has come is read
   local began = clock.now()
   change()
   local event
   repeat event = request:next(1) until event and event.token == id or request.done
   local took = (clock.now() - began) * 1e3
   request:cancel()
   repeat engine:poll(1) until request:ended()
   return took
end

local function reload_time(engine)
   local path = os.tmpname()
   local function write(id)
      local file = assert(io.open(path .. ".new", "wb"))
      file:write(MARKER:format(id))
      file:close()
   end
   local function replace() assert(os.rename(path .. ".new", path)) end
   write(1000)
   replace()
   assert(engine.policies:watch("marker", path))
   local load_ms, loaded_ms, saved_ms = {}, {}, {}
   for i = 1, 20 do
      local began = clock.now()
      assert(engine.policies:load("loaded", SOURCE:format(i)))
      load_ms[i] = (clock.now() - began) * 1e3
      write(1000 + i)
      saved_ms[i] = until_token(engine, 1000 + i, replace)
      loaded_ms[i] = until_token(engine, 2000 + i, function()
         assert(engine.policies:load("marker", MARKER:format(2000 + i)))
      end)
   end
   assert(engine.policies:unload "marker")
   os.remove(path)
   print(("load (check, weave, build, try): %.2f ms, idle"):format(median(load_ms)))
   print(("to the first token under a new policy, while generating: %.1f ms from load, %.1f ms from saving its file; "
      .. "medians of 20"):format(median(loaded_ms), median(saved_ms)))
end

local function thousand(engine)
   assert(engine.policies:load("swapped", SOURCE:format(0)))
   assert(engine.policies:use "swapped")
   local expected, running, tokens, ended, n = assert(generate(engine, 100):result()).tokens, {}, 0, 0, 0
   for i = 1, 4 do running[i] = generate(engine, 100) end
   local began = clock.now()
   while n < 1000 or #running > 0 do
      if n < 1000 then
         n = n + 1
         assert(engine.policies:load("swapped", SOURCE:format(n)))
      end
      engine:poll(n < 1000 and 0 or 10)
      for i = #running, 1, -1 do
         if running[i]:ended() then
            local result = assert(running[i]:result())
            for k = 1, 100 do assert(result.tokens[k] == expected[k], "a token was lost or changed") end
            tokens, ended = tokens + #result.tokens, ended + 1
            running[i] = n < 1000 and generate(engine, 100) or nil
            if not running[i] then table.remove(running, i) end
         end
      end
   end
   print(("1,000 reloads under load in %.1f s: %d requests, %d tokens, none lost, reports: %d"):format(
      clock.now() - began, ended, tokens, #engine.policies:reports()))
   print(("memory: %.0f KiB for a version's Lua state"):format(engine.policies:find "swapped"._vm:memory() / 1024))
end

if arg[1] == "--child" then
   child(arg[2] ~= "" and arg[2] or nil, tonumber(arg[3]), arg[4])
else
   local engine = assert(perigee.open(arg[1]))
   instructions(arg[1])
   timing(engine)
   reload_time(engine)
   thousand(engine)
   engine:close()
end
