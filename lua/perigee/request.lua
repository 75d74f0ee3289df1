--- One running generation: read it, wait for it, or stop it. Made by @{perigee.engine:generate}.
--
-- Its events arrive through the engine's poll, together with those of all other requests, and wait here until they are
-- read. Filters look at them where they are read: a filter's functions may wait, for another request of the same engine
-- too, and only who reads that text waits with them. A request that is dropped unread is cancelled when Lua
-- collects it.
-- @classmod perigee.request
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local reading = require "perigee.reading"

local C = lib.C
local push = reading.push

local Request = {}
Request.__index = Request

local FINISH = {
   [C.PG_FINISH_STOP] = "stop", [C.PG_FINISH_LENGTH] = "length",
   [C.PG_FINISH_CANCELLED] = "cancelled", [C.PG_FINISH_DEADLINE] = "deadline",
}

--- What happened to a request. The last one has the kind "done" or "fail".
-- @table event
-- @tfield string kind "text", "filter", "done" or "fail"
-- @tfield ?string text of "text": whole UTF-8 characters, may be ""; of "filter": what matched
-- @tfield ?number token of "text": the id that was chosen; nil for text that had been held back. With filters, ids come
-- when they are certain to stay
-- @tfield ?number attempt of "text", "filter" and "done": how often the request had been rewound
-- @tfield ?choice logprobs of "text", when the request asked for them
-- @tfield ?string filter of "filter": its name
-- @tfield ?string category of "filter"
-- @tfield ?string action of "filter": what was done, "block", "mask", "rewind" or "flag"
-- @tfield ?number first of "filter": index of the first byte that matched, in the text as the model made it, from 1
-- @tfield ?number last of "filter"
-- @tfield ?string on of "filter": "output" or "prompt"
-- @tfield ?string finish of "done": "stop" (end token or stop string), "length" (max_new, or the context is full),
-- "filter" (one blocked), "cancelled" or "deadline"
-- @tfield ?table usage of "done", in tokens: prompt, cached (of the prompt, not computed anew), completion, dropped
-- (generated and taken back, not part of completion)
-- @tfield ?table timings of "done", in ms: queue, prefill, decode
-- @tfield ?table experts of "done", distinct (layer, expert) pairs: used by the generated tokens, all in the model
-- @tfield ?number|string seed of "done": the one used; decimal digits when a Lua number cannot hold it
-- @tfield ?string message of "fail": why the engine gave the request up
-- @tfield ?string code of "fail": "memory", "device" ...

--- A chosen token and what else was likely.
-- @table choice
-- @tfield number token id
-- @tfield number logprob ln p under the unmodified softmax
-- @tfield {table,...} top the most likely others, each with token and logprob

--- What a finished request gave.
-- @table result
-- @tfield string text all of it, as filters leave it
-- @tfield {number,...} tokens ids, those of masked text included, those taken back or behind a block not
-- @tfield string finish as in @{event}
-- @tfield table usage as in @{event}
-- @tfield table timings as in @{event}
-- @tfield table experts as in @{event}
-- @tfield ?{choice,...} logprobs one for each token, when the request asked for them
-- @tfield number|string seed as in @{event}
-- @tfield ?{event,...} filters what they did, when the request had some

--- The request `id` of an engine.
-- @tparam perigee.engine engine
-- @tparam number id
-- @tparam boolean logprobs whether they were asked for
-- @treturn perigee.request
-- @local
function Request.new(engine, id, logprobs)
   local self = setmetatable(reading.begin {
      id = id, engine = engine, _texts = {}, _tokens = {}, _logprobs = logprobs and {} or nil,
   }, Request)
   self._guard = lib.guard(function()
      if engine._handle then C.pg_cancel(engine._handle, id, nil) end
   end)
   return self
end

--- How many tokens have come so far, read or not; with filters, as far as these have looked.
-- @treturn number
-- @local
function Request:count() return #self._tokens end

--- Its last event once that has come, read or not; with filters, once these have looked at it.
-- @treturn ?event
-- @local
function Request:ended() return self._end end

local function choice(logprobs, n)
   local top = {}
   for i = 1, n - 1 do top[i] = { token = logprobs[i].token, logprob = logprobs[i].logprob } end
   return { token = logprobs[0].token, logprob = logprobs[0].logprob, top = top }
end

--- Put filters between the engine and whoever reads; before anything has come.
-- @tparam table reader
-- @tparam {event,...} events what they found in the prompt
-- @local
function Request:watch(reader, events)
   self._reader, self._filters, self._raw = reader, {}, reading.begin {}
   for _, event in ipairs(events) do self:deliver(event) end
end

