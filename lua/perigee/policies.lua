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
-- A policy may have the functions `route(r)`, `logits(l)`, `token(t)` and `admit(q)`; see @{r}, @{l}, @{t}, @{q}. They
-- run on the engine's thread in a Lua state of the version's own: no io, os, ffi, load or coroutines; a limit on turns
-- of loops, on processor time (250 ms) and memory (4 MiB), which holds in compiled code as well. One that raises or
-- runs over is not called any more: its rows are routed as if there were none, the request goes on, and
-- @{perigee.policies:reports} says where it happened. A new version is interpreted for its first 64 calls (up to 1 s
-- each), with its instructions counted, then compiled.
--
-- `P.params`: plain data that whoever loads the file may replace. `P.keep`: a table of plain data that the next version
-- finds in its own `P.keep` at its first call (what is not plain data, or deeper than 16 tables, stays behind; at most
-- 1 MiB).
-- @classmod perigee.policies
local ffi = require "ffi"
local clock = require "perigee.clock"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local policy_vm = require "perigee.policies.vm"
local reload = require "perigee.reload"

local C, err = lib.C, lib.err

local Policies = {}
Policies.__index = Policies

local HISTORY = 8          -- versions of a name that can be rolled back to
local LOOK = 0.005         -- seconds between two looks at watched files from within engine:poll

local out_policy = ffi.new "pg_policy *[1]"

--- What `route` is called with, once a layer and step, for all rows under this policy. Rows and experts count from 0;
-- an index out of range raises. "The softmax" is that of a row's scores over all experts, whatever the model's gate
-- does with them.
-- @table r
-- @tfield number layer the model's own number
-- @tfield number rows
-- @tfield number experts
-- @tfield number used experts that a row visits by default
-- @tfield number most experts that a row may visit
-- @tfield function get `r:get(i, e)`: router logit
-- @tfield function set `r:set(i, e, x)`: also changes the weight that the expert gets
-- @tfield function bias `r:bias(i, e, x)`: added for choosing only, to what the router compares
-- @tfield function biases `r:biases(i, t)`: the same for each expert e with a number in `t[e]`
-- @tfield function choose `r:choose(i, e[, x])`: what is added for choosing so far; or sets it
-- @tfield function ban `r:ban(i, e)`: never choose it
-- @tfield function force `r:force(i, e)`: choose it first
-- @tfield function top `r:top(i[, k])`: experts of this row; or sets it, 1 to `experts` (above `most` it means `most`)
-- @tfield function cumulative `r:cumulative(i[, share])`: only the best whose weights reach this share, 1: all
-- @tfield function entropy `r:entropy(i)`: of the softmax, in nats
-- @tfield function margin `r:margin(i)`: best score less the second best
-- @tfield function mass `r:mass(i, k)`: share of the k best in the softmax
-- @tfield function softmax `r:softmax(i[, t])`: the table `t`, or a new one, with [expert] = share
-- @tfield function load `r:load(e)`: running share of this layer's choices, over all rows
-- @tfield function request `r:request(i)`: id of its request, 0: `engine:score` or `engine:logits`
-- @tfield function tenant `r:tenant(i)`: name, or nil
-- @tfield function position `r:position(i)`: of its token in the sequence
-- @tfield function token `r:token(i)`: id
-- @tfield function prompt `r:prompt(i)`: whether it belongs to a prompt

--- What `logits` is called with, once a step, for the rows under this policy that sample.
-- @table l
-- @tfield number rows
-- @tfield number vocabulary
-- @tfield function get `l:get(i, id)`
-- @tfield function set `l:set(i, id, x)`
-- @tfield function add `l:add(i, id, x)`
-- @tfield function ban `l:ban(i, id)`
-- @tfield function request these as in @{r}
-- @tfield function tenant
-- @tfield function position
-- @tfield function token
-- @tfield function prompt

--- What `token` is called with, once a token was chosen.
-- @table t
-- @tfield number token id
-- @tfield string text what it alone decodes to
-- @tfield number count tokens generated so far, with this one
-- @tfield number position
-- @tfield number request id
-- @tfield ?string tenant
-- @tfield function stop `t:stop()`: the request ends after this token

