--- The model's own chat templates, as a part of @{perigee.engine}.
-- @submodule perigee.engine
local loader = require "perigee.loader"

return function(Engine)
   --- The model's chat template, compiled; it knows the model's `bos_token` and `eos_token`.
   -- @tparam ?string name one of its further templates ("tool_use" ...); nil: the template itself
   -- @treturn ?perigee.template nil, message, code: "not_found" when the model has none, "format" when it is not
   -- well formed, "unsupported" when LPeg is missing
   -- @usage print(assert(assert(engine:template()):render { messages = { { role = "user", content = "Hi" } } }))
   function Engine:template(name)
      local tokenizer, message, code = self:tokenizer()
      if not tokenizer then return nil, message, code end
      local source
      source, message, code = tokenizer:chat_template(name)
      if not source then return nil, message, code end
      local template
      template, message, code = loader.compile(source)
      if not template then return nil, message, code end
      local info = tokenizer:info()
      for variable, id in pairs { bos_token = info.bos or false, eos_token = info.eos or false } do
         template._defaults[variable] = id and tokenizer:token_text(id) or ""
      end
      return template
   end
end
