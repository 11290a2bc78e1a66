# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that our CA signed and our configuration names, and that lies.

What it says ends the migration with one message that names it, at once, and
the guest goes on where it was.  Lies inside bulk frames, of which there are
many more, are tests/unit/daemon/test-link-lies.c.
"""
import time

from harness import Qemu, case, check, wait_for
from harness.certs import Authority
from harness.daemon import Daemon, free_port
from harness.liar import (ACK, CONTROL, EPOCH_END, HEADER, MAIN, PAGES, PING, RETURN, SHUT_0,
                          LiarDestination, LiarSource)

NEEDS = ['daemon', 'certtool']
TIMEOUTS = {'handshake': '2s', 'qmp': '1s', 'link-dead': '2s', 'idle': '4s'}
HONEST = LiarDestination.HONEST_PREPARE


def without(key):
    return {k: v for k, v in HONEST.items() if k != key}


def ack(bulk=0, main=0):
    return b''.join(n.to_bytes(8, 'big') for n in (bulk, main, 0, 0, 0))


def drip(lane):
    """A frame with nothing wrong in it, one byte in half a second."""
    try:
        with lane.lock:                 # no PONG in the middle
            for byte in HEADER.pack(RETURN, 0, 0, 200, 0, 0, 0, 0) + bytes(200):
                lane.sock.sendall(bytes([byte]))
                time.sleep(0.5)
    except OSError:
        pass


def flood(lane):
    """Far more at a time than whoever has to answer is given the time to."""
    text = b'{"event":"nothing"}'
    try:
        for first in range(lane.control_out, 100000, 1000):
            lane.send_raw(b''.join(HEADER.pack(CONTROL, 0, 0, len(text), i, 0, 0, 0) + text
                                   for i in range(first, first + 1000)))
    except OSError:
        pass


ANSWERS = [
    dict(name='hello-newer-version', hello={'version': 2, 'daemon': 'dc2'},
         says='link HELLO: got version 2, allowed 1'),
    dict(name='hello-garbage', hello=b'no json', says='link HELLO frame: '),
    dict(name='hello-refusal', hello={'error': {'class': 'GenericError', 'desc': 'not you'}},
         says='the peer refused: GenericError: not you'),
    dict(name='hello-none', hello=None, says='made no progress for 2000 ms'),
    dict(name='prepare-no-window', prepare=without('window'),
         says="answer to prepare: 'window' is missing or above"),
    dict(name='prepare-window-text', prepare={**HONEST, 'window': '8'},
         says="answer to prepare: 'window' is missing or above"),
    dict(name='prepare-window-negative', prepare={**HONEST, 'window': -1},
         says="answer to prepare: 'window' is missing or above"),
    dict(name='prepare-no-main-window', prepare=without('main-window'),
         says="answer to prepare: 'main-window' is missing or above"),
    dict(name='prepare-256-channels', prepare={**HONEST, 'channels': 256},
         says="answer to prepare: 'channels' is missing or above 255"),
    dict(name='prepare-garbage', prepare=b'{"return"',
         says='link CONTROL frame: got an unfinished JSON object'),
    dict(name='prepare-none', prepare=None, says='got no answer in time'),
]

LIES = [
    dict(name='type', lie=lambda l: l.send(255), says='link frame: got type 255'),
    dict(name='flags', lie=lambda l: l.send(PING, flags=1), says='link PING frame: got flags 0x01'),
    dict(name='reserved', lie=lambda l: l.send(PING, reserved=(1, 0)),
         says='reserved bytes 2-3 0x1, allowed only 0'),
    dict(name='length', lie=lambda l: l.send(RETURN, length=65537), says='got length 65537'),
    dict(name='epoch', lie=lambda l: l.send(PING, epoch=1), says='got epoch 0x1, allowed only 0'),
    dict(name='checksum', lie=lambda l: l.send(PING, checksum=1),
         says='got checksum 0x1, allowed only 0'),
    dict(name='bulk-on-main', lie=lambda l: l.send(EPOCH_END, bytes(8)),
         says='got a EPOCH_END frame, which the main lane does not carry'),
    dict(name='main-backwards', lie=lambda l: l.send(MAIN, b'x'),
         says='from the end that must not send any'),
    dict(name='ack-bulk-ahead', lie=lambda l: l.send(ACK, ack(bulk=1 << 40)),
         says='got ACK of bulk frames below 1099511627776, allowed 0 to'),
    dict(name='ack-main-ahead', lie=lambda l: l.send(ACK, ack(main=1 << 40)),
         says='got ACK of MAIN byte 1099511627776, allowed 0 to'),
    dict(name='return-gap', lie=lambda l: l.send(RETURN, b'x', sequence=1),
         says='got a RETURN frame with offset 1, expected 0'),
    dict(name='return-wraps', lie=lambda l: l.send(RETURN, b'xx', sequence=(1 << 64) - 1),
         says='allowed a sum that fits 64 bits'),
    dict(name='shut-too-early', lie=lambda l: l.send(RETURN, SHUT_0),
         says='return path: got SHUT 0 (before the END section of RAM|with)'),
    dict(name='shut-1', lie=lambda l: l.send(RETURN, SHUT_0[:-1] + b'\1'),
         says=r'destination QEMU reported failure \(SHUT 1\)'),
    dict(name='control-number', lie=lambda l: l.send_control({'event': 'x'}, number=7),
         says='got CONTROL number 7, expected'),
    dict(name='control-deep', lie=lambda l: l.send_control(b'{"event":"x","data":' + b'[' * 40 +
                                                           b']' * 40 + b'}'),
         says='got nesting depth 41, allowed at most 32'),
    dict(name='control-nothing', lie=lambda l: l.send_control({'execute': 'x'}),
         says='got neither a request with an id, an answer nor an event'),
    dict(name='control-flood', lie=flood, says='got more than 64 control messages at once'),
    dict(name='cut', lie=lambda l: l.close(), says='main lane'),
    dict(name='drip', lie=drip, says='timeout idle'),
]


def lied_to(t, says, **liar):
    """A source QEMU's migration to a liar; it must end, and the guest stay whole."""
    ca = Authority(t)
    peer = LiarDestination(t, ca.directory('dc2'), **liar)
    listen = 'unix:' + Daemon.path_of(t, 'dc1', 'in.sock')
    daemon = Daemon(t, 'dc1', {
        'tls': {'directory': ca.directory('dc1')}, 'timeouts': TIMEOUTS,
        'peer dc2': {'address': peer.address, 'certificate-name': 'dc2', 'lanes': 2},
        'tunnel web': {'listen': listen, 'peer': 'dc2'}})
    src = Qemu.source(t)
    src.set_multifd(2)
    check(not daemon.migrations_active(), 'a migration before the first')
    before = daemon.footprint()
    src.migrate(listen)
    peer.wait_lied()
    src.wait_migration('failed', timeout=15)
    daemon.assert_says(says)
    src.wait_running()
    src.guest.verify()
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 5)
    peer.destroy()
    daemon.assert_footprint(before)


