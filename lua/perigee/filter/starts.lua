--- Where a regular expression can match at all: an automaton that walks along a text from one place.
--
-- Private to the module. libpcre2 tries a large alternation branch by branch at every place, and on a stream it does so
-- again for every token, since the end of a text leaves most places open. The automaton here tells in some nanoseconds
-- a byte that nothing begins at a place (it dies), that the text ends before it is known (it lives, and the place is
-- held back), or that libpcre2 must say (CALL). It knows an expression's beginning only: lookarounds, references and
-- what is too large end in CALL; conditions that depend on more than the character before make it unsure, and then a
-- text's end is libpcre2's matter as well. States are made when a text first needs them, up to a bound.
-- Source: Thompson, Regular expression search algorithm, Communications of the ACM 11(6), 1968; the states made on
-- demand follow Aho, Sethi and Ullman, Compilers, 1986, section 3.7.
-- @module perigee.filter.starts
-- @local
local ffi = require "ffi"
local bit = require "bit"

local lshift = bit.lshift

local M = {}

jit.off(true, true)                  -- but for walk: states are made once, and traces would crowd out those of streams

local DEAD, CALL = 0, 1
M.CALL = CALL
local UNKNOWN = -1
local START = 256                    -- instead of the byte before: there is none

local MAX_NODES, MAX_STATES, MAX_LIST = 60000, 2000, 4000

local ints = ffi.typeof "int32_t[?]"
local octets = ffi.typeof "uint8_t[?]"

-- Building: nodes are made from the back, so that each is given what follows it, and only when a text comes to them:
-- a node that is "later" stands for a tree and what follows it.

local Builder = {}
Builder.__index = Builder

function Builder:node(node)
   local n = #self.nodes + 1
   self.nodes[n], node.id = node, n
   return node
end

function Builder:later(tree, follows, from)
   return self:node { kind = "later", tree = tree, follows = follows, from = from }
end

-- One byte of some; on another byte it goes on at `other`, if given.
function Builder:bytes(set, follows, other)
   return self:node { kind = "bytes", set = set, follows = follows, other = other }
end

function Builder:split(list)
   if #list == 1 then return list[1] end
   return self:node { kind = "split", unpack(list) }
end

local function range(first, last)
   local set = {}
   for b = first, last do set[b] = true end
   return set
end

-- Well-formed characters beyond ASCII: first bytes, the second's range, how many more follow.
local FORMS = {
   { 0xC2, 0xDF, 0x80, 0xBF, 0 }, { 0xE0, 0xE0, 0xA0, 0xBF, 1 }, { 0xE1, 0xEC, 0x80, 0xBF, 1 },
   { 0xED, 0xED, 0x80, 0x9F, 1 }, { 0xEE, 0xEF, 0x80, 0xBF, 1 }, { 0xF0, 0xF0, 0x90, 0xBF, 2 },
   { 0xF1, 0xF3, 0x80, 0xBF, 2 }, { 0xF4, 0xF4, 0x80, 0x8F, 2 },
}
local TAIL = range(0x80, 0xBF)

