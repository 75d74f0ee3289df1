#!/usr/bin/env bash
# Every lint, one line each; each counts as one check. Closes with "lint: N passed, M failed".
# Needs a build of the tree (B names its folder) for the check of exported symbols.
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

step() {
    local name=$1
    shift
    if "$@" >"$out" 2>&1; then
        echo "lint: $name: fine"
        passed=$((passed + 1))
    else
        echo "lint: $name: FAILED"
        head -n 60 "$out" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

# Files of ours by pattern, with those not yet added; without those deleted but not yet staged.
files() { git ls-files -z -co --exclude-standard -- "$@" | while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done; }
formatted() { files '*.c' '*.h' | xargs -0 -r clang-format --dry-run -Werror; }
lua_checked() { files '*.lua' | xargs -0 -r luacheck -q --no-color; }
shell_parses() { files '*.sh' .ci/run | xargs -0 -r -n 1 bash -n; }

step format formatted
step luacheck lua_checked
step "shell syntax" shell_parses
step includes bash tests/lint/includes.sh
step length bash tests/lint/length.sh
step words bash tests/lint/words.sh
step symbols bash tests/lint/symbols.sh "${B:-build}"
step "lints refuse what they should" bash tests/lint/selftest.sh
echo "lint: $passed passed, $failed failed"
[ "$failed" = 0 ]
