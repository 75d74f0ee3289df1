-- Content filters without an engine: what they find, byte for byte, whatever way the text is cut.
-- The reference below looks at whole texts and at every place of them; it shares no code with the module.
local lpeg = require "lpeg"
local perigee = require "perigee"

local function filter(opts) return (assert(perigee.filter(opts))) end

-- Letters of these specs; Ä and ä are two bytes, 好 three.
local function is_letter_at(text, i)
   local c = text:sub(i, i)
   return c:find "[%w_]" ~= nil or c:byte() ~= nil and c:byte() >= 0xC3 and c:byte() <= 0xDF
end

local function letter_before(text, i)
   if i == 1 then return false end
   local back = i - 1
   while back > 1 and text:byte(back) >= 0x80 and text:byte(back) < 0xC0 do back = back - 1 end
   return is_letter_at(text, back)
end

-- Ends of the matches that begin at i, best first. A rule is { words =, whole =, fold = } or { language =, after = }.
local function ends_at(rule, text, i)
   local ends = {}
   if rule.words then
      local folded = rule.fold and rule.fold(text) or text
      for _, word in ipairs(rule.words) do
         word = rule.fold and rule.fold(word) or word
         local stop = i + #word - 1
         if folded:sub(i, stop) == word and not (rule.whole and (letter_before(text, i) and is_letter_at(word, 1)
            or stop < #text and is_letter_at(text, stop + 1) and letter_before(word .. " ", #word + 1))) then
            ends[#ends + 1] = stop
         end
      end
      table.sort(ends, function(a, b) return a > b end)
   end
   for _, one in ipairs(rule.language or {}) do
      if text:sub(i, i + #one - 1) == one and (not rule.after or text:sub(1, i - 1):find(rule.after .. "$")) then
         return { i + #one - 1 }
      end
   end
   return ends
end

local function inside_allowed(rule, text, first, last)
   local allowed = { words = rule.allow, whole = rule.whole }
   for i = 1, rule.allow and first or 0 do
      for _, stop in ipairs(ends_at(allowed, text, i)) do
         if stop >= last then return true end
      end
   end
   return false
end

local function find_all(rule, text)
   local matches, i = {}, 1
   while i <= #text do
      local stop
      for _, last in ipairs(ends_at(rule, text, i)) do
         if not inside_allowed(rule, text, i, last) then
            stop = last
            break
         end
      end
      if stop then
         matches[#matches + 1] = { first = i, last = stop }
         i = stop + 1
      else
         i = i + 1
      end
   end
   return matches
end

local function before(a, b)
   if a.first ~= b.first then return a.first < b.first end
   if a.last ~= b.last then return a.last > b.last end
   return a.rank < b.rank
end

-- What several rules make of a text: rule.mask(text of the match) replaces it; without, it blocks.
local function reference(rules, text)
   local matches = {}
   for rank, rule in ipairs(rules) do
      for _, match in ipairs(find_all(rule, text)) do
         match.rank = rank
         matches[#matches + 1] = match
      end
   end
   table.sort(matches, before)
   local out, sent = {}, 0
   for _, match in ipairs(matches) do
      if match.first - 1 > sent then
         out[#out + 1] = text:sub(sent + 1, match.first - 1)
         sent = match.first - 1
      end
      local mask = rules[match.rank].mask
      if not mask then return table.concat(out) end
      if match.last > sent then
         out[#out + 1] = mask(text:sub(match.first, match.last))
         sent = match.last
      end
   end
   out[#out + 1] = text:sub(sent + 1)
   return table.concat(out)
end

local function make(rules)
   local list = {}
   for i, rule in ipairs(rules) do
      list[i] = filter {
         name = "rule " .. i, words = rule.words, regex = rule.regex, allow = rule.allow, whole_word = rule.whole,
         ignore_case = rule.fold and true, action = rule.mask and "mask" or "block",
         replace = rule.mask and function(match) return rule.mask(match.text) end,
      }
   end
   return list
end

local function run(filters, pieces)
   local stream = filters[1]:stream(unpack(filters, 2))
   local out = {}
   for i, piece in ipairs(pieces) do out[i] = assert(stream:push(piece)) end
   out[#out + 1] = assert(stream:finish())
   return table.concat(out), out
end

local function cut(text)
   local pieces = {}
   while text ~= "" do
      local n = math.random(1, 4)
      pieces[#pieces + 1], text = text:sub(1, n), text:sub(n + 1)
   end
   return pieces
end

local function random_text(letters, n)
   local list = {}
   for i = 1, n do list[i] = letters[math.random(#letters)] end
   return table.concat(list)
end

local function random_words(letters, n, longest)
   local list = {}
   for i = 1, n do list[i] = random_text(letters, math.random(1, longest)) end
   return list
end

local function signs(sign)
   return function(match) return sign .. #match end
end

-- Expressions whose language is finite, in the order in which a backtracking search prefers it.
local LANGUAGES = {
   { regex = { "ab?c" }, language = { "abc", "ac" } },
   { regex = { "a(?:b|bc)(?:d|cd)?" }, language = { "abd", "abcd", "ab", "abcd", "abccd", "abc" } },
   { regex = { "(?<=b)a{1,3}" }, language = { "aaa", "aa", "a" }, after = "b" },
   { regex = { "ca", "cab", "(b)\\1" }, language = { "ca", "cab", "bb" } },
   { regex = { "(?:cab|ca)(?=d| )" }, language = { "cabd", "cab ", "cad", "ca " }, ahead = true },
   { regex = { "[ab]d|d{2}?" }, language = { "ad", "bd", "dd" } },
   { regex = { "(?x) a b  # a comment", "d(?i)D" }, language = { "ab", "dd", "dD" } },
}

describe("a filter that is cut anywhere", function()
   it("finds what the reference finds in words", function()
      math.randomseed(1)
      local letters = { "a", "b", "c", "A", " ", "Ä", "ä", "好" }
      local function fold(text) return (text:lower():gsub("Ä", "ä")) end
      for round = 1, 150 do
         local rules = {}
         for i = 1, math.random(1, 3) do
            rules[i] = {
               words = random_words(letters, math.random(1, 8), 4), whole = round % 2 == 0, fold = round % 3 == 0 and fold,
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
            while language.ahead do language = LANGUAGES[math.random(#LANGUAGES)] end
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
         if not language.ahead then
            for _ = 1, 3 do
               check({
                  { regex = language.regex, language = language.language, after = language.after,
                     mask = sign_of_its_own() },
               }, { "a", "b", "c", "d" }, 10, 3)
            end
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

describe("a stack that takes tokens back", function()
   local Stack = require "perigee.filter.stack"

   -- An engine of its own: what comes next follows from what is there and from what is banned, and from nothing else.
   local PIECES = { "a", "b", "c", "ab", "bc", " ", "ca", "好", "\229", "\165\189", "b\229", "\165\189c" }

   local function pick(history, banned)
      local state = 17
      for _, id in ipairs(history) do state = (state * 31 + id * 7) % 65521 end
      for turn = 0, 200 do
         local id = (state + turn * 5) % #PIECES + 1
         -- Only what continues a character may come when one has begun, and only then.
         local last = history[#history] and PIECES[history[#history]] or ""
         local begun = last:sub(-1) == "\229"
         if not banned[id] and begun == (PIECES[id]:byte() == 165) then return id end
      end
   end

   -- Whole characters of a history, and how many bytes.
   local function text_of(history, last)
      local parts = {}
      for i = 1, last or #history do parts[i] = PIECES[history[i]] end
      return (table.concat(parts):gsub("\229$", ""))
   end

   local function generate(filters, n, seed)
      local history, bans, rewinds = { seed % 3 + 1 }, {}, 0
      local stack, out
      stack = Stack.new(filters, function(k)
         bans[k] = bans[k] or {}
         bans[k][history[k]] = true
         for i = #history, k, -1 do history[i] = nil end
         for i in pairs(bans) do
            if i > k then bans[i] = nil end
         end
         rewinds = rewinds + 1
         return true
      end)
      out = {}
      local function take()
         for i = 1, stack.n_out do
            if type(stack.out[i]) == "string" then out[#out + 1] = stack.out[i] end
         end
      end
      local pushed = 0
      while true do
         while #history > pushed or #history < n do
            if #history == pushed then history[pushed + 1] = pick(history, bans[pushed + 1] or {}) end
            if #history == pushed then return nil end               -- everything is banned: an engine would fail here
            local known = #text_of(history, pushed)
            pushed = pushed + 1
            stack:token(#PIECES[history[pushed]])
            stack:push(text_of(history, pushed):sub(known + 1))
            take()
            if stack.blocked then return table.concat(out), history, rewinds, stack end
            pushed = #history
            assert.is_true(stack:settled() <= pushed)
         end
         stack:finish()
         take()
         if stack.blocked or not stack.rewound then return table.concat(out), history, rewinds, stack end
         pushed = #history
      end
   end

   it("never releases what it takes back, and leaves nothing that it should have", function()
      math.randomseed(6)
      local total, ended = 0, 0
      for round = 1, 300 do
         local rules = {
            { words = random_words({ "a", "b", "c", "好" }, 2, 4), times = 50, whole = round % 2 == 0 },
            { words = random_words({ "a", "b", "c", "好" }, 2, 4), mask = signs "#", allow = { "abc", "好c" } },
         }
         if round % 3 == 0 then
            rules[2] = LANGUAGES[round / 3 % 3 + 1]
            rules[2] = { regex = rules[2].regex, language = rules[2].language, after = rules[2].after, mask = signs "#" }
         end
         local filters = make(rules)
         filters[1] = filter {
            name = "rewinds", words = rules[1].words, whole_word = rules[1].whole, action = "rewind", times = 50,
         }
         local got, history, rewinds, stack = generate(filters, 40, round)
         total = total + (rewinds or 0)
         if not got then
            ended = ended + 1
         elseif not stack.blocked then
            local text = text_of(history)
            assert.same({}, find_all(rules[1], text))
            assert.equal(reference({ rules[2] }, text), got)
            assert.equal(#history, stack:settled())
         else
            assert.equal(50, rewinds)
            assert.equal(reference({ rules[2] }, text_of(history)):sub(1, #got), got)
         end
      end
      assert.is_true(total > 300 and ended < 150)
   end)
end)
