--- Routing policies of an engine: knobs, programs, names and lists of them; for all rows or for one request.
--
-- A part of @{perigee.engine}. Policies are counted in C: whoever runs one keeps it, so what is made here may be
-- collected at any time. Names are looked up in `engine.policies`.
-- @submodule perigee.engine
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local policy = require "perigee.policy"

local C, err = lib.C, lib.err

local Engine = {}

local out_policy, out_value = ffi.new "pg_policy *[1]", ffi.new "float[1]"
local reports = ffi.new "pg_report[64]"

-- ---- knobs ----------------------------------------------------------------------------------------------------------

local LAYER = {
   top = "integer", cumulative = "number", temperature = "number", capacity = "number", ban = "counts",
   force = "counts", bias = "biases",
}
local KNOBS = {
   top = "integer", cumulative = "number", temperature = "number", capacity = "number", ban = "counts",
   force = "counts", bias = "biases", layers = "any", name = "string", live = "boolean",
}

--- Knobs: a table instead of code. Layers and experts count from 0, layers are the model's own numbers.
-- @table knobs
-- @tfield ?number top experts a token visits, 1 to twice the model's own number
-- @tfield ?number cumulative keep of them only the first that make up this share of their weights; 1: all
-- @tfield ?number temperature router logits are divided by it
-- @tfield ?number capacity an expert gets at most this times its even share of a step's choices, the rest goes to the
-- next best; depends on what else is in the step
-- @tfield ?number|{number,...} ban experts that are never chosen
-- @tfield ?number|{number,...} force experts that are always chosen, as far as `top` reaches
-- @tfield ?table bias { [expert] = added to what the router compares }: probabilities, or logits where the softmax
-- follows the choice; weights stay as they are
-- @tfield ?table layers { [layer] = the same knobs, without layers } on top of those for all
-- @tfield ?string name for reports
-- @tfield ?boolean live requests in flight follow its successor

