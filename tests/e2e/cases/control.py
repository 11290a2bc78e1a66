# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: QMP as anybody speaks it."""
import json
import os
import subprocess

from harness import Qemu, assert_migrated, assert_runs_at, case, check, wait_for
from harness.case import Failure, Skip
from harness.daemon import Daemon
from harness.qemu import ENTER_ROOT, ROOTS
from harness.qmp import Qmp, QmpError
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']


def refused(qmp, command, wanted_class='GenericError', **arguments):
    """The text of the error that this command must give."""
    try:
        value = qmp.cmd(command, **arguments)
    except QmpError as e:
        check(e.error_class == wanted_class, '%s: got class %s, expected %s'
              % (command, e.error_class, wanted_class))
        return e.desc
    raise Failure('%s %s: expected an error, got %s' % (command, arguments, value))


@case('e2e/control/errors', needs=['daemon'])
def errors(t):
    """What is wrong is said, and nothing of it ends the connection."""
    daemon = Sites(t, tls='psk').dc1
    qmp = daemon.qmp
    check('no-such-command' in refused(qmp, 'no-such-command', 'CommandNotFound'), 'name missing')
    check('speed' in refused(qmp, 'query-status', speed=1), 'argument not named')
    check("'vm'" in refused(qmp, 'migrate', peer='dc2'), 'missing argument not named')
    check('web9' in refused(qmp, 'migrate', 'DeviceNotFound', vm='web9', peer='dc2'), 'vm')
    check('0123' in refused(qmp, 'migrate-cancel', 'DeviceNotFound', id='0123'), 'id')
    check('dc9' in refused(qmp, 'set-rate-limit', 'DeviceNotFound', peer='dc9', rate='1mbit'), 'peer')
    for rate in ('10', '10 mbit', '-1mbit', '1Mb/s', ''):
        refused(qmp, 'set-rate-limit', rate=rate)
    refused(qmp, 'set-rate-limit', rate=10)
    for text in (b'[]', b'{"execute": 1}', b'{"id": 1}', b'{"execute": "query-status", "x": 1}',
                 b'{"execute": "query-status", "arguments": []}', b'nonsense'):
        qmp.send_raw(text + b'\n')
        check('error' in qmp.receive(), 'no error for %s' % text)
    check(qmp.cmd('query-version')['qemu'] is not None, 'query-version')
    names = {c['name'] for c in qmp.cmd('query-commands')}
    check({'migrate', 'migrate-cancel', 'query-migrations', 'query-peers', 'query-status',
           'set-rate-limit', 'quit', 'query-version', 'query-commands'} <= names, str(names))
    check([p['name'] for p in qmp.cmd('query-peers')] == ['dc2'], 'query-peers')


@case('e2e/control/capabilities-first', needs=['daemon'])
def negotiation(t):
    daemon = Daemon(t, 'd', {})
    qmp = Qmp(daemon.control_path, negotiate=False)
    check('QMP' in qmp.greeting, 'greeting: %s' % qmp.greeting)
    refused(qmp, 'query-status', 'CommandNotFound')
    qmp.cmd('qmp_capabilities')
    check(qmp.cmd('query-status')['running'], 'query-status')
    qmp.close()


