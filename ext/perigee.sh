#!/bin/sh
# The perigee command: finds the Lua files that belong to it, whatever folder or link it is called from, and hands over.
# `make` fills in the two places, for the source tree or for a prefix. LUAJIT names another interpreter.
self=$0
while [ -h "$self" ]; do
    link=$(readlink "$self")
    case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
    esac
done
# shellcheck disable=SC2034 # the places that make fills in begin with it
here=$(cd "$(dirname "$self")" && pwd -P) || exit 1
LUA_PATH="@LUADIR@/?.lua;@LUADIR@/?/init.lua;${LUA_PATH:-;}"
LUA_CPATH="@LUACDIR@/?.so;${LUA_CPATH:-;}"
export LUA_PATH LUA_CPATH
command -v "${LUAJIT:-luajit}" >/dev/null 2>&1 || {
    echo "perigee: ${LUAJIT:-luajit} is not to be found; install LuaJIT 2.1, or set LUAJIT to its path" >&2
    exit 127
}
exec "${LUAJIT:-luajit}" -e 'os.exit(require("perigee.cli").main(arg))' /dev/null "$@"
