-- A policy's own Lua state: what it may see and change, what it may not, and that nothing it does goes on for ever.
local ffi = require "ffi"
local by_hand = dofile "tests/spec/policy_view.lua"

local open, route = by_hand.open, by_hand.route

-- Call a routing body once, outside of its trial; returns true, or nil and the message.
local function once(body, view)
   local policy = assert(open(route("if r.layer == 3 then\n" .. body .. "\nend")))
   return policy:call("route", (view or by_hand.route_view(4)).view)
end

local ENDLESS = {
   ["while"] = "while true do end",
   ["repeat"] = "repeat until false",
   ["for"] = "for i = 1, 1e18 do end",
   iterator = "for c in string.lower, 'x' do end",
   ["goto"] = "::a:: goto a",
   ["a caught loop"] = "local function f() while true do end end while true do pcall(f) end",
   ["caught once"] = "local function f() while true do end end pcall(f)",
   ["its own handler"] = "local function f() while true do end end while true do xpcall(f, f) end",
   ["tail calls"] = "local function f() return f() end f()",
   ["a tree of calls"] = "local function f() pcall(f) pcall(f) end f()",
   ["nested loops"] = "for i = 1, 1e9 do for j = 1, 1e9 do end end",
   ["sorting without end"] = "local t = {} for i = 1, 1000 do t[i] = i end "
      .. "table.sort(t, function() while true do end end)",
   ["sorting again and again"] = "local t = {} for i = 1, 9000 do t[i] = i end while true do table.sort(t) end",
   ["a list that grows and shrinks"] = "local t = {} while true do table.insert(t, #t + 1, 1) table.remove(t) end",
   ["unpacking again and again"] = "local t = {} while true do select('#', unpack(t, 1, 7000)) end",
   ["an emptied table"] = "local t = {} for i = 1, 9000 do t['k' .. i] = 1 end for k in pairs(t) do t[k] = nil end "
      .. "while true do next(t) end",
   patterns = "local s = ('a'):rep(50) .. 'b' while true do s:find '.-.-c' end",
   strings = "local s = '' while true do s = s .. 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' end",
   ["copies of a long string"] = "local s = ('x'):rep(60000) s = s .. s .. s s = s .. s .. s "
      .. "while true do s:upper() end",
   doubling = "local s = 'x' while true do s = s .. s end",
   tables = "local t = {} while true do t[#t + 1] = {} end",
   ["an __index"] = "local t = setmetatable({}, { __index = function(t, k) while true do end end }) return t[1]",
   ["a __tostring"] = "local t = setmetatable({}, { __tostring = function(t) return tostring(t) end }) tostring(t)",
}

