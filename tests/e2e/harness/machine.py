# SPDX-License-Identifier: GPL-2.0-or-later
"""A container with a systemd of its own, over this system's files.

Everything that is here is there too (an overlay takes what is written), so
the programs under test are simply installed into it.  The case's directory
has the same path and is the same inside, for sockets; the network is this
one's.  The kernel's settings are read-only, and no controller is mounted, so
nothing outside changes but for a control group of ours.
"""
import json
import os
import re
import shutil
import subprocess

from .case import Failure, Skip, check, wait_for
from .daemon import COMPLAINTS
from .process import Process

SYSTEMD = '/lib/systemd/systemd'

# What would reach for the kernel or the devices of this machine.
MASKED = ['systemd-sysctl.service', 'systemd-binfmt.service', 'systemd-modules-load.service',
          'systemd-remount-fs.service', 'systemd-udevd.service', 'systemd-udev-trigger.service',
          'systemd-udevd-control.socket', 'systemd-udevd-kernel.socket',
          'systemd-timesyncd.service', 'systemd-random-seed.service',
          'systemd-update-utmp.service', 'systemd-tmpfiles-setup-dev.service',
          'systemd-pcrphase.service', 'systemd-networkd.service', 'systemd-firstboot.service',
          'dev-hugepages.mount', 'dev-mqueue.mount', 'sys-kernel-debug.mount',
          'sys-kernel-tracing.mount', 'sys-fs-fuse-connections.mount', 'sys-kernel-config.mount',
          'proc-sys-fs-binfmt_misc.automount', 'proc-sys-fs-binfmt_misc.mount', 'tmp.mount',
          'ifupdown-pre.service', 'networking.service', 'network-online.target']

# $1: a directory with up, work and root; $2: the case's directory; $3: our control group;
# $4: its hierarchy, legacy or unified.
BOOT = r'''
set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t sysfs -o ro sysfs sys
if [ "$4" = legacy ]; then
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
else
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p ".$2"
mount --bind "$2" ".$2"
# Not only chroot: services get their own views of "/", which must be a mount.
pivot_root . .
umount -l .
# As at a real boot; systemd counts on it when it hands credentials over.
mount --make-rshared /
exec env -i container=multiferry-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    {systemd} --system --unit=basic.target --log-target=journal --show-status=0
'''


def find_hierarchy():
    """(kind, where it is mounted) of the hierarchy that systemd keeps its services in."""
    for kind, path, file in (('legacy', '/sys/fs/cgroup/systemd', 'cgroup.procs'),
                             ('unified', '/sys/fs/cgroup', 'cgroup.controllers')):
        if os.path.exists(os.path.join(path, file)):
            return kind, path
    raise Skip('a namespace with control groups for systemd')


