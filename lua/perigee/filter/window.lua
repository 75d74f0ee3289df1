--- Matchers that cannot say whether a text may still become a match: Lua patterns, LPeg patterns, classifiers.
--
-- Private to the module. They declare how long a match can be, `max` bytes, and are asked about every place once the
-- whole window [place, place + max) is there: the answer is then the same however the text was cut. So max - 1 bytes
-- are held back.
-- @module perigee.filter.window
-- @local
local band = require("bit").band
local Spans = require "perigee.filter.spans"

local M = {}

local CONTEXT = 16           -- bytes in front of a window that a pattern may look back at

-- Where the class that begins at `at` ends; nil when it does not.
local function class_end(pattern, at)
   at = pattern:sub(at + 1, at + 1) == "^" and at + 2 or at + 1
   repeat                                                       -- a ] that comes first stands for itself
      if at > #pattern then return nil end
      at = at + (pattern:sub(at, at) == "%" and 2 or 1)
   until pattern:sub(at, at) == "]"
   return at
end

-- What is wrong behind a %, and where the pattern goes on. `captures` says of each whether it is closed.
local function escape(pattern, at, captures)
   local c = pattern:sub(at + 1, at + 1)
   if c == "" then return "it ends with %" end
   if c == "b" then return #pattern < at + 3 and "%b needs two characters" or nil, at + 4 end
   if c == "f" then return pattern:sub(at + 2, at + 2) ~= "[" and "%f needs a class" or nil, at + 2 end
   if c:find "%d" and not captures[tonumber(c)] then return ("%%%s refers to no capture"):format(c) end
   return nil, at + 2
end

--- What is wrong with a Lua pattern; string.find says so only where a text leads it there.
-- @tparam string pattern
-- @treturn ?string nil when it is fine
function M.fault(pattern)
   local at, open, captures = 1, {}, {}
   while at and at <= #pattern do
      local c, wrong = pattern:sub(at, at), nil
      if c == "%" then
         wrong, at = escape(pattern, at, captures)
      elseif c == "[" then
         at = class_end(pattern, at)
         if not at then return "a class without ]" end
         at = at + 1
      else
         if c == "(" then
            captures[#captures + 1] = false
            open[#open + 1] = #captures
         elseif c == ")" then
            if #open == 0 then return "a ) without (" end
            captures[table.remove(open)] = true
         end
         at = at + 1
      end
      if wrong then return wrong end
   end
   if #open > 0 then return "a ( without )" end
   return #captures > 32 and "more than 32 captures" or nil
end

--- A Lua pattern, tried at one place of a string.
-- @tparam string pattern without anchors
-- @treturn function (text, init) -> first, last
function M.pattern(pattern)
   local anchored = "^" .. pattern
   return function(text, init) return text:find(anchored, init) end
end

--- An LPeg pattern, tried at one place of a string.
-- @param pattern
-- @treturn function (text, init) -> first, last
function M.lpeg(pattern)
   local lpeg = require "lpeg"
   local ends = pattern / 0 * lpeg.Cp()
   return function(text, init)
      local stop = ends:match(text, init)
      if stop then return init, stop - 1 end
   end
end

--- A classifier, asked about a window.
-- @tparam function classify (text) -> first, last in the text; true: all of it; nil: nothing
-- @treturn function (text, init) -> first, last
function M.classify(classify)
   return function(text, init)
      local window = text:sub(init)
      local first, last = classify(window)
      if not first then return nil end
      if first == true then return init, #text end
      if type(first) ~= "number" or type(last) ~= "number" or first < 1 or last > #window then
         error(("classify returned %s, %s: it returns nothing, true, or first and last in its text of %d bytes"):format(
            tostring(first), tostring(last), #window), 0)
      end
      return init + first - 1, init + last - 1
   end
end

local Windows = {}
Windows.__index = Windows

--- Windows along a tape.
-- @tparam table program try = (text, init) -> first, last; max; step: windows begin this many bytes apart
-- @tparam tape tape
-- @treturn windows
function M.start(program, tape)
   return setmetatable({
      try = program.try, max = program.max, step = program.step, tape = tape, behind = CONTEXT + 4,
      pos = 0,              -- where the next window begins
      hold = 0, found = Spans.new(),
   }, Windows)
end

-- Windows begin at the first character at or after the multiples of step.
local function window_at(self, place)
   local step = self.step
   return self.tape:character(math.ceil(place / step) * step)
end

--- Forget everything from a place on and go on from there.
-- @tparam number place
function Windows:restart(place)
   self.pos = window_at(self, place)
   self.hold, self.found.n = place, 0
end

local function try(self, stop)
   local tape, pos = self.tape, self.pos
   local low = math.max(tape.base, pos - CONTEXT)
   local first, last = self.try(tape:text(low, stop), pos - low + 1)
   if not first or last < first then return end
   local a, b = low + first - 1, low + last
   while a > pos and band(tape.data[a - tape.base], 0xC0) == 0x80 do a = a - 1 end        -- whole characters only
   b = tape:character(b)
   self.found:add(a, b)
end

--- The first match that is known, the longest of those that begin there; sets `hold`.
-- @tparam number from matches that begin before it do not count
-- @tparam boolean final nothing more will come
-- @treturn ?number first
-- @treturn ?number stop
function Windows:seek(from, final)
   local tape, max = self.tape, self.max
   while self.pos < tape.stop do
      self.pos = tape:character(self.pos)
      if not final and tape.stop - self.pos < max then break end
      try(self, math.min(self.pos + max, tape.stop))
      self.pos = window_at(self, self.pos + 1)
   end
   self.hold = final and tape.stop or math.max(self.pos, from)
   return self.found:best(from)
end

--- Take one match back: it does not count.
-- @tparam number first
-- @tparam number stop
function Windows:veto(first, stop) self.found:drop(first, stop) end

return M
