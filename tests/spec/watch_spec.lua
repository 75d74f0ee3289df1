-- Watched files: edited in place, replaced, cut short, deleted; by polling, through engine:poll, and by a luv loop.
local ffi = require "ffi"
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

ffi.cdef "int pg_spec_usleep(unsigned us) __asm__(\"usleep\");"

-- Poll until `done`, a minute at most.
local function wait_for(poll, done)
   for _ = 1, 30000 do
      poll()
      if done() then return true end
      ffi.C.pg_spec_usleep(2000)
   end
   return false
end

describe("a watcher", function()
   local folder, path, seen, watcher

   before_each(function()
      folder = helper.folder()
      path, seen = folder .. "/file.lua", {}
      helper.write(path, "first")
      watcher = perigee.watch(path, function(changed)
         assert(changed == path)
         seen[#seen + 1] = helper.exists(path) and helper.read(path) or false
      end)
   end)
   after_each(function()
      watcher:close()
      helper.remove(folder)
   end)

   local function sees(n) return wait_for(function() watcher:poll() end, function() return #seen >= n end) end

   -- Long enough for whatever was written to be handed on.
   local function settle()
      for _ = 1, 30 do
         watcher:poll()
         ffi.C.pg_spec_usleep(2000)
      end
   end

   it("may be closed by what it calls", function()
      local called, second, both = 0, folder .. "/second.lua", nil
      helper.write(second, "first")
      both = perigee.watch({ path, second }, function()
         called = called + 1
         both:close()
      end)
      helper.write(path, "changed")
      helper.write(second, "changed")
      ffi.C.pg_spec_usleep(60000)
      assert(wait_for(function() both:poll() end, function() return called > 0 end))
      assert.equal(1, called)
   end)

   it("says nothing of what was there when it began", function()
      settle()
      assert.same({}, seen)
      assert.matches("perigee.watcher of 1 file$", tostring(watcher))
   end)

   it("sees a file that is written in place, also one of the same size", function()
      helper.write(path, "secon")
      assert.is_true(sees(1))
      helper.write(path, "third")
      assert.is_true(sees(2))
      settle()
      assert.same({ "secon", "third" }, seen)
   end)

   it("sees one that is renamed into its place", function()
      helper.write(folder .. "/new", "other")
      assert(os.rename(folder .. "/new", path))
      assert.is_true(sees(1))
      assert.same({ "other" }, seen)
   end)

   it("waits for one that is being written, and for an empty one", function()
      local file = assert(io.open(path, "wb"))
      for i = 1, 20 do
         file:write("part ", i, " ")
         file:flush()
         watcher:poll()
         ffi.C.pg_spec_usleep(1000)
      end
      file:close()
      assert.is_true(sees(1))
      assert.matches("part 20 $", seen[#seen])
      local n = #seen
      helper.write(path, "")
      settle()
      assert.equal(n, #seen)
      helper.write(path, "whole")
      assert.is_true(sees(n + 1))
      assert.equal("whole", seen[#seen])
   end)

   it("waits for one that is deleted to come back", function()
      os.remove(path)
      settle()
      assert.same({}, seen)
      helper.write(path, "back")
      assert.is_true(sees(1))
      assert.same({ "back" }, seen)
   end)

   it("sees one through a link that is turned to another file", function()
      local link = folder .. "/link"
      helper.write(folder .. "/a", "aaaa")
      helper.write(folder .. "/b", "bbbb")
      assert(os.execute(("ln -s a %s"):format(helper.quote(link))) == 0)
      local texts = {}
      local other = perigee.watch({ link, folder .. "/none" }, function(p) texts[#texts + 1] = helper.read(p) end)
      assert(os.execute(("ln -sfn b %s"):format(helper.quote(link))) == 0)
      assert.is_true(wait_for(function() other:poll() end, function() return #texts > 0 end))
      assert.same({ "bbbb" }, texts)
      other:close()
      assert.equal(0, other:poll())
   end)

   it("looks by itself where a luv loop runs", function()
      local found, uv = pcall(require, "luv")
      if not found then return pending "luv is absent: its case did not run" end
      local own = perigee.watch(path, function() seen[#seen + 1] = "told" end)
      local keep = uv.new_timer()
      keep:start(0, 5, function()
         if #seen > 0 then uv.stop() end
      end)
      local limit = uv.new_timer()
      limit:start(5000, 0, function() uv.stop() end)
      local writer = uv.new_timer()
      writer:start(30, 0, function() helper.write(path, "told") end)
      uv.run()
      for _, handle in ipairs { keep, limit, writer } do handle:close() end
      own:close()
      uv.run "nowait"
      assert.same({ "told" }, seen)
      package.loaded.luv = nil
   end)

   it("refuses what is no path and no function", function()
      assert.has_error(function() perigee.watch(5, print) end, "perigee.watch: paths must be a table, not a number")
      assert.has_error(function() perigee.watch({ 5 }, print) end, "perigee.watch: path must be a string, not a number")
      assert.has_error(function() perigee.watch("x") end, "perigee.watch: callback must be a function, not a nil")
   end)
end)

describe("a watched policy", function()
   local engine, folder, path

   local function visits(k)
      return ("return { route = function(r)\n   for i = 0, r.rows - 1 do r:top(i, %d) end\nend }\n"):format(k)
   end

   local function tokens(opts)
      opts.max_new, opts.temperature, opts.ignore_eos = 30, 0, true
      return assert(engine:generate("Once upon a time there was a little fox", opts):result()).tokens
   end

   local function entry() return engine.policies:list()[1] end

   lazy_setup(function() engine = assert(perigee.open(helper.model)) end)
   lazy_teardown(function() engine:close() end)
   before_each(function()
      folder = helper.folder()
      path = folder .. "/visits.lua"
      helper.write(path, visits(1))
   end)
   after_each(function() helper.remove(folder) end)

   it("is loaded anew by engine:poll, and kept when its file is broken or gone", function()
      local one, three = tokens { route = { top = 1 } }, tokens { route = { top = 3 } }
      local function poll() engine:poll(0) end
      assert(engine.policies:watch("visits", path))
      assert.equal(path, entry().file)
      assert.same(one, tokens { route = "visits" })

      helper.write(path, visits(3))
      assert.is_true(wait_for(poll, function() return entry().current.version == 2 end))
      assert.same(three, tokens { route = "visits" })

      helper.write(path, visits(1):sub(1, -8))
      assert.is_true(wait_for(poll, function() return entry().failure end))
      assert.matches(path .. ":2: ", entry().failure, 1, true)
      local report = engine.policies:reports()[1]
      assert.same({ 0, "visits", entry().failure }, { report.number, report.policy, report.text })
      assert.same(three, tokens { route = "visits" })

      os.remove(path)
      poll()
      assert.same(three, tokens { route = "visits" })

      helper.write(path, visits(1))
      assert.is_true(wait_for(poll, function() return entry().current.version == 3 end))
      assert.is_nil(entry().failure)
      assert.same(one, tokens { route = "visits" })
      assert(engine.policies:unload "visits")
      assert.equal(0, engine.policies:poll())
   end)

   it("needs a file that loads to begin with", function()
      helper.write(path, "return 5")
      local version, message = engine.policies:watch("visits", path)
      assert.is_nil(version)
      assert.matches("a policy file returns a table", message)
      version, message = engine.policies:watch("visits", folder .. "/none.lua")
      assert.is_nil(version)
      assert.matches("none.lua", message)
      assert.same({}, engine.policies:list())
   end)

   it("leaves the polling loop in compiled code", function()
      assert(engine.policies:watch("visits", path))
      assert.is_true(helper.compiles(function() for _ = 1, 200 do engine:poll(0) end end))
      assert(engine.policies:unload "visits")
   end)
end)
