--- An open model: generates, scores, and answers questions about itself. Made by @{perigee.open}.
--
-- The engine works on a thread of its own; this class hands over requests and collects what comes back. Nothing happens
-- in Lua unless the program polls, which all reading methods of @{perigee.request} do.
-- @classmod perigee.engine
local ffi = require "ffi"
local lib = require "perigee.ffi"
local model = require "perigee.model"
local options = require "perigee.options"
local Request = require "perigee.request"
local Tokenizer = require "perigee.tokenizer"

local C, err = lib.C, lib.err

local Engine = {}
Engine.__index = Engine

local OPEN = {
   device = "string", threads = "integer", context = "integer", kv_tokens = "integer", kv_type = "string",
   precision = "string", batch = "integer", queue = "integer", mmap = "boolean", mlock = "boolean", force = "boolean",
   prefix_cache = "boolean", progress = "function",
}
local OPEN_FIELDS = {
   "device", "threads", "context", "kv_tokens", "kv_type", "precision", "batch", "queue", "force", "prefix_cache",
   mmap = "use_mmap", mlock = "use_mlock",
}

local GENERATE = {
   max_new = "integer", temperature = "number", top_k = "integer", top_p = "number", min_p = "number",
   typical_p = "number", repeat_penalty = "number", repeat_last_n = "integer", presence_penalty = "number",
   frequency_penalty = "number", seed = "seed", stop = "strings", logit_bias = "biases", logprobs = "integer",
   special = "boolean", priority = "integer", chunk = "integer", deadline_ms = "number", ignore_eos = "boolean",
   cache_salt = "string", filters = "any", route = "any", tenant = "string", grammar = "grammar",
   json_schema = "grammar",
   later = {
      dry = true, xtc = true, mirostat = true, adapters = true, session = true,
   },
}
local GENERATE_FIELDS = {
   "max_new", "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n",
   "presence_penalty", "frequency_penalty", "logprobs", "special", "priority", "chunk", "deadline_ms", "ignore_eos",
   "cache_salt",
}

-- Options that more than a field of pg_request stands for, by name: @{Engine.add_option}.
local meanings = {}

-- Objects that every engine has one of, by name: @{Engine.add_member}.
local members = {}

-- What an engine does beyond generating, each in lua/perigee/engine/NAME.lua: a function that adds to the class.
local PARTS = {
   "chat",
   "template",
   "filters",
   "experts",
   "policies",
   "route",
   "constrain",
}

local LOGITS = { chunk = "integer", decode = "integer" }

local N_EVENTS = 64
local request = ffi.new "pg_request"
local anchor = {}          -- what `request` points at stays referenced from here until it is submitted
local out_opening, out_engine = ffi.new "pg_opening *[1]", ffi.new "pg_engine *[1]"
local out_id, out_logits, out_vocab = ffi.new "int32_t[1]", ffi.new "const float *[1]", ffi.new "int32_t[1]"

-- The memory behind logits is the engine's: a pointer that is still held keeps its engine.
local logits_owner = setmetatable({}, { __mode = "k" })

local function closed() return nil, "the engine is closed", "invalid" end

--- Open a model; public as @{perigee.open}.
-- @local
function Engine.open(path, opts, level)
   local given, message, code = options.check("perigee.open", OPEN, opts, level + 1)
   if not given then return nil, message, code end
   local file
   file, message, code = model.resolve(path)
   if not file then return nil, message, code end
   local c = ffi.new "pg_options"
   C.pg_options_init(c)
   options.copy(c, given, OPEN_FIELDS)
   local rc = C.pg_open_begin(file, c, out_opening, err)
   if rc < 0 then return lib.fail(rc) end
   local opening = out_opening[0]
   lib.wait(opening, C.pg_open_poll, C.pg_open_cancel, given.progress, "load")
   rc = C.pg_open_finish(opening, out_engine, err)
   if rc < 0 then return lib.fail(rc) end
   local self = setmetatable({
      path = file, _handle = out_engine[0], _requests = setmetatable({}, { __mode = "v" }),
      _events = ffi.new("pg_event[?]", N_EVENTS),     -- its own: another engine is polled while these are handed out
   }, Engine)
   for name, make in pairs(members) do self[name] = make(self) end
   self._guard = lib.guard(function() self:close() end)
   return self
