#!/bin/sh
# Installs what is missing from Debian's packages: to build and run, with --test also to test, with --bench also
# the peers to compare with. When nothing is missing it does nothing and needs no privileges; else it needs root
# or sudo.
set -eu

build="cmake ninja-build gcc g++ libc6-dev pkg-config ccache
    libnng-dev librocksdb-dev flatbuffers-compiler libflatbuffers-dev libxxhash-dev liblz4-dev libzstd-dev
    libcyaml-dev libyaml-dev libjansson-dev uthash-dev libmicrohttpd-dev libgd-dev libjemalloc-dev
    libseccomp-dev"
run="mate-backgrounds" # thirty photos for the quickstart
test="libcmocka-dev rustc python3 jq curl procps valgrind"
bench="redis-server libhiredis-dev rabbitmq-server librabbitmq-dev nats-server libnats-dev beanstalkd postgresql libpq-dev
    librdkafka-dev default-jre-headless maven"

wanted="$build $run"
for option in "$@"; do
    case $option in
    --test) wanted="$wanted $test" ;;
    --bench) wanted="$wanted $bench" ;;
    *)
        echo "usage: scripts/deps.sh [--test] [--bench]" >&2
        exit 2
        ;;
    esac
done

missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null) || true
    case $status in
    installed*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps.sh: these packages are missing, and installing them needs root or sudo:$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "deps.sh: installing$missing" >&2
apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >&2
}

# The bench starts the peers itself: that their packages were installed starts nothing.
policy=/usr/sbin/policy-rc.d
quiet=
case " $* " in
*" --bench "*) [ -e $policy ] || quiet=1 ;;
esac
if [ -n "$quiet" ]; then
    trap '$as_root rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
fi

apt update
# shellcheck disable=SC2086 # one word per package
apt install --no-install-recommends $missing
