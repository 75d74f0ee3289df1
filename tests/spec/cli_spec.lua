-- The command line: what it prints where, its exit codes, its help; every example of the help runs.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local cjson = require "cjson"

describe("perigee", function()
   local place
   setup(function() place = helper.workplace() end)
   teardown(function() helper.remove(place) end)

   local function shell(command) return helper.shell(command, place) end

   it("tells its version", function()
      local status, out = shell "perigee --version"
      assert.equal(0, status)
      assert.equal("perigee " .. perigee.version .. "\n", out)
      assert.same({ shell "perigee -V" }, { shell "perigee --version" })
   end)

   it("helps", function()
      local status, out, err = shell "perigee help"
      assert.equal(0, status)
      assert.equal("", err)
      for _, word in ipairs { "run", "info", "score", "bench", "quantize", "imatrix", "experts", "PERIGEE_MODEL",
         "Exit codes", "130" } do
         assert.matches(word, out, 1, true)
      end
      assert.same({ 0, out, "" }, { shell "perigee --help" })
      assert.same({ 0, out, "" }, { shell "perigee -h" })
      assert.same({ 2, "", out }, { shell "perigee" })
      for _, name in ipairs { "run", "info", "score", "bench", "quantize", "imatrix", "experts" } do
         local _, text = shell("perigee help " .. name)
         assert.matches("Usage: perigee " .. name, text, 1, true)
         assert.matches("Exit codes", text, 1, true)
         assert.same({ 0, text, "" }, { shell(("perigee %s --help"):format(name)) })
         for line in text:gmatch "[^\n]+" do assert.is_true(#line <= 120, line) end
      end
   end)

   it("runs every example of its help", function()
      local n = 0
      for _, topic in ipairs { "", "run", "info", "score", "bench", "quantize", "imatrix", "experts" } do
         local _, text = shell("perigee help " .. topic)
         for line in assert(text:match "\nExamples:\n(.*)$"):gmatch "  ([^\n]+)" do
            local status, out, err = shell(line)
            assert.equal(0, status, line .. ": " .. err)
            assert.is_true(#out > 0, line)
            n = n + 1
         end
      end
      assert.is_true(n >= 10)
   end)

   it("names what it does not know, and the nearest that it does", function()
      for command, expected in pairs {
         ["perigee rum"] = 'unknown command "rum", did you mean run?',
         ["perigee help scroe"] = 'unknown command "scroe", did you mean score?',
         ["perigee run -p x --temprature 1"] = "unknown option --temprature",
         ["perigee run -p x --tmp 1"] = "unknown option --tmp (did you mean --temp?)",
         ["perigee run -p x --prcision=f32"] = "unknown option --prcision (did you mean --precision?)",
         ["perigee info -x"] = "unknown option -x",
         ["perigee run"] = "a prompt is needed",
         ["perigee run -p"] = "-p needs TEXT",
         ["perigee run -p x -n few"] = '-n takes a whole number, not "few"',
         ["perigee run -p x -n 1.5"] = '-n takes a whole number, not "1.5"',
         ["perigee run -p x --temp warm"] = '--temp takes a number, not "warm"',
         ["perigee info --json=yes"] = "--json takes no value",
         ["perigee info a b"] = "expected [model], got 2 operands",
         ["perigee score"] = "expected [model] FILE, got 0 operands",
         ["perigee score story.txt --window 1"] = "--window must be from 2",
         ["perigee quantize model.gguf"] = "expected IN OUT TYPE, got 1 operand",
         ["perigee experts"] = "a text is needed",
         ["perigee experts --text story.txt --window 1"] = "--window must be",
         ["perigee experts --text story.txt --layer 0"] = "layer 0 has no experts; those are 1, 2, 3",
         ["perigee experts --text story.txt --text story.txt --svg x.svg"] = "one text",
         ["perigee score story.txt --limit 0"] = "--limit must be 1 or more",
      } do
         local status, out, err = shell(command)
         assert.equal(2, status, command)
         assert.equal("", out)
         assert.matches(expected, err, 1, true)
      end
   end)

   it("fails with a reason", function()
      for command, expected in pairs {
         ["perigee info no/such.gguf"] = "no/such.gguf",
         ["perigee info Makefile"] = "Makefile",
         ["PERIGEE_MODEL=no/such.gguf perigee info"] = "no/such.gguf",
         ["perigee info hf:org/repo/file.gguf"] = "hf:",
         ["perigee run no/such.gguf -p x"] = "no/such.gguf",
         ["perigee run -p ''"] = "prompt is empty",
         ["perigee run -p x --seed abc"] = "seed",
         ["perigee run -p x --precision f64"] = "precision",
         ["perigee quantize model.gguf x.gguf q8"] = 'type is "q8", expected f16',
         ["perigee score no/such.txt"] = "no/such.txt",
         ["perigee experts --text no/such.txt"] = "no/such.txt",
         ["perigee experts --trace Makefile"] = "PGEXPERT",
         ["perigee score /dev/null"] = "too short",
         ["perigee run -p x -n 4 -q >/dev/full"] = "standard output",
         ["perigee info --json >/dev/full"] = "standard output",
         ["perigee help >/dev/full"] = "standard output",
      } do
         local status, out, err = shell(command)
         assert.equal(1, status, command)
         assert.equal("", out)
         assert.matches(expected, err, 1, true)
         assert.matches("^perigee ?%a*: [^\n]+\n$", err)          -- one line, no traceback
      end
   end)

   describe("run", function()
      it("writes the text to standard output and statistics to standard error", function()
         local status, out, err = shell 'perigee run -p "Once upon a time" -n 12 --seed 7 --ignore-eos'
         assert.equal(0, status)
         assert.is_true(#out > 12)
         assert.matches("^prompt %d+ tokens, [%d.]+ tokens/s; generated 12 tokens, [%d.]+ tokens/s; "
            .. "experts used %d+ of %d+; seed 7; length\n$", err)
         local _, again, quiet = shell 'perigee run -p "Once upon a time" -n 12 --seed 7 --ignore-eos --quiet'
         assert.equal(out, again)
         assert.equal("", quiet)
      end)

      it("adds the engine's counters when asked", function()
         local _, _, err = shell 'perigee run -p "Once" -n 3 --ignore-eos --stats'
         assert.matches("generated_tokens +3\n", err)
         assert.matches("kv_pages ", err, 1, true)
      end)

      it("prints JSON for programs", function()
         local status, out = shell 'perigee run -p "Once" -n 6 --temp 0 --ignore-eos --logprobs 2 --json -q'
         assert.equal(0, status)
         local result = cjson.decode(out)
         assert.equal(6, #result.tokens)
         assert.equal(6, #result.logprobs)
         assert.equal(6, result.usage.completion)
         assert.equal("length", result.finish)
         local _, plain = shell 'perigee run -p "Once" -n 6 --temp 0 --ignore-eos -q'
         assert.equal(plain, result.text .. "\n")
         local keys = {}
         for key in out:gmatch '"(%a+)":' do keys[#keys + 1] = key end
         assert.same({ "experts", "all", "used", "finish" }, helper.slice(keys, 1, 4))
      end)

      it("reads the prompt from standard input, less the last newline", function()
         local _, expected = shell 'perigee run -p "Once upon" -n 6 --temp 0 -q'
         assert.same({ 0, expected, "" }, { shell 'echo "Once upon" | perigee run -p - -n 6 --temp 0 -q' })
         assert.same({ 0, expected, "" }, { shell 'printf "Once upon" | perigee run -p- -n6 --temp=0 -q' })
      end)

      it("takes the model by name, option values that look like options, and --", function()
         local _, expected = shell 'perigee run -p "--x" -n 4 --temp 0 -q'
         assert.same({ 0, expected, "" }, { shell 'perigee run model.gguf -p "--x" -n 4 --temp 0 -q' })
         assert.same({ 0, expected, "" }, { shell 'perigee run --prompt=--x -n 4 --temp 0 -q -- model.gguf' })
         assert.same({ 0, expected, "" }, { shell 'PERIGEE_MODEL=model.gguf perigee run -p --x -n 4 --temp 0 -q' })
      end)

      it("stops at each stop string", function()
         local _, text = shell 'perigee run -p "Once upon a time" -n 24 --temp 0 -q'
         local word = assert(text:match(" (%a%a+)", 20))
         local _, cut, err = shell(
            ('perigee run -p "Once upon a time" -n 24 --temp 0 --stop zzzz --stop %s'):format(word))
         assert.equal(text:sub(1, text:find(word, 1, true) - 1) .. "\n", cut)
         assert.matches("; stop\n$", err)
      end)

      it("stops cleanly at Ctrl-C", function()
         local status, out, err = shell [[
            perigee run -p "Once upon a time" --ignore-eos --context 100000 >text 2>notes & pid=$!
            for _ in $(seq 2400); do [ -s text ] && break; sleep 0.05; done
            kill -INT $pid; wait $pid; code=$?; cat text; cat notes >&2; exit $code]]
         assert.equal(130, status)
         assert.is_true(#out > 0)
         assert.equal("\n", out:sub(-1))
         assert.matches("; cancelled\n$", err)
      end)
   end)

   describe("info", function()
      it("tells what the bundled model is", function()
         local status, out, err = shell "perigee info"
         assert.equal(0, status)
         assert.equal("", err)
         assert.matches("architecture +deepseek2\n", out)
         assert.matches("experts +16 routed, %d used and 1 shared a token, in %d layers\n", out)
      end)

      it("prints as JSON what describe returns", function()
         local _, out = shell "perigee info model.gguf --json"
         assert.same(perigee.describe(helper.model), cjson.decode(out))
      end)
   end)

   describe("score", function()
      it("agrees with engine:score", function()
         local _, out = shell "perigee score model.gguf story.txt --json --precision f32"
         local found = cjson.decode(out)
         local engine = assert(perigee.open(helper.model, { precision = "f32" }))
         local logprobs = assert(engine:score(engine:encode(helper.read(place .. "/story.txt"), { bos = true })))
         engine:close()
         assert.equal(#logprobs, found.tokens)
         assert.equal(1, found.windows)
         assert.is_true(math.abs(found.mean_logprob - helper.mean(logprobs)) < 1e-6)
         assert.is_true(math.abs(found.perplexity - math.exp(-found.mean_logprob)) < 1e-4 * found.perplexity)
      end)

      it("cuts the text into windows", function()
         local _, whole = shell "perigee score story.txt -w 16 --json"
         local found = cjson.decode(whole)
         assert.equal(16, found.window)
         assert.equal(math.ceil(found.tokens / 15), found.windows)
         local _, some = shell "perigee score story.txt -w 16 --limit 2 --json"
         assert.equal(30, cjson.decode(some).tokens)
         local _, words = shell "perigee score story.txt -w 16 --limit 2"
         assert.matches("^perplexity [%d.]+, mean %-[%d.]+ nats, over 30 tokens in 2 windows of 16\n$", words)
      end)

      it("reads standard input", function()
         local _, expected = shell "perigee score story.txt --json"
         assert.same({ 0, expected, "" }, { shell "cat story.txt | perigee score - --json" })
      end)
   end)
end)

describe("the progress bar", function()
   -- A clock and a terminal of the test's own: each line of the script is second, done.
   local function drawn(is_terminal, quiet)
      local _, _, err = helper.shell(([[luajit -e 'local terminal = require "perigee.cli.terminal"
         local clock = 0
         function terminal.now() return clock end
         function terminal.is_terminal(fd) return fd == 2 and %s end
         local update, clear = terminal.progress("working", %s)
         for second, done in ipairs { 10, 20, 30 } do clock = second / 1.5 update(done, 40) end
         clear()']]):format(is_terminal, quiet))
      return err
   end

   it("appears on a terminal once a second has passed, and goes away", function()
      local text = drawn(true, false)
      assert.is_nil(text:find(" 25 %", 1, true))
      assert.matches("working %[#+%.+%]  50 %%, 1 s left", text)
      assert.matches("working %[#+%.+%]  75 %%, 1 s left", text)
      assert.equal("\r\27[K", text:sub(-4))
   end)

   it("stays away elsewhere", function()
      assert.equal("", drawn(false, false))
      assert.equal("", drawn(true, true))
   end)
end)

describe("JSON output", function()
   local json = require "perigee.cli.json"

   it("reads back as what it was", function()
      local value = { text = "a\"\\\n\t\1é🦊", list = { 1, 2.5, -3, true, false }, empty = {}, big = 2 ^ 52,
         small = 1e-7 }
      assert.same(value, cjson.decode(json.encode(value)))
   end)

   it("has sorted keys, no numbers that JSON lacks, and no bytes that are not UTF-8", function()
      assert.equal('{"a":1,"b":{"c":[],"d":null}}', json.encode { b = { d = 0 / 0, c = {} }, a = 1 })
      assert.equal('"x\239\191\189y\239\191\189\239\191\189"', json.encode "x\255y\237\160")
      assert.equal('"\239\191\189\239\191\189"', json.encode "\192\128")
   end)
end)
