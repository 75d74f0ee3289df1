--- A conversation: keeps its messages, renders them by the model's chat template, answers turn by turn. Made by
-- @{perigee.engine:chat}.
--
-- Each turn is one request over the whole history. What the history has in common with the turn before is found in the
-- KV cache and not computed again (`usage.cached`). When the history outgrows the context, its oldest turns are left
-- out, some more than needed at once, so that the turns after it find their beginning in the cache.
-- @classmod perigee.chat
local json = require "perigee.json"
local formats = require "perigee.chat.formats"
local messages = require "perigee.chat.messages"
local options = require "perigee.options"
local Reply = require "perigee.chat.reply"
local loader = require "perigee.loader"

local Chat = {}
Chat.__index = Chat

local CHAT = {
   system = "string", tools = "any", template = "any", format = "string", vars = "any", messages = "any",
   reserve = "integer", now = "string",
}

--- How to hold a conversation.
-- @table chat_options
-- @tfield ?string system what the model is told first
-- @tfield ?{table,...} tools each with name, description, parameters (JSON schema: text or table) and, for
-- @{perigee.chat:run}, call (a function of the arguments that returns text or a table); OpenAI's form is understood
-- @tfield ?perigee.template|string template Jinja; default: the model's own
-- @tfield ?string format how the model writes calls: "hermes", "deepseek", "mistral", "harmony" ...; default: read off
-- the template
-- @tfield ?table vars further variables of the template, such as enable_thinking
-- @tfield ?{table,...} messages to begin with
-- @tfield ?number reserve tokens of the context to keep free for an answer; default: a quarter of it, at most 1024
-- @tfield ?string now the time that templates see, "YYYY-MM-DDTHH:MM:SS"

