-- Content filters without an engine: what they find, byte for byte, whatever way the text is cut.
local helper = dofile "tests/spec/helper.lua"
local ffi = require "ffi"
local lpeg = require "lpeg"
local perigee = require "perigee"
local must = dofile "tests/spec/filter_reference.lua"

local filter, make, run, cut = must.filter, must.make, must.run, must.cut
local reference, LANGUAGES = must.reference, must.LANGUAGES
local random_text, random_words, signs = must.random_text, must.random_words, must.signs

describe("a filter that is cut anywhere", function()
   it("finds what the reference finds in words", function()
      math.randomseed(1)
      local letters = { "a", "b", "c", "A", " ", "Ä", "ä", "好" }
      local function fold(text) return (text:lower():gsub("Ä", "ä")) end
      for round = 1, 150 do
         local rules = {}
         for i = 1, math.random(1, 3) do
            rules[i] = {
               words = random_words(letters, math.random(1, 8), 4), whole = round % 2 == 0,
               fold = round % 3 == 0 and fold,
               allow = round % 5 == 0 and random_words(letters, 3, 6) or nil,
               mask = (i < 3 or round % 4 > 0) and signs(tostring(i)) or nil,
            }
            if rules[i].fold then rules[i].allow = nil end
         end
         local filters = make(rules)
         for _ = 1, 8 do
            local text = random_text(letters, math.random(0, 40))
            local expected = reference(rules, text)
            local got = run(filters, cut(text))
            if got ~= expected then
               assert.same({ expected, rules, text }, { got, rules, text })
            end
            assert.equal(expected, (run(filters, { text })))
         end
      end
   end)

   it("finds what the reference finds by regular expressions", function()
      math.randomseed(2)
      local letters = { "a", "b", "c", "d", "D", " " }
      for round = 1, 200 do
         local rules = {}
         for i = 1, math.random(1, 3) do
            local language = LANGUAGES[math.random(#LANGUAGES)]
            rules[i] = {
               regex = language.regex, language = language.language, after = language.after,
               mask = (i < 3 or round % 4 > 0) and signs(tostring(i)) or nil,
            }
         end
         local filters = make(rules)
         for _ = 1, 8 do
            local text = random_text(letters, math.random(0, 60))
            local expected = reference(rules, text)
            assert.equal(expected, (run(filters, cut(text))))
            assert.equal(expected, (run(filters, { text })))
         end
      end
   end)

   it("gives the same for patterns, LPeg, classifiers, width and checks as on the whole text", function()
      math.randomseed(3)
      local letters = { "1", "2", "a", "b", "１", "ｂ", "好", " ", "\255" }
      local filters = {
         filter { name = "pattern", pattern = "%d+", max = 4, action = "mask", replace = "#" },
         filter { name = "lpeg", lpeg = lpeg.B "b" * lpeg.P "a" ^ 1, max = 6, action = "mask", replace = "$" },
         filter { name = "classify", max = 9, step = 3, action = "mask", replace = "!",
            classify = function(text) return text:find "a b" end },
         filter { name = "width", regex = "\\d[ab]", words = { "b1" }, normalise = true, action = "mask" },
         filter { name = "check", regex = "好+", words = { "好 好", "2好" }, action = "mask", replace = "?",
            check = function(match) return match.first % 2 == 0 end },
         filter { name = "allowed", words = { "2" }, allow = { regex = "1(?:2 *)+a" }, action = "mask", replace = "=" },
      }
      for _ = 1, 100 do
         local text = random_text(letters, math.random(0, 50))
         for _, one in ipairs(filters) do
            assert.equal((run({ one }, { text })), (run({ one }, cut(text))))
         end
         assert.equal((run(filters, { text })), (run(filters, cut(text))))
      end
   end)
end)

describe("what is held back", function()
   -- Released must be exactly what all texts that may follow agree on. Each match has a sign of its own, so that
   -- replacements do not agree by chance.
   local function continuations(letters, n)
      local all = { "" }
      local last = all
      for _ = 1, n do
         local longer = {}
         for _, text in ipairs(last) do
            for _, letter in ipairs(letters) do longer[#longer + 1] = text .. letter end
         end
         for _, text in ipairs(longer) do all[#all + 1] = text end
         last = longer
      end
      return all
   end

   local function agreed(rules, text, follow)
      local common
      for _, more in ipairs(follow) do
         local out = reference(rules, text .. more)
         if not common then common = out end
         local n = 0
         while n < math.min(#out, #common) and out:byte(n + 1) == common:byte(n + 1) do n = n + 1 end
         common = common:sub(1, n)
      end
      return common
   end

   local function sign_of_its_own()
      local known, n = {}, 0
      return function(match)
         if not known[match] then
            n = n + 1
            known[match] = string.char(n)
         end
         return known[match]
      end
   end

   local function check(rules, letters, n, n_more)
      local filters = make(rules)
      local text = random_text(letters, n)
      local stream = filters[1]:stream(unpack(filters, 2))
      local released, follow = "", continuations(letters, n_more)
      for i = 1, #text do
         released = released .. assert(stream:push(text:sub(i, i)))
         local expected = agreed(rules, text:sub(1, i), follow)
         if released ~= expected then
            assert.same({ expected, text:sub(1, i), rules }, { released, text:sub(1, i), rules })
         end
      end
   end

   it("is exactly what can still become a match, for words", function()
      math.randomseed(4)
      for round = 1, 12 do
         check({
            {
               words = random_words({ "a", "b", "c" }, math.random(1, 4), 4), whole = round % 2 == 0,
               allow = round % 3 == 0 and random_words({ "a", "b", "c" }, 2, 4) or nil, mask = sign_of_its_own(),
            },
         }, { "a", "b", "c", " " }, 8, 4)
      end
   end)

   it("is exactly what can still become a match, for regular expressions", function()
      math.randomseed(5)
      for _, language in ipairs(LANGUAGES) do
         for _ = 1, 3 do
            local rule = { regex = language.regex, language = language.language, after = language.after }
            rule.mask = sign_of_its_own()
            check({ rule }, { "a", "b", "c", "d" }, 10, 3)
         end
      end
   end)

   it("is max - 1 bytes where nobody can tell", function()
      for _, one in ipairs {
         filter { name = "p", pattern = "zz", max = 7 }, filter { name = "l", lpeg = lpeg.P "zz", max = 7 },
         filter { name = "c", classify = function() end, max = 7 },
      } do
         local stream, released = one:stream(), 0
         for i = 1, 30 do
            released = released + #stream:push "x"
            assert.equal(math.max(0, i - 6), released)
         end
         assert.equal("xxxxxx", (stream:finish()))
      end
   end)

   it("is never a part of a character", function()
      local stream = filter { name = "w", words = { "好人" } }:stream()
      local out = {}
      for c in ("x好x你"):gmatch "." do out[#out + 1] = assert(stream:push(c)) end
      assert.same({ "x", "", "", "", "好x", "", "", "你" }, out)
      stream:push "\228\189"
      assert.equal("\228\189", (stream:finish()))
   end)

   it("waits for lookaheads and does not forget what lookbehinds see", function()
      local stream = filter { name = "r", regex = "(?<=x)ab(?=c)", action = "mask" }:stream()
      assert.equal("x", (stream:push "x"))
      assert.equal("", (stream:push "ab"))
      assert.equal("**c", (stream:push "c"))
      assert.equal("zabc", (stream:push "zabc"))
      stream:push(("y"):rep(20000))
      assert.equal("^", (stream:push "^"))
      stream = filter { name = "r", regex = "^ab", action = "mask" }:stream()
      stream:push(("y"):rep(20000))
      for _ = 1, 40 do assert.equal("ab", (stream:push "ab")) end
   end)
end)

describe("perigee.filter", function()
   it("says what is wrong with its options", function()
      local cases = {
         [{}] = "a filter needs a name",
         [{ name = "x" }] = 'filter "x": there is nothing to look for',
         [{ name = "x", words = {} }] = "nothing to look for",
         [{ name = "x", words = { "a", "" } }] = "word 2 is empty",
         [{ name = "x", regex = { "a", "" } }] = "regex 2 is empty",
         [{ name = "x", regex = { "a+", "b(" } }] = 'missing closing parenthesis at byte 3 of "b("',
         [{ name = "x", pattern = "%d" }] = "pattern needs max",
         [{ name = "x", pattern = "%d$", max = 3 }] = "leave ^ and $ out",
         [{ name = "x", pattern = "a[^]", max = 3 }] = 'pattern "a[^]": a class without ]',
         [{ name = "x", pattern = "a%", max = 3 }] = "it ends with %",
         [{ name = "x", pattern = "a%b(", max = 3 }] = "%b needs two characters",
         [{ name = "x", pattern = "a%fb", max = 3 }] = "%f needs a class",
         [{ name = "x", pattern = "a(b", max = 3 }] = "a ( without )",
         [{ name = "x", pattern = "a)b", max = 3 }] = "a ) without (",
         [{ name = "x", pattern = "(a%1)", max = 3 }] = "%1 refers to no capture",
         [{ name = "x", classify = print, max = 0 }] = "max must be 1 to 65536",
         [{ name = "x", classify = print, max = 4, step = 5 }] = "step must be 1 to max",
         [{ name = "x", words = "a", action = "explode" }] = 'action must be "block"',
         [{ name = "x", words = "a", on = "input" }] = 'on must list "prompt" and "output"',
         [{ name = "x", words = "a", times = -1 }] = "times must not be negative",
         [{ name = "x", words = "a", allow = { word = { "b" } } }] = 'did you mean "words"?',
         [{ name = "x", wrods = "a" }] = 'did you mean "words"?',
      }
      for opts, expected in pairs(cases) do
         local made, message, code = perigee.filter(opts)
         assert.is_nil(made)
         assert.matches(expected, message, 1, true)
         assert.equal("invalid", code)
      end
      for _, opts in ipairs {
         { name = "x", words = 1 }, { name = "x", words = "a", action = 1 }, { name = "x", lpeg = "a", max = 2 },
         { name = "x", words = "a", replace = {} }, { name = "x", words = "a", allow = 1 }, { name = 1 },
      } do
         assert.has_error(function() perigee.filter(opts) end)
      end
      assert.has_error(function() perigee.filter "words" end)
   end)

   it("scans and cleans whole texts", function()
      local one = filter { name = "n", category = "c", words = { "bad", "badly" }, allow = { "not bad" } }
      assert.same({
         { filter = "n", category = "c", action = "block", text = "badly", first = 9, last = 13 },
         { filter = "n", category = "c", action = "block", text = "bad", first = 15, last = 17 },
      }, one:scan "not bad badly bad")
      local text, matches = one:clean "not bad badly bad"
      assert.equal("not bad ", text)
      assert.equal("badly", matches[1].text)
      assert.equal("perigee.filter n: c, block", tostring(one))
      local none, message, code = filter { name = "e", words = "a", check = function() error "why" end }:scan "bab"
      assert.is_nil(none)
      assert.matches('filter "e" failed: .*why', message)
      assert.equal("invalid", code)
   end)

   it("takes a time that grows with the text, however many matches there are", function()
      local began = os.clock()
      local mask = filter { name = "m", words = { "a" }, action = "mask" }
      local flag = filter { name = "f", regex = "a b", action = "flag" }
      local stream = mask:stream(flag)
      local text, matches = stream:push(("a b "):rep(60000))
      assert.equal(("* b "):rep(60000), text)
      assert.equal(120000, #matches)
      assert.is_true(os.clock() - began < 10)
   end)

   it("folds case and width", function()
      local one = filter { name = "n", words = { "straße", "Ёж", "ÀÉ", "abc12" }, regex = "x\\d{2}", ignore_case = true,
         normalise = true, action = "mask", replace = "-" }
      assert.equal("- - - - - -", (one:clean "STRAßE ёЖ àé ａＢｃ１２ Ｘ１２ x34"))
   end)

   it("finds ten thousand words, each where it is", function()
      math.randomseed(7)
      local list, known = {}, {}
      while #list < 10000 do
         local word = random_text({ "a", "b", "c", "d", "e", "f", "g", "h" }, math.random(5, 9))
         if not known[word] then
            list[#list + 1], known[word] = word, true
         end
      end
      local one = filter { name = "n", words = list, whole_word = true }
      for _ = 1, 200 do
         local word = list[math.random(#list)]
         assert.same({ word }, { one:scan("xx " .. word .. " xx")[1].text })
         assert.same({}, one:scan("xx " .. word .. "x xx"))
      end
   end)

   it("stays in compiled code where it walks along bytes", function()
      local words = require "perigee.filter.words"
      local auto = words.build(random_words({ "a", "b", "c" }, 1000, 9), false)
      local data, n = ffi.new "uint8_t[4000]", 4000
      for i = 0, n - 1 do data[i] = 0x61 + (i * i + i) % 7 end
      assert(helper.compiles(function()
         for _ = 1, 200 do
            local i, node = 0, 0
            while i < n do i, node = words.walk(auto, data, i, n, node) end
         end
      end, words.walk))
   end)
end)
