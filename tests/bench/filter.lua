-- What content filters cost: nanoseconds a token for texts without matches, cut into pieces as tokens cut them, and the
-- pace of decoding with and without filters by turns.
--    eval "$(make -s env)"; luajit tests/bench/filter.lua [MODEL] [options]
--       --text FILE (README.md)   --turns N (5)   --new N (128)
-- Filters: 1,000 and 10,000 words in one automaton, 1,000 literals as regular expressions, twelve filters of eight
-- expressions each, and all packs. Each line is the median of the turns, the stream's own work included; a run before
-- them does not count, since the automata of expressions grow with what they see.
local perigee = require "perigee"
local measure = dofile "tests/bench/measure.lua"

local median = measure.median

-- A word that looks like one: syllables, so that words share beginnings with each other and with the text.
local SYLLABLES = {
   "ba", "de", "fi", "ko", "lu", "ma", "ne", "pri", "sto", "tra", "un", "ver", "wa", "th", "an", "ing",
}

local function word()
   local parts = {}
   for i = 1, math.random(3, 5) do parts[i] = SYLLABLES[math.random(#SYLLABLES)] end
   return table.concat(parts)
end

local function distinct(n, text)
   local list, known = {}, {}
   while #list < n do
      local one = word()
      if not known[one] and not text:find(one, 1, true) then
         known[one] = true
         list[#list + 1] = one
      end
   end
   return list
end

local EXPRESSIONS = {
   "\\b%s\\s+\\d{2,4}\\b", "(?<!\\w)%s[a-z]{0,8}x{3}", "%s[-_ ]?%s", "\\d{3}-%s", "(?:%s|%s)\\s*:\\s*\\d+",
   "\\b%s\\b.{0,20}\\b%s\\b", "https?://%s\\.[a-z]{2,6}", "%s@[a-z0-9.]{3,40}",
}

local function expressions(text)
   local list = {}
   local function one() return distinct(1, text)[1] end
   for i, form in ipairs(EXPRESSIONS) do list[i] = form:gsub("%%s", one) end
   return list
end

local function filter(opts)
   opts.action = "mask"
   return (assert(perigee.filter(opts)))
end

local function cases(text)
   local categories = {}
   for i = 1, 12 do
      categories[i] = filter { name = "category " .. i, regex = expressions(text), ignore_case = true }
   end
   local words = distinct(10000, text)
   local some = { unpack(words, 1, 1000) }
   return {
      { "one word", { filter { name = "one", words = { "qqqq" } } } },
      { "1,000 words", { filter { name = "words", words = some } } },
      { "1,000 words, whole, any case", {
         filter { name = "words", words = some, whole_word = true, ignore_case = true },
      } },
      { "10,000 words", { filter { name = "words", words = words } } },
      { "1,000 literals as expressions", { filter { name = "literals", regex = some } } },
      { "12 filters of 8 expressions", categories },
      { "all packs", assert(perigee.filter.pack("all", { action = "flag" })) },
      { "a Lua pattern, max 32", { filter { name = "pattern", pattern = "%d%d%d%-%d+", max = 32 } } },
   }
end

local function nanoseconds(filters, pieces)
   local stream = filters[1]:stream(unpack(filters, 2))
   local began = os.clock()
   for i = 1, #pieces do stream:push(pieces[i]) end
   return (os.clock() - began) / #pieces * 1e9
end

local function pieces_of(engine, text)
   local list = {}
   for i, id in ipairs(assert(engine:encode(text))) do list[i] = assert(engine:decode { id }) end
   return list
end

local function pace(engine, filters, n)
   local result = assert(assert(engine:generate("Once upon a time", {
      max_new = n, temperature = 0, ignore_eos = true, filters = filters,
   })):result())
   return (n - 1) / result.timings.decode * 1000
end

local function compare(engine, name, filters, turns, n)
   local with, without = {}, {}
   for i = 1, turns do
      without[i], with[i] = pace(engine, nil, n), pace(engine, filters, n)
   end
   local a, b = median(without), median(with)
   print(("  %-32s %8.1f tokens/s without, %8.1f with: %+.1f %%"):format(name, a, b, (b / a - 1) * 100))
end

local function main(opts, operands)
   local engine = assert(perigee.open(operands[1], { context = 1024 }))
   local text = assert(measure.read(opts.text))
   local pieces, turns = pieces_of(engine, text), opts.turns
   math.randomseed(1)
   local all = cases(text)
   print(("%d tokens of %.1f bytes; nanoseconds a token"):format(#pieces, #text / #pieces))
   for _, case in ipairs(all) do
      local times = {}
      nanoseconds(case[2], pieces)
      for i = 1, turns do times[i] = nanoseconds(case[2], pieces) end
      print(("  %-32s %8.0f"):format(case[1], median(times)))
   end
   print "decoding"
   for _, i in ipairs { 2, 6 } do compare(engine, all[i][1], all[i][2], turns, opts.new) end
   compare(engine, "the same twice, for the noise", nil, turns, opts.new)
   local rewinds = assert(perigee.filter { name = "rewinds", words = { "qqqqq", "zzzzz" }, action = "rewind" })
   compare(engine, "a filter that may rewind", { rewinds }, turns, opts.new)
end

main(measure.options(arg, { text = "README.md", turns = 5, new = 128 }))
