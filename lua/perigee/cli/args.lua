--- Command lines: parsing by a table of options, and the help that the same table gives.
--
-- A command is { name, summary, operands, n_operands = {least, most}, options, notes, examples, run }; an option is
-- { "short or false", "long", "VALUE or false", key, kind, help }. Kinds: flag, string, integer, number, list (may be
-- given several times). Private to the command line.
-- @module perigee.cli.args
-- @local
local options = require "perigee.options"

local M = {}

local SHORT, LONG, VALUE, KEY, KIND, HELP = 1, 2, 3, 4, 5, 6

local HELP_OPTION = { "h", "help", false, "help", "flag", "show this help" }

local function all_options(command)
   local list = {}
   for _, option in ipairs(command.options) do list[#list + 1] = option end
   list[#list + 1] = HELP_OPTION
   return list
end

local function find(command, column, name)
   for _, option in ipairs(all_options(command)) do
      if option[column] == name then return option end
   end
end

local function unknown(command, shown, name)
   local names = {}
   for _, option in ipairs(all_options(command)) do names[#names + 1] = option[LONG] end
   local near = options.nearest(name, names)
   return nil, ("unknown option %s%s"):format(shown, near and (" (did you mean --%s?)"):format(near) or "")
end

local function convert(option, shown, text)
   local kind = option[KIND]
   if kind == "string" or kind == "list" then return text end
   local number = tonumber(text)
   if not number or number ~= number or kind == "integer" and number % 1 ~= 0 then
      return nil, ("%s takes %s, not %q"):format(shown, kind == "integer" and "a whole number" or "a number", text)
   end
   return number
end

local function store(values, option, value)
   if option[KIND] == "list" then
      values[option[KEY]] = values[option[KEY]] or {}
      table.insert(values[option[KEY]], value)
   else
      values[option[KEY]] = value
   end
end

-- One argument that begins with "-": option, how it was written, its value if that was part of the argument.
local function recognise(command, argument)
   local long, value = argument:match "^%-%-([^=]+)=?(.*)$"
   if long then
      local option = find(command, LONG, long)
      if not option then return unknown(command, "--" .. long, long) end
      return option, "--" .. long, argument:find("=", 1, true) and value or nil
   end
   local short, rest = argument:sub(2, 2), argument:sub(3)
   local option = find(command, SHORT, short)
   if not option then return unknown(command, argument, argument:sub(2)) end
   return option, "-" .. short, rest ~= "" and rest or nil
end

--- Parse the arguments of a command.
-- @tparam table command
-- @tparam {string,...} args
-- @tparam number first index of the first argument after the command's name
-- @treturn ?table values by key; nil, message
-- @treturn {string,...} operands
function M.parse(command, args, first)
   local values, operands, i, plain = {}, {}, first, false
   while args[i] do
      local argument = args[i]
      if plain or argument == "-" or argument:sub(1, 1) ~= "-" then
         operands[#operands + 1] = argument
      elseif argument == "--" then
         plain = true
      else
         local option, shown, text = recognise(command, argument)
         if not option then return nil, shown end
         if option[KIND] == "flag" then
            if text then return nil, shown .. " takes no value" end
            values[option[KEY]] = true
         else
            if not text then
               i = i + 1
               text = args[i]
            end
            if not text then return nil, ("%s needs %s"):format(shown, option[VALUE]) end
            local value, message = convert(option, shown, text)
            if value == nil then return nil, message end
            store(values, option, value)
         end
      end
      i = i + 1
   end
   local least, most = command.n_operands[1], command.n_operands[2]
   if not values.help and (#operands < least or #operands > most) then
      local wanted = command.operands == "" and "no operands" or command.operands
      return nil, ("expected %s, got %d operand%s"):format(wanted, #operands, #operands == 1 and "" or "s")
   end
   return values, operands
end

--- The help of a command.
-- @tparam table command
-- @treturn string
function M.help(command)
   local lines = { command.summary, "", ("Usage: perigee %s %s[options]"):format(command.name,
      command.operands ~= "" and command.operands .. " " or ""), "", "Options:" }
   for _, option in ipairs(all_options(command)) do
      local left = (option[SHORT] and "-" .. option[SHORT] .. ", " or "    ") .. "--" .. option[LONG]
         .. (option[VALUE] and " " .. option[VALUE] or "")
      lines[#lines + 1] = ("  %-28s %s"):format(left, option[HELP])
   end
   lines[#lines + 1] = ""
   if command.notes then lines[#lines + 1] = command.notes end
   lines[#lines + 1] = "Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C."
   lines[#lines + 1] = ""
   lines[#lines + 1] = "Examples:"
   for _, example in ipairs(command.examples) do lines[#lines + 1] = "  " .. example end
   return table.concat(lines, "\n") .. "\n"
end

return M