describe("a limit on work", function()
   for name, body in pairs(ENDLESS) do
      it("stops " .. name .. ", on probation and compiled", function()
         for _, calls in ipairs { 0, 90 } do
            local policy = assert(open("local n, P = 0, {} function P.route(r) n = n + 1 if r.layer == 3 and n > "
               .. calls .. " then\n" .. body .. "\nend end return P"))
            local view = by_hand.route_view(4)
            for _ = 1, calls do assert(policy:call("route", view.view)) end
            local fine, message = policy:call("route", view.view)
            assert.is_nil(fine)
            assert(message:find("p.lua:2: ran over its limit of", 1, true) or message:find "stack overflow", message)
            assert(policy.state:memory() < 64 * 2 ^ 20)
         end
      end)
   end

   it("stops the main part of a file", function()
      local policy, message = open "\nwhile true do end"
      assert.is_nil(policy)
      assert.matches("p.lua:2: ran over its limit of turns", message, 1, true)
   end)

   it("stops what takes memory without a loop", function()
      for _, calls in ipairs { 0, 90 } do
         local policy = assert(open("local n, P = 0, {} function P.route(r) n = n + 1 if r.layer == 3 and n > " .. calls
            .. " then\nlocal s = ('x'):rep(60000) " .. ("s = s .. s "):rep(20) .. "\nend end return P"))
         local view = by_hand.route_view(1)
         for _ = 1, calls do assert(policy:call("route", view.view)) end
         local fine, message = policy:call("route", view.view)
         assert.is_nil(fine)
         assert.matches("memory", message)
      end
   end)

   it("counts instructions as well, on probation", function()
      local fine, message = once("local x = 0 for i = 1, 15000 do " .. ("x = x + i "):rep(2000) .. "end")
      assert.is_nil(fine)
      assert.matches("p.lua:3: ran over its limit of instructions", message, 1, true)
   end)

   it("stops recursion", function()
      local fine, message = once
         "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) return t[1]"
      assert.is_nil(fine)
      assert.matches("stack overflow", message)
   end)

   it("bounds what one call of a library function may do", function()
      for body, expected in pairs {
         ["return ('x'):rep(1e9)"] = "string.rep: longer",
         ["local s = ('x'):rep(6e4) string.format(('%s'):rep(9), s, s, s, s, s, s, s, s, s)"] = "string.format: longer",
         ["local t, s = {}, ('x'):rep(6e4) for i = 1, 100 do t[i] = s end table.concat(t)"] = "table.concat: longer",
         ["table.insert({}, -2^31, 1)"] = "table.insert: place",
         ["return (('a'):rep(3e4)):find(('.-'):rep(8) .. 'b')"] = "string.find: the pattern may take too many steps",
         ["return (('a'):rep(3e4)):match(('.-'):rep(8) .. 'b')"] = "string.match: the pattern may take too many steps",
      } do
         local fine, message = once(body)
         assert.is_nil(fine, body)
         assert.matches(expected, message, 1, true)
      end
   end)

   it("leaves room for one loop over all rows and experts, many times over", function()
      assert(once("local sum = 0 for k = 1, 4 do for i = 0, r.rows - 1 do for e = 0, r.experts - 1 do sum = sum + "
         .. "r:get(i, e) end end end", by_hand.route_view(512)))
   end)
end)

describe("the sandbox", function()
   it("has no way out", function()
      assert(once [[
         local none = load or loadstring or loadfile or dofile or require or module or package or io or os or debug
            or ffi or jit or coroutine or getfenv or setfenv or newproxy or collectgarbage or gcinfo or rawset or print
         assert(none == nil)
         assert(not string.dump and not ('').dump and not string.gsub and not table.move and not table.foreach)
         assert(getmetatable '' == false and getmetatable(r) == false and not pcall(setmetatable, r, {}))
         assert(r.rows == 4 and _G.r == nil)
      ]])
   end)

   it("has what a policy computes with", function()
      assert(once [[
         local t = { 3, 1, 2 }
         table.sort(t) table.insert(t, 4) table.insert(t, 1, 0) assert(table.remove(t) == 4 and table.remove(t, 1) == 0)
         assert(table.concat(t, '-') == '1-2-3' and select('#', unpack(t)) == 3 and math.max(1, 2) == 2)
         assert(('a,b'):find(',', 1, true) == 2 and ('k=v'):match '(%w)=(%w)' == 'k')
         assert(('ab'):upper():rep(2) == 'ABAB')
         assert(('%d %s'):format(3, 'x') == '3 x' and bit.band(6, 3) == 2 and tonumber '7' == 7)
         assert(not pcall(error, 'x') and next {} == nil and rawget(t, 1) == 1)
      ]])
   end)

   it("takes text only", function()
      local policy, message = open(string.dump(assert(loadstring "return { route = function() end }")))
      assert.is_nil(policy)
      assert.matches("p.lua: this is bytecode", message, 1, true)
   end)

   it("keeps two policies apart", function()
      local one = assert(open "shared = (shared or 0) + 1\nreturn { route = function() assert(shared == 1) end }")
      local two = assert(open "shared = (shared or 0) + 1\nreturn { route = function() assert(shared == 1) end }")
      local view = by_hand.route_view(1)
      assert(one:call("route", view.view))
      assert(two:call("route", view.view))
   end)

   it("costs less than 200 KiB, compiled and all", function()
      local policy = assert(open(route "for i = 0, r.rows - 1 do if r:entropy(i) < 1 then r:top(i, 1) end end"))
      local view = by_hand.route_view(8)
      for _ = 1, 300 do assert(policy:call("route", view.view)) end
      assert(policy.state:memory() < 200 * 1024)
   end)
end)

