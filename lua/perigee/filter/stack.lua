--- Several filters on one stream: what may be released, and what happens to what they match.
--
-- Private to the module. Every filter looks at the text as it came, none at what another made of it, so that masks hide
-- nothing from a filter that blocks. Matches are acted upon in the order of where they begin, the longer first, then as
-- the filters were declared, and only when no filter can find one that begins earlier any more; up to there the text is
-- released. Where a filter may take tokens back, nothing is released that could be among them, nor what could still
-- become a match if they went away: the text goes out only as far as it was decided before the first of these tokens.
-- @module perigee.filter.stack
-- @local
local ffi = require "ffi"
local bit = require "bit"
local fold = require "perigee.filter.fold"
local beginnings = require "perigee.filter.starts"
local words = require "perigee.filter.words"
local Finder = require "perigee.filter.finder"
local Tape = require "perigee.filter.tape"

local Stack = {}
Stack.__index = Stack

local Tapes = {}
Tapes.__index = Tapes

-- Old bytes are let go when so many new ones have come.
local TRIM = 4096

-- Bytes that are looked at in one go: the queue of matches grows with them, and putting one into its place with it.
local PIECE = 4096

local const_bytes = ffi.typeof "const uint8_t *"

--- The tape for matchers that fold in one way.
-- @tparam boolean case
-- @tparam boolean width
-- @treturn tape
function Tapes:of(case, width)
   local name = (case and 1 or 0) + (width and 2 or 0)
   if not self.named[name] then
      self.named[name] = Tape.new(fold.map(case, width))
      self[#self + 1] = self.named[name]
   end
   return self.named[name]
end

--- Begin.
-- @tparam {perigee.filter,...} filters in declared order
-- @tparam[opt] function rewind (token, match) -> boolean: take back the generated tokens from this one on and ban it at
-- its place; without it filters that rewind block
-- @tparam[opt=false] boolean report matches are told and nothing is done about them
-- @treturn stack
function Stack.new(filters, rewind, report)
   local self = setmetatable({
      report = report or false,
      tapes = setmetatable({ named = {} }, Tapes), finders = {}, rewind = rewind or false,
      searches = {}, walkers = {},     -- matchers that are walked together
      rest = "",            -- the first bytes of a character whose last are not there yet
      next_trim = TRIM,     -- the text's length when old bytes will be let go
      behind = 64,          -- bytes that are kept before what is needed
      out = {}, n_out = 0,  -- what was released by the last push: strings and matches, in order
      queue = {},           -- matches that were found and not acted upon yet, in order
      sent = 0,             -- text before it was released, or replaced
      limit = 0,            -- text before it is decided for good
      -- Of each token that is not done with: where its first byte lies; and when it came, the text's end and what
      -- was decided.
      starts = {}, ends = {}, limits = {}, allows = {},
      first_token = 1, tokens = 0,                     -- the first of these, and the last token there is, from 1
      token_stop = 0,       -- where the last token's bytes end; text may lag behind
      left = {},            -- how often each filter may rewind
      busy = false,         -- the filter that is at work, to be named when it fails
      blocked = false,      -- the match that ended the text
      rewound = false,      -- the last push took tokens back
   }, Stack)
   self.raw = self.tapes:of(false, false)
   for i, filter in ipairs(filters) do
      self.finders[i] = Finder.start(filter, self.tapes)
      for _, matcher in ipairs(self.finders[i].matchers) do
         if matcher.starts then self.searches[#self.searches + 1] = matcher end
         if matcher.auto then self.walkers[#self.walkers + 1] = matcher end
      end
      self.left[i] = rewind and filter.times or 0
   end
   return self
end

-- How many bytes at the end begin a character that is not whole.
local function broken(text)
   local n = #text
   for k = 1, math.min(3, n) do
      local b = text:byte(n - k + 1)
      if b >= 0xC0 then
         local long = b >= 0xF0 and b < 0xF5 and 4 or b >= 0xE0 and b < 0xF0 and 3 or b >= 0xC2 and b < 0xE0 and 2 or 1
         return long > k and k or 0
      elseif b < 0x80 then
         return 0
      end
   end
   return 0
end

local function feed(self, text)
   if self.rest ~= "" then text, self.rest = self.rest .. text, "" end
   local n = #text
   if n > 0 and text:byte(n) >= 0x80 then
      local k = broken(text)
      if k > 0 then
         self.rest = text:sub(n - k + 1)
         n = n - k
      end
   end
   if n == 0 then return end
   local p = ffi.cast(const_bytes, text)
   for i = 1, #self.tapes do self.tapes[i]:push(p, n) end
end

local function before(a, b)
   if a.first ~= b.first then return a.first < b.first end
   if a.last ~= b.last then return a.last > b.last end
   return a.rank < b.rank
end

local function enqueue(self, match, rank)
   match.rank = rank
   local queue, i = self.queue, #self.queue
   while i > 0 and before(match, queue[i]) do i = i - 1 end
   table.insert(queue, i + 1, match)
end

-- Most tokens begin and end nothing: matchers that can be walked are, all of a kind in one go, before filters are
-- asked.
local function walk(self)
   if #self.walkers > 0 then words.walk_all(self.walkers) end
   if #self.searches > 0 then beginnings.walk_all(self.searches) end
end

-- Ask all filters; returns the place before which no match begins that is not known.
local function look(self, final)
   local hold, finders = self.raw.stop, self.finders
   if not final then walk(self) end
   for rank = 1, #finders do
      local finder = finders[rank]
      self.busy = finder.filter
      local match = finder:seek(final)
      while match do
         enqueue(self, match, rank)
         match = finder:seek(final)
      end
      if finder.hold < hold then hold = finder.hold end
   end
   return hold
end

local function emit(self, what)
   local n = self.n_out + 1
   self.out[n], self.n_out = what, n
end

local function send(self, place)
   if place > self.sent then
      emit(self, self.raw:text(self.sent, place))
      self.sent = place
   end
end

-- What a filter wants to happen to a match of its own.
local ACTIONS = { block = true, mask = true, rewind = true, flag = true }
local function resolve(self, match)
   local action = match.action
   self.busy = self.finders[match.rank].filter
   match.resolved = true
   if self.report then return end
   if type(action) == "function" then
      match.action = nil
      action = action(match)
      if action == nil then action = "flag" end
      if not ACTIONS[action] then
         error(("the action function returned %s; it returns \"block\", \"mask\", \"rewind\" or \"flag\""):format(
            type(action) == "string" and ("%q"):format(action) or tostring(action)), 0)
      end
   end
   match.action = action
   if action == "rewind" and self.left[match.rank] == 0 then match.action = "block" end
end

local function replacement(filter, match)
   local replace = filter.replace
   if type(replace) == "function" then
      replace = replace(match)
      if type(replace) ~= "string" then
         error(("the replace function returned a %s; it returns a string"):format(type(replace)), 0)
      end
   end
   if replace then return replace end
   local characters = 0
   for i = 1, #match.text do
      if bit.band(match.text:byte(i), 0xC0) ~= 0x80 then characters = characters + 1 end
   end
   return ("*"):rep(characters)
end

-- Act upon the first match of the queue, which does not rewind; true: it ends the text.
local function act(self)
   local match = table.remove(self.queue, 1)
   send(self, match.first - 1)
   local text
   if not self.report and match.action == "mask" and match.last > self.sent then
      self.busy = self.finders[match.rank].filter
      text = replacement(self.busy, match)
      self.sent = match.last
   end
   self.finders[match.rank].released = match.last
   match.resolved, match.rank = nil, nil
   emit(self, match)
   if text and text ~= "" then emit(self, text) end
   return match.action == "block" and not self.report
end

-- The token that a place belongs to.
local function token_of(self, place)
   local starts, k, first = self.starts, self.tokens, self.first_token
   while k > first and starts[k] > place do k = k - 1 end
   return k
end

-- How far text may go out when everything before `hold` is decided: not beyond what was decided when the first token
-- came that a filter may still want back. Bytes of a token that are no text yet may be the first of what it wants.
local function bound(self, hold)
   if self.tokens < self.first_token then return hold end
   local first
   for rank = 1, #self.finders do
      if self.left[rank] > 0 then
         local place = self.finders[rank].hold
         if (place < self.raw.stop or self.token_stop > self.raw.stop) and (not first or place < first) then
            first = place
         end
      end
   end
   for _, match in ipairs(self.queue) do
      if self.left[match.rank] > 0 and (match.action == "rewind" or not match.resolved) then
         if not first or match.first - 1 < first then first = match.first - 1 end
         break
      end
   end
   return first and math.min(hold, self.limits[token_of(self, first)]) or hold
end

-- Take tokens back, from the one in which the match begins. Everything that is not decided is looked for anew.
local function take_back(self, match)
   local k = token_of(self, match.first - 1)
   local limit, allow = self.limits[k], self.allows[k]
   local stops = {}
   for i = #self.queue, 1, -1 do
      local queued = self.queue[i]
      if queued.first > limit then
         table.remove(self.queue, i)
      else
         stops[queued.rank] = math.max(stops[queued.rank] or 0, queued.last)
      end
   end
   for i = 1, #self.tapes do self.tapes[i]:cut(self.ends[k]) end
   for rank, finder in ipairs(self.finders) do
      finder:restart(limit, allow, math.max(limit, finder.released, stops[rank] or 0))
   end
   self.tokens, self.token_stop, self.rest = k - 1, self.starts[k], ""
end

-- The first match before `hold` that blocks or rewinds; all before it are resolved.
local function decisive(self, hold)
   if self.report then return nil end
   for i, match in ipairs(self.queue) do
      if match.first > hold then return nil end
      if not match.resolved then resolve(self, match) end
      if match.action == "block" or match.action == "rewind" then return match, i end
   end
end

local function stop_with(self, match)
   repeat
      local head = self.queue[1]
      if act(self) then
         self.blocked = head
         return
      end
   until head == match
end

-- Act upon what is decided, release what may go out.
local function settle(self, final)
   local hold = look(self, final)
   while #self.queue > 0 do
      local match = decisive(self, hold)
      if not match then break end
      if match.action == "rewind" then
         local k = token_of(self, match.first - 1)
         if k >= self.first_token and self.rewind(k, match) then
            self.left[match.rank] = self.left[match.rank] - 1
            take_back(self, match)
            self.rewound = true
            match.rank, match.resolved = nil, nil
            emit(self, match)
            return
         end
         match.action = "block"
      end
      stop_with(self, match)
      if self.blocked then return end
   end
   local limit = final and hold or bound(self, hold)
   while self.queue[1] and self.queue[1].first <= limit do
      if not self.queue[1].resolved then resolve(self, self.queue[1]) end
      act(self)
   end
   send(self, limit)
   self.limit = limit
end

-- Forget what nobody can ask for any more.
local function trim(self)
   local starts, limit = self.starts, self.limit
   local k = self.first_token
   while k <= self.tokens and (k < self.tokens and starts[k + 1] or self.token_stop) <= limit do
      starts[k], self.ends[k], self.limits[k], self.allows[k] = nil, nil, nil, nil
      k = k + 1
   end
   self.first_token = k
   local place = k <= self.tokens and math.min(limit, self.limits[k]) or limit
   for _, finder in ipairs(self.finders) do
      if finder.n_allowed > 0 then finder:forget(place) end
   end
   if self.raw.stop < self.next_trim then return end
   self.next_trim = self.raw.stop + TRIM
   if k <= self.tokens then place = math.min(place, self.allows[k]) end
   for _, finder in ipairs(self.finders) do place = math.min(place, finder:needs()) end
   for i = 1, #self.tapes do
      local tape = self.tapes[i]
      tape:trim(tape:character(math.max(tape.base, tape:place(place) - self.behind)))
   end
end

--- A token comes; the next push brings what text it releases.
-- @tparam number n of its bytes, of which the last ones may come with later tokens
function Stack:token(n)
   local k = self.tokens + 1
   local allow = self.raw.stop
   for rank = 1, #self.finders do
      local finder = self.finders[rank]
      if finder.allow and finder.allow_hold < allow then allow = finder.allow_hold end
   end
   self.starts[k], self.ends[k], self.limits[k], self.allows[k] = self.token_stop, self.raw.stop, self.limit, allow
   self.tokens, self.token_stop = k, self.token_stop + n
end

--- Run one of the functions below; what it raises is the failure of the filter that was at work.
-- @tparam string method "push" or "finish"
-- @tparam ?string text
-- @treturn ?boolean true; nil, message
function Stack:try(method, text)
   local fine, raised = pcall(self[method], self, text)
   if fine then return true end
   return nil, ("filter %q failed: %s"):format(self.busy and self.busy.name or "?", tostring(raised))
end

--- Take more text. What may be released is in `out[1]` .. `out[n_out]`: strings, and the matches that were acted upon.
-- `blocked` is the match that ended the text; `rewound` says that tokens were taken back.
-- @tparam string text
-- @raise what a matcher or a function of the application raises
function Stack:push(text)
   self.n_out, self.rewound = 0, false
   for from = 1, math.max(1, #text), PIECE do
      if self.blocked or self.rewound then return end
      feed(self, #text <= PIECE and text or text:sub(from, from + PIECE - 1))
      settle(self, false)
      trim(self)
   end
end

--- The end: nothing can become a match any more. As @{push}; text may follow all the same when tokens were taken back.
function Stack:finish()
   self.n_out, self.rewound = 0, false
   if self.blocked then return end
   settle(self, true)
   if self.rewound or self.blocked then return end
   self.first_token = self.tokens + 1
   if self.rest ~= "" then
      emit(self, self.rest)
      self.rest = ""
   end
end

--- How many tokens are done with: their text is released, or replaced, and they will not be taken back.
-- @treturn number
function Stack:settled() return self.first_token - 1 end

return Stack
