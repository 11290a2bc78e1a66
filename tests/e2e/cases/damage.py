# SPDX-License-Identifier: GPL-2.0-or-later
"""One byte of a live migration is changed on its way to the daemon.

Two real QEMUs, and something between the source and us that flips bits in one
field.  Nobody may hang: the daemon says which field it was, the destination
gets nothing of it, and the guest goes on at the source and finds its memory whole.
"""
from harness import Qemu, assert_stayed, case, wait_for
from harness.daemon import Daemon
from harness.relay import Relay

INIT, SYNC = 64, 1344           # of a channel: then its first packet with pages
PACKET = INIT + SYNC
MAIN = 0                        # connections are numbered as a source makes them

# Where the byte stands in the connection, what is done to it, and what we must say.
DAMAGES = [
    dict(name='main-magic', channel=MAIN, at=0, mask=b'\x80', says='got first bytes 0xd145564d'),
    dict(name='main-version', channel=MAIN, at=7, mask=b'\x01', says='got stream version 2'),
    dict(name='main-section', channel=MAIN, at=8, mask=b'\x80', says='got section type 0x87'),
    dict(name='main-machine-length', channel=MAIN, at=9, mask=b'\x80',
         says='got a machine type of [0-9]+ bytes, allowed 1 to 255'),
    dict(name='init-magic', channel=1, at=0, mask=b'\x80', says='got first bytes 0x91223344'),
    dict(name='init-version', channel=1, at=7, mask=b'\x02', says='init: got version 3, allowed 1'),
    dict(name='init-uuid', channel=2, at=8, mask=b'\x80', says='got uuid [0-9a-f-]+, expected'),
    dict(name='init-id', channel=1, at=24, mask=b'\xff', says='(got channel id 255|got 2 with an id)'),
    dict(name='packet-magic', channel=1, at=PACKET, mask=b'\x80', says='got magic 0x91223344'),
    dict(name='packet-version', channel=1, at=PACKET + 7, mask=b'\x02', says='got version 3'),
    dict(name='packet-flags', channel=1, at=PACKET + 10, mask=b'\x01', says='got flags 0x100'),
    dict(name='packet-method', channel=1, at=PACKET + 11, mask=b'\x06',
         says='allowed at most one compression method'),
    dict(name='packet-device-state', channel=1, at=PACKET + 11, mask=b'\x41',
         says='multifd device state: got flags 0x41'),
    dict(name='packet-pages-alloc', channel=1, at=PACKET + 12, mask=b'\x80', says='got pages_alloc'),
    dict(name='packet-normal-pages', channel=1, at=PACKET + 16, mask=b'\x80',
         says='got normal_pages'),
    dict(name='packet-next-packet-size', channel=1, at=PACKET + 20, mask=b'\x80',
         says='got next_packet_size'),
    dict(name='packet-zero-pages', channel=1, at=PACKET + 32, mask=b'\x80', says='got zero_pages'),
    dict(name='packet-ramblock', channel=1, at=PACKET + 64, mask=b'\x01',
         says="got ramblock '.*', allowed one of the"),
    dict(name='packet-offset-unaligned', channel=1, at=PACKET + 327, mask=b'\x01',
         says='allowed only multiples of 0x1000'),
    dict(name='packet-offset-beyond', channel=1, at=PACKET + 320, mask=b'\x40',
         says='allowed only whole pages within used_length'),
]


@case('e2e/damage/{name}', needs=['daemon'], table=DAMAGES)
def damage(t, name, channel, at, mask, says):
    dst = Qemu.destination(t)
    dst.set_multifd(3)
    dst.may_be_dead = True          # its migration ends, and with it the process
    daemon = Daemon(t, 'tunnel', {'timeouts': {'first-bytes': '2s', 'idle': '4s'}, 'tunnel web': {
        'listen': 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock'), 'connect': dst.listen(),
        'channels': 3}})
    relay = Relay(t, daemon.qmp.cmd('query-status')['tunnels'][0]['address'])
    src = Qemu.source(t)
    src.set_multifd(2)
    # Connections come in any order; who says QEVM is main.
    relay.corrupt(channel, at, mask)
    src.migrate(relay.address)
    assert_stayed(t, src, dst)
    daemon.assert_says(says)
    # Channels that came before main may have left it alone: then idle ends it.
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 15)
