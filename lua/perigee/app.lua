--- An application as a folder: policies, filters and pipelines, a file each, changed while it runs.
--
--    app/ policies/NAME.lua  filters/NAME.lua  pipelines/NAME.lua  app.lua
--
-- Every file stands for its name, is watched, and is swapped alone: a new version takes effect with the next request (a
-- policy with `live = true`: the next step), requests in flight keep what they began with, and a file that does not
-- load leaves the old version in place and is reported. `app.lua` says which of them serve. Its code, like that of
-- filters and pipelines, runs in the application's own Lua state; policies run in the engine's.
-- @classmod perigee.app
local options = require "perigee.options"
local files = require "perigee.files"
local pipeline = require "perigee.pipeline"
local reload = require "perigee.reload"

local App = {}
App.__index = App

local APP = { watch = "boolean" }

--- What `app.lua` returns; everything may be left out.
-- @table settings
-- @tfield ?string|{string,...} route name of the policy, or policies in order, that the engine routes by
-- @tfield ?{string,...} filters names of the filters that every request passes
-- @tfield ?string pipeline name of the pipeline that messages pass
-- @tfield ?string system what the model is told first in a chat
-- @tfield ?table options of @{perigee.engine:generate} for every request; a request's own go before
local SETTINGS = { route = "any", filters = "strings", pipeline = "string", system = "string", options = "any" }

-- ---- kinds of files
-- -----------------------------------------------------------------------------------------------------

-- Run a file in the application's state: what it returns | nil, message.
local function run(path)
   local chunk, message = loadfile(path)
   if not chunk then return nil, message end
   local fine, result = pcall(chunk)
   if not fine then return nil, tostring(result) end
   if result == nil then return nil, path .. ": it returns nothing" end
   return result
end

local function load_pipeline(app, name, path)
   local stages, message = run(path)
   if not stages then return nil, message end
   local fine, made = pcall(pipeline.new, stages)
   if not fine then return nil, path .. ": " .. tostring(made) end
   app.pipelines[name] = made
   return true
end

local function load_settings(app, _, path)
   local given, message = run(path)
   if not given then return nil, message end
   local fine, checked, why = pcall(options.check, path, SETTINGS, given, 1)
   if not fine then return nil, checked end
   if not checked then return nil, why end
   app._next = checked
   return true
end

-- By folder: how a file is loaded and taken out again.
local KINDS = {
   policies = {
      load = function(app, name, path) return app.engine.policies:load(name, path) end,
      unload = function(app, name) return app.engine.policies:unload(name) end,
   },
   filters = {
      load = function(app, name, path) return app.engine.filters:load(name, path) end,
      unload = function(app, name) return app.engine.filters:unload(name) end,
   },
   pipelines = {
      load = load_pipeline,
      unload = function(app, name) app.pipelines[name] = nil return true end,
   },
}
local ORDER = { "policies", "filters", "pipelines" }

-- ---- loading
-- ------------------------------------------------------------------------------------------------------------

-- Bring the settings into force, as far as what they name is there.
local function settle(app)
   local wanted = app._next
   if not wanted then return true end
   for _, name in ipairs(wanted.filters or {}) do
      if not app._loaded["filters/" .. name] then return nil, ("app.lua names the filter %q, which is not there"):format(name) end
   end
   if wanted.pipeline and not app.pipelines[wanted.pipeline] then
      return nil, ("app.lua names the pipeline %q, which is not there"):format(wanted.pipeline)
   end
   local fine, message = app.engine:route(wanted.route)
   if not fine then return nil, "app.lua, route: " .. message end
   app.settings, app._next = wanted, nil
   return true
end

local function report(app, path, ok, message, removed)
   local entry = { path = path, ok = ok and true or false, message = message, removed = removed }
   app._reports[#app._reports + 1] = entry
   if #app._reports > 256 then table.remove(app._reports, 1) end
   return entry
end

-- Load one file, by its path within the folder.
local function load_file(app, path)
   local kind, name = path:match "^(%w+)/([%w_-]+)%.lua$"
   local ok, message
   if path == "app.lua" then
      ok, message = load_settings(app, nil, app.folder .. "/" .. path)
   else
      ok, message = KINDS[kind].load(app, name, app.folder .. "/" .. path)
      if ok then app._loaded[kind .. "/" .. name] = path end
   end
   return report(app, path, ok, not ok and message or nil)
end

local function unload_file(app, path)
   local kind, name = path:match "^(%w+)/([%w_-]+)%.lua$"
   if not kind then return report(app, path, true, nil, true) end
   local ok, message = KINDS[kind].unload(app, name)
   if ok then app._loaded[kind .. "/" .. name] = nil end
   return report(app, path, ok, not ok and message or nil, true)
end

-- The app's files, by their paths within the folder.
local function list(folder)
   local paths = {}
   for _, kind in ipairs(ORDER) do
      for _, file in ipairs(files.list(folder .. "/" .. kind)) do
         if file:find "^[%w_-]+%.lua$" then paths[#paths + 1] = kind .. "/" .. file end
      end
   end
   if files.exists(folder .. "/app.lua") then paths[#paths + 1] = "app.lua" end
   return paths
end

--- Open an app folder; public as `perigee.app`.
-- @local
function App.open(folder, engine, opts, level)
   local given, message, code = options.check("perigee.app", APP, opts, level + 1)
   if not given then return nil, message, code end
   folder = folder:gsub("/+$", "")
   if not files.is_folder(folder) then return nil, folder .. ": no such folder", "not_found" end
   local self = setmetatable({
      folder = folder, engine = engine, pipelines = {}, settings = {}, _loaded = {}, _reports = {}, _paths = {},
   }, App)
   for _, path in ipairs(list(folder)) do
      local entry = load_file(self, path)
      if not entry.ok then return nil, entry.message, "invalid" end
      self._paths[path] = true
   end
   local fine
   fine, message = settle(self)
   if not fine then return nil, folder .. ": " .. message, "invalid" end
   if given.watch ~= false then self._watcher = reload.watch_folder(folder, ORDER) end
   return self
end

--- Load what has changed since the last call; for the application's loop. It costs a look at the folder, at most five
-- times a second, unless the system tells about changes by itself.
-- @treturn {table,...} one for each file that changed: path within the folder, ok, message when it did not load (the
-- old version stays), removed
-- @usage
-- for _, change in ipairs(app:poll()) do print(change.path, change.ok and "loaded" or change.message) end
function App:poll()
   if not self._watcher or not self._watcher:poll() then return {} end
   local changes, now = {}, {}
   for _, path in ipairs(list(self.folder)) do
      now[path] = true
      if not self._paths[path] or self._watcher:changed(path) then changes[#changes + 1] = load_file(self, path) end
   end
   for path in pairs(self._paths) do
      if not now[path] then changes[#changes + 1] = unload_file(self, path) end
   end
   self._paths = now
   local fine, message = settle(self)
   if not fine then changes[#changes + 1] = report(self, "app.lua", false, message) end
   return changes
end

return App
