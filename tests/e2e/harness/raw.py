# SPDX-License-Identifier: GPL-2.0-or-later
"""Synthetic ends: a source that replays a capture, a destination that judges.

They do what no real QEMU does on request: send a damaged packet, hold back a
SYNC, stop to read, close in a chosen place.  Both keep a real QEMU's order of
things (SYNC k on every channel before marker k on main; channels closed
before main at the destination), because the daemon may rely on it.
"""
import socket
import threading
import time

from . import relay
from .case import Failure, check, wait_for
from .stream import INIT_SIZE, MainStream, packets

SHUT = 1


class _End:
    """What both have: sockets, threads, and an end."""

    def __init__(self, t, name):
        self.t = t
        self.name = name
        self.sockets = []
        self.threads = []
        self.errors = []
        self.closing = False
        t.own(self)

    def start(self, function, *args):
        def run():
            try:
                function(*args)
            except OSError as e:
                self.errors.append('%s: %s' % (function.__name__, e))
            except Failure as e:
                self.errors.append(str(e))
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def diagnosis(self):
        return None

    def finish(self):
        self.destroy()

    def destroy(self):
        self.closing = True
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(2)
        for s in self.sockets:
            s.close()


class RawSource(_End):
    """Plays a capture to an address, as the QEMU that was recorded did.

    hold is (channel, k): that channel stops right before its SYNC number k
    (from 1) until release(), and main therefore before marker k.  drip is the
    same, but from there on it sends one byte in a fifth of a second.

    As QEMU does, it gives up everything when one of its channels is closed
    before all of it is sent: that number is then in .closed_channels.
    """

    def __init__(self, t, address, capture, hold=None, drip=None, name='raw-source'):
        super().__init__(t, name)
        self.address = address
        self.capture = capture
        self.hold = hold
        self.drip = drip
        self.released = threading.Event()
        self.changed = threading.Condition()    # guards the next two
        self.syncs_sent = [0] * len(capture.channels)
        self.inits_sent = 0
        self.answer = b''
        self.main_closed = threading.Event()    # the peer closed main
        self.given_up = threading.Event()
        self.closed_channels = []               # by the peer, before their end
        self.start(self._main)
        for i in range(len(capture.channels)):
            self.start(self._channel, i)

    def release(self):
        self.released.set()

    def destroy(self):
        self.release()
        super().destroy()

    def give_up(self):
        """End as a source does that fails or is killed: everything at once."""
        self.given_up.set()
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def wait_shut(self, timeout=20):
        """The destination's word that all is well came back, unaltered."""
        wait_for(lambda: self.answer == self.capture.answer or self.main_closed.is_set(),
                 '%s: SHUT' % self.name, timeout)
        check(self.answer == self.capture.answer, '%s: return path: got %s, expected %s; %s'
              % (self.name, self.answer.hex(), self.capture.answer.hex(), self.errors))

    def wait_refused(self, timeout=5):
        """Main was closed on us, without SHUT 0: a source would now go on."""
        check(self.main_closed.wait(timeout), '%s: main still open after %g s'
              % (self.name, timeout))
        shut_ok = self.capture.answer[-8:]
        check(not self.answer.endswith(shut_ok), '%s: got SHUT 0 for a broken stream' % self.name)

    def _connect(self):
        s = relay.connect(self.address)
        self.sockets.append(s)
        if self.given_up.is_set():      # it may have missed this one
            self.give_up()
        return s

    def _wait(self, condition):
        with self.changed:
            while not condition():
                if self.closing or self.given_up.is_set():
                    raise OSError('given up')
                self.changed.wait(0.1)

    def _main(self):
        s = self._connect()
        self.start(self._read_answer, s)
        data, sent = self.capture.main_bytes, 0
        self._wait(lambda: self.inits_sent == len(self.syncs_sent))
        for k, marker in enumerate(self.capture.main.markers, 1):
            s.sendall(data[sent:marker])
            sent = marker
            self._wait(lambda: min(self.syncs_sent) >= k)
        s.sendall(data[sent:])

    def _read_answer(self, s):
        try:
            while True:
                data = s.recv(4096)
                if not data:
                    break
                self.answer += data
        finally:
            self.main_closed.set()

    def _channel(self, number):
        data = self.capture.channels[number]
        s = self._connect()
        self.start(self._watch, number, s)
        s.sendall(data[:INIT_SIZE])
        with self.changed:
            self.inits_sent += 1
            self.changed.notify_all()
        sent, k = INIT_SIZE, 0
        for end in self._sync_ends(data):
            k += 1
            if self.hold == (number, k):
                self.released.wait()
            if self.drip == (number, k):
                self._drip(s, data[sent:end])
                continue
            s.sendall(data[sent:end])
            sent = end
            with self.changed:
                self.syncs_sent[number] += 1
                self.changed.notify_all()
        s.sendall(data[sent:])

    def _drip(self, s, data):
        for byte in data:
            if self.closing or self.given_up.is_set():
                return
            s.sendall(bytes([byte]))
            time.sleep(0.2)

    def _watch(self, number, s):
        """A destination says nothing on a channel: this ends when it closes."""
        try:
            s.recv(1)
        except OSError:
            pass
        if not self.closing and not self.given_up.is_set() and not self.answer.endswith(
                self.capture.answer[-8:]):
            self.closed_channels.append(number)
            self.give_up()

    @staticmethod
    def _sync_ends(data):
        """Positions after each SYNC; up to the damage, in a damaged stream."""
        try:
            return [p.end for p in packets(data) if p.sync]
        except ValueError:
            return []


