-- The first minute: open the model that ships with perigee and let it tell a story, piece by piece.
--    luajit examples/hello.lua [PROMPT]
local perigee = require "perigee"

local engine = assert(perigee.open())
local request = assert(engine:generate(arg[1] or "Once upon a time", { max_new = 120 }))
for piece in request:pieces() do
   io.write(piece)
   io.flush()
end
print()
engine:close()
