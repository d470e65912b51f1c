#!/usr/bin/env bash
# The command as its users run it, against a real broker. Each test is a function whose name is a guarantee; it runs in a shell of
# its own with a topic of its own, $t, and fails with the first command that does.
#
#     SLUICE_BIN=build/bin tests/talk/cli.sh [part of a name]..
set -uo pipefail

. "$(dirname "$0")/command.sh"

# ---- what tests use ----

topic() {
    sluice topic create "$t" "$@" 2>/dev/null
}

group() {
    sluice group create "$1" --topic "$t" --mode queue "${@:2}" 2>/dev/null
}

stream() {
    sluice group create "$1" --topic "$t" --mode stream "${@:2}" 2>/dev/null
}

# One message of 5 KB that does not compress.
fill() {
    head -c 4000 /dev/urandom | base64 -w 0 | sluice produce "$t" >/dev/null
}

# fact GROUP WHAT..: what explain names.
fact() {
    sluice explain "$t" -g "$1" -o json "${@:2}" | sed 's/.*"fact":"\([a-z_]*\)".*/\1/'
}

is_fact() {
    [ "$(fact "${@:2}")" = "$1" ]
}

has_lines() {
    [ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]
}

# park N: v1 to vN, each under its own key and with a header n, all of them dead letters of g.
park() {
    local i
    topic
    group g --max-deliveries 1
    for i in $(seq "$1"); do
        echo "v$i" | sluice produce "$t" -k "k$i" -H "n=$i" >/dev/null
    done
    sluice consume "$t" -g g --exit-at-end --exec 'echo broken >&2; exit 1' 2>/dev/null
}

# begins_behind OFFSET: so does the log.
begins_behind() {
    [ "$(sluice topic show "$t" -o json | sed 's/.*"log":\[{"partition":0,"start":\([0-9]*\).*/\1/')" -ge "$1" ]
}

# Everything of both partitions went.
ends_at_its_start() {
    sluice topic show "$t" -o json | grep -q '"partition":0,"start":\([1-9][0-9]*\),"end":\1,.*"partition":1,"start":\([1-9][0-9]*\),"end":\2,'
}

# A broker that was given no directory for backups; prints where it listens.
without_backup_dir() {
    : >"$WORK/without.ready"
    sluice-broker --data "$WORK/without" --listen "ipc://$WORK/without.sock" --no-publish --no-http >"$WORK/without.ready" 2>>"$WORK/broker.log" &
    echo $! >"$WORK/without.pid"
    until grep -q ready "$WORK/without.ready"; do sleep 0.02; done
    echo "ipc://$WORK/without.sock"
}

# ---- produce, consume ----

what_is_produced_is_consumed_in_order() {
    topic
    printf 'a\nb\nc\n' | sluice produce "$t" - | expect produce "$t/0: 3 messages from offset 0 (disk)"
    printf 'd' | sluice produce "$t" -o json |
        expect produce "{\"topic\":\"$t\",\"partition\":0,\"base_offset\":3,\"count\":1,\"durability\":\"disk\"}"
    sluice consume "$t" --from start --exit-at-end | expect consume $'a\nb\nc\nd'
}

a_message_is_one_json_object_with_these_keys() {
    topic
    echo 'k=v' | sluice produce "$t" -K = -H a=1 -H b=x -H a=2 >/dev/null
    sluice consume "$t" --from start --exit-at-end -o json | sed 's/"timestamp_ms":[0-9]*/"timestamp_ms":T/' | expect json \
        "{\"topic\":\"$t\",\"partition\":0,\"offset\":0,\"key\":\"k\",\"value\":\"v\",\"headers\":{\"a\":[\"1\",\"2\"],\"b\":\"x\"},\"timestamp_ms\":T,\"attempt\":0}"
}

a_line_may_hold_any_bytes() {
    topic
    printf 'a\0b\n\n\xff\xfe\r\nlast' >"$WORK/bytes"
    sluice produce "$t" "$WORK/bytes" >/dev/null
    sluice consume "$t" --from start --exit-at-end --format '[%v]' >"$WORK/got"
    printf '[a\0b][][\xff\xfe\r][last]' | cmp - "$WORK/got"
    sluice consume "$t" --from 2 -n 1 -o json | grep -q '"value_base64":"//4N"'
}

the_first_separator_splits_and_a_line_without_it_stops_with_its_number() {
    topic
    printf 'a\t1\tx\n\t2\nc\t\nnone\ne\t5\n' >"$WORK/lines"
    status 1 sluice produce "$t" -K '\t' "$WORK/lines" >"$WORK/out"
    said 'line 4: it has no'
    said '(3 messages acked)'
    expect rows "$t/0: 3 messages from offset 0 (disk)" <"$WORK/out"
    sluice consume "$t" --from start --exit-at-end --format '%k|%v,' | expect pairs $'a|1\tx,|2,c|,'
}

a_message_that_is_too_large_stops_with_its_line() {
    topic --set message-bytes-max=1KiB
    { echo small; head -c 2000 /dev/zero | tr '\0' x; echo; } >"$WORK/lines"
    status 1 sluice produce "$t" "$WORK/lines" >/dev/null
    said 'line 2: '
    said '(1 message acked)'
}

one_message_id_is_for_one_message() {
    topic
    status 2 sluice produce "$t" --message-id x <<<$'a\nb'
    said 'more lines than one'
    sluice consume "$t" --from start --exit-at-end | expect nothing ''
}

keys_go_to_their_partition_and_keep_their_order() {
    topic --partitions 4
    for i in {1..400}; do echo "k$((i % 10)):$i"; done | sluice produce "$t" -K : >/dev/null
    sluice consume "$t" --from start --exit-at-end --format '%p %k %v\n' >"$WORK/got"
    has_lines "$WORK/got" 400
    [ "$(cut -d' ' -f1,2 "$WORK/got" | sort -u | wc -l)" = 10 ]
    for i in {0..9}; do
        grep " k$i " "$WORK/got" | cut -d' ' -f3 | sort -nc
    done
}

reading_begins_where_it_is_told() {
    topic
    seq 5 | sluice produce "$t" >/dev/null
    sluice consume "$t" --from 3 --exit-at-end | expect offset $'4\n5'
    sluice consume "$t" --from start -n 2 | expect count $'1\n2'
    sluice consume "$t" --from -1h --exit-at-end | expect time $'1\n2\n3\n4\n5'
    sluice consume "$t" --from end --exit-at-end | expect end ''
    sluice consume "$t" --exit-at-end | expect default ''
    status 3 sluice consume "$t" --partition 1
}

