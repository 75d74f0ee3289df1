-- Chat templates: the golden cases (made with Jinja itself) byte for byte, hostile and broken templates, and that
-- nothing of the caller's is touched.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local json = perigee.json

local root = helper.models:gsub("/%.%./models$", "") .. "/templates"

local function folders()
   local list = {}
   for name in io.popen("ls " .. helper.quote(root) .. " 2>/dev/null"):lines() do
      if helper.exists(root .. "/" .. name .. "/template.jinja") then list[#list + 1] = name end
   end
   return list
end

-- Variables of a case as its README says they reach the template.
local function variables(case)
   local vars = json.object()
   for name, value in json.pairs(case.vars) do vars[name] = value end
   for _, name in ipairs { "messages", "tools", "add_generation_prompt", "bos_token", "eos_token" } do
      vars[name] = case[name]
   end
   return vars
end

-- What went wrong with a case, or nil.
local function judge(source, vars, case, now)
   local template, message = perigee.template(source)
   local text
   if template then text, message = template:render(vars, { now = now }) end
   if case.expected then
      if text == case.expected or case.mutates and not text then return nil end
      return ("got %s\nexpected %q"):format(text and ("%q"):format(text) or message, case.expected)
   end
   if text then return ("an error is expected, got %q"):format(text) end
   if case.error and message ~= case.error then return ("expected the error %q, got %q"):format(case.error, message) end
end

describe("golden chat templates", function()
   local names = folders()
   if #names == 0 then
      pending(("golden folder %s is absent: its cases did not run"):format(root))
      return
   end
   for _, name in ipairs(names) do
      it(name .. " renders byte for byte", function()
         local source = helper.read(root .. "/" .. name .. "/template.jinja")
         local cases = assert(json.decode(helper.read(root .. "/" .. name .. "/cases.json")))
         assert.is_true(#cases > 0)
         for _, case in ipairs(cases) do
            local wrong = judge(source, variables(case), case, case.now)
            assert.is_nil(wrong, wrong and case.name .. ": " .. wrong)
         end
      end)
   end

   it("each construct by itself", function()
      local snippets = assert(json.decode(helper.read(root .. "/_snippets/snippets.json")))
      for _, case in ipairs(snippets.cases) do
         local wrong = judge(case.template, snippets.vars, case, snippets.now)
         assert.is_nil(wrong, wrong and case.template .. ": " .. wrong)
      end
      for _, case in ipairs(snippets.refuse) do
         local wrong = judge(case.template, snippets.vars, {}, snippets.now)
         assert.is_nil(wrong, wrong and case.template .. ": " .. wrong)
      end
   end)

   it("mutated in any way never raise", function()
      math.randomseed(5)
      local pieces = { "{{", "}}", "{%", "%}", "{#", "#}", "-", "'", '"', "(", ")", "[", "]", "|", ".", "if", "endif",
         "for x in y", "endfor", "endmacro", "set x", "is", "not", "~", "**", "\\", "\255", "\0", "loop", "1e999" }
      local options = { max_steps = 20000, max_bytes = 100000 }
      for _, name in ipairs(names) do
         local source = helper.read(root .. "/" .. name .. "/template.jinja")
         local case = json.decode(helper.read(root .. "/" .. name .. "/cases.json"))[1]
         for _ = 1, helper.fast and 3 or 12 do
            local from = math.random(#source)
            local changed = source:sub(1, from) .. pieces[math.random(#pieces)] .. source:sub(from + math.random(0, 8))
            local template, message, code = perigee.template(changed)
            if template then
               local text
               text, message, code = template:render(variables(case), options)
               if text then message, code = "", "invalid" end
            end
            assert.equal("string", type(message))
            assert.is_nil(message:find("%.lua:%d"), message)
            assert.equal("string", type(code))
         end
      end
   end)
end)

local function render(source, vars, opts)
   local template, message, code = perigee.template(source)
   if not template then return nil, message, code end
   return template:render(vars or {}, opts)
end

describe("a template", function()
   it("takes Lua tables and JSON text alike", function()
      local source = "{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %}{{ l }}{{ d.f }}"
      assert.equal("a=1 f=1.0 [1, 'x']1.0", render(source, { d = { a = 1, f = json.float(1) }, l = { 1, "x" } }))
      assert.equal("f=1.0 a=1 [1, 'x']1.0", render(source, '{"d": {"f": 1.0, "a": 1}, "l": [1, "x"]}'))
   end)

   it("goes through a long text in a time that grows with it", function()
      for source, length in pairs {
         ["('ab ' * 100000).split() | length"] = "100000", ["('é ' * 100000).rsplit() | length"] = "100000",
         ["('a' * 200000) | wordwrap(1) | length"] = "399999",
         ["('ab ' * 100000) | wordwrap(9999999) | length"] = "299999",
         ["('<!--' * 50000) | striptags | length"] = "200000", ["('<b' * 100000) | striptags | length"] = "200000",
         ["('a' * 600000).rfind('b' ~ 'a' * 300000)"] = "limit", ["('a' * 300000 ~ 'b') in ('a' * 600000)"] = "limit",
      } do
         local began = os.clock()
         local text, _, code = render("{{ " .. source .. " }}")
         assert.equal(length, text or code, source)
         assert.is_true(os.clock() - began < 5, source)
      end
   end)

   it("pays for texts that it goes through again and again", function()
      for _, what in ipairs { "s[0]", "s | int", "s.count('a')", "s < s", "s.swapcase()" } do
         local began = os.clock()
         local text, _, code = render("{% set s = 'ab ' * 500000 %}{% for i in range(20000) %}{% set _ = " .. what
            .. " %}{% endfor %}")
         assert.is_nil(text, what)
         assert.equal("limit", code)
         assert.is_true(os.clock() - began < 10, what)
      end
   end)

   it("names the line of a mistake", function()
      local _, message, code = render "a\n{% if %}"
      assert.matches("line 2: expected an expression", message)
      assert.equal("format", code)
      _, message, code = render "a\n\n{{ x.y }}"
      assert.equal("template, line 3: 'x' is undefined", message)
      assert.equal("invalid", code)
   end)

   it("hands on what it raises, and nothing else", function()
      local text, message, code = render "{{ raise_exception('no ' ~ 1) }}"
      assert.is_nil(text)
      assert.equal("no 1", message)
      assert.equal("invalid", code)
   end)

   it("knows no Lua, and sees only data", function()
      for _, name in ipairs { "_G", "print", "string", "os", "io", "require", "ffi", "jit", "debug", "package" } do
         assert.equal("False", (render("{{ " .. name .. " is defined }}")))
      end
      for _, source in ipairs { "{{ s.rep }}", "{{ s.gsub }}", "{{ s.__index }}", "{{ l.kind }}", "{{ d.keys.call }}",
         "{{ d.__index }}", "{{ range.call }}", "{{ joiner().call }}", "{{ l.decoded }}" } do
         assert.equal("", (render(source, { s = "x", l = { 1 }, d = { a = 1 } })))
      end
      assert.is_nil(render("{{ f() }}", { f = print }))
      assert.is_nil(render("{{ x }}", { x = coroutine.create(print) }))
   end)

   it("changes none of the caller's data", function()
      local vars = { l = { 1, 2 }, d = { a = 1 }, m = { { role = "user" } } }
      for _, source in ipairs { "{{ l.append(3) }}", "{{ l.pop() }}", "{{ l.clear() }}", "{{ d.update({'b': 1}) }}",
         "{{ d.pop('a') }}", "{{ m[0].update({'x': 1}) }}", "{% set d.a = 2 %}" } do
         assert.is_nil(render(source, vars))
         assert.is_nil(render(source, json.encode(vars)))
      end
      assert.equal("[2, 1]", render("{{ l|sort(reverse=true) }}{% for x in l %}{% set x = 9 %}{% endfor %}", vars))
      assert.same({ l = { 1, 2 }, d = { a = 1 }, m = { { role = "user" } } }, vars)
      assert.equal("[1, 2, 3]", render("{% set q = [1, 2] %}{% set _ = q.append(3) %}{{ q }}"))
   end)

   it("ends soon when it asks for too much", function()
      for name, source in pairs {
         loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
         range = "{{ range(1000000000) }}",
         recursion = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
         ["recursion by two"] = "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
         ["a loop that calls itself"] = "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
         ["a doubled string"] = "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}"
            .. "{% endfor %}",
         ["a doubled list"] = "{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}"
            .. "{% endfor %}",
         ["a product"] = "{{ 'x' * 10000000000 }}",
         ["a list's product"] = "{{ [1] * 10000000000 }}",
         ["a width"] = "{{ '%999999999d' % 1 }}",
         ["a width of format"] = "{{ '{:999999999}'.format(1) }}",
         ["a precision"] = "{{ '%.999999d' % 1 ~ '%.999999f' % 1 }}",
         centre = "{{ 'x'|center(9999999999) }}",
         replaced = "{% set s = 'x' * 1000000 %}{{ s|replace('x', s) }}",
         ["a list in itself"] = "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
         ["a list in itself as JSON"] = "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}",
         output = "{% set s = 'x' * 1000000 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
         brackets = "{{ " .. ("("):rep(100000) .. "1" .. (")"):rep(100000) .. " }}",
         nots = "{{ " .. ("not "):rep(100000) .. "1 }}",
         minus = "{{ " .. ("-"):rep(100000) .. "1 }}",
         blocks = ("{% if 1 %}"):rep(100000),
         tags = ("{{ "):rep(100000),
         joined = "{% set l = ['x' * 1000] * 100000 %}{{ l|join }}",
         power = "{{ 10 ** 100000 }}",
      } do
         local text, message, code = render(source, {})
         assert.is_nil(text, name)
         assert.equal("string", type(message), name)
         assert.is_truthy(code == "limit" or code == "invalid" or code == "format", name)
      end
   end)

   it("is refused variables that are no tree of data", function()
      local ring = {}
      ring.ring = ring
      local _, message = render("", { a = ring })
      assert.matches("nested too deeply", message)
      _, message = render("", { a = { b = { print } } })
      assert.matches("a.b%[1%] is a function", message)
      _, message = render("", "[1]")
      assert.matches("no object", message)
      assert.has_error(function() perigee.template "":render(1) end)
      assert.has_error(function() perigee.template(1) end)
   end)

   it("checks its options", function()
      local _, message = render("", {}, { now = "yesterday" })
      assert.matches("now must be", message)
      _, message = render("", {}, { noww = "x" })
      assert.matches('did you mean "now"', message)
      assert.is_nil(render("xxxx", {}, { max_bytes = 3 }))
      assert.matches("^%d%d%d%d%-%d%d%-%d%d$", (render "{{ strftime_now('%Y-%m-%d') }}"))
   end)

   it("comes from the model", function()
      local engine = assert(perigee.open())
      local template = assert(engine:template())
      local text = assert(template:render { messages = { { role = "user", content = "Hi" } },
         add_generation_prompt = true })
      assert.equal("<|begin|><|user|>Hi<|assistant|>", text)
      local _, message, code = engine:template "tool_use"
      assert.equal('the model has no chat template of the name "tool_use"', message)
      assert.equal("not_found", code)
      engine:close()
   end)
end)