@case('e2e/lies/answer-{name}', needs=NEEDS,
      table=[dict(hello=LiarDestination.HONEST_HELLO, prepare=HONEST) | a
             for a in ANSWERS])
def answers(t, name, hello, prepare, says):
    """What the daemon at the destination answers, before anything of the guest moves."""
    lied_to(t, says, answer_hello=hello, answer_prepare=prepare)


@case('e2e/lies/{name}', needs=NEEDS, table=LIES)
def lies(t, name, lie, says):
    """In the middle of the transfer."""
    lied_to(t, says, lie=lie)


# ---- the other way round: who connects lies to the daemon at the destination ----

HELLOS = [
    dict(name='version-0', hello=dict(version=0), says="no usable 'version'"),
    dict(name='version-text', hello=dict(version='1'), says="no usable 'version'"),
    dict(name='daemon-long', hello=dict(daemon='d' * 64), says="no usable 'daemon'"),
    dict(name='role', hello=dict(role='spy'), says="no usable 'role'"),
    dict(name='migration', hello=dict(migration='x' * 32), says="no usable 'migration'"),
    dict(name='migration-short', hello=dict(migration='0' * 31), says="no usable 'migration'"),
    dict(name='lane', hello=dict(number=1), says="no usable 'lane', expected 0 for the main lane"),
    dict(name='bulk-lane-64', hello=dict(role='bulk', number=64), says="no usable 'lane'"),
    dict(name='no-such-migration', hello=dict(role='bulk'), says='there is no migration'),
]

