--- Filters between an engine and the reader of a request.
--
-- Private to the module. Tokens come in with their bytes, go through the stack of filters, and become events when they
-- are done with. A token taken back has never been an event. The engine runs `lead` tokens beyond those that are done
-- with, where a filter may rewind; what it made of a text that a filter then ended counts as computed all the same.
-- @module perigee.filter.reader
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"
local Stack = require "perigee.filter.stack"

local C, err = lib.C, lib.err

local Reader = {}
Reader.__index = Reader

--- Tokens that an engine may run ahead of filters that rewind: enough that it never waits for a reader that keeps up.
Reader.LEAD = 24

local pair = ffi.new "int32_t[2]"

--- Whether a list of filters may take tokens back.
-- @tparam {perigee.filter,...} filters
-- @treturn boolean
function Reader.rewinds(filters)
   for _, filter in ipairs(filters) do
      if filter.times > 0 then return true end
   end
   return false
end

--- The event that tells of a match.
-- @tparam match match
-- @tparam string on "output" or "prompt"
-- @tparam number attempt
-- @treturn event
function Reader.event(match, on, attempt)
   return {
      kind = "filter", filter = match.filter, category = match.category, action = match.action, text = match.text,
      first = match.first, last = match.last, on = on, attempt = attempt,
   }
end

-- Take back the tokens from number k on.
local function rewind(self, k)
   local handle = self.request.engine._handle
   if not handle or C.pg_rewind(handle, self.request.id, k - 1, self.ids[k], err) < 0 then return false end
   for n = k, #self.ids do self.ids[n], self.choices[n] = nil, nil end
   self.attempt = self.attempt + 1
   return true
end

--- Begin.
-- @tparam perigee.request request
-- @tparam {perigee.filter,...} filters in declared order
-- @tparam table opts options of the generation
-- @treturn reader
function Reader.new(request, filters, opts)
   local self = setmetatable({
      request = request, ids = {}, choices = {}, delivered = 0, attempt = 0, ended = false,
      special = opts.special and 1 or 0, ignore_eos = opts.ignore_eos or false,
      leads = Reader.rewinds(filters), acknowledged = 0,
   }, Reader)
   self.stack = Stack.new(filters, self.leads and function(k) return rewind(self, k) end)
   return self
end

--- How many bytes a token adds to a text, whole characters or not. Behind itself it does not begin the text.
-- @tparam number id
-- @treturn number
function Reader:bytes_of(id)
   local tokenizer = C.pg_engine_tokenizer(self.request.engine._handle)
   if not self.ignore_eos and C.pg_token_is_eog(tokenizer, id) == 1 then return 0 end
   pair[0], pair[1] = id, id
   return C.pg_decode(tokenizer, pair, 2, self.special, nil, 0, nil)
      - C.pg_decode(tokenizer, pair, 1, self.special, nil, 0, nil)
end

local function token_event(self, event)
   local n = self.delivered + 1
   self.delivered = n
   event.token, event.logprobs = self.ids[n], self.choices[n]
end

-- Hand on what the stack has released, and the tokens that are done with; the first of these go along with the texts.
local function deliver(self)
   local stack, request = self.stack, self.request
   local settled = math.min(stack:settled(), #self.ids)
   for i = 1, stack.n_out do
      local what = stack.out[i]
      if type(what) == "string" then
         local event = { kind = "text", text = what, attempt = self.attempt }
         if self.delivered < settled then token_event(self, event) end
         request:deliver(event)
      else
         request:deliver(Reader.event(what, "output", self.attempt))
      end
   end
   while self.delivered < settled do
      local event = { kind = "text", text = "", attempt = self.attempt }
      token_event(self, event)
      request:deliver(event)
   end
end

-- A step of the stack; false: the stream is over.
local function step(self, method, text)
   local stack = self.stack
   local fine, message = stack:try(method, text)
   if not fine then
      self.ended = true
      self.request:fail(message, "invalid")
      self.request:stop()
      return false
   end
   deliver(self)
   if stack.blocked then
      self.ended = true
      self.request:stop()
   end
   return not self.ended
end

local function acknowledge(self, n)
   if not self.leads or n <= self.acknowledged and not self.ended then return end
   self.acknowledged = n
   local handle = self.request.engine._handle
   if handle then C.pg_acknowledge(handle, self.request.id, n) end
end

--- Take a text of the engine.
-- @tparam event event of kind "text"; `bytes`: of its token; `final`: the engine has ended it, and waits to be told
-- whether a filter takes some of it back
function Reader:text(event)
   if self.ended or event.attempt < self.attempt then return end
   local stack, token = self.stack, event.token
   if token then
      local n = #self.ids + 1
      self.ids[n], self.choices[n] = token, event.logprobs
      stack:token(event.bytes)
   end
   if not step(self, "push", event.text) then return end
   if self.leads and event.final and not stack.rewound then self:finish() end
   if not stack.blocked and not stack.rewound then acknowledge(self, stack:settled()) end
   if stack.rewound then self.acknowledged = stack.tokens end
end

--- The engine's text is at its end.
function Reader:finish()
   if self.ended then return end
   if step(self, "finish") and not self.stack.rewound then self.ended = true end
end

--- The match that ended the text, if one did.
-- @treturn ?match
function Reader:blocked() return self.stack.blocked or nil end

return Reader
