--- `perigee imatrix`: by what a quantizer weighs its errors.
-- @module perigee.cli.imatrix
-- @local
local perigee = require "perigee"
local common = require "perigee.cli.common"
local json = require "perigee.cli.json"

local command = {
   name = "imatrix",
   summary = "Collect an importance matrix: how strong the activations are that each column of the weights meets.",
   operands = "[model]",
   n_operands = { 0, 1 },
   options = {
      { false, "text", "FILE", "text", "list", "run the model over FILE; may be given several times" },
      { "o", "output", "FILE", "output", "string", "write the importance matrix to FILE, as GGUF" },
      { false, "chunk", "N", "chunk", "integer", "tokens that the model sees at once (512)" },
      { false, "limit", "N", "limit", "integer", "use at most N chunks" },
      { "t", "threads", "N", "threads", "integer", "0: PERIGEE_THREADS, else the cores (0)" },
      { false, "device", "NAME", "device", "string", "auto, cpu, cuda:N, cuda:N,M or cuda:all (auto)" },
      { false, "batch", "N", "batch", "integer", "rows a step at most (0: the engine's choice)" },
      { false, "json", false, "json", "flag", "print one JSON object" },
      { "q", "quiet", false, "quiet", "flag", "no progress bar" },
   },
   notes = [[
Each text is cut into chunks that do not overlap; each begins with the begin token, if the model has one. Arithmetic is
f32 with weights de-quantised exactly; the file does not depend on threads or steps. Give it to `perigee quantize`.
For each matrix NAME it holds NAME.in_sum2, sums over rows of the squares of each column's activation, and NAME.counts,
how many rows those were; experts have a sum each, and those that no token chose have a count of 0.
FILE of --text may be - for standard input. Better the model's own kind of text, some tens of thousands of tokens of it.
]],
   examples = { "perigee imatrix --text story.txt -o imatrix.gguf",
      "perigee imatrix model.gguf --text story.txt --text README.md --chunk 128 --limit 3 -o imatrix.gguf --json" },
}

local function read_all(paths)
   local texts = {}
   for i, path in ipairs(paths) do
      local text, message, code = common.read(path)
      if not text then return nil, message, code end
      texts[i] = text
   end
   return texts
end

local function describe(found)
   return ("%s: %d chunk%s, %d tokens, perplexity %.4f%s"):format(found.output, found.chunks,
      found.chunks == 1 and "" or "s", found.tokens, found.perplexity,
      found.unmet > 0 and ("; %d matrices of experts met no token"):format(found.unmet) or "")
end

local LABELS = { load = "loading", imatrix = "measuring" }

function command.run(values, operands)
   if not values.text then return nil, "a text is needed: --text FILE", "usage" end
   if not values.output then return nil, "a place for the result is needed: -o FILE", "usage" end
   local texts, message, code = read_all(values.text)
   if not texts then return nil, message, code end
   local opts = {
      texts = texts, names = values.text, out = values.output, chunk = values.chunk, limit = values.limit,
      threads = values.threads, device = values.device, batch = values.batch,
   }
   return common.interruptible(function(interrupted)
      local found, why, name = common.watched(LABELS, values.quiet, interrupted, function(progress)
         opts.progress = progress
         return perigee.imatrix(operands[1], opts)
      end)
      if not found then return nil, why, name end
      found.output = values.output
      io.write(values.json and json.encode(found) or describe(found), "\n")
      return common.FINE
   end)
end

return command
