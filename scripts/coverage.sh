#!/bin/sh
# Which lines of the engine and the store the tests reach, and which error returns none of them takes. Builds the preset `coverage`, runs the
# unit tests, the simulator and what is quick of the crash tests, and prints per file the percent of its lines, then every line that answers
# or returns an error and never ran. With --report it only prints, of what ran before.
#
# Fails when a test does, or when less than 90 % of the lines of either were reached. Needs gcov, which comes with gcc.
set -eu
cd "$(dirname "$0")/.."
build=build-coverage

case "${1-}" in
"")
    scripts/deps.sh --test
    cmake --preset coverage
    cmake --build --preset coverage -j "$(nproc)"
    find "$build" -name '*.gcda' -delete
    SLUICE_SIM_SEEDS=${SLUICE_SIM_SEEDS:-200} ctest --preset coverage -j "$(nproc)" -L 'unit|sim'
    ctest --preset coverage -R '^crash-(sync|disk-full|power)$'
    ;;
--report) ;;
*)
    echo "usage: scripts/coverage.sh [--report]" >&2
    exit 2
    ;;
esac

# The sources as gcov shows them: "count:  line:text", each under a line with its name. A line that never ran has the count "#####".
lines() { # DIR LIBRARY...
    dir=$1
    shift
    for library in "$@"; do
        gcov --stdout --source-prefix "$PWD" --relative-only "$build/$dir/CMakeFiles/$library.dir/"*.gcda 2>/dev/null
    done
}

percents() { # PART
    awk -F: -v part="broker/$1/" '
        /^ *-: *0:Source:/ { file = $4; next }
        index(file, part) != 1 { next }
        { count = $1; gsub(/ /, "", count); line = $2 + 0 }
        count == "-" || line == 0 { next }
        { all[file, line] = 1; if (count !~ /^[#=]/) ran[file, line] = 1 }
        END {
            for (at in all) {
                split(at, place, SUBSEP)
                n[place[1]]++
                total++
                if (at in ran) { hit[place[1]]++; reached++ }
            }
            for (f in n) printf "%6.1f %%  %5d of %5d  %s\n", 100 * hit[f] / n[f], hit[f], n[f], f | "sort -n"
            close("sort -n")
            printf "%6.1f %%  %5d of %5d  %s\n", 100 * reached / total, reached, total, part
            exit total == 0 || 100 * reached / total < 90
        }'
}

# Lines that make an error, or pass one on by name, but for comparisons and labels; and of `answer_...` only those that refuse. Of a line that
# answers one of two things both must have run: gcov puts a star behind the count of a line of which a part never did.
errors() { # PART
    awk -v part="broker/$1/" '
        /^ *-: *0:Source:/ { file = $0; sub(/.*Source:/, "", file); next }
        index(file, part) != 1 { next }
        {
            split($0, f, ":")
            count = f[1]; gsub(/ /, "", count); line = f[2] + 0
            text = $0; sub(/^[^:]*:[^:]*:/, "", text)
        }
        count == "-" || text ~ /^(static|int) |return E_OK;|answer_(now|on|change)\(|err_set\(&?[a-z]+, E_OK|engine_failed\(en\) == NULL|[a-z]_failed\(const/ { next }
        text !~ /(err_set|answer|refuse|damaged|fail|rocks_error|rocks_read_error)[a-z_]*\(|(_unknown|partition_gone|_missing|row_bad)\(|return E_|code = E_|return e?->?code;/ { next }
        { at = file ":" line; all[at] = text; if (count !~ /^[#=]/ && !(text ~ / \? / && count ~ /\*$/)) ran[at] = 1 }
        END {
            for (at in all) {
                total++
                if (at in ran) taken++
                else { sub(/^ +/, "", all[at]); print at ": " all[at] | "sort -t: -k1,1 -k2,2n" }
            }
            close("sort -t: -k1,1 -k2,2n")
            printf "%s: %d of %d error returns were taken\n", part, taken, total
        }'
}

good=yes
report() { # PART DIR LIBRARY...
    part=$1
    shift
    lines "$@" >"$build/$part.gcov"
    echo "== $part"
    percents "$part" <"$build/$part.gcov" || good=no
    errors "$part" <"$build/$part.gcov"
}

report engine broker/engine engine
report store broker/store store store_rocks store_mem
[ $good = yes ]
