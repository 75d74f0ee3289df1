-- How long rendering takes: each golden template with a conversation of 20 messages, warm, milliseconds a rendering
-- (median of nine), and compiling it. Not a test: nothing is asserted.
-- luajit tests/bench/template.lua [FOLDER OF TEMPLATES]
local clock = require "perigee.clock"
local perigee = require "perigee"
local measure = dofile "tests/bench/measure.lua"

local root = arg[1] or (os.getenv "PERIGEE_GOLDEN" or "../shared/golden") .. "/templates"

local messages = { { role = "system", content = "You are a careful assistant. Answer in whole sentences." } }
for i = 1, 9 do
   messages[2 * i] = { role = "user", content = ("Question %d: what is the sum of %d and 17, and why?"):format(i, i) }
   messages[2 * i + 1] = { role = "assistant", content = ("It is %d, since addition says so."):format(i + 17) }
end
messages[20] = { role = "user", content = "And the last one?" }
local vars = perigee.json.encode { messages = messages, add_generation_prompt = true, bos_token = "<s>",
   eos_token = "</s>" }

-- Median of nine timings of some runs, in milliseconds a run.
local function timed(runs, fn)
   local list = {}
   for i = 1, 9 do
      local start = clock.now()
      for _ = 1, runs do fn() end
      list[i] = (clock.now() - start) / runs * 1000
   end
   return measure.median(list)
end

print(("%-48s %8s %10s %10s"):format("template", "bytes", "compile", "render"))
for name in io.popen("ls '" .. root .. "'"):lines() do
   local file = io.open(root .. "/" .. name .. "/template.jinja", "rb")
   if file then
      local source = file:read "*a"
      file:close()
      local template = assert(perigee.template(source))
      local fine = template:render(vars)
      print(("%-48s %8d %10.3f %10s"):format(name, #source, timed(5, function() perigee.template(source) end),
         fine and ("%.3f"):format(timed(50, function() template:render(vars) end)) or "refused"))
   end
end
