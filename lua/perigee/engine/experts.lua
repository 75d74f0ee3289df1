--- What an engine tells about its experts: counters and traces. What they mean: @{perigee.experts}.
-- @submodule perigee.engine
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"
local Tracer = require "perigee.tracer"

local C, err = lib.C, lib.err

local Engine = {}

local EXPERTS = { kind = "string" }
local TRACE = { file = "string", every = "integer" }
local KINDS = { prompt = { C.PG_EXPERTS_PROMPT }, generated = { C.PG_EXPERTS_GENERATED },
   all = { C.PG_EXPERTS_PROMPT, C.PG_EXPERTS_GENERATED } }

local function closed() return nil, "the engine is closed", "invalid" end

-- Counts of one kind added to `found`.
local function add_kind(handle, kind, info, found)
   local L, E = info.moe_layers, info.experts
   local counts, layers, tokens = ffi.new("double[?]", L * E + 1), ffi.new("int32_t[?]", L + 1), ffi.new "double[1]"
   local rc = C.pg_expert_counts(handle, kind, counts, layers, tokens, err)
   if rc < 0 then return lib.fail(rc) end
   found.tokens = found.tokens + tokens[0]
   for i = 1, L do
      found.layers[i] = layers[i - 1]
      local load = found.counts[i] or {}
      for e = 1, E do load[e] = (load[e] or 0) + counts[(i - 1) * E + e - 1] end
      found.counts[i] = load
   end
   return true
end

--- How often each expert was chosen since the engine was opened, whoever it served. Always counted.
-- @tparam[opt] table opts `kind`: "prompt": rows of prompts, scores and logits; "generated": tokens that were
-- generated and read again; "all", the default
-- @treturn ?perigee.experts.counts nil, message, code ("unsupported": the model has no experts)
-- @usage print(require("perigee.experts").summary(engine:experts()).utilisation)
function Engine:experts(opts)
   local given, message, code = options.check("engine:experts", EXPERTS, opts, 2)
   if not given then return nil, message, code end
   local kinds = KINDS[given.kind or "all"]
   if not kinds then
      return nil, ("engine:experts: kind is %q, expected all, prompt or generated"):format(given.kind), "invalid"
   end
   if not self._handle then return closed() end
   local info = self:info()
   if info.moe_layers == 0 then return nil, "engine:experts: this model has no experts", "unsupported" end
   local found = { experts = info.experts, used = info.experts_used, layers = {}, tokens = 0, counts = {} }
   for _, kind in ipairs(kinds) do
      local fine, why, name = add_kind(self._handle, kind, info, found)
      if not fine then return nil, why, name end
   end
   return found
end

--- Record into a file which experts each token takes, and with what weights, until the tracer is closed. The engine
-- does not wait for the disk: when that is too slow, tokens are left out and counted.
-- @tparam table opts `file`: path, what is there is replaced; `every`: only tokens whose position is a multiple of
-- this; default 1
-- @treturn ?perigee.tracer nil, message, code
-- @usage
-- local tracer = assert(engine:trace { file = "story.trace" })
-- engine:complete("Once upon a time", { max_new = 64 })
-- print(tracer:close().tokens)
function Engine:trace(opts)
   local given, message, code = options.check("engine:trace", TRACE, opts, 2)
   if not given then return nil, message, code end
   if not given.file then return nil, "engine:trace: file, the path to write to, is needed", "invalid" end
   if not self._handle then return closed() end
   return Tracer.open(self, given.file, given.every or 1)
end

return function(class)
   for name, method in pairs(Engine) do class[name] = method end
end
