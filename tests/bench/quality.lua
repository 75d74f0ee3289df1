-- What each type of quantisation costs: size, perplexity, and mean KL of the logits against the unquantised model, with
-- exact arithmetic (f32: the weights alone) and as the engine runs it (auto: activations of 8 bits too).
--    eval "$(make -s env)"; luajit tests/bench/quality.lua [-n WINDOWS] [-i IMATRIX] [-t TYPE,...] [MODEL [FILE...]]
-- TYPE may also be a GGUF file that is there already. FILE is a text, cut into windows of 256 tokens, or a cases-*.json
-- of the golden models, whose ids are taken as they are. Without arguments: the default model's source and held-out
-- texts, which lie beside the golden cases.
local perigee = require "perigee"
local measure = dofile "tests/bench/measure.lua"
local ffi = require "ffi"

if not pcall(ffi.typeof, "bench_logits") then
   ffi.cdef [[
      typedef float bench_logits;
      void *malloc(size_t n);
      double exp(double x);
      double log(double x);
   ]]
end

local WINDOW = 256
local TYPES = "f16,q8_0,q6_k,q5_k_m,q5_0,q4_k_m,q4_0,mxfp4"

local function exact_options() return { context = WINDOW, batch = WINDOW, kv_tokens = WINDOW, precision = "f32" } end

-- Lists of ids, each a sequence of its own.
local function sequences(engine, path, most)
   local list, text = {}, assert(measure.read(path), path)
   if path:match "%.json$" then
      for ids in text:gmatch '"ids": %[([%d, ]+)%]' do
         local one = {}
         for id in ids:gmatch "%d+" do one[#one + 1] = tonumber(id) end
         list[#list + 1] = one
      end
      return list
   end
   return measure.windows(engine, text, WINDOW, most)
end

-- ln of the sum of exp of one row.
local function log_sum(row, V)
   local top, sum = -math.huge, 0
   for v = 0, V - 1 do top = math.max(top, row[v]) end
   for v = 0, V - 1 do sum = sum + ffi.C.exp(row[v] - top) end
   return top + ffi.C.log(sum)
end

-- KL(softmax(a) || softmax(b)) in nats, and ln of b's sum.
local function kl(a, b, V)
   local la, lb, sum = log_sum(a, V), log_sum(b, V), 0
   for v = 0, V - 1 do
      local p = a[v] - la
      sum = sum + ffi.C.exp(p) * (p - (b[v] - lb))
   end
   return sum, lb
end

-- Mean KL against the kept logits (nil: against itself), and perplexity.
local function divergence(engine, list, kept)
   local sum, rows, surprise, scored = 0, 0, 0, 0
   for i, ids in ipairs(list) do
      local logits, T, V = assert(engine:logits(ids))
      for t = 0, T - 1 do
         local row = logits + t * V
         local d, lb = kl(kept and kept[i] + t * V or row, row, V)
         sum, rows = sum + d, rows + 1
         if t < T - 1 then surprise, scored = surprise + lb - row[ids[t + 2]], scored + 1 end
      end
   end
   return sum / rows, math.exp(surprise / scored)
end

-- The logits themselves, copied.
local function keep(engine, list)
   local kept = {}
   for i, ids in ipairs(list) do
      local logits, T, V = assert(engine:logits(ids))
      kept[i] = ffi.cast("bench_logits *", ffi.C.malloc(4 * T * V))
      ffi.copy(kept[i], logits, 4 * T * V)
   end
   return kept
end

local function file_size(path)
   local file = assert(io.open(path, "rb"))
   local size = file:seek "end"
   file:close()
   return size
end

local function row(name, size, cells)
   io.write(("| %-8s | %8.3f |"):format(name, size / 1e6))
   for _, cell in ipairs(cells) do io.write((" %s |"):format(cell)) end
   io.write "\n"
   io.stdout:flush()
end

local function evaluate(path, precision, texts)
   local options = exact_options()
   options.precision = precision
   local engine, cells = assert(perigee.open(path, options)), {}
   for _, text in ipairs(texts) do
      local d, perplexity = divergence(engine, text.list, text.kept)
      cells[#cells + 1] = ("%.3e | %8.3f"):format(d, perplexity)
   end
   engine:close()
   return cells
end

local function main(opts, operands)
   local model = operands[1] or measure.models "perigee-voices.bf16.gguf"
   local files = { unpack(operands, 2) }
   if #files == 0 then files = { measure.models "heldout-tales.txt", measure.models "heldout-poems.txt" } end
   if not measure.read(model) then
      print(model .. " is not there: quality was not measured")
      return
   end
   local engine, texts = assert(perigee.open(model, exact_options())), {}
   for i, path in ipairs(files) do
      local list = sequences(engine, path, opts.n)
      texts[i] = { list = list, kept = keep(engine, list) }
      print(("%d: %s, %d sequences"):format(i, path, #list))
   end
   engine:close()
   print "type, MB; then for each precision (f32, auto) and file: mean KL in nats, perplexity"
   local made = os.tmpname()
   row("source", file_size(model), evaluate(model, "f32", texts))
   for name in opts.t:gmatch "[^,]+" do
      local path = name:match "%.gguf$" and name or made
      if path == made then
         local imatrix = opts.i ~= "" and opts.i or nil
         assert(perigee.quantize { input = model, output = made, type = name, imatrix = imatrix })
      end
      local cells = evaluate(path, "f32", texts)
      for _, cell in ipairs(evaluate(path, "auto", texts)) do cells[#cells + 1] = cell end
      row(name:match "[^/]*$", file_size(path), cells)
   end
   os.remove(made)
end

main(measure.options(arg, { n = 4, t = TYPES, i = "" }))
