# SPDX-License-Identifier: GPL-2.0-or-later
"""multiferry link test: the numbers are those of the link, and a peer gets no more out of it than
it may.
"""
import json
import re
import signal
import threading
import time

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.case import Failure
from harness.certs import Authority
from harness.daemon import Daemon, free_port
from harness.liar import CONTROL, EPOCH_END, PING, PONG, TEST, LiarDestination, LiarSource
from harness.qmp import QmpError
from harness.sites import Sites
from harness.wan import PROFILES, Wan

NEEDS = ['daemon', 'certtool']
SHORT = ['--time', '500ms']


def tested(t, client, *words, status=0):
    """Runs it with --json; returns what was found."""
    got, out, err = client.run('--json', 'link', 'test', 'dc2', *words)
    t.log('link test: %s%s' % (out, err))
    check(got == status, 'got status %d, expected %d: %s%s' % (got, status, out, err))
    return json.loads(out)


def assert_sound(found, lanes):
    check([s['lanes'] for s in found['steps']] == lanes, 'steps: %s' % found['steps'])
    for rtt in [found['idle']] + [s['rtt'] for s in found['steps']]:
        check(0 < rtt['min-ms'] <= rtt['median-ms'] <= rtt['max-ms'], 'round trips: %s' % rtt)
    check(all(s['rate'] > 0 and s['bytes'] > 0 and s['segments'] > 0 for s in found['steps']),
          'steps: %s' % found['steps'])
    check(re.match(r'TLS1.3 \S+', found['tls']['cipher']), 'TLS: %s' % found['tls'])
    check(found['tls']['rate-here'] > 0 and found['tls']['rate-there'] > 0, 'TLS: %s' % found['tls'])
    check(found['advice'], 'no advice')


@case('e2e/link-test/{way}', needs=NEEDS, table=[
    dict(way='forward', words=[]), dict(way='reverse', words=['--reverse'])])
def measures(t, way, words):
    """Every number is there; and afterwards the daemons have nothing left of it."""
    sites = Sites(t, lanes=3)
    found = tested(t, sites.client, *SHORT, *words, '--lanes', '3')
    check(found['state'] == 'completed' and found['reverse'] is bool(words), found['state'])
    assert_sound(found, [1, 2, 3])
    path = found['paths'][0]
    check(path['lanes'] == 3 and path['local'] == '127.0.0.1', 'paths: %s' % found['paths'])
    check(path['mtu'] > 60000 and 0 < path['mss'] < path['mtu'], 'loopback is not: %s' % path)
    peer = sites.dc1.qmp.cmd('query-peers')[0]
    check(peer['reachable'] and peer['paths'][0]['lanes'] == 0, 'query-peers: %s' % peer)
    for daemon in (sites.dc1, sites.dc2):
        check(not daemon.migrations(), '%s has a migration' % daemon.name)
    # And again: nobody thinks that the first one still runs.
    check(tested(t, sites.client, *SHORT, '--lanes', '1')['state'] == 'completed', 'the second')


@case('e2e/link-test/for-people', needs=NEEDS)
def for_people(t):
    """Without --json: a line for each number of lanes, and sentences."""
    sites = Sites(t)
    status, out, err = sites.client.run('link', 'test', 'dc2', *SHORT, '--lanes', '2')
    t.log('%s%s' % (out, err))
    check(status == 0, 'status %d' % status)
    for wanted in (r'^link test to dc2: completed$', r'^round trip, idle: [\d.]+ ms \(',
                   r'^LANES +GOODPUT +SENT AGAIN +ROUND TRIP', r'^1 +[\d.]+ [MG]bit/s +',
                   r'^2 +[\d.]+ [MG]bit/s +', r'^path: 127.0.0.1 to tcp:127.0.0.1:\d+, 2 lanes, MTU',
                   r'^TLS: TLS1.3 ', r'^advice: lanes: ', r'^advice: downtime: '):
        check(re.search(wanted, out, re.M), 'no %r in %s' % (wanted, out))
    check('testing: 2 lanes' in err, 'no progress: %s' % err)


