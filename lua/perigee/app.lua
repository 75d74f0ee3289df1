--- An application as a folder: policies, filters and pipelines, a file each, changed while it runs.
--
--    app/ policies/NAME.lua  filters/NAME.lua  pipelines/NAME.lua  app.lua
--
-- Every file stands for its name, is watched, and is swapped alone: a new version takes effect with the next request (a
-- policy with `live = true`: at the next step), requests in flight keep what they began with, and a file that does not
-- load leaves the old version in place and is reported. `app.lua` says which of them serve. Its code, like that of
-- filters and pipelines, runs in the application's own Lua state; policies run in the engine's.
-- @classmod perigee.app
local clock = require "perigee.clock"
local files = require "perigee.files"
local options = require "perigee.options"
local pipeline = require "perigee.pipeline"
local reload = require "perigee.reload"

local App = {}
App.__index = App

local APP = { watch = "boolean" }

--- What `app.lua` returns; everything may be left out.
-- @table settings
-- @tfield ?string|table route the engine's policy: what @{perigee.engine:route} takes, names of policies among it
-- @tfield ?string|{string,...} filters names of the filters that every request passes
-- @tfield ?string pipeline name of the pipeline that messages pass
-- @tfield ?string system what the model is told first in a chat
-- @tfield ?table options of @{perigee.engine:generate} for every request; a request's own go before
local SETTINGS = { route = "any", filters = "strings", pipeline = "string", system = "string", options = "any" }

--- What happened to a file.
-- @table change
-- @tfield string path within the folder
-- @tfield boolean ok whether it was loaded, or taken out
-- @tfield ?string message why not: what was there before stays
-- @tfield ?boolean removed it is not there any more

-- ---- kinds of files -------------------------------------------------------------------------------------------------

-- Run a file in the application's state: what it returns | nil, message.
local function run(path)
   local chunk, message = loadfile(path)
   if not chunk then return nil, message end
   local fine, result = pcall(chunk)
   if not fine then return nil, tostring(result) end
   if type(result) ~= "table" then return nil, path .. ": it returns no table" end
   return result
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
      load = function(app, name, path)
         local stages, message = run(path)
         if not stages then return nil, message end
         local fine, made = pcall(pipeline.new, stages)
         if not fine then return nil, path .. ": " .. tostring(made) end
         app.pipelines[name] = made
         return true
      end,
      unload = function(app, name)
         app.pipelines[name] = nil
         return true
      end,
   },
}
local FOLDERS = { "policies", "filters", "pipelines" }

-- The settings, once all that they name is there.
local function load_settings(app, path)
   local given, message = run(path)
   if not given then return nil, message end
   local fine, checked, why = pcall(options.check, path, SETTINGS, given, 1)
   if not fine then return nil, checked end
   if not checked then return nil, why end
   local filters = type(checked.filters) == "string" and { checked.filters } or checked.filters or {}
   for _, name in ipairs(filters) do
      if not app._loaded["filters/" .. name] then
         return nil, ("%s names filter %q, which is not there"):format(path, name)
      end
   end
   if checked.pipeline and not app.pipelines[checked.pipeline] then
      return nil, ("%s names pipeline %q, which is not there"):format(path, checked.pipeline)
   end
   if checked.options ~= nil then
      fine, given, why = pcall(app.engine._check_options, app.engine, path, checked.options, 1)
      if not fine or not given then return nil, fine and why or given end
   end
   fine, given, why = pcall(app.engine.route, app.engine, checked.route)
   if not fine or not given then return nil, path .. ": " .. (fine and why or given) end
   app.settings = checked
   return true
end

-- ---- loading --------------------------------------------------------------------------------------------------------

local function split(path) return path:match "^(%w+)/([%w_-]+)%.lua$" end

local function load_file(app, path)
   local whole, kind, name = app.folder .. "/" .. path, split(path)
   local load = kind and KINDS[kind].load or function() return load_settings(app, whole) end
   local ok, message = load(app, name, whole)
   if ok and kind then app._loaded[kind .. "/" .. name] = true end
   if not kind then app._settings_failed = not ok end
   return { path = path, ok = ok and true or false, message = not ok and message or nil }
end

local function unload_file(app, path)
   local kind, name = split(path)
   local ok, message = true, nil
   if not kind then
      app.settings = {}
      ok, message = app.engine:route(nil)
   elseif app._loaded[kind .. "/" .. name] then
      app._loaded[kind .. "/" .. name] = nil
      ok, message = KINDS[kind].unload(app, name)
   end
   return { path = path, ok = ok and true or false, message = not ok and message or nil, removed = true }
end

