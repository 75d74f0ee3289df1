--- Packs: filters that come with perigee, made from data files that anyone may replace.
--
-- Public as `perigee.filter.pack` and `perigee.filter.packs`. A pack is a Lua table in a file of its own, loaded as text
-- without any function in reach; packs/README says how one is written. Words stand for themselves; expressions are for
-- libpcre2, with `<name>` for a part that the pack or packs/common.lua names.
-- @module perigee.filter.pack
-- @local
local checks = require "perigee.filter.checks"
local options = require "perigee.options"

local M = {}

local NAMES = { "pii", "violence", "explosives", "extremism", "selfharm", "sexual", "minors", "hate", "harassment", "drugs",
   "fraud", "gambling", "cybercrime" }
local OPTIONS = { action = "any", languages = "strings", allow = "any", folder = "string", on = "strings",
   replace = "any", times = "integer" }

local own = debug.getinfo(1, "S").source:match "^@(.*)pack%.lua$" .. "packs/"
local kept = {}

-- The table that a file returns. It has no access to anything, so that data stays data.
local function load_file(path)
   local chunk, message = loadfile(path, "t")
   if not chunk then return nil, message, io.open(path) and "format" or "not_found" end
   local fine, data = pcall(setfenv(chunk, {}))
   if not fine then return nil, tostring(data), "format" end
   if type(data) ~= "table" then return nil, path .. ": a pack returns a table", "format" end
   return data
end

local function read(name, folder)
   local path = own .. name .. ".lua"
   if folder then
      local theirs = folder:gsub("/?$", "/") .. name .. ".lua"
      local file = io.open(theirs)
      if file then
         file:close()
         return load_file(theirs)
      end
   end
   if not kept[path] then
      local data, message, code = load_file(path)
      if not data then return nil, message, code end
      kept[path] = data
   end
   return kept[path]
end
