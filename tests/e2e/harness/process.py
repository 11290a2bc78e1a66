# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes: logs into the case's directory, ends that are asserted."""
import ctypes
import os
import shutil
import signal
import subprocess
import time

from .case import Failure, check

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Orphans of our children become ours, so that none can hide from us."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children():
    """Every live child of this process, as {pid: command line}."""
    found = {}
    for task in os.listdir('/proc/self/task'):
        try:
            with open('/proc/self/task/%s/children' % task) as f:
                pids = f.read().split()
        except OSError:         # a thread that has ended meanwhile
            continue
        for pid in pids:
            found[int(pid)] = command_line(int(pid))
    return {pid: line for pid, line in found.items() if line is not None}


def command_line(pid):
    """The words of a process, or None for one that has ended (a zombie)."""
    try:
        with open('/proc/%d/cmdline' % pid, 'rb') as f:
            return f.read().replace(b'\0', b' ').decode(errors='replace') or None
    except OSError:
        return None


class Process:
    """A program that a case runs, and its standard error.

    A case that kills it, or that expects it to die, calls kill() or
    expect_exit(); any other end is a failure that finish() reports.
    """

    def __init__(self, t, name, args, env=None, directory=None, pass_fds=()):
        self.t = t
        self.name = name
        self.dir = directory or t.subdir(name)
        self.log_path = os.path.join(self.dir, name + '.log')
        self.may_be_dead = False
        self.stopped = False
        t.log('%s: %s' % (name, ' '.join(args)))
        with open(self.log_path, 'ab') as log:
            self.popen = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.dir, env=dict(os.environ, **(env or {})), pass_fds=pass_fds)
        self.pid = self.popen.pid
        t.own(self)

    def alive(self):
        return self.popen.poll() is None

    def log_text(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def wait_exit(self, timeout=5):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure('%s: still running after %g s' % (self.name, timeout)) from None

    def expect_exit(self, code, timeout=5):
        """It ends by itself, with this code (negative: that signal)."""
        self.may_be_dead = True
        got = self.wait_exit(timeout)
        check(got == code, '%s: ended with %d, expected %d' % (self.name, got, code))

    def kill(self, sig=signal.SIGKILL):
        """The case ends it on purpose, whatever comes of it."""
        self.t.log('%s: kill -%d' % (self.name, sig))
        self.may_be_dead = True
        self.popen.send_signal(sig)
        if sig == signal.SIGKILL:
            self.popen.wait()

    def sigstop(self):
        self.stopped = True
        self.popen.send_signal(signal.SIGSTOP)

    def sigcont(self):
        self.stopped = False
        self.popen.send_signal(signal.SIGCONT)

    def n_fds(self):
        return len(os.listdir('/proc/%d/fd' % self.pid))

    def n_threads(self):
        return len(os.listdir('/proc/%d/task' % self.pid))

    def rss_bytes(self):
        """Resident anonymous memory: what the process itself has allocated."""
        with open('/proc/%d/status' % self.pid) as f:
            for line in f:
                if line.startswith('RssAnon:'):
                    return int(line.split()[1]) * 1024
        raise Failure('%s: has no memory any more' % self.name)

    def log_stacks(self):
        """Where each of its threads is, if there is a debugger to tell."""
        if not shutil.which('gdb'):
            return
        p = subprocess.run(['gdb', '-p', str(self.pid), '-batch', '-ex', 'thread apply all bt 12'],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        with open(os.path.join(self.dir, 'stacks.log'), 'w') as f:
            f.writelines(line + '\n' for line in p.stdout.splitlines() if line[:1] in '#T')

    def diagnosis(self):
        code = self.popen.poll()
        if code is None or self.may_be_dead:
            return None
        how = 'by signal %d' % -code if code < 0 else 'with status %d' % code
        return '%s ended %s' % (self.name, how)

    def finish(self):
        dead = self.diagnosis()
        check(not dead, dead)
        self.destroy()

    def destroy(self):
        if self.alive():
            self.popen.kill()
        self.popen.wait()


def reap_strays(patience=1.0):
    """Children that nobody owns: what a case (or the product) left running."""
    end = time.monotonic() + patience
    while children() and time.monotonic() < end:
        time.sleep(0.01)
    strays = children()
    for pid in strays:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return ['%d (%s)' % item for item in strays.items()]
