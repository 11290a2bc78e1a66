# SPDX-License-Identifier: GPL-2.0-or-later
"""Passive tunnels: one daemon between two QEMUs that somebody else drives.

The daemon is given addresses and nothing else.  What it carries must come
out at the other end as if it were not there, whatever the two numbers of
channels are.
"""
import struct

from harness import Qemu, assert_migrated, assert_stayed, case, check, wait_for
from harness.daemon import Daemon, free_port
from harness.relay import Relay, connect


def listen_address(t, name, transport):
    """Where a daemon of this name shall listen for the source."""
    if transport == 'unix':
        return 'unix:' + Daemon.path_of(t, name, 'in.sock')
    return 'tcp:127.0.0.1:%d' % free_port()


def incoming_address(dst, transport):
    """Where the destination QEMU listens."""
    return dst.listen('unix:%s/incoming.sock' % dst.dir if transport == 'unix'
                      else 'tcp:127.0.0.1:0')


def migrate_through(t, n, k, transports=('unix', 'unix'), ram=False, relay=False,
                    max_bandwidth=48 << 20, method='none'):
    """A live migration, n channels in and k out; returns all that took part."""
    dst = Qemu.destination(t, paused=ram)
    dst.set_multifd(k, multifd_compression=method)
    target = incoming_address(dst, transports[1])
    if relay:
        relay = Relay(t, target)
        target = relay.address
    listen = listen_address(t, 'tunnel', transports[0])
    daemon = Daemon.tunnel(t, 'tunnel', listen, target, k or None)
    src = Qemu.source(t)
    # Slow enough for several rounds of dirty pages, so that epochs matter.
    src.set_multifd(n, max_bandwidth=max_bandwidth, downtime_limit=100,
                    multifd_compression=method)
    before = daemon.footprint()
    src.migrate(listen)
    return src, dst, daemon, relay, before


@case('e2e/tunnel/{listen}-to-{connect}/n{n}-k{k}', needs=['daemon'], table=[
    dict(n=1, k=1, listen='unix', connect='unix'),
    dict(n=2, k=5, listen='unix', connect='tcp'),
    dict(n=5, k=2, listen='tcp', connect='unix'),
    dict(n=8, k=3, listen='tcp', connect='tcp'),
    dict(n=4, k=16, listen='unix', connect='unix'),
    dict(n=16, k=1, listen='tcp', connect='tcp'),
])
def channels(t, n, k, listen, connect):
    src, dst, daemon, _, before = migrate_through(t, n, k, (listen, connect))
    assert_migrated(t, src, dst)
    daemon.assert_footprint(before)


@case('e2e/tunnel/compressed/{method}-n{n}-k{k}', needs=['daemon'], table=[
    dict(method='zlib', n=3, k=2),
    dict(method='zstd', n=2, k=5),
])
def compressed(t, method, n, k):
    """Payloads that depend on the packets before them are packed anew for each channel."""
    src, dst, *_ = migrate_through(t, n, k, ram=True, method=method)
    assert_migrated(t, src, dst, ram=True)


@case('e2e/tunnel/main-only', needs=['daemon'])
def main_only(t):
    """A stream without multifd is carried too."""
    src, dst, daemon, _, before = migrate_through(t, 0, 0)
    assert_migrated(t, src, dst)
    daemon.assert_footprint(before)


@case('e2e/tunnel/ram-compared/n4-k3', needs=['daemon'])
def ram_compared(t):
    """Beyond what the guest checks: all of RAM, byte for byte."""
    src, dst, *_ = migrate_through(t, 4, 3, ram=True)
    assert_migrated(t, src, dst, ram=True)


@case('e2e/tunnel/twice', needs=['daemon'])
def twice(t):
    """The same tunnel carries a second migration after a cancelled first."""
    dst = Qemu.destination(t, 'dst1')
    dst.set_multifd(2)
    incoming = 'unix:%s/incoming.sock' % t.dir
    dst.listen(incoming)
    listen = listen_address(t, 'tunnel', 'unix')
    daemon = Daemon.tunnel(t, 'tunnel', listen, incoming, 2)
    src = Qemu.source(t)
    src.set_multifd(3, max_bandwidth=4 << 20)
    src.migrate(listen)
    src.wait_transferred(2 << 20)
    src.qmp.cmd('migrate_cancel')
    dst.expect_failed_incoming()
    assert_stayed(t, src, dst, statuses=('cancelled',))
    dst.kill()
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to forget the first')

    dst = Qemu.destination(t, 'dst2')
    dst.set_multifd(2)
    dst.listen(incoming)
    src.set_multifd(3, max_bandwidth=128 << 20)
    src.migrate(listen)
    assert_migrated(t, src, dst)


@case('e2e/tunnel/nobody-listens', needs=['daemon'])
def nobody_listens(t):
    """No destination: the source hears it at once and its guest runs on."""
    listen = listen_address(t, 'tunnel', 'unix')
    target = 'tcp:127.0.0.1:%d' % free_port()
    daemon = Daemon.tunnel(t, 'tunnel', listen, target, 2)
    src = Qemu.source(t)
    src.set_multifd(2)
    src.migrate(listen)
    src.wait_migration('failed', timeout=5)
    wait_for(src.running, 'the guest to run at the source', 2)
    src.guest.verify()
    daemon.assert_says(target.rsplit(':', 1)[1] + '.*[Rr]efused')


@case('e2e/tunnel/late-channels', needs=['daemon'])
def late_channels(t):
    """A source connects all channels before it hears of a failure: they make no migration."""
    listen = listen_address(t, 'tunnel', 'unix')
    daemon = Daemon.tunnel(t, 'tunnel', listen, 'tcp:127.0.0.1:%d' % free_port(), 2)
    with connect(listen) as main:
        main.settimeout(5)
        main.sendall(b'QEVM' + struct.pack('>I', 3))
        check(main.recv(1) == b'', 'the main channel of a failed migration stays open')
    for channel in range(2):
        with connect(listen) as late:
            late.sendall(struct.pack('>II16sB39x', 0x11223344, 1, bytes(16), channel))
        daemon.assert_says('channel %d from .*over' % channel)
    check(len(daemon.migrations()) == 1, 'got migrations %s, expected one' % daemon.migrations())


@case('e2e/tunnel/{who}-killed', needs=['daemon'], table=[
    dict(who='source'), dict(who='destination'), dict(who='daemon'), dict(who='network')])
def killed(t, who):
    """kill -9 in the middle of the transfer: the other ends must not hang."""
    src, dst, daemon, relay, before = migrate_through(t, 4, 3, relay=True, max_bandwidth=8 << 20)
    src.wait_transferred(4 << 20)
    dst.may_be_dead = True
    if who == 'source':
        src.kill()
        dst.expect_failed_incoming()
    elif who == 'destination':
        dst.kill()
        assert_stayed(t, src, dst)
    elif who == 'daemon':
        daemon.kill()
        # No abort protocol can run here: this destination may be wedged.
        assert_source_goes_on(src)
        dst.kill()
    else:
        relay.cut(reset=True)
        assert_source_goes_on(src)
        dst.kill()
    if who != 'daemon':
        daemon.assert_footprint(before)


def assert_source_goes_on(src):
    src.wait_migration('failed', timeout=10)
    wait_for(src.running, 'the guest to run at the source', 2)
    src.guest.verify()
