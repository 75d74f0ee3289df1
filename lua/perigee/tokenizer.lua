--- Text to token ids and back; works without an engine. Made by @{perigee.tokenizer} or @{perigee.engine:tokenizer}.
-- @classmod perigee.tokenizer
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local bit = require "bit"

local C, err = lib.C, lib.err

local Tokenizer = {}
Tokenizer.__index = Tokenizer

local Stream = {}
Stream.__index = Stream

local ENCODE = { special = "boolean", bos = "boolean" }
local DECODE = { special = "boolean" }

local id_buffer, text_buffer = lib.buffer "int32_t", lib.buffer "char"
local out_tokenizer, out_detok = ffi.new "pg_tokenizer *[1]", ffi.new "pg_detok *[1]"
local out_text, out_size = ffi.new "const char *[1]", ffi.new "int32_t[1]"

local function closed() return nil, "the tokenizer is closed", "invalid" end

--- Open a tokenizer; public as @{perigee.tokenizer}.
-- @tparam string path
-- @treturn ?perigee.tokenizer nil, message, code
-- @local
function Tokenizer.open(path)
   local rc = C.pg_tokenizer_open(path, out_tokenizer, err)
   if rc < 0 then return lib.fail(rc) end
   local self = setmetatable({ path = path, _handle = out_tokenizer[0] }, Tokenizer)
   self._guard = lib.guard(function() self:close() end)
   return self
end

--- The tokenizer inside an engine.
-- @tparam perigee.engine engine kept alive by it
-- @tparam cdata handle borrowed
-- @treturn perigee.tokenizer
-- @local
function Tokenizer.borrow(engine, handle)
   return setmetatable({ path = engine.path, _handle = handle, _owner = engine }, Tokenizer)
end

