--- The policies of an engine by name: loaded, replaced, taken back while it runs. The field `policies` of an engine.
--
-- A policy's file is operator's code, as an nginx.conf is: it comes from a file or the program, never from a request.
-- Each load makes a new version; it is built and tried aside, and from the next step on it stands where the last one
-- stood. Requests in flight keep the version they began with, unless that says `live = true`. What does not load leaves
-- everything as it was, and says where it is wrong.
--
--    local P = { name = "frugal", version = 1, params = { sure = 1.0, few = 2 } }
--    function P.route(r)                       -- r: rows x experts, router logits, editable in place
--       for i = 0, r.rows - 1 do
--          if r:entropy(i) < P.params.sure then r:top(i, P.params.few) end
--       end
--    end
--    return P
--
-- A policy may have the functions `route(r)`, `logits(l)`, `token(t)` and `admit(q)`; see @{r}, @{l}, @{t}, @{q}. They run
-- on the engine's thread in a Lua state of the version's own: no io, os, ffi, load or coroutines; a limit on turns of
-- loops, on time (250 ms) and memory (8 MiB), which holds in compiled code as well. One that raises or runs over is not
-- called any more: its rows are routed as if there were none, the request goes on, and @{perigee.policies:reports} says
-- where it happened. A new version is interpreted for its first 64 calls, with its instructions counted, then compiled.
-- `keep`: a table of plain data that the next version finds in its own `P.keep` at its first call.
-- @classmod perigee.policies
local ffi = require "ffi"
local clock = require "perigee.clock"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local reload = require "perigee.reload"

local C, err = lib.C, lib.err

local Policies = {}
Policies.__index = Policies

local HISTORY = 8          -- versions of a name that can be rolled back to
local LOOK = 0.02          -- seconds between two looks at watched files from within engine:poll
local N_REPORTS = 64

local out_policy = ffi.new "pg_policy *[1]"
local report_buffer = ffi.new("pg_report[?]", N_REPORTS)

--- The policies of an engine.
-- @tparam perigee.engine engine
-- @treturn perigee.policies
-- @local
function Policies.new(engine)
   return setmetatable({ engine = engine, _named = {}, _watched = {}, _failures = {}, _looked = 0 }, Policies)
end

local function closed() return nil, "the engine is closed", "invalid" end

