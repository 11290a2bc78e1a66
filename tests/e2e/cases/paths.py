# SPDX-License-Identifier: GPL-2.0-or-later
"""Which way the lanes go, and how their packets are marked."""
import re
import subprocess
import time

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.relay import Relay
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


class TwoPaths:
    """Two relays to one listener: dc1 has both, and lanes take them in turn."""

    def __init__(self, t, lanes=4, dead=None, rate='60mbit'):
        self.relays = []
        self.t = t

        def through(address):
            self.relays += [Relay(t, address, name='path %d' % i) for i in (0, 1)]
            if dead is not None:
                self.relays[dead].refuse = True
            more['paths'] = self.relays[1].address.replace('tcp:', '')
            return self.relays[0].address

        more = {'rate': rate, 'outage': '20s'}
        self.src, self.dst = Qemu.source(t), Qemu.destination(t)
        # through has run when Sites looks into more.
        # On a busy machine nobody else than the relays shall take a lane for dead.
        patient = {'link-dead': '30s'}
        self.sites = Sites(t, self.src, self.dst, lanes=lanes, through=through,
                           dc1={'timeouts': patient, 'peer dc2': more},
                           dc2={'timeouts': patient})
        self.dc1, self.dc2 = self.sites.dc1, self.sites.dc2
        self.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', downtime_limit=150)
        self.src.wait_transferred(3 << 20)

    def counts(self):
        return [sum(c.open for c in relay.connections) for relay in self.relays]

    def assert_arrived(self):
        assert_migrated(self.t, self.src, self.dst)
        wait_for(lambda: not self.dc1.migrations_active(), 'dc1 to end it')
        final = self.dc1.migrations()[0]
        self.t.log('final: %s' % final)
        check(final['state'] == 'completed', 'dc1 says %s' % final['state'])
        return final


@case('e2e/paths/cut-{path}', needs=['daemon', 'certtool'], table=[dict(path=0), dict(path=1)])
def cut(t, path):
    """A path that goes for good takes only its lanes; they come back over the other."""
    scene = TwoPaths(t)
    check(scene.counts() == [3, 2], 'got %s lanes, expected main, 0, 2 and 1, 3' % scene.counts())
    scene.relays[path].refuse = True
    scene.relays[path].cut(reset=True)
    wait_for(lambda: all(lane['up'] for lane in scene.dc1.migrations()[0]['channels-out']) and
             scene.counts()[1 - path] == 5,
             lambda: 'all lanes over the other path; they are %s' % scene.counts(), 40)
    used = {lane['address'] for lane in scene.dc1.migrations()[0]['channels-out']}
    check(used == {scene.relays[1 - path].address}, 'lanes go to %s' % used)
    final = scene.assert_arrived()
    resumes = [lane['resumes'] for lane in final['channels-out']]
    check(resumes == [int(lane % 2 == path) for lane in range(4)], 'resumes: %s' % resumes)
    check(final['link']['resumes'] == (path == 0), 'the main lane: %s' % final['link'])


@case('e2e/paths/dead-at-start-{path}', needs=['daemon', 'certtool'], table=[dict(path=0), dict(path=1)])
def dead_at_start(t, path):
    """A migration begins over what there is, and the log names the path that was not."""
    scene = TwoPaths(t, dead=path)
    check(scene.counts()[1 - path] == 5, 'got %s lanes' % scene.counts())
    scene.dc1.assert_says('link to dc2, path %d of 2: ' % (path + 1))
    final = scene.assert_arrived()
    check(sum(lane['resumes'] for lane in final['channels-out']) == 0, 'lanes broke')


def paths_of(daemon):
    """What query-peers says of the paths to the only peer."""
    paths = daemon.qmp.cmd('query-peers')[0]['paths']
    daemon.t.log('paths: %s' % paths)
    return paths


