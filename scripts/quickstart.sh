#!/bin/bash
# Sluice at work: builds it, starts a broker and a worker daemon, and has three handlers work on every photo of a
# directory. In the middle of it one handler process and the broker are killed with SIGKILL, and the broker is
# started again. What came of every photo is then counted from the files themselves.
#
#     scripts/quickstart.sh [DIR] [--out DIR] [--keep]
#
#     DIR        photos: *.jpg, *.jpeg and *.png in it and below (default: the 30 of Debian's mate-backgrounds)
#     --out DIR  where results go, into thumbnail/, filter/ and moderate/ (default: a new directory in /tmp)
#     --keep     leave broker and daemon running, and say where
#
# The last line is "lost N"; the exit status is 0 only if N is 0.
set -euo pipefail
export LC_ALL=C

readonly handlers=(thumbnail filter moderate)
readonly start_seconds_max=60 # until a process is ready
readonly idle_seconds_max=120 # without any progress, until we give up
readonly attempts_max=10      # at killing in the middle, as a few small photos are done in an instant

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$top/build/bin

say() { printf '%s\n' "$*" >&2; }
die() {
    say "quickstart: $*"
    exit 1
}

# ---- what is asked for

usage() {
    say "usage: scripts/quickstart.sh [DIR] [--out DIR] [--keep]"
    exit 2
}

dir='' out='' keep=no
while [ $# -gt 0 ]; do
    case $1 in
    --out)
        [ $# -ge 2 ] || usage
        out=$2
        shift
        ;;
    --keep) keep=yes ;;
    -*) usage ;;
    *)
        [ -z "$dir" ] || usage
        dir=$1
        ;;
    esac
    shift
done
[ -z "$dir" ] || [ -d "$dir" ] || die "$dir: no such directory"

# ---- building

build() {
    "$top/scripts/deps.sh"
    if [ -x "$bin/sluice-workerd" ] && [ ! -w "$top/build" ]; then
        say "$top/build is not ours to write; taking what was built there"
        return
    fi
    local options=()
    # The tests need more than the build does; where they are configured already they stay.
    [ -e "$top/build/CMakeCache.txt" ] || pkg-config --exists cmocka || options=(-DSLUICE_TESTS=OFF)
    [ -w "${HOME:-/nowhere}" ] || export CCACHE_DISABLE=1 # it would have nowhere to put things
    cd "$top"
    cmake --preset release "${options[@]}" >&2
    cmake --build --preset release --target sluice-broker sluice-workerd sluice-cli "${handlers[@]/#/handler-}" >&2
}

say "== building"
(build)

# ---- photos

dir=$(cd "${dir:-/usr/share/backgrounds/mate}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-quickstart.XXXXXX")
out=${out:-$(mktemp -d "${TMPDIR:-/tmp}/sluice-photos.XXXXXX")}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Results of an earlier run may lie below DIR; they are no photos.
find -L "$dir" -samefile "$out" -prune -o \
    -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' \) -print0 >"$work/found" ||
    say "quickstart: some of $dir could not be read"
