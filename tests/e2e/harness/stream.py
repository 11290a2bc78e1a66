# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's migration streams as bytes: enough of them to replay and to judge.

An implementation of its own, from the facts of the format, so that the tests
do not share the daemon's mistakes.  It knows multifd packets of the method
none and zlib, and main channels as far as the RAM sections go.
"""
import hashlib
import json
import lzma
import os
import struct
import zlib

PAGE = 4096
MAX_PAGES = 128
INIT_SIZE = 64
HEADER_SIZE = 320 + 8 * MAX_PAGES
SYNC, ZLIB, METHODS = 0x01, 0x02, 0x3e
ZERO, MEM_SIZE, PAGE_DATA, EOS, CONTINUE, FLUSH = 0x02, 0x04, 0x08, 0x10, 0x20, 0x200

# Where a packet's fields stand, and what they are (struct formats).
INIT_FIELDS = {'magic': (0, '>I'), 'version': (4, '>I'), 'uuid': (8, '16s'), 'id': (24, 'B')}
PACKET_FIELDS = {
    'magic': (0, '>I'), 'version': (4, '>I'), 'flags': (8, '>I'), 'pages_alloc': (12, '>I'),
    'normal_pages': (16, '>I'), 'next_packet_size': (20, '>I'), 'packet_num': (24, '>Q'),
    'zero_pages': (32, '>I'), 'ramblock': (64, '256s'), 'offset0': (320, '>Q'),
}


class Packet:
    """One packet of a channel; .start and .end are positions in the channel."""

    def __init__(self, data, start, epoch):
        def get(field):
            at, form = PACKET_FIELDS[field]
            return struct.unpack_from(form, data, start + at)[0]
        self.start, self.epoch = start, epoch
        self.magic, self.flags = get('magic'), get('flags')
        self.normal, self.zero = get('normal_pages'), get('zero_pages')
        if self.magic != 0x11223344 or self.normal + self.zero > MAX_PAGES:
            raise ValueError('no packet at %d' % start)
        self.block = get('ramblock').split(b'\0')[0].decode()
        offsets = struct.unpack_from('>%dQ' % MAX_PAGES, data, start + 320)
        self.normal_offsets = offsets[:self.normal]
        self.zero_offsets = offsets[self.normal:self.normal + self.zero]
        self.sync = bool(self.flags & SYNC)
        self.payload = start + HEADER_SIZE
        # Without pages there is no payload, whatever next_packet_size says.
        size = get('next_packet_size') if self.flags & METHODS else self.normal * PAGE
        self.end = self.payload + (size if self.normal else 0)


def packets(data):
    """All whole packets of a channel (with its init packet) as a list."""
    found, at, epoch = [], INIT_SIZE, 0
    while len(data) - at >= HEADER_SIZE:
        p = Packet(data, at, epoch)
        if p.end > len(data):
            break
        found.append(p)
        at, epoch = p.end, epoch + p.sync
    return found


def patch(data, start, fields, **values):
    """A copy of data with fields of the packet at start set to values."""
    data = bytearray(data)
    for field, value in values.items():
        at, form = fields[field]
        struct.pack_into(form, data, start + at, value)
    return bytes(data)


class MainStream:
    """The main channel: RAM blocks, sync markers, and pages that it carries.

    .markers are the positions at which the marker records begin; .pages is a
    list of (epoch, block, offset, bytes); .opaque_from is where reading ends:
    the first section that has no length of its own.
    """

    def __init__(self, data):
        self.data, self.at = data, 8
        self.blocks, self.markers, self.pages = {}, [], []
        self.legacy = None          # EOS is the marker; known after START
        self.ram_id = self.block = None
        if data[:8] != b'QEVM\0\0\0\3':
            raise ValueError('not a migration stream')
        while self._section():
            pass
        self.opaque_from = self.at

    def _get(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def _text(self):
        size = self._get('B')
        self._skip(size)
        return self.data[self.at - size:self.at].decode()

    def _skip(self, size):
        self.at += size

    def _section(self):
        kind = self.data[self.at] if self.at < len(self.data) else 0
        start = self.at
        self.at += 1
        if kind == 0x07:
            self._skip(self._get('>I'))
            return True
        if kind == 0x05:
            name = self._text()
            self._skip(4 + {'configuration/uuid': 16, 'configuration/target-page-bits': 4}[name])
            return True
        if kind == 0x08:
            command, size = self._get('>H'), self._get('>H')
            self._skip(size)
            if command != 7:                    # PACKAGED: a stream in itself
                return True
        elif kind in (1, 2, 3):
            section, name = self._get('>I'), None
            if kind == 1:
                name = self._text()
                self._skip(8)
            if name == 'ram' or (kind != 1 and section == self.ram_id):
                self.ram_id = section
                self._ram()
                return True
        self.at = start
        return False

    def _ram(self):
        flushed = False
        while True:
            start, word = self.at, self._get('>Q')
            flags = word & (PAGE - 1)
            if flags & MEM_SIZE:
                self._block_list(word - flags)
            elif flags & (ZERO | PAGE_DATA):
                if not flags & CONTINUE:
                    self.block = self._text()
                size = 1 if flags & ZERO else PAGE
                self._skip(size)
                page = bytes(PAGE) if flags & ZERO else self.data[self.at - PAGE:self.at]
                self.pages.append((len(self.markers), self.block, word - flags, page))
            elif flags & FLUSH:
                flushed = True
                self.markers.append(start)
            elif flags & EOS:
                if self.legacy is None:
                    self.legacy = not flushed
                if self.legacy:
                    self.markers.append(start)
                break
            else:
                raise ValueError('main: record 0x%x at %d' % (word, start))
        if self._get('B') != 0x7e or self._get('>I') != self.ram_id:
            raise ValueError('main: no footer at %d' % self.at)

    def _block_list(self, total):
        while total > 0:
            name = self._text()
            self.blocks[name] = self._get('>Q')
            total -= self.blocks[name]


def memory(main, channels):
    """The RAM that a destination has at the end, epoch by epoch, per block."""
    ram = {name: bytearray(size) for name, size in main.blocks.items()}
    inflate = [zlib.decompressobj() for _ in channels]
    todo = [packets(c) for c in channels]
    last = max([p.epoch for ps in todo for p in ps] + [m[0] for m in main.pages])

    def apply(number, p):
        data = channels[number][p.payload:p.end]
        if p.flags & METHODS == ZLIB and p.normal:
            data = inflate[number].decompress(data)
        for i, offset in enumerate(p.normal_offsets):
            ram[p.block][offset:offset + PAGE] = data[i * PAGE:(i + 1) * PAGE]
        for offset in p.zero_offsets:
            ram[p.block][offset:offset + PAGE] = bytes(PAGE)

    for epoch in range(last + 1):
        for number, ps in enumerate(todo):
            for p in ps:
                if p.epoch == epoch:
                    apply(number, p)
        for when, block, offset, page in main.pages:
            if when == epoch:
                ram[block][offset:offset + PAGE] = page
    return ram


class Capture:
    """A recorded migration, of tests/captures/."""

    def __init__(self, tree, name):
        self.name = name
        self.dir = os.path.join(tree, 'tests/captures', name)
        with open(os.path.join(self.dir, 'expect.json')) as f:
            self.expect = json.load(f)
        self.main_bytes = self._read('main.c2s')
        self.answer = self._read('main.s2c')
        self.channels = [self._read('mfd%d.c2s' % i) for i in range(len(self.expect['chans']))]
        self.main = MainStream(self.main_bytes)

    def _read(self, name):
        with lzma.open(os.path.join(self.dir, name + '.xz')) as f:
            return f.read()

    def data_packets(self, channel):
        """Those packets of a channel that carry pages, to pick one to damage."""
        return [p for p in packets(self.channels[channel]) if p.normal or p.zero]

    def grow(self, channel, n_bytes):
        """Send what a channel's fullest epoch holds again and again.

        A page may come twice in an epoch, so the memory at the end is the same.
        """
        data = self.channels[channel]
        bulk = max((p for p in packets(data) if not p.sync), key=lambda p: p.end - p.start)
        packet = data[bulk.start:bulk.end]
        times = n_bytes // len(packet)
        self.channels[channel] = data[:bulk.start] + packet * times + data[bulk.start:]

    def patch_packet(self, channel, packet, **values):
        self.channels[channel] = patch(self.channels[channel], packet.start,
                                       PACKET_FIELDS, **values)

    def patch_init(self, channel, **values):
        self.channels[channel] = patch(self.channels[channel], 0, INIT_FIELDS, **values)

    def memory_differs(self, main, channels):
        """The names of the blocks whose memory is not as it was recorded."""
        ram = memory(main, channels)
        return [name for name, want in self.expect['blocks'].items()
                if hashlib.sha256(ram[name]).hexdigest() != want['sha256']]
