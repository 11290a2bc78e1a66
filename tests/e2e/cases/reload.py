# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGHUP with another configuration: taken over whole, or not at all; what runs, runs on."""
import os
import re
import socket

from cases.metrics_http import has_http
from cases.resume import DEAD_S, Scene
from cases.service import reload
from cases.tunnel import incoming_address
from harness import Qemu, assert_migrated, case, check, wait_for
from harness.case import Failure
from harness.certs import Authority
from harness.daemon import Daemon, free_port
from harness.qmp import QmpError
from harness.sites import Sites, merged

NEEDS = ['daemon', 'certtool']


def text_of(daemon):
    with open(daemon.path('multiferryd.conf')) as f:
        return f.read()


def groups_of(daemon):
    """Its configuration file, as a dict of dicts."""
    groups = {}
    for line in text_of(daemon).splitlines():
        if line.startswith('['):
            keys = groups.setdefault(line[1:-1], {})
        elif '=' in line:
            key, _, value = line.partition('=')
            keys[key] = value
    return groups


def change(t, d, without=(), configuration='changed', /, **more):
    """Reload a daemon with these groups merged in, others gone; returns the event."""
    groups = merged(groups_of(d), {name.replace('__', ' '): keys for name, keys in more.items()})
    for name in without:
        del groups[name]
    d.write_config(t, d.name, groups)
    del d.qmp.drain()[:]
    reload(d)
    event = d.qmp.event('RELOAD')['data']
    check(event['configuration'] == configuration, 'RELOAD says %s' % event)
    return event


def peers(daemon):
    return {p['name']: p for p in daemon.qmp.cmd('query-peers')}


def listeners(daemon):
    return {x['name']: x['address'] for x in daemon.qmp.cmd('query-status')['tunnels']}


def refuses_connections(address):
    host, port = address.removeprefix('tcp:').rsplit(':', 1)
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return True
    return False


# ---- all or nothing ----


FIXED = [('daemon', 'name', 'other'), ('daemon', 'control', 'unix:/nowhere/control.sock'),
         ('daemon', 'control-group', '0'), ('daemon', 'runtime-directory', '/nowhere'),
         ('daemon', 'metrics-http', '127.0.0.1:9909'),
         ('daemon', 'state-directory', '/nowhere'), ('daemon', 'history', '2M'),
         ('listen', 'link', '127.0.0.1:1'), ('tls', 'directory', '/nowhere'), ('tls', 'psk', 'yes'),
         ('tls', 'priority', 'NORMAL'), ('tls', 'rekey', '1G')]


@case('e2e/reload/needs-a-restart', needs=NEEDS)
def needs_restart(t):
    """Each of the fixed keys: named with both values, and what else has changed is not used."""
    directory = Authority(t).directory('d')
    daemon = Daemon(t, 'd', {'tls': {'directory': directory}, 'daemon': {'rate': '1gbit'},
                             'listen': {'link': '127.0.0.1:%d' % free_port()},
                             'peer dc2': {'certificate-name': 'dc2'}})
    before = groups_of(daemon)
    fixed = [row for row in FIXED if row[1] != 'metrics-http' or has_http(t)]
    for group, key, value in fixed:
        daemon.write_config(t, 'd', before)
        more = {group: {key: value}}
        if (group, key) == ('tls', 'psk'):
            more['peer dc2'] = {'certificate-name': None, 'psk-identity': 'dc2'}
        more.setdefault('daemon', {})['rate'] = '2gbit'
        event = change(t, daemon, (), 'refused',
                       **{name.replace(' ', '__'): keys for name, keys in more.items()})
        t.log(event['error'])
        pattern = r'multiferryd\.conf: .*\[%s\] %s: got .*, the daemon runs with .*restart' % (group, key)
        check(re.search(pattern, event['error']), event['error'])
        check(value.split(':')[-1] in event['error'], 'the new value: ' + event['error'])
        check('changes' not in event and event['credentials'] == 'read', str(event))
        check(daemon.qmp.cmd('query-status')['rate-limit'] == 125000000, key + ': a rate was used')
    daemon.assert_says('error: reload: .*nothing of the configuration was taken over')
    with open(os.path.join(t.options.tree, 'docs/multiferryd.conf.5')) as f:
        manual = re.search(r'needs a restart(.*?)\.El', f.read(), re.S)
    check(manual, 'multiferryd.conf.5 has no list of what needs a restart')
    for group, key, _ in FIXED:
        check(re.search(r'\[%s\](.*\b%s\b)?' % (group, re.escape(key)), manual[1]),
              'not in the manual: [%s] %s' % (group, key))


