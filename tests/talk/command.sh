# What tests of the command share: sourced. A broker of their own in $WORK, and ways to say what must be.
#
# Sets BIN, WORK, BROKER_PID, and PATH so that the built programs are found.
BIN=${SLUICE_BIN:?the directory of the built programs}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/sluice-cli.XXXXXX")
BROKER_PID=
STUCK_PID=
trap 'kill -9 $BROKER_PID $STUCK_PID 2>/dev/null; rm -rf "$WORK"' EXIT
PATH=$BIN:$PATH

# What still runs below a process, a line each, and what it waits for.
processes_below() {
    local pid
    for pid in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        echo "    $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        for task in /proc/"$pid"/task/*; do
            echo "        $(cat "$task/comm" "$task/wchan" 2>/dev/null | tr '\n' ' ')"
        done
        processes_below "$pid"
    done
}

# tell_if_stuck SECONDS: a test that ctest is about to end for its time says before what it waits for.
tell_if_stuck() {
    local of=$$
    mkfifo "$WORK/nothing"
    {
        read -rt "$1" <>"$WORK/nothing" # sleeps without a child that outlives it
        echo "    this takes longer than $1 s:"
        processes_below "$of"
        tail -5 "$WORK/broker.log" "$WORK/err" 2>/dev/null
    } >&2 &
    STUCK_PID=$!
    disown
}

# Starts the broker, on ports of its own choice, or those it had; with $BROKER_ARGS besides.
start_broker() {
    local listen=${SLUICE_BROKER:-tcp://127.0.0.1:0}
    : >"$WORK/ready"
    sluice-broker --data "$WORK/data" --listen "$listen" --publish tcp://127.0.0.1:0 --http 127.0.0.1:0 --set limits.retention_interval_ms=200ms --set backup_dir="$WORK/backups" ${BROKER_ARGS:-} \
        >"$WORK/ready" 2>>"$WORK/broker.log" &
    BROKER_PID=$!
    disown
    until grep -q '"ready"' "$WORK/ready"; do
        kill -0 $BROKER_PID 2>/dev/null || { cat "$WORK/broker.log"; echo "the broker did not start"; exit 1; }
        sleep 0.02
    done
    SLUICE_BROKER=$(sed -n 's/.*"listen":\["\([^"]*\)".*/\1/p' "$WORK/ready")
    export SLUICE_BROKER
    echo $BROKER_PID >"$WORK/broker.pid"
}

fail() {
    echo "    $*" >&2
    exit 1
}

# expect WHAT EXPECTED: compares standard input.
expect() {
    local got
    got=$(cat; echo .)
    [ "$got" = "$2"$'\n.' ] || [ "$got" = "$2." ] || fail "$1: expected '$2', got '${got%.}'"
}

# status N COMMAND..: the command must end with this status; its standard error is left in $WORK/err.
status() {
    local wanted=$1 got=0
    shift
    "$@" 2>"$WORK/err" || got=$?
    [ "$got" = "$wanted" ] || fail "'$*' ended with $got instead of $wanted: $(cat "$WORK/err")"
}

# said PART: is in what the last `status` command said.
said() {
    grep -qF -- "$1" "$WORK/err" || fail "'$1' was not said: $(cat "$WORK/err")"
}

# eventually COMMAND..: succeeds within a minute.
eventually() {
    local until=$((SECONDS + 60))
    while [ $SECONDS -lt $until ]; do
        "$@" && return
        sleep 0.02
    done
    fail "'$*' did not come true"
}

# For commands that must fail: bash's own `!` would pass over it.
not() {
    ! "$@" 2>/dev/null
}

# gone PID: it has ended with all its threads, whether its parent knows yet or not. The first thread may be a zombie while another
# still holds the files.
gone() {
    local stat
    stat=$(cat "/proc/$1/status" 2>/dev/null) || return 0
    grep -q '^State:.Z' <<<"$stat" && grep -q '^Threads:.1$' <<<"$stat"
}

# A message counts as done as soon as that is decided, and what its unit published is seen once it is on the disk: when this is, which came later.
see_outputs() {
    sluice topic create "seen.$BASHPID.$RANDOM$RANDOM" 2>/dev/null
}
