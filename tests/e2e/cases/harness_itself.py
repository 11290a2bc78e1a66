# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness's own instruments: each must notice what it is there to notice."""
from datetime import timedelta

from harness import Failure, Qemu, assert_migrated, assert_stayed, case, check, wait_for
from harness.certs import Authority, psk_directory, qemu_psk, qemu_x509
from harness.compare import compare
from harness.raw import RawDest, RawSource
from harness.relay import Relay
from harness.stream import Capture

CAPTURES = ['qemu72-none-2ch', 'qemu100-none-2ch', 'qemu111-none-2ch-manyrounds',
            'qemu72-zlib-3ch', 'qemu100-zlib-3ch']


@case('e2e/harness/damage-is-noticed')
def damage_is_noticed(t):
    """One flipped bit in a page on its way: the guest must find it."""
    dst = Qemu.destination(t)
    dst.set_multifd(1)
    src = Qemu.source(t)
    src.set_multifd(1)
    relay = Relay(t, dst.listen())
    relay.corrupt(1, 20 << 20)         # in a payload, by overwhelming odds
    src.migrate(relay.address)
    try:
        assert_migrated(t, src, dst)
    except Failure as e:
        check('guest says: VERIFY FAIL' in str(e), 'noticed something else: %s' % e)
        dst.kill()
    else:
        raise Failure('nobody noticed a damaged page')


@case('e2e/harness/relay-cuts')
def relay_cuts(t):
    """A main-only migration whose connection breaks: the source goes on."""
    dst = Qemu.destination(t)
    dst.set_multifd(0)
    src = Qemu.source(t)
    src.set_multifd(0, max_bandwidth=8 << 20)
    relay = Relay(t, dst.listen())
    relay.cut_after = 4 << 20
    src.migrate(relay.address)
    dst.may_be_dead = True
    assert_stayed(t, src, dst)


@case('e2e/harness/tls-{kind}', table=[dict(kind='x509'), dict(kind='psk')])
def tls(t, kind):
    """The credentials that we make are such as QEMU takes."""
    if kind == 'x509':
        party = Authority(t).directory('qemu')
        server, client = qemu_x509(party, 'server'), qemu_x509(party, 'client')
    else:
        party = psk_directory(t, 'qemu')
        server, client = qemu_psk(party, 'server'), qemu_psk(party, 'client')
    dst = Qemu.destination(t, extra=server)
    dst.set_multifd(2, tls_creds='tls0')
    src = Qemu.source(t, extra=client)
    src.set_multifd(2, tls_creds='tls0', tls_hostname='localhost')
    src.migrate(dst.listen())
    assert_migrated(t, src, dst)


@case('e2e/harness/tls-expired-is-refused')
def tls_expired(t):
    """An expired certificate is expired in QEMU's eyes too."""
    ca = Authority(t)
    good, old = ca.directory('good'), ca.directory('old', valid=-timedelta(days=1))
    dst = Qemu.destination(t, extra=[qemu_x509(old, 'server')[0],
                                     qemu_x509(old, 'server')[1] + ',sanity-check=off'])
    dst.set_multifd(0, tls_creds='tls0')
    src = Qemu.source(t, extra=qemu_x509(good, 'client'))
    src.set_multifd(0, tls_creds='tls0', tls_hostname='localhost')
    src.migrate(dst.listen())
    dst.may_be_dead = True
    assert_stayed(t, src, dst)


@case('e2e/harness/replay/{name}', table=[dict(name=n) for n in CAPTURES])
def replay(t, name):
    """Our source and our destination agree with what was recorded."""
    capture = Capture(t.options.tree, name)
    dest = RawDest(t, capture)
    source = RawSource(t, dest.address, capture)
    source.wait_shut()
    dest.verify()


@case('e2e/harness/replay-grown')
def replay_grown(t):
    """Many bytes, the same memory: what the tests of memory bounds send."""
    capture = Capture(t.options.tree, 'qemu100-none-2ch')
    capture.grow(1, 64 << 20)
    dest = RawDest(t, capture, rcvbuf=64 << 10)
    dest.stop_reading()
    source = RawSource(t, dest.address, capture)
    wait_for(dest.markers_received, 'marker 1')
    check(dest.bytes_received() < 1 << 20, 'it reads although told not to')
    dest.go_on_reading()
    source.wait_shut()
    dest.verify()
    check(dest.bytes_received() > 60 << 20, 'it did not grow')


@case('e2e/harness/replay-notices-a-lost-page')
def replay_lost_page(t):
    """A page that arrives elsewhere must show in the destination's verdict."""
    capture = Capture(t.options.tree, 'qemu100-none-2ch')
    judge = Capture(t.options.tree, 'qemu100-none-2ch')
    packet = next(p for p in capture.data_packets(1) if p.normal)
    capture.patch_packet(1, packet, offset0=packet.normal_offsets[0] ^ 0x1000)
    dest = RawDest(t, judge)
    RawSource(t, dest.address, capture).wait_shut()
    try:
        dest.verify()
    except Failure as e:
        check('memory differs in' in str(e), 'noticed something else: %s' % e)
    else:
        raise Failure('nobody noticed a misplaced page')


@case('e2e/harness/replay-hold')
def replay_hold(t):
    """A source that holds SYNC 2 on one channel holds marker 2 as well."""
    capture = Capture(t.options.tree, 'qemu72-none-2ch')
    dest = RawDest(t, capture)
    source = RawSource(t, dest.address, capture, hold=(1, 2))
    wait_for(lambda: dest.sync_counts() == {0: capture.expect['syncs'], 1: 1},
             'all but what is held')
    check(dest.markers_received() == 1, 'got %d markers, expected 1' % dest.markers_received())
    source.release()
    source.wait_shut()
    dest.verify()


class NoWay:
    """A way without QEMUs: what its runs come to is given."""

    def __init__(self, kind, results):
        self.kind, self.results, self.legs = kind, results, '2→3'

    def directly(self):
        return NoWay('direct', self.results)

    def close(self):
        pass


@case('e2e/harness/compare-{what}', table=[
    dict(what='same', direct='failed (tls)', through='failed (tls)', good=True),
    dict(what='other-class', direct='failed (tls)', through='failed (lost)', good=False),
    dict(what='other-end', direct='completed', through='failed (lost)', good=False),
    dict(what='unlike', direct='failed (refused)', through='failed (lost)', good=True,
         unlike='a reason'),
    dict(what='unlike-end', direct='failed (refused)', through='completed', good=False,
         unlike='a reason'),
    dict(what='mended', direct='failed (lost)', through='completed', good=True, mends='a reason'),
    dict(what='not-mended', direct='completed', through='failed (lost)', good=False,
         mends='a reason'),
])
def compared(t, what, direct, through, good, **more):
    """Two outcomes that differ are noticed, and those that may differ are not."""
    way = NoWay('daemon', {'direct': direct, 'daemon': through})
    try:
        compare(t, way, lambda w: w.results[w.kind], **more)
        noticed = False
    except Failure:
        noticed = True
    check(noticed != good, '%s without us and %s through us %s' % (
        direct, through, 'was noticed' if noticed else 'was not noticed'))
    check([(r['direct'], r['through']) for r in t.results] == [(direct, through)],
          'the table has %s' % t.results)
    t.results.clear()
