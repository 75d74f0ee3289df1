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
            rules[2] = { regex = rules[2].regex, language = rules[2].language, after = rules[2].after }
            rules[2].mask = signs "#"
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
