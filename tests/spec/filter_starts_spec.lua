-- Expressions whose beginnings are walked by an automaton find and hold back what libpcre2 alone does: its search from
-- the text's start, unanchored and partial, asked anew about every prefix of a text.
local ffi = require "ffi"
local perigee = require "perigee"
local regex = require "perigee.filter.regex"                 -- declares libpcre2's functions

local pcre2 = ffi.load "libpcre2-8.so.0"
local UTF, UCP, INVALID_UTF, CASELESS, NOTEMPTY, PARTIAL_HARD = 0x80000, 0x20000, 0x4000000, 0x8, 0x4, 0x20

-- As filters compile a list of one, so that libpcre2's own short cuts are the same.
local function compile(source, ignore_case)
   source = "(?|(?:" .. source .. "))"
   local code, at = ffi.new "int[1]", ffi.new "size_t[1]"
   local options = UTF + UCP + INVALID_UTF + (ignore_case and CASELESS or 0)
   local compiled = pcre2.pcre2_compile_8(source, #source, options, code, at, nil)
   assert(compiled ~= nil, source)
   pcre2.pcre2_jit_compile_8(compiled, 1 + 4)
   return ffi.gc(compiled, pcre2.pcre2_code_free_8)
end

local data = ffi.gc(pcre2.pcre2_match_data_create_8(1, nil), pcre2.pcre2_match_data_free_8)
local pair = pcre2.pcre2_get_ovector_pointer_8(data)

-- What is released of a text, matches as "#", when more may come or not.
local function released(code, text, final)
   local out, from = {}, 0
   while from < #text do
      local rc = pcre2.pcre2_match_8(code, text, #text, from, final and NOTEMPTY or NOTEMPTY + PARTIAL_HARD, data, nil)
      if rc < 0 then
         assert(rc == -1 or rc == -2, rc)
         local hold = rc == -2 and tonumber(pair[0]) or #text
         out[#out + 1] = text:sub(from + 1, hold)
         break
      end
      local first, stop = tonumber(pair[0]), tonumber(pair[1])
      out[#out + 1] = text:sub(from + 1, first) .. "#"
      from = stop
   end
   return table.concat(out)
end

local function pick(list) return list[math.random(#list)] end

local ATOMS = {
   "a", "b", "k", "S", "1", " ", "\\.", "好", "人", "é", "[ab]", "[^a. ]", "[a-k1]", "[好a]", "[^好]", "\\d", "\\w",
   "\\s", "\\W", ".", "\\b", "\\B", "[\\d_]", "(?i)K",
   "(?i:s|é)", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)", "(?<![a1])", "(?<!ab)",
   "(?!.{0,2}b)", "(?![^. ]{0,3}a)", "(?!.{0,2}b|[a ]{0,3}k)", "(?=[ab]{0,2}$)", "(?:)", "(?>a|ab)", "a++", "$", "^",
   "[[:alpha:]]", "\\x{61}", "\\p{Han}", "ab", "abk", "好人",
}
local SIGNS = { "?", "*", "+", "{2}", "{0,2}", "{1,3}", "??", "{0,3}?", "{2,}", "?+" }

local function expression(depth)
   local list = {}
   for i = 1, math.random(1, 4) do
      local one
      if depth > 0 and math.random() < 0.35 then
         local branches = {}
         for k = 1, math.random(1, 3) do branches[k] = expression(depth - 1) end
         one = pick { "(?:", "(?:", "(", "(?i:" } .. table.concat(branches, "|") .. ")"
      else
         one = pick(ATOMS)
      end
      local plain = not one:find "^[%^%$]" and not one:find "^%(%?[=!<]" and not one:find "^\\[bB]" and one ~= "(?i)K"
         and one ~= "a++" and one ~= "(?:)"
      if plain and math.random() < 0.3 then
         if #one > 1 and not one:find "^[%[\\(]" then one = "(?:" .. one .. ")" end
         one = one .. pick(SIGNS)
      end
      list[i] = one
   end
   return table.concat(list)
end

local LETTERS = {
   "a", "a", "b", "b", "k", "K", "S", "s", "1", " ", ".", "好", "人", "é", "É", "\226\132\170", "ſ", "٣", "　", "\n", "é",
}

local function text_of(n)
   local list = {}
   for i = 1, n do list[i] = pick(LETTERS) end
   return list
end

local function whole(pieces, n)
   return table.concat(pieces, "", 1, n)
end

local function compare(source, ignore_case, pieces)
   local code = compile(source, ignore_case)
   local filter = assert(perigee.filter {
      name = "f", regex = source, ignore_case = ignore_case, action = "mask", replace = "#",
   })
   local stream, out = filter:stream(), ""
   for n = 1, #pieces do
      out = out .. assert(stream:push(pieces[n]))
      local text = whole(pieces, n)
      local expected = released(code, text, false)
      if out ~= expected then
         assert.same({ expected, source, text, ignore_case }, { out, source, text, ignore_case })
      end
   end
   out = out .. assert(stream:finish())
   local text = whole(pieces, #pieces)
   local expected = released(code, text, true)
   if out ~= expected then assert.same({ expected, source, text, ignore_case }, { out, source, text, ignore_case }) end
   assert.equal(expected, (filter:clean(text)))
end

describe("an expression's beginnings", function()
   it("change nothing of what is found and held back", function()
      math.randomseed(11)
      local walked = 0
      local rounds = 1200
      for _ = 1, rounds do
         local source, ignore_case = expression(2), math.random() < 0.4
         if not regex.literal(source) and pcall(compile, source, ignore_case) then
            local program = assert(regex.build({ source }, ignore_case))[1]
            if program.starts then walked = walked + 1 end
            for _ = 1, 3 do compare(source, ignore_case, text_of(math.random(1, 14))) end
         end
      end
      assert.is_true(walked > rounds / 4)
   end)
end)
