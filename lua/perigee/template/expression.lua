--- Tokens to a tree: expressions, by descent, weakest operators first. The other half is parse.lua.
--
-- Nodes are tables with type and line. Calls, filters and tests have args (positional), names (of keyword arguments, in
-- order), named (their values), and star, starstar for unpacked ones.
--
-- Source: Jinja's documentation, "Expressions"; the order of precedence is that of Jinja 3.1.
-- @module perigee.template.expression
-- @local
local CONSTANTS = { ["true"] = true, ["True"] = true, ["false"] = false, ["False"] = false }
local NONE = { none = true, None = true }
local KEYWORDS = { ["and"] = true, ["else"] = true, ["if"] = true, ["in"] = true, ["is"] = true, ["not"] = true,
   ["or"] = true }
local COMPARE = { ["=="] = "eq", ["!="] = "ne", ["<"] = "lt", ["<="] = "le", [">"] = "gt", [">="] = "ge" }
local MAGIC = { caller = true, varargs = true, kwargs = true }

local integer = require "perigee.json".integer
local float = require "perigee.json".float

-- Value of an integer token, whatever its base.
local function integer_value(text)
   local base = ({ x = 16, o = 8, b = 2 })[text:sub(2, 2):lower()]
   return base and tonumber(text:sub(3), base) or integer(text)
end

