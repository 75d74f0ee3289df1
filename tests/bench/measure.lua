-- What the measurements in this folder share: options and files, the middle of timings, instructions counted by
-- callgrind, and the held-out texts in windows. Not here: what is measured.
--    local measure = dofile "tests/bench/measure.lua"
local windows = require "perigee.windows"

local M = {}

-- Options and operands of a list of arguments. Each option takes a value; `opts` has all of them with their defaults, a
-- number where one is meant. "-n" and "--new" are found under "n" and "new"; what follows "--" is the third result.
function M.options(list, opts)
   local operands, rest, i = {}, {}, 1
   while list[i] do
      local name = list[i]:match "^%-%-?(%w+)$"
      if list[i] == "--" then
         rest = { unpack(list, i + 1) }
         break
      elseif not name then
         operands[#operands + 1] = list[i]
      else
         local value = list[i + 1]
         if type(opts[name]) == "number" then value = tonumber(value) end
         if opts[name] == nil or value == nil then
            error(("%s: unknown option %s, or one without its value"):format(arg[0], list[i]), 0)
         end
         opts[name], i = value, i + 1
      end
      i = i + 1
   end
   return opts, operands, rest
end

-- All of a file, or nil.
function M.read(path)
   local file = io.open(path, "rb")
   if not file then return nil end
   local text = file:read "*a"
   file:close()
   return text
end

-- For the shell.
function M.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- ---- numbers --------------------------------------------------------------------------------------------------------

-- What stands at a share of a list when it is sorted, 0.5 for the median; between two of them their mean by distance.
function M.quantile(list, share)
   local sorted = { unpack(list) }
   table.sort(sorted)
   local at = 1 + share * (#sorted - 1)
   local low = math.floor(at)
   return sorted[low] + (at - low) * ((sorted[low + 1] or sorted[low]) - sorted[low])
end

function M.median(list) return M.quantile(list, 0.5) end

-- ---- instructions ---------------------------------------------------------------------------------------------------

-- Instructions of `luajit ARGUMENTS`, counted by valgrind's callgrind, which knows AVX2 and nothing wider; nil when it
-- is not there or could not run it. within: only those below this C function, by its name.
function M.instructions(arguments, within)
   local list = {}
   for i, argument in ipairs(arguments) do list[i] = M.quote(tostring(argument)) end
   local pipe = io.popen(("PERIGEE_ISA=avx2 valgrind --tool=callgrind --callgrind-out-file=/dev/null "
      .. "%s luajit %s 2>&1"):format(within and "--toggle-collect=" .. within or "", table.concat(list, " ")))
   local text = pipe:read "*a"
   pipe:close()
   return tonumber(text:match "Collected : (%d+)")
end

-- ---- texts ----------------------------------------------------------------------------------------------------------

-- A file of the folder of models and held-out texts, which lies beside the golden cases.
function M.models(name)
   local golden = os.getenv "PERIGEE_GOLDEN" or ""
   return (golden ~= "" and golden or "../shared/golden") .. "/../models/" .. name
end

-- At most `limit` windows of `size` tokens of a text, each with a begin token where the model has one.
function M.windows(engine, text, size, limit)
   return windows.cut(assert(engine:encode(text, { bos = false })), engine:info().bos, size, limit)
end

return M
