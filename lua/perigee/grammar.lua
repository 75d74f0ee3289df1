--- What a generated text may be: a grammar in GBNF or a JSON schema. Made by @{perigee.grammar}, @{perigee.schema} or
-- @{perigee.tool_schema}.
--
-- A grammar works without an engine; given to @{perigee.engine:generate} it lets only fitting tokens through. It never
-- changes, so one serves any number of requests, and they share its token masks: keep it rather than its text.
-- `tostring` gives it as GBNF, a schema's too.
-- @classmod perigee.grammar
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"

local C, err = lib.C, lib.err

local Grammar = {}
Grammar.__index = Grammar

local out_grammar = ffi.new "pg_grammar *[1]"

local function closed() return nil, "the grammar is closed", "invalid" end

local function open(call, text)
   local rc = call(text, #text, out_grammar, err)
   if rc < 0 then return lib.fail(rc) end
   local self = setmetatable({ _handle = out_grammar[0] }, Grammar)
   self._guard = lib.guard(function() self:close() end)
   return self
end

--- Open a grammar; public as @{perigee.grammar}.
-- @tparam string text GBNF
-- @treturn ?perigee.grammar nil, message, code
-- @local
function Grammar.open(text) return open(C.pg_grammar_open_gbnf, text) end

--- Open a JSON schema; public as @{perigee.schema}.
-- @tparam string json
-- @treturn ?perigee.grammar nil, message, code
-- @local
function Grammar.open_schema(json) return open(C.pg_grammar_open_schema, json) end

--- Open the schema of a list of tools; public as @{perigee.tool_schema}.
-- @tparam string json
-- @treturn ?perigee.grammar nil, message, code
-- @local
function Grammar.open_tools(json) return open(C.pg_grammar_open_tools, json) end

-- Grammars of texts that requests named lately, so that their masks are shared: by text, newest last.
local recent, order = {}, {}
local MOST_RECENT = 16

--- The grammar that a request's option stands for.
-- @tparam string where
-- @tparam string name of the option
-- @tparam string|perigee.grammar value
-- @tparam function make opens a text
-- @treturn ?perigee.grammar nil, message, code
-- @local
function Grammar.of_option(where, name, value, make)
   if type(value) ~= "string" then return value end
   local key = name .. ":" .. value
   local grammar = recent[key]
   if grammar and grammar._handle then return grammar end
   local message, code
   grammar, message, code = make(value)
   if not grammar then return nil, ("%s: option %q: %s"):format(where, name, message), code end
   recent[key] = grammar
   order[#order + 1] = key
   if #order > MOST_RECENT then recent[table.remove(order, 1)] = nil end
   return grammar
end

local function check(self, where, text)
   options.expect(where, "text", text, "string", 3)
   if not self._handle then return closed() end
   local rc = C.pg_grammar_check(self._handle, text, #text, err)
   if rc < 0 then return lib.fail(rc) end
   return rc
end

--- Whether a text is one of the grammar's.
-- @tparam string text
-- @treturn ?boolean nil, message, code ("unsupported": the grammar names tokens; "limit": it fits in too many ways)
-- @usage assert(perigee.grammar('root ::= "yes" | "no"'):accepts "yes")
function Grammar:accepts(text)
   local rc, message, code = check(self, "grammar:accepts", text)
   if not rc then return nil, message, code end
   return rc == C.PG_GRAMMAR_COMPLETE
end

--- Whether a text of the grammar begins so; it may end inside a character.
-- @tparam string prefix
-- @treturn ?boolean nil, message, code, as @{accepts}
function Grammar:alive(prefix)
   local rc, message, code = check(self, "grammar:alive", prefix)
   if not rc then return nil, message, code end
   return rc ~= C.PG_GRAMMAR_DEAD
end

--- Free it; requests that use it keep what they need.
-- @treturn boolean true
function Grammar:close()
   if self._handle then
      C.pg_grammar_drop(self._handle)
      self._handle = nil
   end
   return true
end

-- tostring gives the grammar as GBNF, a schema's too; reading that again gives the same grammar.
function Grammar:__tostring()
   if not self._handle then return "perigee.grammar (closed)" end
   return ffi.string(C.pg_grammar_text(self._handle))
end

return Grammar