a_tail_prints_what_comes() {
    topic --partitions 3
    sluice consume "$t" >"$WORK/got" &
    local pid=$!
    eventually eval 'echo x | sluice produce "$t" >/dev/null; [ -s "$WORK/got" ]'
    kill -INT $pid
    wait $pid
}

a_reader_that_went_away_ends_it_quietly() {
    topic
    seq 100000 | sluice produce "$t" >/dev/null
    { status 0 sluice consume "$t" --from start; } | head -1 | expect first 1
    expect said '' <"$WORK/err"
}

large_amounts_pass_through_unchanged() {
    topic
    seq 200000 >"$WORK/many"
    sluice produce "$t" "$WORK/many" >/dev/null
    sluice consume "$t" --from start --exit-at-end | cmp - "$WORK/many"
}

# ---- groups ----

a_group_gets_each_message_once_and_its_count_is_kept() {
    topic
    group g
    seq 5 | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g -n 2 | expect two $'1\n2'
    sluice consume "$t" -g g --exit-at-end --format '%v %a\n' | expect rest $'3 1\n4 1\n5 1'
    sluice consume "$t" -g g --exit-at-end | expect none ''
}

a_command_gets_the_message_and_exit_0_acknowledges_it() {
    topic
    group g
    echo 'the key=the value' | sluice produce "$t" -K = -H content-type=text/plain >/dev/null
    export SLUICE_HEADER_LEFT=over
    sluice consume "$t" -g g -n 1 --exec 'echo "$(cat)|$SLUICE_TOPIC|$SLUICE_PARTITION|$SLUICE_OFFSET|$SLUICE_KEY|$SLUICE_ATTEMPT|$SLUICE_HEADER_CONTENT_TYPE|${SLUICE_HEADER_LEFT-unset}"' |
        expect environment "the value|$t|0|0|the key|1|text/plain|unset"
    sluice consume "$t" -g g --exit-at-end | expect acked ''
    echo 'no key' | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g -n 1 --exec 'echo "${SLUICE_KEY-unset}"' | expect key unset
}

a_failing_command_leaves_its_last_line_as_the_reason() {
    topic
    group g --max-deliveries 1
    printf 'exit\nsignal\nsilent\n' | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g -n 3 --exec 'case $(cat) in
        exit) echo first >&2; echo "the reason" >&2; exit 3;;
        signal) kill -SEGV $$;;
        silent) exit 9;; esac' 2>"$WORK/err"
    said 'the reason'
    sluice dlq ls "$t" -g g -o json >"$WORK/dlq"
    grep '"value":"exit"' "$WORK/dlq" | grep '"last_error":"the reason"' | grep -q '"attempts":1,"parked_at_ms":[0-9]*}$'
    grep '"value":"signal"' "$WORK/dlq" | grep -q '"last_error":"killed by SIGSEGV'
    grep '"value":"silent"' "$WORK/dlq" | grep -q '"last_error":"exit status 9"'
    sluice dlq ls "$t" -g g | head -1 | grep -q '^PARTITION  OFFSET  KEY'
    sluice dlq ls "$t" -g g -n 2 -o json | wc -l | expect count 2
}

exit_65_parks_the_message_at_once() {
    topic
    group g
    echo a | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g --exit-at-end --exec 'echo "not $SLUICE_GROUP, $SLUICE_IDEMPOTENCY_KEY" >&2; exit 65' 2>/dev/null
    sluice dlq ls "$t" -g g -o json | grep '"reason":"data-error"' | grep "\"last_error\":\"not g, $t/0/0/g\"" | grep -q '"attempts":1,'
}

exit_75_brings_the_message_back_later() {
    topic
    group g --backoff-min 100ms --backoff-max 200ms
    echo a | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g -n 3 --exec 'echo $SLUICE_ATTEMPT; [ $SLUICE_ATTEMPT = 3 ] || exit 75' | expect attempts $'1\n2\n3'
    sluice consume "$t" -g g --exit-at-end | expect done ''
}

large_values_pass_whether_the_command_reads_them_or_not() {
    topic --set message-bytes-max=10MiB
    group g
    { head -c 8000000 /dev/zero | tr '\0' x; echo; } >"$WORK/large"
    cat "$WORK/large" "$WORK/large" | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g -n 1 --exec 'wc -c' | expect read 8000000
    sluice consume "$t" -g g -n 1 --exec 'true' | expect unread ''
    sluice consume "$t" -g g --exit-at-end | expect acked ''
}

parallel_runs_as_many_at_once_and_no_more() {
    topic
    group g
    seq 12 | sluice produce "$t" >/dev/null
    mkdir "$WORK/$t"
    sluice consume "$t" -g g -n 12 --parallel 4 --exec "cd $WORK/$t; touch run.\$\$; ls | wc -l; sleep 0.6; rm run.\$\$" >"$WORK/got"
    has_lines "$WORK/got" 12
    sort -nr "$WORK/got" | head -1 | expect most 4
}

# poll(2) refuses to look at more descriptors than a process may have open, used or not.
more_at_once_than_there_may_be_open_files_does_no_harm() {
    topic
    group g
    seq 8 | sluice produce "$t" >/dev/null
    (ulimit -n 64 && timeout 100 sluice consume "$t" -g g -n 8 --parallel 200 --exec 'echo $(cat)' | sort -n | expect all "$(seq 8)")
}

no_more_is_leased_than_is_handed_out() {
    topic
    group g
    seq 10 | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g --parallel 2 --exec 'sleep 30' &
    local pid=$!
    eventually eval 'sluice group lag g --topic "$t" -o json | grep -q "\"in_flight\":2,"'
    sleep 0.3
    sluice group lag g --topic "$t" -o json | grep -q '"in_flight":2,'
    kill -TERM $pid
    wait $pid
}

a_lease_is_extended_while_the_command_runs() {
    topic
    group g --lease 2s
    echo a | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g --exit-at-end --exec 'sleep 4; echo $SLUICE_ATTEMPT' >"$WORK/got" &
    local pid=$!
    eventually eval 'sluice group lag g --topic "$t" -o json | grep -q "\"in_flight\":1,"'
    sluice consume "$t" -g g --exit-at-end | expect other ''
    wait $pid
    expect attempt 1 <"$WORK/got"
}

