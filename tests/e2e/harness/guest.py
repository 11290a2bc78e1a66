# SPDX-License-Identifier: GPL-2.0-or-later
"""The test guest seen from outside: what it says, and when it was running.

See tests/guest/README.md.  The serial port's output is a file that QEMU
writes.  The heartbeats come through a FIFO, because the pause of a migration
is a matter of *when* the last came here and the first came there.
"""
import os
import re
import select
import socket
import threading
import time

from .case import check, wait_for

BAD = re.compile(r'VERIFY (FAIL|BAD).*|TRAP.*|WARNING.*')
BEAT = re.compile(rb'H (\d+) \d+\s*')
INTERVAL_S = 0.010


class Heartbeats(threading.Thread):
    """Reads 'H number guest-ms' lines and notes when each came."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.beats = []         # (monotonic s, number); only appended to
        self.begun = b''        # a line that its guest was stopped in
        self.torn = None        # (monotonic s, rest of a line begun elsewhere)
        self.stop_pipe = os.pipe()
        os.mkfifo(path)
        # Open for writing too: no end of file between QEMU's open and exit.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.start()

    def run(self):
        while True:
            ready = select.select([self.fd, self.stop_pipe[0]], [], [])[0]
            if self.stop_pipe[0] in ready:
                return
            now = time.monotonic()
            *lines, self.begun = (self.begun + os.read(self.fd, 65536)).split(b'\n')
            for line in lines:
                beat = BEAT.fullmatch(line)
                if beat:
                    self.beats.append((now, int(beat.group(1))))
                elif not self.beats:
                    self.torn = now, line

    def stop(self):
        os.write(self.stop_pipe[1], b'.')
        self.join()
        for fd in (self.fd, *self.stop_pipe):
            os.close(fd)


class Guest:
    def __init__(self, directory, name):
        self.name = name
        self.serial_log = os.path.join(directory, 'serial.log')
        self.serial_socket = os.path.join(directory, 'serial.sock')
        self.heartbeats = Heartbeats(os.path.join(directory, 'heartbeat'))

    def qemu_arguments(self):
        return ['-chardev', 'socket,id=serial,path=%s,server=on,wait=off,logfile=%s'
                % (self.serial_socket, self.serial_log),
                '-serial', 'chardev:serial',
                '-chardev', 'file,id=beats,path=' + self.heartbeats.path,
                '-device', 'isa-debugcon,iobase=0xe9,chardev=beats']

    def text(self, start=0):
        try:
            with open(self.serial_log, errors='replace') as f:
                f.seek(start)
                return f.read()
        except FileNotFoundError:
            return ''

    def mark(self):
        """A point in time, to wait for what comes after it."""
        return len(self.text())

    def check(self):
        """The guest has found nothing wrong so far."""
        found = BAD.search(self.text())
        check(not found, '%s: guest says: %s' % (self.name, found and found.group()))

    def wait(self, pattern, after=0, timeout=20):
        def look():
            self.check()
            return re.search(pattern + r'.*\n', self.text(after))
        return wait_for(look, '%s: guest to say %s' % (self.name, pattern), timeout)

    def wait_ready(self):
        self.wait('READY')

    def wait_dirtying(self, beats=20):
        """Some work done since it was ready: pages dirtied, beats sent."""
        wait_for(lambda: len(self.heartbeats.beats) >= beats,
                 '%s: %d heartbeats' % (self.name, beats))

    def verify(self, timeout=30):
        """Make the (running) guest check every page of its memory now."""
        start = self.mark()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.serial_socket)
            s.sendall(b'v')
            s.setblocking(False)

            def look():
                # QEMU blocks the guest while we do not read what it says.
                try:
                    while s.recv(65536):
                        pass
                except BlockingIOError:
                    pass
                return re.search(r'VERIFY (\w+) .* full\n', self.text(start))
            found = wait_for(look, '%s: the guest to check its memory' % self.name, timeout)
        self.check()
        check(found.group(1) == 'OK', '%s: guest: %s' % (self.name, found.group().strip()))

    def last_beat(self):
        return self.heartbeats.beats[-1] if self.heartbeats.beats else None


def downtime_s(source, destination):
    """The pause as somebody outside sees it, from the heartbeats of both.

    Fails if the destination ran on older memory than the source had, or if
    the two ever ran at the same time.
    """
    check(source.heartbeats.beats, 'the source guest never ran')
    first = wait_for(lambda: destination.heartbeats.beats[:1],
                     '%s: a first heartbeat' % destination.name)[0]
    if destination.heartbeats.torn:     # the guest was on its way in the middle of a line
        when, rest = destination.heartbeats.torn
        beat = BEAT.fullmatch(source.heartbeats.begun + rest)
        check(beat, 'heartbeat: got %s at %s and then %s at %s' % (
            source.heartbeats.begun, source.name, rest, destination.name))
        first = when, int(beat.group(1))
    last = source.heartbeats.beats[-1]
    # By number, not by time: that is when we read them, on a busy machine much later.  A
    # source that ran on has a beat with the destination's first number, too.
    check(first[1] == last[1] + 1, 'guest went on at heartbeat %d, but the source had '
          'reached %d' % (first[1], last[1]))
    return first[0] - last[0] - INTERVAL_S
