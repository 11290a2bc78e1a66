# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections of people who have no business here, before and in the middle.

They may cost a descriptor for as long as a handshake may take, and a line in
the log.  What they may not do is end or delay somebody's migration.
"""
import socket
import threading
import time
import uuid

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.daemon import Daemon
from harness.qmp import Qmp
from harness.qemu import UUID
from harness.relay import connect
from harness.sites import Sites

HELLO = bytes.fromhex('160301020001000004fc0303') + bytes(500)      # of TLS, not a good one
INIT = bytes.fromhex('1122334400000001')        # of a multifd channel, up to the UUID
TIMEOUTS = {'timeouts': {'first-bytes': '2s', 'handshake': '2s'}}


class Crowd:
    """Strangers that come again and again to some addresses until the end."""

    def __init__(self, t, *addresses):
        self.addresses = addresses
        self.stopping = threading.Event()
        self.came = 0
        self.threads = [threading.Thread(target=self._run, args=(f,), daemon=True)
                        for f in (self._silent, self._garbage, self._http, self._tls,
                                  self._drip, self._go)]
        for thread in self.threads:
            thread.start()
        t.own(self)

    def _run(self, what):
        while not self.stopping.is_set():
            for address in self.addresses:
                try:
                    with connect(address, timeout=5) as s:
                        self.came += 1
                        what(s)
                except OSError:
                    pass
            self.stopping.wait(0.05)

    def _until_closed(self, s, at_most=3):
        s.settimeout(0.1)
        end = time.monotonic() + at_most
        while not self.stopping.is_set() and time.monotonic() < end:
            try:
                if not s.recv(4096):
                    return
            except TimeoutError:
                pass

    def _silent(self, s):
        self._until_closed(s)

    def _garbage(self, s):
        s.sendall(bytes(range(256)) * 64)
        self._until_closed(s)

    def _http(self, s):
        s.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        self._until_closed(s)

    def _tls(self, s):
        s.sendall(HELLO)
        self._until_closed(s)

    def _drip(self, s):
        for byte in b'QEVM':            # slower than anybody may be
            s.sendall(bytes([byte ^ 1]))
            if self.stopping.wait(0.7):
                return

    def _go(self, s):
        pass

    def diagnosis(self):
        return None

    def finish(self):
        self.destroy()

    def destroy(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(5)


@case('e2e/strangers/tunnel-{transport}', needs=['daemon'], table=[
    dict(transport='unix'), dict(transport='tcp')])
def tunnel(t, transport):
    dst = Qemu.destination(t)
    dst.set_multifd(3)
    listen = 'tcp:127.0.0.1:0' if transport == 'tcp' else \
        'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {**TIMEOUTS, 'tunnel web': {
        'listen': listen, 'connect': dst.listen(), 'channels': 3}})
    listen = daemon.qmp.cmd('query-status')['tunnels'][0]['address']
    crowd = Crowd(t, listen)
    wait_for(lambda: crowd.came > 20, 'strangers')
    src = Qemu.source(t)
    src.set_multifd(2, max_bandwidth=24 << 20)
    before = daemon.footprint()
    src.migrate(listen)
    assert_migrated(t, src, dst)
    crowd.destroy()
    daemon.assert_says('did not say who it is|first bytes')
    wait_for(lambda: daemon.n_threads() <= before[1], 'strangers to be forgotten', 5)


LATE = {
    'second-main': (b'QEVM\0\0\0\3', 'got a second main channel while a migration is running'),
    'taken-id': (INIT + uuid.UUID(UUID).bytes + bytes(40), 'channel id 0 is already taken'),
    'other-guest': (INIT + b'another-guest-id' + bytes([1]) + bytes(39), 'got uuid .*, expected'),
}


@case('e2e/strangers/late-{who}', needs=['daemon'], table=[dict(who=w) for w in LATE])
def late(t, who):
    """Somebody who says what a source says, when the migration has its channels."""
    data, says = LATE[who]
    dst = Qemu.destination(t)
    dst.set_multifd(3)
    listen = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {'tunnel web': {
        'listen': listen, 'connect': dst.listen(), 'channels': 3}})
    src = Qemu.source(t)
    src.set_multifd(2, max_bandwidth=16 << 20)
    src.migrate(listen)
    src.wait_transferred(2 << 20)
    with connect(listen) as s:
        s.sendall(data)
        s.settimeout(5)
        try:
            check(s.recv(1) == b'', 'it is taken in')
        except ConnectionResetError:    # what it said was not read to its end
            pass
    daemon.assert_says(says)
    assert_migrated(t, src, dst)


@case('e2e/strangers/link', needs=['daemon', 'certtool'])
def link(t):
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={**TIMEOUTS, 'peer dc2': {'rate': '200mbit'}}, dc2=TIMEOUTS)
    crowd = Crowd(t, sites.dc1.link_address(), sites.dc2.link_address())
    wait_for(lambda: crowd.came > 20, 'strangers')
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)
    crowd.destroy()
    sites.dc2.assert_says('warning: .*link: connection from')


@case('e2e/strangers/300-idle', needs=['daemon', 'certtool'])
def idle(t):
    """They fill what the daemon takes in at once; a peer gets in all the same.

    He gives up before the time is over that a stranger may take who is not in a crowd.
    """
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'timeouts': {'handshake': '25s'}},
                  dc2={'timeouts': {'handshake': '30s'}})
    address = sites.dc2.link_address()
    crowd = [connect(address) for _ in range(300)]
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)
    sites.dc2.assert_says('link: connection from .* did not say who it is')
    for s in crowd:
        s.close()


@case('e2e/strangers/control', needs=['daemon'])
def control(t):
    """The control socket answers others while somebody says nonsense to it."""
    daemon = Daemon(t, 'd', {})
    silent = [Qmp(daemon.control_path, negotiate=False) for _ in range(20)]
    for data in (b'\x00\xff' * 5000, b'{"execute": ' * 1000, b'[' * 100000,
                 b'GET / HTTP/1.1\r\n\r\n', b'"' + b'x' * (8 << 20)):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(daemon.control_path)
            try:
                s.sendall(data)
            except OSError:
                pass
            check(daemon.qmp.cmd('query-status')['running'], 'not running')
    for q in silent:
        q.close()
