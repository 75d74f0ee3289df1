--- Chat templates: the language in which model files say how a conversation becomes a prompt (Jinja). Made by
-- @{perigee.template}, or by @{perigee.engine:template} from the model at hand.
--
-- The language is Jinja 3.1 as chat templates use it: all statements but those that load other templates, all
-- expressions, the built-in filters and tests, methods of strings, lists and dicts, with Python's rules for values; and
-- `raise_exception`, `strftime_now`, `tojson`, `{% generation %}`, `break` and `continue`. White space is treated as
-- transformers does (trim_blocks, lstrip_blocks). Templates come from strangers: they see nothing but the variables
-- they are given, change none of them, and end in an error when they compute, print or recurse too much.
-- @classmod perigee.template
local compile = require "perigee.template.compile"
local filters = require "perigee.template.filters"
local globals = require "perigee.template.globals"
local clock = require "perigee.template.clock"
local options = require "perigee.options"
local parse = require "perigee.template.parse"
local tests = require "perigee.template.tests"
local values = require "perigee.template.values"
local variables = require "perigee.template.variables"

local Template = {}
Template.__index = Template

local KNOWN = { filters = filters, tests = tests }
local RENDER = { now = "string", max_bytes = "number", max_steps = "number" }
local MAX_SOURCE = 4 * 1024 * 1024
local MAX_BYTES, MAX_STEPS = 64 * 1024 * 1024, 5e6

-- What a failed pcall says: message, code.
local function explained(problem, line, default)
   if type(problem) ~= "table" then
      problem = { message = tostring(problem):find "stack overflow" and "nested too deeply" or tostring(problem),
         code = "limit" }
   end
   if problem.raised then return problem.message, "invalid" end
   line = problem.line or line
   return ("template%s: %s"):format(line and ", line " .. line or "", problem.message), problem.code or default
end

--- Compile a template; public as @{perigee.template}.
-- @local
function Template.new(source)
   if #source > MAX_SOURCE then
      return nil, ("template: it is longer than %d bytes"):format(MAX_SOURCE), "limit"
   end
   local fine, run = pcall(function() return compile(parse(source, KNOWN)) end)
   if not fine then return nil, explained(run, nil, "format") end
   return setmetatable({ source = source, _run = run, _defaults = {} }, Template)
end

--- How to render.
-- @table render_options
-- @tfield ?string now what `strftime_now` tells, "YYYY-MM-DDTHH:MM:SS"; default: the present, local time
-- @tfield ?number max_bytes of output; default 64 MiB
-- @tfield ?number max_steps that may be computed, a step being about a tenth of a microsecond; default 5 million

--- Render with variables.
--
-- `tools` and `documents` are none and `add_generation_prompt` is false unless they are given; a template of
-- @{perigee.engine:template} knows the model's `bos_token` and `eos_token`.
-- @tparam table|string vars name = value: strings, numbers, booleans, lists and maps of these, values of
-- @{perigee.json}; or the text of a JSON object, whose key order is kept. Keys of plain Lua maps are sorted.
-- @tparam[opt] render_options opts
-- @treturn ?string nil, message, code: "invalid" (also for what the template itself raises: its message alone),
-- "limit", "format" (vars is no JSON)
-- @usage print(assert(template:render { messages = { { role = "user", content = "Hi" } } }))
function Template:render(vars, opts)
   local where = "template:render"
   if type(vars) ~= "table" and type(vars) ~= "string" then
      error(("%s: vars must be a table or JSON text, not a %s"):format(where, type(vars)), 2)
   end
   local given, message, code = options.check(where, RENDER, opts, 2)
   if not given then return nil, message, code end
   if given.now and not clock.parse(given.now) then
      return nil, where .. ': now must be "YYYY-MM-DDTHH:MM:SS"', "invalid"
   end
   vars, message, code = variables(vars, self._defaults)
   if not vars then return nil, where .. ": " .. message, code end
   local s = { vars = vars, out = {}, n = 0, size = 0, depth = 0, max_size = given.max_bytes or MAX_BYTES }
   globals.set_now(given.now)
   values.allow(given.max_steps or MAX_STEPS)
   local fine, problem = pcall(self._run, { s = s })
   if not fine then return nil, explained(problem, s.line, "invalid") end
   return table.concat(s.out, "", 1, s.n)
end

function Template:__tostring() return "perigee.template" end

return Template
