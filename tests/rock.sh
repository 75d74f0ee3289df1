#!/usr/bin/env bash
# Build the rock into a tree of its own and open the bundled model from there.
# LuaRocks is asked for only here; where it cannot be had, that is said and counts as skipped. What the rock depends on
# comes from the system's packages (`make deps`), which LuaRocks is told: nothing is downloaded.
# Closes with "rock: N passed, M failed".
set -u
cd "$(dirname "$0")/.." || exit 1
command -v luarocks >/dev/null || sh tests/deps.sh luarocks
command -v luarocks >/dev/null || { echo "rock: luarocks is not here and could not be installed"; echo "rock: 0 passed, 0 failed, 1 skipped"; exit 0; }
tree=$(mktemp -d) || exit 1
trap 'rm -rf "$tree"' EXIT
suite=rock
. tests/checks.sh
unset PERIGEE_MODEL LUA_PATH LUA_CPATH
luajit -e 'local lpeg = require "lpeg"
    local version = type(lpeg.version) == "function" and lpeg.version() or lpeg.version
    print(("rocks_provided = { lpeg = \"%s-1\" }"):format(version:match "[%d.]+"))' >"$tree/config.lua" || exit 1
export LUAROCKS_CONFIG=$tree/config.lua
rocks="luarocks --lua-version 5.1 --tree $tree/rocks"
built() { $rocks make rockspec/perigee-scm-1.rockspec; }
tells() (
    eval "$($rocks path)" && cd / && luajit -e 'local engine = assert(require("perigee").open())
        assert(#assert(engine:complete("Once upon a time", { max_new = 4, temperature = 0 })) > 0)
        engine:close()'
)
command_runs() { "$tree/rocks/bin/perigee" info | grep -i deepseek2; }
removed() { $rocks remove perigee && [ -z "$(find "$tree/rocks" -name 'core.so' -o -name '*.gguf')" ]; }
check "luarocks make" built
check "the module opens the bundled model" tells
check "the command runs" command_runs
check "luarocks remove leaves nothing" removed
close_checks
