#!/usr/bin/env bash
# Every lint, one line each; each counts as one check. Closes with "lint: N passed, M failed".
# Needs a build of the tree (B names its folder) for the check of exported symbols.
set -u
cd "$(dirname "$0")/../.." || exit 1
suite=lint keep="head -n 60"
. tests/checks.sh

# Files of ours by pattern, with those not yet added; without those deleted but not yet staged.
files() { git ls-files -z -co --exclude-standard -- "$@" | while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done; }
formatted() { files '*.c' '*.h' | xargs -0 -r clang-format --dry-run -Werror; }
lua_checked() { files '*.lua' | xargs -0 -r luacheck -q --no-color; }
shell_parses() { files '*.sh' .ci/run | xargs -0 -r -n 1 bash -n; }

check format formatted
check luacheck lua_checked
check "shell syntax" shell_parses
check includes bash tests/lint/includes.sh
check length bash tests/lint/length.sh
check words bash tests/lint/words.sh
check symbols bash tests/lint/symbols.sh "${B:-build}"
check "lints refuse what they should" bash tests/lint/selftest.sh
close_checks
