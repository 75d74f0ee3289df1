--- What an engine knows of conversations: messages as prompts, @{perigee.chat}.
-- @submodule perigee.engine
local options = require "perigee.options"
local Chat = require "perigee.chat"
local messages = require "perigee.chat.messages"

local scratch = options.ids            -- lists become ids where prompts of ids do

return function(Engine)
   --- Begin a conversation.
   -- @tparam[opt] perigee.chat.chat_options opts
   -- @treturn ?perigee.chat nil, message, code ("unsupported": the model has no chat template)
   -- @usage
   -- local chat = assert(engine:chat { system = "You are a storyteller." })
   -- for piece in chat:say("Tell me a story about a fox."):pieces() do io.write(piece) end
   function Engine:chat(opts)
      if not self._handle then return nil, "the engine is closed", "invalid" end
      local chat, message, code = Chat.open(self, opts, 2)
      return chat, message, code
   end

   -- Messages as ids in scratch memory: cdata, n | nil, message, code.
   function Engine:_message_ids(where, list)
      local fine, message, code = messages.check(where, list)
      if not fine then return nil, message, code end
      local ids
      ids, message, code = messages.prompt(self, list, {})
      if not ids then return nil, message, code end
      return scratch(where, ids, 2)
   end
end
