# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs cases, each in a process of its own, and reports.

A process per case makes every case independent: a deadline that always
works (a signal, then a kill of the whole session), threads and descriptors
that cannot leak into the next, and orphans that surface (subreaper).
"""
import json
import os
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback

from .case import Context, Deadline, Failure, Skip
from .compare import format_table
from .process import become_subreaper, reap_strays

GRACE_S = 30            # after the deadline, for the case to clear up
TAIL_LINES = 30


def run_case(case, options, directory):
    """In the case's own process: returns (status, reason, lines of the table)."""
    def ring(*_):
        raise Deadline()

    become_subreaper()
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, case.timeout)
    t = Context(directory, options, time.monotonic())
    status, reason = 'FAIL', ''
    try:
        for what in case.needs:
            t.need(what)
        case.function(t, **case.row)
        t.finish()
        status = 'ok'
    except Skip as e:
        status, reason = 'SKIP', str(e)
    except Failure as e:
        reason = str(e)
        traceback.print_exc()
    except Deadline:
        reason = 'deadline of %g s passed in %s' % (case.timeout, where(sys.exc_info()[2]))
        traceback.print_exc()
    except Exception as e:          # a bug of the case; no reason to lose the others
        reason = '%s: %s' % (type(e).__name__, e)
        traceback.print_exc()
    signal.setitimer(signal.ITIMER_REAL, 0)
    if status == 'FAIL':
        reason = '; '.join([reason] + [d for d in t.diagnosis() if d not in reason])
    t.destroy()
    strays = reap_strays()
    if strays and status == 'ok':
        status, reason = 'FAIL', 'processes left: ' + ', '.join(strays)
    return status, reason, [{'case': case.name, **r} for r in t.results]


def where(tb):
    """The innermost place in a case's own file: 'function:line'."""
    found = 'the harness'
    while tb:
        if '/cases/' in tb.tb_frame.f_code.co_filename:
            found = '%s:%d' % (tb.tb_frame.f_code.co_name, tb.tb_lineno)
        tb = tb.tb_next
    return found


class Running:
    """A case under way, seen from the runner."""

    def __init__(self, case, options, directory):
        self.case = case
        self.dir = directory
        self.started = time.monotonic()
        self.kill_at = self.started + case.timeout + GRACE_S
        os.mkdir(directory)
        self.pipe, child_end = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._child(options, child_end)
        os.setpgid(self.pid, self.pid)      # so that all of it can be killed
        os.close(child_end)

    def _child(self, options, pipe):
        try:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            log = os.open(self.dir + '/case.log', os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            result = run_case(self.case, options, self.dir)
            os.write(pipe, json.dumps(result).encode())
        except BaseException:           # a bug of the harness: say it in the log
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def abandon(self):
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def done(self):
        """None while it runs, else (status, reason, lines of the table, seconds)."""
        if not select.select([self.pipe], [], [], 0)[0]:
            if time.monotonic() < self.kill_at:
                return None
            os.killpg(self.pid, signal.SIGKILL)
            result = ['FAIL', 'hung after its deadline and was killed', []]
        else:
            data = os.read(self.pipe, 65536)
            result = json.loads(data) if data else ['FAIL', 'its process died', []]
            if not data:
                os.killpg(self.pid, signal.SIGKILL)     # with all that it has started
        os.waitpid(self.pid, 0)
        os.close(self.pipe)
        return (*result, time.monotonic() - self.started)


def print_logs(directory):
    """The end of every log of a failed case."""
    for path, _, names in sorted(os.walk(directory)):
        for name in sorted(names):
            full = os.path.join(path, name)
            if '.log' not in name and '.sanitizer' not in name:
                continue
            if not stat.S_ISREG(os.lstat(full).st_mode):
                continue
            with open(full, errors='replace') as f:
                lines = f.read().splitlines()
            if not lines:
                continue
            label = os.path.relpath(full, directory)
            if len(lines) > TAIL_LINES:
                print('    %s: (%d lines more)' % (label, len(lines) - TAIL_LINES))
            for line in lines[-TAIL_LINES:]:
                print('    %s: %s' % (label, line))


def report(running, result, keep):
    status, reason, _, seconds = result
    name = running.case.name
    if status == 'ok':
        print('ok %s (%.1fs)' % (name, seconds))
    else:
        print('%s %s: %s' % (status, name, ' '.join(reason.split())))
    if status == 'FAIL':
        print_logs(running.dir)
        print('    kept: ' + running.dir)
    elif not keep:
        shutil.rmtree(running.dir)
    sys.stdout.flush()


def print_table(rows, path):
    """For people, or to a file for whoever runs several of us."""
    if path:
        with open(path, 'a') as f:
            f.writelines(json.dumps(row) + '\n' for row in rows)
    elif rows:
        print('\n'.join(format_table(rows)))


def run(cases, options, jobs=1, keep=False, table=None):
    """Run all, at most so many at a time; returns the exit status."""
    become_subreaper()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)   # nothing of ours outlives us
    # Under /tmp by intention: the path of a unix socket has 107 bytes.
    base = tempfile.mkdtemp(prefix='mf-e2e-', dir='/tmp')
    counts, rows = {'ok': 0, 'FAIL': 0, 'SKIP': 0}, []
    waiting, running = list(enumerate(cases)), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, case = waiting.pop(0)
                running.append(Running(case, options, '%s/%d' % (base, number)))
            select.select([r.pipe for r in running], [], [], 1)
            for r in list(running):
                result = r.done()
                if result:
                    running.remove(r)
                    counts[result[0]] += 1
                    rows += result[2] if result[0] != 'SKIP' else []
                    report(r, result, keep)
    except KeyboardInterrupt:
        for r in running:
            r.abandon()
        reap_strays()
        shutil.rmtree(base)
        print('interrupted')
        return 130
    if not os.listdir(base):
        os.rmdir(base)
    elif keep:
        print('kept: ' + base)
    print_table(rows, table)
    skipped = ', %d skipped' % counts['SKIP'] if counts['SKIP'] else ''
    print('%d passed, %d failed%s' % (counts['ok'], counts['FAIL'], skipped))
    return 1 if counts['FAIL'] else 0
