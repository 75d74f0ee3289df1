--- Content filters: words, regular expressions, patterns and classifiers that watch a text while it is made.
--
-- A filter is a value that any number of streams and requests share. On a stream it holds back what could still become
-- a match, byte for byte, and releases everything before that at once; the outcome does not depend on how the text was
-- cut into pieces. Functions of a filter run where the text is read, in the coroutine of who reads it, and may wait
-- there.
-- @module perigee.filter
local fold = require "perigee.filter.fold"
local options = require "perigee.options"
local regex = require "perigee.filter.regex"
local window = require "perigee.filter.window"
local words = require "perigee.filter.words"
local Stack = require "perigee.filter.stack"
local Tape = require "perigee.filter.tape"

local Filter = {}
Filter.__index = Filter

--- What to look for and what to do about it. At least one of words, regex, lpeg, pattern and classify.
-- @table filter_options
-- @tfield string name for messages and events
-- @tfield ?string category what kind of content it is; default: the name
-- @tfield ?string|function action "block" (the default: end the text before the match), "mask" (replace it), "rewind"
-- (take it back and draw other tokens), "flag" (report it only), or function(match) that returns one of these
-- @tfield ?{string,...} words any number of them
-- @tfield ?string|{string,...} regex of libpcre2, with UTF-8 and Unicode properties; matches of no bytes do not count.
-- In a list the first that matches at a place counts; those that are plain text are searched for as words are
-- @tfield ?userdata lpeg pattern, tried at every character
-- @tfield ?string pattern Lua pattern without ^ and $, tried at every character
-- @tfield ?function classify function(text) -> first, last in text; true: all of it; nil: nothing. It sees windows of
-- `max` bytes
-- @tfield ?number max bytes that a match of lpeg, pattern or classify can have; max - 1 are held back
-- @tfield ?number step bytes from one window of classify to the next; default 1. Matches up to max - step + 1 bytes are
-- seen whole
-- @tfield ?boolean ignore_case of words, regex and what is allowed
-- @tfield ?boolean whole_word words count where no letter stands before or after; Han characters do not hinder
-- @tfield ?boolean normalise read full-width letters, digits and signs as half-width ones, in words, regex and what is
-- allowed; write the words and expressions in half width
-- @tfield ?table allow { words = {...}, regex = {...} }, or a list of words: a match within such a span does not count
-- @tfield ?function check function(match) -> boolean: whether a match counts
-- @tfield ?string|function replace for "mask": a text, or function(match) -> text; default: a "*" for each character
-- @tfield ?number times for "rewind" and for functions that return it: how often in a request at most, then it blocks;
-- default 3 for "rewind", 0 for functions
-- @tfield ?{string,...} on what it looks at: "prompt", "output"; default { "output" }

--- A match.
-- @table match
-- @tfield string filter its name
-- @tfield string category
-- @tfield string action what was done: "block", "mask", "rewind" or "flag"
-- @tfield string text
-- @tfield number first index of its first byte in the text as it came, from 1
-- @tfield number last index of its last byte

local OPTIONS = {
   name = "string", category = "string", action = "any", words = "strings", regex = "strings", lpeg = "any",
   pattern = "string", classify = "function", max = "integer", step = "integer", ignore_case = "boolean",
   whole_word = "boolean", normalise = "boolean", allow = "any", check = "function", replace = "any",
   times = "integer", on = "strings",
}
local ALLOW = { words = "strings", regex = "strings" }
local ACTIONS = { block = true, mask = true, rewind = true, flag = true }

local function list_of(value) return type(value) == "string" and { value } or value or {} end

