#!/usr/bin/env bash
# Counts instructions of the inner pieces of a push under valgrind: each piece runs twice, once longer than the other, and
# the difference is what the piece itself costs. The kernel's instructions are not in it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo=${CARGO:-cargo}
"$root/scripts/packages.sh" counts

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The program of a bench.
program() {
    "$cargo" bench --manifest-path "$root/Cargo.toml" -p "$1" --bench "$2" --no-run 2>&1 |
        tee "$folder/log" | sed -n 's/.*Executable .*(\(.*\))$/\1/p'
    grep -q Executable "$folder/log" || { cat "$folder/log" >&2; exit 1; }
}

# Instructions of one run, of the functions whose names match $1 (all: *).
instructions() {
    local only=()
    [ "$1" = '*' ] || only=(--collect-atstart=no --toggle-collect="$1")
    shift
    valgrind --tool=callgrind --callgrind-out-file="$folder/out" "${only[@]}" "$@" >"$folder/printed" 2>"$folder/log" ||
        { cat "$folder/log" >&2; exit 1; }
    sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' "$folder/log"
}

# name, functions, what one repetition counts as, fewer and more repetitions, then the command; TIMES stands for them.
piece() {
    local name=$1 functions=$2 each=$3 few=$4 many=$5 less more
    shift 5
    less=$(instructions "$functions" "${@/#TIMES/$few}")
    more=$(instructions "$functions" "${@/#TIMES/$many}")
    awk -v name="$name" -v by=$((more - less)) -v times=$(((many - few) * each)) \
        'BEGIN { printf "%-62s %10.0f\n", name, by / times }'
}

pieces=$(program push-manager pieces)
frame=$(program connect-node frame)
walk=$(program connect-node walk)
cd "$root"

printf '%-62s %10s\n' "piece" "instructions"
piece "route of a user, among 10,000" '*' 1 10000 30000 "$pieces" user-route TIMES
piece "route of a room, among 10,000" '*' 1 10000 30000 "$pieces" room-route TIMES
piece "message of 128 B put into a lane's queue" '*' 1 2048 10240 "$pieces" queue TIMES
piece "the same, sent in batches of 64, encoded and acknowledged" '*' 1 2048 10240 "$pieces" batch TIMES
piece "push frame of 128 B for the clients" '*' 1 1000 5000 "$frame" TIMES 128
piece "push frame of 1 KiB for the clients" '*' 1 1000 5000 "$frame" TIMES 1024
piece "room of 1,000: the walk, a delivery" '*walk_slice*' 1000 10 30 "$walk" 1000 TIMES
piece "room of 1,000: all of the shard, a delivery" '*' 1000 10 30 "$walk" 1000 TIMES
