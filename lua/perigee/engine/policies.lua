--- The field `policies` of an engine.
-- @module perigee.engine.policies
-- @local
local Policies = require "perigee.policies"

return function(Engine)
   Engine.add_member("policies", Policies.new)
end
