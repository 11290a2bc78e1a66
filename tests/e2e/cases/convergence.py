# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that writes faster than its pages may leave, and what each policy does about it."""
from harness import Skip, assert_migrated, assert_stayed, case, check, wait_for
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']
# 24 MB/s in 8 MiB of pages: at 2.5 MB/s all are written again before they have left.
BUSY = 'mem=16M dirty=24M ws=8M verify=64M stat=0'
RATE = '20mbit'
# Pages cost what they are, not only what has changed in them.
WHOLE = {'page-history': '0B'}
WORDS = ['--downtime-limit', '5ms']


def begin(t, policy, words=()):
    way = way_of(t, 'managed', n=2, k=2, rate=RATE, words=[*WORDS, *words])
    way.peer_keys = {'compression': 'none'}
    way.groups = {'daemon': WHOLE, 'vm web1': {'convergence': policy, 'convergence-patience': '2s'}}
    src, dst = way.ends(both=dict(append=BUSY))
    way.begin()
    return way, src, dst


def shown(way):
    return way.sites.dc1.migrations()[0]


def wait_told(way):
    event = way.sites.dc1.qmp.event('MIGRATION_CONVERGENCE', timeout=30, converging=False)['data']
    check(event['dirty-rate'] > 0.9 * event['rate'] > 0, 'the event: %s' % event)
    check(event['vm'] == 'web1', 'the event: %s' % event)
    way.sites.dc1.assert_says('will not end')
    return event


@case('e2e/convergence/continue', needs=NEEDS)
def goes_on(t):
    """Told everywhere; a higher rate ends it."""
    way, src, dst = begin(t, 'continue')
    event = wait_told(way)
    m = shown(way)
    check(m['convergence']['converging'] is False and m['convergence']['policy'] == 'continue',
          'query-migrations: %s' % m['convergence'])
    check(m['id'] == event['id'] and m['state'] == 'active', 'goes on: %s' % m['state'])
    wait_for(lambda: 'will not end' in way.client.log_text(), 'the progress line', 10)
    way.sites.client.json('limit', 'dc2', 'unlimited')
    t.result(way.legs, '-', way.outcome())


@case('e2e/convergence/cancel', needs=NEEDS)
def cancels(t):
    way, src, dst = begin(t, 'cancel')
    wait_told(way)
    code = way.client.wait_exit(20)
    check(code != 0, 'the client says that it has completed')
    m = shown(way)
    check(m['state'] == 'cancelled' and 'will not end' in m['error'], '%(state)s: %(error)s' % m)
    src.wait_migration('cancelled', 'failed')
    dst.may_be_dead = True
    assert_stayed(t, src, dst)


@case('e2e/convergence/throttle', needs=NEEDS)
def throttles(t):
    """By the argument, against the configuration's word; the capability is put back."""
    way, src, dst = begin(t, 'cancel', ['--convergence', 'throttle'])
    wait_for(lambda: src.migration().get('cpu-throttle-percentage', 0) > 0, 'a throttled guest', 30)
    wait_for(lambda: shown(way)['qemu']['cpu-throttle-percentage'] > 0, 'it in query-migrations', 5)
    way.sites.client.json('limit', 'dc2', 'unlimited')
    t.result(way.legs, '-', way.outcome())
    on = [c['capability'] for c in src.qmp.cmd('query-migrate-capabilities') if c['state']]
    check('auto-converge' not in on, 'not put back: %s' % on)


@case('e2e/convergence/postcopy', needs=NEEDS)
def switches(t):
    """Only when it is clear that it would not end."""
    way, src, dst = begin(t, 'postcopy')
    check(src.migration().get('status') != 'postcopy-active', 'postcopy at once')
    wait_told(way)
    way.sites.dc1.qmp.event('MIGRATION', timeout=20, state='postcopy')
    way.sites.client.json('limit', 'dc2', 'unlimited')
    t.result(way.legs, '-', way.outcome())


def told_of(qemu):
    return qemu.qmp.cmd('query-migrate-parameters').get('avail-switchover-bandwidth')


@case('e2e/convergence/bandwidth-{what}', needs=NEEDS, table=[
    dict(what='told', by_hand=0), dict(what='set-by-hand', by_hand=123_456)])
def tells(t, what, by_hand):
    """What QEMU takes for its bandwidth is what leaves, anew when that changes; then it is put back,
    unless an operator has set it meanwhile."""
    way, src, dst = begin(t, 'continue')
    if told_of(src) is None:
        way.sites.client.json('limit', 'dc2', 'unlimited')
        t.result(way.legs, '-', way.outcome())
        raise Skip('QEMU 8.2 for avail-switchover-bandwidth')
    wait_for(lambda: [m for m in way.sites.dc1.migrations() if m['state'] == 'active'],
             'the migration to be active', 20)
    check(0 < told_of(src) <= 2_500_000, 'at first: %d' % told_of(src))
    way.sites.client.json('limit', 'dc2', '8mbit')
    # Pages have headers and TLS around them, and frames are large.
    wait_for(lambda: 0.7 * 1_000_000 < told_of(src) < 1.05 * 1_000_000,
             lambda: 'the new rate to be told; it is %d' % told_of(src), 30)
    if by_hand:
        src.parameters(avail_switchover_bandwidth=by_hand)
    way.sites.client.json('limit', 'dc2', 'unlimited')
    t.result(way.legs, '-', way.outcome())
    check(told_of(src) == by_hand, 'afterwards: %d' % told_of(src))


@case('e2e/convergence/switchover-rate', needs=NEEDS)
def hurries(t):
    """The last pages of a stopped guest have more of the line; others have their share back."""
    way = way_of(t, 'managed', n=2, k=2, rate=RATE, words=['--downtime-limit', '5s'])
    way.groups = {'daemon': WHOLE}
    src, dst = way.ends(both=dict(append=BUSY))
    way.peer_keys = {'switchover-rate': '24mbit'}
    way.begin()
    wait_for(lambda: [m for m in way.sites.dc1.migrations() if m['state'] == 'active'],
             'the migration to be active', 20)
    check(shown(way)['rate-limit'] == 20_000_000 // 8, 'before: %s' % shown(way)['rate-limit'])
    told = told_of(src)
    check(told is None or told > 2_500_000, 'QEMU was told of %s' % told)
    wait_for(lambda: shown(way)['rate-limit'] == 3_000_000, 'the raised rate', 60)
    check(shown(way)['state'] != 'active', 'raised too early')
    t.result(way.legs, '-', way.outcome())
    peer = way.sites.dc1.qmp.cmd('query-peers')[0]
    check(peer['rate'] == 20_000_000 // 8, 'afterwards: %s' % peer['rate'])