-- Words as the tape shows them.
local function folded(list, map)
   local made = {}
   for i, word in ipairs(list) do
      local tape = Tape.new(map)
      tape:push(require("ffi").cast("const uint8_t *", word), #word)
      made[i] = tape:text(0, tape.stop)
   end
   return made
end

local function add_words(programs, list, given, whole)
   list = list_of(list)
   if #list == 0 then return true end
   for i, word in ipairs(list) do
      if word == "" then return nil, ("word %d is empty"):format(i), "invalid" end
   end
   local case, width = given.ignore_case or false, given.normalise or false
   programs[#programs + 1] = {
      kind = "words", case = case, width = width, program = words.build(folded(list, fold.map(case, width)), whole),
   }
   return true
end

-- Expressions without any sign of their own are words: a thousand of these cost what one does.
local function add_regex(programs, list, given)
   local plain, rest = {}, {}
   for i, source in ipairs(list_of(list)) do
      if source == "" then return nil, ("regex %d is empty"):format(i), "invalid" end
      local text = regex.literal(source)
      if text then plain[#plain + 1] = text else rest[#rest + 1] = source end
   end
   local fine, message, code = add_words(programs, plain, given, false)
   if not fine then return nil, message, code end
   if #rest == 0 then return true end
   local made
   made, message, code = regex.build(rest, given.ignore_case)
   if not made then return nil, message, code end
   for _, program in ipairs(made) do
      programs[#programs + 1] = { kind = "regex", case = false, width = given.normalise or false, program = program }
   end
   return true
end

local function add_windows(programs, given)
   local max, step = given.max, given.step or 1
   local tries = {
      given.pattern and window.pattern(given.pattern), given.lpeg and window.lpeg(given.lpeg),
      given.classify and window.classify(given.classify),
   }
   for _, kind in ipairs { "pattern", "lpeg", "classify" } do
      if given[kind] and not max then
         return nil, ("%s needs max, the most bytes that a match can have"):format(kind), "invalid"
      end
   end
   if given.pattern and (given.pattern:find "^%^" or given.pattern:find "%$$" and not given.pattern:find "%%%$$") then
      return nil, "pattern is tried at every character: leave ^ and $ out", "invalid"
   end
   local wrong = given.pattern and window.fault(given.pattern)
   if wrong then return nil, ("pattern %q: %s"):format(given.pattern, wrong), "invalid" end
   if max and (max < 1 or max > 65536) then return nil, "max must be 1 to 65536 bytes, not " .. max, "invalid" end
   if max and (step < 1 or step > max) then return nil, "step must be 1 to max, not " .. step, "invalid" end
   for i = 1, 3 do
      if tries[i] then
         programs[#programs + 1] = {
            kind = "window", case = false, width = false,
            program = { try = tries[i], max = max, step = i == 3 and step or 1 },
         }
      end
   end
   return true
end

local function add_allowed(self, given, level)
   local allow = given.allow
   if allow == nil then return true end
   if type(allow) ~= "table" then
      error(("perigee.filter: option \"allow\" must be a table, not a %s"):format(type(allow)), level + 1)
   end
   if #allow > 0 then allow = { words = allow } end
   local message, code
   allow, message, code = options.check("allow", ALLOW, allow, level + 1)
   if not allow then return nil, message, code end
   local fine
   fine, message, code = add_words(self.allowed, allow.words, given, given.whole_word)
   if not fine then return nil, message, code end
   return add_regex(self.allowed, allow.regex, given)
end

local function add_sides(self, given)
   for _, side in ipairs(list_of(given.on or "output")) do
      if side ~= "prompt" and side ~= "output" then
         return nil, ("on must list \"prompt\" and \"output\", not %q"):format(side), "invalid"
      end
      self.on[side] = true
   end
   return true
end

local function check_types(given, level)
   local action, replace = given.action, given.replace
   if action ~= nil and type(action) ~= "string" and type(action) ~= "function" then
      error("perigee.filter: option \"action\" must be a string or a function, not a " .. type(action), level + 1)
   end
   if replace ~= nil and type(replace) ~= "string" and type(replace) ~= "function" then
      error("perigee.filter: option \"replace\" must be a string or a function, not a " .. type(replace), level + 1)
   end
   if given.lpeg ~= nil and require("lpeg").type(given.lpeg) ~= "pattern" then
      error("perigee.filter: option \"lpeg\" must be an LPeg pattern, not a " .. type(given.lpeg), level + 1)
   end
end

local function build(given, level)
   local name = given.name
   if not name or name == "" then return nil, "a filter needs a name", "invalid" end
   local action = given.action or "block"
   if type(action) == "string" and not ACTIONS[action] then
      return nil, ("action must be \"block\", \"mask\", \"rewind\", \"flag\" or a function, not %q"):format(action),
         "invalid"
   end
   local times = given.times or action == "rewind" and 3 or 0
   if times < 0 then return nil, "times must not be negative", "invalid" end
   if type(action) == "string" and action ~= "rewind" then times = 0 end
   local self = setmetatable({
      name = name, category = given.category or name, action = action, times = times, on = {},
      check = given.check or false, replace = given.replace or false, programs = {}, allowed = {},
   }, Filter)
   local fine, message, code = add_words(self.programs, given.words, given, given.whole_word)
   if fine then fine, message, code = add_regex(self.programs, given.regex, given) end
   if fine then fine, message, code = add_windows(self.programs, given) end
   if fine then fine, message, code = add_allowed(self, given, level + 1) end
   if fine then fine, message, code = add_sides(self, given) end
   if not fine then return nil, message, code end
   if #self.programs == 0 then
      return nil, "there is nothing to look for: give words, regex, lpeg, pattern or classify", "invalid"
   end
   return self
end

-- Make a filter: perigee.filter.
local function make(opts, level)
   options.expect("perigee.filter", "opts", opts, "table", level + 1)
   local given, message, code = options.check("perigee.filter", OPTIONS, opts, level + 1)
   if not given then return nil, message, code end
   check_types(given, level + 1)
   local self
   self, message, code = build(given, level + 1)
   if not self then
      local whose = type(given.name) == "string" and ("filter %q: "):format(given.name) or "perigee.filter: "
      return nil, whose .. message, code
   end
   return self
end

--- A text that filters watch while it is made: `filter:stream`.
-- @type perigee.filter_stream
local FilterStream = {}
FilterStream.__index = FilterStream

-- Run a step of the stack; what it raises ends the stream.
local function step(self, method, text)
   if self.failed then return nil, self.failed, "invalid" end
   local stack = self.stack
   local fine, message = stack:try(method, text)
   if not fine then
      self.failed = message
      return nil, message, "invalid"
   end
   local out, n = stack.out, stack.n_out
   if n == 0 then return "" end
   if n == 1 and type(out[1]) == "string" then return out[1] end
   local texts, matches = {}, {}
   for i = 1, n do
      local what = out[i]
      if type(what) == "string" then texts[#texts + 1] = what else matches[#matches + 1] = what end
   end
   self.blocked = stack.blocked
   return table.concat(texts), matches
end

--- Give a stream more text.
-- @tparam string text any bytes, cut anywhere
-- @treturn ?string what may be released now, whole characters; nil, message, code when a filter failed: nothing more
-- comes then
-- @treturn ?{match,...} what was acted upon, when there was anything; `stream.blocked` is the match that ended the text
function FilterStream:push(text)
   options.expect("stream:push", "text", text, "string", 2)
   return step(self, "push", text)
end

--- End a stream.
-- @treturn ?string the rest of the text; nil, message, code
-- @treturn ?{match,...} what was acted upon
function FilterStream:finish() return step(self, "finish") end

-- A stream with some filters.
local function stream(filters) return setmetatable({ stack = Stack.new(filters), blocked = false }, FilterStream) end

--- A filter: @{perigee.filter}.
-- @type perigee.filter

--- Begin a stream that this filter watches; there is nothing to take back, so "rewind" blocks.
-- @tparam[opt] perigee.filter ... more filters that watch it, in declared order
-- @treturn perigee.filter_stream
-- @usage
-- local stream = filter:stream()
-- for _, piece in ipairs { "Lord Vol", "demort" } do io.write((stream:push(piece))) end
-- io.write((stream:finish()))
function Filter:stream(...)
   for i = 1, select("#", ...) do
      local other = select(i, ...)
      if other ~= nil and getmetatable(other) ~= Filter then
         error(("filter:stream: argument %d must be a perigee.filter"):format(i), 2)
      end
   end
   return stream { self, ... }
end

--- All matches of a text, with nothing done about them.
-- @tparam string text
-- @treturn ?{match,...} `action` is what the filter asks for; nil, message, code when the filter failed
-- @usage for _, match in ipairs(filter:scan(text)) do print(match.first, match.last, match.text) end
function Filter:scan(text)
   options.expect("filter:scan", "text", text, "string", 2)
   local stack = Stack.new({ self }, nil, true)
   local matches = {}
   for _, method in ipairs { "push", "finish" } do
      local fine, message = stack:try(method, text)
      if not fine then return nil, message, "invalid" end
      for i = 1, stack.n_out do
         if type(stack.out[i]) == "table" then matches[#matches + 1] = stack.out[i] end
      end
   end
   return matches
end

--- A whole text as the filter leaves it: masked, or cut off where it blocks.
-- @tparam string text
-- @treturn ?string nil, message, code when the filter failed
-- @treturn {match,...} what was acted upon
function Filter:clean(text)
   options.expect("filter:clean", "text", text, "string", 2)
   local whole = self:stream()
   local first, found = whole:push(text)
   if not first then return nil, found, "invalid" end
   local rest, more = whole:finish()
   if not rest then return nil, more, "invalid" end
   local matches = found or {}
   for _, match in ipairs(more or {}) do matches[#matches + 1] = match end
   return first .. rest, matches
end

function Filter:__tostring()
   local action = type(self.action) == "function" and "a function decides" or self.action
   return ("perigee.filter %s: %s, %s"):format(self.name, self.category, action)
end

return { make = make, Filter = Filter }
