--- Packs: filters that come with perigee, made from data files that anyone may replace.
--
-- Public as `perigee.filter.pack` and `perigee.filter.packs`. A pack is a Lua table in a file of its own, loaded as
-- text without any function in reach; packs/common.lua says how one is written. Words stand for themselves;
-- expressions are for libpcre2, with `<name>` for a part that the pack or packs/common.lua names.
-- @module perigee.filter.pack
-- @local
local checks = require "perigee.filter.checks"
local filters = require "perigee.filter"
local options = require "perigee.options"

local M = {}

local NAMES = {
   "pii", "violence", "explosives", "extremism", "selfharm", "sexual", "minors", "hate", "harassment", "drugs", "fraud",
   "gambling", "cybercrime",
}
local OPTIONS = { action = "any", languages = "strings", allow = "any", folder = "string", on = "strings",
   replace = "any", times = "integer" }

local own = debug.getinfo(1, "S").source:match "^@(.*)pack%.lua$" .. "packs/"
local kept = {}

-- The table that a file returns. It has no access to anything, so that data stays data.
local function load_file(path)
   local chunk, message = loadfile(path, "t")
   if not chunk then return nil, message, io.open(path) and "format" or "not_found" end
   local fine, data = pcall(setfenv(chunk, {}))
   if not fine then return nil, tostring(data), "format" end
   if type(data) ~= "table" then return nil, path .. ": a pack returns a table", "format" end
   return data
end

local function read(name, folder)
   local path = own .. name .. ".lua"
   if folder then
      local theirs = folder:gsub("/?$", "/") .. name .. ".lua"
      local file = io.open(theirs)
      if file then
         file:close()
         return load_file(theirs)
      end
   end
   if not kept[path] then
      local data, message, code = load_file(path)
      if not data then return nil, message, code end
      kept[path] = data
   end
   return kept[path]
end

-- Expressions with their parts put in. With `calls`, long parts are noted there and called; what an expression begins
-- with stays where it is, since by it libpcre2 tells where to look.
local function expand(source, parts, common, where, calls)
   local missing
   local function part(at, name)
      local text = parts[name] or common[name]
      if not text then
         missing = missing or name
      elseif calls and #text > 60 and at > 1 then
         calls[name] = true
         return "(?&" .. name .. ")"
      end
      return text
   end
   for _ = 1, 5 do                                     -- parts may name parts
      local n
      source, n = source:gsub("()<(%l[%w_]*)>", part)
      if missing then return nil, ("%s: no part is named <%s>, in %q"):format(where, missing, source), "format" end
      if n == 0 then return source end
   end
   return nil, where .. ": parts name each other in a circle", "format"
end

