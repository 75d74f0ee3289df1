-- Speed of a whole model: prefill and decode tokens/s, time to open, peak memory. Medians of several runs; a first run
-- that brings the file into memory is not counted.
--    eval "$(make -s env)"; luajit tests/bench/model.lua [MODEL] [threads] [prompt tokens] [new tokens] [runs]
local perigee = require "perigee"
local ffi = require "ffi"

ffi.cdef "typedef struct { long sec, nsec; } bench_time; int clock_gettime(int clock, bench_time *t);"

local function now()
   local t = ffi.new "bench_time"
   ffi.C.clock_gettime(1, t)
   return tonumber(t.sec) + tonumber(t.nsec) * 1e-9
end

local function median(list)
   table.sort(list)
   return list[math.floor(#list / 2) + 1], list[1], list[#list]
end

local function peak_mb()
   for line in io.lines "/proc/self/status" do
      local kb = line:match "^VmHWM:%s*(%d+)"
      if kb then return tonumber(kb) / 1000 end
   end
end

local path = arg[1] ~= "" and arg[1] or nil
local threads, n_prompt = tonumber(arg[2]) or 0, tonumber(arg[3]) or 256
local n_new, runs = tonumber(arg[4]) or 128, tonumber(arg[5]) or 5
local started = now()
local engine = assert(perigee.open(path, { threads = threads }))
local opened = now() - started
local info = engine:info()
local ids = {}
for i = 1, n_prompt do ids[i] = (i * 7919) % (info.vocabulary) end

local prefill, decode = {}, {}
for run = 0, runs do
   local result = assert(assert(engine:generate(ids, { max_new = n_new, ignore_eos = true, temperature = 0 })):result())
   if run > 0 then
      prefill[run] = n_prompt / result.timings.prefill * 1000
      decode[run] = (n_new - 1) / result.timings.decode * 1000
   end
end

print(tostring(engine))
print(("isa %s, %d threads, %d runs; opened in %.0f ms; peak memory %.0f MB"):format(
   info.isa, info.threads, runs, opened * 1000, peak_mb()))
print(("prefill of %d tokens: %.0f tokens/s [%.0f - %.0f]"):format(n_prompt, median(prefill)))
print(("decode of %d tokens:  %.1f tokens/s [%.1f - %.1f]"):format(n_new, median(decode)))
