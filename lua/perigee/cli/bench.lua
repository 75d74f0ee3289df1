--- `perigee bench`: how fast a model runs, and how near that is to what memory gives.
-- @module perigee.cli.bench
-- @local
local perigee = require "perigee"
local common = require "perigee.cli.common"
local json = require "perigee.cli.json"

local command = {
   name = "bench",
   summary = "Measure how fast a model runs: prompts and generated tokens, at several depths and batch sizes.",
   operands = "[model]",
   n_operands = { 0, 1 },
   options = {
      { "t", "threads", "N", "threads", "integer", "0: PERIGEE_THREADS, else the cores (0)" },
      { "p", "prompt", "LIST", "prompt", "string", "tokens of the prompts that are timed (512)" },
      { "n", "new", "N", "new", "integer", "tokens that each sequence generates while timed (64)" },
      { "d", "depth", "LIST", "depth", "string", "tokens of context in front (0,1024)" },
      { "b", "batch", "LIST", "batch", "string", "requests at once, at most 64 (1,4)" },
      { "r", "reps", "N", "reps", "integer", "how often each is measured (5)" },
      { false, "rows", "N", "rows", "integer", "rows a step at most (0: the engine's choice)" },
      { false, "device", "NAME", "device", "string", "auto, cpu, cuda:N, cuda:N,M or cuda:all (auto)" },
      { false, "kv-type", "TYPE", "kv_type", "string", "f32, f16, bf16 or q8_0 (f16)" },
      { false, "precision", "NAME", "precision", "string", "auto, or f32 for exact arithmetic (auto)" },
      { false, "bandwidth", "GBS", "bandwidth", "number", "compare with this instead of measuring memory" },
      { false, "json", false, "json", "flag", "print one JSON object" },
      { "q", "quiet", false, "quiet", "flag", "no progress bar" },
   },
   notes = [[
A LIST is numbers with commas between. Tokens/s are those of all requests of a batch together; prompts are random ids,
the same in every run. The runs of all cases take turns; of each the median counts, least and most are shown beside it.

prefill   time from handing prompts over to the first token of the last one; in front of a context (depth rounded up to
          whole prompts), for one request alone, the time of the step that holds the timed tokens
decode    one request: from its first token to its last, by the engine's clock; several: from when each has its first
          one. The depth is that of the prompts, drawn tokens come on top

Bytes per token: the matrices that a step of n tokens meets, divided by n. Of E experts, U used by a token, a step meets
E * (1 - (1 - U/E)^n), as if each token chose alone and evenly. Decode: n is the batch, and each token also reads its
sequence's keys and values, half of the new tokens counted. Prefill: n is the rows of a step, so every weight counts
once a step; what the cache holds is not counted.

Share: bytes per token times tokens/s, of the rate at which all threads together read as many bytes as the model's
weights have, over and over, since every token visits other experts: a small model's are in the caches, a large one's
are not. The rate of memory itself is shown too.
]],
   examples = { "perigee bench --prompt 32 --new 8 --depth 0 --batch 1 --reps 2",
      "perigee bench model.gguf --prompt 16 --new 4 --depth 0,32 --batch 1,2 --reps 1 --bandwidth 50 --json" },
}

local LISTS = { "prompt", "depth", "batch" }

-- "0,1024" as a list of numbers.
local function numbers(name, text)
   local list = {}
   for word in (text .. ","):gmatch "([^,]*)," do
      local n = tonumber(word)
      if not n or n % 1 ~= 0 then
         return nil, ("--%s takes whole numbers with commas between, not %q"):format(name, text)
      end
      list[#list + 1] = n
   end
   return list
end

-- Options of perigee.bench from those of the command; or nil, message.
local function bench_options(values)
   local opts = {}
   for _, option in ipairs(command.options) do opts[option[4]] = values[option[4]] end
   opts.json, opts.quiet = nil, nil
   for _, name in ipairs(LISTS) do
      if opts[name] then
         local list, message = numbers(name, opts[name])
         if not list then return nil, message end
         opts[name] = list
      end
   end
   return opts
end

local FIELDS = { "machine", "isa", "threads", "model", "bandwidth_gbs", "runs" }

local function megabytes(bytes)
   if bytes >= 1e9 then return ("%.3g GB"):format(bytes / 1e9) end
   return ("%.3g MB"):format(bytes / 1e6)
end

local function header(found)
   local lines = {
      ("%s: %s, %d threads, %s"):format(found.model, found.machine, found.threads, found.isa),
      ("opened in %.0f ms%s, steps of %d rows at most; steps filled %.1f %% of the time measured in decoding"):format(
         found.open_seconds * 1000, found.peak_bytes and ", peak memory " .. megabytes(found.peak_bytes) or "",
         found.rows, 100 * found.busy_share),
   }
   if found.dram_gbs then
      lines[3] = ("%s of weights are read at %.1f GB/s (shares are of that), memory at %.1f GB/s"):format(
         megabytes(found.weight_bytes), found.bandwidth_gbs, found.dram_gbs)
   else
      lines[3] = ("shares are of %.1f GB/s"):format(found.bandwidth_gbs)
   end
   return table.concat(lines, "\n")
end

local function describe(found)
   local titles = ("%-8s %6s %6s %5s %10s %-21s %11s %8s %7s"):format("", "tokens", "depth", "batch", "tokens/s",
      "[least - most]", "bytes/token", "GB/s", "share")
   local lines = { header(found), "", titles }
   for _, run in ipairs(found.runs) do
      local rate = run.bytes_per_token * run.tps_median
      local range = ("[%.1f - %.1f]"):format(run.tps_min, run.tps_max)
      lines[#lines + 1] = ("%-8s %6d %6d %5d %10.1f %-21s %11s %8.2f %5.1f %%"):format(run.kind, run.tokens, run.depth,
         run.batch, run.tps_median, range, megabytes(run.bytes_per_token), rate / 1e9, 100 * run.bandwidth_share)
   end
   return table.concat(lines, "\n")
end

local function report(found, values)
   if not values.json then return describe(found) end
   local object = {}
   for _, field in ipairs(FIELDS) do object[field] = found[field] end
   return json.encode(object)
end

local LABELS = { memory = "reading memory", load = "loading", bench = "measuring" }

function command.run(values, operands)
   local opts, wrong = bench_options(values)
   if not opts then return nil, wrong, "usage" end
   return common.interruptible(function(interrupted)
      local found, message, code = common.watched(LABELS, values.quiet, interrupted, function(progress)
         opts.progress = progress
         return perigee.bench(operands[1], opts)
      end)
      if not found then return nil, message, code end
      io.write(report(found, values), "\n")
      return common.FINE
   end)
end

return command
