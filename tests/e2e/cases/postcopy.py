# SPDX-License-Identifier: GPL-2.0-or-later
"""Postcopy: the guest runs at the destination before all of it is there.

Its pages come slowly and the guest is busy, so that it has to ask for some.
"""
from cases.managed import assert_put_back, settings
from harness import Skip, assert_migrated, case, check, wait_for
from harness.certs import Authority, qemu_x509
from harness.compare import compare
from harness.qmp import Qmp, QmpError
from harness.relay import Relay, connect
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']
BUSY = 'mem=48M dirty=24M ws=24M verify=64M stat=0'
# The first pass takes 2 s, and so does what is left for after the switch.
PACE = dict(max_bandwidth=16 << 20, max_postcopy_bandwidth=8 << 20, downtime_limit=10)


def allow(qemu, **capabilities):
    try:
        qemu.capabilities(postcopy_ram=True, **capabilities)
    except QmpError as e:
        if 'serfaultfd' in str(e):
            raise Skip('userfaultfd, for postcopy: %s' % e) from e
        raise


def busy_ends(way, preempt=False, **more):
    """Both QEMUs, with postcopy as the way has multifd."""
    src, dst = way.ends(both=dict(append=BUSY), **more)
    if way.n:
        for qemu in src, dst:
            way.t.need_version((10, 1), qemu, 'multifd and postcopy together')
    for qemu in src, dst:
        allow(qemu, **({'postcopy_preempt': True} if preempt else {}))
    src.parameters(**PACE)
    return src, dst


def switch(src):
    """After the first pass, so that there are pages for both phases.

    In the middle of the first pass 11.1 with multifd loses writes, without us too: the
    destination goes on from an older page.  It begins to count at 2.
    """
    def look():
        m = src.migration()
        check(m['status'] != 'failed', '%s: %s' % (src.name, m))
        return m.get('ram', {}).get('dirty-sync-count', 0) >= 3
    wait_for(look, '%s: the first pass to end' % src.name, 30)
    src.qmp.cmd('migrate-start-postcopy')


def check_asked(way, src):
    m = src.migration()
    requests = m['ram']['postcopy-requests']
    way.t.log('%d page requests, %s bytes after the switch'
              % (requests, m['ram'].get('postcopy-bytes')))
    check(requests > 0, 'the destination asked for no page: nothing was shown')


def move(way, preempt=False):
    src, _ = busy_ends(way, preempt)
    way.begin()
    switch(src)
    result = way.outcome()
    check_asked(way, src)
    return result


@case('e2e/postcopy/plain/{kind}', needs=NEEDS, table=[dict(kind='daemon'), dict(kind='link')])
def plain(t, kind):
    """Without multifd: pages and answers to requests share the main channel."""
    compare(t, way_of(t, kind, n=0, k=0), move)


@case('e2e/postcopy/multifd/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=2, k=3, full=True), dict(kind='link', n=3, k=2, full=True)])
def multifd(t, kind, n, k):
    """From 10.1 on multifd carries the first phase, and then stays open and silent."""
    compare(t, way_of(t, kind, n=n, k=k), move)


@case('e2e/postcopy/preempt/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=0, k=0, full=True), dict(kind='daemon', n=2, k=3, full=True),
    dict(kind='link', n=0, k=0), dict(kind='link', n=2, k=3, full=True)])
def preempt(t, kind, n, k):
    """Answers to page requests have a channel of their own, which says nothing before."""
    if n and t.options.machine.endswith('-7.2'):
        raise Skip('a machine type after 7.2: before it multifd and the preempt channel wait for '
                   'each other at the start')

    def body(way):
        return move(way, preempt=True)
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/postcopy/strangers', needs=['daemon'])
def strangers(t):
    """Silent strangers, and one that says what no source says, before and after the preempt
    channel: it is known by its pages, not by its turn."""
    def visit(way, count, data=b''):
        for _ in range(count):
            s = connect(way.address)
            s.sendall(data)
            t.strangers.append(s)

    def body(way):
        src, _ = busy_ends(way, preempt=True)
        t.strangers = []
        way.open()
        visit(way, 3)
        src.migrate(way.address)
        src.wait_transferred(4 << 20)
        visit(way, 3)
        visit(way, 1, b'GET / HTTP/1.0\r\n\r\n')
        switch(src)
        visit(way, 2)
        result = way.outcome()
        check_asked(way, src)
        for s in t.strangers:
            s.close()
        return result
    way = way_of(t, 'daemon', n=0, k=0)
    t.result(way.legs, '-', body(way))


