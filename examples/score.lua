-- Perplexity of a text file: how surprised the model is by it, a token; less is better.
--    luajit examples/score.lua FILE [WINDOW]
local perigee = require "perigee"

local path = arg[1] or error("usage: luajit score.lua FILE [WINDOW]", 0)
local file = assert(io.open(path, "rb"))
local text = file:read "*a"
file:close()

local engine = assert(perigee.open())
local info = engine:info()
local window = math.min(tonumber(arg[2]) or 256, info.context)
local ids = assert(engine:encode(text, { bos = false }))

-- Windows do not overlap; each begins with the begin token and predicts window - 1 tokens of the text.
local sum, n = 0, 0
for first = 1, #ids, window - 1 do
   local part = { info.bos }
   for i = first, math.min(first + window - 2, #ids) do part[#part + 1] = ids[i] end
   if #part >= 2 then
      for _, logprob in ipairs(assert(engine:score(part))) do
         sum, n = sum + logprob, n + 1
      end
   end
end
assert(n > 0, "the text is too short")
print(("perplexity %.4f over %d tokens"):format(math.exp(-sum / n), n))
engine:close()
