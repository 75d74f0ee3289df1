--- Files watched for changes, to be loaded anew while the program runs.
--
-- A watcher looks when it is asked to (@{perigee.watcher:poll}), with one system call a file; where the program runs a
-- luv loop, it is told by that loop (inotify) and looks by itself. A change is handed on when the file has been at rest
-- for a moment: editors and copies write in pieces. What a file holds, and whether it loads, is the business of the
-- callback: one that fails is tried again when it changes.
-- @classmod perigee.watcher
local ffi = require "ffi"
local clock = require "perigee.clock"
local options = require "perigee.options"

local Watcher = {}
Watcher.__index = Watcher

local M = {}

local REST = 0.02      -- seconds; above the tick of file times (10 ms), so that a later write has a later time

if not pcall(ffi.typeof, "pg_watch_stat") then
   -- struct statx of Linux, the same on every machine, under names of our own.
   ffi.cdef [[
      typedef struct pg_watch_time { int64_t seconds; uint32_t nanoseconds; int32_t pad; } pg_watch_time;
      typedef struct pg_watch_stat {
         uint32_t mask, block; uint64_t attributes; uint32_t links, user, group; uint16_t mode, pad;
         uint64_t inode, size, blocks, attributes_mask; pg_watch_time access, birth, change, modified;
         uint64_t rest[16];
      } pg_watch_stat;
      int pg_watch_statx(int folder, const char *path, int flags, unsigned mask, pg_watch_stat *out)
         __asm__("statx");
   ]]
end

local HERE, ALL = -100, 0x7ff      -- AT_FDCWD, STATX_BASIC_STATS
local stat = ffi.new "pg_watch_stat"

-- Look at a file: fills `state` with what identifies its content; returns whether that differs from before.
local function look(state)
   local there = ffi.C.pg_watch_statx(HERE, state.path, 0, ALL, stat) == 0
   local inode, size, seconds, nanoseconds = 0, -1, 0, 0
   if there then
      inode, size = tonumber(stat.inode), tonumber(stat.size)
      seconds, nanoseconds = tonumber(stat.modified.seconds), stat.modified.nanoseconds
   end
   if there == state.there and inode == state.inode and size == state.size and seconds == state.seconds
      and nanoseconds == state.nanoseconds then
      return false
   end
   state.there, state.inode, state.size, state.seconds, state.nanoseconds = there, inode, size, seconds, nanoseconds
   return true
end

-- Whether a file that was seen to change has come to rest.
local function rests(state, now)
   return now - state.seen >= REST or clock.wall() - state.seconds - state.nanoseconds * 1e-9 >= REST
end

--- Look at the files, and call back for each that has changed and come to rest. One that is gone, or empty, is waited
-- for.
-- @treturn number how many times it called back
-- @usage while engine:poll(20) do watcher:poll() end
function Watcher:poll()
   local called, now = 0, clock.now()
   for _, state in ipairs(self._files) do
      if self._files[1] == nil then break end            -- a callback has closed it
      if look(state) then state.changed, state.seen = true, now end
      if state.changed and state.size > 0 and rests(state, now) then
         state.changed = false
         called = called + 1
         self._callback(state.path)
      end
   end
   return called
end

-- With a luv loop in the program: watch the folders, and look again once a change has come to rest.
local function listen(self, uv)
   local timer = uv.new_timer()
   timer:unref()
   self._handles = { timer }
   local function awake()
      if not timer:is_closing() then
         timer:start(math.ceil(REST * 1000) + 5, 0, function() self:poll() end)
      end
   end
   local known = {}
   for _, state in ipairs(self._files) do
      local folder = state.path:match "^(.*/)[^/]*$" or "."
      if not known[folder] then
         known[folder] = true
         local event = uv.new_fs_event()
         event:unref()
         if event:start(folder, {}, awake) then self._handles[#self._handles + 1] = event else event:close() end
      end
   end
end

--- Watch no longer.
-- @treturn boolean true, also when it is closed already
function Watcher:close()
   for _, handle in ipairs(self._handles) do
      if not handle:is_closing() then handle:close() end
   end
   self._handles, self._files = {}, {}
   return true
end

function Watcher:__tostring()
   return ("perigee.watcher of %d file%s"):format(#self._files, #self._files == 1 and "" or "s")
end

--- Watch files; public as @{perigee.watch}.
-- @local
function M.watch(where, paths, callback, level)
   if type(paths) == "string" then paths = { paths } end
   options.expect(where, "paths", paths, "table", level + 1)
   options.expect(where, "callback", callback, "function", level + 1)
   local self = setmetatable({ _files = {}, _handles = {}, _callback = callback }, Watcher)
   for _, path in ipairs(paths) do
      options.expect(where, "path", path, "string", level + 1)
      local state = { path = path, changed = false, seen = 0 }
      look(state)
      self._files[#self._files + 1] = state
   end
   local uv = package.loaded.luv      -- not required: without it the program has no loop that could tell
   if uv then listen(self, uv) end
   return self
end

return M
