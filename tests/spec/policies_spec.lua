-- Lua policies of an open engine: loading, replacing, rolling back, what requests in flight keep, what goes wrong.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local PROMPT = "Once upon a time there was a little fox"

-- A policy that lets every row visit k experts: each k gives another text.
local function visits(k, more)
   return ("local P = { version = 'visits %d'%s }\nfunction P.route(r)\n   for i = 0, r.rows - 1 do r:top(i, %d) end\n"
      .. "end\nreturn P\n"):format(k, more or "", k)
end

describe("policies", function()
   local engine, policies, plain, one, three

   local function tokens(opts)
      opts = opts or {}
      opts.max_new, opts.temperature, opts.ignore_eos = opts.max_new or 40, 0, true
      return assert(engine:generate(PROMPT, opts):result()).tokens
   end

   local function last_report()
      local list = assert(policies:reports())
      return list[#list] or { text = "no report" }
   end

   lazy_setup(function()
      engine = assert(perigee.open(helper.model))
      policies = engine.policies
      plain = tokens()
      one, three = tokens { route = { top = 1 } }, tokens { route = { top = 3 } }
   end)
   lazy_teardown(function() engine:close() end)
   before_each(function() assert(policies:use(nil)) end)

   it("route as knobs of the same meaning do", function()
      assert.are_not.same(one, three)
      assert.are_not.same(plain, one)
      assert(policies:load("visits", visits(1)))
      assert.same(one, tokens { route = "visits" })
      assert.same(plain, tokens())
      assert(policies:use "visits")
      assert.same(one, tokens())
      assert(policies:load("visits", visits(3)))
      assert.same(three, tokens())
      assert(policies:rollback "visits")
      assert.same(one, tokens())
      assert(policies:use(nil))
      assert.same(plain, tokens())
   end)

   it("are left to the requests in flight when they are replaced", function()
      assert(policies:load("flight", visits(1)))
      assert(policies:use "flight")
      local default = engine:generate(PROMPT, { max_new = 40, temperature = 0, ignore_eos = true })
      local named = engine:generate(PROMPT, { max_new = 40, temperature = 0, ignore_eos = true, route = "flight" })
      while default:count() < 3 or named:count() < 3 do engine:poll(10) end
      assert(policies:load("flight", visits(3)))
      local later = engine:generate(PROMPT, { max_new = 40, temperature = 0, ignore_eos = true })
      assert.same(one, default:result().tokens)
      assert.same(one, named:result().tokens)
      assert.same(three, later:result().tokens)
   end)

   it("follow in flight when they are live", function()
      assert(policies:load("flight", visits(1, ", live = true")))
      local request = engine:generate(PROMPT, { max_new = 200, temperature = 0, ignore_eos = true, route = "flight" })
      while request:count() < 3 do engine:poll(10) end
      assert(policies:load("flight", visits(3, ", live = true")))
      local long = tokens { route = { top = 1 }, max_new = 200 }
      local mixed = request:result().tokens
      assert.equal(200, #mixed)
      assert.same(helper.slice(long, 1, 3), helper.slice(mixed, 1, 3))
      assert.are_not.same(long, mixed)
   end)

   it("stand in lists, which follow when one is replaced", function()
      assert(policies:load("few", visits(1)))
      assert(engine:route { "few", { temperature = 1 } })
      assert.same(one, tokens())
      assert(policies:load("few", visits(3)))
      assert.same(three, tokens())
   end)

   it("may be knobs under a name", function()
      local version = assert(policies:load("knobs", { top = 1 }))
      assert.equal(1, version.version)
      assert.same(one, tokens { route = "knobs" })
      assert(policies:load("knobs", { top = 3 }))
      assert.same(three, tokens { route = "knobs" })
      assert(policies:load("knobs", visits(1)))
      assert.same(one, tokens { route = "knobs" })
      assert(policies:rollback "knobs")
      assert.same(three, tokens { route = "knobs" })
   end)

   it("that do not load leave the old one running, and say where", function()
      assert(policies:load("solid", visits(1)))
      assert(policies:use "solid")
      for source, expected in pairs {
         ["local P = {\nfunction P.route(r) end\nreturn P"] = "^solid:2: ",
         ["return {\n rout = function() end }"] = "did you mean \"route\"%?",
         ["return { route = function(r)\n r:entrpy(0) end }"] = "solid:2: r has no entrpy",
         ["return { route = function(r)\n while true do end end }"] = "solid:2: ran over its limit",
      } do
         local version, message, code = policies:load("solid", source)
         assert.is_nil(version)
         assert.matches(expected, message)
         assert.equal("format", code)
      end
      local version, message, code = policies:load("solid", "no/such/file.lua")
      assert.is_nil(version)
      assert.matches("no/such/file.lua", message)
      assert.equal("not_found", code)
      version, message, code = policies:load("solid", { route = function() end })
      assert.is_nil(version)
      assert.matches("put the policy into a file", message)
      assert.equal("invalid", code)
      assert.same(one, tokens())
      assert.same({ 1 }, policies:list()[#policies:list()].versions)
   end)

   it("that raise are unhooked and reported, and the request goes on", function()
      assert(policies:load("raises", "local n = 0\nreturn { route = function(r)\n   n = n + 1\n   if n > 8 then error "
         .. "'enough' end\nend }"))
      assert.same(plain, tokens { route = "raises" })
      local report = last_report()
      assert.same({ "raises", 1, true, "raises:4: enough" },
         { report.policy, report.version, report.unhooked, report.text })
   end)

   it("that run for ever are stopped, interpreted or compiled, and the request goes on", function()
      for name, calls in pairs { early = 8, late = 100 } do
         assert(policies:load(name, ("local n = 0\nreturn { route = function(r)\n   n = n + 1\n   while n > %d do end\n"
            .. "end }"):format(calls)))
         assert.same(plain, tokens { route = name })
         local report = last_report()
         assert.equal(name, report.policy)
         assert.is_true(report.unhooked)
         assert.matches("^" .. name .. ":4: ran over its limit of turns", report.text)
      end
   end)

   it("that fail are whole again when they are loaded anew", function()
      assert(policies:load("mended", "local n = 0\nreturn { route = function(r)\n n = n + 1 assert(n < 8, 'no') end }"))
      assert(policies:use "mended")
      tokens()
      assert.matches("no", last_report().text)
      assert(policies:load("mended", visits(1)))
      assert.same(one, tokens())
   end)

   it("keep P.keep over a reload", function()
      local counts = "local P = { keep = { n = 0 } }\nfunction P.token(t) P.keep.n = P.keep.n + 1 %s end\nreturn P"
      assert(policies:load("counts", counts:format ""))
      assert(policies:use "counts")
      tokens { max_new = 7 }
      assert(policies:load("counts", counts:format "if P.keep.n > 8 then error('kept ' .. P.keep.n) end"))
      tokens { max_new = 7 }
      assert.equal("counts:2: kept 9", last_report().text)
   end)

   it("see tenants by name, and what the row is", function()
      assert(policies:load("tenants", [[
         return { route = function(r)
            for i = 0, r.rows - 1 do
               if r:tenant(i) == "acme" then r:top(i, 1) elseif r:tenant(i) then error(r:tenant(i)) end
            end
         end }]]))
      assert.same(one, tokens { route = "tenants", tenant = "acme" })
      assert.same(plain, tokens { route = "tenants" })
      tokens { route = "tenants", tenant = "näme" }
      assert.matches("näme", last_report().text)
   end)

   it("edit logits, end requests and refuse them", function()
      local favourite = plain[1]
      assert(policies:load("words", ([[
         local P = {}
         function P.logits(l) for i = 0, l.rows - 1 do l:ban(i, %d) end end
         function P.token(t) if t.count == 5 then t:stop() end end
         function P.admit(q) if q.tenant == "mallory" then q:refuse "not for you" end end
         return P]]):format(favourite)))
      local result = assert(engine:generate(PROMPT, { temperature = 0, route = "words" }):result())
      assert.equal(5, #result.tokens)
      assert.equal("stop", result.finish)
      for _, token in ipairs(result.tokens) do assert.are_not.equal(favourite, token) end
      local refused, message = engine:generate(PROMPT, { route = "words", tenant = "mallory" }):result()
      assert.is_nil(refused)
      assert.equal("not for you", message)
   end)

   it("are listed, suggested and forgotten", function()
      assert(policies:load("frugal", visits(1)))
      assert(policies:load("frugal", visits(3, ", live = true")))
      assert(policies:use "frugal")
      local entry
      for _, e in ipairs(policies:list()) do entry = e.name == "frugal" and e or entry end
      assert.same({ 1, 2 }, entry.versions)
      assert.is_true(entry.used)
      assert.same({ name = "frugal", version = 2, label = "visits 3", live = true, chunk = "frugal",
         points = { "route" } }, entry.current)
      local fine, message, code = policies:use "frugl"
      assert.is_nil(fine)
      assert.matches('no policy has the name "frugl", did you mean "frugal"%?', message)
      assert.equal("not_found", code)
      assert.is_nil((policies:rollback "nobody"))
      assert(policies:rollback "frugal")
      fine, message = policies:rollback "frugal"
      assert.is_nil(fine)
      assert.matches("no version before 1", message)
      assert.equal(3, assert(policies:load("frugal", visits(1))).version)
      assert(policies:unload "frugal")
      assert.same(plain, tokens())
      assert.is_nil((policies:use "frugal"))
      assert.matches("perigee.policies", tostring(policies))
   end)

   it("raise for arguments of a wrong type", function()
      assert.has_error(function() policies:load(5, "x") end, "policies:load: name must be a string, not a number")
      assert.has_error(function() policies:load("x", 5) end, "policies:load: x must be a string, not a number")
      assert.has_error(function() policies:use(5) end, "policies:use: name must be a string, not a number")
   end)

   it("are exchanged a thousand times under load without losing a token", function()
      assert(policies:load("swapped", visits(3)))
      assert(policies:use "swapped")
      local expected, requests, ended, n = tokens { max_new = 60 }, {}, 0, 0
      local function begin()
         requests[#requests + 1] = engine:generate(PROMPT, { max_new = 60, temperature = 0, ignore_eos = true })
      end
      for _ = 1, 4 do begin() end
      repeat
         n = n + 1
         assert(policies:load("swapped", visits(3, ", keep = { n = " .. n .. " }")))
         engine:poll(0)
         for i = #requests, 1, -1 do
            if requests[i]:ended() then
               local result = assert(requests[i]:result())
               assert.same(expected, result.tokens)
               assert.equal("length", result.finish)
               table.remove(requests, i)
               ended = ended + 1
               begin()
            end
         end
      until n >= 1000 and ended > 4             -- a slow build of the engine ends none in a thousand quick loads
      for _, request in ipairs(requests) do assert.same(expected, assert(request:result()).tokens) end
      for _, report in ipairs(policies:reports()) do assert.are_not.equal("swapped", report.policy) end
   end)
end)

it("policies of a closed engine say so", function()
   local engine = assert(perigee.open(helper.model))
   assert(engine.policies:load("visits", visits(1)))
   assert(engine.policies:use "visits")
   engine:close()
   for _, method in ipairs { "load", "use", "rollback" } do
      local fine, message = engine.policies[method](engine.policies, "visits", "return {}\n")
      assert.is_nil(fine)
      assert.matches("closed", message)
   end
end)
