---@meta _
-- luacheck: ignore 211 212 241
-- Types of policies and of watched files, and of what a policy's functions are called with; see core.lua.

---@class perigee
local perigee = {}

---@param paths string|string[] files; they need not be there yet
---@param callback fun(path: string)
---@return perigee.Watcher
function perigee.watch(paths, callback) end

---@class perigee.Watcher
local Watcher = {}

---@return integer called
function Watcher:poll() end

---@return boolean
function Watcher:close() end

---@class perigee.Engine
---@field policies perigee.Policies
local Engine = {}

---@class perigee.PolicyVersion
---@field name string
---@field version integer
---@field label? string|number
---@field live boolean
---@field chunk string
---@field points ("route"|"logits"|"token"|"admit")[]

---@class perigee.PolicyEntry
---@field name string
---@field current perigee.PolicyVersion
---@field versions integer[]
---@field used boolean
---@field file? string
---@field failure? string

---@class perigee.RouteView
---@field layer integer
---@field rows integer
---@field experts integer
---@field used integer
---@field most integer
---@field get fun(r: perigee.RouteView, i: integer, e: integer): number
---@field set fun(r: perigee.RouteView, i: integer, e: integer, x: number)
---@field bias fun(r: perigee.RouteView, i: integer, e: integer, x: number)
---@field biases fun(r: perigee.RouteView, i: integer, t: table<integer, number>)
---@field choose fun(r: perigee.RouteView, i: integer, e: integer, x?: number): number
---@field ban fun(r: perigee.RouteView, i: integer, e: integer)
---@field force fun(r: perigee.RouteView, i: integer, e: integer)
---@field top fun(r: perigee.RouteView, i: integer, k?: integer): integer
---@field cumulative fun(r: perigee.RouteView, i: integer, share?: number): number
---@field entropy fun(r: perigee.RouteView, i: integer): number
---@field margin fun(r: perigee.RouteView, i: integer): number
---@field mass fun(r: perigee.RouteView, i: integer, k: integer): number
---@field softmax fun(r: perigee.RouteView, i: integer, t?: table<integer, number>): table<integer, number>
---@field load fun(r: perigee.RouteView, e: integer): number
---@field request fun(r: perigee.RouteView, i: integer): integer
---@field tenant fun(r: perigee.RouteView, i: integer): string?
---@field position fun(r: perigee.RouteView, i: integer): integer
---@field token fun(r: perigee.RouteView, i: integer): integer
---@field prompt fun(r: perigee.RouteView, i: integer): boolean

---@class perigee.LogitsView
---@field rows integer
---@field vocabulary integer
---@field get fun(l: perigee.LogitsView, i: integer, id: integer): number
---@field set fun(l: perigee.LogitsView, i: integer, id: integer, x: number)
---@field add fun(l: perigee.LogitsView, i: integer, id: integer, x: number)
---@field ban fun(l: perigee.LogitsView, i: integer, id: integer)
---@field request fun(l: perigee.LogitsView, i: integer): integer
---@field tenant fun(l: perigee.LogitsView, i: integer): string?
---@field position fun(l: perigee.LogitsView, i: integer): integer
---@field token fun(l: perigee.LogitsView, i: integer): integer
---@field prompt fun(l: perigee.LogitsView, i: integer): boolean

---@class perigee.TokenView
---@field token integer
---@field text string
---@field count integer
---@field position integer
---@field request integer
---@field tenant? string
---@field stop fun(t: perigee.TokenView)

---@class perigee.AdmitView
---@field request integer
---@field tenant? string
---@field prompt integer
---@field max_new integer
---@field priority integer
---@field waiting integer
---@field running integer
---@field pages_free integer
---@field pages integer
---@field wait fun(q: perigee.AdmitView)
---@field refuse fun(q: perigee.AdmitView, why: string)

---@class perigee.Policies
---@field engine perigee.Engine
local Policies = {}

---@param name string
---@param x string|table path, text, knobs, program or list
---@param params? table plain data
---@return perigee.PolicyVersion? version
---@return string? message
---@return perigee.Code? code
function Policies:load(name, x, params) end

---@param name string
---@return perigee.PolicyVersion? version
---@return string? message
---@return perigee.Code? code
function Policies:rollback(name) end

---@param name string
---@return boolean? fine
---@return string? message
---@return perigee.Code? code
function Policies:unload(name) end

---@param name? string nil: none
---@return boolean? fine
---@return string? message
---@return perigee.Code? code
function Policies:use(name) end

---@return perigee.PolicyEntry[]
function Policies:list() end

---@param since? number
---@return table[]? reports
---@return string? message
---@return perigee.Code? code
function Policies:reports(since) end

---@param name string
---@param path string
---@param params? table
---@return perigee.PolicyVersion? version
---@return string? message
---@return perigee.Code? code
function Policies:watch(name, path, params) end

---@return integer loaded
function Policies:poll() end
