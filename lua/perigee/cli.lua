--- The command line: picks the command, words errors, gives exit codes. The commands are in `perigee.cli.*`.
-- @module perigee.cli
local options = require "perigee.options"
local args = require "perigee.cli.args"
local common = require "perigee.cli.common"

local M = {}

local COMMANDS = { "run", "info", "score", "bench", "quantize", "imatrix", "experts" }

local OVERVIEW = [[
perigee: a mixture-of-experts language-model engine.

Usage: perigee COMMAND [model] [options]

Commands:
  run                          %s
  info                         %s
  score                        %s
  bench                        %s
  quantize                     %s
  imatrix                      %s
  experts                      %s
  help [COMMAND]               show this help, or that of a command

Options:
  -h, --help                   show this help
  -V, --version                show the version

model is a GGUF file (or the first of its shards) or a Hugging Face folder; without one, PERIGEE_MODEL's, else the one
that ships with perigee.

Environment:
  PERIGEE_MODEL                the model when none is given
  PERIGEE_THREADS              as --threads
  PERIGEE_PRECISION            as --precision
  PERIGEE_ISA                  cap on the instruction set of the kernels: ref, avx2, avx512 or amx
  PERIGEE_CUDA                 the file of the CUDA backend, when it is not beside the library
  PERIGEE_CUDA_MEMORY          gigabytes of a GPU's memory to use at most

Exit codes:
  0                            fine
  1                            failed: the message says why
  2                            wrong usage
  130                          interrupted by Ctrl-C

Examples:
  perigee run -p "Once upon a time" -n 32
  perigee info
  perigee score story.txt
  perigee bench --depth 0 --reps 1
  perigee help run
]]

local function load_command(name) return require("perigee.cli." .. name) end

local function is_command(name)
   for _, known in ipairs(COMMANDS) do
      if known == name then return true end
   end
   return false
end

local function overview()
   local summaries = {}
   for i, name in ipairs(COMMANDS) do summaries[i] = load_command(name).summary:match "^[^:;]+":gsub("%.$", "") end
   return OVERVIEW:format(unpack(summaries))
end

local function complain(where, message) io.stderr:write(where, ": ", message, "\n") end

local function unknown_command(name)
   local near = options.nearest(name, { "help", unpack(COMMANDS) })
   complain("perigee", ("unknown command %q%s; see `perigee help`"):format(name,
      near and (", did you mean %s?"):format(near) or ""))
   return common.USAGE
end

local function help(topic)
   if topic == nil or topic == "help" then
      io.write(overview())
   elseif is_command(topic) then
      io.write(args.help(load_command(topic)))
   else
      return unknown_command(topic)
   end
   return common.FINE
end

local function run(name, list)
   local command, where = load_command(name), "perigee " .. name
   local values, operands = args.parse(command, list, 2)
   if not values then
      complain(where, ("%s; see `perigee help %s`"):format(operands, name))
      return common.USAGE
   end
   if values.help then return help(name) end
   local fine, exit, message, code = pcall(command.run, values, operands)
   if not fine then exit, message, code = nil, tostring(exit), nil end
   if exit then return exit end
   complain(where, message)
   if code == "usage" then return common.USAGE end
   local stopped = code == "interrupted" or not fine and message:find("interrupted!", 1, true)   -- LuaJIT's own word
   return stopped and common.INTERRUPTED or common.FAILED
end

local function dispatch(list)
   local first = list[1]
   if first == nil then
      io.stderr:write(overview())
      return common.USAGE
   end
   if first == "--help" or first == "-h" then return help(nil) end
   if first == "help" then return help(list[2]) end
   if first == "--version" or first == "-V" then
      io.write("perigee ", require("perigee").version, "\n")
      return common.FINE
   end
   if is_command(first) then return run(first, list) end
   return unknown_command(first)
end

--- Run a command line.
-- @tparam {string,...} list the arguments, without the program's name
-- @treturn number exit code: 0 fine, 1 failed at run time, 2 wrong usage, 130 interrupted
-- @usage os.exit(require("perigee.cli").main(arg))
function M.main(list)
   local exit = dispatch(list)
   local written, message = io.stdout:flush()
   if written or exit ~= common.FINE then return exit end
   complain("perigee", "standard output: " .. message)
   return common.FAILED
end

return M
