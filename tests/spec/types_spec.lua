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

-- Public functions: those with a reference comment that is not marked local, or says which it is of; also of parts in a
-- folder of its name.
local function functions(path, class)
   local names, source = {}, helper.read(path)
   local parts = path:gsub("%.lua$", "/*.lua")
   for part in io.popen("ls " .. parts .. " 2>/dev/null"):lines() do
      source = source .. "\n" .. helper.read(part):gsub("\n   ", "\n")     -- some stand in a function
   end
   for comment, name in source:gmatch("(\n%-%-%- .-)\nfunction " .. class .. "[.:]([%w_]+)") do
      local own = comment:match "^.*\n\n(.-)$" or comment
      if not own:find("@local", 1, true) and own:find("---", 1, true) then names[name] = true end
   end
   for name in source:gmatch("\n%-%- @function " .. class .. "[.:]([%w_]+)\n") do names[name] = true end
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
      for class, path in pairs {
         perigee = "init", Engine = "engine", Request = "request", Tokenizer = "tokenizer", Stream = "tokenizer",
         Chat = "chat", Reply = "chat/reply", Pipeline = "pipeline",
         Filter = "filter", FilterStream = "filter", Filters = "engine/filters",
         Policies = "policies", Watcher = "reload", App = "app", Grammar = "grammar",
         experts = "experts", Trace = "experts/trace", Tracer = "tracer",
      } do
         local found = functions("lua/perigee/" .. path .. ".lua", class)
         assert.is_not_nil(next(found), class)
         assert.same(found, annotated(class), class)
      end
      assert.same(functions("lua/perigee/policy.lua", "M"), annotated "policy")
   end)

   it("have the public functions of templates and JSON", function()
      assert.same(functions("lua/perigee/template.lua", "Template"), annotated "Template")
      for name in pairs(annotated "json") do assert.equal("function", type(require "perigee.json"[name]), name) end
   end)

   it("have the options that are checked", function()
      assert.same(spec("lua/perigee/engine.lua", "OPEN"), fields "perigee.OpenOptions")
      assert.same(spec("lua/perigee/engine.lua", "GENERATE"), fields "perigee.GenerateOptions")
      assert.same(spec("lua/perigee/chat.lua", "CHAT"), fields "perigee.ChatOptions")
      assert.same(spec("lua/perigee/quantize.lua", "OPTIONS"), fields "perigee.QuantizeOptions")
      assert.same(spec("lua/perigee/filter.lua", "OPTIONS"), fields "perigee.FilterOptions")
      assert.same(spec("lua/perigee/engine/route.lua", "KNOBS"), fields "perigee.Knobs")
      assert.same(spec("lua/perigee/engine/route.lua", "LAYER"), fields "perigee.LayerKnobs")
   end)

   it("and the reference name the same fields", function()
      for class, place in pairs {
         OpenOptions = { "init", "open_options" }, Info = { "init", "info" },
         GenerateOptions = { "engine", "generate_options" }, Stats = { "engine", "stats" },
         RenderOptions = { "template", "render_options" }, JsonOptions = { "json", "encode_options" },
         Event = { "request", "event" }, Result = { "request", "result" }, Choice = { "request", "choice" },
         TokenizerInfo = { "tokenizer", "info" }, QuantizeOptions = { "init", "quantize_options" },
         QuantizeReport = { "init", "quantize_report" }, ChatOptions = { "chat", "chat_options" },
         Change = { "app", "change" }, AppSettings = { "app", "settings" },
         ReplyEvent = { "chat/reply", "event" }, Call = { "chat/reply", "call" }, Context = { "pipeline", "context" },
         FilterOptions = { "filter", "filter_options" },
         Match = { "filter", "match" }, FilterEntry = { "engine/filters", "filter_entry" },
         PolicyVersion = { "policies", "version" }, PolicyEntry = { "policies", "entry" },
         RouteView = { "policies", "r" }, LogitsView = { "policies", "l" }, TokenView = { "policies", "t" },
         AdmitView = { "policies", "q" },
         ExpertCounts = { "experts", "counts" }, ExpertBalance = { "experts", "balance" },
         ExpertRecord = { "experts/trace", "record" }, TracerState = { "tracer", "state" },
         Knobs = { "engine/route", "knobs" }, Report = { "engine/route", "report" },
         PackOptions = { "filter/pack", "pack_options" }, Pack = { "filter/pack", "pack" },
      } do
         local names = documented("lua/perigee/" .. place[1] .. ".lua", place[2])
         assert.is_not_nil(next(names), class)
         assert.same(names, fields("perigee." .. class), class)
      end
   end)
end)