@case('e2e/paths/query-peers', needs=['daemon', 'certtool'])
def query_peers(t):
    """Which way the lanes go, and what was wrong with the other: for all to see."""
    scene = TwoPaths(t)
    up = paths_of(scene.dc1)
    check([p['address'] for p in up] == [r.address for r in scene.relays], 'got %s' % up)
    check([p['lanes'] for p in up] == [3, 2], 'got %s, expected 3 and 2 lanes' % up)
    check(all(p['reachable'] and 'last-contact-ms' in p for p in up), 'got %s' % up)
    scene.relays[1].refuse = True
    scene.relays[1].cut(reset=True)
    wait_for(lambda: [p['lanes'] for p in paths_of(scene.dc1)] == [5, 0], 'all lanes on path 1', 40)
    down = paths_of(scene.dc1)[1]
    check(down['reachable'] is False and scene.relays[1].address in down['last-error'],
          'got %s' % down)
    lines = scene.sites.client.run('peers')[1].splitlines()
    check(re.match(r'  path 1 +%s +5 +reachable' % scene.relays[0].address, lines[2]), lines)
    check(scene.relays[1].address in lines[3] and 'path 2' in lines[3], lines)
    scene.assert_arrived()
    check([p['lanes'] for p in paths_of(scene.dc1)] == [0, 0], 'lanes after the end')


@case('e2e/paths/query-peers-bound', needs=['daemon', 'certtool'])
def query_peers_bound(t):
    """A path that nothing is known of says nothing but where it goes, and from where."""
    sites = Sites(t, dc1={'peer dc2': {'bind': '127.0.0.77', 'paths': 'lo@127.0.0.1:2'}})
    first, second = paths_of(sites.dc1)
    check(first['bind'] == '127.0.0.77' and first['lanes'] == 0, 'got %s' % first)
    check(second == {'address': 'tcp:127.0.0.1:2', 'bind': 'lo', 'lanes': 0}, 'got %s' % second)


@case('e2e/paths/comes-back', needs=['daemon', 'certtool'])
def comes_back(t):
    """Lanes go back to a path that is good again, one after the other, and lose nothing."""
    scene = TwoPaths(t, rate='8mbit')
    scene.relays[1].refuse = True
    scene.relays[1].cut(reset=True)
    wait_for(lambda: scene.counts() == [5, 0], lambda: 'all lanes over path 1: %s' % scene.counts(),
             20)
    scene.relays[1].refuse = False
    scene.dc1.assert_says('bulk lane . goes back to it', 20)
    resent = scene.dc1.migrations()[0]['link']['resent-bytes']
    wait_for(lambda: scene.counts() == [3, 2], lambda: 'lanes 1 and 3 back: %s' % scene.counts(), 30)
    lanes = scene.dc1.migrations()[0]['channels-out']
    check([lane['resumes'] for lane in lanes] == [0, 2, 0, 2], 'lanes: %s' % lanes)
    again = scene.dc1.migrations()[0]['link']['resent-bytes'] - resent
    check(again == 0, 'sent %d bytes again to go back' % again)
    scene.sites.client.json('limit', 'dc2', 'unlimited')
    scene.assert_arrived()


@case('e2e/paths/does-not-flap', needs=['daemon', 'certtool'], full=True)
def does_not_flap(t):
    """A path that takes connections and nothing else is tried again later and later."""
    scene = TwoPaths(t, rate='3mbit')
    scene.relays[1].refuse = True
    scene.relays[1].cut(reset=True)
    wait_for(lambda: scene.counts() == [5, 0], 'all lanes over path 1', 20)
    time.sleep(20)                  # that time passes is what is tested
    tries = scene.dc1.log_text().count('goes back to it')
    check(1 <= tries <= 2, 'tried %d times in 20 s' % tries)
    check(scene.counts() == [5, 0], 'lanes: %s' % scene.counts())
    scene.sites.client.json('limit', 'dc2', 'unlimited')
    scene.assert_arrived()


@case('e2e/paths/all-dead', needs=['daemon', 'certtool'])
def all_dead(t):
    """What was wrong with each is said."""
    sites = Sites(t, Qemu.source(t), Qemu.destination(t),
                  dc1={'peer dc2': {'address': '127.0.0.1:1', 'paths': '127.0.0.9@127.0.0.1:2'}})
    status, out, err = sites.client.run('migrate', 'web1', '--to', 'dc2')
    check(status == 1, 'got status %d, expected 1' % status)
    for port in (1, 2):
        check('connect to tcp:127.0.0.1:%d: Connection refused' % port in out + err, out + err)


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