-- A character of a set. What is no such character goes on at `other`, if given; it must be sure of that.
function Builder:set(set, follows, other)
   local list = {}
   local after = set.whole and follows or self:node { kind = "unsure", follows = follows }
   if other and not set.whole then after = other end
   for _, form in ipairs(FORMS) do
      local leads
      for b = form[1], form[2] do
         if set.leads[b] then
            leads = leads or {}
            leads[b] = true
         end
      end
      if leads then
         local tail = after
         for _ = 1, form[5] do tail = self:bytes(TAIL, tail, other) end
         list[#list + 1] = self:bytes(leads, self:bytes(range(form[3], form[4]), tail, other))
      end
   end
   if next(set.ascii) then list[#list + 1] = self:bytes(set.ascii, follows) end
   if other then
      local rest = {}
      for b = 0, 255 do rest[b] = not (b < 0x80 and set.ascii[b] or set.leads[b]) or nil end
      if next(rest) then list[#list + 1] = self:bytes(rest, other) end
   end
   if #list == 0 then return self:node { kind = "never" } end
   return self:split(list)
end

local BUILD = {}

-- What a node that is later stands for; `from` tells how much of its tree is done with.
function Builder:built(node)
   if not node.made then
      local build = #self.nodes > MAX_NODES and BUILD.open or BUILD[node.tree.kind]
      node.made = build(self, node.tree, node.follows, node.from)
   end
   return node.made
end

function BUILD.open(self) return self.open end
function BUILD.unsure(self, _, follows) return self:node { kind = "unsure", follows = follows } end
function BUILD.border(self, _, follows) return self:node { kind = "border", follows = follows } end
function BUILD.set(self, tree, follows) return self:set(tree, follows) end

function BUILD.behind(self, tree, follows)
   return self:node { kind = "behind", set = tree.set, negated = tree.negated, follows = follows }
end

function BUILD.text(self, tree, follows)
   for i = #tree.text, 1, -1 do follows = self:bytes({ [tree.text:byte(i)] = true }, follows) end
   return follows
end

function BUILD.sequence(self, tree, follows, from)
   from = from or 1
   if from > #tree then return follows end
   return self:later(tree[from], from < #tree and self:later(tree, follows, from + 1) or follows)
end

function BUILD.choice(self, tree, follows)
   local list = {}
   for i, one in ipairs(tree) do list[i] = self:later(one, follows) end
   return self:split(list)
end

BUILD["repeat"] = function(self, tree, follows, from)
   from = from or 0
   if from >= tree.max then return follows end
   if from >= tree.min and tree.max == math.huge then
      local loop = self:node { kind = "split", follows }
      loop[2] = self:later(tree[1], loop)
      return loop
   end
   local once = self:later(tree[1], self:later(tree, follows, from + 1))
   return from < tree.min and once or self:split { once, follows }
end

-- While the run goes on and the text ends there, it is not known what comes; behind the run, nothing is known here.
function BUILD.ahead(self, tree, _, from)
   if not from then return self:node { kind = "ahead", follows = self:later(tree, self.open, 0) } end
   if from >= tree.max then return self.open end
   return self:set(tree.set, self:later(tree, self.open, from + 1), self.open)
end

function BUILD.call(self, tree, follows)
   local named = tree.names[tree.name]
   return named and self:later(named, follows) or self.open
end

-- Making states. A state is a list of nodes that take a byte, each sure or not: 2 * id, or 2 * id + 1 when unsure.

local WORD = {}
for b = 0, 127 do WORD[b] = string.char(b):find "[%w_]" ~= nil end
WORD[START] = false                  -- bytes beyond ASCII: nil, unknown

-- Whether a condition holds: true, false or nil, unknown.
local function holds(node, before)
   if not before then return nil end
   if before == START then return node.negated end
   local set = node.set
   local inside
   if before < 0x80 then inside = set.ascii[before] or false
   elseif not next(set.leads) then inside = false
   else return nil end
   return inside ~= node.negated
end

-- Add a node and what is reached from it without a byte, where `before` is the last byte, if that is known.
local function reach(self, list, mark, node, unsure, before)
   while node.kind == "later" do node = self.builder:built(node) end
   local kind = node.kind
   if kind == "never" then return end
   local key = 2 * node.id
   if mark[key] or unsure and mark[key + 1] then return end
   mark[unsure and key + 1 or key] = true
   if kind == "split" then
      for i = 1, #node do reach(self, list, mark, node[i], unsure, before) end
   elseif kind == "ahead" then
      reach(self, list, mark, node.follows, unsure, before)
   elseif kind == "unsure" then
      reach(self, list, mark, node.follows, true, before)
   elseif kind == "behind" then
      local fact = holds(node, before)
      if fact ~= false then reach(self, list, mark, node.follows, unsure or fact == nil, before) end
   else
      if kind == "open" then list.open = true end
      if kind == "border" then list.border = true end
      list[#list + 1] = unsure and key + 1 or key
   end
end

-- The number of a state.
local function state_of(self, list, before)
   if list.open or #list > MAX_LIST then return CALL end
   if #list == 0 then return DEAD end
   table.sort(list)
   local key = table.concat(list, ",") .. (list.border and "/" .. tostring(WORD[before]) or "")
   local state = self.known[key]
   if state then return state end
   if self.states == MAX_STATES then return CALL end
   state = self.states
   self.states = state + 1
   if self.states > self.room then
      local moves, sure = ints(512 * self.room), octets(2 * self.room)
      ffi.copy(moves, self.moves, 1024 * self.room)
      ffi.copy(sure, self.sure, self.room)
      self.moves, self.sure, self.room = moves, sure, 2 * self.room
   end
   for b = 0, 255 do self.moves[256 * state + b] = UNKNOWN end
   for _, entry in ipairs(list) do
      if entry % 2 == 0 then self.sure[state] = 1 end
   end
   self.known[key], self.lists[state], self.before[state] = state, list, before
   return state
end

-- The state at a place, by the byte before it.
local function enter(self, before)
   local list = {}
   if before >= 0x80 and before < START then before = 0x80 end
   if self.roots[before] == UNKNOWN then
      reach(self, list, {}, self.first, false, before)
      self.roots[before] = state_of(self, list, before)
   end
   return self.roots[before]
end

-- The state behind a state and a byte.
local function move(self, state, b)
   local nodes, before = self.nodes, self.before[state]
   local now, mark, list, taken = {}, {}, {}, {}
   for i, entry in ipairs(self.lists[state]) do
      now[i] = entry
      mark[entry] = true
   end
   local i = 1
   while now[i] do
      local entry = now[i]
      local node, unsure = nodes[math.floor(entry / 2)], entry % 2 == 1
      if node.kind == "border" then
         local left, right = WORD[before], WORD[b]
         if left == nil or right == nil then
            reach(self, now, mark, node.follows, true, nil)
         elseif left ~= right then
            reach(self, now, mark, node.follows, unsure, nil)
         end
         if now.open then return CALL end
      elseif node.set[b] then
         reach(self, list, taken, node.follows, unsure, b)
      elseif node.other then
         reach(self, list, taken, node.other, unsure, b)
      end
      i = i + 1
   end
   return state_of(self, list, b)
end

-- Whether something must be looked at, or nothing is known, before any byte is taken. libpcre2 knows some bytes that no
-- match begins with, but does not use that when it is asked about one place, and would hold back more.
local function open_at_once(self, node, seen)
   while node.kind == "later" do node = self.builder:built(node) end
   if node.kind == "open" or node.kind == "ahead" then return true end
   if seen[node] or node.kind == "bytes" or node.kind == "never" then return false end
   seen[node] = true
   if node.follows and open_at_once(self, node.follows, seen) then return true end
   for i = 1, #node do
      if open_at_once(self, node[i], seen) then return true end
   end
   return false
end

--- Build an automaton.
-- @tparam table tree of @{perigee.filter.syntax}
-- @treturn ?table nil when it would tell nothing
function M.build(tree)
   local builder = setmetatable({ nodes = {} }, Builder)
   builder.open = builder:node { kind = "open" }
   local self = {
      builder = builder, nodes = builder.nodes, first = builder:later(tree, builder.open), known = {}, lists = {},
      before = {},
      states = 2, room = 8, moves = ints(8 * 256), sure = octets(8), roots = ints(257),
   }
   for before = 0, START do self.roots[before] = UNKNOWN end
   if open_at_once(self, self.first, {}) then return nil end
   return self
end

-- Walk as far as states are known: one flat loop, for the compiler's sake.
local function run(moves, roots, data, i, n, before, state, at)
   while true do
      if state > CALL then
         if at >= n then break end
         local to = moves[lshift(state, 8) + data[at]]
         if to == UNKNOWN then break end
         state, at = to, at + 1
      elseif state == DEAD then
         before, i = data[i], i + 1
         if i >= n then break end
         state, at = roots[before], i
      else
         break
      end
   end
   return i, before, state, at
end
jit.on(run)

-- Make the state that a walk met and that is not there yet.
local function learn(self, data, before, state, at)
   if state == UNKNOWN then
      self.roots[before] = enter(self, before)
   else
      self.moves[lshift(state, 8) + data[at]] = move(self, state, data[at])
   end
end

--- Walk from places until something can begin at one, or the text ends.
-- @tparam table self
-- @tparam cdata data
-- @tparam number i index of the first place
-- @tparam number n index after the last byte
-- @tparam number before the byte before the first place; START: none
-- @tparam number state where the walk from the first place is; 0: it has not begun
-- @tparam number at index of the byte that this walk takes next
-- @treturn number index of the place; n: nothing begins
-- @treturn number CALL, or the state of the walk at the text's end
function M.walk(self, data, i, n, before, state, at)
   if i >= n then return n, DEAD end
   if state == DEAD then state, at = self.roots[before], i end
   while true do
      i, before, state, at = run(self.moves, self.roots, data, i, n, before, state, at)
      if state == DEAD or state == CALL or state > CALL and at >= n then return i, state end
      learn(self, data, before, state, at)
      if state == UNKNOWN then state = self.roots[before] end
   end
end
jit.on(M.walk)

--- Walk for many searches at once, in one flat loop: those that find nothing out of the ordinary are brought to the
-- text's end, the others stay as they are.
-- @tparam {search,...} list of @{perigee.filter.regex}, with automata
function M.walk_all(list)
   local k, state, i, at, n, base, search = 0, UNKNOWN, 0, 0, 0, 0, nil
   local moves, roots, data
   while true do
      if state > CALL and at < n then
         state, at = moves[lshift(state, 8) + data[at]], at + 1
      elseif state == DEAD and i + 1 < n then
         i, at = i + 1, i + 1
         state = roots[data[i - 1]]
      else
         if state == DEAD then
            search:quiet(base + n, DEAD)
         elseif state > CALL and search.starts.sure[state] == 1 then
            search:quiet(base + i, state)
         end
         k = k + 1
         search = list[k]
         if not search then return end
         local tape, automaton, pos = search.tape, search.starts, search.pos
         base, data = tape.base, tape.data
         n, i = tape.stop - base, pos - base
         moves, roots = automaton.moves, automaton.roots
         if search.first >= 0 or i >= n or search.seen == tape.stop then
            state = UNKNOWN
         elseif search.place == pos then
            state, at = search.state, search.at - base
         else
            state, at = roots[i > 0 and data[i - 1] or START], i
         end
      end
   end
end
jit.on(M.walk_all)

M.START = START

return M
