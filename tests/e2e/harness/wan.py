# SPDX-License-Identifier: GPL-2.0-or-later
"""Two network namespaces, dc1 and dc2, with an emulated long-distance link between them.

See tests/net/README.md.  Who makes a Wan leaves the mount namespace that he was born in: names
of network namespaces are mounts, and so nobody else sees these, and the kernel takes
them away with the last of our processes, however that ends.
"""
import ctypes
import os
import re
import subprocess
import time
from collections import namedtuple

from .case import Failure, Skip, check

CLONE_NEWNS = 0x20000
ADDRESS = {'dc1': '10.77.0.1', 'dc2': '10.77.0.2'}
QUEUE_MIN_BYTES = 256 * 1024
BURST_S = 0.1

# rate in bit/s, round trip in ms, loss in percent (each way)
Profile = namedtuple('Profile', 'name rate rtt_ms loss')
PROFILES = {p.name: p for p in (
    Profile('lan', 1000e6, 1, 0),
    Profile('metro', 500e6, 10, 0),
    Profile('wan', 200e6, 40, 0),
    Profile('lossy', 200e6, 80, 0.5),
    Profile('thin', 50e6, 100, 0),
)}


def settings(profile):
    """The emulator's words; its queue holds what the link carries in one round trip."""
    queue = max(profile.rate / 8 * profile.rtt_ms / 1000, QUEUE_MIN_BYTES)
    return ['rate=%d' % profile.rate, 'delay=%g' % (profile.rtt_ms / 2),
            'loss=%g' % profile.loss, 'queue=%d' % queue]


def need_wan(t):
    """Skip where there can be no emulator; from here on our mounts are our own."""
    t.need('root')
    for program in ('ip', 'mount', 'nsenter'):
        t.need(program)
    try:
        os.close(os.open('/dev/net/tun', os.O_RDWR))
    except OSError as e:
        raise Skip('/dev/net/tun: ' + e.strerror) from None
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise Skip('a mount namespace: ' + os.strerror(ctypes.get_errno()))
    os.makedirs('/run/netns', exist_ok=True)
    p = subprocess.run('mount --make-rprivate / && mount -t tmpfs none /run/netns && '
                       'ip netns add try && ip netns del try', shell=True,
                       capture_output=True, text=True)
    if p.returncode:
        raise Skip('a network namespace: ' + p.stderr.strip())


class Wan:
    """The link, up; .inside('dc1') are the words before a command that shall run there."""

    def __init__(self, t, profile, congestion='cubic'):
        need_wan(t)
        self.t = t
        self.profile = profile
        self.dir = t.subdir('wan')
        self.wanem = os.path.join(t.options.build, 'tests/net/wanem')
        self.env = dict(os.environ, WAN_RUN=self.dir, WANEM=self.wanem, WAN_CC=congestion)
        t.own(self)
        self._script('wan-up.sh', *settings(profile))
        self.zero()

    def _script(self, name, *words):
        path = os.path.join(self.t.options.tree, 'tests/net', name)
        p = subprocess.run([path, *words], env=self.env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        self.t.log('%s %s: %s' % (name, ' '.join(words), p.stdout.strip()))
        check(p.returncode == 0, '%s: status %d: %s' % (name, p.returncode, p.stdout.strip()))

    def control(self, *words):
        """Give the emulator a command; returns its answer."""
        p = subprocess.run([self.wanem, 'ctl', os.path.join(self.dir, 'ctl'), ' '.join(words)],
                           capture_output=True, text=True, timeout=10)
        if p.returncode or p.stdout.startswith('error'):
            raise Failure('wanem ctl %s: %s' % (' '.join(words), (p.stdout + p.stderr).strip()))
        return p.stdout

    def zero(self):
        """Counters to zero."""
        self.control('zero')

    def counters(self):
        """Of each direction, {'out_bytes': ..., 'loss_pkts': ...}, by 'ab' (to dc2) and 'ba'."""
        found = {}
        for line in self.control('stats').splitlines():
            words = dict(word.split('=', 1) for word in line.split())
            found[words['dir']] = {k: float(v) for k, v in words.items()
                                   if re.fullmatch(r'[\d.]+', v)}
        return found

    def assert_within_rate(self, busy):
        """While busy(), no more comes out in any moment than the link's rate allows."""
        samples = []
        while busy():
            before = time.monotonic()
            bytes_out = {way: c['out_bytes'] for way, c in self.counters().items()}
            samples.append((before, time.monotonic(), bytes_out))
            time.sleep(0.05)
        for i, (begin, _, old) in enumerate(samples):
            for _, end, new in samples[i + 1:i + 20]:
                self._check_rate(end - begin, {way: new[way] - old[way] for way in old})

    def _check_rate(self, seconds, came):
        # One burst: what the emulator had to deliver while others kept it from a processor.
        allowed = self.profile.rate / 8 * (seconds + BURST_S)
        for way, n in came.items():
            check(n <= allowed, 'link %s: got %d bytes in %.2f s, allowed at most %d'
                  % (way, n, seconds, allowed))

    @staticmethod
    def inside(where):
        return ['nsenter', '--net=/run/netns/' + where]

    def diagnosis(self):
        return None

    def finish(self):
        self._script('wan-down.sh')

    def destroy(self):
        """Also after finish(), and when it was never up."""
        subprocess.run([os.path.join(self.t.options.tree, 'tests/net/wan-down.sh')], env=self.env,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
