-- perigee and a peer by turns on the same model: ours, theirs, ours, theirs; each turn is a process of its own, so both
-- load, warm up and measure alike. Prints medians with least and most, the ratio, and what share of the byte bound each
-- decodes at: memory's rate changes with what else the machine does, so each turn measures it anew, between the sides.
--    eval "$(make -s env)"; luajit tests/bench/peers.lua LLAMA_BENCH MODEL [options] [-- options of llama-bench]
--       --threads N (2)   --turns N (5)   --prompt LIST (128,512)   --new N (64)   --rest SECONDS between processes (0)
-- LLAMA_BENCH is the llama-bench of llama.cpp or one of its relatives, built beside the project.
local perigee = require "perigee"
local cjson = require "cjson"
local measure = dofile "tests/bench/measure.lua"

local median, quote = measure.median, measure.quote

local function fail(...)
   io.stderr:write("peers: ", string.format(...), "\n")
   os.exit(1)
end

-- What a command writes to standard output; its standard error is shown when it fails.
local function output(command)
   local errors = os.tmpname()
   local pipe = assert(io.popen(("%s 2>%s; echo \"rc=$?\""):format(command, quote(errors))))
   local text = pipe:read "*a"
   pipe:close()
   local file = assert(io.open(errors))
   local why = file:read "*a"
   file:close()
   os.remove(errors)
   local body, rc = text:match "^(.*)rc=(%d+)\n$"
   if rc ~= "0" then fail("%s\nended with %s:\n%s", command, tostring(rc), why) end
   return body
end

local function parse(list)
   local opts, operands, extra = measure.options(list, { threads = 2, turns = 5, prompt = "128,512", new = 64,
      rest = 0 })
   if #operands ~= 2 then fail "usage: peers.lua LLAMA_BENCH MODEL [options] [-- options of llama-bench]" end
   for i, word in ipairs(extra) do extra[i] = quote(word) end
   return opts, operands[1], operands[2], table.concat(extra, " ")
end

-- { ["pp512"] = tokens/s, ["tg64"] = tokens/s }
local function ours(model, opts)
   local command = "perigee bench %s --threads %s --prompt %s --new %s --depth 0 --batch 1 --reps 1 --bandwidth 1 "
      .. "--quiet --json"
   local object = cjson.decode(output(command:format(quote(model), opts.threads, opts.prompt, opts.new)))
   local found = {}
   for _, run in ipairs(object.runs) do
      found[(run.kind == "prefill" and "pp" or "tg") .. run.tokens] = run.tps_median
      if run.kind == "decode" then found.bytes = run.bytes_per_token end
   end
   return found
end

local function theirs(bench, model, opts, extra)
   local list = cjson.decode(output(("%s -m %s -t %s -p %s -n %s -r 1 -o json %s"):format(quote(bench), quote(model),
      opts.threads, opts.prompt, opts.new, extra)))
   local found = {}
   for _, run in ipairs(list) do
      local n_prompt, n_new = tonumber(run.n_prompt), tonumber(run.n_gen)
      if n_prompt == 0 or n_new == 0 then
         found[n_new == 0 and "pp" .. n_prompt or "tg" .. n_new] = tonumber(run.avg_ts)
      end
   end
   return found
end

local function range(list)
   return ("%.1f [%.1f - %.1f]"):format(median(list), measure.quantile(list, 0), measure.quantile(list, 1))
end

local opts, bench, model, extra = parse(arg)
local about = assert(perigee.describe(model))
local tests = {}
for n in opts.prompt:gmatch "%d+" do tests[#tests + 1] = "pp" .. n end
tests[#tests + 1] = "tg" .. opts.new

local rates, memory, bytes = { {}, {} }, {}, nil         -- memory: GB/s in each turn
for turn = 1, opts.turns do
   for side = 1, 2 do
      if side == 2 then
         local rate = assert(perigee.bandwidth { threads = opts.threads, bytes = about.active_bytes, seconds = 1 })
         memory[turn] = rate / 1e9
      end
      local found = side == 1 and ours(model, opts) or theirs(bench, model, opts, extra)
      bytes = found.bytes or bytes
      for _, name in ipairs(tests) do
         if not found[name] then fail("no figure for %s from %s", name, side == 1 and "perigee" or bench) end
         rates[side][name] = rates[side][name] or {}
         rates[side][name][turn] = found[name]
      end
      os.execute("sleep " .. opts.rest)
   end
end

-- The median over turns of the share of memory's rate in that turn, in percent.
local function share(list)
   local shares = {}
   for turn, gbs in ipairs(memory) do shares[turn] = 100 * list[turn] * bytes / (gbs * 1e9) end
   return median(shares)
end

print(("%s, %s threads, %s turns; as many bytes as a token needs are read at %s GB/s"):format(model:match "[^/]+$",
   opts.threads, opts.turns, range(memory)))
print(("%-8s %-30s %-30s %6s"):format("", "perigee, tokens/s", "peer, tokens/s", "ratio"))
for _, name in ipairs(tests) do
   local own, other = rates[1][name], rates[2][name]
   local line = ("%-8s %-30s %-30s %6.2f"):format(name, range(own), range(other), median(own) / median(other))
   if name:find "^tg" then
      line = ("%s   %.0f %% and %.0f %% of the bound"):format(line, share(own), share(other))
   end
   print(line)
end
