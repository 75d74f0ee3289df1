-- What several specs need: the bundled model, the reference values, running commands, watching the compiler.
-- Loaded by `dofile "tests/spec/helper.lua"`; specs run from the root of the tree.
local ffi = require "ffi"
local util = require "jit.util"

local helper = {}

helper.model = "examples/models/perigee-voices.q8_0.gguf"
helper.fast = (os.getenv "FAST" or "") ~= ""      -- only the quick part is wanted

local golden = os.getenv "PERIGEE_GOLDEN"
if not golden or golden == "" then golden = "../shared/golden" end

--- Folder of the bundled model's expected values: it lies beside that of the golden cases.
helper.models = golden .. "/../models"

function helper.exists(path)
   local file = io.open(path, "rb")
   if file then file:close() end
   return file ~= nil
end

function helper.read(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read "*a"
   file:close()
   return text
end

function helper.write(path, text)
   local file = assert(io.open(path, "wb"))
   file:write(text)
   file:close()
end

--- Expected values from an independent implementation, or nil and a line that says what did not run.
function helper.reference()
   local path = helper.models .. "/reference.lua"
   if not helper.exists(path) then
      return nil, ("golden folder %s is absent: its cases did not run"):format(helper.models)
   end
   return dofile(path)
end

--- Whether a loop in `fn` ended up compiled as a whole; if not, also why the last attempt was given up.
-- The compiler begins where its counters, which places in the code share by hash, happen to overflow first. Beginning
-- inside a function that the loop calls is bad luck, hence some attempts. `inner`: the loop of this function, which fn
-- calls, is looked at instead.
function helper.compiles(fn, inner)
   local began, looped, why = {}, false, "the loop was never hot"
   local function watch(what, trace, func, _, code, reason)
      if what == "start" then
         began[trace] = func
      elseif what == "abort" then
         local names = require "jit.vmdef"
         why = (names.traceerr[code] or "error %s"):gsub("%%[sd]", tostring(reason))
      elseif what == "stop" and began[trace] == (inner or fn) then
         looped = looped or util.traceinfo(trace).linktype == "loop"
      end
   end
   for _ = 1, 10 do
      jit.flush()
      jit.attach(watch, "trace")
      local fine, message = pcall(fn)
      jit.attach(watch)
      if not fine then error(message, 2) end
      if looped then return true end
   end
   return false, why
end

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
helper.quote = quote

--- A new empty folder; helper.remove takes it away.
function helper.folder()
   local path = os.tmpname()
   os.remove(path)
   assert(os.execute("mkdir " .. quote(path)) == 0)
   return path
end

function helper.remove(path) os.execute("rm -rf " .. quote(path)) end

--- Run a shell command; returns exit code, standard output, standard error.
function helper.shell(command, folder)
   local out, err, code = os.tmpname(), os.tmpname(), os.tmpname()
   os.execute(("(%s\n%s\n) >%s 2>%s </dev/null; echo $? >%s"):format(
      folder and "cd " .. quote(folder) .. " || exit 99" or "", command, quote(out), quote(err), quote(code)))
   local status, stdout, stderr = tonumber(helper.read(code)), helper.read(out), helper.read(err)
   os.remove(out) os.remove(err) os.remove(code)
   return status, stdout, stderr
end

--- The folder of the tree, absolute.
function helper.root()
   local pipe = io.popen "pwd -P"
   local path = pipe:read "*l"
   pipe:close()
   return path
end

local STORY = "Once upon a time there was a little fox who lived at the edge of the forest. Every morning she ran down "
   .. "to the river, and there she met an old hare, who told her what he had dreamed. One day the hare did not come.\n"

--- A folder in which the examples of the documentation work: the tree's own entries, model.gguf and story.txt.
function helper.workplace()
   local folder, root = helper.folder(), helper.root()
   assert(os.execute(("ln -s %s/* %s"):format(quote(root), quote(folder))) == 0)
   assert(os.execute(("ln -s %s %s"):format(quote(root .. "/" .. helper.model), quote(folder .. "/model.gguf"))) == 0)
   helper.write(folder .. "/story.txt", STORY)
   return folder
end

--- Wait until an engine has nothing more to do; its counters follow its events a little later. Returns them.
function helper.settle(engine)
   local until_s, stats = os.time() + 120, engine:stats()
   while true do
      local steps = stats.steps
      engine:poll(0)
      os.execute "sleep 0.03"
      stats = engine:stats()
      if stats.steps == steps and stats.running + stats.waiting == 0 or os.time() > until_s then return stats end
   end
end

--- ln softmax of one row of logits, at one id, in double.
function helper.log_softmax(row, n, id)
   local best, sum = -math.huge, 0
   for i = 0, n - 1 do best = math.max(best, row[i]) end
   for i = 0, n - 1 do sum = sum + math.exp(row[i] - best) end
   return row[id] - best - math.log(sum)
end

function helper.mean(list)
   local sum = 0
   for _, value in ipairs(list) do sum = sum + value end
   return sum / #list
end

--- The ids from the first one that is not the prompt's.
function helper.slice(list, first, last)
   local part = {}
   for i = first, last or #list do part[#part + 1] = list[i] end
   return part
end

--- Whether a file descriptor is readable now.
function helper.readable(fd)
   if not pcall(ffi.typeof, "pg_spec_pollfd") then
      ffi.cdef [[
         typedef struct pg_spec_pollfd { int fd; short events, revents; } pg_spec_pollfd;
         int pg_spec_poll(pg_spec_pollfd *fds, unsigned long n, int timeout_ms) __asm__("poll");
      ]]
   end
   local entry = ffi.new("pg_spec_pollfd", fd, 1, 0)
   return ffi.C.pg_spec_poll(entry, 1, 0) == 1
end

return helper