local function sorted(set)
   local names = {}
   for name in pairs(set) do names[#names + 1] = name end
   table.sort(names)
   return names
end

local function absent(self, where, name)
   local near = options.nearest(name, sorted(self._named))
   return nil, ("%s: there is no policy %q%s"):format(where, name, near and (", did you mean %q?"):format(near) or ""),
      "not_found"
end

-- ---- loading ----------------------------------------------------------------------------------------------------------

-- What a string stands for: text, name in messages, path | nil, message, code.
local function read(name, x)
   if x:find "\n" then return x, name end
   local file, message = io.open(x, "rb")
   if not file then
      if loadstring(x) then return x, name end
      return nil, message, "not_found"
   end
   local text
   text, message = file:read "*a"
   file:close()
   if not text then return nil, ("%s: %s"):format(x, message), "io" end
   return text, x, x
end

-- The model's measures that a trial needs.
local function shape(engine)
   local info = engine:info()
   return { experts = info.experts, used = info.experts_used, layer = info.layers - info.moe_layers }
end

-- A counted pg_policy with one stage, the hooks of a state; nil, message, code.
local function wrap(self, version)
   local rc = C.pg_policy_new(self.engine._handle, version.name, version.version, version.live and 1 or 0, out_policy,
      err)
   if rc < 0 then return lib.fail(rc) end
   local handle = out_policy[0]
   local guard = lib.guard(function() C.pg_policy_drop(handle) end)
   rc = C.pg_policy_hooks(handle, ffi.cast("const pg_hooks *", version._vm:hooks()), err)
   if rc < 0 then return lib.fail(rc) end
   return handle, guard
end

-- Put a version in the place of the one that its name has now.
local function install(self, entry, version)
   local handle, guard, code = wrap(self, version)
   if not handle then return nil, guard, code end
   local current = entry.current
   if current then
      local rc = C.pg_policy_replace(self.engine._handle, current._handle, handle, err)
      if rc < 0 then return lib.fail(rc) end
   end
   version._handle, version._guard = handle, guard
   entry.current = version
   return version
end

local function load_text(self, entry, name, text, chunk, params)
   local vm, about = require("perigee.policies.vm").open(self.engine._handle, shape(self.engine), text, chunk, params)
   if not vm then return nil, about, "format" end
   local version = {
      name = name, version = entry.last + 1, label = about.version, live = about.live == true, chunk = chunk,
      points = {}, _vm = vm,
   }
   for _, point in ipairs { "route", "logits", "token", "admit" } do
      if about.fields[point] then version.points[#version.points + 1] = point end
   end
   local before = entry.current
   if before then
      version._before = before._vm:started() and before._vm or before._before
      if version._before then vm:follow(version._before) end
   end
   return version
end

local function describe(version)
   local points = {}
   for i, point in ipairs(version.points) do points[i] = point end
   return {
      name = version.name, version = version.version, label = version.label, live = version.live,
      chunk = version.chunk, points = points,
   }
end

--- Load a policy, as a new version of its name: from now on new requests and the engine, where they use that name, get
-- this one.
-- @tparam string name
-- @tparam string x path of a file, or its text (with a line break in it)
-- @tparam[opt] table params plain data that replaces what the file has in `P.params`
-- @treturn ?version nil, message with file and line, code; then everything is as it was
-- @usage assert(engine.policies:load("frugal", "policies/frugal.lua", { sure = 0.8 }))
function Policies:load(name, x, params)
   local where = "policies:load"
   options.expect(where, "name", name, "string", 2)
   if params ~= nil then options.expect(where, "params", params, "table", 2) end
   if type(x) == "table" then
      return nil, where .. ": a policy runs in a state of the engine's thread, so it is loaded from a file or its text, "
         .. "not as a table; knobs and programs go to engine:route as they are", "invalid"
   end
   options.expect(where, "x", x, "string", 2)
   if not self.engine._handle then return closed() end
   local text, chunk, path = read(name, x)
   if not text then return nil, chunk, path end
   local entry = self._named[name] or { last = 0, versions = {} }
   local version, message, code = load_text(self, entry, name, text, chunk, params)
   if version then
      version, message, code = install(self, entry, version)
   end
   if not version then return nil, message, code end
   entry.last = version.version
   table.insert(entry.versions, version)
   if #entry.versions > HISTORY then table.remove(entry.versions, 1) end
   self._named[name] = entry
   return describe(version)
end

--- What a version is.
-- @table version
-- @tfield string name
-- @tfield number version counted from 1 for each name
-- @tfield ?number|string label what the file says as its own `version`
-- @tfield boolean live whether requests in flight follow to the next version
-- @tfield string chunk the file's path, or the name, as messages have it
-- @tfield {string,...} points which functions it has: "route", "logits", "token", "admit"

--- Take the last load back: the version before it stands in its place again, with the state it had.
-- @tparam string name
-- @treturn ?version nil, message, code
-- @usage engine.policies:rollback "frugal"
function Policies:rollback(name)
   options.expect("policies:rollback", "name", name, "string", 2)
   if not self.engine._handle then return closed() end
   local entry = self._named[name]
   if not entry then return absent(self, "policies:rollback", name) end
   local versions = entry.versions
   if #versions < 2 then
      return nil, ("policies:rollback: policy %q has no version before %d"):format(name, versions[1].version), "not_found"
   end
   local version, message, code = install(self, entry, versions[#versions - 1])
   if not version then return nil, message, code end
   table.remove(versions)
   return describe(version)
end

--- Forget a policy. Requests in flight keep it; the engine, if this was its policy, goes on without one.
-- @tparam string name
-- @treturn ?boolean true; nil, message, code
function Policies:unload(name)
   options.expect("policies:unload", "name", name, "string", 2)
   if not self._named[name] then return absent(self, "policies:unload", name) end
   if self._used == name then self:use(nil) end
   if self._watched[name] then self._watched[name]:close() end
   self._watched[name], self._named[name] = nil, nil
   return true
end

-- ---- using ------------------------------------------------------------------------------------------------------------

--- Make a policy the engine's own, for all requests that bring none; nil: none.
-- @tparam ?string name
-- @treturn ?boolean true; nil, message, code
-- @usage engine.policies:use "frugal"
function Policies:use(name)
   if name ~= nil then options.expect("policies:use", "name", name, "string", 2) end
   if not self.engine._handle then return closed() end
   local handle, message, code
   if name then
      handle, message, code = self:find(name)
      if not handle then return nil, message, code end
   end
   local rc = C.pg_engine_route(self.engine._handle, handle, err)
   if rc < 0 then return lib.fail(rc) end
   self._used = name
   return true
end

--- The `pg_policy *` that a name stands for now, borrowed; the next load or rollback may free it.
-- @tparam string name
-- @treturn ?cdata nil, message, code
-- @local
function Policies:find(name)
   local entry = self._named[name]
   if not entry then return absent(self, "route", name) end
   return entry.current._handle
end

--- A policy that is loaded.
-- @table entry
-- @tfield string name
-- @tfield version current
-- @tfield {number,...} versions those that can be rolled back to, and the current one, last
-- @tfield boolean used whether it is the engine's own
-- @tfield ?string file that is watched
-- @tfield ?string failure why the watched file does not load as it is now

--- What is loaded.
-- @treturn {entry,...} by name
-- @usage for _, entry in ipairs(engine.policies:list()) do print(entry.name, entry.current.version) end
function Policies:list()
   local list = {}
   for i, name in ipairs(sorted(self._named)) do
      local entry, versions = self._named[name], {}
      for n, version in ipairs(entry.versions) do versions[n] = version.version end
      list[i] = {
         name = name, current = describe(entry.current), versions = versions, used = self._used == name,
         file = self._watched[name] and entry.file, failure = entry.failure,
      }
   end
   return list
end

--- Something that a policy did wrong.
-- @table report
-- @tfield number number counted up; 0 for a watched file that did not load
-- @tfield string policy
-- @tfield number version the one it was, or that was to be replaced
-- @tfield string text with file and line
-- @tfield number count how often it happened
-- @tfield boolean unhooked whether it is not called any more

--- What policies did wrong, the last 64 times: errors, limits, rows that they left unusable; and watched files that do
-- not load.
-- @tparam[opt=0] number since only those after this number
-- @treturn ?{report,...} oldest first; nil, message, code
-- @usage for _, report in ipairs(engine.policies:reports()) do print(report.policy, report.text) end
function Policies:reports(since)
   if not self.engine._handle then return closed() end
   local n = C.pg_policy_reports(self.engine._handle, since or 0, report_buffer, N_REPORTS, err)
   if n < 0 then return lib.fail(n) end
   local list = {}
   for i = 0, n - 1 do
      local c = report_buffer[i]
      list[i + 1] = {
         number = c.number, policy = ffi.string(c.policy), version = c.version, text = ffi.string(c.text),
         count = c.count, unhooked = c.unhooked ~= 0,
      }
   end
   for _, name in ipairs(sorted(self._named)) do
      local entry = self._named[name]
      if entry.failure then
         list[#list + 1] = { number = 0, policy = name, version = entry.current.version, text = entry.failure, count = 1,
            unhooked = false }
      end
   end
   return list
end

-- ---- watching ---------------------------------------------------------------------------------------------------------

--- Load a policy's file, and load it anew whenever it changes; `engine:poll`, and with it every reader of a request, looks
-- at it. A file that does not load leaves the version before it in place; @{list} and @{reports} say why.
-- @tparam string name
-- @tparam string path
-- @tparam[opt] table params as for @{load}
-- @treturn ?version nil, message, code
-- @usage assert(engine.policies:watch("frugal", "policies/frugal.lua"))
function Policies:watch(name, path, params)
   options.expect("policies:watch", "name", name, "string", 2)
   options.expect("policies:watch", "path", path, "string", 2)
   local watcher = reload.watch("policies:watch", path, function()
      local _, message = self:load(name, path, params)
      self._named[name].failure = message
   end, 2)
   local version, message, code = self:load(name, path, params)
   if not version then
      watcher:close()
      return nil, message, code
   end
   if self._watched[name] then self._watched[name]:close() end
   self._watched[name], self._named[name].file = watcher, path
   self.engine._tick = self.engine._tick or function() self:tick() end
   return version
end

--- Look at the watched files now; `engine:poll` does so every 20 ms.
-- @treturn number how many were loaded, or failed to
function Policies:poll()
   local n = 0
   for _, watcher in pairs(self._watched) do n = n + watcher:poll() end
   self._looked = clock.now()
   return n
end

--- Called by every `engine:poll` once a file is watched.
-- @local
function Policies:tick()
   if clock.now() - self._looked >= LOOK then self:poll() end
end

function Policies:__tostring()
   return ("perigee.policies: %s"):format(table.concat(sorted(self._named), ", "))
end

return Policies
