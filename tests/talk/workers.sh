#!/usr/bin/env bash
# Two worker daemons at one broker: who is listed, what reaches them, and what becomes of that when they or the broker are killed.
#
#     SLUICE_BIN=build/bin tests/talk/workers.sh DIRECTORY_OF_THE_TEST_HANDLERS
set -uo pipefail

. "$(dirname "$0")/command.sh"
HANDLERS=$(cd "$1" && pwd) # in a configuration a path is relative to that
declare -A DAEMON=() # pids of those that were not waited for

# What the daemons said is shown when something is not as it must be.
end() {
    [ "$1" = 0 ] || tail -n 5 "$WORK"/*.log >&2
    kill -9 $BROKER_PID $STUCK_PID ${DAEMON[*]} 2>/dev/null
    rm -rf "$WORK"
}
trap 'end $?' EXIT

# daemon_config NAME FILE [KEY: VALUE]: the handlers a (group a) and b (group b) of the topic t; the key is for both.
daemon_config() {
    cat >"$WORK/$1.yaml" <<END
broker: $SLUICE_BROKER
name: $1
handlers:
  - {name: a, file: $HANDLERS/$2.so, topic: t, processes: 2${3:+, $3}}
  - {name: b, file: $HANDLERS/$2.so, topic: t${3:+, $3}}
END
}

# daemon NAME: with obedient handlers.
daemon() {
    daemon_config "$1" obedient
    run_daemon "$1"
}

run_daemon() {
    sluice-workerd -c "$WORK/$1.yaml" >"$WORK/$1.out" 2>>"$WORK/$1.log" &
    DAEMON[$1]=$!
}

# states: "NAME/HANDLER STATE" of each row, sorted.
states() {
    sluice worker ls -o json "$@" | sed 's/.*"daemon":"\([^"]*\)".*"handler":"\([^"]*\)".*"state":"\([^"]*\)".*/\1\/\2 \3/' | sort
}

# states_are LINE..
states_are() {
    [ "$(states)" = "$(printf '%s\n' "$@")" ]
}

# field NAME HANDLER KEY: a number or a word of the row.
field() {
    sluice worker ls --on "$1" --handler "$2" -o json | sed "s/.*\"$3\":\"\{0,1\}\([^,\"}]*\).*/\1/"
}

field_is() {
    [ "$(field "$1" "$2" "$3")" = "$4" ]
}

waiting_is() {
    [ "$(sluice group lag "$1" --topic "${3:-t}" -o json | sed 's/.*"lag_messages":\([0-9]*\).*/\1/')" = "$2" ]
}

messages() {
    seq "$1" | sed 's/.*/ack/' | sluice produce t >/dev/null
}

all_run=("one/a running" "one/b running" "two/a running" "two/b running")

set -e
tell_if_stuck 500
BROKER_ARGS="--set limits.worker_ttl_ms=4s --set limits.worker_gone_ms=3s"
start_broker
sluice topic create t 2>/dev/null
sluice group create a --topic t --mode queue 2>/dev/null
sluice group create b --topic t --mode queue 2>/dev/null
sluice worker ls 2>"$WORK/err" | expect 'what nobody runs' ''
said 'no worker daemon'
status 3 sluice worker pause a
said "no such worker: handler 'a'"

daemon one
daemon two
eventually states_are "${all_run[@]}"
eventually field_is one a processes 2
eventually field_is two b processes 1
[ "$(sluice worker ls | awk 'NR == 1 { print $1, $2, $3, $4, $NF }')" = "HOST NAME HANDLER TOPIC/GROUP STATE" ]
sluice worker ls --handler a | grep -q "one *a *t/a .* 2/2 .* running\$"
messages 20
eventually waiting_is a 0
eventually waiting_is b 0
eventually field_is one a busy 0
echo "ok   each daemon is listed with what it runs"

sluice worker pause a 2>"$WORK/err"
said "paused handler 'a' on 'one'"
said "paused handler 'a' on 'two'"
states_are "one/a paused" "one/b running" "two/a paused" "two/b running"
messages 100
eventually waiting_is b 0 # so both daemons have been at work since
waiting_is a 100
sluice worker resume t/a --on 'tw*' -o json | grep -q '"daemon":"two".*"handler":"a".*"asked":"resume","done":true,"error":null'
states_are "one/a paused" "one/b running" "two/a running" "two/b running"
eventually waiting_is a 0
sluice worker resume a 2>/dev/null
states_are "${all_run[@]}"
echo "ok   a handler that is paused takes nothing more, on every daemon, until it is resumed"

sluice worker scale a --min 4 --max 6 2>"$WORK/err"
said "scaled handler 'a' on 'one' (" && said "to 4-6 processes"
eventually field_is one a processes 4
eventually field_is two a processes 4
status 1 sluice worker scale a --max 3 --on two
said "at least 4 here; give --min too"
sluice worker scale a --min 1 --max 2 2>/dev/null
eventually field_is one a processes 2
eventually field_is two a processes 2
messages 20
eventually waiting_is a 0
echo "ok   processes follow when people say how many"

