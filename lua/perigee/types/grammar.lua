---@meta _
-- luacheck: ignore 212 241
-- Types of grammars, as in core.lua.

---@class perigee.Grammar
local Grammar = {}

---@param text string
---@return boolean? accepted
---@return string? message
---@return perigee.Code? code
function Grammar:accepts(text) end

---@param prefix string
---@return boolean? alive
---@return string? message
---@return perigee.Code? code
function Grammar:alive(prefix) end

---@return true
function Grammar:close() end
