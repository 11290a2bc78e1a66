# SPDX-License-Identifier: GPL-2.0-or-later
"""A link that breaks and comes back: both QEMUs see only a pause.

What breaks it is a relay between the daemons: it cuts, stands still, or takes
nobody in.  Whatever happens the guest runs once, whole, and no more is sent
again than was under way.
"""
import os
import random
import struct
import threading
import time

from harness import Qemu, assert_migrated, assert_runs_at, assert_stayed, case, check, wait_for
from harness.daemon import Daemon
from harness.relay import Relay, connect
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']
DEAD_S = 2
TIMEOUTS = {'link-dead': '%ds' % DEAD_S, 'qmp': '5s', 'handshake': '5s'}
LANES = 4


class Scene:
    """A managed migration on its way through a relay."""

    def __init__(self, t, rate='60mbit', lanes=LANES, dc1=None, dc2=None, timeouts=None,
                 **arguments):
        self.t = t
        self.src, self.dst = Qemu.source(t), Qemu.destination(t)
        self.relay = None
        peer = {'rate': rate, 'outage': '20s', 'outage-switchover': '8s', **(dc1 or {})}
        self.sites = Sites(t, self.src, self.dst, lanes=lanes, through=self._through,
                           dc1={'timeouts': {**TIMEOUTS, **(timeouts or {})}, 'peer dc2': peer},
                           dc2={'timeouts': {**TIMEOUTS, **(timeouts or {})},
                                'peer dc1': dc2 or {}})
        self.dc1, self.dc2 = self.sites.dc1, self.sites.dc2
        self.id = self.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', downtime_limit=150,
                                   **arguments)['id']

    def _through(self, address):
        self.relay = Relay(self.t, address)
        return self.relay.address

    def flowing(self, transferred=3 << 20):
        self.src.wait_transferred(transferred)

    def break_link(self, how, seconds):
        """Cut: connections reset and new ones refused; stall: a black hole."""
        if how == 'cut':
            self.relay.refuse = True
            self.relay.cut(reset=True)
        else:
            self.relay.stall()
        time.sleep(seconds)         # that time passes is what is tested
        self.relay.refuse = False
        self.relay.resume()

    def link(self):
        return self.dc1.migrations()[0]['link']

    def wait_down(self, timeout=DEAD_S + 3):
        wait_for(lambda: self.link()['state'] == 'down', 'dc1 to say that the link is down',
                 timeout)

    def wait_ended(self, daemon, timeout=40):
        wait_for(lambda: not daemon.migrations_active(), daemon.name + ' to end it', timeout)
        return daemon.migrations()[0]

    def assert_arrived(self, resumed=True):
        self.wait_ended(self.dc1)
        assert_migrated(self.t, self.src, self.dst)
        final = self.dc1.migrations()[0]
        check(final['state'] == 'completed', 'dc1 says %s: %s' % (final['state'],
                                                                   final.get('error')))
        self.t.log('link: %s' % final['link'])
        check(not resumed or final['link']['resumes'] > 0, 'the link was not resumed')
        assert_bounded(final)
        self.wait_ended(self.dc2, 10)

    def assert_given_up(self, says, state='failed', timeout=30):
        final = self.wait_ended(self.dc1, timeout)
        check(final['state'] == state, 'dc1 says %s, expected %s' % (final['state'], state))
        check(says in final.get('error', ''), 'dc1 says: %s' % final.get('error'))
        self.dst.may_be_dead = True
        self.src.wait_migration('failed', 'cancelled', timeout=5)
        assert_stays_at(self.src, self.dst)


def assert_stays_at(src, dst):
    check(not dst.guest.heartbeats.beats, 'the guest ran at the destination')
    wait_for(src.running, 'the guest to run at the source', 5)
    src.guest.verify()


def assert_bounded(final):
    """Each resume sends again what was under way, which is within the windows."""
    link = final['link']
    times = max(1, link['resumes'] + sum(c.get('resumes', 0) for c in final['channels-out']))
    window = final['memory-limit'] // 2
    check(link['resent-bytes'] <= times * window, 'sent %d bytes again, allowed %d (%d x %d)'
          % (link['resent-bytes'], times * window, times, window))


