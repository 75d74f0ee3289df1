-- The examples run as they stand, and stay short enough to be read at one glance.
local helper = dofile "tests/spec/helper.lua"

local function entries(pattern)
   local list, pipe = {}, io.popen("ls " .. pattern .. " 2>/dev/null")
   for path in pipe:lines() do list[#list + 1] = path end
   pipe:close()
   return list
end

local function lines(path)
   local _, n = helper.read(path):gsub("\n", "")
   return n
end

describe("examples", function()
   it("are at most 60 lines each", function()
      local paths = entries "examples/*.lua examples/*.c"
      assert.is_true(#paths >= 3)
      for _, path in ipairs(paths) do assert.is_true(lines(path) <= 60, path) end
      assert.is_true(lines "examples/hello.lua" <= 15)
   end)

   it("hello.lua tells a story", function()
      local status, out, err = helper.shell "luajit examples/hello.lua"
      assert.equal("", err)
      assert.equal(0, status)
      assert.is_true(#out > 20)
   end)

   it("score.lua agrees with the command", function()
      local place = helper.workplace()
      local status, out, err = helper.shell("luajit examples/score.lua story.txt 32", place)
      assert.equal("", err)
      assert.equal(0, status)
      local _, expected = helper.shell("perigee score story.txt -w 32", place)
      assert.equal(expected:match "perplexity ([%d.]+)", out:match "perplexity ([%d.]+)")
      assert.equal(expected:match "over (%d+) tokens", out:match "over (%d+) tokens")
      assert.equal(1, (helper.shell "luajit examples/score.lua"))
      helper.remove(place)
   end)

   it("agent.lua calls its tools, and only as its schema lets it", function()
      for _, question in ipairs { "Write Lua: return name", "What is 17 * 23?", "写一首诗：春" } do
         local status, out, err = helper.shell("luajit examples/agent.lua " .. helper.quote(question) .. " examples")
         assert.equal(0, status, err)
         for line in out:gmatch "[^\n]+" do
            local name, input = line:match "^(%l+)\t(%b{})\t"
            if name == "calculate" then assert.matches("^%d", require("cjson").decode(input).expression) end
            if name == "list" then assert.is_string(require("cjson").decode(input).path) end
         end
      end
   end)

   it("agent.lua's tools: sums without Lua, folders without a way out", function()
      local place = helper.folder()
      assert(os.execute(("mkdir -p %s/in/side %s/out && ln -s ../out %s/in/link && touch %s/in/side/seen"):format(
         place, place, place, place)) == 0)
      -- In place of the module: a chat that calls the tools with what a model might say.
      helper.write(place .. "/perigee.lua", [[
         local function run(tools)
            for _, text in ipairs { "17 * 23", "2+3*(4-1)/-3", "1 - 2 - 3", "os.exit()", "(1", "1 x" } do
               print(pcall(tools[1].call, { expression = text }))
            end
            for _, path in ipairs { "side", "..", "link", "/", "../in2", "side/../..", "nowhere" } do
               print(pcall(tools[2].call, { path = path }))
            end
            return "{}"
         end
         local chat = function(_, opts) return { run = function() return run(opts.tools) end } end
         return { schema = function(text) return text end, open = function() return { chat = chat } end,
            json = { decode = function() return {} end } }
      ]])
      local status, out, err = helper.shell(("LUA_PATH='%s/?.lua' luajit examples/agent.lua x %s/in"):format(place,
         place))
      assert.equal(0, status, err)
      local outside = "true\tnil\toutside the folder\n"
      assert.equal("true\t391\ntrue\t-1\ntrue\t-4\nfalse\ta number is missing\nfalse\ta bracket is missing\n"
         .. "false\tcannot read:  x\ntrue\tseen\n\n" .. outside:rep(2) .. "true\tlink\nside/\n\n" .. outside:rep(3)
         .. "{}\n", out)
      helper.remove(place)
   end)

   it("app.lua serves its folder", function()
      local status, out, err = helper.shell "echo 'Tell me a story.' | luajit examples/app.lua"
      assert.equal("", err)
      assert.equal(0, status)
      assert.is_true(#out > 10)
   end)

   it("hello.c compiles with the public header alone, and prints a text", function()
      local lib
      for folder in os.getenv("PATH"):gmatch "[^:]+" do       -- beside the command of this build
         if helper.exists(folder .. "/perigee") then
            lib = folder .. "/../libperigee.a"
            break
         end
      end
      assert.is_true(lib ~= nil and helper.exists(lib), "libperigee.a is not beside the command")
      local program = os.tmpname()
      local sanitizers = (os.getenv "SAN" or "") ~= "" and "-fsanitize=address,undefined" or ""
      local status, _, err = helper.shell(("unset LD_PRELOAD; ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror %s "
         .. "-Iengine/include -o %s examples/hello.c %s -ljansson -lpcre2-8 -lutf8proc -lm -lpthread"):format(
         sanitizers, program, helper.quote(lib)))
      assert.equal(0, status, err)
      local code, out, notes = helper.shell(("unset LD_PRELOAD; %s %s 'The fox'"):format(program, helper.model))
      assert.equal(0, code, notes)
      assert.matches("%[%d+ tokens%]\n$", out)
      assert.equal(1, (helper.shell("unset LD_PRELOAD; " .. program .. " no/such.gguf")))
      assert.equal(2, (helper.shell("unset LD_PRELOAD; " .. program)))
      os.remove(program)
   end)
end)
