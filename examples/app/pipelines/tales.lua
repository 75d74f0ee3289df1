-- What happens to messages before the model sees them.
local pipeline = require "perigee.pipeline"
return {
   pipeline.few_shot { { "Tell me a story about a crow.", "Once upon a time a crow found a ring." } },
   pipeline.history(300),
}
