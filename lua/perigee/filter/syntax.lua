--- The grammar of regular expressions, as far as it tells how a match can begin.
--
-- Private to the module. What is not understood exactly is said to be so: `open` stands for something of which nothing
-- is known, `unsure` for a condition that may or may not hold, and an expression with a sign that could change the
-- meaning of others is not read at all. Which ASCII characters a class has is libpcre2's to say, so that nothing here
-- repeats its tables; of other characters only the first bytes matter, and those are a superset.
-- Source: pcre2pattern(3); The Unicode Standard, DerivedGeneralCategory.txt (Nd, Zs).
-- @module perigee.filter.syntax
-- @local
local M = {}

jit.off(true, true)                  -- it runs once an expression: traces would crowd out those of streams

local Parser = {}
Parser.__index = Parser

-- First bytes of the characters that are digits, and that are spaces, beyond ASCII.
local DIGIT, SPACE = { 0xD9, 0xDB, 0xDF, 0xE0, 0xE1, 0xEA, 0xEF, 0xF0 }, { 0xC2, 0xE1, 0xE2, 0xE3 }
-- Of those that fold to k and s: the Kelvin sign and the long s.
local FOLDS = { 0xC5, 0xE2 }

local OPEN, UNSURE = { kind = "open" }, { kind = "unsure" }

local function give_up(what) error({ unread = what }, 0) end

local function add_leads(leads, list)
   for _, b in ipairs(list) do leads[b] = true end
end

-- A set of characters: ascii[c], the first bytes of others, and whether all of these belong to it for certain.
function Parser:set(source, leads, whole)
   local ascii = self.members(source, self.fold)
   if self.fold and not whole and (ascii[0x6B] or ascii[0x73]) then add_leads(leads, FOLDS) end
   return { kind = "set", ascii = ascii, leads = leads, whole = whole or false }
end

local function every_lead()
   local leads = {}
   for b = 0xC2, 0xF4 do leads[b] = true end
   return leads
end

-- Text without letters that fold to what lies beyond ASCII.
local function complement_is_whole(ascii, fold) return not fold or ascii[0x6B] and ascii[0x73] end

function Parser:class()
   local source, first = self.source, self.at
   local i = first + 1
   local negated = source:sub(i, i) == "^"
   if negated then i = i + 1 end
   local leads, simple, begun = {}, true, i
   while true do
      local c = source:sub(i, i)
      if c == "" then give_up "class" end
      if c == "]" and i > begun then break end
      if c == "\\" then
         local next_one = source:sub(i + 1, i + 1)
         if next_one:find "[QEcopPNxu]" or next_one:find "%d" then simple = false end
         if next_one == "d" then add_leads(leads, DIGIT)
         elseif next_one == "s" then add_leads(leads, SPACE)
         elseif not next_one:find "[%pntrfea]" then simple = false end
         if negated and next_one:find "[ds]" then simple = false end
         if next_one:find "[QE]" then give_up "quoted" end
         i = i + 2
      elseif c == "[" and source:find("^[:.=]", i + 1) then
         simple = false
         local stop = select(2, source:find("^%[[:.=][%^%w]*[:.=]%]", i))
         i = stop and stop + 1 or i + 1
      else
         if c:byte() >= 0x80 then simple = false end
         i = i + 1
      end
   end
   self.at = i + 1
   local text = source:sub(first, i)
   if not simple then return self:set(text, every_lead()) end
   if not negated then return self:set(text, leads) end
   local set = self:set(text, every_lead(), true)
   set.whole = complement_is_whole(set.ascii, self.fold)
   return set
end

-- Characters that have no other case: those of Chinese, Japanese and Korean, and their signs.
local function caseless(c)
   return c >= 0x2E80 and c <= 0xA4CF or c >= 0xAC00 and c <= 0xD7A3 or c >= 0xF900 and c <= 0xFAFF
      or c >= 0xFF00 and c <= 0xFF20 or c >= 0x3000 and c <= 0x303F or c >= 0x20000 and c <= 0x3FFFF
