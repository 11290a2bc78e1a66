# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts with a libvirtd each, on this machine, as docs/howto-libvirt.md has them.

A host is a process in mount, UTS and PID namespaces of its own: libvirtd
then has files, a name and a UUID of its own, and whatever it starts dies with
the namespace.  The network is everybody's, so a host has a loopback address
of its own, and the ports of the page become ports that are free here.

QEMU runs as libvirt-qemu and multiferryd as multiferry, as an operator has
it, because who may open whose socket is half of the recipe.
"""
import grp
import os
import pwd
import re
import shutil
import subprocess
import uuid

from .case import Failure, Skip, check, wait_for
from .certs import Authority
from .daemon import Daemon, free_port
from .guest import Guest, downtime_s
from .howto import HowTo, parse_groups
from .process import Process
from .qemu import APPEND, PROGRAM, RAM_KIB, UUID, resolve

PAGE = 'howto-libvirt.md'
CONFIG = '/etc/multiferry/multiferryd.conf'
QEMU_CONFIG = '/etc/libvirt/qemu.conf'
VM = 'web1'
# What Debian's packages, and ours, would have made, each user with a group of his name.
USERS = {'libvirt-qemu': 64055, 'multiferry': 64056}
GROUPS = {**USERS, 'multiferry-qemu': 64057}
HOME = '/var/lib/multiferry-e2e'        # of the guest's files, in each host

# What each host has of its own; the directory in the case's is named after it.
OWN = ['/run', '/var/lib', '/var/cache', '/var/log', '/etc/libvirt', '/etc/passwd', '/etc/group']

# $1: the host's directory, $2: its name; the rest: what to run, as its init.
# The shell stays, to collect the children of libvirtd's that are orphans.
ENTER_HOST = '; '.join(
    ['set -e', 'directory=$1', 'hostname "$2"', 'shift 2'] +
    ['mount --bind "$directory/%s" %s' % (path[1:].replace('/', '-'), path) for path in OWN] +
    # Where root has KVM and libvirt-qemu has not, libvirtd asks QEMU again and again
    # what it can do: so nobody has.
    ['if [ -e /dev/kvm ]; then mount -o bind,ro "$directory/no-kvm" /dev/kvm; fi',
     '"$@" &', 'wait']).replace('&;', '&')

# $1: the user, $2: a program.  Not in the host's PID namespace, so that a
# signal reaches it, and therefore with the /proc of its own; and under a name
# that the user can reach wherever the build directory is.
AS_USER = '; '.join([
    'set -e', 'user=$1', 'program=/run/$(basename "$2")', 'touch "$program"',
    'mount -t proc none /proc', 'mount --bind "$2" "$program"', 'shift 2',
    'exec setpriv --reuid "$user" --regid "$user" --init-groups "$program" "$@"'])

LIBVIRTD_CONF = '''
auth_unix_rw = "none"
log_outputs = "3:stderr"
host_uuid = "%s"
'''
# For want of cgroups, virtlogd and mknod.
QEMU_CONF = '''
cgroup_controllers = []
namespaces = []
security_driver = "none"
stdio_handler = "file"
'''
# Memory as in harness/qemu.py: libvirt would round it up to whole MiB, and
# the QEMUs that lose writes lose them just then.
DOMAIN = '''
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>{ram}</memory>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{home}/guest.elf</kernel>
    <cmdline>{append}</cmdline>
  </os>
  <devices>
    <emulator>{home}/bin/{program}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>{arguments}</qemu:commandline>
</domain>
'''


def need_libvirt(t):
    t.need('root')
    if not find('libvirtd'):
        raise Skip('libvirtd (Debian: libvirt-daemon, libvirt-daemon-driver-qemu)')
    for program in ('virsh', 'unshare', 'nsenter', 'setpriv', 'certtool'):
        t.need(program)
    for version in (t.options.qemu_src, t.options.qemu_dst):
        if resolve(version)[0]:
            raise Skip('a QEMU of this system, for libvirt')
    p = subprocess.run(['unshare', '--mount', '--uts', '--pid', '--fork', '--mount-proc', 'true'],
                       capture_output=True, text=True)
    if p.returncode:
        raise Skip('mount, UTS and PID namespaces: ' + p.stderr.strip())


def find(program):
    return shutil.which(program, path=os.environ.get('PATH', '') + ':/usr/local/sbin:/usr/sbin')


def lines_missing(path, ids, form):
    """Lines for those names that a file of this system does not have."""
    with open(path) as f:
        there = {line.split(':')[0] for line in f}
    return ''.join(form.format(name, number) for name, number in ids.items() if name not in there)


def lines_of(tree, kind, n_fields):
    """The first fields of the lines of systemd/multiferry.KIND."""
    with open(os.path.join(tree, 'systemd', 'multiferry.' + kind)) as f:
        return [line.split()[:n_fields] for line in f if line.strip() and line[0] != '#']


def id_of(kind, name):
    try:
        return pwd.getpwnam(name).pw_uid if kind == 'user' else grp.getgrnam(name).gr_gid
    except KeyError:
        return GROUPS.get(name, 0)


def chown_tree(path, user):
    for directory, _, names in os.walk(path):
        for name in ['.', *names]:
            shutil.chown(os.path.join(directory, name), id_of('user', user), id_of('group', user))


class Host(Process):
    """A host; .guest is what its guest says, if it has one."""

    def __init__(self, t, name, address, qemu_conf=''):
        self.name = name
        self.address = address
        self.dir = t.subdir(name)
        self._make_files(t, qemu_conf)
        self.guest = Guest(self.path(HOME), name)
        os.chmod(self.guest.heartbeats.path, 0o666)
        words = ['unshare', '--mount', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc',
                 '--propagation', 'private', 'sh', '-c', ENTER_HOST, 'host', self.dir, name,
                 # It asks every QEMU in PATH what it can do, and finds no iptables to change.
                 'env', 'PATH=%s/bin' % HOME, find('libvirtd')]
        super().__init__(t, name, words, directory=self.dir)
        self.socket = self.path('/run/libvirt/libvirt-sock')

    def path(self, inside):
        """Where a path of the host's is, as seen from here."""
        for own in OWN:
            if inside == own or inside.startswith(own + '/'):
                return self.dir + '/' + own[1:].replace('/', '-') + inside[len(own):]
        raise ValueError(inside)

    def _make_files(self, t, qemu_conf):
        for path in OWN:
            if os.path.isdir(path) or path.startswith('/var/'):
                os.mkdir(self.path(path))
        os.close(os.open(self.dir + '/no-kvm', os.O_CREAT, 0))
        with open('/etc/passwd') as f:
            self._write('/etc/passwd', f.read() + lines_missing(
                f.name, USERS, '{0}:x:{1}:{1}::/nonexistent:/bin/false\n'))
        with open('/etc/group') as f:
            self._write('/etc/group', f.read() + lines_missing(f.name, GROUPS, '{0}:x:{1}:\n'))
        self._boot(t.options.tree)
        self._write('/etc/libvirt/libvirtd.conf', LIBVIRTD_CONF % uuid.uuid4())
        self._write(QEMU_CONFIG, QEMU_CONF + qemu_conf)
        os.makedirs(self.path(HOME + '/bin'))
        os.symlink(resolve(None)[1], self.path('%s/bin/%s' % (HOME, PROGRAM)))
        shutil.copy(t.options.guest, self.path(HOME + '/guest.elf'))
        os.chmod(self.path(HOME), 0o777)

    def _boot(self, tree):
        """What systemd makes of our own sysusers and tmpfiles."""
        for kind, user, group in lines_of(tree, 'sysusers', 3):
            if kind == 'm':
                self.join_group(user, group)
        for kind, path, mode, user, group in lines_of(tree, 'tmpfiles', 5):
            if path.startswith('/run/'):
                os.mkdir(self.path(path))
                shutil.chown(self.path(path), id_of('user', user), id_of('group', group))
                os.chmod(self.path(path), int(mode, 8))

    def join_group(self, user, group):
        """usermod -a -G: which cannot replace a file that is mounted."""
        with open(self.path('/etc/group')) as f:
            text = f.read()
        new = re.sub(r'^(%s:.*:)(.*)$' % re.escape(group), lambda m: m[1] + ','.join(
            filter(None, [m[2], user])), text, flags=re.M)
        check(new != text, '%s: there is no group %s' % (self.name, group))
        self._write('/etc/group', new)

    def _write(self, path, text):
        with open(self.path(path), 'w') as f:
            f.write(text)

    @property
    def init(self):
        """The PID (as we have it) of the host's first process."""
        with open('/proc/%d/task/%d/children' % (self.pid, self.pid)) as f:
            return int(f.read().split()[0])

    def inside(self, *words, pid=True):
        """The words of a command that runs in the host."""
        spaces = ['--mount', '--uts'] + (['--pid'] if pid else [])
        return ['nsenter', '--target', str(self.init), *spaces, *words]

    def run(self, *words, timeout=60):
        """Returns (exit status, what it printed)."""
        self.t.log('%s# %s' % (self.name, ' '.join(words)))
        p = subprocess.run(self.inside(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=timeout)
        for line in p.stdout.strip().splitlines():
            self.t.log('  | ' + line)
        return p.returncode, p.stdout.strip()

    def check_run(self, *words):
        status, said = self.run(*words)
        check(status == 0, '%s: %s: status %d: %s' % (self.name, ' '.join(words[:3]), status, said))
        return said

    def wait_ready(self):
        def answers():
            if not self.alive():
                raise Failure('%s: libvirtd ended' % self.name)
            return os.path.exists(self.socket) and self.run('virsh', 'version')[0] == 0
        wait_for(answers, self.name + ': libvirtd to answer', timeout=30, every=0.1)

    def start_guest(self, dirty):
        """The self-checking guest, as libvirt's domain; it dirties so much a second."""
        arguments = [a.replace(self.path(HOME), HOME) for a in self.guest.qemu_arguments()]
        arguments += ['-object', 'memory-backend-ram,id=odd.ram,size=%dk' % RAM_KIB,
                      '-machine', 'memory-backend=odd.ram', '-m', '%dk' % RAM_KIB]
        self.create(VM, arguments, re.sub(r'dirty=\w+', 'dirty=' + dirty, APPEND))
        self.guest.wait_ready()
        self.guest.wait_dirtying()

    def create(self, name, arguments=(), append=APPEND):
        """A domain, with more arguments for its QEMU."""
        self._write(HOME + '/domain.xml', DOMAIN.format(
            name=name, uuid=UUID if name == VM else uuid.uuid4(), ram=RAM_KIB, home=HOME,
            machine=self.t.options.machine, append=append, program=PROGRAM,
            arguments=''.join("<qemu:arg value='%s'/>" % a for a in arguments)))
        self.check_run('virsh', 'create', HOME + '/domain.xml')

    def domains(self):
        return self.check_run('virsh', 'list', '--all', '--name').split()

    def state(self):
        return self.check_run('virsh', 'domstate', VM)

    def sent(self):
        """Bytes that have left its QEMU in the migration under way; 0 without one."""
        m = re.search(r'Data processed: *([\d.]+) (\w*)', self.run('virsh', 'domjobinfo', VM)[1])
        return float(m[1]) * {'B': 1, 'KiB': 1 << 10, 'MiB': 1 << 20}[m[2]] if m else 0

    def finish(self):
        self.guest.check()
        left = [os.path.join(d, n) for d, _, names in os.walk(self.path('/run'))
                for n in names if 'multiferry' in d and n.endswith('.sock')]
        check(not left, '%s: left %s' % (self.name, ', '.join(left)))
        super().finish()

    def destroy(self):
        super().destroy()       # and with it all that is in its PID namespace
        if self.guest:
            self.guest.heartbeats.stop()
            self.guest = None


class Hosts:
    """kvm1, where the guest runs, and kvm2, as some sections of the page make them.

    changes are an operator's mistakes: (host, group, key): value, None to take it out.
    """

    def __init__(self, t, *sections, qemu_conf='', changes=None, dirty='4M'):
        need_libvirt(t)
        self.t = t
        self.qemu_conf = qemu_conf
        self.changes = changes or {}
        self.page = HowTo(t.options.tree, PAGE)
        self.ca = Authority(t)
        # Users other than root must get through to what is below.
        os.chmod(os.path.dirname(t.dir), 0o711)
        net = '127.%d.%d.' % (64 + (os.getpid() >> 8) % 128, os.getpid() % 256)
        self.addresses = {'kvm1': net + '1', 'kvm2': net + '2'}
        self.ports = {}
        self.files = {}
        for section in ('The daemons', *sections):
            for (host, path), text in self.page.files(section).items():
                self.files.setdefault((host, path), []).append(text)
        self.kvm1, self.kvm2 = (self._host(name) for name in self.addresses)
        for host in (self.kvm1, self.kvm2):
            host.wait_ready()
            for section in sections:
                for words in self.page.commands(section):
                    if words[:3] == ['usermod', '-a', '-G']:
                        host.join_group(words[4], words[3])
        self.daemons = {name: self._daemon(name) for name in ('kvm2', 'kvm1')}
        self.kvm1.start_guest(dirty)

    # ---- from the page to this machine ----

    def _port(self, m):
        return ':%d' % self.ports.setdefault(m[1], free_port())

    def _here(self, text, host):
        """Addresses and ports of the page, at one of the hosts, as they are here."""
        text = text.replace('127.0.0.1', self.addresses[host])
        text = text.replace('192.0.2.1:', self.addresses['kvm1'] + ':')
        text = text.replace('198.51.100.2:', self.addresses['kvm2'] + ':')
        return re.sub(r':(\d{4,5})\b', self._port, text)

    def _credentials(self, host, path, user):
        """The certificates that the page expects at a path."""
        name = '%s-%s' % (host, os.path.basename(path))
        made = os.path.join(self.ca.dir, name)
        if not os.path.isdir(made):
            self.ca.directory(name, hostnames=[host + '.example.net'])
            chown_tree(made, user)
        return made

    def _host(self, name):
        conf = ''.join([self.qemu_conf, *self.files.get((name, QEMU_CONFIG), [])])
        conf = re.sub(r'"(/etc/pki/\S+)"', lambda m: '"%s"' % self._credentials(
            name, m[1], 'libvirt-qemu'), conf)
        return Host(self.t, name, self.addresses[name], conf)

    def _daemon(self, name):
        groups = {}
        for text in self.files[name, CONFIG]:
            # A later section has the whole group anew.
            groups.update(parse_groups(self._here(text, name)))
        for (host, group, key), value in self.changes.items():
            if host == name:
                groups[group][key] = value and self._here(value, name)
                groups[group] = {k: v for k, v in groups[group].items() if v is not None}
        for keys in groups.values():
            for key in ('directory', 'tls-directory'):
                if key in keys:
                    keys[key] = self._credentials(name, keys[key], 'multiferry')
        directory = os.path.dirname(Daemon.path_of(self.t, 'daemon-' + name, ''))
        chown_tree(directory, 'multiferry')
        prefix = getattr(self, name).inside(
            'unshare', '--mount', '--propagation', 'private', 'sh', '-c', AS_USER, 'as-user',
            'multiferry', pid=False)
        return Daemon(self.t, 'daemon-' + name, groups, prefix=prefix)

    def command(self, section, n=0):
        """The words of the nth virsh command of a section, and the host it runs at."""
        words = [w for w in self.page.commands(section) if w[0] == 'virsh'][n]
        here, there = self.kvm1, self.kvm2
        if any('@kvm1' in w for w in words):
            here, there = there, here
        result = []
        for word in words:
            if result and result[-1] == '--listen-address':
                word = self._here(word, there.name)
            elif word.startswith('qemu+ssh:'):
                word = 'qemu+unix:///system?socket=' + there.socket
            elif '://' in word:
                word = self._here(word, here.name)
            result.append(word)
        return result, here

    def virsh(self, section, n=0, more=(), without=()):
        """Do what a section says, with some words more or less."""
        words, here = self.command(section, n)
        return here.check_run(*self._changed(words, more, without))

    def virsh_failing(self, section, vm=VM, more=(), without=()):
        """The same for what must not work; returns what it says."""
        words, here = self.command(section)
        words = [vm if w == VM else w for w in self._changed(words, more, without)]
        status, said = here.run(*words)
        check(status == 1, '%s: status %d, expected 1: %s' % (words, status, said))
        return said

    def virsh_started(self, section, n=0, more=(), without=()):
        """The same in the background: a Process."""
        words, here = self.command(section, n)
        return Process(self.t, 'virsh', here.inside(*self._changed(words, more, without)))

    @staticmethod
    def _changed(words, more, without):
        for option, values in without:
            at = words.index(option)
            words = words[:at] + words[at + 1 + values:]
        return [*words, *more]

    # ---- verdicts ----

    def assert_page_knows(self, why, virsh):
        """The table of failures has a row with this reason, and it is what was said."""
        rows = [r for r in self.page.rows('When it fails') if why in r[2]]
        check(len(rows) == 1, '%s: got %d rows with %s, expected one' % (PAGE, len(rows), why))
        who, what, _ = rows[0]
        host = 'kvm2' if 'kvm2' in who else 'kvm1'
        pattern = '.*'.join(re.escape(part) for part in self._here(what.strip('`'), host).split('...'))
        if who == 'virsh':
            check(re.search(pattern, virsh), '%s has: %s; virsh says: %s' % (PAGE, what, virsh))
        else:
            self.daemons[host].assert_says(pattern)

    def assert_moved(self):
        """The guest was carried to kvm2, once and whole, and runs there alone."""
        check(self.kvm1.domains() == [], 'kvm1 still has the guest')
        check(self.kvm2.state() == 'running', 'kvm2: guest is %s' % self.kvm2.state())
        self.kvm2.guest.verify()
        self.kvm1.guest.check()
        pause = downtime_s(self.kvm1.guest, self.kvm2.guest)
        self.t.log('moved: downtime %.0f ms by heartbeat' % (pause * 1000))

    def assert_stayed(self):
        """The guest runs on at kvm1, and kvm2 knows nothing of it."""
        check(self.kvm1.state() == 'running', 'kvm1: guest is %s' % self.kvm1.state())
        check(self.kvm2.domains() == [], 'kvm2 still has the guest')
        check(not self.kvm2.guest.heartbeats.beats, 'the guest ran at kvm2')
        self.kvm1.guest.verify()

