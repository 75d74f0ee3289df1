--- Regular expressions on a stream, by libpcre2.
--
-- Private to the module. Hard partial matching is what a stream needs: where the end of the text decides, the answer is
-- "from here it could still match", and that place is held; any other answer would be the same with more text behind.
-- What lookbehinds look at is kept on the tape. A list of plain expressions is compiled into one alternation, which
-- costs one call a token; those that name groups, recurse or begin with verbs stand alone.
-- Source: pcre2partial(3), pcre2api(3), pcre2pattern(3).
-- @module perigee.filter.regex
-- @local
local ffi = require "ffi"
local bit = require "bit"
local lib = require "perigee.ffi"
local starts = require "perigee.filter.starts"
local syntax = require "perigee.filter.syntax"

local M = {}

local DECLARATIONS = [[
typedef struct pcre2_real_code_8 pcre2_code_8;
typedef struct pcre2_real_match_data_8 pcre2_match_data_8;
typedef struct pcre2_real_match_context_8 pcre2_match_context_8;
pcre2_code_8 *pcre2_compile_8(const uint8_t *text, size_t n, uint32_t options, int *error, size_t *at, void *context);
void pcre2_code_free_8(pcre2_code_8 *code);
int pcre2_jit_compile_8(pcre2_code_8 *code, uint32_t options);
int pcre2_pattern_info_8(const pcre2_code_8 *code, uint32_t what, void *where);
int pcre2_get_error_message_8(int error, uint8_t *text, size_t n);
pcre2_match_data_8 *pcre2_match_data_create_8(uint32_t pairs, void *context);
void pcre2_match_data_free_8(pcre2_match_data_8 *data);
size_t *pcre2_get_ovector_pointer_8(pcre2_match_data_8 *data);
pcre2_match_context_8 *pcre2_match_context_create_8(void *context);
int pcre2_set_match_limit_8(pcre2_match_context_8 *context, uint32_t limit);
int pcre2_set_depth_limit_8(pcre2_match_context_8 *context, uint32_t limit);
int pcre2_set_heap_limit_8(pcre2_match_context_8 *context, uint32_t kib);
int pcre2_match_8(const pcre2_code_8 *code, const uint8_t *text, size_t n, size_t from, uint32_t options,
   pcre2_match_data_8 *data, pcre2_match_context_8 *context);
]]
if not pcall(ffi.typeof, "pcre2_code_8") then ffi.cdef(DECLARATIONS) end    -- declared before, by whomever

local CASELESS, DUPNAMES, UCP, UTF, NEVER_C, INVALID_UTF = 0x8, 0x40, 0x20000, 0x80000, 0x100000, 0x4000000
local NOTEMPTY, PARTIAL_HARD, ANCHORED = 0x4, 0x20, 0x80000000
local JIT_COMPLETE, JIT_PARTIAL_HARD = 1, 4
local NOMATCH, PARTIAL = -1, -2
local INFO_FIRST_TYPE, INFO_LOOKBEHIND = 6, 15
local AT_LINES = 2          -- only starts of lines are tried, as for .*

-- Backtracking that one search may do: about a tenth of a second at worst.
local MATCH_LIMIT, DEPTH_LIMIT, HEAP_KIB = 1000000, 1000, 20000

--- The most bytes that a search may hold back.
M.HOLD = 16384

local library, context, data, pairs_of

-- libpcre2 and what all searches share, loaded when the first expression is compiled.
local function load()
   if library then return library end
   for _, name in ipairs { "libpcre2-8.so.0", "pcre2-8" } do
      local found, loaded = pcall(ffi.load, name)
      if found then library = loaded break end
   end
   if not library then return nil, "libpcre2-8.so.0 was not found; install libpcre2-8-0", "not_found" end
   context, data = library.pcre2_match_context_create_8(nil), library.pcre2_match_data_create_8(1, nil)
   pairs_of = library.pcre2_get_ovector_pointer_8(data)
   library.pcre2_set_match_limit_8(context, MATCH_LIMIT)
   library.pcre2_set_depth_limit_8(context, DEPTH_LIMIT)
   library.pcre2_set_heap_limit_8(context, HEAP_KIB)
   return library
end

local function error_text(code)
   local text = ffi.new "uint8_t[256]"
   library.pcre2_get_error_message_8(code, text, 256)
   return ffi.string(text)
