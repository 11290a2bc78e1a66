# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMUs of other targets than x86, and a guest for them that checks its memory.

The guest, tests/guest/checker.c, has no device: what it says is a page of its
memory, read from outside.
"""
import os
import shutil
import struct
import subprocess

from .case import Skip, check, wait_for
from .checks import compare_ram
from .process import Process
from .qemu import UUID, Qemu
from .qmp import Qmp

MAGIC = 0x4d494752
MIB = 1 << 20
# QEMU before 9.0 under TCG loses guest writes when the RAM is a multiple of 64 pages
# (tests/guest/README.md): an odd page more where the machine allows it.
ODD = 8 * 1024


class Target:
    """One machine: .page is the target's page size, .dirty what its guest may do."""

    def __init__(self, arch, machine, page, ram, base=0, load=None, triple=None, flags=(),
                 args=(), kernel=None, dirty=2):
        self.arch, self.machine, self.page = arch, machine, page
        self.ram_bytes, self.base = ram, base
        self.load, self.triple, self.flags = load, triple, flags
        self.args, self.kernel, self.dirty = args, kernel, dirty

    @property
    def program(self):
        return 'qemu-system-' + self.arch

    # ---- the guest's memory, as checker.c has it ----

    @property
    def report(self):
        return self.base + 2 * MIB

    def defines(self):
        return {'LOAD': hex(self.load), 'REPORT': '%#xu' % self.report, 'DIRTY': self.dirty,
                'TABLE': '%#xu' % (self.report + MIB), 'POOL': '%#xu' % (self.report + 2 * MIB),
                'PAGE': self.page, 'PAGES': 16 * MIB // self.page}

    def image(self, t):
        """The guest, compiled; the path of a raw image."""
        if not shutil.which('clang'):
            raise Skip('the program clang')
        source = os.path.join(t.options.tree, 'tests/guest/checker.c')
        built, path = os.path.join(t.dir, 'checker.o'), os.path.join(t.dir, 'checker.bin')
        p = subprocess.run(
            ['clang', '--target=' + self.triple, '-c', '-O2', '-ffreestanding', '-fno-pic',
             '-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fno-jump-tables',
             '-Wall', '-Wextra', '-Werror', *self.flags,
             *('-D%s=%s' % d for d in self.defines().items()), '-o', built, source],
            capture_output=True, text=True)
        if 'unknown target' in p.stderr or 'No available targets' in p.stderr:
            raise Skip('clang for ' + self.triple)
        check(p.returncode == 0, 'clang for %s: %s' % (self.triple, p.stderr[:400]))
        with open(built, 'rb') as f:
            code = text_section(f.read())
        with open(path, 'wb') as f:
            # A kernel begins with the short PSW that s390x starts with.
            f.write((struct.pack('>II', 0, self.load).ljust(self.load, b'\0')
                     if self.kernel else b'') + code)
        return path


TARGETS = {
    'aarch64': Target('aarch64', 'virt-7.2', 4096, 40 * MIB + ODD, base=0x40000000,
                      load=0x40100000, triple='aarch64', args=('-cpu', 'cortex-a57'),
                      flags=('-mgeneral-regs-only', '-mstrict-align')),
    # Its RAM is whole mebibytes, so under TCG before 9.0 the guest writes before alone.
    's390x': Target('s390x', 's390-ccw-virtio-7.2', 4096, 40 * MIB, load=0x10000,
                    triple='s390x', flags=('-march=z10',), kernel=True, dirty=0),
    # An ARMv5 CPU: pages of 1 KiB, and a stream that does not say so.
    'arm': Target('arm', 'versatilepb', 1024, 40 * MIB + ODD, load=0x10000,
                  triple='arm-none-eabi', flags=('-mcpu=arm926ej-s', '-mfloat-abi=soft')),
}


def text_section(elf):
    """The .text of an object file of either class and either end."""
    wide, order = elf[4] == 2, '<' if elf[5] == 1 else '>'

    def get(form, at):
        return struct.unpack_from(order + form, elf, at)[0]
    table = get('Q', 0x28) if wide else get('I', 0x20)
    size, count, names = struct.unpack_from(order + 'HHH', elf, 0x3a if wide else 0x2e)

    def section(i):
        at = table + i * size
        return (get('I', at), get('Q', at + 24) if wide else get('I', at + 16),
                get('Q', at + 32) if wide else get('I', at + 20))
    strings = section(names)[1]
    for i in range(count):
        name, start, length = section(i)
        if elf[strings + name:].startswith(b'.text\0'):
            return elf[start:start + length]
    raise ValueError('no .text')


class TargetQemu(Qemu):
    """A QEMU of another target, with the guest; a destination waits with -S."""

    def __init__(self, t, name, target, incoming=None, image=None):
        if not shutil.which(target.program):
            raise Skip('the program ' + target.program)
        self.target = target
        self.guest, self.qmp = None, None
        self.ram_bytes = target.ram_bytes
        directory = t.subdir(name)
        qmp_path = os.path.join(directory, 'qmp.sock')
        self.daemon_qmp = os.path.join(directory, 'daemon-qmp.sock')
        args = [target.program, '-machine', target.machine, *target.args, '-accel', 'tcg',
                '-m', '%dk' % (target.ram_bytes // 1024), '-nodefaults', '-no-user-config',
                '-display', 'none', '-uuid', UUID, '-qmp', 'unix:%s,server=on,wait=off' % qmp_path,
                '-qmp', 'unix:%s,server=on,wait=off' % self.daemon_qmp]
        if image and target.kernel:
            args += ['-kernel', image]
        elif image:
            args += ['-device', 'loader,file=%s,addr=%#x,cpu-num=0,force-raw=on'
                     % (image, target.load)]
        if incoming:
            args += ['-incoming', incoming, '-S']
        Process.__init__(self, t, name, args, directory=directory,
                         env={'QEMU_AUDIO_DRV': 'none'})
        self.qmp = Qmp.when_there(qmp_path, name, timeout=20, alive=self.alive)

    @classmethod
    def ends(cls, t, target, n, k):
        """Source and destination, by their multifd channels; 0: not set."""
        dst = cls(t, 'dst', target, incoming='defer')
        src = cls(t, 'src', target, image=target.image(t))
        t.versions['source'] = t.versions['destination'] = '%d.%d.%d' % src.version
        src.wait_sweeps(0)
        for qemu, channels in ((src, n), (dst, k)):
            if channels:
                qemu.set_multifd(channels)
        if n:
            # Room for a guest on a fast machine that dirties more than a loaded one carries.
            src.parameters(max_bandwidth=48 * MIB, downtime_limit=2000)
        return src, dst

    def memory(self, at, size, file='memory'):
        path = os.path.join(self.dir, file)
        self.qmp.cmd('pmemsave', val=at, size=size, filename=path, timeout=30)
        with open(path, 'rb') as f:
            data = f.read()
        os.unlink(path)
        return data

    def ram(self):
        return self.memory(self.target.base, self.ram_bytes, 'ram')

    def guest_report(self):
        """(beats, sweeps) of a guest that has found nothing wrong; None before it is up."""
        order = '>' if self.target.arch == 's390x' else '<'
        magic, beats, bad, sweeps = struct.unpack(
            order + '4I', self.memory(self.target.report, 16))
        if magic != MAGIC:
            return None
        check(bad == 0, '%s: the guest found %d bad pages' % (self.name, bad))
        return beats, sweeps

    def wait_sweeps(self, more, timeout=40):
        """Until the guest has checked all its memory so many times more."""
        first = wait_for(self.guest_report, self.name + ': the guest to run', timeout)
        wait_for(lambda: self.guest_report()[1] >= first[1] + more,
                 '%s: %d sweeps of the guest' % (self.name, more), timeout)

    def judge_arrival(self, src):
        """The RAM is the source's, if it stands still yet; and its guest finds so, all over."""
        before = src.guest_report()
        if not self.running():
            compare_ram(src, self)
            self.cont()
        self.wait_sweeps(2)
        check(self.guest_report()[0] > before[0], 'the guest did not go on')

    def finish(self):
        if self.alive():
            self.status(timeout=5)
            self.qmp.cmd('quit')
            self.wait_exit()
            self.may_be_dead = self.may_be_dead or self.popen.returncode == 0
        Process.finish(self)
