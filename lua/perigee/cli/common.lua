--- What several commands share: options of the engine, opening a model, exit codes.
-- @module perigee.cli.common
-- @local
local perigee = require "perigee"
local terminal = require "perigee.cli.terminal"

local M = {}

-- Exit codes of all commands.
M.FINE, M.FAILED, M.USAGE, M.INTERRUPTED = 0, 1, 2, 130

--- Options of every command that opens a model.
M.engine_options = {
   { false, "device", "NAME", "device", "string", "auto, cpu, cuda:N, cuda:N,M or cuda:all (auto)" },
   { "t", "threads", "N", "threads", "integer", "0: PERIGEE_THREADS, else the cores (0)" },
   { "c", "context", "N", "context", "integer", "longest sequence in tokens (the model's, at most 4096)" },
   { false, "kv-tokens", "N", "kv_tokens", "integer", "tokens in the KV pool (16384)" },
   { false, "kv-type", "TYPE", "kv_type", "string", "f32, f16, bf16 or q8_0 (f16)" },
   { false, "precision", "NAME", "precision", "string", "auto, or f32 for exact arithmetic (auto)" },
   { false, "batch", "N", "batch", "integer", "rows a step at most (0: the engine's choice)" },
}

--- One list out of several.
-- @tparam table ... lists of options
-- @treturn table
function M.join(...)
   local joined = {}
   for _, list in ipairs { ... } do
      for _, option in ipairs(list) do joined[#joined + 1] = option end
   end
   return joined
end

--- Values of some options, as the table that the module's functions take.
-- @tparam table values
-- @tparam table list options
-- @treturn table
function M.pick(values, list)
   local picked = {}
   for _, option in ipairs(list) do picked[option[4]] = values[option[4]] end
   return picked
end

local STOP = {}

--- Call `body(progress)`, where progress(done, total, what) draws a bar with the label that `labels` has for `what`.
-- @tparam {[string]=string} labels
-- @tparam boolean quiet no bar
-- @tparam function interrupted from `terminal.hold_interrupt`
-- @tparam function body
-- @return what body returns, at most three values; after Ctrl-C nil, "interrupted", "interrupted"
function M.watched(labels, quiet, interrupted, body)
   local shown, update
   local clear = function() end
   local function progress(done, total, what)
      if interrupted() then error(STOP) end
      if what ~= shown then
         clear()
         shown = what
         update, clear = terminal.progress(labels[what] or what, quiet)
      end
      update(done, total)
   end
   local fine, a, b, c = pcall(body, progress)
   clear()
   if fine then return a, b, c end
   if a == STOP then return nil, "interrupted", "interrupted" end
   error(a, 0)
end

--- Open a model with a progress bar.
-- @tparam ?string path
-- @tparam table values of the command line
-- @tparam function interrupted from `terminal.hold_interrupt`
-- @treturn ?perigee.engine nil, message, code; code is "interrupted" after Ctrl-C
function M.open(path, values, interrupted)
   local opts = M.pick(values, M.engine_options)
   return M.watched({ load = "loading" }, values.quiet, interrupted, function(progress)
      opts.progress = progress
      return perigee.open(path, opts)
   end)
end

--- Run `body(interrupted)` with Ctrl-C held back.
-- @tparam function body
-- @return what it returns, at most three values; what it raises passes through
function M.interruptible(body)
   local interrupted, release = terminal.hold_interrupt()
   local fine, a, b, c = pcall(body, interrupted)
   release()
   if not fine then error(a, 0) end
   return a, b, c
end

--- Read a whole file.
-- @tparam string path "-": standard input
-- @treturn ?string nil, message, code
function M.read(path)
   if path == "-" then
      terminal.interrupt_kills()
      return io.read "*a"
   end
   local file, message = io.open(path, "rb")
   if not file then return nil, message, "not_found" end
   local text, why = file:read "*a"
   file:close()
   if not text then return nil, ("%s: %s"):format(path, why), "io" end
   return text
end

return M
