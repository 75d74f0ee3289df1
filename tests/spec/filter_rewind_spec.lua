-- Tokens that filters take back, with an engine that is a function: nothing that was released may go, nothing may stay
-- that a filter wants away.
local must = dofile "tests/spec/filter_reference.lua"
local Stack = require "perigee.filter.stack"

local filter, make, reference, find_all = must.filter, must.make, must.reference, must.find_all
local random_words, signs, LANGUAGES = must.random_words, must.signs, must.LANGUAGES

describe("a stack that takes tokens back", function()
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

   local LETTERS = { "a", "b", "c", "好" }

   local function rule()
      if math.random(3) == 1 then
         local language = LANGUAGES[math.random(3)]
         return { regex = language.regex, language = language.language, after = language.after }
      end
      return {
         words = random_words(LETTERS, 2, 4), whole = math.random(2) == 1,
         allow = math.random(3) == 1 and random_words(LETTERS, 2, 5) or nil,
      }
   end

   -- Two filters that rewind, one that masks, sometimes one that blocks, in any order; and their rules in that order.
   local function some_filters()
      local entries = {}
      for i = 1, math.random(3) == 1 and 4 or 3 do
         local one = rule()
         one.mask = i == 3 and signs "#" or nil
         local made = i > 2 and make({ one })[1] or filter {
            name = "rewinds", words = one.words, regex = one.regex, whole_word = one.whole, allow = one.allow,
            action = "rewind", times = 30,
         }
         table.insert(entries, math.random(#entries + 1), { rule = one, filter = made, rewinds = i <= 2 })
      end
      local filters, rewind, others = {}, {}, {}
      for i, entry in ipairs(entries) do
         filters[i] = entry.filter
         table.insert(entry.rewinds and rewind or others, entry.rule)
      end
      return filters, rewind, others
   end

   it("never releases what it takes back, and leaves nothing that it should have", function()
      math.randomseed(6)
      local seen = { rewinds = 0, whole = 0, blocked = 0, exhausted = 0, failed = 0 }
      for round = 1, 300 do
         local filters, rewind, others = some_filters()
         local got, history, rewinds, stack = generate(filters, 40, round)
         local what = not got and "failed" or not stack.blocked and "whole"
            or stack.blocked.filter == "rewinds" and "exhausted" or "blocked"
         seen[what] = seen[what] + 1
         if what == "whole" or what == "blocked" then
            seen.rewinds = seen.rewinds + rewinds
            local text = text_of(history)
            assert.equal(reference(others, text), got)
            for _, one in ipairs(rewind) do
               local match = find_all(one, text)[1]
               assert.is_true(not match or what == "blocked" and match.first >= stack.blocked.first)
            end
            if what == "whole" then assert.equal(#history, stack:settled()) end
         end
      end
      assert.is_true(seen.rewinds > 500 and seen.whole > 100 and seen.blocked > 20)
   end)
end)
