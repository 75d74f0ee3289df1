--- Many words at once: one automaton over bytes, and a stream that walks it.
--
-- Private to the module. The automaton is that of Aho and Corasick: a trie of all words whose nodes know the longest
-- suffix that is in the trie as well. Its edges lie in one hash table, so that ten thousand words take a megabyte and
-- are built in milliseconds; a row of 256 a node would be read no faster from memory. A node is also what makes the
-- held-back tail exact: its depth is the length of the longest suffix of the text that begins a word.
-- Source: Aho and Corasick, Efficient string matching, Communications of the ACM 18(6), 1975.
-- @module perigee.filter.words
-- @local
local ffi = require "ffi"
local bit = require "bit"
local Spans = require "perigee.filter.spans"

local band, lshift, rshift, tobit = bit.band, bit.lshift, bit.rshift, bit.tobit

local M = {}

local ints, octets = ffi.typeof "int32_t[?]", ffi.typeof "uint8_t[?]"

local BEFORE, AFTER = 2, 4          -- a whole word: no letter may stand before it, or after it

--- Whether a byte begins a letter, a digit or "_": of ASCII, or of alphabets whose letters take two bytes (Latin with
-- accents, Greek, Cyrillic, Hebrew, Arabic ...). Han characters do not: words stand side by side there.
-- @tparam number b
-- @treturn boolean
local function letter(b)
   return b >= 0x61 and b <= 0x7A or b >= 0x41 and b <= 0x5A or b >= 0x30 and b <= 0x39 or b == 0x5F
      or b >= 0xC3 and b <= 0xDF
end
M.letter = letter

-- The byte that begins the last character of a word.
local function last_lead(word)
   local i = #word
   while i > 1 and band(word:byte(i), 0xC0) == 0x80 do i = i - 1 end
   return word:byte(i)
end

-- Where the search for the edge `want` = node * 256 + byte begins. Exact in doubles up to 2^23 nodes.
local function slot_of(want, mask) return band(rshift(tobit(want * 40503), 8), mask) end

local function find(auto, want)
   local key, mask = auto.key, auto.mask
   local slot = slot_of(want, mask)
   while key[slot] ~= want do
      if key[slot] < 0 then return nil, slot end
      slot = band(slot + 1, mask)
   end
   return auto.value[slot]
end

local function add_word(auto, word, whole)
   local node, key, value = 0, auto.key, auto.value
   for i = 1, #word do
      local b = word:byte(i)
      local want = node * 256 + b
      local child, slot = find(auto, want)
      if not child then
         child = auto.nodes
         auto.nodes = child + 1
         key[slot], value[slot] = want, child
         auto.parent[child], auto.label[child], auto.depth[child] = node, b, auto.depth[node] + 1
         auto.inner[node] = 1
      end
      node = child
   end
   local mark = 1
   if whole and letter(word:byte(1)) then mark = mark + BEFORE end
   if whole and letter(last_lead(word)) then mark = mark + AFTER end
   auto.mark[node] = mark
end

-- Nodes by depth: an array, and how many.
local function by_depth(auto)
   local n, depth = auto.nodes, auto.depth
   local deepest = 0
   for node = 0, n - 1 do deepest = math.max(deepest, depth[node]) end
   local first, order = ints(deepest + 2), ints(n)
   for node = 0, n - 1 do first[depth[node] + 1] = first[depth[node] + 1] + 1 end
   for d = 1, deepest + 1 do first[d] = first[d] + first[d - 1] end
   for node = 0, n - 1 do
      local d = depth[node]
      order[first[d]], first[d] = node, first[d] + 1
   end
   return order
end

local function add_suffixes(auto)
   local order = by_depth(auto)
   local suffix, shorter, mark, outs = auto.suffix, auto.shorter, auto.mark, auto.outs
   for i = 1, auto.nodes - 1 do
      local node = order[i]
      local b, up = auto.label[node], auto.parent[node]
      local found
      while up ~= 0 do
         up = suffix[up]
         found = find(auto, up * 256 + b)
         if found then break end
      end
      local to = found or 0
      suffix[node] = to
      shorter[node] = mark[to] ~= 0 and to or shorter[to]
      outs[node] = (mark[node] ~= 0 or shorter[node] ~= 0) and 1 or 0
   end
