--- A budget woven into Lua source: the text that comes out does what the text that went in does, and counts down one
-- unit for every turn of a loop, every call of a Lua function and every `goto`; below zero it calls for help.
--
-- LuaJIT runs no debug hooks in compiled code, so nothing from outside ends a loop there; a countdown that is part of
-- the program does. This is a scanner (LPeg) and no more: where a body begins follows from the tokens alone (after `do`
-- and `repeat`, after the parameters of a function), and what is put there declares nothing, so that scopes, labels and
-- the limits on locals stay what they were. No line moves: messages name the lines of the file.
--
-- What the counter is, and who raises, is the business of the caller: perigee.policies.
-- @module perigee.weave
-- @local
local lpeg = require "lpeg"

local C, Cc, Cmt, Cp, Ct, P, R, S = lpeg.C, lpeg.Cc, lpeg.Cmt, lpeg.Cp, lpeg.Ct, lpeg.P, lpeg.R, lpeg.S

local M = {}

-- ---- tokens ---------------------------------------------------------------------------------------------------------

local white, newline = S " \t\v\f\r\n", S "\r\n"
local digit, letter = R "09", R("az", "AZ", "\128\255") + "_"

-- [[ ... ]] with as many = between the brackets of the end as between those of the beginning.
local long = Cmt("[" * C(P "=" ^ 0) * "[", function(text, at, level)
   local _, last = text:find("]" .. level .. "]", at, true)
   return last and last + 1
end)

local blank = (white + "--" * (long + (1 - newline) ^ 0)) ^ 0

local function quoted(mark)
   local escape = "\\" * ("z" * white ^ 0 + "\r\n" + "\n\r" + P(1))
   return mark * (escape + (1 - (newline + "\\" + mark))) ^ 0 * mark
end

-- As the compiler's own scanner has it: every letter, digit and point is taken, and a sign after the exponent's letter.
local function number(exponent) return (S(exponent) * S "+-" + letter + digit + ".") ^ 1 end

local value = #(P "." ^ -1 * digit) * (#("0" * S "xX") * number "pP" + number "eE") + quoted "'" + quoted '"' + long
local mark = P "..." + "::" + "==" + "~=" + "<=" + ">=" + ".." + S "+-*/%^#<>=(){}[];:,."

-- place, text of a word or mark (false: a number or string), place after, whether it is a word
local token = Cp() * (value * Cc(false) * Cp() * Cc(false)
   + C(letter * (letter + digit) ^ 0) * Cp() * Cc(true) + C(mark) * Cp() * Cc(false))
local tokens = blank * Ct((Ct(token) * blank) ^ 0) * Cp()

local function set(text)
   local members = {}
   for member in text:gmatch "%S+" do members[member] = true end
   return members
end

-- After these an expression or a name goes on, so that a `goto` is no statement there but a name: it is not reserved.
local OPEN = set [[ + - * / % ^ # == ~= <= >= < > = ( [ { , . : ..
   and or not in until if while elseif return local function for goto ]]
local RESERVED = set [[ and break do else elseif end false for function if in local nil not or repeat return then true
   until while ]]

-- ---- weaving --------------------------------------------------------------------------------------------------------

-- A name that the source does not use, so that it can neither see nor shadow what the name stands for.
local function unused(list)
   local used, name, n = {}, "_budget", 0
   for _, t in ipairs(list) do
      if t[4] then used[t[2]] = true end
   end
   while used[name] do
      n = n + 1
      name = "_budget" .. n
   end
   return name
end

-- Where the count goes: the places in the text before which it is put, in order.
local function places(list)
   local found, header = {}, false
   for i, t in ipairs(list) do
      local text, before, after = t[2], list[i - 1], list[i + 1]
      if text == "function" and t[4] then
         header = true
      elseif header and text == ")" then
         header = false
         found[#found + 1] = t[3]
      elseif (text == "do" or text == "repeat") and t[4] then
         found[#found + 1] = t[3]
      elseif text == "goto" and after and after[4] and not RESERVED[after[2]]
         and not (before and OPEN[before[2]]) then
         found[#found + 1] = t[1]
      end
   end
   return found
end

--- Weave the count into a source.
-- @tparam string source text that compiles; a first line that begins with # and a byte order mark are left out, as the
-- compiler leaves them out
-- @treturn ?string text of a chunk that takes the counter and returns the source as a function of `...`. The counter
-- has a field `n`, counted down, and a method `over`, called when it is below zero: at the line that counted. nil,
-- message when the text is no Lua
function M.weave(source)
   local skipped = source:gsub("^\239\187\191", ""):gsub("^#[^\r\n]*", "")
   local list, last = tokens:match(skipped)
   if last <= #skipped then
      local _, line = skipped:sub(1, last):gsub("\n", "")
      return nil, ("line %d: no token of Lua begins with %q"):format(line + 1, skipped:sub(last, last))
   end
   local name = unused(list)
   local count = (" %s.n=%s.n-1 if %s.n<0 then %s:over()end "):format(name, name, name, name)
   local parts, from = { "local ", name, "=... return function(...)", count }, 1
   for _, at in ipairs(places(list)) do
      parts[#parts + 1] = skipped:sub(from, at - 1)
      parts[#parts + 1] = count
      from = at
   end
   parts[#parts + 1] = skipped:sub(from)
   parts[#parts + 1] = "\nend"
   return table.concat(parts)
end

return M