describe("a policy file", function()
   it("is refused with file, line and reason", function()
      for source, expected in pairs {
         ["local P = {\nfunction P.route(r) end\nreturn P"] = "^p.lua:2: ",
         ["return 5\n"] = "p.lua: a policy file returns a table, this one returned a number",
         ["return { rout = function() end }"] = 'p.lua: unknown field "rout"; did you mean "route"%?',
         ["return { route = 5 }"] = 'p.lua: field "route" must be a function, not a number',
         ["return { live = 1, route = function() end }"] = 'field "live" must be a boolean',
         ["return {}"] = "it has none of the functions route, logits, token, admit",
         ["error 'out of order'"] = "p.lua:1: out of order",
         ["return { route = function(r)\nr:tpo(1) end }"] = "^route %(tried with made%-up data%): p.lua:2: r has no "
            .. "tpo",
         ["return { token = function(t)\nreturn t.tetx end }"] = "p.lua:2: t has no tetx",
      } do
         local policy, message = open(source)
         assert.is_nil(policy, source)
         assert.matches(expected, message)
      end
   end)

   it("gets its parameters, and no others", function()
      local source = "local P = { params = { few = 2, list = { 1 } } } function P.route(r) assert(P.params.few == 5 "
         .. "and P.params.list[2] == 'b') end return P"
      assert(open(source, { few = 5, list = { 1, "b" } }))
      local policy, message = open(source, { fwe = 5 })
      assert.is_nil(policy)
      assert.matches('unknown parameter "fwe"; did you mean "few"%?', message)
      policy, message = open(source, { few = print })
      assert.is_nil(policy)
      assert.matches("params: a function among the data", message)
   end)

   it("hands P.keep to the next one at that one's first call", function()
      local source = "local P = { keep = { n = 0, %s } } function P.route(r) P.keep.n = P.keep.n + 1 "
         .. "P.keep.own = { f = function() end, deep = { 1, 'x' } } %s end return P"
      local old = assert(open(source:format("a = 1", "")))
      local new = assert(open(source:format("b = 2",
         "if r.layer == 3 then error(P.keep.n .. P.keep.a .. P.keep.b) end")))
      local view = by_hand.route_view(1)
      new.state:follow(old.state)
      for _ = 1, 6 do assert(old:call("route", view.view)) end
      assert.is_true(old.state:started())
      assert.is_false(new.state:started())
      local _, message = new:call("route", view.view)
      assert.equal("p.lua:1: 712", message)                        -- 6 calls before, one of its own
      assert(old:call("route", view.view))                          -- which goes on, on its own
   end)

   it("says so when P.keep is too large to be handed over", function()
      local old = assert(open("local P = { keep = {} } function P.route(r) P.keep[#P.keep + 1] = ('x'):rep(60000)\nend "
         .. "return P"))
      local new = assert(open "return { keep = {}, route = function() end }")
      local view = by_hand.route_view(1)
      for _ = 1, 20 do assert(old:call("route", view.view)) end
      new.state:follow(old.state)
      local _, message = new:call("route", view.view)
      assert.matches("more than 1 MiB of data", message)
   end)
end)