end

--- Build an automaton.
-- @tparam {string,...} words not empty, folded already
-- @tparam boolean whole only where no letter stands before or after
-- @treturn table
function M.build(words, whole)
   local bytes = 0
   for _, word in ipairs(words) do bytes = bytes + #word end
   local room, n = 256, bytes + 1
   while room < 2 * n do room = 2 * room end
   local auto = {
      nodes = 1, mask = room - 1, words = #words, whole = whole,
      key = ints(room), value = ints(room),            -- edges: node * 256 + byte -> node; key -1: free
      parent = ints(n), label = octets(n), depth = ints(n),
      inner = octets(n),                               -- 1: words go on here
      mark = octets(n),                                -- not 0: a word ends here; BEFORE, AFTER
      suffix = ints(n),                                -- node of the longest suffix
      shorter = ints(n),                               -- node of the longest suffix that is a word; 0: none
      outs = octets(n),                                -- 1: a word ends here or at a suffix
      starts = octets(256),                            -- 1: some word begins with this byte
   }
   ffi.fill(auto.key, 4 * room, 0xFF)
   for _, word in ipairs(words) do
      add_word(auto, word, whole)
      auto.starts[word:byte(1)] = 1
   end
   add_suffixes(auto)
   auto.parent, auto.label = nil, nil                  -- only building needs them
   return auto
end

--- Walk the automaton until words end or the bytes do. One flat loop, for the compiler's sake: a turn takes a byte,
-- steps to a suffix, or probes the next slot.
-- @tparam table auto
-- @tparam cdata data
-- @tparam number i index of the first byte
-- @tparam number n index after the last
-- @tparam number node to begin with
-- @treturn number index after the last byte taken
-- @treturn number node
function M.walk(auto, data, i, n, node)
   local key, value, mask, suffix = auto.key, auto.value, auto.mask, auto.suffix
   local outs, starts = auto.outs, auto.starts
   local slot = -1
   while i < n do
      local b = data[i]
      if node == 0 and starts[b] == 0 then
         i = i + 1
      else
         local want = lshift(node, 8) + b
         if slot < 0 then slot = band(rshift(tobit(want * 40503), 8), mask) end
         local have = key[slot]
         if have == want then
            node, i, slot = value[slot], i + 1, -1
            if outs[node] ~= 0 then break end
         elseif have >= 0 then
            slot = band(slot + 1, mask)
         else
            node, slot = suffix[node], -1              -- a byte that begins a word has an edge at the root: it ends
         end
      end
   end
   return i, node
end

--- Walk for many walkers at once, in one flat loop: those on whose way no word ends are brought to the text's end, the
-- others stay as they are.
-- @tparam {walker,...} list
function M.walk_all(list)
   local k, i, n, node, slot, base = 0, 0, -1, 0, -1, 0
   local key, value, mask, suffix, outs, starts, data
   while true do
      if i < n then
         local b = data[i]
         if node == 0 and starts[b] == 0 then
            i = i + 1
         else
            local want = lshift(node, 8) + b
            if slot < 0 then slot = band(rshift(tobit(want * 40503), 8), mask) end
            local have = key[slot]
            if have == want then
               node, i, slot = value[slot], i + 1, -1
               if outs[node] ~= 0 then i, n = 0, -1 end
            elseif have >= 0 then
               slot = band(slot + 1, mask)
            else
               node, slot = suffix[node], -1
            end
         end
      else
         if n >= 0 then list[k].pos, list[k].node = base + n, node end
         k = k + 1
         local walker = list[k]
         if not walker then return end
         local auto, tape = walker.auto, walker.tape
         key, value, mask, suffix = auto.key, auto.value, auto.mask, auto.suffix
         outs, starts, data, base = auto.outs, auto.starts, tape.data, tape.base
         i, n, node, slot = walker.pos - base, tape.stop - base, walker.node, -1
         if walker.waiting or i >= n then i, n = 0, -1 end
      end
   end
