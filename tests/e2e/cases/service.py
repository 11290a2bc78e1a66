# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd and the daemon promise each other; the harness is systemd here."""
import os
import re
import shutil
import signal
import socket
import ssl
from datetime import timedelta

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.certs import Authority
from harness.daemon import Daemon, free_port, listening
from harness.qmp import Qmp
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']


def said(daemon, word):
    """How often the daemon has notified systemd of this."""
    return daemon.notify.said.count(word)


def reload(daemon):
    """SIGHUP, and wait until it says that it is ready again."""
    ready, reloading = said(daemon, 'READY=1'), said(daemon, 'RELOADING=1')
    os.kill(daemon.pid, signal.SIGHUP)
    wait_for(lambda: said(daemon, 'READY=1') > ready, 'READY=1 after SIGHUP', 5)
    check(said(daemon, 'RELOADING=1') == reloading + 1, 'no RELOADING=1: %s' % daemon.notify.said)


# ---- socket activation ----


@case('e2e/service/socket-activation', needs=NEEDS)
def activation(t):
    """Both sockets of both daemons come from systemd: used, and never unlinked."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, activated=('dc1', 'dc2'))
    sites.client.json('migrate', 'web1', '--to', 'dc2', '--channels', 2)
    assert_migrated(t, src, dst)
    for daemon in sites.daemons.values():
        passed = daemon.passed[1]
        check(daemon.link_address() == 'tcp:%s:%d' % passed, '%s: listens at %s, was passed %s'
              % (daemon.name, daemon.link_address(), passed))
        daemon.terminate()
        check(os.path.exists(daemon.control_path), '%s: unlinked what is not its own'
              % daemon.name)
        check('socket activation:' not in daemon.log_text(), daemon.log_text())


@case('e2e/service/restart-loses-no-client', needs=['daemon'])
def restart(t):
    """Who connects between two daemons waits for the second."""
    path = os.path.join(t.dir, 'control.sock')
    groups = {'daemon': {'control': 'unix:' + path}}
    with listening(path) as sock, socket.socket(socket.AF_UNIX) as client:
        first = Daemon(t, 'first', groups, sockets=[('control', sock)])
        Qmp(path, 'before').close()
        inode = os.stat(path).st_ino
        first.terminate()
        check(os.stat(path).st_ino == inode, 'the daemon has put another socket in place')
        client.connect(path)
        Daemon(t, 'second', groups, sockets=[('control', sock)])
        client.settimeout(5)
        check(b'"QMP"' in client.recv(4096), 'no greeting for the client that waited')


@case('e2e/service/sockets-nobody-knows', needs=['daemon'])
def unknown_sockets(t):
    """A unit with a wrong FileDescriptorName=, or ListenDatagram=: said, not used."""
    with listening(('127.0.0.1', 0)) as other, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        daemon = Daemon(t, 'd', {}, sockets=[('web', other), ('control', datagrams)])
        daemon.assert_says("warning: socket activation: got 'control' that is not a listening")
        daemon.assert_says("warning: socket activation: got a socket 'web' that nothing uses")
        check(daemon.qmp.cmd('query-status')['running'], 'no control socket of its own')
        fds = '/proc/%d/fd' % daemon.pid
        has = {os.stat(os.path.join(fds, fd)).st_ino for fd in os.listdir(fds)}
        check(not has & {os.fstat(s.fileno()).st_ino for s in (other, datagrams)},
              'has kept what it does not use')


# ---- notifications ----


@case('e2e/service/notifications-{end}', needs=['daemon'], table=[
    dict(end='sigterm'), dict(end='quit')])
def notifications(t, end):
    daemon = Daemon(t, 'd', {})
    words = daemon.notify.said
    check('MAINPID=%d' % daemon.pid in words, 'no MAINPID: %s' % words)
    reload(daemon)
    at = words.index('RELOADING=1')
    check(words[at + 1].startswith('MONOTONIC_USEC=') and 'READY=1' in words[at:],
          'RELOADING=1 without a time, or without an end: %s' % words)
    check('STOPPING=1' not in words, 'stops too early: %s' % words)
    if end == 'quit':
        daemon.qmp.cmd('quit')
        daemon.expect_exit(0)
    else:
        daemon.terminate()
    wait_for(lambda: 'STOPPING=1' in words, 'STOPPING=1', 2)
    check('READY=1' not in words[words.index('STOPPING=1'):], 'ready after its end: %s' % words)
    check('WATCHDOG=1' not in words, 'pats a watchdog that nobody has: %s' % words)


@case('e2e/service/watchdog', needs=NEEDS)
def watchdog(t):
    """Patted in time, also while migrations run and end; and STATUS counts them."""
    interval_s = 1
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '100mbit'}},
                  env={'WATCHDOG_USEC': str(interval_s * 1000 * 1000)})
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    rounds = 0
    while migration.alive() or rounds < 3:
        for daemon in sites.daemons.values():
            before = said(daemon, 'WATCHDOG=1')
            wait_for(lambda: said(daemon, 'WATCHDOG=1') > before,
                     '%s to pat the watchdog' % daemon.name, interval_s)
        rounds += 1
    migration.expect_exit(0)
    assert_migrated(t, src, dst)
    for daemon in sites.daemons.values():
        for n in (1, 0):
            wait_for(lambda: said(daemon, 'STATUS=%d migrations running' % n),
                     '%s: STATUS with %d' % (daemon.name, n), 5)


# ---- reload ----


def presented(daemon):
    """The certificate that whoever connects to its link is shown."""
    host, port = daemon.link_address().removeprefix('tcp:').rsplit(':', 1)
    return ssl.get_server_certificate((host, int(port)), timeout=5).strip()


def of_file(directory):
    with open(os.path.join(directory, 'server-cert.pem')) as f:
        text = f.read()
    return text[text.index('-----BEGIN'):].strip()


def spoil(ca, directory, how):
    """Make credentials that no daemon would start with."""
    cert, key = (os.path.join(directory, 'server-%s.pem' % kind) for kind in ('cert', 'key'))
    if how == 'garbage':
        with open(cert, 'w') as f:
            f.write('-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n')
    elif how == 'missing':
        os.unlink(cert)
        os.unlink(key)
    elif how == 'expired':
        ca.renew(directory, 'dc2', valid=timedelta(days=-1))
    elif how == 'other-key':
        shutil.copy(os.path.join(directory, 'client-key.pem'), key)


@case('e2e/service/reload-refused-{how}', needs=NEEDS, table=[
    dict(how='garbage'), dict(how='missing'), dict(how='expired'), dict(how='other-key')])
def reload_refused(t, how):
    """Bad files at a reload change nothing, and the log says which it is."""
    ca = Authority(t)
    directory = ca.directory('dc2')
    daemon = Daemon(t, 'dc2', {
        'tls': {'directory': directory}, 'listen': {'link': '127.0.0.1:%d' % free_port()},
        'peer dc1': {'certificate-name': 'dc1'}})
    before = presented(daemon)
    check(before == of_file(directory), 'presents another certificate than that of the file')
    spoil(ca, directory, how)
    reload(daemon)
    daemon.assert_says(r'error: reload: .*server-(cert|key)\.pem.*; all credentials stay')
    check(presented(daemon) == before, 'presents another certificate after a refused reload')
    ca.renew(directory, 'dc2')
    reload(daemon)
    daemon.assert_says('info: reloaded the TLS credentials')
    check(presented(daemon) == of_file(directory) != before, 'presents the old certificate')


@case('e2e/service/reload-of-a-changed-configuration', needs=['daemon'])
def reload_changed(t):
    """It is used, and that is said; what would not start is refused."""
    daemon = Daemon(t, 'd', {})
    path = os.path.join(daemon.dir, 'multiferryd.conf')
    with open(path) as f:
        before = f.read()

    def reload_with(text):
        with open(path, 'w') as f:
            f.write(text)
        n = len(daemon.log_text())
        reload(daemon)
        return daemon.log_text()[n:]
    check('configuration' not in reload_with('# a comment\n' + before), daemon.log_text())
    said_of_change = reload_with(before.replace('[daemon]', '[daemon]\nrate=1Gbit'))
    check('info: reloaded the configuration' in said_of_change, said_of_change)
    check(daemon.qmp.cmd('query-status')['rate-limit'] == 125000000, 'it is not used')
    said_of_error = reload_with(before + '\n[nonsense]\n')
    check(re.search('error: reload: .*nonsense.*nothing .* was taken over', said_of_error), said_of_error)
    check(daemon.qmp.cmd('query-status')['rate-limit'] == 125000000, 'a refused one is used')
    check('[daemon] rate: from' in reload_with(before), daemon.log_text())


@case('e2e/service/reload-while-migrating', needs=NEEDS)
def reload_while_migrating(t):
    """Neither bad nor good credentials touch a migration that runs."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '60mbit'}})
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    src.wait_transferred(2 << 20)
    before = presented(sites.dc2)
    for name, daemon in sites.daemons.items():
        spoil(sites.ca, sites.directories[name], 'garbage')
        reload(daemon)
        daemon.assert_says('error: reload: ')
    check(presented(sites.dc2) == before, 'a refused reload has changed the certificate')
    for name, daemon in sites.daemons.items():
        sites.ca.renew(sites.directories[name], name)
        reload(daemon)
        daemon.assert_says('info: reloaded the TLS credentials')
    check(migration.alive(), 'the migration was over before the last reload')
    check(presented(sites.dc2) == of_file(sites.directories['dc2']), 'presents the old one')
    sites.client.json('limit', 'dc2', 'unlimited')
    migration.expect_exit(0, timeout=30)
    assert_migrated(t, src, dst)
