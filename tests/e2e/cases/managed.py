# SPDX-License-Identifier: GPL-2.0-or-later
"""Managed migrations: one command, two daemons, two QEMUs, three legs."""
import time
from datetime import timedelta

from harness import (Qemu, assert_migrated, assert_runs_at, case, check, compare_ram,
                     wait_for)
from harness.certs import Authority
from harness.relay import Relay
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']
OTHER_UUID = 'deadbeef-1234-4abc-8def-001122334455'


# How long a broken link is waited for, where that is not what is tested.
TIMEOUTS = {'link-dead': '1s'}
OUTAGE = {'outage': '1s', 'outage-switchover': '1s'}


def migrate_words(n=4, w=4, k=2):
    return ['migrate', 'web1', '--to', 'dc2', '--channels', n, '--lanes', w,
            '--destination-channels', k]


def settings(qemu):
    """What the daemon may change for a migration and must put back."""
    caps = {c['capability']: c['state'] for c in qemu.qmp.cmd('query-migrate-capabilities')}
    params = qemu.qmp.cmd('query-migrate-parameters')
    return {**caps, **params}


@case('e2e/managed/n{n}-w{w}-k{k}-{tls}', needs=NEEDS, table=[
    dict(n=1, w=1, k=1, tls='x509'), dict(n=2, w=5, k=4, tls='x509'),
    dict(n=4, w=8, k=2, tls='x509'), dict(n=4, w=8, k=2, tls='psk'),
    dict(n=5, w=2, k=8, tls='psk'), dict(n=8, w=4, k=5, tls='x509'),
    dict(n=16, w=1, k=1, tls='x509'), dict(n=1, w=16, k=16, tls='psk'),
    dict(n=32, w=40, k=24, tls='x509'),
])
def managed(t, n, w, k, tls):
    src, dst = Qemu.source(t), Qemu.destination(t)
    before = settings(src)
    sites = Sites(t, src, dst, tls=tls)
    footprints = [d.footprint() for d in (sites.dc1, sites.dc2)]
    sites.client.json(*migrate_words(n, w, k))
    assert_migrated(t, src, dst)
    changed = {key: (old, settings(src).get(key)) for key, old in before.items()
               if settings(src).get(key) != old}
    check(not changed, 'not put back at the source: %s' % changed)
    for daemon, footprint in zip((sites.dc1, sites.dc2), footprints):
        daemon.assert_footprint(footprint)


SOON_S = 3


def expiring(t, name):
    """Credentials of both sites, those of name valid for a moment only.

    No daemon starts with a certificate that has expired: it must do so later.
    """
    ca = Authority(t)
    return {n: ca.directory(n, valid=timedelta(seconds=SOON_S if n == name else 1000))
            for n in ('dc1', 'dc2')}


@case('e2e/managed/refused-{why}', needs=NEEDS, table=[
    dict(why='unknown-peer', says='dc9'),
    dict(why='unknown-vm', says='web9'),
    dict(why='wrong-uuid', says=OTHER_UUID),
    dict(why='other-machine', says='q35'),
    dict(why='expired-certificate-there', says='expired'),
    dict(why='expired-certificate-here', says='Certificate is bad'),
    dict(why='wrong-certificate-name', says='dc9.example.net'),
])
def refused(t, why, says):
    """What cannot work is refused before anything is touched, with the reason."""
    more = {'wrong-uuid': {'uuid': OTHER_UUID}, 'other-machine': {'machine': 'q35'}}.get(why, {})
    src, dst = Qemu.source(t), Qemu.destination(t, **more)
    before = settings(src)
    dc1 = None
    if why == 'wrong-certificate-name':
        dc1 = {'peer dc2': {'certificate-name': says}}
    old = {'expired-certificate-there': 'dc2', 'expired-certificate-here': 'dc1'}.get(why)
    expired = time.monotonic() + SOON_S + 1
    sites = Sites(t, src, dst, dc1=dc1, directories=expiring(t, old) if old else None)
    if old:
        wait_for(lambda: time.monotonic() > expired, 'the certificate to expire')
    words = migrate_words()
    if why == 'unknown-peer':
        words[3] = says
    elif why == 'unknown-vm':
        words[1] = says
    code, out, err = sites.client.run(*words)
    check(code != 0, 'the client says that it worked')
    check(says in out + err, 'the client does not say %s: %s' % (says, err.strip()))
    if old == 'dc1':
        sites.dc2.assert_says('expired')        # TLS has told us less
    assert_runs_at(src, dst)
    check(src.migration().get('status') in (None, 'none'), 'the source was touched')
    check(settings(src) == before, 'the source has other settings now')