describe("r", function()
   it("reads and edits what it names", function()
      local view = by_hand.route_view(3)
      assert(once([[
         assert(r.layer == 3 and r.rows == 3 and r.experts == 16 and r.used == 2 and r.most == 4)
         assert(r:request(1) == 101 and r:position(2) == 12 and r:token(0) == 1000 and r:prompt(1) and not r:prompt(0))
         assert(r:tenant(0) == nil and r:load(5) == 1 / 16 and r:top(1) == 2 and r:cumulative(1) == 1)
         r:set(0, 15, 7.5) r:ban(1, 3) r:force(1, 4) r:bias(1, 5, 0.5) r:bias(1, 5, 0.25) r:choose(2, 6, -3)
         assert(r:get(0, 15) == 7.5 and r:choose(1, 5) == 0.75 and r:choose(0, 0) == 0)
         r:top(2, 4) r:cumulative(0, 0.5)
      ]], view))
      assert.equal(7.5, view.scores[15])
      assert.equal(-math.huge, view.choose[16 + 3])
      assert.equal(math.huge, view.choose[16 + 4])
      assert.equal(0.75, view.choose[16 + 5])
      assert.equal(-3, view.choose[32 + 6])
      assert.same({ 2, 2, 4 }, { view.top[0], view.top[1], view.top[2] })
      assert.equal(0.5, view.cumulative[0])
   end)

   it("adds the biases of a table, like as many calls", function()
      local one, all = by_hand.route_view(3), by_hand.route_view(3)
      local fill = "r:bias(1, 3, 2) local t = { [-1] = 9, [16] = 9, x = 9 }\n"
         .. "for e = 0, 15 do if e ~= 7 then t[e] = e / 8 - 0.5 end end\n"
      assert(once(fill .. "for e = 0, 15 do if t[e] then r:bias(1, e, t[e]) end end", one))
      assert(once(fill .. "r:biases(1, t) r:biases(2, {})", all))
      for at = 0, 47 do assert.equal(one.choose[at], all.choose[at], at) end
      assert.equal(2 + 3 / 8 - 0.5, all.choose[16 + 3])
      assert.equal(0, all.choose[16 + 7])
   end)

   it("knows how sure the router is", function()
      for _, experts in ipairs { 5, 16, 61 } do
         local view, sum, entropy, sorted = by_hand.route_view(2, experts), 0, 0, {}
         view.scores[experts + 2] = -math.huge
         for e = 0, experts - 1 do
            sorted[e + 1] = view.scores[experts + e]
            sum = sum + math.exp(view.scores[experts + e])
         end
         table.sort(sorted, function(a, b) return a > b end)
         local mass = 0
         for k = 1, experts do
            local p = math.exp(sorted[k]) / sum
            if p > 0 then entropy = entropy - p * math.log(p) end
            if k <= 3 then mass = mass + p end
         end
         local policy = assert(open(route [[
            if r.layer ~= 3 then return end
            local p, sum = r:softmax(1), 0
            for e = 0, r.experts - 1 do sum = sum + p[e] end
            r:set(0, 0, r:entropy(1)) r:set(0, 1, r:mass(1, 3)) r:set(0, 2, r:margin(1)) r:set(0, 3, sum)
            r:set(0, 4, p[1])
         ]]))
         assert(policy:call("route", view.view))
         local function near(expected, value) assert(math.abs(expected - value) < 1e-5, expected .. " " .. value) end
         near(entropy, view.scores[0])
         near(mass, view.scores[1])
         near(sorted[1] - sorted[2], view.scores[2])
         near(1, view.scores[3])
         near(math.exp(view.scores[experts + 1]) / sum, view.scores[4])
      end
   end)

   it("refuses what is out of its range, at the policy's line", function()
      for body, expected in pairs {
         ["r:get(0, 16)"] = "r:get: expert 16 is not a whole number from 0 to 15",
         ["r:get(4, 0)"] = "r:get: row 4 is not a whole number from 0 to 3",
         ["r:get(-1, 0)"] = "r:get: row -1 is not",
         ["r:get(0.5, 1)"] = "r:get: row 0.5 is not",
         ["r:get(0/0, 1)"] = "r:get: row nan is not",
         ["r:get(2^40, 1)"] = "r:get: row 1099511627776 is not",
         ["r:get()"] = "r:get: row nil is not",
         ["r.get(0, 0)"] = "r:get: expert nil is not",
         ["r:set(0, 0, 'x')"] = "r:set: x is not a number",
         ["r:set(0, 0, 0/0)"] = "r:set: nan is not a number",
         ["r:set(4, 0, 1)"] = "r:set: row 4 is not",
         ["r:ban(0, '1')"] = "r:ban: expert 1 is not a whole number",
         ["r:force(0, 99)"] = "r:force: expert 99 is not",
         ["r:bias(0, 0)"] = "r:bias: nil is not a number",
         ["r:biases(4, {})"] = "r:biases: row 4 is not",
         ["r:biases(0)"] = "r:biases: t must be a table, not a nil",
         ["r:biases(0, { [3] = 'x' })"] = "r:biases: x is not a number",
         ["r:biases(0, { [3] = 0/0 })"] = "r:biases: nan is not a number",
         ["r:top(0, 0)"] = "r:top: number of experts 0 is not a whole number from 1 to 16",
         ["r:top(9)"] = "r:top: row 9 is not",
         ["r:cumulative(0, 0)"] = "r:cumulative: 0 is no share above 0 and up to 1",
         ["r:mass(0, 17)"] = "r:mass: number of experts 17",
         ["r:entropy(4)"] = "r:entropy: row 4 is not",
         ["r:softmax(false)"] = "r:softmax: row false is not",
         ["r:load(16)"] = "r:load: expert 16 is not",
         ["r:tenant(7)"] = "r:tenant: row 7 is not",
         ["r.rows = 1e9 for i = 0, r.rows - 1 do r:set(i, 0, 1) end"] = "r:set: row 4 is not",
      } do
         local fine, message = once("\n" .. body)
         assert.is_nil(fine, body)
         assert.matches("p.lua:4: " .. expected, message, 1, true)
      end
   end)
end)

