# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS on the QEMU legs: what QEMU's own tests ask of two QEMUs, asked of us on either leg.

On the source's leg the source QEMU's client meets our server, on the destination's our
client meets the destination QEMU's server.  The names are those of QEMU's
tests/qtest/migration/tls-tests.c.
"""
import re

from harness import case, check, wait_for
from harness.certs import Authority, psk_directory, qemu_psk, qemu_x509
from harness.compare import compare
from harness.qemu import machine_types
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']
FAR = 'far.example.net'
LOST = 'the source itself speaks no TLS'
ALERT = 'we say why with an alert, a QEMU closes; whether the source reads it first is chance'


class Credentials:
    """What server and client have; each party is a directory for QEMU or for us."""

    def __init__(self, t, name):
        self.psk = name.startswith('psk/')
        self.hostname = self.allowed = None
        self.verify, self.client_has = True, 'client'
        if self.psk:
            self.server = psk_directory(t, 'server')
            self.client = psk_directory(t, 'client') if name == 'psk/mismatch' else self.server
            return
        ca, host = Authority(t), None
        if name in ('x509/override-host', 'x509/mismatch-host'):
            host = [FAR]
        self.hostname = FAR if name == 'x509/override-host' else None
        if name in ('x509/friendly-client', 'x509/hostile-client'):
            self.allowed = name.split('/')[1].replace('hostile', 'friendly')
        self.verify = name != 'x509/allow-anon-client'
        roles = ('server',) if name.endswith('-anon-client') else ('server', 'client')
        self.server = ca.directory('server', hostnames=host)
        self.client = ca.directory(name.split('/')[1], roles=roles)

    # ---- as QEMU has it ----

    def server_options(self):
        if self.psk:
            return qemu_psk(self.server, 'server')
        more = ['-object', 'authz-simple,id=authz0,identity=CN=' + self.allowed] \
            if self.allowed else []
        return more + qemu_x509(self.server, 'server', verify=self.verify)

    def client_options(self):
        return (qemu_psk if self.psk else qemu_x509)(self.client, 'client')

    def set_server(self, qemu):
        qemu.parameters(tls_creds='tls0', **({'tls_authz': 'authz0'} if self.allowed else {}))

    def set_client(self, qemu):
        qemu.parameters(tls_creds='tls0', **({'tls_hostname': self.hostname}
                                             if self.hostname else {}))

    # ---- as we have it ----

    def listen_keys(self):
        keys = {'listen-tls': 'yes', 'tls-directory': self.server}
        if self.allowed:
            keys['listen-tls-client'] = self.allowed
        if not self.verify:
            keys['listen-tls-verify-client'] = 'no'
        return self.with_psk(keys)

    def connect_keys(self):
        keys = {'tls': 'yes', 'tls-directory': self.client}
        if self.hostname:
            keys['tls-hostname'] = self.hostname
        return self.with_psk(keys)

    def with_psk(self, keys):
        return {**keys, 'tls-psk': 'yes'} if self.psk else keys


def legs_with_tls(way, credentials, leg):
    """The two QEMUs, and TLS between the source QEMU and us, or us and the destination."""
    direct = way.kind == 'direct'
    at_source, at_destination = direct or leg == 'source', direct or leg == 'destination'
    src, dst = way.ends(src={'extra': credentials.client_options()} if at_source else {},
                        dst={'extra': credentials.server_options()} if at_destination else {})
    if at_source:
        credentials.set_client(src)
    if at_destination:
        credentials.set_server(dst)
    if leg == 'source':
        way.listen_keys.update(credentials.listen_keys())
    else:
        way.connect_keys.update(credentials.connect_keys())
    way.groups['timeouts'] = {'handshake': '3s'}
    return src, dst


GOOD = ('psk/match', 'x509/default-host', 'x509/override-host', 'x509/friendly-client',
        'x509/allow-anon-client')
BAD = ('psk/mismatch', 'x509/mismatch-host', 'x509/hostile-client', 'x509/reject-anon-client')
# In TLS 1.3 a client is done before the server has looked at its certificate.
JUDGED_LATE = ('x509/hostile-client', 'x509/reject-anon-client')
# The others are in native.py, without a comparison.
ESSENTIAL = {('source', n) for n in GOOD + BAD} | {
    ('destination', n) for n in ('x509/friendly-client', 'x509/hostile-client',
                                 'x509/allow-anon-client', 'psk/mismatch')}


@case('e2e/tls/{leg}/{name}/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(leg=leg, name=name, kind='daemon', n=2, k=3, full=(leg, name) not in ESSENTIAL)
    for leg in ('source', 'destination') for name in GOOD + BAD] + [
    dict(leg=leg, name=name, kind=kind, n=n, k=k, full=True)
    for leg, name, kind, n, k in (
        ('source', 'psk/match', 'daemon', 0, 0), ('destination', 'psk/match', 'daemon', 0, 0),
        ('source', 'psk/mismatch', 'link', 2, 3), ('destination', 'psk/mismatch', 'link', 2, 3),
        ('source', 'x509/default-host', 'link', 3, 2),
        ('destination', 'x509/default-host', 'link', 3, 2),
        ('source', 'x509/reject-anon-client', 'daemon', 0, 0),
        ('destination', 'x509/mismatch-host', 'link', 0, 0))])
def names(t, leg, name, kind, n, k):
    credentials = Credentials(t, name)

    def body(way):
        src, _ = legs_with_tls(way, credentials, leg)
        # 7.2 may abort (seen once) when main ends while its channels still shake hands.
        src.may_be_dead = src.version < (8, 0) and name in JUDGED_LATE
        way.begin()
        return way.outcome()
    way = way_of(t, kind, n=n, k=k, listen='tcp', connect='tcp')
    unlike = LOST if leg == 'destination' else ALERT if name in JUDGED_LATE else None
    got = compare(t, way, body, unlike=unlike)
    check((got == 'completed') == (name in GOOD), '%s: %s' % (name, got))


@case('e2e/tls/{leg}/anonymous-credentials', needs=NEEDS, table=[
    dict(leg='source'), dict(leg='destination', full=True)])
def anonymous_credentials(t, leg):
    """QEMU's tls-creds-anon proves nothing to anybody: refused, and the log says so."""
    ca, anon = Authority(t), ['-object', 'tls-creds-anon,id=tls0,endpoint=']
    anon[1] += 'client' if leg == 'source' else 'server'
    way = way_of(t, 'daemon', n=2, k=2, listen='tcp', connect='tcp')
    src, dst = way.ends(**{'src' if leg == 'source' else 'dst': {'extra': anon}})
    (src if leg == 'source' else dst).parameters(tls_creds='tls0')
    keys = way.listen_keys if leg == 'source' else way.connect_keys
    keys.update({'listen-tls' if leg == 'source' else 'tls': 'yes',
                 'tls-directory': ca.directory('near')})
    way.begin()
    t.result(way.legs, '-', way.outcome())
    # A QEMU that refuses us gives no reason.
    way.daemons[0].assert_says('warning: .*tls-creds-anon' if leg == 'source' else
                               'error: .*TLS handshake: the peer closed')