end

local function code_point(text)
   local b, c, d, e = text:byte(1, 4)
   if #text == 2 then return (b - 0xC0) * 64 + c - 0x80 end
   if #text == 3 then return ((b - 0xE0) * 64 + c - 0x80) * 64 + d - 0x80 end
   return (((b - 0xF0) * 64 + c - 0x80) * 64 + d - 0x80) * 64 + e - 0x80
end

function Parser:character()
   local text = self.source:match("^[%z\1-\127\194-\244][\128-\191]*", self.at)
   if not text then give_up "bytes" end
   self.at = self.at + #text
   if #text == 1 then
      return self:set(text:find "[%w%s%z\1-\31\127]" and ("\\x%02x"):format(text:byte()) or "\\" .. text, {})
   end
   if self.fold and not caseless(code_point(text)) then return OPEN end
   return { kind = "text", text = text }
end

function Parser:escape()
   local source, at = self.source, self.at
   local c = source:sub(at + 1, at + 1)
   self.at = at + 2
   if c == "N" and source:find("^{U", at + 2) then give_up "code" end
   if c == "b" then return { kind = "border" } end
   if c:find "[AG]" then return UNSURE end
   if c:find "[BzZRX]" then return OPEN end
   if c == "d" then
      local leads = {}
      add_leads(leads, DIGIT)
      return self:set("\\d", leads)
   elseif c == "s" then
      local leads = {}
      add_leads(leads, SPACE)
      return self:set("\\s", leads)
   elseif c:find "[wDWSNhHvV]" then
      return self:set("\\" .. c, every_lead())
   elseif c == "p" or c == "P" then
      local text = source:match("^{[%^%w_&]+}", at + 2) or source:match("^%a", at + 2)
      if not text then give_up "property" end
      self.at = at + 2 + #text
      return self:set("\\" .. c .. text, every_lead())
   elseif c == "x" then
      local digits = source:match("^{(%x+)}", at + 2)
      self.at = digits and at + 4 + #digits or at + 2 + #(source:match("^%x%x?", at + 2) or give_up "code")
      digits = digits or source:match("^%x%x?", at + 2)
      if tonumber(digits, 16) >= 0x80 then return OPEN end
      return self:set("\\x{" .. digits .. "}", {})
   elseif c:find "[1-9]" then
      self.at = at + 1 + #source:match("^%d+", at + 1)
      return OPEN
   elseif c:find "[ntrfea]" then
      return self:set("\\" .. c, {})
   elseif c:find "%p" then
      self.at = at + 1
      return self:character()
   end
   give_up("\\" .. c)
end

-- The condition that looks at one character before.
local function behind(inner, negated)
   while (inner.kind == "sequence" or inner.kind == "choice") and #inner == 1 do inner = inner[1] end
   if inner.kind ~= "set" then return UNSURE end
   return { kind = "behind", set = inner, negated = negated }
end

-- Looking ahead begins with a run of characters, or nothing is known of it. Where the run meets the end of the text
-- libpcre2 cannot tell what it looks for, whatever that is.
local function ahead(inner)
   while (inner.kind == "sequence" or inner.kind == "choice") and inner[1] do inner = inner[1] end
   if inner.kind == "repeat" and inner.min == 0 and inner.greedy and inner.max <= 1000 and inner[1].kind == "set" then
      return { kind = "ahead", set = inner[1], max = inner.max }
   end
   return OPEN
end

