# SPDX-License-Identifier: GPL-2.0-or-later
"""Several migrations at once through one pair of daemons."""
import time

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']
RAM_KIB = 32 * 1024 + 8
# Little of everything: sixteen pairs share the machine that runs the test.
APPEND = 'mem=20M dirty=512K ws=2M verify=4M hb=50 stat=0'


def uuid(i):
    return 'c0ffee00-1234-4abc-8def-%012x' % i


def pairs(t, n, **more):
    made = []
    for i in range(n):
        both = dict(ram_kib=RAM_KIB, append=APPEND, uuid=uuid(i), **more)
        made.append((Qemu.source(t, name='src%d' % i, ready=False, **both),
                     Qemu.destination(t, name='dst%d' % i, **both)))
    for src, _ in made:
        src.guest.wait_ready()
    return made


def sites_of(t, made, dc1=None, weights=()):
    """Both daemons with a [vm webI] for each pair."""
    here, there = dict(dc1 or {}), {}
    for i, (src, dst) in enumerate(made):
        here['vm web%d' % i] = {'qmp': 'unix:' + src.daemon_qmp,
                                'weight': weights[i] if weights else 1}
        there['vm web%d' % i] = {'qmp': 'unix:' + dst.daemon_qmp}
    return Sites(t, dc1=here, dc2=there, lanes=2)


def migrations(daemon):
    return {m['vm']: m for m in daemon.qmp.cmd('query-migrations')}


def all_in(daemon, n, state):
    found = migrations(daemon)
    bad = [m for m in found.values() if m['state'] in ('failed', 'cancelled')]
    check(not bad, 'got %s' % bad)
    return len([m for m in found.values() if m['state'] == state]) == n


@case('e2e/many/{n}', needs=NEEDS, timeout=300, table=[dict(n=2), dict(n=16)])
def at_once(t, n):
    """Each arrives whole and at its own destination, however many there are."""
    made = pairs(t, n)
    sites = sites_of(t, made)
    for i in range(n):
        sites.dc1.qmp.cmd('migrate', **{
            'vm': 'web%d' % i, 'peer': 'dc2', 'channels': 1 + i % 3, 'lanes': 1 + i % 2,
            'destination-channels': 1 + (i + 1) % 4})
    wait_for(lambda: all_in(sites.dc1, n, 'completed'), '%d completed' % n, 240)
    for src, dst in made:
        assert_migrated(t, src, dst)


@case('e2e/many/share-by-weight', needs=NEEDS, timeout=120)
def by_weight(t):
    """The peer's rate is divided 1 to 3 while both want all of it; changed, 1 to 1.

    Counted over the same time for both, so the machine's speed does not matter.
    """
    made = pairs(t, 2)
    sites = sites_of(t, made, {'peer dc2': {'rate': '8mbit'}}, weights=(1, 3))
    for i in range(2):
        sites.dc1.qmp.cmd('migrate', vm='web%d' % i, peer='dc2')
    wait_for(lambda: all(m.get('wire-bytes-out', 0) > 200_000
                         for m in migrations(sites.dc1).values()) and
             len(migrations(sites.dc1)) == 2, 'both under way', 30)

    def shares(seconds):
        a = migrations(sites.dc1)
        time.sleep(seconds)
        b = migrations(sites.dc1)
        return [b['web%d' % i]['wire-bytes-out'] - a['web%d' % i]['wire-bytes-out']
                for i in range(2)]

    check([migrations(sites.dc1)['web%d' % i]['weight'] for i in range(2)] == [1, 3],
          'weights are not as configured')
    one, three = shares(4)
    t.log('1 to 3: %d and %d bytes' % (one, three))
    check(2.4 < three / one < 3.6, 'got %d and %d bytes, expected 1 to 3' % (one, three))
    sites.dc1.qmp.cmd('set-rate-limit', migration='web0', weight=3)
    time.sleep(0.5)
    one, three = shares(4)
    t.log('3 to 3: %d and %d bytes' % (one, three))
    check(0.8 < three / one < 1.25, 'got %d and %d bytes, expected 1 to 1' % (one, three))
    sites.client.json('limit', 'dc2', 'unlimited')
    wait_for(lambda: all_in(sites.dc1, 2, 'completed'), 'both completed', 60)
    for src, dst in made:
        assert_migrated(t, src, dst)