@case('e2e/control/two-clients', needs=NEEDS)
def two_clients(t):
    """One migrates, the other sees every state and the progress."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    # Long enough for progress to be told, which is once a second.
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '150mbit', 'compression': 'none'}})
    watchers = [Qmp(sites.dc1.control_path, 'watcher'), Qmp(sites.dc2.control_path, 'watcher 2')]
    id = sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')['id']
    refused(watchers[0], 'migrate', vm='web1', peer='dc2')      # it is being migrated
    for watcher, states in zip(watchers, (('active', 'switchover', 'handover', 'completed'),
                                          ('active', 'handover', 'completed'))):
        for state in states:
            watcher.event('MIGRATION', id=id, state=state, timeout=30)
    progress = watchers[0].event('MIGRATION_PROGRESS', id=id)['data']
    check({'bytes-in', 'bytes-out', 'rate', 'state'} <= set(progress), str(progress))
    assert_migrated(t, src, dst)
    final = watchers[0].cmd('query-migrations', id=id)[0]
    check(final['state'] == 'completed' and 'downtime-ms' in final, str(final))
    for w in watchers:
        w.close()


@case('e2e/control/limit-of-another', needs=NEEDS)
def limit_of_another(t):
    """A limit that would hold nothing is refused: at the destination, and too late."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '150mbit', 'compression': 'none'}})
    id = sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')['id']
    src.wait_transferred(2 << 20)
    there = wait_for(sites.dc2.migrations_active, 'dc2 to have it', 3)[0]['id']
    refused(sites.dc2.qmp, 'set-rate-limit', migration=there, rate='10mbit')
    code, _, err = sites.client.run('limit', id, '140mbit')
    check(code == 0, 'at the source while it runs: ' + err)
    now = sites.dc1.qmp.cmd('query-migrations', id=id)[0]['rate-limit']
    check(now == 17500000, 'rate-limit is %d' % now)
    assert_migrated(t, src, dst)
    for daemon in (sites.dc1, sites.dc2):
        wait_for(lambda d=daemon: not d.migrations_active(), daemon.name + ' to end it', 3)
    refused(sites.dc1.qmp, 'set-rate-limit', migration=id, rate='10mbit')
    refused(sites.dc2.qmp, 'set-rate-limit', migration=there, rate='10mbit')
    code, _, err = sites.client.run('limit', id, '10mbit')
    check(code == 4 and 'GenericError' not in err, 'the client: %d %s' % (code, err))


@case('e2e/control/quit-cancels', needs=NEEDS)
def quit_cancels(t):
    src, dst = Qemu.source(t), Qemu.destination(t)
    dst.may_be_dead = True
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '40mbit'}})
    sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
    src.wait_transferred(3 << 20)
    sites.client.json('quit')
    sites.dc1.expect_exit(0, timeout=8)
    check(not sites.dc1.left_sockets(), 'left %s' % sites.dc1.left_sockets())
    src.wait_migration('cancelled', 'failed', timeout=2)
    assert_runs_at(src, dst)
    wait_for(lambda: not sites.dc2.migrations_active(), 'dc2 to end it', 2)


@case('e2e/control/sigterm-cancels', needs=NEEDS)
def sigterm_cancels(t):
    """The same when the destination's daemon is told to end."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    dst.may_be_dead = True
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '40mbit'}})
    sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2')
    src.wait_transferred(3 << 20)
    sites.dc2.terminate()
    src.wait_migration('cancelled', 'failed', timeout=5)
    assert_runs_at(src, dst)
    wait_for(lambda: not sites.dc1.migrations_active(), 'dc1 to end it', 5)


@case('e2e/control/qmp-shell', needs=['daemon', 'root'])
def qmp_shell(t):
    """QEMU's own client, as Debian has it in python3-qemu-qmp."""
    daemon = Sites(t, tls='psk').dc1
    roots = [os.path.join(ROOTS, r) for r in (os.listdir(ROOTS) if os.path.isdir(ROOTS) else ())]
    roots = [r for r in roots if os.path.exists(r + '/usr/bin/qmp-shell')]
    if not roots:
        raise Skip('qmp-shell (python3-qemu-qmp) in a root below ' + ROOTS)
    p = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', ENTER_ROOT,
                        'enter-root', roots[0], t.dir, 'qmp-shell', daemon.control_path],
                       input='query-status\nquery-peers\nset-rate-limit peer=dc2 rate=10mbit\n'
                       'no-such\n', capture_output=True, text=True, timeout=20)
    t.log(p.stdout + p.stderr)
    check('"running": true' in p.stdout, 'query-status: %s %s' % (p.stdout, p.stderr))
    check('"name": "dc2"' in p.stdout, 'query-peers: ' + p.stdout)
    check(daemon.qmp.cmd('query-peers')[0]['rate'] == 1250000, 'set-rate-limit did nothing')
    check('CommandNotFound' in p.stdout, 'no-such: ' + p.stdout)


@case('e2e/control/json-of-the-client', needs=['daemon'])
def client_json(t):
    """--json is JSON and nothing else, for every command that asks."""
    client = Sites(t, tls='psk').client
    for words in (['status'], ['peers'], ['version'], ['limit', 'dc2', '1mbit']):
        t.log(json.dumps(client.json(*words)))
