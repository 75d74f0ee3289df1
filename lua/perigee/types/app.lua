---@meta _
-- luacheck: ignore 111 112 113 212 241
-- Types of app folders, as `core.lua` beside this.

---@class perigee.Change
---@field path string
---@field ok boolean
---@field message? string
---@field removed? boolean

---@class perigee.AppSettings
---@field route? string|table
---@field filters? string|string[]
---@field pipeline? string
---@field system? string
---@field options? perigee.GenerateOptions

---@class perigee.App
---@field folder string
---@field engine perigee.Engine
---@field pipelines table<string, perigee.Pipeline>
---@field settings perigee.AppSettings
local App = {}

---@param folder string
---@param engine perigee.Engine
---@param opts? { watch?: boolean }
---@return perigee.App? app
---@return string? message
---@return perigee.Code? code
function perigee.app(folder, engine, opts) end

---@return perigee.Change[]
function App:poll() end

---@param opts? perigee.GenerateOptions
---@return perigee.GenerateOptions
function App:options(opts) end

---@param prompt string|integer[]|perigee.Message[]
---@param opts? perigee.GenerateOptions
---@return (perigee.Request|perigee.Reply)? request
---@return string? message
---@return perigee.Code? code
function App:generate(prompt, opts) end

---@param opts? perigee.ChatOptions
---@return perigee.Chat? chat
---@return string? message
---@return perigee.Code? code
function App:chat(opts) end

---@return boolean
function App:close() end
