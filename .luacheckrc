-- luacheck: LuaJIT, no globals of our own, lines of 120 columns.
std = "luajit"
max_line_length = 120
self = false -- a method may leave its object unused: it answers to an interface
files["tests/spec"] = { std = "+busted" }
