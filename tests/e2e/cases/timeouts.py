# SPDX-License-Identifier: GPL-2.0-or-later
"""Neighbours that do nothing: each wait has an end, and says which it was."""
import socket
import time

from harness import Qemu, assert_runs_at, assert_stayed, case, check, wait_for
from harness.certs import Authority
from harness.daemon import Daemon, free_port
from harness.raw import RawDest, RawSource
from harness.relay import Relay, connect, listen
from harness.sites import Sites
from harness.stream import Capture

NEEDS = ['daemon', 'certtool']


class Silent:
    """Listens and takes nobody in; full: the kernel does not answer either."""

    def __init__(self, t, full=False):
        self.sock, self.address = listen('tcp:127.0.0.1:0')
        self.others = []
        if full:
            self.sock.listen(0)
            for _ in range(3):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(self.sock.getsockname())
                self.others.append(s)
        t.own(self)

    def diagnosis(self):
        return None

    def finish(self):
        self.destroy()

    def destroy(self):
        for s in [self.sock, *self.others]:
            s.close()


def migrate_to(t, address, timeouts, **keys):
    """A source and a tunnel to somebody who does nothing; and the time it took."""
    path = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {'timeouts': timeouts, 'tunnel web': {
        'listen': path, 'connect': address, 'channels': 2, **keys}})
    src = Qemu.source(t)
    src.set_multifd(2)
    begin = time.monotonic()
    src.migrate(path)
    src.wait_migration('failed', timeout=8)
    took = time.monotonic() - begin
    wait_for(src.running, 'the guest to run at the source', 2)
    src.guest.verify()
    return daemon, took


@case('e2e/timeouts/handshake', needs=NEEDS)
def handshake(t):
    """It accepts, and never says a word of TLS."""
    directory = Authority(t).directory('near')
    daemon, took = migrate_to(t, Silent(t).address, {'handshake': '1s'},
                              **{'tls': 'yes', 'tls-directory': directory})
    check(0.8 < took < 3, 'took %.1f s' % took)
    daemon.assert_says('error: .*TLS handshake.*time')


@case('e2e/timeouts/connect', needs=['daemon'])
def connecting(t):
    """A host that does not answer at all."""
    daemon, took = migrate_to(t, Silent(t, full=True).address, {'connect': '1s'})
    check(0.8 < took < 3, 'took %.1f s' % took)
    daemon.assert_says('error: .*connect to .*time')


@case('e2e/timeouts/first-bytes', needs=['daemon'])
def first_bytes(t):
    path = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {'timeouts': {'first-bytes': '500ms'}, 'tunnel web': {
        'listen': path, 'connect': 'tcp:127.0.0.1:%d' % free_port()}})
    with connect(path) as s:
        begin = time.monotonic()
        s.settimeout(5)
        check(s.recv(1) == b'', 'it talks first')
        took = time.monotonic() - begin
    check(0.3 < took < 2, 'took %.1f s' % took)
    daemon.assert_says('warning: .*did not say who it is')


@case('e2e/timeouts/idle{how}', needs=['daemon'], table=[
    dict(how='', slow='hold'), dict(how='-drip', slow='drip')])
def idle(t, how, slow):
    """A source that stops in the middle and stays connected; or sends byte by byte.

    Bytes that make no packet are no progress.
    """
    capture = Capture(t.options.tree, 'qemu72-none-2ch')
    dest = RawDest(t, capture)
    path = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {'timeouts': {'idle': '1s'}, 'tunnel web': {
        'listen': path, 'connect': dest.address, 'channels': 2}})
    source = RawSource(t, path, capture, **{slow: (1, 2)})
    source.wait_refused()
    daemon.assert_says('error: .*idle')
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 3)


def slow_sites(t, src, dst, dead='2s', **more):
    timeouts = {'timeouts': {'link-dead': dead, 'qmp': '2s', 'handshake': '3s'}}
    return Sites(t, src, dst, dc1={**timeouts, 'peer dc2': {'rate': '40mbit', 'outage': '1s'}},
                 dc2={**timeouts, 'peer dc1': {'outage': '1s'}}, **more)


@case('e2e/timeouts/link-dead-{how}', needs=NEEDS, table=[
    dict(how='stopped'), dict(how='silent-network')])
def link_dead(t, how):
    """The peer, or all that is between us, stands still: no FIN, no reset."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    relays = []

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    sites = slow_sites(t, src, dst, through=through)
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    migration.may_be_dead = True
    src.wait_transferred(3 << 20)
    begin = time.monotonic()
    if how == 'stopped':
        sites.dc2.sigstop()
    else:
        relays[0].stall()
    dst.may_be_dead = True
    src.wait_migration('failed', 'cancelled', timeout=8)
    took = time.monotonic() - begin
    check(took < 2 + 1 + 2.5, 'took %.1f s, allowed are 2 (link-dead), 1 (outage) and a little'
          % took)
    sites.dc1.assert_says('error: .*(dead|silent|time)')
    if how == 'stopped':
        sites.dc2.sigcont()
    wait_for(lambda: not sites.dc2.migrations_active(), 'dc2 to end it', 12)
    assert_runs_at(src, dst)
    check(migration.wait_exit(5) == 1, 'the client does not say that it failed')


@case('e2e/timeouts/slow-link', needs=NEEDS)
def slow_link(t):
    """A link that stands still for less than link-dead has not died."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    relays = []

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    sites = slow_sites(t, src, dst, dead='4s', through=through)
    sites.dc1.qmp.cmd('set-rate-limit', peer='dc2', rate='400mbit')
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    src.wait_transferred(3 << 20)
    relays[0].stall()
    time.sleep(1.5)             # what is tested is that time passes
    relays[0].resume()
    migration.expect_exit(0, timeout=30)
    src.wait_migration('completed')
    assert_runs_at(dst, src)


@case('e2e/timeouts/destination-stopped', needs=['daemon'])
def destination_stopped(t):
    """A destination QEMU that stands still: nothing moves, until idle ends it."""
    dst = Qemu.destination(t)
    dst.set_multifd(2)
    path = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {'timeouts': {'idle': '1500ms'}, 'tunnel web': {
        'listen': path, 'connect': dst.listen(), 'channels': 2}})
    src = Qemu.source(t)
    src.set_multifd(2, max_bandwidth=32 << 20)
    src.migrate(path)
    src.wait_transferred(4 << 20)
    dst.may_be_dead = True
    dst.sigstop()
    src.wait_migration('failed', timeout=10)
    dst.sigcont()
    assert_stayed(t, src, dst)
    daemon.assert_says('error: .*idle')
