# SPDX-License-Identifier: GPL-2.0-or-later
"""Outages of an emulated long-distance link: a real TCP, and nobody who says a word.

After each, as long as it lasts: the guest runs once, arrives whole or stays, no more went
over the link than its rate allows, and no daemon has more memory than it may.
"""
import random
import threading
import time

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.sites import Sites
from harness.wan import Profile, Wan

NEEDS = ['root', 'daemon', 'certtool']
# Some seconds of migration; a switchover of half a second.
APPEND = 'mem=24M dirty=1M ws=2M verify=32M stat=0'
RATE = 60e6
LINE = Profile('line', 120e6, 40, 0)
BURST = 1 << 20             # 10 ms of the rate, handshakes, ACKs, a pile-up before the emulator
MEMORY_MIB = 32
SLACK_MIB = 40              # stacks, TLS sessions, what malloc keeps, sanitizers' share
DEAD_S = 2


class Guard(threading.Thread):
    """Looks at the daemons' memory again and again, and remembers the worst."""

    def __init__(self, daemons):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.peak = {d: d.rss_bytes() for d in daemons}
        self.idle = dict(self.peak)
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            for daemon, peak in self.peak.items():
                try:
                    self.peak[daemon] = max(peak, daemon.rss_bytes())
                except OSError:         # the case has failed, and ends them
                    return

    def verify(self):
        self.over.set()
        self.join(5)
        for daemon, peak in self.peak.items():
            grown = (peak - self.idle[daemon]) >> 20
            check(grown <= MEMORY_MIB + SLACK_MIB, '%s: grew by %d MiB, allowed %d + %d'
                  % (daemon.name, grown, MEMORY_MIB, SLACK_MIB))


class Scene:
    def __init__(self, t, env=None, peer=None, dead_s=DEAD_S, **arguments):
        self.t = t
        self.wan = Wan(t, LINE)
        self.src = Qemu.source(t, append=APPEND, prefix=self.wan.inside('dc1'))
        self.dst = Qemu.destination(t, append=APPEND, prefix=self.wan.inside('dc2'))
        common = {'timeouts': {'link-dead': '%ds' % dead_s, 'qmp': '5s'},
                  'daemon': {'migration-memory': '%dM' % MEMORY_MIB}}
        peer = {'rate': '%dmbit' % (RATE / 1e6), 'compression': 'none', 'outage': '120s',
                'outage-switchover': '8s', 'outage-postcopy': '120s', **(peer or {})}
        self.sites = Sites(t, self.src, self.dst, wan=self.wan, env=env,
                           dc1={**common, 'peer dc2': peer}, dc2=common)
        self.dc1, self.dc2 = self.sites.dc1, self.sites.dc2
        self.daemons = [self.dc1, self.dc2]
        self.wan.zero()
        self.begun = time.monotonic()
        self.guard = Guard(self.daemons)
        self.id = self.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', downtime_limit=250,
                                   **arguments)['id']

    def drop(self, seconds):
        self.t.log('the link is gone for %g s' % seconds)
        self.wan.control('down')
        time.sleep(seconds)         # that time passes is what is tested
        self.wan.control('up')

    def sent(self):
        return self.wan.counters()['ab']['out_bytes']

    def flowing(self, count):
        wait_for(lambda: self.sent() > count, 'the migration to be under way', 60)

    def state(self):
        return self.dc1.migrations()[0]['state']

    def verify(self):
        seconds = time.monotonic() - self.begun
        sent, allowed = self.sent(), RATE / 8 * seconds * 1.08 + BURST     # with TCP's headers
        check(sent <= allowed, 'sent %d bytes in %.1f s, allowed %d' % (sent, seconds, allowed))
        self.guard.verify()
        self.verify_beats()

    def verify_beats(self):
        """As seen from outside: from the first at the destination on there is none at the source."""
        there = [when for when, _ in self.dst.guest.heartbeats.beats]
        # A beat that was read late has a margin.
        late = [when for when, _ in self.src.guest.heartbeats.beats
                if there and when > there[0] + 0.5]
        check(not late, 'the guest ran at both ends: %d heartbeats at the source after the first at '
              'the destination' % len(late))

    def assert_arrived(self):
        wait_for(lambda: not self.dc1.migrations_active(), 'dc1 to end it', 120)
        final = self.dc1.migrations()[0]
        self.t.log('link: %s' % final['link'])
        check(final['state'] == 'completed', 'dc1 says %(state)s' % final + ': %s'
              % final.get('error'))
        assert_migrated(self.t, self.src, self.dst)
        self.verify()

    def assert_stayed(self):
        wait_for(lambda: not self.dc1.migrations_active(), 'dc1 to end it', 60)
        self.dst.may_be_dead = True
        wait_for(self.src.running, 'the guest to run at the source', 10)
        self.src.guest.verify()
        self.verify()


