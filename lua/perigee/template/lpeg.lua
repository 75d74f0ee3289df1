--- LPeg, or a message that says how to get it; and the one pattern that all of the template's modules share.
-- @module perigee.template.lpeg
-- @local
local found, lpeg = pcall(require, "lpeg")
if not found then
   error("perigee: templates need LPeg, and it was not found: install lua-lpeg (apt-get install lua-lpeg, or luarocks "
      .. "install lpeg).\n" .. tostring(lpeg), 0)
end

local P, R, S = lpeg.P, lpeg.R, lpeg.S

local M = setmetatable({}, { __index = lpeg })

--- One character of white space, as Python sees it.
M.space = S " \t\n\r\f\v" + R "\28\31" + P "\194\133" + "\194\160" + "\225\154\128"
   + P "\226\128" * (R "\128\138" + S "\168\169\175") + "\226\129\159" + "\227\128\128"

return M