@case('e2e/resume/one-lane-{how}', needs=NEEDS, table=[dict(how='reset'), dict(how='closed')])
def one_lane(t, how):
    """One of eight: the others carry what it had, and it comes back."""
    scene = Scene(t, lanes=8)
    scene.flowing()
    scene.relay.cut(3, reset=how == 'reset')
    scene.assert_arrived(resumed=False)
    lanes = scene.dc1.migrations()[0]['channels-out']
    check(sum(lane['resumes'] for lane in lanes) == 1, 'lanes: %s' % lanes)
    scene.dc1.assert_says('bulk lane . broke')


@case('e2e/resume/one-lane-slow', needs=NEEDS, full=True)
def one_lane_slow(t):
    """One of eight at 1 % of its share: the others carry what it cannot."""
    scene = Scene(t, lanes=8)
    scene.flowing()
    busy = max(scene.relay.connections[1:], key=lambda c: c.bytes_up)
    before = busy.bytes_up, scene.relay.bytes_up()
    scene.relay.slow[busy.number] = 60_000_000 // 8 // 8 // 100
    scene.assert_arrived(resumed=False)
    went, of = busy.bytes_up - before[0], scene.relay.bytes_up() - before[1]
    check(went < of / 8, 'the slow lane carried %d of %d bytes' % (went, of))


@case('e2e/resume/precopy/{how}-{seconds}s', needs=NEEDS, timeout=90, table=[
    dict(how=h, seconds=s) for h in ('cut', 'stall') for s in (1, 6)])
def precopy(t, how, seconds):
    scene = Scene(t)
    scene.flowing()
    scene.break_link(how, seconds)
    scene.assert_arrived(resumed=how == 'cut' or seconds > DEAD_S)
    scene.dc1.assert_says('is up again' if how == 'cut' or seconds > DEAD_S else 'active')


@case('e2e/resume/main-lane-alone', needs=NEEDS)
def main_lane_alone(t):
    scene = Scene(t)
    scene.flowing()
    scene.relay.cut(0, reset=True)
    scene.assert_arrived()


@case('e2e/resume/switchover/{how}-{seconds}s', needs=NEEDS, timeout=90, table=[
    dict(how='cut', seconds=1), dict(how='stall', seconds=1), dict(how='cut', seconds=4)])
def switchover(t, how, seconds):
    """Between the stop of the guest and the end: a longer pause, and no more."""
    scene = Scene(t, rate='200mbit')
    scene.dc1.qmp.event('MIGRATION', id=scene.id, state='switchover', timeout=30)
    scene.relay.delay_s = 0.02
    scene.break_link(how, seconds)
    scene.relay.delay_s = 0
    scene.assert_arrived(resumed=False)


@case('e2e/resume/handover/cut-{seconds}s', needs=NEEDS, table=[dict(seconds=1)])
def handover(t, seconds):
    """While the destination is asked to run the guest."""
    scene = Scene(t, rate='200mbit')
    scene.dc1.qmp.event('MIGRATION', id=scene.id, state='switchover', timeout=30)
    scene.relay.delay_s = 0.05
    scene.dc1.qmp.event('MIGRATION', id=scene.id, state='handover', timeout=30)
    scene.break_link('cut', seconds)
    scene.relay.delay_s = 0
    scene.assert_arrived(resumed=False)


@case('e2e/resume/postcopy/{how}-{seconds}s', needs=NEEDS, timeout=90, table=[
    dict(how='cut', seconds=2)])
def postcopy(t, how, seconds):
    """The guest runs at the destination and waits for its pages: a bit longer."""
    scene = Scene(t, rate='30mbit', postcopy_auto=True)
    wait_for(scene.dst.running, 'the guest to run at the destination', 60)
    check(scene.src.migration()['status'] == 'postcopy-active', 'it is over already')
    scene.break_link(how, seconds)
    scene.assert_arrived()


@case('e2e/resume/postcopy/pages-are-late', needs=NEEDS, timeout=90, full=True)
def pages_are_late(t):
    """The package is on its way for longer than the request to run the guest may take."""
    scene = Scene(t, rate='40mbit', timeouts={'qmp': '2s', 'handshake': '2s'}, postcopy_auto=True)
    scene.dc1.qmp.event('MIGRATION', id=scene.id, state='postcopy', timeout=60)
    scene.sites.client.json('limit', 'dc2', '64kbit')
    time.sleep(9)                   # that time passes is what is tested
    scene.sites.client.json('limit', 'dc2', 'unlimited')
    scene.assert_arrived(resumed=False)