# Held by a reader of our output that takes its time: more than a pipe holds, with a lease much shorter than that.
a_lease_is_extended_while_the_output_is_read_slowly() {
    topic
    group g --lease 2s
    for i in {1..50}; do head -c 20000 /dev/zero | tr '\0' x; echo " $i"; done | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g -n 50 --format '%v %a\n' | { sleep 4; cut -d' ' -f2-; } >"$WORK/got"
    has_lines "$WORK/got" 50
    not grep -v ' 1$' "$WORK/got"
}

an_interrupt_gives_leases_back_at_once() {
    topic
    group g
    echo a | sluice produce "$t" >/dev/null
    local signal
    for signal in INT TERM; do
        rm -f "$WORK/started"
        sluice consume "$t" -g g --exec "touch $WORK/started; sleep 30; true" &
        local pid=$!
        eventually [ -e "$WORK/started" ]
        kill -$signal $pid
        wait $pid || fail "it ended with $? on $signal"
    done
    timeout 20 sluice consume "$t" -g g -n 1 --format '%v %a\n' | expect given-back 'a 1'
}

a_command_that_ends_well_after_the_interrupt_is_acknowledged() {
    topic
    group g
    echo a | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g --exec "trap 'exit 0' TERM; touch $WORK/ready.$t; sleep 30 & wait" &
    local pid=$!
    eventually [ -e "$WORK/ready.$t" ]
    kill -INT $pid
    wait $pid
    sluice consume "$t" -g g --exit-at-end | expect acked ''
}

a_command_that_will_not_end_is_killed_after_two_seconds() {
    topic
    group g
    echo a | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g --exec "trap '' TERM; echo \$\$ >$WORK/pid.$t; while :; do sleep 1; done" &
    local pid=$! begin
    eventually [ -s "$WORK/pid.$t" ]
    begin=$SECONDS
    kill -INT $pid
    wait $pid
    [ $((SECONDS - begin)) -lt 8 ]
    not kill -0 "$(cat "$WORK/pid.$t")" 2>/dev/null
}

what_it_runs_dies_with_it() {
    topic
    group g
    echo a | sluice produce "$t" >/dev/null
    sluice consume "$t" -g g --exec "sleep 60 & echo \$! >$WORK/pid.$t; wait; true" &
    local pid=$!
    eventually [ -s "$WORK/pid.$t" ]
    kill -KILL $pid
    wait $pid 2>/dev/null || true
    eventually not kill -0 "$(cat "$WORK/pid.$t")"
}

a_broker_that_is_killed_and_comes_back_is_not_noticed() {
    topic
    group g
    seq 40 | sluice produce "$t" >/dev/null
    sluice --timeout 60s consume "$t" -g g --exit-at-end --exec 'sleep 0.05; cat; echo' >"$WORK/got" & # a slow machine is long without it
    local pid=$!
    eventually has_lines "$WORK/got" 5
    local broker
    broker=$(cat "$WORK/broker.pid")
    kill -9 "$broker"
    eventually gone "$broker" # until then its directory is locked
    start_broker
    wait $pid
    sort -nu "$WORK/got" | cmp - <(seq 40)
    sluice dlq ls "$t" -g g -o json | expect parked ''
}

# ---- topics and groups ----

creating_the_same_again_is_fine_and_another_is_a_conflict() {
    topic --partitions 2 --retention 1h
    sluice topic create "$t" --partitions 2 --set retention=60m -o json 2>/dev/null | expect same "{\"topic\":\"$t\",\"created\":false}"
    status 6 sluice topic create "$t" --partitions 3 --retention 1h
    sluice group create g --topic "$t" --mode queue -o json | expect created "{\"topic\":\"$t\",\"group\":\"g\",\"created\":true}"
    status 0 sluice group create g --topic "$t" --mode queue
    status 6 sluice group create g --topic "$t" --mode queue --lease 1m
}

what_is_not_there_is_exit_3_with_the_command_that_creates_it() {
    status 3 sluice produce "$t" <<<a
    said "sluice topic create $t"
    status 3 sluice produce "$t" </dev/null
    status 3 sluice consume "$t"
    said "sluice topic create $t"
    status 3 sluice topic show "$t"
    topic
    status 3 sluice consume "$t" -g g
    said "sluice group create g"
    status 3 sluice group show g --topic "$t"
    status 3 sluice dlq ls "$t" -g g
    status 3 sluice group lag "g-of-nobody"
}

who_reads_a_topic_that_grows_goes_on_with_its_new_partitions() {
    topic
    seq 20 | sed 's/.*/&:before/' | sluice produce "$t" -K : >/dev/null
    sluice consume "$t" --from start --format '%p %v\n' >"$WORK/got" 2>"$WORK/said" &
    local pid=$!
    eventually has_lines "$WORK/got" 20
    sluice topic alter "$t" --partitions 4 2>/dev/null
    seq 20 | sed 's/.*/&:after/' | sluice produce "$t" -K : >/dev/null
    eventually has_lines "$WORK/got" 40
    grep -q '^3 after$' "$WORK/got"
    kill -INT $pid
    wait $pid
    sort "$WORK/got" | uniq -c | awk '{sum += $1} END {print sum}' | expect once 40
    [ ! -s "$WORK/said" ] || fail "$(cat "$WORK/said")"
}

who_reads_below_the_start_is_told_how_much_is_gone_from_when_to_when_and_why() {
    local i
    topic
    for i in 1 2 3; do
        fill
    done
    sluice topic alter "$t" --retention-bytes 5kB 2>/dev/null
    eventually begins_behind 2
    sluice consume "$t" --from 0 --exit-at-end 2>"$WORK/said" | wc -l | expect left 1
    grep -q "messages 0 to 1 are gone, by retention, appended from 20.* to 20" "$WORK/said"
    sluice consume "$t" --from 1 --exit-at-end -o json 2>/dev/null >"$WORK/got"
    head -1 "$WORK/got" | sed 's/_ms":1[0-9]*/_ms":/g' |
        expect gap "{\"gap\":{\"topic\":\"$t\",\"partition\":0,\"from\":1,\"to\":2,\"count\":1,\"from_ms\":,\"to_ms\":,\"reason\":\"retention\"}}"
    sed -n 2p "$WORK/got" | grep -q '"offset":2,'
    sluice topic rm "$t" --yes 2>/dev/null
}

