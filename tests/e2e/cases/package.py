# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian package: what lintian says, and its life under a real systemd."""
import glob
import os
import re
import shutil
import subprocess

from cases.systemd import UNIT, qemus, sites_of
from harness import assert_migrated, case, check, wait_for

NEEDS = ['root', 'dpkg-buildpackage', 'dh', 'certtool', 'nsenter']


def run(t, *words, timeout=400, **more):
    p = subprocess.run(words, capture_output=True, text=True, timeout=timeout,
                       stdin=subprocess.DEVNULL, **more)
    for line in (p.stdout + p.stderr).splitlines()[-40:]:
        t.log('  | ' + line)
    check(p.returncode == 0, '%s: status %d: %s' % (words[0], p.returncode, p.stderr[-500:]))
    return p.stdout


def newest_source(tree):
    names = [path for sub in ('', 'wire', 'qmp', 'daemon', 'docs', 'systemd')
             for path in glob.glob(os.path.join(tree, sub, '**' if sub else '*'), recursive=True)]
    return max(os.path.getmtime(path) for path in names if os.path.isfile(path))


def build(t):
    """The package, as make deb makes it, where the machines can see it; kept for the next case."""
    tree = t.options.tree
    with open(os.path.join(tree, 'Makefile')) as f:
        version = re.search(r'^VERSION +:= (\S+)', f.read(), re.M)[1]
    # Whoever runs the tests may have set flags for them, a sanitizer's say.
    env = {k: v for k, v in os.environ.items() if not re.search('FLAGS|^SAN$|MAKE|^DEB_', k)}
    pattern = os.path.join(t.options.build, 'deb', 'multiferry_%s_*.deb' % version)
    made = glob.glob(pattern)
    if not made or os.path.getmtime(made[0]) < newest_source(tree):
        run(t, os.path.join(tree, 'systemd/deb/build'), t.options.build, version, env=env)
        made = glob.glob(pattern)
    return shutil.copy(made[0], t.dir), version


def newer(t, deb, version):
    """The same package with a higher version."""
    directory = os.path.join(t.dir, 'newer')
    run(t, 'dpkg-deb', '-R', deb, directory)
    control = os.path.join(directory, 'DEBIAN/control')
    with open(control) as f:
        text = f.read()
    with open(control, 'w') as f:
        f.write(text.replace('Version: ' + version, 'Version: %s+1' % version))
    run(t, 'dpkg-deb', '--root-owner-group', '-b', directory, directory + '.deb')
    return directory + '.deb'


def assert_installed(t, site):
    """Everything that the package promises is where it is looked for."""
    for path in ('/usr/sbin/multiferryd', '/usr/bin/multiferry',
                 '/usr/share/man/man8/multiferryd.8.gz', '/usr/share/man/man7/multiferry-qmp.7.gz',
                 '/usr/share/bash-completion/completions/multiferry',
                 '/usr/share/zsh/vendor-completions/_multiferry',
                 '/usr/share/fish/vendor_completions.d/multiferry.fish',
                 '/etc/multiferry/multiferryd.conf', '/etc/multiferry/tls', '/run/multiferry/qemu'):
        check(os.path.exists(site.machine.inside(path)), 'no ' + path)
    conffiles = site.run('dpkg-query', '-W', '-f', '${Conffiles}', 'multiferry')
    check(re.findall(r'^ (\S+)', conffiles, re.M) == ['/etc/multiferry/multiferryd.conf'], conffiles)
    explained = site.run('journalctl', '-x', '--no-pager', '-u', UNIT)
    check('Subject: The migration relay is ready' in explained, 'no entry in the catalog')


@case('e2e/package/life', needs=NEEDS, timeout=600)
def life(t):
    """Installed, started, migrates a real guest; upgraded, removed, purged."""
    deb, version = build(t)
    src, dst = qemus(t)

    def installer(machine):
        # A build host's ban on starting services is not the product's business.
        machine.run('rm', '-f', '/usr/sbin/policy-rc.d')
        machine.run('dpkg', '-i', deb)
        check(machine.show(UNIT, 'ActiveState') == 'active', 'not started when it was installed')
    dc1, dc2 = sites_of(t, src, dst, installer=installer)
    assert_installed(t, dc1)
    dc1.client('limit', 'dc2', 'unlimited')
    dc1.client('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)
    for site in (dc1, dc2):
        check('completed' in site.client('history'), 'no history')

    pid = dc1.machine.show(UNIT, 'MainPID')
    with open(dc1.machine.inside('/etc/multiferry/multiferryd.conf')) as f:
        configured = f.read()
    dc1.run('dpkg', '-i', '--force-confold', newer(t, deb, version))
    check(dc1.machine.show(UNIT, 'MainPID') == pid, 'the upgrade has restarted the daemon')
    with open(dc1.machine.inside('/etc/multiferry/multiferryd.conf')) as f:
        check(f.read() == configured, 'the upgrade has changed the configuration')
    dc1.run('systemctl', 'restart', UNIT)
    check('completed' in dc1.client('history'), 'the history is gone')

    dc1.run('dpkg', '-r', 'multiferry')
    wait_for(lambda: dc1.state() == 'inactive', 'it to stop', 10)
    check(not os.path.exists(dc1.machine.inside('/usr/sbin/multiferryd')), 'not removed')
    check(os.path.exists(dc1.machine.inside('/etc/multiferry/multiferryd.conf')), 'conffile gone')
    dc1.run('dpkg', '-P', 'multiferry')
    left = dc1.run('find', '/etc', '/var/lib', '/usr', '/run', '/lib/systemd', '-xdev', '-name',
                   '*multiferry*').split()
    # Overlaid from outside is what somebody else has put there; keys are the operator's.
    ours = [p for p in left if p not in ('/etc/multiferry',) and not os.path.lexists(p)
            and '/systemd/system/%s.d' % UNIT not in p and '/credstore' not in p]
    check(not ours, 'left: %s' % ours)
    check(os.path.exists(dc1.machine.inside('/etc/multiferry/tls/server-key.pem')),
          "the operator's key is gone")


@case('e2e/package/lintian', needs=[*NEEDS, 'lintian'], timeout=600)
def lintian(t):
    """Nothing but what the package itself gives a reason for."""
    deb, _ = build(t)
    p = subprocess.run(['lintian', '--allow-root', '--fail-on', 'error,warning', deb],
                       capture_output=True, text=True, timeout=200)
    t.log(p.stdout + p.stderr)
    tags = [line for line in p.stdout.splitlines() if line[:2] in ('E:', 'W:')]
    check(p.returncode == 0 and not tags, 'lintian: %s %s' % (tags, p.stderr[-300:]))
