# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen of the traffic: query-traffic and the views that read it."""
import json
import os
import subprocess

from harness import Qemu, assert_migrated, case, check
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']

# At the source's daemon, in this order whatever the machine does.
MOMENTS = ('first-byte', 'ramblocks', 'ram-end', 'devices', 'last-main-in', 'shut',
           'shut-delivered', 'resume', 'resumed')


def migrated(t, **more):
    """Sites after a migration of web1, and what both daemons saw of it."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, **more)
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)
    id = sites.dc1.migrations()[0]['id']
    return sites, id, [d.qmp.cmd('query-traffic', id=id) for d in (sites.dc1, sites.dc2)]


def check_sums(name, traffic, migration):
    """The same pages, counted by block, by part, by slice, by epoch and by the exchange."""
    pages = traffic['normal-pages'] + traffic['zero-pages']
    check(pages == migration['normal-pages'] + migration['zero-pages'] + traffic['pages-on-main'],
          '%s: got %d pages, expected those of %s' % (name, pages, migration))
    blocks, epochs = traffic['ramblocks'], traffic['epochs']
    column = traffic['history-columns'].index('pages')
    for what, got in (
            ('blocks', sum(b['normal-pages'] + b['zero-pages'] for b in blocks)),
            ('parts', sum(sum(b['parts']) for b in blocks)),
            ('epochs', sum(e['normal-pages'] + e['zero-pages'] for e in epochs)),
            ('history', sum(row[column] for row in traffic['history']))):
        check(got == pages, '%s: %s: got %d pages, expected %d' % (name, what, got, pages))
    for block in blocks:
        heat = sum(map(sum, block.get('heat', [])))
        check('heat' not in block or heat == sum(block['parts']), '%s: heat of %s' % (name, block))
        distinct = sum(block['parts']) - block['pages-again']
        check(block['again-exact'] and 0 <= distinct * traffic['page-size'] <= block['used-length'],
              '%s: %d distinct pages of %s' % (name, distinct, block))
    check(traffic['epochs-closed'] == migration['epochs'], '%s: epochs' % name)


def check_moments(name, moments):
    times = [(m, moments[m]) for m in MOMENTS if m in moments]
    check(times == sorted(times, key=lambda m: m[1]), '%s: got moments %s' % (name, times))


@case('e2e/traffic/managed', needs=NEEDS)
def managed(t):
    """Both daemons count the same, and all their sums agree."""
    sites, id, (here, there) = migrated(t)
    for daemon, traffic in zip((sites.dc1, sites.dc2), (here, there)):
        migration, = (m for m in daemon.migrations() if m['id'] == id)
        check_sums(daemon.name, traffic, migration)
        check_moments(daemon.name, traffic['moments'])
        check(traffic['main']['bytes'] == migration['main-bytes'], 'main bytes: %s' % traffic['main'])
        sections = {s['name'] for s in traffic['main']['sections']}
        check({'timer', 'vmdesc', 'globalstate'} <= sections, '%s: got sections %s'
              % (daemon.name, sections))
        left = traffic['main']['device-bytes'] - sum(s['bytes'] for s in traffic['main']['sections'])
        check(0 <= left < 16, '%s: %d bytes of devices in no section' % (daemon.name, left))
    check({m for m in MOMENTS if m != 'first-byte'} <= set(here['moments']) and
          'stopped' in here['moments'], 'dc1: got moments %s' % here['moments'])
    for key in ('normal-pages', 'zero-pages', 'pages-again', 'page-size', 'total-length', 'epochs-closed'):
        check(here[key] == there[key], '%s: got %s and %s' % (key, here[key], there[key]))
    ram = here['ramblocks'][0]
    check(ram['pages-again'] > 0, 'the guest dirties memory, but nothing came again: %s' % ram)
    wire = here['history-columns'].index('wire-out')
    migration, = (m for m in sites.dc1.migrations() if m['id'] == id)
    check(sum(r[wire] for r in here['history']) == migration['wire-bytes-out'],
          'wire bytes: got %d, expected %d' % (sum(r[wire] for r in here['history']),
                                               migration['wire-bytes-out']))


@case('e2e/traffic/inspect-migration', needs=NEEDS)
def inspect_migration(t):
    """People see in text what query-traffic has, at both ends and by the VM's name or id."""
    sites, id, (here, _) = migrated(t)
    code, text, err = sites.client.run('inspect', id)
    check(code == 0, 'inspect: %s' % err)
    ram = here['ramblocks'][0]
    for word in (ram['name'], str(ram['normal-pages']), str(ram['pages-again']), 'globalstate',
                 'shut-delivered'):
        check(word in text, 'inspect: got no %s in:\n%s' % (word, text))
    check(sites.client.json('inspect', id)[0]['ramblocks'] == here['ramblocks'], 'inspect --json')


@case('e2e/traffic/inspect-file', needs=['daemon'])
def inspect_file(t):
    """A stream without multifd, as QEMU writes it into a file: its pages and its devices."""
    src = Qemu.source(t)
    path = os.path.join(t.dir, 'stream')
    src.qmp.cmd('migrate-set-parameters', **{'max-bandwidth': 0})
    src.qmp.cmd('migrate', uri='exec:cat > ' + path)
    src.wait_migration('completed')
    text = subprocess.run([t.options.program('multiferry'), '--json', 'inspect', '--devices', path],
                          capture_output=True, text=True, timeout=60)
    check(text.returncode == 0, 'inspect: %s' % text.stderr)
    got = json.loads(text.stdout)
    ram = got['ramblocks'][0]
    check(ram['used-length'] >= 64 << 20 and
          sum(ram['parts']) - ram['pages-again'] == ram['used-length'] // got['page-size'],
          'got %s, expected each page once and more' % {k: v for k, v in ram.items() if k != 'heat'})
    check(got['pages-on-main'] == got['normal-pages'] + got['zero-pages'] > 0, 'pages on main')
    fields = {d['name']: d.get('fields') for d in got['devices']}
    state = bytes.fromhex(fields['globalstate']['runstate'].split('...')[0])
    check(state.startswith(b'running\0'), 'globalstate: got %s' % fields['globalstate'])
