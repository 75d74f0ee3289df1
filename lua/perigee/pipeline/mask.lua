--- Masking of personal data in messages and its undoing in the answer; public as @{perigee.pipeline.mask_pii}.
-- @module perigee.pipeline.mask
-- @local
local M = {}

-- Sign for a value, the same for the same value of a conversation.
local function sign_of(signs, category, value)
   local known = signs.by_value[value]
   if known then return known end
   local n = (signs.count[category] or 0) + 1
   signs.count[category] = n
   local sign = ("[%s_%d]"):format(category:upper():gsub("[^%w]", "_"), n)
   signs.by_value[value], signs.by_sign[sign] = sign, value
   return sign
end

-- What the filters find, leftmost first, without overlaps.
local function find_all(filters, text)
   local found = {}
   for _, filter in ipairs(filters) do
      local matches, message = filter:scan(text)
      if not matches then return nil, message end
      for _, match in ipairs(matches) do
         local kind = filter.name:gsub("^pii%W", "")
         found[#found + 1] = { first = match.first, last = match.last, category = kind }
      end
   end
   table.sort(found, function(a, b) return a.first < b.first or a.first == b.first and a.last > b.last end)
   return found
end

local function mask(filters, signs, text)
   local found, message = find_all(filters, text)
   if not found then return nil, message end
   local parts, at = {}, 1
   for _, match in ipairs(found) do
      if match.first >= at then
         parts[#parts + 1] = text:sub(at, match.first - 1)
         parts[#parts + 1] = sign_of(signs, match.category, text:sub(match.first, match.last))
         at = match.last + 1
      end
   end
   parts[#parts + 1] = text:sub(at)
   return table.concat(parts)
end

local SIGN = "%[[A-Z0-9_]+_%d+%]"
local MOST = 64                        -- bytes of a sign at most: longer than any that sign_of makes

--- A rewriter that puts values back in place of signs; what may become a sign is held back.
-- @tparam table signs
-- @treturn table with push(text) and finish()
function M.unmask(signs)
   local held = ""
   local function back(text) return (text:gsub(SIGN, function(sign) return signs.by_sign[sign] end)) end
   return {
      push = function(_, text)
         held = held .. text
         local open = held:match "()%[[A-Z0-9_]*$"
         if open and #held - open >= MOST then open = nil end
         local ready = held:sub(1, (open or #held + 1) - 1)
         held = held:sub(#ready + 1)
         return back(ready)
      end,
      finish = function()
         local text = held
         held = ""
         return back(text)
      end,
   }
end

--- The stage.
-- @tparam table how
-- @treturn table
function M.stage(how)
   return { name = "mask_pii", run = function(context)
      local filters = how.filters or assert(require("perigee.filter.pack").pack("pii"))
      local signs = { by_value = {}, by_sign = {}, count = {} }
      for _, message in ipairs(context.messages) do
         if type(message.content) == "string" then
            local text, why = mask(filters, signs, message.content)
            if not text then return nil, why end
            message.content = text
         end
      end
      context.state.masked = signs.by_sign
      if how.unmask ~= false and next(signs.by_sign) then
         context.output[#context.output + 1] = M.unmask(signs)
      end
      return context
   end }
end

return M
