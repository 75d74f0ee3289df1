--- What the module asks of the file system beyond io: what a folder holds, whether a path is there.
-- @module perigee.files
-- @local
local ffi = require "ffi"

local M = {}

if not pcall(ffi.typeof, "pg_dirent") then
   -- struct dirent of 64-bit Linux under a name of our own.
   ffi.cdef [[
      typedef struct pg_dirent {
         uint64_t inode; int64_t offset; unsigned short size; unsigned char type; char name[256];
      } pg_dirent;
      void *pg_opendir(const char *path) __asm__("opendir");
      pg_dirent *pg_readdir(void *folder) __asm__("readdir");
      int pg_closedir(void *folder) __asm__("closedir");
   ]]
end

--- Names in a folder, sorted, without those that begin with a dot.
-- @tparam string path
-- @treturn {string,...} empty when there is no such folder
-- @treturn boolean whether there is one
function M.list(path)
   local names, folder = {}, ffi.C.pg_opendir(path)
   if folder == nil then return names, false end
   local entry = ffi.C.pg_readdir(folder)
   while entry ~= nil do
      local name = ffi.string(entry.name)
      if name:sub(1, 1) ~= "." then names[#names + 1] = name end
      entry = ffi.C.pg_readdir(folder)
   end
   ffi.C.pg_closedir(folder)
   table.sort(names)
   return names, true
end

--- Whether a file is there and can be read.
-- @tparam string path
-- @treturn boolean
function M.exists(path)
   local file = io.open(path, "rb")
   if file then file:close() end
   return file ~= nil
end

return M
