--- Holds reference.lua against answers that other implementations gave, and the cases kept here against reference.lua.
-- usage: luajit tests/golden/verify.lua [CASE ...]      from the root of the repository
-- Every prompt position must agree within 1e-3 max(1, |logit|), and the greedy continuation must be the same.

local here = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path
local cases = require "cases"
local reference = require "reference"

local shared = (os.getenv "PERIGEE_GOLDEN" or "../shared/golden") .. "/models"

-- { folder, case, storage type of a quant case }
local FILES = {}
for _, name in ipairs {
   "deepseek_v1", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "gemma3", "glm4_moe", "gpt_oss", "gpt_oss_mxfp4",
   "granitemoe", "llama", "mixtral", "olmoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
} do FILES[#FILES + 1] = { shared, name, "model.gguf" } end
for _, layout in ipairs { { "deepseek_v3", "model-old.gguf" }, { "deepseek_v3", "model-fused.gguf" },
   { "mixtral", "model-perexpert.gguf" } } do FILES[#FILES + 1] = { shared, layout[1], layout[2] } end
for _, kind in ipairs { "F16", "BF16", "Q8_0", "Q4_0" } do
   for _, name in ipairs { "quant_deepseek_v2", "quant_qwen3_moe" } do
      FILES[#FILES + 1] = { shared, name, "model-" .. kind .. ".gguf", "cases-" .. kind .. ".json" }
   end
end
for _, recipe in ipairs(require "recipes") do FILES[#FILES + 1] = { here .. "/models", recipe.name, "model.gguf" } end

--- Run one prompt.
-- @treturn number largest |difference| / max(1, |logit|)
-- @treturn number how many greedy ids agree
-- @treturn number smallest routing gap
local function run(model, folder, case)
   local T, V = case.shape[1], case.shape[2]
   assert(T == #case.ids and V == model.V, "shape does not fit the model")
   local want, anchor = cases.read_floats(folder .. "/" .. case.logits, T * V)
   local session, worst, logits = model:session(), 0, nil
   for t, id in ipairs(case.ids) do
      logits = session:step(id)
      for i = 0, V - 1 do
         local w = want[(t - 1) * V + i]
         local off = math.abs(logits[i] - w) / math.max(1, math.abs(w))
         worst = off <= worst and worst or off              -- a NaN counts as worst
      end
   end
   local same = 0
   for _, id in ipairs(case.greedy) do
      if reference.argmax(logits, V) ~= id then break end
      same = same + 1
      if same < #case.greedy then logits = session:step(id) end
   end
   return worst, same, session.gap, anchor
end

local wanted = {}
for _, name in ipairs(arg) do wanted[name] = true end

local passed, failed, absent = 0, 0, {}
for _, item in ipairs(FILES) do
   local root, name, file, list_name = item[1], item[2], item[3], item[4] or "cases.json"
   local folder = root .. "/" .. name
   local list = (not next(wanted) or wanted[name]) and cases.read(folder .. "/" .. list_name)
   if list then
      local model = reference.open(folder .. "/" .. file)
      local worst, gap, told, same, all = 0, math.huge, math.huge, 0, 0
      for _, case in ipairs(list) do
         local off, agreed, seen = run(model, folder, case)
         worst = off <= worst and worst or off
         gap, told = math.min(gap, seen), math.min(told, case.router_gap or math.huge)
         same, all = same + agreed, all + #case.greedy
      end
      local good = worst <= 1e-3 and same == all
      passed, failed = passed + (good and 1 or 0), failed + (good and 0 or 1)
      print(("%-4s %-38s worst %.2g, greedy %d of %d, router gap %.6g (file: %.6g)"):format(good and "ok" or "BAD",
         name .. "/" .. file, worst, same, all, gap, told))
   elseif not next(wanted) then
      absent[root] = true
   end
end
for root in pairs(absent) do print("golden folder " .. root .. " is absent or incomplete: its cases did not run") end
print(("golden: %d passed, %d failed"):format(passed, failed))
os.exit((failed > 0 or passed == 0) and 1 or 0)
