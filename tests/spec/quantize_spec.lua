-- Quantising from Lua and from the command line: what is written opens and speaks, progress, Ctrl-C, words.
local ffi = require "ffi"
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local cjson = require "cjson"

local TEXT = "Once upon a time there was a little fox, who lived at the edge of the forest."

describe("quantising", function()
   local place, source
   setup(function()
      place = helper.workplace()
      source = place .. "/source.gguf"
      assert(perigee.quantize { input = helper.model, output = source, type = "f16", requantize = true })
   end)
   teardown(function() helper.remove(place) end)

   local function shell(command) return helper.shell(command, place) end

   local function left()
      local _, out = shell "ls"
      return out
   end

   -- Logits of a text, copied, and how many.
   local function logits_of(path)
      local engine = assert(perigee.open(path, { context = 64, precision = "f32" }))
      local logits, T, V = assert(engine:logits(engine:encode(TEXT)))
      local copy = ffi.new("float[?]", T * V)
      ffi.copy(copy, logits, 4 * T * V)
      engine:close()
      return copy, T, V
   end

   local function mean_kl(a, b, T, V)
      local sum = 0
      for t = 0, T - 1 do
         local p, q = a + t * V, b + t * V
         local base, other = helper.log_softmax(p, V, 0) - p[0], helper.log_softmax(q, V, 0) - q[0]
         for v = 0, V - 1 do sum = sum + math.exp(p[v] + base) * (p[v] + base - q[v] - other) end
      end
      return sum / T
   end

   it("writes models that open and mean nearly the same", function()
      local out, before, last = place .. "/out.gguf", nil, 0
      local expected, T, V = logits_of(source)
      for _, case in ipairs { { "q8_0", 2e-3 }, { "q5_k_m", 2e-2 }, { "q4_0", 8e-2 }, { "mxfp4", 4e-2 } } do
         local report = assert(perigee.quantize { input = source, output = out, type = case[1] })
         local divergence = mean_kl(expected, logits_of(out), T, V)
         assert.is_true(divergence > 0 and divergence < case[2], case[1] .. ": " .. divergence)
         if case[1] ~= "mxfp4" then
            assert.is_true(before == nil or report.bytes_out < before)
            assert.is_true(divergence > last / 2, case[1] .. " is much better than the type before it")
            before, last = report.bytes_out, divergence
         end
         assert.equal(report.tensors, 70)
         assert.matches("f32 23", report.types, 1, true)
      end
   end)

   it("makes packed files that give the same bits", function()
      local stored, packed = place .. "/stored.gguf", place .. "/packed.gguf"
      assert(perigee.quantize { input = source, output = stored, type = "q4_k_m" })
      local report = assert(perigee.quantize { input = stored, output = packed, type = "copy", pack = true })
      assert.is_true(report.packed > 40)
      assert.equal("q4_k packed", assert(perigee.describe(packed)).quantisation)
      local a, T, V = logits_of(stored)
      local b = logits_of(packed)
      assert.is_true(ffi.string(a, 4 * T * V) == ffi.string(b, 4 * T * V))
   end)

   it("tells how far it is, and stops when that raises", function()
      local seen, total = 0, nil
      local out = place .. "/out.gguf"
      assert(perigee.quantize { input = source, output = out, type = "q8_0", progress = function(done, all, what)
         assert.is_true(done >= seen and done <= all or all == 0)
         assert.equal("quantize", what)
         seen, total = done, all
      end })
      assert.equal(total, seen)
      assert(os.remove(out))
      local before = left()
      local fine, raised = pcall(perigee.quantize, { input = source, output = out, type = "q4_k_m",
         progress = function() error({}, 0) end })
      assert.is_false(fine)
      assert.equal("table", type(raised))
      assert.equal(before, left())
   end)

   it("refuses with words", function()
      for _, case in ipairs {
         { { input = helper.model, output = "x", type = "q4_0" }, "invalid", "requantize" },
         { { input = "no/such.gguf", output = "x" }, "not_found", "no/such.gguf" },
         { { input = source, output = "no/such/x" }, "not_found", "no/such/x" },
         { { input = source, output = source }, "invalid", "same file" },
         { { input = source, output = "x", type = "q3" }, "invalid", "q4_k_m" },
         { { input = source, output = "x", typ = "q4_0" }, "invalid", 'did you mean "type"' },
         { { input = source, output = "x", type = "q4_0", imatrix = helper.model }, "format", "imatrix" },
         { { input = source, output = "x", type = "f16", pack = true }, "invalid", "packed" },
         { { input = source, output = "x", threads = -1 }, "invalid", "threads" },
      } do
         local report, message, code = perigee.quantize(case[1])
         assert.is_nil(report)
         assert.equal(case[2], code, message)
         assert.matches(case[3], message, 1, true)
      end
      assert.is_false(helper.exists "x")
   end)

   it("raises for wrong types", function()
      for _, call in ipairs { function() local _ = perigee.quantize { output = "x" } end,
         function() local _ = perigee.quantize { input = "x", output = 1 } end,
         function() local _ = perigee.quantize { input = "x", output = "y", pack = 1 } end,
         function() local _ = perigee.quantize "x" end, function() local _ = perigee.quantize() end } do
         local fine, message = pcall(call)
         assert.is_false(fine)
         assert.matches("quantize_spec.lua:%d+: perigee.quantize", message)
      end
   end)

   describe("by command", function()
      it("prints what it wrote", function()
         local status, out, err = shell "perigee quantize source.gguf out.gguf q4_k_m --pack"
         assert.equal(0, status, err)
         assert.equal("", err)
         assert.matches("^31%.8 MB to 10%.%d MB in 70 tensors: f32 23, .*q4_k 30.*; 46 packed\n$", out)
         local _, text = shell "perigee quantize source.gguf out.gguf Q8_0 --json -q"
         local report = cjson.decode(text)
         assert.equal(47, report.quantised)
         assert.equal("f32 23, q8_0 47", report.types)
         assert.same({ 0, "", "" }, { shell "cmp out.gguf out.gguf" })
      end)

      it("writes the same bytes with any number of threads", function()
         assert.equal(0, (shell "perigee quantize source.gguf one.gguf q4_0 -t 1"))
         assert.equal(0, (shell "perigee quantize source.gguf three.gguf q4_0 -t 3"))
         assert.same({ 0, "", "" }, { shell "cmp one.gguf three.gguf" })
      end)

      it("fails with a reason, or with 2 for wrong usage", function()
         for command, expected in pairs {
            ["perigee quantize model.gguf x.gguf q4_0"] = { 1, "start from an F32, F16 or BF16 file" },
            ["perigee quantize source.gguf x.gguf q4"] = { 1, 'type is "q4", expected' },
            ["perigee quantize source.gguf x.gguf"] = { 2, "expected IN OUT TYPE, got 2 operands" },
            ["perigee quantize source.gguf x.gguf q4_0 --imatrx y"] = { 2, "did you mean --imatrix?" },
            ["perigee quantize . x.gguf q4_0"] = { 1, "config.json" },
         } do
            local status, out, err = shell(command)
            assert.equal(expected[1], status, err)
            assert.equal("", out)
            assert.matches(expected[2], err, 1, true)
         end
         assert.is_nil(left():find("x.gguf", 1, true))
      end)

      it("leaves nothing behind at Ctrl-C", function()
         local before = left()
         local status, _, err = shell [[
            (perigee quantize source.gguf never.gguf q4_k_m -t 1 2>notes & pid=$!
            for _ in $(seq 3000); do ls never.gguf.*.part >/dev/null 2>&1 && break; sleep 0.01; done
            kill -INT $pid; wait $pid; code=$?; cat notes >&2; rm notes; exit $code)]]
         assert.equal(130, status, err)
         assert.matches("interrupted", err, 1, true)
         assert.equal(before, left())
      end)
   end)
end)