-- Expressions that begin with the same parts become one: what they begin with is then tried once at each place and not
-- once for each of them, which is most of what a pack costs.
local function factor(list)
   local made, groups = {}, {}
   for _, source in ipairs(list) do
      local head, tail = source:match "^(<[<>%l%d_]+>)(.*)$"
      local group = head and groups[head]
      if not head then
         made[#made + 1] = source
      elseif not group then
         group = { at = #made + 1, tail }
         groups[head], made[group.at] = group, source
      else
         group[#group + 1] = tail
         made[group.at] = head .. "(?:" .. table.concat(group, "|") .. ")"
      end
   end
   return made
end

local function copy(to, list)
   for _, text in ipairs(type(list) == "string" and { list } or list or {}) do to[#to + 1] = text end
end

local function add_regex(to, list, parts, common, where)
   for _, source in ipairs(list) do
      local text, message, code = expand(source, parts, common, where)
      if not text then return nil, message, code end
      to[#to + 1] = text
   end
   return true
end

-- The expressions of a pack as one, with the long parts behind them: one call a token.
local function join(to, list, parts, common, where)
   if #list == 0 then return true end
   local calls, texts, known = {}, {}, {}
   for i, source in ipairs(factor(list)) do
      local text, message, code = expand(source, parts, common, where, calls)
      if not text then return nil, message, code end
      texts[i] = "(?:" .. text .. ")"
   end
   local defined = {}
   local name = next(calls)
   while name do                                       -- parts that are called may call others
      calls[name], known[name] = nil, true
      local more = {}
      local text, message, code = expand("(?:)" .. (parts[name] or common[name]), parts, common, where, more)
      if not text then return nil, message, code end
      defined[#defined + 1] = ("(?<%s>%s)"):format(name, text)
      for other in pairs(more) do
         if not known[other] then calls[other] = true end
      end
      name = next(calls)
   end
   table.sort(defined)
   local whole = table.concat(texts, "|")
   to[#to + 1] = #defined == 0 and whole or ("(?:%s)(?(DEFINE)%s)"):format(whole, table.concat(defined))
   return true
end

local function allowed(opts, words, regex)
   local allow = opts.allow
   if not allow then return end
   if #allow > 0 then allow = { words = allow } end
   copy(words, allow.words)
   copy(regex, allow.regex)
end

local function category(data, common, name, opts)
   local words, wanted, regex, allow_words, harmless, allow_regex = {}, {}, {}, {}, {}, {}
   for _, language in ipairs(opts.languages or { "zh", "en" }) do
      local part = data[language] or {}
      local allow = part.allow or {}
      copy(words, part.words)
      copy(wanted, part.regex)
      copy(allow_words, allow.words)
      copy(harmless, allow.regex)
   end
   if #words + #wanted == 0 then
      return nil, ("pack %q has nothing in %s"):format(name, table.concat(opts.languages or {}, ", ")), "not_found"
   end
   local parts, where = data.parts or {}, ("pack %q"):format(name)
   local fine, message, code = join(regex, wanted, parts, common, where)
   if fine then fine, message, code = add_regex(allow_regex, harmless, parts, common, where) end
   if not fine then return nil, message, code end
   allowed(opts, allow_words, allow_regex)
   return filters.make({
      name = name, category = data.category or name, action = opts.action, words = words, regex = regex,
      ignore_case = true, whole_word = true, normalise = true, allow = { words = allow_words, regex = allow_regex },
      on = opts.on, replace = opts.replace, times = opts.times,
   }, 1)
end

local function kind(data, common, name, one, opts)
   local regex, allow_words, allow_regex = {}, {}, {}
   local fine, message, code = add_regex(regex, one.regex, data.parts or {}, common, ("pack %q"):format(name))
   if not fine then return nil, message, code end
   local check = one.check and checks[one.check]
   if one.check and not check then return nil, ("pack %q: no check is named %q"):format(name, one.check), "format" end
   allowed(opts, allow_words, allow_regex)
   return filters.make({
      name = name, category = data.category or name, action = opts.action, regex = regex, check = check,
      normalise = true, allow = { words = allow_words, regex = allow_regex }, on = opts.on, replace = opts.replace,
      times = opts.times,
   }, 1)
end

-- Add the filters of one name to a list: a category, a pack of kinds, or one kind of it ("pii.card").
local function add_pack(list, name, common, opts)
   local pack, wanted = name:match "^([%w_-]+)%.?([%w_-]*)$"
   if not pack then return nil, ("%q is no name of a pack"):format(name), "invalid" end
   local data, message, code = read(pack, opts.folder)
   if not data then
      if code == "not_found" then
         local near = options.nearest(pack, NAMES)
         message = ("no pack is named %q%s"):format(name, near and ("; did you mean %q?"):format(near) or "")
      end
      return nil, message, code
   end
   local filter
   if not data.kinds then
      if wanted ~= "" then return nil, ("pack %q has no kinds"):format(pack), "not_found" end
      filter, message, code = category(data, common, name, opts)
      list[#list + 1] = filter
      return filter, message, code
   end
   local known = {}
   for _, one in ipairs(data.kinds) do
      known[#known + 1] = one.name
      if wanted == "" or wanted == one.name then
         filter, message, code = kind(data, common, pack .. "." .. one.name, one, opts)
         if not filter then return nil, message, code end
         list[#list + 1] = filter
      end
   end
   if not filter then
      return nil, ("pack %q has no kind %q; it has %s"):format(pack, wanted, table.concat(known, ", ")), "not_found"
   end
   return true
end

--- What a pack may be told.
-- @table pack_options
-- @tfield ?string|function action as in @{filter_options}; default "block"
-- @tfield ?{string,...} languages of what is prohibited: "zh", "en"; default both
-- @tfield ?table allow more that is harmless: { words = {...}, regex = {...} }, or a list of words
-- @tfield ?string folder where packs of your own lie: NAME.lua there is taken instead of perigee's own
-- @tfield ?{string,...} on as in @{filter_options}
-- @tfield ?string|function replace as in @{filter_options}
-- @tfield ?number times as in @{filter_options}

local function pack(names, opts, level)
   local given, message, code = options.check("perigee.filter.pack", OPTIONS, opts, level + 1)
   if not given then return nil, message, code end
   if names == "all" then names = NAMES end
   if type(names) == "string" then names = { names } end
   options.expect("perigee.filter.pack", "names", names, "table", level + 1)
   local common
   common, message, code = read("common", given.folder)
   if not common then return nil, message, code end
   local list = {}
   for _, name in ipairs(names) do
      local fine
      fine, message, code = add_pack(list, name, common, given)
      if not fine then return nil, message, code end
   end
   return list
end

local function count(data)
   local n = { words = 0, regex = 0, allow = 0 }
   for _, part in ipairs { data.zh or {}, data.en or {}, unpack(data.kinds or {}) } do
      local allow = part.allow or {}
      n.words = n.words + #(part.words or {})
      n.regex = n.regex + #(part.regex or {})
      n.allow = n.allow + #(allow.words or {}) + #(allow.regex or {})
   end
   return n
end

--- Filters of one or more packs, in the order of their names.
-- @function perigee.filter.pack
-- @tparam string|{string,...} names as @{perigee.filter.packs} lists them; "pii.card" for one kind of "pii"; "all" for
-- every pack
-- @tparam[opt] pack_options opts
-- @treturn ?{perigee.filter,...} nil, message, code
-- @usage
-- local filters = assert(perigee.filter.pack({ "pii", "fraud" }, { action = "mask" }))
-- engine:generate(prompt, { filters = filters })
function M.pack(names, opts)
   local list, message, code = pack(names, opts, 2)
   return list, message, code
end

--- What a pack is.
-- @table pack
-- @tfield string name
-- @tfield string category of its matches
-- @tfield string title what it looks for
-- @tfield number words how many
-- @tfield number regex how many
-- @tfield number allow how many words and expressions of what is harmless
-- @tfield ?{string,...} kinds of "pii"

--- The packs that come with perigee.
-- @function perigee.filter.packs
-- @treturn {pack,...}
-- @usage for _, pack in ipairs(perigee.filter.packs()) do print(pack.name, pack.title) end
function M.packs()
   local list = {}
   for i, name in ipairs(NAMES) do
      local data = assert(read(name))
      local n, kinds = count(data), nil
      for _, one in ipairs(data.kinds or {}) do
         kinds = kinds or {}
         kinds[#kinds + 1] = one.name
      end
      list[i] = {
         name = name, category = data.category, title = data.title, words = n.words, regex = n.regex, allow = n.allow,
         kinds = kinds,
      }
   end
   return list
end

--- Give the function that makes filters these functions.
-- @tparam function make
-- @treturn table which is called like the function
-- @local
function M.attach(make)
   return setmetatable({ pack = M.pack, packs = M.packs }, { __call = function(_, opts) return make(opts) end })
end

return M