@case('e2e/outage/precopy/{seconds}s', needs=NEEDS, timeout=300, table=[
    dict(seconds=1, full=True), dict(seconds=5), dict(seconds=30, full=True),
    dict(seconds=90, full=True)])
def precopy(t, seconds):
    """At a moment that chance chooses, and says."""
    at = random.SystemRandom().randrange(1 << 20, 8 << 20)
    t.log('after %d bytes' % at)
    scene = Scene(t)
    scene.flowing(at)
    scene.drop(seconds)
    scene.assert_arrived()


@case('e2e/outage/switchover/{seconds}s', needs=NEEDS, timeout=300, table=[
    dict(seconds=1, full=True), dict(seconds=5, full=True), dict(seconds=30, full=True),
    dict(seconds=90, full=True)])
def switchover(t, seconds):
    """Within its budget it goes on; beyond it the guest runs on at the source."""
    scene = Scene(t)
    scene.dc1.qmp.event('MIGRATION', id=scene.id, state='switchover', timeout=120)
    scene.drop(seconds)
    if seconds <= 8 or scene.state() in ('handover', 'completed'):
        scene.assert_arrived()
    else:
        scene.assert_stayed()


@case('e2e/outage/postcopy/{seconds}s', needs=NEEDS, timeout=300, full=True, table=[
    dict(seconds=1), dict(seconds=5), dict(seconds=30), dict(seconds=90)])
def postcopy(t, seconds):
    """The guest waits for its pages, at the destination."""
    scene = Scene(t, peer={'rate': '12mbit'}, postcopy_auto=True)
    scene.dc1.qmp.event('MIGRATION', id=scene.id, state='postcopy', timeout=120)
    scene.drop(seconds)
    scene.assert_arrived()


@case('e2e/outage/stopped-{who}', needs=NEEDS, timeout=300, full=True, table=[
    dict(who='dc1'), dict(who='dc2')])
def stopped(t, who):
    """A daemon that stands still for 10 s is as good as gone, and then is there again."""
    scene = Scene(t)
    scene.flowing(2 << 20)
    daemon = scene.sites.daemons[who]
    daemon.sigstop()
    time.sleep(10)                  # that time passes is what is tested
    daemon.sigcont()
    scene.assert_arrived()


# Nothing of these is to wait for that.
LONG_DEAD_S = 60


@case('e2e/outage/lanes-{how}', needs=NEEDS, timeout=120, table=[
    dict(how='black-hole', words=['reset', 'drop', 'max=5']),
    dict(how='reset', words=['reset', 'rst', 'max=5'], full=True)])
def some_lanes(t, how, words):
    """Flows that a middlebox has forgotten, or ends: new connections pass.

    Five of the nine, because some may have nothing to do at the moment.
    """
    scene = Scene(t, peer={'lanes': '8', 'rate': '30mbit'}, dead_s=LONG_DEAD_S)
    scene.flowing(2 << 20)
    t.log(scene.wan.control(*words))
    scene.assert_arrived()
    if how == 'black-hole':
        scene.dc1.assert_says(MADE_ANEW)


MADE_ANEW = 'its path is good: it is made anew'


@case('e2e/outage/old-kernel', needs=NEEDS, timeout=120, full=True)
def old_kernel(t):
    """Where TCP's retransmission timer has no upper limit, lanes are made anew instead of
    waiting for it: TCP alone would be silent for as long again, at worst."""
    scene = Scene(t, env={'MULTIFERRY_TEST_NO_RTO_MAX': '1'}, peer={'lanes': '2', 'rate': '30mbit'},
                  dead_s=LONG_DEAD_S)
    scene.flowing(2 << 20)
    for _ in range(3):      # it may happen that the timer fires when the link returns
        if MADE_ANEW not in scene.dc1.log_text():
            scene.drop(8)
            begin, before = time.monotonic(), scene.sent()
            wait_for(lambda n=before: scene.sent() > n + (256 << 10), 'pages to flow again', 60,
                     every=0.02)
            t.log('%.2f s after the return of the link' % (time.monotonic() - begin))
    scene.assert_arrived()
    scene.dc1.assert_says(MADE_ANEW)
