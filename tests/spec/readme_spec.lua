-- Every block of code in README.md that is marked as Lua runs by itself, and so do the shell blocks marked "sh run".
-- They run in a folder that has the tree's entries, model.gguf and story.txt.
local helper = dofile "tests/spec/helper.lua"

-- Fenced blocks: { language and marks, first line, text }.
local function blocks(path)
   local list, open, number = {}, nil, 0
   for line in (helper.read(path) .. "\n"):gmatch "(.-)\n" do
      number = number + 1
      local mark = line:match "^%s*```(.*)$"
      if not mark then
         if open then open.lines[#open.lines + 1] = line end
      elseif open then
         open.text = table.concat(open.lines, "\n") .. "\n"
         list[#list + 1], open = open, nil
      else
         open = { kind = mark:match "^%s*(.-)%s*$", first = number + 1, lines = {} }
      end
   end
   assert(not open, "README.md: a block of code is not closed")
   return list
end

describe("README.md", function()
   assert(helper.exists "README.md", "README.md is missing")
   local place
   setup(function() place = helper.workplace() end)
   teardown(function() helper.remove(place) end)

   local n = { lua = 0, ["sh run"] = 0 }
   for _, block in ipairs(blocks "README.md") do
      local command = block.kind == "lua" and "luajit block" or block.kind == "sh run" and "sh -e block"
      if command then
         n[block.kind] = n[block.kind] + 1
         it(("line %d runs"):format(block.first), function()
            helper.write(place .. "/block", block.text)
            local status, _, err = helper.shell(command, place)
            assert.equal(0, status, err)
         end)
      end
   end

   it("shows Lua, and commands that run", function()
      assert.is_true(n.lua > 0, "no block is marked lua")
      assert.is_true(n["sh run"] > 0, "no block is marked sh run")
   end)
end)
