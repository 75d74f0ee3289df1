--- The options `grammar` and `json_schema` of @{perigee.engine:generate}.
-- @module perigee.engine.constrain
-- @local
local Grammar = require "perigee.grammar"

-- The meaning of an option whose text `make` opens.
local function meaning(name, make)
   return {
      fill = function(_, value, request, anchor)
         if request.grammar ~= nil then
            return nil, "engine:generate: grammar and json_schema exclude each other: give one of them", "invalid"
         end
         local grammar, message, code = Grammar.of_option("engine:generate", name, value, make)
         if not grammar then return nil, message, code end
         if not grammar._handle then
            return nil, ("engine:generate: option %q: the grammar is closed"):format(name), "invalid"
         end
         anchor.grammar, request.grammar = grammar, grammar._handle
         return true
      end,
   }
end

return function(Engine)
   Engine.add_option("grammar", meaning("grammar", Grammar.open))
   Engine.add_option("json_schema", meaning("json_schema", Grammar.open_schema))
end
