#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Create two network namespaces joined by an emulated WAN link.
#
#   wan-up.sh [wanem options and KEY=VALUE settings]
#   wan-up.sh rate=200M delay=20 queue=1M          (40 ms round trip)
#
# Environment, with defaults:
#   WAN_NS1=dc1 WAN_NS2=dc2    names of the namespaces
#   WAN_NET=10.77.0            first three numbers of the addresses (.1 and .2)
#   WAN_NET6=fd77:             prefix of the IPv6 addresses (fd77::1 and fd77::2)
#   WAN_RUN=/run/wanem         holds the control socket, the pid and the counters
#   WAN_CC=cubic               TCP congestion control inside the namespaces
#   WANEM=                     the wanem program, such as build/tests/net/wanem;
#                              compiled into WAN_RUN from wanem.c when not given
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ns1=${WAN_NS1:-dc1} ns2=${WAN_NS2:-dc2} net=${WAN_NET:-10.77.0}
net6=${WAN_NET6:-fd77:}
run=${WAN_RUN:-/run/wanem} cc=${WAN_CC:-cubic}

mkdir -p "$run"
if [ -S "$run/ctl" ]; then
    echo "wan-up: already up ($run/ctl); run wan-down.sh first" >&2
    exit 1
fi
bin=${WANEM:-}
if [ -z "$bin" ]; then
    bin=$run/wanem
    if [ ! -x "$bin" ] || [ "$here/wanem.c" -nt "$bin" ]; then
        ${CC:-cc} -O2 -D_GNU_SOURCE -o "$bin" "$here/wanem.c" -lpthread
    fi
fi

# A namespace may only use what the host's list allows; add ours to the list.
allowed=$(sysctl -n net.ipv4.tcp_allowed_congestion_control)
case " $allowed " in
*" $cc "*) ;;
*) sysctl -qw "net.ipv4.tcp_allowed_congestion_control=$allowed $cc" ;;
esac

made=
undo() {
    for n in $made; do ip netns del "$n" 2>/dev/null || :; done
}
trap undo EXIT
for n in "$ns1" "$ns2"; do
    ip netns add "$n"
    made="$made $n"
    ip -n "$n" link set lo up
    ip netns exec "$n" sysctl -qw net.ipv4.tcp_no_metrics_save=1 \
        "net.ipv4.tcp_congestion_control=$cc"
done

"$bin" --a "$ns1:wan0" --b "$ns2:wan0" --ctl "$run/ctl" --rt "$@" \
    >"$run/counters" 2>"$run/log" </dev/null &
pid=$!
i=0
until "$bin" ctl "$run/ctl" stats >/dev/null 2>&1; do
    i=$((i + 1))
    if ! kill -0 "$pid" 2>/dev/null || [ $i -gt 100 ]; then
        cat "$run/log" >&2
        exit 1
    fi
    sleep 0.05
done
echo "$pid" >"$run/pid"
printf '%s\n' "$ns1" "$ns2" >"$run/namespaces"
ip -n "$ns1" addr add "$net.1/24" dev wan0
ip -n "$ns2" addr add "$net.2/24" dev wan0
ip -n "$ns1" addr add "$net6:1/64" dev wan0 nodad
ip -n "$ns2" addr add "$net6:2/64" dev wan0 nodad
[ "$bin" = "$run/wanem" ] || ln -sf "$(readlink -f "$bin")" "$run/wanem"
trap - EXIT
