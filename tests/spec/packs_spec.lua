-- Packs: what they see on lines that they were adapted to and on lines held out, what they leave alone, and the checks
-- of numbers against published ones. The lines are in tests/filters; tests/bench/filters_recall.lua prints the table.
local helper = dofile "tests/spec/helper.lua"
local perigee = require "perigee"
local checks = require "perigee.filter.checks"
local cases = dofile "tests/filters/cases.lua"

-- Share of lines that must be seen, of those adapted to and of those held out.
local FLOORS = {
   violence = { 0.97, 0.80 }, explosives = { 0.95, 0.90 }, extremism = { 0.97, 0.80 }, selfharm = { 0.97, 0.95 },
   sexual = { 0.97, 0.90 }, minors = { 0.95, 0.80 }, hate = { 0.97, 0.80 }, harassment = { 0.97, 0.85 },
   drugs = { 0.97, 0.76 }, fraud = { 0.97, 0.80 }, gambling = { 0.97, 0.90 }, cybercrime = { 0.97, 0.90 },
   ["pii.card"] = { 0.97, 0.80 }, ["pii.id"] = { 1, 1 }, ["pii.iban"] = { 1, 1 }, ["pii.phone"] = { 0.97, 0.95 },
   ["pii.email"] = { 1, 1 }, ["pii.ip"] = { 1, 1 }, ["pii.secret"] = { 0.97, 0.95 },
}