@case('e2e/reload/all-or-nothing', needs=['daemon'])
def all_or_nothing(t):
    """One of two new tunnels cannot listen: then the other does not, and no rate is used."""
    ports = [free_port() for _ in range(3)]
    daemon = Daemon(t, 'd', {'daemon': {'rate': '1gbit'},
                             'tunnel a': {'listen': '127.0.0.1:%d' % ports[0], 'connect': 'unix:/a'}})
    daemon.qmp.cmd('query-status')
    footprint = daemon.footprint()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(('127.0.0.1', ports[2]))
        other.listen()
        event = change(t, daemon, (), 'refused', daemon={'rate': '2gbit'}, **{
            'tunnel__b': {'listen': '127.0.0.1:%d' % ports[1], 'connect': 'unix:/b'},
            'tunnel__c': {'listen': '127.0.0.1:%d' % ports[2], 'connect': 'unix:/c'}})
        check('tunnel c' in event['error'] and str(ports[2]) in event['error'], event['error'])
    check(daemon.qmp.cmd('query-status')['rate-limit'] == 125000000, 'the rate is used')
    check(list(listeners(daemon)) == ['a'], str(listeners(daemon)))
    check(refuses_connections('127.0.0.1:%d' % ports[1]), 'b listens')
    daemon.assert_footprint(footprint)
    reload(daemon)
    check(sorted(listeners(daemon)) == ['a', 'b', 'c'], 'not with the port free: %s' % listeners(daemon))


@case('e2e/reload/credentials-of-tunnels', needs=NEEDS)
def tunnel_credentials(t):
    """Those of a tunnel that is gone, or was refused, may go too; those of one that is there may not."""
    ca = Authority(t)
    daemon = Daemon(t, 'd', {'tls': {'directory': ca.directory('d')}})

    def tls(name, port):
        return {'listen': '127.0.0.1:%d' % port, 'connect': 'unix:/nowhere', 'listen-tls': 'yes',
                'tls-directory': ca.directory(name)}
    port = free_port()
    change(t, daemon, tunnel__a=tls('a', port))
    os.unlink(os.path.join(ca.dir, 'a', 'server-key.pem'))
    event = change(t, daemon, daemon={'rate': '1gbit'})
    check(event['credentials'] == 'refused' and 'server-key.pem' in event['error'], str(event))
    event = change(t, daemon, ['tunnel a'])
    check(event['credentials'] == 'read', 'of one that is gone: %s' % event)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(('127.0.0.1', 0))
        other.listen()
        change(t, daemon, (), 'refused', tunnel__b=tls('b', free_port()),
               tunnel__c=tls('c', other.getsockname()[1]))
    os.unlink(os.path.join(ca.dir, 'b', 'server-key.pem'))
    # As the daemon has it, which is not what the file has now.
    event = change(t, daemon, ['tunnel b', 'tunnel c'], 'unchanged')
    check(event['credentials'] == 'read', 'of one that was refused: %s' % event)


# ---- migrations that run ----