what_a_group_lost_at_the_hard_cap_is_told_where_one_looks_for_it() {
    topic --retention 100ms --set hard-cap=300ms
    group g
    seq 3 | sluice produce "$t" >/dev/null
    eventually begins_behind 3
    sluice group lag g --topic "$t" -o json | grep -q '"lag_messages":0,.*"lost":3}'
    sluice group show g --topic "$t" -o json | sed 's/_ms":1[0-9]*/_ms":/g' |
        grep -q '"lost":3,"losses":\[{"partition":0,"from":0,"to":3,"count":3,"from_ms":,"to_ms":,"reason":"hard_cap"}\]}'
    sluice group show g --topic "$t" | tail -1 | grep -q '^ *0  *3  *3  20'
    is_fact lost g --offset 0:1
    sluice explain "$t" -g g --offset 0:1 | grep -q "3 messages that the group had not done"
}

a_stream_group_that_lost_messages_at_the_hard_cap_is_told_of_each_partition_and_once() {
    topic --partitions 2 --retention 100ms --set hard-cap=300ms
    stream g
    seq 20 | sed 's/.*/&:v/' | sluice produce "$t" -K : >/dev/null
    eventually ends_at_its_start
    sluice consume "$t" -g g --exit-at-end -o json 2>"$WORK/said" | sed 's/_ms":1[0-9]*/_ms":/g' | sort >"$WORK/got"
    has_lines "$WORK/got" 2
    sed -n 1p "$WORK/got" | grep -q "^{\"gap\":{\"topic\":\"$t\",\"partition\":0,\"from\":0,\"to\":[0-9]*,\"count\":[0-9]*,\"from_ms\":,\"to_ms\":,\"reason\":\"hard_cap\"}}$"
    sed -n 2p "$WORK/got" | grep -q '"partition":1,"from":0,'
    grep -q "messages 0 to [0-9]* are gone, by the topic's hard cap, appended from 20" "$WORK/said"
    sluice consume "$t" -g g --exit-at-end -o json 2>/dev/null | expect heard ''
}

topics_are_listed_and_shown() {
    topic --partitions 2 --retention forever
    seq 3 | sluice produce "$t" -k k >/dev/null
    sluice topic ls | grep >/dev/null "^$t  *2  *3 .* forever  *disk$"
    sluice topic ls -o json | grep >/dev/null "^{\"topic\":\"$t\",.*\"partitions\":2,\"messages\":3,.*\"retention_ms\":null,"
    sluice topic show "$t" -o json | grep -q '"log":\[{"partition":0,"start":0,'
    sluice topic show "$t" | grep -q '^durability: *disk$'
    sluice topic show "$t" | tail -1 | grep -q '^ *1 .* \(20[-0-9T:.]*Z\|-\)$'
    sluice topic show "$t" -o json | grep -q '"start":0,"end":3,"bytes":[0-9]*,"oldest_ms":1[0-9]*}'
    sluice topic show "$t" -o json | grep -q '"start":0,"end":0,"bytes":0,"oldest_ms":null}'
}

of_a_compacted_topic_is_shown_what_applies_to_it() {
    topic --set compacted=true
    echo v | sluice produce "$t" -k a >/dev/null
    sluice topic show "$t" >"$WORK/topic"
    not grep -q '^retention\|^hard-cap' "$WORK/topic"
    grep -q '^compacted: *true$' "$WORK/topic"
    grep -q '^since then: .*, 100 %$' "$WORK/topic"
    grep -q '^next pass: *at 50 % of a partition, or after 1d$' "$WORK/topic"
    grep -q '^tombstones: *0 left; kept for 1d$' "$WORK/topic"
    sluice topic show "$t" -o json | grep -q '"retention_ms":null,"retention_bytes":null,"hard_cap_ms":null,"compacted":true,'
    sluice topic show "$t" -o json | grep -q '"dirty_percent":100.0,"dirty_percent_min":50,"compact_age_max_ms":86400000,"tombstones":0,"tombstone_ms":86400000,'
    sluice topic ls | grep -q "^$t .* compacted  *disk$"
}

nothing_is_destroyed_unasked() {
    topic
    group g
    seq 3 | sluice produce "$t" >/dev/null
    status 2 sluice topic rm "$t" </dev/null
    said --yes
    status 2 sluice group rm g --topic "$t" </dev/null
    status 0 sluice topic rm "$t" --dry-run
    said '3 messages'
    status 0 sluice group rm g --topic "$t" --dry-run
    status 0 sluice group show g --topic "$t" >/dev/null
    sluice group rm g --topic "$t" --yes -o json | expect group "{\"topic\":\"$t\",\"group\":\"g\",\"deleted\":true}"
    status 3 sluice group show g --topic "$t"
    sluice topic rm "$t" --yes 2>/dev/null
    status 3 sluice topic show "$t"
}

a_group_is_found_by_its_name_if_one_topic_has_it() {
    topic
    group "only.$t"
    sluice group show "only.$t" -o json | grep -q "^{\"topic\":\"$t\",\"group\":\"only.$t\",.*\"mode\":\"queue\",\"order\":\"key\","
    group "both.$t"
    sluice topic create "$t.2" 2>/dev/null
    sluice group create "both.$t" --topic "$t.2" 2>/dev/null
    status 2 sluice group show "both.$t"
    said 'say which one with --topic'
    status 0 sluice group show "both.$t" --topic "$t.2" >/dev/null
}

a_lag_row_has_these_keys() {
    topic
    group g
    seq 3 | sluice produce "$t" >/dev/null
    eventually eval 'sluice group lag g --topic "$t" -o json | grep -q "\"lag_messages\":3,"'
    sluice group lag g --topic "$t" -o json | sed 's/:[^,}]*/:/g' | expect keys \
        '{"topic":,"group":,"lag_messages":,"lag_bytes":,"in_flight":,"delayed":,"parked":,"oldest_age_seconds":,"ack_rate":,"drain_eta_seconds":,"status":,"scale_value":,"lost":}'
    sluice group lag g --topic "$t" | head -1 | grep -q '^TOPIC  *GROUP  *LAG'
    sluice group lag g --topic "$t" --watch -o json >"$WORK/got" &
    local pid=$!
    eventually has_lines "$WORK/got" 2
    kill -INT $pid
    wait $pid
}

what_later_versions_do_is_said_to_be_unknown() {
    status 2 sluice binding ls
    said "unknown command 'binding'"
    status 2 sluice group move g
    said "unknown verb 'move'"
}

