--- What the command line needs of the system: is this a terminal, what time is it, was Ctrl-C pressed, a progress bar.
--
-- Ctrl-C: SIGINT is blocked, before the engine starts its threads so that these inherit it, and asked for between
-- events; a Lua handler could be neither called safely nor heard in compiled code.
-- @module perigee.cli.terminal
-- @local
local ffi = require "ffi"
local clock = require "perigee.clock"

local M = {}

if not pcall(ffi.typeof, "pg_cli_time") then
   -- Names of our own, bound to the system's, so that another module's declarations do not matter.
   ffi.cdef [[
      typedef struct pg_cli_time { long seconds, nanoseconds; } pg_cli_time;
      typedef struct pg_cli_signals { unsigned char bits[128]; } pg_cli_signals;
      int pg_cli_isatty(int fd) __asm__("isatty");
      int pg_cli_empty(pg_cli_signals *set) __asm__("sigemptyset");
      int pg_cli_add(pg_cli_signals *set, int signal) __asm__("sigaddset");
      int pg_cli_mask(int how, const pg_cli_signals *set, pg_cli_signals *old) __asm__("sigprocmask");
      int pg_cli_take(const pg_cli_signals *set, void *info, const pg_cli_time *timeout) __asm__("sigtimedwait");
      void *pg_cli_handle(int signal, void *handler) __asm__("signal");
   ]]
end

local C = ffi.C
local SIGINT, SIG_BLOCK, SIG_SETMASK = 2, 0, 2     -- Linux, but for its MIPS and SPARC

--- Whether a file descriptor is a terminal.
-- @tparam number fd
-- @treturn boolean
function M.is_terminal(fd) return C.pg_cli_isatty(fd) == 1 end

--- Seconds on a clock that only goes forward: @{perigee.clock.now}.
M.now = clock.now

--- Let Ctrl-C end the process at once, as while it waits for input; LuaJIT's own handler would wait for Lua to go on.
function M.interrupt_kills() C.pg_cli_handle(SIGINT, nil) end

--- Hold Ctrl-C back until somebody asks.
-- @treturn function whether it was pressed; from then on a further Ctrl-C ends the process
-- @treturn function gives Ctrl-C its old meaning again
function M.hold_interrupt()
   local set, old, none = ffi.new "pg_cli_signals", ffi.new "pg_cli_signals", ffi.new "pg_cli_time"
   local pressed = false
   C.pg_cli_empty(set)
   C.pg_cli_add(set, SIGINT)
   C.pg_cli_mask(SIG_BLOCK, set, old)
   local function release() C.pg_cli_mask(SIG_SETMASK, old, nil) end
   local function interrupted()
      if not pressed and C.pg_cli_take(set, nil, none) == SIGINT then
         pressed = true
         M.interrupt_kills()
         release()
      end
      return pressed
   end
   return interrupted, release
end

local WIDTH = 30

--- A progress bar on stderr: only on a terminal, and only once a second has passed.
-- @tparam string label
-- @tparam boolean quiet never shown
-- @treturn function update(done, total)
-- @treturn function clear()
function M.progress(label, quiet)
   local began, drawn = M.now(), nil
   local hidden = quiet or not M.is_terminal(2)
   local function update(done, total)
      if hidden or total <= 0 then return end
      local now = M.now()
      if now - began < 1 or drawn and now - drawn < 0.1 then return end
      drawn = now
      local part = math.min(done / total, 1)
      local filled = math.floor(part * WIDTH)
      io.stderr:write(("\r\27[K%s [%s%s] %3d %%, %.0f s left"):format(label, ("#"):rep(filled),
         ("."):rep(WIDTH - filled), math.floor(100 * part), part > 0 and (now - began) * (1 - part) / part or 0))
      io.stderr:flush()
   end
   local function clear()
      if drawn then io.stderr:write "\r\27[K" end
      drawn = nil
   end
   return update, clear
end

return M
