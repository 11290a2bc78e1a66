# SPDX-License-Identifier: GPL-2.0-or-later
"""A synchronous QMP client, for QEMU and for the daemon's control socket.

One thread, one command at a time.  Events that arrive in between are kept in
.events in the order of their arrival, and event() looks there first.
"""
import json
import select
import socket
import time

from .case import Failure


class QmpError(Exception):
    """The other side refused a command; .error_class and .desc are its words."""

    def __init__(self, command, error):
        super().__init__('%s: %s' % (command, error.get('desc')))
        self.error_class = error.get('class')
        self.desc = error.get('desc')


class QmpClosed(Failure):
    """The connection ended: the other side went away."""


class Qmp:
    """oob: this connection may also give commands out of band, .cmd(…, oob=True)."""

    def __init__(self, path, name='qmp', timeout=10, negotiate=True, oob=False):
        self.name = name
        self.buffer = b''
        self.events = []
        self.next_id = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.greeting = self._receive(time.monotonic() + timeout)
        if negotiate:
            self.cmd('qmp_capabilities', {'enable': ['oob']} if oob else None, timeout=timeout)

    @classmethod
    def when_there(cls, path, name='qmp', timeout=10, alive=lambda: True):
        """Connect as soon as somebody listens at path, while alive()."""
        end = time.monotonic() + timeout
        while True:
            try:
                return cls(path, name)
            except (FileNotFoundError, ConnectionRefusedError):
                if not alive():
                    raise Failure('%s: ended before its QMP was there' % name) from None
                if time.monotonic() > end:
                    raise Failure('%s: nothing listens at %s' % (name, path)) from None
                time.sleep(0.01)

    def close(self):
        self.sock.close()

    def cmd(self, command, arguments=None, timeout=10, oob=False, **more):
        """Run a command and return its value.

        Keyword arguments may be written with '_' for '-'.
        """
        arguments = dict(arguments or {})
        arguments.update((k.replace('_', '-'), v) for k, v in more.items())
        self.next_id += 1
        message = {'exec-oob' if oob else 'execute': command, 'id': self.next_id}
        if arguments:
            message['arguments'] = arguments
        self.send_raw(json.dumps(message).encode() + b'\n')
        end = time.monotonic() + timeout
        while True:
            reply = self._receive(end, command)
            if 'event' in reply:
                self.events.append(reply)
            elif 'QMP' in reply:
                continue        # a greeting that was late
            elif reply.get('id', self.next_id) == self.next_id:
                if 'error' in reply:
                    raise QmpError(command, reply['error'])
                return reply['return']

    def send_raw(self, data):
        """Bytes as they are, for tests of what must be refused."""
        try:
            self.sock.settimeout(10)
            self.sock.sendall(data)
        except OSError as e:
            raise QmpClosed('%s: QMP: %s' % (self.name, e)) from None

    def receive(self, timeout=10):
        """The next message of any kind, for tests of the protocol itself."""
        return self._receive(time.monotonic() + timeout)

    def event(self, name, timeout=10, **data):
        """Wait for an event with these data; one seen earlier counts once."""
        end = time.monotonic() + timeout

        def matches(event):
            return event['event'] == name and all(
                event.get('data', {}).get(k.replace('_', '-')) == v
                for k, v in data.items())

        while True:
            for i, event in enumerate(self.events):
                if matches(event):
                    return self.events.pop(i)
            message = self._receive(end, 'event %s %s' % (name, data or ''))
            if 'event' in message:
                self.events.append(message)

    def drain(self):
        """Take in what has arrived, without waiting; returns all events."""
        while b'\n' in self.buffer or select.select([self.sock], [], [], 0)[0]:
            message = self._receive(time.monotonic() + 1)
            if 'event' in message:
                self.events.append(message)
        return self.events

    def _receive(self, end, what='a message'):
        while b'\n' not in self.buffer:
            left = end - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self.sock.settimeout(left)
                data = self.sock.recv(65536)
            except TimeoutError:
                raise Failure('%s: QMP: no answer in time: %s' % (self.name, what)) from None
            except OSError as e:
                raise QmpClosed('%s: QMP: %s' % (self.name, e)) from None
            if not data:
                raise QmpClosed('%s: QMP: closed while waiting for %s' % (self.name, what))
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)
