--- Template text to tokens, with what Jinja says about white space around tags.
--
-- LPeg patterns know the tokens; a loop matches one after the other, because whether `}}` ends a tag depends on the
-- brackets that are open. trim_blocks and lstrip_blocks are on, as chat templates expect. What tokens mean together is
-- not here: parse.lua.
--
-- Source: Jinja's documentation, "Template Designer Documentation", white space control and literals.
-- @module perigee.template.lexer
-- @local
local lpeg = require "perigee.template.lpeg"
local text = require "perigee.template.text"
local utf8 = require "perigee.utf8"

local C, Cc, Cp, P, R, S = lpeg.C, lpeg.Cc, lpeg.Cp, lpeg.P, lpeg.R, lpeg.S

local M = {}

local space = lpeg.space

-- Numbers. Underscores may stand between digits.
local digit = R "09"
local digits = digit * (P "_" ^ -1 * digit) ^ 0
local exponent = S "eE" * S "+-" ^ -1 * digits
local float = digits * (("." * digits) * exponent ^ -1 + exponent)
local hex = R("09", "af", "AF")
local based = P "0" * (S "xX" * (P "_" ^ -1 * hex) ^ 1 + S "oO" * (P "_" ^ -1 * R "07") ^ 1
   + S "bB" * (P "_" ^ -1 * S "01") ^ 1)
local integer = based + R "19" * (P "_" ^ -1 * digit) ^ 0 + P "0" * (P "_" ^ -1 * P "0") ^ 0

local letter = R("az", "AZ", "\128\255") + "_"
local name = letter * (letter + digit) ^ 0

local function quoted(mark) return P(mark) * (P "\\" * 1 + (1 - S("\\" .. mark))) ^ 0 * mark end

local operator = P "//" + "**" + "==" + "!=" + ">=" + "<=" + S "+-*/%~[](){}<>=.:|,;"

local token = space ^ 0 * Cp() * (Cc "float" * C(float) + Cc "integer" * C(integer) + Cc "name" * C(name)
   + Cc "string" * C(quoted "'" + quoted '"') + Cc "operator" * C(operator)) * Cp()

local skip = space ^ 0 * Cp()
local spaces = space ^ 0

local sign = C(S "-+" ^ -1)
local raw_begin = P "{%" * sign * spaces * "raw" * spaces * (P "-%}" * spaces + "%}") * Cp()
local endraw = P "{%" * sign * spaces * "endraw" * spaces * (P "+%}" + P "-%}" * spaces + P "%}" * P "\n" ^ -1) * Cp()
local comment_end = (P "+#}" + P "-#}" * spaces + P "#}" * P "\n" ^ -1) * Cp()
local variable_end = (P "-}}" * spaces + "}}") * Cp()
local block_end = (P "+%}" + P "-%}" * spaces + P "%}" * P "\n" ^ -1) * Cp()


local function find_from(pattern)
   return (1 - pattern) ^ 0 * Cp() * pattern
end

local tag = find_from(P "{" * S "{%#")
local find_endraw, find_comment_end = find_from(endraw), find_from(comment_end)

local SIMPLE = { ["\n"] = "", ["\\"] = "\\", ["'"] = "'", ['"'] = '"', a = "\a", b = "\b", f = "\f", n = "\n",
   r = "\r", t = "\t", v = "\v" }
local HEX = { x = 2, u = 4, U = 8 }

