--- Prompt pipelines: what happens to messages before the model sees them, and to its answer before anybody else does.
--
-- A pipeline is a list of stages. A stage is a function that takes a context and returns it (or another), or nil and a
-- reason, which ends the run. The stages that come with perigee are functions of this module that make one. Nothing
-- here touches the engine's thread; a stage may call the engine, a database or a service as it likes.
-- @module perigee.pipeline
local options = require "perigee.options"
local messages = require "perigee.chat.messages"
local formats = require "perigee.chat.formats"
local Reply = require "perigee.chat.reply"
local loader = require "perigee.loader"

local M = {}

local Pipeline = {}
Pipeline.__index = Pipeline

--- What stages pass on.
-- @table context
-- @tfield perigee.engine engine
-- @tfield {table,...} messages each with role and content; stages change copies
-- @tfield table vars variables of the chat template
-- @tfield table options of @{perigee.engine:generate}
-- @tfield {table,...} tools as in @{perigee.chat.chat_options}
-- @tfield ?perigee.template template in place of the model's own
-- @tfield ?string prompt text, once a stage made it; else the chat template does
-- @tfield {table,...} output rewriters of the answer, first to last: each with push(text) and finish(), both give text
-- @tfield table state whatever stages want to hand to later ones

local function check_stage(stage, number)
   local run = type(stage) == "table" and stage.run or stage
   if type(run) ~= "function" then
      error(("perigee.pipeline: stage %d must be a function or a table with run, not a %s"):format(number,
         type(stage)), 3)
   end
   return { name = type(stage) == "table" and stage.name or "stage " .. number, run = run }
end

--- Make a pipeline; public as `perigee.pipeline { stage, ... }`.
-- @tparam {function|table,...} stages functions, or `{ name =, run = function }`
-- @treturn perigee.pipeline
-- @usage
-- local pipeline = perigee.pipeline {
--    perigee.pipeline.system "Answer briefly.",
--    function(context) context.options.max_new = 64 return context end,
-- }
function M.new(stages)
   if type(stages) ~= "table" then
      error("perigee.pipeline: expected a list of stages, not a " .. type(stages), 2)
   end
   local self = setmetatable({}, Pipeline)
   for number, stage in ipairs(stages) do self[number] = check_stage(stage, number) end
   return self
end

local function copy(t)
   local new = {}
   for key, value in pairs(t or {}) do new[key] = value end
   return new
end

--- Run the stages.
-- @tparam perigee.engine engine
-- @tparam string|{table,...} input text of a user's message, or messages
-- @tparam[opt] table opts options of @{perigee.engine:generate}, and `tools`, `vars` and `template` of
-- @{perigee.chat.chat_options}
-- @treturn ?context nil, message, code: the message names the stage
function Pipeline:run(engine, input, opts)
   local list = type(input) == "string" and { { role = "user", content = input } } or input
   options.expect("pipeline:run", "input", list, "table", 2)
   local fine, message, code = messages.check("pipeline:run", list)
   if not fine then return nil, message, code end
   local context = { engine = engine, messages = {}, options = copy(opts), output = {}, state = {} }
   for i, one in ipairs(list) do context.messages[i] = copy(one) end
   for _, name in ipairs { "tools", "template" } do
      context[name], context.options[name] = context.options[name], nil
   end
   context.vars, context.options.vars = copy(context.options.vars), nil
   context.tools = context.tools or {}
   for _, stage in ipairs(self) do
      local ran, result, why, name = pcall(stage.run, context)
      if not ran then return nil, ("pipeline, %s: %s"):format(stage.name, result), "invalid" end
      if type(result) ~= "table" then
         return nil, ("pipeline, %s: %s"):format(stage.name, why or "it returned no context"), name or "invalid"
      end
      context = result
   end
   return context
end

-- All rewriters as one.
local function chain(output)
   local function through(text, from, finish)
      for i = from, #output do
         text = output[i]:push(text)
         if finish then text = text .. output[i]:finish() end
      end
      return text
   end
   return {
      push = function(_, text) return through(text, 1, false) end,
      finish = function() return through("", 1, true) end,
   }
end

local function prompt_of(context)
   if context.prompt then return context.prompt, context.prompt, formats.plain end
   local tools, by_name = messages.tools("pipeline", context.tools)
   if not tools then return nil, by_name, "invalid" end
   local template, message, code = context.template
   if type(template) == "string" then
      template, message, code = loader.compile(template)
      if not template then return nil, message, code end
   end
   return messages.prompt(context.engine, context.messages, { template = template, tools = tools, vars = context.vars })
end

--- Run the stages and generate.
-- @tparam perigee.engine engine
-- @tparam string|{table,...} input as for @{Pipeline:run}
-- @tparam[opt] table opts as for @{Pipeline:run}
-- @treturn ?perigee.reply whose text has passed the context's rewriters; nil, message, code
-- @usage print(assert(pipeline:generate(engine, "Hello")):result().text)
function Pipeline:generate(engine, input, opts)
   local context, message, code = self:run(engine, input, opts)
   if not context then return nil, message, code end
   local events
   context.messages, events, code = engine:_filter_messages(context.options.filters, context.messages)
   if not context.messages then return nil, events, code end
   local prompt, text, format = prompt_of(context)
   if not prompt then return nil, text, format end
   if type(prompt) == "table" then prompt.filtered = events end
   local given = copy(context.options)
   if format.special then given.special = true end
   local request
   request, message, code = engine:generate(prompt, given)
   if not request then return nil, message, code end
   local calls = 0
   return Reply.new(request, format, formats.first(format, text), {
      rewrite = #context.output > 0 and chain(context.output) or nil,
      new_id = function()
         calls = calls + 1
         return ("call%05d"):format(calls)
      end,
      ended = function() end,
   })
end

function Pipeline:__tostring()
   local names = {}
   for i, stage in ipairs(self) do names[i] = stage.name end
   return "perigee.pipeline " .. table.concat(names, " | ")
end

for name, make in pairs(require "perigee.pipeline.stages") do M[name] = make end

return setmetatable(M, { __call = function(_, stages) return M.new(stages) end })
