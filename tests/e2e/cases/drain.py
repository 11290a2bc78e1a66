# SPDX-License-Identifier: GPL-2.0-or-later
"""How a daemon ends while migrations run: it waits, up to a limit, then cancels."""
import os
import signal

from harness import Qemu, assert_migrated, assert_runs_at, case, check, wait_for
from harness.daemon import Daemon, free_port
from harness.qmp import QmpError
from harness.raw import RawDest, RawSource
from harness.sites import Sites
from harness.stream import Capture

NEEDS = ['daemon', 'certtool']


def running(t, drain, rate='40mbit', at='dc1'):
    """A migration under way, slow enough to be there when the daemon is told to end."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, **{
        'dc1': {'peer dc2': {'rate': rate}, 'timeouts': {'drain': drain} if at == 'dc1' else {}},
        'dc2': {'timeouts': {'drain': drain} if at == 'dc2' else {}}})
    sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
    src.wait_transferred(2 << 20)
    return src, dst, sites


def said(daemon, beginning):
    return [word for word in daemon.notify.said if word.startswith(beginning)]


def assert_drains(daemon):
    """Of what it says to systemd and to clients, and that it refuses a new migration."""
    wait_for(lambda: said(daemon, 'STATUS=draining: 1 migrations running'), 'STATUS=draining', 5)
    check('STOPPING=1' in daemon.notify.said, 'no STOPPING=1: %s' % daemon.notify.said)
    patience = [int(w.split('=')[1]) for w in said(daemon, 'EXTEND_TIMEOUT_USEC=')]
    check(patience and min(patience) > 2000000, 'EXTEND_TIMEOUT_USEC: %s' % patience)
    status = daemon.qmp.cmd('query-status')
    check(status['draining'] is True and status['migrations'] == 1, 'query-status: %s' % status)


@case('e2e/drain/{how}-waits-at-{at}', needs=NEEDS, table=[
    dict(how='sigterm', at='dc1'), dict(how='quit', at='dc1'), dict(how='sigterm', at='dc2')])
def waits(t, how, at):
    """A migration that is nearly over is not thrown away."""
    src, dst, sites = running(t, '1h', at=at)
    daemon = sites.daemons[at]
    check(not daemon.qmp.cmd('query-status')['draining'], 'drains before it was told to')
    if how == 'quit':
        daemon.qmp.cmd('quit')
    else:
        os.kill(daemon.pid, signal.SIGTERM)
    assert_drains(daemon)
    extended = len(said(daemon, 'EXTEND_TIMEOUT_USEC='))
    wait_for(lambda: len(said(daemon, 'EXTEND_TIMEOUT_USEC=')) > extended,
             'another EXTEND_TIMEOUT_USEC', 5)
    os.kill(daemon.pid, signal.SIGHUP)      # no READY=1 behind STOPPING=1
    daemon.assert_says('reload: not any more')
    sites.client.json('limit', 'dc2', 'unlimited')
    assert_migrated(t, src, dst)
    daemon.expect_exit(0, timeout=10)
    check(not daemon.left_sockets(), 'left %s' % daemon.left_sockets())
    check('READY=1' not in daemon.notify.said[daemon.notify.said.index('STOPPING=1'):],
          'ready behind its end: %s' % daemon.notify.said)


@case('e2e/drain/source-lingers', needs=['daemon'])
def source_lingers(t):
    """A source that has been told, and does not close, is not waited for when we are to end."""
    capture = Capture(t.options.tree, 'qemu100-none-2ch')
    dest = RawDest(t, capture)
    listen = 'tcp:127.0.0.1:%d' % free_port()
    daemon = Daemon(t, 'tunnel', {'tunnel web': {'listen': listen, 'connect': dest.address}})
    source = RawSource(t, listen, capture)
    source.wait_shut()
    check(daemon.migrations_active(), 'it is over already: nothing was shown')
    daemon.terminate()
    check(': completed' in daemon.log_text(), 'the log has no end of it: %s' % daemon.log_text())


@case('e2e/drain/takes-nothing-new', needs=NEEDS)
def nothing_new(t):
    """The second VM stays where it is; the message says why."""
    src, dst, sites = running(t, '1h')
    sites.dc1.qmp.cmd('quit')
    assert_drains(sites.dc1)
    try:
        sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
        check(False, 'a new migration was taken')
    except QmpError as e:
        check('the daemon is stopping' in e.desc, e.desc)
    sites.client.json('limit', 'dc2', 'unlimited')
    assert_migrated(t, src, dst)
    sites.dc1.expect_exit(0, timeout=10)


@case('e2e/drain/{end}-cancels', needs=NEEDS, table=[
    dict(end='limit', drain='1s'), dict(end='second-sigterm', drain='1h'),
    dict(end='quit-now', drain='1h'), dict(end='never', drain='never')])
def cancels(t, end, drain):
    """What is not over in time is cancelled as always: the guest stays at its source."""
    src, dst, sites = running(t, drain, rate='5mbit')
    dst.may_be_dead = True
    daemon = sites.dc1
    if end == 'quit-now':
        sites.client.json('quit', '--now')
    else:
        os.kill(daemon.pid, signal.SIGTERM)
    if end == 'second-sigterm':
        assert_drains(daemon)
        os.kill(daemon.pid, signal.SIGTERM)
    daemon.expect_exit(0, timeout=10)
    daemon.assert_says('warning: stopping: cancelling the 1 migrations that run')
    check(not daemon.left_sockets(), 'left %s' % daemon.left_sockets())
    src.wait_migration('cancelled', 'failed', timeout=5)
    assert_runs_at(src, dst)
    wait_for(lambda: not sites.dc2.migrations_active(), 'dc2 to end it', 5)
