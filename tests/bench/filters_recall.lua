-- How the packs do on the lines of tests/filters: recall per category, false positives.
--
--     luajit tests/bench/filters_recall.lua           -- the table
--     luajit tests/bench/filters_recall.lua missed    -- and the tuned lines that were missed; `held` shows the others
local cases = dofile "tests/filters/cases.lua"

local show = arg[1]
local filters = cases.filters()
local order, labels = {}, {}
local violating, personal = cases.violating(), cases.personal()
for _, list in ipairs { violating, personal } do
   for _, case in ipairs(list) do
      if not labels[case.label] then
         labels[case.label] = true
         order[#order + 1] = case.label
      end
   end
end

local function percent(n, of) return of == 0 and "    -" or ("%5.1f"):format(100 * n / of) end

local function report(title, list)
   local rows, missed = cases.recall(filters, list)
   print(("%-16s %6s %8s %8s %8s %14s"):format(title, "lines", "recall%", "tuned%", "held%", "own category%"))
   local names = { unpack(order) }
   names[#names + 1] = "all"
   for _, label in ipairs(names) do
      local r = rows[label]
      if r then
         local lines = r.lines[1] + r.lines[2]
         print(("%-16s %6d %8s %8s %8s %14s"):format(label, lines, percent(r.seen[1] + r.seen[2], lines),
            percent(r.seen[1], r.lines[1]), percent(r.seen[2], r.lines[2]),
            percent(r.named[1] + r.named[2], lines)))
      end
   end
   for _, case in ipairs(missed) do
      if show == "missed" and not case.held or show == "held" then print("  missed", case.label, case.text) end
   end
   print()
end

report("prohibited", violating)
report("personal data", personal)

local alarms, lines = cases.alarms(filters, cases.benign())
local held = 0
for _, alarm in ipairs(alarms) do
   if alarm.case.held then held = held + 1 end
   if show == "missed" and not alarm.case.held or show == "held" then
      print("  alarm", alarm.match.filter, alarm.match.text, alarm.case.text)
   end
end
print(("harmless lines: %d; false positives %d (%.2f %%), tuned %d of %d, held out %d of %d"):format(
   lines[1] + lines[2], #alarms, 100 * #alarms / (lines[1] + lines[2]), #alarms - held, lines[1], held, lines[2]))