end

--- The settings in force and what the model is.
-- @treturn ?perigee.info nil, message, code
-- @usage for key, value in pairs(engine:info()) do print(key, value) end
function Engine:info()
   if not self._handle then return closed() end
   local c = ffi.new "pg_info"
   local rc = C.pg_engine_info(self._handle, c, err)
   if rc < 0 then return lib.fail(rc) end
   return model.info_table(c, true)
end

--- The engine's tokenizer, good until the engine is closed.
-- @treturn ?perigee.tokenizer nil, message, code
function Engine:tokenizer()
   if not self._handle then return closed() end
   if not self._tokenizer then self._tokenizer = Tokenizer.borrow(self, C.pg_engine_tokenizer(self._handle)) end
   return self._tokenizer
end

--- Text to token ids: @{perigee.tokenizer:encode}.
-- @tparam string text
-- @tparam[opt] table opts
-- @treturn ?{number,...} nil, message, code
function Engine:encode(text, opts)
   local tokenizer, message, code = self:tokenizer()
   if not tokenizer then return nil, message, code end
   return tokenizer:encode(text, opts)
end

--- Token ids to text: @{perigee.tokenizer:decode}.
-- @tparam {number,...} ids
-- @tparam[opt] table opts
-- @treturn ?string nil, message, code
function Engine:decode(ids, opts)
   local tokenizer, message, code = self:tokenizer()
   if not tokenizer then return nil, message, code end
   return tokenizer:decode(ids, opts)
end

-- A prompt as ids in scratch memory: cdata, n | nil, message, code.
local function prompt_ids(self, where, prompt, special, level)
   if type(prompt) == "string" then
      if prompt == "" then return nil, where .. ": the prompt is empty", "invalid" end
      return self:tokenizer():ids(prompt, special)
   end
   if type(prompt) ~= "table" then
      error(("%s: the prompt must be a string or a list of token ids, not a %s"):format(where, type(prompt)), level + 1)
   end
   if type(prompt[1]) == "table" then return self:_message_ids(where, prompt) end
   if #prompt == 0 then return nil, where .. ": the prompt is empty", "invalid" end
   local ids, n, code = options.ids(where, prompt, level + 1)
   return ids, n, code
end

-- Fill the fields that are no plain numbers.
local function fill_lists(given)
   if given.seed then
      request.seed_low, request.seed_high = options.seed_halves(given.seed)
      request.has_seed = 1
   end
   if given.stop then
      anchor.list = type(given.stop) == "string" and { given.stop } or given.stop
      anchor.stop = options.strings(anchor.list)
      request.stop, request.n_stop = anchor.stop, #anchor.list
   end
   if given.logit_bias then
      local n = 0
      for _ in pairs(given.logit_bias) do n = n + 1 end
      anchor.bias = ffi.new("pg_bias[?]", math.max(n, 1))
      request.bias, request.n_bias = anchor.bias, n
      for id, bias in pairs(given.logit_bias) do
         n = n - 1
         anchor.bias[n].token, anchor.bias[n].bias = id, bias
      end
   end
end

--- Give every engine an object of its own: `engine.NAME = make(engine)` when it is opened.
-- @tparam string name
-- @tparam function make
-- @local
function Engine.add_member(name, make) members[name] = make end

--- Say what an option of @{Engine:generate} means; its name and kind stand in GENERATE.
-- @tparam string name
-- @tparam table meaning functions, any of them: `prompt(engine, value, prompt)`, first of all: returns the prompt to
-- use instead, or nil, message, code; `fill(engine, value, request, anchor)`, before it is submitted: sets fields of
-- the pg_request, keeps in anchor what they point at, returns true or nil, message, code; `started(engine, value,
-- request, given)`: with the @{perigee.request} that began and all options
-- @local
function Engine.add_option(name, meaning) meanings[name] = meaning end

