--- A policy's source made into a state that the engine's thread can call: checked, woven, built, and tried once.
-- @module perigee.policies.vm
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local plain = require "perigee.policies.plain"

local M = {}

-- What the prelude is given besides the policy, as text: parts of perigee.h and functions to be loaded there.
local function view_text()
   local parts = { "typedef struct pg_engine pg_engine;" }
   for _, name in ipairs { "pg_hook_row", "pg_route_view", "pg_logits_view", "pg_token_view", "pg_admit_view" } do
      parts[#parts + 1] = assert(lib.cdef:match("typedef struct " .. name .. " {.-} " .. name .. ";"), name)
   end
   return table.concat(parts, "\n")
end

local function dumped(name) return string.dump(require("perigee.policies." .. name)) end

local prelude, pieces
local function load_pieces()
   prelude = dumped "prelude"
   pieces = { view_text(), dumped "sandbox", dumped "views", string.dump(plain.pack), string.dump(plain.unpack) }
end

local FIELDS = {
   name = "string", version = "number or string", params = "table", live = "boolean", keep = "table",
   route = "function", logits = "function", token = "function", admit = "function",
}
local POINTS = { "route", "logits", "token", "admit" }

-- A name that is none of `known`.
local function unknown(chunk, what, name, known)
   local names = options.names(known)
   local near = options.nearest(name, names)
   return ("%s: unknown %s %q; %s"):format(chunk, what, name,
      near and ("did you mean %q?"):format(near) or #names == 0 and "there are none" or "there are "
      .. table.concat(names, ", "))
end

-- What is wrong with what a file returned, or nil.
local function fault(chunk, about, params)
   for name, kind in pairs(about.fields) do
      local expected = FIELDS[name]
      if not expected then return unknown(chunk, "field", name, FIELDS) end
      if not expected:find(kind, 1, true) then
         return ("%s: field %q must be a %s, not a %s"):format(chunk, name, expected, kind)
      end
   end
   for name in pairs(params or {}) do
      if not about.params[tostring(name)] then return unknown(chunk, "parameter", tostring(name), about.params) end
   end
   for _, point in ipairs(POINTS) do
      if about.fields[point] then return nil end
   end
   return chunk .. ": it has none of the functions route, logits, token, admit"
end

local N_ROWS = 2

-- Calls of each hook with made-up data, a prompt's row and a generated one.
local trials = {}

function trials.route(hooks, shape, rows)
   local n = N_ROWS * shape.experts
   local scores, choose, load = ffi.new("float[?]", n), ffi.new("float[?]", n), ffi.new("float[?]", shape.experts)
   for i = 0, n - 1 do scores[i] = (i * 37 % 101) / 25 - 2 end
   ffi.fill(choose, n * 4)
   for e = 0, shape.experts - 1 do load[e] = 1 / shape.experts end
   local top = ffi.new("int32_t[?]", N_ROWS, shape.used)
   local cumulative = ffi.new("float[?]", N_ROWS, 1)
   local view = ffi.new("pg_route_view", {
      layer = shape.layer, rows = N_ROWS, n_expert = shape.experts, n_used = shape.used,
      max_used = math.min(shape.experts, 2 * shape.used), scores = scores, choose = choose, top = top,
      cumulative = cumulative, row = rows, load = load,
   })
   return hooks.route(hooks.ud, view, lib.err)
end

function trials.logits(hooks, shape, rows)
   local scores, each = ffi.new("float[?]", N_ROWS * shape.vocabulary), ffi.new("float *[?]", N_ROWS)
   for i = 0, N_ROWS - 1 do each[i] = scores + i * shape.vocabulary end
   return hooks.logits(hooks.ud, ffi.new("pg_logits_view", { rows = N_ROWS, n_vocab = shape.vocabulary, scores = each,
      row = rows }), lib.err)
end

function trials.token(hooks, _, rows)
   local text = " a"
   return hooks.token(hooks.ud, ffi.new("pg_token_view", { row = rows[1], n_new = 1, text = text, n_text = #text }),
      lib.err)
end

function trials.admit(hooks)
   return hooks.admit(hooks.ud, ffi.new("pg_admit_view", { id = 1, n_prompt = 8, max_new = 16, waiting = 1,
      kv_pages_free = 64, kv_pages = 64, verdict = 1 }), lib.err)
end

-- Call every hook once. What only made-up data can upset is upset here, and not while it serves.
local function try(vm, shape)
   local hooks = M.hooks(vm)
   local rows = ffi.new("pg_hook_row[?]", N_ROWS, { { 1, 0, 0, 0, 1 }, { 2, 0, 8, 0, 0 } })
   local point, rc = nil, 0
   for _, name in ipairs(POINTS) do
      if rc >= 0 and hooks[name] ~= nil and not (name == "route" and shape.experts == 0) then
         point, rc = name, trials[name](hooks, shape, rows)
      end
   end
   hooks.drop(hooks.ud)
   if rc < 0 then return nil, ("%s (tried with made-up data): %s"):format(point, ffi.string(lib.err.text)) end
   return true
end

--- The `const pg_hooks *` of a state, with a count that its drop gives back.
-- @tparam userdata vm
-- @treturn cdata
function M.hooks(vm) return ffi.cast("const pg_hooks *", vm:hooks()) end

-- The woven text of a source that compiles here and is text; nil, message, code.
local function compile(source, chunk)
   if source:byte() == 27 then
      return nil, chunk .. ": this is bytecode; policies are loaded from text only", "format"
   end
   local fine, message = loadstring(source, "@" .. chunk)
   if not fine then return nil, message, "format" end
   local found, weave = pcall(require, "perigee.weave")
   if not found then
      return nil, "Lua policies need LPeg (lua-lpeg of Debian, lpeg of LuaRocks): " .. weave:match "[^\n]*",
         "unsupported"
   end
   local woven
   woven, message = weave.weave(source)
   if not woven then return nil, chunk .. ": " .. message, "format" end
   fine, message = loadstring(woven, "@" .. chunk)
   if not fine then return nil, message .. " (with the limit on its work woven in)", "format" end
   return woven
end

--- Build a policy's state and try it.
-- @tparam ?cdata engine `pg_engine *`; nil: none, tenants have no names
-- @tparam table shape of the model: experts, used, layer (its first one with experts), vocabulary
-- @tparam string source
-- @tparam string chunk its name in messages
-- @tparam ?table params plain data
-- @treturn ?userdata vm; nil, message, code
-- @treturn table about: name, version, live, fields = { name = type }, params = { name = true }
function M.open(engine, shape, source, chunk, params)
   if not pieces then load_pieces() end
   local woven, message, code = compile(source, chunk)
   if not woven then return nil, message, code end
   local fine, packed = pcall(plain.pack, params or {}, true)
   if not fine then return nil, ("%s: params: %s"):format(chunk, packed), "invalid" end
   local address = engine and tonumber(ffi.cast("uintptr_t", engine)) or 0
   local function build()
      return lib.policyvm(address, prelude, pieces[1], pieces[2], pieces[3], pieces[4], pieces[5], woven, chunk, packed)
   end
   local vm, about = build()
   if not vm then return nil, about, "format" end
   about = plain.unpack(about)
   message = fault(chunk, about, params)
   if message then return nil, message, "format" end
   fine, message = try(vm, shape)
   if not fine then return nil, message, "format" end
   vm, message = build()                  -- another one: what the trial counted and kept is not carried into service
   if not vm then return nil, message, "format" end
   return vm, about
end

return M
