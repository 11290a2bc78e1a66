# SPDX-License-Identifier: GPL-2.0-or-later
"""Which way the lanes go, and how their packets are marked."""
import re
import subprocess

from harness import Qemu, assert_migrated, case, check
from harness.sites import Sites

NEEDS = ['daemon', 'certtool', 'ss']


class Scene:
    """A managed migration that is under way."""

    def __init__(self, t, dc1=None, dc2=None, through=None, **more):
        self.t = t
        self.src, self.dst = Qemu.source(t), Qemu.destination(t)
        self.sites = Sites(t, self.src, self.dst, through=through,
                           dc1={'peer dc2': {'rate': '60mbit', **(dc1 or {})}},
                           dc2={'peer dc1': dc2 or {}}, **more)
        self.dc1, self.dc2 = self.sites.dc1, self.sites.dc2
        self.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', downtime_limit=150)
        self.src.wait_transferred(3 << 20)

    def assert_arrived(self):
        assert_migrated(self.t, self.src, self.dst)


def lanes_of(daemon, *options):
    """What ss says of each TCP connection of a daemon: a line for each."""
    text = subprocess.run(['ss', '-tinOHp', *options], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    return [line for line in text.splitlines() if 'pid=%d,' % daemon.pid in line]


@case('e2e/paths/marked', needs=NEEDS)
def marked(t):
    """At both ends, each as its own configuration says; every kernel has reno."""
    scene = Scene(t, lanes=3, dc1={'congestion-control': 'reno', 'dscp': 10, 'bind': '127.0.0.77'},
                  dc2={'congestion-control': 'reno', 'dscp': 12})
    for daemon, dscp in ((scene.dc1, 10), (scene.dc2, 12)):
        lanes = lanes_of(daemon, '--tos')
        t.log('%s: %s' % (daemon.name, lanes))
        check(len(lanes) == 4, '%s: got %d connections, expected 4' % (daemon.name, len(lanes)))
        for lane in lanes:
            check(' reno ' in lane, 'not reno: %s' % lane)
            check(re.search(r'\btos:0x%x\b' % (dscp << 2), lane), 'not DSCP %d: %s' % (dscp, lane))
            check('127.0.0.77:' in lane, 'not from 127.0.0.77: %s' % lane)
    scene.assert_arrived()


@case('e2e/paths/no-such-algorithm-{at}', needs=NEEDS, table=[dict(at='dc1'), dict(at='dc2')])
def no_such_algorithm(t, at):
    """Either end says which key it is; nothing is migrated in another way than was asked for."""
    peer = {'dc1': 'peer dc2', 'dc2': 'peer dc1'}[at]
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, **{at: {peer: {'congestion-control': 'hope'}}})
    status, out, err = sites.client.run('migrate', 'web1', '--to', 'dc2')
    says = out + err
    check(status == 1, 'got status %d, expected 1' % status)
    check('congestion-control hope: ' in says, says)
    check('tcp_allowed_congestion_control' in says, says)
    src.guest.verify()


@case('e2e/paths/mptcp', needs=NEEDS)
def mptcp(t):
    """Both ends speak it where the kernel does; the lanes are lanes."""
    with open('/proc/sys/net/mptcp/enabled') as f:
        check(f.read().strip() == '1', 'net.mptcp.enabled is not 1')
    scene = Scene(t, lanes=2, dc1={'mptcp': 'yes'}, dc2={'mptcp': 'yes'})
    lanes = [lane for lane in lanes_of(scene.dc1) if 'tcp-ulp-mptcp' in lane]
    t.log('lanes: %s' % lanes)
    check(len(lanes) == 3, 'got %d MPTCP connections, expected 3' % len(lanes))
    scene.assert_arrived()
