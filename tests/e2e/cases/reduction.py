# SPDX-License-Identifier: GPL-2.0-or-later
"""Packed pages on the link: fewer bytes, the same memory."""
from harness import Qemu, assert_migrated, case, check, wait_for
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']
# A small working set that is written again and again, a few bytes at a time.
HOT = 'mem=48M dirty=40M ws=8M wbytes=32 verify=32M stat=0'


def migrate(t, dc1, dc2, append=HOT, rate='80mbit', passes=4, **more):
    """Returns what query-migrations says of it at the end."""
    src, dst = Qemu.source(t, append=append), Qemu.destination(t, append=append)
    sites = Sites(t, src, dst, dc1=dc1, dc2=dc2)
    id = sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', rate=rate, **more)['id']
    # Some rounds over the hot pages; then it may end.
    wait_for(lambda: src.migration().get('ram', {}).get('dirty-sync-count', 0) >= passes,
             'pass %d' % passes, 40)
    sites.dc1.qmp.cmd('set-rate-limit', migration=id, rate='unlimited')
    assert_migrated(t, src, dst)
    wait_for(lambda: not sites.dc1.migrations_active(), 'dc1 to end it', 5)
    m = sites.dc1.qmp.cmd('query-migrations', id=id)[0]
    check(m['state'] == 'completed', 'got %s' % m)
    t.log('%d bytes of the source, %d on the wire, %s' % (
        m['bytes-out'], m['wire-bytes-out'], m['link'].get('reduction')))
    return m


@case('e2e/reduction/{level}', needs=NEEDS, table=[
    dict(level='auto'), dict(level='1'), dict(level='9')])
def packs(t, level):
    """Pages that are sent again cost little, and the guest finds them whole."""
    # 8 MiB of hot pages, with room for them and not for the rest of the guest.
    both = {'daemon': {'page-history': '12M'}}
    m = migrate(t, {**both, 'peer dc2': {'compression': level}}, both)
    r = m['link']['reduction']
    check(r['known-pages'] > 1000, 'hardly any page was known: %s' % r)
    check(m['wire-bytes-out'] < 0.5 * m['bytes-out'],
          '%d of %d bytes went' % (m['wire-bytes-out'], m['bytes-out']))


@case('e2e/reduction/duplicates', needs=NEEDS)
def duplicates(t):
    """Pages that the guest has twice go once, also those that it has written to since."""
    # Nearly nothing is left of the guest: the second pass may well be the last.
    m = migrate(t, {}, {}, append='zero=10 text=10 dup=80 random=0 dups=256 ' + HOT, passes=2)
    r = m['link']['reduction']
    check(r['same-pages'] > 3000, 'few pages were found to be there: %s' % r)


@case('e2e/reduction/no-history', needs=NEEDS)
def no_history(t):
    """One end that keeps no pages is enough for none to be kept."""
    m = migrate(t, {}, {'daemon': {'page-history': '0K'}})
    r = m['link']['reduction']
    check(r['known-pages'] == 0 and r['packed-bytes'] < r['raw-bytes'], 'got %s' % r)


@case('e2e/reduction/off-{where}', needs=NEEDS, table=[dict(where='here'), dict(where='there')])
def off(t, where):
    """Both ends must want it."""
    m = migrate(t, {'peer dc2': {'compression': 'none' if where == 'here' else 'auto'}},
                {'peer dc1': {'compression': 'none' if where == 'there' else 'auto'}})
    check('reduction' not in m['link'], 'got %s' % m['link'])


@case('e2e/reduction/history-of-{size}', needs=NEEDS, table=[
    dict(size='4K'), dict(size='1M'), dict(size='1G')])
def history_size(t, size):
    """From one page to more than the guest has."""
    both = {'daemon': {'page-history': size}}
    migrate(t, both, both)
