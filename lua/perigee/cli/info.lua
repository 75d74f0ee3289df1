--- `perigee info`: what a model is.
-- @module perigee.cli.info
-- @local
local perigee = require "perigee"
local common = require "perigee.cli.common"
local model = require "perigee.model"
local json = require "perigee.cli.json"

local command = {
   name = "info",
   summary = "Tell what a model is, from its metadata alone.",
   operands = "[model]",
   n_operands = { 0, 1 },
   options = { { false, "json", false, "json", "flag", "print one JSON object" } },
   examples = { "perigee info", "perigee info model.gguf --json" },
}

local function size(bytes)
   local units, i = { "B", "kB", "MB", "GB", "TB" }, 1
   while bytes >= 1000 and i < #units do bytes, i = bytes / 1000, i + 1 end
   return ("%.3g %s"):format(bytes, units[i])
end

local function lines(info)
   local experts = "none: a dense model"
   if info.experts > 0 then
      experts = ("%d routed, %d used and %d shared a token, in %d layers"):format(info.experts, info.experts_used,
         info.experts_shared, info.moe_layers)
   end
   local read = ("%s of weights"):format(size(info.active_bytes))
      .. (", %s of KV cache a token of context"):format(size(info.kv_bytes))
   return {
      { "name", info.name }, { "architecture", info.architecture }, { "format", info.format },
      { "quantisation", info.quantisation }, { "size", size(info.file_bytes) },
      { "parameters", model.amount(info.parameters) }, { "active", model.amount(info.active_parameters) .. " a token" },
      { "token reads", read }, { "layers", info.layers }, { "width", info.width },
      { "heads", ("%d, %d for keys and values"):format(info.heads, info.kv_heads) }, { "experts", experts },
      { "tokenizer", ("%s, %d tokens"):format(info.tokenizer, info.vocabulary) },
      { "begin, end", ("%s, %s"):format(info.bos or "none", info.eos or "none") },
      { "context", ("%d tokens"):format(info.context_train) }, { "note", info.note or "" },
   }
end

function command.run(values, operands)
   local info, message, code = perigee.describe(operands[1])
   if not info then return nil, message, code end
   if values.json then
      io.write(json.encode(info), "\n")
   else
      for _, line in ipairs(lines(info)) do
         if line[2] ~= "" then io.write(("%-14s %s\n"):format(line[1], line[2])) end
      end
   end
   return common.FINE
end

return command
