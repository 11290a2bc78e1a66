# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration streams that no QEMU here sends, and the judgement of what comes of them.

Device state on multifd channels, payloads of accelerators, targets with pages
of 8 to 64 KiB.  A stream is a list of things per epoch; what a destination got
is taken apart into the same things, and compared.
"""
import random
import struct
import zlib
from collections import Counter

from .case import check, wait_for
from .raw import RawDest, RawSource

SYNC, DEVICE, METHOD_MASK = 0x01, 0x40, 0x3e
METHODS = {'none': 0, 'zlib': 2, 'zstd': 4, 'qpl': 8, 'uadk': 16, 'qatzip': 32}
NAME_OF = {v: k for k, v in METHODS.items()}
PACKET_BYTES = 512 * 1024
DEVICE_HEADER, INIT_SIZE = 276, 64
UUID = bytes.fromhex('c0ffee0012344abc8def001122334455')
BLOCK = 'pc.ram'


class Main:
    """The main channel's bytes, and where its markers begin."""

    def __init__(self, n_markers, ram_bytes, per_section, page_bits):
        self.data, self.markers, self.per_section = bytearray(), [], per_section
        self.add(b'QEVM' + struct.pack('>I', 3) + b'\7' + self.text('>I', 'pc-i440fx-10.0'))
        if page_bits:
            self.add(b'\5' + self.text('B', 'configuration/target-page-bits') +
                     struct.pack('>II', 1, page_bits))
        self.add(struct.pack('>BHH', 8, 1, 0))              # OPEN_RETURN_PATH
        self.add(struct.pack('>BHHI', 8, 2, 4, 1))          # PING 1
        for i in range(n_markers):
            last = i == n_markers - 1
            self.add(struct.pack('>BI', 1 if i == 0 else 3 if last else 2, 2))
            if i == 0:
                self.add(self.text('B', 'ram') + struct.pack('>II', 0, 4))
                self.add(struct.pack('>Q', ram_bytes | 4) + self.text('B', BLOCK) +
                         struct.pack('>Q', ram_bytes))
            self.sync()
            self.add(b'\x7e' + struct.pack('>I', 2))
        self.add(b'\4' + struct.pack('>I', 3) + self.text('B', 'timer') + bytes(500) + b'\0')

    @staticmethod
    def text(form, text):
        return struct.pack('>' + form.lstrip('>'), len(text)) + text.encode()

    def add(self, data):
        self.data += data

    def sync(self):
        if not self.per_section:
            self.markers.append(len(self.data))
            self.add(struct.pack('>Q', 0x200))
        else:
            self.markers.append(len(self.data))
        self.add(struct.pack('>Q', 0x10))


