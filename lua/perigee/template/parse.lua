--- Tokens to a tree: statements of templates. Expressions are in expression.lua, of which this is the other half.
--
-- While it reads, it notes which names each scope sets: a variable is later found by number, not by name. A *frame* is
-- what has registers of its own (the template, a macro, the body of a call or of a recursive loop); a *scope* is where
-- names are visible: a frame has one, and each loop and `with` has one of its own within the frame. `if` has none.
--
-- Source: Jinja's documentation, "Template Designer Documentation".
-- @module perigee.template.parse
-- @local
local lexer = require "perigee.template.lexer"

local Parser = {}
Parser.__index = Parser

require "perigee.template.expression"(Parser)

local MAX_NESTING = 100

-- Scopes and frames ---------------------------------------------------------------------------------------------------

function Parser:new_scope(frame)
   return { parent = self.scope, frame = frame or self.scope.frame, names = {} }
end

function Parser:new_frame()
   return { parent = self.scope and self.scope.frame, size = 0, uses = {} }
end

-- Register of a name that a scope sets.
function Parser:declare(scope, name)
   local register = scope.names[name]
   if not register then
      register = scope.frame.size + 1
      scope.frame.size = register
      scope.names[name] = register
   end
   return register
end

function Parser:within(scope, read, ...)
   local outer = self.scope
   self.scope = scope
   local node = read(self, ...)
   self.scope = outer
   return node
end

-- Reading tokens ------------------------------------------------------------------------------------------------------

local SHOWN = { eof = "end of template", block_end = "end of statement block", variable_end = "end of print statement",
   data = "text", block_begin = "begin of statement block", variable_begin = "begin of print statement" }

function Parser:shown()
   return SHOWN[self.kind] or ("%q"):format(tostring(self.value)):gsub("\n", "n")
end

function Parser:fail(message, line)
   error({ message = message, line = line or self.line })
end

function Parser:advance()
   local at = self.at + 1
   self.at, self.kind, self.value, self.line = at, self.kinds[at], self.values[at], self.lines[at]
end

function Parser:is_name(name) return self.kind == "name" and self.value == name end

function Parser:skip(kind)
   if self.kind ~= kind then return false end
   self:advance()
   return true
end

function Parser:skip_name(name)
   if not self:is_name(name) then return false end
   self:advance()
   return true
end

function Parser:expect(kind)
   if self.kind ~= kind then
      self:fail(("expected %s, found %s"):format(SHOWN[kind] or "'" .. kind .. "'", self:shown()))
   end
   local value = self.value
   self:advance()
   return value
end

function Parser:expect_name(name)
   if not self:skip_name(name) then self:fail(("expected '%s', found %s"):format(name, self:shown())) end
end

function Parser:deeper()
   self.nesting = self.nesting + 1
   if self.nesting > MAX_NESTING then self:fail(("nested more than %d deep"):format(MAX_NESTING)) end
end

function Parser:shallower() self.nesting = self.nesting - 1 end

-- Statements ----------------------------------------------------------------------------------------------------------

local statements = {}

