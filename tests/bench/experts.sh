#!/usr/bin/env bash
# What looking at the experts costs: instructions a generated token of the default model, counted by callgrind (which
# knows no AVX-512: the share is an upper bound of what AVX2 has). Needs valgrind and a build.
#    eval "$(make -s env)"; bash tests/bench/experts.sh [MODEL]
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
few=16 many=400
cat >"$work/run.lua" <<'END'
local engine = assert(require("perigee").open(arg[3], { threads = 1 }))
local tracer = arg[2] ~= "-" and assert(engine:trace { file = arg[2] })
engine:complete("Once upon a time", { max_new = tonumber(arg[1]), temperature = 0, ignore_eos = true })
if tracer then assert(tracer:close().lost == 0) end
engine:close()
END
count() { # TOKENS TRACE: instructions in all, and within pg_seen_step
    valgrind --tool=callgrind --callgrind-out-file="$work/out" luajit "$work/run.lua" "$1" "$2" ${model:+"$model"} 2>/dev/null
    callgrind_annotate --threshold=100 --inclusive=yes "$work/out" | tr -d , | awk '
        /PROGRAM TOTALS/ { all = $1 }
        /:pg_seen_step/ && !seen { seen = $1 }
        END { print all, seen + 0 }'
}
model=${1:-}
read -r a0 s0 <<<"$(count $few -)"
read -r a1 s1 <<<"$(count $many -)"
read -r b0 _ <<<"$(count $few "$work/trace")"
read -r b1 _ <<<"$(count $many "$work/trace")"
awk -v n=$((many - few)) -v a=$((a1 - a0)) -v s=$((s1 - s0)) -v b=$((b1 - b0)) 'BEGIN {
    printf "a token: %.0f instructions; counters %.0f of them (%.3f %%); a trace adds %.0f (%.3f %%), its writer included\n",
        a / n, s / n, 100 * s / a, (b - a) / n, 100 * (b - a) / a }'
