-- make deps: what tests/deps.sh asks the package manager for, with stand-ins for Debian's tools.
local helper = require "helper"

local folder

-- What apt-get is told to install, on a system that has these packages.
local function asked(has, wants)
   local list = {}
   for _, name in ipairs(has) do list[#list + 1] = "installed amd64 " .. name end
   local lines = "'" .. table.concat(list, "\n") .. "\n'"
   local function tool(name, body) helper.write(folder .. "/" .. name, "#!/bin/sh\n" .. body .. "\n") end
   tool("dpkg", "echo amd64")
   tool("dpkg-query", ([[
      shift 3
      for name in "$@"; do printf %%s %s | grep -E " $name\$"; done]]):format(lines))
   tool("id", "echo 0")
   tool("apt-get", ([[printf '%%s\n' "$*" >>'%s/calls']]):format(folder))
   os.remove(folder .. "/calls")
   local rc = os.execute(("chmod +x '%s'/* && PATH='%s':$PATH sh tests/deps.sh %s >/dev/null")
      :format(folder, folder, wants))
   assert.is_true(rc == 0 or rc == true)
   local file = io.open(folder .. "/calls")
   if not file then return nil end
   local calls = file:read "*a"
   file:close()
   return (calls:match "%-%-no%-install%-recommends ([^\n]*)")
end

describe("make deps", function()
   setup(function() folder = helper.folder() end)
   teardown(function() helper.remove(folder) end)

   it("asks for what is missing, and for nothing when all is there", function()
      assert.equal("luajit libpcre2-dev", asked({ "gcc" }, "gcc luajit libpcre2-dev"))
      assert.is_nil(asked({ "gcc", "luajit" }, "gcc luajit"))
   end)

   it("keeps OpenResty's LuaJIT where nginx's module needs it", function()
      assert.equal("luajit2 gcc libluajit2-5.1-dev", asked({ "libluajit2-5.1-2" }, "luajit gcc libluajit-5.1-dev"))
      assert.equal("gcc", asked({ "libluajit2-5.1-2", "luajit2", "libluajit2-5.1-dev" },
         "luajit gcc libluajit-5.1-dev"))
   end)
end)