describe("l, t and q", function()
   it("edit logits of rows that sample", function()
      local policy = assert(open [[
         return { logits = function(l)
            if l.vocabulary ~= 50 then return end
            l:set(1, 7, 2.5) l:add(1, 7, 1) l:ban(0, 49)
            assert(l.rows == 2 and l:get(1, 7) == 3.5 and not pcall(l.get, l, 2, 0) and not pcall(l.set, l, 0, 50, 1))
            assert(l:request(0) == 0 and l:tenant(0) == nil)
         end }]])
      local view = by_hand.logits_view(2, 50)
      assert(policy:call("logits", view.view))
      assert.equal(3.5, view.scores[57])
      assert.equal(-math.huge, view.scores[49])
   end)

   it("see a token and end its request", function()
      local policy = assert(open [[
         return { token = function(t)
            if t.token == 9 then
               assert(t.text == ' é' and t.count == 3 and t.position == 8 and t.request == 5 and t.tenant == nil)
               t:stop()
            end
         end }]])
      local view = ffi.new("pg_token_view", { row = { 5, 0, 8, 9, 0 }, n_new = 3, text = " é", n_text = 3 })
      assert(policy:call("token", view))
      assert.equal(1, view.stop)
      view.row.token, view.stop = 10, 0
      assert(policy:call("token", view))
      assert.equal(0, view.stop)
   end)

   it("let a request wait or refuse it, with whole characters", function()
      local policy = assert(open [[
         return { admit = function(q)
            if q.prompt > 100 then q:refuse(('é'):rep(99)) elseif q.running >= 2 then q:wait() end
            assert(q.max_new and q.priority and q.waiting and q.pages and q.pages_free and q.request)
         end }]])
      local view = ffi.new("pg_admit_view", { id = 1, n_prompt = 5, running = 1, verdict = 1 })
      assert(policy:call("admit", view))
      assert.equal(1, view.verdict)
      view.running = 2
      assert(policy:call("admit", view))
      assert.equal(0, view.verdict)
      view.n_prompt = 101
      assert(policy:call("admit", view))
      assert.equal(-1, view.verdict)
      assert.equal(("é"):rep(63), ffi.string(view.why))
   end)

   it("write no further than a reason reaches, whatever a policy has made of its strings", function()
      local policy = assert(open [[
         return { admit = function(q)
            string.sub = function() return ('x'):rep(600) end
            if q.prompt > 100 then q:refuse 'no' end
         end }]])
      local memory = ffi.new "struct { pg_admit_view view; uint8_t behind[1024]; }"
      memory.view.n_prompt = 101
      assert(policy:call("admit", memory.view))
      assert.equal("no", ffi.string(memory.view.why))
      for i = 0, 1023 do assert.equal(0, memory.behind[i]) end
   end)
end)