@case('e2e/managed/cancel', needs=NEEDS)
def cancel(t):
    src, dst = Qemu.source(t), Qemu.destination(t)
    dst.may_be_dead = True
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '40mbit'}})
    migration = sites.client.start(*migrate_words())
    src.wait_transferred(4 << 20)
    sites.client.json('cancel', sites.dc1.migrations_active()[0]['id'])
    check(migration.wait_exit() != 0, 'the waiting client says that it worked')
    migration.may_be_dead = True
    src.wait_migration('cancelled', 'failed')
    assert_runs_at(src, dst)
    wait_for(lambda: not sites.dc2.migrations_active(), 'dc2 to end it too', 2)


@case('e2e/managed/{who}-killed', needs=NEEDS, table=[
    dict(who='source'), dict(who='destination'), dict(who='dc1'), dict(who='dc2'),
    dict(who='link')])
def killed(t, who):
    """kill -9 of any one in the middle: the rest ends it, quickly and well."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    relays = []

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    sites = Sites(t, src, dst, through=through,
                  dc1={'timeouts': TIMEOUTS, 'peer dc2': {'rate': '40mbit', **OUTAGE}},
                  dc2={'timeouts': TIMEOUTS, 'peer dc1': OUTAGE})
    migration = sites.client.start(*migrate_words())
    migration.may_be_dead = True
    src.wait_transferred(4 << 20)
    dst.may_be_dead = True
    if who == 'link':
        relays[0].refuse = True
        relays[0].cut(reset=True)
    else:
        victims = {'source': src, 'destination': dst, 'dc1': sites.dc1, 'dc2': sites.dc2}
        victims[who].kill()
    if who == 'source':
        dst.expect_failed_incoming()
    else:
        src.wait_migration('failed', 'cancelled', timeout=15)
        assert_runs_at(src, dst)
    check(migration.wait_exit(15) != 0, 'the client says that it worked')
    for name, daemon in sites.daemons.items():
        if name != who:
            # The destination's waits for longer than the source's may.
            wait_for(lambda d=daemon: not d.migrations_active(), name + ' to end it',
                     10 if name == 'dc2' else 2)


def started(t, src, dst, **more):
    """Sites, and what both QEMUs were set to before the daemons touched them."""
    before = settings(src), settings(dst)
    sites = Sites(t, src, dst, **more)
    return sites, before


def assert_put_back(src, dst, before, timeout=3):
    """Both QEMUs (those that live) have their settings back."""
    for qemu, old in zip((src, dst), before):
        def changed(qemu=qemu, old=old):
            now = settings(qemu)
            return {k: (v, now.get(k)) for k, v in old.items() if now.get(k) != v}
        if qemu.alive():
            wait_for(lambda: not changed(), lambda: '%s: settings to be put back: %s'
                     % (qemu.name, changed()), timeout)


@case('e2e/managed/handover-{handover}-destination-{how}', needs=NEEDS, table=[
    dict(handover=h, how=w) for h in ('safe', 'fast') for w in ('paused', 'not-paused')
    if (h, w) != ('fast', 'paused')])
def handover(t, handover, how):
    """The guest runs at the end whether or not the destination has -S."""
    src, dst = Qemu.source(t), Qemu.destination(t, paused=how == 'paused')
    sites, before = started(t, src, dst)
    sites.client.json(*migrate_words(), '--handover', handover)
    assert_migrated(t, src, dst)
    assert_put_back(src, dst, before)


@case('e2e/managed/paused-source-{handover}', needs=NEEDS, table=[
    dict(handover='safe'), dict(handover='fast')])
def paused_source(t, handover):
    """A guest that was paused arrives paused, whole, and waits for its owner."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    src.stop()
    sites, before = started(t, src, dst)
    sites.client.json(*migrate_words(), '--handover', handover)
    wait_for(lambda: dst.status()['status'] == 'paused', 'the destination to be paused', 3)
    check(not dst.guest.heartbeats.beats, 'the guest ran at the destination')
    assert_put_back(src, dst, before)
    compare_ram(src, dst)
    dst.cont()
    assert_runs_at(dst, src)


