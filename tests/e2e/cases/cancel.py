# SPDX-License-Identifier: GPL-2.0-or-later
"""Migrations that are called off, in every state; and ends that come at a bad moment.

A cancelled migration that is followed by a good one is tunnel/twice and link-tunnel/twice;
a managed one that is cancelled while it hands over is handover/cancel-in-...
"""
from harness import Qemu, assert_migrated, assert_runs_at, case, check, wait_for
from harness.certs import psk_directory, qemu_psk
from harness.compare import compare
from harness.relay import Relay
from harness.sites import Sites
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']


# ---- by migrate_cancel at the source ------------------------------------------------------

def reach_setup(way):
    """Main is up; the other channels shake hands, and get no answer."""
    way.src.parameters(tls_creds='tls0')
    way.listen_keys = {'listen-tls': 'yes', 'tls-psk': 'yes', 'tls-directory': way.psk}
    way.open()
    way.relay.mute_from = 1
    way.src.migrate(way.address)
    wait_for(lambda: len(way.relay.connections) > 1, 'the source to connect its channels')
    way.src.wait_migration('setup')


def reach_active(way):
    way.src.parameters(max_bandwidth=8 << 20)
    way.begin()
    way.src.wait_transferred(4 << 20)


def reach_pre_switchover(way):
    way.src.capabilities(pause_before_switchover=True)
    way.begin()
    way.src.wait_migration('pre-switchover')


def reach_device(way):
    """The destination has all and says so, but its word is on its way."""
    reach_pre_switchover(way)
    way.relay.stall('down')
    way.src.qmp.cmd('migrate-continue', state='pre-switchover')
    way.src.wait_migration('device')
    way.dst.wait_migration('completed')


def reach_completed(way):
    way.begin()
    way.src.wait_migration('completed')


REACH = {'setup': reach_setup, 'active': reach_active, 'active-twice': reach_active,
         'pre-switchover': reach_pre_switchover, 'device': reach_device,
         'completed': reach_completed}


@case('e2e/cancel/{state}/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(state=s, kind=kind, n=n, k=k, full=kind == 'link' or n == 0)
    for s in REACH for kind, n, k in (('daemon', 2, 3), ('link', 3, 2), ('daemon', 0, 0))
    if n or s != 'setup'])
def cancelled(t, state, kind, n, k):
    """The guest runs on at its source, unless the cancel came too late."""
    psk = psk_directory(t, 'both')

    def body(way):
        way.psk = psk
        tls = state == 'setup'
        direct = way.kind == 'direct'
        src, dst = way.ends(
            src={'extra': qemu_psk(psk, 'client')} if tls else {},
            dst={'extra': qemu_psk(psk, 'server') if tls and direct else [],
                 'paused': state == 'device'})
        if tls and direct:
            dst.parameters(tls_creds='tls0')
        dst.may_be_dead = state != 'completed'
        REACH[state](way)
        for _ in range(2 if state == 'active-twice' else 1):
            src.qmp.cmd('migrate_cancel')
        if way.relay:
            way.relay.mute_from = None
            way.relay.resume()
        result = way.outcome()
        if src.version < (8, 0) and state.startswith('active') and result == 'failed (lost)':
            # 7.2 shuts its sockets a moment before it says cancelling: whoever answers in
            # between (seen on a loaded machine) turns the same end into a failed one.
            result = 'cancelled'
        check(result == ('completed' if state == 'completed' else 'cancelled'), result)
        for daemon in way.daemons:
            wait_for(lambda d=daemon: not d.migrations_active(), daemon.name + ' to end it', 5)
        return result
    way = way_of(t, kind, n=n, k=k, listen='tcp', connect='tcp')
    way.relay_at = {'setup': 'listen', 'device': 'connect'}.get(state)
    compare(t, way, body)


# ---- by multiferry cancel -----------------------------------------------------------------

def managed_words():
    return ['migrate', 'web1', '--to', 'dc2', '--channels', 3, '--destination-channels', 2]


@case('e2e/cancel/managed-{state}', needs=NEEDS, table=[
    dict(state='setup'), dict(state='active-twice'), dict(state='completed')])