daemon_config one newer 'canary: 10'
kill -HUP "${DAEMON[one]}"
eventually field_is one b version '1.2.3 (10% 2.0.0)'
sluice worker pause b --on one 2>/dev/null
daemon_config one newer 'no_such_key: 1'
kill -HUP "${DAEMON[one]}"
eventually grep -q "reload refused.*no_such_key" "$WORK/one.log"
daemon_config one newer
kill -HUP "${DAEMON[one]}"
eventually field_is one a version 2.0.0
eventually field_is one b version 2.0.0
field_is two a version 1.2.3
states_are "one/a running" "one/b paused" "two/a running" "two/b running"
field_is one a min 1 # as people scaled it
sluice worker resume b 2>/dev/null
messages 20
eventually waiting_is b 0
echo "ok   a new version takes over, and what people said holds"

# At its first try a process cannot start, and says why; until then nothing of it runs.
daemon_config three obedient "breaker: off, config: {fail_unless: $WORK/good/file}"
run_daemon three
eventually field_is three a state starting
eventually field_is three a last_error "$WORK/good/file was missing"
mkdir "$WORK/good"
eventually field_is three a state running
kill -TERM "${DAEMON[three]}"
wait "${DAEMON[three]}"
daemon_config three other-abi
run_daemon three
status 1 wait "${DAEMON[three]}"
unset 'DAEMON[three]'
states | grep -q three && exit 1
echo "ok   what cannot start is not said to run"

status 2 sluice worker scale a
status 2 sluice worker scale a --min 3 --max 2
status 2 sluice worker pause 'a b'
status 3 sluice worker pause a --on nobody
said "handler 'a' on 'nobody'"
echo "ok   what makes no sense or reaches nobody is refused"

disown "${DAEMON[one]}" # bash would say that it was killed
kill -9 "${DAEMON[one]}"
unset 'DAEMON[one]'
eventually field_is one a state gone
states | grep -q 'two/a running'
sluice worker ls --on one | grep -q 'gone for'
status 3 sluice worker pause a --on one
said '1 daemon had it'
eventually states_are "two/a running" "two/b running"
echo "ok   a daemon that is killed is gone, and then forgotten"

daemon one
eventually states_are "${all_run[@]}"
kill -9 "$BROKER_PID"
eventually gone "$BROKER_PID"
start_broker
eventually states_are "${all_run[@]}"
echo "ok   a broker that is started again knows every daemon again"

kill -STOP "${DAEMON[two]}" # it is there, and says nothing
status 5 sluice worker pause b --timeout 1500ms # the other hears of it within a second
said "paused handler 'b' on 'one'"
said "could not pause handler 'b' on 'two'"
kill -CONT "${DAEMON[two]}"
eventually field_is two b state paused # it was asked, and comes to it
echo "ok   who did not take it in time is named, and takes it later"

kill -TERM "${DAEMON[two]}"
wait "${DAEMON[two]}"
unset 'DAEMON[two]'
states_are "one/a running" "one/b paused"
kill -TERM "${DAEMON[one]}"
wait "${DAEMON[one]}"
unset 'DAEMON[one]'
[ -z "$(states)" ]
echo "ok   a daemon that ends is not listed any more"

# What the handler s publishes is one commit with its acknowledgement, so there is nothing to excuse a message that is missing, there twice, or
# before another of its key.
sluice topic create s 2>/dev/null
sluice topic create out 2>/dev/null
sluice group create s --topic s --mode queue 2>/dev/null
share() {
    cat >"$WORK/$1.yaml" <<END
broker: $SLUICE_BROKER
name: $1
handlers:
  - {name: s, file: $HANDLERS/obedient.so, topic: s, processes: 2, lease: 1s}
END
    run_daemon "$1"
}
came() {
    sluice consume out --from start --exit-at-end --format '%k %v\n'
}
came_at_least() {
    [ "$(came | wc -l)" -ge "$1" ]
}
share four
share five
eventually states_are "five/s running" "four/s running"
for i in {1..25}; do printf '%s\tpublish out nap 60 '"$i"'\n' a b c d e f g h; done | sluice produce s -K '\t' >/dev/null
eventually came_at_least 20
disown "${DAEMON[four]}"
kill -9 "${DAEMON[four]}"
unset 'DAEMON[four]'
came_at_least 190 && fail 'it was killed too late to lose anything'
eventually waiting_is s 0 s
see_outputs
for key in a b c d e f g h; do
    came | grep "^$key " | expect "what became of key $key" "$(seq -f "$key nap 60 %g" 25)"
done
[ "$(field five s done)" -gt 0 ]
eventually states_are "five/s running"
kill -TERM "${DAEMON[five]}"
wait "${DAEMON[five]}"
unset 'DAEMON[five]'
echo "ok   two daemons share a group, and one goes on without the other"