describe("what a policy keeps of a call", function()
   it("shows nothing in another one", function()
      local policy = assert(open [[
         local P, kept = {}, {}
         function P.logits(l) kept.l = l end
         function P.token(t) kept.t = t end
         function P.admit(q)
            kept.q = q
            if q.prompt ~= 77 then return end
            assert(not pcall(kept.r.get, kept.r, 0, 0) and not pcall(kept.r.load, kept.r, 0))
            assert(not pcall(kept.r.set, kept.r, 0, 0, 1) and not pcall(kept.r.mass, kept.r, 0, 1))
            assert(not pcall(kept.l.get, kept.l, 0, 0) and not pcall(kept.l.request, kept.l, 0))
            kept.t:stop()
            assert(kept.t.text == "" and kept.t.tenant == nil)
         end
         function P.route(r)
            kept.r = r
            if kept.q and r.layer == 3 then kept.q:refuse "late" assert(kept.q.tenant == nil) end
         end
         return P]])
      local token = ffi.new("pg_token_view", { row = { 5, 0, 8, 9, 0 }, n_new = 3, text = "x", n_text = 1 })
      local admit = ffi.new("pg_admit_view", { id = 1, n_prompt = 77, verdict = 1 })
      local view = by_hand.route_view(2)
      assert(policy:call("route", view.view))
      assert(policy:call("logits", by_hand.logits_view(2, 40).view))
      assert(policy:call("token", token))
      assert(policy:call("admit", admit))
      assert(policy:call("route", view.view))
      assert.same({ 0, 1 }, { token.stop, admit.verdict })
   end)
end)

describe("compiled code", function()
   -- How many instructions the interpreter still runs in one call: debug hooks see those and no others.
   local function interpreted(policy, view)
      assert(policy.state:inspect "n = 0 debug.sethook(function() n = n + 1 end, '', 1) n = 0")
      assert(policy:call("route", view.view))
      return tonumber(policy.state:inspect "debug.sethook() return tostring(n)")
   end

   it("is what the policy of the documentation runs in, whatever the batches", function()
      for _, batches in ipairs { { 1 }, { 4 }, { 64 }, { 1, 64, 3 }, { 200, 1, 1, 1, 7, 2 } } do
         local policy = assert(open [[
local P = { name = "frugal", version = 1, params = { sure = 1.0, few = 2 } }
function P.route(r)                       -- r: rows x experts, router logits, editable in place
   for i = 0, r.rows - 1 do
      if r:entropy(i) < P.params.sure then r:top(i, P.params.few) end
   end
end
return P]])
         local views = {}
         for i, rows in ipairs(batches) do views[i] = by_hand.route_view(rows) end
         assert(interpreted(policy, views[1]) > 30)                 -- on probation it is not
         for _ = 1, 400 do
            for _, view in ipairs(views) do assert(policy:call("route", view.view)) end
         end
         for i, view in ipairs(views) do
            local n = interpreted(policy, view)
            assert(n < 20, ("%d instructions interpreted for %d rows"):format(n, batches[i]))
         end
      end
   end)
end)
