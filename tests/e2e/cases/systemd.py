# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed service under a real systemd, see harness/machine.py."""
import glob
import grp
import os
import re
import shutil
import subprocess

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.certs import Authority
from harness.daemon import config_text, free_port
from harness.machine import Machine
from harness.qemu import UUID
from harness.raw import RawDest, RawSource
from harness.stream import Capture

NEEDS = ['daemon', 'root', 'certtool', 'nsenter', 'make']
UNIT = 'multiferryd.service'
GROUP = 'audio'         # one that every Debian has stands for that of the QEMUs


def event_id(t, name):
    with open(os.path.join(t.options.tree, 'daemon/log-event.c')) as f:
        return re.search(r'LOG_EVENT_%s\] = "(\w+)"' % name, f.read())[1]


class Site:
    """A machine with the service installed, not started."""

    def __init__(self, t, name, port, installer=None):
        self.name, self.port = name, port
        self.machine = Machine(t, name)
        self.run = self.machine.run
        if installer:
            installer(self.machine)
        else:
            install(t, self.machine)
            self.run('systemd-sysusers')
            self.run('systemd-tmpfiles', '--create')
            self.run('journalctl', '--update-catalog')
        self.runtime = os.path.join(t.dir, name, 'run')
        os.mkdir(self.runtime)
        self.uid = int(self.run('id', '-u', 'multiferry'))
        shared = int(self.run('getent', 'group', 'multiferry-qemu').split(':')[2])
        os.chown(self.runtime, self.uid, shared)
        os.chmod(self.runtime, 0o2770)
        self.drop_in('test', '[Service]\nSupplementaryGroups=%s\nReadWritePaths=%s\n'
                     # A sanitizer's own needs; what it finds is in the journal.
                     'Environment=ASAN_OPTIONS=detect_leaks=0\nMemoryMax=infinity\n'
                     % (GROUP, self.runtime))

    def drop_in(self, name, text):
        self.machine.write('/etc/systemd/system/%s.d/%s.conf' % (UNIT, name), text)
        self.run('systemctl', 'daemon-reload')

    def configure(self, groups):
        self.machine.write('/etc/multiferry/multiferryd.conf', config_text(groups))

    def client(self, *words):
        return self.run('multiferry', *words)

    def status(self):
        return self.machine.show(UNIT, 'StatusText')

    def state(self):
        return self.machine.show(UNIT, 'ActiveState')


def install(t, machine):
    """As make install does it, from what was built."""
    root = machine.inside('/')
    p = subprocess.run(['make', '-s', 'install', 'B=' + t.options.build, 'PREFIX=/usr', '-o', 'all',
                        'DESTDIR=' + root.rstrip('/')], cwd=t.options.tree, capture_output=True,
                       text=True)
    t.log(p.stdout + p.stderr)
    check(p.returncode == 0, 'make install: ' + p.stderr[-500:])
    check(os.path.exists(root + 'usr/sbin/multiferryd'), 'make install: no daemon')


def give_keys(ca, site):
    """Certificates: in one site the daemon's own files, in the other the credential store."""
    made = ca.directory(site.name)
    for path in glob.glob(made + '/*.pem'):
        name = os.path.basename(path)
        if site.name == 'dc1':
            target = site.machine.inside('/etc/multiferry/tls/' + name)
        else:
            target = site.machine.inside('/etc/credstore/multiferry.' + name)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        shutil.copy(path, target)
        os.chmod(target, 0o600 if 'key' in name else 0o644)
        if site.name == 'dc1':
            os.chown(target, site.uid, -1)
    return '/etc/multiferry/tls' if site.name == 'dc1' else '/run/credentials/' + UNIT


def qemus(t):
    """As libvirt starts them: what they make, their group may use."""
    os.umask(0o002)
    return Qemu.source(t), Qemu.destination(t)