function Parser:group()
   local source = self.source
   local head = source:sub(self.at, self.at + 5)
   local fold = self.fold
   local function inside(skip)
      self.at = self.at + skip
      local inner = self:choice()
      if source:sub(self.at, self.at) ~= ")" then give_up "group" end
      self.at, self.fold = self.at + 1, fold
      return inner
   end
   if head:find "^%(%*" then give_up "verb" end
   if not head:find "^%(%?" then return inside(1) end
   if head:find "^%(%?[:|]" then return inside(3) end
   if head:find "^%(%?[=!]" then return ahead(inside(3)) end
   if head:find "^%(%?<[=!]" then
      local negated = head:sub(4, 4) == "!"
      return behind(inside(4), negated)
   end
   if head:find "^%(%?>" then return { kind = "sequence", UNSURE, inside(3) } end
   local name = source:match("^%(%?&([%w_]+)%)", self.at)
   if name then
      self.at = self.at + #name + 4
      return { kind = "call", name = name, names = self.names }
   end
   name = source:match("^%(%?P?<([%a_][%w_]*)>", self.at)
   if name then
      local inner = inside(#source:match("^%(%?P?<[%w_]+>", self.at))
      self.names[name] = self.names[name] and OPEN or inner
      return inner
   end
   if source:find("^%(%?%(DEFINE%)", self.at) then
      inside(10)
      return { kind = "sequence" }
   end
   local flag, stop = source:match("^%(%?(%-?)i([:)])", self.at)
   if not flag then give_up "group" end
   self.fold = flag == ""
   if stop == ":" then return inside(4 + #flag) end
   self.at = self.at + 4 + #flag
   return { kind = "sequence" }
end

function Parser:atom()
   local c = self.source:sub(self.at, self.at)
   if c == "(" then return self:group() end
   if c == "[" then return self:class() end
   if c == "\\" then return self:escape() end
   if c == "." or c == "^" or c == "$" then
      self.at = self.at + 1
      return c == "^" and UNSURE or c == "$" and OPEN or self:set(".", every_lead())
   end
   return self:character()
end

function Parser:repeated(atom)
   local source = self.source
   local least, comma, most, last = source:match("^{(%d+)(,?)(%d*)}()", self.at)
   if least then
      least = tonumber(least)
      most = most ~= "" and tonumber(most) or comma == "," and math.huge or least
   else
      local c = source:sub(self.at, self.at)
      if c ~= "*" and c ~= "+" and c ~= "?" then return nil end
      least, most, last = c == "+" and 1 or 0, c == "?" and 1 or math.huge, self.at + 1
   end
   local how = source:match("^[?+]", last)
   self.at = last + (how and 1 or 0)
   local made = { kind = "repeat", min = least, max = most, greedy = not how, atom }
   return how == "+" and { kind = "sequence", UNSURE, made } or made
end

function Parser:sequence()
   local list = { kind = "sequence" }
   while self.at <= #self.source and not self.source:find("^[|)]", self.at) do
      local atom = self:atom()
      local again = self:repeated(atom)
      while again do
         atom, again = again, self:repeated(again)
      end
      list[#list + 1] = atom
   end
   return list
end

function Parser:choice()
   local list = { kind = "choice", self:sequence() }
   while self.source:sub(self.at, self.at) == "|" do
      self.at = self.at + 1
      list[#list + 1] = self:sequence()
   end
   return list
end

-- Groups that call themselves are open.
local function cut_circles(tree, seen)
   if tree.kind == "call" then
      local name, names = tree.name, tree.names
      if seen[name] == "inside" then names[name] = OPEN end
      if seen[name] or not names[name] then return end
      seen[name] = "inside"
      cut_circles(names[name], seen)
      seen[name] = "done"
   end
   for _, part in ipairs(tree) do cut_circles(part, seen) end
end

--- Read an expression that libpcre2 has compiled.
-- @tparam string source
-- @tparam boolean fold letter case does not matter
-- @tparam function members (class, fold) -> { [code] = true, ... }: its ASCII characters
-- @treturn ?table a tree of nodes { kind =, ... }; nil when it holds something that is not read
function M.read(source, fold, members)
   local self = setmetatable({ source = source, at = 1, fold = fold or false, members = members, names = {} }, Parser)
   local fine, tree = pcall(self.choice, self)
   if fine and self.at > #source then
      cut_circles(tree, {})
      return tree
   end
   if not fine and type(tree) ~= "table" then error(tree, 0) end
   return nil
end

return M