@case('e2e/resume/peer-stopped', needs=NEEDS, timeout=90)
def peer_stopped(t):
    """The far daemon stands still for longer than link-dead."""
    scene = Scene(t)
    scene.flowing()
    scene.dc2.sigstop()
    time.sleep(DEAD_S + 2)          # that time passes is what is tested
    scene.dc2.sigcont()
    scene.assert_arrived()


@case('e2e/resume/peer-killed', needs=NEEDS)
def peer_killed(t):
    """A daemon that is gone does not come back: fail, and soon."""
    scene = Scene(t, dc1={'outage': '60s'})
    scene.flowing()
    scene.dst.may_be_dead = True
    scene.relay.refuse = True
    scene.relay.cut(reset=True)
    scene.wait_down()
    scene.dc2.kill()
    scene.relay.destroy()           # so that its port answers that nobody listens
    scene.assert_given_up('cannot be resumed', timeout=DEAD_S + 6)


@case('e2e/resume/budget-{where}', needs=NEEDS, timeout=90, table=[
    dict(where='precopy'), dict(where='switchover')])
def budget(t, where):
    """A link that does not come back: the guest runs on at the source."""
    scene = Scene(t, dc1={'outage': '3s' if where == 'precopy' else '10s',
                          'outage-switchover': '2s'}, dc2={'outage': '1s'})
    if where == 'precopy':
        scene.flowing()
    else:
        scene.dc1.qmp.event('MIGRATION', id=scene.id, state='switchover', timeout=60)
    scene.relay.refuse = True
    scene.relay.cut(reset=True)
    scene.assert_given_up('outage budget', timeout=DEAD_S + 15)
    scene.wait_ended(scene.dc2, 25)


@case('e2e/resume/cancel-while-down/{where}', needs=NEEDS, table=[
    dict(where='source'), dict(where='destination')])
def cancel(t, where):
    scene = Scene(t)
    scene.flowing()
    scene.dst.may_be_dead = True
    scene.relay.refuse = True
    scene.relay.cut(reset=True)
    scene.wait_down()
    daemon = scene.dc1 if where == 'source' else scene.dc2
    daemon.qmp.cmd('migrate-cancel', id=scene.id)
    final = scene.wait_ended(daemon, 5)
    check(final['state'] == 'cancelled', 'it says %s' % final['state'])
    scene.relay.refuse = False
    if where == 'destination':
        scene.assert_given_up('cancelled', timeout=10)
    else:
        assert_stays_at(scene.src, scene.dst)


@case('e2e/resume/abort-is-learned', needs=NEEDS)
def abort_is_learned(t):
    """What was said while nobody could hear it is said again when the link is back."""
    scene = Scene(t, dc1={'outage': '100s'})        # and dc2 waits for longer
    scene.flowing()
    scene.dst.may_be_dead = True
    scene.relay.refuse = True
    scene.relay.cut(reset=True)
    scene.wait_down()
    scene.dc1.qmp.cmd('migrate-cancel', id=scene.id)
    scene.wait_ended(scene.dc1, 5)
    check(scene.dc2.migrations_active(), 'dc2 knows it already: nothing was shown')
    scene.relay.refuse = False
    final = scene.wait_ended(scene.dc2, 15)
    check(final['state'] == 'cancelled' and 'cancelled by request' in final['error'],
          'dc2 says %s: %s' % (final['state'], final.get('error')))
    scene.dc1.assert_says('dc2 has been told that it is over')
    assert_stays_at(scene.src, scene.dst)


@case('e2e/resume/abort-into-a-black-hole', needs=NEEDS)
def abort_into_a_black_hole(t):
    """Written is not heard: nobody has noticed yet that the link is dead."""
    scene = Scene(t, dc1={'outage': '100s'})
    scene.flowing()
    scene.dst.may_be_dead = True
    scene.relay.stall('up')
    scene.dc1.qmp.cmd('migrate-cancel', id=scene.id)
    scene.wait_ended(scene.dc1, 15)
    for connection in scene.relay.connections:      # a NAT that has forgotten them
        connection.cut(reset=True)
    scene.relay.resume()
    final = scene.wait_ended(scene.dc2, 15)
    check(final['state'] == 'cancelled', 'dc2 says %s: %s' % (final['state'], final.get('error')))
    assert_stays_at(scene.src, scene.dst)