--- Begin a conversation; public as @{perigee.engine:chat}.
-- @local
function Chat.open(engine, opts, level)
   local where = "engine:chat"
   local given, message, code = options.check(where, CHAT, opts, level + 1)
   if not given then return nil, message, code end
   local template = given.template
   if type(template) == "string" then
      template, message, code = loader.compile(template)
   elseif not template then
      template, message, code = engine:template()
   end
   if not template then return nil, message, code end
   local tools, by_name = messages.tools(where, given.tools)
   if not tools then return nil, by_name, "invalid" end
   local format
   if given.format then
      local names
      format, names = formats.named(given.format)
      if not format then
         return nil, ("%s: unknown format %q; there are %s"):format(where, given.format,
            table.concat(names, ", ")), "invalid"
      end
   end
   local self = setmetatable({
      engine = engine, messages = {}, _template = template, _tools = tools, _by_name = by_name, _format = format,
      _vars = given.vars, _reserve = given.reserve, _now = given.now, _calls = 0,
      _passed = setmetatable({}, { __mode = "k" }),     -- messages that filters need not look at any more
   }, Chat)
   if given.messages and #given.messages > 0 then
      local fine
      fine, message, code = messages.check(where, given.messages)
      if not fine then return nil, message, code end
   end
   if given.system then
      self.messages[1] = { role = "system", content = given.system }
      self._passed[self.messages[1]] = true
   end
   for _, one in ipairs(given.messages or {}) do self.messages[#self.messages + 1] = one end
   return self
end

-- ---- fitting the context --------------------------------------------------------------------------------------------

local KEEP = 0.75                -- part of the room that the history is cut down to when it outgrows it

-- Messages without the oldest turns: a turn begins with a user's message; what stands before the first one stays.
local function without(list, turns)
   local kept, turn = {}, 0
   for _, message in ipairs(list) do
      if message.role == "user" then turn = turn + 1 end
      if turn == 0 or turn > turns then kept[#kept + 1] = message end
   end
   return kept
end

local function count_turns(list)
   local n = 0
   for _, message in ipairs(list) do n = n + (message.role == "user" and 1 or 0) end
   return n
end

local function prompt(self)
   return messages.prompt(self.engine, self.messages,
      { template = self._template, tools = self._tools, vars = self._vars, now = self._now })
end

-- Ids of the history, cut to the context: ids, text, format | nil, message, code.
local function fit(self, opts)
   local info, message, code = self.engine:info()
   if not info then return nil, message, code end
   local context = info.context
   local free = opts.max_new or self._reserve or math.min(1024, math.floor(context / 4))
   local room = context - free
   local ids, text, format = prompt(self)
   if not ids or #ids <= room then return ids, text, format end
   local whole, turns = self.messages, count_turns(self.messages)
   for left_out = 1, turns - 1 do
      self.messages = without(whole, left_out)
      ids, text, format = prompt(self)
      if not ids then
         self.messages = whole
         return nil, text, format
      end
      if #ids <= (left_out < turns - 1 and KEEP * room or room) then return ids, text, format end
   end
   self.messages = whole
   return nil, ("the last turn alone has %d tokens, %d of the context's %d are free for it: shorten it, ask for fewer "
      .. "new tokens (max_new), or open the engine with a larger context"):format(#ids, room, context), "limit"
end

-- ---- turns ----------------------------------------------------------------------------------------------------------

local function is_string_of(self)
   return function(tool, argument)
      local known = self._by_name[tool]
      local properties = known and known.schema.properties
      local property = type(properties) == "table" and properties[argument]
      return type(property) == "table" and property.type == "string"
   end
end

-- A whole reply enters the history.
local function remember(self, reply)
   local last = reply._end
   if last.kind == "fail" then return end
   local message = { role = "assistant", content = table.concat(reply._text) }
   if #reply._reasoning > 0 then message.reasoning_content = table.concat(reply._reasoning) end
   for i, call in ipairs(reply._calls) do
      message.tool_calls = message.tool_calls or {}
      message.tool_calls[i] = { id = call.id, type = "function",
         ["function"] = { name = call.name, arguments = call.arguments } }
   end
   self.messages[#self.messages + 1] = message
   self._passed[message] = true
end

-- Every turn's options: the caller's, behind those of an app. What is wrong with them is blamed on the line that calls
-- the method that asks.
local function options_of(self, where, opts)
   if self._options then opts = self._options(opts) end
   opts = opts or {}
   local fine, message, code = self.engine:_check_options(where, opts, 2)
   if not fine then return nil, message, code end
   return opts
end

-- Begin a turn; events: what filters found in its message.
local function begin(self, opts, events)
   local ids, text, format = fit(self, opts)
   if not ids then return nil, text, format end
   if self._format then format = formats.variant(self._format, #self._tools > 0, true) end
   local given = {}
   for key, value in pairs(opts) do given[key] = value end
   if format.special then given.special = true end
   ids.filtered = events
   local request, message, code = self.engine:generate(ids, given)
   if not request then return nil, message, code end
   return Reply.new(request, format, formats.first(format, text), {
      is_string = is_string_of(self),
      new_id = function()
         self._calls = self._calls + 1
         return ("call%05d"):format(self._calls)         -- nine letters and digits: Mistral's templates insist on it
      end,
      ended = function(reply) remember(self, reply) end,
   })
end

-- Messages that no turn has had yet, and one more, behind the filters: events, that one | nil, message, code. Then
-- nothing has changed.
local function pass(self, opts, one_more)
   local list, fresh, places = self.messages, {}, {}
   for i, message in ipairs(list) do
      if not self._passed[message] then fresh[#fresh + 1], places[#places + 1] = message, i end
   end
   fresh[#fresh + 1] = one_more
   local passed, events, code = self.engine:_filter_messages(opts.filters, fresh)
   if not passed then return nil, events, code end
   for i, message in ipairs(passed) do
      self._passed[message] = true
      if places[i] then list[places[i]] = message end
   end
   return events, passed[#passed]
end

-- A message passes the filters first, and enters the history as they leave it; it is taken back when its turn cannot
-- begin.
local function begin_with(self, message, opts)
   local events, passed, code = pass(self, opts, message)
   if not events then return nil, passed, code end
   local before = self.messages
   before[#before + 1] = passed
   local fine, reply, why
   fine, reply, why, code = pcall(begin, self, opts, events)
   if not fine or not reply then
      before[#before] = nil
      self.messages = before
   end
   if not fine then error(reply, 0) end
   return reply, why, code
end

--- Say something and let the model answer. The answer enters the history when it has been read to its end. With the
-- option `filters`, what the history has that no turn has had yet passes them too.
-- @tparam string text
-- @tparam[opt] table opts as for @{perigee.engine:generate}
-- @treturn ?perigee.reply nil, message, code
-- @usage for piece in chat:say("Tell me a story about a fox."):pieces() do io.write(piece) end
function Chat:say(text, opts)
   options.expect("chat:say", "text", text, "string", 2)
   local given, message, code = options_of(self, "chat:say", opts)
   if not given then return nil, message, code end
   return begin_with(self, { role = "user", content = text }, given)
end

--- Let the model speak again, after results of tools or changes of the history. Messages that no turn has had yet pass
-- the filters first.
-- @tparam[opt] table opts as for @{perigee.engine:generate}
-- @treturn ?perigee.reply nil, message, code
function Chat:continue(opts)
   if #self.messages == 0 then return nil, "chat:continue: nothing has been said yet", "invalid" end
   local given, events, message, code
   given, message, code = options_of(self, "chat:continue", opts)
   if not given then return nil, message, code end
   events, message, code = pass(self, given)
   if not events then return nil, message, code end
   return begin(self, given, events)
end

--- Hand in what a tool gave.
-- @tparam table call as the reply named it
-- @param content text, or a table, which becomes JSON
-- @treturn perigee.chat itself
function Chat:tool(call, content)
   options.expect("chat:tool", "call", call, "table", 2)
   if type(content) ~= "string" then content = json.encode(content) end
   self.messages[#self.messages + 1] = { role = "tool", tool_call_id = call.id, name = call.name, content = content }
   return self
end

-- Call one tool: its text, or what went wrong, in words that the model can use.
local function call_tool(self, call)
   local known = self._by_name[call.name]
   if not known or not known.call then return ("error: there is no tool %q"):format(call.name) end
   local fine, result, message = pcall(known.call, call.input)
   if not fine then return "error: " .. tostring(result) end
   if result == nil then return "error: " .. tostring(message or "the tool gave nothing") end
   return result
end

--- Say something, call the tools that the model asks for, and go on until it answers.
-- @tparam string text
-- @tparam[opt] table opts as for @{perigee.engine:generate}; `steps`: rounds of tools at most, default 8; `watch`:
-- function of each call and its result
-- @treturn ?string the answer; nil, message, code
-- @treturn perigee.reply.result of the last round
-- @usage print(chat:run("What is 17 * 23?", { max_new = 200 }))
function Chat:run(text, opts)
   options.expect("chat:run", "text", text, "string", 2)
   local given = {}
   for key, value in pairs(opts or {}) do given[key] = value end
   local steps, watch = given.steps or 8, given.watch
   given.steps, given.watch = nil, nil
   local reply, message, code = self:say(text, given)
   for step = 1, steps + 1 do
      if not reply then return nil, message, code end
      local result
      result, message, code = reply:result()
      if not result then return nil, message, code end
      if #result.tool_calls == 0 then return result.text, result end
      if step > steps then break end
      for _, call in ipairs(result.tool_calls) do
         local answer = call_tool(self, call)
         if watch then watch(call, answer) end
         self:tool(call, answer)
      end
      reply, message, code = self:continue(given)
   end
   return nil, ("after %d rounds of tools the model still asks for more"):format(steps), "limit"
end

--- Forget all that was said, but for the system message.
-- @treturn perigee.chat itself
function Chat:clear()
   local first = self.messages[1]
   self.messages = { first and first.role == "system" and first or nil }
   return self
end

function Chat:__tostring()
   return ("perigee.chat, %d messages, %d tools"):format(#self.messages, #self._tools)
end

return Chat