sort -z "$work/found" >"$work/photos"
mapfile -d '' photos <"$work/photos"
[ ${#photos[@]} -gt 0 ] || die "$dir: no photos in it (*.jpg, *.jpeg, *.png)"

# A message names its photo in JSON, which is UTF-8.
if ! iconv -f UTF-8 -t UTF-8 <"$work/photos" >/dev/null 2>&1; then
    refused=0
    for photo in "${photos[@]}"; do
        if ! iconv -f UTF-8 -t UTF-8 <<<"$photo" >/dev/null 2>&1; then
            say "quickstart: not UTF-8: $(printf %q "$photo")"
            refused=$((refused + 1))
        fi
    done
    die "$refused photos have names that are not UTF-8 and cannot be told to a handler; rename them"
fi

declare -A escape=()
for ((i = 1; i < 32; i++)); do
    printf -v char "\\x$(printf %02x "$i")"
    printf -v code '\\u%04X' "$i"
    escape[$char]=$code
done
escape[$'\b']='\b' escape[$'\f']='\f' escape[$'\n']='\n' escape[$'\r']='\r' escape[$'\t']='\t'

# A string as JSON, into $json, written as the handlers and `sluice` write it.
to_json() { # STRING
    json=${1//\\/\\\\}
    json=${json//\"/\\\"}
    if [[ $json == *[[:cntrl:]]* ]]; then
        local char
        for char in "${!escape[@]}"; do
            json=${json//"$char"/"${escape[$char]}"}
        done
    fi
    json=\"$json\"
}

# Where the result of a photo is, into $result.
to_result() { # HANDLER PHOTO
    local name=${2#"${dir%/}"/}
    name=${name//%/%25}
    name=${name//\//%2F}
    result=$out/$1/$name
    [ "$1" != moderate ] || result+=.json
}

# ---- processes

broker=0 daemon=0 # their pids
listen='' publish='' http=''

stop() { # PID
    [ "$1" -ne 0 ] || return 0
    kill -TERM "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

cleanup() {
    local status=$?
    trap - EXIT
    if [ "$keep" = yes ] && [ $status -eq 0 ]; then
        return
    fi
    stop "$daemon"
    stop "$broker"
    if [ $status -eq 0 ]; then
        rm -rf "$work"
    else
        say "quickstart: what broker and daemon wrote is in $work"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits for the line that a process prints when it is ready, into $ready.
wait_ready() { # PID NAME
    local until=$((SECONDS + start_seconds_max))
    until read -r ready <"$work/$2.out" && [[ $ready == '{"ready":true'* ]]; do
        kill -0 "$1" 2>/dev/null || die "the $2 did not start: $(tail -n 1 "$work/$2.log")"
        [ $SECONDS -lt $until ] || die "the $2 was not ready after $start_seconds_max s"
        sleep 0.02
    done
}

start_broker() { # LISTEN PUBLISH HTTP
    : >"$work/broker.out"
    "$bin/sluice-broker" --data "$work/data" --listen "$1" --publish "$2" --http "$3" \
        >"$work/broker.out" 2>>"$work/broker.log" &
    broker=$!
    wait_ready $broker broker
    listen=$(sed 's/.*"listen":\["\([^"]*\)".*/\1/' <<<"$ready")
    publish=$(sed 's/.*"publish":\["\([^"]*\)".*/\1/' <<<"$ready")
    http=$(sed 's/.*"http":"\([^"]*\)".*/\1/' <<<"$ready")
}

declare -A settings=([thumbnail]='"box":"320x240"' [filter]='"effect":"grey"' [moderate]='"least":"32x32"')

start_daemon() {
    local handler
    { # YAML takes JSON as it is, and that knows how to quote
        printf 'broker: %s\nhandlers:\n' "$listen"
        for handler in "${handlers[@]}"; do
            to_json "$top/build/lib/handlers/$handler.so"
            printf '  - {"name": %s, "topic": photos, "file": %s, "processes": 1, ' "$handler" "$json"
            to_json "$out"
            printf '"config": {%s, "out": %s, ' "${settings[$handler]}" "$json"
            to_json "$dir"
            printf '"root": %s}}\n' "$json"
        done
    } >"$work/workerd.yaml"
    : >"$work/workerd.out"
    "$bin/sluice-workerd" -c "$work/workerd.yaml" >"$work/workerd.out" 2>>"$work/workerd.log" &
    daemon=$!
}

sluice() { "$bin/sluice" -b "$listen" "$@" 2>>"$work/sluice.log"; }

# ---- watching

total=$((${#handlers[@]} * ${#photos[@]}))
declare -A busy=() # tasks in flight of each handler
mkfifo "$work/silence"
exec {silence}<>"$work/silence"

# A short wait without starting a process for it.
pause() { # SECONDS
    read -rt "$1" -u $silence || true
}

# Asks the broker, by the page of metrics because that is the quickest way from here: tasks that are done, into $finished, and
# those in flight. Fails if it does not answer.
look() {
    local page='' handler left=0
    { exec {web}<>"/dev/tcp/${http%:*}/${http##*:}"; } 2>/dev/null || return 1
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&$web
    read -r -N 1000000 -t 10 -u $web page || true
    exec {web}>&-
    in_flight=0
    for handler in "${handlers[@]}"; do
        [[ $page =~ sluice_group_lag_messages\{topic=\"photos\",group=\"$handler\"\}\ ([0-9]+) ]] || return 1
        left=$((left + BASH_REMATCH[1]))
        [[ $page =~ sluice_group_in_flight\{topic=\"photos\",group=\"$handler\"\}\ ([0-9]+) ]] || return 1
        busy[$handler]=${BASH_REMATCH[1]}
        in_flight=$((in_flight + BASH_REMATCH[1]))
    done
    finished=$((total - left))
}

# Progress: on a terminal a line that changes, else one for each tenth.
shown=-1
show() {
    local step=$finished
    [ -t 2 ] || step=$((10 * finished / total))
    [ $step -ne $shown ] || return 0
    shown=$step
    if [ -t 2 ]; then
        printf '\r%6d of %d tasks done, %d in flight ' "$finished" "$total" "$in_flight" >&2
    else
        say "   $finished of $total tasks done, $in_flight in flight"
    fi
}
show_end() {
    shown=-1
    if [ -t 2 ]; then
        printf '\n' >&2
    fi
}

# ---- the work

# Photos go in. Most names fit in a line, KEY tab VALUE.
publish_photos() {
    local photo odd=()
    for photo in "${photos[@]}"; do
        if [[ $photo == *[$'\t\n']* ]]; then
            odd+=("$photo")
        else
            to_json "$photo"
            printf '%s\t{"photo":%s}\n' "$photo" "$json"
        fi
    done >"$work/messages"
    sluice produce photos -K '\t' "$work/messages" >/dev/null
    for photo in "${odd[@]}"; do
        to_json "$photo"
        printf '{"photo":%s}\n' "$json" | sluice produce photos -k "$photo" - >/dev/null
    done
}

# The process of a handler that has work in hand, into $victim and $victim_of.
pick_victim() {
    local handler
    for handler in "${handlers[@]}"; do
        [ "${busy[$handler]}" -gt 0 ] || continue
        victim_of=$handler
        victim=$(sed -n "s/.*child up handler=$handler pid=\([0-9]*\).*/\1/p" "$work/workerd.log" | tail -n 1)
        return
    done
}

# Until a third to two thirds are done while something is in flight; fails if that moment was missed.
wait_for_the_middle() {
    local until=$((SECONDS + idle_seconds_max)) before=0
    while :; do
        kill -0 $daemon 2>/dev/null || die "the workerd ended: $(tail -n 1 "$work/workerd.log")"
        if look; then
            if [ $((3 * finished)) -ge $total ]; then
                [ $((3 * finished)) -le $((2 * total)) ] || return 1
                [ $in_flight -eq 0 ] || return 0
            fi
            show
            [ $finished -eq $before ] || until=$((SECONDS + idle_seconds_max))
            before=$finished
        fi
        [ $SECONDS -lt $until ] || die "nothing was done for $idle_seconds_max s"
        pause 0.002
    done
}

# From nothing to the beginning of the work.
begin() {
    rm -rf "$work/data"
    : >"$work/workerd.log"
    touch "$work/begin" # results are newer than this
    start_broker tcp://127.0.0.1:0 tcp://127.0.0.1:0 127.0.0.1:0
    sluice topic create photos
    local handler
    for handler in "${handlers[@]}"; do
        sluice group create "$handler" --topic photos --mode queue
    done
    publish_photos
    start_daemon
}

say "== ${#photos[@]} photos of $dir, three handlers"
for ((attempt = 1; ; attempt++)); do
    begin
    ! wait_for_the_middle || break
    show_end
    [ $attempt -lt $attempts_max ] || die "the work was over before anything could be killed in the middle of it"
    say "that was over too soon to be disturbed; once more"
    stop $daemon
    stop $broker
done

pick_victim
kill -KILL "$victim" $broker || die "process $victim and the broker were not both there to be killed"
show_end
say "== killed process $victim ($victim_of) and the broker: $finished of $total tasks done, $in_flight in flight"
wait $broker 2>/dev/null || [ $? -eq 137 ] || die "the broker was not there to be killed"
start_broker "$listen" "$publish" "$http"
say "== the broker is back"

wait_for_the_end() {
    local until=$((SECONDS + idle_seconds_max)) before=-1
    while [ $SECONDS -lt $until ]; do
        if look; then
            show
            [ $finished -eq $before ] || until=$((SECONDS + idle_seconds_max))
            before=$finished
            [ $finished -lt $total ] || break
        fi
        pause 0.1
    done
    show_end
    [ "$before" -ne -1 ] || die "the broker does not answer"
}
wait_for_the_end

# ---- what came of every photo

declare -A parked=() done_of=() parked_of=() lost_of=()
for handler in "${handlers[@]}"; do
    done_of[$handler]=0 parked_of[$handler]=0 lost_of[$handler]=0
    sluice dlq ls photos -g "$handler" -o json >"$work/parked"
    sed -n 's/.*"key":\("\([^"\\]\|\\.\)*"\).*"reason":"\([^"]*\)".*/\3 \1/p' "$work/parked" >"$work/reasons"
    while read -r reason json; do
        parked[$handler:$json]=$reason
    done <"$work/reasons"
done

lost=0
for photo in "${photos[@]}"; do
    to_json "$photo"
    for handler in "${handlers[@]}"; do
        to_result "$handler" "$photo"
        if [ -s "$result" ] && [ "$result" -nt "$work/begin" ]; then
            done_of[$handler]=$((done_of[$handler] + 1))
        elif [ -n "${parked[$handler:$json]-}" ]; then
            parked_of[$handler]=$((parked_of[$handler] + 1))
            say "parked: $json by $handler: ${parked[$handler:$json]}"
        else
            lost_of[$handler]=$((lost_of[$handler] + 1))
            lost=$((lost + 1))
            say "lost: $json of $handler"
        fi
    done
done

row() { # NAME VALUE..
    printf '%-12s' "$1"
    shift
    printf '%11s' "$@"
    printf '\n'
}
redelivered=()
for handler in "${handlers[@]}"; do
    redelivered+=("$(grep -c "redelivered handler=$handler " "$work/workerd.log" || true)")
done

echo
printf 'photos in   %11d\n' ${#photos[@]}
row '' "${handlers[@]}"
row done "${done_of[thumbnail]}" "${done_of[filter]}" "${done_of[moderate]}"
row redelivered "${redelivered[@]}"
row parked "${parked_of[thumbnail]}" "${parked_of[filter]}" "${parked_of[moderate]}"
row lost "${lost_of[thumbnail]}" "${lost_of[filter]}" "${lost_of[moderate]}"
echo
echo "results     $out"
if [ $keep = yes ]; then
    echo "broker      $listen (pid $broker)"
    echo "publish     $publish"
    echo "http        http://$http/metrics"
    echo "workers     pid $daemon, $work/workerd.yaml"
    echo "data, logs  $work"
fi
echo "lost $lost"
[ $lost -eq 0 ]
