---@meta _

-- Types of filter packs for lua-language-server, as core.lua.

---@class perigee.PackOptions
---@field action? perigee.FilterAction|fun(match: perigee.Match): perigee.FilterAction?
---@field languages? string[]
---@field allow? table
---@field folder? string
---@field on? string|string[]
---@field replace? string|fun(match: perigee.Match): string
---@field times? integer

---@class perigee.Pack
---@field name string
---@field category string
---@field title string
---@field words integer
---@field regex integer
---@field allow integer
---@field kinds? string[]