def restart(scene, daemon):
    """As a service manager does after kill -9, with the link down meanwhile."""
    scene.relay.refuse = True
    scene.relay.cut(reset=True)
    scene.wait_down()
    daemon.kill()
    return daemon.again()


@case('e2e/resume/restarted/destination', needs=NEEDS)
def restarted_destination(t):
    """The successor knows nothing of it and says so: nobody waits for a budget."""
    scene = Scene(t, dc1={'outage': '100s'})
    scene.flowing()
    scene.dst.may_be_dead = True
    dc2 = restart(scene, scene.dc2)
    scene.relay.refuse = False
    scene.assert_given_up('this daemon was started anew', timeout=15)
    check(not dc2.migrations(), 'the new daemon has %s' % dc2.migrations())


@case('e2e/resume/restarted/source', needs=NEEDS)
def restarted_source(t):
    """Its next migration tells the other end that the last one is gone, and finds its VM free."""
    scene = Scene(t, dc1={'outage': '100s'})
    scene.flowing()
    scene.dst.may_be_dead = True
    dc1 = restart(scene, scene.dc1)
    scene.src.wait_migration('failed')
    check(scene.dc2.migrations_active(), 'dc2 knows it already: nothing was shown')
    scene.relay.refuse = False
    dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
    old = wait_for(lambda: [m for m in scene.dc2.migrations() if m['id'] == scene.id and
                            m['state'] == 'failed'], 'dc2 to end the old one', 10)[0]
    check('its daemon was started anew' in old['error'], 'dc2 says: %s' % old['error'])
    wait_for(lambda: not dc1.migrations_active(), 'the new one to end', 20)
    # That its QEMU has been used up is all that may be wrong.
    check('has a migration already' not in dc1.migrations()[0].get('error', ''),
          dc1.migrations()[0].get('error'))
    assert_stays_at(scene.src, scene.dst)


@case('e2e/resume/cloned-source', needs=NEEDS)
def cloned_source(t):
    """A second daemon with the name and the certificate of the first, whose migration goes on."""
    scene = Scene(t)
    scene.flowing()
    listen = Daemon.path_of(t, 'clone', 'in.sock')
    Daemon(t, 'clone', {
        'daemon': {'name': 'dc1'}, 'tls': {'directory': scene.sites.directories['dc1']},
        'peer dc2': {'address': scene.relay.address.replace('tcp:', ''), 'lanes': 2,
                     'certificate-name': 'dc2'},
        'tunnel web': {'listen': 'unix:' + listen, 'peer': 'dc2'}})
    with connect('unix:' + listen) as main:
        main.sendall(b'QEVM' + struct.pack('>I', 3))
        main.settimeout(10)
        check(main.recv(1) == b'', 'dc2 has no such tunnel, and took it')
    check(scene.dc1.migrations_active() and scene.dc2.migrations_active(),
          'a HELLO of the clone ended the migration of the first')
    scene.assert_arrived(resumed=False)


