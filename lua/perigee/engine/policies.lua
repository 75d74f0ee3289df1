--- The field `policies` of an engine.
-- @module perigee.engine.policies
-- @local
local Policies = require "perigee.policies"

return function(Engine)
   Engine.on_open(function(engine) engine.policies = Policies.new(engine) end)
end
