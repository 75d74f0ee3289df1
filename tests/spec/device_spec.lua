-- Devices by name: what is missing where there is none, and, on a device that is emulated, an engine from its
-- opening to its failure.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local ffi = require "ffi"

ffi.cdef [[ int setenv(const char *name, const char *value, int over); int unsetenv(const char *name); ]]

local core = assert(package.searchpath("perigee.core", package.cpath))
local emulated = core:gsub("lua/perigee/core.so$", "emu/perigee_cuda.so")
local is_here = helper.exists(emulated) and (os.getenv "SAN" or "") == ""

local function setenv(name, value)
   if value then ffi.C.setenv(name, value, 1) else ffi.C.unsetenv(name) end
end

local before = os.getenv "PERIGEE_CUDA"
local function with(library, fn)
   setenv("PERIGEE_CUDA", library)
   local fine, message = pcall(fn)
   setenv("PERIGEE_CUDA", before)
   setenv("PERIGEE_CUDA_MEMORY", nil)
   setenv("PERIGEE_EMU_DEVICES", nil)
   if not fine then error(message, 0) end
end

local function open(options)
   options.threads, options.context, options.kv_tokens, options.batch = 1, 64, 128, 16
   return perigee.open(helper.model, options)
end

local function refused(device, code, ...)
   local engine, message, why = open { device = device }
   assert.is_nil(engine)
   assert.equal(code, why)
   for _, word in ipairs { ... } do assert.matches(word, message, 1, true) end
end