class Stream:
    """What RawSource plays.  .things are (epoch, kind, ...), as things_of() finds them.

    method is the source's; says: 'configuration' if the stream names its page size,
    'alloc' if the SYNCs do (before 9.2), else None.
    """

    def __init__(self, page=4096, method='none', channels=2, epochs=4, devices=0,
                 per_section=False, says=None, zero=True):
        self.page, self.count = page, PACKET_BYTES // page
        self.method, self.says, self.zero = method, says, zero
        self.rng = random.Random(7)
        self.ram_bytes = 16 * PACKET_BYTES
        bits = page.bit_length() - 1 if says == 'configuration' else None
        self.main = Main(epochs, self.ram_bytes, per_section, bits)
        self.main_bytes = bytes(self.main.data)
        self.answer = struct.pack('>HHIHHI', 2, 4, 1, 1, 4, 0)      # PONG 1, SHUT 0
        self.packers = [zlib.compressobj(1) for _ in range(channels)]
        self.channels = [struct.pack('>II16sB39x', 0x11223344, 1, UUID, i)
                         for i in range(channels)]
        for epoch in range(epochs + 1):
            for i in range(channels):
                if epoch:
                    self.pages(i, epoch)
                for _ in range(devices if epoch == epochs else 0):
                    self.channels[i] += self.device_packet(i)
                if epoch < epochs:
                    self.channels[i] += self.header(SYNC, alloc=says == 'alloc')
        self.things = [x for c in self.channels for x in things_of(c, page)]

    def pages(self, channel, epoch):
        """A full packet, a short one, and one of zero pages alone; offsets differ by channel."""
        base = channel * self.count * 4
        zero = self.count // 4 if self.zero else 0
        for k, (normal, empty) in enumerate(((self.count - zero, zero), (1, 0), (0, 3 % self.count))):
            if normal + empty and (normal or self.zero) and epoch + k != 3:
                first = base + k * self.count
                self.channels[channel] += self.page_packet(
                    channel, [(first + i) * self.page for i in range(normal + empty)], normal)

    def page_packet(self, channel, offsets, normal):
        raw = [self.rng.randbytes(self.page // 4) * 4 for _ in range(normal)]
        payload = self.pack(channel, raw) if raw else b''
        return self.header(METHODS[self.method], offsets, normal, len(payload), True) + payload

    def pack(self, channel, raw):
        if self.method == 'none':
            return b''.join(raw)
        if self.method == 'zlib':
            packer = self.packers[channel]
            return packer.compress(b''.join(raw)) + packer.flush(zlib.Z_SYNC_FLUSH)
        if self.method == 'qatzip':
            return zlib.compress(b''.join(raw))
        # A page that did not shrink is sent as it is: its length says so.
        packed = [zlib.compress(p, 1)[2:-4] if i % 2 else p for i, p in enumerate(raw)]
        return b''.join(struct.pack('>I', len(p)) for p in packed) + b''.join(packed)

    def header(self, flags, offsets=(), normal=0, size=0, alloc=True):
        return (struct.pack('>IIIIIIQI28x', 0x11223344, 1, flags, self.count if alloc else 0,
                            normal, size, 0, len(offsets) - normal) +
                (BLOCK.encode() if offsets else b'').ljust(256, b'\0') +
                struct.pack('>%dQ' % len(offsets), *offsets) +
                bytes(8 * (self.count - len(offsets))))

    def device_packet(self, instance):
        data = self.rng.randbytes(self.rng.randrange(1, 300000))
        return struct.pack('>III256sII', 0x11223344, 1, DEVICE, b'0000:00:02.0/vfio', instance,
                           len(data)) + data


def packets_of(data, page):
    """(kind, epoch, start, end, fields) of all whole packets behind the init packet."""
    header = 320 + 8 * (PACKET_BYTES // page)
    at, epoch = INIT_SIZE, 0
    while at + DEVICE_HEADER <= len(data):
        magic, _, flags = struct.unpack_from('>III', data, at)
        if magic != 0x11223344:
            raise ValueError('no packet at %d' % at)
        if flags & DEVICE:
            end = at + DEVICE_HEADER + struct.unpack_from('>I', data, at + 272)[0]
            kind = 'device'
        elif at + header > len(data):
            return
        else:
            normal, size = struct.unpack_from('>II', data, at + 16)
            end = at + header + (size if normal else 0)
            kind = 'sync' if flags & SYNC else 'pages'
        if end > len(data):
            return
        yield kind, epoch, at, end, flags
        epoch += kind == 'sync'
        at = end


def things_of(data, page):
    """All that one channel carries, in pieces that may be in any order within their epoch."""
    unpack = zlib.decompressobj()
    for kind, epoch, at, end, flags in packets_of(data, page):
        if kind == 'device':
            yield (epoch, kind, data[at + 12:at + 272], bytes(data[at + 276:end]))
        elif kind == 'pages':
            normal, = struct.unpack_from('>I', data, at + 16)
            zero, = struct.unpack_from('>I', data, at + 32)
            offsets = struct.unpack_from('>%dQ' % (normal + zero), data, at + 320)
            payload = bytes(data[at + 320 + 8 * (PACKET_BYTES // page):end])
            method = NAME_OF[flags & METHOD_MASK]
            name = bytes(data[at + 64:at + 320]).split(b'\0')[0].decode()
            if method not in ('none', 'zlib'):
                yield (epoch, method, name, offsets, normal, payload)
                continue
            payload = unpack.decompress(payload) if method == 'zlib' else payload
            check(len(payload) == normal * page, '%s: %d bytes for %d pages'
                  % (method, len(payload), normal))
            for i, offset in enumerate(offsets):
                yield (epoch, 'page' if i < normal else 'zero', name, offset,
                       payload[i * page:(i + 1) * page])


class Source(RawSource):
    def _sync_ends(self, data):
        return [p[3] for p in packets_of(data, self.capture.page) if p[0] == 'sync']


class Dest(RawDest):
    """n_channels of them; judges with the stream that was sent."""

    def sync_counts(self):
        return {i: sum(p[0] == 'sync' for p in packets_of(bytes(c), self.capture.page))
                for i, c in list(self.channels.items())}

    def _all_synced(self):
        """A QEMU that takes device state says SHUT when its load threads are done, not before."""
        return super()._all_synced() and self._devices(self.got()) >= self._devices(
            self.capture.things)

    @staticmethod
    def _devices(things):
        return sum(x[1] == 'device' for x in things)

    def got(self):
        return [x for c in list(self.channels.values())
                for x in things_of(bytes(c), self.capture.page)]

    def methods(self):
        """What the packets with pages say that they are packed with."""
        return {NAME_OF[p[4] & METHOD_MASK] for c in self.channels.values()
                for p in packets_of(bytes(c), self.capture.page) if p[0] == 'pages'}

    def verify(self, timeout=20, zero_pages_written=False):
        """Every thing once and in its epoch, whatever the channel; main to the byte."""
        want = self.capture.things
        if zero_pages_written:
            want = [(x[0], 'page', x[2], x[3], bytes(self.capture.page))
                    if x[1] == 'zero' else x for x in want]
        # Behind the last SYNC come pages too, which SHUT does not wait for.
        wait_for(lambda: self.done.is_set() and len(self.got()) >= len(want), self._progress,
                 timeout, every=0.05)
        check(not self.errors, '; '.join(self.errors))
        check(bytes(self.main) == self.capture.main_bytes, 'main channel was altered')
        check(sorted(self.channels) == list(range(self.n_channels)), 'got channels %s'
              % sorted(self.channels))
        missing, invented = Counter(want) - Counter(self.got()), Counter(self.got()) - Counter(want)
        check(not missing and not invented, 'lost %s, invented %s'
              % tuple([x[:4] for x in list(c)[:3]] for c in (missing, invented)))
