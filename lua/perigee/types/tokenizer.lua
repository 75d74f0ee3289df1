---@meta _
-- luacheck: ignore 111 112 113 212 241
-- Types of tokenizers, as `core.lua` beside this.

---@class perigee.Tokenizer
---@field path string
local Tokenizer = {}

---@class perigee.EncodeOptions
---@field special? boolean
---@field bos? boolean

---@class perigee.DecodeOptions
---@field special? boolean

---@class perigee.TokenizerInfo
---@field kind string
---@field vocabulary integer
---@field bos? integer
---@field eos? integer
---@field eot? integer
---@field unk? integer
---@field pad? integer
---@field add_bos boolean
---@field add_eos boolean

---@param text string
---@param opts? perigee.EncodeOptions
---@return integer[]? ids
---@return string? message
---@return perigee.Code? code
function Tokenizer:encode(text, opts) end

---@param ids integer[]
---@param opts? perigee.DecodeOptions
---@return string? text
---@return string? message
---@return perigee.Code? code
function Tokenizer:decode(ids, opts) end

---@param opts? perigee.DecodeOptions
---@return perigee.Stream? stream
---@return string? message
---@return perigee.Code? code
function Tokenizer:stream(opts) end

---@return perigee.TokenizerInfo? info
---@return string? message
---@return perigee.Code? code
function Tokenizer:info() end

---@param id integer
---@return string? text
---@return string? message
---@return perigee.Code? code
function Tokenizer:token_text(id) end

---@param id integer
---@return boolean? ends
---@return string? message
---@return perigee.Code? code
function Tokenizer:is_end(id) end

---@param name? string
---@return string? source
---@return string? message
---@return perigee.Code? code
function Tokenizer:chat_template(name) end

---@return boolean
function Tokenizer:close() end

---@class perigee.Stream
---@field tokenizer perigee.Tokenizer
local Stream = {}

---@param id integer
---@return string? text
---@return string? message
---@return perigee.Code? code
function Stream:push(id) end

---@return string? text
---@return string? message
---@return perigee.Code? code
function Stream:rest() end