end

local Walker = {}
Walker.__index = Walker

--- A walk along a tape.
-- @tparam table auto
-- @tparam tape tape
-- @treturn walker
function M.start(auto, tape)
   return setmetatable({
      auto = auto, tape = tape, pos = 0, node = 0,
      hold = 0,             -- the first place where a word may still begin that is not known yet
      found = Spans.new(),
      waiting = false,      -- a word ends at pos whose next character is not there yet
      behind = 4,           -- bytes before `hold` that it looks at
   }, Walker)
end

--- Forget everything from a place on and walk from there.
-- @tparam number place
function Walker:restart(place)
   self.pos, self.node, self.found.n, self.waiting, self.hold = place, 0, 0, false, place
end

-- Whether a letter ends before a place.
local function letter_before(tape, place)
   local i = place - 1 - tape.base
   if i < 0 then return false end
   local data = tape.data
   local b = data[i]
   if b < 0x80 then return letter(b) end
   return band(b, 0xC0) == 0x80 and i > 0 and letter(data[i - 1])
end

-- Note the words that end at pos: those that do so whatever follows (late = false), or the others, whose next
-- character must be there now, or the stream at its end.
local function note(self, late)
   local auto, tape, pos = self.auto, self.tape, self.pos
   local node = self.node
   if auto.mark[node] == 0 then node = auto.shorter[node] end
   local followed = pos < tape.stop and letter(tape.data[pos - tape.base])
   local waiting = false
   while node ~= 0 do
      local mark, first = auto.mark[node], pos - auto.depth[node]
      local after = band(mark, AFTER) ~= 0
      if band(mark, BEFORE) == 0 or not letter_before(tape, first) then
         if after and not late then
            waiting = true
         elseif after == late and not (late and followed) then
            self.found:add(first, pos)
         end
      end
      node = auto.shorter[node]
   end
   self.waiting = waiting
end

-- Where the longest suffix begins that may still become a word, at `from` or later.
local function alive(self, from)
   local auto, tape, node = self.auto, self.tape, self.node
   while node ~= 0 do
      local first, mark = self.pos - auto.depth[node], auto.mark[node]
      local open = auto.inner[node] ~= 0 or band(mark, AFTER) ~= 0
      if first >= from and open and not (auto.whole and letter_before(tape, first)
         and letter(tape.data[first - tape.base])) then
         return first
      end
      node = auto.suffix[node]
   end
   return self.pos
end

local function advance(self, final)
   local auto, tape = self.auto, self.tape
   local data, base, stop = tape.data, tape.base, tape.stop
   if self.waiting and (self.pos < stop or final) then note(self, true) end
   while self.pos < stop do
      local i, node = M.walk(auto, data, self.pos - base, stop - base, self.node)
      self.pos, self.node = i + base, node
      if auto.outs[node] ~= 0 then
         note(self, false)
         if self.waiting and (self.pos < stop or final) then note(self, true) end
      end
   end
end

--- The first word that is known, the longest of those that begin there; sets `hold`.
-- @tparam number from words that begin before it do not count any more
-- @tparam boolean final nothing more will come
-- @treturn ?number first
-- @treturn ?number stop
function Walker:seek(from, final)
   if self.pos < self.tape.stop or final and self.waiting then advance(self, final) end
   self.hold = final and self.pos or self.node ~= 0 and alive(self, from) or self.pos
   return self.found:best(from)
end

--- Take one word back: it does not count.
-- @tparam number first
-- @tparam number stop
function Walker:veto(first, stop) self.found:drop(first, stop) end

--- Move all words that are known to lists.
-- @tparam boolean final
-- @tparam {number,...} firsts
-- @tparam {number,...} stops
-- @tparam number n how many they hold
-- @treturn number how many they hold now
function Walker:collect(final, firsts, stops, n)
   self:seek(0, final)
   local found = self.found
   for k = 1, found.n do firsts[n + k], stops[n + k] = found.firsts[k], found.stops[k] end
   n, found.n = n + found.n, 0
   return n
end

return M
