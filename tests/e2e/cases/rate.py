# SPDX-License-Identifier: GPL-2.0-or-later
"""Rate limits: bytes on the wire against the time in which they went.

A property of the limiter, not of the machine's speed: a slow machine sends
less, never more.
"""
import time

from harness import Qemu, assert_migrated, assert_runs_at, case, check, wait_for
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']
BURST = 512 << 10           # 10 ms of the rate, control messages, handshakes
RATE = '40mbit'
BYTES_PER_S = 40_000_000 // 8


def sample(daemon, id):
    """(monotonic s before the question, after it, bytes on the wire)."""
    before = time.monotonic()
    m = daemon.qmp.cmd('query-migrations', id=id)[0]
    return before, time.monotonic(), m['wire-bytes-out'], m


def check_rate(a, b, rate=BYTES_PER_S):
    """Between two samples no more went than may go in that time."""
    seconds, got = b[1] - a[0], b[2] - a[2]
    allowed = rate * seconds * 1.05 + BURST
    check(got <= allowed, 'sent %d bytes in %.3f s, allowed are %d' % (got, seconds, allowed))
    return got / (rate * seconds)


def begin(t, dc1=None, **arguments):
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1=dc1)
    first = time.monotonic(), time.monotonic(), 0
    id = sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', **arguments)['id']
    return src, dst, sites, first, id


def end(src, dst, sites, id):
    dst.may_be_dead = True
    sites.dc1.qmp.cmd('migrate-cancel', id=id)
    sites.dc1.qmp.event('MIGRATION', id=id, state='cancelled')
    assert_runs_at(src, dst)


@case('e2e/rate/{who}', needs=NEEDS, table=[
    dict(who='migration'), dict(who='peer'), dict(who='daemon'), dict(who='lowest-of-three')])
def limited(t, who):
    dc1 = {'peer': {'peer dc2': {'rate': RATE}}, 'daemon': {'daemon': {'rate': RATE}},
           'lowest-of-three': {'daemon': {'rate': '1gbit'}, 'peer dc2': {'rate': RATE}}}.get(who)
    more = {'migration': {'rate': RATE}, 'lowest-of-three': {'rate': '200mbit'}}.get(who, {})
    src, dst, sites, first, id = begin(t, dc1, **more)
    now = first
    while now[1] - first[0] < 2.5:
        time.sleep(0.25)
        now = sample(sites.dc1, id)
        used = check_rate(first, now)
    t.log('used %.0f %% of the rate' % (used * 100))
    check(now[2] > 1 << 20, 'hardly anything went: %d bytes' % now[2])
    end(src, dst, sites, id)


@case('e2e/rate/changed', needs=NEEDS)
def changed(t):
    """Down to a tenth in the middle, at once; then off, and it completes."""
    src, dst, sites, first, id = begin(t, rate=RATE)
    src.wait_transferred(2 << 20)
    sites.dc1.qmp.cmd('set-rate-limit', migration=id, rate='4mbit')
    # What was granted before may still be on its way through a lane's buffer.
    time.sleep(0.3)
    a = sample(sites.dc1, id)
    time.sleep(1.5)
    check_rate(a, sample(sites.dc1, id), BYTES_PER_S // 10)
    sites.client.json('limit', 'dc2', '2mbit')
    time.sleep(0.3)
    a = sample(sites.dc1, id)
    time.sleep(1.5)
    check_rate(a, sample(sites.dc1, id), BYTES_PER_S // 20)
    sites.client.json('limit', 'dc2', 'unlimited')
    sites.client.json('limit', id, 'unlimited')
    wait_for(lambda: sample(sites.dc1, id)[3]['state'] == 'completed', 'completion', 20)
    assert_migrated(t, src, dst)


@case('e2e/rate/native-tunnel', needs=['daemon'])
def native(t):
    """A tunnel's own rate, on a leg of QEMU's own wire."""
    from harness.daemon import Daemon
    dst = Qemu.destination(t)
    dst.set_multifd(3)
    path = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    daemon = Daemon(t, 'tunnel', {'tunnel web': {
        'listen': path, 'connect': dst.listen(), 'channels': 3, 'rate': RATE}})
    src = Qemu.source(t)
    src.set_multifd(2, max_bandwidth=1 << 30)
    first = time.monotonic(), time.monotonic(), 0
    src.migrate(path)
    id = wait_for(daemon.migrations_active, 'a migration')[0]['id']
    for _ in range(8):
        time.sleep(0.25)
        check_rate(first, sample(daemon, id))
    daemon.qmp.cmd('set-rate-limit', migration=id, rate='unlimited')
    assert_migrated(t, src, dst)
