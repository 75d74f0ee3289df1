#!/usr/bin/env bash
# The shared objects export exactly what the header declares with PG_API: nothing more (names of ours in a program's
# space) and nothing less (a declaration that no one wrote fails only when Lua first calls it). core.so adds its opener.
# Argument: the build folder.
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${1:-build}
declared=$(mktemp) exported=$(mktemp) || exit 1
trap 'rm -f "$declared" "$exported"' EXIT
status=0
check() { # FILE [EXTRA NAME]
    {
        sed -n '/CDEF begin/,/CDEF end/p' engine/include/perigee.h | tr '\n' ' ' |
            grep -oE 'PG_API [A-Za-z0-9_ *]+[(]' | sed -E 's/.*[ *]([a-z0-9_]+)[(]$/\1/'
        [ -z "${2:-}" ] || echo "$2"
    } | LC_ALL=C sort -u >"$declared"
    nm -D --defined-only "$1" | awk '{ print $3 }' | LC_ALL=C sort -u >"$exported" || return 1
    [ -s "$exported" ] || { echo "$1: exports nothing"; return 1; }
    [ "$(wc -l <"$declared")" -gt 5 ] || { echo "too few declarations found in perigee.h"; return 1; }
    LC_ALL=C comm -13 "$declared" "$exported" | sed "s|^|$1: exported but not in perigee.h: |" | grep . && status=1
    LC_ALL=C comm -23 "$declared" "$exported" | sed "s|^|$1: in perigee.h but not exported: |" | grep . && status=1
    return 0
}
check "$B/libperigee.so" || status=1
check "$B/lua/perigee/core.so" luaopen_perigee_core || status=1
if ldd "$B/lua/perigee/core.so" | grep -E 'liblua|libluajit'; then
    echo "core.so must take Lua's symbols from the program that loads it"
    status=1
fi
exit $status
