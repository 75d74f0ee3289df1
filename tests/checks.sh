# Sourced by the scripts that count checks. `suite` opens each line; `keep` is how much of a failure's output is shown.
#    check NAME COMMAND...   one check: a line "suite: NAME: fine", or FAILED and what the command printed
#    close_checks            the line "suite: N passed, M failed"; fails when a check did
passed=0 failed=0
keep=${keep:-"tail -n 30"}

check() {
    local name=$1 out
    shift
    out=$(mktemp) || return 1
    if "$@" >"$out" 2>&1; then
        echo "$suite: $name: fine"
        passed=$((passed + 1))
    else
        echo "$suite: $name: FAILED"
        $keep "$out" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
    rm -f "$out"
}

close_checks() {
    echo "$suite: $passed passed, $failed failed"
    [ "$failed" = 0 ]
}
