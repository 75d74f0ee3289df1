--- `perigee quantize`: a model file in another storage format.
-- @module perigee.cli.quantize
-- @local
local perigee = require "perigee"
local common = require "perigee.cli.common"
local json = require "perigee.cli.json"

local command = {
   name = "quantize",
   summary = "Write a model in another storage format: smaller, and faster to run.",
   operands = "IN OUT TYPE",
   n_operands = { 3, 3 },
   options = {
      { false, "imatrix", "FILE", "imatrix", "string", "how much each input of a matrix matters (perigee imatrix)" },
      { false, "pack", false, "pack", "flag", "store matrices as the engine maps them: only perigee reads it" },
      { false, "requantize", false, "requantize", "flag", "take a model that is quantised already, at a loss" },
      { "t", "threads", "N", "threads", "integer", "0: PERIGEE_THREADS, else the cores (0)" },
      { false, "json", false, "json", "flag", "print one JSON object" },
      { "q", "quiet", false, "quiet", "flag", "no progress bar" },
   },
   notes = [[
IN is a GGUF file in F32, F16 or BF16. Types, by size; the more bits, the nearer to the original:
  f16, bf16                    16 bits a weight
  q8_0                         8.5 bits: hardly to be told from the original
  q6_k                         6.6 bits
  q5_k_m, q5_k, q5_1, q5_0     5.5 to 6 bits; _m gives more to the matrices that matter most
  q4_k_m, q4_k, q4_0           4.5 bits; q4_k_m is the usual choice for large models
  mxfp4                        routed experts in MXFP4, 4.25 bits, all else in q8_0
  copy                         nothing is quantised: to pack a file as it is
Norms, biases and the router stay F32. With an imatrix of texts like those you use it for, the small types lose less.
]],
   examples = {
      "perigee quantize model.gguf small.gguf q4_k_m --requantize",
      "perigee quantize model.gguf packed.gguf copy --pack",
   },
}

local function describe(report)
   local text = ("%.1f MB to %.1f MB in %d tensors: %s"):format(report.bytes_in / 1e6, report.bytes_out / 1e6,
      report.tensors, report.types)
   if report.weighted > 0 then text = ("%s; %d weighted"):format(text, report.weighted) end
   if report.packed > 0 then text = ("%s; %d packed"):format(text, report.packed) end
   return text
end

function command.run(values, operands)
   return common.interruptible(function(interrupted)
      local report, message, code = common.watched({ quantize = "quantising" }, values.quiet, interrupted,
         function(progress)
            return perigee.quantize {
               input = operands[1], output = operands[2], type = operands[3], imatrix = values.imatrix,
               pack = values.pack, requantize = values.requantize, threads = values.threads, progress = progress,
            }
         end)
      if not report then return nil, message, code end
      io.write(values.json and json.encode(report) or describe(report), "\n")
      return common.FINE
   end)
end

return command
