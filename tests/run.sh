#!/usr/bin/env bash
# Run every test program and every spec, a line each, and close with the true totals: "N passed, N failed".
#
# A program that crashes, runs out of time or does not say how it went counts as one failure, and so does a run in
# which nothing ran. Programs named rows* and golden* run again for each lower instruction set that the machine has
# (with FAST only rows*), hooks on an emulated device (not with FAST). What an emulated device computes, two at a time.
# `make test` calls this; it sets B (the build folder), SAN, FAST, LUAJIT and CC.
set -u
cd "$(dirname "$0")/.." || exit 1
B=${B:-build}
limit=${PERIGEE_TEST_SECONDS:-900}
pool=$(mktemp -d) || exit 1
trap 'rm -rf "$pool"' EXIT
out=$pool/out
passed=0 failed=0 skipped=0

# report NAME STATUS PASSED FAILED [SKIPPED]: add one program's counts; without counts, or with a status that they do
# not explain, something went wrong that the program could not say.
report() {
    local name=$1 status=$2 ok=${3:-} bad=${4:-} skip=${5:-0} why=
    case $status in
    0) ;;
    124 | 137) why=" (out of time or killed)" ;;
    1) [ "${bad:-0}" -gt 0 ] || why=" (exit status 1)" ;;
    *) why=" (exit status $status)" ;;
    esac
    [ -n "$ok" ] || why="${why:- (said no result)}"
    ok=${ok:-0} bad=${bad:-0}
    [ -z "$why" ] || bad=$((bad + 1))
    [ $((ok + bad + skip)) -gt 0 ] || { bad=1 why=" (ran nothing)"; }
    printf '%-28s %s passed, %s failed%s%s\n' "$name" "$ok" "$bad" "$([ "$skip" = 0 ] || echo ", $skip skipped")" "$why"
    [ "$bad" = 0 ] || tail -n 60 "$out" | sed 's/^/    /'
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

# run NAME FILE: run one C program; what it writes goes to FILE, how it ended to FILE.status.
run() {
    timeout -k 10 "$limit" "$B/tests/$1" >"$2" 2>&1 </dev/null
    echo $? >"$2.status"
}

# tell LABEL FILE: what `run` has put there; what the program says did not run is passed on.
tell() {
    local counts
    out=$2
    counts=$(sed -nE 's/^[A-Za-z0-9_.-]+: ([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$out" | tail -n 1)
    grep -h 'did not run' "$out" | sed 's/^/    /'
    # shellcheck disable=SC2086
    report "$1" "$(cat "$out.status")" $counts
}

root=$PWD
case $B in /*) build=$B ;; *) build=$root/$B ;; esac
export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;$root/tests/spec/?.lua;;" LUA_CPATH="$build/lua/?.so;;"
export PATH="$build/bin:$PATH"
preload=()
if [ -n "${SAN:-}" ]; then
    # The interpreter is not instrumented: the sanitizer must come first, and its leak report would be about others.
    preload=(env "LD_PRELOAD=$(${CC:-cc} -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0)
fi

# run_spec NAME FILE, tell_spec NAME FILE: the same of a spec. An emulated device is not watched in them: programs of its
# own have watched what runs there.
run_spec() {
    PERIGEE_EMU_WATCH=0 timeout -k 10 "$limit" "${preload[@]}" busted --lua="${LUAJIT:-luajit}" -o plainTerminal \
        "tests/spec/$1.lua" >"$2" 2>&1 </dev/null
    echo $? >"$2.status"
}
tell_spec() {
    local counts status ok bad errors pending
    out=$2 status=$(cat "$2.status")
    counts=$(sed -nE 's,^([0-9]+) success(es)? / ([0-9]+) failures? / ([0-9]+) errors? / ([0-9]+) pending.*,\1 \3 \4 \5,p' \
        "$out" | tail -n 1)
    if [ -n "$counts" ]; then
        read -r ok bad errors pending <<<"$counts"
        [ "$status" -le $((bad + errors)) ] && status=$((status > 0))
        report "$1" "$status" "$ok" $((bad + errors)) "$pending"
    else
        report "$1" "$status"
    fi
}

program() { # NAME LABEL
    run "$1" "$pool/out"
    tell "$2" "$pool/out"
}

has() { grep -qw "$1" /proc/cpuinfo 2>/dev/null; }
lower=ref # every level below the machine's best: the best itself is what a plain run takes
if has avx512_vnni; then lower="ref avx2"; fi
if has amx_int8; then lower="ref avx2 avx512"; fi

emulated=(device_spec) # what takes one core for long: device code, compiled for the CPU
for source in tests/c/*.c; do
    [ -e "$source" ] || continue
    name=$(basename "$source" .c)
    case $name in
    device_*)
        emulated+=("$name")
        continue
        ;;
    esac
    program "$name" "$name"
    case $name in
    golden*) [ -n "${FAST:-}" ] || for isa in $lower; do PERIGEE_ISA=$isa program "$name" "$name ($isa)"; done ;;
    rows*) for isa in $lower; do PERIGEE_ISA=$isa program "$name" "$name ($isa)"; done ;;
    hooks) # policies meet the rows of a device too
        [ -n "${FAST:-}" ] || [ ! -e "$B/emu/perigee_cuda.so" ] || emulated+=("hooks (emulated device)")
        ;;
    esac
done
for source in tests/cuda/*.cc; do # built where there is a C++ compiler
    name=cuda/$(basename "$source" .cc)
    if [ -x "$B/tests/$name" ]; then emulated+=("$name"); else echo "    $name did not run: it is not built here"; fi
done
for i in "${!emulated[@]}"; do # two at a time
    name=${emulated[$i]}
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    case $name in # whole models take long enough unwatched (tests/cuda/emu/watch.cc), but for the one that FAST takes
    *_spec) run_spec "$name" "$pool/$i" & ;;
    device_*) PERIGEE_EMU_WATCH=${FAST:-0} run "$name" "$pool/$i" & ;;
    hooks*) PERIGEE_EMU_WATCH=0 GOLDEN_DEVICE=cuda PERIGEE_CUDA=$B/emu/perigee_cuda.so run hooks "$pool/$i" & ;;
    *) run "$name" "$pool/$i" & ;;
    esac
done
wait
for i in "${!emulated[@]}"; do
    case ${emulated[$i]} in
    *_spec) tell_spec "${emulated[$i]}" "$pool/$i" ;;
    *) tell "${emulated[$i]}" "$pool/$i" ;;
    esac
done
for spec in tests/spec/*_spec.lua; do
    name=$(basename "$spec" .lua)
    [ "$name" = device_spec ] && continue
    run_spec "$name" "$pool/out"
    tell_spec "$name" "$pool/out"
done

[ $((passed + failed)) -gt 0 ] || { echo "no test ran"; failed=1; }
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
