# SPDX-License-Identifier: GPL-2.0-or-later
"""Death in the hand-over window: the guest must never run twice.

Where it then runs nowhere, the log of a daemon that lives says how to go on,
and a case does just that: an operator who has read it and nothing else.
"""
import re
import time

from harness import Qemu, case, check, wait_for
from harness.qmp import QmpClosed
from harness.relay import Relay
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']
TIMEOUTS = {'link-dead': '2s', 'qmp': '2s', 'handshake': '2s'}
OUTAGE = {'outage': '2s', 'outage-switchover': '1s'}
STAGES = ('switchover', 'handover')
VICTIMS = ('dc1', 'dc2', 'source', 'destination', 'link')


class Scene:
    """A migration whose end goes slowly, because the link has become slow."""

    def __init__(self, t, **arguments):
        self.t = t
        self.src, self.dst = Qemu.source(t), Qemu.destination(t)
        self.relay = None
        timeouts = {'timeouts': TIMEOUTS}
        self.sites = Sites(t, self.src, self.dst, through=self._through,
                           dc1={**timeouts, 'peer dc2': {'rate': '200mbit', **OUTAGE}},
                           dc2={**timeouts, 'peer dc1': OUTAGE})
        self.daemons = dict(self.sites.daemons)
        self.id = self.sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2',
                                           downtime_limit=150, **arguments)['id']

    def _through(self, address):
        self.relay = Relay(self.t, address)
        return self.relay.address

    def reach(self, stage):
        """Until dc1 says that it is there, on a link that now has a delay."""
        self.sites.dc1.qmp.event('MIGRATION', id=self.id, state='switchover', timeout=30)
        self.relay.delay_s = 0.05
        if stage == 'handover':
            self.sites.dc1.qmp.event('MIGRATION', id=self.id, state='handover', timeout=30)

    def party(self, who):
        return {'source': self.src, 'destination': self.dst, **self.sites.daemons}[who]

    def kill(self, who):
        for qemu in (self.src, self.dst):
            qemu.may_be_dead = True
        if who == 'link':
            self.relay.refuse = True
            self.relay.cut(reset=True)
        else:
            self.party(who).kill()
            self.daemons.pop(who, None)

    def running(self):
        """Which of the two run the guest; two are never forgiven."""
        found = self.runs_at()
        check(len(found) < 2, 'the guest runs at both ends')
        return found

    def runs_at(self):
        return [q for q in (self.src, self.dst) if q.running()]

    def settle(self, timeout=14):
        """Until no daemon that lives has anything more to do with it."""
        end = time.monotonic() + timeout
        while any(d.migrations_active() for d in self.daemons.values()):
            self.running()
            self.unstick()
            check(time.monotonic() < end, 'still busy after %g s: %s' % (timeout, {
                n: [m['state'] for m in d.migrations()] for n, d in self.daemons.items()}))
            time.sleep(0.02)
        # What had been said to a QEMU before may still take effect.
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            self.running()
            time.sleep(0.02)
        self.relay.delay_s = 0

    def unstick(self):
        """Without the safe hand-over dc1 may not know: do what its log says."""
        dc1 = self.daemons.get('dc1')
        if not dc1 or 'nothing is given up' not in dc1.log_text():
            return
        other = self.daemons.get('dc2')
        if other and other.migrations_active() and self.dst.alive():
            return          # it may still get to run
        self.t.log('dc1 does not know; the destination is ' + state(self.dst))
        if state(self.dst) == 'running':
            self.src.kill()
        elif dc1.migrations_active():
            self.dst.kill()
            dc1.qmp.cmd('migrate-cancel', id=self.id)

    def advice(self):
        """What the logs say to an operator, of the daemons that live."""
        return [(name, line) for name, d in self.daemons.items()
                for line in d.log_text().splitlines()
                if re.search(r'error: .*`cont`', line)]

    def follow_advice(self):
        """Nothing runs: do what the log says, and only that."""
        advice = self.advice()
        for name, line in advice:
            self.t.log('%s says: %s' % (name, line))
        check(advice, 'the guest runs nowhere (%s, %s) and no log says how to go on' % (
            state(self.src), state(self.dst)))
        text = ' '.join(line for _, line in advice)
        if 'never ran at the destination: ' in text and state(self.dst) == 'dead':
            chosen = self.src
        elif 'has let go' in text or 'has left the source' in text:
            chosen = self.dst
        else:
            # "Ask the source": postmigrate, or gone for good, or else.
            chosen = self.dst if state(self.src) in ('postmigrate', 'dead') else self.src
        self.t.log('so: cont at ' + chosen.name)
        check(state(chosen) != 'dead', 'the log sends us to %s, which is dead' % chosen.name)
        chosen.cont()
        return chosen

    def verdict(self, lost_is_fair=False):
        self.settle()
        running = self.running()
        if not running and lost_is_fair:
            return None
        qemu = running[0] if running else self.follow_advice()
        qemu.wait_running()
        self.running()
        qemu.guest.verify()
        self.t.log('the guest runs at ' + qemu.name)
        return qemu


