#!/bin/sh
# Fetches Kafka's jars by their Maven coordinates (kafka.pom) to where the bench looks for them: $SLUICE_BENCH_KAFKA, else
# ~/.cache/sluice-bench/kafka. From where is Maven's business: its settings name the mirrors (MAVEN_ARGS="-s FILE" names the settings).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
to=${SLUICE_BENCH_KAFKA:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice-bench/kafka}
if ! command -v mvn >/dev/null; then
    echo "kafka-fetch.sh: there is no mvn; scripts/deps.sh --bench installs it" >&2
    exit 1
fi
mkdir -p "$to"
# shellcheck disable=SC2086 # several words
mvn -q -B ${MAVEN_ARGS:-} -f "$here/kafka.pom" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$to"
echo "Kafka is in $to" >&2
