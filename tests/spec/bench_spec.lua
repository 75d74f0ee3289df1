-- Measuring: the shape of what is told and the arithmetic in it; how fast this machine is, is nobody's expectation.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local bench = require "perigee.bench"
local cjson = require "cjson"

local TINY = { prompt = { 8, 20 }, new = 3, depth = { 0, 24 }, batch = { 1, 3 }, reps = 3, rows = 32, threads = 2,
   bandwidth = 10 }

local function case(run) return ("%s %d %d %d"):format(run.kind, run.tokens, run.depth, run.batch) end

describe("perigee.bandwidth", function()
   it("is a rate, of a buffer of any size", function()
      for _, bytes in ipairs { 1, 5000, 2 ^ 20 + 1 } do
         local rate = assert(perigee.bandwidth { threads = 2, bytes = bytes, seconds = 0.02 })
         assert.is_true(rate > 1e6 and rate < 1e14, rate)
      end
   end)

   it("refuses what it cannot measure", function()
      for option, value in pairs { threads = -1, bytes = -1, seconds = -1 } do
         local rate, message, code = perigee.bandwidth { [option] = value }
         assert.is_nil(rate)
         assert.equal("invalid", code)
         assert.matches(option, message, 1, true)
      end
      local rate, message, code = perigee.bandwidth { bytes = 2 ^ 50 }
      assert.same({ nil, "memory" }, { rate, code })
      assert.matches("GB to read do not fit", message, 1, true)
      assert.same({ "invalid" }, { select(3, perigee.bandwidth { byte = 1 }) })
   end)
end)

describe("PERIGEE_THREADS", function()
   it("is how many threads run where nobody says", function()
      for threads, option in pairs { ["1"] = "", ["3"] = "--threads 0", ["2"] = "--threads 2" } do
         local status, out = helper.shell(("PERIGEE_THREADS=%s perigee bench --json -q --prompt 8 --new 2 --depth 0 "
            .. "--batch 1 --reps 1 --bandwidth 10 %s"):format(option == "--threads 2" and "1" or threads, option))
         assert.equal(0, status)
         assert.equal(tonumber(threads), cjson.decode(out).threads)
      end
   end)
end)

describe("the bytes of a token", function()
   -- 4 experts of 100 bytes each of which a token uses 1, 50 other bytes, 10 of an embedding row, 8 + 4 of keys and
   -- values a token, the 4 behind a window of 6.
   local info = {
      experts = 4, experts_used = 1, weight_bytes = 450, expert_bytes = 400, active_bytes = 160, kv_bytes = 12,
      kv_window_bytes = 4, kv_window = 6, batch = 4,
   }

   local function of(kind, tokens, depth, batch)
      return bench.bytes_per_token(info, { kind = kind, tokens = tokens, depth = depth, batch = batch })
   end

   it("are the active ones and the context's for one sequence", function()
      assert.equal(50 + 100 + 10 + 12 * 3, of("decode", 4, 0, 1))             -- a prompt of one, half of four
      assert.equal(50 + 100 + 10 + 8 * 12 + 4 * 6, of("decode", 4, 10, 1))
   end)

   it("count an expert once for all sequences that meet it", function()
      local met = 400 * (1 - 0.75 ^ 2)
      assert.is_near((50 + met) / 2 + 10 + 12 * 3, of("decode", 4, 0, 2), 1e-9)
   end)

   it("count a weight once for each step of a prompt", function()
      local full, rest = 50 + 400 * (1 - 0.75 ^ 4), 50 + 400 * (1 - 0.75 ^ 2)
      assert.is_near((full + rest) / 6 + 10, of("prefill", 6, 0, 1), 1e-9)
      assert.is_near((3 * full) / 12 + 10, of("prefill", 6, 100, 2), 1e-9)
   end)

   it("of a dense model are all of them", function()
      local dense = { experts = 0, experts_used = 0, weight_bytes = 70, expert_bytes = 0, active_bytes = 75,
         kv_bytes = 2, kv_window_bytes = 0, kv_window = 0, batch = 4 }
      assert.equal(70 / 5 + 5 + 2 * (7 + 1), bench.bytes_per_token(dense,
         { kind = "decode", tokens = 2, depth = 7, batch = 5 }))
   end)

   it("of the bundled model are what its tensors say", function()
      local about = assert(perigee.describe(helper.model))
      -- q8_0: 34 bytes for 32 weights; router and vectors are not
      assert.is_true(about.active_bytes < about.weight_bytes and about.expert_bytes < about.weight_bytes)
      assert.is_true(about.weight_bytes < about.file_bytes)
      assert.is_near(about.active_parameters * 34 / 32, about.active_bytes, 0.01 * about.active_bytes)
      assert.equal(0, about.kv_window)
      local wide = assert(perigee.open(helper.model, { kv_type = "f32", context = 32, kv_tokens = 32 }))
      assert.equal(2 * about.kv_bytes, wide:info().kv_bytes)
      wide:close()
   end)
end)

