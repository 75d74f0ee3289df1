-- Weaving: the woven text behaves as the source does, counts what it should count, and moves no line.
local helper = dofile "tests/spec/helper.lua"
local weave = require("perigee.weave").weave

local counter = { n = 0 }
function counter:over() self.overs = (self.overs or 0) + 1 end

-- Run a source woven; returns what it returned, and how often it counted.
local function run(source, budget)
   local text = assert(weave(source))
   counter.n, counter.overs = budget or 1e9, 0
   local results = { assert(loadstring(text, "@woven"))(counter)("first", 2) }
   return results, (budget or 1e9) - counter.n
end

-- Sources that return a value, and how many turns and calls each takes, the chunk itself included.
local SNIPPETS = {
   { "return ...", 1 },
   { "local n = 0 for i = 1, 5 do n = n + i end return n", 6 },
   { "local n = 0 for _, v in ipairs { 1, 2, 3 } do n = n + v end return n", 4 },
   { "local n = 0 while n < 7 do n = n + 1 end return n", 8 },
   { "local n = 0 repeat local done = n >= 3 n = n + 1 until done return n", 5 },
   { "local n = 0 repeat local last n = n + 1 last = n > 2 until last return n", 4 },
   { "local n = 0 ::again:: n = n + 1 if n < 5 then goto again end return n", 5 },
   { "local t = {} for i = 1, 4 do if i % 2 == 0 then goto continue end local x = i t[#t + 1] = x ::continue:: end "
      .. "return table.concat(t)", 7 },
   { "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto out end end end ::out:: return 1", 5 },
   { "local function f(n) return n == 0 and 'end' or f(n - 1) end return f(4)", 6 },
   { "local t = {} function t.a.b() end return 1", nil, "index field 'a'" },
   { "local t = { a = { b = {} } } function t.a.b.c(x, ...) return x, ... end function t.a:m() return self end "
      .. "return t.a.b.c(1, 2), t.a:m() == t.a", 3 },
   { "local f = function() end f() f() return (function(...) return select('#', ...) end)(1, nil, nil)", 4 },
   { "local f = function(a) return function(b) return a .. b end end return f 'x' 'y', f [[p]] [[q]]", 5 },
   { "local fs = {} for i = 1, 3 do fs[i] = function() return i end end return fs[1]() + fs[3]()", 6 },
   { "local i, fs = 0, {} repeat local x = i fs[#fs + 1] = function() return x end i = i + 1 until x == 2 "
      .. "return fs[1]() + fs[2]() + fs[3]()", 7 },
   { "local a = 0\nlocal f = function(x) a = a + x return function() end end\nwhile a < 3 do (f)(1) end\nreturn a", 7 },
   { "local a = 0 for i = 1, 2 do (function() a = a + i end)() end return a", 5 },
   { "local goto = 3 goto = goto + 1 return goto", 1 },
   { "local t = { goto = 5 } return t.goto", 1 },
   { "local goto = 1\nlocal x = goto\ngoto = 2\nreturn x, goto", 1 },
   { "do --[[ do ]] local s = 'do repeat function() ' .. \"function(\" .. [==[ do ]] ]=] ]==] return s end", 2 },
   { "-- while true do\nreturn 1 --[==[ while\n true do ]==] -- end", 1 },
   { "return 0x10, 0xA.8p1, 1e3, 1E-2, .5, 3., 5LL ~= 5ULL, 2i, 0x1FULL == 31ULL", 1 },
   { "return 1 ..2, 'a'..'b', (...)", 1 },
   { "return 'a\\\nb', 'c\\z\n   d', '\\'', \"\\\"\", '\\\\', '\\065\\x41'", 1 },
   { "return [[\nfirst line\n]], [=[]]]=], #[[--]]", 1 },
   { "local t = setmetatable({}, { __index = function(_, k) return k .. '!' end }) return t.x, t['do']", 3 },
   { "return pcall(function() error('at', 0) end)", 2 },
   { "local n = 0 while true do n = n + 1 if n == 3 then break end end return n", 4 },
   { "if ... then return 'yes' elseif 1 then return 'no' else return 'else' end", 1 },
   { "local _budget, _budget1 = 1, 2 return _budget + _budget1", 1 },
   { "local \195\164 = 1; ; ; return \195\164;", 1 },
   { "return function() return 1 end and 2, not nil, #'abc', -1 ^ 2, 7 % 4, 1 <= 2, 1 ~= 2", 1 },
   { "local s = 0 for i = 10, 1, -3 do s = s + i end for k, v in next, { a = 1 } do s = s + v end return s", 6 },
}

