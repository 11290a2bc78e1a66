# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon holds of a migration is bounded, whatever its neighbours do."""
from harness import case, check, wait_for
from harness.daemon import Daemon, free_port
from harness.raw import RawDest, RawSource
from harness.stream import Capture

LIMIT_MIB = 8
SLACK_MIB = 24          # stacks, TLS sessions, what malloc keeps, sanitizers' share
STREAM_MIB = 128


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
    # Until nothing moves any more: the same number of bytes twice, far apart.
    sizes = []

    def at_rest():
        sizes.append(daemon.rss_bytes())
        return len(sizes) > 20 and max(sizes[-20:]) - min(sizes[-20:]) < 64 << 10
    wait_for(at_rest, 'the daemon to stop taking more', 20, every=0.05)
    grown = max(sizes) - idle
    t.log('idle %d KiB, with a stalled destination %d KiB more' % (idle >> 10, grown >> 10))
    check(grown <= (LIMIT_MIB + SLACK_MIB) << 20, 'grew by %d MiB, allowed %d + %d'
          % (grown >> 20, LIMIT_MIB, SLACK_MIB))
    check(source.syncs_sent[1] < len(capture.main.markers), 'the source was not held back')
    dest.go_on_reading()
    source.wait_shut(60)
    dest.verify(timeout=60)
