--- The stages that come with @{perigee.pipeline}; each function makes one.
-- @module perigee.pipeline.stages
-- @local
local options = require "perigee.options"
local mask = require "perigee.pipeline.mask"

local M = {}

local function last_user(list)
   for i = #list, 1, -1 do
      if list[i].role == "user" then return i end
   end
end

-- Put text into the system message, behind what it says already.
local function tell(context, text)
   local first = context.messages[1]
   if first and first.role == "system" then
      first.content = first.content .. "\n\n" .. text
   else
      table.insert(context.messages, 1, { role = "system", content = text })
   end
   return context
end

--- Tell the model something before all else.
-- @function perigee.pipeline.system
-- @tparam string text
-- @treturn table stage
function M.system(text)
   options.expect("perigee.pipeline.system", "text", text, "string", 2)
   return { name = "system", run = function(context) return tell(context, text) end }
end

--- Show examples of what is wanted: turns in front of the conversation.
-- @function perigee.pipeline.few_shot
-- @tparam {table,...} examples each a question and its answer: `{ "2 + 2?", "4" }`
-- @treturn table stage
function M.few_shot(examples)
   options.expect("perigee.pipeline.few_shot", "examples", examples, "table", 2)
   return { name = "few_shot", run = function(context)
      local at = context.messages[1] and context.messages[1].role == "system" and 2 or 1
      for i, example in ipairs(examples) do
         table.insert(context.messages, at + 2 * i - 2, { role = "user", content = example[1] })
         table.insert(context.messages, at + 2 * i - 1, { role = "assistant", content = example[2] })
      end
      return context
   end }
end

--- Give the model what a search finds for the user's last message.
-- @function perigee.pipeline.retrieve
-- @tparam function search (query, context) -> a text or a list of texts, best first; nil: nothing; nil, message: failed
-- @tparam[opt] table how `most`: texts at most, default 4; `title`: line in front of them
-- @treturn table stage
function M.retrieve(search, how)
   options.expect("perigee.pipeline.retrieve", "search", search, "function", 2)
   how = how or {}
   return { name = "retrieve", run = function(context)
      local at = last_user(context.messages)
      if not at then return context end
      local found, message = search(context.messages[at].content, context)
      if found == nil and message then return nil, message end
      if type(found) == "string" then found = { found } end
      if not found or #found == 0 then return context end
      local lines = { how.title or "Use these passages where they help:" }
      for i = 1, math.min(#found, how.most or 4) do lines[#lines + 1] = ("[%d] %s"):format(i, found[i]) end
      context.state.passages = found
      return tell(context, table.concat(lines, "\n"))
   end }
end

--- Leave out the oldest turns until the messages have at most so many tokens. The system message and the last turn
-- stay.
-- @function perigee.pipeline.history
-- @tparam[opt] number tokens default: three quarters of the context
-- @treturn table stage
function M.history(tokens)
   if tokens ~= nil then options.expect("perigee.pipeline.history", "tokens", tokens, "number", 2) end
   return { name = "history", run = function(context)
      local engine = context.engine
      local most = tokens or math.floor(engine:info().context * 3 / 4)
      local size, total, list = {}, 0, context.messages
      for i, message in ipairs(list) do
         size[i] = #assert(engine:encode(message.content or "", { bos = false })) + 4   -- four for the turn's own marks
         total = total + size[i]
      end
      local last, drop = last_user(list) or #list, {}
      for i = 1, last - 1 do
         if total <= most then break end
         if list[i].role ~= "system" then drop[i], total = true, total - size[i] end
      end
      for i = 1, last - 1 do                             -- an answer whose question is gone says nothing
         if not drop[i] and list[i].role == "assistant" and drop[i - 1] then drop[i] = true end
      end
      context.messages = {}
      for i, message in ipairs(list) do
         if not drop[i] then context.messages[#context.messages + 1] = message end
      end
      return context
   end }
end

--- Describe tools to the model; their calls come as events of the reply.
-- @function perigee.pipeline.tools
-- @tparam {table,...} tools as in @{perigee.chat.chat_options}
-- @treturn table stage
function M.tools(tools)
   options.expect("perigee.pipeline.tools", "tools", tools, "table", 2)
   return { name = "tools", run = function(context)
      for _, tool in ipairs(tools) do context.tools[#context.tools + 1] = tool end
      return context
   end }
end

--- Render the prompt otherwise than by the model's own chat template.
-- @function perigee.pipeline.template
-- @tparam string|perigee.template|function template Jinja, or a function of the context that returns the prompt's text
-- @treturn table stage
function M.template(template)
   return { name = "template", run = function(context)
      if type(template) ~= "function" then
         context.template = template
         return context
      end
      local text, message, code = template(context)
      if type(text) ~= "string" then return nil, message or "the template gave no text", code end
      context.prompt = text
      return context
   end }
end

--- Translate the user's messages before the model sees them, and the answer back.
-- @function perigee.pipeline.translate
-- @tparam table how `to`: language the model works in; `from`: language of the user; `with`: function (text, language)
-- -> text, by default a request to the engine itself; `answer`: false: leave the answer alone
-- @treturn table stage
function M.translate(how)
   options.expect("perigee.pipeline.translate", "how", how, "table", 2)
   local function ask(context)
      return function(text, language)
         return context.engine:complete({ { role = "user",
            content = ("Translate into %s, and write nothing else:\n%s"):format(language, text) } },
               { temperature = 0 })
      end
   end
   return { name = "translate", run = function(context)
      local with = how.with or ask(context)
      for _, message in ipairs(context.messages) do
         if message.role == "user" then
            local text, why, code = with(message.content, how.to)
            if not text then return nil, why, code end
            message.content = text
         end
      end
      if how.from and how.answer ~= false then
         local held = {}
         context.output[#context.output + 1] = {          -- a translation needs the whole answer
            push = function(_, text)
               held[#held + 1] = text
               return ""
            end,
            finish = function()
               local text = table.concat(held)
               return text ~= "" and assert(with(text, how.from)) or ""
            end,
         }
      end
      return context
   end }
end

--- Keep personal data from the model: what filters find in messages becomes a sign such as [EMAIL_1], and signs in the
-- answer become what they stood for.
-- @function perigee.pipeline.mask_pii
-- @tparam[opt] table how `filters`: list of @{perigee.filter} objects, default: the built-in PII pack; `unmask`: false:
-- signs stay in the answer
-- @treturn table stage
function M.mask_pii(how) return mask.stage(how or {}) end

return M
