# SPDX-License-Identifier: GPL-2.0-or-later
"""multiferryd and multiferry under test.

The daemon gets a configuration file, an environment in which every sanitizer
writes where we look, and a notification socket on which it must say READY=1.
At the end of every case it must leave on SIGTERM with status 0, with no
sanitizer report, no GLib criticals, and no socket in its directory.
"""
import collections
import glob
import itertools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

from .case import Failure, Skip, check, wait_for
from .process import Process
from .qmp import Qmp

COMPLAINTS = re.compile(
    r'.*(-(CRITICAL|WARNING) \*\*|runtime error:|ERROR: \w+Sanitizer).*')


held_ports = collections.deque(maxlen=256)


def free_port():
    """A TCP port of this host that nobody uses now.

    For addresses that must be in a configuration before anybody listens; where
    the kernel can be asked by the one who listens, let it.
    """
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', 0))
    # Bound, not listening: others with SO_REUSEADDR may listen there, but the kernel
    # gives it to nobody who asks for any port.
    held_ports.append(s)
    return s.getsockname()[1]


def config_text(groups):
    """{'daemon': {'name': 'dc1'}, 'peer dc2': {...}} as the INI that it is."""
    return '\n'.join(
        '[%s]\n%s' % (group, ''.join('%s=%s\n' % kv for kv in keys.items()))
        for group, keys in groups.items())


def json_values(text):
    """The JSON values in a text, whatever white space is between and in them."""
    text, decoder = text.strip(), json.JSONDecoder()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


class NotifySocket:
    """systemd's side of sd_notify, in the abstract namespace (no file).

    That one belongs to a network namespace; for a daemon in another one there is path.
    """

    numbers = itertools.count()

    def __init__(self, name, path=None):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = path or '@multiferry-e2e-%d-%s-%d' % (os.getpid(), name,
                                                             next(self.numbers))
        self.sock.bind(self.address.replace('@', '\0', 1))
        self.said = []
        # Always read, as systemd does: a full queue would stop the daemon.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            data = self.sock.recv(65536)
            if data == b'close':
                return
            self.said += data.decode().split('\n')

    def wait(self, word, timeout, alive):
        end = time.monotonic() + timeout
        while word not in self.said:
            if not alive():
                return False
            if time.monotonic() > end:
                raise Failure('no %s in %g s, got %s' % (word, timeout, self.said))
            time.sleep(0.002)
        return True

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b'close', self.address.replace('@', '\0', 1))


# systemd's side of socket activation: descriptors from 3 on, and whom they are for.
ACTIVATE = '''
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(',')]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
for fd in fds:
    os.close(fd)
for n, fd in enumerate(high):
    os.dup2(fd, 3 + n)
os.environ['LISTEN_PID'] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
'''


