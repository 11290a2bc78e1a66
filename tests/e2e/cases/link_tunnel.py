# SPDX-License-Identifier: GPL-2.0-or-later
"""Passive tunnels over the link: two daemons that know addresses and a name."""
from harness import Qemu, assert_migrated, assert_stayed, case, check, wait_for
from harness.daemon import Daemon, free_port
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']


def tunnel_sites(t, k, w=4, connect=None, **more):
    """Sites with [tunnel web2] from dc1 to dc2; returns them, and both addresses."""
    listen = 'unix:' + Daemon.path_of(t, 'dc1', 'web2.sock')
    connect = connect or 'unix:%s/incoming.sock' % t.dir
    dc2 = {'peer': 'dc1', 'connect': connect}
    if k:
        dc2['channels'] = k
    sites = Sites(t, lanes=w, dc1={'tunnel web2': {'listen': listen, 'peer': 'dc2'}},
                  dc2={'tunnel web2': dc2}, **more)
    return sites, listen, connect


def destination(t, k, address, name='dst', **more):
    dst = Qemu.destination(t, name, **more)
    dst.set_multifd(k)
    dst.listen(address)
    return dst


@case('e2e/link-tunnel/n{n}-w{w}-k{k}-{tls}', needs=NEEDS, table=[
    dict(n=1, w=1, k=1, tls='x509'), dict(n=2, w=3, k=5, tls='psk'),
    dict(n=5, w=8, k=2, tls='x509'), dict(n=8, w=1, k=4, tls='x509'),
    dict(n=4, w=16, k=16, tls='psk'), dict(n=16, w=5, k=1, tls='x509'),
    dict(n=0, w=4, k=0, tls='x509'), dict(n=3, w=2, k=0, tls='x509'),
])
def carried(t, n, w, k, tls):
    """N=0: without multifd; K=0: as many as came in."""
    sites, listen, connect = tunnel_sites(t, k, w, tls=tls)
    before = [d.footprint() for d in (sites.dc1, sites.dc2)]
    dst = destination(t, k or n, connect)
    src = Qemu.source(t)
    src.set_multifd(n, max_bandwidth=48 << 20, downtime_limit=100)
    src.migrate(listen)
    assert_migrated(t, src, dst)
    for daemon, footprint in zip((sites.dc1, sites.dc2), before):
        daemon.assert_footprint(footprint)
        # The QEMUs are told first; the daemon's own word comes a moment later.
        wait_for(lambda: not daemon.migrations_active(), daemon.name + ' to end it', 5)
        check([m['state'] for m in daemon.migrations()] == ['completed'],
              '%s: %s' % (daemon.name, daemon.migrations()))


@case('e2e/link-tunnel/compressed/{method}-n{n}-w{w}-k{k}', needs=NEEDS, table=[
    dict(method='zlib', n=3, w=2, k=2), dict(method='zstd', n=3, w=2, k=2)])
def compressed(t, method, n, w, k):
    """Unpacked where it comes in, packed anew at the other site: the RAM is the same."""
    sites, listen, connect = tunnel_sites(t, k, w)
    dst = Qemu.destination(t, paused=True)
    dst.set_multifd(k, multifd_compression=method)
    dst.listen(connect)
    src = Qemu.source(t)
    src.set_multifd(n, max_bandwidth=48 << 20, downtime_limit=100, multifd_compression=method)
    src.migrate(listen)
    assert_migrated(t, src, dst, ram=True)


@case('e2e/link-tunnel/ram-compared', needs=NEEDS)
def ram_compared(t):
    sites, listen, connect = tunnel_sites(t, 3)
    dst = destination(t, 3, connect, paused=True)
    src = Qemu.source(t)
    src.set_multifd(5, max_bandwidth=48 << 20)
    src.migrate(listen)
    assert_migrated(t, src, dst, ram=True)


@case('e2e/link-tunnel/no-return-path-n{n}', needs=NEEDS, table=[dict(n=3), dict(n=0)])
def no_return_path(t, n):
    """Carried, but everybody is told what that means."""
    sites, listen, connect = tunnel_sites(t, 2)
    dst = Qemu.destination(t)
    dst.set_multifd(2 if n else 0)
    dst.capabilities(return_path=False)
    dst.listen(connect)
    src = Qemu.source(t)
    src.set_multifd(n, max_bandwidth=48 << 20)
    src.capabilities(return_path=False)
    src.migrate(listen)
    assert_migrated(t, src, dst)
    sites.dc1.assert_says('warning: .*return.path')
    check('return-path' in sites.dc1.migrations()[0].get('warning', ''),
          'query-migrations does not warn: %s' % sites.dc1.migrations()[0])


