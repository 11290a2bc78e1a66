# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts in which the boxes of a page in docs/ are run as they stand.

A host is mount, network, UTS and PID namespaces with an /etc, /run, /root and
/srv of its own, and the page's own address.  Box after box its files are
written and its commands run by a shell.  Three programs are played, because
there is no systemd and no ssh: systemctl (re)starts the daemon, as its own user,
with the file that the page has written; scp copies to the other host.
"""
import os
import re
import shutil
import signal
import subprocess

from .case import Skip, check, wait_for
from .daemon import Daemon
from .howto import HowTo, parse_groups
from .libvirt import AS_USER, GROUPS, USERS, lines_missing, lines_of, id_of
from .process import Process

CONFIG = '/etc/multiferry/multiferryd.conf'
ADDRESSES = {'kvm1': '192.0.2.1', 'kvm2': '198.51.100.2'}
OWN = ['etc', 'run', 'root', 'srv']
# Of the real /etc, what programs cannot do without.
NEEDED = ['nsswitch.conf', 'ld.so.cache', 'alternatives', 'gnutls', 'localtime']
PLACE = re.compile(r'\bAt (kvm1|kvm2|both hosts)\b[^`]*:\s*$')
FILE = re.compile(r'`(/\S+)` at (kvm1|kvm2)\b')
# $1: the host's directory, $2: its name.  It waits for its orphans, as init does.
ENTER = '; '.join(
    ['set -e', 'hostname "$2"'] + ['mount --bind "$1/%s" /%s' % (d, d) for d in OWN] +
    ['ip link set lo up', 'sleep infinity & wait'])
SYSTEMCTL = '#!/bin/sh\necho "$*" >> /run/systemctl\n'
SCP = r'''#!/bin/sh
set -e
for last; do :; done
to=${last#root@}
case ${to%%%%:*} in
%s
*) echo "scp: got $last" >&2; exit 1 ;;
esac
while [ $# -gt 1 ]; do cp "$1" "$host${to#*:}"; shift; done
'''


def need_pages(t):
    t.need('root')
    for program in ('unshare', 'nsenter', 'setpriv', 'ip', 'certtool', 'qemu-system-x86_64'):
        t.need(program)
    p = subprocess.run(['unshare', '--mount', '--net', '--uts', '--pid', '--fork', '--mount-proc',
                        'ip', 'link', 'set', 'lo', 'up'], capture_output=True, text=True)
    if p.returncode:
        raise Skip('mount, network, UTS and PID namespaces: ' + p.stderr.strip())


class PageHost(Process):
    def __init__(self, t, name, programs):
        self.dir = t.subdir(name)
        self.name = name
        self.programs = programs
        self._make_files(t)
        super().__init__(t, name, ['unshare', '--mount', '--net', '--uts', '--pid', '--fork',
                                   '--kill-child', '--mount-proc', '--propagation', 'private',
                                   'sh', '-c', ENTER, 'host', self.dir, name], directory=self.dir)

    def path(self, inside):
        return self.dir + inside

    def _make_files(self, t):
        os.chmod(os.path.dirname(t.dir), 0o711)
        for own in OWN:
            os.mkdir(self.path('/' + own))
        for name in NEEDED:
            if os.path.exists('/etc/' + name):
                subprocess.run(['cp', '-a', '/etc/' + name, self.path('/etc/')], check=True)
        for path, ids, form in (('/etc/passwd', USERS, '{0}:x:{1}:{1}::/nonexistent:/bin/false\n'),
                                ('/etc/group', GROUPS, '{0}:x:{1}:\n')):
            with open(path) as f, open(self.path(path), 'w') as mine:
                text = f.read() + lines_missing(path, ids, form)
                mine.write(text.replace('multiferry-qemu:x:%d:' % GROUPS['multiferry-qemu'],
                                        'multiferry-qemu:x:%d:multiferry'
                                        % GROUPS['multiferry-qemu']))
        for _, path, mode, user, group in lines_of(t.options.tree, 'tmpfiles', 5):
            os.mkdir(self.path(path))
            shutil.chown(self.path(path), id_of('user', user), id_of('group', group))
            os.chmod(self.path(path), int(mode, 8))
        shutil.copy(t.options.guest, self.path('/srv/guest.elf'))

    @property
    def init(self):
        """The host's first process; once it sleeps, the host is made."""
        def children():
            with open('/proc/%d/task/%d/children' % (self.pid, self.pid)) as f:
                return f.read().split()
        return int(wait_for(children, self.name + ': its first process')[0])

    def wait_made(self):
        wait_for(lambda: self.run('ip link show lo up | grep -q UP && test -e /srv/guest.elf')[0]
                 == 0, self.name + ': its namespaces')

    def inside(self, *words, pid=True):
        spaces = ['--mount', '--uts', '--net'] + (['--pid'] if pid else [])
        return ['nsenter', '--target', str(self.init), *spaces, *words]

    def run(self, script, timeout=90):
        """A box: returns (exit status, what it printed)."""
        p = subprocess.run(self.inside('sh', '-e', '-c', script), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=timeout, cwd='/', env={
                               **os.environ, 'HOME': '/root',
                               'PATH': self.programs + ':' + os.environ['PATH']})
        return p.returncode, p.stdout

    def asked_of_systemd(self):
        """What the page has said to systemctl since the last time."""
        path = self.path('/run/systemctl')
        said = ''
        if os.path.exists(path):
            with open(path) as f:
                said = f.read()
            os.unlink(path)
        return said.splitlines()