def state(qemu):
    if not qemu.alive():
        return 'dead'
    try:
        return qemu.status()['status']
    except QmpClosed:
        return 'dead'


@case('e2e/handover/{stage}/{who}-killed', needs=NEEDS, table=[
    dict(stage=s, who=w) for s in STAGES for w in VICTIMS])
def killed(t, stage, who):
    scene = Scene(t)
    scene.reach(stage)
    scene.kill(who)
    # A source QEMU that dies before all is over takes the guest with it.
    scene.verdict(lost_is_fair=who == 'source' and stage == 'switchover')


@case('e2e/handover/{stage}/{who}-stopped', needs=NEEDS, table=[
    dict(stage=s, who=w) for s in STAGES for w in ('dc1', 'dc2', 'source', 'destination')])
def stopped(t, stage, who):
    """Standing still for longer than the others wait, then going on."""
    scene = Scene(t)
    scene.reach(stage)
    for qemu in (scene.src, scene.dst):
        qemu.may_be_dead = True
    party = scene.party(who)
    party.sigstop()
    # By heartbeats: a source that writes to one who does not read answers no QMP.
    end = time.monotonic() + 3.5        # that time passes is what is tested
    while time.monotonic() < end:
        recent = time.monotonic() - 0.05
        beating = [q for q in (scene.src, scene.dst) if (q.guest.last_beat() or [0])[0] > recent]
        check(len(beating) < 2, 'the guest runs at both ends')
        time.sleep(0.02)
    party.sigcont()
    scene.verdict()


@case('e2e/handover/fast/{stage}/{who}-killed', needs=NEEDS, table=[
    dict(stage=s, who=w) for s in STAGES for w in ('dc2', 'link')])
def fast_killed(t, stage, who):
    """Without the safe hand-over too, as long as dc1 is there to hold the source."""
    scene = Scene(t, handover='fast')
    scene.reach(stage)
    scene.kill(who)
    scene.verdict()


@case('e2e/handover/fast/{stage}/dc1-killed', needs=NEEDS, table=[dict(stage=s) for s in STAGES])
def fast_source_daemon_killed(t, stage):
    """What the safe hand-over is for: the source, left alone, may run on as well.

    What is promised is the other half: the guest is whole wherever it runs, and it runs.
    """
    scene = Scene(t, handover='fast')
    scene.reach(stage)
    scene.kill('dc1')
    wait_for(lambda: not scene.sites.dc2.migrations_active(), 'dc2 to end it', 14)
    wait_for(scene.runs_at, 'the guest to run somewhere', 5)
    for qemu in scene.runs_at():
        qemu.guest.verify()


@case('e2e/handover/cancel-in-{stage}', needs=NEEDS, table=[dict(stage=s) for s in STAGES])
def cancelled(t, stage):
    """A cancel that may be too late: refused or obeyed, one guest in any case."""
    scene = Scene(t)
    scene.reach(stage)
    scene.dst.may_be_dead = True
    code, out, err = scene.sites.client.run('cancel', scene.id)
    t.log('cancel: %d' % code)
    qemu = scene.verdict()
    final = scene.sites.dc1.migrations()[0]['state']
    wanted = 'completed' if qemu is scene.dst else 'cancelled'
    check(final == wanted, 'dc1 says %s, but the guest runs at %s' % (final, qemu.name))
    check(code == 0 or final == 'completed', 'cancel was refused, and then obeyed')
