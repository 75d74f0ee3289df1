-- What JSON schemas let through, keyword by keyword: texts that are right by the schema and texts that are not. Ranges
-- of numbers are compared with plain arithmetic.
local perigee = require "perigee"

-- { schema, texts that fit, texts that do not }
local cases = {
   { [[{"type":"string","format":"date"}]], { '"2024-02-29"', '"2000-02-29"', '"2023-12-31"', '"2023-04-30"' },
      { '"2023-02-29"', '"1900-02-29"', '"2023-04-31"', '"2023-00-01"', '"2023-13-01"', '"2023-01-00"' } },
   { [[{"type":"string","format":"date-time"}]], { '"2024-02-29T23:59:59Z"', '"2024-02-28T00:00:00.5+01:30"' },
      { '"2024-02-28"', '"2024-02-28t00:00:00Z"', '"2024-02-28T24:00:00Z"', '"2024-02-28T00:00:60Z"',
         '"2024-02-28T00:00:00"' } },
   { [[{"type":"string","format":"ipv6"}]],
      { '"::"', '"::1"', '"2001:db8::1"', '"1:2:3:4:5:6:7:8"', '"1::"', '"1:2:3:4:5:6::8"', '"1:2:3:4:5:6:7::"' },
      { '"1:2"', '"1::2::3"', '":1"', '"1:2:3:4:5:6:7:8:9"', '":::"', '"12345::"' } },
   { [[{"type":"string","format":"email"}]], { '"a@b.co"', '"first.last+x@sub-d.example.org"' },
      { '"a@b"', '"a@-b.co"', '"a@b..co"', '"a b@c.d"' } },
   { [[{"type":"string","format":"hostname"}]], { '"localhost"', '"a.b-c.d"' }, { '"-a"', '"a..b"', '"a_"' } },
   { [[{"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":3}]], { '"ab"', '"abc"' }, { '"a"', '"abcd"' } },
   { [[{"type":"string","pattern":"\\d{3}"}]], { '"123"', '"a123b"' }, { '"12"', '"1a23"' } },
   { [[{"type":"string","pattern":"^(?:\"|\\\\|\\s)+$"}]], { [["\""]], [["\\ \n"]] }, { '"a"', '"""' } },
   { [[{"type":"string","pattern":"^[^a]{2}$"}]], { [["b\""]], [["\u0001\t"]], '"é中"' }, { '"ba"', '"b"' } },
   { [[{"type":"object","patternProperties":{"^x_[a-z]+$":{"type":"integer"}},"additionalProperties":false}]],
      { "{}", '{"x_a":1,"x_b":2}' }, { '{"y":1}', '{"x_a":"1"}' } },
   { [[{"type":"object","propertyNames":{"enum":["a","b"]},"additionalProperties":{"type":"integer"}}]], { '{"a":1}' },
      { '{"c":1}', '{"a":""}' } },
   { [[{"type":"object","additionalProperties":{"type":"integer"},"minProperties":2,"maxProperties":3}]],
      { '{"a":1,"b":2}', '{"a":1,"b":2,"c":3}' }, { "{}", '{"a":1}', '{"a":1,"b":2,"c":3,"d":4}' } },
   { [[{"type":"object","properties":{"ключ":{"type":"integer"},"a":{"type":"null"}}}]],
      { '{"ключ":1}', '{"клю":"x"}', '{"ключи":"x"}', '{"a":null,"b":2}', '{"":0}' },
      { '{"ключ":"x"}', '{"a":1}', [[{"\u0061":1}]], '{"b":1,"a":2}' } },
   { [[{"type":"object","properties":{"a":false},"additionalProperties":true}]], { "{}", '{"b":1}' }, { '{"a":1}' } },
   { [[{"type":"object","properties":{"a":{},"b":{}},"required":["b","a","c"]}]], { '{"a":1,"b":2,"c":3}' },
      { '{"a":1,"b":2}' } },
   { [[{"type":"object","properties":{"a":{"type":"string"}},"anyOf":[{"required":["a"]},{"required":["b"]}]}]],
      { '{"a":"x"}', '{"b":1}' }, { "{}", '{"a":1}' } },
   { [[{"allOf":[{"properties":{"a":{"type":"integer"}},"additionalProperties":false},
      {"type":"object","properties":{"a":{"minimum":2},"b":{}}}]}]], { '{"a":2}', "{}" }, { '{"a":1}', '{"b":1}' } },
   { [[{"allOf":[{"type":"integer","minimum":3},{"maximum":5},{"type":"number"}]}]], { "3", "5" },
      { "2", "6", "3.5" } },
   { [[{"oneOf":[{"type":"string","maxLength":3},{"type":"number"}]}]], { '"abc"', "1.5e3" }, { '"abcd"' } },
   { [[{"type":["string","integer"],"enum":["a",1,null]}]], { '"a"', "1" }, { "null" } },
   { [[{"enum":["a","abc"],"minLength":2}]], { '"abc"' }, { '"a"' } },
   { [[{"const":1.0}]], { "1", "1.0" }, { "1.5", "10" } },
   { [[{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}]}]],
      { "[]", '["a"]', '["a",1]', '["a",1,null]' }, { "[1]", '["a","b"]' } },
   { [[{"type":"array","prefixItems":[{"type":"string"},false]}]], { "[]", '["a"]' }, { '["a",1]' } },
   { [[{"type":"integer","multipleOf":7}]], { "0", "7", "-14", "700" }, { "1", "8", "007" } },
   { [[{"type":"integer","multipleOf":5,"minimum":3,"maximum":21}]], { "5", "20" }, { "0", "25", "3" } },
   { [[{"type":"number","multipleOf":0.01}]], { "1.25", "3", "0.1" }, { "1.255" } },
   { [[{"$ref":"#/$defs/a%20b","$defs":{"a b":{"type":"null"}}}]], { "null" }, { "1" } },
   { [[{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807}]],
      { "9223372036854775807", "-9223372036854775808" }, { "9223372036854775808", "-9223372036854775809" } },
   { "true", { "1", "{}", '[{"a":[]}]' }, { "", "[" } },
}