describe("perigee.bench", function()
   local found
   setup(function() found = assert(perigee.bench(helper.model, TINY)) end)

   it("runs every case", function()
      local list = {}
      for i, run in ipairs(found.runs) do list[i] = case(run) end
      assert.same({
         "prefill 8 0 1", "prefill 8 0 3", "prefill 20 0 1", "prefill 20 0 3", "prefill 8 24 1", "prefill 20 40 1",
         "decode 3 0 1", "decode 3 0 3", "decode 3 24 1", "decode 3 24 3",
      }, list)
   end)

   it("tells rates that agree with each other", function()
      for _, run in ipairs(found.runs) do
         assert.is_true(0 < run.tps_min and run.tps_min <= run.tps_median and run.tps_median <= run.tps_max, case(run))
         assert.is_near(run.bytes_per_token * run.tps_median / 10e9, run.bandwidth_share, 1e-12)
      end
      assert.equal(10, found.bandwidth_gbs)
      assert.equal(2, found.threads)
      assert.equal(32, found.rows)
      assert.equal("perigee-voices.q8_0.gguf", found.model)
      assert.is_true(found.busy_share > 0 and found.busy_share < 2)
   end)

   it("lets one request draw what is timed and the token in front, several more than that", function()
      local Engine, drawn = require "perigee.engine", {}
      local generate = Engine.generate
      function Engine:generate(prompt, opts)
         if #prompt == 5 then drawn[#drawn + 1] = opts.max_new end
         return generate(self, prompt, opts)
      end
      local fine, found_now = pcall(perigee.bench, helper.model, {
         prompt = 8, new = 9, depth = 5, batch = { 1, 2 }, reps = 2, threads = 1, bandwidth = 10, rows = 32,
      })
      Engine.generate = generate
      assert.is_true(fine and found_now ~= nil)
      table.sort(drawn)
      assert.same({ 10, 10 }, { drawn[1], drawn[2] })
      assert.equal(6, #drawn)
      assert.is_true(drawn[3] > 10 and drawn[3] == drawn[6])
   end)

   it("refuses what makes no sense, by name", function()
      for option, value in pairs { prompt = 0, new = 0, depth = -1, batch = 65, reps = 0, rows = -1, threads = -1 } do
         local result, message, code = perigee.bench(helper.model, { [option] = value, bandwidth = 1 })
         assert.same({ nil, "invalid" }, { result, code })
         assert.matches("perigee.bench: " .. option, message, 1, true)
      end
      assert.has_error(function() perigee.bench(helper.model, { depth = "deep" }) end)
      assert.has_error(function() perigee.bench(helper.model, { depth = { 1, "deep" } }) end)
      assert.same("invalid", (select(3, perigee.bench(helper.model, { depth = {} }))))
      assert.same("not_found", (select(3, perigee.bench("absent.gguf", { bandwidth = 1 }))))
      local result, message, code = perigee.bench(helper.model, { prompt = 40, depth = 40, rows = 16, bandwidth = 1 })
      assert.same({ nil, "limit" }, { result, code })
      assert.matches("must fit one step", message, 1, true)
   end)

   it("passes on what progress raises", function()
      local seen = {}
      local fine, raised = pcall(perigee.bench, helper.model, {
         prompt = 4, new = 1, depth = 0, batch = 1, reps = 1, bandwidth = 1,
         progress = function(_, _, what)
            seen[what] = true
            if what == "bench" then error("enough", 0) end
         end,
      })
      assert.same({ false, "enough" }, { fine, raised })
      assert.is_true(seen.bench)
   end)
end)

describe("perigee bench", function()
   local QUICK = " --prompt 8 --new 2 --depth 0 --batch 1 --reps 2 --bandwidth 10"

   it("writes exactly one object", function()
      local status, out, err = helper.shell("perigee bench" .. QUICK .. " --json")
      assert.same({ 0, "" }, { status, err })
      local object, names = cjson.decode(out), {}
      for name in pairs(object) do names[#names + 1] = name end
      table.sort(names)
      assert.same({ "bandwidth_gbs", "isa", "machine", "model", "runs", "threads" }, names)
      assert.equal(2, #object.runs)
      for _, run in ipairs(object.runs) do
         names = {}
         for name in pairs(run) do names[#names + 1] = name end
         table.sort(names)
         assert.equal("bandwidth_share batch bytes_per_token depth kind tokens tps_max tps_median tps_min",
            table.concat(names, " "))
      end
   end)

   it("prints a table", function()
      local status, out = helper.shell("perigee bench" .. QUICK)
      assert.equal(0, status)
      assert.matches("prefill +8 +0 +1 +[%d.]+ %[[%d.]+ %- [%d.]+%] ", out)
      assert.matches("decode +2 +0 +1 +[%d.]+ %[[%d.]+ %- [%d.]+%] ", out)
      assert.matches("shares are of 10.0 GB/s", out, 1, true)
   end)

   it("wants lists of numbers", function()
      for _, list in ipairs { "1,,2", "x", "1.5", "" } do
         local status, _, err = helper.shell(("perigee bench --depth '%s'"):format(list))
         assert.equal(2, status)
         assert.matches("--depth takes whole numbers with commas between", err, 1, true)
      end
   end)
end)