@case('e2e/postcopy/tls', needs=NEEDS)
def over_tls(t):
    """On both legs.  The preempt channel's handshake is over long before its first byte."""
    directory = Authority(t).directory('party')
    way = way_of(t, 'daemon', n=0, k=0, listen='tcp', connect='tcp')
    src, dst = busy_ends(way, preempt=True, src=dict(extra=qemu_x509(directory, 'client')),
                         dst=dict(extra=qemu_x509(directory, 'server')))
    for qemu in src, dst:
        qemu.parameters(tls_creds='tls0')
    src.parameters(tls_hostname='localhost')
    way.groups = {'tls': {'directory': directory}}
    way.listen_keys = {'listen-tls': 'yes'}
    way.connect_keys = {'tls': 'yes', 'tls-hostname': 'localhost'}
    way.begin()
    switch(src)
    t.result(way.legs, '-', way.outcome())
    check_asked(way, src)


# ---- pause and recovery ----

def wait_paused(way):
    """The guest is in two halves.  The destination's main loop may stand still for want of
    a page: so it is asked out of band, see recover()."""
    way.src.wait_migration('postcopy-paused', timeout=30)
    check(not way.src.running(), 'the source runs the guest again')


class OutOfBand:
    """A second QMP session, for commands that must work while the main loop stands still.

    It has to be there before: not even its negotiation is out of band.
    """

    def __init__(self, qemu):
        self.qmp = Qmp(qemu.daemon_qmp, qemu.name, oob=True)

    def cmd(self, command, **arguments):
        return self.qmp.cmd(command, arguments, oob=True)


def recover(way):
    """As the message of the migration that broke says."""
    def listen_again():
        try:
            way.oob[1].cmd('migrate-recover', uri=way.incoming)
            return True
        except QmpError as e:
            if 'paused' not in str(e):
                raise
            return False
    wait_for(listen_again, 'dst: postcopy to be paused', every=0.1)
    way.src.qmp.cmd('migrate', uri=way.address, resume=True)


def check_told(way):
    """The daemons name both halves and the commands that join them."""
    for daemon in way.daemons:
        broken = wait_for(lambda d=daemon: [m for m in d.migrations() if m['state'] == 'failed'],
                          '%s: a failed migration' % daemon.name)
        text = broken[-1]['error']
        check('two halves' in text and 'migrate-recover' in text and 'resume' in text,
              '%s: says %r' % (daemon.name, text))
        check(text.count('two halves') == 1, '%s: says it more than once: %r' % (daemon.name, text))
        check('says cancelled' in text and 'nothing recovers it' in text, '%s: says %r' % (daemon.name, text))


def broken(preempt, how):
    """A body that breaks off in postcopy, and recovers."""
    def body(way):
        src, dst = busy_ends(way, preempt)
        way.oob = OutOfBand(src), OutOfBand(dst)
        way.incoming = way.incoming_uri()
        begin_through_relay(way)
        switch(src)
        wait_for(lambda: src.migration()['ram']['postcopy-requests'] > 0, 'a page request')
        how(way)
        wait_paused(way)
        check_told(way)
        recover(way)
        return way.outcome()
    return body


def begin_through_relay(way):
    """A network before the destination, which can be cut."""
    way.relay = Relay(way.t, way.incoming, name=way.name('relay'))
    if way.kind == 'direct':
        way.open(way.incoming)
        way.address = way.relay.address
    else:
        way.connect_keys = {'connect': way.relay.address}
        way.open(way.incoming)
    way.src.migrate(way.address)


def cut(way):
    way.relay.cut(reset=True)


def pause_source(way):
    way.oob[0].cmd('migrate-pause')


def pause_destination(way):
    way.oob[1].cmd('migrate-pause')