class Machine(Process):
    """Booted when it is made.  run() anything inside, as root."""

    def __init__(self, t, name):
        if os.geteuid():
            raise Skip('root')
        if not os.access(SYSTEMD, os.X_OK):
            raise Skip('the program ' + SYSTEMD)
        directory = t.subdir(name)
        self.disk = os.path.join(directory, 'disk')
        for sub in ('up/etc/systemd/system', 'up/etc/systemd/journald.conf.d', 'work', 'root'):
            os.makedirs(os.path.join(self.disk, sub))
        # The daemon's user must be able to come here.
        for path in (os.path.dirname(t.dir), t.dir, directory):
            os.chmod(path, 0o711)
        for unit in MASKED:
            os.symlink('/dev/null', self._up('etc/systemd/system/' + unit))
        self.write('/etc/systemd/journald.conf.d/test.conf',
                   '[Journal]\nStorage=volatile\nRateLimitBurst=0\nRuntimeMaxUse=32M\n')
        kind, mounted = find_hierarchy()
        self.group = os.path.join(mounted, 'multiferry-e2e-%d-%s' % (os.getpid(), name))
        # Before unshare: the group that one is in becomes the root of the namespace.
        enter = 'mkdir "$1" && echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
        super().__init__(t, name, [
            'sh', '-c', enter, 'enter', self.group,
            'unshare', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child',
            '--uts', '--ipc', '--cgroup',
            'sh', '-c', BOOT.replace('{systemd}', SYSTEMD), 'boot', self.disk, t.dir, self.group,
            kind], directory=directory)
        self.init = None
        self._wait_booted()

    def _up(self, path):
        return os.path.join(self.disk, 'up', path.lstrip('/'))

    def write(self, path, text, mode=0o644):
        """A file inside, whether it has booted or not."""
        inside = self.inside(path)
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        with open(inside, 'w') as f:
            f.write(text)
        os.chmod(inside, mode)

    def inside(self, path):
        """Where one of its files is for us."""
        init = getattr(self, 'init', None)
        return '/proc/%d/root%s' % (init, path) if init else self._up(path)

    def _wait_booted(self):
        def booted():
            check(self.alive(), '%s: did not boot: %s' % (self.name, self.log_text()[-500:]))
            pids = [p for p in self._descendants() if
                    os.path.exists('/proc/%d/root/run/systemd/private' % p)]
            self.init = pids[0] if pids else None
            return self.init
        try:
            wait_for(booted, 'systemd to boot in ' + self.name, 20)
        except Failure:
            # In a container the kernel or its keeper may refuse any of these.
            if re.search(r'^(mkdir|mount|umount|unshare|pivot_root|sh): ', self.log_text(), re.M):
                raise Skip('namespaces and mounts: ' + self.log_text().strip()[-200:]) from None
            raise
        wait_for(lambda: self.call('systemctl', 'is-active', 'basic.target').returncode == 0,
                 'basic.target in ' + self.name, 20, every=0.1)

    def _descendants(self):
        try:
            with open('/proc/%d/task/%d/children' % (self.pid, self.pid)) as f:
                return [int(pid) for pid in f.read().split()]
        except OSError:
            return []

    def words(self, *args):
        return ['nsenter', '--target', str(self.init), '--mount', '--pid', '--uts', '--ipc',
                '--cgroup', '--root', '--wd=/', 'env', '-i', 'LANG=C.UTF-8',
                'PATH=/usr/sbin:/usr/bin:/sbin:/bin', *map(str, args)]

    def call(self, *args, timeout=60, **more):
        return subprocess.run(self.words(*args), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, **more)

    def run(self, *args, timeout=60):
        """What it prints; anything but status 0 is a failure."""
        self.t.log('%s# %s' % (self.name, ' '.join(map(str, args))))
        p = self.call(*args, timeout=timeout)
        for line in (p.stdout + p.stderr).splitlines()[-30:]:
            self.t.log('  | ' + line)
        check(p.returncode == 0, '%s: %s: status %d: %s'
              % (self.name, ' '.join(map(str, args)), p.returncode, (p.stderr or p.stdout)[-600:]))
        return p.stdout

    def show(self, unit, prop):
        return self.call('systemctl', 'show', '--value', '-p', prop, unit).stdout.strip()

    def journal(self, *matches):
        """The entries, as dictionaries."""
        out = self.call('journalctl', '--output=json', '--no-pager', *matches).stdout
        return [json.loads(line) for line in out.splitlines()]

    def diagnosis(self):
        if self.init and self.alive():
            with open(os.path.join(self.dir, 'journal.log'), 'w') as f:
                f.write(self.call('journalctl', '--no-pager').stdout)
        return super().diagnosis()

    def finish(self):
        """Nothing that runs in it may have had a sanitizer or GLib complain."""
        bad = [e['MESSAGE'] for e in self.journal('_COMM=multiferryd')
               if COMPLAINTS.match(str(e.get('MESSAGE')))]
        check(not bad, '%s: %s' % (self.name, bad[:3]))
        super().finish()

    def destroy(self):
        super().destroy()       # its first process, and with that all others
        for path, _, _ in os.walk(self.group, topdown=False):
            try:
                wait_for(lambda p=path: os.rmdir(p) or True if not _busy(p) else False,
                         path + ' to be empty', 5)
            except (Failure, OSError):
                pass
        shutil.rmtree(self.disk, ignore_errors=True)


def _busy(group):
    try:
        with open(os.path.join(group, 'cgroup.procs')) as f:
            return bool(f.read())
    except OSError:
        return False