@case('e2e/tls/termination/{machine}/{kind}-n{n}-k{k}', needs=NEEDS, full=True, table=[
    dict(machine='7.2', kind='daemon', n=2, k=3), dict(machine='newest', kind='daemon', n=3, k=2),
    dict(machine='newest', kind='link', n=2, k=5), dict(machine='newest', kind='daemon', n=0, k=0)])
def termination(t, machine, kind, n, k):
    """QEMU from 10.0 on, with a machine type of that age, demands close_notify on every channel."""
    both = psk_directory(t, 'both')

    def body(way):
        more = {} if machine == '7.2' else {'machine': newest_machine(t)}
        src, dst = way.ends(src={'extra': qemu_psk(both, 'client'), **more},
                            dst={'extra': qemu_psk(both, 'server'), **more})
        for qemu in src, dst:
            qemu.parameters(tls_creds='tls0')
        keys = {'tls-directory': both, 'tls-psk': 'yes'}
        way.listen_keys.update({'listen-tls': 'yes', **keys})
        way.connect_keys.update({'tls': 'yes', **keys})
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k, listen='tcp', connect='tcp'), body)


def newest_machine(t):
    """The newest machine type that both QEMUs have."""
    def versions(version):
        return {m for m in machine_types(version) if m.startswith('pc-i440fx-')}
    common = versions(t.options.qemu_src) & versions(t.options.qemu_dst)
    return max(common, key=lambda m: [int(n) for n in m.split('-')[2].split('.')])


@case('e2e/tls/cut-in-mid-stream/{leg}', needs=NEEDS, table=[
    dict(leg='source'), dict(leg='destination')])
def cut(t, leg):
    """FIN and no close_notify in the middle of a record: that is no end of a migration."""
    both = psk_directory(t, 'both')

    def body(way):
        direct = way.kind == 'direct'
        src, dst = way.ends(
            src={'extra': qemu_psk(both, 'client')} if direct or leg == 'source' else {},
            dst={'extra': qemu_psk(both, 'server')} if direct or leg == 'destination' else {})
        src.parameters(max_bandwidth=8 << 20)
        if direct or leg == 'source':
            src.parameters(tls_creds='tls0')
        if direct or leg == 'destination':
            dst.parameters(tls_creds='tls0')
        keys = {'tls-directory': both, 'tls-psk': 'yes'}
        if leg == 'source':
            way.listen_keys.update({'listen-tls': 'yes', **keys})
        else:
            way.connect_keys.update({'tls': 'yes', **keys})
        way.begin()
        src.wait_transferred(4 << 20)
        way.relay.cut()
        return way.outcome()
    way = way_of(t, 'daemon', n=2, k=3, listen='tcp', connect='tcp')
    way.relay_at = 'connect' if leg == 'destination' else 'listen'
    compare(t, way, body)


REKEYED = r'new TLS keys after'


@case('e2e/tls/new-keys/{tls}', needs=NEEDS, table=[dict(tls='x509'), dict(tls='psk', full=True)])
def new_keys(t, tls):
    """The lanes change keys again and again; without multifd, both ways of main are busy."""
    way = way_of(t, 'link', n=0, k=0, w=2, tls=tls)
    src, dst = way.ends()
    src.parameters(max_bandwidth=16 << 20)
    way.groups = {'tls': {'rekey': '4K'}}
    way.args = ['--debug']
    way.begin()
    wait_for(lambda: all(len(re.findall(REKEYED, d.log_text())) >= 3 for d in way.daemons),
             'three changes of keys at both ends', 20)
    check(src.migration()['status'] == 'active', 'the migration was over before')
    src.parameters(max_bandwidth=1 << 30)
    t.result(way.legs, '-', way.outcome())
    check(t.results[-1]['through'] == 'completed', 'it failed')