TUNNEL = {'kind': 'tunnel', 'tunnel': 'web', 'return-window': 65536, 'lanes': 1}
REQUESTS = [
    dict(name='unknown', request='fly', args={}, says='there is no such request here'),
    dict(name='no-return-window', request='prepare', args={'kind': 'tunnel', 'tunnel': 'web'},
         says="prepare: 'return-window' is missing"),
    dict(name='return-window-negative', request='prepare', args={**TUNNEL, 'return-window': -1},
         says="prepare: 'return-window' is missing"),
    dict(name='kind', request='prepare', args={**TUNNEL, 'kind': 'x'},
         says="prepare: 'kind' is none of 'tunnel', 'managed', 'recover'"),
    dict(name='tunnel', request='prepare', args={**TUNNEL, 'tunnel': 'other'},
         says='prepare: there is no \\[tunnel other\\] with peer=dc1'),
    dict(name='tunnel-of-another', request='prepare', args={**TUNNEL, 'tunnel': 'theirs'},
         says='prepare: there is no \\[tunnel theirs\\] with peer=dc1'),
    dict(name='no-vm', request='prepare', args={**TUNNEL, 'kind': 'managed', 'vm': 'x'},
         says='prepare: there is no \\[vm x\\] here'),
    dict(name='open-first', request='open', args={},
         says='open: allowed only in a managed migration, after prepare'),
    dict(name='resume-first', request='resume', args={},
         says='resume: allowed only in a managed migration, after prepare'),
    dict(name='finish-first', request='finish', args={},
         says='finish: allowed only once the destination has taken over'),
]


def beside_destination(t):
    """A daemon with a tunnel for dc1, and somebody who is dc1 by his certificate."""
    ca = Authority(t)
    port = free_port()
    daemon = Daemon(t, 'dc2', {
        'tls': {'directory': ca.directory('dc2')}, 'timeouts': TIMEOUTS,
        'listen': {'link': '127.0.0.1:%d' % port},
        'peer dc1': {'address': '127.0.0.1:%d' % free_port(), 'certificate-name': 'dc1'},
        'peer dc3': {'address': '127.0.0.1:%d' % free_port(), 'certificate-name': 'dc3'},
        'tunnel web': {'peer': 'dc1', 'connect': 'tcp:127.0.0.1:%d' % free_port()},
        'tunnel theirs': {'peer': 'dc3', 'connect': 'tcp:127.0.0.1:%d' % free_port()}})
    return daemon, LiarSource(t, daemon.link_address(), ca.directory('dc1'))


@case('e2e/lies/to-destination/hello', needs=NEEDS)
def hellos(t):
    """Each gets an answer that says why, and the end of the connection."""
    daemon, liar = beside_destination(t)
    check(not daemon.migrations_active(), 'a migration before the first')
    before = daemon.footprint()
    for row in HELLOS:
        lane = liar.connect(**row['hello'])
        got = (lane.hello or {}).get('error', {}).get('desc', '')
        check(row['says'] in got, '%s: got answer %r, expected %s'
              % (row['name'], lane.hello, row['says']))
        check(lane.ended(), '%s: the lane is still open' % row['name'])
        lane.close()
    daemon.assert_says('no usable')
    wait_for(lambda: not daemon.migrations_active(), 'no migration', 5)
    daemon.assert_footprint(before)


@case('e2e/lies/to-destination/hello-slow', needs=NEEDS)
def hello_slow(t):
    """One byte in half a second: the time to say hello is over before it is said."""
    daemon, liar = beside_destination(t)
    lane = liar.connect(hello=False)
    begin = time.monotonic()
    drip(lane)
    check(lane.ended(), 'the lane is still open')
    took = time.monotonic() - begin
    check(took < 6, 'took %.1f s' % took)
    daemon.assert_says('did not say who it is within')


@case('e2e/lies/to-destination/request', needs=NEEDS)
def requests(t):
    """Each gets an error, and nothing is begun; a refused prepare ends the lane."""
    daemon, liar = beside_destination(t)
    for i, row in enumerate(REQUESTS):
        lane = liar.connect(migration='%032x' % (i + 1))
        got = liar.ask(lane, row['request'], **row['args']) or {}
        desc = got.get('error', {}).get('desc', '')
        check(row['says'].replace('\\', '') in desc, '%s: got answer %r, expected %s'
              % (row['name'], got, row['says']))
        lane.close()
    wait_for(lambda: not daemon.migrations_active(), 'no migration', 5)


