# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock QEMU at the far end: one daemon, QEMU's own TLS on one of its legs.

The other end of the WAN has no daemon there, so the daemon must be to it what
a QEMU would be: the same credentials, names and order of connections.
"""
from harness import Qemu, assert_migrated, assert_stayed, case
from harness.certs import Authority, psk_directory, qemu_psk, qemu_x509
from harness.daemon import Daemon, free_port

FAR = 'far.example.net'
CLIENT_SETTINGS = dict(max_bandwidth=48 << 20, downtime_limit=100)


def far_end(t, creds, k, **more):
    """A destination QEMU that takes TLS only; returns it and its address."""
    dst = Qemu.destination(t, extra=creds)
    dst.set_multifd(k, tls_creds='tls0', **more)
    return dst, dst.listen()


def near_daemon(t, connect, k, directory, **keys):
    """A tunnel from a unix socket to QEMU's TLS; returns it and the socket."""
    listen = 'unix:' + Daemon.path_of(t, 'tunnel', 'in.sock')
    keys = {'listen': listen, 'connect': connect, 'channels': max(k, 1), 'tls': 'yes',
            'tls-directory': directory, **{n.replace('_', '-'): v for n, v in keys.items()}}
    return Daemon(t, 'tunnel', {'timeouts': {'handshake': '3s'}, 'tunnel far': keys}), listen


def migrate(t, listen, n):
    src = Qemu.source(t)
    src.set_multifd(n, **CLIENT_SETTINGS)
    src.migrate(listen)
    return src


@case('e2e/native/{kind}/n{n}-k{k}', needs=['daemon', 'certtool'], table=[
    dict(kind='x509', n=2, k=1), dict(kind='x509', n=1, k=4), dict(kind='x509', n=5, k=8),
    dict(kind='x509', n=0, k=0), dict(kind='psk', n=3, k=4), dict(kind='psk', n=4, k=1),
])
def far_tls(t, kind, n, k):
    if kind == 'x509':
        ca = Authority(t)
        creds, ours, more = qemu_x509(ca.directory('far'), 'server'), ca.directory('near'), {}
    else:
        ours = psk_directory(t, 'both')
        creds, more = qemu_psk(ours, 'server'), {'tls-psk': 'yes'}
    dst, address = far_end(t, creds, k)
    daemon, listen = near_daemon(t, address, k, ours, **more)
    before = daemon.footprint()
    assert_migrated(t, migrate(t, listen, n), dst)
    daemon.assert_footprint(before)


@case('e2e/native/tls-hostname', needs=['daemon', 'certtool'])
def hostname(t):
    """Connected by an address that the certificate does not have."""
    ca = Authority(t)
    dst, address = far_end(t, qemu_x509(ca.directory('far', hostnames=[FAR]), 'server'), 2)
    _, listen = near_daemon(t, address, 2, ca.directory('near'), tls_hostname=FAR)
    assert_migrated(t, migrate(t, listen, 3), dst)


@case('e2e/native/refused-{why}', needs=['daemon', 'certtool'], table=[
    dict(why='wrong-name', says='(?i:name|hostname)'),
    dict(why='wrong-hostname-given', says='other.example.net'),
    dict(why='other-ca', says='(?i:certificate)'),
    dict(why='no-client-certificate', says='client-cert.pem'),
    dict(why='expired', says='expired'),
    dict(why='wrong-psk', says='(?i:alert|mac|decrypt|psk|closed)'),
    dict(why='no-tls-there', says='(?i:tls|closed)'),
])
def refused(t, why, says):
    """Whom the credentials do not fit gets not one byte of the guest."""
    ca, keys, more = Authority(t), {}, ''
    far, near = ca.directory('far', hostnames=[FAR] if why == 'wrong-name' else None), None
    if why == 'wrong-hostname-given':
        keys['tls_hostname'] = says
    elif why == 'other-ca':
        near = Authority(t, 'other').directory('near')
    elif why == 'no-client-certificate':
        near = ca.directory('near', roles=('server',))
    elif why == 'expired':
        from datetime import timedelta
        far, more = ca.directory('old', valid=-timedelta(days=1)), ',sanity-check=off'
    elif why == 'wrong-psk':
        near, keys['tls_psk'] = psk_directory(t, 'near'), 'yes'
    creds = qemu_x509(far, 'server')
    if why == 'wrong-psk':
        creds = qemu_psk(psk_directory(t, 'far'), 'server')
    creds[1] += more
    if why == 'no-tls-there':
        dst = Qemu.destination(t)
        dst.set_multifd(2)
        address = dst.listen()
    else:
        dst, address = far_end(t, creds, 2)
    daemon, listen = near_daemon(t, address, 2, near or ca.directory('near'), **keys)
    dst.may_be_dead = True
    assert_stayed(t, migrate(t, listen, 2), dst)
    daemon.assert_says('(error|warning): .*(%s)' % says)


@case('e2e/native/far-source-{kind}', needs=['daemon', 'certtool'], table=[
    dict(kind='x509'), dict(kind='psk')])
def far_source(t, kind):
    """One daemon at the destination: the source QEMU speaks TLS to it."""
    dst = Qemu.destination(t)
    dst.set_multifd(5)
    keys = {'listen': 'tcp:127.0.0.1:%d' % free_port(), 'channels': 5, 'listen-tls': 'yes',
            'connect': dst.listen('unix:%s/incoming.sock' % dst.dir)}
    if kind == 'x509':
        ca = Authority(t)
        groups = {'tls': {'directory': ca.directory('near')}}
        creds = qemu_x509(ca.directory('far'), 'client')
    else:
        both = psk_directory(t, 'both')
        groups, creds = {}, qemu_psk(both, 'client')
        keys.update({'tls-psk': 'yes', 'tls-directory': both})
    daemon = Daemon(t, 'tunnel', {**groups, 'tunnel near': keys})
    before = daemon.footprint()
    src = Qemu.source(t, extra=creds)
    src.set_multifd(2, tls_creds='tls0', tls_hostname='localhost', **CLIENT_SETTINGS)
    src.migrate(keys['listen'])
    assert_migrated(t, src, dst)
    daemon.assert_footprint(before)


@case('e2e/native/far-source-without-certificate', needs=['daemon', 'certtool'])
def far_source_stranger(t):
    """A source of another CA is not let in, and hears so."""
    dst = Qemu.destination(t)
    dst.set_multifd(2)
    listen = 'tcp:127.0.0.1:%d' % free_port()
    daemon = Daemon(t, 'tunnel', {
        'tls': {'directory': Authority(t).directory('near')},
        'tunnel near': {'listen': listen, 'channels': 2, 'listen-tls': 'yes',
                        'connect': dst.listen('unix:%s/incoming.sock' % dst.dir)}})
    src = Qemu.source(t, extra=qemu_x509(Authority(t, 'other').directory('far'), 'client'))
    src.set_multifd(2, tls_creds='tls0', tls_hostname='localhost')
    src.migrate(listen)
    assert_stayed(t, src, dst)
    daemon.assert_says('warning: .*(?i:tls|certificate)')