settings_can_be_changed_and_the_others_stay() {
    topic --retention 1h --set ttl=1d
    sluice topic alter "$t" --set dedup=5m,backlog-bytes-max=1GiB 2>/dev/null && fail 'two settings in one --set'
    sluice topic alter "$t" --retention 2h --set dedup=5m --set backlog-age-max=1d -o json | expect altered "{\"topic\":\"$t\",\"altered\":true}"
    sluice topic show "$t" -o json >"$WORK/topic"
    grep -q '"retention_ms":7200000,' "$WORK/topic"
    grep -q '"dedup_ms":300000,' "$WORK/topic"
    grep -q '"backlog_age_max_ms":86400000,' "$WORK/topic"
    grep -q '"ttl_ms":86400000,' "$WORK/topic"
    sluice topic alter "$t" --set ttl=none 2>/dev/null
    sluice topic show "$t" | grep -q '^ttl: *none$'
    status 2 sluice topic alter "$t"
    said 'say what is to be changed'
    status 3 sluice topic alter nobody --retention 1h

    group g --max-deliveries 3 --rate 10/s
    sluice group alter g --topic "$t" --lease 1m --rate 100/m --expired park --run-max 8 2>/dev/null
    sluice group show g --topic "$t" -o json >"$WORK/group"
    grep -q '"lease_ms":60000,"max_deliveries":3,' "$WORK/group"
    grep -q '"run_max":8,' "$WORK/group"
    grep -q '"expired":"park","rate":1.667,' "$WORK/group"
    status 2 sluice group alter g --topic "$t" --mode stream
    sluice topic alter "$t" --partitions 2 2>/dev/null
    status 1 sluice topic alter "$t" --partitions 3
    said 'partitions grow by a whole factor'
    grep -q '"in_flight_max":null,' "$WORK/group"
    sluice group alter g --topic "$t" --max-in-flight 7 --rate none 2>/dev/null
    sluice group show g --topic "$t" -o json | grep -q '"in_flight_max":7,"expired":"park","rate":null,'
}

a_paused_group_gets_nothing_until_it_is_resumed() {
    topic
    group g
    seq 3 | sluice produce "$t" >/dev/null
    sluice group pause g --topic "$t" -o json | expect paused "{\"topic\":\"$t\",\"group\":\"g\",\"paused\":true}"
    sluice group show g --topic "$t" | grep -q '^paused: *yes$'
    sluice explain "$t" -g g -o json | grep -q '"fact":"paused"'
    { timeout 1 sluice consume "$t" -g g || true; } | expect nothing ''
    sluice group resume g --topic "$t" 2>/dev/null
    sluice consume "$t" -g g --exit-at-end | expect all $'1\n2\n3'
}

a_purged_group_has_nothing_left_to_do_and_is_asked_about() {
    topic
    group g
    group h
    seq 5 | sluice produce "$t" >/dev/null
    status 2 sluice group purge g --topic "$t" </dev/null
    said --yes
    sluice group purge g --topic "$t" --dry-run -o json | expect dry "{\"topic\":\"$t\",\"group\":\"g\",\"purged\":false,\"messages\":5}"
    sluice group purge g --topic "$t" --yes -o json | expect purged "{\"topic\":\"$t\",\"group\":\"g\",\"purged\":true,\"messages\":5}"
    sluice consume "$t" -g g --exit-at-end | expect none ''
    sluice consume "$t" -g h --exit-at-end --format %v | expect other 12345
}

sizes_without_a_bound_are_shown_as_none() {
    topic
    sluice topic show "$t" | grep -q '^retention-bytes: *none$'
    sluice topic show "$t" -o json | grep -q '"retention_bytes":null,'
}

# ---- times, ids, priority ----

a_message_with_a_time_waits_under_its_name_until_it_comes() {
    topic
    echo later | sluice produce "$t" --delay 1h --name wake -o json | sed 's/"due_ms":[0-9]*/"due_ms":T/' | expect json \
        "{\"topic\":\"$t\",\"partition\":0,\"base_offset\":null,\"count\":1,\"durability\":\"disk\",\"name\":\"wake\",\"due_ms\":T}"
    sluice consume "$t" --from start --exit-at-end | expect 'not yet' ''
    sluice sched ls "$t" | grep -q " $t  *wake  *-  *1 "
    sluice sched ls "$t" --name wake -o json | grep -q '^{"topic":"'"$t"'","name":"wake","due_ms":[0-9]*,"cron":null,"partition":0,"count":1,'
    sluice sched move "$t" wake --delay 50ms 2>/dev/null
    eventually eval '[ "$(sluice consume "$t" --from start --exit-at-end)" = later ]'
    status 3 sluice sched move "$t" wake --delay 1s
    status 3 sluice sched rm "$t" wake --yes
    sluice sched ls "$t" -o json | expect gone ''
}

what_waits_is_cancelled_when_that_is_said() {
    topic
    printf 'a\nb\n' | sluice produce "$t" --at "$(date -u -d '+300 days' +%FT%TZ)" >/dev/null
    echo c | sluice produce "$t" --cron '0 3 * * 1' --name weekly >/dev/null
    sluice sched ls "$t" -o json >"$WORK/rows"
    has_lines "$WORK/rows" 3
    sed -n 1p "$WORK/rows" | grep -q '"name":"weekly","due_ms":[0-9]*,"cron":"0 3 \* \* 1"'
    sluice sched ls "$t" -n 1 -o json | cmp - <(sed -n 1p "$WORK/rows")
    status 2 sluice sched rm "$t" weekly </dev/null
    said --yes
    sluice sched rm "$t" weekly --yes -o json | expect cancelled "{\"topic\":\"$t\",\"name\":\"weekly\",\"cancelled\":true}"
    [ "$(sluice sched ls "$t" -o json | wc -l)" = 2 ]
    status 1 sluice produce "$t" --cron '* * * *' <<<x
    said 'cron'
    status 1 sluice produce "$t" --at 2199-01-01T00:00:00Z <<<x
    said 'delay_ms_max'
    status 2 sluice produce "$t" --name x <<<x
    status 2 sluice produce "$t" --delay 1s --at 2099-01-01T00:00:00Z <<<x
    status 2 sluice sched move "$t" weekly
}