@case('e2e/reload/rates-of-what-runs', needs=NEEDS)
def rates(t):
    """Too slow to end, until the file gives it more; a rate set by hand survives other changes."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '8mbit'}})
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    src.wait_transferred(1 << 20)
    sites.client.json('limit', 'dc2', '6mbit')
    event = change(t, sites.dc1, vm__web1={'weight': 3})
    check(event['changes'] == [{'group': 'vm web1', 'key': 'weight', 'from': '1', 'to': '3'}],
          str(event['changes']))
    check(peers(sites.dc1)['dc2']['rate'] == 750000, 'the rate set by hand: %s' % peers(sites.dc1))
    change(t, sites.dc1, peer__dc2={'rate': '7mbit', 'weight': 5})
    check(peers(sites.dc1)['dc2']['rate'] == 875000, str(peers(sites.dc1)))
    check(peers(sites.dc1)['dc2']['weight'] == 5, str(peers(sites.dc1)))
    sites.dc1.assert_says(r"info: reload: \[peer dc2\] rate: from '8Mbit' to '7Mbit'")
    check(migration.alive(), 'it was over before the reload that matters')
    change(t, sites.dc1, peer__dc2={'rate': 'unlimited'})
    migration.expect_exit(0, timeout=30)
    assert_migrated(t, src, dst)


@case('e2e/reload/everything-removed', needs=NEEDS, timeout=90)
def everything_removed(t):
    """Peer and VM are gone from both files; the link breaks, comes back, and the guest arrives."""
    scene = Scene(t)
    scene.flowing()
    for daemon, peer in ((scene.dc1, 'dc2'), (scene.dc2, 'dc1')):
        event = change(t, daemon, ['peer ' + peer, 'vm web1'],
                       peer__other={'certificate-name': 'other'})
        told = [(c['group'], c.get('from'), c.get('to')) for c in event['changes']]
        check(told == [('peer ' + peer, peer, None), ('peer other', None, 'other'),
                       ('vm web1', 'web1', None)], str(told))
        check(list(peers(daemon)) == ['other'], str(peers(daemon)))
    scene.break_link('cut', DEAD_S)
    scene.assert_arrived()
    # For the next one it is as the files say.
    try:
        scene.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
        raise Failure('dc1 migrates a VM that it does not know any more')
    except QmpError as error:
        check('there is no [vm web1]' in str(error), str(error))


@case('e2e/reload/peer-refused-after-it-was-removed', needs=NEEDS)
def peer_removed(t):
    """A new migration of a peer that the destination has lost is a stranger's."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst)
    change(t, sites.dc2, ['peer dc1'], peer__other={'certificate-name': 'other'})
    code, out, err = sites.client.run('migrate', 'web1', '--to', 'dc2')
    check(code == 1 and 'none of the configured peers' in out + err, '%d: %s' % (code, out + err))
    change(t, sites.dc2, ['peer other'], peer__dc1={'certificate-name': 'dc1'})
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)


@case('e2e/reload/peer-and-vm-added', needs=NEEDS)
def added(t):
    """Both daemons learn of each other, and of the VM, while they run."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    stranger = {'certificate-name': 'nobody'}
    sites = Sites(t, dc1={'peer dc2': stranger}, dc2={'peer dc1': stranger})
    for daemon, peer, qemu in ((sites.dc1, 'dc2', src), (sites.dc2, 'dc1', dst)):
        change(t, daemon, vm__web1={'qmp': 'unix:' + qemu.daemon_qmp},
               **{'peer__' + peer: {'certificate-name': peer}})
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)


@case('e2e/reload/limits', needs=NEEDS)
def limits(t):
    """max-migrations holds for the next one, and not for what runs."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '60mbit'}})
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    src.wait_transferred(2 << 20)
    change(t, sites.dc1, daemon={'max-migrations': 1},
           vm__web2={'qmp': 'unix:' + dst.daemon_qmp + '.not'})
    code, out, err = sites.client.run('migrate', 'web2', '--to', 'dc2')
    check(code == 4 and 'allowed are 1 at once' in out + err, '%d: %s' % (code, out + err))
    change(t, sites.dc1, peer__dc2={'rate': 'unlimited'})
    migration.expect_exit(0, timeout=30)
    assert_migrated(t, src, dst)


# ---- tunnels ----


def migration_in(t, daemon, name, listen, rate=None):
    """A source and a destination with a migration on its way through a tunnel."""
    dst = Qemu.destination(t, 'dst-' + name)
    dst.set_multifd(3)
    keys = {'listen': listen, 'connect': incoming_address(dst, 'unix'), 'channels': 3}
    if rate:
        keys['rate'] = rate
    change(t, daemon, **{'tunnel__' + name: keys})
    src = Qemu.source(t, 'src-' + name)
    src.set_multifd(2, downtime_limit=100)
    src.migrate(listen if listen.startswith('unix') else 'tcp:' + listen)
    return src, dst


@case('e2e/reload/tunnel-{how}/{transport}', needs=['daemon'], table=[
    dict(how='removed', transport='tcp'), dict(how='removed', transport='unix'),
    dict(how='renamed', transport='tcp'), dict(how='renamed', transport='unix'),
    dict(how='changed', transport='unix')])
