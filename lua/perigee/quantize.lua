--- Model files in other storage formats; public as @{perigee.quantize}.
-- @module perigee.quantize
-- @local
local ffi = require "ffi"
local lib = require "perigee.ffi"
local options = require "perigee.options"

local C, err = lib.C, lib.err

local M = {}

local OPTIONS = {
   input = "string", output = "string", type = "string", imatrix = "string", threads = "integer", pack = "boolean",
   requantize = "boolean", progress = "function",
}
local FIELDS = { "type", "imatrix", "threads", "pack", "requantize" }

local out_handle = ffi.new "pg_quantizing *[1]"

local function report_table(c)
   return {
      bytes_in = c.bytes_in, bytes_out = c.bytes_out, tensors = c.n_tensor, quantised = c.n_quantised,
      packed = c.n_packed, weighted = c.n_weighted, types = ffi.string(c.types),
   }
end

--- Quantise a file.
-- @tparam table opts
-- @tparam number level of the caller's line
-- @treturn ?table nil, message, code
function M.quantize(opts, level)
   local given, message, code = options.check("perigee.quantize", OPTIONS, opts, level + 1)
   if not given then return nil, message, code end
   options.expect("perigee.quantize", "input", given.input, "string", level + 1)
   options.expect("perigee.quantize", "output", given.output, "string", level + 1)
   local c = ffi.new "pg_quantize_options"
   C.pg_quantize_options_init(c)
   options.copy(c, given, FIELDS)
   local rc = C.pg_quantize_begin(given.input, given.output, c, out_handle, err)
   if rc < 0 then return lib.fail(rc) end
   local handle = out_handle[0]
   lib.wait(handle, C.pg_quantize_poll, C.pg_quantize_cancel, given.progress, "quantize")
   local report = ffi.new "pg_quantize_report"
   rc = C.pg_quantize_finish(handle, report, err)
   if rc < 0 then return lib.fail(rc) end
   return report_table(report)
end

return M