a_message_id_that_was_there_is_said_to_be_a_duplicate() {
    topic
    echo a | sluice produce "$t" --message-id one >/dev/null
    echo a | sluice produce "$t" --message-id one -o json | expect json \
        "{\"topic\":\"$t\",\"partition\":0,\"base_offset\":0,\"count\":1,\"durability\":\"disk\",\"duplicate\":true}"
    echo a | sluice produce "$t" --message-id one | expect text "$t/0: 1 message produced before, at offset 0 (disk)"
    sluice consume "$t" --from start --exit-at-end | expect once a
}

what_is_more_urgent_comes_first_and_what_expired_not_at_all() {
    topic
    group g
    echo low | sluice produce "$t" >/dev/null
    echo high | sluice produce "$t" --priority 9 >/dev/null
    echo gone | sluice produce "$t" --ttl 1ms >/dev/null
    sluice consume "$t" -g g --exit-at-end | expect order $'high\nlow'
    status 2 sluice produce "$t" --priority 10 <<<x
}

# ---- dead letters ----

dead_letters_are_shown_whole_and_found_by_what_they_are() {
    park 3
    sluice dlq ls "$t" -g g -k k2 -o json | grep -q '"offset":1,"key":"k2","value":"v2"'
    [ "$(sluice dlq ls "$t" -g g -H n=3 -o json | wc -l)" = 1 ]
    [ "$(sluice dlq ls "$t" -g g -H n -o json | wc -l)" = 3 ]
    [ "$(sluice dlq ls "$t" -g g --offset 0:2 -o json | wc -l)" = 1 ]
    sluice dlq ls "$t" -g g --since -1h --reason max_deliveries -o json >"$WORK/found"
    has_lines "$WORK/found" 3
    sluice dlq ls "$t" -g g --min-attempts 2 -o json | expect none ''
    sluice dlq ls "$t" -g g --until -1h -o json | expect none ''
    sluice dlq peek "$t" -g g >"$WORK/one"
    grep -q '^last-error: *broken$' "$WORK/one"
    grep -qx v1 "$WORK/one"
    not grep -qx v2 "$WORK/one"
    status 2 sluice dlq ls "$t" -g g --offset 7
}

what_is_redriven_is_delivered_again_with_its_attempts_at_0() {
    park 4
    sluice dlq redrive "$t" -g g --dry-run | expect dry 'would redrive 4 of 4 dead letters'
    sluice dlq ls "$t" -g g -o json >"$WORK/still"
    has_lines "$WORK/still" 4
    sluice dlq redrive "$t" -g g -k k2 -o json | grep -q '"act":"redrive","state":"done","dry_run":false,.*"matched":1,"changed":1,'
    sluice consume "$t" -g g --exit-at-end --format '%v %a\n' | expect one 'v2 1'
    sluice dlq redrive "$t" -g g --limit 2 | expect two 'redrove 2 of 2 dead letters'
    sluice consume "$t" -g g --exit-at-end | expect order $'v1\nv3'
    sluice dlq ls "$t" -g g -o json >"$WORK/left"
    [ "$(wc -l <"$WORK/left")" = 1 ]
}

what_is_dropped_is_asked_about_and_gone() {
    park 3
    status 2 sluice dlq drop "$t" -g g </dev/null
    said --yes
    sluice dlq drop "$t" -g g -H n=2 --yes | grep -q '^dropped 1 of '
    sluice dlq ls "$t" -g g -o json | cut -d, -f3 | expect left $'"offset":0\n"offset":2'
    sluice dlq drop "$t" -g g --yes >/dev/null
    sluice dlq ls "$t" -g g -o json | expect none ''
    sluice dlq redrive "$t" -g g | expect none 'redrove 0 of 0 dead letters'
    status 3 sluice dlq redrive "$t" -g nobody
}

what_a_group_has_done_is_replayed_by_key_place_or_fate() {
    topic
    group g --max-deliveries 1
    printf 'a 1\nb 2\na 3\nb 4\n' | sluice produce "$t" -K ' ' >/dev/null
    sluice consume "$t" -g g -n 1 --exec 'exit 1' 2>/dev/null
    sluice consume "$t" -g g --exit-at-end >/dev/null
    sluice group replay g --topic "$t" -k a --dry-run | expect dry 'would replay 2 of 4 messages'
    sluice group replay g --topic "$t" -k a -o json | grep -q '"act":"replay","state":"done","dry_run":false,.*"matched":2,"changed":2,.*"source":"log","of":"g","left":0,"lost":0}'
    sluice consume "$t" -g g --exit-at-end --format '%v %a\n' | expect key $'1 1\n3 1'
    sluice group replay g --topic "$t" --from 1 --to 3 >/dev/null
    sluice consume "$t" -g g --exit-at-end | sort | expect offsets $'2\n3'
    sluice group replay g --topic "$t" --from -1h -k b --limit 1 >/dev/null
    sluice consume "$t" -g g --exit-at-end | expect time 2
    sluice group replay g --topic "$t" --to -1h | expect none 'replayed 0 of 0 messages'
    echo 'a 5' | sluice produce "$t" -K ' ' >/dev/null
    sluice group replay g --topic "$t" -k a --from 4 | grep -q '^replayed 0 of ' # it waits, and comes anyway
    sluice consume "$t" -g g -n 1 --exec 'exit 1' 2>/dev/null
    sluice group replay g --topic "$t" --parked --into late | expect parked 'replayed 1 of 1 dead letter'
    sluice consume "$t" -g late --exit-at-end | expect late 5
    sluice group show late --topic "$t" | grep -q '^from: *replay$'
    sluice task ls | grep -q "^ *[0-9]*  *$t  *late  *replay  *done "
    status 6 sluice group replay g --topic "$t" --into late
    said 'of g'
    status 3 sluice group replay late --topic "$t" --parked --of nobody
    status 1 sluice group seek g --topic "$t" --to start
    said 'sluice group replay'
    status 2 sluice group replay g --topic "$t" --follow
    status 2 sluice group replay g --topic "$t" --of late
    status 2 sluice group replay g --topic "$t" --from x
}

a_task_is_listed_while_it_runs_and_can_be_ended() {
    park 5
    local id
    id=$(sluice dlq redrive "$t" -g g --rate 1/m --detach)
    sluice task ls "$id" -o json | grep -q "^{\"task\":$id,\"topic\":\"$t\",\"group\":\"g\",\"act\":\"redrive\",\"state\":\"running\","
    sluice task ls | grep -q "^ *$id  *$t  *g  *redrive  *running "
    sluice task cancel "$id" 2>/dev/null
    eventually eval "sluice task ls $id -o json | grep -q '\"state\":\"cancelled\"'"
    status 3 sluice task cancel 999999
    status 3 sluice task ls 999999
    status 2 sluice task cancel x
}