-- { schema, what the message must say }
local refused = {
   { [[{"not":{}}]], "#/not" }, { [[{"if":{}}]], "#/if" }, { [[{"type":"array","contains":{}}]], "#/contains" },
   { [[{"type":"array","uniqueItems":true}]], "#/uniqueItems" }, { [[{"type":"string","format":"nope"}]], "nope" },
   { [[{"items":{"minimum":"1"}}]], "#/items/minimum: must be a number" }, { [[{"required":"a"}]], "list of names" },
   { [[{"properties":{"a":1}}]], "#/properties/a" }, { [[{"$ref":"http://x/y"}]], "only paths within the schema" },
   { [[{"type":"number","minimum":5,"maximum":3}]], "the bounds leave no number" },
   { [[{"type":"integer","minimum":0.2,"maximum":0.8}]], "the bounds leave no number" },
   { [[{"type":"object","required":["a"],"additionalProperties":false}]], "nothing fits" },
   { [[{"allOf":[{"type":"string"},{"type":"integer"}]}]], "no type is left" },
   { [[{"pattern":"("}]], "a group without )" }, { [[{"pattern":"\\bx"}]], "escape" },
   { [[{"pattern":"a{2,1}"}]], "m <= n" },
   { [[{"pattern":"^a|(b$)"}]], "at the ends" }, { "{} {}", "JSON schema: line" },
}

describe("a schema", function()
   it("lets through what is right, and nothing else", function()
      for _, case in ipairs(cases) do
         local g = assert(perigee.schema(case[1]))
         for _, text in ipairs(case[2]) do assert.is_true(g:accepts(text), case[1] .. " must fit " .. text) end
         for _, text in ipairs(case[3]) do assert.is_false(g:accepts(text), case[1] .. " must not fit " .. text) end
      end
   end)

   it("that cannot be held is refused by its path", function()
      for _, case in ipairs(refused) do
         local g, message = perigee.schema(case[1])
         assert.is_nil(g, case[1])
         assert.truthy(message:find(case[2], 1, true), message)
      end
   end)

   it("holds strings and arrays of thousands exactly", function()
      local g = assert(perigee.schema [[{"type":"string","minLength":2001,"maxLength":4500}]])
      for n, fits in pairs { [2000] = false, [2001] = true, [4000] = true, [4500] = true, [4501] = false } do
         assert.equal(fits, g:accepts('"' .. ("a"):rep(n) .. '"'), n)
      end
      g = assert(perigee.schema [[{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2500}]])
      for n, fits in pairs { [0] = false, [1] = true, [2500] = true, [2501] = false } do
         assert.equal(fits, g:accepts("[" .. ("7,"):rep(n):sub(1, -2) .. "]"), n)
      end
   end)

   it("holds ranges of whole numbers", function()
      for _, range in ipairs { { -5, 5 }, { 0, 9 }, { 10, 99 }, { 7, 7 }, { -120, -9 }, { 98, 120 }, { -1, 103 }, { 1 },
         { -37 }, { nil, 12 }, { nil, -8 } } do
         local low, high = range[1], range[2]
         local g = assert(perigee.schema(("{%s%s\"type\":\"integer\"}"):format(
            low and ('"minimum":%d,'):format(low) or "", high and ('"exclusiveMaximum":%d,'):format(high + 1) or "")))
         for n = -130, 130 do
            local fits = (not low or n >= low) and (not high or n <= high)
            assert.equal(fits, g:accepts(tostring(n)), ("%s .. %s: %d"):format(low, high, n))
         end
      end
   end)

   it("holds ranges of decimals", function()
      for _, range in ipairs { { 0, 1 }, { -1.5, 2.5 }, { 0.1, 0.3 }, { 0.05, 0.5 }, { -0.25, -0.2 }, { 1.09, 1.1 },
         { 0, 0.05 }, { 0.99, 10 } } do
         for strict = 0, 1 do
            local low, high = range[1], range[2]
            local names = strict == 1 and { "exclusiveMinimum", "exclusiveMaximum" } or { "minimum", "maximum" }
            local schema = ('{"type":"number","%s":%s,"%s":%s}'):format(names[1], low, names[2], high)
            local g = assert(perigee.schema(schema))
            for k = -300, 1100, low < 2 and high < 2 and 1 or 7 do
               local x = k / 100
               local fits = strict == 1 and x > low and x < high or strict == 0 and x >= low and x <= high
               local text = ("%.2f"):format(x):gsub("^%-0%.00$", "0.00")
               assert.equal(fits, g:accepts(text), ("%s .. %s (%d): %s"):format(low, high, strict, text))
            end
         end
      end
   end)
end)
