--- One filter on one stream: which of what its matchers find counts.
--
-- Private to the module. Places here are those of the text as it came. The first match counts, the longest of those
-- that begin there, then the search goes on behind it; what lies inside an allowed span, or what the filter's `check`
-- does not want, does not count and hides nothing.
-- @module perigee.filter.finder
-- @local
local regex = require "perigee.filter.regex"
local window = require "perigee.filter.window"
local words = require "perigee.filter.words"

local Finder = {}
Finder.__index = Finder

-- What is allowed is looked for when something is found, or when so many bytes have come.
local LAG = 1024

local START = { words = words.start, regex = regex.start, window = window.start }

local function start(programs, tapes)
   local list = {}
   for i, program in ipairs(programs) do
      list[i] = START[program.kind](program.program, tapes:of(program.case, program.width))
   end
   return list
end

--- Begin.
-- @tparam perigee.filter filter
-- @tparam tapes tapes of the stream
-- @treturn finder
function Finder.start(filter, tapes)
   local self = setmetatable({
      filter = filter, raw = tapes:of(false, false),
      matchers = start(filter.programs, tapes), from = {},
      allow = #filter.allowed > 0 and start(filter.allowed, tapes) or false,
      allow_firsts = {}, allow_stops = {}, n_allowed = 0,
      one = false, two = false,        -- its matchers, if these are all
      hold = 0,             -- no match begins before it that is not known
      allow_hold = 0,       -- no allowed span begins before it that is not known
      stop = 0,             -- where the last match ended
      released = 0,         -- where the last one ended that was acted upon
   }, Finder)
   for k = 1, #self.matchers do self.from[k] = 0 end
   if #self.matchers <= 2 then self.one, self.two = self.matchers[1], self.matchers[2] or false end
   return self
end

-- Matches count that begin at a place or later.
local function go_on(self, place)
   self.stop = place
   for k, matcher in ipairs(self.matchers) do self.from[k] = matcher.tape:place(place) end
end

--- Forget what begins at `place` or later, after the tapes were cut.
-- @tparam number place
-- @tparam number allow_place the same for allowed spans
-- @tparam number stop where the last match ended that counts still
function Finder:restart(place, allow_place, stop)
   for _, matcher in ipairs(self.matchers) do matcher:restart(matcher.tape:place(place)) end
   go_on(self, stop)
   self.hold, self.allow_hold = place, allow_place
   if not self.allow then return end
   for _, matcher in ipairs(self.allow) do matcher:restart(matcher.tape:place(allow_place)) end
   local firsts, stops, n = self.allow_firsts, self.allow_stops, 0
   for k = 1, self.n_allowed do
      if firsts[k] < allow_place then
         n = n + 1
         firsts[n], stops[n] = firsts[k], stops[k]
      end
   end
   self.n_allowed = n
end

--- Forget allowed spans that no match can lie in any more.
-- @tparam number place where a match can begin at the earliest
function Finder:forget(place)
   local firsts, stops, n = self.allow_firsts, self.allow_stops, 0
   for k = 1, self.n_allowed do
      if stops[k] > place then
         n = n + 1
         firsts[n], stops[n] = firsts[k], stops[k]
      end
   end
   self.n_allowed = n
end

local function advance_allowed(self, final)
   local firsts, stops = self.allow_firsts, self.allow_stops
   local hold, n = self.raw.stop, self.n_allowed
   for _, matcher in ipairs(self.allow) do
      local tape = matcher.tape
      local known = n
      n = matcher:collect(final, firsts, stops, n)
      for k = known + 1, n do firsts[k], stops[k] = tape:raw(firsts[k]), tape:raw(stops[k]) end
      hold = math.min(hold, tape:raw(matcher.hold))
   end
   self.n_allowed, self.allow_hold = n, hold
end

local function allowed(self, first, stop)
   for k = 1, self.n_allowed do
      if self.allow_firsts[k] <= first and self.allow_stops[k] >= stop then return true end
   end
   return false
end

-- The first match of all matchers, which of them has it, and where none is decided any more.
local function best(self, final)
   local matchers, from = self.matchers, self.from
   local hold, first, stop, who = self.raw.stop, nil, nil, nil
   for k = 1, #matchers do
      local matcher = matchers[k]
      local a, b = matcher:seek(from[k], final)
      local tape = matcher.tape
      hold = math.min(hold, tape:raw(matcher.hold))
      if a then
         a, b = tape:raw(a), tape:raw(b)
         if not first or a < first or a == first and b > stop then first, stop, who = a, b, matcher end
      end
   end
   return hold, first, stop, who
end

local function veto(matcher, first, stop)
   matcher:veto(matcher.tape:place(first), matcher.tape:place(stop))
end

--- Look at what has come; to be called once for every piece, then again while there are matches.
-- @tparam boolean final nothing more will come
-- @treturn ?match the next one
function Finder:seek(final)
   local one, two, from = self.one, self.two, self.from
   if one and (not self.allow or self.raw.stop - self.allow_hold <= LAG)
      and not one:seek(from[1], final) and not (two and two:seek(from[2], final)) then
      local hold = one.tape:raw(one.hold)                        -- nearly always, and without a loop
      self.hold = two and math.min(hold, two.tape:raw(two.hold)) or hold
      return nil
   end
   local looked = not self.allow
   if not looked and self.raw.stop - self.allow_hold > LAG then
      advance_allowed(self, final)
      looked = true
   end
   while true do
      local hold, first, stop, who = best(self, final)
      if not first or first >= hold then
         self.hold = hold
         return nil
      end
      if not looked then
         advance_allowed(self, final)
         looked = true
      end
      if allowed(self, first, stop) then
         veto(who, first, stop)
      elseif self.allow and self.allow_hold <= first and not final then
         self.hold = first
         return nil
      else
         local filter = self.filter
         local match = {
            filter = filter.name, category = filter.category, action = filter.action,
            text = self.raw:text(first, stop), first = first + 1, last = stop,
         }
         if not filter.check or filter.check(match) then
            go_on(self, stop)
            self.hold = stop
            return match
         end
         veto(who, first, stop)
      end
   end
end

--- The first byte that it must be able to look at again.
-- @treturn number
function Finder:needs()
   local place = math.min(self.hold, self.raw.stop)
   for _, matcher in ipairs(self.matchers) do
      place = math.min(place, matcher.tape:raw(math.max(matcher.tape.base, matcher.hold - matcher.behind)))
   end
   for _, matcher in ipairs(self.allow or {}) do
      place = math.min(place, matcher.tape:raw(math.max(matcher.tape.base, matcher.hold - matcher.behind)))
   end
   return place
end

return Finder
