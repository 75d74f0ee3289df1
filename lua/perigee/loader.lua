--- Parts of the module that need a library which may be missing: loaded when they are first used.
-- @module perigee.loader
-- @local
local M = {}

--- The class of chat templates, which needs LPeg.
-- @treturn ?table nil, message, code "unsupported" when LPeg is not there
function M.template()
   local found, class = pcall(require, "perigee.template")
   if found then return class end
   if not tostring(class):find("need LPeg", 1, true) then error(class, 0) end
   return nil, class, "unsupported"
end

--- Compile a chat template.
-- @tparam string source
-- @treturn ?perigee.template nil, message, code
function M.compile(source)
   local Template, message, code = M.template()
   if not Template then return nil, message, code end
   return Template.new(source)
end

return M
