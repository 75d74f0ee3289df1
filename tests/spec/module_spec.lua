-- The module's conventions: what opens, what is refused and how, what closing does.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"

describe("perigee", function()
   it("tells its version", function() assert.matches("^%d+%.%d+%.%d+$", perigee.version) end)

   it("sets no globals", function()
      local status, out = helper.shell [[luajit -e 'local before = {} for k in pairs(_G) do before[k] = true end
         require "perigee" require "perigee.cli" for k in pairs(_G) do if not before[k] then print(k) end end']]
      assert.equal(0, status)
      assert.equal("", out)
   end)

   it("can be loaded anew in one state", function()
      local status, out, err = helper.shell [[luajit -e 'require "perigee" for k in pairs(package.loaded) do
         if k:match "^perigee" then package.loaded[k] = nil end end print(require("perigee").version)']]
      assert.equal("", err)
      assert.equal(0, status)
      assert.equal(perigee.version .. "\n", out)
   end)

   it("says what to do when its C part is missing", function()
      local status, _, err = helper.shell [[LUA_CPATH=/nowhere/?.so luajit -e 'require "perigee"']]
      assert.equal(1, status)
      assert.matches("run `make`", err)
   end)

   describe("describe", function()
      it("reads the metadata of the bundled model", function()
         local info = assert(perigee.describe(helper.model))
         assert.equal("deepseek2", info.architecture)
         assert.equal("gguf", info.format)
         assert.equal("q8_0", info.quantisation)
         assert.equal(8192, info.vocabulary)
         assert.equal(16, info.experts)
         assert.equal(1, info.experts_shared)
         assert.equal(1, info.bos)
         assert.equal(2, info.eos)
         assert.is_true(info.active_parameters > 0 and info.active_parameters < info.parameters)
         assert.is_nil(info.context)
      end)

      it("takes the bundled model without a path", function()
         assert.same(perigee.describe(helper.model), perigee.describe())
      end)

      it("refuses what is no model", function()
         local info, message, code = perigee.describe "Makefile"
         assert.is_nil(info)
         assert.matches("Makefile", message, 1, true)
         assert.equal("format", code)
      end)
   end)

   describe("open", function()
      it("says which file is missing", function()
         local engine, message, code = perigee.open "no/such/model.gguf"
         assert.is_nil(engine)
         assert.matches("no/such/model.gguf", message, 1, true)
         assert.equal("not_found", code)
      end)

      it("refuses what is no model", function()
         local engine, message, code = perigee.open "Makefile"
         assert.is_nil(engine)
         assert.matches("Makefile", message, 1, true)
         assert.equal("format", code)
      end)

      it("refuses hf: paths for now", function()
         local engine, message, code = perigee.open "hf:org/repo/file.gguf"
         assert.is_nil(engine)
         assert.matches("hf:", message, 1, true)
         assert.equal("unsupported", code)
      end)

      it("refuses a path with a zero byte", function()
         local _, _, code = perigee.open(helper.model .. "\0.txt")
         assert.equal("invalid", code)
      end)

      it("takes PERIGEE_MODEL when there is no path", function()
         local status, out = helper.shell [[PERIGEE_MODEL=no/such.gguf luajit -e 'print(select(2,
            require("perigee").open()))']]
         assert.equal(0, status)
         assert.matches("no/such.gguf", out, 1, true)
      end)

      it("refuses unknown options by name and hints at the nearest", function()
         local engine, message, code = perigee.open(helper.model, { treads = 2 })
         assert.is_nil(engine)
         assert.matches('unknown option "treads"; did you mean "threads"?', message, 1, true)
         assert.equal("invalid", code)
      end)

      it("refuses values out of range", function()
         for name, value in pairs { precision = "f64", kv_type = "f8", device = "abacus", threads = -1, context = -5,
            batch = -1, kv_tokens = -1 } do
            local engine, message, code = perigee.open(helper.model, { [name] = value })
            assert.is_nil(engine, name)
            assert.matches(name, message, 1, true)
            assert.is_true(code == "invalid" or code == "unsupported" or code == "device", name .. ": " .. code)
         end
      end)

      it("raises at the caller's line for wrong types", function()
         for _, call in ipairs {
            function() local _ = perigee.open(42) end,
            function() local _ = perigee.open(helper.model, "fast") end,
            function() local _ = perigee.open(helper.model, { threads = "2" }) end,
            function() local _ = perigee.open(helper.model, { progress = 1 }) end,
            function() local _ = perigee.describe {} end,
            function() local _ = perigee.tokenizer(1) end,
         } do
            local fine, message = pcall(call)
            assert.is_false(fine)
            assert.matches("module_spec.lua:%d+: perigee%.", message)
         end
      end)

      it("tells the progress", function()
         local calls, last, what = 0, -1, nil
         local engine = assert(perigee.open(helper.model, { context = 64, progress = function(done, total, stage)
            calls = calls + 1
            assert(done >= last and done <= total, "progress must grow up to the total")
            last, what = done, stage
         end }))
         engine:close()
         assert.is_true(calls >= 1)
         assert.equal("load", what)
      end)

      it("gives up when progress raises, and passes the error on", function()
         local fine, message = pcall(perigee.open, helper.model, { progress = function() error("enough", 0) end })
         assert.is_false(fine)
         assert.equal("enough", message)
      end)
   end)

   describe("an engine", function()
      local engine
      setup(function()
         engine = assert(perigee.open(helper.model, { threads = 1, context = 200, kv_tokens = 1000, batch = 64 }))
      end)
      teardown(function() engine:close() end)

      it("tells the settings in force", function()
         local info = engine:info()
         assert.equal(200, info.context)
         assert.equal(64, info.batch)
         assert.equal(1, info.threads)
         assert.is_true(info.kv_tokens >= 1000)
         assert.is_true(info.memory_bytes > 0)
         assert.is_true(#info.isa > 0)
         assert.equal("cpu", info.device:match "^cpu")
         assert.equal(perigee.describe(helper.model).parameters, info.parameters)
      end)

      it("shows itself", function() assert.matches("^perigee.engine .*deepseek2 q8_0", tostring(engine)) end)
      it("shows what it knows by name", function() assert.matches("^perigee.filters: ", tostring(engine.filters)) end)

      it("counts what it does", function()
         local before = helper.settle(engine)
         assert(engine:complete({ 1, 300, 301 }, { max_new = 4, temperature = 0, ignore_eos = true }))
         local after = helper.settle(engine)
         assert.equal(before.requests + 1, after.requests)
         assert.equal(before.prompt_tokens + 3, after.prompt_tokens)
         assert.equal(before.generated_tokens + 4, after.generated_tokens)
         assert.is_true(after.steps > before.steps)
         assert.equal(0, after.waiting + after.running)
         assert.is_true(after.kv_pages * after.kv_page_tokens >= 1000)
      end)
   end)

   describe("closing", function()
      it("may be done twice, and what comes after is refused", function()
         local engine = assert(perigee.open(helper.model, { context = 64 }))
         local tokenizer = engine:tokenizer()
         local stream = tokenizer:stream()
         local request = engine:generate("Once", { ignore_eos = true })
         assert.is_true(engine:close())
         assert.is_true(engine:close())
         assert.equal("perigee.engine (closed)", tostring(engine))
         for _, call in ipairs {
            function() return engine:info() end, function() return engine:generate "x" end,
            function() return engine:complete "x" end, function() return engine:encode "x" end,
            function() return engine:decode { 1 } end, function() return engine:score "some text" end,
            function() return engine:logits { 1 } end, function() return engine:stats() end,
            function() return engine:poll(0) end, function() return engine:fd() end,
            function() return engine:tokenizer() end, function() return tokenizer:encode "x" end,
            function() return tokenizer:info() end, function() return stream:push(1) end,
         } do
            local value, message, code = call()
            assert.is_nil(value)
            assert.matches("is closed", message)
            assert.equal("invalid", code)
         end
         local result, message, code = request:result()
         assert.is_nil(result)
         assert.matches("closed", message)
         assert.equal("cancelled", code)
      end)

      it("is left to the collector when forgotten", function()
         local status, out, err = helper.shell(([[luajit -e 'local perigee = require "perigee"
            for _ = 1, 5 do
               local engine = assert(perigee.open(%q, { context = 64 }))
               local request = engine:generate("Once upon", { ignore_eos = true })
               local stream = engine:tokenizer():stream()
               assert(#request:next().text >= 0 and stream:push(300))
               engine, request, stream = nil
               collectgarbage() collectgarbage() collectgarbage()
            end
            local left = assert(perigee.open(%q, { context = 64 })):generate "Once"
            local tokenizer = assert(perigee.tokenizer(%q))
            local stream = tokenizer:stream()
            print(left.id, stream:push(300) ~= nil)']]):format(helper.model, helper.model, helper.model))
         assert.equal("", err)
         assert.equal(0, status)
         assert.equal("1\ttrue\n", out)
      end)
   end)
end)