@case('e2e/resume/before-it-began', needs=NEEDS)
def before(t):
    """Nothing is resumed that was not prepared."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    relays = []

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    sites = Sites(t, src, dst, through=through, dc1={'timeouts': TIMEOUTS},
                  dc2={'timeouts': TIMEOUTS})
    sites.dc2.sigstop()
    sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
    wait_for(lambda: relays[0].bytes_up() > 0, 'dc1 to connect', 5)
    relays[0].cut(reset=True)
    sites.dc2.sigcont()
    wait_for(lambda: not sites.dc1.migrations_active(), 'dc1 to end it', 8)
    check(sites.dc1.migrations()[0]['state'] == 'failed', 'it did not fail')
    assert_runs_at(src, dst)


def tunnel_sites(t, relays, peer=None):
    dst = Qemu.destination(t)
    dst.set_multifd(3)
    path = 'unix:' + Daemon.path_of(t, 'dc1', 'in.sock')

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    sites = Sites(t, lanes=LANES, through=through,
                  dc1={'timeouts': TIMEOUTS, 'tunnel web': {'listen': path, 'peer': 'dc2'},
                       'peer dc2': {'rate': '60mbit', **(peer or {})}},
                  dc2={'timeouts': TIMEOUTS, 'tunnel web': {
                      'peer': 'dc1', 'connect': dst.listen(), 'channels': 3}})
    src = Qemu.source(t)
    src.set_multifd(2)
    return src, dst, sites, path


@case('e2e/resume/tunnel/{how}-{seconds}s', needs=NEEDS, timeout=90, table=[
    dict(how='cut', seconds=1), dict(how='stall', seconds=5)])
def tunnel(t, how, seconds):
    relays = []
    src, dst, sites, path = tunnel_sites(t, relays)
    src.migrate(path)
    src.wait_transferred(3 << 20)
    Scene.break_link(type('', (), {'relay': relays[0]}), how, seconds)
    assert_migrated(t, src, dst)
    wait_for(lambda: not sites.dc1.migrations_active(), 'dc1 to end it', 10)
    check(sites.dc1.migrations()[0]['link']['resumes'] > 0, 'the link was not resumed')


@case('e2e/resume/tunnel/budget', needs=NEEDS)
def tunnel_budget(t):
    relays = []
    src, dst, sites, path = tunnel_sites(t, relays, {'outage': '2s'})
    src.migrate(path)
    src.wait_transferred(3 << 20)
    relays[0].refuse = True
    relays[0].cut(reset=True)
    dst.may_be_dead = True
    assert_stayed(t, src, dst, timeout=15)
    sites.dc1.assert_says('error: .*outage budget')


class Faults:
    """What a seed makes of a relay, in a thread, until it is told to stop."""

    KINDS = ('cut-one', 'cut-main', 'cut-all', 'stall', 'stall-up', 'stall-down', 'slow')

    def __init__(self, t, relay, seed):
        self.t, self.relay, self.random = t, relay, random.Random(seed)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.done.set()
        self.thread.join(30)

    def _run(self):
        while not self.done.wait(self.random.uniform(0.05, 1.5)):
            kind = self.random.choice(self.KINDS)
            seconds = self.random.choice((0, 0.2, 1, DEAD_S + 1.5))
            self.t.log('fault: %s for %g s' % (kind, seconds))
            self._begin(kind)
            self.done.wait(seconds)
            self.relay.refuse = False
            self.relay.delay_s = 0
            self.relay.resume()

    def _begin(self, kind):
        alive = [c.number for c in self.relay.connections if c.open]
        if kind == 'cut-one' and alive:
            self.relay.cut(self.random.choice(alive), reset=self.random.random() < 0.5)
        elif kind == 'cut-main' and alive:
            self.relay.cut(alive[0], reset=True)
        elif kind == 'cut-all':
            self.relay.refuse = True
            self.relay.cut(reset=self.random.random() < 0.5)
        elif kind == 'slow':
            self.relay.delay_s = 0.05
        elif kind.startswith('stall'):
            self.relay.stall(*{'stall': (), 'stall-up': ('up',),
                               'stall-down': ('down',)}[kind])


# MULTIFERRY_FAULTS=50 for more of them, or =FROM-TO for those seeds again (TO is not among them).
FIRST, LAST = [int(n) for n in (['0'] + os.environ.get('MULTIFERRY_FAULTS', '3').split('-'))[-2:]]


@case('e2e/resume/random/{seed}', needs=NEEDS, timeout=150, table=[
    dict(seed=s) for s in range(FIRST, LAST)])
def random_faults(t, seed):
    """Faults from a seed, which is the case's name: it arrives in the end."""
    scene = Scene(t, rate='60mbit', dc1={'outage': '60s', 'outage-switchover': '60s'})
    scene.flowing(1 << 20)
    faults = Faults(t, scene.relay, seed)
    try:
        end = time.monotonic() + 20
        while scene.dc1.migrations_active() and time.monotonic() < end:
            check(not (scene.src.running() and scene.dst.running()), 'the guest runs twice')
            time.sleep(0.1)
    finally:
        faults.stop()
    scene.assert_arrived(resumed=False)
