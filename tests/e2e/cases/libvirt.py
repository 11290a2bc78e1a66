# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/howto-libvirt.md, done as it stands: virsh between two hosts, through tunnels.

See harness/libvirt.py for what stands in for the hosts.
"""
import signal

from harness import case, check, wait_for
from harness.libvirt import Hosts
from harness.process import Process

NEEDS = ['daemon']
# What the page says may be left out.
ONE_CONNECTION = (('--parallel', 0), ('--parallel-connections', 1))
WAYS = {'parallel': (), 'one-connection': ONE_CONNECTION}
TITLES = {'tcp': 'Migrate', 'unix': 'Unix sockets', 'tls': "QEMU's own TLS"}


def assert_carried(hosts, *expected):
    """Through the tunnel, and not by some other way: both daemons say so."""
    for name, daemon in hosts.daemons.items():
        def states():
            return [m['state'] for m in daemon.migrations()]
        wait_for(lambda: sorted(states()) == sorted(expected),
                 lambda: '%s: got migrations %s, expected %s' % (name, states(), expected), 5)
        check('no return path' not in daemon.log_text(), name + ': no return path')


@case('e2e/libvirt/{section}-{way}', needs=NEEDS, table=[
    dict(section=s, way=w) for s in TITLES for w in WAYS])
def migrate(t, section, way):
    hosts = Hosts(t, TITLES[section])
    hosts.virsh(TITLES[section], without=WAYS[way])
    hosts.assert_moved()
    assert_carried(hosts, 'completed')


@case('e2e/libvirt/peer-to-peer', needs=NEEDS)
def peer_to_peer(t):
    """The two libvirtd talk to each other, and virsh only looks on."""
    hosts = Hosts(t, 'Migrate')
    hosts.virsh('Migrate', more=['--p2p'])
    hosts.assert_moved()
    assert_carried(hosts, 'completed')


@case('e2e/libvirt/there-and-back', needs=NEEDS)
def there_and_back(t):
    hosts = Hosts(t, 'Migrate')
    hosts.virsh('Migrate')
    hosts.assert_moved()
    hosts.virsh('Migrate', 1)
    check(hosts.kvm2.domains() == [], 'kvm2 still has the guest')
    hosts.kvm1.guest.verify()
    assert_carried(hosts, 'completed', 'completed')


@case('e2e/libvirt/post-copy', needs=NEEDS)
def post_copy(t):
    # The page's sysctl is the whole machine's, so here QEMU is root instead.  The guest
    # is a busy one, lest the second pass be the last.
    hosts = Hosts(t, 'Post-copy', qemu_conf='user = "root"\n', dirty='24M')
    events = Process(t, 'events', hosts.kvm1.inside('virsh', 'event', '--loop', '--event',
                                                    'lifecycle', pid=False))
    hosts.virsh('Post-copy', more=['--bandwidth', '16'])
    events.kill(signal.SIGINT)
    events.wait_exit()
    check('Suspended Post-copy' in events.log_text(), 'it was no post-copy: ' + events.log_text())
    hosts.assert_moved()
    assert_carried(hosts, 'completed')


@case('e2e/libvirt/abort-{way}', needs=NEEDS, table=[dict(way=w) for w in WAYS])
def abort(t, way):
    """Stopped in the middle, and done again at once."""
    hosts = Hosts(t, 'Migrate')
    virsh = hosts.virsh_started('Migrate', more=['--bandwidth', '4'], without=WAYS[way])
    wait_for(lambda: hosts.kvm1.sent() > 4 << 20, 'kvm1: 4 MiB to leave', 30)
    hosts.virsh('Stop it')
    virsh.expect_exit(1, timeout=20)
    check('canceled' in virsh.log_text(), 'virsh says: %s' % virsh.log_text())
    hosts.assert_stayed()
    hosts.virsh('Migrate', without=WAYS[way])
    hosts.assert_moved()
    assert_carried(hosts, 'failed', 'completed')


TUNNEL = 'tunnel libvirt-to-kvm2'
TLS = TITLES['tls']


@case('e2e/libvirt/says/{mistake}', needs=NEEDS, table=[
    dict(mistake='no-daemon-here', why='no daemon listens there', down='kvm1'),
    dict(mistake='no-daemon-there', why='the other daemon does not run', down='kvm2'),
    dict(mistake='another-port', why='listens elsewhere', changes={
        ('kvm2', TUNNEL, 'connect'): 'tcp:127.0.0.1:49309'}),
    dict(mistake='no-listen-tls', why='a tunnel without `listen-tls`', section=TLS, changes={
        ('kvm1', TUNNEL, key): None
        for key in ('listen-tls', 'listen-tls-client', 'tls-directory')}),
    dict(mistake='no-tls', why='a tunnel with `listen-tls`', setup=TLS),
    dict(mistake='no-tls-destination', why='`--tls-destination` is missing', section=TLS,
         without=(('--tls-destination', 1),)),
])
def says(t, mistake, why, section='Migrate', setup=None, changes=None, without=(), down=None):
    """What an operator does wrong is in the page's table, in the words that he sees."""
    hosts = Hosts(t, setup or section, changes=changes)
    if down:
        hosts.daemons[down].terminate()
    hosts.assert_page_knows(why, hosts.virsh_failing(section, without=without))
    hosts.assert_stayed()


@case('e2e/libvirt/says/busy', needs=NEEDS)
def busy(t):
    """A second guest is refused, and the first does not notice."""
    hosts = Hosts(t, 'Migrate')
    hosts.kvm1.create('web2')
    virsh = hosts.virsh_started('Migrate', more=['--bandwidth', '8'])
    wait_for(lambda: hosts.kvm1.sent() > 2 << 20, 'kvm1: 2 MiB to leave', 30)
    said = hosts.virsh_failing('Migrate', vm='web2')
    hosts.assert_page_knows('another guest is on its way', said)
    hosts.kvm1.check_run('virsh', 'destroy', 'web2')
    virsh.expect_exit(0, timeout=60)
    hosts.assert_moved()
    assert_carried(hosts, 'completed')
