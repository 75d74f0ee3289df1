--- Cuts what a model says into answer, reasoning and tool calls, as it comes.
--
-- A format (`perigee.chat.formats`) is a table of states; texts that stand for themselves (markers) lead from one to
-- the next. What may still become a marker is held back: the longest suffix that is a beginning of one, no more. A
-- state either shows its text under a kind, or collects a body and turns it into calls when it ends; a body that cannot
-- be read is shown as the text it was, so nothing the model said is lost.
-- @module perigee.chat.segments
-- @local
local M = {}

local Segments = {}
Segments.__index = Segments

--- Begin a stream.
-- @tparam table format one of `perigee.chat.formats`
-- @tparam[opt] string state to begin in; default: the format's own first
-- @tparam[opt] function is_string (tool, argument) -> whether that argument is text whatever it looks like
-- @treturn table with push(text) and finish(), each of which returns a list of parts: `{ kind = "text" | "reasoning",
-- text = }` or `{ kind = "tool", call = { name, arguments } }`
function M.new(format, state, is_string)
   local self = setmetatable({ format = format, is_string = is_string, _held = "", _raw = "", _body = "" }, Segments)
   self:_enter(state or format.first, "")
   return self
end

function Segments:_enter(name, marker)
   self._state = assert(self.format.states[name], name)
   self._raw, self._body = marker, self._state.include and marker or ""
   self._tight = marker ~= "" or self._state.kind == "reasoning"    -- spaces behind a marker are layout, not text
   self._space = ""
end

-- Show text of the current state. Spaces wait: those in front of a marker are layout as well.
function Segments:_show(text, parts, last)
   local kind = self._state.kind
   text = self._space .. text
   if self._tight then text = text:gsub("^%s+", "") end
   self._space = ""
   if not last then
      local body, space = text:match "^(.-)(%s*)$"
      if body == "" then
         self._space = space
         return
      end
      text, self._space = body, space
   end
   if text == "" then return end
   self._tight = false
   local tail = parts[#parts]
   if tail and tail.kind == kind then
      tail.text = tail.text .. text
   else
      parts[#parts + 1] = { kind = kind, text = text }
   end
end

-- Text that belongs to the current state.
function Segments:_take(text, parts, last)
   local state = self._state
   if state.kind then
      self:_show(text, parts, last)
   elseif state.gap then
      return
   else
      self._raw, self._body = self._raw .. text, self._body .. text
   end
end

-- A body is over: its calls, or the text it was.
function Segments:_close(marker, parts)
   local state = self._state
   if state.kind then
      self._space = ""
      return
   end
   if not state.read then return end
   local calls = state.read(self._body, self._head, self.is_string)
   if not calls then
      parts[#parts + 1] = { kind = "text", text = self._raw .. marker }
      return
   end
   for _, call in ipairs(calls) do parts[#parts + 1] = { kind = "tool", call = call } end
end

-- The first marker in the text: where it begins, the longest that begins there.
local function find_marker(on, text)
   local first, found
   for marker in pairs(on) do
      local at = text:find(marker, 1, true)
      if at and (not first or at < first or at == first and #marker > #found) then first, found = at, marker end
   end
   return first, found
end

-- Length of the longest suffix that is a proper beginning of a marker.
local function open_suffix(on, text)
   local longest = 0
   for marker in pairs(on) do
      for n = math.min(#marker - 1, #text), longest + 1, -1 do
         if text:sub(-n) == marker:sub(1, n) then
            longest = n
            break
         end
      end
   end
   return longest
end

function Segments:_follow(marker, parts)
   local target = self._state.on[marker]
   if self._state.head then self._head = self._body end
   if type(target) == "function" then target = target(self._body) end
   self:_close(marker, parts)
   self:_enter(target, marker)
end

-- The state that a text begins with, where a format decides by its first character.
function Segments:_begin()
   local state = self._state
   local at = self._held:find "%S"
   if not at then return false end
   local target = state.by[self._held:sub(at, at)] or state.other
   self:_enter(target, "")
   return true
end

--- More text.
-- @tparam string text
-- @treturn {table,...} parts
-- @local
function Segments:push(text)
   local parts = {}
   self._held = self._held .. text
   while self._held ~= "" do
      if self._state.by then
         if not self:_begin() then break end
      else
         local on = self._state.on
         local at, marker = find_marker(on, self._held)
         if not at then break end
         self:_take(self._held:sub(1, at - 1), parts)
         self._held = self._held:sub(at + #marker)
         self:_follow(marker, parts)
      end
   end
   if self._held ~= "" and not self._state.by then
      local keep = open_suffix(self._state.on, self._held)
      local ready = self._held:sub(1, #self._held - keep)
      self._held = keep > 0 and self._held:sub(-keep) or ""
      if ready ~= "" then self:_take(ready, parts) end
   end
   return parts
end

--- Nothing more comes.
-- @treturn {table,...} parts
-- @local
function Segments:finish()
   local parts = {}
   if self._state.by then self:_enter(self._state.other, "") end
   self:_take(self._held, parts, true)
   self._held = ""
   if self._state.kind or self._state.gap then return parts end
   local head = self._state.head                        -- a header that never ended is all there is to show
   if head and self._raw ~= "" then
      parts[#parts + 1] = { kind = "text", text = self._raw }
   elseif self._state.read and self._raw ~= "" then
      self:_close("", parts)
   end
   return parts
end

return M
