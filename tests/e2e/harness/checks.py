# SPDX-License-Identifier: GPL-2.0-or-later
"""What a migration must have done, and what it must have left."""
import time

from .case import Failure, check
from .guest import downtime_s

PAGE = 4096


def assert_exactly_one_runs(src, dst, within=2.0):
    """Both QEMUs answer QMP (or ended as expected) and one runs the guest.

    A failing migration lets the source go on after a moment: so the state is
    looked at until it holds, but two running guests are never forgiven.
    """
    end = time.monotonic() + within
    while True:
        running = [q.name for q in (src, dst) if q.running()]
        check(len(running) < 2, 'the guest runs at both ends')
        if len(running) == 1:
            return running[0]
        if time.monotonic() > end:
            raise Failure('the guest runs nowhere: %s' % ', '.join(
                '%s is %s' % (q.name, q.status()['status'] if q.alive() else 'dead')
                for q in (src, dst)))
        time.sleep(0.02)


def assert_runs_at(expected, other):
    """The guest runs at expected alone, beats, and finds its memory whole."""
    got = assert_exactly_one_runs(expected, other)
    check(got == expected.name, 'the guest runs at %s, expected %s' % (got, expected.name))
    expected.guest.verify()


def compare_ram(src, dst):
    """Both guests stand still: their RAM must be the same, byte for byte."""
    for q in (src, dst):
        check(not q.running(), 'compare_ram: %s is running' % q.name)
    a, b = src.ram(), dst.ram()
    check(len(a) == len(b) == src.ram_bytes, 'compare_ram: got %d and %d bytes, expected %d'
          % (len(a), len(b), src.ram_bytes))
    if a == b:
        return
    differ = [i for i in range(0, len(a), PAGE) if a[i:i + PAGE] != b[i:i + PAGE]]
    raise Failure('RAM differs in %d pages, the first at 0x%x' % (len(differ), differ[0]))


def assert_migrated(t, src, dst, ram=False, timeout=60):
    """The whole verdict on a migration that should have worked.

    With ram=True the destination was started paused: RAM is compared first,
    then the guest is let go.  Returns the downtime seen from outside, in s.
    """
    src.wait_migration('completed', timeout=timeout)
    dst.wait_migration('completed')
    if ram:
        compare_ram(src, dst)
        dst.cont()
    dst.wait_running()
    check(not src.running(), 'the guest runs at both ends')
    dst.guest.verify()
    src.guest.check()
    pause = downtime_s(src.guest, dst.guest)
    m = src.migration()
    t.log('migrated: %d ms in all, downtime %s ms by the source, %.0f ms by heartbeat%s, '
          '%d dirty syncs' % (m['total-time'], m.get('downtime'), pause * 1000,
                              ' (RAM compared meanwhile)' if ram else '',
                              m['ram']['dirty-sync-count']))
    return pause


def assert_stayed(t, src, dst, statuses=('failed', 'cancelled'), timeout=10):
    """The whole verdict on a migration that should not have worked.

    The source says so, its guest runs on and is whole, and the destination
    never ran a step.
    """
    m = src.wait_migration(*statuses, timeout=timeout)
    t.log('source: %s: %s' % (m['status'], m.get('error-desc')))
    check(not dst.guest.heartbeats.beats, 'the guest ran at the destination')
    assert_runs_at(src, dst)
