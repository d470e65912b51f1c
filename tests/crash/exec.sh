#!/bin/bash
# Eight `consume --exec` at once on four partitions, 2,000 messages over 20 keys; consumers are killed at random and once the broker.
# Each key's messages are seen in order (again is allowed), none is missing, none is parked.
#
# Each command appends "KEY VALUE" to one file with one write; so the file is the order in which things happened.
set -u
bin=${SLUICE_BIN:?where the programs are}
seed=${SLUICE_CRASH_SEED:-$RANDOM}
RANDOM=$seed
dir=$(mktemp -d)
export SEEN=$dir/seen SLUICE_BROKER=
consumers=() broker=
say() { printf '%s\n' "$*"; }
fail() { say "FAILED (SLUICE_CRASH_SEED=$seed): $*"; tail -5 "$dir"/*.err; exit 1; }
cleanup() {
    for pid in "${consumers[@]}" $broker; do kill -9 "$pid" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT

# The first start takes free ports, later ones the same.
start_broker() {
    : >"$dir/ready"
    "$bin/sluice-broker" --data "$dir/data" --listen "${SLUICE_BROKER:-tcp://127.0.0.1:0}" --no-publish --no-http \
        >"$dir/ready" 2>>"$dir/broker.err" &
    broker=$!
    local deadline=$((SECONDS + 30))
    until grep -q '"ready":true' "$dir/ready"; do
        kill -0 "$broker" 2>/dev/null && ((SECONDS < deadline)) || fail "the broker does not start"
        read -rt 0.02 <> <(:) || true
    done
    SLUICE_BROKER=$(sed 's/.*"listen":\["\([^"]*\)".*/\1/' "$dir/ready")
}

start_consumer() {
    "$bin/sluice" consume t -g g --exec 'printf "%s %s\n" "$SLUICE_KEY" "$(cat)" >>"$SEEN"' 2>>"$dir/consumer.err" &
    consumers[$1]=$!
}

lag() { "$bin/sluice" group lag g --topic t -o json | sed "s/.*\"$1\":\([0-9]*\).*/\1/"; }

start_broker
"$bin/sluice" topic create t --partitions 4 2>/dev/null || fail "no topic"
"$bin/sluice" group create g --topic t --mode queue --lease 2s 2>/dev/null || fail "no group"
: >"$SEEN"
for ((i = 0; i < 2000; i++)); do printf 'key%d\t%d\n' $((i % 20)) "$i"; done | "$bin/sluice" produce t -K $'\t' - >/dev/null ||
    fail "not produced"
for ((i = 0; i < 8; i++)); do start_consumer $i; done

kills=0 broker_killed=no deadline=$((SECONDS + 150))
while :; do
    ((SECONDS < deadline)) || fail "not done after 150 s: $(lag lag_messages) left"
    seen=$(sort -u "$SEEN" | wc -l)
    ((seen >= 2000)) && [ "$(lag lag_messages)" = 0 ] && break
    read -rt 0.$((RANDOM % 4 + 1)) <> <(:) || true # a moment between kills; nothing is assumed to have happened in it
    if [ $broker_killed = no ] && ((seen > 700)); then
        kill -9 "$broker"
        wait "$broker" 2>/dev/null
        broker_killed=yes
        start_broker
    elif ((kills < 12 && seen < 1900)); then
        victim=$((RANDOM % 8))
        kill -9 "${consumers[$victim]}" 2>/dev/null
        wait "${consumers[$victim]}" 2>/dev/null
        kills=$((kills + 1))
        start_consumer $victim
    fi
done

# The first time each message was seen: its number must rise within its key.
awk '!seen[$2]++ { if ($1 in last && $2 + 0 < last[$1]) { print $1 ": " $2 " after " last[$1]; bad = 1 } last[$1] = $2 + 0 }
     END { exit bad }' "$SEEN" || fail "a key's messages were seen out of order"
parked=$("$bin/sluice" dlq ls t -g g -o json | wc -l)
[ "$parked" = 0 ] || fail "$parked parked"
[ $broker_killed = yes ] || fail "the broker was never killed"
((kills > 0)) || fail "no consumer was killed"
total=$(wc -l <"$SEEN")
say "2000 messages over 20 keys, $kills consumers and the broker killed: $((total - 2000)) seen again, 0 out of order, 0 missing, 0 parked"
