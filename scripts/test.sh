#!/bin/sh
# Installs what is missing, builds, and runs every test: all kinds on the optimized build, then unit, talk and a
# shorter sim under AddressSanitizer and UndefinedBehaviorSanitizer; then the tests of the tests, which have to catch the bugs that are
# planted for them. With --full the sanitizers get everything, and
# what is repeated by chance is repeated at full length. Ends with ctest's summary of each run; fails if a test failed, did not run or was skipped.
set -eu
cd "$(dirname "$0")/.."

full=no
case "${1-}" in
"") ;;
--full) full=yes ;;
*)
    echo "usage: scripts/test.sh [--full]" >&2
    exit 2
    ;;
esac

scripts/deps.sh --test

jobs=$(nproc)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

build() { # PRESET
    cmake --preset "$1"
    cmake --build --preset "$1" -j "$jobs"
}

# Runs ctest on a preset's build and keeps what it says under a name for the end.
run() { # NAME PRESET [ctest's options]
    name=$1 preset=$2
    shift 2
    echo "== $name"
    { ctest --preset "$preset" -j "$jobs" --no-tests=error "$@" 2>&1 || touch "$logs/failed"; } | tee "$logs/$name"
    # ctest counts a program as passed in which a test was skipped; only what the program printed tells.
    printed=$(build_dir "$preset")/Testing/Temporary/LastTest.log
    grep -hE '\*\*\*(Skipped|Not Run)|^\[  SKIPPED \] [^0-9]' "$logs/$name" "$printed" >>"$logs/skipped" || true
    grep -hE '^(planted bugs|kill -9|power cut|damage|failures): ' "$printed" >"$logs/$name.said" || true
}

build_dir() { # PRESET
    if [ "$1" = release ]; then echo build; else echo "build-$1"; fi
}

build release
run release release
build asan
if [ "$full" = yes ]; then
    run asan asan
    export SLUICE_CRASH_CYCLES=500 SLUICE_UNIT_KILLS=500 SLUICE_SIM_SEEDS=10000 SLUICE_RETENTION_MB=3000 SLUICE_POWER_STATES=10000 SLUICE_DAMAGE_PLACES=200 SLUICE_FAILURES_STEP=1
    run full release -R '^(crash-mixed|crash-unit|crash-power|crash-damage|crash-failures|crash-retention|sim-queue)$'
else
    run asan asan -L 'unit|talk'
    export SLUICE_SIM_SEEDS=300
    run asan-sim asan -L sim
fi
unset SLUICE_SIM_SEEDS # the bugs have seeds of their own
build planted
run planted planted

echo
if [ -s "$logs/skipped" ]; then
    echo "test.sh: these were skipped, which counts as failed:"
    sort -u "$logs/skipped"
    touch "$logs/failed"
fi
for name in release asan asan-sim full planted; do
    [ -e "$logs/$name" ] || continue
    echo "== $name"
    cat "$logs/$name.said"
    sed -n '/tests passed, .* tests failed/,$p' "$logs/$name"
done
[ ! -e "$logs/failed" ]