@case('e2e/link-test/own-peer', needs=NEEDS)
def own_peer(t):
    """A daemon that is its own peer is at both ends of one test, and that is not two."""
    ca = Authority(t)
    port = free_port()
    daemon = Daemon(t, 'dc1', {
        'tls': {'directory': ca.directory('dc1')}, 'listen': {'link': '127.0.0.1:%d' % port},
        'peer dc1': {'address': '127.0.0.1:%d' % port, 'certificate-name': 'dc1'}})
    started = daemon.qmp.cmd('link-test', peer='dc1', lanes=1, time=300)
    assert_sound(wait_over(daemon, started['id']), [1])


def wait_over(daemon, test_id, state='completed', timeout=20):
    """Until it is; returns what it found."""
    def ask():
        found[0] = daemon.qmp.cmd('query-link-tests', id=test_id)[0]
        return found[0]['state'] in ('completed', 'failed', 'cancelled')

    found = [None]
    wait_for(ask, lambda: 'the link test to end, it is %s' % found[0], timeout)
    check(found[0]['state'] == state, 'it is %s' % found[0])
    return found[0]


@case('e2e/link-test/limits', needs=NEEDS)
def limits(t):
    """It keeps to the peer's limit as a migration does, unless it is told not to; and in the
    other direction to the other daemon's, whatever it is told."""
    sites = Sites(t, dc1={'peer dc2': {'rate': '20mbit'}}, dc2={'peer dc1': {'rate': '10mbit'}})

    def rate(*words):
        found = tested(t, sites.client, '--time', '1s', '--lanes', '1', *words)
        return found, found['steps'][0]['rate'] * 8

    found, got = rate()
    # What a busy machine had not read in time may come on top.
    check(5e6 < got < 30e6, 'got %d bit/s, allowed 20 Mbit/s' % got)
    check(found['rate-limit'] == 2500000, 'rate-limit: %s' % found['rate-limit'])
    check(any('--ignore-limit' in a for a in found['advice']), found['advice'])
    found, got = rate('--rate', '5mbit')
    check(1e6 < got < 10e6, 'got %d bit/s, allowed 5 Mbit/s' % got)
    found, got = rate('--ignore-limit')
    check(got > 40e6, 'got %d bit/s without a limit' % got)
    found, got = rate('--reverse', '--ignore-limit')
    check(2e6 < got < 20e6, 'got %d bit/s from the peer, whose limit is 10 Mbit/s' % got)
    check(found['rate-limit'] == 1250000, 'rate-limit: %s' % found['rate-limit'])


@case('e2e/link-test/ways', needs=NEEDS)
def ways(t):
    """Over the peer's own paths, from where and marked as the peer's lanes are."""
    more = {'bind': '127.0.0.77', 'congestion-control': 'reno'}

    def through(address):
        more['paths'] = '127.0.0.78@' + address.replace('tcp:', '')
        return address

    sites = Sites(t, through=through, dc1={'peer dc2': more})
    found = tested(t, sites.client, *SHORT, '--lanes', '3')
    check(found['congestion-control'] == 'reno', found['congestion-control'])
    check([(p['local'], p['lanes']) for p in found['paths']] ==
          [('127.0.0.77', 2), ('127.0.0.78', 1)], 'paths: %s' % found['paths'])


@case('e2e/link-test/wan-{way}', needs=['root', *NEEDS], timeout=120, table=[
    dict(way='forward', words=[]), dict(way='reverse', words=['--reverse'])])
def wan(t, way, words):
    """No round trip is shorter than the line is long, and no more comes than it carries."""
    link = Wan(t, PROFILES['wan'])
    sites = Sites(t, lanes=2, wan=link)
    link.zero()
    found = tested(t, sites.client, '--lanes', '2', '--time', '2s', *words)
    assert_sound(found, [1, 2])
    counters = link.counters()
    t.log('link: %s' % counters)
    for rtt in [found['idle']] + [s['rtt'] for s in found['steps']]:
        check(rtt['min-ms'] >= link.profile.rtt_ms, 'round trip: %s' % rtt)
    for step in found['steps']:
        # More than that may come in a moment, when a busy machine had not read for one.
        check(step['rate'] * 8 <= link.profile.rate * 1.25, 'got %d bit/s, the line has %d'
              % (step['rate'] * 8, link.profile.rate))
        # It is not a tenth either: this was the line.
        check(step['rate'] * 8 >= link.profile.rate / 10, 'got %d bit/s' % (step['rate'] * 8))
    check(found['paths'][0]['rtt-ms'] >= link.profile.rtt_ms, 'TCP: %s' % found['paths'])
    check(found['paths'][0]['mtu'] == 1500, 'MTU: %s' % found['paths'])
    sent, other = ('ba', 'ab') if words else ('ab', 'ba')
    total = sum(s['bytes'] for s in found['steps'])
    check(counters[sent]['out_bytes'] > total > counters[other]['out_bytes'],
          'link: %s, test: %d bytes' % (counters, total))


