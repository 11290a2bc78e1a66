# SPDX-License-Identifier: GPL-2.0-or-later
"""Finished migrations, kept on disk."""
import json
import os

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.case import Failure
from harness.daemon import Client, Daemon
from harness.qemu import UUID
from harness.qmp import QmpError
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']


@case('e2e/history/survives-a-restart', needs=NEEDS)
def restart(t):
    """Both ends remember it, under the same id; a new daemon knows what the old one did."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    places = {name: os.path.join(t.dir, name + '-state') for name in ('dc1', 'dc2')}
    sites = Sites(t, src, dst, **{n: {'daemon': {'state-directory': p}} for n, p in places.items()})
    id = sites.client.run('migrate', 'web1', '--to', 'dc2', '--detach')[1].strip()
    sites.dc1.qmp.event('MIGRATION', id=id, state='completed', timeout=60)
    assert_migrated(t, src, dst)
    for name, role in (('dc1', 'source'), ('dc2', 'destination')):
        daemon = sites.daemons[name]
        wait_for(lambda d=daemon: d.qmp.cmd('query-history'), name + ' to write it down', 5)
        daemon.terminate()
        again = Daemon(t, name + '-again', {'daemon': {'state-directory': places[name]}})
        entry, = again.qmp.cmd('query-history')
        check((entry['id'], entry['role'], entry['state'], entry['vm'], entry['uuid'])
              == (id, role, 'completed', 'web1', UUID),
              str(entry))
        check(entry['started'] <= entry['ended'] and entry['normal-pages'] > 1000, str(entry))
        check('channels-in' not in entry, 'keeps too much: %s' % entry)
        code, out, err = Client(t, again).run('history')
        check(code == 0 and id in out and 'completed' in out, out + err)


def lines_of(directory, name='migrations.jsonl'):
    with open(os.path.join(directory, name)) as f:
        return f.read().split('\n')


@case('e2e/history/is-bounded', needs=NEEDS)
def bounded(t):
    """By its size on disk, by name and by number when asked; cut lines are passed over."""
    directory = t.subdir('state')
    src = Qemu.source(t)
    sites = Sites(t, src, dc1={'daemon': {'state-directory': directory, 'history': '6K'}})
    sites.dc2.kill()
    ids = []
    for n in range(12):
        code, out, _ = sites.client.run('migrate', 'web1', '--to', 'dc2', '--detach')
        ids.append(out.strip())
        wait_for(lambda: not sites.dc1.migrations_active(), 'it to fail', 10)
        if n == 5:
            with open(os.path.join(directory, 'migrations.jsonl'), 'a') as f:
                f.write('{"id": "cut off')
    wait_for(lambda: ids[-1] in json.dumps(sites.dc1.qmp.cmd('query-history')), 'the last', 5)
    size = sum(os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory))
    check(size <= 6 * 1024, 'takes %d bytes, allowed 6144' % size)
    check(sorted(os.listdir(directory)) in (['migrations.1.jsonl'],
                                            ['migrations.1.jsonl', 'migrations.jsonl']),
          str(os.listdir(directory)))
    got = [e['id'] for e in sites.dc1.qmp.cmd('query-history')]
    check(2 <= len(got) < 12 and got == ids[-len(got):], 'got %s of %s' % (got, ids))
    check([e['id'] for e in sites.dc1.qmp.cmd('query-history', limit=2)] == ids[-2:], 'limit=2')
    check(sites.dc1.qmp.cmd('query-history', name='web9') == [], 'of another VM')
    check(len(sites.dc1.qmp.cmd('query-history', name='web1')) == len(got), 'by name')
    check(len(sites.dc1.qmp.cmd('query-history', name=ids[-1])) == 1, 'by id')
    for limit in (0, -1, 1001):
        try:
            sites.dc1.qmp.cmd('query-history', limit=limit)
            raise Failure('limit=%d was taken' % limit)
        except QmpError as e:
            check('expected 1 to 1000' in e.desc, e.desc)


@case('e2e/history/without-a-place', needs=['daemon'])
def without(t):
    """Said when it is asked for; a place that cannot be written to is an error at the start."""
    client = Client(t, Daemon(t, 'd', {}))
    code, _, err = client.run('history')
    check(code == 4 and 'state-directory' in err, '%d %s' % (code, err))
    file = os.path.join(t.dir, 'file')
    open(file, 'w').close()
    bad = Daemon(t, 'bad', {'daemon': {'state-directory': file}}, ready=False)
    bad.expect_exit(1)
    bad.assert_says('error: .daemon. state-directory: ')
    systemd = Daemon(t, 's', {}, env={'STATE_DIRECTORY': t.subdir('given')})
    check(systemd.qmp.cmd('query-history') == [], 'with STATE_DIRECTORY')
