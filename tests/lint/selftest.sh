#!/usr/bin/env bash
# A lint that never refuses is none: plant each fault in a small tree and see that it is named, and that the tree
# without it passes. The faults are put together from pieces, so that the lints do not find them here.
set -u
lint=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d) || exit 1
trap 'rm -rf "$tree"' EXIT
status=0

plant() { # clean tree
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/kernels/norm "$tree"/engine/include "$tree"/engine/plan "$tree"/ext "$tree"/lua/perigee "$tree"/examples
    echo '#include <stdint.h>' >"$tree/kernels/tensor.h"
    echo '#include "../tensor.h"' >"$tree/kernels/norm/norm.h"
    echo '#include <stdint.h>' >"$tree/engine/include/perigee.h"
    printf '#include "../../kernels/tensor.h"\n#include "perigee.h"\n' >"$tree/engine/plan/plan.c"
    printf '#include "perigee.h"\n#include "cdef.inc"\n#include <lua.h>\n' >"$tree/ext/core.c"
    echo 'local ffi, perigee = require "ffi", require("perigee.ffi")' >"$tree/lua/perigee/init.lua"
    echo 'local perigee = require "perigee"' >"$tree/examples/hello.lua"
}
refuses() { # LINT FILE LINE: the lint must fail with LINE added to FILE
    plant
    bash "$lint/$1.sh" "$tree" >/dev/null || { echo "$1 refuses a clean tree"; status=1; }
    printf '%s\n' "$3" >>"$tree/$2"
    bash "$lint/$1.sh" "$tree" >/dev/null && { echo "$1 accepts in $2: $3"; status=1; }
}
refuses includes kernels/norm/norm.h '#include "../../engine/plan/plan.h"'
refuses includes kernels/norm/norm.h '#include "perigee.h"'
refuses includes kernels/tensor.h '#include <perigee.h>'
refuses includes engine/plan/plan.c '#include "../../kernels/norm/norm.h"'
refuses includes engine/plan/plan.c '#include <lua.h>'
refuses includes ext/core.c '#include "../engine/plan/plan.h"'
refuses includes examples/hello.c '#include "../engine/plan/plan.h"'
refuses includes lua/perigee/init.lua 'local x = require("socket")'
refuses includes lua/perigee/init.lua "local a, b = require 'ffi', require 'examples.hello'"
refuses includes examples/hello.lua 'local core = require "perigee.core"'
refuses length engine/plan/plan.c "$(yes '/* */' | head -n 501)"
refuses words engine/plan/plan.c "/* TO""DO: later */"
refuses words engine/plan/plan.c "/* not imple""mented */"
refuses words engine/plan/plan.c "const char *p = \"/ho""me/someone/model.gguf\";"
exit $status