-- What is between tags until one of the names in `ends` opens a tag; that name is then the token at hand.
function Parser:body(ends, opened, line)
   local list = {}
   self:deeper()
   while true do
      if self.kind == "data" then
         list[#list + 1] = { type = "text", text = self.value, line = self.line }
         self:advance()
      elseif self.kind == "variable_begin" then
         local at = self.line
         self:advance()
         list[#list + 1] = { type = "output", value = self:tuple(), line = at }
         self:expect "variable_end"
      elseif self.kind == "block_begin" then
         self:advance()
         if self.kind == "name" and ends and ends[self.value] then break end
         list[#list + 1] = self:statement()
      elseif not ends then
         break
      else
         self:fail(("unexpected end of template: '%s' of line %d is not closed"):format(opened, line))
      end
   end
   self:shallower()
   return list
end

-- The body of a statement up to its end tag, which is read.
function Parser:body_until(last, opened, line)
   local list = self:body({ [last] = true }, opened, line)
   self:advance()
   return list
end

function Parser:statement()
   if self.kind ~= "name" then self:fail("expected the name of a tag, found " .. self:shown()) end
   local name, line = self.value, self.line
   local read = statements[name]
   if not read then self:fail(("unknown tag '%s'"):format(name)) end
   self:advance()
   local node = read(self, line)
   node.line = line
   self:expect "block_end"
   return node
end

statements["if"] = function(self, line)
   local node = { type = "if", tests = {}, bodies = {} }
   local ends = { ["elif"] = true, ["else"] = true, ["endif"] = true }
   self.soft = self.soft + 1
   while true do
      node.tests[#node.tests + 1] = self:tuple(true)
      self:expect "block_end"
      node.bodies[#node.bodies + 1] = self:body(ends, "if", line)
      if self:skip_name "else" then
         self:expect "block_end"
         node.otherwise = self:body_until("endif", "if", line)
         break
      end
      if self:skip_name "endif" then break end
      self:expect_name "elif"
   end
   self.soft = self.soft - 1
   return node
end

-- The target of an assignment: a name, or names to unpack into. Their registers are the scope's, which may come later.
function Parser:target(ends)
   if self.kind ~= "name" and self.kind ~= "(" then
      self:fail("expected a name to assign to, found " .. self:shown())
   end
   local at, items, comma = self.line, {}, false
   while self.kind == "name" and not ends[self.value] or self.kind == "(" do
      if self.kind == "name" then
         if self:reserved(self.value) or self.value == "loop" and (self.loops > 0 or ends["in"]) then
            self:fail(("cannot assign to '%s'"):format(self.value))
         end
         items[#items + 1] = { type = "name", name = self.value, line = self.line }
         self:advance()
      else
         self:advance()
         self:deeper()
         items[#items + 1] = self:target(ends)
         self:shallower()
         self:expect ")"
      end
      comma = self:skip ","
      if not comma then break end
   end
   if #items == 0 then self:fail("expected a name to assign to, found " .. self:shown()) end
   if #items == 1 and not comma then return items[1] end
   return { type = "unpack", items = items, line = at }
end

function Parser:declare_target(scope, target)
   if target.type == "name" then
      self:declare(scope, target.name)
   else
      for _, item in ipairs(target.items) do self:declare_target(scope, item) end
   end
end

statements["for"] = function(self, line)
   local target = self:target { ["in"] = true }
   self:expect_name "in"
   local node = { type = "for", target = target, iterable = self:tuple(false, "recursive") }
   local outer = self.scope
   if self:is_name "if" then
      self:advance()
      node.test_scope = self:new_scope()
      self:declare_target(node.test_scope, target)
      node.test = self:within(node.test_scope, self.condition)
   end
   node.recursive = self:skip_name "recursive"
   self:expect "block_end"
   local scope = self:new_scope(node.recursive and self:new_frame() or nil)
   self:declare(scope, "loop")
   self:declare_target(scope, target)
   node.scope = scope
   self.loops = self.loops + 1
   node.body = self:within(scope, self.body, { ["endfor"] = true, ["else"] = true }, "for", line)
   self.loops = self.loops - 1
   if self:skip_name "else" then
      self:expect "block_end"
      node.else_scope = { parent = outer, frame = scope.frame, names = {} }
      node.otherwise = self:within(node.else_scope, self.body_until, "endfor", "for", line)
   else
      self:advance()
   end
   return node
end

local function jump(kind)
   return function(self)
      if self.loops == 0 then self:fail(("'%s' outside of a loop"):format(kind)) end
      return { type = kind }
   end
end
statements["break"], statements["continue"] = jump "break", jump "continue"

statements["set"] = function(self, line)
   local scope = self.scope
   if self.kind == "name" and self.kinds[self.at + 1] == "." then
      local node = { type = "set_attribute", object = self:name_node(self.value) }
      self:advance()
      self:advance()
      node.name = self:expect "name"
      if self.kind == "=" then
         self:advance()
         node.value = self:tuple(true)
      else
         self:set_block(node, line)
      end
      return node
   end
   local node = { type = "set", target = self:target {}, scope = scope }
   if self:skip "=" then
      node.value = self:tuple(true)
   else
      self:set_block(node, line)
   end
   self:declare_target(scope, node.target)
   return node
end

-- The rest of a set without "=": filters, then a body that is rendered.
function Parser:set_block(node, line)
   node.filters = self:filters_of({ type = "captured" })
   self:expect "block_end"
   node.scope_of_body = self:new_scope()
   node.body = self:within(node.scope_of_body, self.body_until, "endset", "set", line)
end

-- Parameters of a macro or of a call block.
function Parser:signature(scope)
   local parameters = {}
   self:expect "("
   while self.kind ~= ")" do
      if #parameters > 0 then
         self:expect ","
         if self.kind == ")" then break end
      end
      local name = self:expect "name"
      if self:reserved(name) then self:fail(("cannot assign to '%s'"):format(name)) end
      local parameter = { name = name, register = self:declare(scope, name) }
      if self:skip "=" then
         parameter.default = self:within(scope, self.condition)
      elseif #parameters > 0 and parameters[#parameters].default then
         self:fail "a parameter without a default follows one with a default"
      end
      parameters[#parameters + 1] = parameter
   end
   self:advance()
   return parameters
end

-- A body with parameters: macro or call block, up to its end tag.
function Parser:callable(node, last, opened, line)
   local frame, loops = node.scope.frame, self.loops
   self:expect "block_end"
   self.loops = 0
   node.body = self:within(node.scope, self.body_until, last, opened, line)
   self.loops = loops
   for name in pairs(frame.uses) do
      if not node.scope.names[name] then node[name] = self:declare(node.scope, name) end
   end
   return node
end

statements["macro"] = function(self, line)
   local name = self:expect "name"
   if self:reserved(name) then self:fail(("cannot assign to '%s'"):format(name)) end
   local node = { type = "macro", name = name, register = self:declare(self.scope, name),
      scope = self:new_scope(self:new_frame()) }
   node.parameters = self:signature(node.scope)
   return self:callable(node, "endmacro", "macro", line)
end

statements["call"] = function(self, line)
   local node = { type = "call_block", name = "caller", scope = self:new_scope(self:new_frame()) }
   node.parameters = self.kind == "(" and self:signature(node.scope) or {}
   node.call = self:condition()
   if node.call.type ~= "call" then self:fail "expected a call" end
   return self:callable(node, "endcall", "call", line)
end

statements["filter"] = function(self, line)
   local node = { type = "filter_block", scope = self:new_scope() }
   node.filters = self:filters_of({ type = "captured" }, true)
   self:expect "block_end"
   node.body = self:within(node.scope, self.body_until, "endfilter", "filter", line)
   return node
end

statements["with"] = function(self, line)
   local node = { type = "with", targets = {}, values = {}, scope = self:new_scope() }
   while self.kind ~= "block_end" do
      if #node.targets > 0 then self:expect "," end
      local target = self:target {}
      node.targets[#node.targets + 1] = target
      self:expect "="
      node.values[#node.values + 1] = self:condition()
      self:declare_target(node.scope, target)
   end
   self:advance()
   node.body = self:within(node.scope, self.body_until, "endwith", "with", line)
   return node
end

-- A body with a scope of its own and nothing else.
function Parser:scoped(last, opened, line)
   self:expect "block_end"
   local node = { type = "with", targets = {}, values = {}, scope = self:new_scope() }
   node.body = self:within(node.scope, self.body_until, last, opened, line)
   return node
end

statements["generation"] = function(self, line)
   return self:scoped("endgeneration", "generation", line)
end

statements["autoescape"] = function(self, line)
   local wanted = self:condition()
   if wanted.type ~= "constant" or wanted.value ~= false then self:fail "autoescape stays off: prompts are no HTML" end
   return self:scoped("endautoescape", "autoescape", line)
end

statements["block"] = function(self, line)
   local name = self:expect "name"
   if self.blocks[name] then self:fail(("block '%s' is defined twice"):format(name)) end
   self:skip_name "scoped"
   self:skip_name "required"
   self.blocks[name] = true
   local node = self:scoped("endblock", "block", line)
   self:skip_name(name)
   return node
end

-- Tags that need a loader of other templates. They fail when they are reached, as in Jinja.
local function loader(name)
   return function(self)
      while self.kind ~= "block_end" and self.kind ~= "eof" do self:advance() end
      return { type = "raise", message = ("'%s' needs other templates, and there is no loader for them"):format(name) }
   end
end
for _, name in ipairs { "include", "import", "from", "extends" } do statements[name] = loader(name) end

--- Read a template; raises { message, line }.
-- @tparam string source
-- @tparam table known filters and tests that exist: two tables with their names as keys
-- @treturn table { body, frame }: a list of statements, and the frame they run in
return function(source, known)
   local tokens = lexer.tokens(source)
   local self = setmetatable({ kinds = tokens.kinds, values = tokens.values, lines = tokens.lines, at = 0, nesting = 0,
      loops = 0, soft = 0, blocks = {}, known = known }, Parser)
   local frame = self:new_frame()
   self.scope = { frame = frame, names = {} }
   self:advance()
   local body = self:body()
   return { body = body, frame = frame }
end
