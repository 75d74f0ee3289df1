-- A policy's state driven by hand: made-up views, calls of its hooks on this thread. Loaded by dofile.
local ffi = require "ffi"
local lib = require "perigee.ffi"
local vm = require "perigee.policies.vm"

local M = {}

local EXPERTS, USED = 16, 2
M.shape = { experts = EXPERTS, used = USED, layer = 1, vocabulary = 40 }

--- Memory of a routing call; field `view` is the pg_route_view.
function M.route_view(rows, experts)
   local E = experts or EXPERTS
   local v = {
      scores = ffi.new("float[?]", rows * E), choose = ffi.new("float[?]", rows * E),
      top = ffi.new("int32_t[?]", rows), cumulative = ffi.new("float[?]", rows),
      row = ffi.new("pg_hook_row[?]", rows), load = ffi.new("float[?]", E),
   }
   for i = 0, rows * E - 1 do v.scores[i] = (i * 37 % 101) / 25 - 2 end
   for i = 0, rows - 1 do
      v.top[i], v.cumulative[i] = USED, 1
      v.row[i] = { 100 + i, 0, 10 + i, 1000 + i, i % 2 }
   end
   for e = 0, E - 1 do v.load[e] = 1 / E end
   v.view = ffi.new("pg_route_view", { layer = 3, rows = rows, n_expert = E, n_used = USED, max_used = 2 * USED,
      scores = v.scores, choose = v.choose, top = v.top, cumulative = v.cumulative, row = v.row, load = v.load })
   return v
end

--- Memory of a logits call.
function M.logits_view(rows, vocabulary)
   local v = { scores = ffi.new("float[?]", rows * vocabulary), each = ffi.new("float *[?]", rows),
      row = ffi.new("pg_hook_row[?]", rows) }
   for i = 0, rows - 1 do v.each[i] = v.scores + i * vocabulary end
   v.view = ffi.new("pg_logits_view", { rows = rows, n_vocab = vocabulary, scores = v.each, row = v.row })
   return v
end

local Policy = {}
Policy.__index = Policy

--- Open a source; nil, message when it does not load.
function M.open(source, params)
   local state, about = vm.open(nil, M.shape, source, "p.lua", params)
   if not state then return nil, about end
   local hooks = vm.hooks(state)
   return setmetatable({ state = state, about = about, hooks = hooks, guard = lib.guard(function()
      hooks.drop(hooks.ud)
   end) }, Policy)
end

--- Call a hook: true, or nil and the error's text.
function Policy:call(point, view)
   if self.hooks[point](self.hooks.ud, view, lib.err) < 0 then return nil, ffi.string(lib.err.text) end
   return true
end

--- The body of `route` in a file; its text begins on line 2.
function M.route(body)
   return "local P = {} function P.route(r)\n" .. body .. "\nend return P"
end

return M
