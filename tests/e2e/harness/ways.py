# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways from a source QEMU to a destination QEMU, that a case body need not tell apart.

    def body(way):
        src, dst = way.ends()
        for qemu in src, dst:
            qemu.capabilities(validate_uuid=True)
        way.begin()
        return way.outcome()

    compare(t, way_of(t, 'link', n=2, k=5), body)
"""
from .case import Failure
from .checks import assert_migrated, assert_stayed
from .compare import outcome
from .daemon import Daemon, free_port
from .qemu import Qemu
from .relay import Relay
from .sites import Sites, merged

FINAL = ('completed', 'failed', 'cancelled')
# Slow enough for several rounds of dirty pages, so that epochs matter.
PACE = dict(max_bandwidth=48 << 20, downtime_limit=100)


class Way:
    """n channels leave the source, k reach the destination; 0 and 0: without multifd.

    listen and connect say how the legs are made: 'unix' or 'tcp'.  The dicts
    listen_keys and connect_keys are for [tunnel] at either end, groups for the
    rest of the configuration, args for the daemons' command lines; relay_at puts a
    relay into a leg, 'listen' or 'connect'.  They count from begin() on.
    """
    kind = 'direct'
    w = None

    def __init__(self, t, n, k, listen='unix', connect='unix'):
        self.t, self.n, self.k = t, n, k
        self.transports = listen, connect
        self.listen_keys, self.connect_keys, self.groups = {}, {}, {}
        self.args, self.relay_at, self.relay = (), None, None
        self.nobody_listens = False
        self.src = self.dst = self.address = None
        self.daemons = []

    @property
    def legs(self):
        middle = '→%d→' % self.w if self.w else '→'
        return '%d%s%d' % (self.n, middle, self.k)

    def directly(self):
        """The same without us: as many channels at both ends."""
        way = Way(self.t, self.n, self.n, *self.transports)
        way.relay_at, way.nobody_listens = self.relay_at, self.nobody_listens
        return way

    def name(self, actor):
        """Actors of the two runs live side by side in the case's directory."""
        return actor + ('-direct' if self.kind == 'direct' else '')

    # ---- the two QEMUs ----

    def ends(self, both=(), src=(), dst=()):
        """Both QEMUs, with multifd as the way has it; both, src, dst: more for Qemu()."""
        self.dst = Qemu.destination(self.t, self.name('dst'), **{**dict(both), **dict(dst)})
        self.dst.set_multifd(self.k)
        self.src = Qemu.source(self.t, self.name('src'), **{**dict(both), **dict(src)})
        self.src.set_multifd(self.n, **PACE)
        return self.src, self.dst

    def begin(self, uri=None, migrate=None):
        """The destination listens (at uri), and the source migrates to it.

        migrate(uri) does so in another way than by the command's uri.  With
        .nobody_listens the destination does not.
        """
        self.open(uri)
        (migrate or self.src.migrate)(self.address)

    def open(self, uri=None):
        """All of begin() but the command to the source; .address is where it shall go."""
        self.address = ('tcp:127.0.0.1:%d' % free_port() if self.nobody_listens
                        else self.dst.listen(uri or self.incoming_uri()))
        if self.relay_at == 'connect' or self.relay_at and self.kind == 'direct':
            self.put_relay()

    def put_relay(self):
        self.relay = Relay(self.t, self.address, name=self.name('relay'))
        self.address = self.relay.address

    def incoming_uri(self):
        return ('unix:%s/incoming.sock' % self.dst.dir if self.transports[1] == 'unix'
                else 'tcp:127.0.0.1:0')

    def outcome(self, timeout=60, ram=False):
        """Wait for the end and judge it whole: the guest runs where it should, unharmed."""
        m = self.src.wait_migration(*FINAL, timeout=timeout)
        self.t.log('source: %s: %s' % (m['status'], m.get('error-desc')))
        if m['status'] == 'completed':
            assert_migrated(self.t, self.src, self.dst, ram=ram)
        else:
            self.dst.may_be_dead = True
            assert_stayed(self.t, self.src, self.dst)
        return outcome(m)

    def close(self):
        """This run is over; its processes make room for the next."""
        for actor in [self.src, self.dst, *self.daemons]:
            if actor:
                actor.finish()