--- Let whoever reads have an event of kind "text" or "filter".
-- @tparam event event
-- @local
function Request:deliver(event)
   if event.kind == "text" then
      self._texts[#self._texts + 1] = event.text
      if event.token then
         self._tokens[#self._tokens + 1] = event.token
         if event.logprobs then self._logprobs[#self._tokens] = event.logprobs end
      end
   else
      self._filters[#self._filters + 1] = event
   end
   push(self, event)
end

-- The last event of what is read: of the request, or of what waits for its filters.
local function finish(queue, event)
   queue._end = event
   push(queue, event)
end

local function failure(message, code) return { kind = "fail", message = message, code = code } end

-- An event of the library as a table; of a text, filters want to know its token's bytes and whether it is the last.
local function event_of(self, c)
   if c.kind == C.PG_EVENT_TEXT then
      local token = c.token >= 0 and c.token or nil
      return {
         kind = "text", text = ffi.string(c.text, c.n_text), attempt = c.attempt, token = token,
         logprobs = token and self._logprobs and c.n_logprobs > 0 and choice(c.logprobs, c.n_logprobs) or nil,
         bytes = token and self._reader and self._reader:bytes_of(token), final = self._reader and c.finish ~= 0 or nil,
      }
   elseif c.kind == C.PG_EVENT_DONE then
      return {
         kind = "done", finish = FINISH[c.finish], attempt = c.attempt,
         usage = { prompt = c.n_prompt, cached = c.n_cached, completion = c.n_completion, dropped = c.n_dropped },
         timings = { queue = c.queue_ms, prefill = c.prefill_ms, decode = c.decode_ms },
         experts = { used = c.experts_used, all = c.experts_all },
         seed = options.seed_value(c.seed_low, c.seed_high),
      }
   end
   return failure(ffi.string(c.text, c.n_text), lib.code_name(c.finish))
end

-- What has come waits for the filters, or goes to whoever reads.
local function keep(self, event)
   local raw = self._raw
   if event.kind ~= "text" then
      finish(raw or self, event)
   elseif raw then
      push(raw, event)
   else
      self:deliver(event)
   end
end

--- Take over one event of the library; called by @{perigee.engine:poll}.
-- @tparam cdata c `pg_event`
-- @local
function Request:accept(c)
   if not self._end then keep(self, event_of(self, c)) end -- else a filter failed, and the engine has not stopped yet
end

--- End it with a reason, now.
-- @tparam string message
-- @tparam string code
-- @local
function Request:fail(message, code) finish(self, failure(message, code)) end

--- Nothing more comes, for a reason; what has come can still be read.
-- @tparam string message
-- @tparam string code
-- @local
function Request:lose(message, code)
   local queue = self._raw or self
   if not queue._end then finish(queue, failure(message, code)) end
end

-- Filters look at the next event.
local function filter(self, event)
   local reader = self._reader
   if event.kind == "text" then return reader:text(event) end
   if event.kind == "done" then
      reader:finish()
      if self._end then return end                      -- a filter failed at the very end
      if reader:blocked() then event.finish = "filter" end
   end
   finish(self, event)
end

-- Filters, if there are any, look at what has come until there is something to read; whether there is.
local function look(self)
   local raw = self._raw
   if raw then
      self._looking = true
      while reading.ready(raw) and not self._end and not reading.ready(self) do filter(self, reading.pop(raw)) end
      self._looking = false
   end
   return reading.ready(self)
end

-- A failing poll ends the request: readers have one place to look.
local function more(self, timeout_ms)
   if self._looking then
      if timeout_ms >= 0 then return false end
      error("request: a filter's function waits for the text that it is looking at", 0)
   end
   if look(self) then return true end
   local n, message, code = self.engine:poll(timeout_ms)
   if not n then self:fail(message, code) end
   return look(self)                                    -- what has come may be other requests' events alone
end

local take = reading.methods(Request, "request", more)

--- The next event, for programs with an event loop of their own.
-- @tparam[opt=-1] number timeout_ms how long to wait at most: 0 not at all, below 0 until there is one
-- @treturn ?event nil when none has come in time, or when the request is over: then `request.done` is true
-- @usage local event = request:next(0)
-- @function Request:next

--- Read all events as they come; the last one is "done" or "fail".
-- @treturn function iterator over @{event} tables
-- @usage
-- for event in request:events() do
--    if event.kind == "text" then io.write(event.text) end
-- end
-- @function Request:events

--- Read the text as it comes.
-- @treturn function iterator over strings, each of whole UTF-8 characters
-- @raise if the engine gave the request up (no KV page, device lost); the message says which
-- @usage for piece in engine:generate("Hello", { max_new = 32 }):pieces() do io.write(piece) end
-- @function Request:pieces

--- Wait for the end. What @{pieces} or @{events} has read already is in the result as well.
-- @treturn ?result nil, message, code when the engine gave the request up
-- @usage local result = assert(engine:generate("Hello", { max_new = 32 }):result())
function Request:result()
   while not self.done do take(self, -1) end
   local last = self._end
   if last.kind == "fail" then return nil, last.message, last.code end
   return {
      text = table.concat(self._texts), tokens = self._tokens, finish = last.finish, usage = last.usage,
      timings = last.timings, experts = last.experts, seed = last.seed,
      logprobs = self._logprobs, filters = self._filters,
   }
end

--- Ask the engine to make no more of it; what it answers still comes.
-- @local
function Request:stop()
   if self.engine._handle then C.pg_cancel(self.engine._handle, self.id, nil) end
end

--- Ask it to end. What was generated stays readable; the last event then says "cancelled".
-- @treturn ?boolean true, also when it has ended already; nil, message, code
-- @usage request:cancel()
function Request:cancel()
   if self._end then return true end
   if not self.engine._handle then return nil, "the engine is closed", "invalid" end
   local rc = C.pg_cancel(self.engine._handle, self.id, lib.err)
   if rc < 0 then return lib.fail(rc) end
   return true
end

function Request:__tostring()
   local last = self._end
   local state = not last and "running" or last.kind == "fail" and "failed: " .. last.message or last.finish
   return ("perigee.request %d, %d tokens, %s"):format(self.id, #self._tokens, state)
end

return Request
