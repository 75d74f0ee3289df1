-- Only the experts that make up the share `top_p` of a token's weights, best first: one that would count little is not
-- visited. A program: it runs natively, and its knob turns while the engine speaks.
--    engine:route(dofile "examples/policies/top_p.lua"); engine.knobs.top_p = 0.6
-- Source: choosing experts by cumulative weight, Huang et al., Harder Tasks Need More Experts, ACL 2024.
local policy = require "perigee.policy"

return assert(policy.program { name = "top_p", cumulative = policy.knob("top_p", 0.7) })
