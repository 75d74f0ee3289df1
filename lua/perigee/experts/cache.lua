--- Replaying a trace against caches of experts: how often a token would have found its experts in fast memory.
--
-- Each MoE layer has a cache of its own, of `size` experts, as offloading keeps them; a token asks for its experts most
-- wanted first; what is missing is fetched and takes a place. A first meeting is a miss. Public through
-- @{perigee.experts.replay}.
-- @module perigee.experts.cache
-- @local
local M = {}

-- A policy: new(size, experts, load) -> ask(expert) -> whether it was there. load: how often each is asked for in all.

-- The member of `inside` that comes first by `rank`, the lower id on ties.
local function least(inside, rank)
   local victim
   for id in pairs(inside) do
      if not victim or rank[id] < rank[victim] or rank[id] == rank[victim] and id < victim then victim = id end
   end
   return victim
end

local function keeping(size, touch, rank)
   local inside, n = {}, 0
   return function(id)
      touch(id)
      if inside[id] then return true end
      if n == size then
         inside[least(inside, rank)] = nil
      else
         n = n + 1
      end
      inside[id] = true
      return false
   end
end

local policies = {}

-- Out goes what was asked for longest ago.
function policies.lru(size)
   local last, clock = {}, 0
   return keeping(size, function(id)
      clock = clock + 1
      last[id] = clock
   end, last)
end

-- Out goes what was asked for least often since the beginning, whether it was there or not.
function policies.lfu(size, experts)
   local often = {}
   for id = 0, experts - 1 do often[id] = 0 end
   return keeping(size, function(id) often[id] = often[id] + 1 end, often)
end

-- The experts that the whole trace asks for most, fetched once and kept: the best that a fixed choice can do.
function policies.static(size, experts, load)
   local order, kept, met = {}, {}, {}
   for id = 0, experts - 1 do order[id + 1] = id end
   table.sort(order, function(a, b)
      local x, y = load[a + 1], load[b + 1]
      return x > y or x == y and a < b
   end)
   for i = 1, size do kept[order[i]] = true end
   return function(id)
      local hit = kept[id] and met[id] or false
      met[id] = true
      return hit
   end
end

M.policies = policies

--- One walk through a trace for all policies and sizes.
-- @tparam function tokens makes an iterator over records
-- @tparam perigee.experts.counts counts of the same tokens
-- @tparam {string,...} names of policies
-- @tparam {number,...} sizes
-- @treturn {[string]={table,...}} for each policy a list of { size, hits, asked, rate }
function M.replay(tokens, counts, names, sizes)
   local caches, found = {}, {}
   for _, name in ipairs(names) do
      found[name] = {}
      for i, size in ipairs(sizes) do
         local result = { size = size, hits = 0, asked = 0 }
         found[name][i] = result
         for l = 1, #counts.layers do
            caches[#caches + 1] = { layer = l, result = result,
               ask = policies[name](size, counts.experts, counts.counts[l]) }
         end
      end
   end
   for record in tokens() do
      for _, cache in ipairs(caches) do
         local result, ids = cache.result, record.experts[cache.layer]
         for x = 1, #ids do
            if cache.ask(ids[x]) then result.hits = result.hits + 1 end
         end
         result.asked = result.asked + #ids
      end
   end
   for _, list in pairs(found) do
      for _, result in ipairs(list) do result.rate = result.asked > 0 and result.hits / result.asked or 0 end
   end
   return found
end

return M
