--- JSON as the command line prints it: keys in alphabetical order and nine digits, so that outputs can be compared.
-- @module perigee.cli.json
-- @local
local json = require "perigee.json"

local M = {}

--- A value as JSON. A table without string keys is a list, also when it is empty.
-- @param value string, number, boolean, or a table of these
-- @treturn string
function M.encode(value) return assert(json.encode(value, { digits = 9, sort_keys = true })) end

return M