def managed(t, state):
    """Refused with a reason when it is too late, else obeyed once; then a new one works."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    relays = []

    def through(address):
        relays.append(Relay(t, address))
        return relays[0].address
    sites = Sites(t, src, dst, through=through)
    if state == 'setup':
        relays[0].stall()
    elif state == 'active-twice':
        sites.dc1.qmp.cmd('set-rate-limit', peer='dc2', rate='40mbit')
    client = sites.client.start(*managed_words())
    client.may_be_dead = True
    if state == 'completed':
        check(client.wait_exit(60) == 0, 'the migration failed')
        code, _, err = sites.client.run('cancel', sites.dc1.migrations()[0]['id'])
        check(code != 0 and 'completed' in err, 'cancel says %d: %s' % (code, err.strip()))
        assert_migrated(t, src, dst)
        return
    if state == 'setup':
        wait_for(sites.dc1.migrations_active, 'dc1 to begin')
        got = sites.dc1.migrations()[0]['state']
        check(got == 'setup', 'dc1 is in %s' % got)
    else:
        src.wait_transferred(3 << 20)
    identity = sites.dc1.migrations_active()[0]['id']
    for _ in range(2 if state == 'active-twice' else 1):
        sites.client.run('cancel', identity)
    check(client.wait_exit(10) != 0, 'the waiting client says that it worked')
    relays[0].resume()
    for daemon in (sites.dc1, sites.dc2):
        wait_for(lambda d=daemon: not d.migrations_active(), daemon.name + ' to end it', 5)
    check(sites.dc1.migrations()[0]['state'] == 'cancelled', 'dc1 says %s'
          % sites.dc1.migrations()[0]['state'])
    dst.may_be_dead = True
    assert_runs_at(src, dst)


@case('e2e/cancel/managed-ping-pong', needs=NEEDS, timeout=240)
def managed_ping_pong(t, rounds=10):
    """There and back, ten times, by two daemons that each know one VM: nothing may add up."""
    paths = {site: '%s/%s.qmp' % (t.dir, site) for site in ('dc1', 'dc2')}
    vms = {site: {'vm web1': {'qmp': 'unix:' + path}} for site, path in paths.items()}
    sites = Sites(t, **vms)
    here, there, vm, before = 'dc1', 'dc2', monitored(t, 0, paths['dc1']), None
    for i in range(1, rounds + 1):
        dst = monitored(t, i, paths[there])
        sites.daemons[here].qmp.cmd('migrate', vm='web1', peer=there,
                                    channels=1 + i % 3, destination_channels=1 + i % 4)
        assert_migrated(t, vm, dst)
        for daemon in sites.daemons.values():
            wait_for(lambda d=daemon: not d.migrations_active(), daemon.name + ' to end it', 5)
        vm.finish()
        vm, here, there = dst, there, here
        if i == 2:
            before = [d.footprint() for d in sites.daemons.values()]
    for daemon, footprint in zip(sites.daemons.values(), before):
        daemon.assert_footprint(footprint)


def monitored(t, number, path):
    """A QEMU with a monitor where the daemon of its site expects one."""
    make = Qemu.destination if number else Qemu.source
    return make(t, 'vm%d' % number, extra=['-qmp', 'unix:%s,server=on,wait=off' % path])


# ---- ends that come at a bad moment -------------------------------------------------------

@case('e2e/ends/nobody-listens/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=2, k=3), dict(kind='link', n=2, k=3, full=True),
    dict(kind='daemon', n=0, k=0, full=True)])
def nobody_listens(t, kind, n, k):
    def body(way):
        way.ends()
        way.begin()
        return way.outcome()
    way = way_of(t, kind, n=n, k=k)
    way.nobody_listens = True
    compare(t, way, body, unlike='the source reaches us, and only then is nobody there')


@case('e2e/ends/destination-dies-late/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=2, k=3), dict(kind='link', n=3, k=2), dict(kind='daemon', n=0, k=0, full=True)])
def destination_dies_late(t, kind, n, k):
    """It had all and has said so; but its word did not arrive, and so the guest is the source's."""
    def body(way):
        src, dst = way.ends(dst={'paused': True})
        reach_device(way)
        dst.kill()
        way.relay.cut()
        return way.outcome()
    way = way_of(t, kind, n=n, k=k)
    way.relay_at = 'connect'
    compare(t, way, body)


@case('e2e/ends/source-dies/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='link', n=3, k=2), dict(kind='daemon', n=2, k=3, full=True)])
def source_dies(t, kind, n, k):
    def body(way):
        src, dst = way.ends()
        reach_active(way)
        src.kill()
        dst.expect_failed_incoming()
        check(not dst.guest.heartbeats.beats, 'the guest ran at the destination')
        return 'destination failed'
    compare(t, way_of(t, kind, n=n, k=k), body)