local function list_of(anchor, value)
   local list = type(value) == "number" and { value } or value
   local data = ffi.new("int32_t[?]", math.max(#list, 1), list)
   anchor[#anchor + 1] = data
   return data, #list
end

local function zero(where, name)
   return nil, ("%s: %s must be above 0; leave it out to keep what the model does"):format(where, name), "invalid"
end

-- One table of knobs into a pg_knobs; the C side checks the rest. true | nil, message, code
local function fill(where, c, layer, given, anchor)
   for _, name in ipairs { "top", "cumulative", "temperature", "capacity" } do
      if given[name] == 0 then return zero(where, name) end
      c[name] = given[name] or 0
   end
   c.layer = layer
   for _, name in ipairs { "ban", "force" } do
      if given[name] then c[name], c["n_" .. name] = list_of(anchor, given[name]) end
   end
   if given.bias then
      local n = 0
      for _ in pairs(given.bias) do n = n + 1 end
      local data = ffi.new("pg_expert_bias[?]", math.max(n, 1))
      anchor[#anchor + 1] = data
      c.bias, c.n_bias = data, n
      for expert, bias in pairs(given.bias) do
         n = n - 1
         data[n].expert, data[n].bias = expert, bias
      end
   end
   return true
end

local function sorted_layers(where, layers, level)
   options.expect(where, "layers", layers, "table", level + 1)
   local list = {}
   for layer, knobs in pairs(layers) do
      if type(layer) ~= "number" or type(knobs) ~= "table" then
         error(("%s: layers must be a table of layer number = knobs"):format(where), level + 1)
      end
      list[#list + 1] = layer
   end
   table.sort(list)
   return list
end

local function add_knobs(where, handle, given, level)
   local fine, message, code = options.check(where, KNOBS, given, level + 1)
   if not fine then return nil, message, code end
   local layers = sorted_layers(where, given.layers or {}, level + 1)
   local c, anchor = ffi.new("pg_knobs[?]", #layers + 1), {}
   fine, message, code = fill(where, c[0], -1, given, anchor)
   for i, layer in ipairs(layers) do
      if not fine then break end
      local place = ("%s, layer %d"):format(where, layer)
      fine, message, code = options.check(place, LAYER, given.layers[layer], level + 1)
      if fine then fine, message, code = fill(place, c[i], layer, given.layers[layer], anchor) end
   end
   if not fine then return nil, message, code end
   local rc = C.pg_policy_knobs(handle, c, #layers + 1, err)
   if rc < 0 then
      message, code = ffi.string(err.text), lib.code_name(rc)
      return nil, where .. ": " .. message, code
   end
   return true
end

-- ---- building -------------------------------------------------------------------------------------------------------

local function named(self, where, name)
   local policies = rawget(self, "policies")
   if not policies then
      return nil, ("%s: no policy has the name %q: this engine has none"):format(where, name), "not_found"
   end
   local found, message, code = policies:find(name)
   if not found then return nil, ("%s: %s"):format(where, message), code end
   return found._handle
end

local function new(self, name, live)
   self._policy_version = (self._policy_version or 0) + 1
   local rc = C.pg_policy_new(self._handle, name, self._policy_version, live and 1 or 0, out_policy, err)
   if rc < 0 then return lib.fail(rc) end
   return lib.owned(out_policy[0], C.pg_policy_drop)
end

local add

-- The stages of a list, in its order.
local function add_list(self, where, handle, list, level)
   for i, item in ipairs(list) do
      local fine, message, code = add(self, ("%s, %d"):format(where, i), handle, item, level + 1)
      if not fine then return nil, message, code end
   end
   for key in pairs(list) do
      if type(key) ~= "number" and key ~= "name" and key ~= "live" then
         return nil, ("%s: %q stands in a list; put knobs into a table of their own within it"):format(where,
            tostring(key)), "invalid"
      end
   end
   return true
end

function add(self, where, handle, x, level)
   local rc
   if policy.is_program(x) then
      rc = policy.add(handle, x)
   elseif type(x) == "string" or type(x) == "table" and x._handle then
      local other, message, code = x._handle, nil, nil
      if type(x) == "string" then other, message, code = named(self, where, x) end
      if not other then return nil, message, code end
      rc = C.pg_policy_include(handle, other, err)
   elseif type(x) ~= "table" then
      error(("%s: expected knobs, a program, a policy's name or a list of those, not a %s"):format(where, type(x)),
         level + 1)
   elseif x[1] ~= nil then
      return add_list(self, where, handle, x, level + 1)
   else
      return add_knobs(where, handle, x, level + 1)
   end
   if rc < 0 then
      local message = ffi.string(err.text)
      return nil, ("%s: %s"):format(where, message), lib.code_name(rc)
   end
   return true
end

local function kind_of(x)
   return policy.is_program(x) and "program" or x[1] ~= nil and "list" or "knobs"
end

--- Make a policy of what @{Engine:route} takes: a counted `pg_policy *`. A single name gives that very policy.
-- @local
function Engine:_policy(where, x, level)
   if not self._handle then return nil, "the engine is closed", "invalid" end
   if type(x) == "string" then return named(self, where, x) end
   if type(x) == "table" and x._handle then return x._handle end
   if type(x) ~= "table" then
      error(("%s: expected knobs, a program, a policy's name or a list of those, not a %s"):format(where, type(x)),
         level + 1)
   end
   options.expect(where, "name", x.name or "", "string", level + 1)
   local handle, message, code = new(self, x.name or kind_of(x), x.live)
   if not handle then return nil, message, code end
   local fine
   fine, message, code = add(self, where, handle, x, level + 1)
   if not fine then return nil, message, code end
   return handle
end

-- Whether a policy of this name is part of what was routed.
local function mentions(x, name)
   if type(x) ~= "table" or policy.is_program(x) then return x == name end
   for _, item in ipairs(x) do
      if mentions(item, name) then return true end
   end
   return false
end

--- Set the engine's default policy, that of all requests that bring none, from the next step on.
-- @tparam ?knobs|program|string|{...} x knobs, a program of @{perigee.policy}, the name of a policy, or a list of those
-- that are applied in its order; nil: none
-- @treturn ?boolean true; nil, message, code
-- @usage engine:route { top = 4, layers = { [3] = { ban = { 1, 7 }, bias = { [12] = 0.5 } } } }
function Engine:route(x)
   if not self._handle then return nil, "the engine is closed", "invalid" end
   local handle, message, code
   if x ~= nil then
      handle, message, code = self:_policy("engine:route", x, 2)
      if not handle then return nil, message, code end
   end
   local rc = C.pg_engine_route(self._handle, handle, err)
   if rc < 0 then return lib.fail(rc) end
   self._route, self._route_handle = x, handle
   return true
end

--- Whether a policy is the engine's own, or a part of that.
-- @local
function Engine:_routes(name) return mentions(self._route, name) end

--- A policy has a new version: a default that is a list with its name is made anew. Requests in flight keep the old.
-- @local
function Engine:_policy_changed(name)
   local x = self._route
   if type(x) ~= "table" or not self._handle or not self:_routes(name) then return true end
   local handle, message, code = self:_policy("engine:route", x, 2)
   if not handle then return nil, message, code end
   local rc = C.pg_policy_replace(self._handle, self._route_handle, handle, err)
   if rc < 0 then return lib.fail(rc) end
   self._route_handle = handle
   return true
end

-- ---- knobs of programs ----------------------------------------------------------------------------------------------

local function knob_names(handle)
   local names = {}
   while C.pg_knob_name(handle, #names) ~= nil do names[#names + 1] = ffi.string(C.pg_knob_name(handle, #names)) end
   return names
end

-- Why a knob cannot be set, for people.
local function refuse(handle, name, rc)
   if rc ~= C.PG_ENOTFOUND then error("engine.knobs: " .. ffi.string(err.text), 3) end
   local names = knob_names(handle)
   local near = options.nearest(name, names)
   error(("engine.knobs: no program of this engine has a knob %s; %s"):format(name,
      near and ("did you mean %s?"):format(near) or #names > 0 and "there are " .. table.concat(names, ", ")
      or "there are none yet"), 3)
end

-- The table engine.knobs: reads nil for what no program has named, raises for writing that.
local function knobs_of(engine)
   local Knobs = {}
   function Knobs.__index(_, name)
      if not engine._handle or type(name) ~= "string" then return nil end
      if C.pg_knob_get(engine._handle, name, out_value, err) < 0 then return nil end
      return out_value[0]
   end
   function Knobs.__newindex(_, name, value)
      if not engine._handle then error("engine.knobs: the engine is closed", 2) end
      options.expect("engine.knobs", "a name", name, "string", 2)
      if type(value) ~= "number" then
         error(("engine.knobs: %s must be a number, not a %s"):format(name, type(value)), 2)
      end
      local rc = C.pg_knob_set(engine._handle, name, value, err)
      if rc < 0 then refuse(engine._handle, name, rc) end
   end
   function Knobs.__tostring()
      local shown = {}
      for i, name in ipairs(engine._handle and knob_names(engine._handle) or {}) do
         C.pg_knob_get(engine._handle, name, out_value, err)
         shown[i] = ("%s = %.9g"):format(name, out_value[0])
      end
      return "{ " .. table.concat(shown, ", ") .. " }"
   end
   return setmetatable({}, Knobs)
end

-- ---- reports --------------------------------------------------------------------------------------------------------

--- Something that a policy did wrong.
-- @table report
-- @tfield number number from 1, never used twice
-- @tfield string policy its name
-- @tfield number version
-- @tfield ?number layer where it was seen first; nil: not in a layer
-- @tfield string text what and where
-- @tfield number count rows or calls
-- @tfield boolean unhooked the stage is not called any more

--- What policies did wrong: rows that they left unusable, code that failed. The last 64 are kept.
-- @tparam[opt=0] number since only those with a number above this
-- @treturn ?{report,...} oldest first; nil, message, code
-- @usage for _, r in ipairs(engine:reports()) do print(r.policy, r.text, r.count) end
function Engine:reports(since)
   if not self._handle then return nil, "the engine is closed", "invalid" end
   options.expect("engine:reports", "since", since or 0, "number", 2)
   local n = C.pg_policy_reports(self._handle, since or 0, reports, 64, err)
   if n < 0 then return lib.fail(n) end
   local list = {}
   for i = 0, n - 1 do
      local r = reports[i]
      list[i + 1] = {
         number = r.number, policy = ffi.string(r.policy), version = r.version,
         layer = r.layer >= 0 and r.layer or nil, text = ffi.string(r.text),
         count = r.count, unhooked = r.unhooked ~= 0,
      }
   end
   return list
end

return function(class)
   for name, method in pairs(Engine) do class[name] = method end
   class.add_member("knobs", knobs_of)
   class.add_option("route", {
      fill = function(engine, value, request, anchor)
         local handle, message, code = engine:_policy("engine:generate, route", value, 5)
         if not handle then return nil, message, code end
         anchor.policy, request.policy = handle, handle
         return true
      end,
   })
   class.add_option("tenant", {
      fill = function(_, value, request, anchor)
         anchor.tenant, request.tenant = value, value
         return true
      end,
   })
end