@case('e2e/link-test/beside-a-migration', needs=NEEDS, timeout=120)
def beside(t):
    """It says that the numbers are not the line's, and the migration does not mind."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '60mbit'}})
    sites.dc1.qmp.cmd('migrate', vm='web1', peer='dc2', downtime_limit=150)
    src.wait_transferred(3 << 20)
    found = tested(t, sites.client, *SHORT, '--lanes', '1')
    check(found['state'] == 'completed', found['state'])
    check(any(re.search(r'migrations run meanwhile, 1 here and 1 at dc2', w)
              for w in found['warnings']), 'warnings: %s' % found['warnings'])
    assert_migrated(t, src, dst)


def refusal(daemon, command, **args):
    """The error that a command gets."""
    try:
        got = daemon.qmp.cmd(command, **args)
    except QmpError as e:
        return e
    raise Failure('%s %s: got %s, expected an error' % (command, args, got))


# ---- what does not work ---------------------------------------------------------------------


@case('e2e/link-test/refused', needs=NEEDS)
def refused(t):
    """Each with its reason, and nothing is begun."""
    sites = Sites(t, dc1={'peer dc9': {'certificate-name': 'dc9'}})
    for words, status, says in (
            (['test', 'dc7'], 4, 'there is no [peer dc7] with an address'),
            (['test', 'dc9'], 4, 'there is no [peer dc9] with an address'),
            (['test', 'dc2', '--lanes', '65'], 4, "argument 'lanes': got 65, expected 1 to 64"),
            (['test', 'dc2', '--time', '31s'], 4, "argument 'time': got 31000, expected 300 to 30000"),
            (['test', 'dc2', '--time', '3'], 2, '--time: '),
            (['test', 'dc2', '--rate', '3'], 2, '--rate: '),
            (['try', 'dc2'], 2, "expected 'link test PEER'")):
        got, out, err = sites.client.run('link', *words)
        check(got == status and says in err, '%s: got status %d: %s' % (words, got, err))
    check(sites.dc1.qmp.cmd('query-link-tests') == [], 'something was begun')
    for command in ('query-link-tests', 'link-test-cancel'):
        error = refusal(sites.dc1, command, id='dc2')
        check(error.error_class == 'DeviceNotFound', '%s: %s' % (command, error))


@case('e2e/link-test/peer-down', needs=NEEDS)
def peer_down(t):
    """As query-peers says it afterwards, too."""
    sites = Sites(t)
    sites.dc2.terminate()
    found = tested(t, sites.client, status=1)
    check(found['state'] == 'failed' and 'Connection refused' in found['error'], found['error'])
    peer = sites.dc1.qmp.cmd('query-peers')[0]
    check(peer['reachable'] is False and peer['paths'][0]['reachable'] is False, peer)


@case('e2e/link-test/peer-dies', needs=NEEDS)
def peer_dies(t):
    """In the middle: failed, at once, with a reason."""
    sites = Sites(t)
    started = sites.dc1.qmp.cmd('link-test', peer='dc2', lanes=4, time=5000)
    wait_load(sites.dc1, started['id'])
    sites.dc2.kill()
    found = wait_over(sites.dc1, started['id'], 'failed', 5)
    check('dc2' in found['error'], found['error'])


def wait_load(daemon, test_id):
    wait_for(lambda: daemon.qmp.cmd('query-link-tests', id=test_id)[0]['state'] == 'load',
             'the link test to send', 10)


@case('e2e/link-test/one-at-a-time', needs=NEEDS)
def one_at_a_time(t):
    """Two would measure each other, whoever asks for the second."""
    sites = Sites(t)
    started = sites.dc1.qmp.cmd('link-test', peer='dc2', lanes=1, time=3000)
    wait_load(sites.dc1, started['id'])
    status, _, err = sites.client.run('link', 'test', 'dc2')
    says = 'a link test with peer dc2 runs already: ' + started['id']
    check(status == 4 and says in err, 'got status %d: %s' % (status, err))
    error = refusal(sites.dc2, 'link-test', peer='dc1')
    check('a link test with peer dc1 runs already: ' + started['id'] in error.desc, error)
    wait_over(sites.dc1, started['id'])
    wait_over(sites.dc2, sites.dc2.qmp.cmd('link-test', peer='dc1', lanes=1, time=300)['id'])


@case('e2e/link-test/cancel', needs=NEEDS)
def cancel(t):
    """By command; what was found up to then is kept, and the peer is free for the next."""
    sites = Sites(t)
    started = sites.dc1.qmp.cmd('link-test', peer='dc2', lanes=1, time=20000)
    wait_load(sites.dc1, started['id'])
    sites.dc1.qmp.cmd('link-test-cancel', id='dc2')
    found = wait_over(sites.dc1, started['id'], 'cancelled', 5)
    check(found['error'] == 'cancelled by request', found['error'])
    check(found['idle']['count'] > 0, 'idle: %s' % found['idle'])
    wait_for(lambda: 'runs already' not in tested_desc(sites), 'dc2 to be free', 5)


def tested_desc(sites):
    """What comes of a short one: its error, or nothing."""
    started = sites.dc1.qmp.cmd('link-test', peer='dc2', lanes=1, time=300)
    found = [None]

    def over():
        found[0] = sites.dc1.qmp.cmd('query-link-tests', id=started['id'])[0]
        return found[0]['state'] in ('completed', 'failed')

    wait_for(over, 'it to end', 20)
    return found[0].get('error', '')


@case('e2e/link-test/interrupt', needs=NEEDS)
def interrupt(t):
    """^C ends it, and shows what there is."""
    sites = Sites(t)
    client = sites.client.start('link', 'test', 'dc2', '--time', '20s')
    wait_for(lambda: any(i['state'] == 'load' for i in sites.dc1.qmp.cmd('query-link-tests')),
             'the link test to send', 10)
    client.kill(signal.SIGINT)
    client.expect_exit(5)
    found = sites.dc1.qmp.cmd('query-link-tests')[0]
    check(found['state'] == 'cancelled', found['state'])


@case('e2e/link-test/daemon-ends-{at}', needs=NEEDS, table=[dict(at='dc1'), dict(at='dc2')])
def daemon_ends(t, at):
    """At once, whatever is under way; and the other one is free for the next."""
    sites = Sites(t)
    started = sites.dc1.qmp.cmd('link-test', peer='dc2', lanes=2, time=20000)
    wait_load(sites.dc1, started['id'])
    begin = time.monotonic()
    sites.daemons[at].terminate()
    check(time.monotonic() - begin < 5, 'it took %.1f s' % (time.monotonic() - begin))
    if at == 'dc2':
        wait_over(sites.dc1, started['id'], 'failed', 5)


# ---- a peer that is older, or lies -----------------------------------------------------------


class OldPeer(LiarDestination):
    """Its HELLO knows two roles."""

    def _lane(self, client):
        self.answer_hello = {'error': {'class': 'GenericError', 'desc':
                                       "link HELLO: got no usable 'role', expected 'main' or 'bulk'"}}
        super()._lane(client)


def beside_liar(t, liar, **more):
    ca = Authority(t)
    peer = liar(t, ca.directory('dc2'), **more)
    daemon = Daemon(t, 'dc1', {
        'tls': {'directory': ca.directory('dc1')},
        'timeouts': {'handshake': '3s', 'link-dead': '2s'},
        'peer dc2': {'address': peer.address, 'certificate-name': 'dc2'}})
    return daemon, peer


@case('e2e/link-test/old-peer', needs=NEEDS)
def old_peer(t):
    """One from before there were link tests: what to do is said, and it is reachable."""
    daemon, _ = beside_liar(t, OldPeer)
    found = wait_over(daemon, daemon.qmp.cmd('link-test', peer='dc2')['id'], 'failed')
    check('peer dc2 knows no link tests: its multiferryd is older than this one' in found['error'],
          found['error'])
    check(daemon.qmp.cmd('query-peers')[0]['reachable'], 'it did answer')


class LyingServer(LiarDestination):
    """Serves a link test honestly, but for what `lies` says instead, by request or 'PONG'."""

    HONEST = {'begin': {'tls-rate': 1, 'migrations': 0, 'rate-limit': 0, 'window': 1 << 20},
              'run': {}, 'result': {'done': True, 'bytes': 1, 'rate': 1}}

    def __init__(self, t, directory, lies=None, send=None):
        self.lies, self.send = lies or {}, send
        self.bulk = []
        super().__init__(t, directory)

    def _lane(self, client):
        try:
            super()._lane(client)
        except OSError:
            pass            # the daemon has had enough

    def _say_hello(self, lane):
        super()._say_hello(lane)
        if lane.hello['role'] == 'test':
            self._serve(lane)
        else:
            self.bulk.append(lane)

    def _serve(self, lane):
        while True:
            frame = lane.receive()
            if frame is None:
                return
            kind, payload, head = frame
            if kind == PING:
                lane.send(*self.lies.get('PONG', (PONG,)), sequence=head[4] + self.lies.get('add', 0))
                continue
            check(kind == CONTROL, 'got frame type %d' % kind)
            request = json.loads(payload)
            self._say(lane, request)

    def _say(self, lane, request):
        name = request['execute']
        value = self.lies.get(name, self.HONEST[name])
        if value is None:
            return
        if isinstance(value, bytes):
            lane.send_control(value)
        elif 'error' in value:
            lane.send_control({**value, 'id': request['id']})
        else:
            lane.send_control({'return': value, 'id': request['id']}, **self.lies.get('number', {}))
        if name == 'run' and self.send:
            self._start(self.send, self.bulk[0])


def garbage_offset(lane):
    lane.send(TEST, b'x' * 100, sequence=1)


def garbage_type(lane):
    lane.send(EPOCH_END, bytes(8))


ANSWERS = [
    dict(name='pong-number', lies={'add': 1}, says='got a PONG with'),
    dict(name='pong-type', lies={'PONG': (TEST, b'x')}, says='got a TEST frame, which its main lane'),
    dict(name='begin-refused', lies={'begin': {'error': {'class': 'GenericError', 'desc': 'no'}}},
         says='the peer refused: GenericError: no'),
    dict(name='begin-neither', lies={'begin': b'{"id":0}'}, says='answer to begin: got neither'),
    dict(name='begin-garbage', lies={'begin': b'{"return"'}, says='got an unfinished JSON object'),
    dict(name='control-number', lies={'number': {'number': 7}},
         says='link test: got CONTROL number 7, expected 0'),
    dict(name='result-not-done', lies={'result': {'bytes': 1}},
         says="answer to result: 'done' is missing"),
    dict(name='offset', reverse=True, send=garbage_offset,
         says='got a TEST frame with offset 1, expected 0'),
    dict(name='bulk-type', reverse=True, send=garbage_type,
         says="got a EPOCH_END frame, which a test's bulk lane does not carry"),
    dict(name='bulk-ends', reverse=True, send=lambda lane: lane.close(), says='dc2'),
]


@case('e2e/link-test/lies/answer-{name}', needs=NEEDS,
      table=[dict(lies=None, send=None, reverse=False) | a for a in ANSWERS])
def answers(t, name, lies, send, reverse, says):
    """The peer that was asked lies: one clear error, and nothing stays behind."""
    daemon, peer = beside_liar(t, LyingServer, lies=lies, send=send)
    check(daemon.qmp.cmd('query-link-tests') == [], 'a link test before the first')
    before = daemon.footprint()
    started = daemon.qmp.cmd('link-test', peer='dc2', lanes=1, time=300, reverse=reverse)
    found = wait_over(daemon, started['id'], 'failed')
    check(says in found['error'], 'got %s, expected %s' % (found['error'], says))
    peer.destroy()
    daemon.assert_footprint(before)


ID = '%032x'
BEGIN = ('begin', {'total-ms': 60000})
RUN = {'lanes': 1, 'time-ms': 300, 'send': False}
REQUESTS = [
    dict(name='total-0', asks=[('begin', {'total-ms': 0})], says="'total-ms', expected 1 to 300000"),
    dict(name='total-none', asks=[('begin', {})], says="'total-ms', expected 1 to 300000"),
    dict(name='total-max', asks=[('begin', {'total-ms': 300001})], says="'total-ms', expected"),
    dict(name='total-negative', asks=[('begin', {'total-ms': -1})], says="'total-ms', expected"),
    dict(name='begin-twice', asks=[BEGIN, BEGIN], says='begin: got it twice, allowed once'),
    dict(name='run-first', asks=[('run', RUN)], says='run: allowed only after begin'),
    dict(name='run-no-lane', asks=[BEGIN, ('run', {**RUN, 'lanes': 2})],
         says='got 2 lanes, but lane 1 is not connected'),
    dict(name='run-lanes-0', asks=[BEGIN, ('run', {**RUN, 'lanes': 0})], says="'lanes', expected 1 to 64"),
    dict(name='run-lanes-65', asks=[BEGIN, ('run', {**RUN, 'lanes': 65})], says="'lanes', expected 1 to 64"),
    dict(name='run-time-0', asks=[BEGIN, ('run', {**RUN, 'time-ms': 0})], says="'time-ms', expected 300 to"),
    dict(name='run-time-max', asks=[BEGIN, ('run', {**RUN, 'time-ms': 30001})],
         says="'time-ms', expected 300 to 30000"),
    dict(name='run-send', asks=[BEGIN, ('run', {**RUN, 'send': 1})], says="'send', expected true or false"),
    dict(name='run-twice', asks=[BEGIN, ('run', RUN), ('run', RUN)], says='run: allowed only after begin'),
    dict(name='result-first', asks=[BEGIN, ('result', {})], says='result: allowed only after run, once'),
    dict(name='unknown', asks=[('prepare', {})], says='got no request that there is in a link test'),
]


def beside_server(t):
    """A daemon whose link tests dc1 may ask for, and somebody who is dc1 by his certificate."""
    ca = Authority(t)
    daemon = Daemon(t, 'dc2', {
        'tls': {'directory': ca.directory('dc2')},
        'timeouts': {'handshake': '2s', 'link-dead': '2s'},
        'listen': {'link': '127.0.0.1:%d' % free_port()},
        'peer dc1': {'address': '127.0.0.1:%d' % free_port(), 'certificate-name': 'dc1'}})
    return daemon, LiarSource(t, daemon.link_address(), ca.directory('dc1'))


def free_again(liar, number):
    """The daemon takes a test from us: it has forgotten the last one.  Returns its main lane."""
    lanes = []

    def taken():
        lanes.append(liar.connect(role='test', migration=ID % number))
        return 'error' not in lanes[-1].hello

    wait_for(taken, lambda: 'the daemon to be free: %s' % lanes[-1].hello, 5)
    return lanes[-1]


@case('e2e/link-test/lies/request', needs=NEEDS)
def requests(t):
    """Who asks lies: an error each time, the end of the lane, and room for the next."""
    daemon, liar = beside_server(t)
    free_again(liar, 99).close()
    before = daemon.footprint()
    for i, row in enumerate(REQUESTS):
        lane = free_again(liar, i + 1)
        bulk = liar.connect(role='test-bulk', migration=ID % (i + 1))
        check('error' not in bulk.hello, '%s: the bulk lane: %s' % (row['name'], bulk.hello))
        for name, args in row['asks']:
            got = liar.ask(lane, name, **args)
        desc = (got or {}).get('error', {}).get('desc', '')
        check(row['says'] in desc, '%s: got answer %r, expected %s' % (row['name'], got, row['says']))
        check(lane.ended(), '%s: the lane is still open' % row['name'])
        lane.close()
        bulk.close()
    free_again(liar, 98).close()
    daemon.assert_footprint(before)


@case('e2e/link-test/lies/lanes', needs=NEEDS)
def lanes(t):
    """One test at a time, each lane once, and those of nobody's test for nobody."""
    daemon, liar = beside_server(t)
    free_again(liar, 1)
    second = liar.connect(role='test', migration=ID % 2)
    check('runs already' in second.hello['error']['desc'], second.hello)
    stray = liar.connect(role='test-bulk', migration=ID % 2)
    check('there is no link test ' + ID % 2 in stray.hello['error']['desc'], stray.hello)
    check('error' not in liar.connect(role='test-bulk', number=5, migration=ID % 1).hello, 'lane 5')
    twice = liar.connect(role='test-bulk', number=5, migration=ID % 1)
    check('error' in twice.hello or twice.ended(), 'lane 5 twice: %s' % twice.hello)
    # Neither is it a migration's.
    bulk = liar.connect(role='bulk', migration=ID % 1)
    check('error' in bulk.hello, bulk.hello)
    check(not daemon.migrations(), 'a migration')


