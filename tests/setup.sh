#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tests/setup.sh [build] [check] [demo] [bench] [bench-wan] [fuzz] [deb]
#
# Install what is missing for these, on Debian 12 or later; nothing is asked and
# nothing printed when all is there.  NO_INSTALL=1: say what is missing, and fail.
#
# We look for the thing itself, not for its package, so that other
# distributions and hand-made installations need no apt.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=

# need PACKAGE TEST...: the package is missing where the test fails.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

have() {
    command -v "$1"
}

fuzzer_links() {
    out=$(mktemp)
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n); int
          LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return !d && n; }' |
        clang -fsanitize=fuzzer,address -x c -o "$out" - && rm -f "$out"
}

# What debhelper asks for by name.
is_installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" | grep -qx installed
}

have_browser() {
    have chromium-headless-shell || have chromium || have google-chrome
}

libvirt_has_qemu() {
    find /usr/lib* -name libvirt_driver_qemu.so | grep -q .
}

need_build() {
    need make have make
    need gcc have gcc
    need libc6-dev test -e /usr/include/stdio.h
    need pkg-config have pkg-config
    need libglib2.0-dev pkg-config --exists glib-2.0 gio-2.0 gio-unix-2.0
    need libjson-glib-dev pkg-config --exists json-glib-1.0
    need libgnutls28-dev pkg-config --exists gnutls
    need libsystemd-dev pkg-config --exists libsystemd
    need zlib1g-dev pkg-config --exists zlib
    need libzstd-dev pkg-config --exists libzstd
    need libmicrohttpd-dev pkg-config --exists libmicrohttpd
}

need_demo() {
    need_build
    need python3 have python3
    need qemu-system-x86 have qemu-system-x86_64
    need gnutls-bin have certtool
}

need_check() {
    need_demo
    need qemu-system-arm have qemu-system-aarch64
    need qemu-system-arm have qemu-system-arm
    need qemu-system-misc have qemu-system-s390x
    need clang have clang
    need xz-utils have xz
    need iproute2 have ip
    need shellcheck have shellcheck
    need mandoc have mandoc
    need systemd have systemd-analyze
    need zsh have zsh
    need fish have fish
    need lintian have lintian
    need tshark have tshark
    need chromium-headless-shell have_browser
    need python3-prometheus-client python3 -c 'import prometheus_client'
    need libvirt-clients have virsh
    need libvirt-daemon have libvirtd
    need libvirt-daemon-driver-qemu libvirt_has_qemu
    need_deb
}

need_bench() {
    need_build
    need python3 have python3
    need gnutls-bin have certtool
    need haproxy have haproxy
    need socat have socat
    need stunnel4 have stunnel
    need openssl have openssl
}

need_bench_wan() {
    need_demo
    need iproute2 have ip
    need util-linux have nsenter
}

need_deb() {
    need_build
    need debhelper have dh
    need dpkg-dev have dpkg-buildpackage
    need build-essential is_installed build-essential
}

need_fuzz() {
    need_build
    need clang have clang
    need libclang-rt-dev fuzzer_links
}

for set in "${@:-build}"; do
    case $set in
    build | check | demo | bench | fuzz | deb) "need_$set" ;;
    bench-wan) need_bench_wan ;;
    *)
        echo "setup: got '$set', expected build, check, demo, bench, bench-wan, fuzz or deb" >&2
        exit 2
        ;;
    esac
done

missing=$(echo "$missing" | tr ' ' '\n' | sort -u | tr '\n' ' ' | sed 's/^ *//; s/ *$//')
[ -n "$missing" ] || exit 0

fail() {
    echo "setup: $1; missing: $missing" >&2
    echo "setup: on Debian: apt-get install --no-install-recommends $missing" >&2
    exit 1
}

[ -z "${NO_INSTALL:-}" ] || fail "NO_INSTALL is set"
have apt-get >/dev/null || fail "no apt-get here (those are Debian's names)"
sudo=
if [ "$(id -u)" -ne 0 ]; then
    have sudo >/dev/null || fail "need root or sudo to install"
    sudo="sudo"
fi

# env, because sudo drops the environment.
apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}

echo "setup: installing $missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The names hold no spaces; each is a word of its own.
# shellcheck disable=SC2086
if ! { apt update && apt install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    fail "apt-get failed"
fi