--- What `admit` is called with, when a request could start.
-- @table q
-- @tfield number request id
-- @tfield ?string tenant
-- @tfield number prompt tokens
-- @tfield number max_new
-- @tfield number priority
-- @tfield number waiting requests
-- @tfield number running requests
-- @tfield number pages_free of the KV pool
-- @tfield number pages
-- @tfield function wait `q:wait()`: not yet; asked again before the next step
-- @tfield function refuse `q:refuse(why)`: the request fails with this text, at most 127 bytes

--- The policies of an engine.
-- @tparam perigee.engine engine
-- @treturn perigee.policies
-- @local
function Policies.new(engine)
   return setmetatable({ engine = engine, _named = {}, _watched = {}, _failures = {}, _looked = 0 }, Policies)
end

local function closed() return nil, "the engine is closed", "invalid" end

local function absent(self, name)
   local near = options.nearest(name, options.names(self._named))
   return nil, ("no policy has the name %q%s"):format(name, near and (", did you mean %q?"):format(near) or ""),
      "not_found"
end

-- ---- loading --------------------------------------------------------------------------------------------------------

-- What a string stands for: text, name in messages | nil, message, code.
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
   return text, x
end

-- The model's measures that a trial needs.
local function shape(engine)
   local info = engine:info()
   return { experts = info.experts, used = info.experts_used, layer = info.layers - info.moe_layers,
      vocabulary = info.vocabulary }
end

-- A counted pg_policy with one stage, what the version is made of; nil, message, code. A version may be wrapped again.
local function wrap(self, version)
   local rc = C.pg_policy_new(self.engine._handle, version.name, version.version, version.live and 1 or 0, out_policy,
      err)
   if rc < 0 then return lib.fail(rc) end
   local handle = out_policy[0]
   local guard = lib.guard(function() C.pg_policy_drop(handle) end)
   if version._vm then
      rc = C.pg_policy_hooks(handle, ffi.cast("const pg_hooks *", version._vm:hooks()), err)
   else
      rc = C.pg_policy_include(handle, version._table, err)
   end
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
   self._named[version.name] = entry
   local fine, message, wrong = self.engine:_policy_changed(version.name)
   if not fine then return nil, message, wrong end
   return version
end

local POINTS = { "route", "logits", "token", "admit" }

