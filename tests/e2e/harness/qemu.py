# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU with the test guest, from this system or from another root directory.

The two ends of a migration may be different versions: a version is a program
here, or a directory with a whole system in it that has a QEMU (made by
debootstrap, say).  The case's directory is then bind-mounted at its own path
inside, in a mount namespace of that process alone, so that sockets and files
have the same names for everybody and nothing is left mounted.
"""
import os
import shutil
import signal
import subprocess
import uuid as uuid_module

from .case import Failure, Skip, check, wait_for
from .guest import Guest
from .process import Process
from .qmp import Qmp, QmpClosed

PROGRAM = 'qemu-system-x86_64'
ROOTS = os.environ.get('MULTIFERRY_QEMU_ROOTS', '/var/tmp/multiferry-roots')
UUID = 'c0ffee00-1234-4abc-8def-001122334455'

# QEMU before 9.0 under TCG loses guest writes during migration when the RAM
# is a multiple of 256 KiB (tests/guest/README.md), hence the 8 KiB.
RAM_KIB = 64 * 1024 + 8
APPEND = 'mem=48M dirty=4M ws=16M verify=32M stat=0'

# $1: the root; $2: the case's directory; the rest: what to run in there.
ENTER_ROOT = '; '.join([
    'set -e',
    'mount -t tmpfs none "$1/tmp"',
    'mkdir -p "$1$2"',
    'mount --bind "$2" "$1$2"',
    'mount --bind /dev "$1/dev"',
    'mount --bind /proc "$1/proc"',
    'cd /',
    'root=$1',
    'shift 2',
    'exec chroot "$root" "$@"'])


def resolve(version):
    """A program, a root directory, or the name of one below ROOTS.

    Returns (root or None, program).
    """
    version = version or PROGRAM
    for root in (version, os.path.join(ROOTS, version)):
        if os.path.isdir(root):
            if not os.access(root + '/usr/bin/' + PROGRAM, os.X_OK):
                raise Skip('%s in %s' % (PROGRAM, root))
            if os.geteuid():
                raise Skip('root, for a QEMU in another root directory')
            return os.path.realpath(root), '/usr/bin/' + PROGRAM
    program = shutil.which(version)
    if not program:
        raise Skip('QEMU: ' + version)
    return None, program


def machine_types(version):
    """All that this QEMU has, deprecated ones too."""
    root, program = resolve(version)
    words = ['chroot', root] if root else []
    text = subprocess.run([*words, program, '-machine', 'help'], capture_output=True, text=True,
                          check=True).stdout
    return {line.split()[0] for line in text.splitlines()[1:] if line.strip()}


class Qemu(Process):
    """One QEMU; its QMP is .qmp, its guest .guest, its files are in .dir."""

    def __init__(self, t, name, version=None, incoming=None, paused=False,
                 machine=None, ram_kib=RAM_KIB, append=APPEND,
                 uuid=UUID, extra=(), prefix=()):
        directory = t.subdir(name)
        self.guest = Guest(directory, name)
        self.ram_bytes = ram_kib * 1024
        self.qmp = None
        root, program = resolve(version)
        kernel = os.path.join(directory, 'guest.elf')
        shutil.copy(t.options.guest, kernel)
        qmp_path = os.path.join(directory, 'qmp.sock')
        # A monitor serves one client at a time; a daemon gets its own.
        self.daemon_qmp = os.path.join(directory, 'daemon-qmp.sock')
        args = [program, '-machine', machine or t.options.machine, '-accel', 'tcg', '-m', '%dk' % ram_kib,
                '-nodefaults', '-no-user-config', '-vga', 'none', '-display', 'none',
                '-uuid', str(uuid_module.UUID(uuid)), '-kernel', kernel, '-append', append,
                '-qmp', 'unix:%s,server=on,wait=off' % qmp_path,
                '-qmp', 'unix:%s,server=on,wait=off' % self.daemon_qmp,
                *self.guest.qemu_arguments(), *extra]
        if incoming:
            args += ['-incoming', incoming]
        if paused:
            args += ['-S']
        if root:
            args = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c',
                    ENTER_ROOT, 'enter-root', root, t.dir] + args
        super().__init__(t, name, [*prefix, *args], directory=directory)
        self.qmp = Qmp.when_there(qmp_path, name, timeout=20, alive=self.alive)

    @classmethod
    def source(cls, t, name='src', ready=True, **more):
        """A QEMU with a guest that is up and dirties its memory."""
        self = cls(t, name, version=t.options.qemu_src, **more)
        t.versions['source'] = '%d.%d.%d' % self.version
        if ready:
            self.guest.wait_ready()
            self.guest.wait_dirtying()
        return self

    @classmethod
    def destination(cls, t, name='dst', **more):
        self = cls(t, name, version=t.options.qemu_dst, incoming='defer', **more)
        t.versions['destination'] = '%d.%d.%d' % self.version
        return self

    @property
    def version(self):
        v = self.qmp.greeting['QMP']['version']['qemu']
        return (v['major'], v['minor'], v['micro'])

    # ---- migration ----

    def capabilities(self, **caps):
        self.qmp.cmd('migrate-set-capabilities', capabilities=[
            {'capability': k.replace('_', '-'), 'state': v} for k, v in caps.items()])

    def parameters(self, **params):
        self.qmp.cmd('migrate-set-parameters', **params)

    def set_multifd(self, channels, **more):
        """Multifd with so many channels; 0 leaves multifd off."""
        self.capabilities(events=True, return_path=True, multifd=channels > 0)
        if channels:
            more['multifd_channels'] = channels
        if more:
            self.parameters(**more)

    def listen(self, uri='tcp:127.0.0.1:0'):
        """Start to listen for a migration; returns the address as a URI."""
        self.qmp.cmd('migrate-incoming', uri=uri)
        if not uri.startswith('tcp:'):
            return uri

        def bound():
            for a in self.qmp.cmd('query-migrate').get('socket-address', []):
                return 'tcp:%s:%s' % ('[%s]' % a['host'] if ':' in a['host'] else a['host'],
                                      a['port'])
        return wait_for(bound, self.name + ': the address it listens at')

    def migrate(self, uri):
        self.qmp.cmd('migrate', uri=uri)

    def migration(self):
        return self.qmp.cmd('query-migrate')

    def wait_migration(self, *statuses, timeout=60):
        """Until the migration has one of these statuses; returns all of it."""
        final = ('completed', 'failed', 'cancelled')

        def look():
            m = self.migration()
            if m.get('status') in statuses:
                return m
            if m.get('status') in final:
                raise Failure('%s: migration %s: %s, expected %s' % (
                    self.name, m['status'], m.get('error-desc', 'no error-desc'),
                    ' or '.join(statuses)))
        return wait_for(look, lambda: '%s: migration %s, has %s' % (
            self.name, '/'.join(statuses), self.migration()), timeout)

    def wait_transferred(self, n_bytes, timeout=30):
        """In the middle of the transfer: so many bytes have left, more will."""
        def look():
            m = self.migration()
            if m.get('status') in ('completed', 'failed', 'cancelled'):
                raise Failure('%s: migration %s before %d bytes had left: %s' % (
                    self.name, m['status'], n_bytes, m.get('error-desc', 'no error-desc')))
            return m.get('ram', {}).get('transferred', 0) >= n_bytes
        wait_for(look, '%s: %d bytes to leave' % (self.name, n_bytes), timeout)

    # ---- state ----

    def status(self, timeout=10):
        return self.qmp.cmd('query-status', timeout=timeout)

    def running(self):
        """Its guest runs; False for a QEMU that ended."""
        if not self.alive():
            return False
        try:
            return self.status()['running']
        except QmpClosed:
            self.wait_exit()
            return False

    def wait_running(self, timeout=10):
        wait_for(self.running, self.name + ': the guest to run', timeout)

    def stop(self):
        self.qmp.cmd('stop')

    def cont(self):
        self.qmp.cmd('cont')

    def ram(self):
        """The guest's RAM as bytes; the guest should stand still."""
        path = os.path.join(self.dir, 'ram')
        self.qmp.cmd('pmemsave', val=0, size=self.ram_bytes, filename=path, timeout=30)
        with open(path, 'rb') as f:
            data = f.read()
        os.unlink(path)
        return data

    def expect_failed_incoming(self, timeout=5):
        """A destination whose migration failed: it exits, or says 'failed'.

        QEMU's default is to exit with status 1; from 7.2 to 8.x some failures
        leave it waiting, which is well as long as QMP answers.
        """
        def look():
            if not self.alive():
                return True
            try:
                return self.migration().get('status') in ('failed', 'none', None)
            except QmpClosed:
                return not self.alive()
        self.may_be_dead = True
        wait_for(look, self.name + ': its migration to fail', timeout)

    # ---- the end ----

    def finish(self):
        """It still answers QMP (unless its death was expected), and it quits."""
        if self.alive() and self.stopped:
            self.sigcont()
        if self.alive():
            try:
                self.status(timeout=5)
                self.guest.check()
                self.qmp.cmd('quit')
            except QmpClosed:
                check(self.may_be_dead, self.name + ': closed its QMP and went away')
            self.wait_exit()
            self.may_be_dead = self.may_be_dead or self.popen.returncode == 0
        super().finish()

    def diagnosis(self):
        if self.alive():
            self.log_stacks()
        return super().diagnosis()

    def destroy(self):
        if self.alive():
            self.popen.send_signal(signal.SIGKILL)
        if self.qmp:
            self.qmp.close()
        super().destroy()
        if self.guest:
            self.guest.heartbeats.stop()
            self.guest = None
