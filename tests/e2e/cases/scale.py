# SPDX-License-Identifier: GPL-2.0-or-later
"""Very many migrations at once, of many channels each: whole, within bounds, and fair.

Sixty-four QEMUs are too heavy for one machine.  Sixty-four pairs of tests/bench/flood are
not: they speak the same wire, and the receiving one compares every page.
"""
import os
import time

from harness import Skip, case, check, wait_for
from harness.daemon import Daemon
from harness.process import Process
from harness.sites import Sites

MIB = 1 << 20
SHARE_MIB = 8           # the least that a daemon gives a migration
HISTORY_MIB = 2
# Beside those: a thread for each connection; a TLS session and its buffers for each lane;
# once, what malloc keeps.
CONNECTION_KIB = 64
LANE_KIB = 512
SLACK_MIB = 32
# What a hundred finished migrations are remembered by, and the slack.
KEPT_MIB = 128
LANES = 4
# Thousands of threads of ours share the processors with the daemons: a turn takes seconds.
PATIENT = {'connect': '60s', 'handshake': '60s', 'first-bytes': '60s', 'link-dead': '60s'}


def is_sanitized(t):
    with open(t.options.program('multiferryd'), 'rb') as f:
        return b'__asan_init' in f.read()


class Flood(Process):
    """One end of one migration."""

    def __init__(self, t, what, name, path, channels, mib, *more):
        program = os.path.join(t.options.build, 'tests/bench/flood')
        if not os.path.exists(program):
            raise Skip('tests/bench/flood in %s (make test-tools)' % t.options.build)
        # A pool as large as what is sent: no page comes twice.
        super().__init__(t, name, [program, what, 'unix:' + path, '--channels', str(channels),
                                   '--pool', '%dM' % mib, '--epoch', '%dM' % (mib // 2), *more])
        self.path = path
        self.may_be_dead = True         # when it is done; has_ended() judges

    def has_ended(self):
        check(self.popen.poll() in (None, 0), '%s: ended with %s: %s'
              % (self.name, self.popen.returncode, self.log_text()[-300:]))
        return self.popen.returncode == 0


def listening_paths():
    with open('/proc/net/unix') as f:
        rows = [line.split() for line in f]
    return {row[7] for row in rows if len(row) > 7 and row[3] == '00010000'}


class Crowd:
    """n tunnels between unix sockets, through the daemons at whose front end one connects."""

    def __init__(self, t, n, channels, mib, nice=0):
        self.nice = nice
        self.t, self.n, self.channels, self.mib = t, n, channels, mib
        self.daemons, self.front = [], None
        self.waves = 0

    def listen(self, i):
        return os.path.join(self.t.dir, 'in-%d' % i)

    def connect(self, i):
        return os.path.join(self.t.dir, 'out-%d' % i)

    def limits(self):
        return {'memory': '%dM' % (self.n * SHARE_MIB), 'migration-memory': '%dM' % SHARE_MIB,
                'page-history': '%dM' % HISTORY_MIB, 'max-migrations': self.n,
                'threads': 2, 'nice': self.nice}

    def start_one_daemon(self):
        groups = {'daemon': self.limits(), 'timeouts': PATIENT}
        for i in range(self.n):
            groups['tunnel t%d' % i] = {'listen': 'unix:' + self.listen(i),
                                        'connect': 'unix:' + self.connect(i),
                                        'channels': self.channels}
        self.front = Daemon(self.t, 'relay', groups)
        self.daemons = [self.front]

    def start_pair(self):
        here, there = ({'daemon': self.limits(), 'timeouts': PATIENT} for _ in range(2))
        for i in range(self.n):
            here['tunnel t%d' % i] = {'listen': 'unix:' + self.listen(i), 'peer': 'dc2'}
            there['tunnel t%d' % i] = {'peer': 'dc1', 'connect': 'unix:' + self.connect(i),
                                       'channels': self.channels}
        sites = Sites(self.t, dc1=here, dc2=there, lanes=LANES)
        self.front = sites.dc1
        self.daemons = [sites.dc1, sites.dc2]

    def bound(self):
        each = (SHARE_MIB + HISTORY_MIB) * MIB + (LANES + 1) * LANE_KIB * 1024 + \
            (2 * self.channels + 8) * CONNECTION_KIB * 1024
        # A sanitizer puts red zones around all, and keeps what is freed for a while.
        return (self.n * each + SLACK_MIB * MIB) * (2 if is_sanitized(self.t) else 1)

    # ---- waves ----

    def begin(self):
        """Both ends of n migrations: (sources, sinks)."""
        self.waves += 1
        for i in range(self.n):
            if os.path.exists(self.connect(i)):
                os.unlink(self.connect(i))
        sinks = [Flood(self.t, 'recv', 'sink%d-%d' % (self.waves, i), self.connect(i),
                       self.channels, self.mib, '--verify') for i in range(self.n)]
        wait_for(lambda: {s.path for s in sinks} <= listening_paths() or
                 any(s.has_ended() for s in sinks), 'sinks that listen', 60)
        sources = [Flood(self.t, 'send', 'source%d-%d' % (self.waves, i), self.listen(i),
                         self.channels, self.mib, '--bytes', '%dM' % self.mib)
                   for i in range(self.n)]
        return sources, sinks

    def finish(self, sources, sinks, timeout):
        """All have arrived whole; the most memory that each daemon had meanwhile."""
        peaks = [0] * len(self.daemons)

        def all_ended():
            for k, daemon in enumerate(self.daemons):
                peaks[k] = max(peaks[k], daemon.rss_bytes())
            return all([end.has_ended() for end in sources + sinks])
        wait_for(all_ended, lambda: 'all to end, %d of %d have' % (
            sum(s.has_ended() for s in sources), self.n), timeout, every=0.05)
        for sink in sinks:
            check('"bytes": %d,' % (self.mib * MIB) in sink.log_text() and
                  '"verified": true' in sink.log_text(), '%s: got %s' % (sink.name, sink.log_text()))
        return peaks

    def completed(self):
        """The last wave's, as the daemon beside the sources has them."""
        return [m for m in self.front.qmp.cmd('query-migrations') if m['state'] == 'completed']

    def wire_bytes(self):
        return {m['tunnel']: m['wire-bytes-out'] for m in self.front.migrations_active()}


def niceness(daemon, comm):
    """Of the threads of that name."""
    found = set()
    for task in os.listdir('/proc/%d/task' % daemon.pid):
        try:
            with open('/proc/%d/task/%s/stat' % (daemon.pid, task)) as f:
                name, fields = f.read().split('(', 1)[1].rsplit(')', 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name == comm:
            found.add(int(fields.split()[16]))
    return found


def check_bounds(crowd, before, peaks):
    for daemon, (idle, _), peak in zip(crowd.daemons, before, peaks):
        crowd.t.log('%s: %d MiB at most, %d idle, allowed %d more'
                    % (daemon.name, peak // MIB, idle // MIB, crowd.bound() // MIB))
        check(peak - idle <= crowd.bound(), '%s: grew by %d MiB, allowed %d'
              % (daemon.name, (peak - idle) // MIB, crowd.bound() // MIB))


def check_flat(crowd, before, first, again):
    """The same again takes the same, and what is kept is the same however many have run."""
    for daemon, (idle, _), one, other in zip(crowd.daemons, before, first, again):
        check(other <= one * 1.5 + SLACK_MIB * MIB, '%s: had %d MiB, and %d the next time'
              % (daemon.name, one // MIB, other // MIB))
        wait_for(lambda: daemon.rss_bytes() - idle <= KEPT_MIB * MIB, lambda: '%s: to keep at most '
                 '%d MiB, keeps %d' % (daemon.name, KEPT_MIB, (daemon.rss_bytes() - idle) // MIB))
        crowd.t.log('%s: keeps %d MiB' % (daemon.name, daemon.rss_bytes() // MIB))


def check_cost(crowd):
    """Of all that have completed; a daemon remembers as many as it may run, and more."""
    done = crowd.completed()
    check(len(done) >= crowd.n, 'got %d completed, expected %d' % (len(done), crowd.n))
    check(all(m['cpu-ms'] > 0 and m['cpu-seconds-per-gib'] > 0 for m in done),
          'a migration without processor time')
    crowd.t.log('%s: %.2f CPU s/GiB' % (crowd.front.name, sum(m['cpu-ms'] for m in done) / 1000 /
                                        (sum(m['bytes-in'] for m in done) / (1 << 30))))


def check_fair(crowd, total):
    """A rate for all of them: what each got of it by the time that the first is done.

    By bytes at one moment, so that the machine's speed does not matter.
    """
    crowd.front.qmp.cmd('set-rate-limit', rate='%dB/s' % (total // 32))
    sources, sinks = crowd.begin()
    wait_for(lambda: len([b for b in crowd.wire_bytes().values() if b > 0]) == crowd.n,
             'all under way', 60)
    begun = crowd.wire_bytes()
    crowd.front.qmp.cmd('set-rate-limit', rate='%dB/s' % min(total // 4, 32 * MIB))
    last = begun

    def one_is_done():
        nonlocal last
        now = crowd.wire_bytes()
        if len(now) == crowd.n:
            last = now
        return len(now) < crowd.n
    wait_for(one_is_done, 'the first to be done', 120, every=0.05)
    got = [last[name] - begun[name] for name in begun]
    crowd.t.log('got of the rate: %d to %d bytes' % (min(got), max(got)))
    check(min(got) * 2 >= max(got), 'got of the rate: %s, expected about the same' % sorted(got))
    crowd.front.qmp.cmd('set-rate-limit', rate='unlimited')
    return crowd.finish(sources, sinks, 120)


@case('e2e/scale/{through}/{n}x{channels}', needs=['daemon', 'certtool'], timeout=400, table=[
    dict(through='tunnel', n=8, channels=16, mib=8),
    dict(through='link', n=8, channels=16, mib=8),
    dict(through='tunnel', n=64, channels=16, mib=8, full=True),
    dict(through='link', n=64, channels=16, mib=8, full=True),
])
def crowd_at_once(t, through, n, channels, mib):
    """Every page arrives; memory, descriptors and threads stay bounded; nobody is starved."""
    crowd = Crowd(t, n, channels, mib)
    if through == 'link':
        crowd.start_pair()
    else:
        crowd.start_one_daemon()
    crowd.front.qmp.cmd('query-status')         # this connection stays
    before = [(d.rss_bytes(), d.footprint()) for d in crowd.daemons]

    first = check_fair(crowd, n * mib * MIB)
    start = time.monotonic()
    check_bounds(crowd, before, crowd.finish(*crowd.begin(), 200))
    t.log('without a rate: %d x %d channels, %d MiB in all: %.1f s'
          % (n, channels, n * mib, time.monotonic() - start))
    check_cost(crowd)

    again = check_fair(crowd, n * mib * MIB)
    check_bounds(crowd, before, again)
    check_flat(crowd, before, first, again)
    for daemon, (_, footprint) in zip(crowd.daemons, before):
        daemon.assert_footprint(footprint, timeout=10)


@case('e2e/scale/nice', needs=['daemon'])
def nice_threads(t):
    """Threads that carry data give way; the one that answers operators does not."""
    crowd = Crowd(t, 1, 2, 8, nice=5)
    crowd.start_one_daemon()
    crowd.front.qmp.cmd('set-rate-limit', rate='8mbit')
    sources, sinks = crowd.begin()
    wait_for(lambda: crowd.wire_bytes().get('t0', 0) > 0, 'the migration to begin')
    for comm in ('in-multifd', 'out-multifd', 'in-main', 'migration'):
        check(niceness(crowd.front, comm) == {5}, '%s: got niceness %s, expected 5'
              % (comm, niceness(crowd.front, comm)))
    check(niceness(crowd.front, 'multiferryd') == {os.nice(0)}, 'the main thread is as nice')
    crowd.front.qmp.cmd('set-rate-limit', rate='unlimited')
    crowd.finish(sources, sinks, 60)