@case('e2e/link-test/lies/crowd', needs=NEEDS)
def crowd(t):
    """Many peers together get no more than a few tests at once, and the next when one is over."""
    ca = Authority(t)
    names = ['dc%d' % i for i in range(3, 8)]
    groups = {'peer ' + name: {'address': '127.0.0.1:1', 'certificate-name': name} for name in names}
    daemon = Daemon(t, 'dc2', {'tls': {'directory': ca.directory('dc2')},
                               'listen': {'link': '127.0.0.1:%d' % free_port()}, **groups})
    liars = [LiarSource(t, daemon.link_address(), ca.directory(name)) for name in names]
    held = [liar.connect(role='test', migration=ID % i) for i, liar in enumerate(liars[:4])]
    check(not any('error' in lane.hello for lane in held), [lane.hello for lane in held])
    fifth = liars[4].connect(role='test', migration=ID % 9)
    check('got one more link test, allowed are 4 at once' in fifth.hello['error']['desc'],
          fifth.hello)
    held[0].close()
    free_again(liars[4], 9)


@case('e2e/link-test/lies/silent', needs=NEEDS)
def silent(t):
    """A main lane on which nothing is asked for is cut off; echoes do not count."""
    daemon, liar = beside_server(t)
    lane = free_again(liar, 1)
    begin = time.monotonic()
    while time.monotonic() - begin < 8:
        try:
            lane.send(PING, sequence=1)
            if lane.receive() is None:
                break
        except OSError:
            break
        time.sleep(0.1)
    took = time.monotonic() - begin
    check(took < 6, 'it was heard for %.1f s' % took)
    daemon.assert_says('the time that was asked for is over')
    free_again(liar, 2)


