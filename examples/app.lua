-- Serve an app folder at the terminal: each line is a question. Edit the app's files meanwhile: each is swapped alone,
-- and one that does not load leaves the old one running.
--    luajit examples/app.lua [FOLDER] [MODEL]
local perigee = require "perigee"

local engine = assert(perigee.open(arg[2]))
local app = assert(perigee.app(arg[1] or "examples/app", engine))

for line in io.lines() do
   for _, change in ipairs(app:poll()) do
      local what = change.removed and "removed" or "loaded"
      io.stderr:write(change.path, ": ", change.ok and what or change.message, "\n")
   end
   for piece in assert(app:generate({ { role = "user", content = line } })):pieces() do
      io.write(piece)
      io.flush()
   end
   print()
   for _, report in ipairs(engine.policies:reports()) do io.stderr:write(report.policy, ": ", report.text, "\n") end
end
engine:close()