-- A string literal without its quotes, escapes as Python reads them; nil, why.
local function unescape(source)
   if not source:find("\\", 1, true) then return source end
   local parts, from = {}, 1
   while true do
      local at = source:find("\\", from, true)
      if not at then break end
      parts[#parts + 1] = source:sub(from, at - 1)
      local char = source:sub(at + 1, at + 1)
      local octal = source:match("^[0-7][0-7]?[0-7]?", at + 1)
      if SIMPLE[char] then
         parts[#parts + 1], from = SIMPLE[char], at + 2
      elseif octal then
         parts[#parts + 1], from = utf8.char(tonumber(octal, 8)), at + 1 + #octal
      elseif HEX[char] then
         local code = source:match("^" .. ("%x"):rep(HEX[char]), at + 2)
         code = code and tonumber(code, 16)
         if not code or code > 0x10FFFF then return nil, "truncated or unknown escape \\" .. char .. " in a string" end
         if code >= 0xD800 and code <= 0xDFFF then code = 0xFFFD end
         parts[#parts + 1], from = utf8.char(code), at + 2 + HEX[char]
      elseif char == "N" then
         return nil, "characters by name, \\N, are not known here; write \\u and the number"
      else
         parts[#parts + 1], from = "\\", at + 1
      end
   end
   return table.concat(parts) .. source:sub(from)
end

local CLOSES = { ["("] = ")", ["["] = "]", ["{"] = "}" }
local OPENS = { [")"] = true, ["]"] = true, ["}"] = true }

local Lexer = {}
Lexer.__index = Lexer

-- Line of a position; positions only grow.
function Lexer:line_of(at)
   local newlines, i = self.newlines, self.line
   while newlines[i] and newlines[i] < at do i = i + 1 end
   self.line = i
   return i
end

function Lexer:fail(at, what)
   error({ message = what, line = self:line_of(at) })
end

function Lexer:put(kind, value, at)
   local n = self.n + 1
   self.n, self.kinds[n], self.values[n], self.lines[n] = n, kind, value, self:line_of(at)
end

-- Text in front of a tag, shortened as the tag's sign says.
function Lexer:data(from, last, mark, block)
   local data = self.source:sub(from, last)
   if mark == "-" then
      data = text.rstrip(data)
   elseif mark ~= "+" and block then
      local kept, tail = data:match "^(.*\n)([^\n]*)$"
      if not kept then kept, tail = "", self.line_starting and data or "x" end
      if text.strip(tail) == "" then data = kept end
   end
   if data ~= "" then self:put("data", data, from) end
end

function Lexer:ended(at) self.line_starting = self.source:sub(at - 1, at - 1) == "\n" end

-- The inside of a tag, up to and with its end; returns where the text goes on.
function Lexer:inside(at, finish, kind)
   local source, open = self.source, {}
   while true do
      at = skip:match(source, at)
      if #open == 0 then
         local behind = finish:match(source, at)
         if behind then
            self:put(kind, nil, at)
            self:ended(behind)
            return behind
         end
      end
      local begin, type_of, value, behind = token:match(source, at)
      if not begin then
         if at > #source then self:fail(at, "unexpected end of template inside a tag") end
         self:fail(at, ("unexpected character %q"):format(source:sub(at, at + (utf8.width(source, at) or 1) - 1)))
      end
      if type_of == "operator" then
         if CLOSES[value] then
            open[#open + 1] = CLOSES[value]
         elseif OPENS[value] then
            local expected = table.remove(open)
            if not expected then self:fail(at, ("unexpected '%s'"):format(value)) end
            if expected ~= value then self:fail(at, ("unexpected '%s', expected '%s'"):format(value, expected)) end
         end
         self:put(value, value, begin)
      elseif type_of == "string" then
         local plain, why = unescape(value:sub(2, -2))
         if not plain then self:fail(at, why) end
         self:put("string", plain, begin)
      else
         self:put(type_of, type_of == "name" and value or value:gsub("_", ""), begin)
      end
      at = behind
   end
end

function Lexer:comment(begin, from)
   local mark = self.source:match("^[-+]", begin + 2) or ""
   self:data(from, begin - 1, mark, true)
   local _, behind = find_comment_end:match(self.source, begin + 2 + #mark)
   if not behind then self:fail(begin, "missing end of comment tag") end
   self:ended(behind)
   return behind
end

function Lexer:raw(begin, from, mark, behind)
   self:data(from, begin - 1, mark, true)
   self:ended(behind)
   local last, end_mark, after = find_endraw:match(self.source, behind)
   if not last and behind > #self.source then return behind end      -- nothing is left that could be raw
   if not last then self:fail(begin, "missing end of raw directive") end
   self:data(behind, last - 1, end_mark, true)
   self:ended(after)
   return after
end

function Lexer:run()
   local source, from = self.source, 1
   while true do
      local begin = tag:match(source, from)
      if not begin then break end
      local kind = source:sub(begin + 1, begin + 1)
      if kind == "#" then
         from = self:comment(begin, from)
      else
         local mark, behind = raw_begin:match(source, begin)
         if mark then
            from = self:raw(begin, from, mark, behind)
         else
            mark = source:match("^[-+]", begin + 2) or ""
            self:data(from, begin - 1, mark, kind == "%")
            self:put(kind == "%" and "block_begin" or "variable_begin", nil, begin)
            from = self:inside(begin + 2 + #mark, kind == "%" and block_end or variable_end,
               kind == "%" and "block_end" or "variable_end")
         end
      end
   end
   if from <= #source then self:put("data", source:sub(from), from) end
   self:put("eof", nil, #source)
end

--- Cut a template into tokens; raises { message, line }.
-- @tparam string source
-- @treturn table kinds, values and lines, three lists
function M.tokens(source)
   source = source:gsub("\r\n?", "\n")
   if source:sub(-1) == "\n" then source = source:sub(1, -2) end
   local newlines = {}
   for at in source:gmatch "()\n" do newlines[#newlines + 1] = at end
   local lexer = setmetatable({ source = source, newlines = newlines, line = 1, n = 0, kinds = {}, values = {},
      lines = {}, line_starting = true }, Lexer)
   lexer:run()
   return lexer
end

return M
