---@meta _
-- luacheck: ignore 111 112 113 212 241
-- Types of conversations and pipelines, as `core.lua` beside this.

---@class perigee.Message
---@field role "system"|"developer"|"user"|"assistant"|"tool"
---@field content? string
---@field reasoning_content? string
---@field tool_calls? table[]
---@field tool_call_id? string
---@field name? string

---@class perigee.Tool
---@field name string
---@field description? string
---@field parameters? string|table JSON schema
---@field call? fun(input: table): string|table|nil, string?

---@class perigee.ChatOptions
---@field system? string
---@field tools? perigee.Tool[]
---@field template? perigee.Template|string
---@field format? string
---@field vars? table
---@field messages? perigee.Message[]
---@field reserve? integer
---@field now? string

---@class perigee.Chat
---@field messages perigee.Message[]
local Chat = {}

---@param opts? perigee.ChatOptions
---@return perigee.Chat? chat
---@return string? message
---@return perigee.Code? code
function Engine:chat(opts) end

---@param text string
---@param opts? perigee.GenerateOptions
---@return perigee.Reply? reply
---@return string? message
---@return perigee.Code? code
function Chat:say(text, opts) end

---@param opts? perigee.GenerateOptions
---@return perigee.Reply? reply
---@return string? message
---@return perigee.Code? code
function Chat:continue(opts) end

---@param call perigee.Call
---@param content string|table
---@return perigee.Chat
function Chat:tool(call, content) end

---@param text string
---@param opts? table
---@return string? answer
---@return perigee.Result|string result
---@return perigee.Code? code
function Chat:run(text, opts) end

---@return perigee.Chat
function Chat:clear() end

---@class perigee.Call
---@field id string
---@field name string
---@field arguments string
---@field input table

---@class perigee.ReplyEvent
---@field kind "text"|"reasoning"|"tool"|"filter"|"done"|"fail"
---@field text? string
---@field call? perigee.Call

---@class perigee.Reply
---@field request perigee.Request
---@field done boolean
local Reply = {}

---@param timeout_ms? number
---@return perigee.ReplyEvent? event
function Reply:next(timeout_ms) end

---@return fun(): perigee.ReplyEvent?
function Reply:events() end

---@return fun(): string?
function Reply:pieces() end

---@return perigee.Result? result
---@return string? message
---@return perigee.Code? code
function Reply:result() end

---@return boolean? fine
---@return string? message
---@return perigee.Code? code
function Reply:cancel() end

---@class perigee.Context
---@field engine perigee.Engine
---@field messages perigee.Message[]
---@field vars table
---@field options perigee.GenerateOptions
---@field tools perigee.Tool[]
---@field template? perigee.Template
---@field prompt? string
---@field output table[]
---@field state table

---@alias perigee.Stage (fun(context: perigee.Context): perigee.Context?, string?)|{ name: string, run: function }

---@class perigee.Pipeline
local Pipeline = {}

---@param engine perigee.Engine
---@param input string|perigee.Message[]
---@param opts? table
---@return perigee.Context? context
---@return string? message
---@return perigee.Code? code
function Pipeline:run(engine, input, opts) end

---@param engine perigee.Engine
---@param input string|perigee.Message[]
---@param opts? table
---@return perigee.Reply? reply
---@return string? message
---@return perigee.Code? code
function Pipeline:generate(engine, input, opts) end