class OneDaemon(Way):
    """One daemon, QEMU's own wire on both of its legs."""
    kind = 'daemon'

    def open(self, uri=None):
        super().open(uri)
        self.start_daemons(self.address)
        if self.relay_at == 'listen':
            self.put_relay()

    def start_daemons(self, target):
        self.daemons = [Daemon(self.t, 'tunnel', merged(self.groups, {'tunnel web': {
            'connect': target, 'channels': self.k, 'listen': self.listen_at('tunnel'),
            **self.listen_keys, **self.connect_keys}}), self.args)]

    def listen_at(self, daemon):
        """The source's address from now on: that of this daemon."""
        self.address = self.listen_keys.get('listen') or (
            'unix:' + Daemon.path_of(self.t, daemon, 'in.sock')
            if self.transports[0] == 'unix' else 'tcp:127.0.0.1:%d' % free_port())
        return self.address


class OverLink(OneDaemon):
    """A tunnel between two daemons, over a link of w lanes."""
    kind = 'link'

    def __init__(self, t, n, k, listen='unix', connect='unix', w=4, tls='x509'):
        super().__init__(t, n, k, listen, connect)
        self.w, self.tls = w, tls

    def start_daemons(self, target):
        far = {'peer': 'dc1', 'connect': target, 'channels': self.k, **self.connect_keys}
        near = {'peer': 'dc2', 'listen': self.listen_at('dc1'), **self.listen_keys}
        sites = Sites(self.t, lanes=self.w, tls=self.tls, args=self.args,
                      dc1=merged(self.groups, {'tunnel web': near}),
                      dc2=merged(self.groups, {'tunnel web': far}))
        self.daemons = [sites.dc1, sites.dc2]


class Managed(Way):
    """multiferry migrate; the daemons tell the QEMUs what to do."""
    kind = 'managed'

    def __init__(self, t, n, k, w=4, tls='x509', rate=None, words=()):
        super().__init__(t, n, k)
        self.w, self.tls, self.rate, self.words = w, tls, rate, words
        self.peer_keys = {}         # at the source's end, with a rate
        self.sites = self.client = None

    def ends(self, both=(), src=(), dst=()):
        self.dst = Qemu.destination(self.t, 'dst', **{**dict(both), **dict(dst)})
        self.src = Qemu.source(self.t, 'src', **{**dict(both), **dict(src)})
        return self.src, self.dst

    def begin(self, uri=None, migrate=None):
        if uri or migrate:
            raise Failure('a managed migration is begun in one way')
        dc1 = {'peer dc2': {'rate': self.rate, **self.peer_keys}} if self.rate else {}
        self.sites = Sites(self.t, self.src, self.dst, tls=self.tls, args=self.args,
                           lanes=self.w, dc1=merged(self.groups, dc1),
                           dc2=self.groups)
        self.daemons = [self.sites.dc1, self.sites.dc2]
        self.client = self.sites.client.start(
            'migrate', 'web1', '--to', 'dc2', '--channels', self.n, '--lanes', self.w,
            '--destination-channels', self.k, *self.words)
        self.client.may_be_dead = True

    def outcome(self, timeout=60, ram=False):
        result = super().outcome(timeout, ram)
        code = self.client.wait_exit(20)
        if (code == 0) != (result == 'completed'):
            raise Failure('the client ended with %d, the migration is %s' % (code, result))
        return result


WAYS = {'daemon': OneDaemon, 'link': OverLink, 'managed': Managed}


def way_of(t, kind, **more):
    return WAYS[kind](t, **more)
