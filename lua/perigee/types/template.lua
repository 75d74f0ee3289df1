---@meta _
-- luacheck: ignore 212 241
-- Types of chat templates and JSON for lua-language-server; never loaded. The words are in the modules themselves.

---@class perigee.RenderOptions
---@field now? string what strftime_now tells, "YYYY-MM-DDTHH:MM:SS"
---@field max_bytes? integer of output
---@field max_steps? integer that may be computed

---@class perigee.Template
local Template = {}

---@param vars table|string variables, or a JSON object as text
---@param opts? perigee.RenderOptions
---@return string? text
---@return string? message
---@return perigee.Code? code
function Template:render(vars, opts) end

---@class perigee.JsonOptions
---@field indent? integer|string
---@field item_separator? string
---@field key_separator? string
---@field sort_keys? boolean
---@field ascii? boolean
---@field digits? integer
---@field python? boolean

---@class perigee.Json
---@field null table stands for null
local json = {}

---@param text string
---@return any value
---@return string? message
---@return perigee.Code? code
function json.decode(text) end

---@param value any
---@param opts? perigee.JsonOptions
---@return string? text
---@return string? message
---@return perigee.Code? code
function json.encode(value, opts) end

---@param object table
---@return fun(): string?, any
function json.pairs(object) end

---@param fields? table
---@param keys? string[]
---@return table
function json.object(fields, keys) end

---@param list? table
---@return table
function json.array(list) end

---@param value any
---@return boolean
function json.is_object(value) end

---@param x number
---@return number
function json.float(x) end

---@param value any
---@return number?
function json.number(value) end
