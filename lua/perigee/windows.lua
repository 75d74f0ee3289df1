--- Cutting a text into windows that a model sees one after the other.
-- @module perigee.windows
-- @local
local M = {}

--- The windows of a text; they do not overlap, and each begins with the begin token.
-- @tparam {number,...} ids of the text, without a begin token
-- @tparam ?number bos the begin token, if the model has one
-- @tparam number size tokens of a window, the begin token included; 2 or more
-- @tparam ?number limit windows at most
-- @treturn {{number,...},...} each of two ids or more
function M.cut(ids, bos, size, limit)
   local list, fresh = {}, bos and size - 1 or size
   for first = 1, #ids, fresh do
      if limit and #list >= limit then break end
      local window = { bos }
      for i = first, math.min(first + fresh - 1, #ids) do window[#window + 1] = ids[i] end
      if #window >= 2 then list[#list + 1] = window end
   end
   return list
end

return M