end

local function compile(source, ignore_case, anchored)
   local code, at = ffi.new "int[1]", ffi.new "size_t[1]"
   local options = bit.bor(UTF, UCP, NEVER_C, INVALID_UTF, DUPNAMES, ignore_case and CASELESS or 0)
      + (anchored and ANCHORED or 0)
   local compiled = library.pcre2_compile_8(source, #source, options, code, at, nil)
   if compiled == nil then
      return nil, ("%s at byte %d of %q"):format(error_text(code[0]), tonumber(at[0]) + 1, source)
   end
   lib.owned(compiled, library.pcre2_code_free_8)
   library.pcre2_jit_compile_8(compiled, JIT_COMPLETE + JIT_PARTIAL_HARD)     -- refused on some systems: interpreted
   local behind = ffi.new "uint32_t[1]"
   library.pcre2_pattern_info_8(compiled, INFO_LOOKBEHIND, behind)
   return { code = compiled, behind = 4 * (behind[0] + 1) }
end

-- What means something else, or nothing, inside an alternation: verbs, recursion, names, comments up to a line's end.
local ALONE = { "%(%*", "%(%?R", "%(%?[&PC<']", "%(%?[%+%-]?%d", "%(%?[%^%l]*x", "%(%?%(", "\\Q", "\\[gk]", "%(%?|" }

local function plain(source)
   for _, sign in ipairs(ALONE) do
      local first, last = source:find(sign)
      while first do
         local next_one = source:sub(last + 1, last + 1)
         if not (sign == "%(%?[&PC<']" and source:sub(first, last) == "(?<" and next_one:find "[=!]") then
            return false
         end
         first, last = source:find(sign, last + 1)
      end
   end
   return true
end

local known = {}

-- The ASCII characters of a set: { [code] = true, ... }.
local function members(source, ignore_case)
   local key = (ignore_case and "i" or " ") .. source
   if known[key] then return known[key] end
   local program, message = compile("(?:" .. source .. ")\\z", ignore_case, true)
   if not program then error(message, 0) end
   local list, text = {}, ffi.new "uint8_t[1]"
   for c = 0, 127 do
      text[0] = c
      if library.pcre2_match_8(program.code, text, 1, 0, 0, data, context) >= 0 then list[c] = true end
   end
   known[key] = list
   return list
end

-- Compile what will be searched for: where it can be told where it begins, libpcre2 is asked about single places.
local function program_of(source, ignore_case)
   local program, message = compile(source, ignore_case)
   if not program then return nil, message end
   local first = ffi.new "uint32_t[1]"
   library.pcre2_pattern_info_8(program.code, INFO_FIRST_TYPE, first)
   local tree = first[0] ~= AT_LINES and syntax.read(source, ignore_case, members)
   local automaton = tree and starts.build(tree)
   if automaton then program = assert(compile(source, ignore_case, true)) end
   program.starts = automaton or false
   return program
end

--- What an expression stands for that means itself.
-- @tparam string source
-- @treturn ?string nil when it means more
function M.literal(source)
   local bare = source:gsub("\\%p", "")
   if bare:find "[\\%^%$%.%[%]|%(%)%?%*%+{}]" then return nil end
   return (source:gsub("\\(%p)", "%1"))
end

--- Compile a list of expressions.
-- @tparam {string,...} list at least one
-- @tparam boolean ignore_case
-- @treturn ?{table,...} programs; nil, message, code
function M.build(list, ignore_case)
   local found, message, code = load()
   if not found then return nil, message, code end
   local programs, together = {}, {}
   for _, source in ipairs(list) do
      local program
      program, message = program_of(source, ignore_case)
      if not program then return nil, message, "invalid" end
      if plain(source) then together[#together + 1] = "(?:" .. source .. ")" else programs[#programs + 1] = program end
   end
   if #together > 0 then
      local program
      program, message = program_of("(?|" .. table.concat(together, "|") .. ")", ignore_case)
      if not program then return nil, message, "invalid" end
      programs[#programs + 1] = program
   end
   return programs
end

local Search = {}
Search.__index = Search

--- A search along a tape.
-- @tparam table program
-- @tparam tape tape
-- @treturn search
function M.start(program, tape)
   return setmetatable({
      code = program.code, behind = program.behind, starts = program.starts, tape = tape,
      pos = 0,              -- no match that counts begins before
      hold = 0, seen = -1,
      first = -1, stop = -1,
      place = -1,           -- where a walk along the beginning of a match waits for more,
      state = 0, at = 0,    -- and how far it is
   }, Search)
end

--- Forget everything from a place on and search from there.
-- @tparam number place
function Search:restart(place)
   self.pos, self.hold, self.seen, self.first, self.place = place, place, -1, -1, -1
end

local function fail(self, rc)
   error(("libpcre2: %s while it searched %d bytes; make the expression simpler"):format(
      error_text(rc), self.tape.stop - self.pos), 0)
end

-- What libpcre2 finds from a place on; true: the answer is there.
local function ask(self, from, final)
   local tape = self.tape
   local low = math.max(tape.base, from - self.behind)
   if low > tape.base then low = tape:character(low) end
   local rc = library.pcre2_match_8(self.code, tape.data + (low - tape.base), tape.stop - low, from - low,
      final and NOTEMPTY or NOTEMPTY + PARTIAL_HARD, data, context)
   if rc >= 0 then
      self.first, self.stop = low + tonumber(pairs_of[0]), low + tonumber(pairs_of[1])
      self.hold = tape.stop
   elseif rc == PARTIAL then
      self.hold = low + tonumber(pairs_of[0])
      self.pos = self.hold
   elseif rc ~= NOMATCH then
      fail(self, rc)
   end
   return rc ~= NOMATCH
end

--- The text was walked along to its end, and nothing is known to match.
-- @tparam number place from which it may still match
-- @tparam number state of the walk from there, if there is one
function Search:quiet(place, state)
   local stop = self.tape.stop
   if stop - place > M.HOLD then return end                      -- the search itself will say so
   self.pos, self.hold, self.seen = place, place, stop
   self.place, self.state, self.at = place < stop and place or -1, state, stop
end

-- Walk to the places where a match can begin and ask about those.
local function walk(self, final)
   local tape, automaton = self.tape, self.starts
   local data_, base, stop = tape.data, tape.base, tape.stop
   local place, state, at = self.pos, self.state, self.at
   if self.place ~= place then state = 0 end
   self.place = -1
   while true do
      local i = place - base
      i, state = starts.walk(automaton, data_, i, stop - base, i > 0 and data_[i - 1] or starts.START, state, at - base)
      place = base + i
      if place >= stop then break end
      if state ~= starts.CALL and not final and automaton.sure[state] == 1 then
         self:quiet(place, state)
         self.pos, self.hold = place, place
         return
      end
      if ask(self, place, final) then return end
      place, state = place + 1, 0
   end
   self.pos, self.hold = stop, stop
end

local function search(self, final)
   local stop = self.tape.stop
   self.seen = stop
   if self.pos >= stop then
      self.hold = stop
      return
   end
   if self.starts then
      walk(self, final)
   elseif not ask(self, self.pos, final) then
      self.pos, self.hold = stop, stop
   end
   if stop - self.hold > M.HOLD then
      error(("more than %d bytes could still become one match; bound the expression's repetitions"):format(M.HOLD), 0)
   end
end

--- The first match that is known; sets `hold`.
-- @tparam number from matches that begin before it do not count
-- @tparam boolean final nothing more will come
-- @treturn ?number first
-- @treturn ?number stop
function Search:seek(from, final)
   if from > self.pos then
      self.pos = from
      if self.first < from then self.first, self.seen = -1, -1 end
   end
   if self.first < 0 and (self.seen < self.tape.stop or final) then search(self, final) end
   if self.first < 0 then return nil end
   return self.first, self.stop
end

--- Take the match back: it does not count; the search goes on one character further.
function Search:veto()
   self.pos = self.tape:character(self.first + 1)
   self.first, self.seen = -1, -1
end

--- Move all matches that are known to lists, one behind the other.
-- @tparam boolean final
-- @tparam {number,...} firsts
-- @tparam {number,...} stops
-- @tparam number n how many they hold
-- @treturn number how many they hold now
function Search:collect(final, firsts, stops, n)
   local first, stop = self:seek(0, final)
   while first do
      n = n + 1
      firsts[n], stops[n] = first, stop
      first, stop = self:seek(stop, final)
   end
   return n
end

return M