@case('e2e/managed/ram-compared', needs=NEEDS)
def ram_compared(t):
    """Of a guest that ran until the switchover: byte for byte at the end."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '300mbit'}})
    migration = sites.client.start(*migrate_words(), '--handover', 'safe')
    src.wait_transferred(8 << 20)
    src.stop()                      # by its operator, in the middle: so it arrives
    migration.expect_exit(0, timeout=30)
    check(dst.status()['status'] == 'paused', 'the destination is %s' % dst.status()['status'])
    compare_ram(src, dst)
    dst.cont()
    assert_runs_at(dst, src)


@case('e2e/managed/put-back-after-{what}', needs=NEEDS, table=[
    dict(what='cancel'), dict(what='refusal'), dict(what='link-failure')])
def put_back(t, what):
    """What the operator had set is set again, however it ends."""
    more = {'uuid': OTHER_UUID} if what == 'refusal' else {}
    src, dst = Qemu.source(t), Qemu.destination(t, **more)
    src.set_multifd(0, max_bandwidth=1 << 20, downtime_limit=123, multifd_channels=7)
    dst.capabilities(events=True)
    dst.may_be_dead = True
    relays = []

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    dc1 = {'peer dc2': {'rate': '40mbit', **OUTAGE}}
    if what == 'refusal':
        dc1['vm web1'] = {'uuid': OTHER_UUID}
    sites, before = started(t, src, dst, through=through, dc1=dc1)
    client = sites.client.start(*migrate_words())
    client.may_be_dead = True
    if what != 'refusal':
        src.wait_transferred(2 << 20)
    if what == 'cancel':
        sites.client.json('cancel', 'web1')
    elif what == 'link-failure':
        relays[0].refuse = True
        relays[0].cut(reset=True)
    check(client.wait_exit(10) != 0, 'the client says that it worked')
    if what == 'link-failure':
        # The destination's daemon waits for longer: 1 s, twice link-dead, and 2 s.
        wait_for(lambda: not sites.dc2.migrations_active(), 'dc2 to end it', 16)
        dst.expect_failed_incoming()
    assert_put_back(src, dst, before)
    assert_runs_at(src, dst)


@case('e2e/managed/operators-limit', needs=NEEDS)
def operators_limit(t):
    """A max-bandwidth of before is not ours, and is there again afterwards."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    src.parameters(max_bandwidth=1 << 20)
    sites, before = started(t, src, dst)
    result = sites.client.json(*migrate_words())[0]
    check(result['total-time-ms'] < 15000, 'took %d ms: capped?' % result['total-time-ms'])
    assert_migrated(t, src, dst)
    assert_put_back(src, dst, before)
    check(src.qmp.cmd('query-migrate-parameters')['max-bandwidth'] == 1 << 20, 'not put back')


@case('e2e/managed/no-limit-of-qemus', needs=NEEDS)
def no_limit_of_qemus(t):
    """While a migration goes on QEMU's own max-bandwidth must never be what holds it."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    dst.may_be_dead = True
    sites, before = started(t, src, dst, dc1={'peer dc2': {'rate': '40mbit'}})
    migration = sites.client.start(*migrate_words())
    migration.may_be_dead = True
    src.wait_transferred(2 << 20)
    got = src.qmp.cmd('query-migrate-parameters')['max-bandwidth']
    check(got >= 1 << 40, 'max-bandwidth is %d, expected at least 2^40' % got)
    sites.client.json('cancel', 'web1')
    check(migration.wait_exit() != 0, 'the waiting client says that it worked')
    assert_put_back(src, dst, before)
    assert_runs_at(src, dst)


def disk(t):
    """The arguments for a raw image that both QEMUs have, each under its lock."""
    path = t.dir + '/disk.raw'
    with open(path, 'wb') as f:
        f.truncate(1 << 20)
    return ['-drive', 'file=%s,format=raw,if=none,id=d0,file.locking=on' % path,
            '-device', 'ide-hd,drive=d0']


@case('e2e/managed/shared-disk-{handover}-{how}', needs=NEEDS, table=[
    dict(handover='safe', how='completed'), dict(handover='fast', how='completed'),
    dict(handover='safe', how='cancelled'), dict(handover='safe', how='dc2-killed')])
def shared_disk(t, handover, how):
    """The image's lock goes with the guest, and comes back when that fails."""
    extra = disk(t)
    src, dst = Qemu.source(t, extra=extra), Qemu.destination(t, extra=extra)
    sites = Sites(t, src, dst, dc1={} if how == 'completed' else {'peer dc2': {'rate': '40mbit'}})
    client = sites.client.start(*migrate_words(), '--handover', handover)
    client.may_be_dead = True
    if how != 'completed':
        dst.may_be_dead = True
        src.wait_transferred(3 << 20)
    if how == 'cancelled':
        sites.client.json('cancel', 'web1')
    elif how == 'dc2-killed':
        sites.dc2.kill()
    check((client.wait_exit(20) == 0) == (how == 'completed'), 'status of the client')
    owner, other = (dst, src) if how == 'completed' else (src, dst)
    assert_runs_at(owner, other)
    owner.qmp.cmd('human-monitor-command', command_line='qemu-io d0 "write -P 7 0 4096"')
    with open(t.dir + '/disk.raw', 'rb') as f:
        check(f.read(4096) == b'\7' * 4096, '%s cannot write' % owner.name)
