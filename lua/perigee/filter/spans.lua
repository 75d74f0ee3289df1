--- Places that a matcher has found and that nobody has decided about yet.
-- @module perigee.filter.spans
-- @local
local Spans = {}
Spans.__index = Spans

--- An empty list.
-- @treturn spans
function Spans.new() return setmetatable({ firsts = {}, stops = {}, n = 0 }, Spans) end

--- Note one.
-- @tparam number first
-- @tparam number stop
function Spans:add(first, stop)
   local n = self.n + 1
   self.firsts[n], self.stops[n], self.n = first, stop, n
end

--- The first one, the longest of those that begin there; those that begin before `from` are dropped.
-- @tparam number from
-- @treturn ?number first
-- @treturn ?number stop
function Spans:best(from)
   if self.n == 0 then return nil end
   local firsts, stops, kept, first, stop = self.firsts, self.stops, 0, nil, nil
   for k = 1, self.n do
      local a, b = firsts[k], stops[k]
      if a >= from then
         kept = kept + 1
         firsts[kept], stops[kept] = a, b
         if not first or a < first or a == first and b > stop then first, stop = a, b end
      end
   end
   self.n = kept
   return first, stop
end

--- Take one out.
-- @tparam number first
-- @tparam number stop
function Spans:drop(first, stop)
   local firsts, stops, n = self.firsts, self.stops, self.n
   for k = 1, n do
      if firsts[k] == first and stops[k] == stop then
         firsts[k], stops[k], self.n = firsts[n], stops[n], n - 1
         return
      end
   end
end

return Spans