describe("packs", function()
   local filters = cases.filters()

   it("see what they are for", function()
      local prohibited, personal = cases.violating(), cases.personal()
      assert.is_true(#prohibited + #personal >= 600)
      for _, list in ipairs { prohibited, personal } do
         for label, row in pairs(cases.recall(filters, list)) do
            for third = 1, FLOORS[label] and 2 or 0 do
               assert.is_true(row.lines[third] >= 4, label)
               local share = row.seen[third] / row.lines[third]
               assert.is_true(share >= FLOORS[label][third], ("%s: %.3f of part %d"):format(label, share, third))
            end
         end
      end
   end)

   it("leave harmless lines alone, fewer than three in a thousand excepted", function()
      local list = cases.benign()
      assert.is_true(#list >= 2000)
      local alarms = cases.alarms(filters, list)
      assert.is_true(#alarms < 0.003 * #list, #alarms .. " alarms")
   end)

   it("see the same however the text is cut", function()
      local text = "Order 4539 1488 0343 6468, card ４１１１ 1111 1111 1111. How do I make a pipe bomb? 代开发票，加我。"
      local whole = cases.matches(filters, text)
      assert.is_true(#whole >= 3)
      for _, size in ipairs { 1, 2, 7 } do
         local stream, found = filters[1]:stream(unpack(filters, 2)), {}
         for i = 1, #text, size do
            local _, some = assert(stream:push(text:sub(i, i + size - 1)))
            for _, match in ipairs(some or {}) do found[#found + 1] = match end
         end
         local _, rest = assert(stream:finish())
         for _, match in ipairs(rest or {}) do found[#found + 1] = match end
         assert.same(whole, found)
      end
   end)

   it("are listed with what they hold", function()
      local list = perigee.filter.packs()
      assert.equal(13, #list)
      assert.same({ "card", "id", "iban", "phone", "email", "ip", "secret" }, list[1].kinds)
      for i = 2, #list do
         assert.equal(list[i].name, list[i].category)
         assert.is_true(list[i].words > 0 and list[i].regex > 0 and list[i].allow > 0, list[i].name)
      end
   end)

   it("take an action, languages, more that is allowed, and one kind", function()
      local one = assert(perigee.filter.pack("pii.email", { action = "mask" }))
      assert.equal(1, #one)
      assert.equal("to ***************.", (one[1]:clean "to a.b@example.org."))
      local zh = assert(perigee.filter.pack("fraud", { languages = { "zh" } }))[1]
      assert.equal(0, #zh:scan "Write a phishing email for me")
      assert.equal(1, #zh:scan "代开发票")
      local lenient = assert(perigee.filter.pack({ "fraud" }, { allow = { "小品《代开发票》" } }))[1]
      assert.equal(0, #lenient:scan "春晚小品《代开发票》")
      assert.equal(1, #lenient:scan "代开发票")
   end)

   it("are replaced by files of a folder, which are data only", function()
      local folder = os.tmpname()
      os.remove(folder)
      assert(os.execute("mkdir " .. folder) == 0)
      local function write(text)
         local file = assert(io.open(folder .. "/fraud.lua", "w"))
         file:write(text)
         file:close()
      end
      write "return { category = 'mine', parts = { x = 'a+' }, en = { words = { 'quux' }, regex = { '<x>b' } } }"
      local mine = assert(perigee.filter.pack("fraud", { folder = folder }))[1]
      assert.equal("mine", mine:scan("quux")[1].category)
      assert.equal(1, #mine:scan "aab")
      assert.equal(0, #mine:scan "代开发票")
      for _, text in ipairs {
         "return { en = { regex = { '<nobody>' } } }", "return os.execute 'true'", "return 7", "return {", "\27LJ",
         "return { parts = { a = '<b>', b = '<a>' }, en = { regex = { '<a>' } } }",
         "return { en = { regex = { '(' } } }",
      } do
         write(text)
         local made, message, code = perigee.filter.pack("fraud", { folder = folder })
         assert.is_nil(made, text)
         assert.is_string(message)
         assert.is_true(code == "format" or code == "invalid", tostring(code))
      end
      os.execute("rm -r " .. folder)
   end)

   it("that are not there are named", function()
      local made, message, code = perigee.filter.pack "frauds"
      assert.is_nil(made)
      assert.truthy(message:find('did you mean "fraud"', 1, true))
      assert.equal("not_found", code)
      assert.is_nil((perigee.filter.pack "pii.nose"))
      assert.is_nil((perigee.filter.pack "../pii"))
      assert.is_nil((perigee.filter.pack("pii", { colour = 1 })))
      assert.has_error(function() perigee.filter.pack(7) end)
   end)
end)

describe("lines from templates", function()
   it("are what the maker makes", function()
      local folder = os.tmpname()
      os.remove(folder)
      assert(os.execute("mkdir " .. folder) == 0)
      assert(os.execute("luajit tests/filters/make.lua " .. folder .. "/") == 0)
      for _, name in ipairs { "benign-made", "violating-made", "violating-made-held", "pii-made" } do
         assert.equal(helper.read(folder .. "/" .. name .. ".txt"), helper.read("tests/filters/" .. name .. ".txt"))
      end
      os.execute("rm -r " .. folder)
   end)
end)

describe("checks", function()
   it("know test cards that payment processors publish", function()
      for _, number in ipairs {
         "4111111111111111", "4012888888881881", "5555555555554444", "5105105105105100", "2223003122003222",
         "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "3530111333300000",
         "30569309025904", "38520000023237", "6759649826438453", "4222222222222", "4111 1111-1111 1111",
      } do assert.is_true(checks.card(number), number) end
      for _, number in ipairs {
         "4111111111111112", "1111111111111117", "9999999999999995", "0000000000000000", "411111111111111",
         "9787020002207", "4111111111111111111",
      } do assert.is_false(checks.card(number), number) end
   end)

   it("know the resident ID of the standard", function()
      assert.is_true(checks.resident_id "11010519491231002X")                  -- the example of GB 11643
      assert.is_true(checks.resident_id "440524188001010014")                  -- its second
      assert.is_true(checks.resident_id "１１０１０５１９４９１２３１００２ｘ")
      for _, id in ipairs {
         "110105194912310021", "11010519490231002X", "99010519491231002X", "11010529491231002X", "1101051949123100",
      } do assert.is_false(checks.resident_id(id), id) end
   end)

   it("know IBANs of the registry", function()
      for _, iban in ipairs {
         "GB29 NWBK 6016 1331 9268 19", "DE89370400440532013000", "FR1420041010050500013M02606", "NO9386011117947",
         "CH9300762011623852957", "BE68539007547034", "MT84MALT011000012345MTLCAST001S", "SA0380000000608010167519",
         "BR9700360305000010009795493P1", "LC55HEMM000100010012001200023015",
      } do assert.is_true(checks.iban(iban), iban) end
      for _, iban in ipairs { "GB29NWBK60161331926818", "DE89370400440532013001", "DE98370400440532013000", "GB29" } do
         assert.is_false(checks.iban(iban), iban)
      end
   end)

   it("know whose an address is", function()
      for _, address in ipairs { "8.8.8.8", "203.0.113.7", "172.15.0.1", "2001:db8::1:2", "2001:db8:1:2:3:4:5:6" } do
         assert.is_true(checks.address(address), address)
      end
      for _, address in ipairs {
         "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.1.1",
         "256.1.1.1", "2001:db8:1:2", "2001::1::2",
      } do assert.is_false(checks.address(address), address) end
   end)

   it("tell what was drawn by chance from names", function()
      assert.is_true(checks.secret "password=Xk29vLq8ZtPw")
      assert.is_true(checks.secret("AKIA" .. ("ABCD2345"):rep(2)))
      for _, text in ipairs { "password=os.environ", "api_key = settings.key", "sk-learn-based-pipeline-for-teams" } do
         assert.is_false(checks.secret(text), text)
      end
   end)
end)
