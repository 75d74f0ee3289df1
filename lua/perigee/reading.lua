--- Reading events as they come: next, events and pieces of a @{perigee.request} and of a @{perigee.reply}.
--
-- Here: the queue of what has come and is not read yet, and the methods that take from it. Not here: where more comes
-- from (the class says that), what an event means beyond its kind.
-- @module perigee.reading
-- @local
local options = require "perigee.options"

local M = {}

--- Make a table something that can be read: nothing has come yet.
-- @tparam table self
-- @treturn table the same
function M.begin(self)
   self.done = false
   self._events, self._first, self._last = {}, 1, 0
   return self
end

--- Put an event behind those that wait.
-- @tparam table self
-- @tparam table event
function M.push(self, event)
   self._last = self._last + 1
   self._events[self._last] = event
end

--- Whether an event waits.
-- @tparam table self
-- @treturn boolean
function M.ready(self) return self._first <= self._last end

--- Take the event that has waited longest, when one waits.
-- @tparam table self
-- @treturn table
function M.pop(self)
   local event = self._events[self._first]
   self._events[self._first] = nil
   self._first = self._first + 1
   return event
end

--- Give a class its methods `next`, `events` and `pieces`; their documentation stands with the class.
-- @tparam table Class its objects are made by @{begin}, and `_end` is their last event once that has come
-- @tparam string name for messages
-- @tparam function more called with self and timeout_ms, as `next` knows it, when no event waits: push what has come;
-- true when something has, even if no event became of it; when nothing ever will, `self.done` is true
-- @treturn function take(self, timeout_ms): the next event, or nil when none has come in time or all have been read
function M.methods(Class, name, more)
   local function take(self, timeout_ms)
      if self.done then return nil end
      if self._first > self._last then
         -- Without a limit `more` may still come back empty: for a signal, or for others' events. A tail call and no
         -- loop, which would keep a program's own loop over `next` out of compiled code.
         if more(self, timeout_ms) or timeout_ms < 0 and not self.done then return take(self, timeout_ms) end
         return nil
      end
      local event = M.pop(self)
      self.done = event == self._end
      return event
   end

   local caller = name .. ":next"
   function Class:next(timeout_ms)
      if timeout_ms == nil then timeout_ms = -1 end
      options.expect(caller, "timeout_ms", timeout_ms, "number", 2)
      return (take(self, timeout_ms))
   end

   function Class:events()
      return function() return take(self, -1) end
   end

   function Class:pieces()
      return function()
         while true do
            local event = take(self, -1)
            if not event or event.kind == "done" then return nil end
            if event.kind == "fail" then error(event.message, 2) end
            if event.kind == "text" and event.text ~= "" then return event.text end
         end
      end
   end

   return take
end

return M