--- Encode into scratch memory, which is good until the next call of this module.
-- @tparam string text
-- @tparam boolean special
-- @tparam ?boolean bos
-- @treturn ?cdata `int32_t *`; nil, message, code
-- @treturn number how many ids
-- @local
function Tokenizer:ids(text, special, bos)
   if not self._handle then return closed() end
   local flags = special and C.PG_ENCODE_SPECIAL or 0
   if bos ~= nil then flags = bit.bor(flags, bos and C.PG_ENCODE_BOS or C.PG_ENCODE_NO_BOS) end
   local ids, room = id_buffer(math.floor(#text / 2) + 8)
   local n = C.pg_encode(self._handle, text, #text, flags, ids, room, err)
   if n > room then
      ids, room = id_buffer(n)
      n = C.pg_encode(self._handle, text, #text, flags, ids, room, err)
   end
   if n < 0 then return lib.fail(n) end
   return ids, n
end

--- Text to token ids.
-- @tparam string text any bytes: what is not UTF-8 is encoded all the same
-- @tparam[opt] table opts `special` (false): control tokens written in the text are recognised, never set it for what
-- users write; `bos`: true puts the begin token first, false does not, nil does as the model's default is
-- @treturn ?{number,...} ids; nil, message, code
-- @usage local ids = tokenizer:encode("Hello", { bos = false })
function Tokenizer:encode(text, opts)
   options.expect("tokenizer:encode", "text", text, "string", 2)
   local given, message, code = options.check("tokenizer:encode", ENCODE, opts, 2)
   if not given then return nil, message, code end
   local ids, n, why = self:ids(text, given.special, given.bos)
   if not ids then return nil, n, why end
   local list = {}
   for i = 1, n do list[i] = ids[i - 1] end
   return list
end

--- Token ids to text. The bytes are those of the tokens: ids cut inside a character give a part of it.
-- @tparam {number,...} ids
-- @tparam[opt] table opts `special` (false): control tokens are written out
-- @treturn ?string nil, message, code
-- @usage assert(tokenizer:decode(tokenizer:encode("Hello")) == "Hello")
function Tokenizer:decode(ids, opts)
   options.expect("tokenizer:decode", "ids", ids, "table", 2)
   local given, message, code = options.check("tokenizer:decode", DECODE, opts, 2)
   if not given then return nil, message, code end
   if not self._handle then return closed() end
   local data, n, why = options.ids("tokenizer:decode", ids, 2)
   if not data then return nil, n, why end
   local special = given.special and 1 or 0
   local text, room = text_buffer(8 * n)
   local size = C.pg_decode(self._handle, data, n, special, text, room, err)
   if size > room then
      text, room = text_buffer(size)
      size = C.pg_decode(self._handle, data, n, special, text, room, err)
   end
   if size < 0 then return lib.fail(size) end
   return ffi.string(text, size)
end

--- Decode ids as they come; only whole UTF-8 characters are handed out.
-- @tparam[opt] table opts `special` as in @{decode}
-- @treturn ?perigee.tokenizer.Stream nil, message, code
-- @usage
-- local stream = tokenizer:stream()
-- for _, id in ipairs(ids) do io.write(stream:push(id)) end
-- io.write(stream:rest())
function Tokenizer:stream(opts)
   local given, message, code = options.check("tokenizer:stream", DECODE, opts, 2)
   if not given then return nil, message, code end
   if not self._handle then return closed() end
   local rc = C.pg_detok_open(self._handle, given.special and 1 or 0, out_detok, err)
   if rc < 0 then return lib.fail(rc) end
   local handle = out_detok[0]
   local guard = lib.guard(function() C.pg_detok_close(handle) end)
   return setmetatable({ tokenizer = self, _handle = handle, _guard = guard }, Stream)
end

--- What the tokenizer is.
-- @table info
-- @tfield string kind "bpe qwen2", "spm" ...
-- @tfield number vocabulary tokens
-- @tfield ?number bos id of the begin token; nil when there is none, as for those that follow
-- @tfield ?number eos
-- @tfield ?number eot
-- @tfield ?number unk
-- @tfield ?number pad
-- @tfield boolean add_bos whether a default encode adds the begin token
-- @tfield boolean add_eos whether it adds the end token

--- What this tokenizer is.
-- @treturn ?info nil, message, code
function Tokenizer:info()
   if not self._handle then return closed() end
   local c = ffi.new "pg_tokenizer_info"
   local rc = C.pg_tokenizer_describe(self._handle, c)
   if rc < 0 then return nil, "the tokenizer cannot be described", lib.code_name(rc) end
   local info = {
      kind = ffi.string(c.kind), vocabulary = c.n_vocab, add_bos = c.add_bos ~= 0, add_eos = c.add_eos ~= 0,
   }
   for _, name in ipairs { "bos", "eos", "eot", "unk", "pad" } do
      if c[name] >= 0 then info[name] = c[name] end
   end
   return info
end

--- The stored text of one token; in byte-level vocabularies its bytes are mapped to printable characters.
-- @tparam number id
-- @treturn ?string nil, message, code
function Tokenizer:token_text(id)
   options.expect("tokenizer:token_text", "id", id, "number", 2)
   if not self._handle then return closed() end
   local text = C.pg_token_text(self._handle, id)
   if text == nil then return nil, ("no token has the id %s"):format(id), "invalid" end
   return ffi.string(text)
end

--- Whether a token ends a generation.
-- @tparam number id
-- @treturn ?boolean nil, message, code
function Tokenizer:is_end(id)
   options.expect("tokenizer:is_end", "id", id, "number", 2)
   if not self._handle then return closed() end
   return C.pg_token_is_eog(self._handle, id) == 1
end

--- The model's chat template (Jinja source).
-- @tparam ?string name one of its further templates ("tool_use" ...); nil: the template itself
-- @treturn ?string nil, message, code when it has none
function Tokenizer:chat_template(name)
   if name ~= nil then options.expect("tokenizer:chat_template", "name", name, "string", 2) end
   if not self._handle then return closed() end
   local source
   if name then source = C.pg_chat_template_named(self._handle, name) else source = C.pg_chat_template(self._handle) end
   if source == nil then
      local what = name and (" of the name %q"):format(name) or ""
      return nil, "the model has no chat template" .. what, "not_found"
   end
   return ffi.string(source)
end

--- Free it. An engine's own tokenizer goes with the engine instead.
-- @treturn boolean true
function Tokenizer:close()
   if self._handle and not self._owner then
      C.pg_tokenizer_close(self._handle)
      self._handle = nil
   end
   return true
end

function Tokenizer:__tostring()
   local info = self:info()
   if not info then return "perigee.tokenizer (closed)" end
   return ("perigee.tokenizer %s, %d tokens"):format(info.kind, info.vocabulary)
end

--- Text out of ids that come one by one. Made by @{stream}.
-- @type Stream

--- Add one id.
-- @tparam number id
-- @treturn ?string the text that it completed, often ""; nil, message, code
function Stream:push(id)
   options.expect("stream:push", "id", id, "number", 2)
   if not self.tokenizer._handle then return closed() end
   local rc = C.pg_detok_next(self._handle, id, out_text, out_size, err)
   if rc < 0 then return lib.fail(rc) end
   return ffi.string(out_text[0], out_size[0])
end

--- The bytes still held, an unfinished character; the stream begins anew.
-- @treturn ?string nil, message, code
function Stream:rest()
   if not self.tokenizer._handle then return closed() end
   local rc = C.pg_detok_rest(self._handle, out_text, out_size)
   if rc < 0 then return nil, "the stream cannot be ended", lib.code_name(rc) end
   return ffi.string(out_text[0], out_size[0])
end

function Stream:__tostring() return "perigee.tokenizer.Stream of " .. tostring(self.tokenizer) end

return Tokenizer