what_keeps_a_message_is_explained() {
    park 1
    sluice explain "$t" -g g --offset 0:0 -o json | grep -q "^{\"topic\":\"$t\",\"group\":\"g\",\"fact\":\"parked\",\"text\":\"[^\"]*\","
    sluice explain "$t" -g g --offset 0:0 | grep -q '^fact: *parked$'
    sluice explain "$t" -g g --offset 0:7 -o json | grep -q '"fact":"no_such_offset"'
    sluice explain "$t" -g g -k nobody -o json | grep -q '"fact":"empty"'
    echo x | sluice produce "$t" -k k >/dev/null
    sluice explain "$t" -g g -k k | grep -q '^because: '
    status 2 sluice explain "$t" -g g -k k --offset 0:0
    status 3 sluice explain "$t" -g nobody
}

each_reason_that_keeps_a_message_is_a_fact_of_its_own() {
    topic
    group g --backoff-min 1m --backoff-max 1m
    group slow --rate 0.01/s
    echo later | sluice produce "$t" -k k --delay 1h >/dev/null
    fact g | expect 'a delayed message' scheduled
    printf 'a\nb\n' | sluice produce "$t" -k k >/dev/null
    sluice consume "$t" -g g -n 1 --exec "touch '$WORK/runs.$t'; sleep 60" &
    local pid=$!
    eventually [ -e "$WORK/runs.$t" ]
    fact g --offset 0:0 | expect 'one that is worked on' leased
    fact g --offset 0:1 | expect 'the next of its key' behind
    fact g -k k | expect 'its key' leased
    kill -INT $pid
    wait $pid || true
    sluice consume "$t" -g g -n 1 --exec 'exit 1' 2>/dev/null
    fact g --offset 0:0 | expect 'one that failed' retrying
    sluice consume "$t" -g slow -n 1 >/dev/null
    fact slow --offset 0:0 | expect 'one that is done' done
    fact slow --offset 0:1 | expect 'one whose group goes too fast' throttled
    group short
    echo brief | sluice produce "$t" --ttl 1ms >/dev/null
    eventually is_fact expired short --offset 0:2
    sluice group pause short --topic "$t" 2>/dev/null
    fact short | expect 'a group that is paused' paused
}

a_full_backlog_is_refused_while_all_else_goes_on_until_it_is_worked_off() {
    topic --set backlog-bytes-max=1KiB
    sluice topic create "$t-other" 2>/dev/null
    group g
    fill
    status 1 sluice produce "$t" --timeout 400ms <<<x >/dev/null
    echo x | sluice produce "$t-other" >/dev/null
    sluice consume "$t" --from start --exit-at-end --format '%o' | expect 'a read' 0
    sluice consume "$t" -g g --exit-at-end >/dev/null
    sluice group lag g --topic "$t" -o json | grep -q '"lag_messages":0,'
    echo x | sluice produce "$t" >/dev/null
}

a_refusal_says_how_much_waits_and_when_to_come_again() {
    topic --set backlog-bytes-max=1KiB
    group g
    fill
    status 1 sluice produce "$t" --timeout 400ms <<<x >/dev/null
    said "topic '$t'"
    said 'wait there'
    said 'it may succeed again in'
}

# ---- the rest ----

health_is_exit_0_or_10() {
    sluice health | grep -q '^status: *ok$'
    sluice health -o json | grep -q '^{"status":"ok","reason":null,"version":"[0-9.]*"'
    status 10 sluice health -b tcp://127.0.0.1:1 --timeout 300ms -o json >"$WORK/out"
    grep -q '^{"status":"unreachable",' "$WORK/out"
    status 10 sluice health -b "ipc://$WORK/nobody"
}

nobody_works_where_no_daemon_reports() {
    status 0 sluice worker ls
    said 'no worker daemon'
    [ -z "$(sluice worker ls -o json)" ]
    status 3 sluice worker pause nobody
    said "no such worker: handler 'nobody'"
    status 3 sluice worker resume topic/group --on 'here*'
    said "handler of topic 'topic' and group 'group' on 'here*'"
    status 3 sluice worker scale nobody --min 2
    status 2 sluice worker scale nobody
    status 2 sluice worker scale nobody --max 0
    status 2 sluice worker pause a/b/c
    status 2 sluice worker pause
}

a_backup_is_a_data_directory_that_a_broker_begins_with() {
    topic
    echo kept | sluice produce "$t" >/dev/null
    sluice backup "one-$t" >"$WORK/got"
    grep -q "^path: *$WORK/backups/one-$t\$" "$WORK/got"
    grep -q '^turn: *[1-9][0-9]*$' "$WORK/got"
    grep -q '^took: *[0-9.]* s$' "$WORK/got"
    sluice backup -o json | grep -q "^{\"path\":\"$WORK/backups/20[0-9TZ.]*\",\"turn\":[0-9]*,\"bytes\":[0-9]*,\"files\":[0-9]*,\"seconds\":[0-9.e-]*}\$"
    status 6 sluice backup "one-$t"
    said "backup 'one-$t' exists"
    status 2 sluice backup ../elsewhere
    [ ! -e "$WORK/elsewhere" ]
    echo later | sluice produce "$t" >/dev/null
    cp -a "$WORK/backups/one-$t" "$WORK/restored"
    : >"$WORK/restored.ready"
    sluice-broker --data "$WORK/restored" --listen "ipc://$WORK/restored.sock" --no-publish --no-http >"$WORK/restored.ready" 2>>"$WORK/broker.log" &
    local other=$!
    until grep -q ready "$WORK/restored.ready"; do kill -0 $other; sleep 0.02; done
    sluice consume "$t" --from start --exit-at-end -b "ipc://$WORK/restored.sock" | expect 'what it has' kept
    kill $other
    wait $other
    status 1 sluice backup one -b "$(without_backup_dir)"
    said 'backup_dir is not set'
    kill "$(cat "$WORK/without.pid")"
}