-- A version from a file's text.
local function from_text(self, entry, name, x, params)
   local text, chunk, code = read(name, x)
   if not text then return nil, chunk, code end
   local vm, about
   vm, about, code = policy_vm.open(self.engine._handle, shape(self.engine), text, chunk, params)
   if not vm then return nil, about, code end
   local points = {}
   for _, point in ipairs(POINTS) do
      if about.fields[point] then points[#points + 1] = point end
   end
   local before = entry.current
   local started = before and before._vm and (before._vm:started() and before._vm or before._before)
   if started then vm:follow(started) end
   return { name = name, label = about.version, live = about.live == true, chunk = chunk, points = points, _vm = vm,
      _before = started }
end

-- A version from knobs, a program or a list.
local function from_table(self, name, x, params)
   for _, point in ipairs(POINTS) do
      if type(rawget(x, point)) == "function" then
         return nil, "policies:load: functions of the program cannot run on the engine's thread: put the policy into a "
            .. "file of its own, and give its path or its text", "invalid"
      end
   end
   if params then return nil, "policies:load: params are for policies loaded from a file or text", "invalid" end
   local made, message, code = self.engine:_policy("policies:load", x, 4)
   if not made then return nil, message, code end
   return { name = name, live = rawget(x, "live") == true, chunk = name, points = { "route" }, _table = made }
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
-- @tparam string|table x path of a file, or its text (with a line break in it); or knobs, a program or a list of them,
-- as for @{perigee.engine:route}
-- @tparam[opt] table params plain data that replaces what the file has in `P.params`
-- @treturn ?version nil, message with file and line, code; then everything is as it was
-- @usage assert(engine.policies:load("frugal", "policies/frugal.lua", { sure = 0.8 }))
function Policies:load(name, x, params)
   options.expect("policies:load", "name", name, "string", 2)
   if params ~= nil then options.expect("policies:load", "params", params, "table", 2) end
   if type(x) ~= "table" then options.expect("policies:load", "x", x, "string", 2) end
   if not self.engine._handle then return closed() end
   local entry = self._named[name] or { last = 0, versions = {} }
   local version, message, code
   if type(x) == "table" then
      version, message, code = from_table(self, name, x, params)
   else
      version, message, code = from_text(self, entry, name, x, params)
   end
   if not version then return nil, message, code end
   version.version = entry.last + 1
   version, message, code = install(self, entry, version)
   if not version then return nil, message, code end
   entry.last, entry.failure = version.version, nil
   table.insert(entry.versions, version)
   if #entry.versions > HISTORY then table.remove(entry.versions, 1) end
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
   if not entry then return absent(self, name) end
   local versions = entry.versions
   if #versions < 2 then
      return nil, ("policy %q has no version before %d"):format(name, versions[1].version), "not_found"
   end
   local version, message, code = install(self, entry, versions[#versions - 1])
   if not version then return nil, message, code end
   table.remove(versions)
   return describe(version)
end

--- Forget a policy. Requests in flight keep it; the engine, if this was its policy, goes on without one.
-- @tparam string name
-- @treturn ?boolean true; nil, message, code ("invalid": it is one of several in a list that was routed)
function Policies:unload(name)
   options.expect("policies:unload", "name", name, "string", 2)
   if not self.engine._handle then return closed() end
   if not self._named[name] then return absent(self, name) end
   if self.engine._route == name then
      self:use(nil)
   elseif self.engine:_routes(name) then
      return nil, ("policies:unload: %q is part of the engine's route: set another one by engine:route first"):format(
         name), "invalid"
   end
   if self._watched[name] then self._watched[name]:close() end
   self._watched[name], self._named[name] = nil, nil
   return true
end

-- ---- using ----------------------------------------------------------------------------------------------------------

--- Make a policy the engine's own, for all requests that bring none; nil: none.
-- @tparam ?string name
-- @treturn ?boolean true; nil, message, code
-- @usage engine.policies:use "frugal"
function Policies:use(name)
   if name ~= nil then options.expect("policies:use", "name", name, "string", 2) end
   return self.engine:route(name)
end

--- What a name stands for now: `_handle` is its `pg_policy *`, good while the result is referenced.
-- @tparam string name
-- @treturn ?table nil, message, code
-- @local
function Policies:find(name)
   local entry = self._named[name]
   if not entry then return absent(self, name) end
   return entry.current
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
   for i, name in ipairs(options.names(self._named)) do
      local entry, versions = self._named[name], {}
      for n, version in ipairs(entry.versions) do versions[n] = version.version end
      list[i] = {
         name = name, current = describe(entry.current), versions = versions, used = self.engine._route == name,
         file = self._watched[name] and entry.file, failure = entry.failure,
      }
   end
   return list
end

--- What policies did wrong, as `engine:reports`: errors, limits, rows that they left unusable; and, with the number 0,
-- watched files that do not load as they are now.
-- @tparam[opt=0] number since only those after this number
-- @treturn ?{table,...} oldest first; nil, message, code
-- @usage for _, report in ipairs(engine.policies:reports()) do print(report.policy, report.text) end
function Policies:reports(since)
   local list, message, code = self.engine:reports(since)
   if not list then return nil, message, code end
   for _, name in ipairs(options.names(self._named)) do
      local entry = self._named[name]
      if entry.failure then
         list[#list + 1] = {
            number = 0, policy = name, version = entry.current.version, text = entry.failure, count = 1,
            unhooked = false,
         }
      end
   end
   return list
end

-- ---- watching -------------------------------------------------------------------------------------------------------

--- Load a policy's file, and load it anew whenever it changes; `engine:poll`, and with it every reader of a request,
-- looks at it. A file that does not load leaves the version before it in place; @{list} and @{reports} say why.
-- @tparam string name
-- @tparam string path
-- @tparam[opt] table params as for @{load}
-- @treturn ?version nil, message, code
-- @usage assert(engine.policies:watch("frugal", "policies/frugal.lua"))
function Policies:watch(name, path, params)
   options.expect("policies:watch", "name", name, "string", 2)
   options.expect("policies:watch", "path", path, "string", 2)
   if not self.engine._handle then return closed() end
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

--- Look at the watched files now; `engine:poll` does so every 5 ms.
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
   return ("perigee.policies: %s"):format(table.concat(options.names(self._named), ", "))
end

return Policies