def tunnel(t, how, transport):
    """What runs through it arrives; then it is as the file says, at the same address or at none."""
    daemon = Daemon(t, 'd', {})
    listen = ('unix:' + daemon.path('in.sock') if transport == 'unix'
              else '127.0.0.1:%d' % free_port())
    src, dst = migration_in(t, daemon, 'a', listen, rate='30mbit')
    src.wait_transferred(2 << 20)
    next_dst = Qemu.destination(t, 'dst-next')
    next_dst.set_multifd(2)
    keys = {'listen': listen, 'connect': incoming_address(next_dst, 'unix'), 'channels': 2,
            'rate': None}
    more = {'removed': {}, 'renamed': {'tunnel__b': keys}, 'changed': {'tunnel__a': keys}}[how]
    change(t, daemon, [] if how == 'changed' else ['tunnel a'], **more)
    if how != 'changed':
        check(listeners(daemon) == {}, 'still takes migrations: %s' % listeners(daemon))
    check(daemon.migrations_active(), 'it was over before the reload')
    daemon.qmp.cmd('set-rate-limit', migration='a', rate='unlimited')
    assert_migrated(t, src, dst)
    if how == 'removed':
        daemon.assert_says('info: tunnel a: not listening at .* any more')
        if transport == 'unix':
            wait_for(lambda: not os.path.exists(daemon.path('in.sock')), 'the socket to go', 5)
        else:
            wait_for(lambda: refuses_connections(listen), 'nobody to listen', 5)
        return
    wait_for(lambda: listeners(daemon), 'the successor to listen', 5)
    again = Qemu.source(t, 'src-next')
    again.set_multifd(2)
    again.migrate(listen if transport == 'unix' else 'tcp:' + listen)
    assert_migrated(t, again, next_dst)
    check(daemon.migrations()[-1]['tunnel'] == ('b' if how == 'renamed' else 'a'), 'its name')


@case('e2e/reload/tunnel-rate', needs=['daemon'])
def tunnel_rate(t):
    """The migration that runs through a tunnel has the rate that its tunnel has now."""
    daemon = Daemon(t, 'd', {})
    src, dst = migration_in(t, daemon, 'a', 'unix:' + daemon.path('in.sock'), rate='8mbit')
    src.wait_transferred(1 << 20)
    change(t, daemon, tunnel__a={'rate': 'unlimited'})
    assert_migrated(t, src, dst, timeout=30)


@case('e2e/reload/tunnel-listens-with-tls', needs=NEEDS)
def tunnel_tls(t):
    """Nobody comes in without TLS any more, at the same address and without a gap."""
    directory = Authority(t).directory('d')
    daemon = Daemon(t, 'd', {'tls': {'directory': directory}})
    listen = '127.0.0.1:%d' % free_port()
    keys = {'listen': listen, 'connect': 'unix:/nowhere'}
    change(t, daemon, tunnel__a=keys)
    change(t, daemon, tunnel__a={**keys, 'listen-tls': 'yes'})
    with socket.create_connection(('127.0.0.1', int(listen.split(':')[1])), 5) as plain:
        plain.sendall(b'QEVM' + bytes(60))
        plain.settimeout(10)
        try:
            check(plain.recv(4096)[:1] != b'Q', 'answers')
        except ConnectionResetError:
            pass
    daemon.assert_says('tunnel a: .*(TLS|tls)')
    check(not daemon.migrations(), 'a migration was begun: %s' % daemon.migrations())


@case('e2e/reload/many-times', needs=['daemon'])
def many(t):
    """Nothing is left of what came and went."""
    daemon = Daemon(t, 'd', {})
    listen = {'listen': 'unix:' + daemon.path('in.sock'), 'connect': 'unix:/nowhere'}
    change(t, daemon, tunnel__a=listen)
    change(t, daemon, ['tunnel a'])
    before = daemon.footprint()
    for n in range(30):
        change(t, daemon, **{'tunnel__a%d' % n: listen})
        check(list(listeners(daemon)) == ['a%d' % n], str(listeners(daemon)))
        change(t, daemon, ['tunnel a%d' % n])
    daemon.assert_footprint(before)
