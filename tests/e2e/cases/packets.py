# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad packets, injected: a replayed capture with one field changed.

A destination that receives one of these hangs for ever, QMP and all, in every
version of QEMU.  So none of their bytes may pass, the source must see its
main channel close within a second, and the log must name the field.
"""
from harness import case, check, wait_for
from harness.daemon import Daemon, free_port
from harness.raw import RawDest, RawSource
from harness.stream import Capture

CAPTURE = 'qemu100-none-2ch'


def tunnel(t, capture, k, hold=None):
    """A replayed source, a daemon, and a destination that judges."""
    dest = RawDest(t, capture, k)
    listen = 'tcp:127.0.0.1:%d' % free_port()
    # What a source that is gone has left unread holds back its FIN: then this ends it.
    daemon = Daemon(t, 'tunnel', {'timeouts': {'first-bytes': '2s'}, 'tunnel web': {
        'listen': listen, 'connect': dest.address, 'channels': k}})
    return RawSource(t, listen, capture, hold=hold), dest, daemon


@case('e2e/replay/{name}/k{k}', needs=['daemon'], table=[
    dict(name='qemu72-none-2ch', k=1),
    dict(name='qemu72-none-2ch', k=5),
    dict(name='qemu100-none-2ch', k=3),
    dict(name='qemu111-none-2ch-manyrounds', k=1),
    dict(name='qemu111-none-2ch-manyrounds', k=8),
])
def replay(t, name, k):
    """Every page of a real stream in its epoch, main to the byte, SHUT back."""
    source, dest, daemon = tunnel(t, Capture(t.options.tree, name), k)
    source.wait_shut()
    dest.verify()


@case('e2e/replay/marker-waits-for-sync', needs=['daemon'])
def marker_waits(t):
    """While one inbound channel holds SYNC 2, nobody may see marker 2."""
    capture = Capture(t.options.tree, 'qemu72-none-2ch')
    source, dest, daemon = tunnel(t, capture, 3, hold=(1, 2))
    wait_for(lambda: dest.markers_received() == 1, 'marker 1')
    wait_for(lambda: source.syncs_sent[0] >= 2, 'the source to have sent SYNC 2 elsewhere')
    # What was written before marker 1 may be read after it, here.
    wait_for(lambda: list(dest.sync_counts().values()) == [1, 1, 1],
             lambda: 'SYNC 1 alone on each channel, got %s' % dest.sync_counts(), 2)
    check(dest.markers_received() == 1, 'marker 2 went out before SYNC 2')
    source.release()
    source.wait_shut()
    dest.verify()


FIELDS = [
    dict(field='magic', value=0x11223345),
    dict(field='version', value=2),
    dict(field='flags', value=0x02),                # zlib, but all others have none
    dict(field='pages_alloc', value=129),
    dict(field='normal_pages', value=129),
    dict(field='zero_pages', value=0xffffffff),
    dict(field='ramblock', value=b'no-such-block'),
    dict(field='offset0', value=1 << 40),
    dict(field='offset0', value=0x1001, how='unaligned'),
]


@case('e2e/reject/{name}', needs=['daemon'],
      table=[dict(name=f.get('how') or f['field'], **{k: f[k] for k in ('field', 'value')})
             for f in FIELDS])
def reject(t, name, field, value):
    capture = Capture(t.options.tree, CAPTURE)
    number = 1
    packet = next(p for p in capture.data_packets(number) if p.normal)
    capture.patch_packet(number, packet, **{field: value})
    source, dest, daemon = tunnel(t, capture, 3)
    source.wait_refused()
    wanted = {'offset0': 'offset', 'flags': '(flags|method|compression)'}.get(field, field)
    daemon.assert_says(r'channel %d.*%s' % (number, wanted))
    check(not dest.done.is_set(), 'the destination was told that all is well')


@case('e2e/reject/init-{name}', needs=['daemon'], table=[
    dict(name=f.get('how') or f['field'], field=f['field'], value=f['value']) for f in [
    dict(field='magic', value=0x11223345),
    dict(field='version', value=2),
    dict(field='uuid', value=b'another-guest-id'),
    dict(field='id', value=0, how='id-taken'),      # by the other channel
    dict(field='id', value=255, how='id-255'),      # 255 channels end at 254
    dict(field='id', value=7, how='id-gap'),        # no channels 1 to 6
]])
def reject_init(t, name, field, value):
    """Who cannot be one of the channels is shown the door; then the source gives up.

    The one that is refused may be the other, if it came second.
    """
    capture = Capture(t.options.tree, CAPTURE)
    capture.patch_init(1, **{field: value})
    # What decides must be the refusal, not that the source had sent all of it before.
    capture.grow(0, 16 << 20)
    capture.grow(1, 16 << 20)
    source, dest, daemon = tunnel(t, capture, 2)
    wait_for(lambda: source.closed_channels, 'a channel to be closed', 2)
    source.wait_refused()
    daemon.assert_says(r'\b(channel|%s)\b' % field if field == 'id' else field if field != 'magic'
                       else 'first bytes')
    check(dest.markers_received() == 0, 'marker 1 went out')
    check(not dest.done.is_set(), 'the destination was told that all is well')
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 5)
