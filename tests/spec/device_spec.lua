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
      for _, name in ipairs { "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda1", "CUDA" } do
         refused(name, "invalid", name, '"cuda:N"')
      end
      refused("cuda:0,1", "unsupported", "one device")
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
         setenv("PERIGEE_CUDA_MEMORY", "0.045")
         engine = assert(open { device = "auto" })
         assert.equal("cpu", engine:info().device)
         engine:close()
      end)
   end)

   it("keeps experts in host memory when they do not fit, and says so", function()
      with(emulated, function()
         setenv("PERIGEE_CUDA_MEMORY", "0.063")
         local engine = assert(open { device = "cuda" })
         assert.matches("GB of experts did not fit", engine:info().note)
         assert(engine:complete("Once", { max_new = 2 }))
         engine:close()
      end)
   end)

   it("refuses what does not fit at all, and says how much is missing", function()
      with(emulated, function()
         setenv("PERIGEE_CUDA_MEMORY", "0.02")
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
