# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that speaks the link protocol, and lies when it is told to.

An implementation of its own, from docs/link-protocol.md.  LiarDestination is
what a daemon beside a source QEMU connects to, LiarSource connects to a daemon
beside a destination QEMU.  Both are honest until the case says otherwise, and
both have certificates that the daemon trusts: what they show is what an
authenticated peer can do, or one with a bug.
"""
import json
import os
import socket
import ssl
import struct
import threading

from . import relay
from .case import wait_for

HEADER = struct.Struct('>BBHIQQII')
HELLO, CONTROL, PING, PONG, MAIN, RETURN, ACK, PAGES, DEVICE, EPOCH_END, PREEMPT, TEST = range(1, 13)
SHUT_0 = bytes([0, 1, 0, 4, 0, 0, 0, 0])
MIGRATION = '0123456789abcdef' * 2


def context(directory, server):
    """TLS as docs/link-protocol.md section 1 wants it."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    c.minimum_version = ssl.TLSVersion.TLSv1_3
    c.set_alpn_protocols(['multiferry/1'])
    c.check_hostname = False
    c.verify_mode = ssl.CERT_REQUIRED
    c.load_verify_locations(os.path.join(directory, 'ca-cert.pem'))
    role = 'server' if server else 'client'
    c.load_cert_chain(os.path.join(directory, role + '-cert.pem'),
                      os.path.join(directory, role + '-key.pem'))
    return c


class Lane:
    """One connection: frames out, frames in."""

    def __init__(self, sock):
        self.sock = sock
        self.lock = threading.Lock()        # one frame at a time goes out
        self.control_out = 0
        self.hello = None

    def send(self, kind, payload=b'', flags=0, sequence=0, epoch=0, checksum=0, length=None,
             reserved=(0, 0)):
        head = HEADER.pack(kind, flags, reserved[0], len(payload) if length is None else length,
                           sequence, epoch, checksum, reserved[1])
        self.send_raw(head + payload)

    def send_raw(self, data):
        with self.lock:
            self.sock.sendall(data)

    def send_hello(self, **members):
        self.send(HELLO, json.dumps(members).encode())

    def send_control(self, text, number=None):
        if not isinstance(text, bytes):
            text = json.dumps(text).encode()
        if number is None:
            number, self.control_out = self.control_out, self.control_out + 1
        self.send(CONTROL, text, sequence=number)

    def _read(self, size):
        data = b''
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                return None
            data += more
        return data

    def receive(self):
        """(kind, payload, header), or None at the end."""
        head = self._read(HEADER.size)
        if head is None:
            return None
        head = HEADER.unpack(head)
        payload = self._read(head[3]) if head[3] else b''
        return None if payload is None else (head[0], payload, head)

    def receive_json(self):
        frame = self.receive()
        return json.loads(frame[1]) if frame else None

    def receive_control(self):
        """The next CONTROL; others on the way are dropped, pings answered."""
        while True:
            frame = self.receive()
            if frame is None:
                return None
            if frame[0] == PING:
                self.send(PONG, sequence=frame[2][4])
            elif frame[0] == CONTROL:
                return json.loads(frame[1])

    def ended(self, timeout=5):
        """It is closed at the other end within the time, whatever else comes."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class _Liar:
    def __init__(self, t):
        self.t = t
        self.closing = False
        self.lanes, self.threads, self.errors = [], [], []
        t.own(self)

    def diagnosis(self):
        return '; '.join(self.errors) or None

    def finish(self):
        self.destroy()

    def destroy(self):
        self.closing = True
        for lane in self.lanes:
            lane.close()
        for thread in self.threads:
            thread.join(2)


class LiarSource(_Liar):
    """Connects lanes to a daemon, as the daemon beside a source would."""

    def __init__(self, t, address, directory):
        super().__init__(t)
        self.address, self.context = address, context(directory, False)

    def connect(self, hello=True, role='main', number=0, migration=MIGRATION, **more):
        lane = Lane(self.context.wrap_socket(relay.connect(self.address)))
        lane.sock.settimeout(10)
        self.lanes.append(lane)
        if hello:
            lane.send_hello(**{'version': 1, 'daemon': 'liar', 'role': role,
                               'migration': migration, 'lane': number, **more})
            lane.hello = lane.receive_json()
        return lane

    @staticmethod
    def ask(lane, name, number=1, **arguments):
        lane.send_control({'execute': name, 'arguments': arguments, 'id': number})
        return lane.receive_control()


class LiarDestination(_Liar):
    """Listens for a daemon's lanes, as the daemon beside a destination would.

    answer_hello and answer_prepare, when given, are what it says instead of the
    truth; None for nothing at all.  lie is called with the main lane once the
    source's channels are known and its stream has begun.
    """

    HONEST_HELLO = {'version': 1, 'daemon': 'dc2'}
    HONEST_PREPARE = {'window': 8 << 20, 'main-window': 1 << 20, 'channels': 0}

    def __init__(self, t, directory, answer_hello=HONEST_HELLO, answer_prepare=HONEST_PREPARE,
                 lie=None):
        super().__init__(t)
        self.context = context(directory, True)
        self.answer_hello, self.answer_prepare, self.lie = answer_hello, answer_prepare, lie
        self.main_bytes = 0
        self.lied = threading.Event()
        self.sock, address = relay.listen('tcp:127.0.0.1:0')
        self.address = address.replace('tcp:', '')
        self._start(self._accept)

    def _start(self, function, *args):
        def run():
            try:
                function(*args)
            except (OSError, ValueError) as e:
                if self.closing:
                    return
                self.errors.append('%s: %s' % (function.__name__, e))
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def destroy(self):
        self.closing = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        super().destroy()

    def wait_lied(self, timeout=20):
        wait_for(self.lied.is_set, lambda: 'the lie to be told; %s' % self.errors, timeout)

    def _accept(self):
        while not self.closing:
            client, _ = self.sock.accept()
            self._start(self._lane, client)

    def _lane(self, client):
        lane = Lane(self.context.wrap_socket(client, server_side=True))
        self.lanes.append(lane)
        lane.hello = lane.receive_json()
        self._say_hello(lane)
        if lane.hello['role'] == 'main':
            self._main(lane)
        else:
            while lane.receive():
                pass

    def _say_hello(self, lane):
        value = self.answer_hello
        if value is not None:
            lane.send(HELLO, value if isinstance(value, bytes) else json.dumps(value).encode())
        if value != self.HONEST_HELLO:
            self.lied.set()

    def _main(self, lane):
        while True:
            frame = lane.receive()
            if frame is None:
                return
            kind, payload, head = frame
            if kind == PING:
                lane.send(PONG, sequence=head[4])
            elif kind == MAIN:
                self.main_bytes += len(payload)
            elif kind == CONTROL:
                message = json.loads(payload)
                if 'execute' in message:
                    self._answer(lane, message)
                elif message.get('event') == 'channels' and self.lie:
                    self._tell(lane)

    def _answer(self, lane, message):
        value = self.answer_prepare
        if isinstance(value, bytes):
            lane.send_control(value)
        elif value is not None:
            lane.send_control({'return': value, 'id': message['id']})
        if value != self.HONEST_PREPARE:
            self.lied.set()

    def _tell(self, lane):
        lie, self.lie = self.lie, None

        def tell():
            self.lied.set()
            lie(lane)
        self._start(tell)
