#!/bin/sh
# Counts the instructions and the allocations that the broker takes for a message on each of its paths
# (driver.c), and compares with what allowed.txt allows. Fails if a path grew by more than the allowance; one
# that shrank by more than it is told with the line to commit.
#
#     instructions.sh PROGRAM                   the test
#     instructions.sh PROGRAM --profile DIR     instead: where they go, into DIR/profile-PATH.txt
#
# The count is the same in every run and on every machine: time is virtual, seeds are fixed, the environment
# is ours, and the C library, which chooses its memcpy and others by what the processor can, is told to take
# the plain ones. (They are also those that can be counted: `rep movsb` counts for as many as it moves bytes.)
# On these paths nothing else looks at the processor: xxHash is compiled in, LZ4 has one form. What malloc and
# free take follows from all that was allocated before, so calls are counted, and their instructions only in
# profiles. Another compiler or C library counts otherwise; then the figures are only printed.
set -eu

program=$1
profile=${3-} # the directory
options=${3:+--with-memory}
here=$(cd "$(dirname "$0")" && pwd)
allowed=$here/allowed.txt
valgrind=${VALGRIND:-valgrind}
growth=5 # per cent

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX_Fast_Unaligned_Load,-BMI1,-BMI2,-ERMS,-FSRM,-LZCNT
hwcaps=$hwcaps,-MOVBE,-POPCNT,-RTM,-SSSE3,-SSE4_1,-SSE4_2
caches=glibc.cpu.x86_data_cache_size=32768:glibc.cpu.x86_shared_cache_size=1048576
caches=$caches:glibc.cpu.x86_non_temporal_threshold=786432
env -i PATH="$PATH" GLIBC_TUNABLES="glibc.cpu.hwcaps=$hwcaps:$caches" \
    "$valgrind" --quiet --tool=callgrind --instr-atstart=no --collect-atstart=no \
    --callgrind-out-file="$work/out" "$program" $options >"$work/said" 2>"$work/errors" || {
    cat "$work/errors" >&2
    echo "instructions.sh: $program failed under valgrind" >&2
    exit 1
}
built="$(head -n 1 "$work/said")-$(uname -m)"

# Each path's counts are a file of their own, which says whose: path, instructions.
for out in "$work"/out.*; do
    sed -n 's/^desc: Trigger: Client Request: //p; s/^totals: //p' "$out" | paste -sd ' '
    if [ -n "$profile" ]; then
        path=$(sed -n 's/^desc: Trigger: Client Request: //p' "$out")
        {
            echo "$path: instructions by function, with all that it calls"
            callgrind_annotate --inclusive=yes --auto=no "$out" | sed -n '/file:function/,$p' | head -n 120
            echo "$path: by itself"
            callgrind_annotate --auto=no "$out" | sed -n '/file:function/,$p' | head -n 60
        } | sed -E 's# \[[^]]*\]$##; s#[^ ]*/build/(\.\./|include/[a-z_]*/)?##' >"$profile/profile-$path.txt"
    fi
done >"$work/counted"
[ -z "$profile" ] || exit 0

awk -v built="$built" -v growth="$growth" -v file=tests/bench/instructions/allowed.txt '
    function line(path) { return sprintf("%-17s %9.1f %9.3f", path, instructions[path], allocations[path]) }
    # Whether `now` passed what `before` allows: grew 1, shrank -1. Of what is next to nothing little is said.
    function moved(before, now, least) {
        if (now > before * (1 + growth / 100) && now - before > least) return 1
        if (now < before * (1 - growth / 100) && before - now > least) return -1
        return 0
    }
    function look(path, what, before, now, digits, least,    way) {
        way = moved(before, now, least)
        if (way == 0) return
        printf "%s %s from %.*f to %.*f %s per message (%+.1f %%, the allowance is %d %%)\n",
               path, (way > 0 ? "grew" : "shrank"), digits, before, digits, now, what,
               (before > 0 ? 100 * (now / before - 1) : 100), growth
        if (way > 0) failed = 1
        commit[path] = 1
    }
    FNR == 1 { part++ }
    part == 1 && NF == 2 && $1 == "built-by" { by = $2 }
    part == 1 && NF == 3 && $1 !~ /^#/ { allowed_i[$1] = $2; allowed_a[$1] = $3 }
    part == 2 && NF == 2 { total[$1] = $2 }
    part == 3 && NF == 4 { order[++n] = $1; instructions[$1] = total[$1] / $2; allocations[$1] = $3 / $2 }
    END {
        print "path              instructions allocations   per message"
        for (i = 1; i <= n; i++) print line(order[i])
        if (n == 0) { print "nothing was counted"; exit 1 }
        if (by != built) { printf "not compared: %s is of %s, this is %s\n", file, by, built; exit 0 }
        for (i = 1; i <= n; i++) {
            path = order[i]
            if (!(path in allowed_i)) {
                printf "%s is not in the table\n", path
                failed = commit[path] = 1
                continue
            }
            look(path, "instructions", allowed_i[path], instructions[path], 1, 1)
            look(path, "allocations", allowed_a[path], allocations[path], 3, 0.002)
        }
        for (path in allowed_i)
            if (!(path in instructions)) {
                printf "%s is in the table and was not counted\n", path
                failed = 1
            }
        for (i = 1; i <= n; i++)
            if (order[i] in commit) {
                if (!told++) printf "if that is meant, commit in %s:\n", file
                print line(order[i])
            }
        exit failed
    }' "$allowed" "$work/counted" "$work/said"
