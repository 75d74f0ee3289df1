--- What a chat answers, while it is being said: answer, reasoning and tool calls apart. Made by @{perigee.chat:say}.
--
-- It reads like a @{perigee.request}, which it wraps, and has the same methods.
-- @classmod perigee.reply
local json = require "perigee.json"
local reading = require "perigee.reading"
local segments = require "perigee.chat.segments"

local push = reading.push

local Reply = {}
Reply.__index = Reply

--- What happened to a reply: the events of @{perigee.request}, with two more kinds.
-- @table event
-- @tfield string kind "text", "reasoning", "tool", "filter", "done" or "fail"
-- @tfield ?string text of "text" and "reasoning"
-- @tfield ?call call of "tool"

--- A tool that the model wants to be called.
-- @table call
-- @tfield string id that the result refers to
-- @tfield string name
-- @tfield string arguments JSON text of an object, as the model wrote it
-- @tfield table input the same, read

--- What a finished reply gave: the result of @{perigee.request}, where text is the answer alone.
-- @table result
-- @tfield string text
-- @tfield ?string reasoning
-- @tfield {call,...} tool_calls may be empty
-- @tfield string finish "tool" when the answer ends with calls, else as in @{perigee.request.result}

--- Wrap a request.
-- @tparam perigee.request request
-- @tparam table format of `perigee.chat.formats`
-- @tparam string state that it begins in
-- @tparam table how `new_id()` names calls, `is_string(tool, argument)`, `ended(reply)` is called once with a whole
-- reply, `rewrite` changes the answer's text: push(text) and finish()
-- @treturn perigee.reply
-- @local
function Reply.new(request, format, state, how)
   return setmetatable(reading.begin {
      request = request, _how = how, _parts = segments.new(format, state, how.is_string),
      _text = {}, _reasoning = {}, _calls = {},
   }, Reply)
end

-- Rewritten text may be held back, so an event of it may come later, or with the end.
local function show(self, kind, text)
   if text == "" then return end
   local list = kind == "text" and self._text or self._reasoning
   list[#list + 1] = text
   push(self, { kind = kind, text = text })
end

local function accept_parts(self, parts)
   local rewrite = self._how.rewrite
   for _, part in ipairs(parts) do
      if part.kind == "tool" then
         local call = part.call
         call.id = call.id or self._how.new_id()
         call.input = json.decode(call.arguments)
         self._calls[#self._calls + 1] = call
         push(self, { kind = "tool", call = call })
      elseif part.kind == "text" and rewrite then
         show(self, "text", rewrite:push(part.text))
      else
         show(self, part.kind, part.text)
      end
   end
end

local function accept(self, event)
   if event.kind == "text" then
      accept_parts(self, self._parts:push(event.text))
   else
      if event.kind == "done" then
         accept_parts(self, self._parts:finish())
         if self._how.rewrite then show(self, "text", self._how.rewrite:finish()) end
         if #self._calls > 0 and event.finish == "stop" then
            local changed = {}
            for key, value in pairs(event) do changed[key] = value end
            changed.finish = "tool"
            event = changed
         end
      end
      if event.kind == "done" or event.kind == "fail" then
         self._end = event
         self._how.ended(self)
      end
      push(self, event)
   end
end

local function more(self, timeout_ms)
   local event = self.request:next(timeout_ms)
   if event then
      accept(self, event)
      return true
   end
   self.done = self.request.done                        -- true: somebody has read the request itself to its end
   return false
end

local take = reading.methods(Reply, "reply", more)

--- The next event, as @{perigee.request:next}.
-- @tparam[opt=-1] number timeout_ms
-- @treturn ?event
-- @function Reply:next

--- All events as they come.
-- @treturn function iterator over @{event} tables
-- @usage for event in chat:say("Hello"):events() do if event.kind == "tool" then print(event.call.name) end end
-- @function Reply:events

--- The answer's text as it comes, without reasoning and calls.
-- @treturn function iterator over strings of whole UTF-8 characters
-- @raise if the engine gave the request up; the message says why
-- @function Reply:pieces

--- Wait for the end.
-- @treturn ?result nil, message, code when the engine gave the request up
-- @usage local result = assert(chat:say("Hello"):result())
function Reply:result()
   while not self.done do take(self, -1) end
   if not self._end then return nil, "reply:result: its request was read in its stead", "invalid" end
   local result, message, code = self.request:result()
   if not result then return nil, message, code end
   result.text = table.concat(self._text)
   result.reasoning = #self._reasoning > 0 and table.concat(self._reasoning) or nil
   result.tool_calls = self._calls
   result.finish = self._end.finish
   return result
end

--- Ask it to end, as @{perigee.request:cancel}.
-- @treturn ?boolean true; nil, message, code
function Reply:cancel() return self.request:cancel() end

function Reply:__tostring() return "perigee.reply of " .. tostring(self.request) end

return Reply