def sites_of(t, src=None, dst=None, installer=None, **timeouts):
    ca = Authority(t)
    sites = [Site(t, name, free_port(), installer) for name in ('dc1', 'dc2')]
    for site, other, qemu in ((sites[0], sites[1], src), (sites[1], sites[0], dst)):
        groups = {
            'daemon': {'name': site.name, 'runtime-directory': site.runtime},
            'tls': {'directory': give_keys(ca, site)},
            'timeouts': timeouts,
            'listen': {'link': '127.0.0.1:%d' % site.port},
            'peer ' + other.name: {'address': '127.0.0.1:%d' % other.port,
                                   'certificate-name': other.name, 'rate': '60mbit'},
        }
        if qemu:
            groups['vm web1'] = {'qmp': 'unix:' + qemu.daemon_qmp}
            os.chmod(os.path.dirname(qemu.daemon_qmp), 0o711)
            os.chown(qemu.daemon_qmp, -1, grp.getgrnam(GROUP).gr_gid)
            os.chmod(qemu.daemon_qmp, 0o660)
        site.configure(groups)
        site.run('systemctl', 'enable', '--now', 'multiferryd-control.socket', UNIT)
        if installer:           # the package has started it
            site.run('systemctl', 'restart', UNIT)
        check(site.state() == 'active', '%s: %s' % (site.name, site.state()))
    return sites


@case('e2e/systemd/migrates', needs=NEEDS, timeout=240)
def migrates(t):
    """As its own user, in its sandbox, with keys from both places; and the journal tells it all."""
    src, dst = qemus(t)
    dc1, dc2 = sites_of(t, src, dst)
    id = dc1.client('migrate', 'web1', '--to', 'dc2', '--detach').strip()
    wait_for(lambda: dc1.status() == '1 migrations running', 'the count in STATUS', 10)
    dc1.run('systemctl', 'reload', UNIT)
    check(dc1.state() == 'active', 'after a reload: ' + dc1.state())
    dc1.client('limit', 'dc2', 'unlimited')
    assert_migrated(t, src, dst)
    for site, phases in ((dc1, ['setup', 'active', 'switchover', 'handover', 'completed']),
                         (dc2, ['active', 'handover', 'completed'])):
        wait_for(lambda s=site: s.machine.journal('MULTIFERRY_MIGRATION=' + id,
                                                  'MULTIFERRY_PHASE=completed'),
                 '%s: its end in the journal' % site.name, 10)
        story = site.machine.journal('MULTIFERRY_MIGRATION=' + id)
        check([e['MULTIFERRY_PHASE'] for e in story] == phases,
              '%s: got %s, expected %s' % (site.name, [e['MESSAGE'] for e in story], phases))
        other = {'dc1': 'dc2', 'dc2': 'dc1'}[site.name]
        last = story[-1]
        check(last['MULTIFERRY_VM'] == 'web1' and last['MULTIFERRY_PEER'] == other and
              last['MULTIFERRY_UUID'] == UUID and last['_SYSTEMD_UNIT'] == UNIT, str(last))
        explained = site.run('journalctl', '-x', '--no-pager', 'MULTIFERRY_MIGRATION=' + id)
        check('Subject: Migration of web1 is complete' in explained, 'no entry in the catalog')
        site.run('systemctl', 'stop', UNIT)
        check(site.machine.show(UNIT, 'Result') == 'success', site.machine.show(UNIT, 'Result'))
        check(os.path.exists(site.machine.inside('/run/multiferry/control.sock')),
              'the socket of the socket unit is gone')


@case('e2e/systemd/stop-drains', needs=NEEDS, timeout=240)
def stop_drains(t):
    """systemctl stop waits for a migration, longer than the unit's own limit."""
    src, dst = qemus(t)
    dc1, dc2 = sites_of(t, src, dst, drain='1h')
    dc1.drop_in('stop', '[Service]\nTimeoutStopSec=1s\n')
    dc1.client('migrate', 'web1', '--to', 'dc2', '--detach')
    src.wait_transferred(2 << 20)
    dc1.run('systemctl', 'stop', '--no-block', UNIT)
    wait_for(lambda: dc1.status().startswith('draining: 1 migrations running'), 'STATUS', 5)
    first = int(dc1.status().split(', ')[1].split()[0])
    wait_for(lambda: int(dc1.status().split(', ')[1].split()[0]) <= first - 2,
             'the unit to live beyond its limit', 10)
    check(dc1.state() == 'deactivating', 'while it drains: ' + dc1.state())
    dc1.client('limit', 'dc2', 'unlimited')
    assert_migrated(t, src, dst)
    wait_for(lambda: dc1.state() == 'inactive', 'the end of the unit', 15)
    check(dc1.machine.show(UNIT, 'Result') == 'success', dc1.machine.show(UNIT, 'Result'))