-- What the options make of a prompt.
local function change_prompt(self, given, prompt)
   for name, meaning in pairs(meanings) do
      if given[name] ~= nil and meaning.prompt then
         local message, code
         prompt, message, code = meaning.prompt(self, given[name], prompt)
         if prompt == nil then return nil, message, code end
      end
   end
   return prompt
end

-- Call fill or started of all options that have one.
local function apply(self, what, given, subject)
   for name, meaning in pairs(meanings) do
      local value, call = given[name], meaning[what]
      if value ~= nil and call then
         local fine, message, code = call(self, value, subject, what == "fill" and anchor or given)
         if what == "fill" and not fine then return nil, message, code end
      end
   end
   return true
end

--- Check options of a generation before there is one.
-- @local
function Engine:_check_options(where, opts, level) return options.check(where, GENERATE, opts, level + 1) end

local function submit(self, where, prompt, opts, level)
   local given, message, code = options.check(where, GENERATE, opts, level + 1)
   if not given then return nil, message, code end
   if not self._handle then return closed() end
   local changed
   changed, message, code = change_prompt(self, given, prompt)
   if changed == nil and prompt ~= nil then return nil, message, code end
   prompt = changed
   local ids, n, why = prompt_ids(self, where, prompt, given.special, level + 1)
   if not ids then return nil, n, why end
   C.pg_request_init(self._handle, request)
   request.prompt, request.n_prompt = ids, n
   options.copy(request, given, GENERATE_FIELDS)
   fill_lists(given)
   local fine
   fine, message, code = apply(self, "fill", given, request)
   if not fine then return nil, message, code end
   local rc = C.pg_submit(self._handle, request, out_id, err)
   if rc == C.PG_EFULL then               -- ended requests leave the queue when their last events are collected
      self:poll(0)
      rc = C.pg_submit(self._handle, request, out_id, err)
   end
   if rc < 0 then return lib.fail(rc) end
   local started = Request.new(self, out_id[0], (given.logprobs or 0) > 0)
   self._requests[started.id] = started
   apply(self, "started", given, started)
   return started
end

--- How to generate; what is left out has the model's own default, else the engine's.
-- @table generate_options
-- @tfield ?number max_new tokens at most; default: until the context is full
-- @tfield ?number temperature 0: always the most likely token; default 0.8
-- @tfield ?number top_k draw from the k most likely; 0: off; default 40
-- @tfield ?number top_p draw from the most likely that sum up to this; 1: off; default 0.95
-- @tfield ?number min_p leave out what is less likely than this part of the best; 0: off; default 0.05
-- @tfield ?number typical_p locally typical sampling; 1: off; default 1
-- @tfield ?number repeat_penalty divides logits of tokens seen lately; 1: off; default 1
-- @tfield ?number repeat_last_n tokens that penalties look back on; below 0: all; default 64
-- @tfield ?number presence_penalty subtracted from logits of tokens seen lately; default 0
-- @tfield ?number frequency_penalty the same, times how often; default 0
-- @tfield ?number|string seed whole number up to 2^53, or decimal digits up to 2^64 - 1; the same seed, model, options
-- and build give the same tokens; default: drawn, and reported in the result
-- @tfield ?string|{string,...} stop texts that end the generation; the text ends before them
-- @tfield ?table logit_bias { [token id] = added to its logit }; -math.huge bans a token
-- @tfield ?number logprobs n: report ln p of each chosen token and of the n - 1 others most likely
-- @tfield ?boolean special control tokens written in a text prompt are recognised, and appear in the text; never for
-- what users write; default false
-- @tfield ?number priority a larger one goes first; default 0
-- @tfield ?number chunk prompt tokens a step at most; 0, the default: the engine's choice; what comes out is the same
-- @tfield ?number deadline_ms from now; 0: none
-- @tfield ?boolean ignore_eos end tokens do not end it; default false
-- @tfield ?string cache_salt at most 1024 bytes: what was computed of a prompt is shared only with prompts of the same
-- salt, so that nobody learns from timings what others have asked; default: with those that have none
-- @tfield ?string|perigee.filter|{string|perigee.filter,...} filters names of engine.filters or filters, in declared
-- order: what may be read of the text, see @{perigee.filter}.
-- They look at the text where the request is read: nobody filters one that is only polled
-- @tfield ?table|string route its own routing policy: what @{Engine:route} takes; default: the engine's
-- @tfield ?string tenant on whose behalf, for policies; at most 63 bytes
-- @tfield ?string|perigee.grammar grammar what the text may be, GBNF: only tokens that fit are drawn, an end token
-- only where a text is complete; where nothing can follow it finishes with "stop"
-- @tfield ?string|perigee.grammar json_schema the same from a JSON schema (its text); log-probabilities stay those of
-- the model