def listening(address):
    """A socket as a .socket unit has it: a path, or (host, port)."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    # As systemd does it; and a port of free_port() is bound already.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen()
    return sock


class Daemon(Process):
    """A multiferryd.

    groups is its configuration (see config_text); [daemon] name, control and
    runtime-directory are filled in.  Without groups no file is used, only args.  Paths that the
    daemon itself creates should be self.path(...): there we look for leftovers.
    prefix are words before its own; other_network: they lead into another network namespace.
    sockets are passed to it as systemd does, as (FileDescriptorName, socket); they stay
    the caller's, and are no leftovers.
    """

    def __init__(self, t, name, groups=None, args=(), env=None, ready=True, prefix=(),
                 sockets=(), other_network=False):
        program = t.options.program('multiferryd')
        if not program:
            raise Skip('multiferryd in ' + t.options.build)
        directory = os.path.join(t.dir, name)
        os.makedirs(directory, exist_ok=True)       # path_of() may have made it
        self.dir = directory
        self.control_path = self.path('control.sock')
        self.notify = NotifySocket(name, os.path.join(t.dir, name + '.notify')
                                   if other_network else None)
        self._qmp = None
        self.groups = groups
        self.passed = [s.getsockname() for _, s in sockets]
        fds = [s.fileno() for _, s in sockets]
        if sockets:
            prefix = [*prefix, sys.executable, '-c', ACTIVATE, ','.join(map(str, fds))]
            env = {'LISTEN_FDS': str(len(fds)), 'LISTEN_FDNAMES': ':'.join(n for n, _ in sockets),
                   **(env or {})}
        words = [*prefix, program]
        if groups is None:
            words += ['--control', 'unix:' + self.control_path, '--set', 'timeouts.drain=never']
        else:
            words += ['--config', self.write_config(t, name, groups)]
        super().__init__(t, name, [*words, *args], directory=directory,
                         env=self._environment(env), pass_fds=fds)
        if ready and not self.notify.wait('READY=1', 20, self.alive):
            raise Failure('%s: ended with %d before it was ready' % (name, self.popen.returncode))

    def again(self):
        """The next life of one that was killed: name, configuration and log are the same.

        As a service manager does it, what was in its runtime directory is gone.
        """
        for path in self.left_sockets():
            os.unlink(path)
        return Daemon(self.t, self.name, self.groups)

    @classmethod
    def tunnel(cls, t, name, listen, connect, channels=None, **more):
        """A daemon without a file: one tunnel, addresses as tcp:… or unix:…"""
        text = 'listen=%s,connect=%s' % (listen, connect)
        if channels:
            text += ',channels=%d' % channels
        return cls(t, name, args=['--tunnel', text], **more)

    @staticmethod
    def path_of(t, name, file):
        """A path in the directory of a daemon that is not started yet."""
        directory = os.path.join(t.dir, name)
        os.makedirs(directory, exist_ok=True)
        return os.path.join(directory, file)

    def path(self, file):
        return os.path.join(self.dir, file)

    def write_config(self, t, name, groups):
        daemon = {'name': name, 'control': 'unix:' + self.control_path,
                  'runtime-directory': self.dir}
        daemon.update(groups.get('daemon', {}))
        # At the end of a case nobody waits for what it left running.
        timeouts = {'drain': 'never', **groups.get('timeouts', {})}
        path = self.path('multiferryd.conf')
        with open(path, 'w') as f:
            f.write(config_text({**groups, 'daemon': daemon, 'timeouts': timeouts}))
        return path

    def _environment(self, env):
        def options(name, text):
            # What the caller's environment says comes last, and wins.
            text += ':log_path=' + self.path('report.sanitizer')
            return ':'.join(filter(None, [text, os.environ.get(name)]))
        # Before 2.76 GLib keeps slices of its own, and LeakSanitizer sees no leak of one.
        return {'NOTIFY_SOCKET': self.notify.address, 'G_SLICE': 'always-malloc',
                'ASAN_OPTIONS': options('ASAN_OPTIONS', 'detect_leaks=1:exitcode=99:quarantine_size_mb=4'),
                'UBSAN_OPTIONS': options('UBSAN_OPTIONS', 'print_stacktrace=1:halt_on_error=1'),
                'TSAN_OPTIONS': options('TSAN_OPTIONS', 'exitcode=99'),
                **(env or {})}

    @property
    def qmp(self):
        """A connection to the control socket, kept for the whole case."""
        if not self._qmp:
            self._qmp = Qmp.when_there(self.control_path, self.name, alive=self.alive)
        return self._qmp

    def link_address(self):
        """HOST:PORT at which it listens for peers; the port may be kernel-chosen."""
        return self.qmp.cmd('query-status')['link']['address']

    def migrations(self):
        return self.qmp.cmd('query-migrations')

    def migrations_active(self):
        """Those that are not over yet."""
        over = ('completed', 'failed', 'cancelled')
        return [m for m in self.migrations() if m.get('status', m.get('state')) not in over]

    def assert_says(self, pattern, timeout=5):
        """Its log has a line that matches: the operator was told."""
        return wait_for(lambda: re.search(pattern, self.log_text()),
                        '%s: a log line that matches %s' % (self.name, pattern), timeout)

    def footprint(self):
        """Descriptors and threads: the same before and after a migration."""
        return self.n_fds(), self.n_threads()

    def assert_footprint(self, before, timeout=3):
        """Everything of a migration was freed (two may be spare, for GLib)."""
        wait_for(lambda: self.n_fds() <= before[0] and self.n_threads() <= before[1] + 2,
                 lambda: '%s: back to %d descriptors and %d threads, has %d and %d'
                 % ((self.name,) + before + self.footprint()), timeout)

    # ---- the end ----

    def complaints(self):
        """Sanitizer reports and GLib warnings."""
        found = []
        for path in sorted(glob.glob(self.path('report.sanitizer*'))):
            with open(path, errors='replace') as f:
                text = f.read()
            summary = re.search('SUMMARY: .*|.*runtime error.*', text)
            found.append(summary.group() if summary else text[:200])
        found += [m.group() for m in COMPLAINTS.finditer(self.log_text())]
        return found

    def diagnosis(self):
        if self.alive():
            self.log_stacks()
        parts = [super().diagnosis()] + ['%s: %s' % (self.name, c) for c in self.complaints()[:3]]
        return '; '.join(p for p in parts if p) or None

    def left_sockets(self):
        paths = [os.path.join(d, n) for d, _, names in os.walk(self.dir) for n in names]
        return [p for p in paths if stat.S_ISSOCK(os.lstat(p).st_mode) and p not in self.passed]

    def terminate(self, timeout=10):
        """SIGTERM, and all that must be true after it."""
        if self.stopped:
            self.sigcont()
        self.popen.send_signal(signal.SIGTERM)
        code = self.wait_exit(timeout)
        self.may_be_dead = True
        check(code == 0, '%s: ended with %d on SIGTERM, expected 0%s' % (
            self.name, code, ''.join('; ' + c for c in self.complaints()[:3])))
        left = self.left_sockets()
        check(not left, '%s: left %s' % (self.name, ', '.join(left)))

    def finish(self):
        if self.alive():
            self.terminate()
        complaints = self.complaints()
        check(not complaints, '%s: %s' % (self.name, '; '.join(complaints[:3])))
        super().finish()

    def destroy(self):
        super().destroy()
        self.notify.close()
        if self._qmp:
            self._qmp.close()


class Client:
    """The command multiferry, driven as an operator or a script would."""

    def __init__(self, t, daemon):
        self.t = t
        self.program = t.options.program('multiferry')
        if not self.program:
            raise Skip('multiferry in ' + t.options.build)
        self.socket = daemon.control_path

    def words(self, *args):
        return [self.program, '--socket', self.socket, *map(str, args)]

    def run(self, *args, timeout=90):
        """Returns (exit status, standard output, standard error)."""
        self.t.log('multiferry ' + ' '.join(map(str, args)))
        p = subprocess.run(self.words(*args), stdin=subprocess.DEVNULL, capture_output=True,
                           text=True, timeout=timeout)
        for line in (p.stdout + p.stderr).splitlines()[-40:]:
            self.t.log('  | ' + line)
        return p.returncode, p.stdout, p.stderr

    def json(self, *args, timeout=90, status=0):
        """Run with --json; returns the values that it prints, one after the other."""
        code, out, err = self.run(*args, '--json', timeout=timeout)
        check(code == status, 'multiferry %s: status %d, expected %d: %s'
              % (args[0], code, status, err.strip()))
        return list(json_values(out))

    def start(self, *args, name='client'):
        """The same in the background: a Process, ended by the case."""
        return Process(self.t, name, self.words(*args))