@case('e2e/systemd/watchdog-restarts', needs=NEEDS, timeout=240)
def watchdog(t):
    """A daemon that hangs is killed and started anew; clients find the same socket."""
    site = Site(t, 'dc1', 0)
    site.configure({'daemon': {'name': 'dc1'}})
    site.drop_in('watchdog', '[Service]\nWatchdogSec=1s\n')
    site.run('systemctl', 'enable', '--now', 'multiferryd-control.socket', UNIT)
    first = site.machine.show(UNIT, 'MainPID')
    site.run('kill', '-STOP', first)
    wait_for(lambda: site.machine.show(UNIT, 'NRestarts') == '1', 'a restart', 20)
    wait_for(lambda: site.state() == 'active', 'it to be active again', 20)
    check(site.machine.show(UNIT, 'MainPID') != first, 'the same process')
    check('multiferryd 0' in site.client('status'), 'no answer on the socket')


@case('e2e/systemd/bad-configuration', needs=NEEDS, timeout=240)
def bad_configuration(t):
    """It is as bad the next time: the service has failed and is not started again and again."""
    site = Site(t, 'dc1', 0)
    site.configure({'daemon': {'name': 'dc1', 'no-such-key': 'yes'}})
    p = site.machine.call('systemctl', 'start', UNIT)
    check(p.returncode != 0, 'it has started')
    check(site.machine.show(UNIT, 'ExecMainStatus') == '2', 'another status')
    check(site.state() == 'failed', 'it is %s' % site.state())
    check(site.machine.show(UNIT, 'NRestarts') == '0', 'it was restarted')


@case('e2e/systemd/who-may-command', needs=NEEDS, timeout=240)
def access(t):
    """Started by the first who connects; only root and the group reach it."""
    site = Site(t, 'dc1', 0)
    site.configure({'daemon': {'name': 'dc1'}})
    site.run('systemctl', 'start', 'multiferryd-control.socket')
    check(site.state() == 'inactive', 'runs before anybody has connected')
    site.client('status')
    check(site.state() == 'active', 'not started by the socket')
    path = '/run/multiferry/control.sock'
    for mode, groups, allowed in ((0o660, [], False), (0o660, ['multiferry'], True),
                                  (0o666, [], False), (0o666, [GROUP, 'multiferry'], True),
                                  (0o666, [GROUP, 'multiferry-qemu'], False)):
        os.chmod(site.machine.inside(path), mode)
        user = 'nobody'
        words = ['setpriv', '--reuid', user, '--regid', 'nogroup',
                 *(['--groups', ','.join(groups)] if groups else ['--clear-groups']),
                 'multiferry', 'status']
        p = site.machine.call(*words)
        check((p.returncode == 0) == allowed, '%s in %s, socket %o: %d %s'
              % (user, groups, mode, p.returncode, p.stderr))
        check(mode == 0o660 or allowed or 'may not command this daemon' in p.stderr, p.stderr)
    refused = site.machine.journal('MESSAGE_ID=' + event_id(t, 'ACCESS_REFUSED'))
    check(len(refused) == 2 and 'allowed are root' in refused[0]['MESSAGE'], str(refused))


@case('e2e/systemd/journal-of-a-refused-packet', needs=NEEDS, timeout=240)
def refused_packet(t):
    """Which channel it came on is a field; the catalog says what to think of it."""
    capture = Capture(t.options.tree, 'qemu100-none-2ch')
    packet = next(p for p in capture.data_packets(1) if p.normal)
    capture.patch_packet(1, packet, normal_pages=129)
    dest = RawDest(t, capture, 3)
    site = Site(t, 'dc1', 0)
    listen = 'tcp:127.0.0.1:%d' % free_port()
    for path in (dest.address.removeprefix('unix:'),):
        if os.path.exists(path):        # the daemon's user must be able to connect to it
            os.chmod(path, 0o666)
            os.chmod(os.path.dirname(path), 0o711)
    site.configure({'daemon': {'name': 'dc1'}, 'tunnel web': {
        'listen': listen, 'connect': dest.address, 'channels': 3}})
    site.run('systemctl', 'start', UNIT)
    RawSource(t, listen, capture).wait_refused()
    end = wait_for(lambda: site.machine.journal('MESSAGE_ID=' + event_id(t, 'PACKET_REJECTED')),
                   'the refusal in the journal', 10)[0]
    check(end['MULTIFERRY_CHANNEL'] == '1' and end['MULTIFERRY_VM'] == 'web' and
          end['MULTIFERRY_PHASE'] == 'failed' and 'normal_pages' in end['MESSAGE'], str(end))
    explained = site.run('journalctl', '-x', '--no-pager', 'MULTIFERRY_PHASE=failed')
    check('A packet on channel 1 did not pass' in explained, 'no entry in the catalog')
