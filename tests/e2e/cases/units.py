# SPDX-License-Identifier: GPL-2.0-or-later
"""The systemd units and the message catalog as files: what systemd's own tools say of them."""
import glob
import os
import re
import shutil
import subprocess

from harness import case, check

# In tenths: what "systemd-analyze security" may count at most.
EXPOSURE_MAX = 20


def prepared(t):
    """The units as they are installed, with the program that was built."""
    directory = t.subdir('units')
    for path in glob.glob(os.path.join(t.options.tree, 'systemd/multiferry*.*')):
        if path.endswith(('.service', '.socket', '.timer')):
            with open(path) as f:
                text = re.sub('@S?BINDIR@', t.options.build, f.read())
            with open(os.path.join(directory, os.path.basename(path)), 'w') as f:
                f.write(text)
    return sorted(os.path.join(directory, name) for name in os.listdir(directory))


def analyze(t, *words):
    p = subprocess.run(['systemd-analyze', *words], capture_output=True, text=True, timeout=60,
                       env={**os.environ, 'SYSTEMD_PAGER': '', 'SYSTEMD_LOG_LEVEL': 'notice'})
    t.log(p.stdout + p.stderr)
    return p


@case('e2e/units/verify', needs=['daemon', 'systemd-analyze'])
def verify(t):
    """Every word in them is one that systemd knows, and the program is there."""
    units = prepared(t)
    check(len(units) >= 3, 'got only %s' % units)
    p = analyze(t, 'verify', '--man=no', *units)
    ours = [line for line in p.stderr.splitlines() if 'multiferry' in line]
    check(p.returncode == 0 and not ours, 'status %d: %s' % (p.returncode, ours or p.stderr))


@case('e2e/units/exposure', needs=['daemon', 'systemd-analyze'])
def exposure(t):
    """Whoever takes over a service gets what its sandbox leaves: as little as can be."""
    for unit in prepared(t):
        if unit.endswith('.service'):
            p = analyze(t, 'security', '--offline=yes', '--threshold=%d' % EXPOSURE_MAX, unit)
            check('Overall exposure level' in p.stdout, 'no verdict: ' + p.stderr)
            check(p.returncode == 0, '%s: %s, allowed at most %.1f' % (
                os.path.basename(unit), p.stdout.strip().splitlines()[-1], EXPOSURE_MAX / 10))


# ---- the message catalog ----


def ids_of(t):
    """The MESSAGE_IDs that the daemon can log."""
    with open(os.path.join(t.options.tree, 'daemon/log-event.c')) as f:
        ids = re.findall(r'= "([0-9a-f]{32})"', f.read())
    check(len(ids) > 5 and len(set(ids)) == len(ids), 'daemon/log-event.c: got ids %s' % ids)
    return set(ids)


@case('e2e/units/catalog-explains-every-event', needs=['journalctl'])
def catalog(t):
    """As journalctl reads it: an entry for each MESSAGE_ID, and none that nobody logs."""
    root = t.subdir('root')
    directory = os.path.join(root, 'usr/lib/systemd/catalog')
    os.makedirs(directory)
    os.makedirs(os.path.join(root, 'var/lib/systemd/catalog'))
    shutil.copy(os.path.join(t.options.tree, 'systemd/multiferry.catalog'), directory)
    for words in (['--update-catalog'], ['--dump-catalog']):
        p = subprocess.run(['journalctl', '--root', root, '--no-pager', *words],
                           capture_output=True, text=True, timeout=30)
        t.log(p.stdout + p.stderr)
        check(p.returncode == 0 and not p.stderr, '%s: %s' % (words[0], p.stderr))
    entries = dict(re.findall(r'^-- ([0-9a-f]{32})\nSubject: (.*)', p.stdout, re.M))
    check(set(entries) == ids_of(t), 'only in one of them: %s' % (set(entries) ^ ids_of(t)))
    known = {'MULTIFERRY_' + f for f in ('MIGRATION', 'VM', 'UUID', 'PEER', 'PHASE', 'CHANNEL')}
    used = set(re.findall('@(.*?)@', p.stdout))
    check(used <= known, 'fields that no line has: %s' % (used - known))
