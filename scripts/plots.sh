#!/bin/sh
# Draws the plots of docs/performance.md, docs/plots/*.svg, from runs of its own: some fifteen minutes. Nothing else should run meanwhile.
set -eu
cd "$(dirname "$0")/.."

bench=build/bin/sluice-bench
out=docs/plots
points=$(mktemp -d)
trap 'rm -rf "$points"' EXIT
mkdir -p "$out"

# The rate of a run, as a point beside X: median of three.
rate() { # FILE X COMMAND [options]
    file=$1 x=$2
    shift 2
    for _ in 1 2 3; do "$bench" "$@" -o json | jq -r 'select(.messages_per_s != null) | .messages_per_s'; done |
        sort -n | sed -n 2p | sed "s/^/$x /" >>"$points/$file"
}

for durability in os disk; do
    for rate in 5000 20000 50000; do
        "$bench" latency --durability "$durability" --rate "$rate" --seconds 3 --hist "$points/$durability-$rate-per-s" -o json >/dev/null
    done
done
"$bench" plot --title "From producer to reader, 100 B, by offered rate: latency by percentile" \
    --hist "$points/os-5000-per-s,$points/os-20000-per-s,$points/os-50000-per-s,$points/disk-5000-per-s,$points/disk-20000-per-s,$points/disk-50000-per-s" >"$out/latency.svg"

for n in 1 10 100 1000 10000; do
    rate os "$n" produce --durability os --partitions "$n" --seconds 2 --warmup 0.5
    rate disk "$n" produce --durability disk --partitions "$n" --seconds 2 --warmup 0.5
done
"$bench" plot --title "Produce, 100 B: messages per second by partitions" --points "$points/os,$points/disk" >"$out/partitions.svg"

for n in 1 2 4 8 16 32; do
    rate os-consumers "$n" queue --durability os --connections "$n" --seconds 2 --warmup 0.5
    rate disk-consumers "$n" queue --durability disk --connections "$n" --seconds 2 --warmup 0.5
done
"$bench" plot --title "Lease and acknowledge, 100 B, one partition: messages per second by consumers" \
    --points "$points/os-consumers,$points/disk-consumers" >"$out/consumers.svg"

for n in 100000 300000 1000000 3000000 10000000; do
    rate backlog "$n" queue --durability os --messages "$n" --warmup 0
done
"$bench" plot --title "Lease and acknowledge, 100 B, os: messages per second by messages that wait" --points "$points/backlog" >"$out/backlog.svg"
