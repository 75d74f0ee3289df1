-- The policies in examples/policies: each is short, loads, and does what it says.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local experts = require "perigee.experts"

local FOLDER = "examples/policies/"
local NAMES = { "balance", "domain_ban", "frugal", "tenant_pin", "top_p", "under_load" }

local VERSE = ("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"):rep(8)
local TALE = ("Once upon a time there was a little fox who lived at the edge of the forest. "):rep(12)

describe("a shipped policy", function()
   local engine
   before_each(function() engine = assert(perigee.open(helper.model, { context = 512 })) end)
   after_each(function()
      assert.same({}, engine:reports())
      engine:close()
   end)

   -- Counts and the scores themselves of a text.
   local function measured(text)
      local before = engine:experts()
      local logprobs = assert(engine:score(text))
      return experts.minus(engine:experts(), before), logprobs
   end

   local function experts_a_token(counts)
      local sum = 0
      for _, load in ipairs(counts.counts) do
         for _, n in ipairs(load) do sum = sum + n end
      end
      return sum / counts.tokens / #counts.layers
   end

   it("has at most 40 lines and stands in the README", function()
      local readme, listed = helper.read(FOLDER .. "README.md"), {}
      for path in io.popen("ls " .. FOLDER .. "*.lua"):lines() do
         local _, lines = helper.read(path):gsub("\n", "")
         assert.is_true(lines <= 40, path)
         listed[#listed + 1] = path:match "([%w_]+)%.lua$"
         assert.matches("`" .. listed[#listed] .. ".lua`", readme, 1, true)
      end
      assert.same(NAMES, listed)
      assert.matches("sum of counts / (experts * largest count)", readme, 1, true)
   end)

   it("frugal visits fewer experts where the router is sure", function()
      local plain, scores = measured(TALE)
      assert.equal(2, experts_a_token(plain))
      local last = 2
      for _, sure in ipairs { 1.2, 1.8, 2.4 } do
         assert(engine.policies:load("frugal", FOLDER .. "frugal.lua", { sure = sure }))
         assert(engine:route "frugal")
         local now = experts_a_token((measured(TALE)))
         assert.is_true(now < last and now >= 1, now)
         last = now
      end
      assert(engine.policies:load("frugal", FOLDER .. "frugal.lua", { sure = 0 }))
      local same, unchanged = measured(TALE)
      assert.equal(2, experts_a_token(same))
      assert.same(scores, unchanged)
      assert(engine.policies:load("frugal", FOLDER .. "frugal.lua", { sure = 9 }))
      assert.equal(1, experts_a_token((measured(TALE))))
   end)

   it("top_p follows its knob", function()
      assert(engine:route(dofile(FOLDER .. "top_p.lua")))
      assert.is_true(math.abs(engine.knobs.top_p - 0.7) < 1e-6)
      local last = 0
      for _, share in ipairs { 0.5, 0.6, 0.8, 1 } do
         engine.knobs.top_p = share
         local now = experts_a_token((measured(TALE)))
         assert.is_true(now > last and now <= 2, now)
         last = now
      end
      assert.equal(2, last)
      engine.knobs.top_p = 0.01                            -- the first has more than that
      assert.equal(1, experts_a_token((measured(TALE))))
   end)

   it("balance evens out a load that is skewed, and keeps what it learned", function()
      local prose = helper.read "README.md"                -- of one kind, and not the same again and again
      local function counted()
         return assert(experts.profile(engine, { prose = prose }, { window = 256, limit = 8 })).prose
      end
      local function utilisation() return experts.summary(counted()).utilisation end
      local before = utilisation()
      assert(engine.policies:load("balance", FOLDER .. "balance.lua"))
      assert(engine:route "balance")
      for _ = 1, 4 do utilisation() end
      local after = utilisation()
      assert.is_true(before < 0.6 and after > 0.85, ("%.3f, then %.3f"):format(before, after))
      assert.equal(2, experts_a_token(counted()))
      assert(engine.policies:load("balance", FOLDER .. "balance.lua", { speed = 0 }))
      assert.is_true(utilisation() > before + 0.1)   -- with the biases that the version before had found
   end)

   it("balance never moves a bias beyond its limit", function()
      assert(engine.policies:load("balance", FOLDER .. "balance.lua", { speed = 1, limit = 0 }))
      local _, plain = measured(VERSE)
      assert(engine:route "balance")
      for _ = 1, 3 do measured(VERSE) end
      assert.same(plain, select(2, measured(VERSE)))
   end)

   it("domain_ban bans what a domain uses least", function()
      local domain_ban = dofile(FOLDER .. "domain_ban.lua")
      local bans = assert(domain_ban(engine, { tales = TALE, verse = VERSE }, 4))
      assert.is_nil(domain_ban(engine, { none = "" }, 4))
      for name, text in pairs { tales = TALE, verse = VERSE } do
         local plain = assert(experts.profile(engine, { text = text })).text
         assert(engine:route(bans[name]))
         local counts = measured(text)
         for i, layer in ipairs(counts.layers) do
            local banned, most = bans[name].layers[layer].ban, 0
            assert.equal(4, #banned)
            for _, e in ipairs(banned) do
               assert.equal(0, counts.counts[i][e + 1])
               most = math.max(most, plain.counts[i][e + 1])
               plain.counts[i][e + 1] = math.huge
            end
            for _, n in ipairs(plain.counts[i]) do assert.is_true(n >= most) end
         end
         assert(engine:route(nil))
      end
      local result = assert(engine:generate("春", { route = bans.verse, max_new = 8 })):result()
      assert.is_true(#result.tokens > 0)
   end)

   it("tenant_pin keeps a tenant on its experts, and nobody else", function()
      local pins = { acme = { [1] = { 0, 3, 5 }, [2] = { 1, 2, 7, 9 } } }
      assert(engine.policies:load("tenant_pin", FOLDER .. "tenant_pin.lua", { pins = pins }))
      assert(engine:route "tenant_pin")
      local path = os.tmpname()
      local tracer = assert(engine:trace { file = path })
      local ids = {}
      for i, tenant in ipairs { "acme", "other", false } do
         local request = assert(engine:generate("The fox", { tenant = tenant or nil, max_new = 16, seed = 1,
            ignore_eos = true }))
         request:result()
         ids[i] = request.id
      end
      tracer:close()
      local function used(id, layer)
         local counts, list = experts.count(path, function(record) return record.request == id end), {}
         for e, n in ipairs(counts.counts[layer]) do
            if n > 0 then list[#list + 1] = e - 1 end
         end
         return list
      end
      assert.same({ 0, 3, 5 }, used(ids[1], 1))
      for _, e in ipairs(used(ids[1], 2)) do assert.is_true(e == 1 or e == 2 or e == 7 or e == 9) end
      assert.is_true(#used(ids[1], 3) > 4)                 -- a layer without pins
      assert.is_true(#used(ids[2], 1) > 4 and #used(ids[3], 1) > 4)
      assert.same(used(ids[2], 1), used(ids[3], 1))
      assert(engine.policies:load("tenant_pin", FOLDER .. "tenant_pin.lua", { pins = pins, nobody = "acme" }))
      local counts = measured(TALE)
      assert.equal(2 * counts.tokens, counts.counts[1][1] + counts.counts[1][4] + counts.counts[1][6])
      os.remove(path)
   end)

   it("under_load becomes frugal by the requests that wait and run", function()
      local under_load = dofile(FOLDER .. "under_load.lua")
      assert(engine:route(under_load.program))
      assert.equal(0, under_load.update(engine))
      assert.equal(2, experts_a_token((measured(TALE))))
      local requests = {}
      for i = 1, 16 do
         requests[i] = assert(engine:generate("The fox", { max_new = 200, seed = i, ignore_eos = true }))
      end
      local highest = 0
      for _ = 1, 200 do
         highest = math.max(highest, under_load.update(engine))
         if highest == 1 then break end
         engine:poll(100)
      end
      assert.equal(1, highest)
      assert.equal(1, engine.knobs.busy)
      assert.is_true(experts_a_token((measured(TALE))) < 2)
      for _, request in ipairs(requests) do request:cancel() end
      helper.settle(engine)
      assert.equal(0, under_load.update(engine))
      assert.equal(2, experts_a_token((measured(TALE))))
   end)
end)
