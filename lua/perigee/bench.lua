--- How fast a model runs on this machine, and how near that is to what its memory gives; behind @{perigee.bench}.
--
-- Here: what is run, how it is timed, how many bytes a token needs. Not here: reading memory (the library's
-- pg_measure_bandwidth), tables for people (`perigee.cli.bench`).
--
-- The runs of all cases take turns, so that a machine that slows down for a while does so for each of them.
-- @module perigee.bench
-- @local
local clock = require "perigee.clock"
local memory = require "perigee.memory"
local model = require "perigee.model"
local options = require "perigee.options"
local Engine = require "perigee.engine"

local M = {}

local OPTIONS = {
   prompt = "counts", new = "integer", depth = "counts", batch = "counts", reps = "integer", rows = "integer",
   threads = "integer", device = "string", kv_type = "string", precision = "string", bandwidth = "number",
   progress = "function",
}
local DEFAULTS = { prompt = 512, new = 64, depth = { 0, 1024 }, batch = { 1, 4 }, reps = 5, rows = 0, threads = 0 }
local CACHES = 256e6             -- bytes that no processor's caches hold
local LEAST = { prompt = 1, new = 1, depth = 0, batch = 1, reps = 1, rows = 0, threads = 0 }
local MOST = { batch = 64 }                -- sequences that an engine decodes in one step

local function as_list(value) return type(value) == "table" and value or { value } end

-- The options with their defaults, counts as lists; or nil, message, code.
local function complete(opts, level)
   local given, message, code = options.check("perigee.bench", OPTIONS, opts, level + 1)
   if not given then return nil, message, code end
   local o = {}
   for name, value in pairs(DEFAULTS) do o[name] = value end
   for name, value in pairs(given) do o[name] = value end
   for name, least in pairs(LEAST) do
      local most = MOST[name] or 2 ^ 24
      for _, n in ipairs(as_list(o[name])) do
         if n < least or n > most then
            return nil, ("perigee.bench: %s must be from %d to %d, not %s"):format(name, least, most, n), "invalid"
         end
      end
   end
   o.prompt, o.depth, o.batch = as_list(o.prompt), as_list(o.depth), as_list(o.batch)
   return o
end

-- ---- what is run ----------------------------------------------------------------------------------------------------

-- Prompts begin with whole chunks of their own length, so that the step that is timed holds nothing else.
local function prefill_depth(depth, tokens) return math.ceil(depth / tokens) * tokens end

