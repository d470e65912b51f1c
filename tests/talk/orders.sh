#!/usr/bin/env bash
# The order system of sdk/examples/orders, run as its README says, with its programs and the broker killed in the middle.
#
#     SLUICE_BIN=build/bin tests/talk/orders.sh DIRECTORY_OF_THE_EXAMPLES
set -uo pipefail

. "$(dirname "$0")/command.sh"
EXAMPLES=$1
SERVICES=()
trap 'kill -9 $BROKER_PID "${SERVICES[@]}" 2>/dev/null; rm -rf "$WORK"' EXIT

# service PROGRAM ARGUMENT..: runs it until it is stopped.
service() {
    "$EXAMPLES/orders-$1" "${@:2}" 2>>"$WORK/$1.log" &
    SERVICES+=($!)
}

# end PID..: and each of them ends well.
end() {
    kill -TERM "$@"
    local pid
    for pid; do wait "$pid"; done
}

# lag GROUP FIELD
lag() {
    sluice group lag "$1" --topic orders -o json | sed "s/.*\"$2\":\([0-9]*\).*/\1/"
}

lag_is() {
    [ "$(lag "$1" "$2" 2>/dev/null)" = "$3" ]
}

# lines TOPIC: KEY VALUE of each of its messages.
lines() {
    sluice consume "$1" --from start --exit-at-end -o json | sed 's/.*"key":"\([^"]*\)","value":"\([^"]*\)".*/\1 \2/'
}

has_at_least() {
    [ "$(lines "$1" 2>/dev/null | wc -l)" -ge "$2" ]
}

set -e
start_broker
sluice topic create orders --partitions 4
sluice topic create stock
sluice topic create ledger
sluice group create inventory --topic orders --mode queue
sluice group create email --topic orders --mode queue
sluice group create payment --topic orders --mode queue --park key --max-deliveries 2 --backoff-min 10ms
mkdir "$WORK/mails"

for copy in 1 2; do
    service inventory
    service email "$WORK/mails"
done
service payment --old
service payment --old

# One who places them is killed, and begins again; then a payment, an email and the broker.
"$EXAMPLES/orders-place" 1 200 2>"$WORK/place.log" &
place=$!
eventually has_at_least ledger 1
kill -9 $place 2>/dev/null || echo "place had ended"
"$EXAMPLES/orders-place" 1 200
kill -9 "${SERVICES[5]}" "${SERVICES[3]}"
kill -9 "$BROKER_PID"
eventually gone "$BROKER_PID"
start_broker
service email "$WORK/mails"
service payment --old

eventually lag_is inventory lag_messages 0
eventually lag_is email lag_messages 0
eventually lag_is payment parked 10
eventually lag_is payment scale_value 10 # what is behind them
see_outputs

echo "what could not be read stops its own order only"
lines ledger | sort >"$WORK/ledger"
[ "$(wc -l <"$WORK/ledger")" = 190 ] || fail "$(wc -l <"$WORK/ledger") orders were charged instead of 190"
[ -z "$(cut -d' ' -f1 "$WORK/ledger" | uniq -d)" ] || fail "charged twice: $(cut -d' ' -f1 "$WORK/ledger" | uniq -d)"
not grep -q '^order-[0-9]*[02468]0 ' "$WORK/ledger"
sluice explain orders -g payment -k order-20 | grep -q parked
sluice dlq ls orders -g payment -o json | grep -q "'106' is no quantity"

echo "after the fix they go on where they stood, in order"
end "${SERVICES[4]}" "${SERVICES[7]}"
service payment
sluice dlq redrive orders -g payment 2>/dev/null
eventually lag_is payment lag_messages 0
see_outputs
lines ledger | sort >"$WORK/ledger"
[ "$(wc -l <"$WORK/ledger")" = 200 ] || fail "$(wc -l <"$WORK/ledger") orders were charged instead of 200"
[ -z "$(cut -d' ' -f1 "$WORK/ledger" | uniq -d)" ] || fail "charged twice: $(cut -d' ' -f1 "$WORK/ledger" | uniq -d)"
grep -qx 'order-1 202' "$WORK/ledger"
grep -qx 'order-20 12720' "$WORK/ledger" # 106 of them: the change came before the confirmation
grep -qx 'order-140 24000' "$WORK/ledger"
awk '{sum += $2} END {print sum}' "$WORK/ledger" | expect "the sum of all charges" 335580

echo "the stock moved by what was ordered"
lines stock | awk '{sum[$1] += $2} END {for (order in sum) print order, sum[order]}' | sort >"$WORK/stock"
[ "$(wc -l <"$WORK/stock")" = 200 ] || fail "$(wc -l <"$WORK/stock") orders moved something"
grep -qx 'order-1 -2' "$WORK/stock"
grep -qx 'order-20 -106' "$WORK/stock"
awk '{sum += $2} END {print sum}' "$WORK/stock" | expect "all that was taken" -1626

echo "each event was mailed once"
find "$WORK/mails" -name '*.mail' | wc -l | expect mails 600
grep -L 'Your order was ' "$WORK"/mails/*.mail | expect "mails that are not whole" ''
