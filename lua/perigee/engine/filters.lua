--- The filters an engine knows by name, and what the option `filters` of a generation means.
--
-- A name stands for one filter or for a list of them, a pack. Loading a name anew swaps it: requests in flight keep
-- what they began with. A filter file is a part of the application: Lua code that runs in the application's own state.
-- @classmod perigee.filters
local filter = require "perigee.filter"
local options = require "perigee.options"
local replace = require("perigee.chat.messages").replace
local Reader = require "perigee.filter.reader"
local Stack = require "perigee.filter.stack"

local Filters = {}
Filters.__index = Filters

--- A name that was loaded.
-- @table filter_entry
-- @tfield string name
-- @tfield number version 1 when it was loaded first, one more each time it is loaded anew
-- @tfield {perigee.filter,...} filters in declared order
-- @tfield ?string path of the file that it came from

local function closed() return nil, "the engine is closed", "invalid" end

local function is_filter(value) return getmetatable(value) == filter.Filter end

-- A filter, its options, or a list of these, as a list of filters.
local function list_of(what)
   if is_filter(what) then return { what } end
   if type(what) ~= "table" then
      return nil, ("a filter, its options, or a list of these is needed, not a %s"):format(type(what)), "invalid"
   end
   if #what == 0 then
      local fine, made, message, code = pcall(filter.make, what, 1)
      if not fine then return nil, tostring(made), "invalid" end
      if not made then return nil, message, code end
      return { made }
   end
   local list = {}
   for i, one in ipairs(what) do
      local part, message, code = list_of(one)
      if not part then return nil, ("number %d of the list: %s"):format(i, message), code end
      for _, made in ipairs(part) do list[#list + 1] = made end
   end
   return list
end

-- Lua code: a file, or source if it holds a line's end or begins with "return".
local function run(what)
   local source = what:find "\n" or what:find "^%s*return%f[%W]"
   if not source then
      local file, message = io.open(what)
      if not file then return nil, message, "not_found" end
      file:close()
   end
   local chunk, message = (source and loadstring or loadfile)(what, source and "=filter" or nil)
   if not chunk then return nil, message, "invalid" end
   local fine, value = pcall(chunk)
   if not fine then return nil, tostring(value), "invalid" end
   return value, not source and what or nil
end

--- Load a filter under a name, or swap the one that has it. When it fails the old one stays.
-- @tparam string name
-- @tparam perigee.filter|table|string what a filter, options of @{perigee.filter}, a list of these, the path of a Lua
-- file that returns one of these, or Lua source that does
-- @treturn ?number its version; nil, message, code
-- @usage assert(engine.filters:load("names", { name = "names", words = { "Voldemort" }, action = "mask" }))
function Filters:load(name, what)
   options.expect("filters:load", "name", name, "string", 2)
   if not self._engine._handle then return closed() end
   local path, code
   if type(what) == "string" then
      what, path, code = run(what)
      if what == nil then
         return nil, ("filters:load: %q: %s"):format(name, path or "the code returned nothing"), code or "invalid"
      end
   end
   local list, message
   list, message, code = list_of(what)
   if not list then return nil, ("filters:load: %q: %s"):format(name, message), code end
   local version = (self._versions[name] or 0) + 1
   self._versions[name] = version
   self._entries[name] = { name = name, version = version, filters = list, path = path }
   return version
end

--- Forget a name. Requests in flight keep what they began with.
-- @tparam string name
-- @treturn ?boolean true; nil, message, code
function Filters:unload(name)
   options.expect("filters:unload", "name", name, "string", 2)
   if not self._engine._handle then return closed() end
   if not self._entries[name] then
      return nil, ("filters:unload: no filter is called %q"):format(name), "not_found"
   end
   self._entries[name] = nil
   return true
end

--- What is loaded, by name.
-- @treturn {filter_entry,...}
function Filters:list()
   local list = {}
   for _, entry in pairs(self._entries) do
      list[#list + 1] = { name = entry.name, version = entry.version, filters = entry.filters, path = entry.path }
   end
   table.sort(list, function(a, b) return a.name < b.name end)
   return list
end

local function unknown(self, name)
   local names = {}
   for known in pairs(self._entries) do names[#names + 1] = known end
   local near = options.nearest(name, names)
   local hint = near and ("did you mean %q?"):format(near) or "load it by engine.filters:load"
   return nil, ("no filter is called %q; %s"):format(name, hint), "not_found"
end

-- What the option says: filters in declared order.
local function resolve(self, value)
   if type(value) == "string" or is_filter(value) then value = { value } end
   if type(value) ~= "table" then
      return nil, ("option \"filters\" must be a name, a filter or a list of them, not a %s"):format(type(value)),
         "invalid"
   end
   local list = {}
   for i, one in ipairs(value) do
      if type(one) == "string" then
         local entry = self._entries[one]
         if not entry then return unknown(self, one) end
         for _, loaded in ipairs(entry.filters) do list[#list + 1] = loaded end
      elseif is_filter(one) then
         list[#list + 1] = one
      else
         return nil, ("number %d of option \"filters\" is a %s, neither a name nor a filter"):format(i, type(one)),
            "invalid"
      end
   end
   return list
end

local function looking_at(list, side)
   local some = {}
   for _, one in ipairs(list) do
      if one.on[side] then some[#some + 1] = one end
   end
   return some
end

-- A text of the prompt behind filters: what is left of it | nil, message, code. Appends to events.
local function filter_text(filters, text, events)
   local stack, parts = Stack.new(filters), {}
   for _, method in ipairs { "push", "finish" } do
      local fine, message = stack:try(method, text)
      if not fine then return nil, message, "invalid" end
      for i = 1, stack.n_out do
         local what = stack.out[i]
         if type(what) == "string" then
            parts[#parts + 1] = what
         else
            events[#events + 1] = Reader.event(what, "prompt", 0)
         end
      end
   end
   local match = stack.blocked
   if match then
      return nil, ("filter %q blocks the prompt (%s): %q"):format(match.filter, match.category, match.text), "filter"
   end
   return table.concat(parts)
end

-- A list of messages, each with its texts behind filters.
local function filter_messages(filters, messages, events)
   local list, why, code = {}, nil, nil
   local function pass(text)
      if why then return text end
      local left
      left, why, code = filter_text(filters, text, events)
      return left or text
   end
   for i, message in ipairs(messages) do
      list[i] = message
      if type(message) == "table" and message.content then
         list[i] = {}
         for key, value in pairs(message) do list[i][key] = value end
         list[i].content = replace(message.content, pass)
         if why then return nil, why, code end
      end
   end
   return list
end

-- Token ids are looked at as text; they cannot be masked.
local function filter_ids(engine, filters, ids, events)
   local text, message, code = engine:decode(ids)
   if not text then return nil, message, code end
   local left
   left, message, code = filter_text(filters, text, events)
   if not left then return nil, message, code end
   if left ~= text then return nil, "a filter masks the prompt, which is token ids: give it as text", "filter" end
   return ids
end

local resolved, found                   -- of the generation that is being submitted: its filters, events of its prompt

-- A prompt behind those of a list that look at prompts; nil, message, code. Appends to events.
local function pass(engine, list, prompt, events)
   local filters = looking_at(list, "prompt")
   if #filters == 0 then return prompt end
   if type(prompt) == "string" then return filter_text(filters, prompt, events) end
   if type(prompt) ~= "table" then return prompt end              -- whoever encodes it says what is wrong
   if type(prompt[1]) == "table" then return filter_messages(filters, prompt, events) end
   return filter_ids(engine, filters, prompt, events)
end

-- Filters may generate themselves, so what they found is told only when all of them are through.
local function filter_prompt(engine, value, prompt)
   local list, message, code = resolve(engine.filters, value)
   if not list then return nil, "engine:generate: " .. message, code end
   local events = type(prompt) == "table" and prompt.filtered     -- rendered from messages that have passed
   if not events and prompt ~= nil then
      events = {}
      prompt, message, code = pass(engine, list, prompt, events)
      if prompt == nil then return nil, "engine:generate: " .. message, code end
   end
   resolved, found = list, events
   return prompt
end

function Filters:__tostring()
   return ("perigee.filters: %s"):format(table.concat(options.names(self._entries), ", "))
end

return function(Engine)
   -- Messages behind the filters of a generation's option, and the events of that, for the `filtered` of the ids that
   -- they become: messages, events | nil, message, code.
   function Engine:_filter_messages(value, list)
      if value == nil then return list, {} end
      local passed, message, code = filter_prompt(self, value, list)
      if not passed then return nil, message, code end
      return passed, found
   end

   Engine.add_member("filters", function(engine)
      return setmetatable({ _engine = engine, _entries = {}, _versions = {} }, Filters)
   end)
   Engine.add_option("filters", {
      prompt = filter_prompt,
      fill = function(_, _, request)
         resolved = looking_at(resolved, "output")
         if Reader.rewinds(resolved) then request.lead = Reader.LEAD end
         return true
      end,
      started = function(_, _, request, given)
         request:watch(Reader.new(request, resolved, given), found)
         resolved, found = nil, nil
      end,
   })
end
