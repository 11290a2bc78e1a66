#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Stop the link made by wan-up.sh, print its counters, remove the namespaces.
# Programs still running inside the namespaces keep them alive until they end.
set -u
run=${WAN_RUN:-/run/wanem}
if [ -S "$run/ctl" ]; then
    "$run/wanem" ctl "$run/ctl" quit >/dev/null || kill "$(cat "$run/pid")"
fi
if [ -f "$run/pid" ]; then
    pid=$(cat "$run/pid") i=0
    while kill -0 "$pid" 2>/dev/null && [ $i -lt 60 ]; do
        i=$((i + 1))
        sleep 0.05
    done
    rm -f "$run/pid" "$run/ctl"
    cat "$run/counters"
fi
if [ -f "$run/namespaces" ]; then
    while read -r n; do ip netns del "$n"; done <"$run/namespaces"
    rm -f "$run/namespaces"
fi