@case('e2e/link-tunnel/return-path-required', needs=NEEDS)
def return_path_required(t):
    listen = 'unix:' + Daemon.path_of(t, 'dc1', 'web2.sock')
    connect = 'unix:%s/incoming.sock' % t.dir
    sites = Sites(t, dc1={'tunnel web2': {'listen': listen, 'peer': 'dc2',
                                          'require-return-path': 'yes'}},
                  dc2={'tunnel web2': {'peer': 'dc1', 'connect': connect, 'channels': 2}})
    dst = destination(t, 2, connect)
    src = Qemu.source(t)
    src.set_multifd(2)
    src.capabilities(return_path=False)
    src.migrate(listen)
    dst.may_be_dead = True
    assert_stayed(t, src, dst)
    sites.dc1.assert_says('error: .*return.path')


@case('e2e/link-tunnel/twice', needs=NEEDS)
def twice(t):
    """A cancelled one, then a good one, through the same tunnel."""
    sites, listen, connect = tunnel_sites(t, 2)
    dst = destination(t, 2, connect, 'dst1')
    dst.may_be_dead = True
    src = Qemu.source(t)
    src.set_multifd(3, max_bandwidth=4 << 20)
    src.migrate(listen)
    # Before that dst1 has been given nothing, and would wait on.
    sites.dc2.assert_says(r'migration \w+ \(web2\): active')
    src.wait_transferred(2 << 20)
    src.qmp.cmd('migrate_cancel')
    assert_stayed(t, src, dst, statuses=('cancelled',))
    dst.expect_failed_incoming()
    dst.kill()
    for daemon in (sites.dc1, sites.dc2):
        wait_for(lambda: not daemon.migrations_active(), daemon.name + ' to end the first', 3)
    dst = destination(t, 2, connect, 'dst2')
    src.set_multifd(3, max_bandwidth=128 << 20)
    src.migrate(listen)
    assert_migrated(t, src, dst)


@case('e2e/link-tunnel/ping-pong', needs=NEEDS, timeout=180)
def ping_pong(t, rounds=10):
    """There and back again, ten times, by two tunnels: nothing may add up."""
    listens = {d: 'unix:' + Daemon.path_of(t, d, 'in.sock') for d in ('dc1', 'dc2')}
    connects = {d: 'unix:%s/incoming-%s.sock' % (t.dir, d) for d in ('dc1', 'dc2')}

    def groups(here, there):
        return {'tunnel to-' + there: {'listen': listens[here], 'peer': there},
                'tunnel to-' + here: {'connect': connects[here], 'peer': there, 'channels': 3}}
    sites = Sites(t, dc1=groups('dc1', 'dc2'), dc2=groups('dc2', 'dc1'))
    vm, here, there = Qemu.source(t, 'vm0'), 'dc1', 'dc2'
    before = None
    for i in range(1, rounds + 1):
        dst = destination(t, 3, connects[there], 'vm%d' % i)
        vm.set_multifd(2 + i % 3, max_bandwidth=1 << 30)
        vm.migrate(listens[here])
        assert_migrated(t, vm, dst)
        vm.finish()
        vm, here, there = dst, there, here
        if i == 2:
            before = [d.footprint() for d in (sites.dc1, sites.dc2)]
    for daemon, footprint in zip((sites.dc1, sites.dc2), before):
        daemon.assert_footprint(footprint)


@case('e2e/link-tunnel/refused-{why}', needs=NEEDS, table=[
    dict(why='no-such-tunnel', says='no .tunnel web2.'),
    dict(why='peer-not-there', says='[Rr]efused'),
    dict(why='nobody-listens', says='(?i:no such file|refused)'),
])
def refused(t, why, says):
    """The source hears it at once, the log says why, and its guest runs on."""
    listen = 'unix:' + Daemon.path_of(t, 'dc1', 'web2.sock')
    dc1 = {'tunnel web2': {'listen': listen, 'peer': 'dc2'}}
    dc2 = {'tunnel web%d' % (3 if why == 'no-such-tunnel' else 2): {
        'peer': 'dc1', 'connect': 'unix:%s/incoming.sock' % t.dir, 'channels': 2}}
    if why == 'peer-not-there':
        dc1['peer dc2'] = {'address': '127.0.0.1:%d' % free_port()}
    sites = Sites(t, dc1=dc1, dc2=dc2)
    src = Qemu.source(t)
    src.set_multifd(2)
    src.migrate(listen)
    src.wait_migration('failed', timeout=5)
    wait_for(src.running, 'the guest to run at the source', 2)
    src.guest.verify()
    sites.dc1.assert_says('error: .*' + says)
