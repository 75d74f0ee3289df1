-- The test lines, and how packs do on them. A file has one case a line: label, tab, text; "#" begins a comment; "{+}"
-- is nothing. Of what was written by hand every third line of a label is held out, of what is made the acts of a file
-- of its own: when patterns were adapted to what was missed, held-out lines were not looked at. Whoever wrote the
-- patterns had written the lines, so that only violating-fresh.txt says how packs do on lines of strangers.
local perigee = require "perigee"

local M = {}

-- The lines of a file: { label =, text =, held = }.
local function read(name, held)
   local list, count = {}, {}
   for line in assert(io.lines("tests/filters/" .. name)) do
      local label, text = line:match "^([^#\t][^\t]*)\t(.+)$"
      if label then
         count[label] = (count[label] or 0) + 1
         local third = held
         if held == nil then third = count[label] % 3 == 0 end
         list[#list + 1] = { label = label, text = text:gsub("{%+}", ""), held = third, file = name }
      end
   end
   return list
end

local function join(...)
   local list = {}
   for _, part in ipairs { ... } do
      for _, case in ipairs(part) do list[#list + 1] = case end
   end
   return list
end

function M.benign() return join(read "benign-hand.txt", read "benign-made.txt", read "benign-books.txt",
      read "benign-more.txt") end

function M.violating()
   return join(read "violating-hand.txt", read("violating-made.txt", false), read("violating-made-held.txt", true),
      read("violating-oblique.txt", false), read("violating-fresh.txt", true))
end

-- The labels of personal data are kinds of the pack "pii".
function M.personal()
   local list = join(read "pii-hand.txt", read "pii-made.txt")
   for _, case in ipairs(list) do case.label = "pii." .. case.label end
   return list
end

-- Every pack, reporting only.
function M.filters(opts)
   opts = opts or {}
   opts.action = "flag"
   return assert(perigee.filter.pack("all", opts))
end

-- What a stream of these filters reports of a text.
function M.matches(filters, text)
   local stream = filters[1]:stream(unpack(filters, 2))
   local _, found = assert(stream:push(text))
   local _, more = assert(stream:finish())
   local list = found or {}
   for _, match in ipairs(more or {}) do list[#list + 1] = match end
   return list
end

-- Per label and for all: lines, seen (some filter matched), named (the one of its label did), of tuned and held-out
-- lines; missed: the cases of which no filter saw anything.
function M.recall(filters, cases)
   local rows, missed = {}, {}
   local function row(label)
      rows[label] = rows[label] or { lines = { 0, 0 }, seen = { 0, 0 }, named = { 0, 0 } }
      return rows[label]
   end
   for _, case in ipairs(cases) do
      local found, third, named = M.matches(filters, case.text), case.held and 2 or 1, 0
      for _, match in ipairs(found) do
         if match.filter == case.label then named = 1 end
      end
      for _, label in ipairs { case.label, "all" } do
         local r = row(label)
         r.lines[third] = r.lines[third] + 1
         r.seen[third] = r.seen[third] + math.min(#found, 1)
         r.named[third] = r.named[third] + named
      end
      if #found == 0 then missed[#missed + 1] = case end
   end
   return rows, missed
end

-- Harmless lines that something matched: { case =, match = }; and how many lines there are, tuned and held out.
function M.alarms(filters, cases)
   local list, lines = {}, { 0, 0 }
   for _, case in ipairs(cases) do
      local third = case.held and 2 or 1
      lines[third] = lines[third] + 1
      local match = M.matches(filters, case.text)[1]
      if match then list[#list + 1] = { case = case, match = match } end
   end
   return list, lines
end

return M
