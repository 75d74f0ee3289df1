---@meta _
-- luacheck: ignore 212 241
-- Types of content filters for lua-language-server, as core.lua.

---@alias perigee.FilterAction "block"|"mask"|"rewind"|"flag"

---@class perigee.FilterOptions
---@field name string
---@field category? string
---@field action? perigee.FilterAction|fun(match: perigee.Match): perigee.FilterAction?
---@field words? string|string[]
---@field regex? string|string[]
---@field lpeg? userdata
---@field pattern? string
---@field classify? fun(text: string): (integer|boolean)?, integer?
---@field max? integer bytes, for lpeg, pattern and classify
---@field step? integer
---@field ignore_case? boolean
---@field whole_word? boolean
---@field normalise? boolean
---@field allow? string[]|{ words: string|string[]?, regex: string|string[]? }
---@field check? fun(match: perigee.Match): boolean?
---@field replace? string|fun(match: perigee.Match): string
---@field times? integer
---@field on? string|string[]

---@class perigee.Match
---@field filter string
---@field category string
---@field action perigee.FilterAction
---@field text string
---@field first integer
---@field last integer

---@class perigee.Filter
---@field name string
---@field category string
local Filter = {}

---@param ... perigee.Filter
---@return perigee.FilterStream
function Filter:stream(...) end

---@param text string
---@return perigee.Match[]? matches
---@return string? message
---@return perigee.Code? code
function Filter:scan(text) end

---@param text string
---@return string? text
---@return perigee.Match[]|string matches
---@return perigee.Code? code
function Filter:clean(text) end

---@class perigee.FilterStream
---@field blocked perigee.Match|false the match that ended the text
local FilterStream = {}

---@param text string
---@return string? text
---@return perigee.Match[]|string? matches
---@return perigee.Code? code
function FilterStream:push(text) end

---@return string? text
---@return perigee.Match[]|string? matches
---@return perigee.Code? code
function FilterStream:finish() end

---@class perigee.FilterEntry
---@field name string
---@field version integer
---@field filters perigee.Filter[]
---@field path? string

---@class perigee.Filters
local Filters = {}

---@param name string
---@param what perigee.Filter|perigee.FilterOptions|table|string
---@return integer? version
---@return string? message
---@return perigee.Code? code
function Filters:load(name, what) end

---@param name string
---@return boolean? fine
---@return string? message
---@return perigee.Code? code
function Filters:unload(name) end

---@return perigee.FilterEntry[]
function Filters:list() end