-- The app's files, by their paths within the folder; settings last, for they name the others.
local function list(folder)
   local paths = {}
   for _, kind in ipairs(FOLDERS) do
      for _, file in ipairs(files.list(folder .. "/" .. kind)) do
         if split(kind .. "/" .. file) then paths[#paths + 1] = kind .. "/" .. file end
      end
   end
   if files.exists(folder .. "/app.lua") then paths[#paths + 1] = "app.lua" end
   return paths
end

-- Watch what is there; anew whenever files come and go.
local function watch(app)
   if app._watcher then app._watcher:close() end
   local paths = {}
   for path in pairs(app._there) do paths[#paths + 1] = app.folder .. "/" .. path end
   app._watcher = reload.watch("perigee.app", paths, function(whole)
      app._dirty[whole:sub(#app.folder + 2)] = true
   end, 3)
end

--- Open an app folder; public as `perigee.app`.
-- @local
function App.open(folder, engine, opts, level)
   local given, message, code = options.check("perigee.app", APP, opts, level + 1)
   if not given then return nil, message, code end
   folder = folder == "/" and folder or folder:gsub("/+$", "")
   if not select(2, files.list(folder)) then return nil, folder .. ": there is no such folder", "not_found" end
   local self = setmetatable({
      folder = folder, engine = engine, pipelines = {}, settings = {}, _loaded = {}, _there = {}, _dirty = {},
      _looked = 0, _settings_failed = false,
   }, App)
   for _, path in ipairs(list(folder)) do
      local change = load_file(self, path)
      if not change.ok then return nil, change.message, "invalid" end
      self._there[path] = true
   end
   if given.watch ~= false then watch(self) end
   return self
end

local LOOK = 0.2          -- seconds between two looks for files that come and go

-- Files that came, went or changed: marks them dirty or gone.
local function look(app)
   app._watcher:poll()
   local now, gone = clock.now(), {}
   if now - app._looked < LOOK then return gone end
   app._looked = now
   local there, moved = {}, false
   for _, path in ipairs(list(app.folder)) do
      there[path] = true
      if not app._there[path] then app._dirty[path], moved = true, true end
   end
   for path in pairs(app._there) do
      if not there[path] then gone[#gone + 1], moved = path, true end
   end
   app._there = there
   if moved then watch(app) end
   return gone
end

--- Load what has changed since the last call; for the application's loop. Files are looked at every time, folders for
-- new ones five times a second.
-- @treturn {change,...} one for each file that changed
-- @usage
-- while engine:poll(20) do
--    for _, change in ipairs(app:poll()) do print(change.path, change.ok and "loaded" or change.message) end
-- end
function App:poll()
   if not self._watcher then return {} end
   local changes, gone = {}, look(self)
   if not next(self._dirty) and #gone == 0 then return changes end
   for _, path in ipairs(gone) do changes[#changes + 1] = unload_file(self, path) end
   if self._settings_failed then self._dirty["app.lua"] = true end         -- what they name may have come
   for _, path in ipairs(list(self.folder)) do
      if self._dirty[path] then changes[#changes + 1] = load_file(self, path) end
   end
   self._dirty = {}
   return changes
end

-- ---- serving --------------------------------------------------------------------------------------------------------

--- The app's options for a request, with its own in front.
-- @tparam[opt] table opts of @{perigee.engine:generate}
-- @treturn table
function App:options(opts)
   local all = { filters = self.settings.filters }
   for key, value in pairs(self.settings.options or {}) do all[key] = value end
   for key, value in pairs(opts or {}) do all[key] = value end
   return all
end

--- Generate as the app says: messages pass its pipeline, everything its filters.
-- @tparam string|{number,...}|{table,...} prompt text and ids are continued; messages pass the pipeline, if there is
-- one
-- @tparam[opt] table opts of @{perigee.engine:generate}
-- @treturn ?perigee.request|perigee.reply nil, message, code
-- @usage print(assert(app:generate({ { role = "user", content = "Hello" } }, { max_new = 32 })):result().text)
function App:generate(prompt, opts)
   local through = self.settings.pipeline and self.pipelines[self.settings.pipeline]
   if through and type(prompt) == "table" and type(prompt[1]) == "table" then
      return through:generate(self.engine, prompt, self:options(opts))
   end
   return self.engine:generate(prompt, self:options(opts))
end

--- Begin a conversation as the app says. Its turns have the app's options and filters.
-- @tparam[opt] perigee.chat.chat_options opts
-- @treturn ?perigee.chat nil, message, code
function App:chat(opts)
   local given = { system = self.settings.system }
   for key, value in pairs(opts or {}) do given[key] = value end
   local chat, message, code = self.engine:chat(given)
   if chat then chat._options = function(turn) return self:options(turn) end end
   return chat, message, code
end

--- Watch no longer. What was loaded stays with the engine.
-- @treturn boolean true, also when it is closed already
function App:close()
   if self._watcher then self._watcher:close() end
   self._watcher = nil
   return true
end

function App:__tostring() return ("perigee.app %s, %s"):format(self.folder, tostring(self.engine)) end

return App
