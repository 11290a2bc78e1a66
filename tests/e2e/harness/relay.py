# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCP or unix relay that misbehaves on request.

It stands where the network stands, and knows nothing of what it carries:
what it cuts, stalls, delays or damages is bytes.  Connections are numbered
from 0 in the order in which they came.
"""
import os
import select
import socket
import struct
import threading
import time

from .case import wait_for

CHUNK = 64 * 1024


def parse_address(text):
    """'tcp:HOST:PORT' or 'unix:PATH' as (family, address)."""
    kind, rest = text.split(':', 1)
    if kind == 'unix':
        return socket.AF_UNIX, rest
    host, port = rest.rsplit(':', 1)
    host = host.strip('[]')
    return socket.AF_INET6 if ':' in host else socket.AF_INET, (host, int(port))


def connect(address, timeout=10):
    family, where = parse_address(address)
    s = socket.socket(family)
    s.settimeout(timeout)
    s.connect(where)
    s.settimeout(None)
    if family != socket.AF_UNIX:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def listen(address):
    """Listen; returns (socket, address with the port that the kernel chose)."""
    family, where = parse_address(address)
    s = socket.socket(family)
    if family != socket.AF_UNIX:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(where)
    s.listen(300)
    if family != socket.AF_UNIX:
        address = 'tcp:%s:%d' % s.getsockname()[:2]
    return s, address


class Connection:
    """One relayed connection: sockets, and what went through each way."""

    def __init__(self, number, client, server):
        self.number = number
        self.client = client        # towards who connected
        self.server = server        # towards the target
        self.bytes_up = 0           # client to server
        self.bytes_down = 0
        self.open = True
        self.pumps = 2              # directions that are still being read

    def cut(self, reset=False):
        for s in (self.client, self.server):
            try:
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = False


class Relay:
    """Listens at .address, connects to target for each that comes."""

    def __init__(self, t, target, address='tcp:127.0.0.1:0', name='relay'):
        self.t = t
        self.name = name
        self.target = target
        self.delay_s = 0            # before each chunk goes on
        self.slow = {}              # connection number: bytes/s upwards
        self.refuse = False         # accept and close at once
        self.cut_after = None       # cut all when so many bytes went up in sum
        self.connections = []
        self.damages = []           # (connection number, offset, xor mask)
        self.mute_from = None       # nothing passes on connections from this number on
        self.flowing = {'up': threading.Event(), 'down': threading.Event()}
        for e in self.flowing.values():
            e.set()
        self.closing = False
        self.threads = []
        self.lock = threading.Lock()        # guards cutting by count, and damages
        self.sock, self.address = listen(address)
        self._thread(self._accept)
        t.own(self)

    # ---- what a case does with it ----

    def stall(self, *directions):
        """Stop to read ('up': from the connecting side; default both)."""
        for d in directions or ('up', 'down'):
            self.flowing[d].clear()

    def resume(self):
        for e in self.flowing.values():
            e.set()

    def cut(self, number=None, reset=False):
        """End one connection, or all that are open."""
        for c in self.connections:
            if c.open and number in (None, c.number):
                self.t.log('%s: cut connection %d after %d bytes'
                           % (self.name, c.number, c.bytes_up))
                c.cut(reset)

    def corrupt(self, number, offset, mask=b'\x01'):
        """Flip bits of the upward bytes at an offset of connection number.

        With number None the first connection to reach the offset is hit.
        """
        self.damages.append((number, offset, mask))

    def bytes_up(self):
        return sum(c.bytes_up for c in self.connections)

    def wait_bytes_up(self, count, timeout=30):
        wait_for(lambda: self.bytes_up() >= count, lambda: '%s: %d bytes to pass, %d did'
                 % (self.name, count, self.bytes_up()), timeout)

    # ---- inside ----

    def _thread(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while not self.closing:
            if not select.select([self.sock], [], [], 0.05)[0]:
                continue
            client, _ = self.sock.accept()
            if self.refuse:
                client.close()
                continue
            try:
                server = connect(self.target)
            except OSError as e:
                self.t.log('%s: %s: %s' % (self.name, self.target, e))
                client.close()
                continue
            c = Connection(len(self.connections), client, server)
            self.connections.append(c)
            self._thread(self._pump, c, client, server, 'up')
            self._thread(self._pump, c, server, client, 'down')

    def _pump(self, c, source, sink, direction):
        try:
            while True:
                while self._is_mute(c) or not self.flowing[direction].wait(0.1):
                    if self.closing:
                        return
                data = source.recv(CHUNK)
                if not data:
                    break
                if self.delay_s:
                    time.sleep(self.delay_s)
                if direction == 'up' and c.number in self.slow:
                    time.sleep(len(data) / self.slow[c.number])
                self.flowing[direction].wait()
                if direction == 'up':
                    data = self._count_up(c, data)
                else:
                    c.bytes_down += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            c.cut()
        finally:
            self._end_pump(c)

    def _end_pump(self, c):
        """Close what nobody reads any more: who writes to it would wait for ever."""
        with self.lock:
            c.pumps -= 1
            if c.pumps == 0:
                c.open = False
                c.client.close()
                c.server.close()

    def _is_mute(self, c):
        mute = self.mute_from is not None and c.number >= self.mute_from
        if mute:
            time.sleep(0.01)
        return mute

    def _count_up(self, c, data):
        with self.lock:
            start = c.bytes_up
            c.bytes_up += len(data)
            for damage in list(self.damages):
                number, offset, mask = damage
                at = offset - start
                if number in (None, c.number) and 0 <= at < len(data):
                    self.damages.remove(damage)
                    self.t.log('%s: damaged byte %d of connection %d'
                               % (self.name, offset, c.number))
                    mask = mask[:len(data) - at]
                    hurt = bytes(a ^ b for a, b in zip(data[at:], mask))
                    data = data[:at] + hurt + data[at + len(mask):]
            if self.cut_after is not None and self.bytes_up() >= self.cut_after:
                self.cut_after = None
                self.cut()
        return data

    # ---- as an actor ----

    def diagnosis(self):
        return None

    def finish(self):
        self.destroy()

    def destroy(self):
        if self.closing:
            return
        self.closing = True
        self.resume()
        for c in self.connections:
            c.cut()
        for thread in self.threads:
            thread.join(1)
        for c in self.connections:
            c.client.close()
            c.server.close()
        family, where = self.sock.family, self.sock.getsockname()
        self.sock.close()
        if family == socket.AF_UNIX:
            os.unlink(where)
