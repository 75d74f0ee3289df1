--- `perigee run`: generate from a prompt.
-- @module perigee.cli.run
-- @local
local common = require "perigee.cli.common"
local json = require "perigee.cli.json"

local sampling = {
   { "n", "max-new", "N", "max_new", "integer", "tokens at most (until the context is full)" },
   { false, "temp", "T", "temperature", "number", "0: always the most likely token (0.8)" },
   { false, "top-k", "K", "top_k", "integer", "draw from the K most likely; 0: off (40)" },
   { false, "top-p", "P", "top_p", "number", "draw from the most likely that sum up to P; 1: off (0.95)" },
   { false, "min-p", "P", "min_p", "number", "leave out what is less likely than P times the best (0.05)" },
   { false, "typical-p", "P", "typical_p", "number", "locally typical sampling; 1: off (1)" },
   { false, "repeat-penalty", "X", "repeat_penalty", "number", "against tokens seen lately; 1: off (1)" },
   { false, "repeat-last-n", "N", "repeat_last_n", "integer", "tokens that penalties look back on; -1: all (64)" },
   { false, "presence-penalty", "X", "presence_penalty", "number", "subtracted for tokens seen lately (0)" },
   { false, "frequency-penalty", "X", "frequency_penalty", "number", "the same, times how often (0)" },
   { "s", "seed", "N", "seed", "string", "the same seed gives the same text (drawn)" },
   { false, "stop", "TEXT", "stop", "list", "end before TEXT; may be given several times" },
   { false, "special", false, "special", "flag", "recognise control tokens in the prompt, show them" },
   { false, "ignore-eos", false, "ignore_eos", "flag", "end tokens do not end the text" },
   { false, "deadline-ms", "MS", "deadline_ms", "number", "end after this time" },
   { false, "logprobs", "N", "logprobs", "integer", "with --json: ln p of each token and N - 1 others" },
}

local command = {
   name = "run",
   summary = "Continue a prompt; the text goes to standard output as it comes, a line of statistics to standard error.",
   operands = "[model]",
   n_operands = { 0, 1 },
   options = common.join(
      { { "p", "prompt", "TEXT", "prompt", "string", "the prompt; -: standard input, less its last newline" } },
      sampling, common.engine_options, {
         { false, "json", false, "json", "flag", "print one JSON object at the end instead" },
         { false, "stats", false, "stats", "flag", "also print the engine's counters" },
         { "q", "quiet", false, "quiet", "flag", "no statistics, no progress bar" },
      }),
   notes = "Ctrl-C ends the generation; what was generated until then stays.",
   examples = {
      'perigee run -p "Once upon a time" -n 32',
      'perigee run -p "Once upon a time" -n 32 --temp 0 --stop "." --json',
      'echo "Once upon a time" | perigee run model.gguf -p - -n 16 --seed 7',
   },
}

-- The first token belongs to the prompt's time: it is drawn from the last prompt row.
local function rate(tokens, ms) return tokens > 0 and ms > 0 and ("%.1f tokens/s"):format(1000 * tokens / ms) or "-" end

local function statistics(result)
   local usage, timings = result.usage, result.timings
   return ("prompt %d tokens, %s; generated %d tokens, %s; experts used %d of %d; seed %s; %s"):format(
      usage.prompt, rate(usage.prompt - usage.cached, timings.prefill), usage.completion,
      rate(usage.completion - 1, timings.decode), result.experts.used, result.experts.all, result.seed, result.finish)
end

local function report(engine, result, values)
   if not values.quiet then io.stderr:write(statistics(result), "\n") end
   if values.stats then
      local stats, names = engine:stats(), {}
      for name in pairs(stats) do names[#names + 1] = name end
      table.sort(names)
      for _, name in ipairs(names) do io.stderr:write(("%-18s %.6g\n"):format(name, stats[name])) end
   end
end

-- Read a request to its end, writing text as it comes; Ctrl-C cancels it.
local function follow(request, interrupted, write)
   local cancelled = false
   while not request.done do
      local event = request:next(50)
      if event and event.kind == "text" then write(event.text) end
      if not cancelled and interrupted() then
         cancelled = true
         request:cancel()
      end
   end
   return cancelled
end

local function stream(text)
   local fine, message = io.stdout:write(text)
   if fine then fine, message = io.stdout:flush() end
   if not fine then error("standard output: " .. message, 0) end
end

local function generate(path, prompt, values, interrupted)
   local engine, message, code = common.open(path, values, interrupted)
   if not engine then return nil, message, code end
   local request
   request, message, code = engine:generate(prompt, common.pick(values, sampling))
   if not request then return nil, message, code end
   local cancelled = follow(request, interrupted, values.json and function() end or stream)
   local result
   result, message, code = request:result()
   if not result then return nil, message, code end
   stream(values.json and json.encode(result) .. "\n" or "\n")
   report(engine, result, values)
   engine:close()
   return cancelled and common.INTERRUPTED or common.FINE
end

function command.run(values, operands)
   local prompt = values.prompt
   if not prompt then return nil, "a prompt is needed: -p TEXT", "usage" end
   if prompt == "-" then prompt = common.read("-"):gsub("\n$", "") end
   return common.interruptible(function(interrupted)
      return generate(operands[1], prompt, values, interrupted)
   end)
end

return command
