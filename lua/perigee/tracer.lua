--- A trace of experts, being written. Made by @{perigee.engine:trace}; @{perigee.experts} reads what it wrote.
-- @classmod perigee.tracer
local ffi = require "ffi"
local lib = require "perigee.ffi"

local C, err = lib.C, lib.err

local Tracer = {}
Tracer.__index = Tracer

local out = ffi.new "pg_trace *[1]"

--- How a trace is going, or how it went.
-- @table state
-- @tfield number tokens in the file
-- @tfield number lost tokens that were left out because the disk was slower than the engine; the file says so too
-- @tfield number bytes of the file

local function as_table(c) return { tokens = c.tokens, lost = c.lost, bytes = c.bytes } end

--- Begin a trace; public as @{perigee.engine:trace}.
-- @local
function Tracer.open(engine, path, every)
   local rc = C.pg_trace_open(engine._handle, path, every, out, err)
   if rc < 0 then return lib.fail(rc) end
   local self = setmetatable({ path = path, _handle = out[0], _engine = engine }, Tracer)
   self._guard = lib.guard(function() self:close() end)
   return self
end

--- How it is going; what the engine has just computed reaches the file some milliseconds later.
-- @treturn ?state nil, message, code ("io": the file cannot be written)
function Tracer:state()
   if not self._handle then return nil, "the trace is closed", "invalid" end
   local c = ffi.new "pg_trace_state"
   local rc = C.pg_trace_look(self._handle, c, err)
   if rc < 0 then return lib.fail(rc) end
   return as_table(c)
end

--- Record no more and close the file. Its engine may be closed already. Closing again says the same as before.
-- @treturn ?state nil, message, code ("io": it could not be written)
function Tracer:close()
   local handle = self._handle
   if not handle then return unpack(self._end, 1, 3) end
   self._handle = nil
   local c = ffi.new "pg_trace_state"
   local rc = C.pg_trace_close(handle, c, err)
   self._end = rc < 0 and { lib.fail(rc) } or { as_table(c) }
   self._engine = nil
   return unpack(self._end, 1, 3)
end

function Tracer:__tostring()
   local state = self._handle and self:state()
   return ("perigee.tracer %s (%s)"):format(self.path, state and ("%d tokens, %d lost"):format(state.tokens, state.lost)
      or "closed")
end

return Tracer
