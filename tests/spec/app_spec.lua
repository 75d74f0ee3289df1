-- An app folder: what serves, what is swapped, what a broken file does.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

local POLICY = [[
local P = { name = "few", params = { n = %d } }
function P.route(r) for i = 0, r.rows - 1 do r:top(i, P.params.n) end end
return P
]]
local FILTER = 'return require("perigee").filter { name = "w", action = "mask", replace = "%s", words = { "the" } }'
local SETTINGS = [[
return { route = "few", filters = "words", pipeline = "brief", options = { max_new = 12, temperature = 0 } }
]]

describe("perigee.app", function()
   local engine, folder, app

   local function write(path, text)
      helper.write(folder .. "/" .. path .. ".new", text)
      assert(os.rename(folder .. "/" .. path .. ".new", folder .. "/" .. path))
   end

   -- Poll until something has changed; files need a moment to be at rest.
   local function changes()
      local until_s = os.time() + 120
      repeat
         local found = app:poll()
         if #found > 0 then return found end
         os.execute "sleep 0.02"
      until os.time() > until_s
      error "nothing changed"
   end

   before_each(function()
      engine = assert(perigee.open(helper.model))
      folder = helper.folder()
      assert(os.execute(("mkdir -p %s/policies %s/filters %s/pipelines"):format(folder, folder, folder)) == 0)
      write("policies/few.lua", POLICY:format(1))
      write("filters/words.lua", FILTER:format("##"))
      write("pipelines/brief.lua", 'return { require("perigee.pipeline").system "Be brief." }')
      write("app.lua", SETTINGS)
      app = assert(perigee.app(folder .. "/", engine))
   end)

   after_each(function()
      app:close()
      engine:close()
      helper.remove(folder)
   end)

   local ASK = { { role = "user", content = "Tell me a story about the fox." } }

   -- The same by hand, on an engine of its own.
   local function by_hand(top, mask)
      local other = assert(perigee.open(helper.model))
      assert(other:route { top = top })
      local text = assert(other:complete({ { role = "system", content = "Be brief." }, ASK[1] },
         { max_new = 12, temperature = 0 }))
      other:close()
      return (text:gsub("the", mask))
   end

   local function served() return assert(assert(app:generate(ASK)):result()).text end

   it("serves by its settings", function()
      assert.equal(by_hand(1, "##"), served())
      assert.equal("few", engine.policies:list()[1].name)
      local chat = assert(app:chat())
      local first = assert(assert(chat:say("Tell me of the king.")):result())
      assert.is_true(first.usage.completion <= 12)
   end)

   it("swaps one file alone, for the next request", function()
      write("filters/words.lua", FILTER:format("%%%%"))
      assert.same({ { path = "filters/words.lua", ok = true } }, changes())
      assert.equal(by_hand(1, "%%%%%%%%"), served())
      write("policies/few.lua", POLICY:format(3))
      assert.same({ { path = "policies/few.lua", ok = true } }, changes())
      assert.equal(by_hand(3, "%%%%%%%%"), served())
   end)

   it("keeps the old version of a file that does not load, and says why", function()
      local before = served()
      for path, text in pairs {
         ["policies/few.lua"] = "return {", ["filters/words.lua"] = "error 'no filter today'",
         ["pipelines/brief.lua"] = "return 7", ["app.lua"] = "return { rout = 1 }",
      } do
         local good = helper.read(folder .. "/" .. path)
         write(path, text)
         local found = changes()
         assert.equal(1, #found)
         assert.is_false(found[1].ok)
         assert.equal(path, found[1].path)
         assert.matches(path:match "[^/]+$", found[1].message, 1, true)
         assert.equal(before, served())
         write(path, good)
         assert.is_true(changes()[1].ok)
         assert.equal(before, served())
      end
   end)

   it("keeps its settings when those that come are of the wrong kind", function()
      local before = served()
      for text, why in pairs {
         ["return { route = 5 }"] = "expected knobs", ["return { route = { top = 'x' } }"] = "must be an integer",
         ["return { options = 5 }"] = "options must be a table",
         ["return { options = { max = 5 } }"] = "unknown option",
         ["return { options = { max_new = 'x' } }"] = "must be an integer",
      } do
         write("app.lua", text)
         local found = changes()
         assert.same({ 1, "app.lua", false }, { #found, found[1].path, found[1].ok })
         assert.matches(why, found[1].message, 1, true)
         assert.matches("app.lua", found[1].message, 1, true)
         assert.equal(before, served())
      end
   end)

   it("takes settings up once what they name has come", function()
      write("app.lua", "return { filters = 'late' }")
      assert.is_false(changes()[1].ok)
      write("filters/late.lua", 'return require("perigee").filter { name = "late", words = { "fox" } }')
      local found = changes()
      assert.same({ "filters/late.lua", true, "app.lua", true },
         { found[1].path, found[1].ok, found[2].path, found[2].ok })
      assert.same({ "late" }, { app:options().filters })
   end)

   it("takes up files that come, and lets go of those that go", function()
      write("filters/late.lua", 'return require("perigee").filter { name = "late", words = { "fox" } }')
      assert.same({ { path = "filters/late.lua", ok = true } }, changes())
      assert(os.remove(folder .. "/filters/late.lua"))
      assert.same({ { path = "filters/late.lua", ok = true, removed = true } }, changes())
      local request, message = engine:generate("Once", { filters = { "late" } })
      assert.is_nil(request)
      assert.matches("late", message)
   end)

   it("refuses a folder that is not there, and one with a broken file", function()
      local none, message, code = perigee.app(folder .. "/absent", engine)
      assert.same({ nil, "not_found" }, { none, code })
      assert.matches("absent", message)
      write("policies/few.lua", "P = {")
      none, message = perigee.app(folder, engine)
      assert.is_nil(none)
      assert.matches("few.lua", message, 1, true)
      write("policies/few.lua", POLICY:format(1))
      write("app.lua", "return { filters = { 'nobody' } }")
      none, message = perigee.app(folder, engine)
      assert.is_nil(none)
      assert.matches('names filter "nobody", which is not there', message, 1, true)
   end)
end)