describe("a device", function()
   it("must be named as devices are", function()
      for _, name in ipairs { "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda1", "CUDA", "cuda:0,", "cuda:,1",
         "cuda:0,,1", "cuda:0, 1", "cuda:all,1", "cuda:0,all", "cuda:0,1000", "cuda:" .. ("0"):rep(200) } do
         refused(name, "invalid", name, '"cuda:N"', '"cuda:N,M"', '"cuda:all"')
      end
      refused("cuda:1,0,1", "invalid", "1 is named twice")
      refused("cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "invalid", "16 devices at most")
   end)

   it("needs its library, and the message says where it was looked for", function()
      with("/no/such/library.so", function() refused("cuda", "device", "/no/such/library.so", "PERIGEE_CUDA") end)
      with("README.md", function() refused("cuda:0", "device", "README.md", "cuda:0") end)
      with(core, function() refused("cuda", "device", core, "build both from one source") end)
   end)

   it("is the CPU where there is no other", function()
      with("/no/such/library.so", function()
         local engine = assert(open { device = "auto" })
         assert.equal("cpu", engine:info().device)
         engine:close()
      end)
   end)
end)

local describe_emulated = is_here and describe or pending
describe_emulated("an emulated device", function()
   it("gives the tokens that the CPU gives", function()
      with(emulated, function()
         local text = {}
         for _, device in ipairs { "cpu", "cuda:0" } do
            local engine = assert(open { device = device, precision = "f32" })
            local info = engine:info()
            assert.equal(device, info.device)
            assert.matches(device == "cpu" and "%w" or "^sm_%d+ ", info.isa)
            text[#text + 1] = assert(engine:complete("Once upon a time", { max_new = 6, temperature = 0 }))
            engine:close()
         end
         assert.equal(text[1], text[2])
      end)
   end)

   it("is taken by itself when everything fits, and only then", function()
      with(emulated, function()
         local engine = assert(open { device = "auto" })
         assert.equal("cuda:0", engine:info().device)
         engine:close()
         setenv("PERIGEE_CUDA_MEMORY", "0.03")
         engine = assert(open { device = "auto" })
         assert.equal("cpu", engine:info().device)
         engine:close()
      end)
   end)

   it("keeps experts in host memory when they do not fit, and says so", function()
      with(emulated, function()
         setenv("PERIGEE_CUDA_MEMORY", "0.03")
         local engine = assert(open { device = "cuda" })
         assert.matches("GB of experts did not fit", engine:info().note)
         assert(engine:complete("Once", { max_new = 2 }))
         engine:close()
      end)
   end)

   it("refuses what does not fit at all, and says how much is missing", function()
      with(emulated, function()
         setenv("PERIGEE_CUDA_MEMORY", "0.01")
         local engine, message, code = open { device = "cuda" }
         assert.is_nil(engine)
         assert.equal("memory", code)
         assert.matches("has %d+%.%d+ GB too little memory", message)
      end)
      with(emulated, function() refused("cuda:9", "device", "no such device") end)
   end)

   it("that fails ends its requests with a message, and the engine takes no others", function()
      with(emulated, function()
         local engine = assert(open { device = "cuda" })
         local request = assert(engine:generate("Once upon a time", { max_new = 40 }))
         ffi.cdef "void pg_emu_fail_at(int n);"
         ffi.load(emulated).pg_emu_fail_at(30)
         local result, message, code = request:result()
         assert.is_nil(result)
         assert.equal("device", code)
         assert.matches("^cuda:0 %(sm_%d+ .*open it again", message)
         local again, refusal, why = engine:generate("Once", { max_new = 2 })
         assert.is_nil(again)
         assert.equal("device", why)
         assert.equal(message, refusal)
         local _, scored, third = engine:score("Once upon")
         assert.equal("device", third)
         assert.equal(message, scored)
         engine:close()
      end)
   end)
end)

describe_emulated("several emulated devices", function()
   local function tokens(device, route)
      local engine = assert(open { device = device })
      if route then assert(engine:route(route(engine))) end
      local request = assert(engine:generate("Once upon a time", { max_new = 8, temperature = 0 }))
      local result = assert(request:result())
      local info, reports = engine:info(), engine.policies:reports()
      engine:close()
      return result.tokens, info, reports
   end

   local function with_devices(n, fn)
      with(emulated, function()
         setenv("PERIGEE_EMU_DEVICES", tostring(n))
         fn()
      end)
   end

   it("give the tokens that one gives, and engine:info() names them", function()
      with_devices(3, function()
         local one = tokens "cuda:0"
         local names = { ["cuda:0,1"] = "cuda:0,1", ["cuda:2,0"] = "cuda:2,0", ["cuda:all"] = "cuda:0,1,2" }
         for name, shown in pairs(names) do
            local several, info = tokens(name)
            assert.same(one, several)
            assert.equal(shown, info.device)
            assert.matches("^%d x sm_%d+ ", info.isa)
         end
      end)
      with_devices(1, function()
         local _, info = tokens "cuda:all"
         assert.equal("cuda:0", info.device)
      end)
   end)

   it("are steered like one: by programs that look at the load, and by code", function()
      local policy = require "perigee.policy"
      local ways = {
         program = function()
            local tilt = 0.1 * policy.layer * policy.index
            return assert(policy.program { scores = policy.scores - 8 * policy.load + tilt })
         end,
         code = function(engine)
            assert(engine.policies:load("tilt", [[
               local P = { name = "tilt", version = 1 }
               function P.route(r)
                  for i = 0, r.rows - 1 do
                     r:set(i, r.layer % 4, r:get(i, r.layer % 4) + 5)
                     r:top(i, 1 + r.layer % 2)
                  end
               end
               return P]]))
            return "tilt"
         end,
      }
      with_devices(2, function()
         local plain = tokens "cuda:0"
         for name, route in pairs(ways) do
            local one, _, told = tokens("cuda:0", route)
            assert.is_not.same(plain, one, name)
            local two, _, told_two = tokens("cuda:0,1", route)
            assert.same(one, two, name)
            assert.equal(#told, #told_two, name)
         end
      end)
   end)

   it("hold what one cannot, which auto knows", function()
      with_devices(2, function()
         setenv("PERIGEE_CUDA_MEMORY", "0.03")
         local _, one = tokens "cuda:0"
         assert.matches("GB of experts did not fit", one.note)
         for _, device in ipairs { "cuda:0,1", "auto" } do
            local _, two = tokens(device)
            assert.equal("cuda:0,1", two.device)
            assert.is_nil(two.note)
         end
         setenv("PERIGEE_CUDA_MEMORY", "0.01")
         refused("cuda:0,1", "memory", "cuda:0 (", "too little memory")
      end)
   end)

   it("must be there", function()
      with_devices(2, function() refused("cuda:0,9", "device", "no such device as cuda:9", "knows of 2") end)
   end)

   it("end their requests when one of them fails", function()
      with_devices(2, function()
         local engine = assert(open { device = "cuda:0,1" })
         local request = assert(engine:generate("Once upon a time", { max_new = 40 }))
         ffi.load(emulated).pg_emu_fail_at(60)
         local result, message, code = request:result()
         assert.is_nil(result)
         assert.equal("device", code)
         assert.matches("^cuda:%d %(sm_%d+ .*open it again", message)
         local again, refusal = engine:generate("Once", { max_new = 2 })
         assert.is_nil(again)
         assert.equal(message, refusal)
         engine:close()
      end)
   end)
end)
