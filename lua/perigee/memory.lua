--- How fast this machine's memory is; behind @{perigee.bandwidth}.
-- @module perigee.memory
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"

local C = lib.C

local M = {}

local BANDWIDTH = { threads = "integer", bytes = "number", seconds = "number" }

--- Read memory as fast as it goes.
-- @tparam ?table opts
-- @tparam[opt=1] number level of the caller's line
-- @treturn ?number bytes a second; nil, message, code
function M.bandwidth(opts, level)
   local given, message, code = options.check("perigee.bandwidth", BANDWIDTH, opts, (level or 1) + 1)
   if not given then return nil, message, code end
   local rate = ffi.new "double[1]"
   local rc = C.pg_measure_bandwidth(given.threads or 0, given.bytes or 0, given.seconds or 0, rate, lib.err)
   if rc < 0 then return lib.fail(rc) end
   return rate[0]
end

return M