local function values(list)
   local shown = {}
   for i = 1, #list do shown[i] = type(list[i]) == "table" and "table" or tostring(list[i]) end
   return shown
end

describe("weaving", function()
   it("keeps what a source does and counts turns, calls and gotos", function()
      for _, case in ipairs(SNIPPETS) do
         local source, count, failure = case[1], case[2], case[3]
         if failure then
            local _, message = pcall(run, source)
            assert.matches(failure, message, 1, true)
         elseif loadstring(source) then               -- goto is a name only where 5.2's rules are not compiled in
            local results, counted = run(source)
            assert.same(values { loadstring(source)("first", 2) }, values(results), source)
            assert.equal(count, counted, source)
         end
      end
   end)

   it("moves no line", function()
      local source = "local a = 1\nlocal function f(\n   x,\n   y)\n   for i = 1,\n      2 do\n      if i == 2 then "
         .. "error 'here' end\n   end\nend\n--[[\n\n]] f()"
      local _, message = pcall(run, source)
      assert.equal("woven:7: here", message)
      _, message = pcall(run, "local t\n\n\nwhile t.x do end")
      assert.matches("^woven:4: ", message)
   end)

   it("leaves out a first line with # and a byte order mark, and keeps the lines", function()
      local results = run "#!/usr/bin/luajit\nreturn 1"
      assert.same({ 1 }, results)
      results = run "\239\187\191return 2"
      assert.same({ 2 }, results)
      local _, message = pcall(run, "# do not weave this do\nerror 'here'")
      assert.equal("woven:2: here", message)
   end)

   it("calls for help at every turn once the count is used up", function()
      run("for _ = 1, 5 do end", 3)
      assert.equal(3, counter.overs)                 -- one for the chunk, two turns, then three that are too many
      run("local function f() end for _ = 1, 2 do f() end ::a:: if not x then x = 1 goto a end x = nil", 0)
      assert.equal(6, counter.overs)
   end)

   it("hides the counter from the source", function()
      local results = run "local names = {} for k in pairs(_G) do names[#names + 1] = tostring(k) end return _budget"
      assert.same({}, results)
   end)

   it("compiles every Lua file of the tree to a program of the same shape", function()
      local util, n = require "jit.util", 0
      for path in io.popen "ls lua/perigee/*.lua lua/perigee/*/*.lua tests/*/*.lua examples/*.lua":lines() do
         local source = helper.read(path)
         local fine = loadstring(source)
         if fine then
            local woven = assert(loadstring(assert(weave(source)), "@" .. path))
            local inner = woven(counter)
            local plain, with = util.funcinfo(fine), util.funcinfo(inner)
            assert.equal(plain.params, with.params, path)
            assert.equal(plain.lastlinedefined, with.lastlinedefined - 1, path)
            n = n + 1
         end
      end
      assert.is_true(n > 40)
   end)

   it("runs a module of the tree as it was", function()
      local source = helper.read "lua/perigee/policies/plain.lua"
      local plain = run(source)[1]
      local data = { 1, "two", { three = { 3.5, true, false, "" } }, [10] = -1 / 3, ["do"] = "end" }
      assert.same(data, plain.unpack(plain.pack(data, true)))
   end)

   it("refuses what is no Lua", function()
      local woven, message = weave "local a = 1\nlocal b = `x`"
      assert.is_nil(woven)
      assert.matches("line 2", message)
   end)
end)
