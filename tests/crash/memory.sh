#!/bin/bash
# A backlog costs disk, not memory: 1,000,000 messages of 1 KB that do not compress, and nobody who consumes. The broker's resident
# memory stays under 512 MB from beginning to end; killed with that backlog it serves again within 5 s, under the same bound, and
# has all of it.
set -u
bin=${SLUICE_BIN:?where the programs are}
dir=$(mktemp -d)
broker= url=tcp://127.0.0.1:0
fail() { printf 'FAILED: %s\n' "$*"; tail -5 "$dir"/*.err; exit 1; }
trap '[ -n "$broker" ] && kill -9 $broker 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT

start_broker() {
    : >"$dir/ready"
    "$bin/sluice-broker" --data "$dir/data" --listen $url --no-publish --no-http >"$dir/ready" 2>>"$dir/broker.err" &
    broker=$!
    local deadline=$((SECONDS + 60))
    until grep -q '"ready":true' "$dir/ready"; do
        kill -0 $broker 2>/dev/null && ((SECONDS < deadline)) || fail "the broker does not start"
        read -rt 0.01 <> <(:) || true
    done
    url=$(sed 's/.*"listen":\["\([^"]*\)".*/\1/' "$dir/ready")
}
peak_mb() { awk '/VmHWM/ { print int($2 / 1000) }' /proc/$broker/status; }
check_peak() { local mb; mb=$(peak_mb); ((mb < 512)) || fail "$1: $mb MB resident"; printf '%s: at most %d MB resident\n' "$1" "$mb"; }

start_broker
export SLUICE_BROKER=$url
"$bin/sluice" topic create t 2>/dev/null || fail "no topic"
head -c 750000000 /dev/urandom | base64 -w 1000 | "$bin/sluice" produce t - >"$dir/produced" 2>"$dir/produce.err" || fail "not produced"
check_peak "1,000,000 messages of 1 KB produced"
kill -9 $broker
wait $broker 2>/dev/null
began=${EPOCHREALTIME/[.,]/}
start_broker
took=$(((${EPOCHREALTIME/[.,]/} - began) / 1000))
((took < 5000)) || fail "$took ms until it serves again"
printf 'killed and serving again after %d ms\n' $took
"$bin/sluice" group create g --topic t --mode queue 2>/dev/null || fail "no group"
lag=$("$bin/sluice" group lag g --topic t -o json | sed 's/.*"lag_messages":\([0-9]*\).*/\1/')
((lag == 1000000)) || fail "$lag messages are there"
check_peak "restarted with the backlog"
