-- What filters must do, told from whole texts and at every place of them; shares no code with the module. Loaded by
-- `dofile "tests/spec/filter_reference.lua"`.
local perigee = require "perigee"

local M = {}

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
   { regex = { "ca", "c(?:ab)", "(b)\\1" }, language = { "cab", "ca", "bb" } },
   { regex = { "c[a]", "c(?:ab)", "(b)\\1" }, language = { "ca", "cab", "bb" } },
   { regex = { "[ab]d|d{2}?" }, language = { "ad", "bd", "dd" } },
   { regex = { "(?x) a b  # a comment", "d(?i)D" }, language = { "ab", "dd", "dD" } },
}

M.filter = filter
M.find_all = find_all
M.reference = reference
M.make = make
M.run = run
M.cut = cut
M.random_text = random_text
M.random_words = random_words
M.signs = signs
M.LANGUAGES = LANGUAGES

return M
