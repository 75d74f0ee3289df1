-- perigee.json against lua-cjson, which knows nothing of it, and against the grammar of RFC 8259.
local cjson = require "cjson"
local json = require "perigee.json"

-- A random value of plain Lua, without what the two tell apart differently (null, empty tables, whole floats).
local function random_value(depth)
   local kind = math.random(depth > 0 and 6 or 4)
   if kind == 1 then return math.random(-1e9, 1e9) end
   if kind == 2 then return math.random() * 10 ^ math.random(-20, 20) + 0.5 ^ 30 end
   if kind == 3 then return math.random() < 0.5 end
   if kind == 4 then
      local bytes = {}
      for i = 1, math.random(0, 12) do bytes[i] = string.char(math.random(0, 127)) end
      return table.concat(bytes) .. (math.random() < 0.3 and "é中🦊" or "")
   end
   local out = {}
   for i = 1, math.random(1, 5) do
      out[kind == 5 and i or "k" .. math.random(1e6)] = random_value(depth - 1)
   end
   return out
end

describe("JSON", function()
   it("reads what cjson writes, and cjson reads what it writes", function()
      math.randomseed(11)
      cjson.encode_number_precision(14)
      for _ = 1, 500 do
         local value = { random_value(4) }
         assert.same(value, cjson.decode(json.encode(value)))
         assert.same(value, cjson.decode(json.encode(value, { indent = 3, ascii = true })))
         local text = cjson.encode(value)
         assert.same(cjson.decode(text), json.decode(text))
      end
   end)

   it("keeps order, null, floats and long integers", function()
      local text = '{"z":1.0,"a":[],"m":{},"n":null,"i":123456789012345678901234567890,"e":1e+100,"neg":-0.0,"k":-5}'
      local value = assert(json.decode(text))
      assert.equal(text, json.encode(value))
      local keys = {}
      for key in json.pairs(value) do keys[#keys + 1] = key end
      assert.same({ "z", "a", "m", "n", "i", "e", "neg", "k" }, keys)
      assert.equal(json.null, value.n)
      assert.is_true(value.z == 1 and value.z + 1 == 2 and value.z < 2 and json.number(value.z) == 1)
      assert.equal("1.0", tostring(value.z))
      assert.is_true(json.is_object(value.m) and not json.is_object(value.a))
      assert.equal("123456789012345678901234567890", tostring(value.i))
      value.added, value.a = true, nil
      assert.equal('{"z":1.0,"m":{},"n":null,"i":123456789012345678901234567890,"e":1e+100,"neg":-0.0,"k":-5,'
         .. '"added":true}', json.encode(value))
   end)

   it("takes the last of keys that occur twice, at the place of the first", function()
      assert.equal('{"a":3,"b":2}', json.encode(json.decode '{"a":1,"b":2,"a":3}'))
   end)

   it("reads escapes and surrogates", function()
      assert.equal("é🦊\n/\0", json.decode [["\u00e9\ud83e\udd8a\n\/\u0000"]])
      assert.equal("\239\191\189x\239\191\189", json.decode [["\ud83ex\udd8a"]])
      assert.equal([["\ud83e\udd8a\u00e9"]], json.encode("🦊é", { ascii = true }))
   end)

   it("says where a mistake is", function()
      for text, where in pairs {
         ["[1,\n 2"] = "line 2, column 3", ["[1,]"] = "line 1, column 4", ["{\"a\" 1}"] = "line 1, column 6",
         ["tru"] = "line 1, column 1", ["01"] = "line 1, column 1", ["[1] x"] = "line 1, column 5",
         ["\"a\nb\""] = "line 1, column 3", ["\"\\x\""] = "line 1, column 2", ["\"\\u12\""] = "column",
         ["\"a"] = "column",
         [""] = "line 1, column 1", ["-"] = "column 1", ["1."] = "column 2", ["{a:1}"] = "column 2",
         ["'a'"] = "column 1",
         ["\"\255\""] = "line 1, column 2", ["NaN"] = "column 1", ["[1 2]"] = "column 4", ["\"\t\""] = "column 2",
      } do
         local value, message, code = json.decode(text)
         assert.is_nil(value, text)
         assert.matches(where, message, 1, true)
         assert.equal("format", code)
      end
      local _, _, code = json.decode(("["):rep(1e5))
      assert.equal("limit", code)
      assert.has_error(function() json.decode(nil) end)
   end)

   it("survives any bytes", function()
      math.randomseed(3)
      local seed = '{"a": [1, 2.5e3, "x\\u00e9", null, true], "b": {"c": {}}}'
      for _ = 1, 3000 do
         local at = math.random(#seed)
         local text = seed:sub(1, at - 1) .. string.char(math.random(0, 255)) .. seed:sub(at + math.random(0, 3))
         local value, message = json.decode(text)
         assert.is_true(value ~= nil or type(message) == "string")
         local fine, other = pcall(cjson.decode, text)
         if value ~= nil and fine and not text:find "\\u" then
            assert.equal(cjson.encode(other), cjson.encode(cjson.decode(json.encode(value))))
         end
      end
   end)

   it("refuses what JSON has not", function()
      for _, value in ipairs { print, { print }, { [1] = 1, x = 2 }, { [1] = 1, [3] = 3 }, coroutine.create(print) } do
         local text, message, code = json.encode(value)
         assert.is_nil(text)
         assert.equal("string", type(message))
         assert.equal("invalid", code)
      end
      local ring = {}
      ring[1] = ring
      assert.equal("limit", select(3, json.encode(ring)))
      assert.equal("[null,null]", json.encode { 0 / 0, 1 / 0 })
      assert.equal("[NaN,Infinity]", json.encode({ 0 / 0, 1 / 0 }, { python = true }))
   end)

   it("lays out as it is told", function()
      local value = json.decode '{"b": [1, {}], "a": {"c": null}}'
      assert.equal('{\n  "b": [\n    1,\n    {}\n  ],\n  "a": {\n    "c": null\n  }\n}',
         json.encode(value, { indent = 2 }))
      assert.equal('{"a": {"c": null}, "b": [1, {}]}',
         json.encode(value, { sort_keys = true, item_separator = ", ", key_separator = ": " }))
      assert.equal("0.333333333", json.encode(1 / 3, { digits = 9 }))
      assert.equal("5e-324", json.encode(5e-324))
   end)
end)