class RawDest(_End):
    """Takes what a capture's migration sends, over any number of channels.

    .main and .channels (by id) are the bytes so far.  SHUT is sent when main
    and all SYNCs of so many channels (default: as recorded) are there.
    """

    def __init__(self, t, capture, n_channels=None, address='tcp:127.0.0.1:0', rcvbuf=None,
                 name='raw-dest'):
        super().__init__(t, name)
        self.capture = capture
        self.n_channels = n_channels or len(capture.channels)
        self.n_syncs = len(capture.main.markers)
        self.main = bytearray()
        self.channels = {}
        self.gate = threading.Event()
        self.gate.set()
        self.done = threading.Event()
        self.main_ended = threading.Event()
        self.listener, self.address = relay.listen(address)
        if rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sockets.append(self.listener)
        self.start(self._accept)

    def stop_reading(self):
        self.gate.clear()

    def go_on_reading(self):
        self.gate.set()

    def markers_received(self):
        """How many sync markers main has brought whole."""
        return sum(len(self.main) >= m + 8 for m in self.capture.main.markers)

    def bytes_received(self):
        return sum(map(len, self.channels.values()))

    def verify(self, timeout=20):
        """All came, once, in its epoch; main to the byte; memory as recorded."""
        wait_for(self.done.is_set, self._progress, timeout)
        check(not self.errors, '; '.join(self.errors))
        check(bytes(self.main) == self.capture.main_bytes, 'main channel was altered')
        ids = sorted(self.channels)
        check(ids == list(range(len(ids))), 'got channel ids %s' % ids)
        check(len(ids) == self.n_channels, 'got %d channels, expected %d'
              % (len(ids), self.n_channels))
        got = [bytes(self.channels[i]) for i in ids]
        for i, data in enumerate(got):
            check(data[4:24] == self.capture.channels[0][4:24], 'channel %d: init differs' % i)
        for kind in ('normal', 'zero'):
            counts = [sum(getattr(p, kind) for c in cs for p in packets(c))
                      for cs in (got, self.capture.channels)]
            check(counts[0] == counts[1], 'got %d %s pages, expected %d' % (counts[0], kind, counts[1]))
        differ = self.capture.memory_differs(MainStream(bytes(self.main)), got)
        check(not differ, 'memory differs in ' + ', '.join(differ))

    def _progress(self):
        return '%s: the whole migration: main %d of %d bytes, SYNCs %s of %d; %s' % (
            self.name, len(self.main), len(self.capture.main_bytes), self.sync_counts(),
            self.n_syncs, self.errors)

    def _all_synced(self):
        counts = self.sync_counts().values()
        return len(counts) == self.n_channels and min(counts) >= self.n_syncs

    def sync_counts(self):
        """How many SYNCs each channel (by id) has brought."""
        return {i: sum(p.sync for p in packets(c))
                for i, c in list(self.channels.items())}

    def _accept(self):
        self.listener.settimeout(0.1)
        while not self.closing:
            try:
                s, _ = self.listener.accept()
            except TimeoutError:
                continue
            s.settimeout(None)
            self.sockets.append(s)
            self.start(self._classify, s)

    def _classify(self, s):
        first = b''
        while len(first) < 4:
            data = s.recv(4 - len(first))
            if not data:
                raise Failure('%s: a connection closed after %d bytes' % (self.name, len(first)))
            first += data
        if first == b'QEVM':
            self._read_main(s, first)
        else:
            self._read_channel(s, first)

    def _read_main(self, s, first):
        self.main += first
        pongs, shut = self.capture.answer[:-8], self.capture.answer[-8:]
        s.sendall(pongs)
        while len(self.main) < len(self.capture.main_bytes):
            data = s.recv(65536)
            if not data:
                self.main_ended.set()
                return
            self.main += data
        while not self._all_synced():
            if self.closing:
                return
            time.sleep(0.01)
        s.sendall(shut)
        self.done.set()
        s.shutdown(socket.SHUT_RDWR)

    def _read_channel(self, s, first):
        data = bytearray(first)
        while len(data) < INIT_SIZE:
            more = s.recv(INIT_SIZE - len(data))
            if not more:
                raise Failure('%s: a channel closed inside its init packet' % self.name)
            data += more
        check(data[24] not in self.channels, '%s: two channels with id %d' % (self.name, data[24]))
        self.channels[data[24]] = data
        while True:
            while not self.gate.wait(0.1):
                if self.closing:
                    return
            more = s.recv(65536)
            if not more:
                return
            data += more
