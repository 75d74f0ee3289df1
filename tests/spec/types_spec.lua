-- The annotations for lua-language-server say what the module has: same functions, same options, same fields.
local helper = dofile "tests/spec/helper.lua"

local types = ""
for path in io.popen "ls lua/perigee/types/*.lua":lines() do types = types .. "\n" .. helper.read(path) end

-- Fields of one annotated class.
local function fields(class)
   local block = assert(types:match("%-%-%-@class " .. class:gsub("%.", "%%.") .. "\n(.-)\n[^%-]"), class)
   local names = {}
   for name in block:gmatch "%-%-%-@field ([%w_]+)" do names[name] = true end
   return names
end

-- Public functions: those with a reference comment that is not marked local.
local function functions(path, class)
   local names, source = {}, helper.read(path)
   for comment, name in source:gmatch("(\n%-%-%- .-)\nfunction " .. class .. "[.:]([%w_]+)") do
      local own = comment:match "^.*\n\n(.-)$" or comment
      if not own:find("@local", 1, true) and own:find("---", 1, true) then names[name] = true end
   end
   return names
end

local function annotated(class)
   local names = {}
   for name in types:gmatch("\nfunction " .. class .. "[.:]([%w_]+)") do names[name] = true end
   return names
end

-- Names in a table constructor of the source: NAME = { name = "kind", ... } up to a line that is not indented.
local function spec(path, name)
   local body, names = assert(helper.read(path):match("\nlocal " .. name .. " = {\n(.-)\n}")), {}
   body = body:gsub("later = {.-},", "")
   for key in body:gmatch '([%w_]+) = "' do names[key] = true end
   return names
end

-- Names of the fields that a reference comment lists.
local function documented(path, name)
   local body, names = assert(helper.read(path):match("\n%-%- @table " .. name .. "\n(.-)\n[^%-]")), {}
   for key in body:gmatch "%-%- @tfield %S+ ([%w_]+)" do names[key] = true end
   return names
end

describe("annotations", function()
   it("have the public functions of each class", function()
      for class, path in pairs { perigee = "init", Engine = "engine", Request = "request", Tokenizer = "tokenizer",
         Stream = "tokenizer", Filter = "filter", FilterStream = "filter", Filters = "engine/filters" } do
         local found = functions("lua/perigee/" .. path .. ".lua", class)
         assert.is_not_nil(next(found), class)
         assert.same(found, annotated(class), class)
      end
   end)

   it("have the options that are checked", function()
      assert.same(spec("lua/perigee/engine.lua", "OPEN"), fields "perigee.OpenOptions")
      assert.same(spec("lua/perigee/engine.lua", "GENERATE"), fields "perigee.GenerateOptions")
      assert.same(spec("lua/perigee/quantize.lua", "OPTIONS"), fields "perigee.QuantizeOptions")
      assert.same(spec("lua/perigee/filter.lua", "OPTIONS"), fields "perigee.FilterOptions")
   end)

   it("and the reference name the same fields", function()
      for class, place in pairs {
         OpenOptions = { "init", "open_options" }, Info = { "init", "info" },
         GenerateOptions = { "engine", "generate_options" }, Stats = { "engine", "stats" },
         Event = { "request", "event" }, Result = { "request", "result" }, Choice = { "request", "choice" },
         TokenizerInfo = { "tokenizer", "info" }, QuantizeOptions = { "init", "quantize_options" },
         QuantizeReport = { "init", "quantize_report" }, FilterOptions = { "filter", "filter_options" },
         Match = { "filter", "match" },
         PackOptions = { "filter/pack", "pack_options" }, Pack = { "filter/pack", "pack" },
         FilterEntry = { "engine/filters", "filter_entry" },
      } do
         local names = documented("lua/perigee/" .. place[1] .. ".lua", place[2])
         assert.is_not_nil(next(names), class)
         assert.same(names, fields("perigee." .. class), class)
      end
   end)
end)
