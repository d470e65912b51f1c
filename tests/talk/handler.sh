#!/usr/bin/env bash
# `sluice handler check|run`: handlers looked at and tried without a broker. Each test is a function whose name is a guarantee.
#
#     SLUICE_BIN=build/bin TEST_HANDLERS=build/tests/handlers EXAMPLES=build/examples/handlers tests/talk/handler.sh [part of a name]..
set -uo pipefail

. "$(dirname "$0")/command.sh"

obedient=$TEST_HANDLERS/obedient.so

check_says_what_is_in_it() {
    sluice handler check "$obedient" | tr -s ' ' | expect text $'name: obedient\nversion: 1.2.3\nabi: 1\nentries: process_init handle'
    sluice handler check "$EXAMPLES/verify.so" -o json |
        expect json "{\"file\":\"$EXAMPLES/verify.so\",\"name\":\"verify\",\"version\":\"1.0.0\",\"abi\":1,\"size\":88,\"entries\":[\"process_init\",\"process_fini\",\"handle\"]}"
}

check_tells_what_is_wrong() {
    status 3 sluice handler check "$WORK/not-there.so"
    said 'not-there.so: No such file or directory'
    status 1 sluice handler check "$TEST_HANDLERS/no-symbol.so"
    said "no symbol 'sluice_handler'"
    status 1 sluice handler check "$TEST_HANDLERS/other-abi.so"
    said 'made for version 2 of handler.h'
    status 2 sluice handler check
}

a_constructor_that_crashes_or_hangs_is_told_and_harms_nothing() {
    status 1 sluice handler check "$TEST_HANDLERS/crash.so" -o json >"$WORK/out"
    said 'crash.so: the process that loaded it ended: killed by SIGSEGV'
    said 'in the constructor'
    [ ! -s "$WORK/out" ]
    status 1 sluice handler check "$TEST_HANDLERS/exit.so"
    said 'exit status 3'
    status 5 sluice --timeout 200ms handler check "$TEST_HANDLERS/hang.so"
    said 'takes too long'
    status 1 sluice handler run "$TEST_HANDLERS/crash.so" - </dev/null
    said 'the process ended while it started: killed by SIGSEGV'
}

run_prints_a_verdict_for_each_line() {
    printf 'ack\nretry 1500\nretry\npark too-blue\n' >"$WORK/lines"
    status 1 sluice handler run "$obedient" "$WORK/lines" >"$WORK/out"
    expect text $'1: ack\n2: retry after 1500ms: because the message says so\n3: retry: because the message says so\n4: park too-blue: because the message says so' <"$WORK/out"
    status 1 sluice handler run "$obedient" -o json "$WORK/lines" >"$WORK/out"
    sed -n 4p "$WORK/out" | expect json '{"line":4,"verdict":"park","delay_ms":null,"reason":"too-blue","error":"because the message says so"}'
    printf 'ack\nack' | sluice handler run "$obedient" | expect all $'1: ack\n2: ack'
}

run_goes_on_after_a_crash_and_a_hang() {
    printf 'ack\nsegv\nack\nhang\nexit 4\nack\n' >"$WORK/lines"
    status 1 sluice --timeout 2s handler run "$obedient" - <"$WORK/lines" >"$WORK/out"
    expect text $'1: ack\n2: crash: killed by SIGSEGV\n3: ack\n4: timeout: 2s\n5: crash: exited with 4\n6: ack' <"$WORK/out"
}

run_gives_key_headers_attempt_and_config() {
    echo task | status 1 sluice handler run "$obedient" -k k1 --topic photos --attempt 3 >"$WORK/out"
    grep -q '^1: park: photos handler 0 0 attempt 3 key k1 times [0-9]* [0-9]* photos/0/0/handler$' "$WORK/out"
    echo headers | status 1 sluice handler run "$obedient" -H a=b -H c=d=e >"$WORK/out"
    expect headers '1: park: a=b;c=d=e;' <"$WORK/out"
    echo ack | status 1 sluice handler run "$obedient" --config "{\"fail_unless\":\"$WORK/good\"}"
    said "$WORK/good was missing"
    echo ack | sluice handler run "$obedient" --config "{\"fail_unless\":\"$WORK/good\"}" | expect 'second start' '1: ack'
    status 2 sluice handler run "$obedient" --config '[1]' </dev/null
    status 2 sluice handler run "$obedient" -H nothing </dev/null
}

what_it_prints_and_logs_is_no_data() {
    echo 'say hello there' | status 0 sluice handler run "$obedient" >"$WORK/out"
    expect text '1: ack' <"$WORK/out"
    said 'sluice: warn: hello there'
    said 'sluice: 50 %: hello there'
    grep -qx 'hello there' "$WORK/err"
}

a_cpp_handler_maps_exceptions_to_verdicts() {
    mkdir "$WORK/receipts"
    printf '2 tea 350\nno order\n' >"$WORK/lines"
    status 1 sluice handler run "$EXAMPLES/receipt.so" "$WORK/lines" -k o1 --config "{\"out\":\"$WORK/receipts\"}" >"$WORK/out"
    expect text $'1: ack\n2: park bad-order: \'no order\' is not: how many, what, cents for one' <"$WORK/out"
    expect receipt $'2 tea 700\ntotal 700' <"$WORK/receipts/o1"
    ls "$WORK/receipts" | expect 'nothing half' o1
    echo '2 tea 350' | status 1 sluice handler run "$EXAMPLES/receipt.so" --config "{\"out\":\"$WORK/not-there\"}" >"$WORK/out"
    grep -q '^1: retry: ' "$WORK/out"
    status 1 sluice handler run "$EXAMPLES/receipt.so" - </dev/null
    said "config: 'out', the directory for receipts, is missing"
}

a_rust_handler_gives_each_verdict() {
    printf photo >"$WORK/photo"
    printf '14b78418 %s\n14b78419 %s\n14b78418 %s\nwhat\n' "$WORK/photo" "$WORK/photo" "$WORK/none" >"$WORK/lines"
    status 1 sluice handler run "$EXAMPLES/verify.so" "$WORK/lines" >"$WORK/out"
    expect text "1: ack
2: park damaged: $WORK/photo: its CRC32 is 14b78418, not 14b78419
3: retry: $WORK/none: No such file or directory (os error 2)
4: park bad-message: the message is not: CRC32 PATH" <"$WORK/out"
    said "info: $WORK/photo: 5 bytes, as they were sent"
}

# ---- run them ----

failed=0
count=0
for name in $(sed -n 's/^\([a-z][a-z0-9_]*\)() {$/\1/p' "$0"); do
    [[ $name == *"${1-}"* ]] || continue
    count=$((count + 1))
    mkdir "$WORK/$count"
    (set -e; WORK=$WORK/$count; $name) </dev/null # not in an `if`, where -e has no effect
    if [ $? = 0 ]; then
        echo "ok   ${name//_/ }"
    else
        echo "FAIL ${name//_/ }"
        failed=$((failed + 1))
    fi
done
echo "$count tests, $failed failed"
[ $failed = 0 ]