@case('e2e/link-test/lies/too-long', needs=NEEDS)
def too_long(t):
    """The time that was asked for is the time there is, for its bulk lanes too."""
    daemon, liar = beside_server(t)
    lane = free_again(liar, 1)
    bulk = liar.connect(role='test-bulk', migration=ID % 1)
    check('return' in liar.ask(lane, 'begin', **{'total-ms': 1000}), 'begin')
    check('return' in liar.ask(lane, 'run', **{**RUN, 'time-ms': 30000, 'send': True}), 'run')

    def read():
        while bulk.receive():
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(8)
    check(not reader.is_alive(), 'it still sends')
    check(lane.ended(), 'the main lane is still open')
    daemon.assert_says('the time that was asked for is over')


@case('e2e/link-test/lies/bulk-{name}', needs=NEEDS, table=[
    dict(name='offset', send=garbage_offset, says='got a TEST frame with offset 1, expected 0'),
    dict(name='type', send=garbage_type, says="which a test's bulk lane does not carry"),
    dict(name='length', send=lambda lane: lane.send(TEST, b'', length=65537),
         says='link TEST frame: got length 65537'),
    dict(name='cut', send=lambda lane: (lane.send(TEST, b'x', length=100), lane.close()),
         says='the lane ended in the middle of a frame')])
def bulk_lies(t, name, send, says):
    """What comes in goes through the same checks at either end."""
    daemon, liar = beside_server(t)
    lane = free_again(liar, 1)
    bulk = liar.connect(role='test-bulk', migration=ID % 1)
    check('return' in liar.ask(lane, *BEGIN[:1], **BEGIN[1]), 'begin')
    check('return' in liar.ask(lane, 'run', **RUN), 'run')
    send(bulk)

    def result():
        got[0] = liar.ask(lane, 'result') or {'error': {'desc': 'nothing'}}
        return 'error' in got[0]

    got = [None]
    wait_for(result, lambda: 'an error, got %s' % got[0], 5)
    check(says in got[0]['error']['desc'], 'got %s, expected %s' % (got[0], says))
    daemon.assert_says(says)
    free_again(liar, 2)