@case('e2e/lies/to-destination/prepare-twice', needs=NEEDS)
def prepare_twice(t):
    daemon, liar = beside_destination(t)
    lane = liar.connect()
    check('return' in liar.ask(lane, 'prepare', **TUNNEL), 'the first was refused')
    got = liar.ask(lane, 'prepare', number=2, **TUNNEL)
    check('got it twice, allowed once' in got.get('error', {}).get('desc', ''), 'got %r' % got)


@case('e2e/lies/to-destination/no-prepare', needs=NEEDS)
def no_prepare(t):
    """A main lane on which nothing follows, but pings are answered."""
    daemon, liar = beside_destination(t)
    lane = liar.connect()
    got = lane.receive_control()        # answers pings meanwhile
    check(got and got.get('event') == 'abort', 'got %r, expected abort' % got)
    daemon.assert_says('got no prepare within 2000 ms')


@case('e2e/lies/to-destination/taken', needs=NEEDS)
def taken(t):
    """A second main lane of a migration, and a second bulk lane with one number."""
    daemon, liar = beside_destination(t)
    lane = liar.connect()
    check('return' in liar.ask(lane, 'prepare', **TUNNEL), 'prepare was refused')
    again = liar.connect()
    check('error' in again.hello, 'a second main lane got %r' % again.hello)
    check('error' not in liar.connect(role='bulk', number=3).hello, 'a bulk lane was refused')
    twice = liar.connect(role='bulk', number=3)
    check('error' in twice.hello or twice.ended(), 'a second lane 3 got %r' % twice.hello)


CHANNELS = {'multifd': True, 'count': 2, 'uuid': '00000000-0000-0000-0000-000000000000'}
EVENTS = [
    dict(name='count-0', data={**CHANNELS, 'count': 0},
         says='channels: got count 0, allowed 1 to 255'),
    dict(name='count-256', data={**CHANNELS, 'count': 256},
         says="channels: got no usable 'count', expected 0 to 255"),
    dict(name='count-text', data={**CHANNELS, 'count': '2'},
         says="channels: got no usable 'count', expected 0 to 255"),
    dict(name='uuid', data={**CHANNELS, 'uuid': 'x'}, says="channels: got no usable 'uuid'"),
    dict(name='no-uuid', data={'multifd': True, 'count': 2},
         says="channels: got no usable 'uuid'"),
    dict(name='multifd', data={**CHANNELS, 'multifd': 'yes'},
         says="channels: got no usable 'multifd'"),
]


@case('e2e/lies/to-destination/channels-{name}', needs=NEEDS, table=EVENTS)
def channels(t, name, data, says):
    """How many channels there are, and whose guest it is, must be plain."""
    daemon, liar = beside_destination(t)
    lane = liar.connect()
    check('return' in liar.ask(lane, 'prepare', **TUNNEL), 'prepare was refused')
    lane.send_control({'event': 'channels', 'data': data})
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 5)
    daemon.assert_says(says)


@case('e2e/lies/to-destination/channels-twice', needs=NEEDS)
def channels_twice(t):
    daemon, liar = beside_destination(t)
    lane = liar.connect()
    check('return' in liar.ask(lane, 'prepare', **TUNNEL), 'prepare was refused')
    for _ in range(2):
        lane.send_control({'event': 'channels', 'data': CHANNELS})
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 5)
    daemon.assert_says('channels: got them twice, allowed once')


@case('e2e/lies/to-destination/bulk-frame', needs=NEEDS)
def bulk_frame(t):
    """Of the lies in test-link-lies.c, the first one that comes to mind, over real TLS."""
    daemon, liar = beside_destination(t)
    lane = liar.connect()
    check('return' in liar.ask(lane, 'prepare', **TUNNEL), 'prepare was refused')
    bulk = liar.connect(role='bulk')
    lane.send_control({'event': 'channels', 'data': CHANNELS})
    bulk.send(PAGES, bytes(33), epoch=1, length=(1 << 20) + 8193)
    check(bulk.ended(), 'the lane is still open')
    wait_for(lambda: not daemon.migrations_active(), 'the daemon to end it', 5)
    daemon.assert_says('link PAGES frame: got length 1056769')
