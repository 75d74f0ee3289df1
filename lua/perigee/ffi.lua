--- Where Lua meets the library: finds `perigee.core`, declares its functions, words its errors.
--
-- Private to the module: users see the classes built on it. What is read in loops is int32, float or double; no value
-- of 64 bits is boxed, so callers stay in compiled code. The scratch error is shared: read it before the next call.
-- @module perigee.ffi
-- @local
local ffi = require "ffi"

local M = {}

local function load_core()
   local found, core = pcall(require, "perigee.core")
   if not found then
      error("perigee: its C part, perigee/core.so, was not found or does not load. In the source tree run `make`, then "
         .. "`eval \"$(make -s env)\"`; otherwise `make install`.\n" .. tostring(core), 0)
   end
   local path = package.searchpath("perigee.core", package.cpath)
   return core, path and ffi.load(path) or ffi.C          -- ffi.C: it was linked into the program itself
end

local core, C = load_core()
if not pcall(ffi.typeof, "pg_error") then ffi.cdef(core.cdef) end   -- declared already when the module is loaded anew

--- The library's functions and constants.
M.C = C
--- Version of the library, "major.minor.patch".
M.version = core.version
--- The declarations of perigee.h, text.
M.cdef = core.cdef
--- Opens the state of a Lua policy: ext/policyvm.c.
M.policyvm = core.policyvm
--- The scratch error that every call here fills.
M.err = ffi.new "pg_error"

local code_names = {}
for code = C.PG_EIO, C.PG_OK do code_names[code] = ffi.string(C.pg_code_name(code)) end

--- Lua's name of a negative result code.
-- @tparam number code
-- @treturn string
function M.code_name(code) return code_names[code] or "invalid" end

--- What a function returns when a call into the library failed.
-- @tparam number code the negative result
-- @return nil, message, name of the code
function M.fail(code) return nil, ffi.string(M.err.text), M.code_name(code) end

--- Call `release` when nobody refers to the result any more, or when the Lua state closes.
--
-- A userdata and no `ffi.gc`: a closing state finalizes userdata first, newest first, and only then cdata. By then it
-- has unloaded the library that the finalizers of cdata would call.
-- @tparam function release
-- @treturn userdata
function M.guard(release)
   local proxy = newproxy(true)
   getmetatable(proxy).__gc = release
   return proxy
end

local guards = setmetatable({}, { __mode = "k" })

--- The same for a pointer: call `release(pointer)` when nobody refers to this `handle` any more.
-- @tparam cdata handle a pointer
-- @tparam function release
-- @treturn cdata the handle
function M.owned(handle, release)
   local ctype, address = ffi.typeof(handle), tonumber(ffi.cast("uintptr_t", handle))
   guards[handle] = M.guard(function() release(ffi.cast(ctype, address)) end)    -- it must not keep the handle alive
   return handle
end

local out_done, out_total = ffi.new "double[1]", ffi.new "double[1]"

--- Wait for what the library does on a thread of its own. What `progress` raises gives it up and passes through.
-- @tparam cdata handle
-- @tparam cdata poll the library's function for that
-- @tparam cdata cancel the same
-- @tparam ?function progress called with done, total and `what`
-- @tparam string what
function M.wait(handle, poll, cancel, progress, what)
   local fine, raised = pcall(function()
      repeat
         local rc = poll(handle, 100, out_done, out_total, M.err)
         if progress and rc >= 0 then progress(out_done[0], out_total[0], what) end
      until rc ~= 0
   end)
   if not fine then
      cancel(handle)
      error(raised, 0)
   end
end

--- Scratch memory that grows: `buffer(n)` returns room for at least n elements and how many there are. What it holds is
-- lost at the next call.
-- @tparam string ctype type of an element
-- @treturn function
function M.buffer(ctype)
   local array, data, room = ffi.typeof(ctype .. "[?]"), nil, 0
   return function(n)
      if n > room then
         room = math.max(n, 2 * room, 256)
         data = ffi.new(array, room)
      end
      return data, room
   end
end

return M