a_broker_that_is_not_there_is_exit_5_at_once_or_after_the_timeout_that_was_given() {
    status 5 timeout 9 sluice topic ls -b tcp://127.0.0.1:1
    said 'nobody listens there'
    local begin=$SECONDS
    status 5 sluice topic ls -b tcp://127.0.0.1:1 --timeout 1s
    [ $((SECONDS - begin)) -ge 1 ] && [ $((SECONDS - begin)) -le 8 ]
}

a_line_that_is_not_understood_does_nothing_and_is_exit_2() {
    status 2 sluice topic create "$t" --partition 3
    said "did you mean '--partitions'?"
    status 2 sluice topic create "$t" --set retenton=1h
    said "did you mean 'retention'?"
    status 2 sluice topic create "$t" --retention 7
    status 2 sluice consume "$t" --exec true
    status 2 sluice
    status 3 sluice topic show "$t"
}

bash_completes_words_and_names() {
    topic
    complete_line() {
        bash -c 'source <(sluice completion bash); COMP_LINE=$1; COMP_POINT=${#1}; _sluice 2>/dev/null; echo ${COMPREPLY[*]}' - "$1"
    }
    complete_line 'sluice top' | expect noun topic
    complete_line 'sluice topic c' | expect verb create
    complete_line 'sluice topic create x --part' | expect option --partitions
    complete_line 'sluice topic create x --durability ' | expect choice 'disk os'
    complete_line "sluice consume $t" | expect name "$t"
    local shell
    for shell in zsh fish; do
        sluice completion $shell | grep -q 'completion words'
    done
    status 2 sluice completion tcsh
}

help_is_there_for_every_command() {
    sluice --help | grep -q 'consume TOPIC'
    sluice help consume | grep -q -- --exit-at-end
    sluice topic create --help | grep -q '^usage: sluice topic create NAME'
    sluice --version | grep -q '^sluice [0-9]'
    status 2 sluice help nothing
}

# ---- stream groups ----

a_stream_group_is_read_in_order_and_goes_on_where_it_was() {
    topic
    stream s
    seq 10 | sluice produce "$t" >/dev/null
    sluice consume "$t" -g s -n 4 >"$WORK/$t.1" 2>/dev/null
    sluice consume "$t" -g s --exit-at-end >"$WORK/$t.2" 2>/dev/null
    diff <(seq 4) "$WORK/$t.1"
    diff <(seq 5 10) "$WORK/$t.2"
    sluice group lag s --topic "$t" -o json | grep -q '"lag_messages":0,'
}

a_command_works_on_a_stream_group_in_order_and_stops_at_what_it_cannot_do() {
    topic
    stream s
    seq 5 | sluice produce "$t" >/dev/null
    status 1 sluice consume "$t" -g s --exec "read v; [ \$v != 3 ] && echo \$v >>'$WORK/$t.done'"
    diff <(seq 2) "$WORK/$t.done"
    sluice group show s --topic "$t" -o json | grep -q '"committed":2,'
    sluice consume "$t" -g s --exit-at-end --exec "cat >>'$WORK/$t.done'; echo >>'$WORK/$t.done'" 2>/dev/null
    diff <(seq 5) "$WORK/$t.done"
    status 2 sluice consume "$t" -g s --exec true --parallel 2
}

a_stream_group_shows_who_owns_what() {
    topic --partitions 4
    stream s
    sluice consume "$t" -g s --member one >/dev/null 2>&1 &
    local consumer=$!
    eventually eval '[ "$(sluice group show s --topic "$t" -o json | grep -o "\"owner_name\":\"one\"" | wc -l)" = 4 ]'
    sluice group show s --topic "$t" | grep -q '^one  *.*active  *4'
    kill -INT $consumer
    wait $consumer
    sluice group show s --topic "$t" | grep -q '^one  *.*away'
}

a_stream_group_can_be_set_elsewhere_and_says_what_would_be() {
    topic
    stream s
    stream other
    seq 10 | sluice produce "$t" >/dev/null
    sluice consume "$t" -g s --exit-at-end >/dev/null 2>&1
    sluice group seek s --topic "$t" --to 3 --dry-run -o json | grep -q '"from":10, *"to":3, *"sought":false'
    status 0 sluice consume "$t" -g s --exit-at-end
    sluice group seek s --topic "$t" --to 7 >/dev/null 2>&1
    diff <(seq 8 10) <(sluice consume "$t" -g s --exit-at-end 2>/dev/null)
    sluice group seek s --topic "$t" --to group:other >/dev/null 2>&1
    diff <(seq 10) <(sluice consume "$t" -g s --exit-at-end 2>/dev/null)
    sluice group seek s --topic "$t" --to -1h --partition 0 -o json | grep -q '"to":0,'
    sluice group seek s --topic "$t" --to end >/dev/null 2>&1
    [ -z "$(sluice consume "$t" -g s --exit-at-end 2>/dev/null)" ]
    status 2 sluice group seek s --topic "$t" --to nowhere
    status 2 sluice group seek s --topic "$t"
    status 3 sluice group seek s --topic "$t" --to group:none
    group q
    status 1 sluice group seek q --topic "$t" --to start
}

what_a_stream_group_has_not_is_refused() {
    topic
    status 1 sluice group create s --topic "$t" --mode stream --lease 5s
    stream s
    status 1 sluice group pause s --topic "$t"
    status 1 sluice dlq ls "$t" -g s
    group q
    status 2 sluice consume "$t" -g q --member one
    is_fact empty s
    echo x | sluice produce "$t" >/dev/null
    is_fact no_receiver s
}

# ---- running them ----

tests=$(sed -n '/^# ---- produce/,/^# ---- running/s/^\([a-z0-9_]*\)() {$/\1/p' "$0")
start_broker
tell_if_stuck 500
failed=0 count=0
for name in $tests; do
    wanted=$(($# == 0))
    for part; do [[ $name == *$part* ]] && wanted=1; done
    [ $wanted = 1 ] || continue
    count=$((count + 1))
    rm -f "$WORK/got" "$WORK/said" # what runs in the background empties its files when it begins, and who waits for lines may look before
    (set -e; t="t$count"; $name) </dev/null # not in an `if`, where -e has no effect
    if [ $? = 0 ]; then
        echo "ok   ${name//_/ }"
    else
        echo "FAIL ${name//_/ }"
        failed=$((failed + 1))
    fi
    BROKER_PID=$(cat "$WORK/broker.pid") # a test may have started another
done
echo "$count tests, $failed failed"
[ $failed = 0 ]
