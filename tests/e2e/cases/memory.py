# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon holds of a migration is bounded, whatever its neighbours do."""
from harness import case, check, wait_for
from harness.daemon import Daemon, free_port
from harness.raw import RawDest, RawSource
from harness.sites import Sites
from harness.stream import Capture

LIMIT_MIB = 8
SLACK_MIB = 24          # stacks, TLS sessions, what malloc keeps, sanitizers' share
STREAM_MIB = 128


def check_bound(t, daemons):
    """Until nothing moves any more; none may have grown by more than it may."""
    sizes = {d: [] for d, _ in daemons}

    def at_rest():
        for d, seen in sizes.items():
            seen.append(d.rss_bytes())
        return all(len(seen) > 20 and max(seen[-20:]) - min(seen[-20:]) < 64 << 10
                   for seen in sizes.values())
    wait_for(at_rest, 'the daemons to stop taking more', 20, every=0.05)
    for d, idle in daemons:
        grown = max(sizes[d]) - idle
        t.log('%s: idle %d KiB, with a stalled destination %d KiB more'
              % (d.name, idle >> 10, grown >> 10))
        check(grown <= (LIMIT_MIB + SLACK_MIB) << 20, '%s: grew by %d MiB, allowed %d + %d'
              % (d.name, grown >> 20, LIMIT_MIB, SLACK_MIB))


@case('e2e/memory/destination-does-not-read', needs=['daemon'])
def stalled_destination(t):
    """A source with 128 MiB at hand, nobody who takes them: TCP must hold it back."""
    capture = Capture(t.options.tree, 'qemu100-none-2ch')
    capture.grow(1, STREAM_MIB << 20)
    dest = RawDest(t, capture, rcvbuf=64 << 10)
    listen = 'tcp:127.0.0.1:%d' % free_port()
    daemon = Daemon(t, 'tunnel', {
        'daemon': {'migration-memory': '%dM' % LIMIT_MIB},
        'tunnel slow': {'listen': listen, 'connect': dest.address, 'channels': '2'}})
    idle = daemon.rss_bytes()
    dest.stop_reading()
    source = RawSource(t, listen, capture)
    wait_for(lambda: dest.markers_received(), 'the migration to begin')
    check_bound(t, [(daemon, idle)])
    check(source.syncs_sent[1] < len(capture.main.markers), 'the source was not held back')
    dest.go_on_reading()
    source.wait_shut(60)
    dest.verify(timeout=60)


@case('e2e/memory/over-the-link', needs=['daemon'])
def stalled_over_link(t):
    """The same with two daemons: each holds its share, and no more."""
    capture = Capture(t.options.tree, 'qemu100-none-2ch')
    capture.grow(1, STREAM_MIB << 20)
    dest = RawDest(t, capture, 3, rcvbuf=64 << 10)
    listen = 'tcp:127.0.0.1:%d' % free_port()
    limit = {'daemon': {'migration-memory': '%dM' % LIMIT_MIB}}
    sites = Sites(t, tls='psk', dc1={**limit, 'tunnel slow': {'listen': listen, 'peer': 'dc2'}},
                  dc2={**limit, 'tunnel slow': {'peer': 'dc1', 'connect': dest.address,
                                                'channels': 3}})
    daemons = [(d, d.rss_bytes()) for d in (sites.dc1, sites.dc2)]
    dest.stop_reading()
    source = RawSource(t, listen, capture)
    wait_for(dest.markers_received, 'the migration to begin')
    check_bound(t, daemons)
    check(source.syncs_sent[1] < len(capture.main.markers), 'the source was not held back')
    dest.go_on_reading()
    source.wait_shut(60)
    dest.verify(timeout=60)