return function(Parser)
   --- Whether a name stands for something fixed.
   function Parser:reserved(name) return CONSTANTS[name] ~= nil or NONE[name] or KEYWORDS[name] end

   -- A variable that is read. caller, varargs and kwargs are parameters of every macro around that mentions them.
   function Parser:name_node(name)
      if MAGIC[name] then
         local frame = self.scope.frame
         while frame do
            frame.uses[name] = true
            frame = frame.parent
         end
      end
      if name == "loop" then self:note_loop() end
      return { type = "name", name = name, scope = self.scope, line = self.line }
   end

   -- The loop around makes an object of itself only if somebody looks at it.
   function Parser:note_loop()
      local scope = self.scope
      while scope do
         if scope.names.loop then
            scope.uses_loop = true
            return
         end
         scope = scope.parent
      end
   end

   -- x if c else y
   function Parser:condition()
      self:deeper()
      local node = self:either()
      while self:is_name "if" do
         local line = self.line
         self:advance()
         local test, otherwise = self:either(), nil
         if self:skip_name "else" then otherwise = self:condition() end
         node = { type = "condition", test = test, value = node, otherwise = otherwise, line = line }
      end
      self:shallower()
      return node
   end

   -- Operands of "and" or "or", from left to right.
   local function joined(word, below)
      return function(self)
         local left = self[below](self)
         while self:is_name(word) do
            local line = self.line
            self:advance()
            left = { type = word, left = left, right = self[below](self), line = line }
         end
         return left
      end
   end

   Parser.either = joined("or", "both")
   Parser.both = joined("and", "negation")

   function Parser:negation()
      local line = self.line
      if not self:skip_name "not" then return self:comparison() end
      self:deeper()
      local node = { type = "not", value = self:negation(), line = line }
      self:shallower()
      return node
   end

   function Parser:comparison()
      local first, line, operators, operands = self:sum(), self.line, {}, {}
      while true do
         local operator = COMPARE[self.kind]
         if operator then
            self:advance()
         elseif self:is_name "in" then
            operator = "in"
            self:advance()
         elseif self:is_name "not" and self.kinds[self.at + 1] == "name" and self.values[self.at + 1] == "in" then
            operator = "not_in"
            self:advance()
            self:advance()
         else
            break
         end
         operators[#operators + 1], operands[#operands + 1] = operator, self:sum()
      end
      if #operators == 0 then return first end
      return { type = "compare", first = first, operators = operators, operands = operands, line = line }
   end

   -- Operators of one rank, from left to right.
   local function ranked(kinds, below)
      return function(self)
         local left = self[below](self)
         while kinds[self.kind] do
            local operator, line = kinds[self.kind], self.line
            self:advance()
            left = { type = "binary", operator = operator, left = left, right = self[below](self), line = line }
         end
         return left
      end
   end

   Parser.sum = ranked({ ["+"] = "add", ["-"] = "sub" }, "concat")
   Parser.product = ranked({ ["*"] = "mul", ["/"] = "div", ["//"] = "floordiv", ["%"] = "mod" }, "power")
   Parser.power = ranked({ ["**"] = "pow" }, "unary")

   function Parser:concat()
      local first, line = self:product(), self.line
      if self.kind ~= "~" then return first end
      local parts = { first }
      while self:skip "~" do parts[#parts + 1] = self:product() end
      return { type = "concat", parts = parts, line = line }
   end

   -- Filters bind weaker than a sign: -n|abs is the filter of -n.
   function Parser:unary(bare)
      local line, node = self.line
      if self.kind == "-" or self.kind == "+" then
         local operator = self.kind == "-" and "neg" or "pos"
         self:advance()
         self:deeper()
         node = { type = "unary", operator = operator, value = self:unary(true), line = line }
         self:shallower()
      else
         node = self:postfix(self:primary())
      end
      return bare and node or self:filtered(node)
   end

   function Parser:primary()
      local kind, value, line = self.kind, self.value, self.line
      if kind == "name" then
         if CONSTANTS[value] ~= nil or NONE[value] then
            self:advance()
            return { type = "constant", value = CONSTANTS[value], none = NONE[value], line = line }
         end
         if KEYWORDS[value] then self:fail(("expected an expression, found '%s'"):format(value)) end
         local node = self:name_node(value)
         self:advance()
         return node
      elseif kind == "string" then
         local parts = {}
         while self.kind == "string" do
            parts[#parts + 1] = self.value
            self:advance()
         end
         return { type = "constant", value = table.concat(parts), line = line }
      elseif kind == "integer" or kind == "float" then
         self:advance()
         return { type = "constant", value = kind == "integer" and integer_value(value) or float(tonumber(value)),
            line = line }
      elseif kind == "(" then
         self:advance()
         local node = self:tuple(true, nil, true)
         self:expect ")"
         return node
      elseif kind == "[" then
         return self:list()
      elseif kind == "{" then
         return self:dict()
      end
      self:fail("expected an expression, found " .. self:shown())
   end

   -- Expressions with commas between: a tuple; one without a comma is the expression itself.
   function Parser:tuple(conditions, stop, parenthesised)
      local line, items, comma = self.line, {}, false
      local function ended()
         return self.kind == "variable_end" or self.kind == "block_end" or self.kind == ")"
            or stop and self:is_name(stop)
      end
      while not ended() do
         if #items > 0 and not comma then break end
         items[#items + 1] = conditions == false and self:either() or self:condition()
         comma = self:skip ","
         if not comma then break end
      end
      if #items == 1 and not comma then return items[1] end
      if #items == 0 and not parenthesised then
         self:fail("expected an expression, found " .. self:shown())
      end
      return { type = "tuple", items = items, line = line }
   end

   function Parser:list()
      local node = { type = "list", items = {}, line = self.line }
      self:advance()
      while self.kind ~= "]" do
         if #node.items > 0 then
            self:expect ","
            if self.kind == "]" then break end
         end
         node.items[#node.items + 1] = self:condition()
      end
      self:advance()
      return node
   end

   function Parser:dict()
      local node = { type = "dict", keys = {}, values = {}, line = self.line }
      self:advance()
      while self.kind ~= "}" do
         if #node.keys > 0 then
            self:expect ","
            if self.kind == "}" then break end
         end
         node.keys[#node.keys + 1] = self:condition()
         self:expect ":"
         node.values[#node.values + 1] = self:condition()
      end
      self:advance()
      return node
   end

   function Parser:postfix(node)
      while true do
         if self.kind == "." then
            node = self:attribute(node)
         elseif self.kind == "[" then
            node = self:subscript(node)
         elseif self.kind == "(" then
            node = self:call(node)
         else
            return node
         end
      end
   end

   function Parser:attribute(object)
      local line = self.line
      self:advance()
      if self.kind == "integer" then
         local key = { type = "constant", value = integer_value(self.value), line = line }
         self:advance()
         return { type = "item", object = object, key = key, line = line }
      end
      return { type = "attribute", object = object, name = self:expect "name", line = line }
   end

   function Parser:subscript(object)
      local line, keys = self.line, {}
      self:advance()
      while self.kind ~= "]" do
         if #keys > 0 then self:expect "," end
         keys[#keys + 1] = self:key()
      end
      if #keys == 0 then self:fail "expected an index" end
      self:advance()
      if #keys == 1 and keys[1].type == "slice" then
         keys[1].object = object
         return keys[1]
      end
      local key = #keys == 1 and keys[1] or { type = "tuple", items = keys, line = line }
      return { type = "item", object = object, key = key, line = line }
   end

   -- An index, or a slice a:b:c with any of them left out.
   function Parser:key()
      local line, parts, place = self.line, {}, 1
      while self.kind ~= "]" and self.kind ~= "," do
         if self.kind == ":" then
            place = place + 1
            if place > 3 then self:fail "expected ']', found ':'" end
            self:advance()
         elseif parts[place] then
            self:fail("expected ']', found " .. self:shown())
         else
            parts[place] = self:condition()
         end
      end
      if place == 1 then return parts[1] end
      return { type = "slice", first = parts[1], last = parts[2], step = parts[3], line = line }
   end

   function Parser:call(callee)
      local node = self:arguments { type = "call", line = self.line }
      node.callee = callee
      return node
   end

   -- Arguments in brackets, put into a node.
   function Parser:arguments(node)
      node.args, node.names, node.named = {}, {}, {}
      self:expect "("
      local first = true
      while self.kind ~= ")" do
         if not first then
            self:expect ","
            if self.kind == ")" then break end
         end
         first = false
         self:argument(node)
      end
      self:advance()
      return node
   end

   function Parser:argument(node)
      if self.kind == "*" or self.kind == "**" then
         local slot = self.kind == "*" and "star" or "starstar"
         if node[slot] or slot == "star" and node.starstar then self:fail "these arguments are out of order" end
         self:advance()
         node[slot] = self:condition()
      elseif self.kind == "name" and self.kinds[self.at + 1] == "=" then
         if node.starstar then self:fail "these arguments are out of order" end
         local name = self.value
         self:advance()
         self:advance()
         for _, known in ipairs(node.names) do
            if known == name then self:fail(("argument '%s' is given twice"):format(name)) end
         end
         node.names[#node.names + 1], node.named[#node.named + 1] = name, self:condition()
      else
         if #node.names > 0 or node.star or node.starstar then self:fail "these arguments are out of order" end
         node.args[#node.args + 1] = self:condition()
      end
   end

   function Parser:filtered(node)
      while true do
         if self.kind == "|" then
            node = self:filters_of(node)
         elseif self:is_name "is" then
            node = self:test(node)
         elseif self.kind == "(" then
            node = self:call(node)
         else
            return node
         end
      end
   end

   function Parser:dotted()
      local name = self:expect "name"
      while self:skip "." do name = name .. "." .. self:expect "name" end
      return name
   end

   -- A filter or test that does not exist is a mistake at once; behind an `if` it may be meant for other engines, and
   -- fails when it is reached.
   function Parser:unknown(what, name, line)
      if self.soft == 0 then self:fail(("no %s named '%s'"):format(what, name), line) end
   end

   -- Filters one after the other; the first stands without its bar when `bare`.
   function Parser:filters_of(node, bare)
      while bare or self.kind == "|" do
         if not bare then self:advance() end
         bare = false
         local line = self.line
         local name = self:dotted()
         if not self.known.filters[name] then self:unknown("filter", name, line) end
         local filter = { type = "filter", name = name, value = node, args = {}, names = {}, named = {}, line = line }
         if self.kind == "(" then self:arguments(filter) end
         node = filter
      end
      return node
   end

   local ARGUMENT = { name = true, string = true, integer = true, float = true, ["("] = true, ["["] = true,
      ["{"] = true }

   function Parser:test(value)
      local line = self.line
      self:advance()
      local negated = self:skip_name "not"
      local name = self:dotted()
      if not self.known.tests[name] then self:unknown("test", name, line) end
      local node = { type = "test", name = name, value = value, args = {}, names = {}, named = {}, line = line }
      if self.kind == "(" then
         self:arguments(node)
      elseif ARGUMENT[self.kind] and not (self:is_name "else" or self:is_name "or" or self:is_name "and") then
         if self:is_name "is" then self:fail "tests cannot be chained with 'is'" end
         node.args[1] = self:postfix(self:primary())
      end
      return negated and { type = "not", value = node, line = line } or node
   end
end
