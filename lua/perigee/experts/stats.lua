--- Numbers about how evenly experts are used. Plain functions of lists; public through @{perigee.experts}.
--
-- A load is a list of how often each expert of one layer was chosen. Where nothing was chosen, each of these is 0.
-- @module perigee.experts.stats
-- @local
local M = {}

local function sum_of(load)
   local sum = 0
   for _, n in ipairs(load) do sum = sum + n end
   return sum
end

local function largest_of(load)
   local largest = 0
   for _, n in ipairs(load) do largest = math.max(largest, n) end
   return largest
end

--- Part of the work that could be done if all experts ran as often as the busiest: sum / (experts * largest), from
-- 1 / experts to 1.
-- @tparam {number,...} load
-- @treturn number
function M.utilisation(load)
   local largest = largest_of(load)
   return largest > 0 and sum_of(load) / (#load * largest) or 0
end

--- How many times its fair share the busiest expert has: largest / mean, 1 when all are alike.
-- @tparam {number,...} load
-- @treturn number
function M.max_mean(load)
   local sum = sum_of(load)
   return sum > 0 and largest_of(load) * #load / sum or 0
end

--- Gini's coefficient: 0 when all are alike, (experts - 1) / experts when one has everything.
-- @tparam {number,...} load
-- @treturn number
function M.gini(load)
   local sorted, weighted, sum = { unpack(load) }, 0, sum_of(load)
   if sum == 0 then return 0 end
   table.sort(sorted)
   for i, n in ipairs(sorted) do weighted = weighted + i * n end
   return (2 * weighted / sum - (#load + 1)) / #load
end

--- Entropy of the shares in nats: ln(experts) when all are alike, 0 when one has everything.
-- @tparam {number,...} load
-- @treturn number
function M.entropy(load)
   local sum, entropy = sum_of(load), 0
   for _, n in ipairs(load) do
      if n > 0 then entropy = entropy - n / sum * math.log(n / sum) end
   end
   return entropy
end

--- Divergence of Jensen and Shannon between the shares of two loads in nats: 0 when they are alike, ln 2 when no expert
-- serves both. 0 as well when one of them is empty.
-- @tparam {number,...} a
-- @tparam {number,...} b as long as a
-- @treturn number
function M.divergence(a, b)
   local sum_a, sum_b, divergence = sum_of(a), sum_of(b), 0
   if sum_a == 0 or sum_b == 0 then return 0 end
   for i = 1, #a do
      local p, q = a[i] / sum_a, b[i] / sum_b
      local m = (p + q) / 2
      if p > 0 then divergence = divergence + p / 2 * math.log(p / m) end
      if q > 0 then divergence = divergence + q / 2 * math.log(q / m) end
   end
   return math.max(divergence, 0)                        -- rounding
end

--- Each one's part of the whole.
-- @tparam {number,...} load
-- @treturn {number,...}
function M.shares(load)
   local sum, shares = sum_of(load), {}
   for i, n in ipairs(load) do shares[i] = sum > 0 and n / sum or 0 end
   return shares
end

return M