--- Begin a generation and return at once; the engine's thread does the work.
-- @tparam string|{number,...}|{table,...} prompt text, a list of token ids, or messages `{ role =, content = }`, which
-- the model's chat template puts into a prompt (@{perigee.engine:chat} keeps them for you)
-- @tparam[opt] generate_options opts
-- @treturn ?perigee.request nil, message, code ("full": poll, then try again; "limit": longer than the context;
-- "filter": one does not let the prompt pass)
-- @usage for piece in engine:generate("Once upon a time", { max_new = 64 }):pieces() do io.write(piece) end
function Engine:generate(prompt, opts)
   local started, message, code = submit(self, "engine:generate", prompt, opts, 2)
   return started, message, code
end

--- The same, waited for.
-- @tparam string|{number,...} prompt
-- @tparam[opt] generate_options opts
-- @treturn ?string text; nil, message, code
-- @treturn ?perigee.request.result
-- @usage print(assert(engine:complete("Once upon a time", { max_new = 64 })))
function Engine:complete(prompt, opts)
   local started, message, code = submit(self, "engine:complete", prompt, opts, 2)
   if not started then return nil, message, code end
   local result, why, name = started:result()
   if not result then return nil, why, name end
   return result.text, result
end

--- How likely the model finds a text.
-- @tparam string|{number,...} text at least two tokens; text is encoded as a prompt would be
-- @treturn ?{number,...} logprobs[i] = ln p(ids[i + 1] | ids[1 .. i]), i = 1 .. #ids - 1; nil, message, code
-- @treturn ?{number,...} ids
-- @usage
-- local logprobs, ids = assert(engine:score("Once upon a time"))
-- local sum = 0
-- for _, logprob in ipairs(logprobs) do sum = sum + logprob end
-- print("perplexity", math.exp(-sum / #logprobs))
function Engine:score(text)
   if not self._handle then return closed() end
   local ids, n, code = prompt_ids(self, "engine:score", text, false, 2)
   if not ids then return nil, n, code end
   if n < 2 then return nil, "engine:score: it takes two tokens or more, there is " .. n, "invalid" end
   local data = ffi.new("float[?]", n - 1)
   local rc = C.pg_score(self._handle, ids, n, data, err)
   if rc < 0 then return lib.fail(rc) end
   local logprobs, list = {}, {}
   for i = 1, n do list[i] = ids[i - 1] end
   for i = 1, n - 1 do logprobs[i] = data[i - 1] end
   return logprobs, list
end

--- Logits of every position of one sequence, computed beside whatever else runs.
-- @tparam {number,...} ids
-- @tparam[opt] table opts `chunk`: rows a step at most (the bits do not depend on it); `decode`: from this index on,
-- counted from 0, tokens go one by one through the decode class; default: none do
-- @treturn ?cdata `const float *` [T, V], row t after the first t + 1 ids; good until the next call or the engine's
-- close; nil, message, code
-- @treturn ?number T rows
-- @treturn ?number V vocabulary
-- @usage local logits, T, V = assert(engine:logits(ids)); print(logits[(T - 1) * V + 42])
function Engine:logits(ids, opts)
   options.expect("engine:logits", "ids", ids, "table", 2)
   local given, message, code = options.check("engine:logits", LOGITS, opts, 2)
   if not given then return nil, message, code end
   if not self._handle then return closed() end
   local data, n, why = options.ids("engine:logits", ids, 2)
   if not data then return nil, n, why end
   local rc = C.pg_logits(self._handle, data, n, given.chunk or 0, given.decode or n, out_logits, out_vocab, err)
   if rc < 0 then return lib.fail(rc) end
   local logits = out_logits[0]
   logits_owner[logits] = self
   return logits, n, out_vocab[0]
end

--- Counters since the engine was opened.
-- @table stats
-- @tfield number prompt_tokens computed so far
-- @tfield number generated_tokens
-- @tfield number steps
-- @tfield number requests
-- @tfield number prefill_seconds in steps with prompt tokens
-- @tfield number decode_seconds in steps without
-- @tfield number busy_seconds in all steps
-- @tfield number last_seconds in the last one
-- @tfield number steered_rows that had a policy
-- @tfield number faulty_rows that it left unusable in a layer, or when sampled: they went as if there were none
-- @tfield number waiting requests now
-- @tfield number running requests now
-- @tfield number kv_pages_used held by requests now
-- @tfield number kv_pages in all
-- @tfield number kv_page_tokens tokens in a page
-- @tfield number kv_pages_cached of earlier prompts, kept to be found again until somebody needs the room
-- @tfield number cached_tokens of prompts, found and not computed

local STATS = {
   "prompt_tokens", "generated_tokens", "steps", "requests", "prefill_seconds", "decode_seconds", "busy_seconds",
   "last_seconds", "steered_rows", "faulty_rows",
   "waiting", "running", "kv_pages_used", "kv_pages", "kv_page_tokens", "kv_pages_cached", "cached_tokens",
}

--- Counters since the engine was opened.
-- @treturn ?stats nil, message, code
-- @usage print(engine:stats().waiting)
function Engine:stats()
   if not self._handle then return closed() end
   local c, stats = ffi.new "pg_stats", {}
   local rc = C.pg_engine_stats(self._handle, c, err)
   if rc < 0 then return lib.fail(rc) end
   for _, name in ipairs(STATS) do stats[name] = c[name] end
   return stats
end

--- Collect what has happened and hand it to the requests; for programs with an event loop of their own.
-- @tparam[opt=0] number timeout_ms how long to wait for an event: 0 not at all, below 0 until there is one or nothing
-- is in flight
-- @treturn ?number how many events came; nil, message, code
-- @usage while engine:poll(100) do draw() end
function Engine:poll(timeout_ms)
   if timeout_ms ~= nil then options.expect("engine:poll", "timeout_ms", timeout_ms, "number", 2) end
   local handle = self._handle
   if not handle then return closed() end
   if self._tick then self._tick() end        -- watched files
   local events, requests = self._events, self._requests
   local n = C.pg_poll(handle, timeout_ms or 0, events, N_EVENTS, err)
   if n < 0 then return lib.fail(n) end
   for i = 0, n - 1 do
      local reader = requests[events[i].id]
      if reader then reader:accept(events[i]) end      -- else it was dropped, and is being cancelled
   end
   return n
end

--- An eventfd that is readable while events wait. It is the engine's: do not read or close it; watch it, then @{poll}.
-- @treturn ?number nil, message, code
function Engine:fd()
   if not self._handle then return closed() end
   return C.pg_fd(self._handle)
end

--- Stop the engine and free everything. Requests in flight end with a "fail" event of code "cancelled".
-- @treturn boolean true, also when it is closed already
function Engine:close()
   local handle = self._handle
   if not handle then return true end
   self._handle = nil
   if self._tokenizer then self._tokenizer._handle = nil end
   C.pg_close(handle)
   for _, reader in pairs(self._requests) do reader:lose("the engine was closed", "cancelled") end
   self._requests = {}
   return true
end

-- It also runs as a finalizer, where LuaJIT 2.1 may leave a compiled loop over pairs at its first turn for ever.
jit.off(Engine.close)

function Engine:__tostring()
   local info = self:info()
   if not info then return "perigee.engine (closed)" end
   return ("perigee.engine %s: %s %s, %s of %s weights active, context %d"):format(
      info.name ~= "" and info.name or self.path, info.architecture, info.quantisation,
      model.amount(info.active_parameters), model.amount(info.parameters), info.context)
end

for _, name in ipairs(PARTS) do require("perigee.engine." .. name)(Engine) end

return Engine
