# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases: how they are named, what each is given, and how each ends.

A case is a function of a Context (called t by habit).  Everything that a case
starts is an *actor* registered with the context, which ends all of them in
the reverse order and asks each whether anything is wrong with it: so no case
has to remember to look for leaks, crashes or things left behind.
"""
import os
import shutil
import time

CASES = []


class Failure(Exception):
    """The product (or QEMU) did something that it must not do."""


class Skip(Exception):
    """The case cannot run here; the text says what it needed."""


class Deadline(BaseException):
    """Raised in the case's main thread by the runner's timer.

    Not an Exception, so that no 'except Exception' can swallow it.
    """


class Case:
    def __init__(self, name, function, row, timeout, needs, full):
        self.name = name
        self.function = function
        self.row = row
        self.timeout = timeout
        self.needs = needs
        self.full = full


def case(name, table=None, timeout=120, needs=(), full=False):
    """Register the decorated function as a case, or as one per row of table.

    The rows are dicts: they fill the braces in the name, and are passed to
    the function by name.  What is in needs makes the case a skip where it is
    absent: 'daemon', 'root', or the name of a program.  With full=True (of the
    decorator, or in a row) it runs only where it is named, or with --full, as
    versions does: for what says little about a single version of QEMU.
    """
    def register(function):
        for row in table or [{}]:
            row = dict(row)
            in_full = row.pop('full', full)
            name_ = name.format(**row)
            if any(c.name == name_ for c in CASES):
                raise ValueError('two cases are named ' + name_)
            CASES.append(Case(name_, function, row, timeout, needs, in_full))
        return function
    return register


def check(condition, message):
    if not condition:
        raise Failure(message)


def wait_for(probe, what, timeout=10, every=0.01):
    """Poll until probe() is true and return its value; say what never came.

    what is a text, or a function that makes one when it is needed.
    """
    end = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure('waited %g s for %s' % (timeout, what() if callable(what) else what))
        time.sleep(every)


class Options:
    """What the command line of the run said; the same for all cases."""

    def __init__(self, tree, build, qemu_src=None, qemu_dst=None,
                 machine='pc-i440fx-7.2'):
        self.tree = tree
        self.build = build
        self.qemu_src = qemu_src
        self.qemu_dst = qemu_dst
        self.machine = machine
        self.guest = os.path.join(build, 'tests/guest/guest.elf')

    def program(self, name):
        for sub in ('', 'daemon'):
            path = os.path.join(self.build, sub, name)
            if os.access(path, os.X_OK):
                return path
        return None


class Context:
    """One run of one case: its directory, its actors, its notes."""

    def __init__(self, directory, options, started):
        self.dir = directory
        self.options = options
        self.started = started
        self.actors = []
        self.versions = {}      # of the QEMUs, by 'source' and 'destination'
        self.results = []       # lines of the table, see compare.py

    def log(self, text):
        print('%7.3f %s' % (time.monotonic() - self.started, text), flush=True)

    def need(self, what):
        if what == 'daemon':
            if not self.options.program('multiferryd'):
                raise Skip('multiferryd in %s' % self.options.build)
        elif what == 'root':
            if os.geteuid():
                raise Skip('root')
        elif not shutil.which(what):
            raise Skip('the program ' + what)

    def result(self, legs, direct, through, why=None):
        """A line of the table that the run prints; why: what makes the two differ."""
        self.results.append({'legs': legs, 'direct': direct, 'through': through, 'why': why,
                             **self.versions})

    def need_version(self, minimum, qemu, what):
        """What only a newer QEMU has; minimum is (major, minor)."""
        if qemu.version < minimum:
            raise Skip('QEMU %d.%d for %s, %s is %d.%d.%d' % (*minimum, what, qemu.name,
                                                              *qemu.version))

    def own(self, actor):
        """Register an actor: something with finish(), diagnosis(), destroy()."""
        self.actors.append(actor)
        return actor

    def subdir(self, name):
        """Each actor lives in a directory of its own, to see what it leaves."""
        path = os.path.join(self.dir, name)
        os.mkdir(path)
        return path

    def finish(self):
        """After a case that passed: every actor must be well, and end well."""
        for actor in reversed(self.actors):
            actor.finish()

    def diagnosis(self):
        """After a case that failed: which actors are dead, and of what."""
        return [d for d in (a.diagnosis() for a in self.actors) if d]

    def destroy(self):
        for actor in reversed(self.actors):
            actor.destroy()
