#!/usr/bin/env bash
# Install into a staged folder and use what lies there as a stranger would: the command, the Lua module with the model
# that ships, C programs through pkg-config, shared and static. Then uninstall.
# Closes with "install: N passed, M failed".
set -u
cd "$(dirname "$0")/.." || exit 1
stage=$(mktemp -d) || exit 1
trap 'rm -rf "$stage"' EXIT
prefix=$stage/opt/perigee
suite=install
. tests/checks.sh

unset PERIGEE_MODEL LUA_PATH LUA_CPATH LD_LIBRARY_PATH
model=$prefix/share/perigee/models/perigee-voices.q8_0.gguf
tell='local perigee = require "perigee"
    local engine = assert(perigee.open())
    local text = assert(engine:complete("Once upon a time", { max_new = 4, temperature = 0 }))
    assert(#text > 0)
    engine:close()'
version=$(sed -nE 's/^#define PG_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+)$/\2/p' engine/include/perigee.h | paste -sd.)

module() (
    cd / && LUA_PATH="$prefix/share/lua/5.1/?.lua;$prefix/share/lua/5.1/?/init.lua;;" \
        LUA_CPATH="$prefix/lib/lua/5.1/?.so;;" luajit -e "$tell"
)
command_links() (
    mkdir -p "$stage/a/b" && ln -s "$prefix/bin/perigee" "$stage/a/b/far" && ln -s b/far "$stage/a/near" && cd / &&
        "$stage/a/near" info "$model" | grep -i deepseek2
)
status_passes() { ! "$prefix/bin/perigee" info "$stage/absent.gguf"; }
pc_version() { [ "$(pkg-config --modversion perigee)" = "$version" ]; }
shared() { # SOURCE
    # shellcheck disable=SC2046
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror -o "$stage/shared" "$1" $(pkg-config --cflags --libs perigee) &&
        readelf -d "$stage/shared" | grep 'libperigee.so.0' && LD_LIBRARY_PATH=$prefix/lib "$stage/shared" "$model"
}
static() { # SOURCE
    # shellcheck disable=SC2046
    ${CC:-cc} -std=c11 -static -o "$stage/static" "$1" $(pkg-config --cflags --static --libs perigee) &&
        "$stage/static" "$model"
}
readme() {
    sed -n '/^```c$/,/^```$/p' README.md | grep -v '^```' >"$stage/readme.c"
    shared "$stage/readme.c" && [ "$(LD_LIBRARY_PATH=$prefix/lib "$stage/shared" "$model" | wc -c)" -gt 20 ]
}
leaves_nothing() { make uninstall DESTDIR="$stage" PREFIX=/opt/perigee && [ -z "$(find "$prefix" -type f -o -type l)" ]; }

check "make install" make install DESTDIR="$stage" PREFIX=/opt/perigee
# The stage stands for another machine's root: pkg-config is told so (make was not:
# it asks for LuaJIT of this one), everything else must cope with having been moved.
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage
check "the module opens the bundled model" module
check "the command through links" command_links
check "the command passes a failure on" status_passes
check "pkg-config names the version" pc_version
check "a C program, shared" shared examples/hello.c
check "a C program, static" static examples/hello.c
check "the C program of README.md" readme
check "make uninstall leaves nothing" leaves_nothing
close_checks