local function cases_of(o)
   local list = {}
   for _, depth in ipairs(o.depth) do
      for _, tokens in ipairs(o.prompt) do
         for _, batch in ipairs(depth == 0 and o.batch or { 1 }) do
            list[#list + 1] = { kind = "prefill", tokens = tokens, depth = prefill_depth(depth, tokens), batch = batch }
         end
      end
   end
   for _, depth in ipairs(o.depth) do
      for _, batch in ipairs(o.batch) do
         list[#list + 1] = { kind = "decode", tokens = o.new, depth = depth, batch = batch }
      end
   end
   return list
end

local HELD = 64                             -- tokens of a sequence, at most, that the engine collects before it tells

-- Tokens that sequences have beside those that are timed. One alone has its first, which its prompt's step makes. In a
-- batch the first sequence has some when the last one gets its first, one for each step of prompts, and those that come
-- unasked while nobody looks.
local function lead(case, rows)
   if case.batch == 1 then return 1 end
   return case.batch + math.ceil(case.batch * math.max(case.depth, 1) / rows) + 2 * HELD
end

local FEWEST_ROWS = 64                      -- that an engine chooses for a step by itself

-- Positions that one sequence of a case takes.
local function length(case, rows)
   if case.kind == "prefill" then return case.depth + case.tokens + 1 end
   return math.max(case.depth, 1) + case.tokens + lead(case, rows > 0 and rows or FEWEST_ROWS)
end

-- Rough cost in prompt tokens, for the progress bar alone.
local function cost(case)
   return case.batch * (case.depth + case.tokens * (case.kind == "decode" and 8 or 1))
end

-- ---- bytes ----------------------------------------------------------------------------------------------------------

-- Of matrices met by a step of n tokens that choose their experts uniformly and independently.
local function step_bytes(info, n)
   local met = info.experts > 0 and 1 - (1 - info.experts_used / info.experts) ^ n or 0
   return info.weight_bytes - info.expert_bytes + info.expert_bytes * met
end

local function kv_bytes(info, tokens)
   local near = info.kv_window > 0 and math.min(tokens, info.kv_window) or tokens
   return (info.kv_bytes - info.kv_window_bytes) * tokens + info.kv_window_bytes * near
end

--- Bytes that a token of a case needs from memory, on average.
-- @tparam perigee.info info of the engine
-- @tparam table case kind, tokens, depth, batch
-- @treturn number
function M.bytes_per_token(info, case)
   local embedding = info.active_bytes - step_bytes(info, 1)
   if case.kind == "decode" then
      return step_bytes(info, case.batch) / case.batch + embedding
         + kv_bytes(info, math.max(case.depth, 1) + case.tokens / 2)
   end
   local n, sum = case.batch * case.tokens, 0
   for first = 0, n - 1, info.batch do sum = sum + step_bytes(info, math.min(info.batch, n - first)) end
   return sum / n + embedding
end

-- ---- prompts --------------------------------------------------------------------------------------------------------

local MODULUS = 2147483647

-- Ids from the whole vocabulary (Park and Miller's generator, 1988), without those that stand for no text: experts are
-- chosen by token, so a prompt of one token or of control tokens would meet too few of them.
local function drawer(engine, vocabulary)
   local state, plain = 20240229, {}
   local function is_plain(id)
      if plain[id] == nil then
         local tokenizer = engine:tokenizer()
         plain[id] = tokenizer:decode { id } ~= "" and not tokenizer:is_end(id)
      end
      return plain[id]
   end
   return function(n)
      local ids = {}
      for i = 1, n do
         local tries = 0
         repeat
            state, tries = state * 16807 % MODULUS, tries + 1
            ids[i] = math.floor(state / MODULUS * vocabulary)
         until is_plain(ids[i]) or tries == 100
      end
      return ids
   end
end

-- ---- one run --------------------------------------------------------------------------------------------------------

local SAMPLING = {
   temperature = 1, top_k = 40, top_p = 1, min_p = 0, typical_p = 1, repeat_penalty = 1, presence_penalty = 0,
   frequency_penalty = 0, ignore_eos = true,
}

-- What went wrong in the engine, on its way through pcall; whatever else is raised passes on.
local Failure = {}

local function need(value, message, code)
   if value then return value end
   error(setmetatable({ message = message, code = code }, Failure), 0)
end

local function submit(run, case, n_prompt, max_new, chunk)
   local opts = { max_new = max_new, chunk = chunk }
   for name, value in pairs(SAMPLING) do opts[name] = value end
   local list, prompts = {}, {}
   for i = 1, case.batch do prompts[i] = run.draw(n_prompt) end
   local began = clock.now()
   for i, prompt in ipairs(prompts) do
      opts.seed = i
      list[i] = need(run.engine:generate(prompt, opts))
   end
   return list, began
end

-- Whether all of them have ended; one that the engine gave up ends the measurement.
local function all_ended(list)
   local all = #list > 0
   for _, request in ipairs(list) do
      if not request:ended() then
         all = false
      elseif request:ended().kind == "fail" then
         need(request:result())
      end
   end
   return all
end

-- Poll until `over()`; a step's events arrive together. The caller's progress hears of it a few times a second.
local function poll_until(run, list, over)
   local told = clock.now()
   while not over() do
      if all_ended(list) and not over() then need(nil, "perigee.bench: the requests ended before they should") end
      need(run.engine:poll(200))
      local now = clock.now()
      if now - told > 0.2 then
         told = now
         run.tell()
      end
   end
end

local function counter(list)
   return function()
      local n, all = 0, true
      for _, request in ipairs(list) do
         local own = request:count()
         n, all = n + own, all and own > 0
      end
      return n, all
   end
end

local function close(run, list)
   for _, request in ipairs(list) do
      request:cancel()
      need(request:result())
   end
   -- the counters follow the last events a little later
   poll_until(run, {}, function() return run.engine:stats().running == 0 end)
end

-- Tokens/s of the tokens of a prompt, all of it or what comes after `depth`.
local function prefill(run, case)
   local list, began = submit(run, case, case.depth + case.tokens, 1, case.depth > 0 and case.tokens or nil)
   local count = counter(list)
   poll_until(run, list, function() return count() == case.batch end)
   local seconds = clock.now() - began
   close(run, list)
   if case.depth > 0 then seconds = run.engine:stats().last_seconds end
   return case.tokens * case.batch / seconds
end

-- Tokens/s of one sequence, by the engine's own clock from its first token to its last: whoever polls sees a small
-- model's tokens in heaps.
local function decode_one(run, case)
   local before = run.engine:stats()
   local list, began = submit(run, case, math.max(case.depth, 1), case.tokens + lead(case))
   poll_until(run, list, function() return all_ended(list) end)
   local seconds = clock.now() - began
   close(run, list)
   local after = run.engine:stats()
   run.measured, run.busy = run.measured + seconds, run.busy + after.busy_seconds - before.busy_seconds
   return case.tokens / (after.decode_seconds - before.decode_seconds)
end

-- Tokens/s of all sequences together, from when each of them has its first token.
local function decode(run, case)
   if case.batch == 1 then return decode_one(run, case) end
   local list = submit(run, case, math.max(case.depth, 1), case.tokens + lead(case, run.rows))
   local count = counter(list)
   poll_until(run, list, function() return select(2, count()) end)
   local from, began = count(), clock.now()
   local busy = run.engine:stats().busy_seconds
   poll_until(run, list, function() return count() >= from + case.tokens * case.batch end)
   local tokens, seconds = count() - from, clock.now() - began
   run.measured, run.busy = run.measured + seconds, run.busy + run.engine:stats().busy_seconds - busy
   close(run, list)
   return tokens / seconds
end

-- ---- all of them ----------------------------------------------------------------------------------------------------

local function median_of(list)
   local sorted, n = {}, #list
   for i, value in ipairs(list) do sorted[i] = value end
   table.sort(sorted)
   return (sorted[math.floor((n + 1) / 2)] + sorted[math.floor(n / 2) + 1]) / 2, sorted[1], sorted[n]
end

local function row(case, info, bandwidth)
   local median, least, most = median_of(case.rates)
   local bytes = M.bytes_per_token(info, case)
   return {
      kind = case.kind, tokens = case.tokens, depth = case.depth, batch = case.batch, tps_median = median,
      tps_min = least, tps_max = most, bytes_per_token = bytes, bandwidth_share = bytes * median / bandwidth,
   }
end

-- First line of a file that matches, and how many lines do.
local function matches(path, pattern)
   local first, n = nil, 0
   local file = io.open(path)
   if file then
      for line in file:lines() do
         local found = line:match(pattern)
         if found then first, n = first or found, n + 1 end
      end
      file:close()
   end
   return first, n
end

local function machine()
   local name = matches("/proc/cpuinfo", "^model name%s*:%s*(.-)%s*$") or jit.arch
   local _, cores = matches("/proc/cpuinfo", "^processor%s*:")
   return ("%s, %d core%s"):format(name, cores, cores == 1 and "" or "s")
end

-- From here on the system counts the most memory that this process takes; returns a function that tells it, or nil.
local function watch_memory()
   local file = io.open("/proc/self/clear_refs", "w")
   local counts = file and file:write "5" and file:close()
   return function()
      local kb = tonumber((matches("/proc/self/status", "^VmHWM:%s*(%d+)")))
      return counts and kb and kb * 1024 or nil
   end
end

local function measure_memory(o, about)
   local function tell()
      if o.progress then o.progress(0, 1, "memory") end
   end
   local threads = o.threads > 0 and o.threads or nil
   if o.bandwidth and o.bandwidth > 0 then return o.bandwidth * 1e9 end
   tell()
   local far, message, code = memory.bandwidth { threads = threads, seconds = 1 }
   if not far then return nil, message, code end
   if about.weight_bytes > CACHES then return far, far end
   tell()
   local near
   near, message, code = memory.bandwidth { threads = threads, bytes = about.weight_bytes, seconds = 0.5 }
   if not near then return nil, message, code end
   return near, far
end

local function run_all(run, o, cases)
   local done, total = 0, 0
   for _, case in ipairs(cases) do
      case.rates, total = {}, total + o.reps * cost(case)
   end
   function run.tell()
      if o.progress then o.progress(done, total, "bench") end
   end
   run.tell()
   prefill(run, { kind = "prefill", tokens = math.max(unpack(o.prompt)), depth = 0, batch = 1 })    -- not counted: it
   decode(run, { kind = "decode", tokens = math.min(o.new, 8), depth = 0, batch = 1 })      -- touches the weights first
   run.measured, run.busy = 0, 0
   for rep = 1, o.reps do
      for _, case in ipairs(cases) do
         case.rates[rep] = (case.kind == "prefill" and prefill or decode)(run, case)
         done = done + cost(case)
         run.tell()
      end
   end
end

local function open(path, o, cases)
   local context, kv_tokens = 0, 0
   for _, case in ipairs(cases) do
      local n = length(case, o.rows)
      context = math.max(context, n)
      kv_tokens = math.max(kv_tokens, case.batch * (n + 64))       -- whole pages each
   end
   local engine, message, code = Engine.open(path, {
      context = context, kv_tokens = kv_tokens, batch = o.rows, threads = o.threads, device = o.device,
      kv_type = o.kv_type, precision = o.precision, progress = o.progress,
   }, 3)
   if not engine then return nil, message, code end
   local info = engine:info()
   for _, case in ipairs(cases) do
      if case.kind == "prefill" and case.depth > 0 and case.tokens > info.batch then
         engine:close()
         return nil, ("perigee.bench: a prompt of %d tokens at depth %d must fit one step, and a step has %d rows: "
            .. "give more rows, or a depth of 0 alone"):format(case.tokens, case.depth, info.batch), "limit"
      end
   end
   return engine, info
end

--- Measure a model; public as @{perigee.bench}.
-- @tparam ?string path
-- @tparam ?table opts
-- @tparam number level of the caller's line
-- @treturn ?table nil, message, code
function M.run(path, opts, level)
   local o, message, code = complete(opts, level + 1)
   if not o then return nil, message, code end
   local about
   about, message, code = model.describe(path)
   if not about then return nil, message, code end
   local cases = cases_of(o)
   local near, far, why = measure_memory(o, about)
   if not near then return nil, far, why end
   local peak, began = watch_memory(), clock.now()
   local engine, info, name = open(path, o, cases)
   if not engine then return nil, info, name end
   local opened = clock.now() - began
   local run = {
      engine = engine, draw = drawer(engine, info.vocabulary), rows = math.min(info.batch, FEWEST_ROWS), measured = 0,
      busy = 0,
   }
   local fine, raised = pcall(run_all, run, o, cases)
   local most = peak()
   engine:close()
   if getmetatable(raised) == Failure then return nil, raised.message, raised.code end
   if not fine then error(raised, 0) end
   local runs = {}
   for i, case in ipairs(cases) do runs[i] = row(case, info, near) end
   return {
      machine = machine(), isa = info.isa, threads = info.threads, model = engine.path:match "([^/]+)/*$",
      bandwidth_gbs = near * 1e-9, runs = runs, dram_gbs = far and far * 1e-9, open_seconds = opened,
      peak_bytes = most, busy_share = run.busy / run.measured, weight_bytes = info.weight_bytes, rows = info.batch,
   }
end

return M
