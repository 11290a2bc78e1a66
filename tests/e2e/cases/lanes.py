# SPDX-License-Identifier: GPL-2.0-or-later
"""How many lanes there are, and when they come."""
import select

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.liar import MIGRATION
from harness.sites import Sites
from harness.wan import PROFILES, Wan

from cases.lies import TUNNEL, beside_destination

# Enough that packing does not end it before lanes have been counted.
APPEND = 'mem=40M pattern=random dirty=256K ws=4M verify=16M stat=0'


@case('e2e/lanes/auto', needs=['root', 'daemon', 'certtool'], timeout=240)
def auto(t):
    """On a line that loses packets more lanes carry more: up to the maximum, and not beyond."""
    wan = Wan(t, PROFILES['lossy'])
    src = Qemu.source(t, append=APPEND, prefix=wan.inside('dc1'))
    dst = Qemu.destination(t, append=APPEND, prefix=wan.inside('dc2'))
    sites = Sites(t, src, dst, lanes=None, wan=wan, dc1={'peer dc2': {'lanes-max': 8}})
    peer = sites.dc1.qmp.cmd('query-peers')[0]
    check(peer.get('lanes-max') == 8 and 'lanes' not in peer, 'query-peers: %s' % peer)
    client = sites.client.start('migrate', 'web1', '--to', 'dc2')

    def link():
        return (sites.dc1.migrations() or [{}])[0].get('link', {})
    wait_for(lambda: link().get('lanes-used') == 8, lambda: '8 lanes: %s' % link(), 120)
    wait_for(lambda: link().get('lanes-up') == 8, lambda: 'all of them up: %s' % link(), 20)
    client.expect_exit(0, timeout=120)
    assert_migrated(t, src, dst)
    check(link()['lanes-used'] <= 8, 'afterwards: %s' % link())
    sites.dc1.assert_says('sending on 8 lanes instead of 4')


def bulk_lane(liar, number, migration):
    lane = liar.connect(hello=False)
    lane.send_hello(version=1, daemon='liar', role='bulk', migration=migration, lane=number)
    return lane


def is_silent(lane, seconds):
    return not select.select([lane.sock], [], [], seconds)[0]


@case('e2e/lanes/before-prepare', needs=['daemon', 'certtool'])
def early(t):
    """A lane that comes while its migration prepares is answered when that is done."""
    _, liar = beside_destination(t)
    main = liar.connect()
    lane = bulk_lane(liar, 0, MIGRATION)
    check(is_silent(lane, 0.5), 'answered before prepare')
    check('return' in (liar.ask(main, 'prepare', **TUNNEL) or {}), 'prepare was refused')
    answer = lane.receive_json()
    check(answer and 'error' not in answer, 'got %s' % answer)


@case('e2e/lanes/before-refusal', needs=['daemon', 'certtool'])
def early_refused(t):
    """If prepare is refused the lane is closed, and nobody is warned of it."""
    daemon, liar = beside_destination(t)
    main = liar.connect()
    lane = bulk_lane(liar, 0, MIGRATION)
    check(is_silent(lane, 0.5), 'answered before prepare')
    check('error' in liar.ask(main, 'prepare', **{**TUNNEL, 'kind': 'x'}), 'prepare was taken')
    check(lane.receive_json() is None, 'the lane was answered')
    late = bulk_lane(liar, 1, MIGRATION)
    check(late.receive_json() is None, 'a late lane was answered')
    check('bulk lane' not in daemon.log_text(), 'warned of a lane')
