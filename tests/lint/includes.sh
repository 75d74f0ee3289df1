#!/usr/bin/env bash
# The arrows of the house point one way: kernels <- engine <- ext <- lua <- examples. This reads every #include and
# require and refuses one that points up or sideways out of its room. Tests may reach everywhere and are not read.
# Argument: the tree to read (default: this one).
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1

# C: a quoted name is looked up beside the file and below engine/include, as the compiler does; the path that results
# must be in a room that the file may see. System headers: the language bindings' and our own belong to certain rooms.
c_arrows() {
    find kernels engine ext examples -name '*.[ch]' -o -name '*.def' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | LC_ALL=C sort |
        xargs -r grep -HnE '^[[:space:]]*#[[:space:]]*include' | awk '
    function fold(path,    part, n, i, top, keep) { # "a/b/../c" -> "a/c"
        n = split(path, part, "/"); top = 0
        for (i = 1; i <= n; i++) {
            if (part[i] == "..") { if (top > 0) top--; else return "outside" }
            else if (part[i] != "." && part[i] != "") keep[++top] = part[i]
        }
        path = keep[1]
        for (i = 2; i <= top; i++) path = path "/" keep[i]
        return path
    }
    function exists(path,    line, rc) { rc = (getline line < path); close(path); return rc >= 0 }
    function refuse(why) { printf "%s:%s: includes %s: %s\n", file, line, name, why; bad = 1 }
    {
        split($0, at, ":"); file = at[1]; line = at[2]
        room = file; sub(/\/.*/, "", room)
        text = $0; sub(/^[^#]*#[ \t]*include[ \t]*/, "", text)
        system_header = (text ~ /^</)
        name = text
        if (!sub(/^["<]/, "", name)) { next }
        sub(/[">].*/, "", name)
        if (system_header && name != "perigee.h") {
            if (name ~ /^(lua|lauxlib|lualib|luajit)[.]h/) { if (room != "ext") refuse("only ext/ meets Lua") }
            else if (room == "kernels" && name ~ /^(jansson|pcre2|utf8proc|json)/) refuse("kernels need libc and intrinsics only")
            next
        }
        here = file; sub(/[^\/]*$/, "", here)
        path = fold(here name)
        if (!exists(path) && exists("engine/include/" name)) path = "engine/include/" name
        if (room == "ext" && name == "cdef.inc") next
        if (room == "kernels") { if (path !~ /^kernels\//) refuse("kernels include kernels only") }
        else if (room == "engine") {
            if (path !~ /^engine\// && path !~ /^kernels\/(dtype|tensor|op|backend|lanes|unpack\/panel|quant\/quant)[.]h$/ && path !~ /^kernels\/(op[.]def|policy\/program[.](h|def))$/)
                refuse("the engine sees kernels/{dtype,tensor,op,backend,lanes}.h, unpack/panel.h, quant/quant.h and policy/program.h only")
        } else if (room == "ext") { if (path !~ /^ext\// && path != "engine/include/perigee.h") refuse("ext sees perigee.h and Lua only") }
        else if (path != "engine/include/perigee.h") refuse("examples use the public header only")
    }
    END { exit bad }'
}

# Lua: modules by name. What is public to examples is perigee and perigee.*, less the two that only lua/ itself uses.
lua_arrows() {
    find lua examples -name '*.lua' 2>/dev/null | LC_ALL=C sort |
        xargs -r grep -HnoE "require[[:space:]]*[(]?[[:space:]]*(\"[^\"]*\"|'[^']*')" | awk '
    {
        split($0, at, ":"); file = at[1]
        name = $0; sub(/^.*require[^"\047]*["\047]/, "", name); sub(/["\047]$/, "", name)
        ours = (name == "perigee" || name ~ /^perigee[.]/)
        if (file ~ /^lua\//) fine = ours || name ~ /^(ffi|bit|jit|jit[.].*|table[.](new|clear)|string[.]buffer|cjson|cjson[.]safe|lpeg)$/
        else fine = (ours && name !~ /^perigee[.](ffi|core)$/) || name ~ /^(ffi|bit|jit|luv|cjson|resty[.].*|ngx[.].*)$/
        if (!fine) { printf "%s:%s: requires %s: not for this room\n", file, at[2], name; bad = 1 }
    }
    END { exit bad }'
}

status=0
c_arrows || status=1
lua_arrows || status=1
exit $status
