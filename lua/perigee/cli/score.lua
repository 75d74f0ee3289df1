--- `perigee score`: perplexity of a text.
-- @module perigee.cli.score
-- @local
local common = require "perigee.cli.common"
local json = require "perigee.cli.json"
local terminal = require "perigee.cli.terminal"
local windows = require "perigee.windows"

local DEFAULT_WINDOW = 512

local command = {
   name = "score",
   summary = "Perplexity of a text: how surprised the model is by it, a token; less is better.",
   operands = "[model] FILE",
   n_operands = { 1, 2 },
   options = common.join({
      { "w", "window", "N", "window", "integer", "tokens that are seen at once (512, at most the context)" },
      { false, "limit", "N", "limit", "integer", "score at most N windows" },
      { false, "json", false, "json", "flag", "print one JSON object" },
      { "q", "quiet", false, "quiet", "flag", "no progress bar" },
   }, common.engine_options),
   notes = "The text is cut into windows that do not overlap; each begins with the begin token, if the model has one.\n"
      .. "FILE may be - for standard input.",
   examples = { "perigee score story.txt --window 64", "perigee score model.gguf story.txt --json" },
}

local function score(engine, list, values, interrupted)
   local update, clear = terminal.progress("scoring", values.quiet)
   local sum, n = 0, 0
   for i, window in ipairs(list) do
      local logprobs, message, code = engine:score(window)
      if not logprobs then return nil, message, code end
      for _, logprob in ipairs(logprobs) do sum = sum + logprob end
      n = n + #logprobs
      update(i, #list)
      if interrupted() then
         clear()
         return nil, ("interrupted after %d of %d windows"):format(i, #list), "interrupted"
      end
   end
   clear()
   return { mean_logprob = sum / n, perplexity = math.exp(-sum / n), tokens = n, windows = #list }
end

local function check_size(values, context)
   local size = values.window or math.min(DEFAULT_WINDOW, context)
   if size < 2 or size > context then
      return nil, ("--window must be from 2 to the context, %d"):format(context), "usage"
   end
   if values.limit and values.limit < 1 then return nil, "--limit must be 1 or more", "usage" end
   return size
end

local function measure(path, text, values, interrupted)
   local engine, message, code = common.open(path, values, interrupted)
   if not engine then return nil, message, code end
   local info = engine:info()
   local size, wrong, usage = check_size(values, info.context)
   if not size then return nil, wrong, usage end
   local ids
   ids, message, code = engine:encode(text, { bos = false })
   if not ids then return nil, message, code end
   local list = windows.cut(ids, info.bos, size, values.limit)
   if #list == 0 then return nil, "the text is too short: it takes two tokens", "invalid" end
   local found, why, name = score(engine, list, values, interrupted)
   engine:close()
   if not found then return nil, why, name end
   found.window = size
   return found
end

local function describe(found)
   return ("perplexity %.4f, mean %.6f nats, over %d tokens in %d window%s of %d"):format(found.perplexity,
      found.mean_logprob, found.tokens, found.windows, found.windows == 1 and "" or "s", found.window)
end

function command.run(values, operands)
   local path, file = operands[1], operands[2]
   if not file then path, file = nil, operands[1] end
   local text, message, code = common.read(file)
   if not text then return nil, message, code end
   return common.interruptible(function(interrupted)
      local found, why, name = measure(path, text, values, interrupted)
      if not found then return nil, why, name end
      io.write(values.json and json.encode(found) or describe(found), "\n")
      return common.FINE
   end)
end

return command
