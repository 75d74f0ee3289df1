rockspec_format = "3.0"
package = "perigee"
version = "scm-1"
source = { url = "." }                                -- the checkout at hand: luarocks make builds it where it stands
description = {
   summary = "A mixture-of-experts language-model engine that you script in Lua",
   detailed = [[
      perigee runs mixture-of-experts language models on the CPU from LuaJIT: a C engine that works on a thread of its
      own, and a thin Lua layer over it. A small model ships with it. Needs LuaJIT 2.1, a C compiler, GNU make, and the
      development files of LuaJIT, jansson, pcre2 and utf8proc.]],
   license = "MIT",
}
dependencies = { "lua == 5.1", "lpeg >= 1.0" }
supported_platforms = { "linux" }
build = {
   type = "make",
   variables = {
      BUILD = "build-rock",                             -- apart from what `make` built here with other flags
      CC = "$(CC)",
      CFLAGS = "",                                      -- the Makefile's own; LuaRocks would set -O2
      CPPFLAGS = "-I$(LUA_INCDIR)",                     -- after the Makefile's own: LuaRocks may know those of Lua 5.1
   },
   build_target = "all",
   install_target = "install-module",
   install_variables = {
      LUADIR = "$(LUADIR)",
      LUACDIR = "$(LIBDIR)",
      BINDIR = "$(BINDIR)",
      MODELDIR = "$(LUADIR)/perigee/models",
      COMMAND_LUADIR = "$$here/../share/lua/5.1",       -- where the rock's files end up, not where make puts them
      COMMAND_LUACDIR = "$$here/../lib/lua/5.1",
   },
}
