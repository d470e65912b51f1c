#!/bin/sh
# `sluice-bench limits` measures every limit, each within its time, and leaves nothing behind. SLUICE_BIN: where it is.
set -eu
dir=$(mktemp -d /var/tmp/sluice-limits-XXXXXX)
trap 'rm -rf "$dir"' EXIT

all_figures() {
    jq -es 'all(.[]; (.per_s // .messages_per_s // .mb_per_s) > 0)' "$dir/said" >/dev/null
}

# A disk that others use may not sync once in a tenth of a second.
for seconds in 0.1 0.5 3; do
    began=$(date +%s)
    "$SLUICE_BIN/sluice-bench" limits --seconds $seconds --dir "$dir" -o json >"$dir/said"
    took=$(($(date +%s) - began))
    all_figures && break
done

fail() {
    echo "limits.sh: $*" >&2
    cat "$dir/said" >&2 || true
    exit 1
}
# 3 syncs, sequential write, memcpy, tcp and its round trip, 3 of nng and one that syncs: 11; the straw-man 6 times
[ "$(jq -s length "$dir/said")" -eq 17 ] || fail "not every limit is there"
all_figures || fail "a limit has no figure"
jq -es 'all(.[] | select(.p50_us != null); .p50_us > 0 and .p99_us >= .p50_us)' "$dir/said" >/dev/null || fail "percentiles"
jq -es '[.[] | select(.limit == "straw-man") | "\(.size) \(.durability)"] | length == (unique | length)' "$dir/said" >/dev/null ||
    fail "the straw-man was measured twice at the same"
[ "$took" -le 100 ] || fail "it took $took s"
[ "$(ls "$dir")" = said ] || fail "left behind: $(ls "$dir")"