class Page:
    """Both hosts; do() runs what a section has in boxes, from its top to its end."""

    def __init__(self, t, name):
        need_pages(t)
        self.t = t
        self.page = HowTo(t.options.tree, name)
        self.daemons = {}
        programs = self._programs()
        self.hosts = {host: PageHost(t, host, programs) for host in ADDRESSES}
        for host in self.hosts.values():
            host.wait_made()
        self._connect()

    def _programs(self):
        directory = self.t.subdir('programs')
        for name in ('multiferryd', 'multiferry'):
            os.symlink(os.path.realpath(self.t.options.program(name)), directory + '/' + name)
        cases = '\n'.join('%s) host=%s/%s ;;' % (a, self.t.dir, h) for h, a in ADDRESSES.items())
        for name, text in (('systemctl', SYSTEMCTL), ('scp', SCP % cases)):
            with open(directory + '/' + name, 'w') as f:
                f.write(text)
            os.chmod(f.name, 0o755)
        return directory

    def _connect(self):
        one, two = self.hosts.values()
        ip = one.run('ip link add wan type veth peer name wan netns %d' % two.init)
        if ip[0]:                   # the number is of another PID namespace in there
            subprocess.run(one.inside('ip', 'link', 'add', 'wan', 'type', 'veth', 'peer', 'name',
                                      'wan', 'netns', str(two.init), pid=False), check=True)
        for host, other in ((one, two), (two, one)):
            status, said = host.run(
                'ip addr add %s/32 dev wan; ip link set wan up; ip route add %s dev wan'
                % (ADDRESSES[host.name], ADDRESSES[other.name]))
            check(status == 0, '%s: %s' % (host.name, said))

    def do(self, section, page=None):
        """What its commands printed, by host; another page's section where one is named."""
        printed = dict.fromkeys(self.hosts, '')
        page = HowTo(self.t.options.tree, page) if page else self.page
        for before, language, text in page.boxes(section):
            file, place = FILE.search(before), PLACE.search(before)
            if file and language != 'sh':
                with open(self.hosts[file[2]].path(file[1]),
                          'a' if before.startswith('Add to') else 'w') as f:
                    f.write(text)
            elif language == 'sh':
                check(place, '%s: a box in "%s" does not say where: %s'
                      % (page.name, section, before))
                for name in self.hosts if place[1] == 'both hosts' else [place[1]]:
                    printed[name] += self.run(name, text)
        return printed

    def run(self, name, script):
        self.t.log('%s# %s' % (name, script.strip()))
        status, said = self.hosts[name].run(script)
        for line in said.splitlines()[-30:]:
            self.t.log('  | ' + line)
        check(status == 0, '%s: %s: status %d: %s' % (name, script, status, said))
        for words in self.hosts[name].asked_of_systemd():
            check(words in ('restart multiferryd', 'reload multiferryd'), 'systemctl ' + words)
            if words.startswith('restart'):
                self.start_daemon(name)
            else:
                self.reload_daemon(name)
        return said

    def reload_daemon(self, name):
        done = 'reloaded the TLS credentials'
        before = self.daemons[name].log_text().count(done)
        self.daemons[name].popen.send_signal(signal.SIGHUP)
        wait_for(lambda: self.daemons[name].log_text().count(done) > before,
                 name + ': its new credentials', 5)

    def start_daemon(self, name):
        """As the unit does: as its user, with the page's file."""
        host = self.hosts[name]
        if name in self.daemons:
            self.daemons[name].terminate()
        with open(host.path(CONFIG)) as f:
            groups = parse_groups(f.read())
        groups['daemon'] = {'control': 'unix:/run/multiferry/control.sock',
                            'runtime-directory': '/run/multiferry/qemu',
                            'state-directory': '/run/multiferry', **groups.get('daemon', {})}
        number = sum(d.name.startswith('daemon-' + name) for d in self.t.actors
                     if isinstance(d, Daemon))
        label = 'daemon-%s-%d' % (name, number)
        shutil.chown(os.path.dirname(Daemon.path_of(self.t, label, '')), USERS['multiferry'],
                     USERS['multiferry'])
        # Its network namespace hides our notification socket.
        daemon = Daemon(self.t, label, groups, ready=False, prefix=host.inside(
            'unshare', '--mount', '--propagation', 'private', 'sh', '-c', AS_USER, 'as-user',
            'multiferry', pid=False))
        daemon.assert_says(r'\(%s\) is ready' % name, timeout=20)
        daemon.control_path = host.path('/run/multiferry/control.sock')
        self.daemons[name] = daemon

    def assert_guest_well(self, name):
        """The guest runs there, and has looked at its memory since it came."""
        log = self.hosts[name].path('/srv/web1.log')

        def text():
            if not os.path.exists(log):
                return ''
            with open(log, errors='replace') as f:
                return f.read()
        seen = len(text())
        wait_for(lambda: re.search(r'^VERIFY OK .* bad=0', text()[seen:], re.M),
                 name + ': the guest to have checked its memory', 30)
        bad = re.search(r'VERIFY (FAIL|BAD).*|TRAP.*', text())
        check(not bad, '%s: the guest says: %s' % (name, bad and bad[0]))
