--- The time that passes, for measuring.
-- @module perigee.clock
-- @local
local ffi = require "ffi"

local M = {}

if not pcall(ffi.typeof, "pg_clock_time") then
   -- Names of our own, bound to the system's, so that another module's declarations do not matter.
   ffi.cdef [[
      typedef struct pg_clock_time { long seconds, nanoseconds; } pg_clock_time;
      int pg_clock_get(int clock, pg_clock_time *time) __asm__("clock_gettime");
   ]]
end

local REALTIME, MONOTONIC = 0, 1     -- Linux
local time = ffi.new "pg_clock_time"

--- Seconds on a clock that only goes forward.
-- @treturn number
function M.now()
   ffi.C.pg_clock_get(MONOTONIC, time)
   return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

--- Seconds since 1970, on the clock that stamps files.
-- @treturn number
function M.wall()
   ffi.C.pg_clock_get(REALTIME, time)
   return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

return M