@case('e2e/postcopy/pause/{kind}-{by}-{channel}', needs=NEEDS, table=[
    dict(kind='daemon', by='cut', channel='main', full=True),
    dict(kind='daemon', by='cut', channel='preempt'),
    dict(kind='link', by='cut', channel='main'),
    dict(kind='daemon', by='source', channel='main', full=True),
    dict(kind='daemon', by='destination', channel='preempt', full=True),
    dict(kind='link', by='source', channel='main'),
    dict(kind='link', by='destination', channel='main', full=True),
])
def paused(t, kind, by, channel):
    """A lost connection or migrate-pause at one end stops both; a new migration joins them."""
    how = {'source': pause_source, 'destination': pause_destination, 'cut': cut}[by]
    compare(t, way_of(t, kind, n=0, k=0), broken(channel == 'preempt', how))


@case('e2e/postcopy/cancelled/{kind}', needs=NEEDS, table=[
    dict(kind='daemon'), dict(kind='link', full=True)])
def cancelled(t, kind):
    """Newer QEMUs refuse it; an older one leaves the guest in two halves, as it does without us."""
    def body(way):
        src, dst = busy_ends(way)
        way.begin()
        switch(src)
        wait_for(lambda: src.migration()['ram']['postcopy-requests'] > 0, 'a page request')
        try:
            src.qmp.cmd('migrate_cancel')
        except QmpError as e:
            check('ostcopy' in str(e), str(e))
            return way.outcome()
        src.wait_migration('cancelled')
        check(not src.running(), 'the guest runs at both ends')
        check_told(way)
        src.kill()
        dst.kill()
        return 'cancelled'
    compare(t, way_of(t, kind, n=0, k=0), body)


# ---- managed ----

def managed_move(start):
    """start(way) makes the switch happen; the guest must run before all of it is there."""
    def body(way):
        way.ends(both=dict(append=BUSY))
        way.begin()
        start(way)
        result = way.outcome()
        check_asked(way, way.src)
        check([m['state'] for m in way.sites.dc2.migrations()] == ['completed'],
              'dc2: %s' % way.sites.dc2.migrations())
        return result
    return body


def start_by_command(way):
    """As soon as something has been sent: it waits by itself until it is time."""
    way.src.wait_transferred(4 << 20)
    way.sites.client.run('start-postcopy', 'web1')


@case('e2e/postcopy/managed/{how}-n{n}-k{k}', needs=NEEDS, table=[
    dict(how='command', n=3, k=2), dict(how='auto', n=2, k=4, full=True)])
def managed(t, how, n, k):
    """With 10.1 and later multifd stays on; with 7.2 on the preempt channel comes by itself."""
    words, start = {'command': (['--postcopy'], start_by_command),
                    'auto': (['--postcopy-auto'], lambda way: None)}[how]
    way = way_of(t, 'managed', n=n, k=k, rate='100Mbit', words=words)
    t.result(way.legs, '-', managed_move(start)(way))


def wait_failed(daemon):
    wait_for(lambda: daemon.migrations() and
             all(m['state'] in ('failed', 'cancelled') for m in daemon.migrations()),
             '%s: its migrations to have failed' % daemon.name)


@case('e2e/postcopy/recover', needs=NEEDS)
def managed_recovery(t):
    """multiferry recover joins the halves, and what the first attempt had set is put back."""
    way = way_of(t, 'managed', n=2, k=2, rate='80Mbit', words=['--postcopy-auto'])
    src, dst = way.ends(both=dict(append=BUSY))
    before = settings(src), settings(dst)
    way.begin()
    wait_for(lambda: src.migration().get('ram', {}).get('postcopy-requests', 0) > 0,
             'a page request', 60)
    dst.wait_running()
    code, _, err = way.sites.client.run('cancel', 'web1')
    check(code != 0 and 'in postcopy' in err, 'cancel in postcopy: status %d: %s' % (code, err))
    src.qmp.cmd('migrate-pause')
    check(way.client.wait_exit(20) != 0, 'the client: says that it has completed')
    src.wait_migration('postcopy-paused', timeout=30)
    for daemon in way.daemons:
        wait_failed(daemon)
    code, _, _ = way.sites.client.run('recover', 'web1', '--to', 'dc2')
    check(code == 0, 'recover: status %d' % code)
    assert_migrated(t, src, dst)
    assert_put_back(src, dst, before)
    t.result(way.legs, '-', 'completed')
